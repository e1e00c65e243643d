/* labvm_cpio.c: writes an archive that the kernel unpacks as its first root file system.
 *
 * Format "newc" (Documentation/driver-api/early-userspace/buffer-format.rst): per entry a magic, 13
 * numbers of 8 hex digits, the name with its NUL, the data; name and data padded to 4 bytes. The
 * entry TRAILER!!! ends it.
 */
#include "vmm/labvm_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool put(struct cpio *c, const void *data, size_t n)
{
    c->at += n;
    return n == 0 || fwrite(data, n, 1, c->out) == 1;
}

static bool pad(struct cpio *c) { return put(c, "\0\0\0", -c->at & 3); }

static bool head(struct cpio *c, const char *name, unsigned mode, size_t bytes)
{
    char buf[128];
    size_t len = strlen(name) + 1;
    /* ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check */
    snprintf(buf, sizeof buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
             ++c->inode, mode, 0, 0, 1, 0, (unsigned)bytes, 0, 0, 0, 0, (unsigned)len, 0);
    return put(c, buf, strlen(buf)) && put(c, name, len) && pad(c);
}

static bool entry(struct cpio *c, const char *name, unsigned mode, const void *data, size_t bytes)
{
    return head(c, name, mode, bytes) && put(c, data, bytes) && pad(c);
}

bool cpio_file(struct cpio *c, const char *name, unsigned mode, const void *data, size_t bytes)
{
    return entry(c, name, S_IFREG | mode, data, bytes);
}

bool cpio_folder(struct cpio *c, const char *name)
{
    return entry(c, name, S_IFDIR | 0755, NULL, 0);
}

bool cpio_link(struct cpio *c, const char *name, const char *target)
{
    return entry(c, name, S_IFLNK | 0777, target, strlen(target));
}

bool cpio_end(struct cpio *c) { return entry(c, "TRAILER!!!", 0, NULL, 0) && fflush(c->out) == 0; }

bool cpio_copy(struct cpio *c, const char *name, unsigned mode, const char *path)
{
    struct stat st;
    char *data = NULL;
    bool ok = false;
    FILE *f = fopen(path, "re");
    if (f && fstat(fileno(f), &st) == 0 && (data = malloc((size_t)st.st_size + 1)))
        ok = fread(data, 1, (size_t)st.st_size + 1, f) == (size_t)st.st_size &&
             cpio_file(c, name, mode, data, (size_t)st.st_size);
    free(data);
    if (f)
        fclose(f);
    return ok;
}
