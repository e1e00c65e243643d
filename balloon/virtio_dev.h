/* virtio_dev.h: one virtio device as its transport sees it, and what both remember.
 *
 * The transport (vmm/virtio_mmio.h) owns the registers: it decodes them, keeps the handshake, and calls ops.
 * The device type (device.h) owns what queues and configuration mean. struct virtio_state is the whole memory of
 * the transport and the queues, plain data that lies in the device's own state, so that a device is saved and
 * restored by copying one struct.
 *
 * Odd behaviour of the driver is refused and counted by kind; after a broken ring the device asks for a reset
 * (2.1.2) and touches no queue until it gets one.
 */
#ifndef NB_BALLOON_VIRTIO_DEV_H
#define NB_BALLOON_VIRTIO_DEV_H

#include "balloon/virtq.h"

#define VIRTIO_QUEUES_MAX 8

enum virtio_refused {
    VIRTIO_REFUSED_WIDTH, /* a register read or written with a width other than 4, or unaligned */
    VIRTIO_REFUSED_REGISTER, /* no such register, or not for this direction */
    VIRTIO_REFUSED_FEATURES, /* features not offered, or VERSION_1 missing: FEATURES_OK stays clear */
    VIRTIO_REFUSED_STATUS,   /* status bits out of order, taken back, or unknown */
    VIRTIO_REFUSED_ORDER,    /* a register written when the handshake does not allow it */
    VIRTIO_REFUSED_QUEUE,    /* a register of a queue that does not exist */
    VIRTIO_REFUSED_QUEUE_LIVE,    /* size or address of a queue that is ready */
    VIRTIO_REFUSED_QUEUE_INVALID, /* QueueReady for a queue that breaks invariant (1) of virtq.h */
    VIRTIO_REFUSED_NOTIFY, /* notification of a queue that does not exist, is not ready or not negotiated */
    VIRTIO_REFUSED_ACK,    /* acknowledgement of an interrupt that was not raised */
    VIRTIO_REFUSED_CONFIG, /* configuration access outside of it, or a write the device refuses */
    VIRTIO_REFUSED_RING,   /* a ring that breaks the rules: DEVICE_NEEDS_RESET */
    VIRTIO_REFUSED_COUNT,
};
extern const char *const virtio_refused_names[VIRTIO_REFUSED_COUNT];

struct virtio_state {
    uint64_t driver_features; /* as written; negotiated once FEATURES_OK is set */
    uint32_t status;
    uint32_t interrupt_status;
    uint32_t config_generation;
    uint32_t device_features_sel, driver_features_sel, queue_sel;
    struct virtq queue[VIRTIO_QUEUES_MAX];
    uint64_t refused[VIRTIO_REFUSED_COUNT];
};

struct virtio_device;
struct virtio_device_ops {
    /* len bytes at offset, inside config_bytes. */
    void (*config_read)(struct virtio_device *, uint32_t offset, void *buf, uint32_t len);
    /* False: refused, nothing has changed. */
    bool (*config_write)(struct virtio_device *, uint32_t offset, const void *buf, uint32_t len);
    /* The queue is ready and the driver is (DRIVER_OK). False: of a feature that was not accepted. */
    bool (*notify)(struct virtio_device *, unsigned queue);
    /* One queue forgets its chains, without virtq_push. */
    void (*queue_reset)(struct virtio_device *, unsigned queue);
    /* The driver wrote status 0. Queues have been reset. */
    void (*reset)(struct virtio_device *);
};

struct virtio_device {
    uint32_t id;       /* device type */
    uint64_t features; /* offered */
    unsigned queues;
    uint32_t config_bytes;
    const struct virtio_device_ops *ops;
    struct virtio_state *state;
    const struct guest_mem *mem;
    void (*irq)(void *ctx, bool level); /* the interrupt line */
    void *irq_ctx;
};

/* The feature was negotiated. */
static inline bool virtio_has(const struct virtio_device *d, uint64_t feature)
{
    return (d->state->status & VIRTIO_STATUS_FEATURES_OK) && (d->state->driver_features & feature);
}
static inline bool virtio_live(const struct virtio_device *d)
{
    return (d->state->status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_DEVICE_NEEDS_RESET)) ==
           VIRTIO_STATUS_DRIVER_OK;
}

/* For transports: everything but the offer forgotten, line low. */
void virtio_reset(struct virtio_device *);
void virtio_queue_reset(struct virtio_device *, unsigned queue);

/* For device types. */
/* Raise bits of the interrupt status, and the line. */
void virtio_interrupt(struct virtio_device *, uint32_t bits);
/* Set the line to what the state says: after a restore. */
void virtio_update_line(struct virtio_device *);
/* The configuration has changed: a new generation, and an interrupt when the driver is there. */
void virtio_config_changed(struct virtio_device *);
/* virtq_available; 0 also when the ring breaks the rules: DEVICE_NEEDS_RESET. */
uint16_t virtio_available(struct virtio_device *, unsigned queue);
/* virtq_pop, with VIRTQ_BAD turned into DEVICE_NEEDS_RESET. */
enum virtq_result virtio_pop(struct virtio_device *, unsigned queue, struct virtq_chain *);
/* virtq_push likewise; false: no longer live. No interrupt yet. */
bool virtio_push(struct virtio_device *, unsigned queue, uint16_t head, uint32_t len);
/* Interrupt for what was pushed, unless suppressed. */
void virtio_pushed(struct virtio_device *, unsigned queue);
/* The guest broke a ring. */
void virtio_broken(struct virtio_device *);

const char *virtio_check(const struct virtio_device *);

#endif
