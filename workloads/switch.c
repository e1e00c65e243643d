/* switch.c: processes that take turns.
 *
 * Stresses context switches: each loads CR3, which without PCIDs empties the TLB of all but global
 * pages, and which a shadow must see. Every process has its own working set at the same
 * addresses; `global` adds a region shared by all and mapped with the global bit, to which every
 * fourth access of a turn goes.
 *
 * Exact: set-up: stores = guest_faults = procs * pages of `size` + pages of `global` (with 4 KiB
 * guest pages). Work: loads = switches * burst, of which switches * (burst / 4) go to the global
 * region if there is one; guest_cr3_loads = switches (0 when procs = 1); no stores, no faults.
 */
#include "workloads/common.h"

enum { MAX_PROCS = 128 };

static const struct param params[] = {
    {"procs", 4, 1, MAX_PROCS, "processes", "processes that take turns"},
    {"size", 4ull << 20, 4096, MAX_BYTES, "bytes", "working set of each"},
    {"burst", 1000, 1, MAX_COUNT, "accesses", "accesses of one turn"},
    {"switches", 1000, 0, MAX_COUNT, "turns", "context switches"},
    {"global", 0, 0, MAX_BYTES, "bytes", "region shared by all, mapped global; 0 = none"},
    {0},
};

struct proc {
    int pid;
    gva_t set;
};

static gva_t make_global(struct user *u, uint64_t bytes)
{
    gva_t a = 0;
    if (bytes) {
        must(u, u_mmap(u, 0, bytes, GK_READ | GK_WRITE, GK_GLOBAL, &a),
             "switch: mmap of the global region failed");
        touch_pages(u, a, bytes);
    }
    return a;
}

/* Processes 1..n-1 are children of process 0, forked before it has a working set to inherit. */
static void make_procs(struct user *u, struct proc *proc, uint64_t n, uint64_t size)
{
    proc[0].pid = 1;
    for (uint64_t i = 1; i < n; i++) {
        must(u, u_fork(u, &proc[i].pid), "switch: fork failed: guest memory is used up");
        must(u, u_switch(u, proc[i].pid), "switch: switch to a child failed");
        proc[i].set = alloc_touched(u, size);
        must(u, u_switch(u, proc[0].pid), "switch: switch back failed");
    }
    proc[0].set = alloc_touched(u, size);
}

static void turn(struct user *u, gva_t set, uint64_t words, gva_t global, uint64_t global_words,
                 uint64_t burst)
{
    struct rng r = u->rng;
    for (uint64_t i = 1; i <= burst; i++) {
        if (global_words && i % 4 == 0)
            ld(u, global + 8 * rng_below(&r, global_words));
        else
            ld(u, set + 8 * rng_below(&r, words));
    }
    u->rng = r;
}

static void run(struct user *u, const uint64_t *p)
{
    struct proc proc[MAX_PROCS];
    uint64_t n = p[0], size = p[1], burst = p[2], switches = p[3], global_words = p[4] / 8;
    u_phase(u, "setup");
    gva_t global = make_global(u, p[4]);
    make_procs(u, proc, n, size);
    u_phase(u, "work");
    for (uint64_t i = 0, at = 0; i < switches; i++) {
        at = at + 1 < n ? at + 1 : 0;
        must(u, u_switch(u, proc[at].pid), "switch: switch failed");
        turn(u, proc[at].set, size / 8, global, global_words, burst);
    }
}

REGISTER(workload, switch, .summary = "processes taking turns, each with its own working set",
         .params = params, .run = run);
