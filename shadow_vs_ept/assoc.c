/* assoc.c: set-associative arrays: shape, removal, tree-PLRU. The layout is described in assoc.h.
 */
#include "shadow_vs_ept/assoc.h"

#include <assert.h>
#include <string.h>

void assoc_init(struct assoc *a, const struct geometry *g)
{
    *a = (struct assoc){0};
    if (!g->entries)
        return;
    uint32_t sets = g->entries / g->ways;
    assert(g->entries % g->ways == 0 && !(sets & (sets - 1)));
    a->ways = g->ways;
    a->set_mask = sets - 1;
    a->set_bits = (uint8_t)__builtin_ctz(sets);
    a->xor_index = g->index == INDEX_XOR && sets > 1;
    a->plru = g->policy == POLICY_PLRU && g->ways > 1;
    a->slot = meta_calloc(META_MMU, (size_t)g->entries * 2, sizeof *a->slot);
    a->tree = a->plru ? meta_calloc(META_MMU, sets, sizeof *a->tree) : NULL;
}

void assoc_fini(struct assoc *a)
{
    if (a->slot)
        meta_free(META_MMU, a->slot);
    if (a->tree)
        meta_free(META_MMU, a->tree);
}

static uint64_t slots(const struct assoc *a) { return ((uint64_t)a->set_mask + 1) * 2 * a->ways; }

void assoc_clear(struct assoc *a)
{
    if (!a->ways)
        return;
    memset(a->slot, 0, slots(a) * sizeof *a->slot);
    if (a->tree)
        memset(a->tree, 0, ((size_t)a->set_mask + 1) * sizeof *a->tree);
}

/* Take way i out of a set; LRU sets close the gap so that empty ways stay last. */
static void take_out(struct assoc *a, uint64_t *k, uint32_t i)
{
    if (!a->plru)
        for (; i + 1 < a->ways; i++) {
            k[i] = k[i + 1];
            k[a->ways + i] = k[a->ways + i + 1];
        }
    k[i] = k[a->ways + i] = 0;
}

void assoc_drop(struct assoc *a, bool (*drop)(uint64_t key, uint64_t val, uint64_t ctx),
                uint64_t ctx)
{
    if (!a->ways)
        return;
    for (uint64_t *k = a->slot; k < a->slot + slots(a); k += 2 * a->ways)
        for (uint32_t i = 0; i < a->ways;)
            if (k[i] && drop(k[i], k[a->ways + i], ctx)) {
                take_out(a, k, i);
                i += a->plru;
            } else
                i++;
}

void assoc_del(struct assoc *a, uint64_t idx, uint64_t key)
{
    if (!a->ways)
        return;
    uint64_t *k = a->slot + (uint64_t)assoc_set(a, idx) * 2 * a->ways;
    uint32_t i = assoc_way(a, k, key, 0);
    if (i < a->ways)
        take_out(a, k, i);
}

/* Ways per tree: the whole set, or a third of it. */
static uint32_t tree_ways(const struct assoc *a)
{
    return a->ways & (a->ways - 1) ? a->ways / 3 : a->ways;
}

void assoc_plru_use(struct assoc *a, uint32_t set, uint32_t way)
{
    uint32_t n = tree_ways(a), group = way / n, base = group * (n - 1), node = 0;
    uint64_t t = a->tree[set] & ~(3ull << 62);
    for (uint32_t half = n / 2, at = way % n; half; half /= 2) {
        uint64_t bit = 1ull << (base + node);
        bool right = at >= half;
        t = right ? t & ~bit : t | bit; /* 1 = the older half is the right one */
        node = 2 * node + 1 + right;
        at -= right ? half : 0;
    }
    a->tree[set] = n == a->ways ? t : t | (uint64_t)group << 62;
}

uint32_t assoc_plru_victim(const struct assoc *a, uint32_t set)
{
    const uint64_t *k = a->slot + (uint64_t)set * 2 * a->ways;
    uint32_t n = tree_ways(a), group = 0, node = 0, way = 0;
    for (uint32_t i = 0; i < a->ways; i++)
        if (!k[i])
            return i;
    if (n != a->ways)
        group = ((uint32_t)(a->tree[set] >> 62) + 1) % 3;
    for (uint32_t half = n / 2; half; half /= 2) {
        bool right = a->tree[set] >> (group * (n - 1) + node) & 1;
        way += right ? half : 0;
        node = 2 * node + 1 + right;
    }
    return group * n + way;
}
