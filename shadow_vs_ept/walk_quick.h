/* walk_quick.h: the walk when nothing is out of the ordinary, as fast as tables can be read.
 *
 * Most walks of a CPU without walk caches and data caches find four levels of present entries with
 * all rights, A and D set, down to a 4 KiB page. These functions walk that case only, with all in
 * registers, write nothing but counters, and return the TLB entry; whatever else they meet they
 * leave, by returning 0, to the walks of walk.h, which begin anew. So they may refuse too often,
 * never too rarely, and no counter tells that they are there: the tests run the same programs with
 * and without them.
 *
 * One test at the end decides. Until then an entry may be followed that is not there: what lies
 * beyond `limit` is not read, and a missing nested entry, which is 0, leads to host page 0, which is
 * reserved and reads as zero.
 *
 * The nested dimension has a short cut of the program's, not of the model's: hint[] remembers where
 * the table of the 4 KiB entries of 2 MiB of guest-physical addresses is, found by a walk in which
 * the entries above had A and W set. The reads it saves are counted as made. It may be trusted as
 * npsc[] may: entries above a present nested table change only with mmu_flush_all(), which empties
 * it. Entries of the last level are always read.
 */
#ifndef NB_PAGING_WALK_QUICK_H
#define NB_PAGING_WALK_QUICK_H

#include "shadow_vs_ept/mmu_slow.h"
#include "shadow_vs_ept/walk.h"

/* For struct paging, after SLOW_INSTANCES(static, name, ...). */
#define QUICK(name)                                             \
    {                                                           \
        [SHAPE_4_12] = name##_4_12, [SHAPE_4_16] = name##_4_16, \
    }

/* Entry of `address` in the table at `table`; level a constant. */
ALWAYS_INLINE uint64_t quick_entry(const unsigned char *table, uint64_t address, unsigned level)
{
    return *(const uint64_t *)(const void *)(table +
                                             (address >> (level_shift(level) - 3) & (511 * 8)));
}

/* What a quick walk has seen. */
struct quick {
    uint64_t leaf, all, some, upper; /* last entry; bits common to all; bits of any, of any above */
};

ALWAYS_INLINE void quick_see(struct quick *q, uint64_t entry)
{
    q->upper = q->some;
    q->some |= entry;
    q->all &= entry;
    q->leaf = entry;
}
#define QUICK_NONE   \
    {                \
        .all = ~0ull \
    }

/* The TLB entry of a user's data access to the page at hpa; 0: not the usual case. The D bit counts
 * in the leaf alone. */
ALWAYS_INLINE uint64_t quick_done(const struct mmu *m, const struct quick *q, hpa_t hpa,
                                  unsigned store)
{
    const uint64_t need = PTE_P | PTE_U | PTE_A | (store ? PTE_W : 0);
    const uint64_t flags = q->leaf & m->leaf_flags;
    uint64_t odd = (q->some & (m->present ^ PTE_P)) | (q->upper & PTE_PS) | (flags & TLB_G);
    odd |= (q->all & need) ^ need;
    if (unlikely(odd || (store && !(q->leaf & PTE_D))))
        return 0;
    return hpa | (q->all & (TLB_W | TLB_U)) | flags | (~q->some >> 63 & TLB_X);
}

ALWAYS_INLINE void quick_book(struct mmu *m, unsigned refs, unsigned refs_nested)
{
    m->c.walks++;
    m->c.walk_refs += refs;
    m->c.walk_refs_nested += refs_nested;
    m->c.walk_reads += refs;
}

/* walk1d() of four levels. */
ALWAYS_INLINE uint64_t quick1d(struct mmu *m, gva_t va, unsigned store, hpa_t base, uint64_t limit)
{
    const unsigned char *tables = m->pool + base;
    struct quick q = QUICK_NONE;
    uint64_t at = m->root;
#pragma GCC unroll 4
    for (unsigned level = 4; level; level--) {
        if (unlikely(at >= limit))
            return 0;
        quick_see(&q, quick_entry(tables + at, va, level));
        at = q.leaf & PTE_ADDR;
    }
    if (unlikely(q.leaf & (TLB_PART_2M | TLB_PART_1G))) /* in a shadow table */
        return 0;
    uint64_t val = likely(at < limit) ? quick_done(m, &q, base + at, store) : 0;
    if (likely(val))
        quick_book(m, 4, 0);
    return val;
}

/* The table of 4 KiB entries for gpa, by reading the three levels above it, and in hint[] from now
 * on; host page 0 when one is not as usual. */
const unsigned char *quick_nested_table(struct mmu *, gpa_t);

/* The nested leaf entry of gpa. */
ALWAYS_INLINE uint64_t quick_nested(struct mmu *m, gpa_t gpa)
{
    uint64_t region = gpa >> SHIFT_2M;
    const struct mmu_hint *h = &m->hint[region % MMU_HINTS];
    const unsigned char *table =
        likely(h->region == region) ? h->table : quick_nested_table(m, gpa);
    return quick_entry(table, gpa, 1);
}

/* walk2d() of four and four levels. */
ALWAYS_INLINE uint64_t quick2d(struct mmu *m, gva_t va, unsigned store)
{
    struct quick q = QUICK_NONE;
    uint64_t nested = PTE_P | PTE_A | PTE_D, n;
    gpa_t at = m->guest_root;
#pragma GCC unroll 4
    for (unsigned level = 4; level; level--) {
        n = quick_nested(m, at);
        nested &= n;
        quick_see(&q, quick_entry(m->pool + (n & PTE_ADDR), va, level));
        at = q.leaf & PTE_ADDR;
    }
    n = quick_nested(m, at);
    if (unlikely(nested != (PTE_P | PTE_A | PTE_D) || (n & (PTE_P | PTE_A)) != (PTE_P | PTE_A)))
        return 0;
    q.all &= n | ~PTE_W;
    q.leaf &= n | ~PTE_D;
    uint64_t val = quick_done(m, &q, n & PTE_ADDR, store);
    if (likely(val))
        quick_book(m, 24, 20);
    return val;
}

#endif
