/* stats.c: medians and bootstrap intervals of timings. */
#include "bench/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static int by_value(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

double stat_mean(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return n ? sum / (double)n : NAN;
}

double stat_stddev(const double *x, size_t n)
{
    if (n < 2)
        return 0;
    double mean = stat_mean(x, n), sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)(n - 1));
}

double stat_quantile(const double *sorted, size_t n, double q)
{
    if (n == 0)
        return NAN;
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

/* Median of v, which is reordered. Insertion sort: n is small and the call is the bootstrap's inner
 * loop. */
static double median_inplace(double *v, size_t n)
{
    if (n > 64) {
        qsort(v, n, sizeof *v, by_value);
    } else {
        for (size_t i = 1; i < n; i++) {
            double x = v[i];
            size_t j = i;
            for (; j > 0 && v[j - 1] > x; j--)
                v[j] = v[j - 1];
            v[j] = x;
        }
    }
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

double stat_median(const double *x, size_t n)
{
    double v[STAT_MAX];
    if (n == 0)
        return NAN;
    if (n > STAT_MAX)
        n = STAT_MAX;
    memcpy(v, x, n * sizeof *v);
    return median_inplace(v, n);
}

/* One sample says nothing about its spread. */
static struct interval without_spread(double mid) { return (struct interval){mid, NAN, NAN, 1}; }

/* Percentile interval of STAT_RESAMPLES values, which are sorted in place. */
static struct interval percentile(double mid, double *boot, size_t n)
{
    qsort(boot, STAT_RESAMPLES, sizeof *boot, by_value);
    return (struct interval){mid, stat_quantile(boot, STAT_RESAMPLES, 0.025),
                             stat_quantile(boot, STAT_RESAMPLES, 0.975), n};
}

struct interval stat_bootstrap(const double *x, size_t n, uint64_t seed)
{
    static double boot[STAT_RESAMPLES];
    double v[STAT_MAX];
    struct rng r;
    if (n > STAT_MAX)
        n = STAT_MAX;
    if (n == 0)
        return (struct interval){NAN, NAN, NAN, 0};
    if (n == 1)
        return without_spread(x[0]);
    rng_seed(&r, seed);
    for (size_t k = 0; k < STAT_RESAMPLES; k++) {
        for (size_t i = 0; i < n; i++)
            v[i] = x[rng_below(&r, n)];
        boot[k] = median_inplace(v, n);
    }
    return percentile(stat_median(x, n), boot, n);
}

struct interval stat_ratio(const double *a, const double *b, size_t n, uint64_t seed)
{
    static double boot[STAT_RESAMPLES];
    double va[STAT_MAX], vb[STAT_MAX];
    struct rng r;
    if (n > STAT_MAX)
        n = STAT_MAX;
    if (n == 0)
        return (struct interval){NAN, NAN, NAN, 0};
    if (n == 1)
        return without_spread(a[0] / b[0]);
    rng_seed(&r, seed);
    for (size_t k = 0; k < STAT_RESAMPLES; k++) {
        for (size_t i = 0; i < n; i++) {
            size_t round = rng_below(&r, n);
            va[i] = a[round];
            vb[i] = b[round];
        }
        boot[k] = median_inplace(va, n) / median_inplace(vb, n);
    }
    return percentile(stat_median(a, n) / stat_median(b, n), boot, n);
}

double stat_noise_floor(const double *a, const double *b, size_t n, uint64_t seed)
{
    struct interval i = stat_ratio(a, b, n, seed);
    return fmax(i.hi, 1 / i.lo) - 1; /* NAN only when both are */
}

bool stat_resolved(struct interval ratio, double floor)
{
    bool excludes = ratio.lo > 1 || ratio.hi < 1;
    return excludes && fmax(ratio.mid, 1 / ratio.mid) - 1 > floor;
}
