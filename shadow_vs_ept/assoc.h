/* assoc.h: one set-associative array: TLBs, walk caches and nested TLBs are all made of it.
 *
 * An entry is a key (never 0) and a value, and stays in its way until it is replaced or dropped.
 * Beside the entries each set has a head, the only part that a search reads and that a miss must
 * touch:
 *
 *     order   one word: which way was used when (below)
 *     tag[]   16 bits a way, a hash of its key; 0 = the way is empty; padded with 0 to four ways
 *
 * so that sets of up to 12 ways are searched in half a cache line, by two vector compares. A hash
 * is not the key: a way counts as found only when its whole key is equal.
 *
 * LRU. Up to 16 ways, order is that of order.h. Above, it is the latest used way, and link[] makes
 * the ways a ring in order of use; the one before the latest is the oldest.
 * PLRU. order holds tree-PLRU's node bits (one a node, pointing away from the last use); when
 * ways = 3 x 2^k the set is three such trees, bits 62..63 are the tree used last, and the victim
 * tree is the one after it (TLB;DR, USENIX Security 2022: "(MRU+1)%3 PLRU4"). An empty way is
 * filled first, the lowest one.
 *
 * Invariants (assoc_check):
 *  (1) the tag of a used way is the hash of its key, that of an empty one 0, as is the padding.
 *  (2) a key is at most once in a set.
 *  (3) LRU: order is a permutation of the ways (a ring of all), and empty ways are the oldest.
 */
#ifndef NB_PAGING_ASSOC_H
#define NB_PAGING_ASSOC_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/base.h"
#include "shadow_vs_ept/cpu.h"
#include "shadow_vs_ept/order.h"

struct assoc_entry {
    uint64_t key, val;
};
struct assoc_link {
    uint16_t older, newer; /* ways; the oldest one's `older` is the latest */
};
struct assoc_head {
    uint64_t order;
    uint16_t tag[];
};

struct assoc {
    unsigned char *head; /* sets x head_bytes: struct assoc_head */
    struct assoc_entry *entry;
    struct assoc_link *link; /* LRU of more than ORDER_WAYS ways, else NULL */
    uint32_t ways, set_mask, head_bytes;
    uint8_t set_bits;
    uint8_t simple; /* ways, when assoc_at() may be told them */
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
/* assoc_get() and assoc_put() for any array, out of line. */
uint64_t *assoc_get_any(struct assoc *a, uint64_t idx, uint64_t key);
void assoc_put_any(struct assoc *a, uint64_t idx, uint64_t key, uint64_t val);
/* PLRU bookkeeping, out of line: note a use of `way`; choose a victim. */
void assoc_plru_use(struct assoc *a, uint32_t set, uint32_t way);
uint32_t assoc_plru_victim(const struct assoc *a, uint32_t set);
/* NULL, or the broken invariant. */
const char *assoc_check(const struct assoc *a);

static inline uint32_t assoc_set(const struct assoc *a, uint64_t idx)
{
    if (a->xor_index)
        idx ^= idx >> a->set_bits;
    return (uint32_t)idx & a->set_mask;
}

/* 16 bytes for four ways, 32 for twelve: no head of these lies in two cache lines. */
static inline uint32_t assoc_head_bytes(uint32_t ways)
{
    return (uint32_t)(sizeof(struct assoc_head) + 2 * ((ways + 3) & ~3u) + 15) & ~15u;
}

static inline struct assoc_head *assoc_head(const struct assoc *a, uint32_t set)
{
    return (struct assoc_head *)(void *)(a->head + (size_t)set * a->head_bytes);
}

/* One set: what a search and a replacement need of it. */
struct assoc_ref {
    struct assoc_head *head;
    struct assoc_entry *entry;
    uint32_t ways, set;
};

/* The set of idx. `simple`, here and below: the ways, a constant, of an array known to be simple: LRU
 * with modulo index and at most ORDER_WAYS ways; 0 = ask the array. */
static inline __attribute__((always_inline)) struct assoc_ref
assoc_at(const struct assoc *a, uint64_t idx, const uint32_t simple)
{
    uint32_t ways = simple ? simple : a->ways;
    uint32_t set = simple ? (uint32_t)idx & a->set_mask : assoc_set(a, idx);
    size_t bytes = simple ? assoc_head_bytes(simple) : a->head_bytes;
    return (struct assoc_ref){(struct assoc_head *)(void *)(a->head + set * bytes),
                              a->entry + (size_t)set * ways, ways, set};
}

/* Multiplicative hashing (Knuth, TAOCP vol. 3, 6.4): the top bits of key x 2^64 / golden ratio. */
static inline uint16_t assoc_hash(uint64_t key)
{
    return (uint16_t)(key * 0x9e3779b97f4a7c15ull >> 48 | 1);
}

/* Which of the n <= 16 tags at t equal `tag`: a bit each. Reads up to a multiple of four tags. */
static inline __attribute__((always_inline)) uint32_t assoc_match(const uint16_t *t, uint32_t n,
                                                                  uint16_t tag)
{
#ifdef __SSE2__
    const __m128i k = _mm_set1_epi16((short)tag), zero = _mm_setzero_si128();
    const __m128i *v = (const __m128i *)(const void *)t;
    __m128i lo, hi = zero;
    lo = _mm_cmpeq_epi16(n > 4 ? _mm_loadu_si128(v) : _mm_loadl_epi64(v), k);
    if (n > 8)
        hi = _mm_cmpeq_epi16(n > 12 ? _mm_loadu_si128(v + 1) : _mm_loadl_epi64(v + 1), k);
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(lo, hi)) & ((1u << n) - 1);
#else
    uint32_t mask = 0;
    for (uint32_t i = 0; i < n; i++)
        mask |= (uint32_t)(t[i] == tag) << i;
    return mask;
#endif
}

/* The way that holds key; s.ways when there is none. */
static inline __attribute__((always_inline)) uint32_t assoc_way(struct assoc_ref s, uint64_t key)
{
    const uint16_t tag = assoc_hash(key);
    for (uint32_t base = 0; base < s.ways; base += 16) {
        uint32_t n = s.ways - base < 16 ? s.ways - base : 16;
        for (uint32_t m = assoc_match(s.head->tag + base, n, tag); m; m &= m - 1) {
            uint32_t i = base + (uint32_t)__builtin_ctz(m);
            if (likely(s.entry[i].key == key))
                return i;
        }
    }
    return s.ways;
}

/* Make `way` the latest in the ring of a wide set whose links are l. */
void assoc_ring_use(struct assoc_head *h, struct assoc_link *l, uint32_t way);

static inline __attribute__((always_inline)) void assoc_use(struct assoc *a, struct assoc_ref s,
                                                            uint32_t way, const uint32_t simple)
{
    if (!simple && unlikely(a->plru))
        assoc_plru_use(a, s.set, way);
    else if (!simple && unlikely(a->link != NULL))
        assoc_ring_use(s.head, a->link + (size_t)s.set * s.ways, way);
    else if ((s.head->order & 15) != way)
        s.head->order = order_use(s.head->order, way);
}

/* Value of `key` in set s, counted as a use; NULL when absent. The pointer is valid until the next
 * change. */
static inline __attribute__((always_inline)) uint64_t *
assoc_get_in(struct assoc *a, struct assoc_ref s, uint64_t key, const uint32_t simple)
{
    uint32_t way = assoc_way(s, key);
    if (way == s.ways)
        return NULL;
    assoc_use(a, s, way, simple);
    return &s.entry[way].val;
}

/* Most walk caches are simple ones of four ways. */
static inline __attribute__((always_inline)) uint64_t *assoc_get(struct assoc *a, uint64_t idx,
                                                                 uint64_t key)
{
    return a->simple == 4 ? assoc_get_in(a, assoc_at(a, idx, 4), key, 4)
                          : assoc_get_any(a, idx, key);
}

/* Value of `key` without counting a use. */
static inline uint64_t *assoc_peek(struct assoc *a, uint64_t idx, uint64_t key)
{
    struct assoc_ref s = assoc_at(a, idx, 0);
    uint32_t way = assoc_way(s, key);
    return way == s.ways ? NULL : &s.entry[way].val;
}

/* The way to fill next, made the latest. */
static inline __attribute__((always_inline)) uint32_t
assoc_replace(struct assoc *a, struct assoc_ref s, const uint32_t simple)
{
    uint32_t way;
    if (!simple && unlikely(a->plru)) {
        way = assoc_plru_victim(a, s.set);
        assoc_plru_use(a, s.set, way);
    } else if (!simple && unlikely(a->link != NULL)) {
        way = a->link[(size_t)s.set * s.ways + (uint16_t)s.head->order].newer;
        s.head->order = way;
    } else {
        way = order_oldest(s.head->order, s.ways);
        s.head->order = order_turn(s.head->order, s.ways);
    }
    return way;
}

/* Insert a key that is not there. */
static inline __attribute__((always_inline)) void
assoc_put_in(struct assoc *a, struct assoc_ref s, uint64_t key, uint64_t val, const uint32_t simple)
{
    uint32_t way = assoc_replace(a, s, simple);
    s.head->tag[way] = assoc_hash(key);
    s.entry[way] = (struct assoc_entry){key, val};
}

static inline __attribute__((always_inline)) void assoc_put(struct assoc *a, uint64_t idx,
                                                            uint64_t key, uint64_t val)
{
    if (a->simple == 4)
        assoc_put_in(a, assoc_at(a, idx, 4), key, val, 4);
    else
        assoc_put_any(a, idx, key, val);
}

#endif
