/* pageset.c: a two-level bitmap. Design and invariants are in pageset.h. */
#include "balloon/pageset.h"

#include <assert.h>
#include <stddef.h>

#include "balloon/bits.h"
#include "base/base.h"

void pageset_init(struct pageset *s, uint64_t frames)
{
    uint64_t words = bits_words(frames);
    *s = (struct pageset){.frames = frames};
    s->word = meta_calloc(META_GMEM, words, sizeof *s->word);
    s->sum = meta_calloc(META_GMEM, bits_words(words), sizeof *s->sum);
}

void pageset_fini(struct pageset *s)
{
    meta_free(META_GMEM, s->word);
    meta_free(META_GMEM, s->sum);
}

static void add_word(struct pageset *s, uint64_t w, uint64_t pages)
{
    if (!pages)
        return;
    s->count += bits_ones(pages & ~s->word[w]);
    s->word[w] |= pages;
    s->sum[w / 64] |= 1ull << w % 64;
}

void pageset_add(struct pageset *s, uint64_t first, uint64_t n)
{
    assert(n && first < s->frames && n <= s->frames - first);
    FOR_BITS_WORDS(w, mask, first, first + n)
    add_word(s, w, mask);
}

uint64_t pageset_enter(struct pageset *s, uint64_t *bitmap, uint64_t first, uint64_t n)
{
    uint64_t moved = 0;
    assert(n && first < s->frames && n <= s->frames - first);
    FOR_BITS_WORDS(w, mask, first, first + n)
    {
        uint64_t fresh = mask & ~bitmap[w];
        bitmap[w] |= fresh;
        add_word(s, w, fresh);
        moved += bits_ones(fresh);
    }
    return moved;
}

uint64_t pageset_leave(struct pageset *s, uint64_t *bitmap, uint64_t first, uint64_t n)
{
    uint64_t moved = 0;
    assert(n && first < s->frames && n <= s->frames - first);
    FOR_BITS_WORDS(w, mask, first, first + n)
    {
        uint64_t there = mask & bitmap[w];
        bitmap[w] &= ~there;
        add_word(s, w, there);
        moved += bits_ones(there);
    }
    return moved;
}

/* The first word at or after w that is not 0, or the number of words. */
static uint64_t next_word(const struct pageset *s, uint64_t w)
{
    uint64_t words = bits_words(s->frames), i = w / 64;
    if (w >= words)
        return words;
    for (uint64_t x = s->sum[i] & ~0ull << w % 64;; x = s->sum[i]) {
        if (x)
            return 64 * i + (uint64_t)__builtin_ctzll(x);
        if (++i == bits_words(words))
            return words;
    }
}

/* The first page after `from`, which is in the set, that is not. */
static uint64_t range_end(const struct pageset *s, uint64_t from)
{
    uint64_t w = from / 64, gap = ~s->word[w] & ~0ull << from % 64;
    while (!gap && ++w < bits_words(s->frames))
        gap = ~s->word[w];
    return gap ? 64 * w + (uint64_t)__builtin_ctzll(gap) : s->frames;
}

bool pageset_range(const struct pageset *s, uint64_t *at, uint64_t *first, uint64_t *n)
{
    uint64_t w = *at / 64, pages;
    if (*at >= s->frames)
        return false;
    pages = s->word[w] & ~0ull << *at % 64;
    if (!pages) {
        w = next_word(s, w + 1);
        if (w == bits_words(s->frames))
            return false;
        pages = s->word[w];
    }
    *first = 64 * w + (uint64_t)__builtin_ctzll(pages);
    *at = range_end(s, *first);
    *n = *at - *first;
    return true;
}

void pageset_empty(struct pageset *s)
{
    uint64_t words = bits_words(s->frames);
    for (uint64_t w = next_word(s, 0); w < words; w = next_word(s, w + 1))
        s->word[w] = 0;
    for (uint64_t i = 0; i < bits_words(words); i++)
        s->sum[i] = 0;
    s->count = 0;
}

const char *pageset_check(const struct pageset *s)
{
    uint64_t words = bits_words(s->frames), count = 0;
    for (uint64_t w = 0; w < words; w++) {
        count += bits_ones(s->word[w]);
        if ((s->word[w] != 0) != (s->sum[w / 64] >> w % 64 & 1))
            return "pageset: the summary does not fit the pages";
    }
    if (count != s->count)
        return "pageset: the count does not fit the pages";
    if (s->frames % 64 && s->word[words - 1] >> s->frames % 64)
        return "pageset: a page beyond the end";
    return NULL;
}
