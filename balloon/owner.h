/* owner.h: the two kinds of guest memory there are, as a balloon's device needs them: the model's frames (gmem.h) and
 * real memory (backing.h) that starts at guest-physical address 0.
 *
 * Who owns the model's frames is vmm/model_balloon.c: the model has states and counters for them.
 */
#ifndef NB_BALLOON_OWNER_H
#define NB_BALLOON_OWNER_H

#include "balloon/device.h"
#include "memmgr/backing.h"
#include "memmgr/gmem.h"

struct guest_mem balloon_mem_gmem(struct gmem *);
struct guest_mem balloon_mem_backing(struct backing *);

/* ctx: the struct backing. release: backing_discard. Of a hugetlbfs page only a whole one is given back, parts are cleared: use
 * BALLOON_HOLE_DEFER with the order of the page. */
extern const struct balloon_ops balloon_ops_backing;

#endif
