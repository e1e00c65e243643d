/* test_validate.c: verdicts, rows, constants of a comparison; the guests that are run.
 * link: base bench/validate bench/validate_plan bench/validate_print bench/print
 * bench/bench_util bench/validate_paper
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/base.h"
#include "bench/bench_util.h"
#include "bench/validate.h"
#include "bench/validate_run.h"

/* ---- verdicts ---- */

static enum verdict of(int64_t p, int64_t c, bool exact)
{
    return validate_verdict((struct seen){true, p}, (struct seen){true, c}, exact);
}

static void test_verdicts(void **state)
{
    (void)state;
    assert_int_equal(of(0, 0, true), VERDICT_EQUAL);
    assert_int_equal(of(1000, 1000, true), VERDICT_EQUAL);
    assert_int_equal(of(1000, 1001, true), VERDICT_OFF); /* off by 1 of an exact event */
    assert_int_equal(of(1000, 1001, false), VERDICT_WITHIN);
    assert_int_equal(of(980, 1000, false), VERDICT_WITHIN); /* 2.0 % */
    assert_int_equal(of(1020, 1000, false), VERDICT_WITHIN);
    assert_int_equal(of(979, 1000, false), VERDICT_OFF); /* 2.1 % */
    assert_int_equal(of(1021, 1000, false), VERDICT_OFF);
    assert_int_equal(of(0, 1, false), VERDICT_OFF); /* all of it */
    assert_int_equal(of(1, 0, false), VERDICT_OFF);
    assert_int_equal(of(INT64_MAX, 1, false), VERDICT_OFF);
    assert_int_equal(of(INT64_MAX, INT64_MAX - 1, false), VERDICT_WITHIN);
    assert_int_equal(of(INT64_MIN, INT64_MAX, false), VERDICT_OFF);
    assert_int_equal(of(-1000, -1020, false), VERDICT_WITHIN);
}

static void test_unseen(void **state)
{
    struct seen none = {0}, one = {true, 1};
    (void)state;
    assert_int_equal(validate_verdict(none, one, true), VERDICT_UNSEEN);
    assert_int_equal(validate_verdict(one, none, false), VERDICT_UNSEEN);
    assert_int_equal(validate_verdict(none, none, false), VERDICT_UNSEEN);
}

static void test_strategies(void **state)
{
    (void)state;
    assert_string_equal(validate_strategy("svm-npt"), "ept-kvm");
    assert_string_equal(validate_strategy("vmx-ept"), "ept-kvm");
    assert_string_equal(validate_strategy("svm-shadow"), "shadow-kvm");
    assert_string_equal(validate_strategy("vmx-shadow"), "shadow-kvm");
    assert_string_equal(validate_strategy("pvm"), "shadow-pvm");
    assert_null(validate_strategy("unknown"));
    assert_null(validate_strategy(NULL));
}

/* ---- records ---- */

/* What every record has: events of the guest, and on the model's side what it predicts. */
static void complete(json_t *record)
{
    static const char *const names[] = {"guest_faults",
                                        "guest_pt_writes",
                                        "guest_cr3_loads",
                                        "guest_invlpgs",
                                        "exits",
                                        "exit_fill",
                                        "exit_reflect",
                                        "exit_pt_write",
                                        "exit_spurious",
                                        "exit_retry",
                                        "exit_invlpg",
                                        "exit_ept_violation",
                                        "shadow_pages_made",
                                        "shadow_pages_recycled",
                                        "shadow_floods",
                                        "shadow_pages_zapped",
                                        "shadow_pt_writes",
                                        "shadow_out_of_sync",
                                        "shadow_leaves"};
    json_t *phase;
    size_t i;
    json_array_foreach(json_object_get(record, "phases"), i, phase)
    {
        json_t *counters = json_object_get(phase, "counters");
        for (unsigned k = 0; k < ARRAY_SIZE(names); k++)
            if (!json_object_get(counters, names[k]))
                json_object_set_new(counters, names[k], json_integer(0));
    }
}

/* A record of two phases: `counters` and `kvm` are those of "work"; other counters are 0. */
static json_t *record(const char *counters, const char *kvm, const char *boot, const char *hash)
{
    char *text = strf(
        "{\"workload\": {\"name\": \"touch\", \"params\": {\"pages\": 7}, \"seed\": \"0x2a\"},"
        " \"flush_ceiling\": 33, \"pages\": {\"guest\": \"4k\", \"host\": \"4k\"},"
        " \"levels\": {\"guest\": 4, \"host\": 4}, \"mem\": {\"guest\": 67108864, \"host\": null},"
        " \"outcome\": {\"status\": \"ok\"}, \"memory_hash\": %s, \"backend\": \"svm-npt\","
        " \"phases\": [{\"name\": \"boot\", \"counters\": {\"guest_faults\": 0}, \"kvm\": {%s}},"
        "  {\"name\": \"work\", \"counters\": {%s}, \"kvm\": {%s}}]}",
        hash, boot, counters, kvm);
    json_error_t e;
    json_t *j = json_loads(text, 0, &e);
    if (!j)
        fail_msg("line %d: %s: %s", e.line, e.text, text);
    free(text);
    complete(j);
    return j;
}

static json_t *model(const char *counters)
{
    return record(counters, "", "", "\"0123456789abcdef\"");
}

static json_t *kvm(const char *counters, const char *stats)
{
    return record(counters, stats, "\"pf_fixed\": 40", "\"0123456789abcdef\"");
}

/* Compare and let go of both. */
static void add(json_t *doc, const char *paging, json_t *m, json_t *k)
{
    if (strcmp(paging, "shadow") == 0)
        json_object_set_new(k, "backend", json_string("svm-shadow"));
    validate_add(
        doc, &(struct pairing){
                 .target = "labvm", .paging = paging, .workload = "touch", .model = m, .kvm = k});
    json_decref(m);
    json_decref(k);
}

static const json_t *row(const json_t *doc, const char *phase, const char *event)
{
    const json_t *r;
    size_t i;
    json_array_foreach(json_object_get(doc, "rows"), i,
                       r) if (strcmp(json_string_value(json_object_get(r, "phase")), phase) == 0 &&
                              strcmp(json_string_value(json_object_get(r, "event")), event) ==
                                  0) return r;
    fail_msg("no row %s/%s", phase, event);
    return NULL;
}

static const char *verdict(const json_t *doc, const char *phase, const char *event)
{
    return json_string_value(json_object_get(row(doc, phase, event), "verdict"));
}

static json_int_t integer(const json_t *r, const char *key)
{
    assert_true(json_is_integer(json_object_get(r, key)));
    return json_integer_value(json_object_get(r, key));
}

static void test_equal_records(void **state)
{
    json_t *doc = validate_new(42, 64 << 20);
    (void)state;
    add(doc, "ept",
        model("\"guest_faults\": 7, \"exit_ept_violation\": 100, \"exit_retry\": 0, "
              "\"exit_reflect\": 0"),
        kvm("\"guest_faults\": 7", "\"pf_fixed\": 100, \"pf_taken\": 102, \"pf_guest\": 0"));
    validate_judge(doc);
    assert_string_equal(verdict(doc, "work", "guest_faults"), "equal");
    assert_string_equal(verdict(doc, "work", "pf_fixed"), "equal");
    assert_string_equal(verdict(doc, "work", "pf_guest"), "equal");
    assert_string_equal(verdict(doc, "work", "pf_taken"), "within");
    assert_int_equal(integer(row(doc, "work", "pf_taken"), "difference"), 2);
    assert_string_equal(verdict(doc, "boot", "guest_faults"), "equal");
    assert_string_equal(verdict(doc, "end", "memory_hash"), "equal");
    assert_true(validate_passed(doc));
    json_decref(doc);
}

static void test_off_by_one(void **state)
{
    json_t *doc = validate_new(42, 64 << 20);
    (void)state;
    add(doc, "ept", model("\"guest_faults\": 1000"), kvm("\"guest_faults\": 1001", ""));
    validate_judge(doc);
    assert_string_equal(verdict(doc, "work", "guest_faults"), "off");
    assert_int_equal(integer(row(doc, "work", "guest_faults"), "difference"), 1);
    assert_false(validate_passed(doc));
    json_decref(doc);
}

/* What a KVM has no statistic for is null, and is not judged; a number that the model or the guest's
 * own kernel owes is off when it is null, in a sum of the model too. */
static void test_null_sides(void **state)
{
    json_t *doc = validate_new(42, 64 << 20);
    (void)state;
    add(doc, "shadow", model("\"exit_fill\": 5, \"exit_reflect\": null, \"guest_faults\": 1"),
        kvm("\"guest_faults\": null",
            "\"pf_taken\": 5, \"pf_fixed\": null, \"pf_guest\": \"many\", \"mmu_pte_write\": -1"));
    validate_judge(doc);
    static const char *const owed[] = {"guest_faults", "pf_taken", "pf_guest"};
    for (unsigned i = 0; i < ARRAY_SIZE(owed); i++)
        assert_string_equal(verdict(doc, "work", owed[i]), "off");
    assert_string_equal(verdict(doc, "work", "pf_fixed"), "unseen");
    assert_false(validate_passed(doc));
    assert_true(json_is_null(json_object_get(row(doc, "work", "pf_taken"), "predicted")));
    assert_true(json_is_null(json_object_get(row(doc, "work", "pf_taken"), "difference")));
    assert_true(json_is_null(json_object_get(row(doc, "work", "mmu_pte_write"), "counted")));
    json_decref(doc);
}

/* A level is compared by how far it is from its level after boot, on each side. */
static void test_levels(void **state)
{
    json_t *doc = validate_new(42, 64 << 20), *m = model("\"shadow_leaves\": 101"),
           *k = record("", "\"pages_4k\": 122", "\"pages_4k\": 22", "null");
    (void)state;
    json_object_set_new(
        json_object_get(json_array_get(json_object_get(m, "phases"), 0), "counters"),
        "shadow_leaves", json_integer(1));
    add(doc, "shadow", json_incref(m), json_incref(k));
    assert_string_equal(verdict(doc, "work", "pages_4k since boot"), "equal");
    assert_int_equal(integer(row(doc, "work", "pages_4k since boot"), "counted"), 100);
    json_decref(doc);
    json_object_set_new(json_object_get(json_array_get(json_object_get(k, "phases"), 1), "kvm"),
                        "pages_4k", json_integer(20)); /* lower than after boot */
    doc = validate_new(42, 64 << 20);
    add(doc, "shadow", m, k);
    assert_int_equal(integer(row(doc, "work", "pages_4k since boot"), "counted"), -2);
    assert_string_equal(verdict(doc, "work", "pages_4k since boot"), "off");
    json_decref(doc);
}

/* A document in which nothing could be compared has not passed. */
static void test_nothing_compared(void **state)
{
    json_t *doc = validate_new(42, 64 << 20);
    (void)state;
    validate_judge(doc);
    assert_false(validate_passed(doc));
    json_decref(doc);
}

static void test_hash(void **state)
{
    json_t *doc = validate_new(42, 64 << 20);
    (void)state;
    add(doc, "ept", model("\"guest_faults\": 1"),
        record("\"guest_faults\": 1", "", "", "\"0123456789abcdee\""));
    validate_judge(doc);
    assert_string_equal(verdict(doc, "end", "memory_hash"), "off");
    assert_false(validate_passed(doc));
    json_decref(doc);
    doc = validate_new(42, 64 << 20);
    add(doc, "ept", model("\"guest_faults\": 1"), record("\"guest_faults\": 1", "", "", "null"));
    assert_string_equal(verdict(doc, "end", "memory_hash"), "off");
    json_decref(doc);
}

/* Percent is of what was counted; without anything counted there is none. */
static void test_percent(void **state)
{
    json_t *doc = validate_new(42, 64 << 20);
    (void)state;
    add(doc, "ept", model("\"exit_ept_violation\": 90, \"exit_reflect\": 3"),
        kvm("", "\"pf_fixed\": 100, \"pf_guest\": 0"));
    const json_t *r = row(doc, "work", "pf_fixed");
    assert_true(json_real_value(json_object_get(r, "percent")) == 10.0);
    assert_true(json_is_null(json_object_get(row(doc, "work", "pf_guest"), "percent")));
    assert_int_equal(integer(row(doc, "work", "pf_guest"), "difference"), -3);
    assert_string_equal(verdict(doc, "work", "pf_guest"), "off");
    json_decref(doc);
}

/* Boot's first touches are stated once and must be the same in every run. */
static void test_constants(void **state)
{
    json_t *doc = validate_new(42, 64 << 20);
    const json_t *c, *found = NULL;
    size_t i;
    (void)state;
    add(doc, "ept", model("\"guest_faults\": 1"), kvm("\"guest_faults\": 1", ""));
    add(doc, "ept", model("\"guest_faults\": 1"), kvm("\"guest_faults\": 1", ""));
    validate_judge(doc);
    assert_true(validate_passed(doc));
    json_array_foreach(json_object_get(doc, "constants"), i,
                       c) if (strcmp(json_string_value(json_object_get(c, "event")), "pf_fixed") ==
                              0) found = c;
    assert_int_equal(integer(found, "counted"), 40);
    add(doc, "ept", model("\"guest_faults\": 1"),
        record("\"guest_faults\": 1", "", "\"pf_fixed\": 41", "null"));
    validate_judge(doc);
    assert_string_equal(json_string_value(json_object_get(found, "verdict")), "off");
    assert_false(validate_passed(doc));
    json_decref(doc);
}

/* A run that did not end well, another guest, a phase that is missing: off, never silence. */
static void test_nothing_to_compare(void **state)
{
    json_t *doc = validate_new(42, 64 << 20), *k = kvm("", "");
    (void)state;
    json_object_set_new(json_object_get(k, "outcome"), "status", json_string("crashed"));
    add(doc, "ept", model(""), k);
    assert_string_equal(verdict(doc, "end", "outcome"), "off");

    k = kvm("", "");
    json_object_set_new(json_object_get(k, "mem"), "guest", json_integer(1));
    add(doc, "ept", model(""), k);
    assert_string_equal(verdict(doc, "end", "mem"), "off");

    k = kvm("", "");
    json_array_remove(json_object_get(k, "phases"), 1);
    add(doc, "ept", model(""), k);
    assert_string_equal(verdict(doc, "end", "phases"), "off");
    assert_int_equal(validate_count(doc, VERDICT_OFF), 3);
    json_decref(doc);
}

/* Which phases there are is compared too: one that only the KVM has, one that comes twice, none. */
static void test_phases(void **state)
{
    enum { MORE, TWICE, NONE, CASES };
    (void)state;
    for (unsigned i = 0; i < CASES; i++) {
        json_t *doc = validate_new(42, 64 << 20), *m = model(""), *k = kvm("", ""),
               *pm = json_object_get(m, "phases"), *pk = json_object_get(k, "phases");
        if (i == NONE) {
            json_array_clear(pm);
            json_array_clear(pk);
        } else {
            json_array_append_new(pk, json_deep_copy(json_array_get(pk, 1)));
        }
        if (i == TWICE)
            json_array_append_new(pm, json_deep_copy(json_array_get(pm, 1)));
        add(doc, "ept", m, k);
        assert_string_equal(verdict(doc, "end", "phases"), "off");
        assert_int_equal(validate_count(doc, VERDICT_OFF), 1);
        validate_judge(doc);
        assert_false(validate_passed(doc));
        json_decref(doc);
    }
}

static void test_garbage(void **state)
{
    static const char *const texts[] = {"[]", "7", "{}", "{\"outcome\": 7}",
                                        "{\"outcome\": {\"status\": \"ok\"}, \"phases\": [7, {}]}"};
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
        json_t *doc = validate_new(42, 64 << 20);
        add(doc, "shadow", model(""), json_loads(texts[i], JSON_DECODE_ANY, NULL));
        validate_judge(doc);
        assert_false(validate_passed(doc));
        json_decref(doc);
    }
}

/* Points of the figure: one per pair of numbers, none for what nobody counted. */
static void test_points(void **state)
{
    json_t *doc = validate_new(42, 64 << 20);
    char *text;
    size_t len;
    (void)state;
    FILE *f = open_memstream(&text, &len);
    assert_false(validate_points(doc, f));
    add(doc, "shadow", model("\"guest_faults\": 12, \"exit_fill\": 3, \"guest_invlpgs\": 0"),
        kvm("\"guest_faults\": 13, \"guest_invlpgs\": 0", "\"pf_fixed\": 0"));
    assert_true(validate_points(doc, f));
    fclose(f);
    assert_non_null(strstr(text, "12\tNaN\t13\tNaN\tNaN\ttouch/work/guest_faults\n"));
    assert_non_null(strstr(text, "3\tNaN\t0.5\tNaN\tNaN\ttouch/work/pf_fixed\n"));
    assert_null(strstr(text, "guest_invlpgs")); /* 0 and 0 */
    free(text);
    json_decref(doc);
}

/* Tables for PAPER.md: phases added up, boot left out; one number when both sides say the same. */
static void test_markdown(void **state)
{
    json_t *doc = validate_new(42, 64 << 20);
    char *text;
    size_t len;
    (void)state;
    add(doc, "shadow", model("\"guest_faults\": 12, \"exit_fill\": 3"),
        kvm("\"guest_faults\": 12", "\"pf_fixed\": 4, \"pf_guest\": 9"));
    json_array_append_new(json_object_get(doc, "runs"),
                          json_pack("{ss ss ss ss ss ss ss}", "target", "labvm", "paging", "shadow",
                                    "workload", "touch", "backend", "svm-shadow", "kernel",
                                    "Linux 6.1.0-56-x", "predicted_by", "shadow-kvm", "status",
                                    "ran"));
    json_array_append_new(json_object_get(doc, "runs"),
                          json_pack("{ss ss ss ss}", "target", "host", "paging", "shadow",
                                    "workload", "touch", "status", "skipped"));
    FILE *f = open_memstream(&text, &len);
    validate_print_markdown(NULL, f);
    validate_print_markdown(doc, f);
    fclose(f);
    assert_non_null(strstr(text, "\nlabvm, shadow paging (svm-shadow, Linux 6.1), predicted by "
                                 "`shadow-kvm`:\n\n| workload |"));
    assert_non_null(
        strstr(text, "| touch | 12 | 0 | 0 | 0 | 3 / null | 3 / 4 | 0 / 9 | 0 / null | equal |\n"));
    assert_null(strstr(text, "host"));
    free(text);
    json_decref(doc);
}

/* ---- guests ---- */

/* One of the table's workloads; the others are not in this program. */
static const struct param touch_params[] = {
    {"pages", 16384, 1, 1 << 20, "4 KiB pages", ""}, {"rounds", 64, 1, 1 << 20, "rounds", ""}, {0}};
REGISTER(workload, touch, .summary = "for this test", .params = touch_params);
static const struct param gups_params[] = {
    {"size", 1 << 20, 4096, 1 << 30, "bytes", ""}, {"updates", 9, 0, 1 << 20, "", ""}, {0}};
REGISTER(workload, gups, .summary = "for this test", .params = gups_params);

static bool has_word(char **words, const char *word)
{
    for (char **w = words; *w; w++)
        if (strcmp(*w, word) == 0)
            return true;
    return false;
}

static void test_guests(void **state)
{
    struct validation v = {
        .seed = 7, .mem = 64 << 20, .flush_ceiling = 33, .levels = 5, .guest_page = "thp"};
    (void)state;
    validation_defaults(&v, false);
    assert_int_equal(v.nguests, 2);
    char **w = validation_words(&v, &v.guest[1], "model", "shadow-kvm");
    assert_string_equal(w[0], "run");
    assert_true(has_word(w, "--workload=touch") && has_word(w, "--set=pages=2048"));
    assert_true(has_word(w, "--paging=shadow-kvm") && has_word(w, "--cpu=plain"));
    assert_true(has_word(w, "--seed=7") && has_word(w, "--set=run.hash=1"));
    assert_true(has_word(w, "--levels=5") && has_word(w, "--guest-page=thp"));
    words_free(w);
    w = validation_words(&v, &v.guest[1], "kvm", NULL);
    for (char **p = w; *p; p++)
        assert_false(strncmp(*p, "--paging", 8) == 0 || strncmp(*p, "--cpu", 5) == 0);
    words_free(w);
    validation_defaults(&v, true);
    assert_int_equal(v.nguests, 1); /* gups makes no table updates */
    while (validation_add(&v, v.guest[0].workload))
        assert_in_range(v.nguests, 2, VALIDATE_MAX_GUESTS);
    assert_int_equal(v.nguests, VALIDATE_MAX_GUESTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_unseen),
        cmocka_unit_test(test_strategies),
        cmocka_unit_test(test_equal_records),
        cmocka_unit_test(test_off_by_one),
        cmocka_unit_test(test_null_sides),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_nothing_compared),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_percent),
        cmocka_unit_test(test_constants),
        cmocka_unit_test(test_phases),
        cmocka_unit_test(test_nothing_to_compare),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_points),
        cmocka_unit_test(test_markdown),
        cmocka_unit_test(test_guests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
