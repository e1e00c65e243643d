/* walk_entry.h: what every walk does with one entry: read it through what caches table reads, log it,
 * gather its rights, accept or refuse it, set A and D, and enter it in a walk cache. walk.h has the rules.
 */
#ifndef NB_PAGING_WALK_ENTRY_H
#define NB_PAGING_WALK_ENTRY_H

#include "shadow_vs_ept/mmu.h"
#include "shadow_vs_ept/walk_log.h"

/* Without optimisation a function passed as a constant stays a call, which gcc refuses to inline. */
#ifdef __OPTIMIZE__
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE static inline
#endif

/* Permissions gathered above the cached table. */
#define PSC_X (1ull << 61)
#define PSC_W (1ull << 62)
#define PSC_U (1ull << 63)
#define PSC_ADDR 0x000ffffffffff000ull    /* bits 0..5 refs, 6..11 refs_nested so far */
#define PSC_NOTE(n) ((uint64_t)(n) << 52) /* 0..7, for the strategy */
#define PSC_NOTED(hit) ((unsigned)((hit) >> 52 & 7))

/* psc[] and npsc[] slot of a non-leaf entry at `level`. */
#define PSC_SLOT(level) (5 - (level))

ALWAYS_INLINE uint64_t psc_prefix(uint64_t va, unsigned level)
{
    return (va << 7 >> 7) >> level_shift(level);
}
ALWAYS_INLINE uint64_t psc_key(uint64_t va, unsigned level, unsigned tag)
{
    tag = MUTANT(walk_cache_untagged) ? 0 : tag;
    return psc_prefix(va, level) << 16 | (uint64_t)tag << 3 | 1;
}

ALWAYS_INLINE uint64_t pwc_key(const struct mmu *m, hpa_t ea, bool linear)
{
    return ea | 1 | (linear ? (uint64_t)m->tag << 52 : 0);
}

/* Read the entry at ea, through what caches table reads. Entries of a linear table (the guest's, a
 * shadow table) are cached for the PCID in use: nothing is invalidated when a process ends, and the
 * frames of its tables may become another's. Host-physical addresses end below bit 52. */
ALWAYS_INLINE uint64_t walk_read(struct mmu *m, struct walk *w, hpa_t ea, unsigned level,
                                 const bool linear, const enum pwc_kind pwc, const bool cached)
{
    const uint64_t key = pwc_key(m, ea, linear);
    if (pwc == PWC_AMD && level > 1 && m->pwc.ways) {
        uint64_t *v = assoc_get(&m->pwc, ea >> 3, key);
        if (v) {
            m->c.pwc_hits++;
            return *v;
        }
    }
    w->reads++;
    if (cached)
        m->c.v[CTR_pt_l1_hits + cache_access(m, ea)]++;
    uint64_t e = *(const uint64_t *)(m->pool + ea);
    if (pwc == PWC_AMD && level > 1 && m->pwc.ways &&
        (e & (PTE_P | PTE_A | PTE_PS)) == (PTE_P | PTE_A))
        assoc_put(&m->pwc, ea >> 3, key, e);
    return e;
}

ALWAYS_INLINE void walk_note_at(struct walk_log *log, enum walk_dim dim, unsigned level,
                                unsigned guest_level, uint64_t index, gpa_t gpa, hpa_t ea,
                                uint64_t value)
{
    if (log && log->n < WALK_MAX_STEPS)
        log->step[log->n++] = (struct walk_step){dim, level, guest_level, index, gpa, ea, value, 0};
}
ALWAYS_INLINE void walk_note(struct walk_log *log, enum walk_dim dim, unsigned level,
                             unsigned guest_level, gpa_t gpa, hpa_t ea, uint64_t value)
{
    walk_note_at(log, dim, level, guest_level, ea >> 3 & 511, gpa, ea, value);
}

/* What a walk remembers of the way down, by level. */
struct walk_path {
    hpa_t ea[6];        /* entry read at this level; 0 = skipped by a walk cache */
    uint64_t above[6];  /* PSC_W | PSC_U gathered above this level, and refs before reading it */
    unsigned top, leaf; /* levels really read: top .. leaf */
    unsigned cached;    /* bits of levels served by AMD's walk cache, which has accessed entries */
};

/* The fields every walk sets; the rest is valid by status. */
ALWAYS_INLINE void walk_begin(struct walk *w) { *w = (struct walk){.nested_fault = false}; }

ALWAYS_INLINE void walk_fault(const struct mmu *m, struct walk *w, const struct access *a,
                              uint64_t why)
{
    w->status = WALK_GUEST_FAULT;
    w->error = mmu_error(&m->ctl, a, (unsigned)why);
}

/* Rights are gathered over the levels: W and U where all entries have them, and PTE_NX, turned
 * round, where none has it. */
#define RIGHTS_ALL (PTE_W | PTE_U | PTE_NX)
ALWAYS_INLINE uint64_t walk_rights(uint64_t e)
{
    return MUTANT(nx_ignored) ? e | PTE_NX : e ^ PTE_NX;
}
/* The same of an entry at `level`. */
ALWAYS_INLINE uint64_t walk_rights_at(uint64_t e, unsigned level)
{
    uint64_t lent =
        (MUTANT(upper_user_ignored) ? PTE_U : 0) | (MUTANT(upper_write_ignored) ? PTE_W : 0);
    return walk_rights(e) | (level > 1 && !(e & PTE_PS) ? lent : 0);
}
ALWAYS_INLINE uint64_t psc_pack(uint64_t rights)
{
    return (rights & PTE_W ? PSC_W : 0) | (rights & PTE_U ? PSC_U : 0) |
           (rights & PTE_NX ? PSC_X : 0);
}
ALWAYS_INLINE uint64_t psc_unpack(uint64_t hit)
{
    if (MUTANT(walk_cache_rights))
        return RIGHTS_ALL;
    return (hit & PSC_W ? PTE_W : 0) | (hit & PSC_U ? PTE_U : 0) | (hit & PSC_X ? PTE_NX : 0);
}

ALWAYS_INLINE bool walk_permits(const struct mmu *m, uint64_t rights, const struct access *a)
{
    if (likely(!a->fetch && !a->supervisor))
        return (rights & PTE_U) && (!a->store || (rights & PTE_W));
    return mmu_permits(&m->hw, rights, a);
}

/* A present entry without a bit that none may have; what it is otherwise: walk_missing(). */
ALWAYS_INLINE bool walk_present(const struct mmu *m, uint64_t e)
{
    return (e & m->present) == PTE_P;
}
ALWAYS_INLINE unsigned walk_missing(uint64_t e) { return e & PTE_P ? PF_P | PF_RSVD : 0; }

/* The entry that ended a walk has a reserved bit set: PS above level 3, or address bits below its
 * size. */
ALWAYS_INLINE bool walk_rsvd(uint64_t e, unsigned level)
{
    return level > 1 && (level > 3 || ((e & pte_rsvd(level)) && !MUTANT(reserved_unchecked)));
}

/* The entry e at `level` ended the walk with these rights: is the access allowed? */
ALWAYS_INLINE bool walk_accepts(const struct mmu *m, struct walk *w, const struct access *a,
                                uint64_t e, unsigned level, uint64_t rights)
{
    if (likely(!walk_rsvd(e, level) && walk_permits(m, rights, a)))
        return true;
    walk_fault(m, w, a, walk_rsvd(e, level) ? PF_P | PF_RSVD : PF_P);
    return false;
}

/* Read the guest's or the shadow's entry at `level`. */
ALWAYS_INLINE uint64_t walk_step(struct mmu *m, struct walk *w, struct walk_path *p, hpa_t ea,
                                 unsigned level, const enum pwc_kind pwc, const bool cached)
{
    unsigned reads = w->reads;
    uint64_t e = walk_read(m, w, ea, level, true, pwc, cached);
    p->ea[level] = ea;
    if (pwc == PWC_AMD)
        p->cached |= (w->reads == reads) << level;
    return e;
}

/* A #PF: what AMD's walk cache has of the levels from `low` up goes, so that it does not recur unless
 * memory is its cause (SDM vol. 3A, 4.10.4.1); mmu_flush_faulting() does the rest. */
ALWAYS_INLINE void pwc_forget(struct mmu *m, const struct walk_path *p, unsigned low,
                              const enum pwc_kind pwc)
{
    for (unsigned l = low; pwc == PWC_AMD && l <= p->top && !MUTANT(fault_keeps_walk_cache); l++)
        assoc_del(&m->pwc, p->ea[l] >> 3, pwc_key(m, p->ea[l], true));
}

/* The walk completed: set A along the path and D in the leaf, where they are clear. What was cached is
 * set already, and may be something else in memory by now. */
ALWAYS_INLINE void walk_mark(struct mmu *m, const struct walk_path *p, uint64_t all, uint64_t leaf,
                             bool store, const enum pwc_kind pwc)
{
    if (unlikely(!(all & PTE_A)) && !MUTANT(accessed_lost))
        for (unsigned l = p->leaf; l <= p->top; l++)
            if ((pwc != PWC_AMD || !(p->cached >> l & 1)) &&
                (l == p->leaf || !MUTANT(upper_accessed_lost)))
                *mmu_ptr(m->vm, p->ea[l]) |= PTE_A;
    if (store && !(leaf & PTE_D) && !MUTANT(dirty_lost))
        *mmu_ptr(m->vm, p->ea[p->leaf]) |= PTE_A | PTE_D;
}

/* Enter the non-leaf entries just used into the prefix-tagged caches. */
ALWAYS_INLINE void psc_fill(struct mmu *m, gva_t va, const struct walk_path *p)
{
    for (unsigned l = p->leaf + 1; l <= p->top; l++) {
        struct assoc *c = &m->psc[PSC_SLOT(l)];
        if (c->ways)
            assoc_put(c, psc_prefix(va, l), psc_key(va, l, m->tag),
                      (p->ea[l - 1] & PSC_ADDR) | p->above[l - 1]);
    }
}

/* Deepest prefix-tagged hit: level of the table to go on with (`levels` = none), its value in *hit.
 */
ALWAYS_INLINE unsigned psc_lookup(struct mmu *m, struct assoc *caches, uint64_t va, unsigned levels,
                                  unsigned tag, uint64_t *hit)
{
    for (unsigned l = 2; l <= levels; l++) {
        struct assoc *c = &caches[PSC_SLOT(l)];
        uint64_t *v = c->ways ? assoc_get(c, psc_prefix(va, l), psc_key(va, l, tag)) : NULL;
        if (v) {
            m->c.pwc_hits++;
            *hit = *v;
            return l - 1;
        }
    }
    return levels;
}

ALWAYS_INLINE void walk_done(const struct mmu *m, struct walk *w, gva_t va, hpa_t byte,
                             unsigned size, uint64_t rights, uint64_t leaf, bool store)
{
    w->status = WALK_OK;
    w->size = size;
    w->page = byte - (va & ((1ull << (12 + 9 * size)) - 1));
    w->flags =
        (rights & (TLB_W | TLB_U)) | rights >> 63 | (leaf & m->leaf_flags) | (store ? TLB_D : 0);
}

/* The entry is for a part of the guest's page at `level`. */
ALWAYS_INLINE void walk_part(struct mmu *m, struct walk *w, unsigned level)
{
    w->flags |= level == 2 ? TLB_PART_2M : TLB_PART_1G;
    m->parts = true;
}

#endif
