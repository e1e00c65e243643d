/* test_balloon_driver.c: the balloon's driver, on a device that stops answering.
 *
 * The kernel here has single free frames and keeps what it is told to keep on stacks; the device is the real one behind
 * its registers, until notifications no longer reach it.
 * link: base memmgr balloon vmm/virtio_mmio
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "balloon/driver.h"
#include "balloon_rig.h"

enum { FREE = 1024, SOME = 600 }; /* the first free frame; three chains' worth of pages */

struct kernel {
    struct rig *r;
    bool deaf;          /* the device hears no notification */
    uint64_t own, next; /* frames for the driver, for the balloon */
    struct {
        gfn_t f[2 * SOME];
        unsigned order[2 * SOME], n;
    } list[BALLOON_KEEPS];
    uint64_t given, reported, unreported;
};

static uint32_t k_reg(void *ctx, uint32_t at) { return reg(((struct kernel *)ctx)->r, at); }
static void k_set(void *ctx, uint32_t at, uint32_t v)
{
    struct kernel *k = ctx;
    if (at != VIRTIO_MMIO_QUEUE_NOTIFY || !k->deaf)
        set(k->r, at, v);
}
static uint64_t k_load(void *ctx, gpa_t at, unsigned n)
{
    uint64_t v = 0;
    memcpy(&v, ((struct kernel *)ctx)->r->mem + at, n);
    return v;
}
static void k_store(void *ctx, gpa_t at, unsigned n, uint64_t v)
{
    memcpy(((struct kernel *)ctx)->r->mem + at, &v, n);
}
static bool k_frame(void *ctx, gfn_t *out)
{
    *out = gfn(((struct kernel *)ctx)->own++);
    return true;
}
static bool k_take(void *ctx, unsigned order, gfn_t *out)
{
    struct kernel *k = ctx;
    *out = gfn(k->next);
    k->next += 1ull << order;
    return true;
}
static void k_keep(void *ctx, enum balloon_keep which, gfn_t f, unsigned order)
{
    struct kernel *k = ctx;
    unsigned n = k->list[which].n++;
    assert_true(n < 2 * SOME);
    k->list[which].f[n] = f;
    k->list[which].order[n] = order;
}
static bool k_kept(void *ctx, enum balloon_keep which, gfn_t *out, unsigned *order)
{
    struct kernel *k = ctx;
    if (!k->list[which].n)
        return false;
    unsigned n = --k->list[which].n;
    *out = k->list[which].f[n];
    *order = k->list[which].order[n];
    return true;
}
static void k_give(void *ctx, gfn_t f, unsigned order)
{
    (void)f;
    ((struct kernel *)ctx)->given += 1ull << order;
}
static bool k_unreported(void *ctx, gfn_t *out, unsigned *order)
{
    struct kernel *k = ctx;
    *order = 0;
    return k->unreported && k->unreported-- && k_take(ctx, 0, out);
}
static void k_reported(void *ctx, gfn_t f, unsigned order)
{
    (void)f;
    ((struct kernel *)ctx)->reported += 1ull << order;
}
static void k_statistics(void *ctx, uint64_t *stat)
{
    (void)ctx;
    stat[VIRTIO_BALLOON_S_MEMFREE] = 1;
}
static bool k_wait(void *ctx)
{
    (void)ctx;
    return false;
}
static const struct balloon_os os = {k_reg,      k_set,        k_load, k_store, k_frame,
                                     k_take,     k_keep,       k_kept, k_give,  k_unreported,
                                     k_reported, k_statistics, k_wait};

static void start(struct kernel *k, struct balloon_driver *d)
{
    static const struct balloon_config all = {.features = VIRTIO_BALLOON_F_ALL, .frames = FRAMES};
    *k = (struct kernel){.r = rig_new(&all, &rig_ops), .own = 1, .next = FREE};
    assert_true(balloon_driver_start(d, &os, k, &(struct balloon_driver_config){.order = 0}));
    balloon_set_target(k->r->b, SOME);
    balloon_driver_interrupt(d);
    assert_int_equal(d->actual, SOME);
    assert_null(balloon_driver_check(d, k->list[BALLOON_HELD].n));
}

/* The device may still hold what it did not answer for: none of it is used again. */
static void deflated_pages_wait_for_the_answer(void **state)
{
    struct kernel *k = calloc(1, sizeof *k);
    struct balloon_driver d;
    (void)state;
    for (unsigned oom = 0; oom < 2; oom++) {
        start(k, &d);
        k->deaf = true;
        balloon_set_target(k->r->b, 0);
        if (oom)
            assert_false(balloon_driver_oom(&d, 1));
        else
            balloon_driver_interrupt(&d);
        assert_true(d.broken);
        assert_int_equal(k->given, 0);
        assert_int_equal(d.count.deflated, 0);
        assert_int_equal(d.actual, SOME);
        assert_int_equal(k->list[BALLOON_HELD].n, SOME);
        for (unsigned i = 0; i < SOME; i++) /* as they lay before */
            assert_int_equal(k->list[BALLOON_HELD].f[i].n, FREE + i);
        assert_null(balloon_driver_check(&d, k->list[BALLOON_HELD].n));
        rig_free(k->r);
    }
    free(k);
}

static void answered_pages_are_given_back(void **state)
{
    struct kernel *k = calloc(1, sizeof *k);
    struct balloon_driver d;
    (void)state;
    start(k, &d);
    balloon_set_target(k->r->b, 100);
    balloon_driver_interrupt(&d);
    assert_int_equal(k->given, SOME - 100);
    assert_int_equal(d.count.deflated, SOME - 100);
    assert_int_equal(k->r->b->state->pages, 100);
    rig_free(k->r);
    free(k);
}

static void reports_count_when_answered(void **state)
{
    struct kernel *k = calloc(1, sizeof *k);
    struct balloon_driver d;
    (void)state;
    start(k, &d);
    k->unreported = 8;
    assert_true(balloon_driver_report(&d));
    assert_int_equal(k->reported, 8);
    assert_int_equal(d.count.reported, 8);
    k->unreported = 8;
    k->deaf = true;
    assert_false(balloon_driver_report(&d));
    assert_int_equal(k->reported, 8);
    assert_int_equal(d.count.reported, 8);
    assert_int_equal(k->given, 0); /* it may still be discarded */
    assert_int_equal(k->list[BALLOON_HINTED].n, 8);
    rig_free(k->r);
    free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answered_pages_are_given_back),
        cmocka_unit_test(deflated_pages_wait_for_the_answer),
        cmocka_unit_test(reports_count_when_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
