/* virtq.h: the device's side of a split virtqueue (virtio 1.2, 2.7) in memory that the guest may change at any time.
 *
 * Nothing in the ring is believed. A descriptor is copied once and judged by its copy; what a chain says about
 * memory is only used through struct guest_mem, which refuses what is not the guest's.
 *
 * Invariants (virtq_check verifies 1 and 2; tests and the fuzzer the others):
 *  (1) a ready queue has a size that is a power of two up to VIRTQ_MAX, aligned parts, and none that wraps around
 *      the end of the address space.
 *  (2) no more chains are in flight (popped, not pushed) than the queue has entries.
 *  (3) a chain returned has 1 to `num` segments, each of length 1 or more, that does not wrap; readable ones come
 *      before writable ones; their lengths add up to less than 4 GiB.
 *  (4) virtq_pop reads at most `num` descriptors, whatever they say.
 *  (5) the used index moves after the used entry is written, by one for each push.
 *
 * Not offered, so refused when seen: indirect descriptors, the event index, packed rings.
 */
#ifndef NB_BALLOON_VIRTQ_H
#define NB_BALLOON_VIRTQ_H

#include <stddef.h>

#include "balloon/virtio.h"

/* Guest-physical memory by copies: frames of one guest may lie anywhere. False, when [gpa, gpa + len) is not all
 * the guest's memory; then nothing may be said of `buf`, or of how much was written. */
struct guest_mem {
    void *ctx;
    bool (*read)(void *ctx, uint64_t gpa, void *buf, uint64_t len);
    bool (*write)(void *ctx, uint64_t gpa, const void *buf, uint64_t len);
};

#define VIRTQ_MAX 256 /* entries: enough for one round of the balloon's queues */

/* Plain data: all that a device must remember of a queue. */
struct virtq {
    uint64_t desc, avail, used; /* gpa of each part */
    uint16_t num;
    uint16_t avail_idx; /* the next available entry to take */
    uint16_t used_idx;  /* the next used entry to write */
    bool ready;
};

enum virtq_result {
    VIRTQ_EMPTY,
    VIRTQ_CHAIN,
    VIRTQ_BAD, /* the ring breaks the rules: the device needs a reset */
};

struct virtq_seg {
    uint64_t gpa;
    uint32_t len;
    bool writable;
};
struct virtq_chain {
    uint16_t head;               /* what virtq_push must be told */
    uint16_t n;                  /* segments */
    uint16_t nread;              /* the first nread are for the device to read */
    uint32_t readable, writable; /* bytes */
    struct virtq_seg seg[VIRTQ_MAX];
};

/* What QueueReady may be set for: invariant (1). */
bool virtq_valid(const struct virtq *);
/* How many chains are available now; false when the index is impossible or unreadable. A device that takes as many
 * and returns misses nothing: the driver notifies after it has moved the index. */
bool virtq_available(const struct virtq *, const struct guest_mem *, uint16_t *n);
/* Take the next chain. After VIRTQ_BAD nothing is taken. */
enum virtq_result virtq_pop(struct virtq *, const struct guest_mem *, struct virtq_chain *);
/* Return a chain, `len` bytes written to it. False: the used ring is not in guest memory. */
bool virtq_push(struct virtq *, const struct guest_mem *, uint16_t head, uint32_t len);
/* Does the driver want to be told of what was pushed? */
bool virtq_wants_interrupt(const struct virtq *, const struct guest_mem *);

/* Copy `len` bytes at `offset` of the readable part; false: beyond it, or not guest memory. */
bool virtq_read(const struct virtq_chain *, const struct guest_mem *, uint32_t offset, void *buf,
                uint32_t len);

const char *virtq_check(const struct virtq *);

#endif
