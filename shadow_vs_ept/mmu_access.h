/* mmu_access.h: the hot path of the model: one guest access.
 *
 * An access to the unit (page or cache line, mru_shift) of the one before it changes no TLB, cache
 * or LRU state under LRU and tree-PLRU alike, so it is only counted. mru[] holds that unit for
 * loads and, when the entry is writable and dirty, for stores; any invalidation sets both to
 * MRU_NONE.
 */
#ifndef NB_PAGING_MMU_ACCESS_H
#define NB_PAGING_MMU_ACCESS_H

#include "base/addr.h"
#include "base/base.h"

#define MRU_NONE (~0ull)
#define CACHED_MRU_SHIFT 6

struct mmu;

/* First members of struct mmu (mmu.h). */
struct mmu_hot {
    uint64_t mru[2];     /* [0] loads, [1] stores */
    uint64_t count[2];   /* loads, stores */
    unsigned char *page; /* host memory of the 4 KiB page of the last access */
    void (*slow)(struct mmu *, gva_t, unsigned store);
    unsigned mru_shift; /* PAGE_SHIFT, or CACHED_MRU_SHIFT when data caches are modelled */
};

static inline void mmu_touch(struct mmu *m, gva_t va, unsigned store)
{
    struct mmu_hot *h = (struct mmu_hot *)m;
    h->count[store]++;
    if (unlikely(va >> h->mru_shift != h->mru[store]))
        h->slow(m, va, store);
}
static inline void mmu_load(struct mmu *m, gva_t va) { mmu_touch(m, va, 0); }
static inline void mmu_store(struct mmu *m, gva_t va) { mmu_touch(m, va, 1); }

/* Host address of the bytes just accessed; valid until the next call into the model. */
static inline uint64_t *mmu_data(struct mmu *m, gva_t va)
{
    return (uint64_t *)(void *)(((struct mmu_hot *)m)->page + (va & PAGE_MASK & ~7ull));
}

#endif
