/* proc.c: boot, processes, fork and exit.
 *
 *   - fork: new root; for each used leaf in address order: missing child tables (1 write each), the
 *     parent's leaf if it must become copy-on-write (1 write), the child's leaf (1 write); then the
 *     batch is invalidated for the parent. Child leaves start with A and D clear.
 *     The child has no primary region: each page of the parent's is read-only now, so it escapes from
 *     the segment until a store makes it the parent's alone again.
 *   - switch: 1 CR3 load, with CR3_KEEP if PCIDs are used and this process ran before under its
 *     PCID. With more vCPUs: execution goes on on the process's vCPU, and nothing is loaded if that
 *     one has it still.
 *   - exit: each vCPU that has the process loaded loads pid 1: the one that runs, if it is current,
 *     others after an IPI; if it was current, then a switch to pid 1. Then each used leaf is cleared,
 *     1 write each, then each link to a table, bottom up, likewise; frames are freed. Nothing is
 *     invalidated: no translation of a process that never runs again matters, and its PCID is
 *     loaded without CR3_KEEP when a later process gets it.
 *
 * A fork that runs out of memory is undone: pages that only the parent has become writable again.
 *
 * The lower half of a root is ours; the engine may map its kernel in the upper half of any root it
 * is given by hw_load_cr3 (pt.c).
 *
 * Pids ascend and are never used twice; at most MAX_PROCS processes live at a time, one PCID each.
 */
#include "guest/internal.h"

#define MIN_DYNAMIC (1u << 20)
#define MAX_DYNAMIC (256u << 20)

size_t gk_kmem_bytes(uint64_t mem_bytes)
{
    uint64_t frames = mem_bytes >> PAGE_SHIFT, dynamic = mem_bytes / 64;
    dynamic = dynamic < MIN_DYNAMIC ? MIN_DYNAMIC : dynamic > MAX_DYNAMIC ? MAX_DYNAMIC : dynamic;
    return sizeof(struct gk) + frames * sizeof(struct frame) + frames / 8 + 256 +
           MAX_FLUSH_LIST * sizeof(gva_t) + dynamic;
}

uint64_t gk_reserved_bytes(uint64_t mem_bytes)
{
    uint64_t large = 1ull << SHIFT_2M;
    return (large + gk_kmem_bytes(mem_bytes) + large - 1) & ~(large - 1);
}

/* ---- the process table ---- */
static uint16_t pcid_take(struct gk *g)
{
    for (unsigned i = 0; i < 64; i++) {
        if (!~g->pcids[i])
            continue;
        unsigned bit = (unsigned)__builtin_ctzll(~g->pcids[i]);
        g->pcids[i] |= 1ull << bit;
        return (uint16_t)(64 * i + bit);
    }
    return 0; /* not reached: there are as many PCIDs as processes */
}

static struct proc *find(const struct gk *g, int pid)
{
    struct proc *p = g->bucket[(unsigned)pid % PID_BUCKETS];
    while (p && p->pid != pid)
        p = p->chain;
    return p;
}

static struct proc *proc_new(struct gk *g)
{
    if (g->nprocs == MAX_PROCS || g->next_pid == INT32_MAX)
        return NULL;
    struct proc *p = slab_get(g, &g->procs);
    if (!p)
        return NULL;
    p->table = pt_new(g, true);
    if (!p->table) {
        slab_put(&g->procs, p);
        return NULL;
    }
    p->pid = g->next_pid++;
    p->pcid = g->cfg.pcid ? pcid_take(g) : 0;
    p->stale = ~0ull;
    p->prev = g->last;
    *(g->last ? &g->last->next : &g->first) = p;
    g->last = p;
    struct proc **bucket = &g->bucket[(unsigned)p->pid % PID_BUCKETS];
    p->chain = *bucket;
    *bucket = p;
    g->nprocs++;
    return p;
}

/* End a process that is not current: memory, tables, place in the process table. */
static void proc_free(struct gk *g, struct proc *p)
{
    segment_drop(g, p);
    pt_clear(g, p, 0, g->top);
    pt_free_tables(g, p);
    vma_drop_all(g, p);
    batch_end(g);
    tea_drop_all(g, p);
    g->pcids[p->pcid / 64] &= ~(1ull << p->pcid % 64);
    g->pcids[0] |= 1;
    struct proc **at = &g->bucket[(unsigned)p->pid % PID_BUCKETS];
    while (*at != p)
        at = &(*at)->chain;
    *at = p->chain;
    *(p->prev ? &p->prev->next : &g->first) = p->next;
    *(p->next ? &p->next->prev : &g->last) = p->prev;
    g->nprocs--;
    slab_put(&g->procs, p);
}

/* ---- boot ---- */
static bool sane(const struct gk_config *c)
{
    return (c->levels == 4 || c->levels == 5) && c->pages <= PAGES_THP &&
           c->tea_registers <= MAX_TEA_REGISTERS && c->cpus <= GK_MAX_CPUS &&
           !(c->mem_bytes & PAGE_MASK) && c->mem_bytes >> PAGE_SHIFT < NO_FRAME &&
           c->reserved_bytes < c->mem_bytes;
}

static struct slab slab_of(size_t size)
{
    return (struct slab){.size = (unsigned)((size + 15) & ~(size_t)15)};
}

struct gk *gk_boot(struct hw *hw, const struct gk_config *cfg)
{
    if (!sane(cfg))
        return NULL;
    struct gk *g = hw_kmem(hw, sizeof *g);
    if (!g)
        return NULL;
    g->hw = hw;
    g->cfg = *cfg;
    g->cfg.cpus = cfg->cpus ? cfg->cpus : 1;
    g->top = GK_USER_TOP(cfg->levels);
    g->batch.ceiling = cfg->flush_ceiling < MAX_FLUSH_LIST ? cfg->flush_ceiling : MAX_FLUSH_LIST;
    g->batch.va = hw_kmem(hw, (g->batch.ceiling + 1) * sizeof(gva_t));
    g->batch.head = NO_FRAME;
    g->vmas = slab_of(sizeof(struct vma));
    g->procs = slab_of(sizeof(struct proc));
    g->shms = slab_of(sizeof(struct shm));
    g->nodes = slab_of(sizeof(struct shm_node));
    g->areas = slab_of(sizeof(struct area));
    g->pcids[0] = 1;
    g->next_pid = 1;
    struct proc *p = g->batch.va && pmm_init(g) ? proc_new(g) : NULL;
    g->on = p ? hw_kmem(hw, g->cfg.cpus * sizeof *g->on) : NULL;
    if (!g->on)
        return NULL;
    smp_load(g, p);
    guest_balloon_start(g);
    return g;
}

/* ---- fork ---- */
struct copy {
    struct vma *vma; /* the parent's */
    struct proc *child;
    gpa_t table;    /* the child's table that held the last leaf */
    gva_t base;     /* first address it maps */
    unsigned level; /* its level; 0: none yet */
};

/* Where the child's leaf goes; neighbours share a table, so most need no walk. 0: no frame. */
static gpa_t child_entry(struct gk *g, struct copy *c, gva_t va, unsigned level)
{
    if (c->level == level && c->base == (va & ~(level_size(level + 1) - 1)))
        return c->table + 8 * level_index(va, level);
    struct pos pos = pt_walk(g, c->child, va);
    if (!pt_down(g, c->child, va, &pos, level))
        return 0;
    c->table = pos.at & ~PAGE_MASK;
    c->base = va & ~(level_size(level + 1) - 1);
    c->level = level;
    return pos.at;
}

static int copy_leaf(struct gk *g, struct visit *v, gpa_t at, uint64_t e, gva_t va, unsigned level)
{
    struct copy *c = v->ctx;
    gpa_t to = child_entry(g, c, va, level);
    if (!to)
        return GK_ENOMEM;
    uint64_t both = (e & PTE_STAYS) | pt_rights(c->vma, false);
    if (both != e)
        pt_set(g, at, e, both, va, level);
    hw_pt_write(g->hw, to, both & ~(PTE_A | PTE_D));
    frame_of(g, pmm_head(g, pte_frame(e)))->ref++;
    return GK_OK;
}

static int hold_leaf(struct gk *g, struct visit *v, gpa_t at, uint64_t e, gva_t va, unsigned level)
{
    (void)at;
    return shm_set(g, v->vma->shm, va, pte_frame(e), level_order(level)) ? GK_OK : GK_ENOMEM;
}

/* Give the shared mappings of a process that forks for the first time a home for their pages. */
static int make_shms(struct gk *g, struct proc *p, int child_pid)
{
    for (struct vma *v = p->first; v; v = v->next) {
        if (!(v->flags & GK_SHARED) || (v->flags & GK_GLOBAL) || v->shm)
            continue;
        v->shm = shm_new(g, v->start, v->end, child_pid);
        struct visit visit = {.leaf = hold_leaf, .proc = p, .vma = v};
        if (!v->shm || pt_visit(g, &visit, v->start, v->end))
            return GK_ENOMEM;
    }
    return GK_OK;
}

static int copy_space(struct gk *g, struct proc *parent, struct proc *child)
{
    if (make_shms(g, parent, child->pid) || !vma_clone(g, child, parent))
        return GK_ENOMEM;
    tea_clone(g, child, parent);
    for (struct vma *v = parent->first; v; v = v->next) {
        struct copy copy = {.vma = v, .child = child};
        struct visit visit = {.leaf = copy_leaf, .proc = parent, .ctx = &copy};
        if (pt_visit(g, &visit, v->start, v->end))
            return GK_ENOMEM;
    }
    return GK_OK;
}

static int reown_leaf(struct gk *g, struct visit *v, gpa_t at, uint64_t e, gva_t va, unsigned level)
{
    if ((e & PTE_COW) && frame_of(g, pte_frame(e))->ref == 1)
        pt_set(g, at, e, (e & PTE_STAYS) | pt_rights(v->vma, true), va, level);
    return GK_OK;
}

static void undo_fork(struct gk *g, struct proc *parent, struct proc *child)
{
    int pid = child->pid;
    proc_free(g, child);
    for (struct vma *v = parent->first; v; v = v->next) {
        struct visit visit = {.leaf = reown_leaf, .proc = parent, .vma = v};
        pt_visit(g, &visit, v->start, v->end);
        if (v->shm && v->shm->born == pid) {
            shm_put(g, v->shm);
            v->shm = NULL;
        }
    }
    g->next_pid = pid;
}

int gk_fork(struct gk *g, int *child_pid)
{
    if (!child_pid)
        return GK_EINVAL;
    struct proc *child = proc_new(g);
    if (!child)
        return GK_ENOMEM;
    int err = copy_space(g, g->cur, child);
    if (err)
        undo_fork(g, g->cur, child);
    else
        *child_pid = child->pid;
    batch_end(g);
    return err;
}

/* ---- exit, switch, and what tools ask ---- */
static void load_first(struct gk *g, const void *unused)
{
    (void)unused;
    smp_load(g, g->first);
}

/* Go on in another process, on its vCPU. */
static void go_to(struct gk *g, struct proc *p)
{
    smp_move(g, (unsigned)(p->pid - 1) % g->cfg.cpus);
    if (g->cur != p)
        smp_load(g, p);
}

/* No vCPU has p loaded afterwards. */
static void leave(struct gk *g, const struct proc *p)
{
    bool current = p == g->cur;
    if (current)
        load_first(g, NULL);
    smp_call(g, p->loaded, load_first, NULL);
    if (current)
        go_to(g, g->first);
}

int gk_exit(struct gk *g, int pid)
{
    struct proc *p = find(g, pid);
    if (!p)
        return GK_ESRCH;
    if (pid == 1)
        return GK_EINVAL;
    leave(g, p);
    proc_free(g, p);
    return GK_OK;
}

int gk_switch(struct gk *g, int pid)
{
    struct proc *p = find(g, pid);
    if (!p)
        return GK_ESRCH;
    if (p != g->cur)
        go_to(g, p);
    return GK_OK;
}

void gk_run_on(struct gk *g, unsigned cpu)
{
    struct proc *p = g->cur;
    smp_move(g, cpu % g->cfg.cpus);
    if (g->cur != p)
        smp_load(g, p);
}

int gk_current(const struct gk *g) { return g->cur->pid; }
uint64_t gk_pt_bytes(const struct gk *g) { return g->tables * PAGE_SIZE; }
uint64_t gk_free_frames(const struct gk *g) { return g->pmm.free; }
uint64_t gk_reserved_frames(const struct gk *g) { return g->reserved; }
uint64_t gk_cr3(const struct gk *g) { return proc_cr3(g->cur); }

struct report {
    void (*fn)(void *, int, gva_t, gfn_t, unsigned, uint64_t);
    void *ctx;
};

static int report_leaf(struct gk *g, struct visit *v, gpa_t at, uint64_t e, gva_t va,
                       unsigned level)
{
    struct report *r = v->ctx;
    (void)g, (void)at;
    r->fn(r->ctx, v->proc->pid, va, gfn(pte_frame(e)), level_order(level), e);
    return 0;
}

void gk_for_each_page(struct gk *g, void (*fn)(void *, int, gva_t, gfn_t, unsigned, uint64_t),
                      void *ctx)
{
    struct report r = {fn, ctx};
    for (struct proc *p = g->first; p; p = p->next) {
        struct visit visit = {.leaf = report_leaf, .proc = p, .ctx = &r};
        pt_visit(g, &visit, 0, g->top);
    }
}
