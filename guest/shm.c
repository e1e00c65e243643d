/* shm.c: the pages of a GK_SHARED mapping once more than one process has it.
 *
 * A page first touched after fork must appear in every process that shares the mapping, also when
 * the one that touched it has ended: so the pages need a home outside page tables. It is made at
 * the first fork, because until then the only process's tables say it all. GK_GLOBAL mappings need
 * none: their entries are equal in every process at all times (mm.c).
 *
 * A radix tree of 64-way nodes in kernel memory, from page index to frame and order; a large page
 * is one entry at its first index. Like a file in memory, it keeps a page that was touched until
 * the last VMA of the mapping is gone, also when that part is no longer mapped anywhere.
 *
 * Invariant S1: an entry holds one reference on its block, and no two entries overlap.
 */
#include "guest/internal.h"

#define FAN_BITS 6
#define ENTRY(frame, order) ((uint64_t)(frame) << 8 | (uint64_t)(order) << 1 | 1)
#define ENTRY_FRAME(e) ((uint32_t)((e) >> 8))
#define ENTRY_ORDER(e) ((unsigned)((e) >> 1) & 127)

static uint64_t index_of(const struct shm *s, gva_t va) { return (va - s->base) >> PAGE_SHIFT; }

static unsigned digit(uint64_t i, unsigned height) { return (i >> (FAN_BITS * height)) & 63; }

struct shm *shm_new(struct gk *g, gva_t start, gva_t end, int born)
{
    struct shm *s = slab_get(g, &g->shms);
    if (!s)
        return NULL;
    s->base = start & ~((1ull << SHIFT_1G) - 1);
    s->born = born;
    s->refs = 1;
    for (s->depth = 1; (index_of(s, end - 1) >> (FAN_BITS * s->depth)) != 0; s->depth++)
        ;
    s->root = slab_get(g, &g->nodes);
    if (s->root)
        return s;
    slab_put(&g->shms, s);
    return NULL;
}

/* Give up the blocks below a node and, but for the root, the node. */
static void drop_node(struct gk *g, struct shm_node *n, unsigned height)
{
    for (unsigned i = 0; i < 64; i++) {
        if (height && n->kid[i])
            drop_node(g, n->kid[i], height - 1);
        else if (!height && n->page[i])
            batch_unref(g, ENTRY_FRAME(n->page[i]));
    }
    slab_put(&g->nodes, n);
}

void shm_put(struct gk *g, struct shm *s)
{
    if (--s->refs)
        return;
    drop_node(g, s->root, s->depth - 1);
    slab_put(&g->shms, s);
}

static uint64_t lookup(const struct shm *s, uint64_t i)
{
    const struct shm_node *n = s->root;
    for (unsigned h = s->depth - 1; h; h--) {
        n = n->kid[digit(i, h)];
        if (!n)
            return 0;
    }
    return n->page[digit(i, 0)];
}

struct shm_page shm_find(const struct shm *s, gva_t va)
{
    uint64_t i = index_of(s, va);
    for (unsigned order = 0; order <= ORDER_1G; order += 9) {
        uint64_t e = lookup(s, i >> order << order);
        if (e && ENTRY_ORDER(e) >= order)
            return (struct shm_page){ENTRY_FRAME(e), ENTRY_ORDER(e), true};
    }
    return (struct shm_page){0};
}

/* Some index in [from, to) has an entry below this node, whose first index is `base`. */
static bool any(const struct shm_node *n, unsigned height, uint64_t base, uint64_t from,
                uint64_t to)
{
    uint64_t step = 1ull << (FAN_BITS * height);
    for (unsigned i = 0; i < 64; i++, base += step) {
        if (base + step <= from || base >= to)
            continue;
        if (height ? n->kid[i] && any(n->kid[i], height - 1, base, from, to) : n->page[i] != 0)
            return true;
    }
    return false;
}

bool shm_vacant(const struct shm *s, gva_t va, unsigned order)
{
    uint64_t from = index_of(s, va) >> order << order;
    return !any(s->root, s->depth - 1, 0, from, from + (1ull << order));
}

bool shm_set(struct gk *g, struct shm *s, gva_t va, uint32_t frame, unsigned order)
{
    uint64_t i = index_of(s, va);
    struct shm_node *n = s->root;
    for (unsigned h = s->depth - 1; h; h--) {
        struct shm_node **kid = &n->kid[digit(i, h)];
        if (!*kid && !(*kid = slab_get(g, &g->nodes)))
            return false;
        n = *kid;
    }
    n->page[digit(i, 0)] = ENTRY(frame, order);
    frame_of(g, frame)->ref++;
    return true;
}

static void count_node(struct gk *g, const struct shm_node *n, unsigned height)
{
    for (unsigned i = 0; i < 64; i++) {
        if (height && n->kid[i])
            count_node(g, n->kid[i], height - 1);
        else if (!height && n->page[i])
            frame_of(g, ENTRY_FRAME(n->page[i]))->seen++;
    }
}

void shm_count(struct gk *g, struct shm *s) { count_node(g, s->root, s->depth - 1); }
