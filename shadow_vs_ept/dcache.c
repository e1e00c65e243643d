/* dcache.c: shape of a modelled data cache. The layout is described in dcache.h. */
#include "shadow_vs_ept/dcache.h"

#include <assert.h>

enum { ALIGN = 16 }; /* tags of a set, and the array, by vector: 64 bytes */

void dcache_init(struct dcache *c, const struct geometry *g)
{
    *c = (struct dcache){0};
    if (!g->entries)
        return;
    uint32_t sets = g->entries / g->ways;
    assert(g->entries % g->ways == 0 && !(sets & (sets - 1)));
    c->ways = g->ways;
    c->stride = (uint32_t)ALIGN_UP(g->ways, g->ways <= 8 ? 8 : ALIGN);
    c->set_mask = sets - 1;
    c->set_bits = (uint8_t)__builtin_ctz(sets);
    c->tag = meta_calloc_aligned(META_MMU, (size_t)sets * c->stride * sizeof *c->tag, 64);
}

void dcache_clear(struct dcache *c)
{
    if (c->tag)
        memset(c->tag, 0, ((size_t)c->set_mask + 1) * c->stride * sizeof *c->tag);
}

void dcache_fini(struct dcache *c)
{
    if (c->tag)
        meta_free(META_MMU, c->tag);
}
