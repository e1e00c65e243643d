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
/* Position of tag among the stride tags at t; stride when it is not there. */
static inline __attribute__((always_inline)) uint32_t dcache_find(const uint32_t *t,
                                                                  uint32_t stride, uint32_t tag)
{
    uint32_t i = 0;
#ifdef __SSE2__
    const __m128i key = _mm_set1_epi32((int)tag);
    for (; i < stride; i += 4) {
        __m128i eq = _mm_cmpeq_epi32(_mm_load_si128((const __m128i *)(const void *)(t + i)), key);
        int hit = _mm_movemask_ps(_mm_castsi128_ps(eq));
        if (hit)
            return i + (uint32_t)__builtin_ctz((unsigned)hit);
    }
#else
    while (i < stride && t[i] != tag)
        i++;
#endif
    return i;
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
    memmove(t + 1, t, 4 * (hit ? i : c->ways - 1));
    t[0] = tag;
    return hit;
}

#endif
