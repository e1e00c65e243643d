/* virtio_mmio.c: the registers of a virtio device (virtio 1.2, 4.2.2) and its handshake (3.1.1).
 *
 * The handshake. Status bits are only added, in the order ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK; writing 0
 * resets. FEATURES_OK is not set when the driver asks for what was not offered, or without VERSION_1. Features can be
 * written until then, queues configured from then on, also after DRIVER_OK (needed after a queue reset). A queue
 * that is ready keeps its size and addresses; QueueReady 0 stops it (4.2.2.2), which is a reset of that queue.
 *
 * A notification before DRIVER_OK waits for it: Linux's balloon driver kicks its statistics queue that early.
 *
 * Simplified: no shared memory regions; no notification data; QueueReset takes effect before the write returns.
 */
#include "vmm/virtio_mmio.h"

#define VENDOR 0x3144424eu /* "NBD1": any value is allowed */

static uint64_t refuse(struct virtio_device *d, enum virtio_refused why)
{
    d->state->refused[why]++;
    return 0;
}

/* The queue selected, or NULL when there is none. */
static struct virtq *selected(struct virtio_device *d)
{
    return d->state->queue_sel < d->queues ? &d->state->queue[d->state->queue_sel] : NULL;
}

/* ---- configuration ---- */
static bool config_inside(const struct virtio_device *d, uint64_t at, unsigned width)
{
    return at <= d->config_bytes && width <= d->config_bytes - at;
}

static uint64_t config_read(struct virtio_device *d, uint64_t at, unsigned width)
{
    uint64_t value = 0;
    if (!config_inside(d, at, width))
        return refuse(d, VIRTIO_REFUSED_CONFIG);
    d->ops->config_read(d, (uint32_t)at, &value, width);
    return value;
}

static void config_write(struct virtio_device *d, uint64_t at, unsigned width, uint64_t value)
{
    if (!config_inside(d, at, width) || !d->ops->config_write(d, (uint32_t)at, &value, width))
        refuse(d, VIRTIO_REFUSED_CONFIG);
}

/* ---- reading registers ---- */
static uint32_t half(uint64_t features, uint32_t sel)
{
    return sel == 0 ? (uint32_t)features : sel == 1 ? (uint32_t)(features >> 32) : 0;
}

static uint64_t register_read(struct virtio_device *d, uint64_t offset)
{
    const struct virtio_state *s = d->state;
    const struct virtq *q = selected(d);
    switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE:
        return VIRTIO_MMIO_MAGIC;
    case VIRTIO_MMIO_VERSION:
        return 2;
    case VIRTIO_MMIO_DEVICE_ID:
        return d->id;
    case VIRTIO_MMIO_VENDOR_ID:
        return VENDOR;
    case VIRTIO_MMIO_DEVICE_FEATURES:
        return half(d->features, s->device_features_sel);
    case VIRTIO_MMIO_QUEUE_NUM_MAX: /* 0 says that there is no such queue: asking is no offence */
        return q ? VIRTQ_MAX : 0;
    case VIRTIO_MMIO_QUEUE_READY:
        return q && q->ready;
    case VIRTIO_MMIO_INTERRUPT_STATUS:
        return s->interrupt_status;
    case VIRTIO_MMIO_STATUS:
        return s->status;
    case VIRTIO_MMIO_SHM_LEN_LOW:
    case VIRTIO_MMIO_SHM_LEN_HIGH:
    case VIRTIO_MMIO_SHM_BASE_LOW:
    case VIRTIO_MMIO_SHM_BASE_HIGH:
        return UINT32_MAX; /* no such region (4.2.2.1) */
    case VIRTIO_MMIO_QUEUE_RESET:
        return 0; /* never still on its way */
    case VIRTIO_MMIO_CONFIG_GENERATION:
        return s->config_generation;
    default:
        return refuse(d, VIRTIO_REFUSED_REGISTER);
    }
}

uint64_t virtio_mmio_read(struct virtio_device *d, uint64_t offset, unsigned width)
{
    if (width != 1 && width != 2 && width != 4 && width != 8)
        return refuse(d, VIRTIO_REFUSED_WIDTH);
    if (offset >= VIRTIO_MMIO_CONFIG)
        return config_read(d, offset - VIRTIO_MMIO_CONFIG, width);
    if (width != 4 || offset % 4)
        return refuse(d, VIRTIO_REFUSED_WIDTH);
    return register_read(d, offset);
}

/* ---- the handshake ---- */
/* What the driver may add to a status. */
static bool may_add(uint32_t status, uint32_t added)
{
    static const uint32_t order[] = {VIRTIO_STATUS_ACKNOWLEDGE, VIRTIO_STATUS_DRIVER,
                                     VIRTIO_STATUS_FEATURES_OK, VIRTIO_STATUS_DRIVER_OK};
    uint32_t all = VIRTIO_STATUS_FAILED, have = status | added;
    for (unsigned i = 0; i < 4; i++) {
        if ((added & order[i]) && i && !(have & order[i - 1]))
            return false;
        all |= order[i];
    }
    return (added & ~all) == 0;
}

static bool features_acceptable(const struct virtio_device *d)
{
    uint64_t f = d->state->driver_features;
    return (f & ~d->features) == 0 && (f & VIRTIO_F_VERSION_1);
}

static void notify(struct virtio_device *d, uint32_t queue)
{
    if (queue >= d->queues || !d->state->queue[queue].ready ||
        (d->state->status & VIRTIO_STATUS_DEVICE_NEEDS_RESET))
        refuse(d, VIRTIO_REFUSED_NOTIFY);
    else if (virtio_live(d) && !d->ops->notify(d, queue)) /* before that: see notify_all() */
        refuse(d, VIRTIO_REFUSED_NOTIFY);
}

static void notify_all(struct virtio_device *d)
{
    for (unsigned i = 0; i < d->queues; i++)
        if (d->state->queue[i].ready && virtio_live(d))
            d->ops->notify(d, i);
}

static void status_write(struct virtio_device *d, uint32_t value)
{
    struct virtio_state *s = d->state;
    uint32_t old = s->status, added = value & ~old;
    if (value == 0) {
        virtio_reset(d);
        return;
    }
    /* DEVICE_NEEDS_RESET is ours: the driver may write it back or not. */
    if ((old & ~value & ~(uint32_t)VIRTIO_STATUS_DEVICE_NEEDS_RESET) || !may_add(old, added)) {
        refuse(d, VIRTIO_REFUSED_STATUS);
        return;
    }
    if ((added & VIRTIO_STATUS_FEATURES_OK) && !features_acceptable(d)) {
        refuse(d, VIRTIO_REFUSED_FEATURES);
        added &= ~(uint32_t)(VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
    }
    s->status |= added;
    if (added & VIRTIO_STATUS_DRIVER_OK)
        notify_all(d);
}

static void features_write(struct virtio_device *d, uint32_t value)
{
    struct virtio_state *s = d->state;
    if (s->status & VIRTIO_STATUS_FEATURES_OK) {
        refuse(d, VIRTIO_REFUSED_ORDER);
        return;
    }
    if (s->driver_features_sel > 1) {
        if (value)
            refuse(d, VIRTIO_REFUSED_FEATURES);
        return;
    }
    unsigned shift = 32 * s->driver_features_sel;
    s->driver_features &= ~((uint64_t)UINT32_MAX << shift);
    s->driver_features |= (uint64_t)value << shift;
}

/* ---- queues ---- */
static void set_half(uint64_t *gpa, bool high, uint32_t value)
{
    *gpa =
        high ? (*gpa & UINT32_MAX) | (uint64_t)value << 32 : (*gpa & ~(uint64_t)UINT32_MAX) | value;
}

static void queue_ready(struct virtio_device *d, struct virtq *q, uint32_t value)
{
    if (value > 1)
        refuse(d, VIRTIO_REFUSED_QUEUE_INVALID);
    else if (!value)
        virtio_queue_reset(d, d->state->queue_sel);
    else if (q->ready)
        refuse(d, VIRTIO_REFUSED_QUEUE_LIVE);
    else if (!virtq_valid(q))
        refuse(d, VIRTIO_REFUSED_QUEUE_INVALID);
    else
        q->ready = true;
}

static void queue_again(struct virtio_device *d, uint32_t value)
{
    if (!virtio_has(d, VIRTIO_F_RING_RESET))
        refuse(d, VIRTIO_REFUSED_ORDER);
    else if (value != 1)
        refuse(d, VIRTIO_REFUSED_QUEUE_INVALID);
    else
        virtio_queue_reset(d, d->state->queue_sel);
}

/* A register of the selected queue; those below QueueReady only while it is not ready. */
static void queue_write(struct virtio_device *d, uint64_t offset, uint32_t value)
{
    struct virtq *q = selected(d);
    if (!q) {
        refuse(d, VIRTIO_REFUSED_QUEUE);
        return;
    }
    if (!(d->state->status & VIRTIO_STATUS_FEATURES_OK)) {
        refuse(d, VIRTIO_REFUSED_ORDER);
        return;
    }
    if (offset == VIRTIO_MMIO_QUEUE_READY) {
        queue_ready(d, q, value);
        return;
    }
    if (offset == VIRTIO_MMIO_QUEUE_RESET) {
        queue_again(d, value);
        return;
    }
    if (q->ready) {
        refuse(d, VIRTIO_REFUSED_QUEUE_LIVE);
        return;
    }
    if (offset == VIRTIO_MMIO_QUEUE_NUM) /* too large a size stays one that QueueReady refuses */
        q->num = value > VIRTQ_MAX ? 0 : (uint16_t)value;
    else
        set_half(offset < VIRTIO_MMIO_QUEUE_DRIVER_LOW   ? &q->desc
                 : offset < VIRTIO_MMIO_QUEUE_DEVICE_LOW ? &q->avail
                                                         : &q->used,
                 offset & 4, value);
}

static void acknowledge(struct virtio_device *d, uint32_t bits)
{
    if (bits & ~d->state->interrupt_status)
        refuse(d, VIRTIO_REFUSED_ACK);
    d->state->interrupt_status &= ~bits;
    virtio_update_line(d);
}

static void register_write(struct virtio_device *d, uint64_t offset, uint32_t value)
{
    struct virtio_state *s = d->state;
    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        s->device_features_sel = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        s->driver_features_sel = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        features_write(d, value);
        break;
    case VIRTIO_MMIO_QUEUE_SEL:
        s->queue_sel = value;
        break;
    case VIRTIO_MMIO_QUEUE_NUM:
    case VIRTIO_MMIO_QUEUE_READY:
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
    case VIRTIO_MMIO_QUEUE_DRIVER_LOW:
    case VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
    case VIRTIO_MMIO_QUEUE_DEVICE_LOW:
    case VIRTIO_MMIO_QUEUE_DEVICE_HIGH:
    case VIRTIO_MMIO_QUEUE_RESET:
        queue_write(d, offset, value);
        break;
    case VIRTIO_MMIO_QUEUE_NOTIFY:
        notify(d, value);
        break;
    case VIRTIO_MMIO_INTERRUPT_ACK:
        acknowledge(d, value);
        break;
    case VIRTIO_MMIO_STATUS:
        status_write(d, value);
        break;
    case VIRTIO_MMIO_SHM_SEL: /* whatever is selected, there is none */
        break;
    default:
        refuse(d, VIRTIO_REFUSED_REGISTER);
    }
}

void virtio_mmio_write(struct virtio_device *d, uint64_t offset, unsigned width, uint64_t value)
{
    if (width != 1 && width != 2 && width != 4 && width != 8)
        refuse(d, VIRTIO_REFUSED_WIDTH);
    else if (offset >= VIRTIO_MMIO_CONFIG)
        config_write(d, offset - VIRTIO_MMIO_CONFIG, width, value);
    else if (width != 4 || offset % 4)
        refuse(d, VIRTIO_REFUSED_WIDTH);
    else
        register_write(d, offset, (uint32_t)value);
}
