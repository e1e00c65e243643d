/* tea.c: translation entry areas: the leaf tables of a mapping in consecutive frames.
 *
 * For hardware that translates with one reference (DMT: Zhang et al., ASPLOS 2024). When the
 * machine has TEA registers (gk_config.tea_registers), mmap reserves the leaf tables of the new
 * mapping as one run of frames. A table is linked into the radix tree when it is first needed, as
 * without TEAs, but its frame is the one reserved for its place: the tree and the registers name the
 * same entries, which only pt.c writes.
 *
 * Policies:
 *   - A mapping of 4 KiB pages gets an area of level-1 entries, of 2 MiB and THP of level 2, of 1 GiB
 *     of level 3; where its ends are not aligned, they get areas of the levels below (mm.c: such
 *     ends have smaller pages). An area covers whole tables, so neighbours may share it; what an
 *     area of that level covers already gets no second one.
 *   - Areas outlive munmap, as empty tables do, and go with their process. A child of fork gets its
 *     own.
 *   - The registers hold the current process's largest areas; of equals, the oldest. On another vCPU
 *     that has the process loaded they are those of the time when it was: an area does not change while
 *     the process lives, and one that has no register there costs a walk of the tree.
 *   - No run of frames, or a mapping larger than memory: no area. Nothing fails for the lack of one,
 *     and tables that were there before stay where they are: the hardware then walks the tree.
 * Simplification: the paper grows an area with its mapping and migrates it; here what was added gets an
 * area, and a register, of its own.
 *
 * Invariants (gk_check):
 *   T1  a reserved frame is of kind FRAME_TEA and zero, or it is a table (FRAME_TABLE) linked at the
 *       place it was reserved for
 *   T2  areas of one level and process do not overlap; the list is sorted by what they cover
 */
#include "guest/internal.h"

static struct frame *frame_at(const struct gk *g, const struct tea *t, uint64_t i)
{
    return frame_of(g, (uint32_t)(gpa_gfn(t->table).n + i));
}

static const struct area *find(const struct proc *p, gva_t va, unsigned level)
{
    const struct area *a = p->areas;
    while (a && !(a->tea.level == level && tea_holds(&a->tea, va)))
        a = a->next;
    return a;
}

uint32_t tea_take(struct gk *g, const struct proc *p, gva_t va, unsigned level)
{
    const struct area *a = find(p, va, level);
    if (!a)
        return NO_FRAME;
    uint64_t i = (va - a->tea.start) >> level_shift(level + 1);
    struct frame *f = frame_at(g, &a->tea, i);
    if (f->kind != FRAME_TEA)
        return NO_FRAME; /* in use: only a table that is being replaced can be */
    f->kind = FRAME_TABLE;
    g->reserved--;
    return (uint32_t)(gpa_gfn(a->tea.table).n + i);
}

void tea_give(struct gk *g, uint32_t f)
{
    frame_of(g, f)->ref = 1;
    frame_of(g, f)->kind = FRAME_TEA;
    g->reserved++;
}

static uint64_t covers(const struct area *a) { return a->tea.end - a->tea.start; }

/* Into the list, behind those that are as large. */
static void insert(struct proc *p, struct area *a)
{
    struct area **at = &p->areas;
    while (*at && covers(*at) >= covers(a))
        at = &(*at)->next;
    a->next = *at;
    *at = a;
}

static bool add(struct gk *g, struct proc *p, gva_t start, gva_t end, unsigned level)
{
    struct tea t = {.start = start, .end = end, .level = level};
    uint64_t n = tea_frames(&t);
    struct area *a = n <= 1u << MAX_ORDER ? slab_get(g, &g->areas) : NULL;
    if (!a)
        return false;
    uint32_t f = pmm_alloc_run(g, (uint32_t)n, FRAME_TEA);
    if (f == NO_FRAME) {
        slab_put(&g->areas, a);
        return false;
    }
    for (uint32_t i = 0; i < n; i++)
        frame_of(g, f + i)->tea = true;
    g->reserved += n;
    t.table = gfn_gpa(gfn(f));
    t.id = hw_tea_alloc(g->hw, gfn(f), n);
    a->tea = t;
    insert(p, a);
    return true;
}

/* First address in [at, to) that no area of this level covers, and the end of that gap. */
static gva_t gap(const struct proc *p, gva_t at, gva_t to, unsigned level, gva_t *end)
{
    for (const struct area *a; at < to && (a = find(p, at, level));)
        at = a->tea.end;
    *end = to;
    for (const struct area *a = p->areas; a; a = a->next)
        if (a->tea.level == level && a->tea.start > at && a->tea.start < *end)
            *end = a->tea.start;
    return at;
}

/* Areas of `level` and below for [start, end); true when there are new ones. */
static bool cover(struct gk *g, struct proc *p, gva_t start, gva_t end, unsigned level)
{
    uint64_t size = level_size(level), unit = level_size(level + 1);
    gva_t lo = (start + size - 1) & ~(size - 1), hi = end & ~(size - 1), stop;
    bool added = false;
    if (lo >= hi) /* too small for a page of this size */
        return level > 1 && cover(g, p, start, end, level - 1);
    gva_t to = (hi + unit - 1) & ~(unit - 1);
    for (gva_t at = lo & ~(unit - 1); (at = gap(p, at, to, level, &stop)) < to; at = stop)
        added |= add(g, p, at, stop, level);
    if (start < lo)
        added |= cover(g, p, start, lo, level - 1);
    if (hi < end)
        added |= cover(g, p, hi, end, level - 1);
    return added;
}

void tea_cover(struct gk *g, struct proc *p, const struct vma *v)
{
    static const uint8_t levels[] = {
        [PAGES_4K] = 1, [PAGES_2M] = 2, [PAGES_1G] = 3, [PAGES_THP] = 2};
    if (!g->cfg.tea_registers || v->end - v->start > g->cfg.mem_bytes)
        return;
    if (cover(g, p, v->start, v->end, levels[v->mode]) && p == g->cur)
        tea_load(g);
}

void tea_clone(struct gk *g, struct proc *to, const struct proc *from)
{
    for (const struct area *a = from->areas; a; a = a->next)
        add(g, to, a->tea.start, a->tea.end, a->tea.level);
}

void tea_drop_all(struct gk *g, struct proc *p)
{
    for (struct area *a = p->areas, *next; a; a = next) {
        next = a->next;
        if (a->tea.id)
            hw_tea_free(g->hw, a->tea.id);
        g->reserved -= tea_frames(&a->tea);
        for (uint64_t n = tea_frames(&a->tea); n-- > 0;)
            pmm_free(g, (uint32_t)(gpa_gfn(a->tea.table).n + n));
        slab_put(&g->areas, a);
    }
    p->areas = NULL;
}

void tea_load(struct gk *g)
{
    struct tea regs[MAX_TEA_REGISTERS];
    unsigned n = 0;
    if (!g->cfg.tea_registers)
        return;
    for (const struct area *a = g->cur->areas; a && n < g->cfg.tea_registers; a = a->next)
        regs[n++] = a->tea;
    hw_load_teas(g->hw, regs, n);
}

/* The link to the table of `level` for va, or 0. */
static uint64_t link_to(struct gk *g, const struct proc *p, gva_t va, unsigned level)
{
    uint64_t e = p->table | PTE_P;
    for (unsigned l = g->cfg.levels; l > level && (e & PTE_P); l--) {
        e = hw_pt_read(g->hw, (e & PTE_ADDR) + 8 * level_index(va, l));
        if (pte_is_leaf(e, l))
            return 0;
    }
    return e & PTE_P ? e : 0;
}

static const char *check_frame(struct gk *g, const struct proc *p, const struct tea *t, uint64_t i)
{
    struct frame *f = frame_at(g, t, i);
    gpa_t table = t->table + (i << PAGE_SHIFT);
    if (!f->tea || f->order || (f->kind != FRAME_TEA && f->kind != FRAME_TABLE))
        return "T1: a frame of an area is not reserved for it";
    if (f->kind == FRAME_TABLE) {
        gva_t va = t->start + (i << level_shift(t->level + 1));
        return (link_to(g, p, va, t->level) & PTE_ADDR) == table
                   ? NULL
                   : "T1: a table of an area is linked elsewhere";
    }
    for (unsigned k = 0; k < 512; k++)
        if (hw_pt_read(g->hw, table + 8 * k))
            return "T1: a reserved table is not empty";
    return f->seen++ ? "T2: a frame is in two areas" : NULL;
}

const char *tea_check(struct gk *g, const struct proc *p)
{
    for (const struct area *a = p->areas; a; a = a->next) {
        if (a->next && covers(a->next) > covers(a))
            return "T2: areas are not sorted by size";
        for (const struct area *b = a->next; b; b = b->next)
            if (a->tea.level == b->tea.level && a->tea.start < b->tea.end &&
                b->tea.start < a->tea.end)
                return "T2: areas overlap";
        for (uint64_t i = 0; i < tea_frames(&a->tea); i++) {
            const char *bad = check_frame(g, p, &a->tea, i);
            if (bad)
                return bad;
        }
    }
    return NULL;
}
