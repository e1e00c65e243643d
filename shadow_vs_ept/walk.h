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

#include "shadow_vs_ept/walk_entry.h"
#include "shadow_vs_ept/walk_nested.h"

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
