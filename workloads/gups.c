/* gups.c: random updates of a table: table[r mod n] ^= r (RandomAccess of the HPC Challenge).
 *
 * Stresses the TLB as hard as a program can: no locality, so that with a table far larger than the
 * TLB's reach nearly every update walks. The classic worst case for nested paging.
 *
 * Exact: set-up: one store per 4 KiB page; work: loads = stores = updates. guest_faults = pages,
 * all in set-up. An update's store hits the page its load just brought in.
 */
#include "workloads/common.h"

static const struct param params[] = {
    {"size", 64ull << 20, 4096, MAX_BYTES, "bytes", "the table"},
    {"updates", 1000000, 0, MAX_COUNT, "updates", "random updates, two accesses each"},
    {0},
};

static void update(struct user *u, gva_t table, uint64_t words, uint64_t n)
{
    struct rng r = u->rng;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = rng_next(&r);
        gva_t a = table + 8 * (uint64_t)(((unsigned __int128)v * words) >> 64);
        st64(u, a, ld64(u, a) ^ v);
    }
    u->rng = r;
}

static void run(struct user *u, const uint64_t *p)
{
    u_phase(u, "setup");
    gva_t table = alloc_touched(u, p[0]);
    u_phase(u, "work");
    update(u, table, p[0] / 8, p[1]);
}

REGISTER(workload, gups, .summary = "random read-modify-write: a TLB miss for nearly every update",
         .params = params, .run = run);
