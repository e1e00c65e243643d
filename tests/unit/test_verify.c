/* test_verify.c: verdicts of claims, the document, what the command makes of a broken claim.
 *
 * The claims of this file are registered beside the real ones; theirs are called T.
 */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base.h"
#include "bench/command.h"
#include "bench/verify.h"
#include "bench/walk_positions.h"

static void true_point(struct check *c) { claim_equal(c, 24, 24, "entries"); }
static void false_point(struct check *c)
{
    claim_equal(c, 24, 24, "entries");
    claim_equal(c, 24, 23, "entries, counted wrongly");
}
static void no_point(struct check *c) { claim_beside(c, 1, 2, "a size"); }
static void too_small(struct check *c)
{
    if (check_run(c, "--workload touch --set pages=100000 --mem 64M"))
        claim_equal(c, 0, 0, "never reached");
}

#define TEST_CLAIM(id, what, ...) \
    REGISTER_AS(claim, id, #id, .summary = what, .source = "nobody", __VA_ARGS__)
TEST_CLAIM(T1, "holds", .check = true_point);
TEST_CLAIM(T2, "is broken", .check = false_point);
TEST_CLAIM(T3, "is known not to hold", .check = false_point, .disagrees = "for a reason");
TEST_CLAIM(T4, "holds in spite of that", .check = true_point, .disagrees = "for a reason");
TEST_CLAIM(T5, "is not checked", .unchecked = "needs a thing");
TEST_CLAIM(T6, "needs more than there is", .check = true_point, .needs = {"ept", "no-such-paging"});
TEST_CLAIM(T7, "asserts nothing", .check = no_point);
TEST_CLAIM(T8, "has a run that fails", .check = too_small, .disagrees = "which excuses nothing");
TEST_CLAIM(T10, "comes after T8", .check = true_point);

static json_t *check(const char *name)
{
    const struct claim *k = REG_FIND(claim, name);
    assert_non_null(k);
    json_t *j = claim_check(k);
    assert_non_null(j);
    return j;
}

/* verdict: NULL = null. note: part of it, NULL = null. */
static void expect(const char *name, const char *verdict, const char *note)
{
    json_t *j = check(name);
    const char *v = json_string_value(json_object_get(j, "verdict")),
               *n = json_string_value(json_object_get(j, "note"));
    if (verdict)
        assert_string_equal(v, verdict);
    else
        assert_null(v);
    if (note)
        assert_non_null(strstr(n, note));
    else
        assert_null(n);
    json_decref(j);
}

static void verdicts(void **state)
{
    (void)state;
    expect("T1", "holds", NULL);
    expect("T2", "fails", NULL);
    expect("T3", "disagrees", "for a reason");
    expect("T4", "stale", "for a reason");
    expect("T5", NULL, "needs a thing");
    expect("T6", NULL, "no paging strategy no-such-paging");
    expect("T7", "fails", "asserts nothing");
    expect("T8", "fails", "guest_oom");
}

/* A NAN, which is what a failed run gives, satisfies nothing; bounds of a range belong to it. */
static void inside(struct check *c)
{
    claim_within(c, 1, 2, 1, "lower bound");
    claim_within(c, 1, 2, 2, "upper bound");
    claim_below(c, 2, 1.99, "below");
    claim_above(c, 2, 2.01, "above");
}
static void outside(struct check *c) { claim_within(c, 1, 2, 2.01, "above the range"); }
static void not_below(struct check *c) { claim_below(c, 2, 2, "equal is not below"); }
static void not_above(struct check *c) { claim_above(c, 2, 2, "equal is not above"); }
static void nan_below(struct check *c) { claim_below(c, 2, NAN, "no number"); }
static void nan_above(struct check *c) { claim_above(c, 2, NAN, "no number"); }
static void nan_within(struct check *c) { claim_within(c, 1, 2, NAN, "no number"); }
static void one_case_off(struct check *c) { claim_cases(c, 8, 9, "the ninth", "cases"); }
static void no_cases(struct check *c) { claim_cases(c, 0, 0, NULL, "cases"); }
TEST_CLAIM(T11, "relations that hold", .check = inside);
TEST_CLAIM(T12, "does not", .check = outside);
TEST_CLAIM(T13, "does not", .check = not_below);
TEST_CLAIM(T14, "does not", .check = not_above);
TEST_CLAIM(T15, "does not", .check = nan_below);
TEST_CLAIM(T16, "does not", .check = nan_above);
TEST_CLAIM(T17, "does not", .check = nan_within);
TEST_CLAIM(T18, "does not", .check = one_case_off);
TEST_CLAIM(T19, "does not", .check = no_cases);

static void relations(void **state)
{
    (void)state;
    expect("T11", "holds", NULL);
    static const char *const bad[] = {"T12", "T13", "T14", "T15", "T16", "T17", "T19"};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        expect(bad[i], "fails", NULL);
    expect("T18", "fails", "not equal: the ninth");
}

static void filters(void **state)
{
    (void)state;
    assert_true(claim_matches("V1", "V1"));
    assert_true(claim_matches("V1a", "V1"));
    assert_true(claim_matches("V12a", "V12a"));
    assert_false(claim_matches("V12", "V1"));
    assert_false(claim_matches("V1", "V12"));
    assert_false(claim_matches("V1a", "V1b"));
    assert_false(claim_matches("V1", ""));
}

static void numbers_are_in_order(void **state)
{
    (void)state;
    const struct claim *k[256];
    size_t n = claims_sorted(k, ARRAY_SIZE(k)), at = 0;
    assert_int_equal(n, REG_COUNT(claim));
    while (at < n && strcmp(k[at]->name, "T8") != 0)
        at++;
    assert_true(at + 1 < n);
    assert_string_equal(k[at + 1]->name, "T10");
}

/* Each has what a reader needs, and cannot be decided in two ways. */
static void claims_are_whole(void **state)
{
    (void)state;
    FOR_EACH(claim, k)
    {
        assert_true(k->summary && *k->summary && k->source && *k->source);
        assert_true(!k->check == !!k->unchecked);
        assert_true(strlen(k->summary) < 120);
    }
    assert_null(REG_DUPLICATE(claim));
}

static void document(void **state)
{
    (void)state;
    json_t *claims = json_array();
    json_array_append_new(claims, check("T1"));
    json_array_append_new(claims, check("T3"));
    json_array_append_new(claims, check("T5"));
    json_t *doc = verify_document(claims), *s = json_object_get(doc, "summary");
    assert_true(verify_passed(doc));
    assert_int_equal(json_integer_value(json_object_get(s, "holds")), 1);
    assert_int_equal(json_integer_value(json_object_get(s, "disagrees")), 1);
    assert_int_equal(json_integer_value(json_object_get(s, "not_checked")), 1);
    json_decref(doc);
    static const char *const bad[] = {"T2", "T4", "T7", "T8"};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        claims = json_array();
        json_array_append_new(claims, check("T1"));
        json_array_append_new(claims, check(bad[i]));
        doc = verify_document(claims);
        assert_false(verify_passed(doc));
        json_decref(doc);
    }
}

/* ---- the command ---- */

static int command(const char *filter)
{
    char name[] = "nestbed verify", flag[] = "--filter", arg[16];
    char *argv[] = {name, flag, arg, NULL};
    int status;
    snprintf(arg, sizeof arg, "%s", filter);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        _exit(REG_FIND(command, "verify")->run(3, argv));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_broken_claim_fails_the_command(void **state)
{
    (void)state;
    assert_int_equal(command("T1"), NB_OK);
    assert_int_equal(command("T2"), NB_FAIL);
    assert_int_equal(command("T3"), NB_OK);
    assert_int_equal(command("T4"), NB_FAIL);
    assert_int_equal(command("T5"), NB_OK);
    assert_int_equal(command("T6"), NB_OK);
    assert_int_equal(command("T7"), NB_FAIL);
    assert_int_equal(command("T8"), NB_FAIL);
    assert_int_equal(command("T9"), NB_USAGE); /* there is none */
    assert_int_equal(command("T"), NB_USAGE);  /* nor one of that number */
}

/* ---- positions ---- */

static struct {
    uint64_t walks;
    bool whole; /* every position has a price */
} seen;

static void each(void *ctx, const struct walk_cost *w)
{
    (void)ctx;
    seen.walks++;
    for (unsigned r = 0; r < ROWS; r++)
        for (unsigned c = 0; c < COLS; c++)
            seen.whole &= w->at[r][c] > 0 || (r == ROW_DATA && c == COL_ENTRY);
}

static void random_loads(struct check *c)
{
    static const char words[] = "--workload churn --set updates=0 --set size=16M --set "
                                "accesses=20000 --mem 64M --cpu dmt-ref";
    struct positions all = {.caches = CACHES_2D_NTLB, .each = each}, dmt = {.caches = CACHES_DMT};
    assert_true(positions_run(c, words, &all) && positions_run(c, words, &dmt));
    /* The TLBs are the model's, whoever prices the walk. */
    const struct result *r =
        check_run(c, "--paging ept --workload churn --set updates=0 --set size=16M --set "
                     "accesses=20000 --mem 64M --cpu dmt-ref");
    claim_equal(c, work_counters(r)->walks, all.walks, "walks");
    claim_equal(c, all.walks, dmt.walks, "walks");
    claim_equal(c, all.walks, seen.walks, "walks told of");
    /* 4,096 pages are in 8 tables of 512 entries: DMT's 32 PDEs always hit, so that of the guest's
     * side a walk pays one cycle for G3 and the whole of G4. */
    claim_equal(c, dmt.walks, (uint64_t)dmt.sum[2][COL_ENTRY], "cycles of G3");
    claim_equal(c, 0, (uint64_t)(dmt.sum[0][COL_ENTRY] + dmt.sum[1][COL_ENTRY]), "of G1 and G2");
    /* The host walk for the data page is never cached: at least 4 cycles an entry. */
    for (unsigned col = 0; col < COL_ENTRY; col++)
        claim_above(c, 4 * (double)dmt.walks - 1, dmt.sum[ROW_DATA][col], "UDH%u", col + 1);
}
TEST_CLAIM(T20, "positions are priced as stated", .check = random_loads, .needs = {"ept"});

static void positions(void **state)
{
    (void)state;
    seen.whole = true;
    expect("T20", "holds", NULL);
    /* With a nested TLB the host's entries of a row are skipped once its frame is known. */
    assert_false(seen.whole);
}

static int forget(void **state)
{
    (void)state;
    verify_forget_runs();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts),
        cmocka_unit_test(relations),
        cmocka_unit_test(filters),
        cmocka_unit_test(numbers_are_in_order),
        cmocka_unit_test(claims_are_whole),
        cmocka_unit_test(document),
        cmocka_unit_test(a_broken_claim_fails_the_command),
        cmocka_unit_test(positions),
    };
    return cmocka_run_group_tests(tests, NULL, forget);
}
