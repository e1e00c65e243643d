/* trace_merge.c: the QEMU plugin's part files -> one trace.
 *
 * The order of processes is made up, and always the same: a child runs from its fork to its end,
 * then its parent goes on (nested forks likewise). What really ran side by side on several CPUs is
 * thus serialised, and a child that outlives its parent ends before it. Process ids count from 1 in
 * this order; thread ids from 0 in the order of creation within a process.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "workloads/qemu_plugin/raw.h"
#include "workloads/trace_record.h"

enum { VCPUS = 1024, CHUNK = 4096 };

struct merge {
    const char *dir;
    struct trace_writer *w;
    uint64_t left; /* accesses still wanted */
    uint32_t pids; /* given out */
    struct trace_execs *execs;
    char *err;
    size_t errlen;
    int code;
};

/* One process: its records and where we are in them. */
struct part {
    char name[256];
    const uint64_t *p, *end;
    void *map;
    size_t bytes;
    uint32_t pid, tid, tids;
    uint32_t tid_of[VCPUS]; /* the vCPU a process starts on is thread 0, whatever its number */
};

static bool over(const struct merge *m)
{
    return m->code || m->left == 0 || trace_stop || trace_write_failed(m->w);
}

static int failed(struct merge *m, int code, const char *what, const char *why)
{
    if (!m->code)
        snprintf(m->err, m->errlen, "recording %s: %s", what, why);
    return m->code = code;
}

/* False when there is no such part: the fork failed, or the child was killed before its first
 * record. */
static bool open_part(struct merge *m, struct part *s)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", m->dir, s->name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    s->bytes = fstat(fd, &st) == 0 ? (size_t)st.st_size : 0;
    s->map = s->bytes ? mmap(NULL, s->bytes, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    close(fd);
    if (s->map == MAP_FAILED) {
        failed(m, NB_IOERR, s->name, strerror(errno));
        return false;
    }
    s->p = s->map;
    s->end = s->p + s->bytes / sizeof *s->p;
    return true;
}

static void put(struct merge *m, const struct trace_event *e) { trace_put_event(m->w, e); }

static void put_switch(struct merge *m, const struct part *s)
{
    put(m, &(struct trace_event){.kind = TRACE_SWITCH, .pid = s->pid, .tid = s->tid});
}

static void merge_accesses(struct merge *m, struct part *s)
{
    struct trace_access a[CHUNK];
    size_t n = 0, most = m->left < CHUNK ? (size_t)m->left : CHUNK;
    for (; n < most && s->p < s->end && *s->p && *s->p >> 60 != 3; s->p++)
        a[n++] = (struct trace_access){.va = *s->p & RAW_ADDR,
                                       .size = (uint16_t)(1u << (*s->p >> 56 & 7)),
                                       .store = *s->p >> 60 == 2};
    trace_put(m->w, a, n);
    m->left -= n;
}

static void merge_process(struct merge *m, struct part *s);

static void merge_child(struct merge *m, const struct part *parent, uint64_t number)
{
    struct part *s = meta_calloc(META_TRACE, 1, sizeof *s);
    int n = snprintf(s->name, sizeof s->name, "%s.%llu", parent->name, (unsigned long long)number);
    if (n < (int)sizeof s->name && m->pids < TRACE_MAX_PID && open_part(m, s)) {
        s->pid = ++m->pids;
        put(m, &(struct trace_event){.kind = TRACE_FORK, .pid = s->pid});
        put_switch(m, s);
        merge_process(m, s);
        if (!over(m))
            put_switch(m, parent);
    }
    meta_free(META_TRACE, s);
}

static void merge_thread(struct merge *m, struct part *s, unsigned kind, uint64_t vcpu)
{
    struct trace_event e = {0};
    if (vcpu >= VCPUS) {
        failed(m, NB_INTERNAL, s->name, "a thread beyond the plugin's limit");
        return;
    }
    if (kind == RAW_THREAD)
        s->tid_of[vcpu] = ++s->tids;
    if (kind == RAW_SWITCH)
        s->tid = s->tid_of[vcpu];
    e.kind = kind == RAW_THREAD   ? TRACE_THREAD
             : kind == RAW_SWITCH ? TRACE_SWITCH
                                  : TRACE_THREAD_EXIT;
    e.pid = s->pid;
    e.tid = s->tid_of[vcpu];
    put(m, &e);
}

/* The kernel rounds lengths and ignores what is empty or beyond user space; so do we. */
static void merge_memory(struct merge *m, unsigned kind, const uint64_t *arg)
{
    static const enum trace_kind kinds[] = {[RAW_MAP] = TRACE_MAP,
                                            [RAW_UNMAP] = TRACE_UNMAP,
                                            [RAW_PROTECT] = TRACE_PROTECT,
                                            [RAW_DISCARD] = TRACE_DISCARD};
    const uint64_t top = 1ull << 47;
    uint64_t from = ALIGN_DOWN(arg[0], 4096), len = arg[1] <= top ? ALIGN_UP(arg[1], 4096) : top;
    if (from >= top || len == 0)
        return;
    put(m, &(struct trace_event){.kind = kinds[kind],
                                 .addr = from,
                                 .len = len < top - from ? len : top - from,
                                 .prot = kind == RAW_MAP || kind == RAW_PROTECT ? arg[2] & 7 : 0,
                                 .flags = kind == RAW_MAP ? arg[3] & 15 : 0});
}

static void note_exec(struct trace_execs *x, const uint64_t *words)
{
    char name[sizeof x->name[0]] = "";
    memcpy(name, words, sizeof name - 1);
    x->n++;
    for (unsigned i = 0; i < x->names; i++)
        if (strcmp(x->name[i], name) == 0)
            return;
    if (name[0] && x->names < ARRAY_SIZE(x->name))
        strcpy(x->name[x->names++], name);
    else
        x->more = true;
}

/* The event at s->p. False: the process's records end here. */
static bool merge_event(struct merge *m, struct part *s)
{
    static const unsigned char args[RAW_KINDS] = {
        [RAW_MAP] = 4,        [RAW_UNMAP] = 2,  [RAW_PROTECT] = 3,
        [RAW_DISCARD] = 2,    [RAW_FORK] = 1,   [RAW_EXEC] = RAW_NAME_WORDS,
        [RAW_EXIT] = 1,       [RAW_THREAD] = 1, [RAW_SWITCH] = 1,
        [RAW_THREAD_EXIT] = 1};
    uint64_t w = *s->p, n = w >> 16 & 0xffff;
    unsigned kind = w & 0xffff;
    const uint64_t *arg = s->p + 1;
    if (kind == 0 || kind >= RAW_KINDS || n != args[kind] || n > (size_t)(s->end - arg)) {
        failed(m, NB_INTERNAL, s->name, "a record of the plugin is malformed");
        return false;
    }
    s->p = arg + n;
    if (kind <= RAW_DISCARD)
        merge_memory(m, kind, arg);
    else if (kind == RAW_FORK)
        merge_child(m, s, arg[0]);
    else if (kind == RAW_EXEC) {
        if (s->p < s->end && *s->p)
            return true; /* it failed: the program went on */
        put(m, &(struct trace_event){.kind = TRACE_EXEC});
        note_exec(m->execs, arg);
    } else if (kind == RAW_THREAD || kind == RAW_SWITCH || kind == RAW_THREAD_EXIT)
        merge_thread(m, s, kind, arg[0]);
    else if (kind == RAW_FULL)
        m->left = 0;
    return kind != RAW_EXIT;
}

static void merge_process(struct merge *m, struct part *s)
{
    while (!over(m) && s->p < s->end && *s->p) {
        if (*s->p >> 60 != 3)
            merge_accesses(m, s);
        else if (!merge_event(m, s))
            break;
    }
    if (!over(m))
        put(m, &(struct trace_event){.kind = TRACE_EXIT, .pid = s->pid});
    if (s->map)
        munmap(s->map, s->bytes);
}

int trace_merge(const char *dir, struct trace_writer *w, uint64_t max, struct trace_execs *execs,
                char *err, size_t n)
{
    struct merge m = {
        .dir = dir, .w = w, .left = max, .pids = 1, .execs = execs, .err = err, .errlen = n};
    *execs = (struct trace_execs){0};
    struct part *s = meta_calloc(META_TRACE, 1, sizeof *s);
    strcpy(s->name, "0");
    s->pid = 1;
    if (open_part(&m, s))
        merge_process(&m, s);
    else
        failed(&m, NB_FAIL, "the program", "QEMU left no records");
    meta_free(META_TRACE, s);
    return m.code;
}
