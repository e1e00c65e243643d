/* refloop.h: a hand-written loop over the same TLB geometry: the yardstick for the model's speed.
 *
 * First level 64 entries 4-way, second 1,536 entries 12-way, true LRU, index = page mod sets; a
 * miss walks real tables of 512 x 8 bytes: 4 reads, or the 24 of a two-dimensional walk. No
 * permissions, no accessed bits, no exits: what a program would be that could do nothing else.
 */
#ifndef NB_BENCH_REFLOOP_H
#define NB_BENCH_REFLOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop_spec {
    bool nested;     /* 24-read walk instead of 4 */
    bool sequential; /* 8-byte stride instead of xorshift64 addresses */
    uint64_t bytes, accesses, seed;
};

struct loop_result {
    double seconds, cpu_seconds;
    uint64_t l1_misses, l2_misses, walks, refs;
    uint64_t sum; /* of frame numbers: keeps the compiler from dropping the loop */
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
double thread_seconds(void); /* CPU time of this thread */

#endif
