/* gmem.c: the states of guest pages. The state diagram and invariants are in gmem.h. */
#include "memmgr/gmem.h"

#include <assert.h>
#include <string.h>

#include "base/base.h"

#define RELEASED (1ull << 9)

static unsigned mode_order(enum page_mode mode)
{
    return mode == PAGES_4K ? ORDER_4K : mode == PAGES_1G ? ORDER_1G : ORDER_2M;
}

struct gmem *gmem_new(struct host *h, uint64_t bytes, enum page_mode mode,
                      const struct gmem_ops *ops, void *ctx)
{
    struct gmem *g = meta_calloc(META_GMEM, 1, sizeof *g);
    *g = (struct gmem){
        .host = h, .frames = bytes >> PAGE_SHIFT, .mode = mode, .ops = ops, .ctx = ctx};
    g->page = meta_calloc(META_GMEM, g->frames, sizeof *g->page);
    return g;
}

void gmem_free(struct gmem *g)
{
    for (uint64_t i = 0; i < g->frames;) {
        unsigned order = gmem_order(g, gfn(i));
        if (gmem_state(g, gfn(i)) == PG_RESIDENT)
            host_release(g->host, gmem_hfn(g, gfn(i)), order);
        i += 1ull << order;
    }
    meta_free(META_GMEM, g->page);
    meta_free(META_GMEM, g);
}

static void set_resident(struct gmem *g, uint64_t first, hfn_t h, unsigned order)
{
    for (uint64_t i = 0; i < 1ull << order; i++) {
        uint64_t *page = &g->page[first + i];
        g->ballooned -= (*page & 15) == PG_BALLOONED;
        g->refaults += *page & RELEASED ? 1 : 0;
        *page = (h.n + i) << PAGE_SHIFT | order << 4 | PG_RESIDENT;
    }
    g->resident += 1ull << order;
    g->allocs[order == ORDER_4K ? 0 : order == ORDER_2M ? 1 : 2]++;
}

static bool all_untouched(const struct gmem *g, uint64_t first, unsigned order)
{
    if (first + (1ull << order) > g->frames)
        return false;
    for (uint64_t i = first; i < first + (1ull << order); i++)
        if (g->page[i] & 15)
            return false;
    return true;
}

enum gmem_result gmem_fault(struct gmem *g, gfn_t n)
{
    if (!gmem_inside(g, n))
        return GMEM_OUTSIDE;
    if (gmem_state(g, n) == PG_RESIDENT)
        return GMEM_OK;
    unsigned order = mode_order(g->mode);
    uint64_t first = n.n & ~((1ull << order) - 1);
    hfn_t h;
    if (order && !all_untouched(g, first, order))
        order = 0;
    if (order && g->mode == PAGES_THP && !host_alloc(g->host, order, FRAME_GUEST, &h))
        order = 0;
    else if (order && g->mode == PAGES_THP) {
        set_resident(g, first, h, order);
        return GMEM_OK;
    }
    if (!host_alloc(g->host, order, FRAME_GUEST, &h))
        return GMEM_NO_FRAMES;
    set_resident(g, order ? first : n.n, h, order);
    return GMEM_OK;
}

/* Consecutive frames from a multiple of 2^align for the whole guest, in blocks of 2^order. */
static bool back_all(struct gmem *g, unsigned align, uint64_t order)
{
    uint64_t blocks = ALIGN_DOWN(g->frames, 1ull << order);
    hfn_t h;
    assert(g->resident == 0);
    if (!host_alloc_span(g->host, g->frames, align, FRAME_GUEST, &h))
        return false;
    for (uint64_t i = 0; i < g->frames; i++)
        g->page[i] = (h.n + i) << PAGE_SHIFT | (i < blocks ? order << 4 : 0) | PG_RESIDENT;
    g->resident = g->frames;
    return true;
}

enum gmem_result gmem_back_all(struct gmem *g)
{
    g->fixed = back_all(g, g->frames >= 1ull << ORDER_2M ? ORDER_2M : 0, 0);
    return g->fixed ? GMEM_OK : GMEM_NO_FRAMES;
}

enum gmem_result gmem_reserve(struct gmem *g)
{
    unsigned order = mode_order(g->mode);
    return back_all(g, order, order) ? GMEM_OK : GMEM_NO_FRAMES;
}

static bool consecutive(const struct gmem *g, uint64_t first, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if ((g->page[first + i] & 15) != PG_RESIDENT ||
            g->page[first + i] >> PAGE_SHIFT != (g->page[first] >> PAGE_SHIFT) + i)
            return false;
    return true;
}

/* The first n frames of a block large enough. */
static bool alloc_run(struct host *h, uint64_t n, hfn_t *out)
{
    unsigned order = 0;
    while (1ull << order < n)
        order++;
    if (!host_alloc(h, order, FRAME_GUEST, out))
        return false;
    for (uint64_t at = n, size; at < 1ull << order; at += size) {
        size = at & -at;
        host_release(h, hfn(out->n + at), (unsigned)__builtin_ctzll(at));
    }
    return true;
}

/* Give the block at i, if there is one, back; its contents go to the same place behind `to`. */
static void move_block(struct gmem *g, uint64_t i, hfn_t to)
{
    unsigned order = gmem_order(g, gfn(i));
    if (gmem_state(g, gfn(i)) != PG_RESIDENT)
        return;
    g->ops->zap(g->ctx, gfn(i), 1ull << order);
    memcpy(host_ptr(g->host, hfn_hpa(to)), host_ptr(g->host, hfn_hpa(gmem_hfn(g, gfn(i)))),
           PAGE_SIZE << order);
    host_release(g->host, gmem_hfn(g, gfn(i)), order);
    g->resident -= 1ull << order;
}

bool gmem_place(struct gmem *g, gfn_t first, uint64_t n)
{
    unsigned order = mode_order(g->mode);
    uint64_t size = 1ull << order, lo = first.n & ~(size - 1),
             hi = (first.n + n + size - 1) & -size;
    hfn_t h;
    assert(first.n + n <= g->frames && n && !g->fixed);
    if (hi - lo == size && order && gmem_fault(g, first) != GMEM_OK)
        return false;
    if (consecutive(g, first.n, n))
        return true;
    if (order == ORDER_1G || hi > g->frames || !alloc_run(g->host, hi - lo, &h))
        return false;
    for (uint64_t i = lo, step; i < hi; i += step) {
        step = 1ull << gmem_order(g, gfn(i));
        move_block(g, i, hfn(h.n + (i - lo)));
    }
    for (uint64_t i = lo; i < hi; i += size)
        set_resident(g, i, hfn(h.n + (i - lo)), order);
    return true;
}

/* Break the block that holds n into 4 KiB pages. The caller has zapped it. */
static void split(struct gmem *g, uint64_t n)
{
    unsigned order = gmem_order(g, gfn(n));
    uint64_t first = n & ~((1ull << order) - 1);
    for (uint64_t i = first; i < first + (1ull << order); i++)
        g->page[i] &= ~(31ull << 4);
    g->splits++;
}

static bool resident(const struct gmem *g, uint64_t n)
{
    return gmem_state(g, gfn(n)) == PG_RESIDENT;
}

static void discard(struct gmem *g, gfn_t first, uint64_t n, uint64_t becomes)
{
    assert(first.n <= g->frames && n <= g->frames - first.n && !g->fixed);
    uint64_t end = first.n + n;
    for (uint64_t i = first.n; i < end; i++) {
        if (!resident(g, i))
            continue;
        uint64_t size = 1ull << gmem_order(g, gfn(i)), head = i & ~(size - 1);
        g->ops->zap(g->ctx, gfn(head), size);
        if (size > 1 && (head < first.n || head + size > end)) {
            split(g, i);
            size = 1;
        }
        host_release(g->host, gmem_hfn(g, gfn(i)), gmem_order(g, gfn(i)));
        for (uint64_t k = i; k < i + size; k++)
            g->page[k] = becomes;
        g->resident -= size;
        i += size - 1;
    }
}

void gmem_discard(struct gmem *g, gfn_t first, uint64_t n) { discard(g, first, n, PG_UNTOUCHED); }

void gmem_release(struct gmem *g, gfn_t first, uint64_t n)
{
    discard(g, first, n, PG_UNTOUCHED | RELEASED);
}

void gmem_balloon(struct gmem *g, gfn_t first, uint64_t n)
{
    gmem_release(g, first, n);
    for (uint64_t i = first.n; i < first.n + n; i++) {
        g->ballooned += (g->page[i] & 15) == PG_UNTOUCHED;
        g->page[i] = (g->page[i] & RELEASED) | PG_BALLOONED;
    }
}

void gmem_deflate(struct gmem *g, gfn_t first, uint64_t n)
{
    assert(first.n <= g->frames && n <= g->frames - first.n);
    for (uint64_t i = first.n; i < first.n + n; i++)
        if ((g->page[i] & 15) == PG_BALLOONED) {
            g->page[i] = (g->page[i] & RELEASED) | PG_UNTOUCHED;
            g->ballooned--;
        }
}

/* Invariant (3) for the block that starts at i. */
static const char *check_block(const struct gmem *g, uint64_t i, unsigned order)
{
    hfn_t h = gmem_hfn(g, gfn(i));
    if (order != ORDER_4K && order != ORDER_2M && order != ORDER_1G)
        return "(3) a block has an order no leaf entry maps";
    if ((i | h.n) & ((1ull << order) - 1) || i + (1ull << order) > g->frames)
        return "(3) a block is not aligned";
    for (uint64_t k = 0; k < 1ull << order; k++)
        if (g->page[i + k] != ((h.n + k) << PAGE_SHIFT | order << 4 | PG_RESIDENT))
            return "(3) the frames of a block do not agree";
    return NULL;
}

const char *gmem_check(const struct gmem *g)
{
    uint64_t count = 0, ballooned = 0, words = host_total(g->host) / 64 + 1;
    uint64_t *seen = meta_calloc(META_GMEM, words, sizeof *seen);
    const char *why = NULL;
    for (uint64_t i = 0; i < g->frames && !why; i++) {
        uint64_t h = gmem_hfn(g, gfn(i)).n;
        if (!resident(g, i)) {
            uint64_t state = g->page[i] & ~RELEASED;
            ballooned += state == PG_BALLOONED;
            why = state != PG_UNTOUCHED && state != PG_BALLOONED ? "(1) a page is in no known state"
                                                                 : NULL;
            continue;
        }
        if (!h || h >= host_total(g->host))
            why = "(1) a resident page has no host frame";
        else if (seen[h / 64] >> (h % 64) & 1)
            why = "(2) a host frame holds two guest frames";
        else {
            unsigned order = gmem_order(g, gfn(i));
            seen[h / 64] |= 1ull << (h % 64);
            count++;
            if (!(i & ((1ull << order) - 1)))
                why = check_block(g, i, order);
        }
    }
    meta_free(META_GMEM, seen);
    if (!why && (count != g->resident || ballooned != g->ballooned))
        why = "(4) the count of resident or ballooned pages is wrong";
    return why;
}
