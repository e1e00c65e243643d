/* device_int.h: shared by the files of the balloon's device: device.c (life, configuration, statistics) and
 * device_pages.c (the queues that carry pages).
 */
#ifndef NB_BALLOON_DEVICE_INT_H
#define NB_BALLOON_DEVICE_INT_H

#include "balloon/bits.h"
#include "balloon/device.h"
#include "base/base.h"
#include "balloon/pageset.h"

enum {
    BALLOON_BATCH =
        1 << 16, /* pages after which a batch is released, and the most PFNs of one buffer */
    BALLOON_PFNS = 1024, /* PFNs copied from the guest at a time */
};

/* What a call needs and nobody remembers. */
struct balloon_scratch {
    struct pageset set;        /* pages of this batch */
    uint16_t heads[VIRTQ_MAX]; /* chains to return when it is done */
    unsigned nheads;
    uint64_t whole, whole_n; /* large pages that became complete: one range, still growing */
    struct virtq_chain chain;
    uint32_t pfn[BALLOON_PFNS];
};

static inline uint64_t *balloon_ballooned(struct balloon_state *s) { return s->bits; }
static inline uint64_t *balloon_released(struct balloon_state *s)
{
    return s->bits + bits_words(s->frames);
}

/* All that the driver has made available in a queue of pages. */
void balloon_pages_notify(struct balloon *, enum balloon_role, unsigned queue);
/* Every page is the guest's again. */
void balloon_pages_reset(struct balloon *);

#endif
