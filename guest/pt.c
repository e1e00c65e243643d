/* pt.c: page tables in x86-64 format, and the batch of invalidations of one operation.
 *
 * Entries are read and written with hw_pt_read and hw_pt_write only. The kernel's own tables are in
 * the lower half of the root (user space); the upper half belongs to the engine, which may map the
 * kernel image there: nothing here reads or clears it.
 *
 * Four kinds of entry:
 *   empty   0
 *   link    P|W|U, a table below; rights are decided by leaves alone
 *   leaf    P|U, W and NX from the mapping; A and D are the hardware's and survive every change
 *   kept    P clear, PTE_KEPT set: a page of a PROT_NONE mapping, whose frame stays ours
 *
 * What is invalidated (SDM vol. 3A, 4.10.4): a present entry that loses a right or changes frame is
 * noted by pt_set; batch_end drops the translations before any frame is given back. More than
 * flush_ceiling of them: one CR3 reload. A reload does not drop global translations, so a global
 * page is invalidated at once by INVLPG and does not count towards the ceiling. Raising a right
 * needs nothing: the fault on a stale entry drops it (4.10.4.3), and is then found spurious.
 * Only the tables of the current process are ever changed in ways that need invalidation, but for
 * pt_prune; another process is either new (nothing cached) or being ended (loaded nowhere, and its
 * PCID is loaded without CR3_KEEP when used again). Which vCPUs an invalidation must reach is in
 * smp.c; a global page may be cached by any, whatever it has loaded.
 *
 * Splitting a large leaf: the new table is filled (512 writes) before one write replaces the
 * leaf. Rights and frames are the same afterwards, yet the large translation counts as changed:
 * mixed sizes for one address must not last (4.10.2.3).
 *   sole owner           the block is divided; each part has a count of its own
 *   shared after fork    copy-on-write block: copied first, so that the parts are private
 *   block held by a shm  the parts go on counting at the block's head; nothing is copied
 */
#include "base/mutant.h"
#include "guest/internal.h"

#define LINK (PTE_P | PTE_W | PTE_U)

gpa_t pt_new(struct gk *g, bool zero)
{
    uint32_t f = pmm_alloc(g, 0, FRAME_TABLE, zero);
    if (f == NO_FRAME)
        return 0;
    g->tables++;
    return gfn_gpa(gfn(f));
}

static gpa_t entry_at(gpa_t table, gva_t va, unsigned level)
{
    return table + 8 * level_index(va, level);
}

struct pos pt_walk(struct gk *g, const struct proc *p, gva_t va)
{
    struct pos pos = {entry_at(p->table, va, g->cfg.levels), 0, g->cfg.levels};
    for (;; pos.level--, pos.at = entry_at(pos.e & PTE_ADDR, va, pos.level)) {
        pos.e = hw_pt_read(g->hw, pos.at);
        if (!(pos.e & PTE_P) || pte_is_leaf(pos.e, pos.level))
            return pos;
    }
}

/* A table of `level` for va: the frame that tea.c reserved for it, else any. */
static gpa_t new_table(struct gk *g, const struct proc *p, gva_t va, unsigned level, bool zero)
{
    uint32_t f = tea_take(g, p, va, level);
    if (f == NO_FRAME)
        return pt_new(g, zero);
    g->tables++;
    return gfn_gpa(gfn(f));
}

/* A table's frame is no longer one. */
static void put_table(struct gk *g, uint32_t f)
{
    g->tables--;
    if (frame_of(g, f)->tea)
        tea_give(g, f);
    else
        pmm_free(g, f);
}

bool pt_down(struct gk *g, const struct proc *p, gva_t va, struct pos *pos, unsigned level)
{
    while (pos->level > level) {
        gpa_t table = new_table(g, p, va, pos->level - 1, true);
        if (!table)
            return false;
        hw_pt_write(g->hw, pos->at, table | LINK);
        pos->level--;
        pos->at = entry_at(table, va, pos->level);
        pos->e = 0;
    }
    return true;
}

static int visit_table(struct gk *g, struct visit *v, gpa_t table, unsigned level, gva_t from,
                       gva_t to)
{
    uint64_t size = level_size(level);
    gpa_t at = entry_at(table, from, level);
    for (gva_t va = from & ~(size - 1); va < to; va += size, at += 8) {
        uint64_t e = hw_pt_read(g->hw, at);
        int stop = 0;
        if ((e & PTE_P) && !pte_is_leaf(e, level))
            stop = visit_table(g, v, e & PTE_ADDR, level - 1, va > from ? va : from,
                               to - va < size ? to : va + size);
        else if (pte_used(e))
            stop = v->leaf(g, v, at, e, va, level);
        if (stop)
            return stop;
    }
    return 0;
}

int pt_visit(struct gk *g, struct visit *v, gva_t from, gva_t to)
{
    return visit_table(g, v, v->proc->table, g->cfg.levels, from, to);
}

uint64_t pt_rights(const struct vma *v, bool own)
{
    if (!v->prot)
        return PTE_KEPT;
    uint64_t e = PTE_P | PTE_U;
    if (!(v->prot & GK_EXEC))
        e |= PTE_NX;
    if (v->prot & GK_WRITE)
        e |= own || (v->flags & GK_SHARED) ? PTE_W : PTE_COW;
    return v->flags & GK_GLOBAL ? e | PTE_G : e;
}

/* ---- the batch ---- */
static void drop_page(struct gk *g, const void *va) { hw_invlpg(g->hw, *(const gva_t *)va); }

static void note(struct gk *g, struct proc *p, gva_t va, uint64_t old)
{
    struct batch *b = &g->batch;
    if (old & PTE_G) {
        drop_page(g, &va);
        smp_call(g, smp_started(g) & ~cpu_bit(g->cpu), drop_page, &va);
        return;
    }
    b->proc = p;
    if (b->n < b->ceiling)
        b->va[b->n++] = va;
    else
        b->full = true;
}

static bool loses(uint64_t old, uint64_t e)
{
    if (!(old & PTE_P))
        return false;
    return !(e & PTE_P) || (old & ~e & PTE_W) || (e & ~old & PTE_NX) || ((old ^ e) & PTE_ADDR);
}

void pt_set(struct gk *g, gpa_t at, uint64_t old, uint64_t e, gva_t va, unsigned level)
{
    hw_pt_write(g->hw, at, e);
    segment_note(g, g->cur, va, level, e);
    if (loses(old, e))
        note(g, g->cur, va, old);
}

static void defer_free(struct gk *g, uint32_t head)
{
    struct batch *b = &g->batch;
    frame_of(g, head)->next = NO_FRAME;
    if (b->head == NO_FRAME)
        b->head = head;
    else
        frame_of(g, b->tail)->next = head;
    b->tail = head;
}

void batch_unref(struct gk *g, uint32_t frame)
{
    uint32_t head = pmm_head(g, frame);
    if (!--frame_of(g, head)->ref)
        defer_free(g, head);
}

/* Drop the batch's translations on the vCPU that runs, which has their process loaded. */
static void drop_batch(struct gk *g, const void *batch)
{
    const struct batch *b = batch;
    if (b->full)
        hw_load_cr3(g->hw, proc_cr3(b->proc));
    else
        for (unsigned i = 0; i < b->n && !MUTANT(guest_invlpg_lost); i++)
            hw_invlpg(g->hw, b->va[i]);
}

/* No vCPU will use the batch's translations again. */
static void invalidate(struct gk *g)
{
    struct batch *b = &g->batch;
    if (!b->n && !b->full)
        return;
    uint64_t here = cpu_bit(g->cpu), loaded = b->proc->loaded;
    if (loaded & here)
        drop_batch(g, b);
    if (!MUTANT(guest_shootdown_lost))
        smp_call(g, loaded & ~here, drop_batch, b);
    b->proc->stale |= MUTANT(guest_stale_unmarked) ? 0 : ~loaded;
    b->n = 0;
    b->full = false;
}

void batch_end(struct gk *g)
{
    struct batch *b = &g->batch;
    invalidate(g);
    for (uint32_t f = b->head, next; f != NO_FRAME; f = next) {
        next = frame_of(g, f)->next;
        if (frame_of(g, f)->kind == FRAME_TABLE)
            put_table(g, f);
        else
            pmm_free(g, f);
    }
    b->head = NO_FRAME;
}

/* ---- unmapping ---- */
static int clear_leaf(struct gk *g, struct visit *v, gpa_t at, uint64_t e, gva_t va, unsigned level)
{
    hw_pt_write(g->hw, at, 0);
    segment_note(g, v->proc, va, level, 0);
    if ((e & PTE_P) && v->proc == g->cur)
        note(g, v->proc, va, e);
    batch_unref(g, pte_frame(e));
    return 0;
}

void pt_clear(struct gk *g, struct proc *p, gva_t from, gva_t to)
{
    struct visit v = {.leaf = clear_leaf, .proc = p};
    pt_visit(g, &v, from, to);
}

/* Unlink and free the tables below entries [0, n) of a table without leaves. */
static void free_below(struct gk *g, gpa_t table, unsigned level, unsigned n)
{
    for (unsigned i = 0; level > 1 && i < n; i++) {
        uint64_t e = hw_pt_read(g->hw, table + 8 * i);
        if (!(e & PTE_P))
            continue;
        free_below(g, e & PTE_ADDR, level - 1, 512);
        hw_pt_write(g->hw, table + 8 * i, 0);
        defer_free(g, pte_frame(e));
    }
}

void pt_free_tables(struct gk *g, struct proc *p)
{
    free_below(g, p->table, g->cfg.levels, 256);
    defer_free(g, (uint32_t)gpa_gfn(p->table).n);
    p->table = 0;
}

static bool empty_below(struct gk *g, gpa_t table, unsigned level)
{
    for (unsigned i = 0; i < 512; i++) {
        uint64_t e = hw_pt_read(g->hw, table + 8 * i);
        if (!e)
            continue;
        if (level == 1 || !(e & PTE_P) || (e & PTE_PS) || !empty_below(g, e & PTE_ADDR, level - 1))
            return false;
    }
    return true;
}

bool pt_prune(struct gk *g, struct proc *p, gva_t va, struct pos *pos, unsigned level)
{
    struct pos up = {entry_at(p->table, va, g->cfg.levels), 0, g->cfg.levels};
    for (;; up.level--, up.at = entry_at(up.e & PTE_ADDR, va, up.level)) {
        up.e = hw_pt_read(g->hw, up.at);
        if (up.level == level)
            break;
    }
    if (!empty_below(g, up.e & PTE_ADDR, level - 1))
        return false;
    free_below(g, up.e & PTE_ADDR, level - 1, 512);
    hw_pt_write(g->hw, up.at, 0);
    defer_free(g, pte_frame(up.e));
    /* INVLPG drops the paging-structure caches too (4.10.4.1): they may know the tables freed here.
     */
    note(g, p, va, 0);
    batch_end(g);
    *pos = (struct pos){up.at, 0, level};
    return true;
}

/* ---- splitting ---- */
/* Copy a block that other processes share; the entry's frame is replaced. */
static bool unshare(struct gk *g, const struct vma *v, uint64_t *e, unsigned order)
{
    uint32_t to = pmm_alloc(g, order, FRAME_DATA, false), from = pte_frame(*e);
    if (to == NO_FRAME)
        return false;
    for (uint32_t i = 0; i < 1u << order; i++)
        hw_copy_page(g->hw, gfn(to + i), gfn(from + i));
    batch_unref(g, from);
    *e = gfn_gpa(gfn(to)) | (*e & (PTE_STAYS & ~PTE_ADDR)) | pt_rights(v, true);
    return true;
}

static int split(struct gk *g, const struct proc *p, const struct vma *v, struct pos pos, gva_t va)
{
    unsigned order = level_order(pos.level), small = order - 9;
    gpa_t table = new_table(g, p, va, pos.level - 1, false); /* every entry is written below */
    if (!table)
        return GK_ENOMEM;
    uint64_t e = pos.e;
    if (!v->shm && frame_of(g, pte_frame(e))->ref > 1 && !unshare(g, v, &e, order)) {
        put_table(g, (uint32_t)gpa_gfn(table).n);
        return GK_ENOMEM;
    }
    if (v->shm)
        frame_of(g, pmm_head(g, pte_frame(e)))->ref += 511;
    else
        pmm_split(g, pte_frame(e));
    uint64_t part = small ? e : e & ~PTE_PS;
    for (uint64_t i = 0; i < 512; i++)
        hw_pt_write(g->hw, table + 8 * i, part + (i << (PAGE_SHIFT + small)));
    hw_pt_write(g->hw, pos.at, table | LINK);
    segment_note(g, p, va & ~(level_size(pos.level) - 1), pos.level, table | LINK);
    if (pos.e & PTE_P)
        note(g, g->cur, va & ~(level_size(pos.level) - 1), pos.e);
    return GK_OK;
}

int pt_split_at(struct gk *g, struct proc *p, gva_t va)
{
    const struct vma *v = vma_at(p, va);
    while (v && v->start < va && v->mode != PAGES_4K) {
        struct pos pos = pt_walk(g, p, va);
        if (pos.level == 1 || !pte_used(pos.e) || !(va & (level_size(pos.level) - 1)))
            return GK_OK;
        int err = split(g, p, v, pos, va);
        if (err)
            return err;
    }
    return GK_OK;
}
