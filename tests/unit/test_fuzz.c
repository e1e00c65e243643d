/* test_fuzz.c: programs as text and as bytes; libFuzzer's corpus under every strategy.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "fuzz/fuzz.h"

#define CORPUS "tests/fuzz/corpus"

static void programs_are_the_same_as_text(void **state)
{
    (void)state;
    struct fuzz_config c = {.seed = 8, .ops = 200};
    for (uint64_t i = 0; i < 50; i++) {
        struct fuzz_prog p, q;
        char err[100];
        FILE *f = tmpfile();
        assert_non_null(f);
        fuzz_program(&c, i, &p);
        program_print(f, &p);
        rewind(f);
        assert_true(program_read(f, "text", &q, err, sizeof err));
        fclose(f);
        assert_int_equal(p.levels, q.levels);
        assert_int_equal(p.n, q.n);
        for (unsigned k = 0; k < p.n; k++) {
            assert_int_equal(p.op[k].kind, q.op[k].kind);
            assert_memory_equal(p.op[k].arg, q.op[k].arg, sizeof p.op[k].arg);
        }
        program_free(&p);
        program_free(&q);
    }
}

static void run_bytes(const unsigned char *byte, size_t n)
{
    static struct fuzz_config c;
    struct fuzz_totals t = {0};
    struct fuzz_failure f;
    struct fuzz_prog p;
    c.every_machine = true;
    if (!c.nonly)
        c.nonly = fuzz_strategies(c.only, ARRAY_SIZE(c.only));
    fuzz_of_bytes(byte, n, &p);
    if (fuzz_one(&c, 0, &p, &t, &f)) {
        program_print(stderr, &p);
        fail_msg("%s, operation %u: %s", f.machine, f.verdict.op + 1, f.verdict.text);
    }
    assert_true(t.runs >= c.nonly);
    program_free(&p);
}

static void the_corpus_passes(void **state)
{
    (void)state;
    unsigned files = 0;
    DIR *d = opendir(CORPUS);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        unsigned char byte[4096];
        char path[400];
        snprintf(path, sizeof path, "%s/%s", CORPUS, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!f)
            continue;
        run_bytes(byte, fread(byte, 1, sizeof byte, f));
        fclose(f);
        files++;
    }
    closedir(d);
    assert_true(files >= 7);
    run_bytes((const unsigned char *)"", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_are_the_same_as_text),
        cmocka_unit_test(the_corpus_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
