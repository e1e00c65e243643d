/* native.h: what strategies of a machine without a VMM share: memory in one span, no exits. */
#ifndef NB_PAGING_NATIVE_H
#define NB_PAGING_NATIVE_H

#include "shadow_vs_ept/mmu.h"

/* First member of their state. */
struct native {
    hpa_t base;     /* of guest-physical address 0 */
    uint64_t bytes; /* of guest-physical memory */
};

/* Back all memory; *n says where. -1 with the reason in err. */
int native_span(struct mmu_vm *, struct native *n, char *err, size_t errlen);
enum fix_result native_fix(struct mmu *, const struct access *, struct walk *);
void native_guest_cr3(struct mmu *, uint64_t cr3);
void native_guest_pt_write(struct mmu *, gpa_t, uint64_t entry);
void native_guest_touch(struct mmu *, gfn_t, bool write);
void native_zap(struct mmu_vm *, gfn_t first, uint64_t n);
void native_table_bytes(const struct mmu_vm *, uint64_t *shadow, uint64_t *nested);

#endif
