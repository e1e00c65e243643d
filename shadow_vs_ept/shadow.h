/* shadow.h: what strategies with shadow tables share: see shadow.c. */
#ifndef NB_PAGING_SHADOW_H
#define NB_PAGING_SHADOW_H

#include "shadow_vs_ept/guest_walk.h"
#include "shadow_vs_ept/shadow_pt.h"

int shadow_init(struct mmu_vm *, char *err, size_t errlen);
void shadow_fini(struct mmu_vm *);
walk_fn shadow_walk_for(const struct mmu_vm *);
/* For QUICK(shadow_quick). */
void shadow_quick_4_12(struct mmu *, gva_t, unsigned store);
void shadow_quick_4_16(struct mmu *, gva_t, unsigned store);
void shadow_explain(struct mmu *, const struct access *, struct walk *, struct walk_log *);
enum fix_result shadow_fix(struct mmu *, const struct access *, struct walk *);

/* What shadow_repair() needs of a strategy. */
struct shadow_ops {
    struct sp *(*root)(struct mmu *); /* for the vCPU's guest root; NULL: nothing to fill */
    /* For a guest table to be read at `level`; NULL: the walk goes on in the guest's table. */
    struct sp *(*table)(struct mmu *, gfn_t, unsigned level);
    void (*written)(struct mmu *, gfn_t); /* a store by no known table write: drop its pages */
    void (*back)(struct mmu *, gfn_t);    /* make the frame resident, or end the VM */
};
/* What shadow_fix() does, by these. */
enum fix_result shadow_repair(struct mmu *, const struct access *, struct walk *,
                              const struct shadow_ops *);
void shadow_guest_cr3(struct mmu *, uint64_t cr3);
/* What INVLPG and INVPCID drop from the TLBs: parts of large guest pages too. */
void shadow_flush_va(struct mmu *, gva_t);
void shadow_flush_invpcid(struct mmu *, enum invpcid_type, unsigned pcid, gva_t);
void shadow_guest_invlpg(struct mmu *, gva_t);
void shadow_guest_invpcid(struct mmu *, enum invpcid_type, unsigned pcid, gva_t);
void shadow_guest_control(struct mmu *);
void shadow_guest_touch(struct mmu *, gfn_t, bool write);
void shadow_guest_pt_write(struct mmu *, gpa_t, uint64_t entry);
void shadow_zap(struct mmu_vm *, gfn_t first, uint64_t n);
void shadow_table_bytes(const struct mmu_vm *, uint64_t *shadow, uint64_t *nested);
const char *shadow_check(struct mmu_vm *);

/* Make a frame resident; ends the VM when there is none. */
void shadow_back(struct mmu *, gfn_t);
/* The guest's tables allow this store, with CR0.WP clear, and the hardware does not: make it. */
enum fix_result shadow_emulate(struct mmu *, const struct access *, struct walk *,
                               struct guest_walk *);
/* Make the shadow page of the guest's root the hardware's root. */
struct sp *shadow_root(struct mmu *);

#endif
