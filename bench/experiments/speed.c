/* speed.c: accesses per second of the model beside a hand-written loop, in the same rounds.
 *
 * The yardstick is bench/refloop.c: same TLB geometry, real tables, nothing else. Only ratios of
 * one run mean anything. The A/A pair is one command measured as two cells: what it shows is noise.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_run.h"
#include "bench/bench_util.h"
#include "bench/stats.h"

static const char *const kinds[] = {"native", "ept"};
static const char *const loops[] = {"refloop", "loop"};
static const struct {
    const char *pattern, *bytes;
    double millions; /* of accesses */
    bool quick;
} points[] = {{"random", "64M", 4, true},
              {"random", "1G", 2, false},
              {"seq", "64M", 40, true},
              {"seq", "1G", 40, false}};

static void add(struct plan *p, unsigned kind, unsigned point)
{
    char *key = strf("speed/pattern:%s/bytes:%s", points[point].pattern, points[point].bytes);
    double n = points[point].millions * (p->scale == SCALE_QUICK  ? 0.5
                                         : p->scale == SCALE_FULL ? 5
                                                                  : 1);
    for (unsigned i = 0; i < ARRAY_SIZE(loops); i++)
        plan_add(
            p, (struct cell_spec){
                   .experiment = "speed",
                   .kind = CELL_TIMED,
                   .seed_key = key,
                   .name = strf("%s/kind:%s/loop:%s", key, kinds[kind], i ? "model" : "reference"),
                   .command = strf(
                       "bench %s --kind %s --pattern %s --bytes %s --accesses %.0f --json",
                       loops[i], kinds[kind], points[point].pattern, points[point].bytes, n * 1e6),
                   .seconds = 0.3,
                   .ram = 128 << 20});
    free(key);
}

static void plan(struct plan *p)
{
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
        for (unsigned i = 0; i < ARRAY_SIZE(points); i++)
            if (p->scale != SCALE_QUICK || points[i].quick)
                add(p, k, i);
    for (char side = 'a'; side <= 'b';
         side++) /* the lengths differ by one access, so the cells have two files */
        plan_add(
            p,
            (struct cell_spec){
                .experiment = "speed",
                .kind = CELL_TIMED,
                .seed_key = "aa",
                .name = strf("aa/side:%c", side),
                .command = strf(
                    "bench refloop --kind native --pattern random --bytes 64M --accesses %d --json",
                    2100000 + (side == 'b')),
                .seconds = 0.2,
                .ram = 16 << 20});
}

struct pair {
    char *key;
    unsigned kind;
    const json_t *ref, *model;
    struct interval ratio; /* model's rate over the reference's */
    double ref_rate, model_rate;
    bool agree; /* on every TLB miss and every entry read */
};

static bool pair_of(const struct results *r, unsigned kind, unsigned point, struct pair *p)
{
    double a[STAT_MAX], b[STAT_MAX];
    char *key = strf("speed/pattern:%s/bytes:%s/kind:%s", points[point].pattern,
                     points[point].bytes, kinds[kind]);
    char *ref = strf("%s/loop:reference", key), *model = strf("%s/loop:model", key);
    *p = (struct pair){
        .key = key, .kind = kind, .ref = results_cell(r, ref), .model = results_cell(r, model)};
    free(ref);
    free(model);
    size_t n = cell_samples(p->ref, "seconds", a, STAT_MAX),
           m = cell_samples(p->model, "seconds", b, STAT_MAX);
    if (n < 2 || n != m) { /* one round compares nothing */
        free(key);
        return false;
    }
    p->ratio = stat_ratio(a, b, n, r->plan.root_seed);
    double accesses =
        num(json_object_get(json_object_get(p->ref, "record"), "counters"), "accesses");
    p->ref_rate = accesses / stat_median(a, n) / 1e6;
    p->model_rate = accesses / stat_median(b, n) / 1e6;
    p->agree = json_equal(json_object_get(json_object_get(p->ref, "record"), "counters"),
                          json_object_get(json_object_get(p->model, "record"), "counters"));
    return true;
}

static void say(const struct results *r, FILE *f)
{
    double floor = noise_floor(r);
    bool head = false;
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
        for (unsigned i = 0; i < ARRAY_SIZE(points); i++) {
            struct pair p;
            if (!pair_of(r, k, i, &p))
                continue;
            if (!head)
                fputs("M accesses/s [measured]                             reference      model   "
                      "ratio  (95 %)\n",
                      f);
            head = true;
            fprintf(f, "  %-48s %10.1f %10.1f %7.2f  (%.2f..%.2f)%s%s\n", p.key + strlen("speed/"),
                    p.ref_rate, p.model_rate, p.ratio.mid, p.ratio.lo, p.ratio.hi,
                    isfinite(floor) && !stat_resolved(p.ratio, floor) ? "  not resolved from 1"
                                                                      : "",
                    p.agree ? "" : "  COUNTERS DIFFER");
            free(p.key);
        }
}

static void facts(const struct results *r, json_t *f)
{
    char *text;
    size_t len;
    bool any = false;
    FILE *t = open_memstream(&text, &len);
    if (!t)
        return;
    fputs(
        "\n| loads | walk | hand-written loop, M/s | model, M/s | ratio (95 %) | counters agree |\n"
        "|---|---|---|---|---|---|\n",
        t);
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
        for (unsigned i = 0; i < ARRAY_SIZE(points); i++) {
            struct pair p;
            if (!pair_of(r, k, i, &p))
                continue;
            any = true;
            fprintf(t, "| %s %s | %s | %.1f | %.1f | %.2f (%.2f to %.2f) | %s |\n",
                    points[i].pattern, points[i].bytes, kinds[k], p.ref_rate, p.model_rate,
                    p.ratio.mid, p.ratio.lo, p.ratio.hi, p.agree ? "yes" : "no");
            if (k == 1 && i == 0)
                fact(f, "speed.ept.random64", FACT_MEASURED, "%.2f", p.ratio.mid);
            if (k == 0 && i == 0)
                fact(f, "speed.native.random64", FACT_MEASURED, "%.2f", p.ratio.mid);
            free(p.key);
        }
    fclose(t);
    if (any)
        fact(f, "speed.table", FACT_MEASURED, "%s", text);
    if (isfinite(noise_floor(r)))
        fact(f, "speed.noise", FACT_MEASURED, "%.1f", 100 * noise_floor(r));
    free(text);
}

REGISTER(experiment, speed,
         .summary = "accesses per second of the model beside a hand-written loop, interleaved",
         .plan = plan, .facts = facts, .say = say);
