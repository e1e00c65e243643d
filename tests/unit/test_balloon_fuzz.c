/* test_balloon_fuzz.c: hostile guests against the balloon's device: the corpus of `make fuzz-balloon`, and random ones.
 * link: base memmgr balloon vmm/virtio_mmio
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "tests/fuzz/balloon_machine.h"

#define CORPUS "tests/fuzz/corpus-balloon"

static void the_corpus_passes(void **state)
{
    (void)state;
    struct dirent *e;
    unsigned inputs = 0, ops = 0;
    DIR *d = opendir(CORPUS);
    assert_non_null(d);
    while ((e = readdir(d))) {
        char path[300];
        uint8_t byte[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, CORPUS "/%s", e->d_name);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        size_t n = fread(byte, 1, sizeof byte, f);
        fclose(f);
        ops += machine_run(byte, n);
        inputs++;
    }
    closedir(d);
    assert_true(inputs >= 50 && ops > inputs);
}

/* Inputs that begin with a device set up well: what a driver gone mad would do. */
static void random_guests_pass(void **state)
{
    (void)state;
    struct rng r;
    unsigned long ops = 0;
    rng_seed(&r, 11);
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t byte[200];
        size_t n = 4 + rng_below(&r, sizeof byte - 4);
        for (size_t k = 0; k < n; k++)
            byte[k] = (uint8_t)rng_next(&r);
        byte[1] = 0; /* set_up() */
        ops += machine_run(byte, n);
    }
    assert_true(ops > 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_corpus_passes),
        cmocka_unit_test(random_guests_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
