/* vmm.c: our KVM layer beside a bare ioctl loop, in the same rounds.
 *
 * The yardstick is bench/bare_kvm.c. Only ratios of one run mean anything: the same exit takes half
 * as long again when another processor is busy. The pair vmm/aa is the bare loop twice: what it shows
 * is noise.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_util.h"
#include "bench/stats.h"

/* The goal for ours / bare. */
#define GOAL 1.15

static const struct {
    const char *what, *label;
    unsigned n; /* exits or starts of one sample */
    double seconds;
} points[] = {{"pio", "port write from ring 0 and back", 10000, 0.15},
              {"start", "VM start, without irqchip", 7, 0.3},
              {"irqchip", "VM start, with irqchip and timer", 7, 0.4}};
static const char *const loops[] = {"bare", "ours"};

static void add(struct plan *p, char *name, unsigned point, const char *loop, unsigned extra)
{
    unsigned n = p->scale == SCALE_QUICK && point > 0 ? 3 : points[point].n;
    plan_add(p,
             (struct cell_spec){.experiment = "vmm",
                                .kind = CELL_TIMED,
                                .name = name,
                                .command = strf("bench vmm --what %s --loop %s --count %u --json",
                                                points[point].what, loop, n + extra),
                                .seconds = points[point].seconds,
                                .ram = 16 << 20});
}

static void plan(struct plan *p)
{
    for (unsigned i = 0; i < ARRAY_SIZE(points); i++)
        for (unsigned k = 0; k < ARRAY_SIZE(loops); k++)
            add(p, strf("vmm/what:%s/loop:%s", points[i].what, loops[k]), i, loops[k], 0);
    for (char side = 'a'; side <= 'b'; side++) /* one exit more: the cells have two files */
        add(p, strf("vmm/aa/side:%c", side), 0, "bare", 1 + (side == 'b'));
}

struct pair {
    double bare, ours; /* of one exit or start, in microseconds: medians over rounds */
    struct interval ratio;
};

/* Paired by round; false when one round or none was measured. */
static bool pair_of(const struct results *r, const char *bare, const char *ours, double n,
                    struct pair *p)
{
    double a[STAT_MAX], b[STAT_MAX];
    size_t na = cell_samples(results_cell(r, ours), "seconds", a, STAT_MAX),
           nb = cell_samples(results_cell(r, bare), "seconds", b, STAT_MAX);
    if (na < 2 || na != nb)
        return false;
    *p = (struct pair){.bare = 1e6 * stat_median(b, nb) / n,
                       .ours = 1e6 * stat_median(a, na) / n,
                       .ratio = stat_ratio(a, b, na, r->plan.root_seed)};
    return true;
}

static bool point_of(const struct results *r, unsigned i, struct pair *p)
{
    char *bare = strf("vmm/what:%s/loop:bare", points[i].what),
         *ours = strf("vmm/what:%s/loop:ours", points[i].what);
    bool there = pair_of(r, bare, ours, i == 0 ? points[i].n : 1, p);
    free(bare);
    free(ours);
    return there;
}

/* Met when the whole interval is, missed when none of it is. */
static const char *verdict(struct interval ratio)
{
    return ratio.hi <= GOAL ? "met" : ratio.lo > GOAL ? "missed" : "not resolved";
}

static void say(const struct results *r, FILE *f)
{
    struct pair p;
    bool head = false;
    for (unsigned i = 0; i < ARRAY_SIZE(points); i++) {
        if (!point_of(r, i, &p))
            continue;
        if (!head)
            fputs("us [measured]                          bare       ours   ratio  (95 %)\n", f);
        head = true;
        fprintf(f, "  %-32s %8.2f   %8.2f  %6.3f  (%.3f..%.3f)  goal %.2f: %s\n", points[i].label,
                p.bare, p.ours, p.ratio.mid, p.ratio.lo, p.ratio.hi, GOAL, verdict(p.ratio));
    }
    if (pair_of(r, "vmm/aa/side:b", "vmm/aa/side:a", points[0].n, &p))
        fprintf(f, "  %-32s %8.2f   %8.2f  %6.3f  (%.3f..%.3f)\n", "bare against bare", p.bare,
                p.ours, p.ratio.mid, p.ratio.lo, p.ratio.hi);
}

static void facts(const struct results *r, json_t *f)
{
    struct pair p;
    char *text;
    size_t len;
    bool any = false;
    FILE *t = open_memstream(&text, &len);
    if (!t)
        return;
    fputs(
        "\n| what | bare loop, us | ours, us | ratio (95 %) | goal 1.15 |\n|---|---|---|---|---|\n",
        t);
    for (unsigned i = 0; i < ARRAY_SIZE(points); i++) {
        if (!point_of(r, i, &p))
            continue;
        any = true;
        char *id = strf("vmm.ratio.%s", points[i].what);
        fact(f, id, FACT_MEASURED, "%.2f", p.ratio.mid);
        free(id);
        fprintf(t, "| %s | %.2f | %.2f | %.3f (%.3f to %.3f) | %s |\n", points[i].label, p.bare,
                p.ours, p.ratio.mid, p.ratio.lo, p.ratio.hi, verdict(p.ratio));
    }
    fclose(t);
    if (any)
        fact(f, "vmm.table", FACT_MEASURED, "%s", text);
    free(text);
}

REGISTER(experiment, vmm, .summary = "exits and VM starts of our KVM layer beside a bare loop",
         .plan = plan, .facts = facts, .say = say);
