/* init.c: the first steps of a process 1, and modules. */
#include "vmm/init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/base.h"

bool init_is(const char *variable)
{
    struct statfs root;
    return getpid() == 1 && getenv(variable) && statfs("/", &root) == 0 &&
           (root.f_type == RAMFS_MAGIC || root.f_type == TMPFS_MAGIC);
}

bool init_mount(char *err, size_t errlen)
{
    static const struct {
        const char *type, *path;
    } fs[] = {{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}};
    for (unsigned i = 0; i < ARRAY_SIZE(fs); i++)
        if (mount(fs[i].type, fs[i].path, fs[i].type, 0, NULL) != 0) {
            snprintf(err, errlen, "mounting %s: %s", fs[i].path, strerror(errno));
            return false;
        }
    return true;
}

void init_console(void)
{
    int fd = open("/dev/console", O_RDWR | O_NOCTTY);
    for (int i = 0; fd >= 0 && i < 3; i++)
        dup2(fd, i);
    if (fd > 2)
        close(fd);
}

bool init_module(const char *name, bool optional, const char *options, char *err, size_t errlen)
{
    char path[64];
    snprintf(path, sizeof path, "/%s.ko", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && optional)
        return true;
    bool ok = fd >= 0 && (syscall(SYS_finit_module, fd, options, 0) == 0 || errno == EEXIST);
    if (!ok)
        snprintf(err, errlen, "loading module %s %s: %s", name, options, strerror(errno));
    if (fd >= 0)
        close(fd);
    return ok;
}
