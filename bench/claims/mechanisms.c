/* mechanisms.c: V4, V7 to V11: what other ways to page gain over nested and shadow paging.
 *
 * Modelled cycles of whole programs, geometric means. Walks overlap with nothing, and programs are
 * small beside the published ones, so that signs and order are judged, sizes stand beside.
 */
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "bench/bench_util.h"
#include "bench/verify.h"

/* Programs that change their tables, and programs that miss the TLB. */
static const char *const mixed[] = {"--workload churn",  "--workload forkcow", "--workload spawn",
                                    "--workload switch", "--trace cc1",        "--trace shell",
                                    "--trace sqlite",    "--workload gups",    "--workload zipf"};
static const char *const walking[] = {"--workload gups --set size=1G --set updates=300000 --mem 2G",
                                      "--workload btree", "--workload zipf --set size=512M",
                                      "--workload bfs", "--workload chase"};

static double total(struct check *c, const char *paging, const char *program)
{
    char *words = strf("--paging %s %s", paging, program);
    double t = work_total(c, words);
    free(words);
    return t;
}

/* Mean over walking[] of a's cycles over b's. */
static double over(struct check *c, const char *a, const char *b, const char *more)
{
    double sum = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(walking); i++) {
        char *words = strf("%s%s", walking[i], more);
        sum += log(total(c, a, words) / total(c, b, words));
        free(words);
    }
    return exp(sum / ARRAY_SIZE(walking));
}

/* ---- V4: agile paging ---- */

/* Best of shadow and nested paging over agile. */
static double gain_of_agile(struct check *c, const char *program)
{
    return fmin(total(c, "shadow", program), total(c, "ept", program)) / total(c, "agile", program);
}

/* Static memory and tables that change, in a run long enough to have paid for moving tables. */
static const char both_kinds[] = "--workload churn --set accesses=10000000";
static const char still[] = "--workload gups --set updates=5000000";

static void agile_best(struct check *c)
{
    double gain = gain_of_agile(c, both_kinds);
    claim_above(c, 1, gain, "churn: best of both over agile");
    claim_beside(c, 1.12, gain, "churn: best of both over agile");
}
REGISTER_AS(claim, v4a, "V4a",
            .summary = "agile paging is 12 % better than the best of shadow and nested",
            .source = "Agile paging, ISCA'16 [A]", .kind = CLAIM_SHAPE, .check = agile_best,
            .needs = {"agile", "shadow", "ept"},
            .note = "where memory is static and tables change beside it. With the walk caches of "
                    "skx nested paging is within 8 % of native there: more cannot be gained");

static void agile_native(struct check *c)
{
    claim_below(c, 1.04, total(c, "agile", both_kinds) / total(c, "native", both_kinds),
                "churn: agile over native");
    claim_below(c, 1.04, total(c, "agile", still) / total(c, "native", still),
                "gups: agile over native");
}
REGISTER_AS(claim, v4b, "V4b", .summary = "agile paging is within 4 % of native",
            .source = "Agile paging, ISCA'16 [A]", .kind = CLAIM_SHAPE, .check = agile_native,
            .needs = {"agile", "native"});

static void agile_short(struct check *c)
{
    double sum = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(mixed); i++)
        sum += log(gain_of_agile(c, mixed[i]));
    claim_above(c, 1, exp(sum / ARRAY_SIZE(mixed)), "best of both over agile, mean of nine");
}
REGISTER_AS(claim, v4c, "V4c", .summary = "so it is for short programs",
            .source = "Agile paging, ISCA'16 [A]", .kind = CLAIM_SHAPE, .check = agile_short,
            .needs = {"agile", "shadow", "ept"},
            .disagrees = "set-up leaves tables nested that were written; they come back to shadow "
                         "mode in the work phase, one fill an entry, which short runs do not earn "
                         "back");

/* ---- V7: direct segments ---- */

static void vmm_direct(struct check *c)
{
    claim_below(c, 1.02, over(c, "dseg-vmm", "native", ""), "VMM direct over native, mean");
}
REGISTER_AS(claim, v7a, "V7a", .summary = "VMM direct is within 2 % of native",
            .source = "Gandhi et al., MICRO'14 [A]", .kind = CLAIM_SHAPE, .check = vmm_direct,
            .needs = {"dseg-vmm", "native"});

static void dual_direct(struct check *c)
{
    claim_below(c, 1, over(c, "dseg", "native", ""), "dual direct over native, mean");
}
REGISTER_AS(claim, v7b, "V7b", .summary = "dual direct is better than native",
            .source = "Gandhi et al., MICRO'14 [A]", .kind = CLAIM_SHAPE, .check = dual_direct,
            .needs = {"dseg", "native"});

/* ---- V8: flat nested tables ---- */

static void flat(struct check *c)
{
    double gain = over(c, "ept", "ept-flat", " --cpu zen3");
    claim_above(c, 1, gain, "nested over flat, mean");
    claim_beside(c, 1.07, gain, "nested over flat, mean");
}
REGISTER_AS(
    claim, v8a, "V8a",
    .summary = "a flat nested table gains 7 % over a 2D walker with walk caches and nested TLB",
    .source = "Ahn et al., ISCA'12 [A]", .kind = CLAIM_SHAPE, .check = flat,
    .needs = {"ept-flat", "ept"}, .note = "walk caches and nested TLB of preset zen3");
REGISTER_AS(claim, v8b, "V8b", .summary = "a speculative inverted shadow table gains 14 %",
            .source = "Ahn et al., ISCA'12 [A]", .kind = CLAIM_SHAPE,
            .unchecked = "there is no such strategy: speculation needs a model of the pipeline");

/* ---- V9: hashed tables, as a strategy ---- */

static void ecpt(struct check *c)
{
    double gain = over(c, "ept", "ecpt", " --cpu dmt-ref");
    claim_above(c, 1, gain, "nested radix over ECPT, mean");
    claim_beside(c, 1.19, gain, "nested radix over ECPT, mean");
}
REGISTER_AS(claim, v9c, "V9c",
            .summary = "nested ECPT: programs 1.19 times as fast, with the strategy itself",
            .source = "Stojkovic et al., ASPLOS'22 [A]", .kind = CLAIM_SHAPE, .check = ecpt,
            .needs = {"ecpt", "ept"},
            .disagrees =
                "the strategy is the plain design: all 99 places a walk may probe go through "
                "the data caches, which the paper's cuckoo walk caches prune");

/* ---- V10: DMT, as a strategy ---- */

/* The sample's GUPS: random accesses to 16 GiB. */
#define GUPS                                                                                     \
    "--workload churn --set updates=0 --set size=16G --set accesses=363000 --mem 17G --cpu dmt-" \
    "ref"

/* Cycles of walks, and of all, with nested radix tables over those with pvdmt. */
static void over_pvdmt(struct check *c, const char *program, double *walks, double *all)
{
    char *ept = strf("--paging ept %s", program), *dmt = strf("--paging pvdmt %s", program);
    *walks = work_cycles(c, ept).walk / work_cycles(c, dmt).walk;
    *all = work_total(c, ept) / work_total(c, dmt);
    free(ept);
    free(dmt);
}

static void pvdmt_points(struct check *c, const char *name, double walks, double all)
{
    claim_above(c, 1, walks, "walks, %s", name);
    claim_above(c, 1, all, "programs, %s", name);
}

/* Huge pages leave nothing to walk to programs of 1 GiB: 512 entries. */
static void pvdmt(struct check *c)
{
    double w = 0, p = 0, walks, all;
    for (unsigned i = 0; i < ARRAY_SIZE(walking); i++) {
        char *words = strf("%s --cpu dmt-ref", walking[i]);
        over_pvdmt(c, words, &walks, &all);
        w += log(walks) / ARRAY_SIZE(walking);
        p += log(all) / ARRAY_SIZE(walking);
        free(words);
    }
    pvdmt_points(c, "4 KiB", exp(w), exp(p));
    claim_beside(c, 1.58, exp(w), "walks, 4 KiB");
    claim_beside(c, 1.20, exp(p), "programs, 4 KiB");
    over_pvdmt(c, GUPS " --guest-page thp --host-page thp", &walks, &all);
    pvdmt_points(c, "huge, GUPS of 16 GiB", walks, all);
    claim_beside(c, 1.65, walks, "walks, huge");
    claim_beside(c, 1.14, all, "programs, huge");
}
REGISTER_AS(
    claim, v10b, "V10b",
    .summary = "the same with the strategy itself, beside nested paging with all its walk caches",
    .source = "DMT, ASPLOS'24 [A]", .kind = CLAIM_SHAPE, .check = pvdmt, .needs = {"pvdmt", "ept"},
    .note = "here the host walk for the data page has walk caches too, which it has not in "
            "DMT's simulator");

/* ---- V11: DMT's sample, as the processor counted it ---- */

static double cycles_per_walk(struct check *c, const char *pages, double *share)
{
    char *words = strf("--paging ept " GUPS "%s", pages);
    const struct result *r = check_run(c, words);
    struct cycles y = work_cycles(c, words);
    free(words);
    *share = y.walk / (y.walk + y.access + y.stlb);
    return r ? y.walk / (double)work_counters(r)->walks : NAN;
}

static void huge_pages(struct check *c)
{
    double share_4k, share_thp, share_both,
        small = cycles_per_walk(c, "", &share_4k),
        guest = cycles_per_walk(c, " --guest-page thp", &share_thp),
        both = cycles_per_walk(c, " --guest-page thp --host-page thp", &share_both);
    claim_above(c, 1, small / guest, "4 KiB over huge in the guest, cycles of a walk");
    claim_above(c, small / guest, small / both, "4 KiB over huge in guest and host");
    claim_above(c, share_thp, share_4k, "share of walks, 4 KiB, above that with huge pages");
    claim_beside(c, 184.5 / 112.2, small / guest, "4 KiB over huge in the guest");
    claim_beside(c, 0.918, share_4k, "share of walks, 4 KiB");
    claim_beside(c, 0.800, share_thp, "share of walks, huge in the guest");
}
REGISTER_AS(
    claim, v11a, "V11a",
    .summary = "GUPS of 16 GiB: a walk takes 184.5 cycles, with huge pages 112.2; walks are 91.8 "
               "and 80.0 % of the time",
    .source = "DMT, minimal.md, Xeon counters [F]", .kind = CLAIM_SHAPE, .check = huge_pages,
    .needs = {"ept"},
    .note = "sign and order; a Xeon overlaps walks, and how its host backed the guest is not "
            "said");
