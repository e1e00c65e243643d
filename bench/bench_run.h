/* bench_run.h: carrying out a plan in a run directory. */
#ifndef NB_BENCH_RUN_H
#define NB_BENCH_RUN_H

#include "bench/bench.h"
#include "bench/bench_cell.h"
#include "bench/bench_flags.h"
#include "bench/print.h"

enum harness { HARNESS_AUTO, HARNESS_HYPERFINE, HARNESS_BUILTIN };

struct bench {
    struct plan plan;
    struct origin origin;
    struct bench_flags flags;
    char *dir;
    unsigned jobs;   /* exact cells at a time */
    unsigned rounds; /* of timed cells */
    unsigned warmup; /* rounds run first and thrown away */
    enum harness harness;
    char *hyperfine; /* its path, or NULL: builtin */
    bool quiet;
    enum when progress;
};

/* Each returns NB_OK when every cell has a file (failed ones too), or NB_SIGINT. Finished cells are
 * left as they are, so that calling them again goes on where a run was stopped. */
int bench_exact(struct bench *);
int bench_timed(struct bench *);

/* ---- bench_collect.c ---- */
/* Make all that is derived from cells: gbench.json, failed.json, summary.tsv, facts.json, figures,
 * report.html, SHA256SUMS. Returns an exit code. */
int bench_derive(const char *dir, const struct bench_flags *, bool figures);
/* Check that the cells of a run belong together; says on stdout who ran what and what is missing.
 * Sets *failed when a cell failed. */
int bench_collect(const char *dir, bool allow_mixed, bool *failed);

/* ---- bench_gbench.c ---- */
/* Entries of Google Benchmark's schema, for the cells that are ok. modelled: cycles in place of
 * time. */
json_t *gbench_entries(const struct results *, const struct bench_flags *, bool modelled);
json_t *gbench_document(const struct results *, const struct bench_flags *, json_t *entries);
enum show {
    SHOW_ALL,
    SHOW_AGGREGATES,
    SHOW_MEDIANS
}; /* of repeated cells; others are always shown */
#define SHOW(aggregates_only) ((aggregates_only) ? SHOW_AGGREGATES : SHOW_ALL)
void gbench_print(const json_t *document, const struct bench_flags *, const char *format, enum show,
                  FILE *);

/* ---- bench_summary.c, bench_report.c, bench_paper.c ---- */
void summary_write(const struct results *, FILE *);
void findings_print(const struct results *, FILE *);
double noise_floor(const struct results *); /* of the A/A cell; NAN when it did not run */
void report_write(const struct results *, FILE *);
/* Put facts between the markers of a Markdown file; check: change nothing, NB_FAIL when stale. */
int paper_update(const char *dir, const char *path, bool check);

#endif
