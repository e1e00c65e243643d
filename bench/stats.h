/* stats.h: medians and bootstrap intervals of timings.
 *
 * Intervals are 95 % percentile bootstrap, 10,000 resamples, from a given seed: the same samples
 * give the same interval everywhere. They are slightly narrow below about 10 samples;
 * one sample has none (lo = hi = NAN).
 */
#ifndef NB_BENCH_STATS_H
#define NB_BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STAT_RESAMPLES = 10000, STAT_MAX = 1000 }; /* resamples; most samples one call takes */

struct interval {
    double mid, lo, hi;
    size_t n;
};

double stat_mean(const double *x, size_t n);
double stat_stddev(const double *x, size_t n); /* of a sample (n - 1); 0 for n < 2 */
double stat_median(const double *x, size_t n); /* NAN for n = 0 */
double stat_quantile(const double *sorted, size_t n,
                     double q); /* linear between order statistics */

/* Median of x with its interval. n > STAT_MAX is cut to the first STAT_MAX. */
struct interval stat_bootstrap(const double *x, size_t n, uint64_t seed);

/* median(a) / median(b); a[i] and b[i] are of the same round, and rounds are resampled in pairs. */
struct interval stat_ratio(const double *a, const double *b, size_t n, uint64_t seed);

/* What two runs of the same program seem to differ by: the end of the A/A interval farther from 1,
 * as a factor, less 1. Twice as fast and half as fast are the same distance: which side is divided
 * by which does not matter. NAN for one sample. */
double stat_noise_floor(const double *a, const double *b, size_t n, uint64_t seed);

/* A ratio counts as a difference when its interval excludes 1 and it exceeds the noise floor. */
bool stat_resolved(struct interval ratio, double floor);

#endif
