/* bench_flags.h: Google Benchmark's command line, which `nestbed bench` accepts in full.
 *
 * --benchmark_filter=X is also --filter X and the environment variable BENCHMARK_FILTER=X; the
 * command line wins. min_time takes seconds ("0.5", "0.5s") or rounds ("20x").
 */
#ifndef NB_BENCH_FLAGS_H
#define NB_BENCH_FLAGS_H

#include <stdbool.h>
#include <stddef.h>

#include "bench/print.h"

struct bench_flags {
    bool list_tests, dry_run, interleave, aggregates_only, display_aggregates_only, tabular;
    const char *filter, *format, *out, *out_format, *perf_counters, *context, *time_unit;
    double min_time, min_warmup; /* seconds */
    unsigned min_rounds;         /* from <int>x */
    unsigned repetitions;        /* 0 = not given */
    unsigned verbosity;          /* 1: the command of each cell, 2: all */
    enum when color;
    bool display_given; /* display_aggregates_only was said; else the console shows medians only */
};

void flags_init(struct bench_flags *);
/* From the environment; false after a message on stderr. */
bool flags_environment(struct bench_flags *);
/* Take --benchmark_* (and --v=N) out of argv. False after a message on stderr: exit 1. */
bool flags_take(struct bench_flags *, int *argc, char **argv);
/* One plain alias ("filter", "repetitions", ...) with its value; false when malformed, why in err.
 */
bool flags_set(struct bench_flags *, const char *name, const char *value, char *err, size_t errlen);
/* Microseconds etc.: units per second of --benchmark_time_unit. */
double flags_unit(const struct bench_flags *, const char **name);

#endif
