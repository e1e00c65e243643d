/* labvm_cache.c: finds what the machine is made of, and fetches its kernel once.
 *
 * The cache is $NESTBED_CACHE, else $XDG_CACHE_HOME/nestbed, else ~/.cache/nestbed. It holds one
 * folder per kernel, named as its Debian package: vmlinuz and modules, uncompressed.
 *
 * 1. A kernel folder is complete or absent: it is filled under a temporary name and renamed.
 * 2. Whoever fetches holds the lock file; who comes second finds the folder.
 * 3. A kernel once there is kept: the newest in the cache is used, and the network is not asked.
 */
#include "vmm/labvm_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"

#ifndef NB_DATADIR
#define NB_DATADIR "/usr/local/share/nestbed"
#endif
#define QEMU "qemu-system-x86_64"
#define META_PACKAGE "linux-image-cloud-amd64"
#define INSTALL "apt-get install -y --no-install-recommends qemu-system-x86"

const struct labvm_module labvm_modules[] = {
    {"irqbypass", false}, {"ccp", true}, {"kvm", false}, {LABVM_AMD, false}};
const unsigned labvm_nmodules = ARRAY_SIZE(labvm_modules);

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
static bool find_static(char *where, size_t n)
{
    char self[256];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    for (int up = 0; len > 0 && up < 2; up++) {
        char *slash = memrchr(self, '/', (size_t)len);
        len = slash ? slash - self : 0;
        snprintf(where, n, "%.*s/nestbed-static", (int)len, self);
        if (len > 0 && access(where, X_OK) == 0)
            return true;
    }
    snprintf(where, n, NB_DATADIR "/nestbed-static");
    return access(where, X_OK) == 0;
}

static bool cache_folder(char *path, size_t n)
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

static bool make_folders(const char *path)
{
    char part[512];
    snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1; *p; p++)
        if (*p == '/') {
            *p = 0;
            mkdir(part, 0777);
            *p = '/';
        }
    return mkdir(part, 0777) == 0 || errno == EEXIST;
}

/* ---- the kernel in the cache ---- */

static bool complete(const char *folder)
{
    char path[2048];
    snprintf(path, sizeof path, "%s/vmlinuz", folder);
    bool ok = access(path, R_OK) == 0;
    for (unsigned i = 0; i < labvm_nmodules; i++) {
        snprintf(path, sizeof path, "%s/%s.ko", folder, labvm_modules[i].name);
        ok = ok && (labvm_modules[i].optional || access(path, R_OK) == 0);
    }
    return ok;
}

/* The newest complete kernel folder. */
static bool cached_kernel(char *folder, size_t n)
{
    char cache[256] = "", best[256] = "";
    DIR *d = cache_folder(cache, sizeof cache) ? opendir(cache) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", cache, e->d_name);
        if (strncmp(e->d_name, "linux-image-", 12) == 0 && strverscmp(e->d_name, best) > 0 &&
            complete(path))
            snprintf(best, sizeof best, "%s", e->d_name);
    }
    if (d)
        closedir(d);
    snprintf(folder, n, "%s/%s", cache, best);
    return best[0] != 0;
}

/* ---- tools ---- */

/* Run a tool in a folder; its stdout goes to out (NULL: dropped), the first line of its stderr to
 * say. False: it could not be run or failed. */
static bool tool(char *const argv[], const char *folder, char *out, size_t outlen, char *say,
                 size_t saylen)
{
    int p[2], err = memfd_create("stderr", MFD_CLOEXEC), status = -1;
    size_t have = 0;
    ssize_t r = 1;
    char rest[4096];
    if (err < 0 || pipe2(p, O_CLOEXEC) != 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, STDIN_FILENO);
        dup2(p[1], STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        setenv("LC_ALL", "C", 1);
        if (chdir(folder) == 0)
            execvp(argv[0], argv);
        dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(p[1]);
    while (r > 0) {
        bool room = out && have + 1 < outlen;
        r = read(p[0], room ? out + have : rest, room ? outlen - 1 - have : sizeof rest);
        have += room && r > 0 ? (size_t)r : 0;
    }
    close(p[0]);
    if (out)
        out[have] = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    r = pread(err, say, saylen - 1, 0);
    say[r > 0 ? r : 0] = 0;
    say[strcspn(say, "\n")] = 0;
    close(err);
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#define WORD(s) ((char *)(uintptr_t)(s)) /* execvp() takes them without const and leaves them */

/* ---- fetching ---- */

static bool plain_name(const char *s)
{
    return *s && s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789.+-")] == 0;
}

/* The package that the meta package depends on: linux-image-VERSION-cloud-amd64. */
static bool package_name(char *name, size_t n, char *err, size_t errlen)
{
    char out[4096], say[200];
    char *const argv[] = {WORD("apt-cache"), WORD("depends"), WORD(META_PACKAGE), NULL};
    char *p = tool(argv, "/", out, sizeof out, say, sizeof say)
                  ? strstr(out, "Depends: linux-image-")
                  : NULL;
    if (p) {
        p += strlen("Depends: ");
        p[strcspn(p, "\n ")] = 0;
        snprintf(name, n, "%s", p);
        if (plain_name(name))
            return true;
    }
    snprintf(err, errlen,
             "labvm needs a kernel, and apt-cache knows no " META_PACKAGE
             " (it is Debian's): run apt-get update, and on Debian: " INSTALL);
    return false;
}

/* DIR/linux-image-*.deb; there is one. */
static bool find_deb(const char *dir, char *path, size_t n)
{
    DIR *d = opendir(dir);
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d));)
        if ((found = strncmp(e->d_name, "linux-image-", 12) == 0))
            snprintf(path, n, "%s/%s", dir, e->d_name);
    if (d)
        closedir(d);
    return found;
}

/* Move a module out of the unpacked tree, whatever folder and compression it is in. */
static bool take_module(const char *dir, const char *name, char *say, size_t saylen)
{
    static const char script[] =
        "f=$(find tree -type f \\( -name \"$1.ko\" -o -name \"$1.ko.*\" \\) | head -n 1); "
        "case $f in *.ko) cat=cat;; *.xz) cat='xz -dc';; *.zst) cat='zstd -qdc';; "
        "*.gz) cat='gzip -dc';; *) exit 1;; esac; $cat \"$f\" > \"$1.ko\" && mv \"$1.ko\" new/";
    char *const argv[] = {WORD("sh"), WORD("-c"), WORD(script), WORD("sh"), WORD(name), NULL};
    return tool(argv, dir, NULL, 0, say, saylen);
}

static bool unpack(const char *dir, char *err, size_t errlen)
{
    char deb[1024], tree[600], say[200] = "";
    char *const extract[] = {WORD("dpkg-deb"), WORD("-x"), deb, WORD("tree"), NULL};
    char *const kernel[] = {WORD("sh"), WORD("-c"),
                            WORD("mkdir new && mv tree/boot/vmlinuz-* new/vmlinuz"), NULL};
    snprintf(tree, sizeof tree, "%s/tree", dir);
    bool ok = find_deb(dir, deb, sizeof deb) && mkdir(tree, 0777) == 0 &&
              tool(extract, dir, NULL, 0, say, sizeof say) &&
              tool(kernel, dir, NULL, 0, say, sizeof say);
    for (unsigned i = 0; ok && i < labvm_nmodules; i++)
        ok = take_module(dir, labvm_modules[i].name, say, sizeof say) || labvm_modules[i].optional;
    if (!ok)
        snprintf(err, errlen, "labvm cannot unpack the kernel package in %s: %s", dir,
                 say[0] ? say : "it is not as expected");
    return ok;
}

static bool download(const char *dir, const char *package, char *err, size_t errlen)
{
    char say[200];
    /* As root apt would drop to a user who may not write here, and warn. */
    char *const argv[] = {
        WORD("apt-get"),  WORD("-q"),    WORD("-o"), WORD("APT::Sandbox::User=root"),
        WORD("download"), WORD(package), NULL};
    if (tool(argv, dir, NULL, 0, say, sizeof say))
        return true;
    snprintf(err, errlen,
             "labvm cannot fetch its kernel: apt-get download %s: %s; once the network is there: "
             "apt-get update, and " INSTALL,
             package, say);
    return false;
}

/* Fill CACHE/PACKAGE by way of a temporary folder. */
static bool fetch_into(const char *cache, const char *package, char *err, size_t errlen)
{
    char dir[512], from[600], to[600], say[200];
    char *const clean[] = {WORD("rm"), WORD("-rf"), dir, NULL};
    snprintf(dir, sizeof dir, "%s/fetch-XXXXXX", cache);
    if (!mkdtemp(dir)) {
        snprintf(err, errlen, "mkdtemp %s: %s: name a writable folder in NESTBED_CACHE", dir,
                 strerror(errno));
        return false;
    }
    snprintf(from, sizeof from, "%s/new", dir);
    snprintf(to, sizeof to, "%s/%s", cache, package);
    bool ok = download(dir, package, err, errlen) && unpack(dir, err, errlen);
    if (ok && rename(from, to) != 0) {
        snprintf(err, errlen, "rename to %s: %s", to, strerror(errno));
        ok = false;
    }
    tool(clean, "/", NULL, 0, say, sizeof say);
    return ok;
}

static bool fetch(bool quiet, char *err, size_t errlen)
{
    char cache[256], lock[300], package[128], folder[512], say[200];
    /* We hold the lock: another's temporary folder is one that was left behind. */
    char *const clean[] = {WORD("sh"), WORD("-c"), WORD("rm -rf fetch-*"), NULL};
    if (!cache_folder(cache, sizeof cache) || !make_folders(cache)) {
        snprintf(err, errlen,
                 "labvm cannot make its cache: name a writable folder in NESTBED_CACHE");
        return false;
    }
    snprintf(lock, sizeof lock, "%s/lock", cache);
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        snprintf(err, errlen, "open and lock %s: %s: name a writable folder in NESTBED_CACHE", lock,
                 strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool ok = cached_kernel(folder, sizeof folder);
    if (!ok)
        tool(clean, cache, NULL, 0, say, sizeof say);
    if (!ok && (ok = package_name(package, sizeof package, err, errlen))) {
        if (!quiet)
            fprintf(stderr, "nestbed: fetching %s into %s\n", package, cache);
        ok = fetch_into(cache, package, err, errlen);
    }
    close(fd);
    return ok;
}

/* ---- all parts ---- */

static bool find_programs(struct labvm_parts *p, char *why, size_t n)
{
    if (!labvm_in_path(QEMU, p->qemu, sizeof p->qemu)) {
        snprintf(why, n, "labvm needs " QEMU ": " INSTALL);
        return false;
    }
    if (!find_static(p->nestbed, sizeof p->nestbed)) {
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
    if (cached_kernel(p.kernel, sizeof p.kernel))
        return false;
    if (labvm_in_path("apt-get", where, sizeof where) &&
        labvm_in_path("apt-cache", where, sizeof where) &&
        labvm_in_path("dpkg-deb", where, sizeof where))
        return false;
    snprintf(why, n,
             "labvm needs apt-get and dpkg-deb to fetch Debian's " META_PACKAGE
             ", or a cache that holds it");
    return true;
}

int labvm_parts(struct labvm_parts *p, bool quiet, char *err, size_t errlen)
{
    if (!find_programs(p, err, errlen))
        return NB_NODEVICE;
    if (cached_kernel(p->kernel, sizeof p->kernel))
        return NB_OK;
    if (labvm_missing(err, errlen) || !fetch(quiet, err, errlen))
        return NB_NODEVICE;
    if (cached_kernel(p->kernel, sizeof p->kernel))
        return NB_OK;
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
