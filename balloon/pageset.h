/* pageset.h: pages collected in any order and taken out as sorted, merged ranges.
 *
 * A bitmap with a bit per page, and a summary with a bit per word of it: adding a page is one OR, however the pages
 * come, and finding the next range skips 4,096 empty pages a step. So sorting is linear, duplicates vanish, and
 * emptying the set costs what was put in.
 *
 * Invariants (pageset_check): a summary bit is set exactly when its word is not 0; count = bits set; none beyond frames.
 */
#ifndef NB_BALLOON_PAGESET_H
#define NB_BALLOON_PAGESET_H

#include <stdbool.h>
#include <stdint.h>

struct pageset {
    uint64_t frames, count;
    uint64_t *word, *sum;
};

void pageset_init(struct pageset *, uint64_t frames);
void pageset_fini(struct pageset *);

/* [first, first + n), n > 0, is inside. */
void pageset_add(struct pageset *, uint64_t first, uint64_t n);
/* Of the range, the pages not in the bitmap: put into it and into the set. How many. */
uint64_t pageset_enter(struct pageset *, uint64_t *bitmap, uint64_t first, uint64_t n);
/* Of the range, the pages in the bitmap: taken out of it and put into the set. How many. */
uint64_t pageset_leave(struct pageset *, uint64_t *bitmap, uint64_t first, uint64_t n);

/* The next longest range at or after *at, which is moved behind it; false: no more. Start with *at = 0. */
bool pageset_range(const struct pageset *, uint64_t *at, uint64_t *first, uint64_t *n);
void pageset_empty(struct pageset *);

const char *pageset_check(const struct pageset *);

#endif
