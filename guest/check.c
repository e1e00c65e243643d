/* check.c: gk_check, the kernel's invariants as code. Their numbers are in pmm.c, vma.c, shm.c,
 * mm.c, tea.c, balloon.c.
 *
 * It counts mappings from the tables of all processes into the `seen` field of each block and
 * compares with the counts the kernel keeps. It writes nothing else and may be called between any
 * two operations.
 */
#include "guest/internal.h"

#define SAY(cond, text)  \
    do {                 \
        if (!(cond))     \
            return text; \
    } while (0)

static const char *check_leaf(struct gk *g, struct proc *p, uint64_t e, gva_t va, unsigned level)
{
    const struct vma *v = vma_find(p, va);
    uint32_t f = pte_frame(e), size = 1u << level_order(level);
    SAY(v && v->start <= va && v->end - va >= level_size(level),
        "M1: a leaf lies outside its range");
    SAY(!(e & pte_rsvd(level)) && !(f & (size - 1)), "M2: a large leaf is not aligned");
    SAY(f >= g->pmm.first && f < g->pmm.end && size <= g->pmm.end - f, "M2: a leaf maps no memory");
    struct frame *fr = frame_of(g, pmm_head(g, f));
    SAY(fr->kind == FRAME_DATA && fr->order >= level_order(level), "M2: a leaf maps no data block");
    fr->seen++;
    if (!(e & PTE_P)) {
        SAY(!v->prot && !(e & PTE_COW), "M6: a kept entry in a range with rights");
        return NULL;
    }
    SAY(v->prot, "M6: a present leaf in a range without rights");
    SAY(e & PTE_U, "M1: a leaf is not a user page");
    SAY(!(e & PTE_W) || (v->prot & GK_WRITE), "M1: a leaf is writable, its range is not");
    SAY(!(e & PTE_NX) == !!(v->prot & GK_EXEC), "M1: execution differs between leaf and range");
    SAY(!(e & PTE_G) == !(v->flags & GK_GLOBAL), "M1: PTE_G differs between leaf and range");
    bool shared = v->flags & GK_SHARED;
    SAY(!(e & PTE_COW) || (!shared && !(e & PTE_W) && (v->prot & GK_WRITE)),
        "M5: a stray COW mark");
    SAY(shared || !(e & PTE_W) || fr->ref == 1, "M5: a writable private page has other users");
    SAY((e & (PTE_W | PTE_COW)) || !(v->prot & GK_WRITE), "M5: a store here would never succeed");
    return NULL;
}

static const char *check_table(struct gk *g, struct proc *p, gpa_t table, unsigned level,
                               gva_t base)
{
    uint64_t f = gpa_gfn(table).n;
    SAY(f >= g->pmm.first && f < g->pmm.end, "M4: a table lies outside memory");
    struct frame *fr = frame_of(g, (uint32_t)f);
    SAY(fr->kind == FRAME_TABLE && !fr->order && !fr->seen,
        "M4: a table is free, data or linked twice");
    fr->seen = 1;
    unsigned n = level == g->cfg.levels ? 256 : 512;
    for (unsigned i = 0; i < n; i++) {
        uint64_t e = hw_pt_read(g->hw, table + 8 * i);
        gva_t va = base + ((uint64_t)i << level_shift(level));
        const char *bad = NULL;
        if ((e & PTE_P) && !pte_is_leaf(e, level)) {
            SAY((e & (PTE_W | PTE_U | PTE_NX | PTE_PS)) == (PTE_W | PTE_U),
                "M4: a link restricts rights");
            bad = check_table(g, p, e & PTE_ADDR, level - 1, va);
        } else if (pte_used(e)) {
            bad = check_leaf(g, p, e, va, level);
        } else if (e) {
            bad = "M1: an entry is neither empty, leaf, link nor kept";
        }
        if (bad)
            return bad;
    }
    return NULL;
}

static const char *check_shms(struct gk *g)
{
    for (struct proc *p = g->first; p; p = p->next)
        for (struct vma *v = p->first; v; v = v->next)
            if (v->shm)
                v->shm->seen = 0;
    for (struct proc *p = g->first; p; p = p->next)
        for (struct vma *v = p->first; v; v = v->next) {
            SAY(!v->shm || ((v->flags & GK_SHARED) && !(v->flags & GK_GLOBAL)),
                "V4: pages of no shared range");
            if (v->shm && !v->shm->seen++)
                shm_count(g, v->shm);
        }
    for (struct proc *p = g->first; p; p = p->next)
        for (struct vma *v = p->first; v; v = v->next)
            SAY(!v->shm || v->shm->seen == v->shm->refs, "V4: a shared mapping's count is wrong");
    return NULL;
}

static const char *check_procs(struct gk *g)
{
    uint64_t pcids[64] = {1};
    const struct proc *prev = NULL;
    bool current = false;
    int n = 0;
    for (const struct proc *p = g->first; p; prev = p, p = p->next, n++) {
        SAY(p->prev == prev && p->pid > (prev ? prev->pid : 0) && p->pid < g->next_pid,
            "M8: pids do not ascend");
        SAY(!p->pcid == !g->cfg.pcid, "M8: a PCID where none is used, or none where one is");
        SAY(!p->pcid || !((pcids[p->pcid / 64] >> p->pcid % 64) & 1), "M8: a PCID has two owners");
        pcids[p->pcid / 64] |= 1ull << p->pcid % 64;
        current |= p == g->cur;
        const struct segment *s = &p->segment;
        uint64_t page = PAGE_SIZE << s->order, len = s->end - s->start;
        SAY(s->start <= s->end && s->end <= g->top && !((s->start | s->end) & (page - 1)) &&
                !(gfn_gpa(gfn(s->frame)) & (page - 1)) &&
                s->frame + (len >> PAGE_SHIFT) <= g->pmm.end,
            "M10: a primary region is unaligned or outside memory");
    }
    SAY(n == g->nprocs && prev == g->last && current, "M8: a process is lost");
    for (unsigned i = 0; i < 64; i++)
        SAY(pcids[i] == g->pcids[i], "M8: a PCID is lost");
    return smp_check(g);
}

const char *gk_check(struct gk *g)
{
    SAY(!g->batch.n && !g->batch.full && g->batch.head == NO_FRAME, "M7: the batch is not empty");
    const char *bad = check_procs(g);
    if (!bad)
        bad = pmm_check_blocks(g);
    for (struct proc *p = g->first; p && !bad; p = p->next) {
        bad = vma_check(g, p);
        if (!bad)
            bad = check_table(g, p, p->table, g->cfg.levels, 0);
        if (!bad)
            bad = tea_check(g, p);
    }
    if (!bad)
        bad = check_shms(g);
    if (!bad)
        bad = guest_balloon_check(g);
    return bad ? bad : pmm_check_seen(g);
}
