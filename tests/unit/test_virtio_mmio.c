/* test_virtio_mmio.c: registers, handshake, queues and the interrupt line of a virtio device, and what is refused.
 * link: base memmgr balloon vmm/virtio_mmio
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "balloon_rig.h"

#define ALL VIRTIO_BALLOON_F_ALL
static const struct balloon_config all = {.features = ALL, .frames = FRAMES};

static void a_balloon_introduces_itself(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    assert_int_equal(reg(r, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    assert_int_equal(reg(r, VIRTIO_MMIO_VERSION), 2);
    assert_int_equal(reg(r, VIRTIO_MMIO_DEVICE_ID), 5);
    assert_int_equal(reg(r, VIRTIO_MMIO_DEVICE_FEATURES), 0x3f);
    set(r, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    assert_int_equal(reg(r, VIRTIO_MMIO_DEVICE_FEATURES), 1 | 1 << 8); /* VERSION_1, RING_RESET */
    set(r, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    assert_int_equal(reg(r, VIRTIO_MMIO_DEVICE_FEATURES), 0);
    for (uint32_t q = 0; q < 7; q++) {
        set(r, VIRTIO_MMIO_QUEUE_SEL, q);
        assert_int_equal(reg(r, VIRTIO_MMIO_QUEUE_NUM_MAX), q < 5 ? 256 : 0);
        assert_int_equal(reg(r, VIRTIO_MMIO_QUEUE_READY), 0);
    }
    assert_int_equal(reg(r, VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
    assert_int_equal(reg(r, VIRTIO_MMIO_SHM_BASE_HIGH), UINT32_MAX);
    assert_int_equal(refused_all(r), 0);
    rig_free(r);
}

/* Queues are numbered over the features that are offered. */
static void queues_are_dense(void **state)
{
    (void)state;
    static const struct {
        uint64_t features;
        int queue[BALLOON_ROLES];
    } want[] = {
        {0, {0, 1, -1, -1, -1}},
        {ALL, {0, 1, 2, 3, 4}},
        {VIRTIO_BALLOON_F_REPORTING, {0, 1, -1, -1, 2}},
        {VIRTIO_BALLOON_F_FREE_PAGE_HINT | VIRTIO_BALLOON_F_REPORTING, {0, 1, -1, 2, 3}},
        {VIRTIO_BALLOON_F_STATS_VQ | VIRTIO_BALLOON_F_REPORTING, {0, 1, 2, -1, 3}},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
        struct balloon_config cfg = {.features = want[i].features, .frames = FRAMES};
        struct rig *r = rig_new(&cfg, &rig_ops);
        int last = 0;
        for (unsigned k = 0; k < BALLOON_ROLES; k++) {
            assert_int_equal(balloon_queue(cfg.features, (enum balloon_role)k), want[i].queue[k]);
            last = want[i].queue[k] > last ? want[i].queue[k] : last;
        }
        assert_int_equal(r->d->queues, last + 1);
        rig_free(r);
    }
}

static void the_handshake(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, ALL);
    assert_int_equal(refused_all(r), 0);
    assert_int_equal(r->d->state->driver_features, ALL | VIRTIO_F_VERSION_1);
    set(r, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(reg(r, VIRTIO_MMIO_STATUS), 0);
    assert_int_equal(reg(r, VIRTIO_MMIO_QUEUE_READY), 0);
    assert_int_equal(r->d->state->driver_features, 0);
    rig_start(r, 0); /* once more, with less */
    assert_int_equal(refused_all(r), 0);
    rig_free(r);
}

static void features_are_refused(void **state)
{
    (void)state;
    const struct balloon_config two = {.features = 3, .frames = FRAMES};
    struct rig *r = rig_new(&two, &rig_ops);
    rig_features(r, VIRTIO_F_VERSION_1 | VIRTIO_BALLOON_F_REPORTING); /* not offered */
    assert_int_equal(reg(r, VIRTIO_MMIO_STATUS), 3);
    rig_features(r, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC);
    assert_int_equal(reg(r, VIRTIO_MMIO_STATUS), 3);
    rig_features(r, 1); /* a legacy driver */
    assert_int_equal(reg(r, VIRTIO_MMIO_STATUS), 3);
    assert_int_equal(refused(r, VIRTIO_REFUSED_FEATURES), 3);
    set(r, VIRTIO_MMIO_STATUS, 3 | VIRTIO_STATUS_DRIVER_OK); /* without FEATURES_OK */
    assert_int_equal(reg(r, VIRTIO_MMIO_STATUS), 3);
    assert_int_equal(refused(r, VIRTIO_REFUSED_STATUS), 1);
    rig_features(r, VIRTIO_F_VERSION_1 | 3);
    assert_int_equal(reg(r, VIRTIO_MMIO_STATUS), 11);
    set(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0); /* too late */
    set(r, VIRTIO_MMIO_DRIVER_FEATURES, 0);
    assert_int_equal(refused(r, VIRTIO_REFUSED_ORDER), 1);
    assert_int_equal(r->d->state->driver_features, VIRTIO_F_VERSION_1 | 3);
    assert_int_equal(refused_all(r), 5);
    rig_free(r);
}

static void status_bits_are_only_added_in_order(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    set(r, VIRTIO_MMIO_STATUS, VIRTIO_STATUS_DRIVER);
    assert_int_equal(reg(r, VIRTIO_MMIO_STATUS), 0);
    set(r, VIRTIO_MMIO_STATUS, 1);
    set(r, VIRTIO_MMIO_STATUS, 1 | 16); /* no such bit */
    set(r, VIRTIO_MMIO_STATUS, 1 | VIRTIO_STATUS_DEVICE_NEEDS_RESET);
    set(r, VIRTIO_MMIO_STATUS, 2); /* takes 1 back */
    assert_int_equal(reg(r, VIRTIO_MMIO_STATUS), 1);
    assert_int_equal(refused(r, VIRTIO_REFUSED_STATUS), 4);
    set(r, VIRTIO_MMIO_STATUS, 1 | VIRTIO_STATUS_FAILED); /* allowed at any time */
    assert_int_equal(reg(r, VIRTIO_MMIO_STATUS), 129);
    assert_int_equal(refused_all(r), 4);
    rig_free(r);
}

static void registers_have_one_width_and_direction(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    static const unsigned widths[] = {0, 1, 2, 3, 5, 8, 16};
    for (unsigned i = 0; i < ARRAY_SIZE(widths); i++) {
        assert_int_equal(virtio_mmio_read(r->d, VIRTIO_MMIO_MAGIC_VALUE, widths[i]), 0);
        virtio_mmio_write(r->d, VIRTIO_MMIO_STATUS, widths[i], 1);
    }
    assert_int_equal(virtio_mmio_read(r->d, 2, 4), 0); /* unaligned */
    assert_int_equal(refused(r, VIRTIO_REFUSED_WIDTH), 15);
    assert_int_equal(reg(r, VIRTIO_MMIO_STATUS), 0);
    static const uint64_t write_only[] = {VIRTIO_MMIO_DEVICE_FEATURES_SEL,
                                          VIRTIO_MMIO_DRIVER_FEATURES,
                                          VIRTIO_MMIO_QUEUE_SEL,
                                          VIRTIO_MMIO_QUEUE_NUM,
                                          VIRTIO_MMIO_QUEUE_NOTIFY,
                                          VIRTIO_MMIO_INTERRUPT_ACK,
                                          VIRTIO_MMIO_QUEUE_DESC_LOW,
                                          0x018,
                                          0x0f8};
    for (unsigned i = 0; i < ARRAY_SIZE(write_only); i++)
        assert_int_equal(reg(r, write_only[i]), 0);
    assert_int_equal(refused(r, VIRTIO_REFUSED_REGISTER), 9);
    static const uint64_t read_only[] = {VIRTIO_MMIO_MAGIC_VALUE,      VIRTIO_MMIO_DEVICE_FEATURES,
                                         VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_QUEUE_NUM_MAX,
                                         VIRTIO_MMIO_SHM_LEN_LOW,      0x0fc};
    for (unsigned i = 0; i < ARRAY_SIZE(read_only); i++)
        set(r, read_only[i], 1);
    assert_int_equal(refused(r, VIRTIO_REFUSED_REGISTER), 15);
    rig_free(r);
}

/* Any width and place inside it is right; not one byte beyond. */
static void configuration_is_read_in_any_width(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    balloon_set_target(r->b, 0x123);
    assert_int_equal(cfg32(r, 0), 0x123);
    assert_int_equal(virtio_mmio_read(r->d, VIRTIO_MMIO_CONFIG, 1), 0x23);
    assert_int_equal(virtio_mmio_read(r->d, VIRTIO_MMIO_CONFIG + 1, 2), 1);
    assert_int_equal(virtio_mmio_read(r->d, VIRTIO_MMIO_CONFIG, 8), 0x123);
    assert_int_equal(virtio_mmio_read(r->d, VIRTIO_MMIO_CONFIG + 8, 8), 0);
    assert_int_equal(refused_all(r), 0);
    assert_int_equal(virtio_mmio_read(r->d, VIRTIO_MMIO_CONFIG + 9, 8), 0);
    assert_int_equal(virtio_mmio_read(r->d, VIRTIO_MMIO_CONFIG + 16, 1), 0);
    assert_int_equal(virtio_mmio_read(r->d, UINT64_MAX, 8), 0);
    assert_int_equal(refused(r, VIRTIO_REFUSED_CONFIG), 3);
    rig_free(r);
}

static void only_the_drivers_fields_are_written(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_features(r, ALL | VIRTIO_F_VERSION_1);
    balloon_set_target(r->b, 100);
    set(r, VIRTIO_MMIO_CONFIG + 4, 0x01020304);
    virtio_mmio_write(r->d, VIRTIO_MMIO_CONFIG + 5, 1,
                      0xff); /* byte by byte, as legacy drivers did */
    virtio_mmio_write(r->d, VIRTIO_MMIO_CONFIG + 6, 2, 0xaaaa);
    assert_int_equal(cfg32(r, 4), 0xaaaaff04);
    set(r, VIRTIO_MMIO_CONFIG + 12, 0xdeadbeef);
    assert_int_equal(cfg32(r, 12), 0xdeadbeef);
    assert_int_equal(refused_all(r), 0);
    set(r, VIRTIO_MMIO_CONFIG + 0, 7);                              /* num_pages */
    set(r, VIRTIO_MMIO_CONFIG + 8, 7);                              /* the hint command */
    virtio_mmio_write(r->d, VIRTIO_MMIO_CONFIG, 8, UINT64_MAX);     /* both halves */
    virtio_mmio_write(r->d, VIRTIO_MMIO_CONFIG + 4, 8, UINT64_MAX); /* actual and more */
    virtio_mmio_write(r->d, VIRTIO_MMIO_CONFIG + 3, 2, UINT64_MAX); /* across two fields */
    virtio_mmio_write(r->d, VIRTIO_MMIO_CONFIG + 16, 4, 7);
    virtio_mmio_write(r->d, UINT64_MAX - 3, 4, 7);
    assert_int_equal(refused(r, VIRTIO_REFUSED_CONFIG), 7);
    rig_driver_ok(r);
    set(r, VIRTIO_MMIO_CONFIG + 12, 1); /* poison after DRIVER_OK (5.5.6.6) */
    assert_int_equal(refused(r, VIRTIO_REFUSED_CONFIG), 8);
    assert_int_equal(cfg32(r, 0), 100);
    assert_int_equal(cfg32(r, 4), 0xaaaaff04);
    assert_int_equal(cfg32(r, 8), 0);
    assert_int_equal(cfg32(r, 12), 0xdeadbeef);
    rig_free(r);
}

static void a_live_queue_keeps_its_shape(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, ALL);
    struct virtq before = r->d->state->queue[0];
    set(r, VIRTIO_MMIO_QUEUE_SEL, 0);
    set(r, VIRTIO_MMIO_QUEUE_NUM, 8);
    set(r, VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
    set(r, VIRTIO_MMIO_QUEUE_DRIVER_HIGH, 1);
    set(r, VIRTIO_MMIO_QUEUE_DEVICE_LOW, 4);
    set(r, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_int_equal(refused(r, VIRTIO_REFUSED_QUEUE_LIVE), 5);
    assert_memory_equal(&before, &r->d->state->queue[0], sizeof before);
    set(r, VIRTIO_MMIO_QUEUE_READY, 0);
    assert_int_equal(reg(r, VIRTIO_MMIO_QUEUE_READY), 0);
    assert_int_equal(refused_all(r), 5);
    rig_queue(r, 0); /* and may be set up anew */
    assert_int_equal(refused_all(r), 5);
    rig_free(r);
}

static void odd_queues_are_refused(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    set(r, VIRTIO_MMIO_QUEUE_NUM, 8); /* before FEATURES_OK */
    assert_int_equal(refused(r, VIRTIO_REFUSED_ORDER), 1);
    rig_features(r, ALL | VIRTIO_F_VERSION_1);
    static const uint32_t sizes[] = {0, 3, 512, 65536, 65536 + 8, UINT32_MAX};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        set(r, VIRTIO_MMIO_QUEUE_NUM, sizes[i]);
        set(r, VIRTIO_MMIO_QUEUE_READY, 1);
        assert_int_equal(reg(r, VIRTIO_MMIO_QUEUE_READY), 0);
    }
    set(r, VIRTIO_MMIO_QUEUE_NUM, 8);
    set(r, VIRTIO_MMIO_QUEUE_DESC_LOW, 8); /* unaligned */
    set(r, VIRTIO_MMIO_QUEUE_READY, 1);
    set(r, VIRTIO_MMIO_QUEUE_DESC_LOW, 0xfffffff0); /* around the end */
    set(r, VIRTIO_MMIO_QUEUE_DESC_HIGH, UINT32_MAX);
    set(r, VIRTIO_MMIO_QUEUE_READY, 1);
    set(r, VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
    set(r, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0);
    set(r, VIRTIO_MMIO_QUEUE_READY, 2);
    assert_int_equal(refused(r, VIRTIO_REFUSED_QUEUE_INVALID), 9);
    set(r, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_int_equal(reg(r, VIRTIO_MMIO_QUEUE_READY), 1);
    set(r, VIRTIO_MMIO_QUEUE_SEL, 5); /* no such queue */
    set(r, VIRTIO_MMIO_QUEUE_NUM, 8);
    set(r, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_int_equal(refused(r, VIRTIO_REFUSED_QUEUE), 2);
    set(r, VIRTIO_MMIO_QUEUE_SEL, 0);
    set(r, VIRTIO_MMIO_QUEUE_RESET, 1); /* RING_RESET was not accepted */
    assert_int_equal(refused(r, VIRTIO_REFUSED_ORDER), 2);
    rig_free(r);
}

static void a_queue_is_reset_alone(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, VIRTIO_F_RING_RESET);
    set(r, VIRTIO_MMIO_QUEUE_SEL, 1);
    set(r, VIRTIO_MMIO_QUEUE_RESET, 2);
    assert_int_equal(refused(r, VIRTIO_REFUSED_QUEUE_INVALID), 1);
    set(r, VIRTIO_MMIO_QUEUE_RESET, 1);
    assert_int_equal(reg(r, VIRTIO_MMIO_QUEUE_RESET), 0);
    assert_int_equal(reg(r, VIRTIO_MMIO_QUEUE_READY), 0);
    set(r, VIRTIO_MMIO_QUEUE_SEL, 0);
    assert_int_equal(reg(r, VIRTIO_MMIO_QUEUE_READY), 1);
    rig_queue(r, 1);
    assert_int_equal(refused_all(r), 1);
    rig_free(r);
}

static void notifications_of_no_queue_are_refused(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    kick(r, 0); /* not ready */
    rig_start(r, ALL & ~VIRTIO_BALLOON_F_REPORTING);
    kick(r, 5);
    kick(r, UINT32_MAX);
    assert_int_equal(refused(r, VIRTIO_REFUSED_NOTIFY), 3);
    kick(r, 4); /* reporting: offered, not accepted */
    assert_int_equal(refused(r, VIRTIO_REFUSED_NOTIFY), 4);
    assert_int_equal(refused_all(r), 4);
    rig_free(r);
}

/* Linux's balloon driver kicks its statistics queue before it sets DRIVER_OK. */
static void an_early_notification_is_not_lost(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_features(r, ALL | VIRTIO_F_VERSION_1);
    rig_queue(r, 0);
    send_pfns(r, 0, 2000, 1, 3);
    assert_int_equal(used(r, 0), 0);
    assert_int_equal(r->nev, 0);
    rig_driver_ok(r);
    assert_int_equal(used(r, 0), 1);
    assert_int_equal(r->b->state->pages, 3);
    assert_int_equal(refused_all(r), 0);
    rig_free(r);
}

static void interrupts_are_a_level(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    balloon_set_target(r->b, 1); /* no driver yet: nobody is told */
    assert_false(r->line);
    rig_start(r, ALL);
    uint32_t generation = reg(r, VIRTIO_MMIO_CONFIG_GENERATION);
    balloon_set_target(r->b, 2);
    assert_true(r->line);
    assert_int_equal(reg(r, VIRTIO_MMIO_CONFIG_GENERATION), generation + 1);
    assert_int_equal(reg(r, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INT_CONFIG);
    send_pfns(r, 0, 2000, 1, 1);
    assert_int_equal(reg(r, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INT_CONFIG | VIRTIO_INT_USED);
    set(r, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_INT_CONFIG);
    assert_true(r->line);
    set(r, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_INT_USED);
    assert_false(r->line);
    assert_int_equal(r->rises, 1);
    assert_int_equal(refused_all(r), 0);
    set(r, VIRTIO_MMIO_INTERRUPT_ACK, 0xff);
    assert_int_equal(refused(r, VIRTIO_REFUSED_ACK), 1);
    balloon_set_target(r->b, 2); /* the same: no news */
    assert_false(r->line);
    put16(r, AVAIL(0), VIRTQ_AVAIL_F_NO_INTERRUPT);
    send_pfns(r, 0, 2001, 1, 1);
    assert_int_equal(used(r, 0), 2);
    assert_false(r->line);
    balloon_set_target(r->b, 3);
    set(r, VIRTIO_MMIO_STATUS, 0); /* a reset lowers it */
    assert_false(r->line);
    rig_free(r);
}

/* A broken ring: the device says so, and touches nothing until it is reset. */
static void a_broken_ring_needs_a_reset(void **state)
{
    (void)state;
    struct rig *r = rig_new(&all, &rig_ops);
    rig_start(r, ALL);
    put_desc(r, 0, 0, BUFFERS, 4, VIRTQ_DESC_F_NEXT, 0); /* an endless chain */
    put_avail(r, 0, 0);
    kick(r, 0);
    assert_int_equal(reg(r, VIRTIO_MMIO_STATUS), 15 | VIRTIO_STATUS_DEVICE_NEEDS_RESET);
    assert_int_equal(reg(r, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INT_CONFIG);
    assert_int_equal(refused(r, VIRTIO_REFUSED_RING), 1);
    send_pfns(r, 1, 5, 1, 1);
    assert_int_equal(used(r, 1), 0);
    assert_int_equal(refused(r, VIRTIO_REFUSED_NOTIFY), 1);
    assert_int_equal(r->nev, 0);
    rig_start(r, ALL);
    send_pfns(r, 0, 2000, 1, 1);
    assert_int_equal(used(r, 0), 1);
    assert_int_equal(refused_all(r), 2);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_balloon_introduces_itself),
        cmocka_unit_test(queues_are_dense),
        cmocka_unit_test(the_handshake),
        cmocka_unit_test(features_are_refused),
        cmocka_unit_test(status_bits_are_only_added_in_order),
        cmocka_unit_test(registers_have_one_width_and_direction),
        cmocka_unit_test(configuration_is_read_in_any_width),
        cmocka_unit_test(only_the_drivers_fields_are_written),
        cmocka_unit_test(a_live_queue_keeps_its_shape),
        cmocka_unit_test(odd_queues_are_refused),
        cmocka_unit_test(a_queue_is_reset_alone),
        cmocka_unit_test(notifications_of_no_queue_are_refused),
        cmocka_unit_test(an_early_notification_is_not_lost),
        cmocka_unit_test(interrupts_are_a_level),
        cmocka_unit_test(a_broken_ring_needs_a_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
