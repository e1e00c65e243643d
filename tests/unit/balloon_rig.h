/* balloon_rig.h: a guest of 16 MiB with a small virtio driver, for tests of transport, queues and balloon.
 *
 * The driver speaks to the device through its registers only. Rings of queue q lie at 0x10000 * (q + 1), buffers from
 * BUFFERS on. Every call the device makes of the owner of memory is logged, with the used index at that time.
 */
#ifndef NB_TESTS_BALLOON_RIG_H
#define NB_TESTS_BALLOON_RIG_H

#include <string.h>

#include "balloon/device.h"
#include "base/base.h"
#include "vmm/virtio_mmio.h"

#define FRAMES 4096ull
#define RING(q) (0x10000ull * ((q) + 1))
#define AVAIL(q) (RING(q) + 0x2000)
#define USED(q) (RING(q) + 0x4000)
#define BUFFERS 0x100000ull
#define QUEUE_SIZE 64

enum event_kind { EV_RELEASE, EV_DEFLATED, EV_HINTED, EV_HINT_BEGIN };
struct event {
    enum event_kind kind;
    uint64_t first, n;
    uint16_t used; /* of the inflate queue (release) or of any other, as the guest saw it then */
};

struct rig {
    unsigned char *mem;
    struct guest_mem gm;
    struct balloon *b;
    struct virtio_device *d;
    bool line;
    unsigned rises;
    struct event ev[256];
    unsigned nev;
    bool refuse_release;
    enum balloon_why why; /* of the last release */
    bool written[FRAMES]; /* since hint_begin */
    uint16_t desc[VIRTIO_QUEUES_MAX];
    uint64_t buffer;
};

/* ---- the guest's memory ---- */
static inline bool rig_read(void *ctx, uint64_t gpa, void *buf, uint64_t len)
{
    struct rig *r = ctx;
    if (gpa > FRAMES * 4096 || len > FRAMES * 4096 - gpa)
        return false;
    memcpy(buf, r->mem + gpa, len);
    return true;
}
static inline bool rig_write(void *ctx, uint64_t gpa, const void *buf, uint64_t len)
{
    struct rig *r = ctx;
    if (gpa > FRAMES * 4096 || len > FRAMES * 4096 - gpa)
        return false;
    memcpy(r->mem + gpa, buf, len);
    return true;
}
static inline uint16_t get16(const struct rig *r, uint64_t gpa)
{
    uint16_t v;
    memcpy(&v, r->mem + gpa, sizeof v);
    return v;
}
static inline void put16(struct rig *r, uint64_t gpa, uint16_t v) { memcpy(r->mem + gpa, &v, 2); }

/* ---- its owner ---- */
static inline void rig_log(struct rig *r, enum event_kind kind, uint64_t first, uint64_t n)
{
    struct event e = {kind, first, n, get16(r, USED(0) + 2)};
    assert_true(r->nev < 256);
    r->ev[r->nev++] = e;
}
static inline bool rig_release(void *ctx, gfn_t first, uint64_t n, enum balloon_why why)
{
    struct rig *r = ctx;
    r->why = why;
    assert_true(n && first.n < FRAMES && n <= FRAMES - first.n);
    rig_log(r, EV_RELEASE, first.n, n);
    if (r->refuse_release)
        return false;
    memset(r->mem + first.n * 4096, 0, n * 4096);
    return true;
}
static inline void rig_deflated(void *ctx, gfn_t first, uint64_t n)
{
    rig_log(ctx, EV_DEFLATED, first.n, n);
}
static inline void rig_hinted(void *ctx, gfn_t first, uint64_t n)
{
    rig_log(ctx, EV_HINTED, first.n, n);
}
static inline void rig_hint_begin(void *ctx)
{
    struct rig *r = ctx;
    memset(r->written, 0, sizeof r->written);
    rig_log(r, EV_HINT_BEGIN, 0, 0);
}
static inline uint64_t rig_release_unwritten(void *ctx, gfn_t first, uint64_t n)
{
    struct rig *r = ctx;
    uint64_t released = 0;
    for (uint64_t i = first.n; i < first.n + n; i++)
        if (!r->written[i]) {
            memset(r->mem + i * 4096, 0, 4096);
            released++;
        }
    return released;
}
static const struct balloon_ops rig_ops = {
    .release = rig_release, .deflated = rig_deflated, .hinted = rig_hinted};
static const struct balloon_ops rig_hint_ops = {.release = rig_release,
                                                .deflated = rig_deflated,
                                                .hinted = rig_hinted,
                                                .hint_begin = rig_hint_begin,
                                                .release_unwritten = rig_release_unwritten};

static inline void rig_irq(void *ctx, bool level)
{
    struct rig *r = ctx;
    r->rises += level && !r->line;
    r->line = level;
}

/* ---- life ---- */
static inline struct rig *rig_new(const struct balloon_config *cfg, const struct balloon_ops *ops)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->mem = calloc(FRAMES, 4096);
    assert_non_null(r->mem);
    r->gm = (struct guest_mem){r, rig_read, rig_write};
    r->b = balloon_new(cfg, &r->gm, ops, r, rig_irq, r);
    r->d = balloon_virtio(r->b);
    r->buffer = BUFFERS;
    return r;
}
static inline void rig_free(struct rig *r)
{
    assert_null(balloon_check(r->b));
    balloon_free(r->b);
    free(r->mem);
    free(r);
}

/* ---- registers ---- */
static inline uint32_t reg(struct rig *r, uint64_t at)
{
    return (uint32_t)virtio_mmio_read(r->d, at, 4);
}
static inline void set(struct rig *r, uint64_t at, uint32_t v)
{
    virtio_mmio_write(r->d, at, 4, v);
}
static inline uint32_t cfg32(struct rig *r, uint32_t at) { return reg(r, VIRTIO_MMIO_CONFIG + at); }
static inline uint64_t refused(const struct rig *r, enum virtio_refused why)
{
    return r->d->state->refused[why];
}
static inline uint64_t refused_all(const struct rig *r)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < VIRTIO_REFUSED_COUNT; i++)
        n += r->d->state->refused[i];
    return n;
}

static inline void rig_features(struct rig *r, uint64_t features)
{
    set(r, VIRTIO_MMIO_STATUS, 0);
    set(r, VIRTIO_MMIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE);
    set(r, VIRTIO_MMIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    for (uint32_t i = 0; i < 2; i++) {
        set(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
        set(r, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32 * i));
    }
    set(r, VIRTIO_MMIO_STATUS,
        VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK);
}
static inline void rig_queue(struct rig *r, uint32_t q)
{
    memset(r->mem + RING(q), 0, 0x10000);
    r->desc[q] = 0;
    set(r, VIRTIO_MMIO_QUEUE_SEL, q);
    set(r, VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE);
    set(r, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)RING(q));
    set(r, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0);
    set(r, VIRTIO_MMIO_QUEUE_DRIVER_LOW, (uint32_t)AVAIL(q));
    set(r, VIRTIO_MMIO_QUEUE_DRIVER_HIGH, 0);
    set(r, VIRTIO_MMIO_QUEUE_DEVICE_LOW, (uint32_t)USED(q));
    set(r, VIRTIO_MMIO_QUEUE_DEVICE_HIGH, 0);
    set(r, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_int_equal(reg(r, VIRTIO_MMIO_QUEUE_READY), 1);
}
static inline void rig_driver_ok(struct rig *r)
{
    set(r, VIRTIO_MMIO_STATUS, reg(r, VIRTIO_MMIO_STATUS) | VIRTIO_STATUS_DRIVER_OK);
    assert_int_equal(reg(r, VIRTIO_MMIO_STATUS), 15);
}
/* The whole handshake, accepting of the offer what is in `features`. */
static inline void rig_start(struct rig *r, uint64_t features)
{
    rig_features(r, features | VIRTIO_F_VERSION_1);
    assert_true(reg(r, VIRTIO_MMIO_STATUS) & VIRTIO_STATUS_FEATURES_OK);
    for (uint32_t q = 0; q < r->d->queues; q++)
        rig_queue(r, q);
    rig_driver_ok(r);
}

/* ---- queues ---- */
static inline void put_desc(struct rig *r, unsigned q, uint16_t i, uint64_t gpa, uint32_t len,
                            uint16_t flags, uint16_t next)
{
    struct virtq_desc d = {gpa, len, flags, next};
    memcpy(r->mem + RING(q) + 16 * i, &d, sizeof d);
}
static inline void put_avail(struct rig *r, unsigned q, uint16_t head)
{
    uint16_t idx = get16(r, AVAIL(q) + 2);
    put16(r, AVAIL(q) + 4 + 2 * (idx % QUEUE_SIZE), head);
    put16(r, AVAIL(q) + 2, (uint16_t)(idx + 1));
}
/* A chain of one descriptor, made available. */
static inline void put_one(struct rig *r, unsigned q, uint64_t gpa, uint32_t len, bool writable)
{
    uint16_t i = r->desc[q]++ % QUEUE_SIZE;
    put_desc(r, q, i, gpa, len, writable ? VIRTQ_DESC_F_WRITE : 0, 0);
    put_avail(r, q, i);
}
static inline void kick(struct rig *r, unsigned q) { set(r, VIRTIO_MMIO_QUEUE_NOTIFY, q); }
static inline uint16_t used(const struct rig *r, unsigned q) { return get16(r, USED(q) + 2); }

/* PFNs first, first + step, ... in a buffer of their own; its address. */
static inline uint64_t pfns(struct rig *r, uint32_t first, int32_t step, uint32_t n)
{
    uint64_t at = r->buffer;
    r->buffer += 4 * n;
    for (uint32_t i = 0, pfn = first; i < n; i++, pfn += (uint32_t)step)
        memcpy(r->mem + at + 4 * i, &pfn, 4);
    return at;
}
static inline void put_pfns(struct rig *r, unsigned q, uint32_t first, int32_t step, uint32_t n)
{
    put_one(r, q, pfns(r, first, step, n), 4 * n, false);
}
static inline void send_pfns(struct rig *r, unsigned q, uint32_t first, int32_t step, uint32_t n)
{
    put_pfns(r, q, first, step, n);
    kick(r, q);
}

#define assert_event(r, i, k, f, c)              \
    do {                                         \
        assert_true((i) < (r)->nev);             \
        assert_int_equal((r)->ev[i].kind, (k));  \
        assert_int_equal((r)->ev[i].first, (f)); \
        assert_int_equal((r)->ev[i].n, (c));     \
    } while (0)

#endif
