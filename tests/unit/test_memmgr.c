/* test_memmgr.c: the frame pool and guest memory: exhaustion, splitting, merging, zeroing,
 * invariants. link: base memmgr
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/base.h"
#include "base/rng.h"
#include "memmgr/gmem.h"

static struct host *new_host(uint64_t bytes)
{
    char err[200];
    int code;
    struct host *h =
        host_new(bytes, &(struct numa_policy){NUMA_DEFAULT, 0}, err, sizeof err, &code);
    assert_non_null(h);
    return h;
}

static void all_frames_can_be_had_and_given_back(void **state)
{
    (void)state;
    struct host *h = new_host(1001 * PAGE_SIZE);
    static hfn_t got[1001];
    unsigned n = 0;
    while (host_alloc(h, 0, FRAME_GUEST, &got[n]))
        n++;
    assert_int_equal(n, 1000); /* hfn 0 is reserved */
    assert_null(host_check(h));
    for (unsigned i = 0; i < n; i++)
        host_release(h, got[(i * 377) % n], 0);
    assert_null(host_check(h));
    assert_int_equal(host_free_frames(h), 1000);
    hfn_t big;
    assert_true(host_alloc(h, 8, FRAME_GUEST, &big)); /* buddies merged again */
    assert_int_equal(big.n % 256, 0);
    host_free(h);
}

static void random_blocks_keep_the_invariants(void **state)
{
    (void)state;
    enum { SLOTS = 64 };
    struct host *h = new_host(9000 * PAGE_SIZE);
    struct {
        hfn_t f;
        unsigned order;
        bool used;
    } slot[SLOTS] = {0};
    struct rng r;
    rng_seed(&r, 7);
    for (unsigned step = 0; step < 20000; step++) {
        unsigned i = (unsigned)rng_below(&r, SLOTS);
        if (slot[i].used) {
            host_release(h, slot[i].f, slot[i].order);
            slot[i].used = false;
            continue;
        }
        slot[i].order = (unsigned)rng_below(&r, 10);
        slot[i].used = host_alloc(h, slot[i].order, i & 1 ? FRAME_GUEST : FRAME_TABLE, &slot[i].f);
        if (slot[i].used) {
            uint64_t *p = host_ptr(h, hfn_hpa(slot[i].f));
            assert_int_equal(p[0], 0);
            assert_int_equal(p[511], 0);
            p[0] = p[511] = step + 1; /* must be gone when the frame comes back */
        }
        if (step % 500 == 0)
            assert_null(host_check(h));
    }
    assert_null(host_check(h));
    host_free(h);
}

static void a_span_takes_exactly_what_it_says(void **state)
{
    (void)state;
    struct host *h = new_host(64ull << 20);
    hfn_t f, one;
    assert_true(host_alloc(h, 0, FRAME_TABLE, &one));
    assert_true(host_alloc_span(h, 5000, ORDER_2M, FRAME_GUEST, &f));
    assert_int_equal(f.n % 512, 0);
    assert_int_equal(host_used(h, FRAME_GUEST), 5000);
    assert_null(host_check(h));
    assert_false(host_alloc_span(h, 16384, 0, FRAME_GUEST, &f));
    host_free(h);
}

static void forget(void *ctx, gfn_t first, uint64_t n) { *(uint64_t *)ctx += n, (void)first; }

/* A reserved guest is in one piece and in whole blocks; a page that is taken comes back anywhere. */
static void a_reserved_guest_is_contiguous_and_can_lose_pages(void **state)
{
    (void)state;
    static const struct gmem_ops ops = {forget};
    static const enum page_mode modes[] = {PAGES_4K, PAGES_2M, PAGES_THP, PAGES_1G};
    for (unsigned i = 0; i < 4; i++) {
        uint64_t mem = (2ull << 30) + (3 << 20), zapped = 0, order = i == 3 ? 18 : i ? 9 : 0;
        struct host *h = new_host(5ull << 30);
        struct gmem *g = gmem_new(h, mem, modes[i], &ops, &zapped);
        assert_int_equal(gmem_reserve(g), GMEM_OK);
        assert_int_equal(g->resident, mem >> 12);
        for (uint64_t f = 0; f < g->frames; f++)
            assert_int_equal(gmem_hfn(g, gfn(f)).n, gmem_hfn(g, gfn(0)).n + f);
        assert_int_equal(gmem_order(g, gfn(0)), order);
        assert_int_equal(gmem_order(g, gfn(g->frames - 1)),
                         0); /* less than a large block is left */
        assert_null(gmem_check(g));
        gmem_discard(g, gfn(700), 2);
        assert_int_equal(zapped, i ? (1ull << order) + 1 : 2); /* the block, then what is left */
        assert_int_equal(gmem_state(g, gfn(700)), PG_UNTOUCHED);
        assert_int_equal(gmem_fault(g, gfn(700)), GMEM_OK);
        assert_null(gmem_check(g));
        gmem_free(g);
        assert_int_equal(host_used(h, FRAME_GUEST), 0);
        assert_null(host_check(h));
        host_free(h);
    }
}

static void hostile_sizes_are_refused(void **state)
{
    (void)state;
    char err[200];
    int code = 0;
    struct numa_policy p = {NUMA_DEFAULT, 0};
    assert_null(host_new(0, &p, err, sizeof err, &code));
    assert_int_equal(code, NB_USAGE);
    assert_null(host_new(~0ull, &p, err, sizeof err, &code));
    assert_int_equal(code, NB_USAGE);
    assert_true(numa_policy_parse("bind:900", &p));
    assert_null(host_new(1 << 20, &p, err, sizeof err, &code));
    assert_true(code == NB_USAGE || code == NB_NODEVICE);
    assert_false(numa_policy_parse("bind:", &p));
    assert_false(numa_policy_parse("bind:-1", &p));
    assert_false(numa_policy_parse("Local", &p));
}

static unsigned zapped;
static void count_zap(void *ctx, gfn_t first, uint64_t n)
{
    (void)ctx, (void)first;
    zapped += (unsigned)n;
}
static const struct gmem_ops ops = {count_zap};

static void a_large_block_splits_when_part_of_it_goes(void **state)
{
    (void)state;
    struct host *h = new_host(64ull << 20);
    struct gmem *g = gmem_new(h, 16ull << 20, PAGES_2M, &ops, NULL);
    assert_int_equal(gmem_fault(g, gfn(700)), GMEM_OK);
    assert_int_equal(g->resident, 512);
    assert_int_equal(gmem_order(g, gfn(512)), ORDER_2M);
    zapped = 0;
    gmem_discard(g, gfn(600), 10);
    assert_int_equal(zapped,
                     512 + 9); /* the block, then each 4 KiB page that is left of the range */
    assert_int_equal(g->splits, 1);
    assert_int_equal(g->resident, 502);
    assert_null(gmem_check(g));
    assert_null(host_check(h));
    assert_int_equal(gmem_fault(g, gfn(605)), GMEM_OK); /* comes back as 4 KiB */
    assert_int_equal(gmem_order(g, gfn(605)), ORDER_4K);
    gmem_discard(g, gfn(0), g->frames);
    assert_int_equal(g->resident, 0);
    assert_int_equal(host_used(h, FRAME_GUEST), 0);
    assert_null(host_check(h));
    gmem_free(g);
    host_free(h);
}

static void the_host_limit_is_a_result(void **state)
{
    (void)state;
    struct host *h = new_host(3ull << 20);
    struct gmem *g = gmem_new(h, 8ull << 20, PAGES_2M, &ops, NULL);
    assert_int_equal(gmem_fault(g, gfn(0)), GMEM_NO_FRAMES); /* frames 1..767: no aligned 2 MiB */
    assert_int_equal(gmem_fault(g, gfn(1ull << 40)), GMEM_OUTSIDE);
    gmem_free(g);
    g = gmem_new(h, 8ull << 20, PAGES_THP, &ops, NULL); /* THP falls back */
    unsigned n = 0;
    while (gmem_fault(g, gfn(n)) == GMEM_OK)
        n++;
    assert_int_equal(g->resident, 767);
    assert_null(gmem_check(g));
    gmem_free(g);
    assert_int_equal(host_free_frames(h), 767);
    assert_null(host_check(h));
    host_free(h);
}

/* Frames made consecutive keep their contents, and their neighbours their blocks. */
static void placed_frames_are_consecutive(void **state)
{
    static const enum page_mode modes[] = {PAGES_4K, PAGES_2M, PAGES_THP};
    (void)state;
    for (unsigned k = 0; k < ARRAY_SIZE(modes); k++) {
        struct host *h = new_host(64ull << 20);
        struct gmem *g = gmem_new(h, 16ull << 20, modes[k], &ops, NULL);
        /* From the last to the first: no two neighbours are consecutive in the host. */
        for (unsigned i = 1500; i-- > 500;)
            if (i % 3) {
                assert_int_equal(gmem_fault(g, gfn(i)), GMEM_OK);
                memset(gmem_ptr(g, gfn_gpa(gfn(i))), (int)i & 255, 16);
            }
        assert_true(gmem_place(g, gfn(600), 700)); /* across 2 MiB borders: 512..1535 */
        assert_null(gmem_check(g));
        for (unsigned i = 600; i < 1300; i++)
            assert_int_equal(gmem_hfn(g, gfn(i)).n, gmem_hfn(g, gfn(600)).n + (i - 600));
        for (unsigned i = 500; i < 1500; i++)
            if (i % 3)
                assert_int_equal(*(unsigned char *)gmem_ptr(g, gfn_gpa(gfn(i))), i & 255);
        assert_int_equal(gmem_order(g, gfn(700)), modes[k] == PAGES_4K ? 0 : 9);
        uint64_t used = host_used(h, FRAME_GUEST);
        assert_int_equal(used, g->resident);
        unsigned before = zapped;
        assert_true(gmem_place(g, gfn(610), 20)); /* they are: nothing to do */
        assert_int_equal(zapped, before);
        assert_int_equal(host_used(h, FRAME_GUEST), used);
        gmem_free(g);
        assert_int_equal(host_free_frames(h), (64ull << 8) - 1);
        assert_null(host_check(h));
        host_free(h);
    }
}

/* 767 frames: 512 consecutive ones are there once, not twice. */
static void a_place_that_is_not_there_changes_nothing(void **state)
{
    (void)state;
    struct host *h = new_host(768 * PAGE_SIZE);
    struct gmem *g = gmem_new(h, 8ull << 20, PAGES_4K, &ops, NULL);
    for (unsigned i = 0; i < 400; i++)
        assert_int_equal(gmem_fault(g, gfn(2 * i % 801)), GMEM_OK);
    uint64_t resident = g->resident;
    assert_false(gmem_place(g, gfn(0), 600));
    assert_int_equal(g->resident, resident);
    assert_null(gmem_check(g));
    gmem_free(g);
    assert_int_equal(host_free_frames(h), 767);
    host_free(h);
}

static void sizes_parse(void **state)
{
    (void)state;
    uint64_t v = 1;
    char b[24];
    assert_true(parse_size("64M", &v) && v == 64ull << 20);
    assert_true(parse_size("1GiB", &v) && v == 1ull << 30);
    assert_true(parse_size("4096", &v) && v == 4096);
    assert_true(parse_size("0x1000", &v) && v == 4096);
    static const char *const bad[] = {
        "", "-1", "M", "1X", "1MM", "99999999999T", "18446744073709551616", "0x", "1 M", "b"};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(parse_size(bad[i], &v));
    assert_string_equal(format_size(3ull << 20, b, sizeof b), "3M");
    assert_string_equal(format_size(5000, b, sizeof b), "5000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_frames_can_be_had_and_given_back),
        cmocka_unit_test(random_blocks_keep_the_invariants),
        cmocka_unit_test(a_span_takes_exactly_what_it_says),
        cmocka_unit_test(a_reserved_guest_is_contiguous_and_can_lose_pages),
        cmocka_unit_test(hostile_sizes_are_refused),
        cmocka_unit_test(a_large_block_splits_when_part_of_it_goes),
        cmocka_unit_test(the_host_limit_is_a_result),
        cmocka_unit_test(placed_frames_are_consecutive),
        cmocka_unit_test(a_place_that_is_not_there_changes_nothing),
        cmocka_unit_test(sizes_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
