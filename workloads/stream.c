/* stream.c: sequential reading, or the triad a[i] = b[i] + s * c[i] of STREAM (McCalpin, 1995).
 *
 * Stresses bandwidth, hardly the TLB: one miss per page and pass. The base line against which the
 * random workloads stand.
 *
 * Exact, with size rounded down to 8 bytes: set-up: one store per 4 KiB page.
 *   triad=0: work: loads = passes * n, n = (size - 8) / stride + 1.
 *   triad=1: three arrays of third = size / 3 (rounded down to 8): with n = (third - 8) / stride +
 * 1, work: loads = 2 * passes * n, stores = passes * n. guest_faults = pages, all in set-up.
 */
#include "workloads/common.h"

static const struct param params[] = {
    {"size", 64ull << 20, 4096, MAX_BYTES, "bytes", "memory in all"},
    {"stride", 8, 8, 1ull << 30, "bytes", "distance of one access from the next"},
    {"passes", 1, 1, MAX_COUNT, "passes", "times over the memory"},
    {"triad", 0, 0, 1, "0 or 1", "1: two loads and a store an element instead of one load"},
    {0},
};

static void read_all(struct user *u, gva_t a, uint64_t n, uint64_t stride)
{
    for (uint64_t i = 0; i < n; i++)
        ld(u, a + i * stride);
}

static void triad(struct user *u, gva_t a, uint64_t third, uint64_t n, uint64_t stride)
{
    for (uint64_t i = 0; i < n; i++) {
        gva_t x = a + i * stride;
        ld(u, x + third);
        ld(u, x + 2 * third);
        st(u, x);
    }
}

static void run(struct user *u, const uint64_t *p)
{
    uint64_t size = ALIGN_DOWN(p[0], 8), stride = ALIGN_DOWN(p[1], 8);
    uint64_t part = p[3] ? ALIGN_DOWN(size / 3, 8) : size;
    uint64_t n = (part - 8) / stride + 1;
    u_phase(u, "setup");
    gva_t a = alloc_touched(u, size);
    u_phase(u, "work");
    for (uint64_t pass = 0; pass < p[2]; pass++) {
        if (p[3])
            triad(u, a, part, n, stride);
        else
            read_all(u, a, n, stride);
    }
}

REGISTER(workload, stream, .summary = "sequential read or triad: few TLB misses, the base line",
         .params = params, .run = run);
