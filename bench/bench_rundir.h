/* bench_rundir.h: one folder per run, never overwritten. */
#ifndef NB_BENCH_RUNDIR_H
#define NB_BENCH_RUNDIR_H

#include "bench/bench_run.h"

/* results/<UTC>-<git7>-<host>, made with its folders; from malloc. */
char *rundir_new(const char *results, const struct origin *);
/* `run` as a path, or as the name of a folder in `results`; dies when there is no plan in it. */
char *rundir_find(const char *results, const char *run);
/* Nobody else may work in this run while we live. */
void rundir_lock(const char *dir);
bool rundir_redacted(const char *dir); /* its env.json was written with --redact */
/* Point results/latest at the run. */
void rundir_latest(const char *dir);

/* manifest.json: how the run was asked for and how it ended. */
void manifest_write(const struct bench *, int argc, char **argv, const char *status);
/* Rounds, warm-up and harness of an interrupted run, so that it goes on as it began. */
void manifest_read(struct bench *);
void env_write(const struct bench *, bool redact);
void env_finish(const struct bench *); /* load, steal and context switches when it ended */

#endif
