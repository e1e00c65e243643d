/* test_speed.c: the model and the hand-written loops agree on every counter.
 *
 * Neither knows of the other: refloop.c builds its own tables, refloop_cached.c walks those of a
 * machine of the model, which begins with empty caches as the loop does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/base.h"
#include "bench/bench_speed.h"

static void equal(const char *what, const struct loop_spec *s, uint64_t ref, uint64_t model)
{
    if (ref != model)
        fail_msg("kind %d, %llu MiB, %s: %s: loop %llu, model %llu", s->kind,
                 (unsigned long long)s->bytes >> 20, s->sequential ? "seq" : "random", what,
                 (unsigned long long)ref, (unsigned long long)model);
}

static struct loop_result agree(const struct loop_spec *s)
{
    struct loop_result ref = {0}, model = {0};
    assert_int_equal(speed_reference(s, &ref), NB_OK);
    assert_int_equal(speed_model(s, &model), NB_OK);
    equal("L1 TLB misses", s, ref.l1_misses, model.l1_misses);
    equal("L2 TLB misses", s, ref.l2_misses, model.l2_misses);
    equal("walks", s, ref.walks, model.walks);
    equal("references", s, ref.refs, model.refs);
    equal("entries read", s, ref.reads, model.reads);
    equal("walk-cache hits", s, ref.pwc_hits, model.pwc_hits);
    for (unsigned i = 0; s->cached && i < 4; i++) {
        equal("reads served", s, ref.pt[i], model.pt[i]);
        equal("accesses served", s, ref.data[i], model.data[i]);
    }
    return model;
}

static void without_caches(void **state)
{
    (void)state;
    for (enum loop_kind k = LOOP_NATIVE; k <= LOOP_EPT; k++)
        for (unsigned seq = 0; seq < 2; seq++) {
            struct loop_result r = agree(&(struct loop_spec){
                .kind = k, .sequential = seq, .bytes = 16 << 20, .accesses = 300000, .seed = 5});
            assert_int_equal(r.refs, r.walks * (k == LOOP_EPT ? 24 : 4));
        }
}

static void with_caches(void **state)
{
    (void)state;
    static const uint64_t bytes[] = {1 << 20, 16 << 20, 128 << 20};
    for (size_t i = 0; i < ARRAY_SIZE(bytes); i++)
        for (unsigned seq = 0; seq < 2; seq++) {
            struct loop_result r = agree(&(struct loop_spec){.kind = LOOP_EPT,
                                                             .cached = true,
                                                             .sequential = seq,
                                                             .bytes = bytes[i],
                                                             .accesses = 300000,
                                                             .seed = 5});
            assert_int_equal(r.data[0] + r.data[1] + r.data[2] + r.data[3], 300000);
            assert_int_equal(r.pt[0] + r.pt[1] + r.pt[2] + r.pt[3], r.reads);
            assert_int_equal(r.refs, 24 * r.walks);
            /* 1 MiB is 256 pages: they fit the second TLB level, and nothing is walked. */
            assert_int_equal(r.walks > 0, bytes[i] > 1 << 20);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(without_caches),
                                       cmocka_unit_test(with_caches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
