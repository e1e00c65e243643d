/* kernel.h: the guest kernel: processes, address spaces, page faults.
 *
 * One source for every engine: freestanding C, no libc beyond <stddef.h>, <stdint.h>,
 * <stdbool.h>, no floating point. All state hangs off struct gk, so several guests can live in
 * one VMM process. Everything a program asks for is checked; a bad request is a GK_E value.
 *
 * Policies, each fixed here because exact exit counts depend on it:
 *   - demand-zero: mmap writes no table; the first touch faults, allocates and maps.
 *   - a frame never used since boot is known to be zero and is not cleared; a recycled frame is
 *     cleared with hw_zero_page when it is allocated again.
 *   - a missing table is allocated, linked into its parent (one table write), then used.
 *   - INVLPG only when a present entry loses rights or changes frame; when one operation changes
 *     more than flush_ceiling present entries, one CR3 reload instead (Linux does so above 33).
 *   - munmap keeps empty tables; exit clears every present entry, leaves first, and frees them.
 *   - fork copies tables eagerly, write-protecting private writable pages in both (copy on write).
 *   - with cfg.segment_bytes, a process may have one primary region in a direct segment (segment.c).
 *   - with PCIDs, a context switch keeps TLB entries (CR3_KEEP) unless the PCID is new or reused.
 *   - with a balloon, its interrupt is taken on the way back to the program; a page is asked back from it
 *     when the last free one is gone (balloon.c).
 *   - with more than one vCPU, process `pid` runs on vCPU (pid - 1) mod cpus unless it moves itself; an
 *     invalidation interrupts every other vCPU that has the process loaded (guest/smp.c).
 */
#ifndef NB_GUEST_KERNEL_H
#define NB_GUEST_KERNEL_H

#include "guest/hw.h"

struct gk; /* one guest kernel */

/* Results: 0 or one of these negatives. */
enum {
    GK_OK = 0,
    GK_EINVAL = -1, /* unaligned, empty, non-canonical or kernel range */
    GK_ENOMEM = -2, /* guest memory or kernel memory is used up */
    GK_EEXIST = -3, /* fixed range already mapped */
    GK_ESRCH = -4,  /* no such process */
    GK_SEGV = -5,   /* no mapping, or one that forbids the access */
};

enum { GK_READ = 1, GK_WRITE = 2, GK_EXEC = 4 }; /* prot */

/* mmap flags. Without a page-size flag the configured page mode applies; a flag overrides it. */
enum {
    GK_FIXED = 1,  /* exactly at the hint; GK_EEXIST if anything is mapped there */
    GK_SHARED = 2, /* children of fork share the pages instead of copying them */
    GK_GLOBAL = 4, /* map with PTE_G: the same in every process (implies GK_SHARED); to make, change
                    * or remove one is GK_EINVAL while there is more than one process */
    GK_4K = 8,     /* 4 KiB pages only */
    GK_2M = 16,    /* 2 MiB pages only: address and length must be aligned */
    GK_1G = 32,    /* 1 GiB pages only: likewise */
    GK_POPULATE = 64, /* map every page now, as if touched for reading; all or GK_ENOMEM */
};

enum { GK_MAX_CPUS = 64 };

#define GK_USER_BASE 0x0000000010000000ull /* first address mmap chooses */
/* First address above user space: 2^47 with 4 levels, 2^56 with 5. */
#define GK_USER_TOP(levels) (1ull << (9 * (levels) + 11))

struct gk_config {
    uint64_t mem_bytes;      /* guest-physical memory, multiple of 4 KiB */
    uint64_t reserved_bytes; /* [0, reserved) belongs to the kernel image and its heap; never
                                allocated */
    unsigned levels;         /* 4 or 5 */
    enum page_mode pages;    /* default page size of user mappings */
    bool pcid;               /* use PCIDs */
    unsigned flush_ceiling;  /* INVLPGs per operation before a CR3 reload is used; Linux: 33 */
    unsigned tea_registers;  /* DMT registers of this machine, at most MAX_TEA_REGISTERS; 0: leaf
                                tables are placed one by one (guest/tea.c) */
    unsigned cpus;           /* vCPUs, at most GK_MAX_CPUS; 0 is 1 */
    bool balloon;            /* the machine has a virtio balloon (hw_dev_read) */
    unsigned balloon_order;  /* of the blocks put into it: 0 or 9 */
    unsigned balloon_report_order; /* of the least free block that is reported: 0 to 18 */
    uint64_t
        segment_bytes; /* least mapping that becomes a primary region (segment.c); 0: none does */
};

/* Kernel memory (hw_kmem) that gk_boot and normal running need for this much guest memory. */
size_t gk_kmem_bytes(uint64_t mem_bytes);
/* Bytes from gpa 0 that belong to the kernel, the same on every engine so that programs get the same
 * frames: 2 MiB for the image (guest/image/abi.h), then kernel memory. */
uint64_t gk_reserved_bytes(uint64_t mem_bytes);

/* Boot: build the first process (pid 1), load its CR3. NULL when kernel memory does not suffice
 * or the configuration is impossible (levels, sizes). */
struct gk *gk_boot(struct hw *, const struct gk_config *);

/* ---- system calls of the current process ---- */
/* len is rounded up to the page size in force. *out receives the address. hint 0 = anywhere
 * (first fit from GK_USER_BASE, aligned to the page size so that large pages can be used). */
int gk_mmap(struct gk *, gva_t hint, uint64_t len, unsigned prot, unsigned flags, gva_t *out);
int gk_munmap(struct gk *, gva_t, uint64_t len); /* holes are fine, as in POSIX */
int gk_mprotect(struct gk *, gva_t, uint64_t len,
                unsigned prot); /* GK_ENOMEM on holes, as in Linux */
/* Child gets a copy of the current address space; it runs when switched to. 4095 at a time. */
int gk_fork(struct gk *, int *child_pid);
/* End process `pid`; ending the current one switches to pid 1 first; pid 1 cannot end (GK_EINVAL).
 */
int gk_exit(struct gk *, int pid);
int gk_switch(struct gk *, int pid); /* to the current one: nothing happens */
int gk_current(const struct gk *);
/* Go on with the current process on vCPU cpu mod cpus, as its thread there. */
void gk_run_on(struct gk *, unsigned cpu);

/* Page fault of the current process: error code as PF_*. GK_OK: retry the access. GK_SEGV: the
 * program's own error. GK_ENOMEM: out of memory. */
int gk_fault(struct gk *, gva_t, unsigned error);

/* The kernel is about to return to the program: it takes interrupts that wait, and reports free memory when 2 MiB
 * have come together. The engine calls it after each system call and fault. */
void gk_return(struct gk *);
/* The guest has nothing to do: it reports all free memory that it has not yet. */
void gk_idle(struct gk *);

/* ---- for checkers, hashes and tools ---- */
uint64_t gk_pt_bytes(const struct gk *); /* page tables of all processes */
uint64_t gk_free_frames(const struct gk *);
/* What the balloon holds, and what the kernel did for it (pages of 4 KiB); all 0 without one. */
struct gk_balloon_counts {
    uint64_t held, hinted;                                   /* now */
    uint64_t inflated, deflated, on_oom, reported, requests; /* since boot */
};
void gk_balloon(const struct gk *, struct gk_balloon_counts *);
uint64_t gk_reserved_frames(const struct gk *); /* kept for tables of TEAs not in use */
uint64_t gk_cr3(const struct gk *);             /* as last loaded, without CR3_KEEP */
/* Call fn for each user page of each process in (pid, gva) order: mapped ones, and those that a PROT_NONE
 * mapping keeps (pte without PTE_P). order: ORDER_*. */
void gk_for_each_page(struct gk *,
                      void (*fn)(void *ctx, int pid, gva_t, gfn_t, unsigned order, uint64_t pte),
                      void *ctx);
/* Check the kernel's invariants (numbered in guest/mm.c); NULL or a sentence naming the broken one.
 */
const char *gk_check(struct gk *);

#endif
