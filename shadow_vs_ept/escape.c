/* escape.c: the escape filter of a direct segment. Design and invariants are in escape.h. */
#include "shadow_vs_ept/escape.h"

#include <assert.h>
#include <string.h>

#include "base/base.h"
#include "base/rng.h"

static uint64_t part_words(const struct escape_hash *h) { return (h->bits + 63) / 64; }

void escape_hash_init(struct escape_hash *h, unsigned k, uint64_t bits)
{
    struct rng r;
    assert(k && k <= ESCAPE_MAX_HASHES && bits >= k);
    h->k = k;
    h->bits = bits / k;
    rng_seed(&r, 1979); /* wired into a processor: the same in every run */
    for (unsigned i = 0; i < ESCAPE_MAX_HASHES; i++)
        for (unsigned b = 0; b < ESCAPE_KEY_BITS; b++)
            h->row[i][b] = rng_next(&r);
}

void escape_init(struct escape *e, const struct escape_hash *h, uint64_t first, uint64_t pages)
{
    *e = (struct escape){.hash = h, .first = first, .pages = pages};
    e->filter = meta_calloc(META_PAGING, h->k * part_words(h), sizeof *e->filter);
    e->must = meta_calloc(META_PAGING, pages / 64 + 1, sizeof *e->must);
}

void escape_fini(struct escape *e)
{
    meta_free(META_PAGING, e->filter);
    meta_free(META_PAGING, e->must);
    meta_free(META_PAGING, e->bad);
}

/* Function i of the page: a bit of its part. The 64 bits of an H3 hash are scaled to the part's size,
 * which need not be a power of two. */
static uint64_t position(const struct escape_hash *h, unsigned i, uint64_t page)
{
    uint64_t x = 0;
    for (uint64_t bits = page; bits; bits &= bits - 1)
        x ^= h->row[i][__builtin_ctzll(bits)];
    return (uint64_t)((unsigned __int128)x * h->bits >> 64);
}

bool escape_filtered(const struct escape *e, uint64_t page)
{
    const struct escape_hash *h = e->hash;
    for (unsigned i = 0; i < h->k; i++) {
        uint64_t at = position(h, i, page);
        if (!(e->filter[i * part_words(h) + at / 64] >> (at % 64) & 1))
            return false;
    }
    return true;
}

static bool bit(const uint64_t *map, uint64_t i) { return map[i / 64] >> (i % 64) & 1; }

static void add(struct escape *e, uint64_t page)
{
    const struct escape_hash *h = e->hash;
    for (unsigned i = 0; i < h->k; i++) {
        uint64_t at = position(h, i, page);
        e->filter[i * part_words(h) + at / 64] |= 1ull << (at % 64);
    }
}

static void make_anew(struct escape *e)
{
    memset(e->filter, 0, 8 * e->hash->k * part_words(e->hash));
    for (uint64_t i = 0; e->count && i < e->pages; i++)
        if (bit(e->must, i))
            add(e, e->first + i);
    e->left = 0;
}

void escape_set(struct escape *e, uint64_t from, uint64_t to, bool must)
{
    uint64_t end = e->first + e->pages;
    for (uint64_t p = from > e->first ? from : e->first; p < to && p < end; p++) {
        uint64_t i = p - e->first;
        if (bit(e->must, i) == must || (e->bad && bit(e->bad, i)))
            continue;
        e->must[i / 64] ^= 1ull << (i % 64);
        if (must) {
            e->count++;
            add(e, p);
        } else {
            e->count--;
            if (++e->left > e->count)
                make_anew(e);
        }
    }
}

void escape_some(struct escape *e, uint64_t ppm)
{
    struct rng r;
    if (!ppm)
        return;
    uint64_t *bad = meta_calloc(META_PAGING, e->pages / 64 + 1, sizeof *bad);
    rng_seed(&r, 2014); /* a page that escapes does so for every larger ppm, too */
    for (uint64_t i = 0; i < e->pages; i++)
        if (rng_below(&r, 1000000) < ppm) {
            escape_set(e, e->first + i, e->first + i + 1, true);
            bad[i / 64] |= 1ull << (i % 64);
        }
    e->bad = bad;
}

const char *escape_check(const struct escape *e)
{
    uint64_t count = 0, set = 0;
    for (uint64_t p = e->first; p < e->first + e->pages; p++) {
        count += escape_must(e, p);
        if (escape_must(e, p) && !escape_filtered(e, p))
            return "escape (1) the filter lost a page";
    }
    for (uint64_t i = 0; i < e->hash->k * part_words(e->hash); i++)
        set |= e->filter[i];
    return count != e->count || (set && !count) ? "escape (2) the count of pages is wrong" : NULL;
}
