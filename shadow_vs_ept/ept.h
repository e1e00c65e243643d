/* ept.h: what strategies of nested paging share: the nested table, its walks, its upkeep. */
#ifndef NB_PAGING_EPT_H
#define NB_PAGING_EPT_H

#include "shadow_vs_ept/mmu.h"

int ept_init(struct mmu_vm *, char *err, size_t errlen);
/* The same with all tables of `level` in one run of frames (mmu_vm.nested_area). */
int ept_init_area(struct mmu_vm *, unsigned level, char *err, size_t errlen);
void ept_fini(struct mmu_vm *);
walk_fn ept_walk_for(const struct mmu_vm *);
void ept_quick_4_12(struct mmu *, gva_t, unsigned store),
    ept_quick_4_16(struct mmu *, gva_t, unsigned store);
#define EPT_QUICK                                                    \
    {                                                                \
        [SHAPE_4_12] = ept_quick_4_12, [SHAPE_4_16] = ept_quick_4_16 \
    }
void ept_explain(struct mmu *, const struct access *, struct walk *, struct walk_log *);
enum fix_result ept_fix(struct mmu *, const struct access *, struct walk *);
void ept_guest_cr3(struct mmu *, uint64_t cr3);
void ept_guest_touch(struct mmu *, gfn_t, bool write);
void ept_guest_pt_write(struct mmu *, gpa_t, uint64_t entry);
void ept_zap(struct mmu_vm *, gfn_t first, uint64_t n);
void ept_table_bytes(const struct mmu_vm *, uint64_t *shadow, uint64_t *nested);
const char *ept_check(struct mmu_vm *);
/* Invariant (1); counts the tables. parts: a leaf may be smaller than gmem's block. */
const char *ept_check_leaves(struct mmu_vm *, bool parts, uint64_t *tables);

/* The present leaf that maps gpa and its level, or NULL. */
uint64_t *ept_leaf(const struct mmu_vm *, gpa_t, unsigned *level);
/* One EPT violation at gpa: count it and make the frame resident. False: no such memory. */
bool ept_back(struct mmu *, gpa_t);
/* The same, and map it in the nested table. False when the guest has no such memory. */
bool ept_violation(struct mmu *, gpa_t);
/* The same for a host table of another kind: `map` enters the resident block around gpa. */
typedef void ept_map_fn(struct mmu_vm *, gpa_t);
static inline bool ept_violation_by(struct mmu *m, gpa_t gpa, ept_map_fn *map)
{
    if (!ept_back(m, gpa))
        return false;
    map(m->vm, gpa);
    return true;
}
/* Map the resident block around gpa. */
void ept_map(struct mmu_vm *, gpa_t);
/* Have gpa mapped by 4 KiB, where it is mapped. Flushes. */
void ept_split(struct mmu_vm *, gpa_t);
/* What fix() says of an access to memory the guest does not have. */
enum fix_result ept_reflect(const struct mmu *, const struct access *, struct walk *);

#endif
