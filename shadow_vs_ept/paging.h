/* paging.h: the strategy contract. One strategy = one file ending in REGISTER(paging, NAME, ...).
 *
 * A virtual MMU is driven by events: the hardware's walk on a TLB miss, what the guest does to its
 * tables, and what the host does to the memory below. A strategy reacts to each:
 *
 *   walk     hardware: read tables, count, say why it stopped; changes nothing but A and D bits
 *            (ecpt also enters what it finds in the hashed tables that stand for the guest's)
 *   fix      hypervisor, after WALK_EXIT: repair what was missing, count the exit; then the walk is
 *            made again
 *   guest_*  the guest loaded CR3, ran INVLPG, wrote or read a table entry, or touched a frame
 *            through its direct map
 *   guest_return  the guest's kernel is about to return to its program
 *   zap      the host is about to change the frames below [first, first + n)
 *
 * mmu.c owns the retry loop, the TLBs and the counting of accesses. A walk counts its references in
 * struct walk; mmu.c books them as completed or lost.
 */
#ifndef NB_PAGING_PAGING_H
#define NB_PAGING_PAGING_H

#include "base/addr.h"
#include "base/counters.h"
#include "base/param.h"
#include "base/registry.h"
#include "base/segment.h"

struct mmu;
struct mmu_vm;
struct walk_log;
struct tea;

/* One access by the guest. A user-mode load when only va is set. */
struct access {
    gva_t va;
    bool store;
    bool fetch;      /* of an instruction; excludes store */
    bool supervisor; /* CPL < 3; explicit, as SDM vol. 3A, 4.6.1 has it */
    bool ac;         /* EFLAGS.AC: lifts SMAP for a supervisor's data access */
};

/* What decides on rights besides the entries (SDM vol. 3A, 4.1.3). PCIDs and five levels belong to
 * the VM. */
struct mmu_control {
    bool wp;   /* CR0.WP */
    bool smep; /* CR4.SMEP */
    bool smap; /* CR4.SMAP */
    bool pge;  /* CR4.PGE */
    bool nxe;  /* EFER.NXE */
};

enum invpcid_type { /* SDM vol. 2A, INVPCID */
                    INVPCID_ADDRESS,
                    INVPCID_CONTEXT,
                    INVPCID_ALL, /* globals too */
                    INVPCID_ALL_NONGLOBAL,
};

enum walk_status {
    WALK_OK,          /* translated */
    WALK_GUEST_FAULT, /* the guest's tables forbid it and the hardware delivers #PF itself */
    WALK_EXIT,        /* the hypervisor must act: fix() */
};

/* One walk. Inputs are in struct access; all of this is output. */
struct walk {
    enum walk_status status;
    unsigned error; /* #PF error code, or FAULT_GP; valid when WALK_GUEST_FAULT, and after
                       FIX_REFLECT */
    gpa_t gpa; /* address that had no nested translation; valid when WALK_EXIT of a nested walk */
    bool nested_fault; /* the exit is a nested-table fault */
    bool fallback;     /* a walk the mechanism did not serve: made the ordinary way (dmt) */
    hpa_t page;        /* host-physical address of the effective page; valid when WALK_OK */
    unsigned size;     /* 0, 1, 2 = 4K, 2M, 1G: effective page; valid when WALK_OK */
    uint64_t flags;    /* TLB_*; valid when WALK_OK */
    unsigned refs, refs_nested; /* entries an uncached walk reads */
    unsigned reads;             /* entries really read */
};

typedef void (*walk_fn)(struct mmu *, const struct access *, struct walk *);
/* A user's data access: its TLB entry, or 0: make the whole walk (walk_quick.h). */
typedef uint64_t (*quick_fn)(struct mmu *, gva_t, unsigned store);
typedef void (*slow_fn)(struct mmu *, gva_t, unsigned store);
enum { SHAPE_4_12, SHAPE_4_16, MMU_SHAPES };

enum fix_result {
    FIX_RETRY,   /* repaired: walk again */
    FIX_REFLECT, /* the fault is the guest's own: deliver it with w->error */
    FIX_EMULATE, /* the hypervisor makes this one access, to w->page; supervisor accesses only */
};

/* What a strategy needs of the guest's kernel (struct gk_config); 0: nothing. */
struct guest_wants {
    uint64_t segment_bytes;
};

struct paging {
    const char *name, *summary;
    const struct param *params; /* --set NAME.key=value; values in mmu_vm.param[]; NULL: none */
    /* Per-VM state. 0, or -1 with the reason in err. */
    int (*init)(struct mmu_vm *, char *err, size_t errlen);
    void (*fini)(struct mmu_vm *);
    /* The walk specialised for a CPU's walk caches and data caches. */
    walk_fn (*walk_for)(const struct mmu_vm *);
    /* The slow path of an access (mmu_slow.h) with the walk of the usual case in it, by shape of the
     * TLBs: QUICK(quick). NULL: none. */
    slow_fn quick[MMU_SHAPES];
    /* The same walk without caches, logging each reference it makes. */
    void (*explain)(struct mmu *, const struct access *, struct walk *, struct walk_log *);
    enum fix_result (*fix)(struct mmu *, const struct access *, struct walk *);
    /* A supervisor's access is the hypervisor's work: FIX_EMULATE or FIX_REFLECT. NULL: it is the
     * hardware's. */
    enum fix_result (*emulate)(struct mmu *, const struct access *, struct walk *);
    void (*guest_cr3)(struct mmu *, uint64_t cr3);
    void (*guest_invlpg)(struct mmu *, gva_t);
    void (*guest_pt_write)(struct mmu *, gpa_t, uint64_t entry);
    void (*guest_touch)(struct mmu *, gfn_t, bool write);
    /* INVPCID; NULL: the hardware does it (mmu_flush_invpcid). */
    void (*guest_invpcid)(struct mmu *, enum invpcid_type, unsigned pcid, gva_t);
    /* Control registers changed, m->ctl holds the new ones; NULL: no exit. All of the TLB goes in
     * any case, as a processor may. */
    void (*guest_control)(struct mmu *);
    /* After a system call or fault; NULL: nothing comes of that. */
    void (*guest_return)(struct mmu *);
    /* The kernel reads an entry through its direct map; NULL: nothing comes of that. */
    void (*guest_pt_read)(struct mmu *, gpa_t);
    /* How many TEA registers the guest kernel finds; NULL: none. Then it loads them, and tells of
     * each area it makes: name it (guest/hw.h); NULL: nobody listens. */
    unsigned (*tea_registers)(const struct mmu_vm *);
    void (*guest_teas)(struct mmu *, const struct tea *, unsigned n);
    uint64_t (*guest_tea_alloc)(struct mmu *, gfn_t first, uint64_t n);
    void (*guest_tea_free)(struct mmu *, uint64_t id);
    /* Direct segments (guest/hw.h); NULL: this machine has none. */
    void (*guest_segment)(struct mmu_vm *, gpa_t root, const struct hw_segment *);
    void (*guest_segment_escape)(struct mmu_vm *, gpa_t root, gva_t, uint64_t bytes, bool escape);
    void (*zap)(struct mmu_vm *, gfn_t first, uint64_t n);
    /* Bytes of shadow and nested tables now. */
    void (*table_bytes)(const struct mmu_vm *, uint64_t *shadow, uint64_t *nested);
    /* The counters it has and not every strategy: COUNTERS(CTR_...); NULL: none. Where a strategy
     * does not name what another does, that counter is null. */
    const enum counter_id *counters;
    /* Set those that a vCPU does not count as they happen; NULL: none. */
    void (*count)(const struct mmu_vm *, struct counters *);
    bool bare;           /* there is no VMM: nothing exits, no host's page or table */
    bool prefetches;     /* fills what no access asked for, as a processor may speculate */
    bool no_levels;      /* the guest table the hardware reads has none: --levels 5 is refused */
    bool no_host_levels; /* nor has the host's: --host-levels 5 is */
    bool no_host_table;  /* the hardware reads no table of the host's: likewise */
    bool forces_wp;      /* the hardware runs with CR0.WP set, whatever the guest's is */
    bool forces_nx;      /* and with EFER.NXE */
    bool image; /* its guest kernel is the image of guest/image/abi.h, to which entry 511 of
                            each root belongs, and the first KHALF_FRAMES frames (shadow_kvm.h) */
    struct guest_wants guest_wants;
    /* NULL, or a sentence naming a broken invariant of the strategy's own tables. */
    const char *(*check)(struct mmu_vm *);
};

/* A list for paging.counters. */
#define COUNTERS(...) \
    (const enum counter_id[]) { __VA_ARGS__, CTR_COUNT }

REGISTRY(paging);

#endif
