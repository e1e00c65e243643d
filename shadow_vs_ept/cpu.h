/* cpu.h: a processor as the model sees it: TLBs, walk caches, data caches, costs.
 *
 * Loaded from an INI file (shadow_vs_ept/cpus/NAME.ini, built into the binary; or any file). Every
 * number in a preset stands beside its source. cpu_load() refuses unknown sections and keys and
 * impossible geometry with file, line and what was expected.
 */
#ifndef NB_PAGING_CPU_H
#define NB_PAGING_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* mod: set = vpn mod sets; xor: set = (vpn ^ vpn >> log2 sets) mod sets. */
enum tlb_index { INDEX_MOD, INDEX_XOR };
enum tlb_policy { POLICY_LRU, POLICY_PLRU };

/* Geometry of one set-associative array. entries 0 = the array does not exist; ways == entries =
 * fully associative. sets = entries / ways must be a power of two, at most 2^20; ways at most 4096;
 * entries at most 2^24. */
struct geometry {
    uint32_t entries, ways;
    enum tlb_index index;
    enum tlb_policy policy;
};

enum pwc_kind { PWC_NONE, PWC_INTEL, PWC_AMD };

/* What of an interprocessor interrupt ends a vCPU's run: the sender's write of ICR and the arrival at the
 * target; only the write (posted interrupts: Intel APICv, SDM vol. 3C, 30.6); nothing (IPI virtualization,
 * 30.1.6; AMD AVIC, APM vol. 2, 15.29). */
enum apic_kind { APIC_TRAPPED, APIC_POSTED, APIC_VIRTUAL };

struct cpu {
    char name[64];
    char summary[128];
    char source[256]; /* path of the file, or "built in" */
    bool pcid;        /* guest kernel uses PCIDs */
    bool vpid;        /* TLB entries survive VM exits (VPID / ASID tags) */
    enum apic_kind apic;

    /* TLBs. l1_any set: one array for all sizes, l1[] unused. l2[i] serves the page sizes (bit 0 =
     * 4K, 1 = 2M, 2 = 1G) in l2_sizes[i]; a size served by none has no second level. */
    struct geometry l1[3]; /* 4K, 2M, 1G */
    struct geometry l1_any;
    struct geometry l2[2];
    unsigned l2_sizes[2];

    /* Walk caches. intel: psc[0..3] cache PML5E, PML4E, PDPTE, PDE by address prefix, npsc likewise
     * for the nested table by gpa prefix; amd: pwc caches entries by host-physical address, both
     * tables. ntlb: gfn -> hfn, either kind. */
    enum pwc_kind pwc_kind;
    struct geometry psc[4], npsc[4], pwc, ntlb;

    /* Data caches that table reads and data accesses go through; l1d.entries 0 = none modelled.
     * Geometry in 64-byte lines, at least 64 sets, modulo index, LRU. */
    struct geometry cache[3];

    /* Costs in cycles. */
    struct {
        double access;   /* data access when no caches are modelled */
        double stlb_hit; /* added by a first-level miss that hits the second level */
        double ref;      /* one table read when no caches are modelled */
        double pwc_hit;  /* one walk-cache hit */
        double cache[4]; /* L1, L2, L3, memory: per read or access */
        double exit;     /* round trip of one VM exit, handler excluded */
        double fill, reflect, pt_write, cr3, invlpg, ept_violation, hypercall, icr,
            intr;           /* handler per reason */
        double pv_update;   /* and per operation that a hypercall carries */
        double ipi;         /* one IPI without its exits: send, deliver, handle, acknowledge */
        double guest_fault; /* exception + guest kernel's handler + iret */
        double alloc_4k, alloc_2m, alloc_1g; /* host: find and zero one page */
    } cost;
};

/* Load a built-in preset by name, or a file when `name` holds a '/' or ends in ".ini". Returns NULL
 * and a message in err (for die() with NB_USAGE or NB_DATAERR) when that fails; *code gets the exit
 * code. */
const struct cpu *cpu_load(const char *name, char *err, size_t errlen, int *code);
void cpu_free(const struct cpu *);

/* Built-in presets, sorted by name. */
struct cpu_preset {
    const char *name;
    const char *text; /* the INI file, NUL-terminated */
};
extern const struct cpu_preset cpu_presets[];
extern const size_t cpu_preset_count;
/* One-line summary of a preset: its `summary` key. */
const char *cpu_preset_summary(const struct cpu_preset *);

#endif
