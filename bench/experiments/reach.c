/* reach.c: TLB misses against the working set, for three page sizes.
 *
 * Guest and host use the same size, so one TLB entry covers a whole page of it.
 */
#include <math.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/bench_fig.h"
#include "bench/bench_util.h"

static const char *const pages[] = {"4k", "2m", "1g"};
static const unsigned mib[] = {1, 2, 4, 8, 16, 64, 256, 1024, 2048, 4096, 8192};

static unsigned last(enum scale s) { return s == SCALE_QUICK ? 1024 : 8192; }

/* 4 KiB pages that random updates of a working set touch: each is held in memory once. */
static double touched(unsigned set_mib, unsigned updates)
{
    double frames = set_mib * 256.;
    return frames * (1 - exp(-(double)updates / frames));
}

static void plan(struct plan *p)
{
    unsigned updates = p->scale == SCALE_QUICK ? 200000 : 500000;
    for (unsigned k = 0; k < ARRAY_SIZE(pages); k++)
        for (unsigned i = 0; i < ARRAY_SIZE(mib) && mib[i] <= last(p->scale); i++) {
            double held = touched(mib[i], updates);
            unsigned mem = mib[i] <= 1024 ? 4 : 2 * mib[i] / 1024;
            plan_add(
                p,
                (struct cell_spec){
                    .experiment = "reach",
                    .seed_key = "reach/workload:gups",
                    .name = strf("reach/pages:%s/mib:%u", pages[k], mib[i]),
                    .command = strf(
                        "run --engine model --paging ept --workload gups --set size=%uM --set "
                        "updates=%u --cpu skx --guest-page %s --host-page %s --mem %uG --host-mem "
                        "%uG --json",
                        mib[i], updates, pages[k], pages[k], mem, 2 * mem),
                    .seconds = 0.1 + held * (k == 0 ? 10e-6 : 6e-6),
                    .ram = (uint64_t)(32 + held * 4.25 / 1024) << 20});
        }
}

static double misses(const struct results *r, const char *page, unsigned size)
{
    const json_t *rec = results_record(r, "reach/pages:%s/mib:%u", page, size);
    return 1000 * rec_counter(rec, "tlb_l2_misses") / rec_counter(rec, "accesses");
}

static bool fig5(const struct results *r, FILE *f)
{
    bool any = false;
    fputs("mib\t4k\t2m\t1g\n", f);
    for (unsigned i = 0; i < ARRAY_SIZE(mib); i++) {
        double v[3];
        for (unsigned k = 0; k < ARRAY_SIZE(pages); k++)
            v[k] = misses(r, pages[k], mib[i]);
        if (isnan(v[0]) && isnan(v[1]) && isnan(v[2]))
            continue;
        any = true;
        fprintf(f, "%u\t%.5f\t%.5f\t%.5f\n", mib[i], v[0], v[1], v[2]);
    }
    return any;
}

static void facts(const struct results *r, json_t *f)
{
    for (unsigned k = 0; k < ARRAY_SIZE(pages); k++) {
        double v = misses(r, pages[k], 1024);
        char *id = strf("reach.%s.1g", pages[k]);
        if (isfinite(v))
            fact(f, id, 0, "%.3g", v);
        free(id);
    }
}

static void say(const struct results *r, FILE *f)
{
    double a = misses(r, "4k", 1024), b = misses(r, "2m", 1024), c = misses(r, "1g", 1024);
    if (isfinite(a))
        fprintf(f,
                "TLB misses per 1000 accesses, 1 GiB of random updates: 4k %.3g, 2m %.3g, 1g %.3g  "
                "[exact]\n",
                a, b, c);
}

EMBED(fig5_gp, "bench/plots/fig5.gp");
static struct figure figures[] = {
    {5, "fig5",
     "Second-level TLB misses per 1000 accesses (two accesses make one random update) against the "
     "working "
     "set, guest and host pages of one size",
     "exact", fig5_gp, fig5},
    {0},
};
REGISTER(experiment, reach,
         .summary = "TLB misses against the working set for 4 KiB, 2 MiB and 1 GiB pages",
         .plan = plan, .figures = figures, .facts = facts, .say = say);
