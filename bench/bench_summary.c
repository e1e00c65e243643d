/* bench_summary.c: summary.tsv, and what a run found, in a few lines. */
#include "bench/bench_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_util.h"
#include "bench/stats.h"

REGISTRY(experiment);

static void row(FILE *f, const struct cell *c, const char *metric, const char *unit,
                const char *tag, struct interval v)
{
    fprintf(f, "%s\t%s\t%s\t%s\t%s\t%s\t%.10g\t%.10g\t%.10g\t%zu\n", c->id, c->experiment, c->name,
            metric, unit, tag, v.mid, v.lo, v.hi, v.n);
}

static void exact_row(FILE *f, const struct cell *c, const char *metric, const char *unit,
                      const char *tag, double v)
{
    if (isfinite(v))
        row(f, c, metric, unit, tag, (struct interval){v, NAN, NAN, 1});
}

static void timed_row(FILE *f, const struct cell *c, const json_t *cell, const char *key,
                      const char *unit)
{
    double x[STAT_MAX];
    size_t n = cell_samples(cell, key, x, STAT_MAX);
    if (n)
        row(f, c, key, unit, "measured", stat_bootstrap(x, n, c->seed));
}

void summary_write(const struct results *r, FILE *f)
{
    fputs("# exact counts and modelled costs have no interval (lo, hi = nan); timings: median and "
          "95 % bootstrap\n"
          "id\texperiment\tname\tmetric\tunit\ttag\tmedian\tlo\thi\tn\n",
          f);
    for (size_t i = 0; i < r->plan.n; i++) {
        const struct cell *c = &r->plan.cells[i];
        const json_t *cell = r->cells[i], *rec = json_object_get(cell, "record");
        if (!cell_ok(cell))
            continue;
        double accesses = rec_counter(rec, "accesses"), refs = rec_refs(rec);
        exact_row(f, c, "refs_per_walk", "entries", "exact", isnan(refs) ? num(rec, "refs") : refs);
        exact_row(f, c, "exits_per_kaccess", "exits", "exact",
                  1000 * rec_counter(rec, "exits") / accesses);
        exact_row(f, c, "stlb_misses_per_kaccess", "misses", "exact",
                  1000 * rec_counter(rec, "tlb_l2_misses") / accesses);
        exact_row(f, c, "cycles_per_access", "cycles", "modelled",
                  rec_cycles(rec, "total") / accesses);
        timed_row(f, c, cell, "wall_seconds", "s");
        timed_row(f, c, cell, "seconds", "s");
        timed_row(f, c, cell, "accesses_per_second", "1/s");
    }
}

double noise_floor(const struct results *r)
{
    double a[STAT_MAX], b[STAT_MAX];
    size_t n = cell_samples(results_cell(r, "aa/side:a"), "seconds", a, STAT_MAX);
    size_t m = cell_samples(results_cell(r, "aa/side:b"), "seconds", b, STAT_MAX);
    return n && n == m ? stat_noise_floor(a, b, n, r->plan.root_seed) : NAN;
}

void findings_print(const struct results *r, FILE *f)
{
    const struct reg_head *all[64];
    size_t n = REG_SORTED(experiment, all, ARRAY_SIZE(all));
    for (size_t i = 0; i < n; i++) {
        const struct experiment *e = REG_FIND(experiment, all[i]->name);
        if (e->say)
            e->say(r, f);
    }
    double floor = noise_floor(r);
    if (isfinite(floor))
        fprintf(f,
                "noise floor here: ±%.1f %% (two runs of one program; smaller effects are not "
                "resolved)\n",
                100 * floor);
}
