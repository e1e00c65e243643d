/* gmem.h: one guest's physical memory: which host frame holds each guest frame, and in what state.
 *
 *   untouched --gmem_fault--> resident(hfn) --gmem_discard--> untouched
 *   any --gmem_balloon--> ballooned --gmem_deflate--> untouched
 *   ballooned --gmem_fault--> resident: the guest uses what it has given away
 *
 * Only the functions below move a page between states. Later mechanisms add shared and swapped
 * pages beside these (policies choose which page and when; gmem moves it).
 *
 * A page that was resident when it was released, into the balloon or by gmem_release, is marked until it is
 * resident again: that fault is a refault, what reclaiming it cost.
 *
 * A resident page belongs to a block of 2^order frames, naturally aligned on both sides, that one
 * host leaf entry can map (order 0, 9 or 18). gmem tells the layer above through ops->zap before a
 * translation it handed out stops being true.
 *
 * Invariants (gmem_check verifies all):
 *  (1) every guest frame is in exactly one state; resident ones hold a FRAME_GUEST host frame.
 *  (2) no host frame holds two guest frames.
 *  (3) the frames of a block are consecutive on both sides, aligned to it, and agree on its order.
 *  (4) resident = number of resident guest frames, ballooned = number of ballooned ones.
 */
#ifndef NB_MEMMGR_GMEM_H
#define NB_MEMMGR_GMEM_H

#include "memmgr/host.h"

enum page_state { PG_UNTOUCHED, PG_RESIDENT, PG_BALLOONED };

enum gmem_result {
    GMEM_OK,
    GMEM_NO_FRAMES, /* the host has no frame (of the size asked for): this VM cannot go on */
    GMEM_OUTSIDE,   /* no such guest frame: the guest's mistake */
};

struct gmem_ops {
    /* Translations of [first, first + n) are about to change: forget them. */
    void (*zap)(void *ctx, gfn_t first, uint64_t n);
};

struct gmem {
    struct host *host;
    uint64_t frames;     /* size of the guest's memory */
    enum page_mode mode; /* size of host pages */
    const struct gmem_ops *ops;
    void *ctx;
    uint64_t *page;     /* per gfn: hfn << 12 | released << 9 | order << 4 | state */
    uint64_t resident;  /* guest frames in PG_RESIDENT */
    uint64_t ballooned; /* guest frames in PG_BALLOONED */
    uint64_t refaults;  /* pages made resident again after they were released */
    uint64_t allocs[3]; /* host pages allocated: 4K, 2M, 1G */
    uint64_t splits;    /* large blocks broken up */
    bool fixed;         /* gmem_back_all: pages never move again */
};

/* Guest memory of `bytes`, a multiple of 4 KiB. A last part smaller than a host page has 4 KiB
 * pages. */
struct gmem *gmem_new(struct host *, uint64_t bytes, enum page_mode, const struct gmem_ops *,
                      void *ctx);
void gmem_free(struct gmem *); /* gives all frames back */

static inline bool gmem_inside(const struct gmem *g, gfn_t n) { return n.n < g->frames; }
static inline enum page_state gmem_state(const struct gmem *g, gfn_t n)
{
    return (enum page_state)(g->page[n.n] & 15);
}
static inline unsigned gmem_order(const struct gmem *g, gfn_t n)
{
    return (g->page[n.n] >> 4) & 31;
}
/* Valid when resident. */
static inline hfn_t gmem_hfn(const struct gmem *g, gfn_t n)
{
    return hfn(g->page[n.n] >> PAGE_SHIFT);
}
static inline void *gmem_ptr(const struct gmem *g, gpa_t a)
{
    return host_ptr(g->host, hfn_hpa(gmem_hfn(g, gpa_gfn(a))) | (a & PAGE_MASK));
}

/* Make a guest frame resident, with the block its page mode asks for; no-op when it is. Under THP,
 * and where part of a large block is in use, falls back to 4 KiB; 2M and 1G modes do not
 * fall back for lack of memory. */
enum gmem_result gmem_fault(struct gmem *, gfn_t);
/* Back the whole guest with consecutive frames, for good: a machine without a VMM. */
enum gmem_result gmem_back_all(struct gmem *);
/* Make [first, first + n) resident in consecutive host frames; contents survive, blocks stay whole and
 * of the mode's size. False, and nothing has changed but what is resident: no such run of frames,
 * or none that large blocks allow. */
bool gmem_place(struct gmem *, gfn_t first, uint64_t n);
/* Back the whole guest with consecutive frames before it runs, in blocks of its page mode (a last part
 * smaller than a block: 4 KiB), which may be taken from it later: a VM whose memory is reserved in one
 * piece. Not counted in allocs[]. */
enum gmem_result gmem_reserve(struct gmem *);
/* Forget the contents of [first, first + n): zapped, split where a large block is cut, freed.
 * Not for a guest that gmem_back_all backed. */
void gmem_discard(struct gmem *, gfn_t first, uint64_t n);
/* The same of what the guest has said it does not need: those that were resident are marked. */
void gmem_release(struct gmem *, gfn_t first, uint64_t n);
/* Released, and in the balloon until deflated; no-op for pages that are there. A ballooned page that has become
 * resident (the guest used it) is only no longer the balloon's. */
void gmem_balloon(struct gmem *, gfn_t first, uint64_t n);
void gmem_deflate(struct gmem *, gfn_t first, uint64_t n);

const char *gmem_check(const struct gmem *);

#endif
