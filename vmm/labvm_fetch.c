/* labvm_fetch.c: fetches the machine's kernel once, with Debian's own tools.
 *
 * 1. Whoever fetches holds the lock file; who comes second finds the folder.
 * 2. A kernel folder is filled inside a temporary one, fetch-XXXXXX, and renamed when it is whole.
 *    One of that name already in the cache was found damaged, and goes first.
 * 3. A signal that would end us ends the tools first, with all that they started, and then the
 *    temporary folder. What a SIGKILL leaves behind goes when the lock is taken next.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
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
#include "vmm/labvm_internal.h"

enum { SAY = 512 }; /* bytes of what a tool says: one line */

struct fetch {
    struct labvm_signals signals;
    char cache[256], package[128];
    const char *why; /* there is no kernel to use */
    char *err;
    size_t errlen;
};

/* ---- folders ---- */

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

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    remove(path);
    return 0;
}

static void remove_tree(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

/* Temporary folders left by one who was killed: we hold the lock. A kernel's folder is damaged. */
static void look_around(struct fetch *f)
{
    DIR *d = opendir(f->cache);
    f->why = "labvm needs a kernel";
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", f->cache, e->d_name);
        if (strncmp(e->d_name, "fetch-", 6) == 0)
            remove_tree(path);
        if (strncmp(e->d_name, "linux-image-", 12) == 0)
            f->why = "labvm's kernel in the cache is damaged";
    }
    if (d)
        closedir(d);
}

/* ---- tools ---- */

static _Noreturn void become(char *const argv[], const char *folder, int out, int err,
                             const sigset_t *mask)
{
    int null = open("/dev/null", O_RDWR);
    setpgid(0, 0); /* a terminal's ^C is for us; and what it starts can be ended with it */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    setenv("LC_ALL", "C", 1);
    sigprocmask(SIG_SETMASK, mask, NULL);
    if (chdir(folder) == 0)
        execvp(argv[0], argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

/* Read a tool's stdout to its end: into out, and past what that holds. A signal ends the tool. */
static void listen_to(pid_t pid, int fd, const sigset_t *mask, char *out, size_t outlen)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    size_t have = 0;
    ssize_t r = 1;
    char rest[4096];
    while (r > 0 && !labvm_signals_caught()) {
        if (ppoll(&p, 1, NULL, mask) < 0)
            continue;
        bool room = out && have + 1 < outlen;
        r = read(fd, room ? out + have : rest, room ? outlen - 1 - have : sizeof rest);
        have += room && r > 0 ? (size_t)r : 0;
    }
    if (out)
        out[have] = 0;
    if (labvm_signals_caught())
        kill(-pid, SIGKILL);
}

/* The tool's status; when it was ended, all of its group are waited for: none writes any more. */
static int reap(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    while (labvm_signals_caught() && (waitpid(-pid, NULL, 0) > 0 || errno == EINTR))
        continue;
    return status;
}

/* The last line of a file: tools say last what they ended of. */
static void last_line(int fd, char *line, size_t n)
{
    char text[4096];
    off_t size = lseek(fd, 0, SEEK_END), from = size > 4095 ? size - 4095 : 0;
    ssize_t len = pread(fd, text, sizeof text - 1, from);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        len--;
    text[len > 0 ? len : 0] = 0;
    char *last = strrchr(text, '\n');
    last = last ? last + 1 : text;
    snprintf(line, n, "%.*s", (int)n - 1, last);
}

/* Run a tool in a folder; its stdout goes to out (NULL: dropped), the last line of its stderr to
 * say, of SAY bytes. False: it could not be run, failed, or was ended. */
static bool tool(const struct fetch *f, char *const argv[], const char *folder, char *out,
                 size_t outlen, char *say)
{
    int p[2], err = memfd_create("stderr", MFD_CLOEXEC), status = -1;
    say[0] = 0;
    if (err < 0)
        return false;
    if (pipe2(p, O_CLOEXEC) != 0) {
        close(err);
        return false;
    }
    pid_t pid = fork();
    if (pid == 0)
        become(argv, folder, p[1], err, &f->signals.mask);
    close(p[1]);
    if (pid > 0) {
        setpgid(pid, pid); /* whoever comes first; fails once it has become the tool */
        listen_to(pid, p[0], &f->signals.mask, out, outlen);
        status = reap(pid);
    }
    close(p[0]);
    last_line(err, say, SAY);
    close(err);
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#define WORD(s) ((char *)(uintptr_t)(s)) /* execvp() takes them without const and leaves them */

/* ---- the package ---- */

static bool plain_name(const char *s)
{
    return *s && s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789.+-")] == 0;
}

/* The package that the meta package depends on: linux-image-VERSION-cloud-amd64. */
static bool find_package(struct fetch *f)
{
    char out[4096], say[SAY];
    char *const argv[] = {WORD("apt-cache"), WORD("depends"), WORD(LABVM_PACKAGE), NULL};
    char *p =
        tool(f, argv, "/", out, sizeof out, say) ? strstr(out, "Depends: linux-image-") : NULL;
    if (p) {
        p += strlen("Depends: ");
        p[strcspn(p, "\n ")] = 0;
        snprintf(f->package, sizeof f->package, "%s", p);
        if (plain_name(f->package))
            return true;
    }
    snprintf(f->err, f->errlen,
             "%s, and apt-cache knows no " LABVM_PACKAGE
             " (it is Debian's): run apt-get update%s%s",
             f->why, *say ? "; " : "", say);
    return false;
}

static bool download(const struct fetch *f, const char *dir)
{
    char say[SAY];
    /* As root apt would drop to a user who may not write here, and warn. */
    char *const argv[] = {
        WORD("apt-get"),  WORD("-q"),       WORD("-o"), WORD("APT::Sandbox::User=root"),
        WORD("download"), WORD(f->package), NULL};
    if (tool(f, argv, dir, NULL, 0, say))
        return true;
    snprintf(f->err, f->errlen,
             "%s; once the network is there, run apt-get update and try again; apt-get download "
             "%s: %s",
             f->why, f->package, *say ? say : "it failed without a word");
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
static bool take_module(const struct fetch *f, const char *dir, const char *name, char *say)
{
    static const char script[] =
        "f=$(find tree -type f \\( -name \"$1.ko\" -o -name \"$1.ko.*\" \\) | head -n 1); "
        "case $f in *.ko) cat=cat;; *.xz) cat='xz -dc';; *.zst) cat='zstd -qdc';; "
        "*.gz) cat='gzip -dc';; *) exit 1;; esac; $cat \"$f\" > \"$1.ko\" && mv \"$1.ko\" new/";
    char *const argv[] = {WORD("sh"), WORD("-c"), WORD(script), WORD("sh"), WORD(name), NULL};
    return tool(f, argv, dir, NULL, 0, say);
}

static bool take_modules(const struct fetch *f, const char *dir, const struct labvm_module *m,
                         unsigned n, char *say)
{
    bool ok = true;
    for (unsigned i = 0; ok && i < n; i++)
        ok = take_module(f, dir, m[i].name, say) || m[i].optional;
    return ok;
}

static bool unpack(const struct fetch *f, const char *dir)
{
    char deb[1024], tree[600], say[SAY] = "";
    char *const extract[] = {WORD("dpkg-deb"), WORD("-x"), deb, WORD("tree"), NULL};
    char *const kernel[] = {WORD("sh"), WORD("-c"),
                            WORD("mkdir new && mv tree/boot/vmlinuz-* new/vmlinuz"), NULL};
    snprintf(tree, sizeof tree, "%s/tree", dir);
    bool ok = find_deb(dir, deb, sizeof deb) && mkdir(tree, 0777) == 0 &&
              tool(f, extract, dir, NULL, 0, say) && tool(f, kernel, dir, NULL, 0, say);
    ok = ok && take_modules(f, dir, labvm_modules, labvm_nmodules, say) &&
         take_modules(f, dir, labvm_guest_modules, labvm_nguest_modules, say);
    if (!ok)
        snprintf(f->err, f->errlen, "labvm cannot unpack the kernel package in %s: %s", dir,
                 say[0] ? say : "it is not as expected");
    return ok;
}

/* ---- fetching ---- */

static bool put_in_place(const struct fetch *f, const char *dir)
{
    char from[600], to[600];
    snprintf(from, sizeof from, "%s/new", dir);
    snprintf(to, sizeof to, "%s/%s", f->cache, f->package);
    remove_tree(to); /* it is not whole, or we would not be here */
    if (rename(from, to) == 0)
        return true;
    snprintf(f->err, f->errlen, "rename to %s: %s: name a writable folder in NESTBED_CACHE", to,
             strerror(errno));
    return false;
}

/* Fill CACHE/PACKAGE by way of a temporary folder. */
static bool fetch_package(const struct fetch *f)
{
    char dir[512];
    snprintf(dir, sizeof dir, "%s/fetch-XXXXXX", f->cache);
    if (!mkdtemp(dir)) {
        snprintf(f->err, f->errlen, "mkdtemp %s: %s: name a writable folder in NESTBED_CACHE", dir,
                 strerror(errno));
        return false;
    }
    bool ok = download(f, dir) && unpack(f, dir) && put_in_place(f, dir);
    remove_tree(dir);
    return ok;
}

/* We hold the lock. Orphans of a tool that was ended are ours meanwhile, to be waited for. */
static int fetch_locked(struct fetch *f, bool quiet)
{
    int before = 0;
    prctl(PR_GET_CHILD_SUBREAPER, &before);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    labvm_signals_catch(&f->signals);
    look_around(f);
    bool ok = find_package(f);
    if (ok && !quiet)
        fprintf(stderr, "nestbed: fetching %s into %s\n", f->package, f->cache);
    ok = ok && fetch_package(f);
    bool ended = !ok && labvm_signals_caught();
    prctl(PR_SET_CHILD_SUBREAPER, before);
    labvm_signals_release(&f->signals);
    if (ended)
        snprintf(f->err, f->errlen, "interrupted");
    return ok ? NB_OK : ended ? NB_SIGINT : NB_NODEVICE;
}

int labvm_fetch(bool quiet, char *err, size_t errlen)
{
    struct fetch f = {.err = err, .errlen = errlen};
    char lock[300], folder[512];
    if (!labvm_cache_folder(f.cache, sizeof f.cache) || !make_folders(f.cache)) {
        snprintf(err, errlen,
                 "labvm cannot make its cache: name a writable folder in NESTBED_CACHE");
        return NB_NODEVICE;
    }
    snprintf(lock, sizeof lock, "%s/lock", f.cache);
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        snprintf(err, errlen, "open and lock %s: %s: name a writable folder in NESTBED_CACHE", lock,
                 strerror(errno));
        if (fd >= 0)
            close(fd);
        return NB_NODEVICE;
    }
    int code = labvm_cached_kernel(folder, sizeof folder) ? NB_OK : fetch_locked(&f, quiet);
    close(fd);
    return code;
}
