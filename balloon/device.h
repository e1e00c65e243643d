/* device.h: the device half of a virtio balloon (virtio 1.2, 5.5): takes pages of a guest, gives them back.
 *
 * Units are 4 KiB pages. Who owns a page:
 *
 *     guest --inflate queue--> balloon --release--> host      (ballooned, then released; acknowledged after that)
 *     guest <--deflate queue-- balloon                        (its next touch is a refault if it was released)
 *
 * `num_pages` is the device's wish (balloon_set_target), `actual` the driver's claim: the driver alone writes it.
 * What the device counts itself is `pages`: those in its bitmap.
 *
 * Interface: balloon_new, then hand balloon_virtio() to a transport; everything is called by one thread at a time, and
 * happens inside the call. A policy reads the state and sets targets, no more.
 *
 * Invariants (balloon_check verifies all but 3):
 *  (1) pages = bits set in ballooned; released is a subset of ballooned; no bit lies beyond the guest's frames.
 *  (2) inflated = deflated + pages, since the last reset.
 *  (3) a buffer of the inflate or reporting queue is used after the release of its pages, never before.
 *  (4) between two calls no chain is in flight but the statistics buffer that is held.
 */
#ifndef NB_BALLOON_DEVICE_H
#define NB_BALLOON_DEVICE_H

#include "balloon/virtio_dev.h"
#include "base/addr.h"

/* What to do about a large host page of which only a part is ballooned, reported or hinted. */
enum balloon_hole {
    BALLOON_HOLE_SPLIT, /* release at once: the large page is splintered */
    BALLOON_HOLE_DEFER, /* keep until all of it is in the balloon; only with MUST_TELL_HOST (device_pages.c) */
};

struct balloon_config {
    uint64_t features; /* VIRTIO_BALLOON_F_...: what to offer */
    uint64_t frames;   /* guest memory is [0, frames) */
    unsigned order;    /* of a host page: ORDER_4K, ORDER_2M, ORDER_1G */
    enum balloon_hole hole;
};

/* What a page was when it is released: in the balloon, or free and reported. */
enum balloon_why { BALLOON_INFLATED, BALLOON_REPORTED };

/* Who owns the guest's memory. All ranges are inside [0, frames). */
struct balloon_ops {
    /* Forget the contents of [first, first + n) and give the memory to the host. False: the host would not. */
    bool (*release)(void *ctx, gfn_t first, uint64_t n, enum balloon_why);
    /* These left the balloon and are the guest's again. May be NULL. */
    void (*deflated)(void *ctx, gfn_t first, uint64_t n);
    /* Hints (device_pages.c, "Hints"): begin to remember which pages the guest writes; then forget the contents of those
     * of [first, first + n) that it has not written since, in one step as the guest sees it, and return how many. Both
     * NULL: hinted pages are recorded only. */
    void (*hint_begin)(void *ctx);
    uint64_t (*release_unwritten)(void *ctx, gfn_t first, uint64_t n);
    /* A page that need not be migrated, say. May be NULL. */
    void (*hinted)(void *ctx, gfn_t first, uint64_t n);
};

/* name, unit, what it counts since the device was made */
#define BALLOON_COUNTERS(X)                                                                 \
    X(inflated, "pages", "entered the balloon")                                             \
    X(deflated, "pages", "left the balloon")                                                \
    X(deflated_oom, "pages", "left it below the target, under DEFLATE_ON_OOM")              \
    X(deflated_unasked, "pages", "left it below the target without that right")             \
    X(ranges, "ranges", "of consecutive PFNs, after sorting and merging")                   \
    X(releases, "calls", "of release")                                                      \
    X(released, "pages", "released, by inflation or report")                                \
    X(release_failed, "pages", "that the host would not take")                              \
    X(deferred, "pages", "ballooned while their large page was not complete")               \
    X(splits, "blocks",                                                                     \
      "large pages cut, none of it released from the balloon before; a report cuts anew")   \
    X(reported, "pages", "reported free")                                                   \
    X(reported_kept, "pages", "reported, not released: poison, or a part of a large page")  \
    X(hinted, "pages", "hinted under the current command")                                  \
    X(hinted_released, "pages", "of them released")                                         \
    X(hinted_stale, "pages", "hinted under another command, ignored")                       \
    X(stats_buffers, "buffers", "of statistics read")                                       \
    X(refused_pfn, "pages", "PFNs outside of memory")                                       \
    X(refused_double, "pages", "inflated while in the balloon")                             \
    X(refused_absent, "pages", "deflated while not in the balloon")                         \
    X(refused_long, "buffers", "longer than any honest driver's")                           \
    X(refused_partial, "buffers", "not of whole entries or pages; the rest was used")       \
    X(refused_direction, "buffers", "writable where they must be readable, or the reverse") \
    X(refused_memory, "buffers", "not in guest memory")                                     \
    X(refused_stat, "entries", "statistics with an unknown tag")                            \
    X(refused_stats_buffer, "buffers", "statistics while one was held: the older was returned")

struct balloon_counters {
#define X(name, unit, what) uint64_t name;
    BALLOON_COUNTERS(X)
#undef X
};

/* All of the device, as plain data: saved and restored by copying balloon_state_bytes(frames) of it. */
struct balloon_state {
    uint64_t frames;
    struct virtio_state virtio;
    struct virtio_balloon_config config;
    struct balloon_counters count;
    uint64_t pages; /* in the balloon */
    uint64_t trail; /* hash of all PFNs that came and went, in the order of their arrival */

    bool stats_held, stats_asked; /* a buffer is here; it was returned to ask for news */
    uint16_t stats_head;          /* valid when held */
    uint16_t stats_valid;         /* bit per tag */
    uint64_t stats[VIRTIO_BALLOON_S_NR];

    uint32_t hint_next;  /* the id after this one */
    uint32_t hint_heard; /* the id under which the driver hints; STOP: none */
    uint64_t bits[];     /* ballooned, then released: a bit per frame each */
};

struct balloon {
    struct virtio_device dev;
    struct balloon_config config;
    struct balloon_ops ops;
    void *ctx;
    struct balloon_state *state;
    struct balloon_scratch *scratch; /* empty between calls */
};

struct balloon *balloon_new(const struct balloon_config *, const struct guest_mem *,
                            const struct balloon_ops *, void *ctx, void (*irq)(void *, bool),
                            void *irq_ctx);
void balloon_free(struct balloon *);
static inline struct virtio_device *balloon_virtio(struct balloon *b) { return &b->dev; }

/* Ask for a balloon of that many pages (at most the guest's). */
void balloon_set_target(struct balloon *, uint64_t pages);
/* Ask for statistics: true when the driver will be told; news have come when stats_asked is false again. */
bool balloon_ask_stats(struct balloon *);
/* Start a round of hinting; false when it was not negotiated. */
bool balloon_hint_start(struct balloon *);
void balloon_hint_stop(
    struct balloon *); /* no use for hints now; the guest keeps the pages aside */
void balloon_hint_done(struct balloon *); /* and may have them back */

static inline bool balloon_holds(const struct balloon *b, gfn_t g)
{
    return g.n < b->state->frames && (b->state->bits[g.n / 64] >> g.n % 64 & 1);
}
size_t balloon_state_bytes(uint64_t frames);
/* Continue from a copy of another device's state: NULL, or what is wrong with it; then nothing has changed. */
const char *balloon_restore(struct balloon *, const struct balloon_state *, size_t bytes);

const char *balloon_check(const struct balloon *);

#endif
