/* ecpt_table.h: an elastic cuckoo page table for one page size (Skarlatos et al., ASPLOS 2020).
 *
 * d ways, each an array of 64-byte lines with a hash function of its own. A line holds the entries of
 * eight consecutive pages; its tag, which says which eight, is spread over bits 52 to 58 of them, which
 * hardware ignores: 7 bits each, 56 in all. A tag's line is at one place in each way, so a lookup is d
 * probes, all at once.
 *
 * Elastic: when more than 6 lines in 10 are in use (the paper's threshold), each way gets an array twice
 * as long, and each further insertion moves one line position per way. Positions below `moved` are
 * looked up in the new array, so that a lookup stays d probes. A chain of more than 32 evictions also
 * starts one; where even that does not help, the table is rebuilt larger at once.
 * Simplified: tables never shrink; the way to evict from is drawn round robin.
 *
 * Invariants (ect_check()):
 *  (1) a line in use is found by its tag, and no two have the same tag.
 *  (2) lines = number of lines in use; a line without a present entry is zero.
 */
#ifndef NB_PAGING_ECPT_TABLE_H
#define NB_PAGING_ECPT_TABLE_H

#include "shadow_vs_ept/mmu.h"

enum { ECT_MAX_WAYS = 8, ECT_LINE = 8 };
#define ECT_TAG_BITS 56

struct ect_region {
    hpa_t hpa; /* of the array */
    gpa_t gpa; /* what the guest calls it, when it is the guest's */
};

struct ect {
    struct mmu_vm *vm;
    unsigned ways, turn; /* turn: of whom the next line goes to */
    struct ect_region cur[ECT_MAX_WAYS], next[ECT_MAX_WAYS];
    uint64_t slots; /* lines of a way in cur; next has twice as many */
    bool resizing;
    uint64_t moved[ECT_MAX_WAYS]; /* lines of cur below this are in next */
    uint64_t lines, frames;
    /* A guest's table: its arrays appear at, and vanish from, guest-physical addresses; else NULL. */
    gpa_t (*appear)(struct mmu_vm *, hpa_t, uint64_t frames);
    void (*vanish)(struct mmu_vm *, gpa_t, uint64_t frames);
};

void ect_init(struct ect *, struct mmu_vm *, unsigned ways);
void ect_fini(struct ect *);

/* Where way `way` would have the line of this tag. */
struct ect_region ect_probe(const struct ect *, uint64_t tag, unsigned way);
/* The entry of page number n (its tag is n / 8 and `space`): NULL when absent. */
uint64_t *ect_find(const struct ect *, uint64_t space, uint64_t n);
void ect_set(struct ect *, uint64_t space, uint64_t n, uint64_t entry);
void ect_clear(struct ect *, uint64_t space, uint64_t n);
/* Drop all. */
void ect_reset(struct ect *);

/* Call fn for each present entry; a sentence it returns ends that, and is returned. */
const char *ect_each(const struct ect *,
                     const char *(*fn)(void *ctx, uint64_t space, uint64_t n, uint64_t entry),
                     void *ctx);
const char *ect_check(const struct ect *);

/* Bits above the page number in a tag. */
#define ECT_SPACE_SHIFT 44
static inline uint64_t ect_tag(uint64_t space, uint64_t n)
{
    return space << ECT_SPACE_SHIFT | n / ECT_LINE;
}

#endif
