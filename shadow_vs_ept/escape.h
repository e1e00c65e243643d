/* escape.h: the pages of a direct segment that paging must translate.
 *
 * Gandhi et al. (MICRO 2014) put a Bloom filter (CACM 13(7), 1970) beside the registers of a segment:
 * 256 bits, four H3 hash functions (Carter and Wegman, 1979: the exclusive or of a random row for each
 * bit set in the key), a part of the bits for each function. What it holds escapes from the segment; so
 * does, at times, a page that need not: a walk more, nothing wrong. With k parts of m/k bits and n
 * pages that is the case for (1 - (1 - k/m)^n)^k of the others, about (1 - e^(-kn/m))^k.
 *
 * A Bloom filter forgets nothing but all at once. So beside it stands what its owner knows, a bit for
 * each page: it tells false escapes from true ones, and is what the owner makes the filter anew from,
 * which it does when more pages have left than remain. No hardware reads it.
 *
 * Invariants (escape_check):
 *  (1) the filter holds every page that must escape.
 *  (2) count is the number of such pages; with none the filter is empty.
 */
#ifndef NB_PAGING_ESCAPE_H
#define NB_PAGING_ESCAPE_H

#include <stdbool.h>
#include <stdint.h>

enum { ESCAPE_MAX_HASHES = 8, ESCAPE_KEY_BITS = 52 };

/* The hash functions of one processor. */
struct escape_hash {
    unsigned k;    /* functions */
    uint64_t bits; /* of each function's part */
    uint64_t row[ESCAPE_MAX_HASHES][ESCAPE_KEY_BITS];
};

struct escape {
    const struct escape_hash *hash;
    uint64_t *filter; /* k parts, each of whole words */
    uint64_t *must;   /* bit per page from `first` */
    uint64_t *bad;    /* the same: those of escape_some(); NULL: none */
    uint64_t first, pages;
    uint64_t count, left; /* pages that must escape; those the filter holds without need */
};

enum escape_result { ESCAPE_NO, ESCAPE_TRUE, ESCAPE_FALSE };

/* k functions over a filter of `bits` in all; bits >= k. */
void escape_hash_init(struct escape_hash *, unsigned k, uint64_t bits);
/* No page of [first, first + pages) escapes. Page numbers are those of the addresses compared. */
void escape_init(struct escape *, const struct escape_hash *, uint64_t first, uint64_t pages);
void escape_fini(struct escape *);
/* Pages of [from, to) must escape from now on; or need not any more. Others are none of ours. */
void escape_set(struct escape *, uint64_t from, uint64_t to, bool must);
/* `ppm` of a million pages must escape for good, the same ones every time. */
void escape_some(struct escape *, uint64_t ppm);
const char *escape_check(const struct escape *);

bool escape_filtered(const struct escape *, uint64_t page); /* the filter holds it */
static inline bool escape_must(const struct escape *e, uint64_t page)
{
    return e->must[(page - e->first) / 64] >> ((page - e->first) % 64) & 1;
}

static inline enum escape_result escape_test(const struct escape *e, uint64_t page)
{
    if (__builtin_expect(!e->count, 1) || !escape_filtered(e, page))
        return ESCAPE_NO;
    return escape_must(e, page) ? ESCAPE_TRUE : ESCAPE_FALSE;
}

#endif
