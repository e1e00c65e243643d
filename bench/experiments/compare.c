/* compare.c: every workload and the shipped traces under native, shadow and nested paging. The other
 * strategies: designs.c.
 *
 * All strategies of a row get the same seed, so they run the same guest, access by access. Numbers
 * are of the work phase.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_fig.h"
#include "bench/bench_util.h"
#include "workloads/workload.h"

REGISTRY(workload);

enum { MAX_ROWS = 64, NATIVE = 0, SHADOW = 1, EPT = 2, PAGINGS = 3 };
static const char *const pagings[PAGINGS] = {"native", "shadow", "ept"};
static const char *const traces[] = {"cc1", "shell", "sqlite"};
static const char *const parts[] = {"access", "stlb", "walk", "exit", "vmm", "guest_fault", "host"};
static const char *const exits[] = {"exit_fill", "exit_reflect", "exit_pt_write",
                                    "exit_cr3",  "exit_invlpg",  "exit_ept_violation"};

/* Smaller than the defaults, for --quick. */
static const struct {
    const char *workload, *set;
} smaller[] = {{"bfs", "scale=14"},        {"btree", "keys=200000"},   {"churn", "accesses=400000"},
               {"forkcow", "procs=8"},     {"gups", "updates=400000"}, {"chase", "hops=400000"},
               {"switch", "switches=400"}, {"touch", "rounds=16"},     {"zipf", "ops=200000"},
               {"stream", "size=16M"}};

static const char *smaller_set(const struct plan *p, const char *workload)
{
    for (unsigned i = 0; i < ARRAY_SIZE(smaller) && p->scale == SCALE_QUICK; i++)
        if (strcmp(smaller[i].workload, workload) == 0)
            return smaller[i].set;
    return NULL;
}

static void add(struct plan *p, const char *kind, const char *what, double seconds)
{
    const char *set = smaller_set(p, what);
    char *key = strf("compare/%s:%s", kind, what);
    for (unsigned i = 0; i < PAGINGS; i++)
        plan_add(p, (struct cell_spec){
                        .experiment = "compare",
                        .seed_key = key,
                        .name = strf("%s/paging:%s", key, pagings[i]),
                        .command = strf(
                            "run --engine model --paging %s --%s %s%s%s --cpu skx --guest-page 4k "
                            "--host-page 4k --mem 1G --json",
                            pagings[i], kind, what, set ? " --set " : "", set ? set : ""),
                        .seconds = set ? seconds / 4 : seconds,
                        .ram = 300 << 20});
    free(key);
}

static void plan(struct plan *p)
{
    const struct reg_head *all[MAX_ROWS];
    size_t n = REG_SORTED(workload, all, MAX_ROWS);
    for (size_t i = 0; i < n; i++)
        add(p, "workload", all[i]->name, 0.6);
    for (unsigned i = 0; i < ARRAY_SIZE(traces); i++)
        add(p, "trace", traces[i], 0.6);
}

/* ---- results: one row per workload or trace, in plan order ---- */

struct row {
    char label[40];
    const json_t *rec[PAGINGS];
};

static bool is_row(const struct cell *c, char what[40], bool *trace)
{
    char name[16];
    if (strcmp(c->experiment, "compare") != 0 || !cell_arg(c->name, "paging", name, sizeof name) ||
        strcmp(name, pagings[NATIVE]) != 0)
        return false;
    *trace = cell_arg(c->name, "trace", what, 40) != NULL;
    return *trace || cell_arg(c->name, "workload", what, 40);
}

static size_t rows_of(const struct results *r, struct row *rows)
{
    size_t n = 0;
    for (size_t i = 0; i < r->plan.n && n < MAX_ROWS; i++) {
        char what[40];
        bool trace;
        if (!is_row(&r->plan.cells[i], what, &trace))
            continue;
        snprintf(rows[n].label, sizeof rows[n].label, "%.30s", what);
        for (unsigned k = 0; k < PAGINGS; k++)
            rows[n].rec[k] = results_record(r, "compare/%s:%s/paging:%s",
                                            trace ? "trace" : "workload", what, pagings[k]);
        n += rows[n].rec[NATIVE] && rows[n].rec[SHADOW] && rows[n].rec[EPT];
    }
    return n;
}

static double per_access(const json_t *rec, double v) { return v / rec_counter(rec, "accesses"); }

static double cost(const struct row *r, unsigned paging)
{
    return per_access(r->rec[paging], rec_cycles(r->rec[paging], "total"));
}

/* In order of the shadow/ept ratio: what suits shadow stands left. */
static int by_ratio(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    double rx = cost(x, SHADOW) / cost(x, EPT), ry = cost(y, SHADOW) / cost(y, EPT);
    return (rx > ry) - (rx < ry);
}

static size_t sorted_rows(const struct results *r, struct row *rows)
{
    size_t n = rows_of(r, rows);
    qsort(rows, n, sizeof *rows, by_ratio);
    return n;
}

/* Name of a bar: a letter. Label of a group: at its middle. */
static void bar_head(FILE *f, double x, const struct row *row, const char *name, double middle)
{
    fprintf(f, "%g\t%s\t%s\t%.1s\t", x, row->label, name, name);
    if (isnan(middle))
        fputs("NaN", f);
    else
        fprintf(f, "%g", middle);
}

static bool fig2(const struct results *r, FILE *f)
{
    struct row rows[MAX_ROWS];
    size_t n = sorted_rows(r, rows);
    fputs("x\tlabel\tpaging\ttick\tmiddle\ttotal\trelative", f);
    for (unsigned k = 0; k < ARRAY_SIZE(parts); k++)
        fprintf(f, "\t%s", parts[k]);
    fputc('\n', f);
    for (size_t i = 0; i < n; i++)
        for (unsigned p = 0; p < PAGINGS; p++) {
            const json_t *rec = rows[i].rec[p];
            double x = (double)(i * (PAGINGS + 1));
            bar_head(f, x + p, &rows[i], pagings[p], p == 0 ? x + (PAGINGS - 1) / 2.0 : NAN);
            fprintf(f, "\t%.4f\t%.4f", cost(&rows[i], p),
                    cost(&rows[i], p) / cost(&rows[i], NATIVE));
            for (unsigned k = 0; k < ARRAY_SIZE(parts); k++)
                fprintf(f, "\t%.4f", per_access(rec, rec_cycles(rec, parts[k])));
            fputc('\n', f);
        }
    return n > 0;
}

static double exits_of(const json_t *rec)
{
    return 1000 * per_access(rec, rec_counter(rec, "exits"));
}

/* The height of a bar is its share of the largest total of the workload. */
static void exit_row(FILE *f, const json_t *rec, double largest)
{
    fprintf(f, "\t%.5f\t%.4f", exits_of(rec), 100 * exits_of(rec) / largest);
    for (unsigned k = 0; k < ARRAY_SIZE(exits); k++)
        fprintf(f, "\t%.5f", 1000 * per_access(rec, rec_counter(rec, exits[k])));
    fputc('\n', f);
}

static double largest_exits(const struct row *row)
{
    double largest = 0;
    for (unsigned p = SHADOW; p < PAGINGS; p++)
        largest = fmax(largest, exits_of(row->rec[p])); /* fmax passes over NAN */
    return largest;
}

static bool fig3(const struct results *r, FILE *f)
{
    struct row rows[MAX_ROWS];
    size_t n = sorted_rows(r, rows), group = 0;
    fputs("x\tlabel\tpaging\ttick\tmiddle\ttotal\tshare", f);
    for (unsigned k = 0; k < ARRAY_SIZE(exits); k++)
        fprintf(f, "\t%s", exits[k] + strlen("exit_"));
    fputc('\n', f);
    for (size_t i = 0; i < n; i++) {
        double largest = largest_exits(&rows[i]);
        if (largest == 0)
            continue; /* nothing to show */
        for (unsigned p = SHADOW; p < PAGINGS; p++) {
            double x = (double)(group * PAGINGS);
            bar_head(f, x + p - 1, &rows[i], pagings[p],
                     p == SHADOW ? x + (PAGINGS - 2) / 2.0 : NAN);
            exit_row(f, rows[i].rec[p], largest);
        }
        group++;
    }
    return group > 0;
}

static void table(const struct row *rows, size_t n, json_t *facts)
{
    char *text;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return;
    fputs("\n| workload | cycles per access: native | shadow | ept | shadow / ept | exits per 1000 "
          "accesses: shadow | "
          "ept |\n|---|---|---|---|---|---|---|\n",
          f);
    for (size_t i = 0; i < n; i++)
        fprintf(f, "| %s | %.2f | %.2f | %.2f | %.2f | %.3f | %.3f |\n", rows[i].label,
                cost(&rows[i], NATIVE), cost(&rows[i], SHADOW), cost(&rows[i], EPT),
                cost(&rows[i], SHADOW) / cost(&rows[i], EPT),
                1000 * per_access(rows[i].rec[SHADOW], rec_counter(rows[i].rec[SHADOW], "exits")),
                1000 * per_access(rows[i].rec[EPT], rec_counter(rows[i].rec[EPT], "exits")));
    fclose(f);
    fact(facts, "compare.table", 0, "%s", text);
    free(text);
}

/* Exits under shadow paging for each one under nested paging, for a row that has both. */
static void exit_facts(const struct row *rows, size_t n, json_t *f)
{
    for (size_t i = 0; i < n; i++) {
        double shadow = rec_counter(rows[i].rec[SHADOW], "exits"),
               ept = rec_counter(rows[i].rec[EPT], "exits");
        char *id = strf("compare.exits.%s", rows[i].label);
        if (shadow / ept > 0 && isfinite(shadow / ept))
            fact(f, id, 0, "%.0f", shadow / ept);
        free(id);
    }
}

static void facts(const struct results *r, json_t *f)
{
    struct row rows[MAX_ROWS];
    size_t n = sorted_rows(r, rows), shadow = 0, ept = 0;
    if (!n)
        return;
    for (size_t i = 0; i < n; i++) {
        double ratio = cost(&rows[i], SHADOW) / cost(&rows[i], EPT);
        shadow += ratio < 0.95;
        ept += ratio > 1.05;
    }
    table(rows, n, f);
    exit_facts(rows, n, f);
    fact(f, "compare.count", 0, "%zu", n);
    fact(f, "compare.shadow_wins", 0, "%zu", shadow);
    fact(f, "compare.ept_wins", 0, "%zu", ept);
    fact(f, "compare.close", 0, "%zu", n - shadow - ept);
    fact(f, "compare.best_shadow", 0, "%s (%.2f times the cost under ept)", rows[0].label,
         cost(&rows[0], SHADOW) / cost(&rows[0], EPT));
    fact(f, "compare.best_ept", 0, "%s (%.1f times the cost under ept)", rows[n - 1].label,
         cost(&rows[n - 1], SHADOW) / cost(&rows[n - 1], EPT));
}

static void say(const struct results *r, FILE *f)
{
    struct row rows[MAX_ROWS];
    size_t n = sorted_rows(r, rows);
    if (!n)
        return;
    fputs("cycles per access [modelled]       native     shadow        ept   shadow/ept\n", f);
    for (size_t i = 0; i < n; i++)
        fprintf(f, "  %-28s %10.2f %10.2f %10.2f %12.2f\n", rows[i].label, cost(&rows[i], NATIVE),
                cost(&rows[i], SHADOW), cost(&rows[i], EPT),
                cost(&rows[i], SHADOW) / cost(&rows[i], EPT));
}

EMBED(fig2_gp, "bench/plots/fig2.gp");
EMBED(fig3_gp, "bench/plots/fig3.gp");
static struct figure figures[] = {
    {2, "fig2",
     "Cycles per access and where they go, relative to native, for each workload under native (n), "
     "shadow (s) "
     "and nested (e) paging; bars that are cut bear their height",
     "modelled", fig2_gp, fig2},
    {3, "fig3",
     "VM exits by reason under shadow (s) and nested (e) paging, in % of the larger total of the "
     "workload; the number on a bar is its exits per 1000 accesses; workloads without exits are "
     "left out",
     "exact", fig3_gp, fig3},
    {0},
};
REGISTER(experiment, compare,
         .summary = "every workload under native, shadow and nested paging: cost and exits",
         .plan = plan, .figures = figures, .facts = facts, .say = say);
