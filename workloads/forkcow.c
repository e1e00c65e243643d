/* forkcow.c: fork; the child writes a share of its pages and exits.
 *
 * Stresses table building and copy on write: fork copies and write-protects every entry, each page
 * the child writes costs a protection fault and a copy, exit clears every entry again. What a shell
 * or a snapshotting database does, and the worst case for a shadow that traps table writes.
 *
 * The children run one after the other. Each touches all pages in order: a store into the pages of
 * the share, which is spread evenly, and a load from the others.
 *
 * Exact, d = pages * dirty / 100 rounded down: set-up: stores = pages. Work: stores = procs * d,
 * loads = procs * (pages - d); guest_faults = procs * d with 4 KiB guest pages, all of them
 * protection faults.
 */
#include "workloads/common.h"

static const struct param params[] = {
    {"procs", 64, 1, 1u << 20, "processes", "children, one after the other"},
    {"pages", 4096, 1, MAX_BYTES >> PAGE_SHIFT, "4 KiB pages", "the parent's memory"},
    {"dirty", 25, 0, 100, "percent", "share of the pages that a child writes"},
    {0},
};

static void child(struct user *u, gva_t base, uint64_t pages, uint64_t dirty)
{
    for (uint64_t i = 0, debt = 0; i < pages; i++) {
        gva_t a = base + (i << PAGE_SHIFT);
        debt += dirty;
        if (debt >= 100) {
            debt -= 100;
            st(u, a);
        } else {
            ld(u, a);
        }
    }
}

static void run(struct user *u, const uint64_t *p)
{
    u_phase(u, "setup");
    gva_t base = alloc_touched(u, p[1] << PAGE_SHIFT);
    u_phase(u, "work");
    for (uint64_t i = 0; i < p[0]; i++) {
        int pid;
        must(u, u_fork(u, &pid), "forkcow: fork failed: guest memory is used up");
        must(u, u_switch(u, pid), "forkcow: switch to the child failed");
        child(u, base, p[1], p[2]);
        must(u, u_exit(u, pid), "forkcow: exit of the child failed"); /* and back to the parent */
    }
}

REGISTER(workload, forkcow, .summary = "fork, write a share of the pages in the child, exit",
         .params = params, .run = run);
