/* guest_walk.c: translate as the guest's tables and control registers say. */
#include "shadow_vs_ept/guest_walk.h"

#include "shadow_vs_ept/walk.h"

static bool fault(const struct mmu *m, const struct access *a, struct guest_walk *g, unsigned why)
{
    g->error = mmu_error(&m->ctl, a, why);
    return false;
}

static bool entry_reserved(uint64_t e, unsigned level)
{
    return (level > 3 && (e & PTE_PS)) || (pte_is_leaf(e, level) && (e & pte_rsvd(level)));
}

bool guest_walk(const struct mmu *m, const struct access *a, struct guest_walk *g)
{
    struct gmem *gm = m->vm->gm;
    gpa_t table = m->guest_root;
    if (!canonical(a->va, m->vm->levels))
        return fault(m, a, g, FAULT_GP);
    g->rights = RIGHTS_ALL;
    for (unsigned l = m->vm->levels;; l--) {
        gfn_t f = gpa_gfn(table);
        if (!gmem_inside(gm, f))
            return fault(m, a, g, PF_P | PF_RSVD);
        if (gmem_state(gm, f) != PG_RESIDENT)
            return fault(m, a, g, 0);
        g->at[l] = gmem_ptr(gm, table + 8 * level_index(a->va, l));
        uint64_t e = g->entry[l] = *g->at[l];
        if ((e & mmu_present(&m->ctl)) != PTE_P)
            return fault(m, a, g, walk_missing(e));
        if (entry_reserved(e, l))
            return fault(m, a, g, PF_P | PF_RSVD);
        g->rights &= walk_rights(e);
        g->leaf = l;
        if (pte_is_leaf(e, l))
            break;
        table = e & PTE_ADDR;
    }
    g->gpa =
        pte_leaf_addr(g->entry[g->leaf], g->leaf) + (a->va & ((1ull << level_shift(g->leaf)) - 1));
    if (!mmu_permits(&m->ctl, g->rights, a))
        return fault(m, a, g, PF_P);
    return gmem_inside(gm, gpa_gfn(g->gpa)) || fault(m, a, g, PF_P | PF_RSVD);
}

void guest_walk_mark(const struct mmu *m, struct guest_walk *g, bool store)
{
    for (unsigned l = g->leaf; l <= m->vm->levels; l++)
        *g->at[l] = g->entry[l] |= MUTANT(software_accessed_lost) ? 0 : PTE_A;
    if (store)
        *g->at[g->leaf] = g->entry[g->leaf] |= PTE_D;
}
