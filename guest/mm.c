/* mm.c: mmap, munmap, mprotect and page faults of the current process.
 *
 * What each request does to tables, in this order, so that counts can be derived:
 *   mmap      nothing (GK_POPULATE, and a primary region: as a read fault of each page, in address
 *             order)
 *   munmap    split large leaves at both ends; clear each leaf (1 write); invalidate; free frames
 *   mprotect  split likewise; rewrite each leaf whose rights change (1 write); invalidate
 *   fault     missing tables from the top (1 write each), then the leaf (1 write)
 *   fault on a copy-on-write page: sole owner: 1 write, nothing to invalidate; else copy, 1 write,
 *             1 INVLPG
 * Splits and VMA cuts come before the first change a program can see: they are the only steps that
 * can fail, so a failed munmap or mprotect has changed nothing.
 *
 * Page size. A leaf is the largest page of the mapping's mode whose aligned range lies inside its
 * VMA: unaligned heads and tails, also those left by munmap or mprotect, are 4 KiB (2 MiB in 1 GiB
 * mode). No block of that size: GK_ENOMEM, but under THP a 4 KiB page. Empty tables that munmap
 * left where a large leaf fits are freed first (each link 1 write, then 1 INVLPG); tables in use
 * make it smaller.
 *   - hint 0: the length is rounded up to the page size of the mode (THP: 4 KiB), the address
 *     aligned to it (THP: to 2 MiB if the length is 2 MiB or more)
 *   - a hint or GK_FIXED: the length is rounded up to 4 KiB, since a neighbour may follow
 *   - GK_2M, GK_1G: address and length must be aligned already, else GK_EINVAL
 * A hint that is taken falls back to hint 0, as in POSIX. munmap and mprotect round lengths to
 * 4 KiB.
 *
 * prot: x86 has no write-only or execute-only pages: any right implies reading. prot 0 keeps the
 * frames but clears P; giving rights back makes the same pages appear again.
 *
 * GK_GLOBAL means "the same in every process": TLBs keep such a page across CR3 loads. Therefore
 * making, changing or removing such a mapping is GK_EINVAL while there is more than one process,
 * and a fault on one maps the page in all processes.
 *
 * Invariants (gk_check; P in pmm.c, V in vma.c, S in shm.c):
 *   M1  every used leaf lies inside one VMA of its process, with no right beyond it
 *   M2  a leaf maps an allocated data block inside memory, never a table
 *   M3  a block's count is the number of leaves that map it, plus 1 if a shm holds it
 *   M4  a table has exactly one link to it; links are P|W|U
 *   M5  a writable leaf of a private mapping maps a block of count 1
 *   M6  a kept entry is in a PROT_NONE mapping, which has no present leaf
 *   M7  between operations the batch is empty
 *   M8  pids ascend, the current process is one of them, each PCID has one owner
 *   M9  what each vCPU has loaded (smp.c)
 *   M10 a primary region is aligned to its page size, inside user space and memory (segment.c)
 */
#include "base/mutant.h"
#include "guest/internal.h"

static unsigned mode_order(unsigned mode)
{
    static const uint8_t order[] = {[PAGES_4K] = ORDER_4K,
                                    [PAGES_2M] = ORDER_2M,
                                    [PAGES_1G] = ORDER_1G,
                                    [PAGES_THP] = ORDER_2M};
    return order[mode];
}

static uint64_t round_up(uint64_t n, uint64_t unit) { return (n + unit - 1) & ~(unit - 1); }

/* ---- faults ---- */
static unsigned fit_order(const struct vma *v, gva_t va, unsigned order)
{
    for (; order; order -= 9) {
        uint64_t size = PAGE_SIZE << order;
        gva_t base = va & ~(size - 1);
        if (base >= v->start && v->end - base >= size)
            break;
    }
    return order;
}

/* What a missing page will be. */
struct plan {
    unsigned order;
    bool there; /* another process that shares the mapping has touched it */
    uint32_t
        frame; /* `there`: the frame of the address itself; get_block makes it the leaf's first */
    uint64_t marks; /* set from the start: A and D in a primary region */
};

static struct plan plan_page(const struct gk *g, const struct vma *v, gva_t va)
{
    struct plan plan = {.order = fit_order(v, va, mode_order(v->mode))};
    if (v->shm) {
        struct shm_page page = shm_find(v->shm, va);
        plan.there = page.there;
        if (page.there) {
            plan.order = fit_order(v, va, page.order < plan.order ? page.order : plan.order);
            plan.frame = page.frame + ((va >> PAGE_SHIFT) & ((1u << page.order) - 1));
        }
        while (!page.there && plan.order && !shm_vacant(v->shm, va, plan.order))
            plan.order -= 9;
    }
    bool placed = g->run.next != g->run.end; /* segment.c has the frames */
    if (!plan.there && !placed && v->mode == PAGES_THP && plan.order && !pmm_has(g, plan.order))
        plan.order = 0;
    return plan;
}

/* Go down to the leaf's level in one process; a table in use there makes the page smaller. */
static bool reach(struct gk *g, struct proc *p, gva_t va, struct pos *pos, unsigned *order)
{
    while (pos->level < order_level(*order) && !pt_prune(g, p, va, pos, order_level(*order)))
        *order -= 9;
    return pt_down(g, p, va, pos, order_level(*order));
}

/* The data of a new page: found or allocated, with a count of 1 for the leaf to come. */
static int get_block(struct gk *g, const struct vma *v, gva_t va, struct plan *plan)
{
    if (plan->there) {
        plan->frame = plan->frame >> plan->order << plan->order;
        frame_of(g, pmm_head(g, plan->frame))->ref++;
        return GK_OK;
    }
    gva_t base = va & ~((PAGE_SIZE << plan->order) - 1);
    if (g->run.next != g->run.end) {
        plan->frame = segment_take(g, plan->order);
        plan->marks = PTE_A | PTE_D;
        return GK_OK;
    }
    plan->frame = pmm_alloc(g, plan->order, FRAME_DATA, true);
    if (plan->frame == NO_FRAME)
        return GK_ENOMEM;
    if (!v->shm || shm_set(g, v->shm, base, plan->frame, plan->order))
        return GK_OK;
    pmm_free(g, plan->frame);
    return GK_ENOMEM;
}

static void write_leaf(struct gk *g, const struct vma *v, gpa_t at, const struct plan *plan)
{
    uint64_t e = gfn_gpa(gfn(plan->frame)) | pt_rights(v, true) | plan->marks;
    hw_pt_write(g->hw, at, plan->order ? e | PTE_PS : e);
}

/* A global page appears in every other process too; their tables are made before any leaf is. */
static int map_elsewhere(struct gk *g, const struct vma *v, gva_t va, struct plan *plan,
                         bool leaves)
{
    for (struct proc *p = g->first; p; p = p->next) {
        if (p == g->cur)
            continue;
        struct pos pos = pt_walk(g, p, va);
        if (!reach(g, p, va, &pos, &plan->order))
            return GK_ENOMEM;
        if (leaves) {
            write_leaf(g, v, pos.at, plan);
            frame_of(g, plan->frame)->ref++;
        }
    }
    return GK_OK;
}

static int map_missing(struct gk *g, const struct vma *v, gva_t va, struct pos pos, unsigned *order)
{
    struct plan plan = plan_page(g, v, va);
    bool everywhere = (v->flags & GK_GLOBAL) && g->nprocs > 1;
    if (!reach(g, g->cur, va, &pos, &plan.order))
        return GK_ENOMEM;
    if (everywhere && map_elsewhere(g, v, va, &plan, false))
        return GK_ENOMEM;
    int err = get_block(g, v, va, &plan);
    if (err && v->mode == PAGES_THP && plan.order) {
        plan.order = 0; /* the tables made above took the last large block */
        if (!reach(g, g->cur, va, &pos, &plan.order) ||
            (everywhere && map_elsewhere(g, v, va, &plan, false)))
            return GK_ENOMEM;
        err = get_block(g, v, va, &plan);
    }
    if (err)
        return err;
    write_leaf(g, v, pos.at, &plan);
    if (everywhere)
        map_elsewhere(g, v, va, &plan, true);
    *order = plan.order;
    return GK_OK;
}

/* A store to a page that fork left read-only. */
static int copy_on_write(struct gk *g, const struct vma *v, gva_t va, struct pos pos)
{
    unsigned order = level_order(pos.level);
    uint32_t from = pte_frame(pos.e), to = from;
    if (frame_of(g, from)->ref > 1) {
        to = pmm_alloc(g, order, FRAME_DATA, false); /* the copy overwrites all of it */
        if (to == NO_FRAME)
            return GK_ENOMEM;
        for (uint32_t i = 0; i < 1u << order; i++)
            hw_copy_page(g->hw, gfn(to + i), gfn(from + i));
        batch_unref(g, from);
    }
    uint64_t e = gfn_gpa(gfn(to)) | (pos.e & PTE_STAYS & ~PTE_ADDR) | pt_rights(v, true);
    pt_set(g, pos.at, pos.e, e, va & ~(level_size(pos.level) - 1), pos.level);
    batch_end(g);
    return GK_OK;
}

static bool allows(const struct vma *v, unsigned error)
{
    if (error & PF_W)
        return v->prot & GK_WRITE;
    return error & PF_I ? v->prot & GK_EXEC : v->prot != 0;
}

static int handle(struct gk *g, gva_t va, unsigned error)
{
    if (va >= g->top || (error & PF_RSVD))
        return GK_SEGV;
    const struct vma *v = vma_at(g->cur, va);
    if (!v || !allows(v, error))
        return GK_SEGV;
    struct pos pos = pt_walk(g, g->cur, va);
    unsigned order;
    if (MUTANT(guest_fault_ignored) && va >> PAGE_SHIFT & 1)
        return GK_OK;
    if (!(pos.e & PTE_P))
        return map_missing(g, v, va, pos, &order);
    if (!(error & PF_W) || (pos.e & PTE_W))
        return GK_OK; /* spurious: the tables allow it already */
    return copy_on_write(g, v, va, pos);
}

int gk_fault(struct gk *g, gva_t va, unsigned error)
{
    int result = handle(g, va, error);
    g->faults += result == GK_OK;
    return result;
}

static int populate(struct gk *g, const struct vma *v)
{
    for (gva_t va = v->start; va < v->end && v->prot;) {
        struct pos pos = pt_walk(g, g->cur, va);
        unsigned order = level_order(pos.level);
        if (!(pos.e & PTE_P)) {
            int err = map_missing(g, v, va, pos, &order);
            if (err)
                return err;
        }
        va = (va | ((PAGE_SIZE << order) - 1)) + 1;
    }
    return GK_OK;
}

/* ---- mmap ---- */
#define SIZE_FLAGS (GK_4K | GK_2M | GK_1G)
#define ALL_FLAGS (SIZE_FLAGS | GK_FIXED | GK_SHARED | GK_GLOBAL | GK_POPULATE)
#define ALL_PROT (GK_READ | GK_WRITE | GK_EXEC)

static int choose_mode(const struct gk *g, unsigned flags, uint8_t *mode)
{
    switch (flags & SIZE_FLAGS) {
    case 0:
        *mode = (uint8_t)g->cfg.pages;
        return GK_OK;
    case GK_4K:
        *mode = PAGES_4K;
        return GK_OK;
    case GK_2M:
        *mode = PAGES_2M;
        return GK_OK;
    case GK_1G:
        *mode = PAGES_1G;
        return GK_OK;
    default:
        return GK_EINVAL;
    }
}

/* Choose [start, end) of a new mapping whose mode is set. */
static int choose_range(struct gk *g, struct vma *new, gva_t hint, uint64_t len, unsigned flags)
{
    uint64_t unit = new->mode == PAGES_THP ? PAGE_SIZE : PAGE_SIZE << mode_order(new->mode);
    if (!len || len > g->top || (hint & PAGE_MASK))
        return GK_EINVAL;
    if ((flags & SIZE_FLAGS) && unit > PAGE_SIZE && ((hint | len) & (unit - 1)))
        return GK_EINVAL;
    if (hint || (flags & GK_FIXED)) {
        uint64_t size = round_up(len, PAGE_SIZE);
        if (hint >= g->top || size > g->top - hint)
            return GK_EINVAL;
        struct vma *v = vma_find(g->cur, hint);
        new->start = hint;
        new->end = hint + size;
        if (!v || v->start >= new->end)
            return GK_OK;
        if (flags & GK_FIXED)
            return GK_EEXIST;
    }
    len = round_up(len, unit);
    bool large = len >= 1u << SHIFT_2M && new->mode == PAGES_THP;
    uint64_t align = large ? 1u << SHIFT_2M : unit;
    new->start = vma_gap(g->cur, GK_USER_BASE, len, align, g->top);
    new->end = new->start + len;
    return new->start ? GK_OK : GK_ENOMEM;
}

static int map_now(struct gk *g, const struct vma *new)
{
    struct proc *p = g->cur;
    struct vma *v = vma_add(g, p, new);
    int err = v ? populate(g, v) : GK_ENOMEM;
    segment_done(g, err ? NULL : new);
    if (!v)
        return err;
    if (err) {
        pt_clear(g, p, v->start, v->end);
        vma_drop(g, p, v);
        batch_end(g);
        return err;
    }
    vma_join(g, p, new->start);
    vma_join(g, p, new->end);
    return GK_OK;
}

int gk_mmap(struct gk *g, gva_t hint, uint64_t len, unsigned prot, unsigned flags, gva_t *out)
{
    struct vma new = {.prot = (uint8_t)prot};
    if (!out || (prot & ~(unsigned)ALL_PROT) || (flags & ~(unsigned)ALL_FLAGS))
        return GK_EINVAL;
    if (choose_mode(g, flags, &new.mode) || ((flags & GK_GLOBAL) && g->nprocs > 1))
        return GK_EINVAL;
    if (flags & GK_GLOBAL)
        flags |= GK_SHARED;
    new.flags = (uint8_t)(flags & (GK_SHARED | GK_GLOBAL));
    int err = choose_range(g, &new, hint, len, flags);
    if (err)
        return err;
    tea_cover(g, g->cur, &new);
    if (segment_reserve(g, &new) && map_now(g, &new) == GK_OK)
        err = GK_OK;
    else if (flags & GK_POPULATE)
        err = map_now(g, &new);
    else if (!vma_add_or_grow(g, g->cur, &new))
        err = GK_ENOMEM;
    if (!err)
        *out = new.start;
    return err;
}

/* ---- munmap and mprotect ---- */
static int check_range(const struct gk *g, gva_t va, uint64_t len)
{
    bool ok = len && !(va & PAGE_MASK) && va < g->top && len <= g->top - va;
    return ok ? GK_OK : GK_EINVAL;
}

static bool frozen(struct gk *g, gva_t from, gva_t to)
{
    if (g->nprocs == 1)
        return false;
    for (struct vma *v = vma_find(g->cur, from); v && v->start < to; v = v->next)
        if (v->flags & GK_GLOBAL)
            return true;
    return false;
}

/* The VMA at `at` has rights that the caller is about to change. */
static bool differs(struct gk *g, gva_t at, unsigned prot)
{
    const struct vma *v = vma_at(g->cur, at);
    return v && v->prot != prot;
}

/* Make `from` and `to` borders of VMAs and of leaves, but not where the rights are `prot` already.
 */
static int cut_out(struct gk *g, gva_t from, gva_t to, unsigned prot)
{
    struct proc *p = g->cur;
    bool head = differs(g, from, prot), tail = differs(g, to - 1, prot);
    int err = head ? pt_split_at(g, p, from) : GK_OK;
    if (!err && tail)
        err = pt_split_at(g, p, to);
    if (!err && ((head && !vma_cut(g, p, from)) || (tail && !vma_cut(g, p, to)))) {
        vma_join(g, p, from);
        err = GK_ENOMEM;
    }
    if (err)
        batch_end(g); /* what was split stays split: no program can tell */
    return err;
}

#define NO_PROT ~0u /* equal to no rights */

int gk_munmap(struct gk *g, gva_t from, uint64_t len)
{
    struct proc *p = g->cur;
    if (check_range(g, from, len))
        return GK_EINVAL;
    gva_t to = from + round_up(len, PAGE_SIZE);
    if (frozen(g, from, to))
        return GK_EINVAL;
    int err = cut_out(g, from, to, NO_PROT);
    if (err)
        return err;
    for (struct vma *v = vma_find(p, from), *next; v && v->start < to; v = next) {
        next = v->next;
        pt_clear(g, p, v->start, v->end);
        vma_drop(g, p, v);
    }
    segment_unmapped(g, p);
    batch_end(g);
    return GK_OK;
}

static int protect_leaf(struct gk *g, struct visit *v, gpa_t at, uint64_t e, gva_t va,
                        unsigned level)
{
    bool own = (v->vma->flags & GK_SHARED) || frame_of(g, pte_frame(e))->ref == 1;
    uint64_t new = (e & PTE_STAYS) | pt_rights(v->vma, own);
    if (new != e)
        pt_set(g, at, e, new, va, level);
    return 0;
}

static void protect(struct gk *g, struct vma *v, unsigned prot)
{
    struct visit visit = {.leaf = protect_leaf, .proc = g->cur, .vma = v};
    v->prot = (uint8_t)prot;
    pt_visit(g, &visit, v->start, v->end);
}

/* [from, to) is mapped without holes. */
static bool covered(struct gk *g, gva_t from, gva_t to)
{
    struct vma *v = vma_find(g->cur, from);
    for (; v && v->start <= from; v = v->next) {
        if (v->end >= to)
            return true;
        from = v->end;
    }
    return false;
}

int gk_mprotect(struct gk *g, gva_t from, uint64_t len, unsigned prot)
{
    struct proc *p = g->cur;
    if (check_range(g, from, len) || (prot & ~(unsigned)ALL_PROT))
        return GK_EINVAL;
    gva_t to = from + round_up(len, PAGE_SIZE);
    if (!covered(g, from, to))
        return GK_ENOMEM;
    if (frozen(g, from, to))
        return GK_EINVAL;
    int err = cut_out(g, from, to, prot);
    if (err)
        return err;
    for (struct vma *v = vma_find(p, from); v && v->start < to; v = v->next)
        if (v->prot != prot)
            protect(g, v, prot);
    for (gva_t at = from; at < to;) {
        vma_join(g, p, at);
        at = vma_find(p, at)->end;
    }
    vma_join(g, p, to);
    batch_end(g);
    return GK_OK;
}
