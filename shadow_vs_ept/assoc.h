/* assoc.h: one set-associative array: TLBs, walk caches and data caches are all made of it.
 *
 * An entry is a key (never 0) and a value. A set is `ways` keys followed by `ways` values, so that
 * a small set is one cache line of the machine we run on.
 *
 * LRU keeps a set in order of use, most recent first: the hit test of the first way is also the
 * whole replacement update of a repeated hit. Empty ways are last. PLRU is tree-PLRU (one bit a
 * node, pointing away from the last use); when ways = 3 x 2^k the set is three such trees and the
 * victim tree is the one after the most recently used (TLB;DR, USENIX Security 2022:
 * "(MRU+1)%3 PLRU4"). An empty way is always filled first.
 */
#ifndef NB_PAGING_ASSOC_H
#define NB_PAGING_ASSOC_H

#include <string.h>

#include "base/base.h"
#include "shadow_vs_ept/cpu.h"

struct assoc {
    uint64_t *slot; /* sets x (ways keys, ways values) */
    uint64_t *tree; /* PLRU: node bits of each set; bits 62..63 of it: last used tree of three */
    uint32_t ways, set_mask;
    uint8_t set_bits;
    bool xor_index, plru;
};

/* Shape `a` as g says; g->entries = 0 leaves it absent (ways 0). */
void assoc_init(struct assoc *a, const struct geometry *g);
void assoc_fini(struct assoc *a);
void assoc_clear(struct assoc *a);
/* Drop every entry for which drop(key, value, ctx). */
void assoc_drop(struct assoc *a, bool (*drop)(uint64_t key, uint64_t val, uint64_t ctx),
                uint64_t ctx);
/* Drop one entry if it is there. */
void assoc_del(struct assoc *a, uint64_t idx, uint64_t key);
/* PLRU bookkeeping, out of line: note a use of `way`; choose a victim. */
void assoc_plru_use(struct assoc *a, uint32_t set, uint32_t way);
uint32_t assoc_plru_victim(const struct assoc *a, uint32_t set);

static inline uint32_t assoc_set(const struct assoc *a, uint64_t idx)
{
    if (a->xor_index)
        idx ^= idx >> a->set_bits;
    return (uint32_t)idx & a->set_mask;
}

/* Move way i of an LRU set to the front. */
static inline void assoc_to_front(uint64_t *k, uint32_t ways, uint32_t i)
{
    uint64_t key = k[i], val = k[ways + i];
    for (; i > 0; i--) {
        k[i] = k[i - 1];
        k[ways + i] = k[ways + i - 1];
    }
    k[0] = key;
    k[ways] = val;
}

/* The search, with the number of ways known to the compiler where it is a common one. */
static inline __attribute__((always_inline)) uint32_t assoc_search(const uint64_t *k, uint32_t ways,
                                                                   uint64_t key)
{
#pragma GCC unroll 16
    for (uint32_t i = 0; i < ways; i++)
        if (k[i] == key)
            return i;
    return ways;
}

/* Where `key` is in the set at k; a->ways when it is not. `ways` is a constant, or 0: look it up.
 */
static inline __attribute__((always_inline)) uint32_t
assoc_way(const struct assoc *a, const uint64_t *k, uint64_t key, const uint32_t ways)
{
    if (ways)
        return assoc_search(k, ways, key);
    switch (a->ways) {
    case 4:
        return assoc_search(k, 4, key);
    case 8:
        return assoc_search(k, 8, key);
    case 12:
        return assoc_search(k, 12, key);
    case 16:
        return assoc_search(k, 16, key);
    default:
        return assoc_search(k, a->ways, key);
    }
}

/* Value of `key`, counted as a use; NULL when absent. The pointer is valid until the next change.
 * `lru_ways`: the ways of an array known to be LRU, a constant; 0 = ask the array. */
static inline __attribute__((always_inline)) uint64_t *
assoc_get_n(struct assoc *a, uint64_t idx, uint64_t key, const uint32_t lru_ways)
{
    uint32_t set = assoc_set(a, idx), ways = lru_ways ? lru_ways : a->ways;
    uint64_t *k = a->slot + (uint64_t)set * 2 * ways;
    uint32_t i = assoc_way(a, k, key, lru_ways);
    if (i == ways)
        return NULL;
    if (!lru_ways && unlikely(a->plru)) {
        assoc_plru_use(a, set, i);
        return k + ways + i;
    }
    if (i)
        assoc_to_front(k, ways, i);
    return k + ways;
}

static inline uint64_t *assoc_get(struct assoc *a, uint64_t idx, uint64_t key)
{
    return assoc_get_n(a, idx, key, 0);
}

/* Value of `key` without counting a use. */
static inline uint64_t *assoc_peek(struct assoc *a, uint64_t idx, uint64_t key)
{
    uint64_t *k = a->slot + (uint64_t)assoc_set(a, idx) * 2 * a->ways;
    uint32_t i = a->ways ? assoc_way(a, k, key, 0) : 0;
    return i == a->ways ? NULL : k + a->ways + i;
}

/* Two entries moved at once; not aligned to 16. */
typedef uint64_t assoc_pair __attribute__((vector_size(16), aligned(8), may_alias));

/* k[1..n-1] = k[0..n-2], from the end, two at a time: a constant n becomes plain vector moves,
 * where memmove would become a call or a string instruction. */
static inline __attribute__((always_inline)) void assoc_shift(uint64_t *k, uint32_t n)
{
    uint32_t i = n - 1;
#pragma GCC unroll 16
    for (; i >= 2; i -= 2)
        *(assoc_pair *)(k + i - 1) = *(const assoc_pair *)(k + i - 2);
    if (i == 1)
        k[1] = k[0];
}

/* Shift an LRU set by one way and put the new entry first; the last one is dropped. */
static inline __attribute__((always_inline)) void assoc_push(uint64_t *k, uint32_t ways,
                                                             uint64_t key, uint64_t val)
{
    assoc_shift(k, ways);
    assoc_shift(k + ways, ways);
    k[0] = key;
    k[ways] = val;
}

static inline void assoc_push_many(uint64_t *k, uint32_t ways, uint64_t key, uint64_t val)
{
    memmove(k + 1, k, 8 * (ways - 1));
    memmove(k + ways + 1, k + ways, 8 * (ways - 1));
    k[0] = key;
    k[ways] = val;
}

/* Insert a key that is not there. `lru_ways` as above. */
static inline __attribute__((always_inline)) void
assoc_put_n(struct assoc *a, uint64_t idx, uint64_t key, uint64_t val, const uint32_t lru_ways)
{
    uint32_t set = assoc_set(a, idx), ways = lru_ways ? lru_ways : a->ways;
    uint64_t *k = a->slot + (uint64_t)set * 2 * ways;
    if (lru_ways) {
        assoc_push(k, lru_ways, key, val);
        return;
    }
    if (unlikely(a->plru)) {
        uint32_t i = assoc_plru_victim(a, set);
        k[i] = key;
        k[ways + i] = val;
        assoc_plru_use(a, set, i);
        return;
    }
    switch (ways) {
    case 4:
        assoc_push(k, 4, key, val);
        break;
    case 8:
        assoc_push(k, 8, key, val);
        break;
    case 12:
        assoc_push(k, 12, key, val);
        break;
    case 16:
        assoc_push(k, 16, key, val);
        break;
    default:
        assoc_push_many(k, ways, key, val);
        break;
    }
}

static inline void assoc_put(struct assoc *a, uint64_t idx, uint64_t key, uint64_t val)
{
    assoc_put_n(a, idx, key, val, 0);
}

#endif
