/* test_ecpt.c: elastic cuckoo tables against a plain array, while they grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "shadow_vs_ept/ecpt_table.h"

enum { PAGES = 1 << 16, SPACES = 3 };

static __attribute__((noreturn)) void no_frames(void *ctx)
{
    (void)ctx;
    fail_msg("no frames");
    abort();
}
static const struct mmu_ops ops = {.no_frames = no_frames};

static struct mmu_vm new_vm(void)
{
    char err[200];
    int code;
    struct mmu_vm vm = {.ops = &ops};
    vm.host = host_new(64 << 20, &(struct numa_policy){NUMA_DEFAULT, 0}, err, sizeof err, &code);
    assert_non_null(vm.host);
    return vm;
}

static void free_vm(struct mmu_vm *vm)
{
    assert_int_equal(vm->table_frames, 0);
    assert_null(host_check(vm->host));
    host_free(vm->host);
}

/* Page numbers cluster, as a program's do. */
static uint64_t draw(struct rng *r)
{
    uint64_t run = rng_below(r, 256);
    return run * 256 + rng_below(r, 64);
}

static void random_entries(unsigned ways, uint64_t seed)
{
    static uint64_t truth[SPACES][PAGES];
    struct mmu_vm vm = new_vm();
    struct ect t = {0};
    struct rng r;
    memset(truth, 0, sizeof truth);
    rng_seed(&r, seed);
    ect_init(&t, &vm, ways);
    uint64_t slots = t.slots;
    bool was_resizing = false;
    for (unsigned i = 0; i < 60000; i++) {
        uint64_t space = 1000 * rng_below(&r, SPACES), n = draw(&r), *e;
        uint64_t *want = &truth[space / 1000][n];
        if (rng_below(&r, 4) || i < 20000) {
            *want = (rng_next(&r) & PTE_ADDR) | PTE_P;
            ect_set(&t, space, n, *want);
        } else {
            *want = 0;
            ect_clear(&t, space, n);
        }
        n = draw(&r);
        e = ect_find(&t, space, n);
        assert_int_equal(e ? *e & ~(0x7full << 52) : 0, truth[space / 1000][n]);
        was_resizing |= t.resizing;
        if (i % 5000 == 0)
            assert_null(ect_check(&t));
    }
    assert_null(ect_check(&t));
    assert_true(was_resizing && t.slots > slots);
    /* Growth starts above 0.6 and ends slots insertions later. */
    assert_true(10 * t.lines <= 6 * t.slots * t.ways + (t.resizing ? 10 * t.slots : 0) + 10);
    for (unsigned s = 0; s < SPACES; s++)
        for (uint64_t n = 0; n < PAGES; n++) {
            uint64_t *e = ect_find(&t, 1000 * s, n);
            assert_int_equal(e ? *e & ~(0x7full << 52) : 0, truth[s][n]);
        }
    ect_reset(&t);
    assert_int_equal(t.lines, 0);
    assert_null(ect_find(&t, 0, 0));
    ect_fini(&t);
    free_vm(&vm);
}

static void a_table_says_what_was_put_in(void **state)
{
    (void)state;
    for (unsigned ways = 3; ways <= ECT_MAX_WAYS; ways++)
        random_entries(ways, ways);
}

/* A line is one of d places, and its neighbours are in it. */
static void eight_pages_share_a_line(void **state)
{
    struct mmu_vm vm = new_vm();
    struct ect t = {0};
    (void)state;
    ect_init(&t, &vm, 3);
    for (uint64_t n = 800; n < 808; n++)
        ect_set(&t, 7, n, n << PAGE_SHIFT | PTE_P);
    assert_int_equal(t.lines, 1);
    assert_int_equal(t.frames, 3);
    uint64_t *first = ect_find(&t, 7, 800);
    assert_int_equal((uintptr_t)first % 64, 0);
    assert_ptr_equal(ect_find(&t, 7, 807), first + 7);
    assert_null(ect_find(&t, 6, 800));
    unsigned at = 0;
    for (unsigned w = 0; w < 3; w++)
        at += mmu_ptr(&vm, ect_probe(&t, ect_tag(7, 800), w).hpa) == first;
    assert_int_equal(at, 1);
    for (uint64_t n = 800; n < 808; n++)
        ect_clear(&t, 7, n);
    assert_int_equal(t.lines, 0);
    ect_fini(&t);
    free_vm(&vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_says_what_was_put_in),
        cmocka_unit_test(eight_pages_share_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
