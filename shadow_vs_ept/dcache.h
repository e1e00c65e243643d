/* dcache.h: a data cache as table reads and data accesses see it: tags of 64-byte lines, true LRU.
 *
 * A set is its tags, 32 bits each, and, up to 16 ways, their order of use in one word (order.h): a
 * miss writes one tag and that word. A set of 12 ways is one cache line of the machine we run on,
 * which is what makes a 22 MiB cache cheap to model. Above 16 ways the tags themselves stand in
 * order of use, the latest first. set = line mod sets, tag = line / sets + 1 (0 = empty): with the
 * 64 sets that cpu_check.c asks for, 32 bits hold the tag of any line of the largest host, 16 TiB. Tags
 * are padded with empty ones to a multiple of four a set, so that they compare by vector.
 */
#ifndef NB_PAGING_DCACHE_H
#define NB_PAGING_DCACHE_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <string.h>

#include "base/addr.h"
#include "base/base.h"
#include "shadow_vs_ept/cpu.h"
#include "shadow_vs_ept/order.h"

struct dcache {
    unsigned char *set; /* sets x stride bytes: `padded` tags, then the order */
    uint32_t ways, padded, stride, set_mask;
    uint8_t set_bits;
};

/* g->entries = 0 leaves it absent (ways 0). The geometry's index and policy are modulo and LRU. */
void dcache_init(struct dcache *, const struct geometry *g);
void dcache_fini(struct dcache *);
void dcache_clear(struct dcache *);

/* Which of the n tags at t, n a multiple of four up to 16, equal `tag`: a bit each. */
static inline __attribute__((always_inline)) uint32_t dcache_match(const uint32_t *t, uint32_t n,
                                                                   uint32_t tag)
{
#ifdef __SSE2__
    const __m128i k = _mm_set1_epi32((int)tag), zero = _mm_setzero_si128();
    const __m128i *v = (const __m128i *)(const void *)t;
    __m128i a = _mm_cmpeq_epi32(_mm_load_si128(v), k), b = zero, c = zero, d = zero;
    if (n > 4)
        b = _mm_cmpeq_epi32(_mm_load_si128(v + 1), k);
    if (n > 8)
        c = _mm_cmpeq_epi32(_mm_load_si128(v + 2), k);
    if (n > 12)
        d = _mm_cmpeq_epi32(_mm_load_si128(v + 3), k);
    return (uint32_t)_mm_movemask_epi8(
        _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d)));
#else
    uint32_t mask = 0;
    for (uint32_t i = 0; i < n; i++)
        mask |= (uint32_t)(t[i] == tag) << i;
    return mask;
#endif
}

/* More than 16 ways. */
bool dcache_access_wide(const struct dcache *, uint32_t *t, uint32_t tag);

/* One access to host-physical address a: true on a hit; a missing line is brought in. */
static inline __attribute__((always_inline)) bool dcache_access(struct dcache *c, hpa_t a)
{
    uint64_t line = a >> 6;
    unsigned char *set = c->set + (line & c->set_mask) * c->stride;
    uint32_t *t = (uint32_t *)(void *)set, tag = (uint32_t)(line >> c->set_bits) + 1;
    if (unlikely(c->ways > ORDER_WAYS))
        return dcache_access_wide(c, t, tag);
    uint64_t *order = (uint64_t *)(void *)(t + c->padded);
    uint32_t hit = dcache_match(t, c->padded, tag);
    if (hit) {
        uint32_t way = (uint32_t)__builtin_ctz(hit);
        if ((*order & 15) != way)
            *order = order_use(*order, way);
        return true;
    }
    t[order_oldest(*order, c->ways)] = tag;
    *order = order_turn(*order, c->ways);
    return false;
}

#endif
