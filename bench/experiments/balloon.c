/* balloon.c: what reclaiming memory through a balloon costs: in translation, and in exits.
 *
 * Translation: a quarter of a guest's pages, scattered, is free (workload holes); the host has 2 MiB pages. A balloon of
 * 4 KiB pages takes more and more of what is free. With holes split at once, memory comes back and large pages break:
 * more references a walk, more walk entries to cache. With holes deferred nothing breaks, and nothing comes
 * back. The same accesses in every cell.
 *
 * Exits: 128 MiB of free memory that was used once are taken by blocks of 4 KiB or 2 MiB, or reported by the guest in
 * blocks of order 0, 4 and 9 and above; per GiB that the host got. Reporting costs nothing that the guest uses
 * again, so the last column is what it had to fault in.
 */
#include <math.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/bench_fig.h"
#include "bench/bench_util.h"

static const unsigned mibs[] = {0, 2, 4, 6, 8, 10, 12, 14, 15};
static const char *const pagings[] = {"ept", "shadow"};
static const char *const holes[] = {"split", "defer"};

/* How memory comes back, for the exits: --balloon and --set. */
static const struct {
    const char *name, *plan, *set;
} ways[] = {
    {"none", "0", "balloon.report=off"},          {"4k", "128M@phase:work", "balloon.order=0"},
    {"2m", "128M@phase:work", "balloon.order=9"}, {"report-0", "0", "balloon.report=0"},
    {"report-4", "0", "balloon.report=4"},        {"report-9", "0", "balloon.report=9"}};

static bool taken(enum scale s, unsigned i)
{
    return s != SCALE_QUICK || i == 0 || i == ARRAY_SIZE(mibs) - 1;
}

static void add(struct plan *p, char *name, char *command)
{
    plan_add(p, (struct cell_spec){.experiment = "balloon",
                                   .seed_key = "balloon",
                                   .name = name,
                                   .command = command,
                                   .seconds = 0.5,
                                   .ram = 300 << 20});
}

static void plan(struct plan *p)
{
    for (unsigned i = 0; i < ARRAY_SIZE(mibs); i++)
        for (unsigned k = 0; k < ARRAY_SIZE(pagings) && taken(p->scale, i); k++)
            for (unsigned h = 0; h < ARRAY_SIZE(holes); h++)
                add(p, strf("balloon/hole:%s/mib:%u/paging:%s", holes[h], mibs[i], pagings[k]),
                    strf(
                        "run --engine model --paging %s --workload holes --set accesses=400000 "
                        "--balloon "
                        "%uM@phase:work --set balloon.hole=%s --cpu skx --host-page thp --mem 128M "
                        "--json",
                        pagings[k], mibs[i], holes[h]));
    for (unsigned w = 0; w < ARRAY_SIZE(ways); w++)
        add(p, strf("balloon/way:%s", ways[w].name),
            strf("run --engine model --paging ept --workload forkcow --set procs=16 --set "
                 "pages=8192 "
                 "--balloon %s --set %s --cpu skx --mem 256M --json",
                 ways[w].plan, ways[w].set));
}

/* ---- translation ---- */
static const json_t *work(const struct results *r, unsigned i, unsigned h, unsigned k)
{
    return results_record(r, "balloon/hole:%s/mib:%u/paging:%s", holes[h], mibs[i], pagings[k]);
}

static double reclaimed(const struct results *r, unsigned i, unsigned h)
{
    return (rec_counter(work(r, 0, h, 0), "host_frames") -
            rec_counter(work(r, i, h, 0), "host_frames")) /
           256;
}

static double cycles(const json_t *rec)
{
    return rec_cycles(rec, "walk") / rec_counter(rec, "accesses");
}

static bool fig14(const struct results *r, FILE *f)
{
    bool any = false;
    fputs("mib\tsplit_mib\tdefer_mib\tept\tshadow\tdefer\tept_refs\tept_misses\n", f);
    for (unsigned i = 0; i < ARRAY_SIZE(mibs); i++) {
        const json_t *ept = work(r, i, 0, 0), *shadow = work(r, i, 0, 1), *defer = work(r, i, 1, 0);
        if (!ept || !shadow || !defer)
            continue;
        any = true;
        fprintf(f, "%u\t%.2f\t%.2f\t%.3f\t%.3f\t%.3f\t%.3f\t%.4f\n", mibs[i], reclaimed(r, i, 0),
                reclaimed(r, i, 1), cycles(ept), cycles(shadow), cycles(defer), rec_refs(ept),
                rec_counter(ept, "tlb_l2_misses") / rec_counter(ept, "accesses"));
    }
    return any;
}

/* ---- exits ---- */
static const json_t *way(const struct results *r, const char *name)
{
    return results_record(r, "balloon/way:%s", name);
}

static double total(const json_t *rec, const char *counter)
{
    return num(json_object_get(rec, "counters"), counter);
}

/* Accesses to the device's registers, per GiB of pages that it gave to the host. */
static double exits_per_gib(const struct results *r, const char *name)
{
    const json_t *rec = way(r, name), *balloon = json_object_get(rec, "balloon");
    double more = total(rec, "exit_mmio") - total(way(r, "none"), "exit_mmio");
    return more * 262144 / num(json_object_get(balloon, "device"), "released");
}

static void facts(const struct results *r, json_t *f)
{
    unsigned last = ARRAY_SIZE(mibs) - 1;
    for (unsigned k = 0; k < ARRAY_SIZE(pagings); k++)
        for (unsigned i = 0; i <= last; i += last) {
            const json_t *rec = work(r, i, 0, k);
            char *a = strf("balloon.refs.%s.%u", pagings[k], mibs[i]),
                 *b = strf("balloon.cycles.%s.%u", pagings[k], mibs[i]);
            if (isfinite(rec_refs(rec))) {
                fact(f, a, 0, "%.3g", rec_refs(rec));
                fact(f, b, 0, "%.3g", cycles(rec));
            }
            free(a);
            free(b);
        }
    for (unsigned w = 1; w < ARRAY_SIZE(ways); w++) {
        char *a = strf("balloon.exits.%s", ways[w].name),
             *b = strf("balloon.refaults.%s", ways[w].name);
        if (isfinite(exits_per_gib(r, ways[w].name))) {
            fact(f, a, 0, "%.0f", exits_per_gib(r, ways[w].name));
            fact(f, b, 0, "%.0f", total(way(r, ways[w].name), "balloon_refaults"));
        }
        free(a);
        free(b);
    }
}

static void say(const struct results *r, FILE *f)
{
    unsigned last = ARRAY_SIZE(mibs) - 1;
    const json_t *before = work(r, 0, 0, 0), *after = work(r, last, 0, 0);
    if (isfinite(cycles(before) + cycles(after)))
        fprintf(f,
                "a balloon that takes %.0f MiB out of 2 MiB host pages: %.3g instead of %.3g "
                "references a "
                "walk under ept, walks cost %.0f %% more  [modelled]\n",
                reclaimed(r, last, 0), rec_refs(after), rec_refs(before),
                100 * (cycles(after) / cycles(before) - 1));
    if (isfinite(exits_per_gib(r, "4k")))
        fprintf(f, "exits per reclaimed GiB: %.0f by 4 KiB pages, %.0f by 2 MiB blocks  [exact]\n",
                exits_per_gib(r, "4k"), exits_per_gib(r, "2m"));
}

EMBED(fig14_gp, "bench/plots/fig14.gp");
static struct figure figures[] = {
    {14, "fig14",
     "Cycles of page walks per access against the memory that a balloon of 4 KiB pages gave back, "
     "from a "
     "host with 2 MiB pages whose guest has scattered free pages; beside each point the references "
     "of "
     "a nested walk",
     "modelled", fig14_gp, fig14},
    {0},
};
REGISTER(experiment, balloon,
         .summary = "what a balloon costs: walks in splintered memory, exits per reclaimed GiB",
         .plan = plan, .figures = figures, .facts = facts, .say = say);
