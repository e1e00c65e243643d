/* refloop.h: hand-written loops over the same geometry: the yardsticks for the model's speed.
 *
 * refloop_run         the TLBs of preset plain: first level 64 entries 4-way, second 1,536 entries
 *                     12-way, true LRU, index = page mod sets; a miss walks real tables of 512 x 8
 *                     bytes: 4 reads, or the 24 of a two-dimensional walk
 * refloop_cached_run  preset dmt-ref: those TLBs, walk caches in both dimensions, and data caches
 *                     that every table read and every access goes through
 *
 * No permissions, no accessed bits, no exits: what programs would be that could do nothing else.
 */
#ifndef NB_BENCH_REFLOOP_H
#define NB_BENCH_REFLOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "shadow_vs_ept/cpu.h"

enum loop_kind { LOOP_NATIVE, LOOP_SHADOW, LOOP_EPT }; /* one dimension, one, two */

struct loop_spec {
    enum loop_kind kind;
    bool cached;     /* preset dmt-ref rather than plain */
    bool sequential; /* 8-byte stride instead of xorshift64 addresses */
    uint64_t bytes, accesses, seed;
};

struct loop_result {
    double seconds, cpu_seconds;
    uint64_t l1_misses, l2_misses, walks, refs;
    uint64_t reads;                    /* refs that no walk cache saved */
    uint64_t pwc_hits, pt[4], data[4]; /* reads and accesses served by L1, L2, L3, memory */
    uint64_t sum; /* of frame numbers: keeps the compiler from dropping the loop */
};

/* Tables of a machine of the model, which hold the data at guest-virtual `base`. */
struct loop_tables {
    const unsigned char *pool; /* host-physical address 0 */
    gpa_t guest_root;
    hpa_t nested_root;
    gva_t base;
};

#define LOOP_BASE 0x10000000ull /* where the data lies: the guest kernel's first mmap address */

/* Marsaglia's xorshift64 (JSS 8(14), 2003). */
static inline uint64_t xorshift64(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

void refloop_run(const struct loop_spec *, struct loop_result *);
void refloop_cached_run(const struct loop_spec *, const struct loop_tables *, struct loop_result *);
/* Its sizes, constants, are those of the preset. */
bool refloop_cached_fits(const struct cpu *);
double thread_seconds(void); /* CPU time of this thread */

#endif
