/* adaptive.c: what follows a guest whose behaviour changes: shsp and agile beside what they switch between.
 *
 * The workload churn with a period: calm stretches of random loads, where the shorter walk of shadow paging
 * is cheaper, and busy ones with 200 table updates per thousand accesses, where nested paging is. CPU plain:
 * every table read costs the same, so that the walk's length is all that counts. Each stretch is a phase of the
 * record; its counters say in which mode it ran: of shsp the accesses in shadow mode, of agile the walks
 * that stayed in the shadow table. With --set run.events=FILE the same run lists each switch.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_fig.h"
#include "bench/bench_util.h"

static const char *const pagings[] = {"native", "shadow", "ept", "shsp", "agile"};
enum { NATIVE, SHADOW, EPT, SHSP, AGILE, PAGINGS };

static void plan(struct plan *p)
{
    unsigned period = p->scale == SCALE_QUICK ? 200000 : 500000;
    for (unsigned k = 0; k < PAGINGS; k++)
        plan_add(p, (struct cell_spec){
                        .experiment = "adaptive",
                        .seed_key = "adaptive",
                        .name = strf("adaptive/paging:%s", pagings[k]),
                        .command = strf("run --engine model --paging %s --workload churn --set "
                                        "updates=200 --set period=%u --set accesses=%u --set "
                                        "size=16M --cpu plain --mem 64M --json",
                                        pagings[k], period, 8 * period),
                        .seconds = 8 * period / 2e6,
                        .ram = 120 << 20});
}

static const json_t *cell(const struct results *r, unsigned k)
{
    return results_record(r, "adaptive/paging:%s", pagings[k]);
}

/* Stretch i of a record, after boot and setup; NULL: no more. */
static const json_t *stretch(const json_t *rec, size_t i)
{
    return json_array_get(json_object_get(rec, "phases"), i + 2);
}

static double counted(const json_t *phase, const char *name)
{
    return num(json_object_get(phase, "counters"), name);
}

static double cost(const json_t *phase)
{
    return num(json_object_get(phase, "cycles"), "total") / counted(phase, "accesses");
}

/* Cycles per access of all stretches; NAN when there is no record. */
static double total(const struct results *r, unsigned k)
{
    double cycles = 0, accesses = 0;
    const json_t *rec = cell(r, k), *s;
    for (size_t i = 0; (s = stretch(rec, i)) != NULL; i++) {
        cycles += num(json_object_get(s, "cycles"), "total");
        accesses += counted(s, "accesses");
    }
    return accesses > 0 ? cycles / accesses : NAN;
}

/* A row at each end of a stretch, so that lines are steps. */
static bool fig13(const struct results *r, FILE *f)
{
    double at = 0;
    fputs("accesses\tnative\tshadow\tept\tshsp\tagile\tshsp_nested\tagile_nested\n", f);
    for (size_t i = 0;; i++) {
        const json_t *s[PAGINGS];
        for (unsigned k = 0; k < PAGINGS; k++)
            s[k] = stretch(cell(r, k), i);
        if (!s[NATIVE] || !s[SHSP] || !s[AGILE])
            return i > 0;
        for (unsigned end = 0; end < 2; end++) {
            fprintf(f, "%.0f", at);
            for (unsigned k = 0; k < PAGINGS; k++)
                fprintf(f, "\t%.2f", s[k] ? cost(s[k]) : NAN);
            fprintf(f, "\t%.4f\t%.4f\n",
                    counted(s[SHSP], "accesses_nested") / counted(s[SHSP], "accesses"),
                    1 - counted(s[AGILE], "walks_nested_0") / counted(s[AGILE], "walks"));
            at += end ? 0 : counted(s[NATIVE], "accesses");
        }
    }
}

static void facts(const struct results *r, json_t *f)
{
    double best = fmin(total(r, SHADOW), total(r, EPT));
    for (unsigned k = SHSP; k <= AGILE; k++) {
        char *to_best = strf("adaptive.%s.best", pagings[k]),
             *to_native = strf("adaptive.%s.native", pagings[k]);
        if (isfinite(total(r, k) / best))
            fact(f, to_best, 0, "%.2f", total(r, k) / best);
        if (isfinite(total(r, k) / total(r, NATIVE)))
            fact(f, to_native, 0, "%.2f", total(r, k) / total(r, NATIVE));
        free(to_best);
        free(to_native);
    }
}

static void say(const struct results *r, FILE *f)
{
    double best = fmin(total(r, SHADOW), total(r, EPT));
    if (isfinite(best + total(r, SHSP) + total(r, AGILE)))
        fprintf(f,
                "calm and busy stretches in turn: %.0f cycles an access under shadow, %.0f under "
                "ept, %.0f under shsp, %.0f under agile, %.0f native  [modelled]\n",
                total(r, SHADOW), total(r, EPT), total(r, SHSP), total(r, AGILE), total(r, NATIVE));
}

EMBED(fig13_gp, "bench/plots/fig13.gp");
static struct figure figures[] = {
    {13, "fig13",
     "Cycles of an access while calm and busy stretches alternate, and below how much of each "
     "stretch was nested: accesses of shsp, which switches the whole VM, and walks of agile, which "
     "switches parts of the guest's tables",
     "modelled", fig13_gp, fig13},
    {0},
};
REGISTER(experiment, adaptive,
         .summary = "strategies that switch, and a guest whose behaviour changes", .plan = plan,
         .figures = figures, .facts = facts, .say = say);
