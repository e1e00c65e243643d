/* shadow_kvm.h: Linux KVM's shadow MMU: the pages of the cache, and what its parts offer each
 * other.
 *
 * Written from the published description of the algorithm (Documentation/virt/kvm/x86/mmu.rst) and
 * from what Linux 6.1 and later are seen to count. It serves two strategies (shadow_kvm.c):
 *
 *   shadow-kvm  kvm_amd with npt=0, kvm_intel with ept=0: the guest kernel runs in ring 0 of the
 *               guest and reaches memory through the shadow tables too
 *   shadow-pvm  kvm_pvm: the guest kernel is run by an instruction emulator, which reads and writes
 *               guest memory itself
 *
 * Terms. A shadow page is a table of sPTEs. An indirect one stands for one guest table; a direct
 * one for a piece of a large guest page that the host backs with smaller pages. Both are found by
 * gfn and role. Shadow pages outlive what links them.
 *
 *   role       level, direct, and what else the sPTEs of a page depend on: the rights gathered above
 *              it (ACC_*), and the control registers it was made under (ROLE_*)
 *
 *   tracked    a gfn with an indirect shadow page above level 1: every write is emulated
 *   unsync     a level-1 shadow page whose guest table is writable: the guest's entries may differ,
 *              and are read again ("sync") at the invalidation that makes them count
 *   flooded    three writes to an upper table without a use between: it is a table no more
 *   prefetch   a fill also maps those of its 8 aligned neighbours that need no fault
 *
 * The kernel half. Root entry 511 of every process maps guest memory with 2 MiB pages at
 * DIRECT_BASE and the kernel image with 4 KiB pages at IMAGE_BASE (guest/image/abi.h). The model's
 * guest has no such tables in its memory, but their shape is fixed by that file, so walks of the
 * upper half are made from it. Everything below is the same for them: shadow pages, sPTEs, write
 * protection. Their role says so (ROLE_KHALF).
 *
 * Control registers. The processor always runs with CR0.WP and EFER.NXE set; SMEP and SMAP are the
 * guest's. While the guest's WP is clear its kernel may write where no R/W bit lets it, which no sPTE
 * can say of a user page: a kernel's store there makes the sPTE W=1 U=0 (and NX under SMEP, for it is
 * a user page still), a program's access makes it W=0 U=1 again. So what an sPTE means depends on the
 * registers, and pages made under others are not found: WP, NXE, and, where WP is clear, SMEP and SMAP
 * are in the role. (Source: mmu.rst, "Emulating cr0.wp", and "role" of "Shadow pages".)
 *
 * Invariants (kmmu_check verifies all):
 *  (1) a leaf sPTE maps the frame gmem holds for its gfn, at a size no larger than gmem's block; or
 *      it is the kernel's, read-only, and maps the page of zeroes; or it is the image's.
 *  (2) a leaf of an indirect page that is not unsync, nor of the kernel half, agrees with its guest
 *      entry: present, accessed, same frame, no right that the role or the entry denies, writable
 *      only if the entry is dirty; but while WP is clear a leaf without U may be writable where the
 *      entry is not, and then executable only without SMEP.
 *  (3) a writable leaf covers no tracked gfn, and no table of an indirect page that is not unsync.
 *  (4) every leaf is in the rmap list of its first gfn, every link in its child's list of parents,
 *      and nothing else is.
 *  (5) an unsync page has level 1 and is indirect; each link to it, and to what leads there, is
 *      noted in unsync_child of the page that holds it.
 *  (6) table_frames counts the shadow pages, unsync pages are counted, and the age list holds every
 *      page that is not invalid.
 *  (7) an invalid page is a root in use that cannot be found any more.
 */
#ifndef NB_PAGING_SHADOW_KVM_H
#define NB_PAGING_SHADOW_KVM_H

#include "shadow_vs_ept/mmu.h"

/* A role but for level and direct. Linux keeps its efer_nx set, as the processor's is, and so takes the
 * sPTEs of an entry with XD for those of a guest without NXE, where XD is a reserved bit; here it is
 * the guest's, as mmu.rst has it. */
enum {
    ACC_X = 1, /* rights */
    ACC_W = 2,
    ACC_U = 4,
    ACC_ALL = 7,
    ROLE_WP = 8, /* control registers */
    ROLE_NX = 16,
    ROLE_SMEP_NOT_WP = 32,
    ROLE_SMAP_NOT_WP = 64,
    ROLE_CONTROL = 120,
    ROLE_KHALF = 128, /* below entry 511 of a root */
};

/* mmu.h of Linux 6.1: PTE_PREFETCH_NUM, KVM_MMU_NUM_PREV_ROOTS, KVM_MIN_FREE_MMU_PAGES,
 * KVM_REFILL_PAGES, KVM_PERMILLE_MMU_PAGES, KVM_MIN_ALLOC_MMU_PAGES; detect_write_flooding(). */
enum {
    KMMU_PREFETCH = 8,
    KMMU_PREV_ROOTS = 3,
    KMMU_MIN_FREE = 5,
    KMMU_REFILL = 25,
    KMMU_PERMILLE = 20,
    KMMU_MIN_PAGES = 64,
    KMMU_FLOOD = 3
};

/* The kernel half, as guest/image/abi.h lays it out (a test compares): addresses of the direct map
 * and of the image, gpa of the image's first page; gfns of the tables that map them. */
#define KHALF_DIRECT 0xffffff8000000000ull
#define KHALF_IMAGE 0xffffffff80000000ull
#define KHALF_TEXT_GPA 0x10000u
enum {
    KHALF_ROOT_ENTRY = 511,
    KHALF_PDPT = 2,
    KHALF_IMAGE_PD = 3,
    KHALF_IMAGE_PT = 4,
    KHALF_PML4 = 5,        /* with 5 levels only */
    KHALF_BOOT_ROOT = 6,   /* of the tables that the VMM enters the guest with */
    KHALF_DIRECT_PD = 256, /* one per GiB */
    KHALF_FRAMES = 512     /* frames below this are the image and these tables */
};

/* One shadow page. */
struct kpage {
    uint64_t gfn;  /* the guest table; direct: first gfn it maps */
    hpa_t table;   /* the hardware table */
    uint8_t level; /* of that table */
    uint8_t role;
    bool direct, unsync, invalid;
    uint8_t flood;            /* emulated writes since the last use */
    uint16_t unsync_children; /* bits set in unsync_child */
    uint64_t unsync_child[8];
    uint32_t roots;        /* vCPU root slots that hold it */
    uint32_t id, chain;    /* own index; next of the same hash chain */
    uint32_t older, newer; /* by time of making */
    uint32_t parents;      /* list of link sPTEs that point here */
    uint32_t *target;      /* indirect: first gfn of each leaf */
};

struct kroot {
    struct kpage *page; /* NULL: none */
    uint64_t cr3;       /* it was loaded with, without CR3_KEEP */
};

/* One vCPU's roots: the one in use (none: CR3 names no memory), and those used before, latest first. */
struct kvcpu {
    struct kroot cur, prev[KMMU_PREV_ROOTS];
    uint64_t cr3;
    unsigned role; /* of its roots */
    bool started;  /* has run */
};

struct knode {
    hpa_t spte;
    uint32_t next;
};

/* What is known of a guest frame beside gmem. */
enum {
    GF_ZERO = 1,  /* only read so far: the host maps its page of zeroes, read-only */
    GF_HUGE = 4,  /* with GF_ZERO: that page is a large one */
    GF_KROOT = 2, /* a root that has its kernel entry */
};

struct kmmu {
    struct mmu_vm *vm;
    bool emulated;       /* ring 0 is run by the emulator: shadow-pvm */
    struct kpage **page; /* by id; [0] unused */
    uint32_t npages, cap, free_id, *free_next;
    uint32_t *hash, hash_mask;
    uint32_t oldest, newest;             /* ends of the age list */
    uint64_t used, limit;                /* pages not invalid; KVM's bound on them */
    uint32_t *by_table;                  /* by hfn: id */
    uint32_t *rmap;                      /* by gfn: list of leaf sPTEs */
    uint8_t *flags;                      /* by gfn: GF_* */
    uint16_t *tracked, *indirect;        /* by gfn: indirect pages above level 1; of any level */
    uint32_t *indirect_2m, *indirect_1g; /* gfns with indirect pages in each block */
    struct knode *node;
    uint32_t nnodes, node_cap, free_node;
    struct kvcpu vcpu[MAX_VCPUS];
    bool flush;    /* hardware may hold what is gone: kmmu_settle() */
    bool obsolete; /* a root slot holds an invalid page */
};

static inline struct counters *kmmu_counters(const struct kmmu *k) { return &k->vm->vcpu[0]->c; }
static inline uint64_t *kmmu_spte(const struct kmmu *k, const struct kpage *p, unsigned idx)
{
    return mmu_ptr(k->vm, p->table + 8 * idx);
}
static inline bool kmmu_symbolic(const struct kpage *p)
{
    return !p->direct && (p->role & ROLE_KHALF);
}
/* The host could map this frame writable at once. */
static inline bool kmmu_host_writable(const struct kmmu *k, uint64_t g)
{
    return g < k->vm->gm->frames && gmem_state(k->vm->gm, gfn(g)) == PG_RESIDENT &&
           !(k->flags[g] & GF_ZERO);
}
/* A first load maps the host's page of zeroes: anonymous memory, which is what the model has, but
 * for pages that the host reserves in large sizes. */
static inline bool kmmu_maps_zeroes(const struct kmmu *k)
{
    return k->vm->gm->mode == PAGES_4K || k->vm->gm->mode == PAGES_THP;
}
/* Where a leaf of this page leads. Those of the kernel half to a frame nobody wrote lead to address 0,
 * which stands for the host's page of zeroes; all others need a frame in any case. */
static inline hpa_t kmmu_maps(const struct kmmu *k, const struct kpage *p, uint64_t g)
{
    const struct gmem *gm = k->vm->gm;
    bool zero = (k->flags[g] & GF_ZERO) && (p->role & ROLE_KHALF);
    return zero || gmem_state(gm, gfn(g)) != PG_RESIDENT ? 0 : hfn_hpa(gmem_hfn(gm, gfn(g)));
}
static inline unsigned kmmu_access(uint64_t entry)
{
    return (entry & PTE_W ? ACC_W : 0) | (entry & PTE_U ? ACC_U : 0) | (entry & PTE_NX ? 0 : ACC_X);
}

/* ---- shadow_kvm_pages.c: the cache ---- */
struct kmmu *kmmu_new(struct mmu_vm *, bool emulated);
void kmmu_free(struct kmmu *);

struct kpage *kmmu_of_table(const struct kmmu *, hpa_t table);
/* The page a link entry points to; NULL when the entry is absent or a leaf. */
struct kpage *kmmu_child(const struct kmmu *, const struct kpage *, unsigned idx);
/* First gfn that leaf idx maps. */
uint64_t kmmu_leaf_gfn(const struct kpage *, unsigned idx);

/* The page for (gfn, level, direct, role): found, and then synced and no longer flooded; or made,
 * and its guest table write-protected. */
struct kpage *kmmu_get(struct kmmu *, uint64_t gfn, unsigned level, bool direct, unsigned role);
void kmmu_link(struct kmmu *, struct kpage *parent, unsigned idx, struct kpage *child);
void kmmu_zap_entry(struct kmmu *, struct kpage *, unsigned idx);
/* Take a page out of the cache. A root in use stays until its last slot lets go (kmmu_put_root). */
void kmmu_zap_page(struct kmmu *, struct kpage *);
void kmmu_put_root(struct kmmu *, struct kpage *);
/* The pages that stand for guest table g: at most one for each of 5 levels, 8 sets of rights, and 10
 * of control registers (NXE, and WP or any of SMEP and SMAP); and those of the kernel half. To zap one
 * may free others, so they are listed first, and looked up again one by one: kmmu_use() is NULL when
 * page i of the list is gone. */
enum { KMMU_MAX_USES = 2 * 5 * 8 * 10 };
struct kuses {
    unsigned n;
    uint32_t id[KMMU_MAX_USES];
};
void kmmu_uses_of(const struct kmmu *, uint64_t g, struct kuses *);
struct kpage *kmmu_use(const struct kmmu *, uint64_t g, const struct kuses *, unsigned i);
/* Drop all pages that stand for guest table g ("unprotect"). */
void kmmu_zap_gfn(struct kmmu *, uint64_t g);
/* Drop all leaves that map g, of any size. */
void kmmu_zap_leaves(struct kmmu *, uint64_t g);
/* Make room when KVM's bound on shadow pages is near. */
void kmmu_make_room(struct kmmu *);

void kmmu_mark_unsync(struct kmmu *, struct kpage *);
/* Write-protect and read again every unsync page below p. */
void kmmu_sync_below(struct kmmu *, struct kpage *p);

/* One flush for all that an event took away. */
void kmmu_settle(struct kmmu *);
/* Put an sPTE on a list: of a frame's leaves, of a page's parents. */
void kmmu_list_add(struct kmmu *, uint32_t *head, hpa_t spte);

/* ---- shadow_kvm_leaf.c: leaves ---- */
/* How a leaf is to be made. */
struct kleaf {
    uint64_t gfn;
    unsigned access;
    bool write; /* for a store */
    bool prefetch, can_unsync, host_writable;
};
enum kpf {
    KPF_FIXED,
    KPF_SPURIOUS, /* the entry was right already */
    KPF_EMULATE,  /* the store must be emulated: its target is a table */
    KPF_NO_SPTE,  /* so must the kernel's: no sPTE can allow it alone */
    KPF_RETRY,    /* the host changed meanwhile: the access faults again */
    KPF_GUEST     /* the guest's own fault */
};
/* Make entry idx a leaf. */
enum kpf kmmu_set_leaf(struct kmmu *, struct kpage *, unsigned idx, const struct kleaf *);

/* An emulated write of entry idx of guest table g, once its value is there. */
void kmmu_pte_written(struct kmmu *, uint64_t g, unsigned idx);

/* ---- shadow_kvm_sync.c: reading the guest's tables again ---- */
/* Compare every sPTE of a level-1 page with its guest entry. */
void kmmu_sync_page(struct kmmu *, struct kpage *);
/* Map entry idx of a level-1 indirect page if that needs no fault; false: it does. */
bool kmmu_prefetch_entry(struct kmmu *, struct kpage *, unsigned idx, uint64_t entry);
/* Prefetch around entry idx, just filled. */
void kmmu_prefetch(struct kmmu *, struct kpage *, unsigned idx);
/* The guest's INVLPG, in one root. */
void kmmu_invlpg(struct kmmu *, struct kpage *root, gva_t va);
/* The guest's entry idx of an indirect user page. */
uint64_t kmmu_guest_entry(const struct kmmu *, const struct kpage *, unsigned idx);

/* ---- shadow_kvm_roots.c: a vCPU's roots ---- */
static inline struct kvcpu *kmmu_vcpu(const struct mmu *m)
{
    return &((struct kmmu *)m->vm->state)->vcpu[m->id];
}
/* The role of roots under these registers. */
unsigned kmmu_role(const struct mmu_control *);
/* Make the root for cr3 current if one of the last ones is; else current is empty. */
bool kmmu_switch_root(struct kmmu *, struct kvcpu *, uint64_t cr3);
/* Empty all slots that hold invalid roots. Frame 0 is empty: without a root a vCPU's walks exit. */
void kmmu_let_go(struct kmmu *);
/* Empty all slots of a vCPU. */
void kmmu_drop_roots(struct kmmu *, struct kvcpu *);
/* A PCID's translations are to be current: the pages below the root are synced, other roots of this
 * PCID are let go. */
void kmmu_invalidate(struct mmu *, unsigned pcid);
/* Those of all roots are. */
void kmmu_sync_roots(struct mmu *);
/* Read again what the roots of a PCID have of an address. */
enum { KMMU_ANY_PCID = -1 };
void kmmu_invalidate_va(struct mmu *, gva_t va, int pcid);

/* ---- shadow_kvm_fault.c: page faults ---- */
struct kfault {
    struct access a;
    bool khalf;     /* the image's own access, to the kernel half */
    bool present;   /* the hardware found an sPTE that forbids the access */
    unsigned error; /* valid after KPF_GUEST */
    uint64_t gfn;   /* of the byte accessed; valid unless KPF_GUEST */
};
/* Handle one. May make frames resident; ends the VM when there are none. */
enum kpf kmmu_fault(struct mmu *, struct kmmu *, struct kpage *root, struct kfault *);
/* Make a frame resident; ends the VM when there is none. */
void kmmu_back(struct mmu *, const struct kmmu *, uint64_t g);
/* A store to a frame that was only read: the host's page of zeroes gives way to a frame, and every
 * sPTE of it goes. False: it was no such frame. */
bool kmmu_break_zero(struct mmu *, struct kmmu *, uint64_t g);
/* If g is in the host's large page of zeroes: it becomes 512 small ones, and every sPTE of it goes. */
void kmmu_split_zero(struct kmmu *, uint64_t g);
/* What the shadow tables allow now; marks the sPTE as hardware does when they allow it. *present as
 * in kfault. */
bool kmmu_permits(struct kmmu *, struct kpage *root, gva_t va, bool write, bool *present);

/* ---- shadow_kvm_check.c ---- */
const char *kmmu_check(struct kmmu *);

#endif
