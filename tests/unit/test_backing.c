/* test_backing.c: host memory of real guests: kinds, pages, placement, discarding, residency.
 * link: base memmgr
 */
#include <numa.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base.h"
#include "memmgr/backing.h"

#define MIB (1ull << 20)
static const struct numa_policy anywhere = {NUMA_DEFAULT, 0};

/* Memory of that kind, or NULL after having said why this host has none. */
static struct backing *try_new(uint64_t bytes, enum backing_kind kind, enum page_mode page)
{
    char err[256] = "";
    int code;
    struct backing *b = backing_new(bytes, kind, page, &anywhere, err, sizeof err, &code);
    if (!b) {
        assert_int_equal(code, NB_NODEVICE);
        assert_non_null(strstr(err, "/sys/kernel/mm/"));
        print_message("skip: %s\n", err);
    }
    return b;
}

static uint64_t resident(const struct backing *b)
{
    uint64_t bytes, huge;
    assert_true(backing_resident(b, &bytes, &huge));
    assert_true(huge <= bytes);
    return bytes;
}

static bool is_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* Touched pages are counted one by one; discarded ones are gone and read as zero. */
static void four_kilobyte_pages_come_and_go(void **state)
{
    uint64_t part;
    (void)state;
    for (enum backing_kind k = BACKING_ANON; k <= BACKING_MEMFD; k++) {
        struct backing *b = try_new(8 * MIB, k, PAGES_4K);
        assert_non_null(b);
        assert_int_equal(resident(b), 0);
        for (uint64_t at = 0; at < 4 * MIB; at += 4096)
            b->mem[at] = 7;
        assert_int_equal(resident(b), 4 * MIB);
        assert_true(backing_resident_in(b, 3 * MIB, 5 * MIB, &part));
        assert_int_equal(part, 1 * MIB);
        assert_false(backing_resident_in(b, 3 * MIB, 5 * MIB + 4096, &part));
        assert_false(backing_resident_in(b, 9 * MIB, 0, &part));
        assert_false(backing_resident_in(b, 1, 4096, &part));
        assert_true(backing_discard(b, 1 * MIB, 2 * MIB));
        assert_int_equal(resident(b), 2 * MIB);
        assert_true(is_zero(b->mem + 1 * MIB, 2 * MIB));
        assert_int_equal(b->mem[1 * MIB - 4096], 7);
        assert_int_equal(b->mem[3 * MIB], 7);
        assert_null(backing_check(b));
        backing_free(b);
    }
}

static void parts_of_a_page_are_cleared(void **state)
{
    (void)state;
    struct backing *b = try_new(MIB, BACKING_ANON, PAGES_4K);
    assert_non_null(b);
    memset(b->mem, 7, 5 * 4096);
    assert_true(backing_discard(b, 100, 3 * 4096)); /* 2 whole pages, parts of 2 others */
    assert_true(is_zero(b->mem + 100, 3 * 4096));
    assert_int_equal(b->mem[99], 7);
    assert_int_equal(b->mem[100 + 3 * 4096], 7);
    assert_true(backing_discard(b, 4 * 4096 + 10, 20));
    assert_int_equal(b->mem[4 * 4096 + 9], 7);
    assert_int_equal(b->mem[4 * 4096 + 10], 0);
    assert_int_equal(b->mem[4 * 4096 + 30], 7);
    backing_free(b);
}

static void a_range_outside_is_refused(void **state)
{
    (void)state;
    struct backing *b = try_new(MIB, BACKING_ANON, PAGES_4K);
    assert_non_null(b);
    assert_false(backing_discard(b, MIB + 4096, 4096));
    assert_false(backing_discard(b, MIB - 4096, 8192));
    assert_false(backing_discard(b, 4096, UINT64_MAX));
    assert_false(backing_discard(b, UINT64_MAX, 4096));
    assert_true(backing_discard(b, MIB, 0));
    backing_free(b);
}

static void transparent_huge_pages_are_counted(void **state)
{
    (void)state;
    struct backing *b = try_new(8 * MIB, BACKING_ANON, PAGES_THP);
    if (!b)
        skip();
    uint64_t bytes, huge;
    assert_int_equal((uintptr_t)b->mem % (2 * MIB), 0);
    b->mem[2 * MIB] = 1;
    assert_true(backing_resident(b, &bytes, &huge));
    assert_null(backing_check(b));
    backing_free(b);
    if (huge == 0) {
        assert_int_equal(bytes, 4096);
        print_message("skip: the host has no free 2 MiB page\n");
        skip();
    }
    assert_int_equal(bytes, 2 * MIB);
    assert_int_equal(huge, 2 * MIB);
}

static void hugetlb_pages_come_and_go(void **state)
{
    (void)state;
    for (enum backing_kind k = BACKING_ANON; k <= BACKING_MEMFD; k++) {
        struct backing *b = try_new(4 * MIB, k, PAGES_2M);
        if (!b)
            skip();
        uint64_t bytes, huge;
        b->mem[0] = 1;
        assert_true(backing_resident(b, &bytes, &huge));
        assert_int_equal(bytes, 2 * MIB);
        assert_int_equal(huge, 2 * MIB);
        assert_true(backing_discard(b, 0, 2 * MIB));
        assert_int_equal(resident(b), 0);
        assert_null(backing_check(b));
        backing_free(b);
    }
}

/* More than any host has set aside. */
static void missing_hugetlb_pages_name_their_file(void **state)
{
    (void)state;
    char err[256];
    int code;
    assert_null(backing_new(1ull << 45, BACKING_ANON, PAGES_1G, &anywhere, err, sizeof err, &code));
    assert_int_equal(code, NB_NODEVICE);
    assert_non_null(strstr(err, "hugepages-1048576kB/nr_hugepages"));
}

static void wrong_sizes_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        enum page_mode page;
    } wrong[] = {{0, PAGES_4K}, {4095, PAGES_4K}, {MIB, PAGES_2M}, {2 * MIB, PAGES_1G}};
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        char err[256] = "";
        int code = 0;
        assert_null(backing_new(wrong[i].bytes, BACKING_ANON, wrong[i].page, &anywhere, err,
                                sizeof err, &code));
        assert_int_equal(code, NB_USAGE);
        assert_true(err[0]);
    }
}

static void a_node_that_is_not_there_is_refused(void **state)
{
    (void)state;
    char err[256] = "";
    int code = 0;
    const struct numa_policy far = {NUMA_BIND, 1000};
    assert_null(backing_new(MIB, BACKING_ANON, PAGES_4K, &far, err, sizeof err, &code));
    assert_true(code == NB_USAGE || code == NB_NODEVICE);
    assert_non_null(strstr(err, "--numa"));
}

/* What the kernel refuses is said, not ignored: here addresses that nobody mapped. */
static void a_policy_that_is_not_in_force_is_an_error(void **state)
{
    (void)state;
    if (numa_available() < 0) {
        print_message("skip: this kernel has no NUMA support\n");
        skip();
    }
    static const struct numa_policy all[] = {{NUMA_LOCAL, 0}, {NUMA_INTERLEAVE, 0}, {NUMA_BIND, 0}};
    struct backing *b = try_new(MIB, BACKING_ANON, PAGES_4K);
    assert_non_null(b);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        char err[256] = "";
        assert_int_equal(numa_policy_apply(&all[i], b->mem, MIB, err, sizeof err), NB_OK);
        assert_int_equal(numa_policy_apply(&all[i], (void *)4096, 4096, err, sizeof err),
                         NB_NODEVICE);
        assert_non_null(strstr(err, "mbind"));
    }
    backing_free(b);
}

/* Bound memory lies on its node, whichever processor touches it: on the last node, so that a machine
 * with several shows the difference. */
static void bound_memory_lies_on_its_node(void **state)
{
    (void)state;
    if (numa_available() < 0) {
        print_message("skip: this kernel has no NUMA support\n");
        skip();
    }
    for (enum backing_kind k = BACKING_ANON; k <= BACKING_MEMFD; k++) {
        char err[256] = "";
        int code, node = -1;
        const struct numa_policy last = {NUMA_BIND, numa_max_node()};
        struct backing *b = backing_new(MIB, k, PAGES_4K, &last, err, sizeof err, &code);
        if (!b)
            fail_msg("%s", err);
        void *page = b->mem + 8192;
        b->mem[8192] = 1;
        assert_int_equal(numa_move_pages(0, 1, &page, NULL, &node, 0), 0);
        assert_int_equal(node, last.node);
        backing_free(b);
    }
}

static void kinds_have_names(void **state)
{
    (void)state;
    enum backing_kind k = BACKING_ANON;
    assert_true(backing_kind_parse("memfd", &k));
    assert_int_equal(k, BACKING_MEMFD);
    assert_string_equal(backing_kind_name(k), "memfd");
    assert_false(backing_kind_parse("file", &k));
    assert_int_equal(k, BACKING_MEMFD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_kilobyte_pages_come_and_go),
        cmocka_unit_test(parts_of_a_page_are_cleared),
        cmocka_unit_test(a_range_outside_is_refused),
        cmocka_unit_test(transparent_huge_pages_are_counted),
        cmocka_unit_test(hugetlb_pages_come_and_go),
        cmocka_unit_test(missing_hugetlb_pages_name_their_file),
        cmocka_unit_test(wrong_sizes_are_refused),
        cmocka_unit_test(a_node_that_is_not_there_is_refused),
        cmocka_unit_test(a_policy_that_is_not_in_force_is_an_error),
        cmocka_unit_test(bound_memory_lies_on_its_node),
        cmocka_unit_test(kinds_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
