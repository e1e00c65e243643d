/* walk_positions.c: pricing the references of nested walks. */
#include "bench/walk_positions.h"

#include <assert.h>
#include <string.h>

#include "bench/bench_util.h"
#include "shadow_vs_ept/mmu.h"
#include "shadow_vs_ept/walk_log.h"
#include "vmm/model.h"

enum { PREFIXES = 3 }; /* PML4E, PDPTE, PDE */

/* One run at a time: a walk function has no room for a context. */
static struct {
    struct positions *p;
    struct user *u;
    struct assoc guest[PREFIXES], host[PREFIXES]; /* CACHES_DMT */
    struct assoc pwc, ntlb;                       /* the others */
    bool counting;
} run;

/* ---- walk caches ---- */

/* Was the key there? It is afterwards. */
static bool used(struct assoc *c, uint64_t idx, uint64_t key)
{
    bool hit = assoc_get(c, idx, key) != NULL;
    if (!hit)
        assoc_put(c, idx, key, 0);
    return hit;
}

/* Deepest prefix of `a` that is cached, 1 = PML4E .. 3 = PDE, 0 = none; all are afterwards. */
static unsigned prefix_hit(struct assoc *caches, uint64_t a)
{
    unsigned deepest = 0;
    for (unsigned i = 1; i <= PREFIXES; i++) {
        uint64_t prefix = a >> (12 + (4 - i) * 9);
        if (used(&caches[i - 1], prefix, prefix << 1 | 1))
            deepest = i;
    }
    return deepest;
}

static double data_cache(struct mmu *m, hpa_t a)
{
    unsigned level = cache_access(m, a);
    return m->vm->cpu->cost.cache[level == 0 && run.p->no_l1 ? 1 : level];
}

/* Entry number `depth` (1 = first) of a table walk whose walk caches hit at `hit`. */
static double after_prefix(struct mmu *m, unsigned depth, unsigned hit, hpa_t a)
{
    return depth < hit ? 0 : depth == hit ? m->vm->cpu->cost.pwc_hit : data_cache(m, a);
}

/* ---- one walk ---- */

static unsigned row_of(const struct walk_step *s)
{
    return s->guest_level ? 4 - s->guest_level : ROW_DATA;
}

static void price_dmt(struct mmu *m, gva_t va, const struct walk_log *log, struct walk_cost *w)
{
    unsigned guest = prefix_hit(run.guest, va), host = 0;
    for (unsigned i = 0; i < log->n; i++) {
        const struct walk_step *s = &log->step[i];
        unsigned row = row_of(s), col = s->dim == DIM_GUEST ? COL_ENTRY : 4 - s->level;
        double *at = &w->at[row][col];
        if (row == ROW_DATA)
            *at = data_cache(m, s->hpa);
        else if (row + 1 <= guest)
            *at = col == COL_ENTRY && row + 1 == guest ? m->vm->cpu->cost.pwc_hit : 0;
        else if (col == COL_ENTRY)
            *at = data_cache(m, s->hpa);
        else {
            if (col == 0)
                host = prefix_hit(run.host, s->gpa);
            *at = after_prefix(m, col + 1, host, s->hpa);
        }
    }
}

static void price_by_address(struct mmu *m, const struct walk_log *log, struct walk_cost *w)
{
    const double hit = m->vm->cpu->cost.pwc_hit;
    bool skip = false; /* the nested TLB knows the frame of this row */
    for (unsigned i = 0; i < log->n; i++) {
        const struct walk_step *s = &log->step[i];
        unsigned row = row_of(s), col = s->dim == DIM_GUEST ? COL_ENTRY : 4 - s->level;
        bool upper = s->level > 1 && !pte_is_leaf(s->value, s->level),
             cached = upper && (col == COL_ENTRY || run.p->caches != CACHES_1D);
        if (col == 0) {
            uint64_t frame = s->gpa >> PAGE_SHIFT;
            skip = run.p->caches == CACHES_2D_NTLB && used(&run.ntlb, frame, frame + 1);
            w->at[row][col] = skip ? hit : 0;
        }
        if (skip && col != COL_ENTRY)
            continue;
        w->at[row][col] =
            cached && used(&run.pwc, s->hpa >> 3, s->hpa | 1) ? hit : data_cache(m, s->hpa);
    }
}

double walk_cost_total(const struct walk_cost *w)
{
    double sum = 0;
    for (unsigned r = 0; r < ROWS; r++)
        for (unsigned c = 0; c < COLS; c++)
            sum += w->at[r][c];
    return sum;
}

static void count(const struct walk_cost *w)
{
    run.p->walks++;
    for (unsigned r = 0; r < ROWS; r++)
        for (unsigned c = 0; c < COLS; c++)
            run.p->sum[r][c] += w->at[r][c];
    if (run.p->each)
        run.p->each(run.p->ctx, w);
}

static void empty_caches(struct mmu *m)
{
    mmu_flush_all(m);
    for (unsigned i = 0; i < ARRAY_SIZE(m->cache); i++) {
        dcache_fini(&m->cache[i]);
        dcache_init(&m->cache[i], &m->vm->cpu->cache[i]);
    }
}

/* Has the program come to its work phase? */
static bool at_work(void)
{
    const struct result *r = run.u->hw->res;
    return r->nphases && strcmp(r->phases[r->nphases - 1].name, "work") == 0;
}

static void walk(struct mmu *m, const struct access *a, struct walk *w)
{
    struct walk_log log = {0};
    struct walk_cost cost = {0};
    if (!run.counting && at_work()) {
        run.counting = true;
        if (run.p->cold)
            empty_caches(m);
    }
    m->vm->paging->explain(m, a, w, &log);
    if (w->status != WALK_OK)
        return;
    if (run.p->caches == CACHES_DMT)
        price_dmt(m, a->va, &log, &cost);
    else
        price_by_address(m, &log, &cost);
    if (run.counting)
        count(&cost);
}

/* ---- one run ---- */

static void arrays(const struct cpu *cpu)
{
    static const struct geometry pwc = {.entries = 24, .ways = 24},
                                 ntlb = {.entries = 16, .ways = 16};
    for (unsigned i = 0; i < PREFIXES; i++) {
        assoc_init(&run.guest[i], &cpu->psc[i + 1]);
        assoc_init(&run.host[i], &cpu->npsc[i + 1]);
    }
    assoc_init(&run.pwc, &pwc);
    assoc_init(&run.ntlb, &ntlb);
}

static void program(struct user *u, void *arg)
{
    struct mmu *m = u->mmu;
    assert(m->vm->levels == 4 && m->vm->host_levels == 4 && m->vm->cpu->cache[0].entries);
    run.p = arg;
    run.u = u;
    run.counting = false;
    arrays(m->vm->cpu);
    m->walk = walk;
    check_program_run(u);
}

static void free_arrays(void)
{
    for (unsigned i = 0; i < PREFIXES; i++) {
        assoc_fini(&run.guest[i]);
        assoc_fini(&run.host[i]);
    }
    assoc_fini(&run.pwc);
    assoc_fini(&run.ntlb);
    memset(&run, 0, sizeof run);
}

/* Cycles of the work phase that are not the walks'. */
static double other_cycles(const struct result *r, const struct cpu *cpu)
{
    struct cycles y;
    cycles_model(cpu, work_counters(r), &y);
    return y.access + y.stlb;
}

bool positions_run(struct check *c, const char *words, struct positions *p)
{
    char *all = strf("--paging ept %s", words);
    const struct cpu *cpu;
    const struct result *r = check_program(c, all, program, p, &cpu);
    if (r)
        p->other = other_cycles(r, cpu);
    free_arrays();
    cpu_free(cpu);
    free(all);
    return r != NULL;
}

double positions_total(const struct positions *p)
{
    double sum = 0;
    for (unsigned r = 0; r < ROWS; r++)
        for (unsigned c = 0; c < COLS; c++)
            sum += p->sum[r][c];
    return sum;
}
