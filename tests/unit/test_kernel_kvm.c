/* test_kernel_kvm.c: kernel programs on the host's KVM: what one sees and leaves, derived by hand, and
 * what a guest may try with the calls that serve it. Without KVM all of it is skipped.
 *
 * link: base guest memmgr balloon shadow_vs_ept vmm workloads fuzz
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/pte.h"
#include "fuzz/kernel.h"
#include "guest/image/abi.h"
#include "vmm/hash.h"

static void need_kvm(void)
{
    char err[256];
    if (kernel_kvm_here(err, sizeof err))
        return;
    printf("skip: %s\n", err);
    skip();
}

/* ---- one program, by hand ---- */
#define A 0x10000000ull
#define B 0x10001000ull
#define C 0x10002000ull
#define BYTES(n) ((n) << PAGE_SHIFT)
enum { RW = GK_READ | GK_WRITE };

/* Beside each: faults, table writes. */
static const struct op story[] = {
    {OP_KERNEL_map, {A, BYTES(3), GK_FIXED | GK_4K, RW}},
    {OP_KERNEL_store, {A, 11}}, /* 1, 4: three links and the leaf */
    {OP_KERNEL_load, {B}},      /* 1, 1 */
    {OP_KERNEL_store, {C, 13}}, /* 1, 1 */
    {OP_KERNEL_load, {A + BYTES(3)}},
    {OP_KERNEL_fork, {0}},      /* 0, 9: the child's 3 links and 3 leaves, the parent's 3 leaves */
    {OP_KERNEL_store, {A, 12}}, /* 1, 1: copied, since the child has it too */
    {OP_KERNEL_switch, {1}},
    {OP_KERNEL_load, {A}},
    {OP_KERNEL_protect, {A, BYTES(1), GK_READ}}, /* 0, 1 */
    {OP_KERNEL_store, {A, 99}},
    {OP_KERNEL_move, {0, ~0ull}},
    {OP_KERNEL_load, {A}},
    {OP_KERNEL_sweep, {B, 2, 0x800}}, /* 1, 1: copied */
    {OP_KERNEL_exit, {1}},            /* 0, 6 */
    {OP_KERNEL_load, {A}},
    {OP_KERNEL_load, {B}},
    {OP_KERNEL_protect, {A, BYTES(1), 0}}, /* 0, 1 */
    {OP_KERNEL_load, {A}},
    {OP_KERNEL_unmap, {C, BYTES(1)}}, /* 0, 1 */
    {OP_KERNEL_store, {C, 99}},
    {OP_KERNEL_exit, {0}},
    {OP_KERNEL_unmap, {C + 1, BYTES(1)}},
};
enum { STORY_FAULTS = 5, STORY_PT_WRITES = 26 };

#define WORD(r) ((uint64_t)(int64_t)(r))
static const struct seen story_seen[] = {
    {0, SAW_RESULT, GK_OK, A},
    {1, SAW_VALUE, A, 11},
    {2, SAW_VALUE, B, 0},
    {3, SAW_VALUE, C, 13},
    {4, SAW_FAULT, A + BYTES(3), PF_U},
    {5, SAW_RESULT, GK_OK, 2},
    {6, SAW_VALUE, A, 12},
    {7, SAW_RESULT, GK_OK, 0},
    {8, SAW_VALUE, A, 11},
    {9, SAW_RESULT, GK_OK, 0},
    {10, SAW_FAULT, A, PF_P | PF_W | PF_U},
    {12, SAW_VALUE, A, 11},
    {13, SAW_VALUE, B, 1},
    {13, SAW_VALUE, B + 0x800, 2},
    {13, SAW_VALUE, B, 1},
    {13, SAW_VALUE, B + 0x800, 2},
    {14, SAW_RESULT, GK_OK, 0},
    {15, SAW_VALUE, A, 12},
    {16, SAW_VALUE, B, 0},
    {17, SAW_RESULT, GK_OK, 0},
    {18, SAW_FAULT, A, PF_U},
    {19, SAW_RESULT, GK_OK, 0},
    {20, SAW_FAULT, C, PF_W | PF_U},
    {21, SAW_RESULT, WORD(GK_EINVAL), 0},
    {22, SAW_RESULT, WORD(GK_EINVAL), 0},
};

/* What is left: A kept by its PROT_NONE mapping, accessed and dirty; B still copy-on-write, never
 * stored to. */
static uint64_t story_memory(void)
{
    static const uint64_t a[PAGE_SIZE / 8] = {12};
    struct memory_hash *h = memory_hash_new();
    memory_hash_page(h, 1, A, a);
    memory_hash_page(h, 1, B, NULL);
    return memory_hash_end(h);
}

static uint64_t story_tables(void)
{
    struct memory_hash *h = memory_hash_new();
    memory_hash_leaf(h, 1, A, ORDER_4K, NB_PTE_KEPT | PTE_A | PTE_D);
    memory_hash_leaf(h, 1, B, ORDER_4K, PTE_P | PTE_U | PTE_NX | PTE_SW0 | PTE_A);
    return memory_hash_end(h);
}

static struct fuzz_prog program_of(const struct op *op, unsigned n, unsigned levels)
{
    struct fuzz_prog p = {.kind = PROGRAM_KERNEL, .levels = levels};
    for (unsigned i = 0; i < n; i++)
        program_add(&p, op[i]);
    return p;
}

static void assert_story(const struct history *h)
{
    if (h->outcome != OUTCOME_OK)
        fail_msg("%s: %s", outcome_names[h->outcome], h->detail);
    for (unsigned i = 0; i < h->n && i < ARRAY_SIZE(story_seen); i++) {
        const struct seen *got = &h->at[i], *want = &story_seen[i];
        if (got->op != want->op || got->tag != want->tag || got->a != want->a || got->b != want->b)
            fail_msg("operation %u showed %u 0x%llx 0x%llx; expected %u %u 0x%llx 0x%llx", got->op,
                     got->tag, (unsigned long long)got->a, (unsigned long long)got->b, want->op,
                     want->tag, (unsigned long long)want->a, (unsigned long long)want->b);
    }
    assert_int_equal(h->n, ARRAY_SIZE(story_seen));
    assert_int_equal(h->faults, STORY_FAULTS);
    assert_int_equal(h->pt_writes, STORY_PT_WRITES);
    assert_int_equal(h->memory, story_memory());
    assert_int_equal(h->tables, story_tables());
}

static void test_story(void **state)
{
    struct fuzz_prog p = program_of(story, ARRAY_SIZE(story), 4);
    struct history h;
    char err[256];
    (void)state;
    need_kvm();
    assert_true(kernel_kvm_run(&p, &h, err, sizeof err));
    assert_story(&h);
    history_free(&h);
    program_free(&p);
}

/* The model needs no KVM. */
static void test_story_on_the_model(void **state)
{
    struct fuzz_prog p = program_of(story, ARRAY_SIZE(story), 4);
    struct history h;
    struct verdict v;
    (void)state;
    kernel_reference(&p, NULL, &h, &v);
    if (v.failed)
        fail_msg("operation %u: %s", v.op, v.text);
    assert_story(&h);
    history_free(&h);
    program_free(&p);
}

/* A KVM with 5 levels runs it; another says why it does not. The link more is made, copied by fork and
 * cleared by exit. */
static void test_five_levels(void **state)
{
    struct fuzz_prog p = program_of(story, ARRAY_SIZE(story), 5);
    struct history h;
    char err[256] = "";
    (void)state;
    need_kvm();
    if (kernel_kvm_run(&p, &h, err, sizeof err)) {
        assert_int_equal(h.outcome, OUTCOME_OK);
        assert_int_equal(h.pt_writes, STORY_PT_WRITES + 3);
        assert_int_equal(h.tables, story_tables());
    } else
        assert_non_null(strstr(err, "5-level"));
    history_free(&h);
    program_free(&p);
}

/* ---- programs of the image that are no scripts ---- */
static void expect_end(const char *guest, uint64_t param, enum outcome outcome, const char *text,
                       unsigned seen)
{
    struct fuzz_prog p = program_of(story, 3, 4);
    struct history h;
    char err[256];
    assert_true(kernel_kvm_run_as(guest, param, &p, &h, err, sizeof err));
    if (h.outcome != outcome || !strstr(h.detail, text))
        fail_msg("%s: %s: %s; expected %s: %s", guest, outcome_names[h.outcome], h.detail,
                 outcome_names[outcome], text);
    assert_int_equal(h.n, seen);
    history_free(&h);
    program_free(&p);
}

/* Numbers: FORGE_* of workloads/image/hostile.c. */
static void test_hostile(void **state)
{
    (void)state;
    need_kvm();
    expect_end("test:forge", 0, OUTCOME_ABORTED, "without an operation", 0);
    expect_end("test:forge", 1, OUTCOME_ABORTED, "no operation shows", SCRIPT_SEEN_MAX);
    expect_end("test:forge", 2, OUTCOME_ABORTED, "no operation shows", 0);
    expect_end("test:forge", 3, OUTCOME_ABORTED, "asked for another one", 0);
    expect_end("test:forge", 4, OUTCOME_ABORTED, "ended before its program", 0);
    expect_end("test:forge", 5, OUTCOME_ABORTED, "without an operation", 0);
    expect_end("test:forge", 6, OUTCOME_OK, "", 0);
    expect_end("test:halt", 0, OUTCOME_CRASHED, "exception 0xd in ring 3", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_story),
        cmocka_unit_test(test_story_on_the_model),
        cmocka_unit_test(test_five_levels),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
