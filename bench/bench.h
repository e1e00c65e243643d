/* bench.h: a benchmark run: a plan of cells, a run directory, results, figures, facts.
 *
 * An experiment is one file in bench/experiments/ that ends in
 *
 *     REGISTER(experiment, refs, .summary = "...", .plan = plan, .figures = figures, .facts =
 * facts);
 *
 * plan() adds cells; a cell is one process: a nestbed command line that prints one JSON document.
 * An exact cell is run once, beside others; a timed cell is run alone, in shuffled rounds. A counted
 * cell is run like an exact one, but what it counts belongs to this machine (its KVM), so that no
 * other machine has to repeat it.
 * Figures and facts are computed from finished cells only, so a run directory can be redrawn.
 */
#ifndef NB_BENCH_BENCH_H
#define NB_BENCH_BENCH_H

#include <jansson.h>
#include <stdio.h>

#include "base/base.h"
#include "base/registry.h"

enum scale { SCALE_QUICK, SCALE_STD, SCALE_FULL };
extern const char *const scale_names[];

enum cell_kind { CELL_EXACT, CELL_TIMED, CELL_COUNTED };
extern const char *const cell_kinds[];

struct cell {
    char id[17];      /* XXH64 of kind and command, in hex */
    char *experiment; /* name of the experiment it belongs to */
    char *name;       /* family/arg:value/arg:value */
    enum cell_kind kind;
    bool seeded;    /* --seed is appended to the command */
    uint64_t seed;  /* child of the root seed and of the seed key (see plan_add) */
    char *command;  /* words after `nestbed`, separated by single blanks, without --seed */
    double seconds; /* estimates for --dry-run */
    uint64_t ram;
};

struct plan {
    struct cell *cells;
    size_t n, cap;
    enum scale scale;
    uint64_t root_seed;
    uint64_t hash; /* XXH64 of the plan's text */
};

struct results;

/* One figure = figs/STEM.{tsv,gp,svg,png}. data() writes the TSV; false = nothing to draw. */
struct figure {
    int number;
    const char *stem, *caption, *tag;
    const char *script; /* a bench/plots/ template, embedded (bench_fig.h) */
    bool (*data)(const struct results *, FILE *tsv);
};

struct experiment {
    const char *name, *summary;
    void (*plan)(struct plan *);
    const struct figure *figures;                     /* ends with .stem = NULL; may be NULL */
    void (*facts)(const struct results *, json_t *f); /* numbers for PAPER.md; may be NULL */
    void (*say)(const struct results *, FILE *);      /* findings on the terminal; may be NULL */
};

/* ---- bench_plan.c ---- */
/* What plan_add needs. seed_key: cells with the same key get the same seed. It names all of a cell
 * but the axis being compared, so that strategies run the same guest; NULL = the command takes
 * none. */
struct cell_spec {
    const char *experiment, *seed_key;
    enum cell_kind kind;
    char *name, *command; /* from malloc; the plan takes them */
    double seconds;
    uint64_t ram;
};
void plan_add(struct plan *, struct cell_spec);
/* A copy of the cell, to be timed whatever its kind was. */
void plan_time(struct plan *, const struct cell *);
/* All experiments, sorted by name, into an empty plan with scale and root_seed set. */
void plan_build(struct plan *);
/* Keep the cells whose full name (name/real_time) matches the regexp; a leading '-' negates.
 * NULL or a message that says what is wrong with the expression. */
const char *plan_filter(struct plan *, const char *regexp);
/* Does it hold all cells of its scale: nothing filtered, nothing repeated? exact_only: all exact
 * cells and no other will do. */
bool plan_whole(const struct plan *, bool exact_only);
void plan_write(struct plan *, FILE *); /* also sets plan->hash */
/* Words after `nestbed` that make the cell again, --seed among them; from malloc. */
char *cell_words(const struct cell *);
int plan_read(struct plan *, const char *path, char *err, size_t errlen);
void plan_free(struct plan *);
const struct cell *plan_find(const struct plan *, const char *id);
/* Value of `arg:` in a cell name into buf, or NULL. */
const char *cell_arg(const char *name, const char *arg, char *buf, size_t n);

/* ---- bench_results.c ---- */
struct results {
    struct plan plan;
    char *dir;
    json_t **cells; /* one per plan line; NULL = missing or unreadable */
};
/* The commit its cells were made by: "several" when they differ, "unknown" when none is there. */
const char *results_git(const struct results *);
int results_load(struct results *, const char *dir, char *err, size_t errlen);
void results_free(struct results *);
/* The record (what the command printed) of a finished cell, or NULL. */
json_t *results_record(const struct results *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
json_t *results_cell(const struct results *, const char *name);
bool cell_ok(const json_t *cell);
/* Numbers of a record; NAN when null or absent. The work phase where there is one, else totals. */
double rec_counter(const json_t *rec, const char *name);
double rec_cycles(const json_t *rec, const char *part);
double rec_refs(const json_t *rec); /* walk_refs / walks */
double num(const json_t *object, const char *key);
/* Samples of a timed cell: seconds per round (the command's own loop time where it reports one). */
size_t cell_samples(const json_t *cell, const char *key, double *out, size_t max);

/* ---- bench_fig.c ---- */
/* Draw the figures (number 0 = all) of a run into DIR/figs; returns an exit code. */
int figs_draw(const struct results *, int number, bool dumb);
/* One figure from data that is in no run directory: DIR/STEM.{tsv,gp,svg,png}. */
int fig_draw(const struct figure *, const char *dir, const char *tsv);

/* ---- facts ---- */
enum { FACT_MEASURED = 1 };
/* facts[id] = {"text": markdown, "measured": bool} */
void fact(json_t *facts, const char *id, int flags, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
json_t *results_facts(const struct results *);

#endif
