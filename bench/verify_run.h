/* verify_run.h: a check under way (verify.c collects points, verify_run.c runs the model). */
#ifndef NB_BENCH_VERIFY_RUN_H
#define NB_BENCH_VERIFY_RUN_H

#include "bench/verify.h"

struct check {
    json_t *points;   /* {"what", "expected", "got", "holds"} */
    json_t *commands; /* what was run, as command lines */
    unsigned judged;  /* points that decide */
    bool broken;      /* one of them does not hold */
    bool failed;      /* a run failed: nothing can excuse that */
    char *why;        /* what broke, from malloc; NULL: the points say it */
};

#endif
