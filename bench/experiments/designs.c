/* designs.c: what a TLB miss costs under each strategy: references one after the other, places probed,
 * modelled cycles.
 *
 * Random updates on the machine of DMT's simulator (walk caches, cached table reads), guest and host
 * pages of one size. The set has many times the pages that the TLB has entries. Numbers are of the
 * work phase: no first touches, few exits. Strategies that this build lacks are left out.
 */
#include <math.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/bench_fig.h"
#include "bench/bench_util.h"
#include "shadow_vs_ept/paging.h"

static const char *const pagings[] = {"native", "shadow", "ept",  "ept-flat", "agile",
                                      "dmt",    "pvdmt",  "ecpt", "dseg-vmm", "dseg-guest"};
static const struct {
    const char *page, *size, *mem, *host_mem;
} sizes[] = {{"4k", "256M", "1G", "2G"}, {"2m", "4G", "8G", "16G"}};

/* Both dimensions have pages of one size; without a VMM there is one dimension. */
static char *command(const char *paging, unsigned k, unsigned updates)
{
    bool bare = REG_FIND(paging, paging)->bare;
    return strf("run --engine model --paging %s --workload gups --set size=%s --set updates=%u "
                "--cpu dmt-ref --guest-page %s%s%s --mem %s --host-mem %s --json",
                paging, sizes[k].size, updates, sizes[k].page, bare ? "" : " --host-page ",
                bare ? "" : sizes[k].page, sizes[k].mem, sizes[k].host_mem);
}

static void plan(struct plan *p)
{
    unsigned updates = p->scale == SCALE_QUICK ? 50000 : 200000;
    for (unsigned i = 0; i < ARRAY_SIZE(pagings); i++)
        for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++)
            if (REG_FIND(paging, pagings[i]))
                plan_add(p, (struct cell_spec){.experiment = "designs",
                                               .seed_key = "designs/workload:gups",
                                               .name = strf("designs/paging:%s/pages:%s",
                                                            pagings[i], sizes[k].page),
                                               .command = command(pagings[i], k, updates),
                                               .seconds = 0.5,
                                               .ram = 1ull << 30});
}

static const json_t *record(const struct results *r, unsigned i, unsigned k)
{
    return results_record(r, "designs/paging:%s/pages:%s", pagings[i], sizes[k].page);
}

static double per_walk(const json_t *rec, double v) { return v / rec_counter(rec, "walks"); }

static bool fig12(const struct results *r, FILE *f)
{
    bool any = false;
    fputs("paging\t4k\t2m\trefs4k\trefs2m\n", f);
    for (unsigned i = 0; i < ARRAY_SIZE(pagings); i++) {
        const json_t *small = record(r, i, 0), *large = record(r, i, 1);
        if (!small || !large)
            continue;
        any = true;
        fprintf(f, "%s\t%.4f\t%.4f\t%.3g\t%.3g\n", pagings[i],
                per_walk(small, rec_cycles(small, "walk")),
                per_walk(large, rec_cycles(large, "walk")), rec_refs(small), rec_refs(large));
    }
    return any;
}

/* A cell of the table; what was not counted is a dash. */
static void number(FILE *f, double v, int digits)
{
    if (isfinite(v))
        fprintf(f, " %.*g |", digits, v);
    else
        fputs(" - |", f);
}

static void facts(const struct results *r, json_t *facts)
{
    char *text;
    size_t len;
    bool any = false;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return;
    fputs("\n| strategy | 4 KiB pages: references per walk | probes | cycles | 2 MiB pages: "
          "references "
          "| probes | cycles |\n|---|---|---|---|---|---|---|\n",
          f);
    for (unsigned i = 0; i < ARRAY_SIZE(pagings); i++) {
        if (!record(r, i, 0) || !record(r, i, 1))
            continue;
        any = true;
        fprintf(f, "| %s |", pagings[i]);
        for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
            const json_t *rec = record(r, i, k);
            number(f, rec_refs(rec), 3);
            number(f, per_walk(rec, rec_counter(rec, "walk_probes")), 3);
            number(f, per_walk(rec, rec_cycles(rec, "walk")), 3);
        }
        fputc('\n', f);
    }
    fclose(f);
    if (any)
        fact(facts, "designs.table", 0, "%s", text);
    free(text);
}

static void say(const struct results *r, FILE *f)
{
    for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
        bool any = false;
        for (unsigned i = 0; i < ARRAY_SIZE(pagings); i++) {
            const json_t *rec = record(r, i, k);
            if (!rec)
                continue;
            fprintf(f, "%s%s %.1f",
                    any ? ", "
                    : k ? "  2m: "
                        : "cycles per walk, 4k: ",
                    pagings[i], per_walk(rec, rec_cycles(rec, "walk")));
            any = true;
        }
        if (any)
            fputs("  [modelled]\n", f);
    }
}

EMBED(fig12_gp, "bench/plots/fig12.gp");
static struct figure figures[] = {
    {12, "fig12",
     "Modelled cycles of a page walk under each strategy, random accesses, walk caches and cached "
     "table reads of preset dmt-ref; the number on a bar is the references an uncached walk makes "
     "one after the other",
     "modelled", fig12_gp, fig12},
    {0},
};
REGISTER(experiment, designs, .summary = "cost of a TLB miss under each strategy", .plan = plan,
         .figures = figures, .facts = facts, .say = say);
