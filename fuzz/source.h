/* source.h: where makers of programs take their choices from: random numbers, or bytes, so that a fuzzer
 * which changes a byte changes a choice.
 */
#ifndef NB_FUZZ_SOURCE_H
#define NB_FUZZ_SOURCE_H

#include "base/rng.h"

struct source {
    struct rng *rng;
    const unsigned char *byte, *end; /* when rng is NULL */
};

static inline uint64_t draw(struct source *s, uint64_t n)
{
    if (s->rng)
        return rng_below(s->rng, n);
    uint64_t v = s->byte < s->end ? *s->byte++ : 0;
    if (n > 256 && s->byte < s->end)
        v |= (uint64_t)*s->byte++ << 8;
    return v % n;
}

static inline bool chance(struct source *s, unsigned percent)
{
    return draw(s, 100) >= 100 - percent;
}

#endif
