/* test_base.c: random numbers against published values, the registry, differences of counters.
 * link: base
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/counters.h"
#include "base/registry.h"
#include "base/rng.h"

/* splitmix64 from 1234567: the first values of the authors' reference implementation. */
static void splitmix64_gives_the_published_values(void **state)
{
    static const uint64_t expect[] = {6457827717110365317u, 3203168211198807973u,
                                      9817491932198370423u, 4593380528125082431u,
                                      16408922859458223821u};
    uint64_t x = 1234567;
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(splitmix64(&x), expect[i]);
}

/* xoshiro256** from state 1, 2, 3, 4, worked by hand: s[1] * 5 = 10, rotated by 7 = 1280, * 9 = 11520;
 * then s[1] = 0, which gives 0. */
static void xoshiro_follows_its_definition(void **state)
{
    struct rng r = {{1, 2, 3, 4}};
    (void)state;
    assert_int_equal(rng_next(&r), 11520);
    assert_int_equal(rng_next(&r), 0);
    assert_int_equal(rng_next(&r), 1509978240);
}

static void bounded_numbers_stay_in_bounds_and_children_differ(void **state)
{
    struct rng r;
    unsigned seen[7] = {0};
    (void)state;
    rng_seed(&r, 42);
    for (unsigned i = 0; i < 7000; i++) {
        uint64_t v = rng_below(&r, 7);
        assert_in_range(v, 0, 6);
        seen[v]++;
    }
    for (unsigned i = 0; i < 7; i++)
        assert_in_range(seen[i], 850, 1150);
    assert_int_equal(rng_below(&r, 1), 0);
    assert_int_not_equal(rng_child(42, 1), rng_child(42, 2));
    assert_int_not_equal(rng_child(42, 1), rng_child(43, 1));
}

struct pet {
    const char *name, *summary;
};
REGISTRY(pet);
REGISTER(pet, zebra, .summary = "last");
REGISTER(pet, cat, .summary = "first");
REGISTER_AS(pet, dog_house, "dog-house", .summary = "a name that is no identifier");

static void what_registers_is_found_sorted_and_suggested(void **state)
{
    const struct reg_head *all[8];
    (void)state;
    assert_int_equal(REG_COUNT(pet), 3);
    assert_int_equal(REG_SORTED(pet, all, 8), 3);
    assert_string_equal(all[0]->name, "cat");
    assert_string_equal(all[2]->name, "zebra");
    assert_string_equal(REG_FIND(pet, "dog-house")->summary, "a name that is no identifier");
    assert_null(REG_FIND(pet, "dog"));
    assert_string_equal(REG_NEAREST(pet, "zerba"), "zebra");
    assert_null(REG_NEAREST(pet, "elephant"));
    assert_null(REG_DUPLICATE(pet));
}

static void a_name_used_twice_is_seen(void **state)
{
    static const struct pet a = {"one", ""}, b = {"two", ""}, c = {"one", ""};
    static const struct pet *const twice[] = {&a, &b, &c};
    (void)state;
    assert_string_equal(reg_duplicate(twice, twice + 3), "one");
    assert_null(reg_duplicate(twice, twice + 2));
}

static void edit_distances_are_levenshteins(void **state)
{
    (void)state;
    assert_int_equal(edit_distance("kitten", "sitting"), 3);
    assert_int_equal(edit_distance("", "abc"), 3);
    assert_int_equal(edit_distance("gups", "gups"), 0);
}

/* Counts subtract; gauges keep the later level. */
static void a_phase_is_a_difference(void **state)
{
    struct counters a = {.walks = 10, .host_frames = 7}, b = {.walks = 25, .host_frames = 5}, d;
    (void)state;
    b.unseen[CTR_swap_ins] = true;
    counters_delta(&d, &b, &a);
    assert_int_equal(d.walks, 15);
    assert_int_equal(d.host_frames, 5);
    assert_true(d.unseen[CTR_swap_ins]);
    assert_string_equal(counter_descs[CTR_walk_refs].unit, "entries");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splitmix64_gives_the_published_values),
        cmocka_unit_test(xoshiro_follows_its_definition),
        cmocka_unit_test(bounded_numbers_stay_in_bounds_and_children_differ),
        cmocka_unit_test(what_registers_is_found_sorted_and_suggested),
        cmocka_unit_test(a_name_used_twice_is_seen),
        cmocka_unit_test(edit_distances_are_levenshteins),
        cmocka_unit_test(a_phase_is_a_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
