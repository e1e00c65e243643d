/* crossover.c: how many page-table updates make nested paging cheaper than shadow paging?
 *
 * The churn workload makes a set number of table updates per thousand accesses. Shadow paging pays
 * an exit for them, nested paging a longer walk for every TLB miss: somewhere the lines cross.
 */
#include <math.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/bench_fig.h"
#include "bench/bench_util.h"

static const char *const pagings[] = {"shadow", "ept"};
static const unsigned updates[] = {0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000};

static void plan(struct plan *p)
{
    unsigned accesses = p->scale == SCALE_QUICK ? 200000 : 1000000;
    for (unsigned i = 0; i < ARRAY_SIZE(updates); i++)
        for (unsigned k = 0; k < ARRAY_SIZE(pagings); k++)
            plan_add(
                p, (struct cell_spec){
                       .experiment = "crossover",
                       .seed_key = "crossover/workload:churn",
                       .name = strf("crossover/updates:%u/paging:%s", updates[i], pagings[k]),
                       .command = strf(
                           "run --engine model --paging %s --workload churn --set updates=%u --set "
                           "accesses=%u --cpu skx --guest-page 4k --host-page 4k --mem 1G --json",
                           pagings[k], updates[i], accesses),
                       .seconds = accesses / 2.5e6,
                       .ram = 300 << 20});
}

static double cost(const struct results *r, unsigned u, const char *paging)
{
    const json_t *rec = results_record(r, "crossover/updates:%u/paging:%s", u, paging);
    return rec_cycles(rec, "total") / rec_counter(rec, "accesses");
}

/* First crossing, interpolated between the two points around it; NAN when there is none. */
static void crossing(const struct results *r, double *x, double *y)
{
    double lu = 0, ls = NAN, le = NAN;
    *x = *y = NAN;
    for (unsigned i = 0; i < ARRAY_SIZE(updates); i++) {
        double s = cost(r, updates[i], "shadow"), e = cost(r, updates[i], "ept");
        if (isnan(s) || isnan(e))
            continue;
        if (isfinite(ls) && ls < le && s >= e) {
            double t = (le - ls) / ((le - ls) + (s - e));
            *x = lu + t * (updates[i] - lu);
            *y = ls + t * (s - ls);
            return;
        }
        lu = updates[i];
        ls = s;
        le = e;
    }
}

static bool fig4(const struct results *r, FILE *f)
{
    double x, y;
    bool any = false;
    crossing(r, &x, &y);
    fprintf(f, "# crossing\t%g\t%g\nupdates\tshadow\tept\tcross_x\tcross_y\n", x, y);
    for (unsigned i = 0; i < ARRAY_SIZE(updates); i++) {
        double s = cost(r, updates[i], "shadow"), e = cost(r, updates[i], "ept");
        any |= isfinite(s) && isfinite(e);
        fprintf(f, "%u\t%.4f\t%.4f\tNaN\tNaN\n", updates[i], s, e);
    }
    if (isfinite(x))
        fprintf(f, "NaN\tNaN\tNaN\t%.4f\t%.4f\n", x, y);
    return any;
}

static void facts(const struct results *r, json_t *f)
{
    double x, y;
    crossing(r, &x, &y);
    if (isfinite(x))
        fact(f, "crossover.updates", 0, "%.1f", x);
    double s = cost(r, 100, "shadow"), e = cost(r, 100, "ept");
    if (isfinite(s / e))
        fact(f, "crossover.ratio100", 0, "%.1f", s / e);
    s = cost(r, 0, "shadow"), e = cost(r, 0, "ept");
    if (isfinite(s / e))
        fact(f, "crossover.ratio0", 0, "%.2f", e / s);
}

static void say(const struct results *r, FILE *f)
{
    double x, y;
    crossing(r, &x, &y);
    if (isfinite(x))
        fprintf(f,
                "the lines cross at %.1f page-table updates per 1000 accesses: below, shadow "
                "paging is cheaper  "
                "[modelled]\n",
                x);
}

EMBED(fig4_gp, "bench/plots/fig4.gp");
static struct figure figures[] = {
    {4, "fig4",
     "Cost of an access against page-table updates: the walk is dearer under nested paging, the "
     "update "
     "under shadow paging",
     "modelled", fig4_gp, fig4},
    {0},
};
REGISTER(experiment, crossover,
         .summary = "page-table updates at which nested paging becomes cheaper than shadow",
         .plan = plan, .figures = figures, .facts = facts, .say = say);
