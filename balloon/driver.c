/* driver.c: the driver of driver.h. Sections are those of virtio 1.2. */
#include "balloon/driver.h"

#include <stddef.h>

#define CONFIG(field) (uint32_t) offsetof(struct virtio_balloon_config, field)

enum { RING_MAX = 64, PFNS_MAX = 256, REPORT_MAX = 32 };

/* A ring's page: descriptors, avail ring, used ring (2.7), for RING_MAX entries. */
enum { AVAIL_AT = 16 * RING_MAX, USED_AT = 2048 };
_Static_assert(AVAIL_AT + 6 + 2 * RING_MAX <= USED_AT, "the avail ring ends before the used ring");

/* The buffer's page. */
enum { PFNS_AT = 0, COMMAND_AT = 4 * PFNS_MAX, STATS_AT = COMMAND_AT + 64 };

struct part {
    gpa_t at;
    uint32_t bytes;
    bool written; /* by the device */
};

static uint32_t reg(struct balloon_driver *d, uint32_t at) { return d->os->reg_read(d->ctx, at); }
static void set_reg(struct balloon_driver *d, uint32_t at, uint32_t v)
{
    d->os->reg_write(d->ctx, at, v);
}
static uint32_t config(struct balloon_driver *d, uint32_t field)
{
    return reg(d, VIRTIO_MMIO_CONFIG + field);
}
static uint64_t load(struct balloon_driver *d, gpa_t at, unsigned n)
{
    return d->os->load(d->ctx, at, n);
}
static void store(struct balloon_driver *d, gpa_t at, unsigned n, uint64_t v)
{
    d->os->store(d->ctx, at, n, v);
}
static bool has(const struct balloon_driver *d, uint64_t feature) { return d->features & feature; }

/* ---- queues ---- */

/* Make a chain available and notify. The one before has been used. */
static void send(struct balloon_driver *d, struct balloon_ring *r, const struct part *part,
                 unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        gpa_t at = r->page + 16 * i;
        unsigned flags =
            (part[i].written ? VIRTQ_DESC_F_WRITE : 0) | (i + 1 < n ? VIRTQ_DESC_F_NEXT : 0);
        store(d, at, 8, part[i].at);
        store(d, at + 8, 4, part[i].bytes);
        store(d, at + 12, 2, flags);
        store(d, at + 14, 2, i + 1 < n ? i + 1 : 0);
    }
    store(d, r->page + AVAIL_AT + 4 + 2 * (r->avail % r->size), 2, 0);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    store(d, r->page + AVAIL_AT + 2, 2, ++r->avail);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    d->count.requests++;
    set_reg(d, VIRTIO_MMIO_QUEUE_NOTIFY, r->index);
}

static bool used(struct balloon_driver *d, const struct balloon_ring *r)
{
    return (uint16_t)load(d, r->page + USED_AT + 2, 2) == r->avail;
}

/* Wait until the chain is used. */
static bool finish(struct balloon_driver *d, const struct balloon_ring *r)
{
    while (!d->broken && !used(d, r))
        d->broken = !d->os->wait(d->ctx);
    return !d->broken;
}

static bool transact(struct balloon_driver *d, unsigned queue, const struct part *part, unsigned n)
{
    struct balloon_ring *r = &d->ring[queue];
    if (d->broken)
        return false;
    send(d, r, part, n);
    return finish(d, r);
}

static bool send_pfns(struct balloon_driver *d, unsigned queue, uint32_t n)
{
    const struct part part = {d->buffer + PFNS_AT, 4 * n, false};
    return transact(d, queue, &part, 1);
}

static void put_pfns(struct balloon_driver *d, uint32_t at, gfn_t first, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        store(d, d->buffer + PFNS_AT + 4 * (at + i), 4, first.n + i);
}

static void set_actual(struct balloon_driver *d, uint32_t pages)
{
    d->actual = pages;
    set_reg(d, VIRTIO_MMIO_CONFIG + CONFIG(actual), pages);
}

/* ---- inflate and deflate (5.5.6.1) ---- */

/* Send a block's pages, as many chains as that takes. */
static bool send_block(struct balloon_driver *d, unsigned queue, gfn_t f, unsigned order)
{
    for (uint32_t at = 0, n; at < 1u << order; at += n) {
        n = (1u << order) - at < PFNS_MAX ? (1u << order) - at : PFNS_MAX;
        put_pfns(d, 0, gfn(f.n + at), n);
        if (!send_pfns(d, queue, n))
            return false;
    }
    return true;
}

static bool inflate_block(struct balloon_driver *d)
{
    unsigned order = d->cfg.order;
    gfn_t f;
    if (!d->os->take(d->ctx, order, &f))
        return false;
    d->os->keep(d->ctx, BALLOON_HELD, f, order);
    d->count.inflated += 1u << order;
    bool ok = send_block(d, BALLOON_INFLATE, f, order);
    set_actual(d, d->actual + (1u << order));
    return ok;
}

/* Up to `want` single pages in one chain. False: the guest has no more, or the device is gone. */
static bool inflate_pages(struct balloon_driver *d, uint32_t want)
{
    uint32_t n = 0;
    gfn_t f;
    for (want = want < PFNS_MAX ? want : PFNS_MAX; n < want && d->os->take(d->ctx, 0, &f); n++) {
        d->os->keep(d->ctx, BALLOON_HELD, f, 0);
        put_pfns(d, n, f, 1);
    }
    if (!n)
        return false;
    d->count.inflated += n;
    bool ok = send_pfns(d, BALLOON_INFLATE, n);
    set_actual(d, d->actual + n);
    return ok && n == want;
}

/* These pages were sent to be deflated: the guest's again, or kept if the device did not answer. Kept last to first,
 * they lie as before. */
static uint32_t come_out(struct balloon_driver *d, bool answered, const gfn_t *f, uint32_t n,
                         unsigned order)
{
    for (uint32_t i = 0; answered && i < n; i++)
        d->os->give(d->ctx, f[i], order);
    for (uint32_t i = n; !answered && i-- > 0;)
        d->os->keep(d->ctx, BALLOON_HELD, f[i], order);
    return answered ? n << order : 0;
}

/* Up to PFNS_MAX pages, and the larger block behind them, come out. */
static bool deflate_some(struct balloon_driver *d, uint32_t want)
{
    gfn_t f[PFNS_MAX];
    uint32_t n = 0, out = 0;
    unsigned order = 0;
    want = want < PFNS_MAX ? want : PFNS_MAX;
    while (n < want && d->os->kept(d->ctx, BALLOON_HELD, &f[n], &order) && !order)
        put_pfns(d, n, f[n], 1), n++;
    bool large = order && n < want, ok = !n || send_pfns(d, BALLOON_DEFLATE, n);
    if (large) {
        bool large_ok = ok && send_block(d, BALLOON_DEFLATE, f[n], order);
        out = come_out(d, large_ok, &f[n], 1, order);
    }
    out += come_out(d, ok, f, n, 0);
    d->count.deflated += out;
    set_actual(d, d->actual - out);
    return !d->broken && out;
}

static void resize(struct balloon_driver *d)
{
    for (bool more = true; more && !d->broken;) {
        uint32_t target = config(d, CONFIG(num_pages)), step = 1u << d->cfg.order;
        if (target >= d->actual + step)
            more = d->cfg.order ? inflate_block(d) : inflate_pages(d, target - d->actual);
        else if (target < d->actual)
            more = deflate_some(d, d->actual - target);
        else
            more = false;
    }
}

bool balloon_driver_oom(struct balloon_driver *d, uint32_t pages)
{
    uint32_t before = d->actual;
    if (d->busy || d->broken || !has(d, VIRTIO_BALLOON_F_DEFLATE_ON_OOM))
        return false;
    d->busy = true;
    while (before - d->actual < pages && d->actual && deflate_some(d, pages))
        ;
    d->busy = false;
    d->count.on_oom += before - d->actual;
    return d->actual < before;
}

/* ---- statistics (5.5.6.3) ---- */
static void send_statistics(struct balloon_driver *d)
{
    enum { ENTRY = 10 };
    uint64_t stat[VIRTIO_BALLOON_S_NR] = {0};
    struct part part = {d->stats, ENTRY * VIRTIO_BALLOON_S_NR, false};
    d->os->statistics(d->ctx, stat);
    for (unsigned i = 0; i < VIRTIO_BALLOON_S_NR; i++) {
        store(d, d->stats + ENTRY * i, 2, i);
        store(d, d->stats + ENTRY * i + 2, 8, stat[i]);
    }
    send(d, &d->ring[BALLOON_STATS], &part, 1);
}

/* ---- free page hinting (5.5.6.5) ---- */
static bool send_command(struct balloon_driver *d, uint32_t id)
{
    const struct part part = {d->buffer + COMMAND_AT, 4, false};
    store(d, part.at, 4, id);
    return transact(d, BALLOON_HINT, &part, 1);
}

/* Hinted pages are the driver's until the device says DONE or STOP: a page that the guest used while the
 * device still acts on the hint would lose what was stored. */
static void take_back_hinted(struct balloon_driver *d)
{
    unsigned order;
    gfn_t f;
    while (d->os->kept(d->ctx, BALLOON_HINTED, &f, &order))
        d->os->give(d->ctx, f, order);
}

/* Hint free blocks until the device wants something else, or there are none. */
static void hint(struct balloon_driver *d, uint32_t id)
{
    gfn_t f;
    if (!send_command(d, id))
        return;
    while (config(d, CONFIG(free_page_hint_cmd_id)) == id &&
           d->os->take(d->ctx, d->cfg.hint_order, &f)) {
        const struct part part = {gfn_gpa(f), PAGE_SIZE << d->cfg.hint_order, true};
        d->count.hinted += 1u << d->cfg.hint_order;
        bool ok = transact(d, BALLOON_HINT, &part, 1);
        d->os->keep(d->ctx, BALLOON_HINTED, f, d->cfg.hint_order);
        if (!ok)
            return;
    }
    send_command(d, VIRTIO_BALLOON_CMD_ID_STOP);
}

static void obey_hinting(struct balloon_driver *d)
{
    uint32_t id = config(d, CONFIG(free_page_hint_cmd_id));
    if (id == d->hint_id)
        return;
    d->hint_id = id;
    take_back_hinted(d);
    if (id != VIRTIO_BALLOON_CMD_ID_STOP && id != VIRTIO_BALLOON_CMD_ID_DONE)
        hint(d, id);
}

/* ---- free page reporting (5.5.6.7) ---- */
bool balloon_driver_report(struct balloon_driver *d)
{
    struct part part[REPORT_MAX];
    unsigned order[REPORT_MAX], n = 0;
    gfn_t f;
    if (d->busy || d->broken || !has(d, VIRTIO_BALLOON_F_REPORTING))
        return false;
    d->busy = true;
    for (; n < REPORT_MAX && d->os->unreported(d->ctx, &f, &order[n]); n++)
        part[n] = (struct part){gfn_gpa(f), PAGE_SIZE << order[n], true};
    bool ok = n && transact(d, BALLOON_REPORT, part, n);
    for (unsigned i = 0; i < n; i++) {
        f = gpa_gfn(part[i].at);
        d->count.reported += ok ? 1u << order[i] : 0;
        if (ok)
            d->os->reported(d->ctx, f, order[i]);
        else /* the device may still discard it */
            d->os->keep(d->ctx, BALLOON_HINTED, f, order[i]);
    }
    d->busy = false;
    return ok;
}

/* ---- the interrupt ---- */
void balloon_driver_interrupt(struct balloon_driver *d)
{
    if (d->busy || d->broken)
        return;
    d->busy = true;
    uint32_t status = reg(d, VIRTIO_MMIO_INTERRUPT_STATUS);
    set_reg(d, VIRTIO_MMIO_INTERRUPT_ACK, status);
    if ((status & VIRTIO_INT_USED) && has(d, VIRTIO_BALLOON_F_STATS_VQ) &&
        used(d, &d->ring[BALLOON_STATS]))
        send_statistics(d);
    if (status & VIRTIO_INT_CONFIG) {
        resize(d);
        if (has(d, VIRTIO_BALLOON_F_FREE_PAGE_HINT))
            obey_hinting(d);
    }
    d->busy = false;
}

/* ---- start (3.1.1, 4.2.3.1) ---- */
static uint64_t offered(struct balloon_driver *d)
{
    set_reg(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    uint64_t high = reg(d, VIRTIO_MMIO_DEVICE_FEATURES);
    set_reg(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    return high << 32 | reg(d, VIRTIO_MMIO_DEVICE_FEATURES);
}

static bool negotiate(struct balloon_driver *d, uint64_t offer)
{
    const uint64_t ours = VIRTIO_F_VERSION_1 | VIRTIO_BALLOON_F_ALL;
    d->features = offer & ours;
    if (!has(d, VIRTIO_F_VERSION_1))
        return false;
    set_reg(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    set_reg(d, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(d->features >> 32));
    set_reg(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    set_reg(d, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)d->features);
    set_reg(d, VIRTIO_MMIO_STATUS,
            VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK);
    return reg(d, VIRTIO_MMIO_STATUS) & VIRTIO_STATUS_FEATURES_OK;
}

static void set_place(struct balloon_driver *d, uint32_t low, gpa_t at)
{
    set_reg(d, low, (uint32_t)at);
    set_reg(d, low + 4, (uint32_t)(at >> 32));
}

static bool start_queue(struct balloon_driver *d, struct balloon_ring *r, unsigned index)
{
    gfn_t f;
    r->index = index;
    set_reg(d, VIRTIO_MMIO_QUEUE_SEL, index);
    uint32_t most = reg(d, VIRTIO_MMIO_QUEUE_NUM_MAX);
    if (!most || reg(d, VIRTIO_MMIO_QUEUE_READY) || !d->os->frame(d->ctx, &f))
        return false;
    r->size = (uint16_t)(most < RING_MAX ? most : RING_MAX);
    r->page = gfn_gpa(f);
    if (index != (unsigned)balloon_queue(d->features, BALLOON_STATS)) /* it is waited for */
        store(d, r->page + AVAIL_AT, 2, VIRTQ_AVAIL_F_NO_INTERRUPT);
    set_reg(d, VIRTIO_MMIO_QUEUE_NUM, r->size);
    set_place(d, VIRTIO_MMIO_QUEUE_DESC_LOW, r->page);
    set_place(d, VIRTIO_MMIO_QUEUE_DRIVER_LOW, r->page + AVAIL_AT);
    set_place(d, VIRTIO_MMIO_QUEUE_DEVICE_LOW, r->page + USED_AT);
    set_reg(d, VIRTIO_MMIO_QUEUE_READY, 1);
    return true;
}

static bool start_queues(struct balloon_driver *d, uint64_t offer)
{
    for (unsigned r = 0; r < BALLOON_ROLES; r++) {
        int index = balloon_queue(offer, (enum balloon_role)r);
        if (index >= 0 && !start_queue(d, &d->ring[r], (unsigned)index))
            return false;
    }
    return true;
}

bool balloon_driver_start(struct balloon_driver *d, const struct balloon_os *os, void *ctx,
                          const struct balloon_driver_config *cfg)
{
    gfn_t f;
    *d = (struct balloon_driver){.os = os, .ctx = ctx, .cfg = *cfg};
    if (reg(d, VIRTIO_MMIO_MAGIC_VALUE) != VIRTIO_MMIO_MAGIC || reg(d, VIRTIO_MMIO_VERSION) != 2 ||
        reg(d, VIRTIO_MMIO_DEVICE_ID) != VIRTIO_ID_BALLOON || !os->frame(ctx, &f))
        return false;
    d->buffer = gfn_gpa(f);
    d->stats = d->buffer + STATS_AT;
    set_reg(d, VIRTIO_MMIO_STATUS, 0);
    set_reg(d, VIRTIO_MMIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    uint64_t offer = offered(d);
    if (!negotiate(d, offer) || !start_queues(d, offer)) {
        set_reg(d, VIRTIO_MMIO_STATUS, VIRTIO_STATUS_FAILED);
        return false;
    }
    if (has(d, VIRTIO_BALLOON_F_PAGE_POISON))
        set_reg(d, VIRTIO_MMIO_CONFIG + CONFIG(poison_val), cfg->poison);
    set_reg(d, VIRTIO_MMIO_STATUS,
            VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK |
                VIRTIO_STATUS_DRIVER_OK);
    if (has(d, VIRTIO_BALLOON_F_STATS_VQ))
        send_statistics(d);
    d->busy = true;
    resize(d);
    d->busy = false;
    return true;
}

const char *balloon_driver_check(const struct balloon_driver *d, uint64_t held)
{
    if (held != d->actual)
        return "balloon (1) pages the kernel holds are not those that are counted";
    for (unsigned q = 0; q < BALLOON_ROLES; q++) {
        const struct balloon_ring *r = &d->ring[q];
        if (!r->size || d->broken)
            continue;
        uint16_t gone = (uint16_t)d->os->load(d->ctx, r->page + USED_AT + 2, 2);
        uint16_t open = (uint16_t)(r->avail - gone);
        if (open > (q == BALLOON_STATS))
            return "balloon (2) a chain is still under way";
    }
    return NULL;
}
