/* test_assoc.c: set-associative arrays and data caches against naive models of LRU and tree-PLRU.
 * link: base shadow_vs_ept/assoc shadow_vs_ept/dcache
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "shadow_vs_ept/assoc.h"
#include "shadow_vs_ept/dcache.h"

/* Naive LRU: time stamps, linear search. */
struct naive {
    uint64_t key[4096], used[4096], now;
    unsigned sets, ways, bits;
    bool xor_index;
};

static bool naive_access(struct naive *n, uint64_t idx)
{
    uint64_t set = n->xor_index ? (idx ^ idx >> n->bits) % n->sets : idx % n->sets;
    unsigned oldest = 0;
    for (unsigned w = 0; w < n->ways; w++) {
        unsigned i = (unsigned)(set * n->ways + w);
        if (n->key[i] == idx + 1) {
            n->used[i] = ++n->now;
            return true;
        }
        if (n->used[i] < n->used[set * n->ways + oldest])
            oldest = w;
    }
    n->key[set * n->ways + oldest] = idx + 1;
    n->used[set * n->ways + oldest] = ++n->now;
    return false;
}

static void check_lru(struct geometry g, unsigned seed)
{
    struct assoc a;
    static struct naive n;
    struct rng r;
    unsigned hits = 0;
    memset(&n, 0, sizeof n);
    n.sets = g.entries / g.ways;
    n.ways = g.ways;
    n.xor_index = g.index == INDEX_XOR && n.sets > 1;
    while (1u << n.bits < n.sets)
        n.bits++;
    assoc_init(&a, &g);
    rng_seed(&r, seed);
    for (unsigned i = 0; i < 50000; i++) {
        uint64_t idx = rng_below(&r, g.entries * 3 / 2);
        uint64_t *v = assoc_get(&a, idx, idx + 1);
        bool hit = naive_access(&n, idx);
        assert_int_equal(v != NULL, hit);
        if (v)
            assert_int_equal(*v, idx * 3);
        else
            assoc_put(&a, idx, idx + 1, idx * 3);
        hits += hit;
    }
    assert_in_range(hits, 10000, 45000);
    assert_null(assoc_check(&a));
    assoc_fini(&a);
}

/* Up to 16 ways the order is a word, above it is a ring (assoc.h). */
static void lru_agrees_with_time_stamps(void **state)
{
    (void)state;
    check_lru((struct geometry){64, 4, INDEX_MOD, POLICY_LRU}, 1);
    check_lru((struct geometry){1536, 12, INDEX_MOD, POLICY_LRU}, 2);
    check_lru((struct geometry){1536, 12, INDEX_XOR, POLICY_LRU}, 3);
    check_lru((struct geometry){64, 64, INDEX_MOD, POLICY_LRU}, 4);
    check_lru((struct geometry){72, 72, INDEX_XOR, POLICY_LRU}, 5);
    check_lru((struct geometry){32, 1, INDEX_MOD, POLICY_LRU}, 6);
    check_lru((struct geometry){2048, 16, INDEX_XOR, POLICY_LRU}, 7);
    check_lru((struct geometry){3072, 24, INDEX_MOD, POLICY_LRU}, 8);
    check_lru((struct geometry){17 * 64, 17, INDEX_MOD, POLICY_LRU}, 9);
    check_lru((struct geometry){64, 2, INDEX_MOD, POLICY_LRU}, 10);
    check_lru((struct geometry){9, 9, INDEX_MOD, POLICY_LRU}, 11);
}

static void check_dcache(unsigned lines, unsigned ways, unsigned seed)
{
    struct dcache c;
    static struct naive n;
    struct rng r;
    unsigned hits = 0;
    memset(&n, 0, sizeof n);
    n.sets = lines / ways;
    n.ways = ways;
    dcache_init(&c, &(struct geometry){lines, ways, INDEX_MOD, POLICY_LRU});
    rng_seed(&r, seed);
    for (unsigned i = 0; i < 50000; i++) {
        uint64_t line = rng_below(&r, lines * 3 / 2);
        bool hit = dcache_access(&c, (line << 6) + rng_below(&r, 64));
        assert_int_equal(hit, naive_access(&n, line));
        hits += hit;
    }
    assert_in_range(hits, 10000, 45000);
    dcache_fini(&c);
}

static void data_caches_agree_with_time_stamps(void **state)
{
    (void)state;
    check_dcache(512, 8, 1);
    check_dcache(64 * 11, 11, 2);
    check_dcache(64 * 20, 20, 3);
    check_dcache(1024, 16, 4);
    check_dcache(64, 1, 5);
    check_dcache(128 * 12, 12, 6);
}

/* Tree-PLRU of one 4-way set by the textbook: bit 0 root, bit 1 left pair, bit 2 right pair. */
static void plru_4_way_follows_the_textbook(void **state)
{
    (void)state;
    struct assoc a;
    assoc_init(&a, &(struct geometry){4, 4, INDEX_MOD, POLICY_PLRU});
    for (uint64_t k = 1; k <= 4; k++)
        assoc_put(&a, 0, k, k); /* fills ways 0..3 */
    assert_int_equal(assoc_plru_victim(&a, 0), 0);
    assert_non_null(
        assoc_get(&a, 0, 1)); /* root points right; right pair: 4 was used after 3, so 3 is older */
    assert_int_equal(assoc_plru_victim(&a, 0), 2);
    assoc_put(&a, 0, 5, 5); /* replaces 3; root points left; left pair: 2 is older */
    assert_null(assoc_peek(&a, 0, 3));
    assert_int_equal(assoc_plru_victim(&a, 0), 1);
    assert_non_null(assoc_get(&a, 0, 5)); /* a repeated use changes nothing */
    assert_int_equal(assoc_plru_victim(&a, 0), 1);
    assoc_fini(&a);
}

/* 12 ways: the victim comes from the tree after the most recently used one. */
static void plru_12_way_takes_turns(void **state)
{
    (void)state;
    struct assoc a;
    assoc_init(&a, &(struct geometry){12, 12, INDEX_MOD, POLICY_PLRU});
    for (uint64_t k = 1; k <= 12; k++)
        assoc_put(&a, 0, k, k);
    assert_int_equal(assoc_plru_victim(&a, 0) / 4, 0); /* last use in tree 2 */
    assert_non_null(assoc_get(&a, 0, 1));
    assert_int_equal(assoc_plru_victim(&a, 0) / 4, 1);
    assert_non_null(assoc_get(&a, 0, 6));
    assert_int_equal(assoc_plru_victim(&a, 0) / 4, 2);
    assoc_fini(&a);
}

/* Two keys of one set with the same tag: found apart, also when one of them goes. */
static void equal_tags_are_not_equal_keys(void **state)
{
    (void)state;
    struct assoc a;
    uint64_t twin = 2;
    while (assoc_hash(twin) != assoc_hash(1))
        twin++;
    assoc_init(&a, &(struct geometry){4, 4, INDEX_MOD, POLICY_LRU});
    assoc_put(&a, 0, 1, 10);
    assert_null(assoc_get(&a, 0, twin));
    assoc_put(&a, 0, twin, 20);
    assert_int_equal(*assoc_get(&a, 0, 1), 10);
    assert_int_equal(*assoc_get(&a, 0, twin), 20);
    assoc_del(&a, 0, 1);
    assert_null(assoc_get(&a, 0, 1));
    assert_int_equal(*assoc_get(&a, 0, twin), 20);
    assert_null(assoc_check(&a));
    assoc_fini(&a);
}

static bool odd(uint64_t key, uint64_t val, uint64_t ctx)
{
    assert_int_equal(val, key);
    assert_int_equal(ctx, 0);
    return key & 1;
}

/* `ways` is even. */
static void drop_and_refill(uint32_t ways, enum tlb_policy policy)
{
    struct assoc a;
    assoc_init(&a, &(struct geometry){ways, ways, INDEX_MOD, policy});
    for (uint64_t k = 1; k <= ways; k++)
        assoc_put(&a, 0, k, k);
    assoc_drop(&a, odd, 0);
    assert_null(assoc_check(&a));
    for (uint64_t k = 1; k <= ways; k++)
        assert_int_equal(assoc_peek(&a, 0, k) != NULL, !(k & 1));
    for (uint64_t k = 1; k <= ways / 2; k++)
        assoc_put(&a, 0, 100 + k, k); /* fills the holes, evicts nothing */
    for (uint64_t k = 2; k <= ways; k += 2)
        assert_non_null(assoc_peek(&a, 0, k));
    assoc_put(&a, 0, 99, 0);
    if (policy == POLICY_LRU) /* the order of those that stayed is as it was: 2 is the oldest */
        assert_null(assoc_peek(&a, 0, 2));
    assoc_del(&a, 0, 4);
    assert_null(assoc_peek(&a, 0, 4));
    assert_null(assoc_check(&a));
    assoc_clear(&a);
    assert_null(assoc_peek(&a, 0, 6));
    assert_null(assoc_check(&a));
    for (uint64_t k = 1; k <= ways; k++)
        assoc_put(&a, 0, k, k); /* as many as there is room for */
    assert_non_null(assoc_peek(&a, 0, 1));
    assoc_fini(&a);
}

static void dropped_entries_are_gone_and_the_rest_keeps_its_order(void **state)
{
    (void)state;
    const uint32_t ways[] = {4, 8, 12, 16, 24, 48};
    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
        drop_and_refill(ways[i], POLICY_LRU);
        drop_and_refill(ways[i], POLICY_PLRU);
    }
}

/* Each broken invariant is told. */
static void the_check_finds_damage(void **state)
{
    (void)state;
    struct assoc a;
    assoc_init(&a, &(struct geometry){12, 12, INDEX_MOD, POLICY_LRU});
    struct assoc_head *h = assoc_head(&a, 0);
    assoc_put(&a, 0, 1, 1);
    assoc_put(&a, 0, 2, 2);
    assert_null(assoc_check(&a));
    uint64_t order = h->order;
    h->order = order ^ 0x10; /* a way twice */
    assert_non_null(assoc_check(&a));
    h->order = order >> 4 | (order & 15) << 44; /* the latest as the oldest, after empty ways */
    assert_non_null(assoc_check(&a));
    h->order = order;
    struct assoc_entry *e = &a.entry[order & 15]; /* key 2's */
    e->key = 3;
    assert_non_null(assoc_check(&a));
    e->key = 1;
    h->tag[order & 15] = assoc_hash(1);
    assert_non_null(assoc_check(&a));
    assoc_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lru_agrees_with_time_stamps),
        cmocka_unit_test(data_caches_agree_with_time_stamps),
        cmocka_unit_test(plru_4_way_follows_the_textbook),
        cmocka_unit_test(plru_12_way_takes_turns),
        cmocka_unit_test(equal_tags_are_not_equal_keys),
        cmocka_unit_test(the_check_finds_damage),
        cmocka_unit_test(dropped_entries_are_gone_and_the_rest_keeps_its_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
