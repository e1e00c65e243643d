/* test_record.c: the record's corner cases, which no run of the command reaches.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "bench/print.h"
#include "bench/record.h"

static const struct engine engine = {.name = "model"};
static const struct engine real_engine = {.name = "kvm", .real = true};
static const struct cpu cpu = {.name = "test", .source = "built in"};

static struct options some_options(void)
{
    return (struct options){.engine = &engine,
                            .trace = "t",
                            .vm = {.paging = "ept",
                                   .cpu = &cpu,
                                   .levels = 4,
                                   .host_levels = 4,
                                   .mem = 1 << 20,
                                   .host_mem = 1 << 21,
                                   .seed = UINT64_MAX}};
}

static json_t *some_record(struct result *r)
{
    struct options o = some_options();
    r->total.walks = 4;
    r->total.walk_refs = 96;
    r->total.loads = 1ull << 63;
    r->total.unseen[CTR_exit_hlt] = true;
    r->nphases = 1;
    snprintf(r->phases[0].name, sizeof r->phases[0].name, "work");
    return record_new(&o, r, NULL);
}

static const json_t *counter(const json_t *record, const char *name)
{
    return json_object_get(json_object_get(record, "counters"), name);
}

/* Print with `print` into a temporary file in place of stdout; the text, from malloc. */
static char *printed(void (*print)(const json_t *), const json_t *record)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = stdout, *mem = open_memstream(&text, &n);
    assert_non_null(mem);
    stdout = mem;
    print(record);
    stdout = out;
    fclose(mem);
    return text;
}

static void print_csv(const json_t *record) { record_print_csv(record, ","); }

static void test_large_counts(void **state)
{
    (void)state;
    json_t *below = json_count((1ull << 63) - 1), *above = json_count(1ull << 63);
    assert_true(json_is_integer(below));
    assert_int_equal(json_integer_value(below), INT64_MAX);
    assert_string_equal(json_string_value(above), "9223372036854775808");
    json_decref(below);
    json_decref(above);
}

static void test_unseen_is_null(void **state)
{
    static struct result r;
    json_t *record = some_record(&r);
    (void)state;
    assert_true(json_is_null(counter(record, "exit_hlt")));
    assert_int_equal(json_integer_value(counter(record, "exit_io")), 0);
    assert_true(json_is_integer(counter(record, "exit_io")));
    assert_int_equal(json_object_size(json_object_get(record, "counters")), CTR_COUNT);
    json_decref(record);
}

static void test_derived(void **state)
{
    static struct result r;
    json_t *record = some_record(&r), *d = json_object_get(record, "derived");
    (void)state;
    assert_true(json_real_value(json_object_get(d, "refs_per_walk")) == 24.0);
    assert_true(json_is_null(json_object_get(d, "tlb_l1_miss_rate"))); /* no accesses: no rate */
    json_decref(record);
}

static void test_csv(void **state)
{
    static struct result r;
    json_t *record = some_record(&r);
    char *text = printed(print_csv, record);
    (void)state;
    assert_non_null(strstr(text, "\n9223372036854775808,accesses,loads,exact\n"));
    assert_non_null(strstr(text, "\n,exits,exit_hlt,exact\n"));
    assert_non_null(strstr(text, "\n0,walks,work.walks,exact\n"));
    free(text);
    json_decref(record);
}

static void test_table(void **state)
{
    static struct result r;
    json_t *record = some_record(&r);
    (void)state;
    color_init(WHEN_NEVER);
    char *text = printed(record_print_table, record);
    assert_non_null(strstr(text, "9,223,372,036,854,775,808"));
    assert_non_null(strstr(text, "# 24 refs per walk"));
    assert_non_null(strstr(text, "not counted by this engine or strategy: exit_hlt\n"));
    assert_non_null(strstr(text, "ARG seed           0xffffffffffffffff"));
    assert_null(strstr(text, " \n")); /* no blanks at line ends */
    free(text);
    json_decref(record);
}

static void test_bad_utf8(void **state)
{
    static struct result r;
    (void)state;
    r.outcome = OUTCOME_ABORTED;
    snprintf(r.detail, sizeof r.detail, "gave up \xff");
    json_t *record = some_record(&r), *outcome = json_object_get(record, "outcome");
    assert_string_equal(json_string_value(json_object_get(outcome, "detail")), "(not UTF-8)");
    json_decref(record);
}

static void test_group_digits(void **state)
{
    char buf[28];
    (void)state;
    assert_string_equal(group_digits(0, buf, sizeof buf), "0");
    assert_string_equal(group_digits(999, buf, sizeof buf), "999");
    assert_string_equal(group_digits(1000, buf, sizeof buf), "1,000");
    assert_string_equal(group_digits(UINT64_MAX, buf, sizeof buf), "18,446,744,073,709,551,615");
}

/* A record of a real hypervisor: nothing modelled, its statistics by name, null for what it cannot
 * count, a histogram as an array. */
static void test_real(void **state)
{
    (void)state;
    static struct result r;
    struct options o = some_options();
    o.engine = &real_engine;
    o.vm.paging = NULL;
    r = (struct result){.paging = "shadow", .backend = "pvm", .nkvm = 3, .nphases = 1};
    r.kvm_name[0] = (struct kvm_stat_name){.name = "exits", .first = 0, .size = 1};
    r.kvm_name[1] =
        (struct kvm_stat_name){.name = "io_exits", .first = 1, .size = 1, .unseen = true};
    r.kvm_name[2] = (struct kvm_stat_name){.name = "wait_hist", .first = 2, .size = 2};
    r.kvm[0] = 7, r.kvm[2] = 1, r.kvm[3] = 2;
    r.phases[0].kvm[0] = 5;
    r.phases[0].timed = true, r.phases[0].ns = 99;
    r.user_exits[2] = 4; /* KVM_EXIT_IO */
    json_t *j = record_new(&o, &r, NULL), *kvm = json_object_get(j, "kvm");
    const json_t *phase = json_array_get(json_object_get(j, "phases"), 0);
    assert_string_equal(json_string_value(json_object_get(j, "paging")), "shadow");
    assert_true(json_is_null(json_object_get(j, "cpu")));
    assert_true(json_is_null(json_object_get(j, "cycles")));
    assert_true(json_is_null(json_object_get(phase, "cycles")));
    assert_int_equal(json_integer_value(json_object_get(kvm, "exits")), 7);
    assert_true(json_is_null(json_object_get(kvm, "io_exits")));
    assert_int_equal(json_array_size(json_object_get(kvm, "wait_hist")), 2);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "user_exits"), "io")),
                     4);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(phase, "kvm"), "exits")),
                     5);
    assert_int_equal(json_integer_value(json_object_get(phase, "ns")), 99);
    assert_true(json_is_null(json_object_get(phase, "instructions")));
    json_decref(j);

    r.virtual_time = true;
    j = record_new(&o, &r, NULL);
    phase = json_array_get(json_object_get(j, "phases"), 0);
    assert_true(json_is_null(json_object_get(phase, "ns")));
    assert_int_equal(json_integer_value(json_object_get(phase, "instructions")), 99);
    char *text = printed(record_print_table, j);
    assert_non_null(strstr(text, "kvm.exits"));
    assert_null(strstr(text, "cycles (modelled)"));
    free(text);
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real),
        cmocka_unit_test(test_large_counts),
        cmocka_unit_test(test_unseen_is_null),
        cmocka_unit_test(test_derived),
        cmocka_unit_test(test_csv),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_bad_utf8),
        cmocka_unit_test(test_group_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
