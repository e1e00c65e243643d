/* labvm_cache.c: finds what the machine is made of.
 *
 * The cache is $NESTBED_CACHE, else $XDG_CACHE_HOME/nestbed, else ~/.cache/nestbed. It holds one
 * folder per kernel, named as its Debian package: vmlinuz and modules, uncompressed.
 *
 * 1. A kernel folder is whole or absent when we made it (labvm_fetch.c), but files outlive their
 *    makers: each use looks whether its files are there and as long as their own headers say.
 * 2. A kernel once there is kept: the newest whole one is used, and the network is not asked.
 * 3. A folder that is not whole is as good as none: a fetch replaces it.
 */
#include "vmm/labvm_internal.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

#ifndef NB_DATADIR
#define NB_DATADIR "/usr/local/share/nestbed"
#endif
#define QEMU "qemu-system-x86_64"
#define INSTALL "apt-get install -y --no-install-recommends qemu-system-x86"

const struct labvm_module labvm_modules[] = {
    {"irqbypass", false}, {"ccp", true}, {"kvm", false}, {LABVM_AMD, false}};
const unsigned labvm_nmodules = ARRAY_SIZE(labvm_modules);
const struct labvm_module labvm_guest_modules[] = {
    {"virtio_ring", false}, {"virtio", false}, {"virtio_mmio", false}, {"virtio_balloon", false}};
const unsigned labvm_nguest_modules = ARRAY_SIZE(labvm_guest_modules);

bool labvm_in_path(const char *tool, char *where, size_t n)
{
    const char *path = getenv("PATH");
    char *copy = strdup(path ? path : "/usr/bin:/bin"), *save = NULL;
    bool found = false;
    for (char *dir = copy ? strtok_r(copy, ":", &save) : NULL; dir && !found;
         dir = strtok_r(NULL, ":", &save)) {
        snprintf(where, n, "%s/%s", dir, tool);
        found = access(where, X_OK) == 0;
    }
    free(copy);
    return found;
}

/* Beside this program, or one folder up (programs of the tests), or in the data folder. */
bool labvm_find_static(char *where, size_t n)
{
    char self[256];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    for (int up = 0; len > 0 && up < 2; up++) {
        char *slash = memrchr(self, '/', (size_t)len);
        len = slash ? slash - self : 0;
        snprintf(where, n, "%.*s/nestbed-static", (int)len, self);
        if (slash && access(where, X_OK) == 0)
            return true;
    }
    snprintf(where, n, NB_DATADIR "/nestbed-static");
    return access(where, X_OK) == 0;
}

bool labvm_cache_folder(char *path, size_t n)
{
    const char *given = getenv("NESTBED_CACHE"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    char here[256] = "";
    if (!given || !*given)
        given = NULL;
    else if (*given != '/' && !getcwd(here, sizeof here)) /* tools run in other folders */
        return false;
    int len = given                ? snprintf(path, n, "%s%s%s", here, *here ? "/" : "", given)
              : xdg && *xdg == '/' ? snprintf(path, n, "%s/nestbed", xdg)
              : home && *home      ? snprintf(path, n, "%s/.cache/nestbed", home)
                                   : -1;
    return len > 0 && (size_t)len < n;
}

/* ---- the kernel in the cache ---- */

/* Whole as far as its header tells: a boot sector, then the protected-mode kernel in units of 16
 * bytes (Linux, Documentation/arch/x86/boot.rst: setup_sects, syssize, header). */
static bool whole_kernel(const unsigned char *p, size_t n)
{
    enum { SETUP_SECTS = 0x1f1, SYSSIZE = 0x1f4, FLAG = 0x1fe, MAGIC = 0x202, SECTOR = 512 };
    uint32_t units;
    if (n < 2 * SECTOR || p[FLAG] != 0x55 || p[FLAG + 1] != 0xaa || memcmp(p + MAGIC, "HdrS", 4))
        return false;
    memcpy(&units, p + SYSSIZE, sizeof units);
    return n >= (1u + p[SETUP_SECTS]) * SECTOR + 16ull * units;
}

/* An ELF object with its table of sections, which linkers put last. */
static bool whole_module(const unsigned char *p, size_t n)
{
    Elf64_Ehdr h;
    if (n < sizeof h)
        return false;
    memcpy(&h, p, sizeof h);
    return memcmp(h.e_ident, ELFMAG, SELFMAG) == 0 && h.e_type == ET_REL && h.e_shoff < n &&
           n - h.e_shoff >= (size_t)h.e_shnum * h.e_shentsize;
}

enum { ABSENT, BROKEN, WHOLE };

static int look(const char *folder, const char *file,
                bool (*is_whole)(const unsigned char *, size_t))
{
    char path[2048];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ABSENT : BROKEN;
    void *p = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0
                  ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)
                  : MAP_FAILED;
    close(fd);
    if (p == MAP_FAILED)
        return BROKEN;
    int verdict = is_whole(p, (size_t)st.st_size) ? WHOLE : BROKEN;
    munmap(p, (size_t)st.st_size);
    return verdict;
}

static bool whole_modules(const char *folder, const struct labvm_module *m, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char file[64];
        snprintf(file, sizeof file, "%s.ko", m[i].name);
        int is = look(folder, file, whole_module);
        if (is != WHOLE && !(is == ABSENT && m[i].optional))
            return false;
    }
    return true;
}

/* Every file that the machine needs. */
static bool whole(const char *folder)
{
    bool ok = look(folder, "vmlinuz", whole_kernel) == WHOLE;
    return ok && whole_modules(folder, labvm_modules, labvm_nmodules) &&
           whole_modules(folder, labvm_guest_modules, labvm_nguest_modules);
}

/* The newest whole kernel folder. */
bool labvm_cached_kernel(char *folder, size_t n)
{
    char cache[256] = "", best[256] = "";
    DIR *d = labvm_cache_folder(cache, sizeof cache) ? opendir(cache) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", cache, e->d_name);
        if (strncmp(e->d_name, "linux-image-", 12) == 0 && strverscmp(e->d_name, best) > 0 &&
            whole(path))
            snprintf(best, sizeof best, "%s", e->d_name);
    }
    if (d)
        closedir(d);
    snprintf(folder, n, "%s/%s", cache, best);
    return best[0] != 0;
}

/* ---- all parts ---- */

static bool find_programs(struct labvm_parts *p, char *why, size_t n)
{
    if (!labvm_in_path(QEMU, p->qemu, sizeof p->qemu)) {
        snprintf(why, n, "labvm needs " QEMU ": " INSTALL);
        return false;
    }
    if (!labvm_find_static(p->nestbed, sizeof p->nestbed)) {
        snprintf(why, n,
                 "labvm needs nestbed-static beside this program or in " NB_DATADIR
                 ": run make (it needs the static libraries of the -dev packages), or make "
                 "install");
        return false;
    }
    return true;
}

bool labvm_missing(char *why, size_t n)
{
    struct labvm_parts p;
    char where[512];
    if (!find_programs(&p, why, n))
        return true;
    if (labvm_cached_kernel(p.kernel, sizeof p.kernel))
        return false;
    if (labvm_in_path("apt-get", where, sizeof where) &&
        labvm_in_path("apt-cache", where, sizeof where) &&
        labvm_in_path("dpkg-deb", where, sizeof where))
        return false;
    snprintf(why, n,
             "labvm needs apt-get and dpkg-deb to fetch Debian's " LABVM_PACKAGE
             ", or a cache that holds it");
    return true;
}

int labvm_parts(struct labvm_parts *p, bool quiet, char *err, size_t errlen)
{
    if (!find_programs(p, err, errlen))
        return NB_NODEVICE;
    if (labvm_cached_kernel(p->kernel, sizeof p->kernel))
        return NB_OK;
    if (labvm_missing(err, errlen))
        return NB_NODEVICE;
    int code = labvm_fetch(quiet, err, errlen);
    if (code != NB_OK || labvm_cached_kernel(p->kernel, sizeof p->kernel))
        return code;
    snprintf(err, errlen, "labvm: the kernel package lacks a module of KVM");
    return NB_NODEVICE;
}

int labvm_prepare(bool quiet, char *err, size_t errlen)
{
    struct labvm_parts p;
    int code = labvm_parts(&p, quiet, err, errlen);
    if (code == NB_OK && !quiet)
        printf("qemu     %s\nnestbed  %s\nkernel   %s\n", p.qemu, p.nestbed, p.kernel);
    return code;
}
