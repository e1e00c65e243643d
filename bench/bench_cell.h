/* bench_cell.h: one cell: its process, its file, what counts as finished. */
#ifndef NB_BENCH_CELL_H
#define NB_BENCH_CELL_H

#include "bench/bench.h"
#include "bench/bench_proc.h"

/* What every cell file says about where it was made. */
struct origin {
    char *program; /* the nestbed that runs the cells */
    char *git;     /* its commit */
    char *host;    /* host name, or "-" */
    char plan_hash[17], env_hash[17];
    double timeout; /* seconds per cell */
};
void origin_init(struct origin *, const char *program, const struct plan *, bool redact);
void origin_free(struct origin *);

/* argv of a cell: program, its words, --seed; freed with cell_argv_free. */
char **cell_argv(const struct origin *, const struct cell *);
void cell_argv_free(char **argv);

char *cell_path(const char *dir, const struct cell *); /* DIR/<id>.json */
/* The file of a finished cell (ok or skipped), or NULL: missing, unreadable, of another cell or
 * seed, failed. */
json_t *cell_finished(const char *dir, const struct cell *);
/* Empty cell document: identity and origin. */
json_t *cell_new(const struct origin *, const struct cell *);
/* Parse what a cell printed into *record (NULL when it is none) and say how it ended. */
const char *cell_status(int code, const char *out, size_t len, const char *errors, json_t **record,
                        char **why);
/* Run one cell to its end and write DIR/<id>.json. Returns its status, NULL when interrupted. */
const char *cell_run(const struct origin *, const struct cell *, const char *dir);
/* The two halves of cell_run, for running several at once. */
void cell_start(const struct origin *, const struct cell *, struct proc *);
const char *cell_end(const struct origin *, const struct cell *, struct proc *, const char *dir);

#endif
