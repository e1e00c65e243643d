/* internal.h: the guest kernel's own structures; nobody outside guest/ includes it.
 *
 * Who owns what: pmm.c frames · tea.c runs of tables · smp.c what each vCPU has loaded · pt.c entries
 * and the flush batch · vma.c address ranges · shm.c the pages of mappings that processes share · mm.c
 * system calls and faults · proc.c processes · balloon.c what the host may have · segment.c primary regions · check.c the invariants.
 * Lower ones never call higher ones.
 */
#ifndef NB_GUEST_INTERNAL_H
#define NB_GUEST_INTERNAL_H

#include "balloon/driver.h"
#include "base/pte.h"
#include "guest/kernel.h"

#define NO_FRAME UINT32_MAX
#define MAX_ORDER 18
#define MAX_PROCS 4095        /* one PCID each: 1..4095 */
#define MAX_FLUSH_LIST 65536u /* a larger flush_ceiling means this one */
#define PID_BUCKETS 1024u

/* Software bits of a leaf. */
#define PTE_COW PTE_SW0 /* private page of a writable mapping, read-only until copied or sole */
#define PTE_KEPT \
    PTE_SW1 /* P is clear because the mapping is PROT_NONE; the frame is still ours \
             */

/* ---- pmm.c: guest frames ---- */
enum frame_kind {
    FRAME_PART,
    FRAME_FREE,
    FRAME_DATA,
    FRAME_TABLE,
    FRAME_TEA, /* reserved for a table by tea.c: not in use, zero */
    /* balloon.c's, in no table of a process: */
    FRAME_BALLOON, /* in the balloon */
    FRAME_HINTED,  /* hinted to the host as free */
    FRAME_DEVICE,  /* what driver and device share; or off the free list while it is reported */
};

/* Only the first frame of a block has meaningful fields; the others are FRAME_PART (all zero). */
struct frame {
    union {
        uint32_t next; /* free and balloon.c's: list; data with ref 0: the batch's frames to free */
        uint32_t
            ref; /* data: leaf entries that map any part of the block, plus 1 if a shm holds it */
    };
    union {
        uint32_t prev; /* free: list */
        uint32_t seen; /* allocated: scratch of gk_check */
    };
    uint8_t kind, order;
    bool tea;      /* table or not, the frame belongs to an area of tea.c */
    bool reported; /* free: the host knows, and nobody has used it since */
};

struct pmm {
    struct frame *frames; /* one per guest frame, zero until first needed */
    uint64_t *used;       /* bit per frame: allocated at least once since boot */
    uint32_t first, end;  /* frames [first, end) are managed */
    uint64_t free;        /* frames in free blocks */
    uint32_t head[MAX_ORDER + 1], tail[MAX_ORDER + 1];
    uint32_t nonempty; /* bit per order */
    unsigned
        report_order; /* of the least block that is reported to the host; above MAX_ORDER: none is */
    uint32_t unreported; /* frames in free blocks of that order and above that are not */
};

bool pmm_init(struct gk *);
/* A block of 2^order frames with ref 1, or NO_FRAME. zero: clear those frames that were used
 * before. */
uint32_t pmm_alloc(struct gk *, unsigned order, enum frame_kind, bool zero);
/* n consecutive zero frames as n blocks of one, or NO_FRAME. */
uint32_t pmm_alloc_run(struct gk *, uint32_t n, enum frame_kind);
void pmm_free(struct gk *, uint32_t head);
/* First frame of the allocated block that holds f. */
uint32_t pmm_head(const struct gk *, uint32_t f);
/* n consecutive frames from a multiple of 2^order, zeroed as above; NO_FRAME when no free ones lie so.
 * They are in no block until each is in one of pmm_block() or given back. */
uint32_t pmm_take_run(struct gk *, uint64_t n, unsigned order);
void pmm_free_run(struct gk *, uint32_t first, uint32_t end);
/* Frames of a run become a data block of ref 1. */
void pmm_block(struct gk *, uint32_t head, unsigned order);
/* Make a data block of ref 1 into 512 blocks of ref 1. */
void pmm_split(struct gk *, uint32_t head);
/* A free block of at least this order that is not reported leaves the free lists, or NO_FRAME; and it comes
 * back as one that is, to be used last. */
uint32_t pmm_take_unreported(struct gk *, unsigned *order);
void pmm_give_reported(struct gk *, uint32_t head, unsigned order);
void pmm_report_nothing(struct gk *); /* from now on; nothing was reported before */
/* Frames would be handed out for this order. */
bool pmm_has(const struct gk *, unsigned order);
const char *pmm_check_blocks(struct gk *); /* lists and partition; resets every `seen` */
const char *pmm_check_seen(struct gk *);   /* after counting: seen equals ref */

/* ---- slabs of kernel memory ---- */
struct slab {
    void *free;    /* returned objects, linked through their first word */
    char *fresh;   /* rest of the newest chunk */
    unsigned left; /* objects in it */
    unsigned size; /* of an object, multiple of 16 */
};

void *slab_get(struct gk *, struct slab *); /* zeroed, or NULL */
void slab_put(struct slab *, void *);

/* ---- vma.c: address ranges ---- */
struct vma {
    gva_t start, end; /* [start, end), 4 KiB aligned */
    struct shm *shm;  /* pages shared with other processes, or NULL */
    struct vma *left, *right, *prev, *next;
    uint64_t max_gap; /* widest free space before a node of this subtree */
    int height;       /* of this subtree: 1 for a leaf */
    uint8_t prot;     /* GK_READ | ... */
    uint8_t flags;    /* GK_SHARED | GK_GLOBAL */
    uint8_t mode;     /* enum page_mode */
};

/* Where a primary region is. */
struct segment {
    gva_t start, end; /* equal: none */
    uint32_t frame;   /* of start */
    uint8_t order;    /* of its pages */
};

struct proc {
    struct proc *next, *prev; /* all processes by pid */
    struct proc *chain;       /* same pid bucket */
    struct vma *root, *first, *last, *hot;
    uint64_t nvmas;
    struct area *areas; /* tea.c; largest first */
    gpa_t table;        /* top-level table */
    int pid;
    uint16_t pcid;   /* 0 without PCIDs */
    uint64_t loaded; /* vCPUs that have its CR3 */
    uint64_t stale;  /* vCPUs whose next load of its CR3 must not keep TLB entries */
    struct segment segment;
};

struct vma *vma_find(struct proc *, gva_t); /* lowest one that ends above the address, or NULL */
struct vma *vma_at(struct proc *, gva_t);   /* the one that holds the address, or NULL */
/* Lowest aligned address >= lo with `len` free bytes after it, or 0 when there is none below top.
 */
gva_t vma_gap(const struct proc *, gva_t lo, uint64_t len, uint64_t align, gva_t top);
/* Add a range that overlaps nothing. *like gives all but the tree fields. NULL: no memory. */
struct vma *vma_add(struct gk *, struct proc *, const struct vma *like);
/* The same, but grow a neighbour where that suffices. */
bool vma_add_or_grow(struct gk *, struct proc *, const struct vma *like);
bool vma_cut(struct gk *, struct proc *, gva_t at);  /* no VMA straddles `at` afterwards */
void vma_join(struct gk *, struct proc *, gva_t at); /* undo a cut whose halves are alike again */
void vma_drop(struct gk *, struct proc *,
              struct vma *); /* takes the node out; tables are the caller's */
void vma_drop_all(struct gk *, struct proc *);
bool vma_clone(struct gk *, struct proc *to,
               const struct proc *from); /* false: no memory, *to partly filled */
const char *vma_check(struct gk *, struct proc *);

/* ---- shm.c: pages of a mapping shared across fork ---- */
struct shm_node {
    union {
        uint64_t page[64]; /* lowest level: see shm_entry */
        struct shm_node *kid[64];
    };
};

struct shm {
    struct shm_node *root;
    gva_t base;     /* of index 0; a multiple of 1 GiB, so that index and address align alike */
    uint32_t refs;  /* VMAs that point here */
    uint32_t seen;  /* scratch of gk_check */
    int born;       /* pid of the child whose fork made it: undone if that fork fails */
    unsigned depth; /* levels of nodes */
};

/* The frames that hold one page: order 0, 9 or 18; valid when `there`. */
struct shm_page {
    uint32_t frame;
    unsigned order;
    bool there;
};

struct shm *shm_new(struct gk *, gva_t start, gva_t end, int born);
void shm_put(struct gk *, struct shm *); /* one VMA less; the last one gives up the frames */
struct shm_page shm_find(const struct shm *, gva_t);
bool shm_vacant(const struct shm *, gva_t, unsigned order); /* no page in that aligned block */
bool shm_set(struct gk *, struct shm *, gva_t, uint32_t frame, unsigned order); /* takes one ref */
void shm_count(struct gk *, struct shm *); /* gk_check: add one `seen` per held block */

/* ---- tea.c: translation entry areas ---- */
struct area {
    struct tea tea;
    struct area *next;
};

/* The frame reserved for the table of `level` at va, now in use; NO_FRAME: there is none. */
uint32_t tea_take(struct gk *, const struct proc *, gva_t, unsigned level);
void tea_give(struct gk *, uint32_t frame);                     /* back; it is zero again */
void tea_cover(struct gk *, struct proc *, const struct vma *); /* reserve what is not yet */
void tea_clone(struct gk *, struct proc *to, const struct proc *from);
void tea_drop_all(struct gk *, struct proc *); /* of a process without tables */
void tea_load(struct gk *);                    /* the current process's into the registers */
const char *tea_check(struct gk *, const struct proc *);

/* ---- smp.c: vCPUs ---- */
static inline uint64_t cpu_bit(unsigned cpu) { return 1ull << cpu; }
static inline uint64_t proc_cr3(const struct proc *p) { return p->table | p->pcid; }
/* vCPUs that have loaded a CR3. */
uint64_t smp_started(const struct gk *);
/* Execution goes on on this vCPU, in the process that it has loaded (none: NULL). */
void smp_move(struct gk *, unsigned cpu);
/* The vCPU that runs loads this process's CR3. */
void smp_load(struct gk *, struct proc *);
/* Interrupt these vCPUs, not the one that runs: each calls fn(g, arg). None: nothing happens. */
void smp_call(struct gk *, uint64_t cpus, void (*fn)(struct gk *, const void *), const void *arg);
const char *smp_check(const struct gk *);

/* ---- pt.c: page tables of one process, and the flush batch ---- */
struct pos { /* where a walk stopped */
    gpa_t at;
    uint64_t e;
    unsigned level;
};

/* Changed entries of one process in the current operation, and the frames to free once they are invalidated. */
struct batch {
    gva_t *va;
    unsigned n, ceiling;
    bool full;         /* more than `ceiling`: reload CR3 instead */
    struct proc *proc; /* whose they are; valid when n or full */
    uint32_t head, tail;
};

/* Visit entries in use (present leaves and kept ones) of [from, to) in address order; a nonzero
 * result stops. */
struct visit {
    int (*leaf)(struct gk *, struct visit *, gpa_t at, uint64_t e, gva_t va, unsigned level);
    struct proc *proc; /* whose tables these are */
    struct vma *vma;   /* for the visitor */
    void *ctx;         /* for the visitor */
};

gpa_t pt_new(struct gk *, bool zero); /* 0 when there is no frame (frame 0 is never a table) */
struct pos pt_walk(struct gk *, const struct proc *, gva_t);
/* Go down from `pos` to `level`, making missing tables. False: no frame; *pos is where it stopped.
 */
bool pt_down(struct gk *, const struct proc *, gva_t, struct pos *, unsigned level);
/* Free the empty tables that stand where a leaf of `level` is wanted. False: they are not empty. */
bool pt_prune(struct gk *, struct proc *, gva_t, struct pos *, unsigned level);
int pt_visit(struct gk *, struct visit *, gva_t from, gva_t to);
int pt_split_at(struct gk *, struct proc *,
                gva_t); /* no large leaf straddles the address afterwards */
void pt_clear(struct gk *, struct proc *, gva_t from, gva_t to); /* unmap; frames go to the batch */
void pt_free_tables(struct gk *, struct proc *);
/* Bits that a leaf of `v` has; own: no other mapping needs the frame unchanged. */
uint64_t pt_rights(const struct vma *, bool own);
/* Write `e` over *old*, a leaf of the current process at `level`, noting the address when a present
 * entry lost rights or changed frame. */
void pt_set(struct gk *, gpa_t at, uint64_t old, uint64_t e, gva_t, unsigned level);
void batch_end(struct gk *);
/* One mapping of this frame less; the last one gives the block to the batch. */
void batch_unref(struct gk *, uint32_t frame);

static inline unsigned order_level(unsigned order) { return 1 + order / 9; }
static inline unsigned level_order(unsigned level) { return 9 * (level - 1); }
static inline uint64_t level_size(unsigned level) { return 1ull << level_shift(level); }
static inline bool pte_used(uint64_t e) { return e & (PTE_P | PTE_KEPT); }
static inline uint32_t pte_frame(uint64_t e) { return (uint32_t)((e & PTE_ADDR) >> PAGE_SHIFT); }

/* Bits of a leaf that outlive a change of rights. A and D are the hardware's. */
#define PTE_STAYS (PTE_ADDR | PTE_PS | PTE_A | PTE_D)

/* ---- segment.c: the primary region of a process ---- */
/* Frames for a new mapping that is to be the current process's primary region, in g->run; false: it is
 * an ordinary one. */
bool segment_reserve(struct gk *, const struct vma *);
/* The next block of 2^order frames of g->run. */
uint32_t segment_take(struct gk *, unsigned order);
/* The mapping is complete, or (v NULL) has failed: give back what is left of g->run. */
void segment_done(struct gk *, const struct vma *v);
/* The leaf of p at va and `level` is now e. */
void segment_note(struct gk *, const struct proc *, gva_t va, unsigned level, uint64_t e);
/* Something of p was unmapped: without any page of its region it has none. */
void segment_unmapped(struct gk *, struct proc *);
void segment_drop(struct gk *, struct proc *);

/* ---- balloon.c: giving memory back to the host ---- */
struct guest_balloon {
    bool there;
    struct balloon_driver driver;
    uint32_t head[BALLOON_KEEPS]; /* blocks kept, last in first out */
    uint64_t pages[BALLOON_KEEPS];
};

/* No frame is free: could the balloon give one? True: look again. */
bool guest_balloon_oom(struct gk *);
void guest_balloon_start(struct gk *);
const char *guest_balloon_check(struct gk *);

/* ---- proc.c ---- */
struct gk {
    struct hw *hw;
    struct gk_config cfg;
    gva_t top; /* first address above user space */
    struct pmm pmm;
    struct batch batch;
    struct slab vmas, procs, shms, nodes, areas;
    struct proc *first, *last, *cur;
    struct proc **on; /* by vCPU: the process it has loaded; NULL: not started */
    struct proc *bucket[PID_BUCKETS];
    uint64_t pcids[64]; /* bit set: in use; PCID 0 is never handed out */
    uint64_t tables;    /* frames in use as tables */
    uint64_t reserved;  /* frames that tea.c keeps for tables not in use */
    struct {
        uint32_t start;     /* first frame of the primary region being mapped */
        uint32_t next, end; /* those not yet in a block; equal: none is being mapped */
    } run;
    int nprocs, next_pid;
    uint64_t faults; /* handled since boot */
    unsigned cpu;    /* the vCPU that runs; cur is what it has loaded */
    struct guest_balloon balloon;
};

static inline struct frame *frame_of(const struct gk *g, uint32_t f) { return &g->pmm.frames[f]; }

#endif
