/* segment.c: the primary region of a process: one mapping that a direct segment can translate.
 *
 * Basu et al. (ISCA 2013) let a process have one contiguous range of addresses in one contiguous range
 * of frames, which three registers describe; Gandhi et al. (MICRO 2014) use it in a guest. Here it is
 * the first private, readable and writable, not executable mapping of cfg.segment_bytes or more that
 * the process makes while it has none. Its frames are taken at once (pmm_take_run) and all its pages
 * mapped at once, as by GK_POPULATE; without such a run, or the frames for its tables, it is an ordinary
 * mapping. Pages have the size of the mapping's mode (THP: 2 MiB; a shorter tail is outside).
 *
 * The tables stay the truth. They are what fork, munmap and mprotect change, what maps what escapes,
 * and what a machine without segments uses: a program sees the same on both. A segment has no accessed
 * and dirty bits: the region's pages are marked as both when they are mapped.
 *
 * A page escapes (hw_segment_escape) from the moment that its leaf differs in any bit from what the
 * segment says, and no longer when it is the same again: copy on write (after a fork all of the
 * parent's pages; the child has no segment), PROT_NONE, no right to write, unmapped, split, another
 * frame. The region ends when nothing is mapped in it any more; the next large mapping can be one.
 *
 * Invariants (M10 checked by gk_check; that the machine was told all of it, by the strategies that have
 * segments):
 *   M10 a region is aligned to its page size, inside user space and memory
 *   no leaf of a region that differs is unannounced when the kernel returns to the program
 */
#include "guest/internal.h"

static unsigned page_order(const struct vma *v)
{
    return v->mode == PAGES_4K ? ORDER_4K : v->mode == PAGES_1G ? ORDER_1G : ORDER_2M;
}

static gva_t last_whole(const struct vma *v)
{
    return v->end & ~((PAGE_SIZE << page_order(v)) - 1);
}

bool segment_reserve(struct gk *g, const struct vma *v)
{
    const struct segment *s = &g->cur->segment;
    uint64_t least = g->cfg.segment_bytes, page = PAGE_SIZE << page_order(v);
    if (!least || v->end - v->start < least || s->start != s->end)
        return false;
    if (v->flags || v->prot != (GK_READ | GK_WRITE) || (v->start & (page - 1)) ||
        last_whole(v) <= v->start)
        return false;
    uint64_t frames = (v->end - v->start) >> PAGE_SHIFT;
    uint32_t first = pmm_take_run(g, frames, page_order(v));
    if (first == NO_FRAME)
        return false;
    g->run.start = g->run.next = first;
    g->run.end = first + (uint32_t)frames;
    return true;
}

uint32_t segment_take(struct gk *g, unsigned order)
{
    uint32_t f = g->run.next;
    pmm_block(g, f, order);
    g->run.next += 1u << order;
    return f;
}

void segment_done(struct gk *g, const struct vma *v)
{
    if (g->run.start == g->run.end)
        return;
    pmm_free_run(g, g->run.next, g->run.end);
    if (v) {
        struct segment *s = &g->cur->segment;
        *s = (struct segment){v->start, last_whole(v), g->run.start, (uint8_t)page_order(v)};
        hw_segment(g->hw, g->cur->table,
                   &(struct hw_segment){s->start, s->end, gfn_gpa(gfn(s->frame)), s->order});
    }
    g->run.start = g->run.next = g->run.end = 0;
}

/* The leaf that says what the segment says of va. */
static uint64_t straight_leaf(const struct segment *s, gva_t va)
{
    gpa_t page = gfn_gpa(gfn(s->frame)) + (va - s->start);
    return page | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D | PTE_NX | (s->order ? PTE_PS : 0);
}

void segment_note(struct gk *g, const struct proc *p, gva_t va, unsigned level, uint64_t e)
{
    const struct segment *s = &p->segment;
    if (va >= s->end || va + level_size(level) <= s->start)
        return;
    bool same = level == order_level(s->order) && e == straight_leaf(s, va);
    hw_segment_escape(g->hw, p->table, va, level_size(level), !same);
}

void segment_unmapped(struct gk *g, struct proc *p)
{
    const struct vma *v = vma_find(p, p->segment.start);
    if (!v || v->start >= p->segment.end)
        segment_drop(g, p);
}

void segment_drop(struct gk *g, struct proc *p)
{
    if (p->segment.start == p->segment.end)
        return;
    p->segment = (struct segment){0};
    hw_segment(g->hw, p->table, NULL);
}
