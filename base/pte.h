/* pte.h: bits of an x86-64 paging-structure entry and of the #PF error code.
 *
 * Source: Intel SDM vol. 3A, tables 4-15 to 4-20 (entries) and section 4.7 (error code).
 * gPTE, sPTE and nPTE all use this format here: AMD's nested tables do on hardware (APM
 * vol. 2, 15.25.5), and one format lets one checker read all three.
 */
#ifndef NB_BASE_PTE_H
#define NB_BASE_PTE_H

#include "base/addr.h"

#define PTE_P (1ull << 0)   /* present */
#define PTE_W (1ull << 1)   /* writable */
#define PTE_U (1ull << 2)   /* user */
#define PTE_PWT (1ull << 3) /* write-through */
#define PTE_PCD (1ull << 4) /* cache disable */
#define PTE_A (1ull << 5)   /* accessed */
#define PTE_D (1ull << 6)   /* dirty; leaf entries only */
#define PTE_PS (1ull << 7)  /* leaf at level 2 or 3 */
#define PTE_G (1ull << 8)   /* global; leaf entries only */
#define PTE_NX (1ull << 63) /* no execute */

/* Bits 9..11 are ignored by hardware: the owner of a table may use them. */
#define PTE_SW0 (1ull << 9)
#define PTE_SW1 (1ull << 10)
#define PTE_SW2 (1ull << 11)

#define PTE_ADDR 0x000ffffffffff000ull /* MAXPHYADDR = 52 */

/* A guest's MAXPHYADDR is 48, what a nested table of 4 levels translates: these bits are reserved in
 * its entries. */
#define PTE_GUEST_RSVD 0x000f000000000000ull

#define PF_P (1u << 0)    /* the fault is a protection violation, not a missing entry */
#define PF_W (1u << 1)    /* the access was a write */
#define PF_U (1u << 2)    /* the access was made at CPL 3 */
#define PF_RSVD (1u << 3) /* a reserved bit was set in an entry */
#define PF_I (1u << 4)    /* the access was an instruction fetch */
/* Not a #PF: #GP(0), since the address is not canonical. No bit of an error code. */
#define FAULT_GP (1u << 31)

/* CR3 (SDM vol. 3A, 4.10.4.1): PCID in bits 11:0; bit 63 of the MOV source keeps TLB entries. */
#define CR3_PCID 0xfffull
#define CR3_KEEP (1ull << 63)

/* Reserved bits of a large leaf: address bits below its size, except bit 12 (PAT). */
static inline uint64_t pte_rsvd(unsigned level)
{
    return level == 1 ? 0 : (((1ull << level_shift(level)) - 1) & PTE_ADDR & ~(1ull << 12));
}

static inline bool pte_is_leaf(uint64_t e, unsigned level)
{
    return level == 1 || (level <= 3 && (e & PTE_PS));
}

/* First byte mapped by leaf `e` at `level`. */
static inline uint64_t pte_leaf_addr(uint64_t e, unsigned level)
{
    return e & PTE_ADDR & ~((1ull << level_shift(level)) - 1);
}

#endif
