/* walk_nested.h: the nested dimension of a walk: a guest-physical address through the nested TLB, the
 * walk caches of the nested table, and the table. walk.h has the rules.
 */
#ifndef NB_PAGING_WALK_NESTED_H
#define NB_PAGING_WALK_NESTED_H

#include "shadow_vs_ept/walk_entry.h"

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

#endif
