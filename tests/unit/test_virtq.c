/* test_virtq.c: the device's side of a split virtqueue: what is well made comes out as it went in, what is not is refused.
 * link: base memmgr balloon
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "balloon/virtq.h"
#include "base/rng.h"

#define MEM 0x10000ull
static unsigned char mem[MEM];

static bool inside(uint64_t gpa, uint64_t len) { return gpa <= MEM && len <= MEM - gpa; }
static unsigned reads;

static bool rd(void *ctx, uint64_t gpa, void *buf, uint64_t len)
{
    (void)ctx;
    reads++;
    if (!inside(gpa, len))
        return false;
    memcpy(buf, mem + gpa, len);
    return true;
}
static bool wr(void *ctx, uint64_t gpa, const void *buf, uint64_t len)
{
    (void)ctx;
    if (!inside(gpa, len))
        return false;
    memcpy(mem + gpa, buf, len);
    return true;
}
static const struct guest_mem gm = {NULL, rd, wr};

/* A queue of 8: descriptors at 0, available at 0x1000, used at 0x2000. */
static struct virtq fresh(void)
{
    memset(mem, 0, sizeof mem);
    return (struct virtq){.desc = 0, .avail = 0x1000, .used = 0x2000, .num = 8, .ready = true};
}
static void desc(unsigned i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
    struct virtq_desc d = {addr, len, flags, next};
    memcpy(mem + 16 * i, &d, sizeof d);
}
static void put16(uint64_t at, unsigned v)
{
    uint16_t x = (uint16_t)v;
    memcpy(mem + at, &x, 2);
}
static unsigned get16(uint64_t at)
{
    uint16_t x;
    memcpy(&x, mem + at, 2);
    return x;
}
static void avail(unsigned idx, unsigned head)
{
    put16(0x1004 + 2 * ((idx - 1) % 8), head);
    put16(0x1002, idx);
}

static void a_chain_comes_out_as_it_went_in(void **state)
{
    (void)state;
    struct virtq q = fresh();
    struct virtq_chain c;
    unsigned char buf[30];
    uint32_t elem[2];
    assert_int_equal(virtq_pop(&q, &gm, &c), VIRTQ_EMPTY);
    desc(5, 0x3000, 10, VIRTQ_DESC_F_NEXT, 2);
    desc(2, 0x4000, 20, VIRTQ_DESC_F_NEXT, 7);
    desc(7, 0x5000, 4096, VIRTQ_DESC_F_WRITE, 0);
    memset(mem + 0x3000, 'a', 10);
    memset(mem + 0x4000, 'b', 20);
    avail(1, 5);
    assert_int_equal(virtq_pop(&q, &gm, &c), VIRTQ_CHAIN);
    assert_int_equal(c.head, 5);
    assert_int_equal(c.n, 3);
    assert_int_equal(c.nread, 2);
    assert_int_equal(c.readable, 30);
    assert_int_equal(c.writable, 4096);
    assert_int_equal(c.seg[2].gpa, 0x5000);
    assert_true(c.seg[2].writable);
    assert_true(virtq_read(&c, &gm, 0, buf, 30));
    assert_memory_equal(buf, "aaaaaaaaaabbbbbbbbbbbbbbbbbbbb", 30);
    assert_true(virtq_read(&c, &gm, 9, buf, 2));
    assert_memory_equal(buf, "ab", 2);
    assert_true(virtq_read(&c, &gm, 30, buf, 0));
    assert_false(virtq_read(&c, &gm, 29, buf, 2)); /* not into the writable part */
    assert_false(virtq_read(&c, &gm, UINT32_MAX, buf, 2));
    assert_int_equal(virtq_pop(&q, &gm, &c), VIRTQ_EMPTY);
    assert_null(virtq_check(&q));
    assert_true(virtq_push(&q, &gm, 5, 17));
    memcpy(elem, mem + 0x2004, 8);
    assert_int_equal(elem[0], 5);
    assert_int_equal(elem[1], 17);
    assert_int_equal(get16(0x2002), 1);
}

/* 70,000 chains: indices wrap at 65,536, ring entries at 8. */
static void indices_wrap(void **state)
{
    (void)state;
    struct virtq q = fresh();
    struct virtq_chain c;
    for (unsigned i = 1; i <= 70000; i++) {
        desc(i % 8, 0x3000 + i % 100, 4, 0, 0);
        avail(i, i % 8);
        assert_int_equal(virtq_pop(&q, &gm, &c), VIRTQ_CHAIN);
        assert_int_equal(c.head, i % 8);
        assert_int_equal(c.seg[0].gpa, 0x3000 + i % 100);
        assert_true(virtq_push(&q, &gm, c.head, 0));
        assert_int_equal(get16(0x2002), i % 65536);
    }
    assert_int_equal(virtq_pop(&q, &gm, &c), VIRTQ_EMPTY);
}

/* One broken ring each: refused, and nothing is taken. */
static void bad(struct virtq *q)
{
    struct virtq_chain c;
    uint16_t at = q->avail_idx;
    reads = 0;
    assert_int_equal(virtq_pop(q, &gm, &c), VIRTQ_BAD);
    assert_int_equal(q->avail_idx, at);
    assert_true(reads <= 2u + q->num); /* index, entry, descriptors: invariant (4) */
    assert_null(virtq_check(q));
}

static void broken_chains_are_refused(void **state)
{
    (void)state;
    struct virtq q = fresh();
    avail(1, 8); /* no such descriptor */
    bad(&q);
    desc(0, 0x3000, 4, VIRTQ_DESC_F_NEXT, 8); /* next: the same */
    avail(1, 0);
    bad(&q);
    desc(0, 0x3000, 4, VIRTQ_DESC_F_NEXT, 0); /* itself */
    bad(&q);
    desc(0, 0x3000, 4, VIRTQ_DESC_F_NEXT, 1); /* a loop of two */
    desc(1, 0x3000, 4, VIRTQ_DESC_F_NEXT, 0);
    bad(&q);
    desc(0, 0x3000, 0, 0, 0); /* nothing */
    bad(&q);
    desc(0, UINT64_MAX - 3, 8, 0, 0); /* around the end of the address space */
    bad(&q);
    desc(0, 0x3000, UINT32_MAX, VIRTQ_DESC_F_NEXT, 1); /* 4 GiB together */
    desc(1, 0x3000, UINT32_MAX, 0, 0);
    bad(&q);
    desc(0, 0x3000, 4, VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_WRITE, 1); /* readable after writable */
    desc(1, 0x3000, 4, 0, 0);
    bad(&q);
    desc(0, 0x3000, 16, VIRTQ_DESC_F_INDIRECT, 0); /* not offered */
    bad(&q);
    avail(9, 0); /* more available than there are entries */
    bad(&q);
    avail(1, 0);
    q.desc = MEM; /* rings outside of memory */
    bad(&q);
    q = fresh();
    q.avail = MEM;
    bad(&q);
}

/* The longest chain that is no loop: one of all entries. */
static void a_chain_of_all_entries_is_allowed(void **state)
{
    (void)state;
    struct virtq q = fresh();
    struct virtq_chain c;
    for (unsigned i = 0; i < 8; i++)
        desc(i, 0x3000, 4, i < 7 ? VIRTQ_DESC_F_NEXT : 0, (uint16_t)(i + 1));
    avail(1, 0);
    assert_int_equal(virtq_pop(&q, &gm, &c), VIRTQ_CHAIN);
    assert_int_equal(c.n, 8);
    assert_int_equal(c.readable, 32);
}

/* A buffer outside of memory is found when it is read; one at the very end is not refused. */
static void memory_is_never_exceeded(void **state)
{
    (void)state;
    struct virtq q = fresh();
    struct virtq_chain c;
    unsigned char buf[16];
    desc(0, MEM - 8, 8, 0, 0);
    desc(1, MEM - 8, 9, 0, 0);
    avail(1, 0);
    avail(2, 1);
    assert_int_equal(virtq_pop(&q, &gm, &c), VIRTQ_CHAIN);
    assert_true(virtq_read(&c, &gm, 0, buf, 8));
    assert_int_equal(virtq_pop(&q, &gm, &c), VIRTQ_CHAIN);
    assert_false(virtq_read(&c, &gm, 0, buf, 9));
    q.used = MEM;
    assert_false(virtq_push(&q, &gm, 1, 0));
    assert_int_equal(q.used_idx, 0);
}

/* A chain that is held leaves room for num - 1 others: the driver cannot have more than num in flight. */
static void a_held_chain_counts(void **state)
{
    (void)state;
    struct virtq q = fresh();
    struct virtq_chain c;
    uint16_t n;
    desc(0, 0x3000, 4, 0, 0);
    avail(1, 0);
    assert_int_equal(virtq_pop(&q, &gm, &c), VIRTQ_CHAIN);
    put16(0x1002, 1 + 7);
    assert_true(virtq_available(&q, &gm, &n));
    assert_int_equal(n, 7);
    put16(0x1002, 1 + 8);
    bad(&q);
}

static void the_driver_can_do_without_interrupts(void **state)
{
    (void)state;
    struct virtq q = fresh();
    assert_true(virtq_wants_interrupt(&q, &gm));
    put16(0x1000, VIRTQ_AVAIL_F_NO_INTERRUPT);
    assert_false(virtq_wants_interrupt(&q, &gm));
    q.avail = MEM;
    assert_true(virtq_wants_interrupt(&q, &gm)); /* better one too many */
}

static void shapes(void **state)
{
    (void)state;
    struct virtq q = fresh();
    assert_true(virtq_valid(&q));
    for (unsigned n = 0; n <= 512; n++) {
        q.num = (uint16_t)n;
        assert_int_equal(virtq_valid(&q), n && n <= VIRTQ_MAX && __builtin_popcount(n) == 1);
    }
    q = fresh();
    q.desc = 8;
    assert_false(virtq_valid(&q));
    q = fresh();
    q.avail = 0x1001;
    assert_false(virtq_valid(&q));
    q = fresh();
    q.used = 0x2002;
    assert_false(virtq_valid(&q));
    q = fresh();
    q.used = UINT64_MAX - 3;
    assert_false(virtq_valid(&q));
    assert_non_null(virtq_check(&q));
}

/* Random rings: whatever comes out keeps invariant (3). */
static void random_rings_keep_the_invariants(void **state)
{
    (void)state;
    struct rng r;
    unsigned chains = 0, refused = 0;
    rng_seed(&r, 5);
    for (unsigned round = 0; round < 20000; round++) {
        struct virtq q = fresh();
        struct virtq_chain c;
        for (unsigned i = 0; i < 8; i++)
            desc(i, rng_below(&r, 4) ? rng_below(&r, MEM) : rng_next(&r),
                 (uint32_t)(rng_below(&r, 8) ? rng_below(&r, 4096) : rng_next(&r)),
                 (uint16_t)rng_below(&r, rng_below(&r, 8) ? 4 : 8), (uint16_t)rng_below(&r, 9));
        avail(1 + (unsigned)rng_below(&r, 9), (unsigned)rng_below(&r, 9));
        put16(0x1004, (unsigned)rng_below(&r, 9));
        enum virtq_result res = virtq_pop(&q, &gm, &c);
        assert_null(virtq_check(&q));
        refused += res == VIRTQ_BAD;
        if (res != VIRTQ_CHAIN)
            continue;
        chains++;
        uint64_t bytes[2] = {0, 0};
        assert_in_range(c.n, 1, 8);
        for (unsigned i = 0; i < c.n; i++) {
            assert_int_equal(c.seg[i].writable, i >= c.nread);
            assert_true(c.seg[i].len && c.seg[i].gpa + c.seg[i].len > c.seg[i].gpa);
            bytes[c.seg[i].writable] += c.seg[i].len;
        }
        assert_int_equal(bytes[0], c.readable);
        assert_int_equal(bytes[1], c.writable);
    }
    assert_true(chains > 1000 && refused > 1000); /* both kinds were seen */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_comes_out_as_it_went_in),
        cmocka_unit_test(indices_wrap),
        cmocka_unit_test(broken_chains_are_refused),
        cmocka_unit_test(a_chain_of_all_entries_is_allowed),
        cmocka_unit_test(memory_is_never_exceeded),
        cmocka_unit_test(a_held_chain_counts),
        cmocka_unit_test(the_driver_can_do_without_interrupts),
        cmocka_unit_test(shapes),
        cmocka_unit_test(random_rings_keep_the_invariants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
