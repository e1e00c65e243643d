/* trace_list.c: the traces that come with nestbed, by name. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "workloads/trace.h"

#ifndef NB_DATADIR
#define NB_DATADIR "/usr/local/share/nestbed"
#endif
#define SUFFIX ".nbt"

/* Folder i of those searched, in order; NULL when there is none; from malloc. */
static char *folder(unsigned i)
{
    char exe[4096], *path = NULL;
    const char *env = getenv("NESTBED_DATA");
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n < 0 ? 0 : n] = 0;
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = 0;
    if (i == 0)
        return env && asprintf(&path, "%s/traces", env) > 0 ? path : NULL;
    if (i == 1)
        return slash && asprintf(&path, "%s/../workloads/traces", exe) > 0 ? path : NULL;
    return asprintf(&path, NB_DATADIR "/traces") > 0 ? path : NULL;
}
enum { FOLDERS = 3 };

/* Name of a trace file without its suffix; NULL when `file` is no trace. */
static char *stem(const char *file)
{
    size_t n = strlen(file), s = sizeof SUFFIX - 1;
    return n > s && file[0] != '.' && strcmp(file + n - s, SUFFIX) == 0 ? strndup(file, n - s)
                                                                        : NULL;
}

static char *summary(const char *path)
{
    struct trace *t;
    char err[512], *s = NULL;
    if (trace_open(path, "nbt", &t, err, sizeof err) != 0)
        return strdup("unreadable");
    const struct trace_header *h = trace_head(t);
    if (asprintf(&s, "%.60s (%.1f M accesses, %llu processes)", h->command,
                 (double)h->accesses / 1e6, (unsigned long long)h->events[TRACE_FORK] + 1) < 0)
        s = NULL;
    trace_close(t);
    return s;
}

static bool known(const struct shipped_trace *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0)
            return true;
    return false;
}

/* Add the traces of one folder that no earlier folder has. */
static void scan(const char *dir, struct shipped_trace **list, size_t *n)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char *name = stem(e->d_name), *path = NULL;
        if (!name || known(*list, *n, name) || asprintf(&path, "%s/%s", dir, e->d_name) < 0) {
            free(name);
            continue;
        }
        struct shipped_trace *more = realloc(*list, (*n + 1) * sizeof *more);
        if (!more)
            die(NB_FAIL, "realloc: no memory for the list of traces");
        *list = more;
        more[(*n)++] = (struct shipped_trace){name, path, summary(path)};
    }
    if (d)
        closedir(d);
}

static int by_name(const void *a, const void *b)
{
    const struct shipped_trace *x = a, *y = b;
    return strcmp(x->name, y->name);
}

size_t trace_list(struct shipped_trace **out)
{
    size_t n = 0;
    *out = NULL;
    for (unsigned i = 0; i < FOLDERS; i++) {
        char *dir = folder(i);
        if (dir)
            scan(dir, out, &n);
        free(dir);
    }
    if (n)
        qsort(*out, n, sizeof **out, by_name);
    return n;
}

void trace_list_free(struct shipped_trace *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(list[i].name);
        free(list[i].path);
        free(list[i].summary);
    }
    free(list);
}

/* A shipped trace called `name`, or one near enough to suggest (*near). */
static char *find(const char *name, char **near)
{
    struct shipped_trace *list;
    size_t n = trace_list(&list);
    unsigned best = (unsigned)strlen(name) / 3 + 2;
    char *path = NULL;
    for (size_t i = 0; i < n && !path; i++) {
        unsigned d = edit_distance(list[i].name, name);
        if (d == 0)
            path = strdup(list[i].path);
        else if (d < best) {
            best = d;
            free(*near);
            *near = strdup(list[i].name);
        }
    }
    trace_list_free(list, n);
    return path;
}

char *trace_resolve(const char *name, char *err, size_t n)
{
    char *near = NULL;
    if (strchr(name, '/') || strcmp(name, "-") == 0 || access(name, F_OK) == 0)
        return strdup(name);
    char *path = find(name, &near);
    if (!path)
        snprintf(err, n,
                 "no trace '%s': neither a file nor a shipped trace%s%s%s (nestbed list traces)",
                 name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    free(near);
    return path;
}
