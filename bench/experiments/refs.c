/* refs.c: references per page walk, by page sizes, levels and strategy.
 *
 * Exact: native g, shadow the levels of the shadow table, nested (g + 1)(h + 1) - 1 with g and h
 * the entries read in each dimension.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_fig.h"
#include "bench/bench_util.h"

static const char *const pages[] = {"4k", "2m", "1g"};
static const unsigned levels[] = {4, 5};

static void add(struct plan *p, const char *paging, const char *guest, const char *host, unsigned g,
                unsigned h)
{
    plan_add(
        p,
        (struct cell_spec){
            .experiment = "refs",
            .name = strf("refs/paging:%s/guest:%s/host:%s/levels:%u-%u", paging, guest, host, g, h),
            .command =
                strf("walk --paging %s --guest-page %s --host-page %s --levels %u --host-levels %u "
                     "--mem 4G --host-mem 8G --json",
                     paging, guest, host, g, h),
            .seconds = 0.03,
            .ram = 64 << 20});
}

static void plan(struct plan *p)
{
    for (unsigned g = 0; g < ARRAY_SIZE(pages); g++)
        for (unsigned h = 0; h < ARRAY_SIZE(pages); h++)
            for (unsigned i = 0; i < ARRAY_SIZE(levels); i++) {
                if (h == 0)
                    add(p, "native", pages[g], "4k", levels[i], 4);
                add(p, "shadow", pages[g], pages[h], levels[i], 4);
                for (unsigned j = 0; j < ARRAY_SIZE(levels); j++)
                    add(p, "ept", pages[g], pages[h], levels[i], levels[j]);
            }
}

static double refs(const struct results *r, const char *paging, const char *guest, const char *host,
                   unsigned g, unsigned h)
{
    return num(results_record(r, "refs/paging:%s/guest:%s/host:%s/levels:%u-%u", paging, guest,
                              host, g, h),
               "refs");
}

static bool fig1(const struct results *r, FILE *f)
{
    bool any = false;
    fputs("pages\tnative\tshadow\tept\tept5\n", f);
    for (unsigned g = 0; g < ARRAY_SIZE(pages); g++)
        for (unsigned h = 0; h < ARRAY_SIZE(pages); h++) {
            double native = refs(r, "native", pages[g], "4k", 4, 4),
                   ept = refs(r, "ept", pages[g], pages[h], 4, 4);
            fprintf(f, "%s on %s\t%g\t%g\t%g\t%g\n", pages[g], pages[h], native,
                    refs(r, "shadow", pages[g], pages[h], 4, 4), ept,
                    refs(r, "ept", pages[g], pages[h], 5, 5));
            any |= isfinite(native) || isfinite(ept);
        }
    return any;
}

/* The 12 rows of nested references, as a Markdown table. */
static void table(const struct results *r, json_t *facts)
{
    char *text;
    size_t n;
    bool whole = true;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return;
    fputs("\n| levels guest / host | guest page | host 4k | host 2m | host 1g "
          "|\n|---|---|---|---|---|\n",
          f);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned g = 0; g < ARRAY_SIZE(pages); g++) {
            fprintf(f, "| %u / %u | %s |", levels[i & 1], levels[i >> 1], pages[g]);
            for (unsigned h = 0; h < ARRAY_SIZE(pages); h++) {
                double v = refs(r, "ept", pages[g], pages[h], levels[i & 1], levels[i >> 1]);
                fprintf(f, " %g |", v);
                whole &= isfinite(v);
            }
            fputc('\n', f);
        }
    fclose(f);
    if (whole)
        fact(facts, "refs.table", 0, "%s", text);
    free(text);
}

static void one(json_t *facts, const char *id, double v)
{
    if (isfinite(v))
        fact(facts, id, 0, "%g", v);
}

/* Nested cells that equal (g + 1)(h + 1) - 1, g and h being the entries read in each dimension. */
static unsigned matching(const struct results *r, unsigned *of)
{
    unsigned same = 0;
    *of = 0;
    for (unsigned i = 0; i < 4; i++)
        for (unsigned g = 0; g < ARRAY_SIZE(pages); g++)
            for (unsigned h = 0; h < ARRAY_SIZE(pages); h++) {
                unsigned lg = levels[i & 1], lh = levels[i >> 1];
                double v = refs(r, "ept", pages[g], pages[h], lg, lh);
                *of += isfinite(v);
                same += v == (lg - g + 1) * (lh - h + 1) - 1;
            }
    return same;
}

static void facts(const struct results *r, json_t *f)
{
    unsigned of, same = matching(r, &of);
    if (of)
        fact(f, "refs.match", 0, "%u of %u", same, of);

    one(f, "refs.native", refs(r, "native", "4k", "4k", 4, 4));
    one(f, "refs.shadow", refs(r, "shadow", "4k", "4k", 4, 4));
    one(f, "refs.ept", refs(r, "ept", "4k", "4k", 4, 4));
    one(f, "refs.ept5", refs(r, "ept", "4k", "4k", 5, 5));
    one(f, "refs.ept.host2m", refs(r, "ept", "4k", "2m", 4, 4));
    one(f, "refs.ept.2m2m", refs(r, "ept", "2m", "2m", 4, 4));
    table(r, f);
}

static void say(const struct results *r, FILE *f)
{
    double native = refs(r, "native", "4k", "4k", 4, 4),
           shadow = refs(r, "shadow", "4k", "4k", 4, 4);
    double ept = refs(r, "ept", "4k", "4k", 4, 4), ept5 = refs(r, "ept", "4k", "4k", 5, 5);
    if (isfinite(native) && isfinite(shadow) && isfinite(ept) && isfinite(ept5))
        fprintf(f,
                "references per walk, 4k on 4k: native %g, shadow %g, ept %g, ept with 5 levels %g "
                " [exact]\n",
                native, shadow, ept, ept5);
}

EMBED(fig1_gp, "bench/plots/fig1.gp");
static struct figure figures[] = {
    {1, "fig1",
     "References per page walk for each pair of guest and host page size, 4 levels in each "
     "dimension "
     "unless said",
     "exact", fig1_gp, fig1},
    {0},
};
REGISTER(experiment, refs, .summary = "references per page walk by page sizes, levels and strategy",
         .plan = plan, .figures = figures, .facts = facts, .say = say);
