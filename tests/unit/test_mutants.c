/* test_mutants.c: deliberate faults in the MMU and in strategies, each of which the fuzzer must find.
 *
 * base/mutants.def lists them. Each is switched on in a process of its own, which runs random programs under
 * every strategy until one fails or dies (an assertion is as good). Without a fault the same programs
 * pass. Printed: who found it, after how many programs. Linked with objects of its own, built with
 * NB_MUTATIONS ($(B)/mutants/).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/mutant.h"
#include "fuzz/fuzz.h"

enum mutant_id mutant;

enum { PROGRAMS = 800, CLEAN = 20 };

static const char *const what[] = {
    "none",
#define MUTANT_DEF(name, text) #name ": " text,
#include "base/mutants.def"
#undef MUTANT_DEF
};

/* What the child leaves for its parent. */
struct found {
    uint64_t programs;
    char machine[96], why[400];
};

static void search(struct found *r, unsigned most)
{
    struct fuzz_config c = {.seed = 3, .ops = 100};
    struct fuzz_totals t = {0};
    struct fuzz_failure f;
    c.nonly = fuzz_strategies(c.only, ARRAY_SIZE(c.only));
    for (uint64_t i = 0; i < most; i++) {
        struct fuzz_prog p;
        r->programs = i + 1;
        fuzz_program(&c, i, &p);
        if (fuzz_one(&c, i, &p, &t, &f)) {
            snprintf(r->machine, sizeof r->machine, "%s", f.machine);
            snprintf(r->why, sizeof r->why, "%s", f.verdict.text);
            _exit(1);
        }
        program_free(&p);
    }
    _exit(0);
}

/* Exit status of the search in a child; a signal counts as found. */
static int search_apart(struct found *r, enum mutant_id id, unsigned most)
{
    int status;
    *r = (struct found){.programs = 0};
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        mutant = id;
        if (!freopen("/dev/null", "w", stderr)) /* an assertion that fails is expected */
            _exit(2);
        search(r, most);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void every_fault_is_found(void **state)
{
    (void)state;
    struct found *r =
        mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned survivors = 0;
    assert_true(r != MAP_FAILED);
    assert_int_equal(search_apart(r, MUTANT_none, CLEAN), 0);
    for (unsigned id = 1; id < MUTANT_COUNT; id++) {
        int code = search_apart(r, (enum mutant_id)id, PROGRAMS);
        survivors += code == 0;
        print_message("%-8s %4llu programs  %s\n           %s %s\n", code ? "found" : "SURVIVED",
                      (unsigned long long)r->programs, what[id],
                      code == 128 ? "the program died" : r->machine, r->why);
    }
    munmap(r, sizeof *r);
    print_message("%u faults, %u survived\n", MUTANT_COUNT - 1u, survivors);
    assert_true(MUTANT_COUNT - 1 >= 20);
    assert_int_equal(survivors, 0);
}

/* What `nestbed fuzz` does with a failure: a smaller program that still fails, and reads back. */
static void a_failure_is_shrunk_and_can_be_replayed(void **state)
{
    (void)state;
    struct fuzz_config c = {.seed = 3, .ops = 100};
    struct fuzz_totals t = {0};
    struct fuzz_failure f;
    struct fuzz_prog p, again;
    struct verdict v;
    char err[100];
    c.nonly = fuzz_strategies(c.only, ARRAY_SIZE(c.only));
    mutant = MUTANT_dirty_lost;
    for (uint64_t i = 0;; i++) {
        fuzz_program(&c, i, &p);
        if (fuzz_one(&c, i, &p, &t, &f))
            break;
        program_free(&p);
        assert_true(i < PROGRAMS);
    }
    fuzz_shrink(&f);
    assert_true(f.verdict.failed);
    assert_in_range(f.program.n, 1, 12); /* a table of 4 or 5 levels, CR3 and a store */
    FILE *text = tmpfile();
    program_print(text, &f.program);
    rewind(text);
    assert_true(program_read(text, "text", &again, err, sizeof err));
    fclose(text);
    assert_int_equal(again.n, f.program.n);
    fuzz_try(&again, &f.at, &v);
    assert_true(v.failed);
    mutant = MUTANT_none;
    fuzz_try(&again, &f.at, &v);
    assert_false(v.failed);
    program_free(&again);
    program_free(&f.program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fault_is_found),
        cmocka_unit_test(a_failure_is_shrunk_and_can_be_replayed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
