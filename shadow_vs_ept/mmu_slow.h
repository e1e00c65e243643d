/* mmu_slow.h: one access by the program that is not to the unit of the last one (mmu_access.h).
 *
 * Always-inline over constants: the shape of the TLBs, the unit, and the strategy's quick walk
 * (walk_quick.h), so that an access that misses everywhere is one straight piece of code. It knows
 * 4 KiB pages, no global ones, canonical addresses below 2^47 and simple arrays (assoc.h);
 * everything else is mmu_access_any(), which knows all.
 */
#ifndef NB_PAGING_MMU_SLOW_H
#define NB_PAGING_MMU_SLOW_H

#include "shadow_vs_ept/mmu.h"

#define SLOW_INLINE static inline __attribute__((always_inline))

/* A miss in both levels: the value a walk gives, which the caller enters in both. One that is not of
 * the kind this file knows is there already; that and its size stand in bits no TLB entry has. */
uint64_t mmu_fetch(struct mmu *, gva_t, unsigned store);
#define FETCH_DONE (1ull << 9)
#define FETCH_SIZE 10 /* two bits */

/* The program's access, by all means. `looked_up`: the lookups have been made and counted, and found
 * val, or 0 = nothing, or mmu_fetch() gave it. */
hpa_t mmu_access_any(struct mmu *, gva_t, unsigned store, uint64_t val, bool looked_up);

SLOW_INLINE bool slow_allows(uint64_t val, unsigned store)
{
    const uint64_t need = store ? TLB_STORE : TLB_U;
    return (val & need) == need;
}

/* The access has entry `val` of `size`: remember it as the most recent. `user`: the entry is known to
 * allow the program's loads. Its host-physical address. */
SLOW_INLINE hpa_t slow_remember(struct mmu *m, gva_t va, unsigned size, uint64_t val,
                                unsigned mru_shift, const bool user)
{
    uint64_t unit = va >> mru_shift;
    hpa_t hpa = (val & PTE_ADDR) + (va & ((1ull << tlb_shift(size)) - 1));
    m->hot.mru[0] = user || (val & TLB_U) ? unit : MRU_NONE;
    m->hot.mru[1] = (val & TLB_STORE) == TLB_STORE ? unit : MRU_NONE;
    m->hot.page = m->pool + (hpa & ~PAGE_MASK);
    return hpa;
}

SLOW_INLINE uint64_t slow_key(const struct mmu *m, gva_t va)
{
    return va >> PAGE_SHIFT << 16 | (uint64_t)m->tag << 3 | 1;
}

/* The entry for va, which is not in the first level, found or brought in; 0: it is not in the second
 * either, and `quick` did not do. `quick` NULL: mmu_fetch(). */
SLOW_INLINE uint64_t slow_find(struct mmu *m, gva_t va, unsigned store, const uint32_t w1,
                               const uint32_t w2, const quick_fn quick)
{
    struct assoc *l1 = m->l1[0], *l2 = m->l2[0];
    const uint64_t key = slow_key(m, va);
    const struct assoc_ref s1 = assoc_at(l1, va >> PAGE_SHIFT, w1),
                           s2 = assoc_at(l2, va >> PAGE_SHIFT, w2);
    uint64_t val, *v = assoc_get_in(l2, s2, key, w2);
    m->c.tlb_l1_misses++;
    if (v) {
        val = *v;
        assoc_put_in(l1, s1, key, val, w1);
        return val;
    }
    m->c.tlb_l2_misses++;
    val = quick ? quick(m, va, store) : mmu_fetch(m, va, store);
    if (likely(val && !(val & FETCH_DONE))) {
        assoc_put_in(l1, s1, key, val, w1);
        assoc_put_in(l2, s2, key, val, w2);
    }
    return val;
}

/* What slow_access() does on a miss in the first level, a function of its own: the hit saves no
 * registers. */
SLOW_INLINE hpa_t slow_miss(struct mmu *m, gva_t va, unsigned store, const uint32_t w1,
                            const uint32_t w2, const unsigned mru_shift, const quick_fn quick)
{
    uint64_t val = slow_find(m, va, store, w1, w2, quick);
    if (unlikely((val & FETCH_DONE) || !slow_allows(val, store))) /* 0 allows nothing */
        return mmu_access_any(m, va, store, val, true);
    return slow_remember(m, va, 0, val, mru_shift, true);
}

typedef hpa_t (*slow_miss_fn)(struct mmu *, gva_t, unsigned store);

SLOW_INLINE hpa_t slow_access(struct mmu *m, gva_t va, unsigned store, const uint32_t w1,
                              const unsigned mru_shift, const slow_miss_fn miss)
{
    if (unlikely(va >> 47 || m->only_size != 0))
        return mmu_access_any(m, va, store, 0, false);
    struct assoc *l1 = m->l1[0];
    const uint64_t *v = assoc_get_in(l1, assoc_at(l1, va >> PAGE_SHIFT, w1), slow_key(m, va), w1);
    if (!v)
        return miss(m, va, store);
    if (unlikely(!slow_allows(*v, store)))
        return mmu_access_any(m, va, store, *v, true);
    return slow_remember(m, va, 0, *v, mru_shift, true);
}

/* One instance: its function for misses, and name##_access(). */
#define SLOW_INSTANCE(name, w1, w2, mru_shift, quick)                                           \
    static __attribute__((noinline)) hpa_t name##_miss(struct mmu *m, gva_t va, unsigned store) \
    {                                                                                           \
        return slow_miss(m, va, store, w1, w2, mru_shift, quick);                               \
    }                                                                                           \
    SLOW_INLINE hpa_t name##_access(struct mmu *m, gva_t va, unsigned store)                    \
    {                                                                                           \
        return slow_access(m, va, store, w1, mru_shift, name##_miss);                           \
    }

/* The instances of the slow path without data caches, by shape of the 4 KiB TLBs: ways of the first
 * and second level. `storage`: static, or nothing. */
#define SLOW_INSTANCES(storage, name, quick)                          \
    SLOW_INSTANCE(name##_4_12, 4, 12, PAGE_SHIFT, quick)              \
    SLOW_INSTANCE(name##_4_16, 4, 16, PAGE_SHIFT, quick)              \
    storage void name##_4_12(struct mmu *m, gva_t va, unsigned store) \
    {                                                                 \
        name##_4_12_access(m, va, store);                             \
    }                                                                 \
    storage void name##_4_16(struct mmu *m, gva_t va, unsigned store) \
    {                                                                 \
        name##_4_16_access(m, va, store);                             \
    }

#endif
