/* rng.h: the project's only source of randomness, the same on every host and compiler.
 *
 * splitmix64 (Steele, Lea, Flood, OOPSLA 2014) seeds xoshiro256** (Blackman and Vigna, ACM TOMS
 * 47(4), 2021). Integer arithmetic only, usable freestanding. Child streams come from
 * rng_child(): adding one never changes another.
 */
#ifndef NB_BASE_RNG_H
#define NB_BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t s[4];
};

/* Next value of the splitmix64 sequence whose state is *x. */
static inline uint64_t splitmix64(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static inline void rng_seed(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix64(&seed);
}

/* Seed of child stream `id` of `seed`: a hash, so that streams are independent. */
static inline uint64_t rng_child(uint64_t seed, uint64_t id)
{
    uint64_t x = seed ^ (id * 0xd1342543de82ef95ull);
    (void)splitmix64(&x);
    return splitmix64(&x);
}

static inline uint64_t rng_rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

/* Uniform 64-bit value. */
static inline uint64_t rng_next(struct rng *r)
{
    uint64_t *s = r->s, out = rng_rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rng_rotl(s[3], 45);
    return out;
}

/* Uniform in [0, n), n > 0. Multiply-shift (Lemire, TOMACS 29(1), 2019) without the rejection
 * step: the bias is below n / 2^64, and one draw per call keeps streams aligned. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)rng_next(r) * n) >> 64);
}

#endif
