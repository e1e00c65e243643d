/* bench_session.h: `nestbed bench run` from plan to report. */
#ifndef NB_BENCH_SESSION_H
#define NB_BENCH_SESSION_H

#include "bench/bench_run.h"

/* The command line of `nestbed bench`. */
struct bench_args {
    struct bench b;
    enum scale scale;
    uint64_t root_seed, jobs, timeout, index;
    const char *results, *resume, *program, *plan, *id, *out, *arg[2];
    unsigned nargs;
    bool dry_run, redact, no_plots, allow_mixed, check, any_plan, quiet, has_index, seed_given;
};

unsigned processors(void);
/* The plan, narrowed to what was asked for; dies when nothing is left. */
void session_plan(struct bench_args *);
/* The plan, rounds and harness of the run to go on with. */
void session_resume(struct bench_args *);
void session_rounds(struct bench_args *);
/* Print names; print the plan and what it will take; carry it out. Each returns an exit code. */
int session_list(const struct bench_args *);
int session_dry_run(struct bench_args *);
int session_run(struct bench_args *, int argc, char **argv);

#endif
