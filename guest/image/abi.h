/* abi.h: what the VMM and the freestanding guest image agree on.
 *
 * The image is the guest kernel of guest/ in ring 0 and the programs of workloads/ in ring 3, linked
 * at IMAGE_BASE. The VMM loads it into guest-physical memory, builds the tables that map it, fills
 * struct nb_boot and enters it in long mode, ring 0, at nb_image.entry. It talks back by port writes
 * (a VMCALL is not safe on every KVM) and through struct nb_boot.
 *
 * Guest-physical layout, all inside [0, gk_reserved_bytes(mem)), which the kernel never hands out:
 *
 *   0x000000  nothing (frame 0 is never used)
 *   0x001000  struct nb_boot
 *   0x002000  the kernel's tables: PDPT, image PD, image PT, PML4 of the kernel half (5 levels)
 *   0x006000  root table at entry, replaced when the first process is made (GDT, TSS and IDT are the
 *             image's own)
 *   0x007000  struct nb_script, when the program is a script
 *   0x010000  the image: header, text, data, bss, stacks
 *   0x100000  page directories of the direct map, one per GiB of guest memory (256 at most)
 *   0x200000  kernel memory (hw_kmem) up to the end of the reserved range
 *
 * Guest-virtual: the lower half belongs to processes. Of the upper half one root entry is used, 511:
 * the direct map of all guest memory with 2 MiB pages at DIRECT_BASE, ring 0 only; the image with
 * 4 KiB pages at IMAGE_BASE + gpa (struct nb_boot too), its user part accessible from ring 3.
 * A device's registers, where there is one, are the page at DEVICE_BASE.
 * hw_load_cr3() puts entry 511 into each new root with one store, which is not counted among
 * guest_pt_writes.
 */
#ifndef NB_GUEST_IMAGE_ABI_H
#define NB_GUEST_IMAGE_ABI_H

#include <stdint.h>

#define DIRECT_BASE 0xffffff8000000000ull /* gva of gpa 0; at most 510 GiB */
#define IMAGE_BASE 0xffffffff80000000ull  /* gva of gpa 0 for the first 2 MiB */
#define KERNEL_ROOT_ENTRY 511u
#define DEVICE_BASE (IMAGE_BASE + 0x1ff000) /* gva of the balloon's registers */

#define BOOT_GPA 0x1000u
#define KERNEL_PDPT_GPA 0x2000u
#define IMAGE_PD_GPA 0x3000u
#define IMAGE_PT_GPA 0x4000u
#define KERNEL_PML4_GPA 0x5000u /* used with 5 levels only */
#define BOOT_ROOT_GPA 0x6000u
#define SCRIPT_GPA 0x7000u
#define IMAGE_GPA 0x10000u
#define IMAGE_LIMIT 0x100000u
#define DIRECT_PD_GPA 0x100000u
#define DIRECT_GIB_MAX 256u
#define KMEM_GPA 0x200000u

/* At IMAGE_GPA. Offsets are from IMAGE_GPA. */
#define NB_IMAGE_MAGIC 0x31474d495453454eull /* "NESTIMG1" */
struct nb_image {
    uint64_t magic;
    uint32_t entry;                /* ring 0, interrupts off, flat segments, its own stack */
    uint32_t user_start, user_end; /* page aligned: what ring 3 may use */
    uint32_t file_size, mem_size;  /* bytes to load, bytes to map (with bss) */
};

/* Port of all calls: a 32-bit OUT of the call's number. Arguments are in struct nb_boot. */
#define NB_PORT 0x4e42u
/* A byte written here is an exit and nothing else; only while the VMM runs a probe (probe.h). */
#define NB_PROBE_PORT 0x4eu
enum nb_call {
    NB_CALL_BOOTED = 1, /* the kernel runs: counts are valid, ring 3 begins */
    NB_CALL_PHASE,      /* text = name: a phase begins */
    NB_CALL_DONE,       /* the program is finished; procs[] says where its pages are */
    NB_CALL_ABORT,      /* text = why: u_abort */
    NB_CALL_NOMEM,      /* value 0: no guest memory for addr; else mapping `value` bytes was refused
                           with GK_* = -error */
    NB_CALL_SEGV,       /* addr, error: the program's own fault */
    NB_CALL_PANIC,      /* text, addr = rip: a fault in ring 0, or an unexpected vector */
    NB_CALL_DISCARD,    /* addr, value: the host drops guest-physical [addr, addr + value) */
    NB_CALL_MARK,       /* value = number of a probe's part: counts and times are cut here */
    NB_CALL_OP,         /* value = number of an operation: nb_script gets it and those after it, or
                           none; and what it says was seen is taken out */
    NB_CALL_SAW,        /* only the latter */
};

/* Ring 3 enters the kernel with INT SYSCALL_VECTOR: a vector that every KVM delivers to the guest
 * without an exit, kvm_pvm too (it delivers only 3 and 4 as software interrupts). Numbers and
 * registers: guest/image/syscall.h. */
#define SYSCALL_VECTOR 4

enum { NB_PARAMS = 16, NB_TEXT = 256, NB_MAX_PROCS = 170 };

/* A leaf without P and with this bit is a page that a PROT_NONE mapping keeps. */
#define NB_PTE_KEPT (1ull << 10)

/* One page, written by the VMM before entry and by the guest afterwards. Everything the guest writes
 * is hostile to the VMM: bounded, and read once. */
struct nb_boot {
    /* VMM to guest */
    uint64_t mem_bytes;
    uint32_t levels, pages; /* 4 or 5; enum page_mode */
    uint32_t flush_ceiling, pcid;
    uint32_t balloon, balloon_order, balloon_report_order; /* struct gk_config */
    uint32_t interrupt;                                    /* the balloon's line, at any time */
    uint32_t check,
        pad3; /* check: gk_check() when the program is done; PANIC if it finds a fault */
    uint64_t seed;
    uint64_t params[NB_PARAMS];
    char program[32]; /* name of a workload, or of a probe ("probe:...") */
    /* guest to VMM */
    uint64_t pt_writes, cr3_loads, invlpgs, faults; /* since entry: the counters guest_* */
    uint64_t pt_bytes; /* gk_pt_bytes(), brought up to date by a call */
    uint64_t addr, value;
    uint32_t error, pad;
    char text[NB_TEXT];
    /* Where each process's tables are, in pid order; more of them than fit: nprocs > NB_MAX_PROCS,
     * and the rest is not listed (no hash then). */
    uint32_t nprocs, pad2;
    struct {
        uint32_t pid, pad;
        uint64_t root; /* gpa of its top table */
    } procs[NB_MAX_PROCS];
};
_Static_assert(sizeof(struct nb_boot) <= 4096, "nb_boot is one page");

/* A piece of a script (workloads/script.h), and what it saw. Many at a time, so that little happens
 * between operations but what they ask for: some processors drop their TLB at each exit. Written by the
 * guest: hostile like nb_boot. */
enum { NB_OPS = 16, NB_OP_ARGS = 4, NB_SAWS = 140 };
struct nb_script {
    uint32_t nops; /* VMM to guest; 0: there are no more */
    uint32_t nsaw; /* guest to VMM, which sets it to 0 */
    struct {
        uint64_t kind, arg[NB_OP_ARGS];
    } op[NB_OPS];
    struct {
        uint32_t op, tag; /* op: its number */
        uint64_t a, b;
    } saw[NB_SAWS];
};
_Static_assert(sizeof(struct nb_script) <= 4096, "nb_script is one page");

#endif
