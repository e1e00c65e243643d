/* nested_fault.h: who runs when a guest of a guest hypervisor takes a page fault.
 *
 * Nested virtualization: L0 is the hypervisor on the machine, L1 a guest of it that is a hypervisor
 * itself, L2 a guest of L1 with a kernel and a program. A fault of the L2 program on a page that no
 * table maps yet is handled by all of them in turn; PVM (Huang et al., SOSP 2023) counts the
 * changes of who runs ("world switches") and those into L0, for tables of n levels:
 *
 *                 switches   to L0
 *   SPT on EPT    4n + 8     2n + 4   L1 shadows L2's tables
 *   EPT on EPT    2n + 6     n + 3    L1 keeps an EPT for L2, which L0 shadows
 *   PVM on EPT    2n + 4     0        L1 is a software hypervisor: L2 never leaves L1's VM
 *
 * This is a machine of events that does what the paper describes and counts, with no formula in
 * it. Its state is who runs and which entries each table has on the path to the page; its rules:
 *
 *  (1) L2's kernel writes its page table entry by entry, from the root down, where one is missing.
 *  (2) A table that another one shadows is write-protected: a write goes to the shadow's owner, who
 *      emulates it. L2's own table is shadowed under SPT and PVM by L1; L1's EPT for L2 by L0.
 *  (3) With hardware virtualization every exit of L2 goes to L0 first, which passes it on to L1; and
 *      L1's entry to L2 is an exit to L0, which enters L2 for it. So is L1's write to a table that
 *      L0 shadows.
 *  (4) Under SPT and PVM page faults of L2 are intercepted, since the shadow table may be at fault;
 *      under EPT L2's kernel takes its own, which no world switch belongs to.
 *  (5) PVM's L2 kernel runs in ring 3: its return to the program is a call of L1, which fills the
 *      shadow entry on the way (prefault). Hardware returns without leaving L2.
 */
#ifndef NB_BENCH_NESTED_FAULT_H
#define NB_BENCH_NESTED_FAULT_H

enum nested_kind { SPT_ON_EPT, EPT_ON_EPT, PVM_ON_EPT };

enum { NESTED_MAX_LEVELS = 5 };

struct nested_counts {
    unsigned switches; /* changes of who runs */
    unsigned to_l0;    /* those into L0 */
    unsigned faults;   /* times the program's access was tried in vain */
};

/* One first access of the L2 program to a page, tables of `levels` levels of which the upper
 * `present` entries on the path are there already, in all tables alike; present < levels. */
struct nested_counts nested_fault(enum nested_kind, unsigned levels, unsigned present);

#endif
