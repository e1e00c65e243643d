/* bench_util.c: strings, files written whole or not at all, time. */
#include "bench/bench_util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

char *vstrf(const char *fmt, va_list ap)
{
    char *s;
    if (vasprintf(&s, fmt, ap) < 0)
        die(NB_FAIL, "vasprintf: no memory");
    return s;
}

char *strf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = vstrf(fmt, ap);
    va_end(ap);
    return s;
}

void *xcalloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p)
        die(NB_FAIL, "calloc: no memory for %zu x %zu bytes", n, size);
    return p;
}

void *xrealloc(void *p, size_t bytes)
{
    void *q = realloc(p, bytes ? bytes : 1);
    if (!q)
        die(NB_FAIL, "realloc: no memory for %zu bytes", bytes);
    return q;
}

double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

char *utc(const char *format, char *buf, size_t n)
{
    time_t t = time(NULL);
    struct tm tm;
    gmtime_r(&t, &tm);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    strftime(buf, n, format, &tm);
#pragma GCC diagnostic pop
    return buf;
}

char *read_fd(int fd, size_t *len)
{
    size_t cap = 4096, n = 0;
    char *s = xcalloc(1, cap + 1);
    lseek(fd, 0, SEEK_SET);
    for (;;) {
        ssize_t got = read(fd, s + n, cap - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
        if (n == cap)
            s = xrealloc(s, (cap *= 2) + 1);
    }
    s[n] = 0;
    if (len)
        *len = n;
    return s;
}

char *read_file(const char *path, size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    char *s = read_fd(fd, len);
    close(fd);
    return s;
}

static int write_all(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

void write_file(const char *path, const void *data, size_t len)
{
    struct stat st;
    bool special = stat(path, &st) == 0 && !S_ISREG(st.st_mode); /* a pipe, /dev/stdout */
    char *tmp = special ? strf("%s", path) : strf("%s.tmp%ld", path, (long)getpid());
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int bad = fd < 0 || write_all(fd, data, len) < 0;
    int why = errno;
    if (fd >= 0 && close(fd) < 0 && !bad) {
        bad = 1;
        why = errno;
    }
    if (!bad && !special && rename(tmp, path) < 0) {
        bad = 1;
        why = errno;
    }
    if (bad) {
        if (!special)
            unlink(tmp);
        die(NB_IOERR,
            "write %s: %s; finished results are kept: free some space or choose another folder",
            path, strerror(why));
    }
    free(tmp);
}

void write_json(const char *path, const json_t *j, size_t flags)
{
    char *text = json_dumps(j, flags | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15));
    if (!text)
        die(NB_INTERNAL, "json_dumps failed for %s", path);
    char *line = strf("%s\n", text);
    write_file(path, line, strlen(line));
    free(line);
    free(text);
}

void make_dirs(const char *path)
{
    char *s = strf("%s", path);
    for (char *p = s + 1;; p++) {
        if (*p && *p != '/')
            continue;
        char c = *p;
        *p = 0;
        if (mkdir(s, 0777) < 0 && errno != EEXIST)
            die(NB_IOERR, "mkdir %s: %s", s, strerror(errno));
        *p = c;
        if (!c)
            break;
    }
    free(s);
}

void need_folder(const char *option, const char *dir)
{
    make_dirs(dir);
    char *path = strf("%s/.nestbed-XXXXXX", dir);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        die(NB_IOERR, "%s: cannot write into folder %s: %s", option, dir, strerror(errno));
    close(fd);
    unlink(path);
    free(path);
}

FILE *outfile_open(struct outfile *o, char *path)
{
    *o = (struct outfile){.path = path};
    o->f = open_memstream(&o->text, &o->len);
    if (!o->f)
        die(NB_FAIL, "open_memstream: %s", strerror(errno));
    return o->f;
}

void outfile_close(struct outfile *o)
{
    if (fclose(o->f) != 0)
        die(NB_FAIL, "no memory for %s", o->path);
    write_file(o->path, o->text, o->len);
    free(o->text);
    free(o->path);
}

char *program_path(void)
{
    char buf[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", buf, sizeof buf - 1);
    if (n < 0)
        die(NB_FAIL, "readlink /proc/self/exe: %s", strerror(errno));
    buf[n] = 0;
    char *path =
        strf("%s", buf); /* nestbed-bench, the same program, would take `run` for an option */
    size_t len = strlen(path), extra = strlen("-bench");
    if (len > extra && strcmp(path + len - extra, "-bench") == 0) {
        path[len - extra] = 0;
        if (access(path, X_OK) != 0)
            die(NB_FAIL, "%s: not found; %s runs its cells with it", path, buf);
    }
    return path;
}

char *find_tool(const char *name)
{
    const char *path = getenv("PATH");
    if (!path)
        path = "/usr/bin:/bin";
    while (*path) {
        size_t n = strcspn(path, ":");
        char *full = strf("%.*s/%s", (int)n, path, name);
        if (n && access(full, X_OK) == 0)
            return full;
        free(full);
        path += n + (path[n] == ':');
    }
    return NULL;
}
