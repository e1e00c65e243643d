/* hw.h: all that the guest kernel may ask of the machine it runs on.
 *
 * The kernel changes page tables only through these calls and learns nothing of the host. On the
 * model each is a call into the VMM (vmm/engine_model.c); in the freestanding image each is an
 * instruction or a short loop. Tables live in guest-physical memory in x86-64 format.
 *
 * Rules: gpa arguments of table accesses are 8-byte aligned and inside guest memory. The kernel
 * invalidates what the architecture requires (SDM vol. 3A, 4.10.4) and nothing else is implied.
 */
#ifndef NB_GUEST_HW_H
#define NB_GUEST_HW_H

#include <stdbool.h>
#include <stddef.h>
#include "base/tea.h"
#include "base/segment.h"

struct hw; /* the machine; owned by the engine */

/* Read one table entry through the kernel's direct map. */
uint64_t hw_pt_read(struct hw *, gpa_t);
/* Write one table entry: a single 8-byte store, the event that shadow paging must see. */
void hw_pt_write(struct hw *, gpa_t, uint64_t entry);
/* Fill a frame with zeroes. Not needed for a frame never used since boot: it reads as zero. */
void hw_zero_page(struct hw *, gfn_t);
void hw_copy_page(struct hw *, gfn_t dst, gfn_t src);
/* MOV to CR3: root | PCID (bits 11:0), with CR3_KEEP in bit 63 to keep that PCID's entries. */
void hw_load_cr3(struct hw *, uint64_t cr3);
/* INVLPG: drop the current PCID's (and global) translations of one address. */
void hw_invlpg(struct hw *, gva_t);
/* Zeroed kernel memory, 16-byte aligned, never given back; NULL when there is none left. */
void *hw_kmem(struct hw *, size_t bytes);

/* These three only on a machine with TEA registers (gk_config.tea_registers).
 * Load them, all at once: those of the address space of the CR3 loaded last. */
void hw_load_teas(struct hw *, const struct tea *, unsigned n);
/* These frames, which hold zeroes, become an area's tables. The hypervisor's name for it when it has placed
 * them in consecutive frames of its own; 0 when it does not or cannot. */
uint64_t hw_tea_alloc(struct hw *, gfn_t first, uint64_t n);
void hw_tea_free(struct hw *, uint64_t id);

/* These two only with more than one vCPU (gk_config.cpus).
 * The calls that follow, and the program's accesses, are made on this vCPU. Its CR3 is what was last
 * loaded there; a vCPU that never loaded one must do so first. */
void hw_run_on(struct hw *, unsigned cpu);
/* One interprocessor interrupt from the vCPU that runs to each of these (bit per vCPU, not itself).
 * What they then do, the kernel does there (hw_run_on). */
void hw_ipi(struct hw *, uint64_t cpus);

/* These only on a machine with a balloon (gk_config.balloon).
 * A register of the device, 4 bytes: one MMIO access. */
uint32_t hw_dev_read(struct hw *, uint32_t offset);
void hw_dev_write(struct hw *, uint32_t offset, uint32_t value);
/* Its interrupt line. */
bool hw_dev_interrupt(struct hw *);
/* The kernel's own data, 1 to 8 bytes inside a frame, little-endian. */
uint64_t hw_load(struct hw *, gpa_t, unsigned bytes);
void hw_store(struct hw *, gpa_t, unsigned bytes, uint64_t value);
/* Wait for the device a moment; false: too long already. */
bool hw_dev_wait(struct hw *);

/* Direct segments: a machine without them ignores these two.
 * The address space whose tables start at `root` has this segment and no escapes; NULL: none. It is in
 * force wherever that root is in CR3. */
void hw_segment(struct hw *, gpa_t root, const struct hw_segment *);
/* Pages of it in [va, va + bytes) are to be translated by the tables (escape), or need not be. */
void hw_segment_escape(struct hw *, gpa_t root, gva_t va, uint64_t bytes, bool escape);

#endif
