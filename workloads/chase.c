/* chase.c: follow pointers through a random cycle over all of memory.
 *
 * Stresses latency: each load's address is the last one's value, so no walk can overlap another.
 * The cycle is one permutation without shorter cycles (Sattolo, 1986), built in memory.
 *
 * Exact, n = size / stride nodes: set-up: stores = 3n - 2, loads = 2n - 2; work: loads = hops, no
 * stores; any n hops in a row visit every node once. guest_faults = pages that hold a node, all in
 * set-up.
 */
#include "workloads/common.h"

static const struct param params[] = {
    {"size", 64ull << 20, 4096, MAX_BYTES, "bytes", "memory that the nodes spread over"},
    {"stride", 256, 8, 4096, "bytes", "distance of the nodes; rounded down to 8"},
    {"hops", 1000000, 0, MAX_COUNT, "hops", "pointers to follow"},
    {0},
};

static void make_cycle(struct user *u, gva_t base, uint64_t n, uint64_t stride)
{
    struct rng r = u->rng;
    for (uint64_t i = 0; i < n; i++)
        st64(u, base + i * stride, base + i * stride);
    for (uint64_t i = n - 1; i > 0; i--) {
        gva_t a = base + i * stride, b = base + rng_below(&r, i) * stride;
        uint64_t x = ld64(u, a), y = ld64(u, b);
        st64(u, a, y);
        st64(u, b, x);
    }
    u->rng = r;
}

static void run(struct user *u, const uint64_t *p)
{
    uint64_t stride = ALIGN_DOWN(p[1], 8);
    u_phase(u, "setup");
    gva_t node = u_alloc(u, p[0]);
    make_cycle(u, node, p[0] / stride, stride);
    u_phase(u, "work");
    for (uint64_t i = 0; i < p[2]; i++)
        node = ld64(u, node);
}

REGISTER(workload, chase, .summary = "dependent loads along a random cycle: walk latency laid bare",
         .params = params, .run = run);
