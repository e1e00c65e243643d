/* syscall.c: system calls of a kernel that keeps its tables from its programs (KPTI), or does not.
 *
 * Kernel page-table isolation gives every process two roots, and each system call loads CR3 twice:
 * the kernel's root on entry, the program's on return. A shadow pager sees both loads. Here a second
 * process stands for the kernel's root, so that one call is a switch to it and back; with kpti = 0
 * a call leaves CR3 alone. Between calls the program loads from `pages` pages in turn, which without
 * PCIDs are out of the TLB after every call.
 *
 * Exact: set-up: stores = guest_faults = pages (with 4 KiB guest pages). Work: loads = calls *
 * loads; guest_cr3_loads = 2 * calls * kpti; no stores, no faults.
 */
#include "workloads/common.h"

static const struct param params[] = {
    {"calls", 20000, 0, MAX_COUNT, "calls", "system calls"},
    {"kpti", 1, 0, 1, "0 or 1", "1: each call loads CR3 twice"},
    {"loads", 20, 0, MAX_COUNT, "accesses", "loads of the program between two calls"},
    {"pages", 16, 1, MAX_BYTES >> PAGE_SHIFT, "4 KiB pages", "memory that they go to"},
    {0},
};

static void run(struct user *u, const uint64_t *p)
{
    uint64_t calls = p[0], loads = p[2], pages = p[3];
    int kernel = 0;
    u_phase(u, "setup");
    must(u, u_fork(u, &kernel), "syscall: fork failed: guest memory is used up");
    gva_t base = alloc_touched(u, pages << PAGE_SHIFT);
    u_phase(u, "work");
    for (uint64_t i = 0, at = 0; i < calls; i++) {
        must(u, u_switch(u, p[1] ? kernel : 1), "syscall: entry failed");
        must(u, u_switch(u, 1), "syscall: return failed");
        for (uint64_t k = 0; k < loads; k++, at = at + 1 < pages ? at + 1 : 0)
            ld(u, base + (at << PAGE_SHIFT));
    }
}

REGISTER(workload, syscall, .summary = "system calls that load CR3 twice, as with KPTI, or never",
         .params = params, .run = run);
