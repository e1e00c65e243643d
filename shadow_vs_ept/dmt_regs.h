/* dmt_regs.h: the registers of DMT hardware, one set per vCPU, and when the model obeys them.
 *
 * A register describes a translation entry area (base/tea.h) of the address space in CR3: a load of
 * another root empties the set, and the guest kernel loads that root's.
 *
 * What the mechanism relies on: the entry in an area is the leaf that a walk of the radix tree would
 * reach, and the links above restrict nothing (the kernel's are P|W|U, invariant M4 of guest/mm.c),
 * for the hardware does not read them. Hardware could not tell where that is broken; a model that is
 * asked for the same faults as any other machine can. So the first write that may break it (outside
 * the areas in use, to an entry that was present or by one that restricts) makes the model look,
 * uncounted, at the links of each later fetch, and one that they contradict is made by walking the
 * tree. Stores of a program to its own tables are not seen.
 *
 * A and D bits: a fetch sets those of the leaf. Links keep theirs: no walk passes them.
 */
#ifndef NB_PAGING_DMT_REGS_H
#define NB_PAGING_DMT_REGS_H

#include "base/tea.h"
#include "shadow_vs_ept/mmu.h"

struct dmt_regs {
    gpa_t root; /* of the address space they belong to */
    unsigned n;
    struct tea tea[MAX_TEA_REGISTERS];
    hpa_t host[MAX_TEA_REGISTERS]; /* of its first table, where the hypervisor placed it; else 0 */
};

struct dmt {
    struct dmt_regs *vcpu[MAX_VCPUS]; /* NULL: never loaded */
    bool suspect;                     /* links may contradict areas */
};

extern const struct param dmt_params[];
unsigned dmt_tea_registers(const struct mmu_vm *);

void dmt_init(struct dmt *);
void dmt_fini(struct dmt *);
/* The registers of this vCPU become these, without host addresses. */
struct dmt_regs *dmt_load(struct dmt *, const struct mmu *, const struct tea *, unsigned n);
void dmt_load_root(struct dmt *, const struct mmu *, gpa_t root);
/* The guest is about to write a table entry that is `old`. */
void dmt_note_write(struct dmt *, const struct mmu *, gpa_t, uint64_t old, uint64_t entry);
/* Does the tree under `root` lead to the table that t has for va, and restrict nothing on the way? */
bool dmt_confirmed(const struct mmu *, gpa_t root, const struct tea *, gva_t);
const char *dmt_check(const struct dmt *, const struct mmu_vm *);

/* Index of the register that holds va, of several the one of the smallest pages (where a mapping ends,
 * tables of both levels cover the address, but no large page does); -1: none. */
static inline int dmt_find(const struct dmt_regs *r, gva_t va)
{
    int best = -1;
    for (unsigned i = 0; r && i < r->n; i++)
        if (tea_holds(&r->tea[i], va) && (best < 0 || r->tea[i].level < r->tea[best].level))
            best = (int)i;
    return best;
}

#endif
