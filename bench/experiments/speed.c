/* speed.c: accesses per second of the model beside hand-written loops, in the same rounds.
 *
 * The yardsticks are bench/refloop.c, for preset plain (same TLB geometry, real tables, nothing
 * else), and bench/refloop_cached.c, for dmt-ref (walk caches and data caches as well). Only ratios
 * of one run mean anything. A recorded program has no yardstick: its rate stands alone. The A/A pair
 * is one command measured as two cells: what it shows is noise.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_run.h"
#include "bench/bench_util.h"
#include "bench/stats.h"

static const struct line {
    const char *kind, *cpu;
    double pace; /* accesses beside those of preset plain, in the same time */
} lines[] = {
    {"native", "plain", 1}, {"shadow", "plain", 1}, {"ept", "plain", 1}, {"ept", "dmt-ref", 0.25}};
static const char *const loops[] = {"refloop", "loop"};
static const struct {
    const char *pattern, *bytes;
    double millions;  /* of accesses */
    enum scale least; /* smallest plan that has it */
} points[] = {{"random", "64M", 4, SCALE_QUICK},
              {"random", "1G", 2, SCALE_STD},
              {"seq", "64M", 40, SCALE_QUICK},
              {"seq", "1G", 40, SCALE_FULL}};
#define TRACE "sqlite"

static char *cell_name(const struct line *l, unsigned point, const char *loop)
{
    bool plain = strcmp(l->cpu, "plain") == 0;
    return strf("speed/pattern:%s/bytes:%s/kind:%s%s%s/loop:%s", points[point].pattern,
                points[point].bytes, l->kind, plain ? "" : "/cpu:", plain ? "" : l->cpu, loop);
}

static void add(struct plan *p, const struct line *l, unsigned point)
{
    bool big = strcmp(points[point].bytes, "1G") == 0;
    double n = points[point].millions * l->pace *
               (p->scale == SCALE_QUICK  ? 0.5
                : p->scale == SCALE_FULL ? 5
                                         : 1);
    for (unsigned i = 0; i < ARRAY_SIZE(loops); i++)
        plan_add(p, (struct cell_spec){
                        .experiment = "speed",
                        .kind = CELL_TIMED,
                        .seed_key = strf("speed/pattern:%s/bytes:%s", points[point].pattern,
                                         points[point].bytes),
                        .name = cell_name(l, point, i ? "model" : "reference"),
                        .command = strf("bench %s --kind %s --cpu %s --pattern %s --bytes %s "
                                        "--accesses %.0f --json",
                                        loops[i], l->kind, l->cpu, points[point].pattern,
                                        points[point].bytes, n * 1e6),
                        .seconds = big ? 1 : 0.3,
                        .ram = big ? 1200 << 20 : 128 << 20});
}

static void add_trace(struct plan *p)
{
    plan_add(p,
             (struct cell_spec){.experiment = "speed",
                                .kind = CELL_TIMED,
                                .seed_key = "speed/trace",
                                .name = strf("speed/trace:%s/kind:ept/loop:model", TRACE),
                                .command = strf("bench loop --kind ept --trace %s --json", TRACE),
                                .seconds = 0.5,
                                .ram = 128 << 20});
}

static void plan(struct plan *p)
{
    for (unsigned k = 0; k < ARRAY_SIZE(lines); k++)
        for (unsigned i = 0; i < ARRAY_SIZE(points); i++)
            if (p->scale >= points[i].least)
                add(p, &lines[k], i);
    add_trace(p);
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
    char *key; /* name of the pair: that of its cells, without the loop */
    const json_t *ref, *model;
    struct interval ratio; /* model's rate over the reference's */
    double ref_rate, model_rate;
    bool agree; /* on every counter */
};

static bool pair_of(const struct results *r, const struct line *l, unsigned point, struct pair *p)
{
    double a[STAT_MAX], b[STAT_MAX];
    char *ref = cell_name(l, point, "reference"), *model = cell_name(l, point, "model");
    char *key = strf("%.*s", (int)(strlen(model) - strlen("/loop:model")), model);
    *p = (struct pair){.key = key, .ref = results_cell(r, ref), .model = results_cell(r, model)};
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

/* M accesses/s of the recorded program; NaN: not measured. */
static double trace_rate(const struct results *r)
{
    double a[STAT_MAX];
    char *name = strf("speed/trace:%s/kind:ept/loop:model", TRACE);
    size_t n = cell_samples(results_cell(r, name), "accesses_per_second", a, STAT_MAX);
    free(name);
    return n ? stat_median(a, n) / 1e6 : NAN;
}

static void say(const struct results *r, FILE *f)
{
    double floor = noise_floor(r), trace = trace_rate(r);
    bool head = false;
    for (unsigned k = 0; k < ARRAY_SIZE(lines); k++)
        for (unsigned i = 0; i < ARRAY_SIZE(points); i++) {
            struct pair p;
            if (!pair_of(r, &lines[k], i, &p))
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
    if (isfinite(trace))
        fprintf(f, "  trace of " TRACE " under ept, from its file: %.1f M accesses/s [measured]\n",
                trace);
}

static void facts(const struct results *r, json_t *f)
{
    char *text;
    size_t len;
    bool any = false;
    FILE *t = open_memstream(&text, &len);
    if (!t)
        return;
    fputs("\n| loads | strategy | CPU | hand-written loop, M/s | model, M/s | ratio (95 %) | "
          "counters "
          "agree |\n|---|---|---|---|---|---|---|\n",
          t);
    for (unsigned k = 0; k < ARRAY_SIZE(lines); k++)
        for (unsigned i = 0; i < ARRAY_SIZE(points); i++) {
            struct pair p;
            if (!pair_of(r, &lines[k], i, &p))
                continue;
            any = true;
            fprintf(t, "| %s %s | %s | %s | %.1f | %.1f | %.2f (%.2f to %.2f) | %s |\n",
                    points[i].pattern, points[i].bytes, lines[k].kind, lines[k].cpu, p.ref_rate,
                    p.model_rate, p.ratio.mid, p.ratio.lo, p.ratio.hi, p.agree ? "yes" : "no");
            if (i == 0 && strcmp(lines[k].cpu, "plain") == 0) {
                char *name = strf("speed.%s.random64", lines[k].kind);
                fact(f, name, FACT_MEASURED, "%.2f", p.ratio.mid);
                free(name);
            }
            free(p.key);
        }
    fclose(t);
    if (any)
        fact(f, "speed.table", FACT_MEASURED, "%s", text);
    if (isfinite(noise_floor(r)))
        fact(f, "speed.noise", FACT_MEASURED, "%.1f", 100 * noise_floor(r));
    if (isfinite(trace_rate(r)))
        fact(f, "speed.trace", FACT_MEASURED, "%.0f", trace_rate(r));
    free(text);
}

REGISTER(experiment, speed,
         .summary = "accesses per second of the model beside hand-written loops, interleaved",
         .plan = plan, .facts = facts, .say = say);
