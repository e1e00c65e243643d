/* inflate.c: the balloon's device beside a discard for each PFN, on real memory, in the same rounds.
 *
 * Two yardsticks (bench_inflate.c): what most devices do, and the kernel's own time for the discards that remain when all is
 * merged. Seconds compare in one run only; the number of discards is exact: with 256 PFNs in a notification, as Linux sends
 * them, consecutive pages need one in 256, pages that cannot be merged one each. Behind 4 KiB host pages the rate is that of
 * the kernel, which frees every frame by itself; behind large ones it is not.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_util.h"
#include "bench/stats.h"

/* The goals for consecutive pages: M PFNs/s of the device, and discards of the loop over the device's. */
#define GOAL_RATE 5.0
#define GOAL_DISCARDS 50.0

static const struct {
    const char *order, *page, *backing, *label;
    enum scale least; /* smallest plan that has it */
} points[] = {{"up", "4K", "anon", "ascending, 4 KiB host pages", SCALE_QUICK},
              {"up", "thp", "anon", "ascending, 2 MiB host pages", SCALE_QUICK},
              {"down", "4K", "anon", "descending, 4 KiB", SCALE_STD},
              {"up", "4K", "memfd", "ascending, 4 KiB, memfd", SCALE_STD},
              {"scattered", "4K", "anon", "every second page, 4 KiB", SCALE_STD}};
enum { PAGE, KERNEL, DEVICE, LOOPS };
static const char *const loops[LOOPS] = {"page", "kernel", "device"};

static bool merges(unsigned point) { return strcmp(points[point].order, "scattered") != 0; }

static char *cell_name(unsigned i, unsigned loop)
{
    return strf("balloon-inflate/order:%s/page:%s/backing:%s/loop:%s", points[i].order,
                points[i].page, points[i].backing, loops[loop]);
}

static void add(struct plan *p, unsigned i, unsigned loop)
{
    bool quick = p->scale == SCALE_QUICK;
    plan_add(p,
             (struct cell_spec){
                 .experiment = "inflate",
                 .kind = CELL_TIMED,
                 .name = cell_name(i, loop),
                 .command = strf("bench inflate --loop %s --order %s --host-page %s --backing %s "
                                 "--mem %s --json",
                                 loops[loop], points[i].order, points[i].page, points[i].backing,
                                 quick ? "64M" : "256M"),
                 .seconds = quick ? 0.1 : 0.4,
                 .ram = 600 << 20});
}

static void plan(struct plan *p)
{
    for (unsigned i = 0; i < ARRAY_SIZE(points); i++)
        for (unsigned k = 0; k < LOOPS && p->scale >= points[i].least; k++)
            if (k != KERNEL || merges(i))
                add(p, i, k);
}

struct point {
    double rate[LOOPS];    /* M PFNs/s: medians over rounds; NaN: not measured */
    double discards;       /* of the loop for each of the device */
    struct interval ratio; /* seconds of the loop over the device's */
};

static double counter(const json_t *cell, const char *name)
{
    return num(json_object_get(json_object_get(cell, "record"), "counters"), name);
}

/* Paired by round; false when one round or none was measured. */
static bool point_of(const struct results *r, unsigned i, struct point *p)
{
    double sample[LOOPS][STAT_MAX], discards[LOOPS];
    size_t n[LOOPS];
    for (unsigned k = 0; k < LOOPS; k++) {
        char *name = cell_name(i, k);
        const json_t *cell = results_cell(r, name);
        free(name);
        n[k] = cell_samples(cell, "seconds", sample[k], STAT_MAX);
        discards[k] = counter(cell, "discards");
        p->rate[k] = n[k] ? counter(cell, "pfns") / stat_median(sample[k], n[k]) / 1e6 : NAN;
    }
    if (n[PAGE] < 2 || n[PAGE] != n[DEVICE])
        return false;
    p->discards = discards[PAGE] / discards[DEVICE];
    p->ratio = stat_ratio(sample[PAGE], sample[DEVICE], n[PAGE], r->plan.root_seed);
    return true;
}

static const char *verdict(unsigned i, const struct point *p)
{
    if (!merges(i))
        return "";
    return p->rate[DEVICE] >= GOAL_RATE && p->discards >= GOAL_DISCARDS ? "met" : "missed";
}

/* "-" where nothing can be merged. */
static const char *kernel_rate(const struct point *p, char *buf, size_t n)
{
    if (isfinite(p->rate[KERNEL]))
        snprintf(buf, n, "%.2f", p->rate[KERNEL]);
    else
        snprintf(buf, n, "-");
    return buf;
}

static void say(const struct results *r, FILE *f)
{
    struct point p;
    char buf[32];
    bool head = false;
    for (unsigned i = 0; i < ARRAY_SIZE(points); i++) {
        if (!point_of(r, i, &p))
            continue;
        if (!head)
            fputs("M PFNs/s [measured]          page by page  kernel alone   device   device/page  "
                  "(95 %)  fewer discards\n",
                  f);
        head = true;
        fprintf(f, "  %-28s %10.2f  %12s %8.2f   %6.2f (%.2f..%.2f)  %.0f x  %s\n", points[i].label,
                p.rate[PAGE], kernel_rate(&p, buf, sizeof buf), p.rate[DEVICE], p.ratio.mid,
                p.ratio.lo, p.ratio.hi, p.discards, verdict(i, &p));
    }
}

static void facts(const struct results *r, json_t *f)
{
    struct point p;
    char *text, buf[32];
    size_t len;
    bool any = false;
    FILE *t = open_memstream(&text, &len);
    if (!t)
        return;
    fputs("\n| PFNs | page by page, M/s | kernel alone, M/s | device, M/s | device / page by page "
          "(95 %) | fewer discards | goal 5 M/s, 50 x |\n|---|---|---|---|---|---|---|\n",
          t);
    for (unsigned i = 0; i < ARRAY_SIZE(points); i++) {
        if (!point_of(r, i, &p))
            continue;
        any = true;
        fprintf(t, "| %s | %.2f | %s | %.2f | %.2f (%.2f to %.2f) | %.0f x | %s |\n",
                points[i].label, p.rate[PAGE], kernel_rate(&p, buf, sizeof buf), p.rate[DEVICE],
                p.ratio.mid, p.ratio.lo, p.ratio.hi, p.discards, verdict(i, &p));
    }
    fclose(t);
    if (any)
        fact(f, "inflate.table", FACT_MEASURED, "%s", text);
    free(text);
}

REGISTER(experiment, inflate,
         .summary = "a balloon's inflation on the device's side, beside a discard for each page",
         .plan = plan, .facts = facts, .say = say);
