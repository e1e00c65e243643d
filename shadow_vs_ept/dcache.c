/* dcache.c: shape of a modelled data cache, and sets of many ways. The layout is described in
 * dcache.h.
 */
#include "shadow_vs_ept/dcache.h"

#include <assert.h>

void dcache_init(struct dcache *c, const struct geometry *g)
{
    *c = (struct dcache){0};
    if (!g->entries)
        return;
    uint32_t sets = g->entries / g->ways;
    assert(g->entries % g->ways == 0 && !(sets & (sets - 1)));
    c->ways = g->ways;
    c->padded = (uint32_t)ALIGN_UP(g->ways, 4);
    c->stride = (uint32_t)ALIGN_UP(c->padded * sizeof(uint32_t) + sizeof(uint64_t), 16);
    c->set_mask = sets - 1;
    c->set_bits = (uint8_t)__builtin_ctz(sets);
    c->set = meta_calloc_aligned(META_MMU, (size_t)sets * c->stride, 64);
    dcache_clear(c);
}

void dcache_fini(struct dcache *c)
{
    if (c->set)
        meta_free(META_MMU, c->set);
}

void dcache_clear(struct dcache *c)
{
    for (size_t set = 0; c->ways && set <= c->set_mask; set++) {
        uint32_t *t = (uint32_t *)(void *)(c->set + set * c->stride);
        memset(t, 0, c->padded * sizeof *t);
        if (c->ways <= ORDER_WAYS)
            *(uint64_t *)(void *)(t + c->padded) = order_first(c->ways);
    }
}

bool dcache_access_wide(const struct dcache *c, uint32_t *t, uint32_t tag)
{
    uint32_t i = 0;
    for (; i < c->padded; i += 4) {
        uint32_t hit = dcache_match(t + i, 4, tag);
        if (hit) {
            i += (uint32_t)__builtin_ctz(hit);
            break;
        }
    }
    bool found = i < c->ways;
    memmove(t + 1, t, sizeof *t * (found ? i : c->ways - 1));
    t[0] = tag;
    return found;
}
