/* touch.c: first-touch pages, then sweep them again.
 *
 * Stresses the fault path: each page's first store is a guest page fault, and on a fresh VM a fill
 * of the layer below as well. Later rounds are one access a page in order: with more pages than TLB
 * entries, every one misses.
 *
 * Exact: work: stores = pages * rounds, no loads; guest_faults = pages with 4 KiB guest pages
 * (pages / 512, rounded up, with 2 MiB). Nothing happens in set-up but one mmap.
 */
#include "workloads/common.h"

static const struct param params[] = {
    {"pages", 16384, 1, MAX_BYTES >> PAGE_SHIFT, "4 KiB pages", "pages to touch (16384 = 64 MiB)"},
    {"rounds", 64, 1, MAX_COUNT, "rounds", "sweeps over them, the first included"},
    {0},
};

static void run(struct user *u, const uint64_t *p)
{
    uint64_t pages = p[0], rounds = p[1];
    u_phase(u, "setup");
    gva_t base = u_alloc(u, pages << PAGE_SHIFT);
    u_phase(u, "work");
    for (uint64_t r = 0; r < rounds; r++)
        for (uint64_t i = 0; i < pages; i++)
            st(u, base + (i << PAGE_SHIFT) + (i & 63) * 64); /* another line in each page */
}

REGISTER(workload, touch, .summary = "first-touch pages, then sweep them: one guest fault a page",
         .params = params, .run = run);
