/* shadow_lazy.c: shadow tables as a software TLB: the virtual TLB.
 *
 * Source: Intel SDM vol. 3, "Virtualization of System Resources", "Details of Virtual TLB
 * Operation"; NOVA (Steinberg and Kauer, EuroSys 2010) uses it.
 *
 * The guest's tables are not write-protected. What the shadow holds of them is what a TLB would:
 * translations of whole addresses, made when they are used, and true until the guest invalidates
 * them, whatever it writes into its tables meanwhile. So each vCPU has shadow tables of its own, and
 * they are arranged by virtual address in each address space ("space"), not by guest table.
 *
 *   guest #PF       one exit: reflected, and what is held of the address dropped, as processors do;
 *                   or filled (hidden) from a walk of the guest's tables.
 *   first store     the sPTE is read-only until the guest's D bit is set, as in shadow.c.
 *   table write     no exit.
 *   INVLPG          one exit; the sPTEs of the guest's page go, all of them where the host's smaller
 *                   pages made them many, and global ones from all spaces.
 *   CR3             one exit. Without CR3_KEEP the translations of its PCID go, but for global ones:
 *                     resync=0  they are dropped, as in the SDM: hidden faults bring them back
 *                     resync=1  a space belongs to one root, and is read again against the guest's
 *                               tables when it is used next: what still agrees, A and D bits
 *                               included, stays
 *   INVPCID         one exit (counted as invlpg); as INVLPG and CR3 loads. `All` drops all.
 *   control         one exit a change (other): drops all, as it does in processors; CR0.WP clear is
 *                   emulated as in shadow.c.
 *   kernel touch    as in shadow.c.
 *
 * shadow_dropped and shadow_kept count leaf sPTEs. What reading one again costs the hypervisor is
 * not charged: no published number was found, and no preset has one.
 *
 * Nothing tells the hypervisor that a process has ended. So a vCPU has at most `pages` shadow pages:
 * before a fill that might need more, the oldest ones without a page below them go (Linux's KVM, too,
 * takes its oldest, and has 2 % of the guest's frames by default, at least 64).
 *
 * Trust. A leaf may differ from the guest's tables only as a TLB entry may; never from the host's
 * frames: the rmap of shadow_pt.h finds all of a gfn when the host changes it. A vCPU's TLBs and walk
 * caches know nothing that its shadow does not hold: whatever drops sPTEs flushes them. Other vCPUs'
 * shadows are theirs: the guest has each invalidate for itself.
 *
 * Invariants, beside those of shadow_pt.h (check() verifies all):
 *  (1) a vCPU's hardware root is that of its current space, the first in its list, or 0.
 *  (2) no two spaces of a vCPU have the same tag, with resync=1 the same tag and guest root.
 *  (3) a vCPU has at most `limit` pages, each below the root of one of its spaces.
 *  (4) the current space is not stale.
 *  (5) a space holds no mark, and no global leaf, that its `marks` do not name.
 */
#include "shadow_vs_ept/shadow.h"
#include "shadow_vs_ept/walk_quick.h"

enum { PARAM_PAGES, PARAM_RESYNC };
static const struct param params[] = {
    [PARAM_PAGES] = {"pages", 0, 0, 1ull << 32, "pages",
                     "shadow pages a vCPU may have, never fewer than 16; 0: 2 % of the guest's "
                     "frames, at least 64"},
    [PARAM_RESYNC] = {"resync", 0, 0, 1, "flag",
                      "a CR3 load drops translations (0), or reads them again and keeps what still "
                      "agrees (1)"},
    {0}};

/* A leaf is a part of a guest page of 2 MiB or 1 GiB: software bits of its sPTE. */
#define PART_2M PTE_SW0
#define PART_1G PTE_SW1
/* What a leaf takes from the guest's tables. */
#define FLAGS (PTE_W | PTE_U | PTE_NX | PTE_G | PART_2M | PART_1G)

/* What a vCPU holds of one address space. */
struct space {
    unsigned tag;
    gpa_t guest_root; /* resync: whose tables it follows */
    struct sp *root;  /* NULL: it holds nothing */
    uint64_t marks;   /* PTE_G, PART_*: a leaf may have it */
    bool stale;       /* resync: invalidated; to be read again before use */
    struct space *next;
};

struct lazy {
    uint64_t limit; /* pages of a vCPU */
    bool resync;
    struct space *first[MAX_VCPUS]; /* the current one first */
};

static int init(struct mmu_vm *vm, char *err, size_t errlen)
{
    struct lazy *z = vm->state = meta_calloc(META_PAGING, 1, sizeof *z);
    uint64_t own = vm->gm->frames / 50;
    z->limit = vm->param[PARAM_PAGES] ? vm->param[PARAM_PAGES] : own < 64 ? 64 : own;
    z->limit = z->limit < 16 ? 16 : z->limit;
    z->resync = vm->param[PARAM_RESYNC];
    return shadow_init(vm, err, errlen);
}

static void fini(struct mmu_vm *vm)
{
    struct lazy *z = vm->state;
    shadow_fini(vm);
    for (unsigned i = 0; i < MAX_VCPUS; i++)
        for (struct space *x = z->first[i], *next; x; x = next) {
            next = x->next;
            meta_free(META_PAGING, x);
        }
    meta_free(META_PAGING, z);
}

static struct space *spaces(const struct mmu *m)
{
    const struct lazy *z = m->vm->state;
    return z->first[m->id];
}

/* ---- what the guest's tables say ---- */

/* The flags of a leaf at `level` that translates as g does. */
static uint64_t flags_of(const struct mmu *m, const struct guest_walk *g, unsigned level)
{
    uint64_t leaf = g->entry[g->leaf], part = g->leaf == 3 ? PART_1G : PART_2M;
    return (g->rights & PTE_U) | (leaf & PTE_D ? g->rights & PTE_W : 0) | (~g->rights & PTE_NX) |
           (m->ctl.pge ? leaf & PTE_G : 0) | (g->leaf > level ? part : 0);
}

static bool path_accessed(const struct mmu *m, const struct guest_walk *g)
{
    uint64_t all = PTE_A;
    for (unsigned l = g->leaf; l <= m->vm->levels; l++)
        all &= g->entry[l];
    return all != 0;
}

/* The first address of entry idx: canonical. */
static gva_t address_of(const struct mmu *m, const struct sp *p, unsigned idx)
{
    unsigned above = 64 - 12 - 9 * m->vm->levels;
    gva_t va = p->va + ((uint64_t)idx << level_shift(p->level));
    return (gva_t)((int64_t)(va << above) >> above);
}

/* Would a fill make leaf idx of p as it is, or with more rights? */
static bool agrees(const struct mmu *m, const struct sp *p, unsigned idx)
{
    uint64_t e = spt_entry(m->vm->spt, p, idx);
    /* No right stops this access. */
    struct access any = {.va = address_of(m, p, idx), .supervisor = true, .ac = true};
    struct guest_walk g = {0};
    if (!guest_walk(m, &any, &g) || g.leaf < p->level || !path_accessed(m, &g))
        return false;
    uint64_t now = flags_of(m, &g, p->level);
    return gpa_gfn(g.gpa).n == spt_leaf_gfn(p, idx).n && !((now ^ e) & FLAGS & ~PTE_W) &&
           !(e & ~now & PTE_W);
}

/* ---- dropping ---- */

/* All leaves of p and below but the global ones; true: something is left. */
static bool drop_nonglobal(struct spt *s, struct sp *p)
{
    bool left = false;
    for (unsigned i = 0; i < 512; i++) {
        struct sp *child = spt_child(s, p, i);
        uint64_t e = spt_entry(s, p, i);
        if (!(e & PTE_P))
            continue;
        if (child ? drop_nonglobal(s, child) : (e & PTE_G) != 0)
            left = true;
        else
            spt_drop(s, p, i);
    }
    return left;
}

static void drop(struct mmu *m, struct space *x, bool globals)
{
    struct spt *s = m->vm->spt;
    uint64_t before = spt_leaves(s);
    if (x->root && !globals && (x->marks & PTE_G))
        drop_nonglobal(s, x->root);
    else if (x->root) {
        spt_release(s, x->root);
        x->root = NULL;
        x->marks = 0;
    }
    m->c.shadow_dropped += before - spt_leaves(s);
}

static void drop_everything(struct mmu *m)
{
    for (struct space *x = spaces(m); x; x = x->next)
        drop(m, x, true);
}

/* Read all leaves of p and below again, but the global ones. */
static void sync_below(struct mmu *m, struct sp *p)
{
    struct spt *s = m->vm->spt;
    for (unsigned i = 0; i < 512; i++) {
        struct sp *child = spt_child(s, p, i);
        uint64_t e = spt_entry(s, p, i);
        if (child)
            sync_below(m, child);
        else if ((e & PTE_P) && !(e & PTE_G)) {
            bool keep = agrees(m, p, i);
            if (!keep)
                spt_drop(s, p, i);
            m->c.shadow_kept += keep;
            m->c.shadow_dropped += !keep;
        }
    }
}

/* The translations of a space are invalid, but for global ones. */
static void invalidate(struct mmu *m, struct space *x)
{
    const struct lazy *z = m->vm->state;
    if (z->resync)
        x->stale = true;
    else
        drop(m, x, false);
}

/* Bring the current space in line, if it must be. */
static void sync(struct mmu *m)
{
    struct space *x = spaces(m);
    if (x && x->stale && x->root)
        sync_below(m, x->root);
    if (x)
        x->stale = false;
}

/* ---- one address ---- */

/* Drop the leaves of p and below that have this mark, and are global or not as asked. */
static bool drop_marked(struct spt *s, struct sp *p, uint64_t mark, bool nonglobals, bool globals)
{
    bool any = false;
    for (unsigned i = 0; i < 512; i++) {
        struct sp *child = spt_child(s, p, i);
        uint64_t e = spt_entry(s, p, i);
        if (child && (child->marks & mark))
            any |= drop_marked(s, child, mark, nonglobals, globals);
        else if (!child && (e & PTE_P) && (e & mark) && (e & PTE_G ? globals : nonglobals)) {
            spt_drop(s, p, i);
            any = true;
        }
    }
    return any;
}

/* Drop what a space holds of the guest's page at va. Which size that page had, only the leaves know.
 * True: leaves of other addresses went too. */
static bool drop_address(struct spt *s, struct space *x, gva_t va, bool nonglobals, bool globals)
{
    bool parts = false;
    for (struct sp *p = x->root; p;) {
        unsigned idx = level_index(va, p->level);
        uint64_t mark = p->level == 2 ? PART_1G : p->level == 1 ? PART_2M : 0;
        if (p->marks & mark)
            parts |= drop_marked(s, p, mark, nonglobals, globals);
        struct sp *child = spt_child(s, p, idx);
        if (!child && (spt_entry(s, p, idx) & PTE_G ? globals : nonglobals))
            spt_drop(s, p, idx);
        p = child;
    }
    return parts;
}

/* The translations of one address in one tag, and the global ones, go; with all of the TLB where that
 * is more than one address to the hardware. */
static void drop_va(struct mmu *m, gva_t va, unsigned tag, bool globals)
{
    struct spt *s = m->vm->spt;
    uint64_t before = spt_leaves(s);
    bool parts = false;
    for (struct space *x = spaces(m); x; x = x->next)
        if (x->tag == tag || (globals && (x->marks & PTE_G)))
            parts |= drop_address(s, x, va, x->tag == tag, globals);
    m->c.shadow_dropped += before - spt_leaves(s);
    if (parts)
        mmu_flush_linear(m);
}

/* ---- filling ---- */

/* The page goes; so may the root of a space. */
static void recycle(struct mmu *m, struct sp *p)
{
    for (struct space *x = spaces(m); x; x = x->next)
        if (x->root == p) {
            x->root = NULL;
            x->marks = 0;
        }
    spt_release(m->vm->spt, p);
    m->c.shadow_pages_recycled++;
}

/* Room for a root and all pages below it on the way to a leaf. */
static void make_room(struct mmu *m)
{
    const struct lazy *z = m->vm->state;
    struct spt *s = m->vm->spt;
    while (spt_private_pages(s, m->id) + m->vm->levels > z->limit)
        recycle(m, spt_oldest(s, m->id));
    spt_settle(s, false);
}

static struct sp *new_page(struct mmu *m, unsigned level, gva_t va)
{
    m->c.shadow_pages_made++;
    return spt_private(m->vm->spt, m->id, level, va & ~((1ull << level_shift(level + 1)) - 1));
}

static struct sp *root_page(struct mmu *m, struct space *x)
{
    if (!x->root)
        x->root = new_page(m, m->vm->levels, 0);
    m->root = x->root->table;
    return x->root;
}

/* Build the path to va and its leaf. Rights are in the leaf alone. */
static void fill(struct mmu *m, gva_t va, const struct guest_walk *g)
{
    struct spt *s = m->vm->spt;
    struct space *x = spaces(m);
    unsigned most = spt_max_level(s, gpa_gfn(g->gpa)), level = g->leaf < most ? g->leaf : most;
    uint64_t flags = flags_of(m, g, level);
    make_room(m);
    x->marks |= flags & (PTE_G | PART_2M | PART_1G);
    struct sp *p = root_page(m, x);
    p->marks |= flags;
    for (unsigned l = m->vm->levels; l > level; l--) {
        unsigned idx = level_index(va, l);
        struct sp *child = spt_child(s, p, idx);
        if (!child) {
            child = new_page(m, l - 1, va);
            spt_link(s, p, idx, child, PTE_W | PTE_U);
        }
        child->marks |= flags;
        p = child;
    }
    spt_map(s, p, level_index(va, level),
            gfn(gpa_gfn(g->gpa).n >> (9 * (level - 1)) << (9 * (level - 1))), flags);
}

static enum fix_result fix(struct mmu *m, const struct access *a, struct walk *w)
{
    struct guest_walk g = {0};
    if (!guest_walk(m, a, &g)) {
        mmu_exit(m, CTR_exit_reflect, a->va);
        drop_va(m, a->va, m->tag, true);
        w->error = g.error;
        return FIX_REFLECT;
    }
    if (!mmu_permits(&m->hw, g.rights, a))
        return shadow_emulate(m, a, w, &g);
    mmu_exit(m, CTR_exit_fill, a->va);
    shadow_back(m, gpa_gfn(g.gpa));
    guest_walk_mark(m, &g, a->store);
    fill(m, a->va, &g);
    return FIX_RETRY;
}

/* ---- what the guest does ---- */

/* Make the space of a tag and root current: found, or new. Those that hold nothing go. */
static void enter(struct mmu *m, unsigned tag, gpa_t root)
{
    struct lazy *z = m->vm->state;
    struct space *found = NULL, **at = &z->first[m->id];
    while (*at) {
        struct space *x = *at;
        bool same = x->tag == tag && (!z->resync || x->guest_root == root);
        if (!same && x->root) {
            at = &x->next;
            continue;
        }
        *at = x->next;
        if (same)
            found = x;
        else
            meta_free(META_PAGING, x);
    }
    if (!found)
        found = meta_calloc(META_PAGING, 1, sizeof *found);
    found->tag = tag;
    found->guest_root = root;
    found->next = z->first[m->id];
    z->first[m->id] = found;
    m->root = found->root ? found->root->table : 0; /* frame 0 is empty: the first walk exits */
}

static void guest_cr3(struct mmu *m, uint64_t cr3)
{
    bool pcids = m->vm->cpu->pcid, keep = pcids && (cr3 & CR3_KEEP);
    unsigned tag = pcids ? (unsigned)(cr3 & CR3_PCID) : 0;
    mmu_exit(m, CTR_exit_cr3, cr3);
    m->levels = m->vm->levels;
    m->guest_root = cr3 & PTE_ADDR;
    for (struct space *x = spaces(m); x && !keep; x = x->next)
        if (x->tag == tag)
            invalidate(m, x);
    enter(m, tag, m->guest_root);
    sync(m);
    mmu_load_tag(m, cr3);
    spt_settle(m->vm->spt, true); /* what went is of this tag, and flushed with it */
}

static void guest_invlpg(struct mmu *m, gva_t va)
{
    mmu_exit(m, CTR_exit_invlpg, va);
    if (!MUTANT(lazy_invlpg_lost))
        drop_va(m, va, m->tag, true);
    mmu_flush_va(m, va);
}

static void guest_invpcid(struct mmu *m, enum invpcid_type type, unsigned pcid, gva_t va)
{
    mmu_exit(m, CTR_exit_invlpg, va);
    if (type == INVPCID_ADDRESS)
        drop_va(m, va, pcid, false);
    else if (type == INVPCID_ALL)
        drop_everything(m);
    else
        for (struct space *x = spaces(m); x; x = x->next)
            if (type == INVPCID_ALL_NONGLOBAL || x->tag == pcid)
                invalidate(m, x);
    sync(m);
    mmu_flush_invpcid(m, type, pcid, va);
    spt_settle(m->vm->spt, true);
}

static void guest_control(struct mmu *m)
{
    mmu_exit(m, CTR_exit_other, 0);
    drop_everything(m);
    spt_settle(m->vm->spt, true); /* mmu_guest_control() flushes */
}

static void guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    shadow_guest_touch(m, gpa_gfn(gpa), true);
    *(uint64_t *)gmem_ptr(m->vm->gm, gpa) = entry;
}

/* ---- checker ---- */

/* Pages of p and below; *marks gathers those of its leaves. */
static unsigned count_pages(const struct spt *s, const struct sp *p, uint64_t *marks)
{
    unsigned n = 1;
    for (unsigned i = 0; i < 512; i++) {
        const struct sp *child = spt_child(s, p, i);
        uint64_t e = spt_entry(s, p, i);
        if (child)
            n += count_pages(s, child, marks);
        else if (e & PTE_P)
            *marks |= e & (PTE_G | PART_2M | PART_1G);
    }
    return n;
}

static const char *check_vcpu(const struct mmu *m)
{
    const struct lazy *z = m->vm->state;
    const struct spt *s = m->vm->spt;
    const struct space *cur = spaces(m);
    unsigned pages = 0;
    if (cur && m->root && (!cur->root || m->root != cur->root->table))
        return "shadow-lazy (1) the hardware's root is not that of the current space";
    if (cur && cur->stale)
        return "shadow-lazy (4) the current space is stale";
    for (const struct space *x = cur; x; x = x->next) {
        uint64_t marks = 0;
        for (const struct space *y = x->next; y; y = y->next)
            if (x->tag == y->tag && (!z->resync || x->guest_root == y->guest_root))
                return "shadow-lazy (2) two spaces are one";
        pages += x->root ? count_pages(s, x->root, &marks) : 0;
        if (marks & ~x->marks)
            return "shadow-lazy (5) a leaf has a mark that its space does not name";
    }
    if (pages != spt_private_pages(s, m->id) || pages > z->limit)
        return "shadow-lazy (3) pages are in no space, or too many";
    return NULL;
}

static const char *check(struct mmu_vm *vm)
{
    const char *why = shadow_check(vm);
    for (unsigned i = 0; i < vm->nvcpus && !why; i++)
        why = check_vcpu(vm->vcpu[i]);
    return why;
}

REGISTER_AS(paging, shadow_lazy, "shadow-lazy",
            .summary = "virtual TLB: guest tables are not protected, translations last until "
                       "INVLPG or a CR3 load",
            .params = params, .init = init, .fini = fini, .walk_for = shadow_walk_for,
            .quick = QUICK(shadow_quick), .explain = shadow_explain, .fix = fix,
            .guest_cr3 = guest_cr3, .guest_invlpg = guest_invlpg, .guest_pt_write = guest_pt_write,
            .guest_touch = shadow_guest_touch, .guest_invpcid = guest_invpcid,
            .guest_control = guest_control, .forces_wp = true, .no_host_table = true,
            .zap = shadow_zap, .table_bytes = shadow_table_bytes, .check = check,
            .counters = COUNTERS(CTR_shadow_dropped, CTR_shadow_kept, CTR_shadow_pages_made,
                                 CTR_shadow_pages_recycled));
