/* walk.h: the hardware's page walks, one- and two-dimensional.
 *
 * Written once as always-inline functions over constants (kind of walk caches, data caches,
 * logging) and instantiated per combination, so that the loop that runs holds no test of an option.
 *
 * Counting. refs is what a walk without walk caches reads: a walk-cache hit adds the references it
 * saved, so refs / walks is exact theory whatever the caches. reads is what was really read.
 *
 * Walk caches (RevAnC; DMT, ASPLOS 2024; Bhargava et al., ASPLOS 2008).
 *   intel  psc[], keyed by address prefix and tag, gives the host-physical address of the next
 *          guest table ("combined" in the nested case: it skips the host walk too); npsc[] does
 *          so for the nested table by gpa prefix.
 *   amd    pwc, keyed by the host-physical address of a non-leaf entry, of either table.
 *   ntlb   gfn -> hfn, in both.
 * As the architecture demands, an entry enters a walk cache only with its accessed bit set: psc[]
 * and npsc[] at the end of a walk, pwc when an entry is read so.
 *
 * A bits are set when the walk completes, D when a store completes; a failed walk writes nothing but
 * A and D of nested entries it has used (D where they map a guest table: its reads count as writes).
 */
#ifndef NB_PAGING_WALK_H
#define NB_PAGING_WALK_H

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

/* One-dimensional walk of tables that lie at base + address, base + address < limit: the guest's
 * own (native) or shadow tables (base 0). A missing or forbidding entry ends it with `fail`. */
ALWAYS_INLINE void walk1d(struct mmu *m, const struct access *a, struct walk *w, hpa_t base,
                          uint64_t limit, const enum walk_status fail, const enum walk_dim dim,
                          const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    unsigned level = m->levels;
    uint64_t table = m->root, rights = RIGHTS_ALL, all = PTE_A, e;
    struct walk_path p;
    walk_begin(w);
    if (unlikely(!canonical(a->va, m->levels))) {
        walk_fault(m, w, a, FAULT_GP);
        return;
    }
    if (pwc == PWC_INTEL) {
        uint64_t hit = 0;
        level = psc_lookup(m, m->psc, a->va, m->levels, m->tag, &hit);
        if (level != m->levels) {
            table = (hit & PSC_ADDR) - base;
            rights = psc_unpack(hit);
            w->refs = m->levels - level;
        }
    }
    p.cached = 0;
    for (p.top = level;; level--) {
        if (unlikely(table >= limit)) {
            if (pwc == PWC_AMD)
                assoc_clear(&m->pwc);
            walk_fault(m, w, a, PF_P | PF_RSVD);
            return;
        }
        hpa_t ea = base + table + 8 * level_index(a->va, level);
        p.above[level] = psc_pack(rights);
        e = walk_step(m, w, &p, ea, level, pwc, cached);
        w->refs++;
        walk_note(log, dim, level, 0, ea - base, ea, e);
        if (unlikely(!walk_present(m, e))) {
            pwc_forget(m, &p, level, pwc);
            walk_fault(m, w, a, walk_missing(e));
            w->status = fail;
            return;
        }
        rights &= walk_rights_at(e, level);
        all &= e;
        if (level == 1 || (e & PTE_PS))
            break;
        table = e & PTE_ADDR;
    }
    p.leaf = level;
    if (!walk_accepts(m, w, a, e, level, rights)) {
        pwc_forget(m, &p, level, pwc);
        w->status = fail;
        return;
    }
    uint64_t mask = (1ull << level_shift(level)) - 1,
             byte = pte_leaf_addr(e, level) + (a->va & mask);
    bool beyond = (byte | mask) >= limit; /* a large page of which only a part is memory */
    if (unlikely(byte >= limit)) {
        pwc_forget(m, &p, level, pwc);
        walk_fault(m, w, a, PF_P | PF_RSVD);
        return;
    }
    walk_mark(m, &p, all, e, a->store, pwc);
    if (pwc == PWC_INTEL)
        psc_fill(m, a->va, &p);
    walk_done(m, w, a->va, base + byte, unlikely(beyond) ? 0 : level - 1, rights, e, a->store);
    if (dim == DIM_SHADOW) /* a part of a large guest page, says the hypervisor */
        w->flags |= e & (TLB_PART_2M | TLB_PART_1G);
    if (unlikely(beyond))
        walk_part(m, w, level);
}

/* A nested translation. */
struct nested {
    hpa_t hpa;     /* of the byte asked for */
    unsigned size; /* 0, 1, 2: what its nested leaf maps */
    bool writable, dirty;
};

/* Set A on the nested path to gpa, and D in its leaf: not counted, for it goes with a walk that is. */
static inline void nested_mark(struct mmu *m, gpa_t gpa, bool dirty)
{
    hpa_t table = m->vm->nested_root;
    for (unsigned level = m->vm->host_levels;; level--) {
        uint64_t *e = mmu_ptr(m->vm, table + 8 * level_index(gpa, level));
        bool leaf = level == 1 || (*e & PTE_PS);
        *e |= leaf && dirty ? PTE_A | PTE_D : PTE_A;
        if (leaf)
            return;
        table = *e & PTE_ADDR;
    }
}

/* Nested-TLB value: hpa of the 4 KiB frame | dirty << 3 | writable << 2 | size. */
ALWAYS_INLINE void ntlb_fill(struct mmu *m, gpa_t gpa, const struct nested *n)
{
    assoc_put(&m->ntlb, gpa >> PAGE_SHIFT, (gpa >> PAGE_SHIFT) + 1,
              (n->hpa & ~PAGE_MASK) | (uint64_t)n->dirty << 3 | (uint64_t)n->writable << 2 |
                  n->size);
}

ALWAYS_INLINE bool ntlb_lookup(struct mmu *m, gpa_t gpa, struct nested *out)
{
    uint64_t *v =
        m->ntlb.ways ? assoc_get(&m->ntlb, gpa >> PAGE_SHIFT, (gpa >> PAGE_SHIFT) + 1) : NULL;
    if (!v)
        return false;
    m->c.ntlb_hits++;
    *out = (struct nested){(*v & ~PAGE_MASK) | (gpa & PAGE_MASK), *v & 3, *v >> 2 & 1, *v >> 3 & 1};
    return true;
}

/* gpa has no nested translation. */
ALWAYS_INLINE bool walk_nested_fault(struct walk *w, gpa_t gpa)
{
    w->status = WALK_EXIT;
    w->nested_fault = true;
    w->gpa = gpa;
    return false;
}

/* Where a nested walk stands. */
struct nested_walk {
    hpa_t table;
    uint64_t rights, e;
    unsigned level;
    hpa_t ea[6];       /* by level: entry read */
    uint64_t above[6]; /* by level: PSC_W gathered above it */
};

/* Read entries from n->table at `level` down to a leaf; false: one is missing. A constant level
 * unrolls. */
ALWAYS_INLINE bool nested_steps(struct mmu *m, gpa_t gpa, unsigned guest_level, struct walk *w,
                                struct nested_walk *n, unsigned level, const enum pwc_kind pwc,
                                const bool cached, struct walk_log *log)
{
#pragma GCC unroll 4
    for (; level >= 1; level--) {
        hpa_t ea = n->table + 8 * level_index(gpa, level);
        uint64_t e = walk_read(m, w, ea, level, false, pwc, cached);
        if (pwc == PWC_INTEL) {
            n->ea[level] = ea;
            n->above[level] = n->rights & PTE_W ? PSC_W : 0;
        }
        walk_note(log, DIM_NESTED, level, guest_level, gpa, ea, e);
        if (unlikely(!(e & PTE_P)))
            return false;
        n->rights &= e;
        if (level == 1 || (e & PTE_PS)) { /* our own tables have no reserved bits to check */
            n->e = e;
            n->level = level;
            return true;
        }
        n->table = e & PTE_ADDR;
    }
    __builtin_unreachable(); /* level 1 is a leaf */
}

/* Translate gpa through the nested table; false = nested fault, w->gpa says where. dirties: reading a
 * guest table sets D. */
ALWAYS_INLINE bool nested_walk(struct mmu *m, gpa_t gpa, unsigned guest_level, struct walk *w,
                               struct nested *out, const bool dirties, const enum pwc_kind pwc,
                               const bool cached, struct walk_log *log)
{
    unsigned levels = m->levels, top = levels;
    struct nested_walk n = {.table = m->root, .rights = PTE_W | PTE_A};
    if (pwc != PWC_NONE && ntlb_lookup(m, gpa, out)) {
        w->refs += levels - out->size;
        w->refs_nested += levels - out->size;
        return true;
    }
    if (pwc == PWC_INTEL) {
        uint64_t hit = 0;
        top = psc_lookup(m, m->npsc, gpa, levels, 0, &hit);
        if (top != levels) {
            n.table = hit & PSC_ADDR;
            n.rights = (hit & PSC_W ? PTE_W : 0) | PTE_A;
        }
    }
    bool found = pwc == PWC_NONE && levels == 4
                     ? nested_steps(m, gpa, guest_level, w, &n, 4, pwc, cached, log)
                     : nested_steps(m, gpa, guest_level, w, &n, top, pwc, cached, log);
    if (unlikely(!found))
        return walk_nested_fault(w, gpa);
    w->refs += levels - n.level + 1;
    w->refs_nested += levels - n.level + 1;
    bool written = dirties && guest_level, dirty = (n.e & PTE_D) || written;
    if (unlikely(!(n.rights & PTE_A) || (written && !(n.e & PTE_D))))
        nested_mark(m, gpa, dirty);
    *out =
        (struct nested){pte_leaf_addr(n.e, n.level) + (gpa & ((1ull << level_shift(n.level)) - 1)),
                        n.level - 1, n.rights & PTE_W, dirty};
    if (pwc == PWC_INTEL)
        for (unsigned l = n.level + 1; l <= top; l++)
            if (m->npsc[PSC_SLOT(l)].ways)
                assoc_put(&m->npsc[PSC_SLOT(l)], psc_prefix(gpa, l), psc_key(gpa, l, 0),
                          (n.ea[l - 1] & PSC_ADDR) | n.above[l - 1]);
    if (pwc != PWC_NONE && m->ntlb.ways)
        ntlb_fill(m, gpa, out);
    return true;
}

/* The guest's own tables are read as if written (SDM vol. 3C, 29.3.5; APM vol. 2, 15.25.5). */
ALWAYS_INLINE bool walk_nested(struct mmu *m, gpa_t gpa, unsigned guest_level, struct walk *w,
                               struct nested *out, const enum pwc_kind pwc, const bool cached,
                               struct walk_log *log)
{
    return nested_walk(m, gpa, guest_level, w, out, true, pwc, cached, log);
}

/* What a strategy's host table offers to a walk: as walk_nested() and nested_mark() do it for a radix
 * table. */
typedef bool nested_fn(struct mmu *, gpa_t, unsigned guest_level, struct walk *, struct nested *out,
                       const enum pwc_kind, const bool cached, struct walk_log *);
typedef void nested_mark_fn(struct mmu *, gpa_t, bool dirty);

/* The walk has found the guest's leaf e at `level`, which grants the access: translate the page, and
 * complete the walk but for the guest's A and D. False: the host must act. */
ALWAYS_INLINE bool walk_data(struct mmu *m, const struct access *a, struct walk *w, unsigned level,
                             uint64_t rights, uint64_t e, nested_fn *const translate,
                             nested_mark_fn *const mark, const enum pwc_kind pwc, const bool cached,
                             struct walk_log *log)
{
    struct nested n;
    gpa_t byte = pte_leaf_addr(e, level) + (a->va & ((1ull << level_shift(level)) - 1));
    if (!translate(m, byte, 0, w, &n, pwc, cached, log))
        return false;
    if (unlikely(a->store && !n.writable))
        return walk_nested_fault(w, byte);
    if (unlikely(a->store && !n.dirty))
        mark(m, byte, true);
    walk_done(m, w, a->va, n.hpa, level - 1 < n.size || MUTANT(wrong_size) ? level - 1 : n.size,
              n.writable ? rights : rights & ~PTE_W, n.dirty ? e : e & ~PTE_D, a->store);
    if (unlikely(level - 1 > n.size))
        walk_part(m, w, level);
    return true;
}

/* Where a two-dimensional walk goes on: at the guest table to be read at `level`. */
struct walk2d_at {
    unsigned level;
    gpa_t table;
    hpa_t known;           /* its host-physical address; 0: it must be translated */
    uint64_t rights, note; /* gathered above; PSC_NOTE for what walk caches learn from here on */
};

/* Go on from there to the end; p->top and cached are set, and what is above at.level. */
ALWAYS_INLINE void walk2d_from(struct mmu *m, const struct access *a, struct walk *w,
                               struct walk_path *p, struct walk2d_at at, nested_fn *const translate,
                               nested_mark_fn *const mark, const enum pwc_kind pwc,
                               const bool cached, struct walk_log *log)
{
    unsigned level = at.level;
    uint64_t rights = at.rights, all = PTE_A, e;
    struct nested n;
    for (;; level--) {
        gpa_t ga = at.table + 8 * level_index(a->va, level);
        if (at.known) {
            n.hpa = at.known + 8 * level_index(a->va, level);
            at.known = 0;
        } else if (!translate(m, ga, level, w, &n, pwc, cached, log))
            return;
        p->above[level] = psc_pack(rights) | at.note | w->refs | w->refs_nested << 6;
        e = walk_step(m, w, p, n.hpa, level, pwc, cached);
        w->refs++;
        walk_note(log, DIM_GUEST, level, level, ga, n.hpa, e);
        if (unlikely(!walk_present(m, e))) {
            pwc_forget(m, p, level, pwc);
            walk_fault(m, w, a, walk_missing(e));
            return;
        }
        rights &= walk_rights_at(e, level);
        all &= e;
        if (level == 1 || (e & PTE_PS))
            break;
        at.table = e & PTE_ADDR;
    }
    p->leaf = level;
    if (!walk_accepts(m, w, a, e, level, rights)) {
        pwc_forget(m, p, level, pwc);
        return;
    }
    if (!walk_data(m, a, w, level, rights, e, translate, mark, pwc, cached, log))
        return;
    walk_mark(m, p, all, e, a->store, pwc);
    if (pwc == PWC_INTEL)
        psc_fill(m, a->va, p);
}

/* Two-dimensional walk: guest tables at m->guest_root of `glevels` levels, any host table. */
ALWAYS_INLINE void walk2d_over(struct mmu *m, const struct access *a, struct walk *w,
                               unsigned glevels, nested_fn *const translate,
                               nested_mark_fn *const mark, const enum pwc_kind pwc,
                               const bool cached, struct walk_log *log)
{
    struct walk2d_at at = {.level = glevels, .table = m->guest_root, .rights = RIGHTS_ALL};
    struct walk_path p;
    walk_begin(w);
    if (unlikely(!canonical(a->va, glevels))) {
        walk_fault(m, w, a, FAULT_GP);
        return;
    }
    if (pwc == PWC_INTEL) {
        uint64_t hit = 0;
        at.level = psc_lookup(m, m->psc, a->va, glevels, m->tag, &hit);
        if (at.level != glevels) {
            at.known = hit & PSC_ADDR;
            at.rights = psc_unpack(hit);
            w->refs = hit & 63;
            w->refs_nested = hit >> 6 & 63;
        }
    }
    p.top = at.level;
    p.cached = 0;
    walk2d_from(m, a, w, &p, at, translate, mark, pwc, cached, log);
}

/* The same over the radix table at m->root. */
ALWAYS_INLINE void walk2d(struct mmu *m, const struct access *a, struct walk *w, unsigned glevels,
                          const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    walk2d_over(m, a, w, glevels, walk_nested, nested_mark, pwc, cached, log);
}

/* The six variants of a strategy's walk, and the table that picks one. fn(m, a, w, pwc, cached,
 * log). */
#define WALK_VARIANT(fn, suffix, pwc, cached)                                               \
    static void fn##_##suffix(struct mmu *m, const struct access *a, struct walk *w)        \
    {                                                                                       \
        struct walk local; /* its counts stay in registers: nothing else can point to it */ \
        fn(m, a, &local, pwc, cached, NULL);                                                \
        *w = local;                                                                         \
    }
#define WALK_VARIANTS(fn)                                                           \
    WALK_VARIANT(fn, none, PWC_NONE, false)                                         \
    WALK_VARIANT(fn, none_cached, PWC_NONE, true)                                   \
    WALK_VARIANT(fn, intel, PWC_INTEL, false)                                       \
    WALK_VARIANT(fn, intel_cached, PWC_INTEL, true)                                 \
    WALK_VARIANT(fn, amd, PWC_AMD, false)                                           \
    WALK_VARIANT(fn, amd_cached, PWC_AMD, true)                                     \
    static void fn##_explain(struct mmu *m, const struct access *a, struct walk *w, \
                             struct walk_log *log)                                  \
    {                                                                               \
        const struct counters before = m->c; /* an explanation is no event */       \
        fn(m, a, w, PWC_NONE, false, log);                                          \
        m->c = before;                                                              \
    }                                                                               \
    static walk_fn fn##_for(const struct mmu_vm *vm)                                \
    {                                                                               \
        static const walk_fn table[3][2] = {                                        \
            [PWC_NONE] = {fn##_none, fn##_none_cached},                             \
            [PWC_INTEL] = {fn##_intel, fn##_intel_cached},                          \
            [PWC_AMD] = {fn##_amd, fn##_amd_cached},                                \
        };                                                                          \
        return table[vm->cpu->pwc_kind][vm->cpu->cache[0].entries != 0];            \
    }

#endif
