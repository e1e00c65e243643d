/* dcache.h: a data cache as table reads and data accesses see it: tags of 64-byte lines, true LRU.
 *
 * A set is its tags in order of use, the latest first, 32 bits each: a set of 16 ways is one cache
 * line of the machine we run on, which is what makes a 22 MiB cache cheap to model. set = line mod
 * sets, tag = line / sets + 1 (0 = empty): with the 64 sets that cpu.c asks for, 32 bits hold the
 * tag of any line of the largest host, 16 TiB. Tags are padded with empty ones to a multiple of
 * eight a set, so that they compare by vector.
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

struct dcache {
    uint32_t *tag; /* sets x stride */
    uint32_t ways, stride, set_mask;
    uint8_t set_bits;
};

/* g->entries = 0 leaves it absent (ways 0). The geometry's index and policy are modulo and LRU. */
void dcache_init(struct dcache *, const struct geometry *g);
void dcache_fini(struct dcache *);
void dcache_clear(struct dcache *);

/* Position of tag among the stride tags at t; stride when it is not there. */
static inline __attribute__((always_inline)) uint32_t dcache_find(const uint32_t *t,
                                                                  uint32_t stride, uint32_t tag)
{
    uint32_t i = 0;
#ifdef __SSE2__
    const __m128i key = _mm_set1_epi32((int)tag);
    const __m128i *v = (const __m128i *)(const void *)t;
    for (; i < stride; i += 8, v += 2) {
        __m128i lo = _mm_cmpeq_epi32(_mm_load_si128(v), key),
                hi = _mm_cmpeq_epi32(_mm_load_si128(v + 1), key);
        int hit = _mm_movemask_epi8(_mm_packs_epi32(lo, hi));
        if (hit)
            return i + (uint32_t)__builtin_ctz((unsigned)hit) / 2;
    }
#else
    while (i < stride && t[i] != tag)
        i++;
#endif
    return i;
}

/* Move t[0 .. n - 1] up by one, over t[n], and put tag first. By vector, from the end: what the last
 * one takes along beyond t[n] is put back. */
static inline __attribute__((always_inline)) void dcache_to_front(uint32_t *t, uint32_t n,
                                                                  uint32_t tag)
{
#ifdef __SSE2__
    /* Lanes of the vector that holds t[n]: those up to n change. */
    const __m128i lane = _mm_set_epi32(3, 2, 1, 0);
    uint32_t k = n & ~3u;
    __m128i *v = (__m128i *)(void *)(t + k), old = _mm_load_si128(v);
    __m128i keep = _mm_cmpgt_epi32(lane, _mm_set1_epi32((int)(n & 3)));
    __m128i first = k ? _mm_loadu_si128((const __m128i *)(const void *)(t + k - 1))
                      : _mm_or_si128(_mm_slli_si128(old, 4), _mm_cvtsi32_si128((int)tag));
    _mm_store_si128(v, _mm_or_si128(_mm_and_si128(keep, old), _mm_andnot_si128(keep, first)));
    for (; k > 4; k -= 4)
        _mm_store_si128((__m128i *)(void *)(t + k - 4),
                        _mm_loadu_si128((const __m128i *)(const void *)(t + k - 5)));
    if (k == 4) {
        v = (__m128i *)(void *)t;
        _mm_store_si128(
            v, _mm_or_si128(_mm_slli_si128(_mm_load_si128(v), 4), _mm_cvtsi32_si128((int)tag)));
    }
#else
    memmove(t + 1, t, 4 * n);
    t[0] = tag;
#endif
}

/* One access to host-physical address a: true on a hit; a missing line is brought in. */
static inline __attribute__((always_inline)) bool dcache_access(struct dcache *c, hpa_t a)
{
    uint64_t line = a >> 6;
    uint32_t *t = c->tag + (line & c->set_mask) * c->stride,
             tag = (uint32_t)(line >> c->set_bits) + 1;
    if (t[0] == tag)
        return true;
    uint32_t i = dcache_find(t, c->stride, tag);
    bool hit = i < c->ways;
    dcache_to_front(t, hit ? i : c->ways - 1, tag);
    return hit;
}

#endif
