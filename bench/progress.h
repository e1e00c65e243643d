/* progress.h: how far a long job is, on stderr.
 *
 * On a terminal one line, redrawn at most 10 times a second; with --progress=always elsewhere one
 * plain line per 10 %. Auto: only on a terminal that is not dumb, and not in CI.
 */
#ifndef NB_BENCH_PROGRESS_H
#define NB_BENCH_PROGRESS_H

#include "bench/print.h"

void progress_init(enum when, bool quiet);

/* For a job of minutes: as above, but auto is always, so that a log shows how far it is. */
void progress_init_long(enum when, bool quiet);

/* A job of known length: "cell 37/120  walk/ept  eta 1m10s". Call before each step, done = steps
 * over. */
void progress_step(unsigned done, unsigned total, const char *what);

/* A job of unknown length: "<what>  12s", redrawn each second by a timer until progress_end(). */
void progress_wait(const char *what);

/* Wipe the line, so that what follows starts clean. */
void progress_end(void);

#endif
