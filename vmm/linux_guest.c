/* linux_guest.c: the kernel and the initramfs of a Linux guest. */
#include "vmm/linux_guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "vmm/labvm_internal.h"

static bool add_all(struct cpio *c, const char *program, const char *kernel)
{
    static const char *const folders[] = {"dev", "proc", "sys", "tmp"};
    bool ok = true;
    for (unsigned i = 0; ok && i < ARRAY_SIZE(folders); i++)
        ok = cpio_folder(c, folders[i]);
    ok = ok && cpio_copy(c, "init", 0755, program);
    for (unsigned i = 0; ok && i < labvm_nguest_modules; i++) {
        const struct labvm_module *m = &labvm_guest_modules[i];
        char name[64], path[1024];
        snprintf(name, sizeof name, "%s.ko", m->name);
        snprintf(path, sizeof path, "%s/%s", kernel, name);
        ok = cpio_copy(c, name, 0644, path) || m->optional;
    }
    return ok && cpio_end(c);
}

static int no_initramfs(const char *program, char *err, size_t errlen)
{
    snprintf(err, errlen, "--linux cannot build its initramfs: %s or a module unreadable", program);
    return NB_NODEVICE;
}

int linux_guest_make(struct linux_guest *g, char *err, size_t errlen)
{
    char folder[512], program[512];
    *g = (struct linux_guest){0};
    if (!labvm_find_static(program, sizeof program)) {
        snprintf(err, errlen,
                 "--linux needs nestbed-static beside this program or in the data folder: run make "
                 "or make install");
        return NB_NODEVICE;
    }
    int rc = labvm_cached_kernel(folder, sizeof folder) ? NB_OK : labvm_fetch(true, err, errlen);
    if (rc != NB_OK)
        return rc;
    if (!labvm_cached_kernel(folder, sizeof folder)) {
        snprintf(err, errlen, "--linux: the kernel package lacks a module of virtio");
        return NB_NODEVICE;
    }
    snprintf(g->kernel, sizeof g->kernel, "%s/vmlinuz", folder);
    struct cpio c = {.out = open_memstream(&g->initrd, &g->initrd_bytes)};
    bool ok = c.out && add_all(&c, program, folder);
    if (c.out)
        ok = fclose(c.out) == 0 && ok;
    return ok ? NB_OK : no_initramfs(program, err, errlen);
}

void linux_guest_free(struct linux_guest *g)
{
    free(g->initrd);
    g->initrd = NULL;
}
