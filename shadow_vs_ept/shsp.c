/* shsp.c: selective hardware/software paging: the whole VM is either under nested or under shadow
 * paging, and the hypervisor switches at run time. Wang, Zang, Wang, Luo, Li, VEE 2011.
 *
 * While nested, everything is as in ept.c; while shadow, as in shadow.c. At the end of each window (a
 * number of page walks and guest events, timer.h) the hypervisor compares what the window's work costs
 * beyond the other mode's, as the paper does from TLB misses and guest page faults:
 *
 *   nested   walks * (W2D - W1D), the longer walk
 *   shadow   exits for updates of the guest's tables, * their cost
 *
 * which is the crossover "updates per miss > (W2D - W1D) / cost of an exit". All costs are those of the CPU
 * preset. What each mode sees of itself and of the other:
 *
 *              while nested                               while shadow
 *   walks      performance counters: number, cycles      the same
 *   W2D, W1D   own: cycles / walks. The other's: what it was when last in that mode; before that, own *
 *              references of a walk there / here
 *   updates    guest #PFs, by a counter; each costs      counted: #PFs reflected, a fill after each,
 *              what updates cost per #PF in the last     table writes, CR3 loads, INVLPGs
 *              stay in shadow mode; before that, one
 *              reflection, table write and fill. Table
 *              writes, CR3 loads and INVLPGs do not
 *              exit: unseen
 *
 * First touches of frames (EPT violations, fills) cost both modes an exit and decide nothing.
 *
 * A switch costs: both ways a flush of all vCPUs. To shadow: the tables start empty, each page used comes
 * back by a hidden fault, each guest table used becomes write-protected. To nested: the shadow tables are
 * dropped; the nested table was kept, and host changes have gone to it too. So a window is not enough:
 * the difference adds up ("regret", never below 0), and the mode changes when it exceeds `patience`
 * percent of the cost of refilling the shadow tables. At 100, the default, this is the rule for
 * two-state task systems that is at most three times worse than knowing the future (Borodin, Linial,
 * Saks, JACM 39(4), 1992: 2n - 1 for n states); 0 is the crossover alone, window by window. The paper has
 * fixed thresholds instead, found by experiment; walk_extra takes the place of measuring W2D - W1D.
 *
 * Simplified: performance counters cost nothing, and a window's end one exit (exit_intr).
 *
 * Invariants (check(), besides those of ept.c and shadow_pt.h):
 *  (1) while nested there is no shadow page.
 *  (2) every vCPU that was started walks in the VM's mode: its walk, levels, root and CR0.WP.
 *  (3) table_frames counts nested tables and shadow pages.
 */
#include <math.h>

#include "shadow_vs_ept/cpu.h"
#include "shadow_vs_ept/ept.h"
#include "shadow_vs_ept/shadow.h"
#include "shadow_vs_ept/timer.h"
#include "shadow_vs_ept/walk.h"

enum { P_WINDOW, P_PATIENCE, P_WALK_EXTRA, P_START };
static const struct param params[] = {
    [P_WINDOW] = {"window", 10000, TIMER_MIN, 1ull << 32, "walks and guest events",
                  "between decisions"},
    [P_PATIENCE] = {"patience", 100, 0, 1000000, "percent",
                    "of the cost of refilling shadow tables, to lose before a switch"},
    [P_WALK_EXTRA] = {"walk_extra", 0, 0, 1000000, "cycles",
                      "by which a nested walk is dearer; 0: as measured"},
    [P_START] = {"start", 0, 0, 1, "mode", "0: nested, 1: shadow"},
    {0}};

enum mode { NESTED, SHADOW };

/* Costs are in thousandths of a cycle, so that decisions are made of whole numbers. */
struct costs {
    uint64_t cache[4], ref, pwc_hit, fill, reflect, pt_write, cr3, invlpg; /* with their exit */
};

struct shsp {
    enum mode mode;
    struct timer timer;
    struct costs cost;
    uint64_t walk_cost[2];    /* by mode: of a walk, when last measured; 0: never */
    uint64_t updates, faults; /* cost and #PFs of the last stay in shadow mode */
    uint64_t regret;
    uint64_t pages;        /* leaves the shadow tables had when they were dropped; 0: never */
    struct counters start; /* of the window; sums over vCPUs */
    uint64_t accesses[2];  /* by mode, without those since: */
    uint64_t since;        /* accesses when the mode began */
};

static struct shsp *state(const struct mmu_vm *vm) { return vm->state; }

static uint64_t milli(double cycles) { return (uint64_t)llround(1000 * cycles); }

static void set_costs(struct costs *c, const struct cpu *cpu)
{
    for (unsigned i = 0; i < 4; i++)
        c->cache[i] = milli(cpu->cost.cache[i]);
    c->ref = milli(cpu->cost.ref);
    c->pwc_hit = milli(cpu->cost.pwc_hit);
    c->fill = milli(cpu->cost.exit + cpu->cost.fill);
    c->reflect = milli(cpu->cost.exit + cpu->cost.reflect);
    c->pt_write = milli(cpu->cost.exit + cpu->cost.pt_write);
    c->cr3 = milli(cpu->cost.exit + cpu->cost.cr3);
    c->invlpg = milli(cpu->cost.exit + cpu->cost.invlpg);
}

static int init(struct mmu_vm *vm, char *err, size_t errlen)
{
    struct shsp *s = vm->state = meta_calloc(META_PAGING, 1, sizeof *s);
    s->mode = vm->param[P_START] ? SHADOW : NESTED;
    s->timer.period = vm->param[P_WINDOW];
    timer_restart(&s->timer);
    set_costs(&s->cost, vm->cpu);
    shadow_init(vm, err, errlen);
    return ept_init(vm, err, errlen);
}

static void fini(struct mmu_vm *vm)
{
    shadow_fini(vm);
    ept_fini(vm);
    meta_free(META_PAGING, vm->state);
}

/* ---- walks ---- */

ALWAYS_INLINE void long_walk(struct mmu *m, const struct access *a, struct walk *w,
                             const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    if (log || !timer_stops_walk(&state(m->vm)->timer, w))
        walk2d(m, a, w, m->vm->levels, pwc, cached, log);
}
WALK_VARIANTS(long_walk)

ALWAYS_INLINE void short_walk(struct mmu *m, const struct access *a, struct walk *w,
                              const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    if (log || !timer_stops_walk(&state(m->vm)->timer, w))
        walk1d(m, a, w, 0, ~0ull, WALK_EXIT, DIM_SHADOW, pwc, cached, log);
}
WALK_VARIANTS(short_walk)

static walk_fn walk_for(const struct mmu_vm *vm)
{
    return state(vm)->mode == NESTED ? long_walk_for(vm) : short_walk_for(vm);
}

static void explain(struct mmu *m, const struct access *a, struct walk *w, struct walk_log *log)
{
    (state(m->vm)->mode == NESTED ? long_walk_explain : short_walk_explain)(m, a, w, log);
}

/* ---- what the hypervisor has seen ---- */

static void look(const struct mmu_vm *vm, struct counters *sum)
{
    *sum = (struct counters){0};
    for (unsigned i = 0; i < vm->nvcpus; i++)
        for (unsigned k = 0; k < CTR_COUNT; k++)
            sum->v[k] += vm->vcpu[i]->c.v[k];
}

static uint64_t accesses(const struct mmu_vm *vm)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < vm->nvcpus; i++)
        n += vm->vcpu[i]->hot.count[0] + vm->vcpu[i]->hot.count[1];
    return n;
}

/* Cost of the walks counted in d. */
static uint64_t walk_cost(const struct mmu_vm *vm, const struct counters *d)
{
    const struct costs *c = &state(vm)->cost;
    uint64_t sum = c->pwc_hit * (d->pwc_hits + d->ntlb_hits);
    if (!vm->cpu->cache[0].entries)
        return sum + c->ref * (d->walk_reads + d->walk_refs_lost);
    for (unsigned i = 0; i < 4; i++)
        sum += c->cache[i] * d->v[CTR_pt_l1_hits + i];
    return sum;
}

/* What a walk of the other mode costs, never measured: by the number of references. */
static uint64_t by_references(const struct mmu_vm *vm, const struct counters *d, uint64_t own)
{
    uint64_t g = vm->levels, h = vm->host_levels;
    return state(vm)->mode == NESTED ? own * (d->walk_refs - d->walk_refs_nested) / d->walk_refs
                                     : own * ((g + 1) * (h + 1) - 1) / g;
}

/* W2D - W1D. */
static uint64_t walk_extra(const struct mmu_vm *vm, const struct counters *d)
{
    struct shsp *s = state(vm);
    if (vm->param[P_WALK_EXTRA])
        return 1000 * vm->param[P_WALK_EXTRA];
    if (!d->walks)
        return 0;
    uint64_t own = s->walk_cost[s->mode] = walk_cost(vm, d) / d->walks,
             other = s->walk_cost[!s->mode] ? s->walk_cost[!s->mode] : by_references(vm, d, own),
             two = s->mode == NESTED ? own : other, one = s->mode == NESTED ? other : own;
    return two > one ? two - one : 0;
}

/* What the guest's updates of its tables cost under shadow paging: counted. */
static uint64_t counted_updates(struct shsp *s, const struct counters *d)
{
    const struct costs *c = &s->cost;
    uint64_t fills = d->exit_fill < d->exit_reflect ? d->exit_fill : d->exit_reflect;
    uint64_t sum = d->exit_reflect * c->reflect + fills * c->fill + d->exit_pt_write * c->pt_write +
                   d->exit_cr3 * c->cr3 + d->exit_invlpg * c->invlpg;
    s->updates += sum;
    s->faults += d->exit_reflect;
    return sum;
}

/* The same while nested: guessed. */
static uint64_t guessed_updates(const struct shsp *s, const struct counters *d)
{
    const struct costs *c = &s->cost;
    return d->guest_faults *
           (s->faults ? s->updates / s->faults : c->reflect + c->pt_write + c->fill);
}

/* ---- the decision ---- */

/* Cost of refilling the shadow tables. Before the first time: one fill per host page in use. */
static uint64_t refill_cost(const struct mmu_vm *vm)
{
    const struct shsp *s = state(vm);
    const struct gmem *g = vm->gm;
    uint64_t pages = s->mode == SHADOW ? spt_leaves(vm->spt) : s->pages;
    if (!pages)
        pages = g->allocs[0] + g->allocs[1] + g->allocs[2];
    return pages * s->cost.fill;
}

/* Bring a vCPU into the VM's mode. Frame 0 is empty: the first walk of a shadow mode exits, and makes
 * the root. */
static void enter(struct mmu *m)
{
    struct mmu_vm *vm = m->vm;
    bool is_nested = state(vm)->mode == NESTED;
    m->walk = walk_for(vm);
    m->levels = is_nested ? vm->host_levels : vm->levels;
    m->root = is_nested ? vm->nested_root : 0;
    m->hw.wp = m->ctl.wp || !is_nested;
}

static void change_mode(struct mmu *m, const struct counters *d)
{
    struct mmu_vm *vm = m->vm;
    struct shsp *s = state(vm);
    uint64_t now = accesses(vm);
    s->accesses[s->mode] += now - s->since;
    s->since = now;
    if (s->mode == SHADOW) {
        s->pages = spt_leaves(vm->spt);
        spt_drop_all(vm->spt);
    }
    s->mode = !s->mode;
    if (s->mode == SHADOW)
        s->updates = s->faults = 0;
    for (unsigned i = 0; i < vm->nvcpus; i++)
        enter(vm->vcpu[i]);
    mmu_vm_flush_all(vm);
    m->c.mode_switches++;
    mmu_note(m, s->mode == NESTED ? "switch_to_nested" : "switch_to_shadow", d->walks,
             s->mode == NESTED ? d->exit_pt_write : d->guest_faults);
}

static void window_end(struct mmu *m)
{
    struct shsp *s = state(m->vm);
    struct counters now, d;
    mmu_exit(m, CTR_exit_intr, 0);
    look(m->vm, &now);
    counters_delta(&d, &now, &s->start);
    uint64_t longer = d.walks * walk_extra(m->vm, &d),
             updates = s->mode == NESTED ? guessed_updates(s, &d) : counted_updates(s, &d),
             here = s->mode == NESTED ? longer : updates,
             there = s->mode == NESTED ? updates : longer;
    s->regret = s->regret + here > there ? s->regret + here - there : 0;
    if (here > there && s->regret > refill_cost(m->vm) / 100 * m->vm->param[P_PATIENCE]) {
        change_mode(m, &d);
        s->regret = 0;
    }
    look(m->vm, &s->start);
    timer_restart(&s->timer);
}

/* ---- events ---- */

static bool is_nested(const struct mmu *m) { return state(m->vm)->mode == NESTED; }

static void tick(struct mmu *m)
{
    if (timer_tick(&state(m->vm)->timer))
        window_end(m);
}

static enum fix_result fix(struct mmu *m, const struct access *a, struct walk *w)
{
    if (timer_expired(&state(m->vm)->timer)) {
        window_end(m);
        return FIX_RETRY;
    }
    return is_nested(m) ? ept_fix(m, a, w) : shadow_fix(m, a, w);
}

static void guest_cr3(struct mmu *m, uint64_t cr3)
{
    (is_nested(m) ? ept_guest_cr3 : shadow_guest_cr3)(m, cr3);
    tick(m);
}

static void guest_invlpg(struct mmu *m, gva_t va)
{
    (is_nested(m) ? mmu_flush_va : shadow_guest_invlpg)(m, va);
    tick(m);
}

static void guest_invpcid(struct mmu *m, enum invpcid_type type, unsigned pcid, gva_t va)
{
    (is_nested(m) ? mmu_flush_invpcid : shadow_guest_invpcid)(m, type, pcid, va);
    tick(m);
}

static void guest_control(struct mmu *m)
{
    if (!is_nested(m))
        shadow_guest_control(m);
    m->hw.wp = m->ctl.wp || !is_nested(m);
}

static void guest_touch(struct mmu *m, gfn_t f, bool write)
{
    (is_nested(m) ? ept_guest_touch : shadow_guest_touch)(m, f, write);
}

static void guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    (is_nested(m) ? ept_guest_pt_write : shadow_guest_pt_write)(m, gpa, entry);
    tick(m);
}

static void zap(struct mmu_vm *vm, gfn_t first, uint64_t n)
{
    spt_zap(vm->spt, first, n);
    ept_zap(vm, first, n);
}

static void table_bytes(const struct mmu_vm *vm, uint64_t *shadow_bytes, uint64_t *nested_bytes)
{
    *shadow_bytes = spt_live(vm->spt) << PAGE_SHIFT;
    *nested_bytes = (vm->table_frames << PAGE_SHIFT) - *shadow_bytes;
}

static void count(const struct mmu_vm *vm, struct counters *c)
{
    const struct shsp *s = state(vm);
    uint64_t now[2] = {s->accesses[NESTED], s->accesses[SHADOW]};
    now[s->mode] += accesses(vm) - s->since;
    c->accesses_nested = now[NESTED];
    c->accesses_shadow = now[SHADOW];
}

static const char *check_vcpu(const struct mmu *m)
{
    const struct mmu_vm *vm = m->vm;
    bool fits = m->walk == walk_for(vm);
    if (state(vm)->mode == NESTED)
        fits &= m->root == vm->nested_root && m->levels == vm->host_levels && m->hw.wp == m->ctl.wp;
    else
        fits &= (!m->root || spt_of_table(vm->spt, m->root)) && m->levels == vm->levels && m->hw.wp;
    return fits ? NULL : "shsp (2) a vCPU is in another mode than its VM";
}

static const char *check(struct mmu_vm *vm)
{
    uint64_t tables = 0;
    const char *why = ept_check_leaves(vm, false, &tables);
    if (!why)
        why = spt_check(vm->spt);
    for (unsigned i = 0; i < vm->nvcpus && !why; i++)
        why = vm->vcpu[i]->started ? check_vcpu(vm->vcpu[i]) : NULL;
    if (!why && state(vm)->mode == NESTED && spt_live(vm->spt))
        why = "shsp (1) shadow pages outlived the shadow mode";
    if (!why && tables + spt_live(vm->spt) != vm->table_frames)
        why = "shsp (3) table_frames is wrong";
    return why;
}

REGISTER(paging, shsp,
         .summary = "the whole VM switches between nested and shadow paging as it runs (SHSP)",
         .params = params, .init = init, .fini = fini, .walk_for = walk_for, .explain = explain,
         .fix = fix, .guest_cr3 = guest_cr3, .guest_invlpg = guest_invlpg,
         .guest_invpcid = guest_invpcid, .guest_control = guest_control,
         .guest_pt_write = guest_pt_write, .guest_touch = guest_touch, .zap = zap,
         .table_bytes = table_bytes, .count = count,
         .counters = COUNTERS(CTR_exit_intr, CTR_mode_switches, CTR_accesses_nested,
                              CTR_accesses_shadow),
         .check = check);
