/* mmu.h: a vCPU's MMU and the paging state of its VM.
 *
 * What every strategy shares lives here and in mmu.c, mmu_flush.c and mmu_vm.c: TLBs, walk caches,
 * data caches, the retry loop around a walk, and counting. A strategy (paging.h) only says how to
 * walk, how to repair and how to react to guest and host events.
 *
 * struct mmu     one vCPU: its TLBs, walk caches, CR3 and counters
 * struct mmu_vm  one VM: memory, tables, strategy state, and its vCPUs
 *
 * More than one vCPU. TLBs and walk caches are private; what keeps them true is not the hardware's
 * work:
 *   the guest's changes  its kernel interrupts the others and has each invalidate for itself
 *                        (mmu_guest_ipi, then the guest events on that vCPU). Until then their
 *                        entries may stay, as in any machine.
 *   the host's changes   and those of shadow tables that no invalidation of the guest announces
 *                        (write protection, tables freed) reach all vCPUs at once:
 *                        mmu_vm_flush_all().
 * One vCPU runs at a time in the model, and stands for all running together: so one that must be
 * reached while another runs is taken to be in the guest, and is made to exit.
 */
#ifndef NB_PAGING_MMU_H
#define NB_PAGING_MMU_H

#include <string.h>

#include "base/counters.h"
#include "base/mutant.h"
#include "base/pte.h"
#include "memmgr/gmem.h"
#include "shadow_vs_ept/assoc.h"
#include "shadow_vs_ept/dcache.h"
#include "shadow_vs_ept/mmu_access.h"
#include "shadow_vs_ept/paging.h"

/* TLB entry. Key: vpn << 16 | tag << 3 | size << 1 | 1, with size 0, 1, 2 = 4K, 2M, 1G. Tag: the
 * PCID, or TAG_GLOBAL. Value: host-physical address of the page | TLB_* flags, which stand where a
 * PTE has them as far as they can. */
#define TAG_GLOBAL 0x1000u
#define TLB_X 1ull                        /* no level forbids fetches */
#define TLB_W PTE_W                       /* every level allows stores */
#define TLB_U PTE_U                       /* every level allows user-mode accesses */
#define TLB_D PTE_D                       /* the dirty bit is set: a store needs no walk */
#define TLB_G PTE_G                       /* global */
#define TLB_STORE (TLB_U | TLB_W | TLB_D) /* what a store by the program needs */
/* Part of a guest page of 2 MiB or 1 GiB that the host backs with smaller ones. */
#define TLB_PART_2M 8ull
#define TLB_PART_1G 16ull
/* Not for the second level: a walk that reads no table is as fast (dseg.c). */
#define TLB_L1_ONLY 32ull

static inline unsigned tlb_shift(unsigned size) { return 12 + 9 * size; }
static inline uint64_t tlb_vpn(gva_t va, unsigned size)
{
    return (va << 7 >> 7) >> tlb_shift(size);
}

static inline uint64_t tlb_key(gva_t va, unsigned size, unsigned tag)
{
    return (va << 7 >> 7) >> (12 + 9 * size) << 16 | (uint64_t)tag << 3 | size << 1 | 1;
}

/* What the MMU asks of the engine. */
struct mmu_ops {
    /* Deliver a #PF; returns when the access should be retried. */
    void (*guest_fault)(void *ctx, gva_t va, unsigned error);
    /* The host has no frame left for this VM: ends its run. */
    __attribute__((noreturn)) void (*no_frames)(void *ctx);
    /* The guest made an access that can never complete: ends its run. */
    __attribute__((noreturn)) void (*no_progress)(void *ctx, gva_t va);
    /* Something happened; NULL when nobody listens. `what` is a counter's name: an exit, a guest
     * event or a host zap; addr and value as far as it has them (address; entry, error code or
     * number of frames). */
    void (*event)(void *ctx, unsigned vcpu, const char *what, uint64_t addr, uint64_t value);
};

enum { MAX_VCPUS = 64, SIZE_MIXED = 3, MMU_HINTS = 1024 };

/* Tables of one level of the nested table, in order of address in one run of frames. */
struct nested_area {
    hpa_t table;
    uint64_t frames; /* 0: there is none */
    unsigned level;
};

struct mmu_vm {
    const struct paging *paging;
    const struct cpu *cpu;
    struct host *host;
    struct gmem *gm;
    unsigned levels, host_levels;
    uint64_t param[MAX_PARAMS];     /* values of paging->params */
    hpa_t nested_root;              /* of the nested table (ept.h), where the strategy has one */
    struct nested_area nested_area; /* part of it, where the strategy asks for that */
    struct spt *spt;                /* shadow tables (shadow_pt.h), where it has some */
    void *state;                    /* the strategy's own */
    uint64_t table_frames;          /* frames the strategy's tables occupy now */
    const struct mmu_ops *ops;
    void *ctx;
    unsigned nvcpus;
    unsigned running; /* the vCPU that makes the guest's accesses and events */
    struct mmu *vcpu[MAX_VCPUS];
};

/* Where the table of 4 KiB entries of a 2 MiB region of guest-physical addresses is
 * (walk_quick.h). */
struct mmu_hint {
    uint64_t region; /* number; ~0: none */
    const unsigned char *table;
};

struct mmu {
    struct mmu_hot hot;  /* first: mmu_access.h */
    unsigned char *pool; /* host-physical address 0 */
    uint64_t pool_bytes;
    walk_fn walk;          /* the strategy's, for this CPU's caches */
    struct mmu_hint *hint; /* MMU_HINTS of them, for quick walks */
    struct mmu_vm *vm;
    unsigned id;     /* vm->vcpu[id] */
    bool started;    /* the guest has loaded CR3 here */
    unsigned levels; /* of the table that walk1d() reads */
    hpa_t root;      /* native: guest root; shadow: shadow root; ept: nested root */
    uint64_t sptr;   /* agile: the shadow root, as if it were an sPTE above it */
    gpa_t guest_root;
    struct mmu_control ctl; /* the guest's */
    struct mmu_control hw;  /* what the hardware obeys: ctl, but see paging.forces_wp, forces_nx */
    uint64_t present;       /* P and the bits no entry may have: see walk_present() */
    uint64_t leaf_flags;    /* flags a TLB entry takes from a leaf: D, and G when it counts */
    unsigned tag;           /* PCID in use, 0 without PCIDs */
    unsigned sizes;         /* page sizes ever put into the TLBs: bit per size */
    unsigned
        only_size; /* the one page size there is; SIZE_MIXED: none, several, or global entries */
    bool globals;  /* a global entry was put in */
    bool parts;    /* an entry with TLB_PART_* was */

    struct assoc l1_own[3], l1_any, l2_own[2];
    struct assoc *l1[3], *l2[3]; /* by page size; NULL = none */
    struct assoc psc[4], npsc[4], pwc, ntlb;
    struct dcache cache[3];
    struct counters c;
};

/* A VM's paging: strategy, its parameters (NULL: the defaults), memory and sizes as given. NULL with the reason in err when the strategy
 * cannot run so. A strategy that finds no frame for its first table ends the VM (no_frames). */
struct mmu_vm *mmu_vm_new(const struct paging *, const uint64_t *params, const struct cpu *,
                          struct host *, struct gmem *, unsigned levels, unsigned host_levels,
                          const struct mmu_ops *, void *ctx, char *err, size_t errlen);
void mmu_vm_free(struct mmu_vm *);
struct mmu *mmu_add_vcpu(struct mmu_vm *);

/* Counters of the VM now: sums over its vCPUs, and what it has once (tables, memory). */
void mmu_counters(const struct mmu_vm *, struct counters *out);
/* What happened on one vCPU: its accesses, TLBs, walks, guest events and exits. What belongs to the VM
 * is unseen. */
void mmu_vcpu_counters(const struct mmu *, struct counters *out);

/* ---- guest events: the engine's hw_* calls end here ---- */
void mmu_guest_cr3(struct mmu *, uint64_t cr3);
void mmu_guest_invlpg(struct mmu *, gva_t);
void mmu_guest_pt_write(struct mmu *, gpa_t, uint64_t entry);
void mmu_guest_touch(struct mmu *, gfn_t, bool write);
void mmu_guest_invpcid(struct mmu *, enum invpcid_type, unsigned pcid, gva_t);
void mmu_guest_control(struct mmu *, const struct mmu_control *);
void mmu_guest_return(struct mmu *);
/* An interprocessor interrupt from one vCPU to another. */
void mmu_guest_ipi(struct mmu *from, struct mmu *to);

/* Any access, of a program or a kernel, data or code: its host-physical address. The hot path for a
 * program's data is mmu_access.h. A fetch counts as a load. */
hpa_t mmu_access(struct mmu *, const struct access *);

/* Error code of a fault of this access; why: PF_P and PF_RSVD as they apply, or FAULT_GP (SDM vol.
 * 3A, 4.7). */
static inline unsigned mmu_error(const struct mmu_control *c, const struct access *a, unsigned why)
{
    if (why == FAULT_GP)
        return why;
    return why | (a->supervisor || MUTANT(error_without_user) ? 0 : PF_U) | (a->store ? PF_W : 0) |
           (a->fetch && (c->smep || c->nxe) && !MUTANT(error_without_fetch) ? PF_I : 0);
}

/* P, and the bits that no entry may have under these registers. */
static inline uint64_t mmu_present(const struct mmu_control *c)
{
    return PTE_P | PTE_GUEST_RSVD | (c->nxe ? 0 : PTE_NX);
}

/* Do rights (PTE_W, PTE_U, and PTE_NX set when no level forbids fetches) permit the access (SDM vol.
 * 3A, 4.6.1)? Data accesses of a program are decided in line (walk_permits). */
bool mmu_permits(const struct mmu_control *, uint64_t rights, const struct access *);

/* ---- for strategies ---- */
/* One VM exit about address addr: counts it and its reason; without VPID it costs the TLBs. */
void mmu_exit(struct mmu *, enum counter_id reason, uint64_t addr);
/* Tell who listens that something happened: --set run.events=FILE. */
void mmu_note(struct mmu *, const char *what, uint64_t addr, uint64_t value);
/* Drop translations: of one address in the current tag, of one tag, of everything but globals, of
 * everything. */
void mmu_flush_va(struct mmu *, gva_t);
void mmu_flush_tag(struct mmu *, unsigned tag);
/* What INVPCID drops. */
void mmu_flush_invpcid(struct mmu *, enum invpcid_type, unsigned pcid, gva_t);
/* What a fault at va drops (SDM vol. 3A, 4.10.4.1): its translations, and what walk caches by address
 * prefix know of it. */
void mmu_flush_faulting(struct mmu *, gva_t va);
void mmu_flush_nonglobal(struct mmu *);
void mmu_flush_linear(struct mmu *);    /* all of guest-virtual addresses, globals too */
void mmu_flush_all(struct mmu *);       /* one vCPU, host-side caches too */
void mmu_power_on(struct mmu *);        /* the data caches too */
void mmu_vm_flush_all(struct mmu_vm *); /* all vCPUs; those not running are kicked out first */
/* The TLB's part of a CR3 load: new tag, flush unless kept. */
void mmu_load_tag(struct mmu *, uint64_t cr3);
/* A zeroed frame for a table; ends the VM when there is none. */
hpa_t mmu_table_alloc(struct mmu_vm *);
void mmu_table_free(struct mmu_vm *, hpa_t);
static inline uint64_t *mmu_ptr(const struct mmu_vm *vm, hpa_t a) { return host_ptr(vm->host, a); }

/* The last access is no longer a short cut: its translation may be gone. */
static inline void mmu_forget_mru(struct mmu *m) { m->hot.mru[0] = m->hot.mru[1] = MRU_NONE; }
static inline void mmu_forget_hints(struct mmu *m)
{
    memset(m->hint, 0xff, MMU_HINTS * sizeof *m->hint);
}
/* Pick the instance of the slow path that fits the vCPU's TLBs; `quick`: with the strategy's quick
 * walk where that applies. */
void mmu_choose_slow(struct mmu *, bool cached, bool quick);

/* The data caches serve host-physical address a: 0 = L1 .. 3 = memory. */
static inline unsigned cache_access(struct mmu *m, hpa_t a)
{
    for (unsigned level = 0; level < 3; level++)
        if (m->cache[level].ways && dcache_access(&m->cache[level], a))
            return level;
    return 3;
}

/* NULL, or a sentence naming what is broken: the invariants of mmu.c and assoc.h. */
const char *mmu_check(const struct mmu *);

#endif
