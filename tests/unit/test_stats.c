/* test_stats.c: medians, bootstrap intervals and paired ratios against values known otherwise.
 * link: base bench/stats
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "bench/stats.h"

#define NEAR(a, b, eps) assert_true(fabs((a) - (b)) <= (eps))

/* By hand. */
static void test_simple(void **state)
{
    const double x[] = {3, 1, 4, 1, 5}, sorted[] = {1, 1, 3, 4, 5};
    (void)state;
    NEAR(stat_median(x, 5), 3, 0);
    NEAR(stat_median(x, 4), 2, 0);
    NEAR(stat_mean(x, 5), 2.8, 1e-12);
    NEAR(stat_stddev(x, 5), sqrt(3.2), 1e-12);
    NEAR(stat_quantile(sorted, 5, 0.25), 1, 0);
    NEAR(stat_quantile(sorted, 5, 0.625), 3.5, 1e-12);
    NEAR(stat_quantile(sorted, 5, 1), 5, 0);
}

static void test_empty_and_one(void **state)
{
    const double x[] = {7};
    (void)state;
    assert_true(isnan(stat_median(x, 0)));
    assert_true(isnan(stat_bootstrap(x, 0, 1).mid));
    assert_true(isnan(stat_ratio(x, x, 0, 1).mid));
    NEAR(stat_stddev(x, 1), 0, 0);
    NEAR(stat_bootstrap(x, 1, 1).mid, 7, 0);
    assert_true(isnan(stat_bootstrap(x, 1, 1).lo)); /* one sample has no spread to show */
    assert_true(isnan(stat_ratio(x, x, 1, 1).hi));
    assert_true(isnan(stat_noise_floor(x, x, 1, 1)));
    assert_false(stat_resolved(stat_ratio(x, x, 1, 1), 0));
}

/* Insertion sort and qsort must agree across the size where one takes over from the other. */
static void test_median_of_many(void **state)
{
    double x[STAT_MAX];
    (void)state;
    for (size_t n = 60; n < 70; n++) {
        for (size_t i = 0; i < n; i++)
            x[i] = (double)(i * 37 % n); /* a permutation of 0..n-1 unless 37 divides n */
        NEAR(stat_median(x, n), (double)(n - 1) / 2, 1e-12);
    }
}

/* n = 3 distinct values: the bootstrap median is the smallest with probability 7/27, so the 95 %
 * interval is the whole range. */
static void test_three(void **state)
{
    const double x[] = {10, 20, 30};
    struct interval v = stat_bootstrap(x, 3, 42);
    (void)state;
    NEAR(v.mid, 20, 0);
    NEAR(v.lo, 10, 0);
    NEAR(v.hi, 30, 0);
}

/* Of 1..13, P(bootstrap median <= k) = P(Bin(13, k/13) >= 7) = 0.0157 for k = 3 and 0.0707 for k =
 * 4: the 2.5 % point is 4, and by symmetry the other 10. */
static void test_thirteen(void **state)
{
    double x[13];
    (void)state;
    for (int i = 0; i < 13; i++)
        x[i] = i + 1;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct interval v = stat_bootstrap(x, 13, seed);
        NEAR(v.mid, 7, 0);
        NEAR(v.lo, 4, 0);
        NEAR(v.hi, 10, 0);
    }
}

static void test_same_seed_same_interval(void **state)
{
    double x[9];
    struct rng r;
    (void)state;
    rng_seed(&r, 7);
    for (int i = 0; i < 9; i++)
        x[i] = (double)rng_below(&r, 1000000);
    struct interval a = stat_bootstrap(x, 9, 5), b = stat_bootstrap(x, 9, 5);
    assert_memory_equal(&a, &b, sizeof a);
}

/* A drift common to both sides must not widen the interval of their ratio: rounds are pairs. */
static void test_ratio_is_paired(void **state)
{
    double a[15], b[15];
    (void)state;
    for (int i = 0; i < 15; i++) {
        b[i] = 1 + i;
        a[i] = 2 * b[i];
    }
    struct interval v = stat_ratio(a, b, 15, 1);
    NEAR(v.mid, 2, 1e-12);
    NEAR(v.lo, 2, 1e-12);
    NEAR(v.hi, 2, 1e-12);
}

static void test_resolved(void **state)
{
    (void)state;
    assert_true(stat_resolved((struct interval){1.2, 1.1, 1.3, 9}, 0.05));
    assert_true(stat_resolved((struct interval){0.8, 0.7, 0.9, 9}, 0.05));
    assert_false(stat_resolved((struct interval){1.2, 0.9, 1.3, 9}, 0.05)); /* may be 1 */
    assert_false(stat_resolved((struct interval){1.2, 1.1, 1.3, 9}, 0.25)); /* below the noise */
    assert_true(stat_resolved((struct interval){2, 1.8, 2.2, 9}, 0.6));
    assert_true(stat_resolved((struct interval){0.5, 0.45, 0.55, 9}, 0.6)); /* the same, inverted */
}

static void test_noise_floor(void **state)
{
    const double a[] = {10, 10, 10, 10, 10, 10}, b[] = {10, 10, 10, 10, 10, 10};
    const double c[] = {11, 11, 11, 11, 11, 11};
    (void)state;
    NEAR(stat_noise_floor(a, b, 6, 1), 0, 0);
    NEAR(stat_noise_floor(c, a, 6, 1), 0.1, 1e-12);
    NEAR(stat_noise_floor(a, c, 6, 1), 0.1, 1e-12);
}

/* Coverage: the interval of 15 samples of a skewed law holds the law's median about 95 times in
 * 100. */
static void test_coverage(void **state)
{
    struct rng r;
    int held = 0, trials = 200;
    (void)state;
    rng_seed(&r, 1);
    for (int t = 0; t < trials; t++) {
        double x[15];
        for (int i = 0; i < 15; i++) /* exponential: median ln 2 */
            x[i] = -log(((double)(rng_next(&r) >> 11) + 0.5) * 0x1p-53);
        struct interval v = stat_bootstrap(x, 15, (uint64_t)t);
        held += v.lo <= log(2) && log(2) <= v.hi;
    }
    assert_in_range(held, 175, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_simple),          cmocka_unit_test(test_empty_and_one),
        cmocka_unit_test(test_median_of_many),  cmocka_unit_test(test_three),
        cmocka_unit_test(test_thirteen),        cmocka_unit_test(test_same_seed_same_interval),
        cmocka_unit_test(test_ratio_is_paired), cmocka_unit_test(test_resolved),
        cmocka_unit_test(test_noise_floor),     cmocka_unit_test(test_coverage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
