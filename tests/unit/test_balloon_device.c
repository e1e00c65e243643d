/* test_balloon_device.c: the balloon's device under a small driver: every feature, every refusal, saving and restoring.
 * link: base memmgr balloon vmm/virtio_mmio
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "balloon/pageset.h"
#include "balloon_rig.h"
#include "base/rng.h"

#define ALL VIRTIO_BALLOON_F_ALL
#define PLAIN (ALL & ~VIRTIO_BALLOON_F_PAGE_POISON)
static const struct balloon_config all = {.features = ALL, .frames = FRAMES};
static const struct balloon_config split = {
    .features = ALL, .frames = FRAMES, .order = ORDER_2M, .hole = BALLOON_HOLE_SPLIT};
static const struct balloon_config defer = {
    .features = ALL, .frames = FRAMES, .order = ORDER_2M, .hole = BALLOON_HOLE_DEFER};
enum { INFLATE, DEFLATE, STATS, HINT, REPORT };

#define count(r) (&(r)->b->state->count)

/* ---- inflate and deflate ---- */
static void pages_go_and_come_back(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, PLAIN);
    balloon_set_target(r->b, 100);
    assert_int_equal(cfg32(r, 0), 100);
    memset(r->mem + 2000 * 4096, 7, 100 * 4096);
    send_pfns(r, INFLATE, 2000, 1, 100);
    assert_int_equal(r->nev, 1);
    assert_event(r, 0, EV_RELEASE, 2000, 100);
    assert_int_equal(r->ev[0].used, 0); /* invariant (3): not yet acknowledged */
    assert_int_equal(used(r, INFLATE), 1);
    assert_int_equal(r->mem[2000 * 4096], 0);
    assert_int_equal(r->b->state->pages, 100);
    assert_int_equal(cfg32(r, 4), 0); /* the driver alone says what is there */
    set(r, VIRTIO_MMIO_CONFIG + 4, 100);
    assert_int_equal(r->b->state->config.actual, 100);
    assert_true(balloon_holds(r->b, gfn(2099)));
    assert_false(balloon_holds(r->b, gfn(2100)));
    assert_false(balloon_holds(r->b, gfn(FRAMES)));
    balloon_set_target(r->b, 60);
    send_pfns(r, DEFLATE, 2059, -1, 40); /* descending */
    assert_event(r, 1, EV_DEFLATED, 2020, 40);
    assert_int_equal(r->b->state->pages, 60);
    assert_int_equal(count(r)->inflated, 100);
    assert_int_equal(count(r)->deflated, 40);
    assert_int_equal(count(r)->released, 100);
    assert_int_equal(count(r)->deflated_oom, 0);
    assert_int_equal(refused_all(r), 0);
    rig_free(r);
}

/* Buffers of one notification, in any order, with duplicates: sorted, merged, one release per range.
 * 10..13 in four orders over three buffers, 20 alone, 127..129 across two words of the bitmap: 3 ranges, 8 pages. */
static void one_notification_is_one_batch(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, PLAIN);
    put_pfns(r, INFLATE, 13, -2, 2); /* 13 11 */
    put_pfns(r, INFLATE, 129, -1, 3);
    put_pfns(r, INFLATE, 20, 0, 5);  /* 20, five times */
    put_pfns(r, INFLATE, 12, -2, 2); /* 12 10 */
    kick(r, INFLATE);
    assert_int_equal(r->nev, 3);
    assert_event(r, 0, EV_RELEASE, 10, 4);
    assert_event(r, 1, EV_RELEASE, 20, 1);
    assert_event(r, 2, EV_RELEASE, 127, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(r->ev[i].used, 0);
    assert_int_equal(used(r, INFLATE), 4);
    assert_int_equal(r->rises, 1);
    assert_int_equal(count(r)->ranges, 3);
    assert_int_equal(count(r)->releases, 3);
    assert_int_equal(count(r)->inflated, 8);
    assert_int_equal(count(r)->refused_double, 4);
    rig_free(r);
}

/* 65,536 PFNs are the most of one buffer, and end a batch: pages outside are refused one by one. */
static void a_large_batch(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, PLAIN);
    send_pfns(r, INFLATE, 1000, 1, 65536); /* 1000 .. 66535; memory ends at 4096 */
    assert_event(r, 0, EV_RELEASE, 1000, 3096);
    assert_int_equal(count(r)->refused_pfn, 65536 - 3096);
    assert_int_equal(used(r, INFLATE), 1);
    put_one(r, INFLATE, BUFFERS, 4 * 65536 + 4, false);
    kick(r, INFLATE);
    assert_int_equal(count(r)->refused_long, 1);
    assert_int_equal(used(r, INFLATE), 2);
    assert_int_equal(r->nev, 1);
    rig_free(r);
}

static void pages_not_to_be_had_are_refused(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, PLAIN);
    send_pfns(r, INFLATE, FRAMES - 1, 1, 3); /* one inside */
    send_pfns(r, INFLATE, UINT32_MAX, 1, 2); /* wraps to 0: that one is inside */
    send_pfns(r, INFLATE, UINT32_MAX, -1, 9);
    assert_int_equal(r->b->state->pages, 2);
    assert_int_equal(count(r)->refused_pfn, 2 + 1 + 9);
    send_pfns(r, INFLATE, FRAMES - 1, 1, 1); /* twice */
    assert_int_equal(count(r)->refused_double, 1);
    send_pfns(r, DEFLATE, 5, 1, 10); /* not in it */
    assert_int_equal(count(r)->refused_absent, 10);
    assert_int_equal(r->nev, 2);
    assert_int_equal(used(r, INFLATE), 4);
    assert_int_equal(used(r, DEFLATE), 1);
    rig_free(r);
}

static void odd_buffers_are_refused(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, PLAIN);
    put_one(r, INFLATE, pfns(r, 2000, 1, 2), 7, false); /* one PFN and a part */
    kick(r, INFLATE);
    assert_int_equal(count(r)->refused_partial, 1);
    assert_int_equal(r->b->state->pages, 1);
    put_one(r, INFLATE, pfns(r, 2001, 1, 2), 8, true); /* to be written */
    kick(r, INFLATE);
    assert_int_equal(count(r)->refused_direction, 1);
    put_one(r, INFLATE, FRAMES * 4096 - 4, 8, false); /* beyond the end */
    put_one(r, INFLATE, UINT64_MAX - 100, 8, false);
    kick(r, INFLATE);
    assert_int_equal(count(r)->refused_memory, 2);
    assert_int_equal(r->b->state->pages, 1);
    assert_int_equal(used(r, INFLATE), 4); /* all of them returned */
    assert_int_equal(refused_all(r), 0);
    rig_free(r);
}

/* PFNs may be cut by the ends of segments. */
static void a_pfn_across_segments(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, PLAIN);
    uint64_t at = pfns(r, 2000, 1, 3);
    put_desc(r, INFLATE, 0, at, 3, VIRTQ_DESC_F_NEXT, 1);
    put_desc(r, INFLATE, 1, at + 3, 6, VIRTQ_DESC_F_NEXT, 2);
    put_desc(r, INFLATE, 2, at + 9, 3, 0, 0);
    put_avail(r, INFLATE, 0);
    kick(r, INFLATE);
    assert_event(r, 0, EV_RELEASE, 2000, 3);
    assert_int_equal(count(r)->refused_partial, 0);
    rig_free(r);
}

static void a_host_that_refuses(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, PLAIN);
    r->refuse_release = true;
    send_pfns(r, INFLATE, 2000, 1, 4);
    assert_int_equal(r->b->state->pages, 4); /* the guest gave them all the same */
    assert_int_equal(count(r)->release_failed, 4);
    assert_int_equal(r->why, BALLOON_INFLATED);
    assert_int_equal(count(r)->released, 0);
    assert_int_equal(used(r, INFLATE), 1);
    rig_free(r);
}

/* Below the target the driver may deflate only in need, and only when that was negotiated. It cannot be kept from it. */
static void deflating_below_the_target(void **state)
{
    (void)state;
    for (unsigned oom = 0; oom < 2; oom++) {
        struct rig *r = rig_new(&all, &rig_ops);
        rig_start(r, oom ? PLAIN : PLAIN & ~VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
        balloon_set_target(r->b, 50);
        send_pfns(r, INFLATE, 2000, 1, 60);
        send_pfns(r, DEFLATE, 2000, 1, 15); /* 10 are spare */
        assert_int_equal(r->b->state->pages, 45);
        assert_int_equal(count(r)->deflated_oom, oom ? 5 : 0);
        assert_int_equal(count(r)->deflated_unasked, oom ? 0 : 5);
        rig_free(r);
    }
}

static void a_reset_empties_the_balloon(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, PLAIN);
    balloon_set_target(r->b, 10);
    send_pfns(r, INFLATE, 2000, 1, 10);
    send_pfns(r, INFLATE, 3000, 1, 5);
    set(r, VIRTIO_MMIO_CONFIG + 4, 15);
    set(r, VIRTIO_MMIO_STATUS, 0);
    assert_event(r, 2, EV_DEFLATED, 2000, 10);
    assert_event(r, 3, EV_DEFLATED, 3000, 5);
    assert_int_equal(r->b->state->pages, 0);
    assert_int_equal(cfg32(r, 0), 10); /* the host's wish stays */
    assert_int_equal(cfg32(r, 4), 0);
    assert_int_equal(count(r)->deflated, 15);
    assert_int_equal(count(r)->deflated_oom, 0);
    rig_free(r);
}

/* ---- large pages: blocks of 512, block 4 is 2048..2559 ---- */
static void a_hole_splits_a_large_page_once(void **state)
{
    (void)state;
    struct rig *r = rig_new(&split, &rig_ops);
    rig_start(r, PLAIN);
    send_pfns(r, INFLATE, 2048, 1, 512); /* a whole one */
    assert_int_equal(count(r)->splits, 0);
    r->refuse_release = true;
    send_pfns(r, INFLATE, 2562, 1, 2); /* nothing was cut */
    assert_int_equal(count(r)->splits, 0);
    r->refuse_release = false;
    send_pfns(r, INFLATE, 2570, 1, 4); /* the first hole of block 5 */
    assert_int_equal(count(r)->splits, 1);
    send_pfns(r, INFLATE, 2590, 1, 4); /* another: no new split */
    assert_int_equal(count(r)->splits, 1);
    send_pfns(r, INFLATE, 3000, 1,
              600); /* 2..end of 5, all of 6, 16 pages of 7: 3000 = 5 * 512 + 440 */
    assert_int_equal(count(r)->splits, 2);
    assert_int_equal(count(r)->deferred, 0);
    assert_int_equal(count(r)->released, 512 + 4 + 4 + 600);
    rig_free(r);
}

static void a_hole_is_deferred_until_the_page_is_complete(void **state)
{
    (void)state;
    struct rig *r = rig_new(&defer, &rig_ops);
    rig_start(r, PLAIN);
    send_pfns(r, INFLATE, 2048, 1, 500);
    assert_int_equal(r->nev, 0);
    assert_int_equal(used(r, INFLATE), 1); /* acknowledged: the guest has done its part */
    assert_int_equal(r->b->state->pages, 500);
    assert_int_equal(count(r)->deferred, 500);
    send_pfns(r, INFLATE, 2560, 1, 512 + 3); /* all of block 5, three of 6 */
    assert_event(r, 0, EV_RELEASE, 2560, 512);
    assert_int_equal(count(r)->deferred, 503);
    send_pfns(r, INFLATE, 2548, 1, 12); /* the rest of block 4 */
    assert_event(r, 1, EV_RELEASE, 2048, 512);
    assert_int_equal(count(r)->released, 1024);
    assert_int_equal(count(r)->splits, 0);
    assert_null(balloon_check(r->b));
    send_pfns(r, DEFLATE, 2100, 1, 2);
    send_pfns(r, INFLATE, 2100, 1, 2); /* complete once more: 2 pages are new */
    assert_event(r, 3, EV_RELEASE, 2048, 512);
    assert_int_equal(count(r)->released, 1026);
    assert_int_equal(count(r)->splits, 0);
    rig_free(r);
}

/* Two pieces of one batch that complete three neighbouring blocks are one release. */
static void complete_pages_are_merged(void **state)
{
    (void)state;
    struct rig *r = rig_new(&defer, &rig_ops);
    rig_start(r, PLAIN);
    send_pfns(r, INFLATE, 2200, 1, 100); /* the middle of block 4 */
    put_pfns(r, INFLATE, 2300, 1, 2048 + 1536 - 2300);
    put_pfns(r, INFLATE, 2048, 1, 152);
    kick(r, INFLATE);
    assert_int_equal(r->nev, 1);
    assert_event(r, 0, EV_RELEASE, 2048, 1536);
    rig_free(r);
}

/* A driver that does not promise to tell may use a page while the bitmap still holds it: nothing may be deferred. The race:
 * page 2100 is ballooned; the guest takes it back and writes before it tells; then the block's other pages arrive. */
static void nothing_is_deferred_without_must_tell_host(void **state)
{
    (void)state;
    for (unsigned tell = 0; tell < 2; tell++) {
        struct rig *r = rig_new(&defer, &rig_ops);
        rig_start(r, tell ? PLAIN : PLAIN & ~VIRTIO_BALLOON_F_MUST_TELL_HOST);
        send_pfns(r, INFLATE, 2100, 1, 1);
        assert_int_equal(r->nev, tell ? 0 : 1);
        assert_int_equal(count(r)->splits, tell ? 0 : 1);
        if (tell) /* the driver has promised to wait for this */
            send_pfns(r, DEFLATE, 2100, 1, 1);
        r->mem[2100 * 4096] = 7;
        put_pfns(r, INFLATE, 2048, 1, 52);
        put_pfns(r, INFLATE, 2101, 1, 459);
        kick(r, INFLATE);
        assert_int_equal(r->mem[2100 * 4096], 7);
        assert_int_equal(r->b->state->pages, tell ? 511 : 512);
        rig_free(r);
    }
}

/* Memory that ends within a large page: its last part is complete when all there is of it is. */
static void the_last_part_of_memory(void **state)
{
    (void)state;
    struct balloon_config c = defer;
    c.frames = FRAMES - 100;
    struct rig *r = rig_new(&c, &rig_ops);
    rig_start(r, PLAIN);
    send_pfns(r, INFLATE, FRAMES - 512, 1, 412);
    assert_event(r, 0, EV_RELEASE, FRAMES - 512, 412);
    assert_int_equal(count(r)->splits, 0);
    rig_free(r);
}

/* ---- statistics ---- */
static uint64_t stats_buffer(struct rig *r, const struct virtio_balloon_stat *s, unsigned n)
{
    uint64_t at = r->buffer;
    memcpy(r->mem + at, s, n * sizeof *s);
    r->buffer += n * sizeof *s;
    return at;
}

static void statistics_come_when_asked(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, PLAIN);
    struct virtio_balloon_stat s[16];
    for (unsigned i = 0; i < 16; i++)
        s[i] = (struct virtio_balloon_stat){(uint16_t)i, 1000 + i};
    assert_false(balloon_ask_stats(r->b)); /* there is no buffer yet */
    put_one(r, STATS, stats_buffer(r, s, 3), 30, false);
    kick(r, STATS);
    assert_int_equal(used(r, STATS), 0); /* held */
    assert_int_equal(r->b->state->stats_valid, 7);
    assert_int_equal(r->b->state->stats[2], 1002);
    assert_null(balloon_check(r->b));
    assert_true(balloon_ask_stats(r->b));
    assert_true(r->b->state->stats_asked);
    assert_int_equal(used(r, STATS), 1);
    assert_true(r->line);
    assert_false(balloon_ask_stats(r->b)); /* one question at a time */
    put_one(r, STATS, stats_buffer(r, s, 16), 160, false);
    kick(r, STATS);
    assert_false(r->b->state->stats_asked);
    assert_int_equal(r->b->state->stats_valid, 0xffff);
    assert_int_equal(r->b->state->stats[15], 1015);
    set(r, VIRTIO_MMIO_STATUS, 0);
    assert_false(r->b->state->stats_held);
    assert_int_equal(r->b->state->stats_valid, 0); /* not known is not 0 */
    rig_free(r);
}

static void statistics_are_not_believed(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, PLAIN);
    struct virtio_balloon_stat s[3] = {{5, 1}, {16, 2}, {65535, 3}};
    put_one(r, STATS, stats_buffer(r, s, 3), 30, false);
    kick(r, STATS);
    assert_int_equal(count(r)->refused_stat, 2);
    assert_int_equal(r->b->state->stats_valid, 1 << 5);
    put_one(r, STATS, stats_buffer(r, s, 1), 13, false); /* a second one, and a part of an entry */
    kick(r, STATS);
    assert_int_equal(count(r)->refused_stats_buffer, 1);
    assert_int_equal(count(r)->refused_partial, 1);
    assert_int_equal(used(r, STATS), 1);
    put_one(r, STATS, BUFFERS, 1 << 20, false); /* a long one: read as far as sensible */
    kick(r, STATS);
    assert_int_equal(count(r)->refused_long, 1);
    put_one(r, STATS, FRAMES * 4096, 10, false);
    kick(r, STATS);
    assert_int_equal(count(r)->refused_memory, 1);
    put_one(r, STATS, BUFFERS, 10, true);
    kick(r, STATS);
    assert_int_equal(count(r)->refused_direction, 1);
    assert_int_equal(r->b->state->stats_valid, 0);
    assert_true(r->b->state->stats_held);
    rig_free(r);
}

/* ---- reports ---- */
static void put_pages(struct rig *r, unsigned q, uint64_t first, uint64_t n)
{
    put_one(r, q, first * 4096, (uint32_t)(n * 4096), true);
}

static void reported_pages_are_released(void **state)
{
    (void)state;
    struct rig *r = rig_new(&split, &rig_ops);
    rig_start(r, PLAIN);
    put_desc(r, REPORT, 0, 2560ull * 4096, 512 * 4096, VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_NEXT, 1);
    put_desc(r, REPORT, 1, 2048ull * 4096, 512 * 4096, VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_NEXT, 2);
    put_desc(r, REPORT, 2, 3600ull * 4096, 16 * 4096, VIRTQ_DESC_F_WRITE, 0);
    put_avail(r, REPORT, 0);
    kick(r, REPORT);
    assert_event(r, 0, EV_RELEASE, 2048, 1024);
    assert_event(r, 1, EV_RELEASE, 3600, 16);
    assert_int_equal(used(r, REPORT), 1);
    assert_int_equal(count(r)->reported, 1040);
    assert_int_equal(count(r)->released, 1040);
    assert_int_equal(r->why, BALLOON_REPORTED);
    assert_int_equal(count(r)->splits, 1);
    assert_int_equal(r->b->state->pages, 0);                /* they are the guest's all the time */
    put_one(r, REPORT, 2048ull * 4096 + 1, 2 * 4096, true); /* one whole page, parts of two */
    put_one(r, REPORT, 3000ull * 4096, 100, true);
    put_one(r, REPORT, 3000ull * 4096, 4096, false);
    put_one(r, REPORT, (FRAMES - 1) * 4096, 3 * 4096, true);
    put_one(r, REPORT, 1ull << 60, 4096, true);
    put_one(r, REPORT, 0, UINT32_MAX, true);
    kick(r, REPORT);
    assert_int_equal(count(r)->refused_partial, 2);
    assert_int_equal(count(r)->refused_direction, 1);
    assert_int_equal(count(r)->refused_pfn, 2 + 1);
    assert_int_equal(count(r)->refused_long, 1);
    assert_event(r, 2, EV_RELEASE, 2049, 1);
    assert_event(r, 3, EV_RELEASE, FRAMES - 1, 1);
    assert_int_equal(r->nev, 4);
    assert_int_equal(used(r, REPORT), 7);
    rig_free(r);
}

/* With poison a page keeps its value: it is acknowledged and not touched. */
static void poisoned_pages_stay(void **state)
{
    (void)state;
    for (unsigned val = 0; val < 2; val++) {
        struct rig *r = rig_new(&all, &rig_ops);
        rig_features(r, ALL | VIRTIO_F_VERSION_1);
        for (uint32_t q = 0; q < r->d->queues; q++)
            rig_queue(r, q);
        set(r, VIRTIO_MMIO_CONFIG + 12, val * 0xaaaaaaaau);
        rig_driver_ok(r);
        memset(r->mem + 2048 * 4096, 0xaa, 4096);
        put_pages(r, REPORT, 2048, 1);
        kick(r, REPORT);
        assert_int_equal(used(r, REPORT), 1);
        assert_int_equal(r->mem[2048 * 4096], val ? 0xaa : 0);
        assert_int_equal(count(r)->reported_kept, val);
        send_pfns(r, INFLATE, 2048, 1, 1); /* a ballooned one is rewritten by the guest */
        assert_int_equal(r->mem[2048 * 4096], 0);
        rig_free(r);
    }
}

static void parts_of_large_pages_are_kept_under_defer(void **state)
{
    (void)state;
    struct rig *r = rig_new(&defer, &rig_ops);
    rig_start(r, PLAIN);
    put_pages(r, REPORT, 2000, 48 + 512 + 10); /* the end of block 3, block 4, some of 5 */
    kick(r, REPORT);
    assert_event(r, 0, EV_RELEASE, 2048, 512);
    assert_int_equal(count(r)->reported_kept, 58);
    put_pages(r, REPORT, 2600, 10);
    kick(r, REPORT);
    assert_int_equal(r->nev, 1);
    assert_int_equal(count(r)->reported_kept, 68);
    rig_free(r);
}

/* ---- hints ---- */
static void put_id(struct rig *r, uint32_t id) { put_one(r, HINT, pfns(r, id, 0, 1), 4, false); }

static void hints_are_taken_under_the_current_id(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops); /* an owner that cannot tell writes: recorded only */
    assert_false(balloon_hint_start(r->b));
    rig_start(r, PLAIN);
    put_pages(r, HINT, 2000, 8); /* before any command */
    kick(r, HINT);
    assert_int_equal(count(r)->hinted_stale, 8);
    assert_true(balloon_hint_start(r->b));
    assert_int_equal(cfg32(r, 8), 2);
    put_id(r, 2);
    put_pages(r, HINT, 2000, 8);
    put_pages(r, HINT, 2008, 8);
    kick(r, HINT);
    assert_event(r, 0, EV_HINTED, 2000, 16);
    assert_int_equal(count(r)->hinted, 16);
    balloon_hint_stop(r->b);
    assert_int_equal(cfg32(r, 8), VIRTIO_BALLOON_CMD_ID_STOP);
    put_pages(r, HINT, 2016, 8); /* was on its way */
    put_id(r, VIRTIO_BALLOON_CMD_ID_STOP);
    kick(r, HINT);
    assert_int_equal(count(r)->hinted_stale, 16);
    assert_true(balloon_hint_start(r->b));
    assert_int_equal(cfg32(r, 8), 3);
    put_id(r, 2); /* the old one */
    put_pages(r, HINT, 2000, 8);
    kick(r, HINT);
    assert_int_equal(count(r)->hinted_stale, 24);
    put_id(r, 3);
    put_pages(r, HINT, 2000, 8);
    kick(r, HINT);
    assert_int_equal(count(r)->hinted, 24);
    balloon_hint_done(r->b);
    assert_int_equal(cfg32(r, 8), VIRTIO_BALLOON_CMD_ID_DONE);
    put_id(r, VIRTIO_BALLOON_CMD_ID_DONE); /* no id to hint under */
    put_pages(r, HINT, 2000, 8);
    kick(r, HINT);
    assert_int_equal(count(r)->hinted, 24);
    assert_int_equal(count(r)->hinted_stale, 32);
    assert_int_equal(count(r)->hinted_released, 0);
    put_one(r, HINT, BUFFERS, 3, false);
    put_one(r, HINT, FRAMES * 4096, 4, false);
    kick(r, HINT);
    assert_int_equal(count(r)->refused_partial, 1);
    assert_int_equal(count(r)->refused_memory, 1);
    rig_free(r);
}

/* The known race. The guest hints pages, takes two of them back and writes before the device sees the hint. A device that
 * believed the hint would clear them; here only what was not written since the command is released. */
static void the_hint_race_does_not_corrupt(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_hint_ops);
    rig_start(r, PLAIN);
    memset(r->mem + 2000 * 4096, 7, 8 * 4096);
    assert_true(balloon_hint_start(r->b));
    assert_event(r, 0, EV_HINT_BEGIN, 0, 0);
    put_id(r, 2);
    put_pages(r, HINT, 2000, 8);
    for (unsigned i = 2003; i < 2005; i++) { /* taken back, in use */
        memset(r->mem + i * 4096, 9, 4096);
        r->written[i] = true;
    }
    kick(r, HINT);
    for (unsigned i = 2000; i < 2008; i++)
        assert_int_equal(r->mem[i * 4096], i == 2003 || i == 2004 ? 9 : 0);
    assert_int_equal(count(r)->hinted, 8);
    assert_int_equal(count(r)->hinted_released, 6);
    /* After DONE nothing is touched, whatever still comes. */
    put_pages(r, HINT, 2003, 2);
    memset(r->written, 0, sizeof r->written);
    balloon_hint_done(r->b);
    kick(r, HINT);
    assert_int_equal(r->mem[2003 * 4096], 9);
    assert_int_equal(count(r)->hinted_released, 6);
    rig_free(r);
}

/* ---- saving and restoring ---- */
/* In the middle of an inflation: 300 of 1,000 pages given, buffers available of which the device has not been told, a
 * deferred large page half full, a statistics buffer held, an interrupt pending. A second device goes on with copies of
 * state and memory; the first goes on too, and both end up alike. */
static void finish(struct rig *r)
{
    kick(r, INFLATE);
    send_pfns(r, INFLATE, 2348, 1, 212);
    send_pfns(r, DEFLATE, 2048, 1, 100);
    assert_true(balloon_ask_stats(r->b));
}

static void saved_in_the_middle_of_an_inflation(void **state)
{
    (void)state;
    struct rig *a = rig_new(&defer, &rig_ops), *c = rig_new(&defer, &rig_ops);
    struct virtio_balloon_stat s = {VIRTIO_BALLOON_S_MEMFREE, 77};
    size_t bytes = balloon_state_bytes(FRAMES);
    rig_start(a, PLAIN);
    balloon_set_target(a->b, 1000);
    put_one(a, STATS, stats_buffer(a, &s, 1), 10, false);
    kick(a, STATS);
    send_pfns(a, INFLATE, 2048, 1, 300);
    put_pfns(a, INFLATE, 3000, 1, 50); /* available, not notified */
    struct balloon_state *saved = malloc(bytes);
    assert_non_null(saved);
    memcpy(saved, a->b->state, bytes);
    assert_null(balloon_restore(c->b, saved, bytes));
    assert_true(c->line);
    memcpy(c->mem, a->mem, FRAMES * 4096);
    memcpy(c->desc, a->desc, sizeof c->desc);
    c->buffer = a->buffer;
    a->nev = c->nev = 0;
    finish(a);
    finish(c);
    assert_int_equal(a->nev, 2); /* block 4 complete, 100 pages back */
    assert_int_equal(c->nev, a->nev);
    assert_memory_equal(a->ev, c->ev, sizeof a->ev[0] * a->nev);
    assert_memory_equal(a->b->state, c->b->state, bytes);
    assert_memory_equal(a->mem, c->mem, FRAMES * 4096);
    assert_int_equal(c->b->state->pages, 300 + 50 + 212 - 100);
    assert_int_equal(c->b->state->stats[VIRTIO_BALLOON_S_MEMFREE], 77);
    free(saved);
    rig_free(a);
    rig_free(c);
}

static void a_state_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    size_t bytes = balloon_state_bytes(FRAMES);
    struct balloon_state *s = malloc(bytes), *before = r->b->state;
    assert_non_null(s);
    rig_start(r, PLAIN);
    send_pfns(r, INFLATE, 2000, 1, 5);
    memcpy(s, r->b->state, bytes);
    assert_non_null(balloon_restore(r->b, s, bytes - 8));
    s->pages++;
    assert_non_null(balloon_restore(r->b, s, bytes));
    s->pages--;
    s->virtio.queue[0].num = 3;
    assert_non_null(balloon_restore(r->b, s, bytes));
    s->virtio.queue[0].num = QUEUE_SIZE;
    s->virtio.queue[1].avail_idx++;
    assert_non_null(balloon_restore(r->b, s, bytes));
    s->virtio.queue[1].avail_idx--;
    s->frames++;
    assert_non_null(balloon_restore(r->b, s, bytes));
    s->frames--;
    assert_ptr_equal(r->b->state, before);
    assert_null(balloon_restore(r->b, s, bytes));
    free(s);
    rig_free(r);
}

/* ---- the set that sorts ---- */
static void a_set_gives_sorted_ranges(void **state)
{
    (void)state;
    static bool in[10000];
    struct pageset s;
    struct rng g;
    rng_seed(&g, 3);
    pageset_init(&s, 9999);
    for (unsigned round = 0; round < 200; round++) {
        uint64_t pages = 0, at = 0, first, n, i = 0;
        memset(in, 0, sizeof in);
        for (unsigned k = 0; k < 30; k++) {
            first = rng_below(&g, 9999);
            n = 1 + rng_below(&g, k % 3 ? 3 : 9999 - first);
            n = n < 9999 - first ? n : 9999 - first;
            pageset_add(&s, first, n);
            for (uint64_t p = first; p < first + n; p++) {
                pages += !in[p];
                in[p] = true;
            }
            n = 0;
            if (k % 10 == 9 && round % 2)
                break;
        }
        assert_int_equal(s.count, pages);
        assert_null(pageset_check(&s));
        while (pageset_range(&s, &at, &first, &n)) {
            for (; i < first; i++)
                assert_false(in[i]);
            for (; i < first + n; i++)
                assert_true(in[i]);
            assert_false(in[i]); /* in[9999] is never set */
        }
        for (; i < 9999; i++)
            assert_false(in[i]);
        pageset_empty(&s);
        assert_null(pageset_check(&s));
        assert_int_equal(s.count, 0);
    }
    pageset_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_go_and_come_back),
        cmocka_unit_test(one_notification_is_one_batch),
        cmocka_unit_test(a_large_batch),
        cmocka_unit_test(pages_not_to_be_had_are_refused),
        cmocka_unit_test(odd_buffers_are_refused),
        cmocka_unit_test(a_pfn_across_segments),
        cmocka_unit_test(a_host_that_refuses),
        cmocka_unit_test(deflating_below_the_target),
        cmocka_unit_test(a_reset_empties_the_balloon),
        cmocka_unit_test(a_hole_splits_a_large_page_once),
        cmocka_unit_test(a_hole_is_deferred_until_the_page_is_complete),
        cmocka_unit_test(complete_pages_are_merged),
        cmocka_unit_test(nothing_is_deferred_without_must_tell_host),
        cmocka_unit_test(the_last_part_of_memory),
        cmocka_unit_test(statistics_come_when_asked),
        cmocka_unit_test(statistics_are_not_believed),
        cmocka_unit_test(reported_pages_are_released),
        cmocka_unit_test(poisoned_pages_stay),
        cmocka_unit_test(parts_of_large_pages_are_kept_under_defer),
        cmocka_unit_test(hints_are_taken_under_the_current_id),
        cmocka_unit_test(the_hint_race_does_not_corrupt),
        cmocka_unit_test(saved_in_the_middle_of_an_inflation),
        cmocka_unit_test(a_state_that_does_not_fit_is_refused),
        cmocka_unit_test(a_set_gives_sorted_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
