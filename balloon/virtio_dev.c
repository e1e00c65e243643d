/* virtio_dev.c: what every virtio device does alike: interrupts, resets, and giving up on a broken ring. */
#include "balloon/virtio_dev.h"

#include <assert.h>

const char *const virtio_refused_names[VIRTIO_REFUSED_COUNT] = {
    [VIRTIO_REFUSED_WIDTH] = "width",           [VIRTIO_REFUSED_REGISTER] = "register",
    [VIRTIO_REFUSED_FEATURES] = "features",     [VIRTIO_REFUSED_STATUS] = "status",
    [VIRTIO_REFUSED_ORDER] = "order",           [VIRTIO_REFUSED_QUEUE] = "queue",
    [VIRTIO_REFUSED_QUEUE_LIVE] = "queue_live", [VIRTIO_REFUSED_QUEUE_INVALID] = "queue_invalid",
    [VIRTIO_REFUSED_NOTIFY] = "notify",         [VIRTIO_REFUSED_ACK] = "ack",
    [VIRTIO_REFUSED_CONFIG] = "config",         [VIRTIO_REFUSED_RING] = "ring",
};

void virtio_update_line(struct virtio_device *d)
{
    if (d->irq)
        d->irq(d->irq_ctx, d->state->interrupt_status != 0);
}

void virtio_interrupt(struct virtio_device *d, uint32_t bits)
{
    d->state->interrupt_status |= bits;
    virtio_update_line(d);
}

void virtio_config_changed(struct virtio_device *d)
{
    d->state->config_generation++;
    if (d->state->status & VIRTIO_STATUS_DRIVER_OK)
        virtio_interrupt(d, VIRTIO_INT_CONFIG);
}

void virtio_queue_reset(struct virtio_device *d, unsigned queue)
{
    assert(queue < d->queues);
    d->state->queue[queue] = (struct virtq){.num = VIRTQ_MAX};
    d->ops->queue_reset(d, queue);
}

void virtio_reset(struct virtio_device *d)
{
    struct virtio_state *s = d->state;
    for (unsigned i = 0; i < d->queues; i++)
        virtio_queue_reset(d, i);
    s->driver_features = 0;
    s->status = s->interrupt_status = 0;
    s->device_features_sel = s->driver_features_sel = s->queue_sel = 0;
    d->ops->reset(d);
    virtio_update_line(d);
}

void virtio_broken(struct virtio_device *d)
{
    d->state->refused[VIRTIO_REFUSED_RING]++;
    d->state->status |= VIRTIO_STATUS_DEVICE_NEEDS_RESET;
    virtio_config_changed(d); /* 2.1.2: the driver is told this way */
}

uint16_t virtio_available(struct virtio_device *d, unsigned queue)
{
    uint16_t n;
    if (virtq_available(&d->state->queue[queue], d->mem, &n))
        return n;
    virtio_broken(d);
    return 0;
}

enum virtq_result virtio_pop(struct virtio_device *d, unsigned queue, struct virtq_chain *c)
{
    enum virtq_result r = virtq_pop(&d->state->queue[queue], d->mem, c);
    if (r == VIRTQ_BAD)
        virtio_broken(d);
    return r;
}

bool virtio_push(struct virtio_device *d, unsigned queue, uint16_t head, uint32_t len)
{
    if (virtq_push(&d->state->queue[queue], d->mem, head, len))
        return true;
    virtio_broken(d);
    return false;
}

void virtio_pushed(struct virtio_device *d, unsigned queue)
{
    if (virtq_wants_interrupt(&d->state->queue[queue], d->mem))
        virtio_interrupt(d, VIRTIO_INT_USED);
}

const char *virtio_check(const struct virtio_device *d)
{
    const struct virtio_state *s = d->state;
    if (d->queues > VIRTIO_QUEUES_MAX)
        return "virtio: more queues than a device can have";
    if ((s->status & VIRTIO_STATUS_DRIVER_OK) && !(s->status & VIRTIO_STATUS_FEATURES_OK))
        return "virtio: a driver without features";
    if ((s->status & VIRTIO_STATUS_FEATURES_OK) && (s->driver_features & ~d->features))
        return "virtio: features negotiated that were not offered";
    for (unsigned i = 0; i < d->queues; i++) {
        const char *wrong = virtq_check(&s->queue[i]);
        if (wrong)
            return wrong;
    }
    return NULL;
}
