/* bits.h: ranges of a bitmap, a word at a time. */
#ifndef NB_BALLOON_BITS_H
#define NB_BALLOON_BITS_H

#include <stdint.h>

static inline uint64_t bits_words(uint64_t bits) { return (bits + 63) / 64; }

/* Bits set: without the instruction, which not every x86-64 has, one and all are the cheap cases and the common ones. */
static inline uint64_t bits_ones(uint64_t x)
{
    if ((x & (x - 1)) == 0)
        return x != 0;
    return x == ~0ull ? 64 : (uint64_t)__builtin_popcountll(x);
}

/* Those bits of word w that lie in [first, end); the word has one. */
static inline uint64_t bits_mask(uint64_t w, uint64_t first, uint64_t end)
{
    uint64_t base = 64 * w, mask = ~0ull;
    if (first > base)
        mask &= ~0ull << (first - base);
    if (end - base < 64)
        mask &= (1ull << (end - base)) - 1;
    return mask;
}

/* For each word w of [first, end), n > 0, with the mask of its bits there. */
#define FOR_BITS_WORDS(w, mask, first, end) \
    for (uint64_t w = (first) / 64, mask;   \
         w <= ((end)-1) / 64 && (mask = bits_mask(w, first, end), 1); w++)

static inline uint64_t bits_count(const uint64_t *b, uint64_t first, uint64_t n)
{
    uint64_t count = 0;
    FOR_BITS_WORDS(w, mask, first, first + n)
    count += bits_ones(b[w] & mask);
    return count;
}

/* How many were clear. */
static inline uint64_t bits_set(uint64_t *b, uint64_t first, uint64_t n)
{
    uint64_t count = 0;
    FOR_BITS_WORDS(w, mask, first, first + n)
    {
        count += bits_ones(~b[w] & mask);
        b[w] |= mask;
    }
    return count;
}

static inline void bits_clear(uint64_t *b, uint64_t first, uint64_t n)
{
    FOR_BITS_WORDS(w, mask, first, first + n)
    b[w] &= ~mask;
}

#endif
