/* segments.c: what direct segments are worth when pages escape from them.
 *
 * Random updates of a 64 MiB table (gups) that is one primary region, under the three modes, with 0 to
 * 100 % of the pages of each segment escaping; beside them native and nested paging of the same guest.
 * The filter is large (a million bits), so that hardly a page escapes falsely; dseg runs also with its
 * paper's filter of 256 bits, which a few dozen pages fill.
 *
 * An escaping page may be one of the guest's tables: every walk through it then has a nested walk more,
 * and there are few of them, so dseg-vmm rises in steps.
 *
 * References are per access, not per walk: what both segments translate takes no room in the second-level
 * TLB, so the modes do not walk equally often.
 */
#include <math.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/bench_fig.h"
#include "bench/bench_util.h"

static const struct {
    const char *name, *paging;
    unsigned filter_bits; /* 0: no direct segments */
} series[] = {{"native", "native", 0},
              {"ept", "ept", 0},
              {"dseg-vmm", "dseg-vmm", 1u << 20},
              {"dseg-guest", "dseg-guest", 1u << 20},
              {"dseg", "dseg", 1u << 20},
              {"dseg-256", "dseg", 256}};
enum {
    SEGMENTS = 2,
    LARGE = 5
}; /* the first with direct segments; the last with a large filter, + 1 */
static const unsigned ppm[] = {0,      200,    1000,   5000,   10000,  50000,
                               100000, 250000, 500000, 750000, 1000000};

/* The first two do not depend on what escapes; the first points are for the small filter, the last for the
 * large one. */
static bool taken(enum scale s, unsigned k, unsigned i)
{
    if (k < SEGMENTS || ppm[i] == 0)
        return ppm[i] == 0;
    if (k == LARGE)
        return ppm[i] <= 50000;
    return ppm[i] >= 10000 && (s != SCALE_QUICK || ppm[i] == 50000 || ppm[i] >= 500000);
}

static void plan(struct plan *p)
{
    unsigned updates = p->scale == SCALE_QUICK ? 50000 : 200000;
    for (unsigned k = 0; k < ARRAY_SIZE(series); k++)
        for (unsigned i = 0; i < ARRAY_SIZE(ppm); i++) {
            if (!taken(p->scale, k, i))
                continue;
            char *set =
                series[k].filter_bits
                    ? strf(" --set %s.filter_bits=%u --set %s.escape_ppm=%u", series[k].paging,
                           series[k].filter_bits, series[k].paging, ppm[i])
                    : strf("%s", "");
            plan_add(p,
                     (struct cell_spec){
                         .experiment = "segments",
                         .seed_key = "segments",
                         .name = strf("segments/series:%s/ppm:%u", series[k].name, ppm[i]),
                         .command = strf("run --engine model --paging %s%s --workload gups --set "
                                         "size=64M --set updates=%u --set guest.segment=64M --cpu "
                                         "skx --mem 256M --json",
                                         series[k].paging, set, updates),
                         .seconds = 0.1 + updates * 1e-6,
                         .ram = 100 << 20});
            free(set);
        }
}

static const json_t *cell(const struct results *r, const char *name, unsigned n)
{
    return results_record(r, "segments/series:%s/ppm:%u", name, n);
}

static double refs(const json_t *rec)
{
    return rec_counter(rec, "walk_refs") / rec_counter(rec, "accesses");
}

static double cycles(const json_t *rec)
{
    return rec_cycles(rec, "total") / rec_counter(rec, "accesses");
}

static bool fig11(const struct results *r, FILE *f)
{
    bool any = false;
    fputs("percent", f);
    for (unsigned k = 0; k < ARRAY_SIZE(series); k++)
        fprintf(f, "\t%s", series[k].name);
    for (unsigned i = 0; i < ARRAY_SIZE(ppm); i++) {
        fprintf(f, "\n%g", ppm[i] / 1e4);
        for (unsigned k = 0; k < ARRAY_SIZE(series); k++) {
            double v = refs(cell(r, series[k].name, k < SEGMENTS ? 0 : ppm[i]));
            any |= isfinite(v);
            fprintf(f, "\t%.4f", v);
        }
    }
    fputc('\n', f);
    return any;
}

static void one(json_t *facts, const char *id, double v)
{
    if (isfinite(v))
        fact(facts, id, 0, "%.2f", v);
}

static void facts(const struct results *r, json_t *f)
{
    double native = cycles(cell(r, "native", 0));
    one(f, "segments.ept", cycles(cell(r, "ept", 0)) / native);
    one(f, "segments.vmm", cycles(cell(r, "dseg-vmm", 0)) / native);
    one(f, "segments.guest", cycles(cell(r, "dseg-guest", 0)) / native);
    one(f, "segments.dual", cycles(cell(r, "dseg", 0)) / native);
    one(f, "segments.dual.half", refs(cell(r, "dseg", 500000)));
    one(f, "segments.small.1", refs(cell(r, "dseg-256", 10000)));
    one(f, "segments.large.1", refs(cell(r, "dseg", 10000)));
}

static void say(const struct results *r, FILE *f)
{
    double native = cycles(cell(r, "native", 0)), ept = cycles(cell(r, "ept", 0)),
           vmm = cycles(cell(r, "dseg-vmm", 0)), dual = cycles(cell(r, "dseg", 0));
    if (isfinite(native + ept + vmm + dual))
        fprintf(
            f,
            "direct segments, random updates: %.2f times the cycles of native under ept, %.2f with "
            "the VMM's segment, %.2f with both  [modelled]\n",
            ept / native, vmm / native, dual / native);
}

EMBED(fig11_gp, "bench/plots/fig11.gp");
static struct figure figures[] = {
    {11, "fig11",
     "References per access against the share of pages that escape from direct segments: with all "
     "of "
     "them it is nested paging; a filter of 256 bits makes it that much sooner",
     "exact", fig11_gp, fig11},
    {0},
};
REGISTER(experiment, segments,
         .summary = "what direct segments are worth as pages escape from them", .plan = plan,
         .figures = figures, .facts = facts, .say = say);
