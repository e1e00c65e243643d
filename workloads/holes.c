/* holes.c: memory with holes: a share of the pages of a region is given back at random, then the rest is used at
 * random.
 *
 * What is free lies scattered between pages in use, as after a day of work: a large host page has free 4 KiB pages in it
 * that only a host which breaks it can take (--balloon, --host-page thp).
 *
 * Closed form: pages first touched in set-up; `accesses` loads in work.
 */
#include "workloads/workload.h"

static const struct param params[] = {
    {"size", 64ull << 20, 64 << 10, 1ull << 36, "bytes", "the region"},
    {"holes", 25, 0, 90, "percent", "share of its pages that is given back"},
    {"accesses", 1000000, 1, 1ull << 40, "loads", "random loads from the pages that are left"},
    {0}};

/* Page i is given back: by the hash of its number, so that no list of them is needed. */
static bool is_hole(uint64_t i, uint64_t percent)
{
    return (i + 1) * 0x9e3779b97f4a7c15ull >> 32 < percent * (1ull << 32) / 100;
}

static void run(struct user *u, const uint64_t *p)
{
    uint64_t pages = p[0] >> PAGE_SHIFT;
    u_phase(u, "setup");
    gva_t base = u_alloc(u, p[0]);
    for (uint64_t i = 0; i < pages; i++)
        st64(u, base + (i << PAGE_SHIFT), i + 1);
    u_phase(u, "free");
    for (uint64_t i = 0; i < pages; i++)
        if (is_hole(i, p[1]) && u_munmap(u, base + (i << PAGE_SHIFT), PAGE_SIZE) != GK_OK)
            u_abort(u, "a page could not be given back");
    u_phase(u, "work");
    for (uint64_t n = 0; n < p[2];) {
        uint64_t i = rng_below(&u->rng, pages);
        if (is_hole(i, p[1]))
            continue;
        if (ld64(u, base + (i << PAGE_SHIFT)) != i + 1)
            u_abort(u, "a page does not hold what was stored there");
        n++;
    }
}

REGISTER(workload, holes, .summary = "random loads beside scattered free pages", .params = params,
         .run = run);
