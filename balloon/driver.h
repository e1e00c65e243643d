/* driver.h: the guest's half of the balloon: a virtio-balloon driver over virtio-mmio (virtio 1.2, 5.5).
 *
 * Freestanding, over `struct balloon_os`: the same source in our guest kernel on every engine.
 *
 *     owner of a page         moved by                                    the host may discard it
 *     free list of the guest  --inflate: taken, sent, acknowledged-->     no
 *     balloon                 --deflate: sent, acknowledged, given back-> yes
 *     free list, reported     --allocated: nobody is told-->              yes, until it is used again
 *     hinted (with the driver) --host says DONE or STOP--> free list      yes, until then
 *
 * Pages are counted in 4 KiB units, as the device counts them, whatever the order of the blocks they
 * come in. A page goes back to the guest after the device has acknowledged it, so MUST_TELL_HOST holds
 * whether it was negotiated or not. Contents are lost on every way. What a device that stopped answering was
 * told of stays out of use: deflated pages in the balloon, reported ones as if hinted.
 *
 * One chain at a time is under way in each queue. All but one wait for the device to have used it; the
 * statistics buffer stays with the device until it wants new ones.
 *
 * Invariants (balloon_driver_check):
 *  (1) actual = pages the kernel holds for the balloon.
 *  (2) avail - used of each queue is 0 between calls, 1 at most for statistics.
 */
#ifndef NB_BALLOON_DRIVER_H
#define NB_BALLOON_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "balloon/virtio.h"
#include "base/addr.h"

enum balloon_keep { BALLOON_HELD, BALLOON_HINTED, BALLOON_KEEPS };

/* What the kernel does for its driver. */
struct balloon_os {
    uint32_t (*reg_read)(void *ctx, uint32_t offset);
    void (*reg_write)(void *ctx, uint32_t offset, uint32_t value);
    /* The kernel's own memory, `bytes` of 1 to 8 at gpa, little-endian. */
    uint64_t (*load)(void *ctx, gpa_t, unsigned bytes);
    void (*store)(void *ctx, gpa_t, unsigned bytes, uint64_t value);
    /* A zeroed frame for the driver itself, never given back; false: none. */
    bool (*frame)(void *ctx, gfn_t *out);
    /* A free block of 2^order frames leaves the free list, for the balloon or to be hinted; false: none. */
    bool (*take)(void *ctx, unsigned order, gfn_t *out);
    /* The block is kept for one of these / the last one that went there comes out (false: none is there). Where
     * they are, no page of theirs knows: what is stored in a page may be lost. */
    void (*keep)(void *ctx, enum balloon_keep, gfn_t, unsigned order);
    bool (*kept)(void *ctx, enum balloon_keep, gfn_t *out, unsigned *order);
    /* A block is the guest's again. */
    void (*give)(void *ctx, gfn_t, unsigned order);
    /* The next free block that was not reported, and that the kernel finds large enough, leaves the free list; and
     * comes back, as reported. */
    bool (*unreported)(void *ctx, gfn_t *out, unsigned *order);
    void (*reported)(void *ctx, gfn_t, unsigned order);
    void (*statistics)(void *ctx, uint64_t stat[VIRTIO_BALLOON_S_NR]);
    /* The device has not answered yet; false: it never will. */
    bool (*wait)(void *ctx);
};

struct balloon_driver_config {
    unsigned order;      /* of the blocks that are put into the balloon: 0 or 9 */
    unsigned hint_order; /* of the blocks that are hinted */
    uint32_t poison;     /* what free pages hold, for PAGE_POISON; 0: zeroes */
};

struct balloon_ring {
    gpa_t page;
    uint16_t size, avail; /* 0: this device has no such queue */
    unsigned index;       /* number of the queue */
};

struct balloon_driver {
    const struct balloon_os *os;
    void *ctx;
    struct balloon_driver_config cfg;
    bool broken; /* the device does not answer: it is left alone from then on */
    uint64_t features;
    struct balloon_ring ring[BALLOON_ROLES];
    gpa_t buffer;    /* a page for what is sent */
    gpa_t stats;     /* in it, with the device most of the time */
    uint32_t actual; /* pages */
    uint32_t hint_id;
    bool busy; /* the driver is taking pages: it must not be asked for some */
    struct {
        uint64_t inflated, deflated, on_oom, reported, hinted, requests;
    } count; /* pages; requests: chains sent */
};

/* Find the device and start it. False: there is none, or it is none of ours. */
bool balloon_driver_start(struct balloon_driver *, const struct balloon_os *, void *ctx,
                          const struct balloon_driver_config *);
/* The interrupt: obey what the device wants. */
void balloon_driver_interrupt(struct balloon_driver *);
/* Report free blocks to the device, up to a chain's worth; false: there was nothing to report. */
bool balloon_driver_report(struct balloon_driver *);
/* The kernel has no block left: take at least `pages` back, if the device allows. False: none came. */
bool balloon_driver_oom(struct balloon_driver *, uint32_t pages);
/* NULL, or a broken invariant; held: pages the kernel holds for the balloon. */
const char *balloon_driver_check(const struct balloon_driver *, uint64_t held);

#endif
