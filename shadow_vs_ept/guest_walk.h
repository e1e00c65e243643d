/* guest_walk.h: the hypervisor's own walk of the guest's tables, in software.
 *
 * What a hypervisor does after an exit to learn whether a fault is the guest's own. It obeys the
 * guest's control registers (m->ctl), where the hardware may obey others (m->hw); reads of frames the
 * host has not backed read zero; nothing is counted.
 */
#ifndef NB_PAGING_GUEST_WALK_H
#define NB_PAGING_GUEST_WALK_H

#include "shadow_vs_ept/mmu.h"

struct guest_walk {
    uint64_t entry[6], *at[6]; /* by level: value and place in guest memory */
    unsigned leaf;             /* level of the leaf */
    uint64_t rights;           /* gathered, as mmu_permits() takes them */
    gpa_t gpa;                 /* of the byte accessed */
    unsigned error;            /* as mmu_error(); valid when guest_walk() is false */
};

/* False: the fault is the guest's own, and g->error says which. */
bool guest_walk(const struct mmu *, const struct access *, struct guest_walk *g);
/* Set A on the path, and D for a store, as the hardware's own walk would; g follows. */
void guest_walk_mark(const struct mmu *, struct guest_walk *g, bool store);
/* The gfn of the table read at `level`. */
static inline gfn_t guest_walk_table(const struct mmu *m, const struct guest_walk *g,
                                     unsigned level)
{
    return level == m->vm->levels ? gpa_gfn(m->guest_root)
                                  : gpa_gfn(g->entry[level + 1] & PTE_ADDR);
}

#endif
