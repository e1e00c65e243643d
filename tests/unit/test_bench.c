/* test_bench.c: plans, flags, numbers out of records, markers of PAPER.md, the reference loop.
 * link: base bench/bench_plan bench/bench_util bench/bench_flags bench/bench_results
 * bench/bench_paper bench/refloop
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/temp.h"
#include "bench/bench.h"
#include "bench/bench_flags.h"
#include "bench/bench_run.h"
#include "bench/bench_util.h"
#include "bench/refloop.h"

static void add(struct plan *p, const char *paging, unsigned size, enum cell_kind kind)
{
    plan_add(p, (struct cell_spec){.experiment = "toy",
                                   .seed_key = "toy/size",
                                   .kind = kind,
                                   .name = strf("toy/size:%u/paging:%s", size, paging),
                                   .command = strf("run --paging %s --set size=%u", paging, size),
                                   .seconds = 0.1});
}

static void plan_toy(struct plan *p)
{
    for (unsigned size = 1; size <= 3; size++) {
        add(p, "shadow", size, CELL_EXACT);
        add(p, "ept", size, CELL_EXACT);
    }
    add(p, "ept", 1, CELL_TIMED);
}
REGISTER(experiment, toy, .summary = "for this test", .plan = plan_toy);

static struct plan toy(void)
{
    struct plan p = {.root_seed = 42};
    plan_build(&p);
    return p;
}

static char *scratch(const char *name)
{
    if (!*temp_dir)
        assert_int_equal(temp_make(), 0);
    return strf("%s/%s", temp_dir, name);
}

/* ---- plans ---- */

static void test_ids_and_seeds(void **state)
{
    struct plan p = toy(), q = {.root_seed = 43};
    (void)state;
    assert_int_equal(p.n, 7);
    assert_string_not_equal(p.cells[0].id, p.cells[1].id);
    assert_string_not_equal(p.cells[1].id, p.cells[6].id); /* kind is part of it */
    assert_true(p.cells[0].seed ==
                p.cells[1].seed); /* one key, one seed: strategies see one guest */
    plan_build(&q);
    assert_string_equal(p.cells[0].id, q.cells[0].id); /* the root seed is not part of the id */
    assert_true(p.cells[0].seed != q.cells[0].seed);
    plan_free(&p);
    plan_free(&q);
}

/* Ids are names of files that people keep: they must not change by accident. */
static void test_id_is_stable(void **state)
{
    struct plan p = toy();
    (void)state;
    assert_string_equal(p.cells[0].id, "06943028ab55c0b3");
    plan_free(&p);
}

static void test_write_and_read(void **state)
{
    struct plan p = toy(), q;
    char err[256], *path = scratch("plan.tsv");
    (void)state;
    FILE *f = fopen(path, "w");
    plan_write(&p, f);
    fclose(f);
    assert_int_equal(plan_read(&q, path, err, sizeof err), NB_OK);
    assert_int_equal(q.n, p.n);
    assert_true(q.hash == p.hash && q.root_seed == 42);
    for (size_t i = 0; i < p.n; i++) {
        assert_string_equal(q.cells[i].id, p.cells[i].id);
        assert_string_equal(q.cells[i].command, p.cells[i].command);
        assert_true(q.cells[i].seed == p.cells[i].seed && q.cells[i].kind == p.cells[i].kind);
    }
    assert_ptr_equal(plan_find(&q, p.cells[3].id), &q.cells[3]);
    assert_null(plan_find(&q, "0123456789abcdef"));
    plan_free(&p);
    plan_free(&q);
    unlink(path);
    free(path);
}

/* A line whose command was edited no longer fits its id. */
static void test_edited_plan(void **state)
{
    struct plan q;
    char err[512], *path = scratch("edited.tsv");
    const char *text = "0123456789abcdef\ttoy\ttoy/size:1\texact\t-\t0.1\t0\trun --set size=1\n";
    (void)state;
    write_file(path, text, strlen(text));
    assert_int_equal(plan_read(&q, path, err, sizeof err), NB_DATAERR);
    assert_non_null(strstr(err, "edited.tsv:1:"));
    plan_free(&q);
    assert_int_equal(plan_read(&q, "/nonexistent/plan.tsv", err, sizeof err), NB_NOINPUT);
    unlink(path);
    free(path);
}

static void test_filter(void **state)
{
    struct plan p = toy();
    (void)state;
    assert_null(plan_filter(&p, "size:[12]"));
    assert_int_equal(p.n, 5);
    assert_null(plan_filter(&p, "-paging:shadow"));
    assert_int_equal(p.n, 3);
    assert_null(plan_filter(&p, "real_time$")); /* names end so, as they are reported */
    assert_int_equal(p.n, 3);
    assert_non_null(plan_filter(&p, "("));
    plan_free(&p);
}

static void test_cell_arg(void **state)
{
    char buf[16];
    (void)state;
    assert_string_equal(cell_arg("toy/size:1/paging:ept", "paging", buf, sizeof buf), "ept");
    assert_string_equal(cell_arg("toy/size:1/paging:ept", "size", buf, sizeof buf), "1");
    assert_null(cell_arg("toy/size:1/paging:ept", "pag", buf, sizeof buf));
    assert_null(cell_arg("toy", "toy", buf, sizeof buf));
}

/* ---- flags ---- */

/* Flags keep pointers into argv, so the argument of a call lives until the next. */
static bool take(struct bench_flags *f, const char *arg)
{
    static char copy[128];
    snprintf(copy, sizeof copy, "%s", arg);
    char name[] = "bench", *argv[] = {name, copy, NULL};
    int argc = 2;
    flags_init(f);
    bool fine = flags_take(f, &argc, argv);
    assert_true(!fine || argc == 1);
    return fine;
}

static void test_flags(void **state)
{
    struct bench_flags f;
    (void)state;
    assert_true(take(&f, "--benchmark_filter=gups") && strcmp(f.filter, "gups") == 0);
    assert_true(take(&f, "--benchmark_min_time=0.5") && f.min_time == 0.5);
    assert_true(take(&f, "--benchmark_min_time=2s") && f.min_time == 2 && f.min_rounds == 0);
    assert_true(take(&f, "--benchmark_min_time=20x") && f.min_time == 0 && f.min_rounds == 20);
    assert_true(take(&f, "--benchmark_repetitions=30") && f.repetitions == 30);
    assert_true(take(&f, "--benchmark_list_tests") && f.list_tests);
    assert_true(take(&f, "--benchmark_list_tests=false") && !f.list_tests);
    assert_true(take(&f, "--v=2") && f.verbosity == 2);
    assert_true(f.interleave);
    assert_true(take(&f, "--benchmark_enable_random_interleaving=false") && !f.interleave);
    assert_false(take(&f, "--benchmark_nonsense=1"));
    assert_false(take(&f, "--benchmark_repetitions=0"));
    assert_false(take(&f, "--benchmark_min_time=-1"));
    assert_false(take(&f, "--benchmark_format=xml"));
    assert_false(take(&f, "--benchmark_format="));
}

static void test_environment(void **state)
{
    struct bench_flags f;
    (void)state;
    setenv("BENCHMARK_REPETITIONS", "11", 1);
    flags_init(&f);
    assert_true(flags_environment(&f) && f.repetitions == 11);
    setenv("BENCHMARK_REPETITIONS", "many", 1);
    assert_false(flags_environment(&f));
    unsetenv("BENCHMARK_REPETITIONS");
}

/* ---- records ---- */

static void test_numbers(void **state)
{
    json_t *rec =
        json_loads("{\"counters\":{\"walks\":2,\"walk_refs\":48,\"exits\":null},"
                   "\"phases\":[{\"name\":\"setup\",\"counters\":{\"walks\":1}},"
                   "{\"name\":\"work\",\"counters\":{\"walks\":1,\"walk_refs\":24,\"exits\":null},"
                   "\"cycles\":{\"total\":100.5}}]}",
                   0, NULL);
    json_t *plain = json_loads("{\"counters\":{\"walks\":2,\"walk_refs\":48}}", 0, NULL);
    (void)state;
    assert_true(rec_counter(rec, "walks") == 1); /* the work phase */
    assert_true(rec_refs(rec) == 24 && rec_refs(plain) == 24);
    assert_true(rec_cycles(rec, "total") == 100.5);
    assert_true(isnan(rec_counter(rec, "exits"))); /* null is not 0 */
    assert_true(isnan(rec_counter(rec, "nothing")) && isnan(rec_counter(NULL, "walks")));
    json_decref(rec);
    json_decref(plain);
}

/* ---- paper ---- */

static void put(const char *path, const char *text) { write_file(path, text, strlen(text)); }

static void test_paper(void **state)
{
    char *paper = scratch("PAPER.md"), *facts = scratch("facts.json"), *dir = scratch("");
    (void)state;
    put(facts,
        "{\"a\":{\"text\":\"24\",\"measured\":false},\"b\":{\"text\":\"9.9\",\"measured\":true}}");
    put(paper, "x <!-- begin:a -->1<!-- end:a --> y <!-- begin:b -->2<!-- end:b --> <!-- begin:c "
               "-->3<!-- end:c -->\n");
    assert_int_equal(paper_update(dir, paper, true), NB_FAIL);
    assert_int_equal(paper_update(dir, paper, false), NB_OK);
    char *text = read_file(paper, NULL);
    assert_string_equal(text,
                        "x <!-- begin:a -->24<!-- end:a --> y <!-- begin:b -->9.9<!-- end:b --> "
                        "<!-- begin:c -->3<!-- end:c -->\n");
    free(text);
    put(facts,
        "{\"a\":{\"text\":\"24\",\"measured\":false},\"b\":{\"text\":\"8\",\"measured\":true}}");
    assert_int_equal(paper_update(dir, paper, true),
                     NB_OK); /* measured numbers do not make it stale */
    unlink(paper);
    unlink(facts);
    rmdir(dir);
    free(paper);
    free(facts);
    free(dir);
}

/* ---- the reference loop: counts that can be worked out ---- */

static struct loop_result loop(bool nested, bool sequential, uint64_t bytes, uint64_t accesses)
{
    struct loop_spec s = {.kind = nested ? LOOP_EPT : LOOP_NATIVE,
                          .sequential = sequential,
                          .bytes = bytes,
                          .accesses = accesses,
                          .seed = 42};
    struct loop_result r;
    refloop_run(&s, &r);
    return r;
}

static void test_refloop(void **state)
{
    (void)state;
    struct loop_result r =
        loop(false, true, 64ull << 20, 512 * 100); /* 100 pages, read in order, none cached */
    assert_true(r.l1_misses == 100 && r.l2_misses == 100 && r.walks == 100 && r.refs == 400);
    r = loop(true, true, 64ull << 20, 512 * 100);
    assert_true(r.l2_misses == 100 && r.refs == 2400);
    r = loop(false, false, 64 << 12, 10000); /* 64 pages fill the first level exactly */
    assert_true(r.l1_misses == 0 && r.l2_misses == 0);
    r = loop(false, false, 1024 << 12, 10000); /* 1024 pages fit the second level */
    assert_true(r.l1_misses > 9000 && r.l2_misses == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_and_seeds),  cmocka_unit_test(test_id_is_stable),
        cmocka_unit_test(test_write_and_read), cmocka_unit_test(test_edited_plan),
        cmocka_unit_test(test_filter),         cmocka_unit_test(test_cell_arg),
        cmocka_unit_test(test_flags),          cmocka_unit_test(test_environment),
        cmocka_unit_test(test_numbers),        cmocka_unit_test(test_paper),
        cmocka_unit_test(test_refloop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
