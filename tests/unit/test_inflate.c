/* test_inflate.c: how many discards an inflation on real memory needs: exact, and derived here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"
#include "bench/bench_inflate.h"

static struct inflate_result run(struct inflate_spec s, enum inflate_loop loop)
{
    struct inflate_result r;
    char err[256] = "";
    s.loop = loop;
    if (inflate_run(&s, &r, err, sizeof err) != NB_OK)
        fail_msg("%s", err);
    assert_int_equal(r.resident, 0); /* all of it is gone */
    return r;
}

/* 4,096 pages. Page by page: 4,096 discards. Merged: one for each notification where pages are consecutive, so
 * 4,096 / 256 = 16 with Linux's 256 PFNs in one buffer; 4,096 / (256 * 8) = 2 with 8 buffers a notification, which are merged
 * too; one for each page where every second page is given. */
static void discards_are_merged(void **state)
{
    (void)state;
    static const struct {
        enum inflate_order order;
        uint32_t chain;
        uint64_t discards;
    } want[] = {{INFLATE_UP, 1, 16},
                {INFLATE_DOWN, 1, 16},
                {INFLATE_UP, 8, 2},
                {INFLATE_DOWN, 8, 2},
                {INFLATE_SCATTERED, 8, 4096}};
    for (enum backing_kind k = BACKING_ANON; k <= BACKING_MEMFD; k++)
        for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
            struct inflate_spec s = {.order = want[i].order,
                                     .kind = k,
                                     .pages = 4096,
                                     .pfns = 256,
                                     .chain = want[i].chain};
            assert_int_equal(run(s, INFLATE_DEVICE).discards, want[i].discards);
            assert_int_equal(run(s, INFLATE_PAGE).discards, 4096);
            if (s.order != INFLATE_SCATTERED)
                assert_int_equal(run(s, INFLATE_KERNEL).discards, want[i].discards);
        }
}

static void impossible_guests_are_refused(void **state)
{
    (void)state;
    struct inflate_spec s = {.pages = 16, .pfns = 256, .chain = 257};
    struct inflate_result r;
    char err[256] = "";
    assert_int_equal(inflate_run(&s, &r, err, sizeof err), NB_USAGE);
    assert_true(err[0]);
    s = (struct inflate_spec){
        .loop = INFLATE_KERNEL, .order = INFLATE_SCATTERED, .pages = 16, .pfns = 4, .chain = 1};
    assert_int_equal(inflate_run(&s, &r, err, sizeof err), NB_USAGE);
    s = (struct inflate_spec){.pages = 16, .pfns = 1 << 20, .chain = 1};
    assert_int_equal(inflate_run(&s, &r, err, sizeof err), NB_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(discards_are_merged),
        cmocka_unit_test(impossible_guests_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
