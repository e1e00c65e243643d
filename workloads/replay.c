/* replay.c: runs a trace on the guest kernel.
 *
 * Accesses become loads and stores, memory events the system calls they were. What differs from the
 * recorded machine, and why:
 *   - The first process is forked from the guest's pid 1 (phase "setup"), because pid 1 cannot end:
 *     so the exit of every traced process tears down its tables, as it did where it was recorded.
 *   - A process that ends while it runs is ended after the switch to the next one: one CR3 load, as
 *     in a kernel whose exit path switches once.
 *   - Threads share their process's address space and its CR3: switching between them costs
 *     nothing. With more than one vCPU, thread t runs t vCPUs after its process's.
 *   - A map replaces what lies under it, as MAP_FIXED does; the unmap is asked only if needed.
 *   - File mappings are anonymous memory: their contents do not matter here.
 *   - discard is an unmap and a map of the same range, read-write and private, which is what
 *     allocators use it for.
 *   - An access to memory that nothing mapped (a trace without memory events, or a mapping the
 *     recorder could not see) maps the 64 KiB around it, or its page where that overlaps a mapping;
 * the kernel merges neighbours. Counted in implicit_maps.
 */
#include "workloads/replay.h"

#include <stdlib.h>
#include <string.h>

enum { IMPLICIT_BYTES = 64 << 10 };

struct replay {
    struct trace *trace;
    char *path;
    struct replay_stats stats;
    uint32_t *gk_pid;                 /* by trace pid; 0: not alive */
    uint32_t npids, current, leaving; /* leaving: guest pid to end after the next switch; 0 none */
    const char *error;
    char message[640];
    int code;
};

int replay_open(const char *path, const char *format, struct replay **out, char *err, size_t n)
{
    struct trace *t;
    int code = trace_open(path, format, &t, err, n);
    if (code)
        return code;
    struct replay *r = meta_calloc(META_TRACE, 1, sizeof *r);
    r->trace = t;
    r->path = strdup(path);
    *out = r;
    return 0;
}

void replay_close(struct replay *r)
{
    trace_close(r->trace);
    free(r->path);
    meta_free(META_TRACE, r->gk_pid);
    meta_free(META_TRACE, r);
}

const char *replay_error(const struct replay *r) { return r->error; }
int replay_error_code(const struct replay *r) { return r->code; }
const struct replay_stats *replay_stats(const struct replay *r) { return &r->stats; }
const struct trace *replay_trace(const struct replay *r) { return r->trace; }

/* The trace is at fault: its run must not be reported. */
static _Noreturn void fail(struct user *u, struct replay *r, int code)
{
    r->error = r->message;
    r->code = code;
    u_abort(u, "the trace is damaged");
}

/* It is well-formed, but says what cannot be. */
static _Noreturn void bad_trace(struct user *u, struct replay *r, const char *why)
{
    snprintf(r->message, sizeof r->message, "%.200s: the trace %s", r->path, why);
    fail(u, r, NB_DATAERR);
}

/* ---- memory ---- */

static int map(struct user *u, gva_t at, uint64_t len, unsigned prot, unsigned flags)
{
    gva_t got;
    int e = u_mmap(u, at, len, prot, flags | GK_FIXED, &got);
    if (e != GK_EEXIST)
        return e;
    e = u_munmap(u, at, len);
    return e ? e : u_mmap(u, at, len, prot, flags | GK_FIXED, &got);
}

/* Called on an access without a mapping: make one. */
static int map_touched(struct user *u, gva_t va, unsigned error)
{
    struct replay *r = u->ctx;
    gva_t got, block = va & ~(uint64_t)(IMPLICIT_BYTES - 1), page = va & ~PAGE_MASK;
    uint64_t len = IMPLICIT_BYTES;
    const unsigned prot = GK_READ | GK_WRITE;
    (void)error;
    int e = u_mmap(u, block, len, prot, GK_FIXED, &got);
    if (e == GK_EEXIST || e == GK_EINVAL)
        e = u_mmap(u, page, len = PAGE_SIZE, prot, GK_FIXED, &got);
    if (e == GK_EEXIST) {
        r->stats.implicit_rights++;
        return u_mprotect(u, page, PAGE_SIZE, prot | GK_EXEC);
    }
    r->stats.implicit_maps += e == GK_OK;
    r->stats.implicit_bytes += e == GK_OK ? len : 0;
    return e;
}

static int memory_event(struct user *u, const struct trace_event *e)
{
    switch (e->kind) {
    case TRACE_MAP:
        return map(u, e->addr, e->len, e->prot, e->flags & TRACE_SHARED ? GK_SHARED : 0);
    case TRACE_UNMAP:
        return u_munmap(u, e->addr, e->len);
    case TRACE_PROTECT:
        return u_mprotect(u, e->addr, e->len, e->prot);
    default:
        return map(u, e->addr, e->len, GK_READ | GK_WRITE, 0); /* TRACE_DISCARD */
    }
}

/* ---- processes ---- */

static uint32_t *slot(struct user *u, struct replay *r, uint32_t pid)
{
    if (pid == 0 || pid > TRACE_MAX_PID)
        bad_trace(u, r, "names a process beyond the limit");
    if (pid >= r->npids) {
        uint32_t n = pid + pid / 2 + 16;
        r->gk_pid = meta_realloc(META_TRACE, r->gk_pid, n * sizeof *r->gk_pid);
        memset(r->gk_pid + r->npids, 0, (n - r->npids) * sizeof *r->gk_pid);
        r->npids = n;
    }
    return &r->gk_pid[pid];
}

static void fork_to(struct user *u, struct replay *r, uint32_t pid)
{
    uint32_t *s = slot(u, r, pid);
    int child;
    if (*s)
        bad_trace(u, r, "forks a process that is already there");
    if (u_fork(u, &child) != GK_OK)
        u_abort(u, "the guest has no memory for another process; give it more with --mem");
    *s = (uint32_t)child;
    r->stats.processes++;
}

static void leave(struct user *u, struct replay *r)
{
    if (r->leaving)
        u_exit(u, (int)r->leaving);
    r->leaving = 0;
}

static void switch_to(struct user *u, struct replay *r, uint32_t pid)
{
    uint32_t s = *slot(u, r, pid);
    if (!s)
        bad_trace(u, r, "switches to a process that is not there");
    u_switch(u, (int)s);
    r->current = pid;
    leave(u, r);
}

/* Accesses that follow are this thread's of the current process. */
static void run_thread(struct user *u, struct replay *r, uint32_t tid)
{
    u_cpu(u, *slot(u, r, r->current) - 1 + tid);
}

static void end_process(struct user *u, struct replay *r, uint32_t pid)
{
    uint32_t *s = slot(u, r, pid);
    if (!*s)
        bad_trace(u, r, "ends a process that is not there");
    if (pid == r->current)
        r->leaving = *s;
    else
        u_exit(u, (int)*s);
    *s = 0;
}

/* An address space replaced: its mappings go, the process stays. The kernel refuses a range that
 * goes on above user space, so with 4 levels the second request is the one that works. */
static void exec(struct user *u)
{
    if (u_munmap(u, 0, GK_USER_TOP(5)) != GK_OK && u_munmap(u, 0, GK_USER_TOP(4)) != GK_OK)
        u_abort(u, "the guest kernel cannot empty an address space");
}

static void process_event(struct user *u, struct replay *r, const struct trace_event *e)
{
    if (e->kind == TRACE_FORK)
        fork_to(u, r, e->pid);
    else if (e->kind == TRACE_EXIT)
        end_process(u, r, e->pid);
    else if (e->kind == TRACE_EXEC)
        exec(u);
    else if (e->kind == TRACE_THREAD)
        r->stats.threads++;
    else if (e->kind == TRACE_SWITCH) {
        if (e->pid != r->current || r->leaving)
            switch_to(u, r, e->pid);
        run_thread(u, r, e->tid);
    }
}

static void handle(struct user *u, struct replay *r, const struct trace_event *e)
{
    r->stats.events[e->kind]++;
    if (r->leaving && e->kind != TRACE_SWITCH && e->kind != TRACE_EXIT)
        bad_trace(u, r, "goes on in a process that has ended");
    if (e->kind >= TRACE_MAP && e->kind <= TRACE_DISCARD) {
        int err = memory_event(u, e);
        if (err == GK_ENOMEM && e->kind != TRACE_PROTECT)
            u_abort(u,
                    "the guest kernel has no memory for another mapping; give it more with --mem");
        r->stats.refused += err != GK_OK;
    } else
        process_event(u, r, e);
}

/* ---- the run ---- */

/* Sum of a batch's stores and of the accesses that cross into another page. */
static void access_batch(struct user *u, struct replay *r, const struct trace_access *a, size_t n)
{
    struct mmu *m = u->mmu;
    uint64_t stores = 0, crossings = 0;
    for (size_t i = 0; i < n; i++) {
        gva_t va = a[i].va;
        unsigned store = a[i].store, last = (unsigned)(va & PAGE_MASK) + a[i].size - 1;
        mmu_touch(m, va, store);
        stores += store;
        if (unlikely(last >> PAGE_SHIFT)) {
            mmu_touch(m, (va | PAGE_MASK) + 1, store);
            crossings++;
        }
    }
    r->stats.accesses += n;
    r->stats.stores += stores;
    r->stats.crossings += crossings;
}

static void begin(struct user *u, struct replay *r)
{
    u->on_segv = map_touched;
    u->ctx = r;
    u_phase(u, "setup");
    fork_to(u, r, 1);
    switch_to(u, r, 1);
    u_phase(u, "work");
}

void replay_run(struct user *u, void *arg)
{
    struct replay *r = arg;
    struct trace_batch b;
    int more;
    begin(u, r);
    while ((more = trace_next(r->trace, &b)) > 0) {
        if (b.n && r->leaving)
            bad_trace(u, r, "goes on in a process that has ended");
        access_batch(u, r, b.acc, b.n);
        if (b.ev.kind != TRACE_NONE)
            handle(u, r, &b.ev);
    }
    if (more < 0) {
        snprintf(r->message, sizeof r->message, "%s", trace_error(r->trace));
        fail(u, r, trace_error_code(r->trace));
    }
    leave(u, r);
}
