/* assoc.c: set-associative arrays: shape, removal, the ring of wide sets, tree-PLRU, checks. The
 * layout and its invariants are described in assoc.h.
 */
#include "shadow_vs_ept/assoc.h"

#include <assert.h>
#include <string.h>

static uint32_t padded(uint32_t ways) { return (ways + 3) & ~3u; }
static size_t sets(const struct assoc *a) { return (size_t)a->set_mask + 1; }

void assoc_init(struct assoc *a, const struct geometry *g)
{
    *a = (struct assoc){0};
    if (!g->entries)
        return;
    uint32_t n = g->entries / g->ways;
    assert(g->entries % g->ways == 0 && !(n & (n - 1)));
    a->ways = g->ways;
    a->set_mask = n - 1;
    a->set_bits = (uint8_t)__builtin_ctz(n);
    a->xor_index = g->index == INDEX_XOR && n > 1;
    a->plru = g->policy == POLICY_PLRU && g->ways > 1;
    a->simple = !a->plru && !a->xor_index && g->ways <= ORDER_WAYS ? (uint8_t)g->ways : 0;
    a->head_bytes = assoc_head_bytes(g->ways);
    a->head = meta_calloc_aligned(META_MMU, (size_t)n * a->head_bytes, 64);
    a->entry = meta_calloc_aligned(META_MMU, (size_t)g->entries * sizeof *a->entry, 64);
    if (!a->plru && g->ways > ORDER_WAYS)
        a->link = meta_calloc(META_MMU, g->entries, sizeof *a->link);
    for (uint32_t i = 0; a->link && i < g->entries; i++) {
        uint32_t way = i % g->ways;
        a->link[i] = (struct assoc_link){(uint16_t)((way + 1) % g->ways),
                                         (uint16_t)((way ? way : g->ways) - 1)};
    }
    assoc_clear(a);
}

void assoc_fini(struct assoc *a)
{
    void *const parts[] = {a->head, a->entry, a->link};
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
        if (parts[i])
            meta_free(META_MMU, parts[i]);
}

/* The entries stay: nothing finds them without their tags. */
void assoc_clear(struct assoc *a)
{
    for (size_t set = 0; a->ways && set < sets(a); set++) {
        struct assoc_head *h = assoc_head(a, (uint32_t)set);
        h->order = a->plru || a->link ? 0 : order_first(a->ways);
        memset(h->tag, 0, 2 * padded(a->ways));
    }
}

uint64_t *assoc_get_any(struct assoc *a, uint64_t idx, uint64_t key)
{
    return assoc_get_in(a, assoc_at(a, idx, 0), key, 0);
}

void assoc_put_any(struct assoc *a, uint64_t idx, uint64_t key, uint64_t val)
{
    assoc_put_in(a, assoc_at(a, idx, 0), key, val, 0);
}

/* ---- removal ---- */

static void ring_unlink(struct assoc_link *l, uint32_t way)
{
    l[l[way].older].newer = l[way].newer;
    l[l[way].newer].older = l[way].older;
}

/* Between the latest and the oldest: as which of the two it counts, `latest` decides. */
static void ring_insert(struct assoc_link *l, uint32_t way, uint32_t latest)
{
    uint16_t oldest = l[latest].newer;
    l[way] = (struct assoc_link){(uint16_t)latest, oldest};
    l[latest].newer = l[oldest].older = (uint16_t)way;
}

void assoc_ring_use(struct assoc_head *h, struct assoc_link *l, uint32_t way)
{
    uint32_t latest = (uint32_t)h->order;
    if (way == latest)
        return;
    if (l[latest].newer != way) { /* else turning the ring is enough */
        ring_unlink(l, way);
        ring_insert(l, way, latest);
    }
    h->order = way;
}

static void ring_make_oldest(struct assoc_head *h, struct assoc_link *l, uint32_t way)
{
    if (way == h->order)
        h->order = l[way].older;
    else {
        ring_unlink(l, way);
        ring_insert(l, way, (uint32_t)h->order);
    }
}

/* Take a way out of a set; in LRU sets it becomes the oldest. */
static void take_out(struct assoc *a, uint32_t set, uint32_t way)
{
    struct assoc_head *h = assoc_head(a, set);
    h->tag[way] = 0;
    a->entry[(size_t)set * a->ways + way] = (struct assoc_entry){0, 0};
    if (a->link)
        ring_make_oldest(h, a->link + (size_t)set * a->ways, way);
    else if (!a->plru)
        h->order = order_drop(h->order, way, a->ways);
}

void assoc_drop(struct assoc *a, bool (*drop)(uint64_t key, uint64_t val, uint64_t ctx),
                uint64_t ctx)
{
    for (size_t set = 0; a->ways && set < sets(a); set++) {
        const struct assoc_head *h = assoc_head(a, (uint32_t)set);
        const struct assoc_entry *e = a->entry + set * a->ways;
        for (uint32_t i = 0; i < a->ways; i++)
            if (h->tag[i] && drop(e[i].key, e[i].val, ctx))
                take_out(a, (uint32_t)set, i);
    }
}

void assoc_del(struct assoc *a, uint64_t idx, uint64_t key)
{
    struct assoc_ref s = assoc_at(a, idx, 0);
    uint32_t way = assoc_way(s, key);
    if (way < s.ways)
        take_out(a, s.set, way);
}

/* ---- tree-PLRU ---- */

/* Ways per tree: the whole set, or a third of it. */
static uint32_t tree_ways(const struct assoc *a)
{
    return a->ways & (a->ways - 1) ? a->ways / 3 : a->ways;
}

void assoc_plru_use(struct assoc *a, uint32_t set, uint32_t way)
{
    struct assoc_head *h = assoc_head(a, set);
    uint32_t n = tree_ways(a), group = way / n, base = group * (n - 1), node = 0;
    uint64_t t = h->order & ~(3ull << 62);
    for (uint32_t half = n / 2, at = way % n; half; half /= 2) {
        uint64_t bit = 1ull << (base + node);
        bool right = at >= half;
        t = right ? t & ~bit : t | bit; /* 1 = the older half is the right one */
        node = 2 * node + 1 + right;
        at -= right ? half : 0;
    }
    h->order = n == a->ways ? t : t | (uint64_t)group << 62;
}

/* The lowest empty way; ways when there is none. */
static uint32_t empty_way(const struct assoc *a, const struct assoc_head *h)
{
    for (uint32_t base = 0; base < a->ways; base += 16) {
        uint32_t n = a->ways - base < 16 ? a->ways - base : 16;
        uint32_t empty = assoc_match(h->tag + base, n, 0);
        if (empty)
            return base + (uint32_t)__builtin_ctz(empty);
    }
    return a->ways;
}

uint32_t assoc_plru_victim(const struct assoc *a, uint32_t set)
{
    const struct assoc_head *h = assoc_head(a, set);
    uint32_t n = tree_ways(a), group = 0, node = 0, way = empty_way(a, h);
    if (way < a->ways)
        return way;
    way = 0;
    if (n != a->ways)
        group = ((uint32_t)(h->order >> 62) + 1) % 3;
    for (uint32_t half = n / 2; half; half /= 2) {
        bool right = h->order >> (group * (n - 1) + node) & 1;
        way += right ? half : 0;
        node = 2 * node + 1 + right;
    }
    return group * n + way;
}

/* ---- checks ---- */

static const char *check_tags(const struct assoc *a, const struct assoc_head *h,
                              const struct assoc_entry *e)
{
    for (uint32_t i = a->ways; i < padded(a->ways); i++)
        if (h->tag[i])
            return "assoc (1) the padding holds a tag";
    for (uint32_t i = 0; i < a->ways; i++) {
        if (h->tag[i] && h->tag[i] != assoc_hash(e[i].key))
            return "assoc (1) a tag is not its key's";
        for (uint32_t j = 0; j < i && h->tag[i]; j++)
            if (h->tag[j] && e[j].key == e[i].key)
                return "assoc (2) a key is twice in a set";
    }
    return NULL;
}

/* From the latest to the oldest: each way once, no used one after an empty one. */
static const char *check_lru(const struct assoc *a, size_t set, const struct assoc_head *h)
{
    const struct assoc_link *l = a->link ? a->link + set * a->ways : NULL;
    uint32_t way = l ? (uint32_t)h->order : 0;
    bool seen[4096] = {false}, empty = false;
    for (uint32_t i = 0; i < a->ways; i++) {
        way = l ? way : (uint32_t)(h->order >> (4 * i)) & 15;
        if (way >= a->ways || seen[way] || (l && l[l[way].older].newer != way))
            return "assoc (3) the order of use is no permutation of the ways";
        if (empty && h->tag[way])
            return "assoc (3) an empty way is newer than a used one";
        seen[way] = true;
        empty = !h->tag[way];
        way = l ? l[way].older : 0;
    }
    return NULL;
}

const char *assoc_check(const struct assoc *a)
{
    const char *why = NULL;
    for (size_t set = 0; a->ways && set < sets(a) && !why; set++) {
        const struct assoc_head *h = assoc_head(a, (uint32_t)set);
        why = check_tags(a, h, a->entry + set * a->ways);
        if (!why && !a->plru)
            why = check_lru(a, set, h);
    }
    return why;
}
