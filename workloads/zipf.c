/* zipf.c: a key-value store under skewed load: the key of rank k is asked for in proportion to
 * 1 / k^s (YCSB's default is s = 0.99).
 *
 * Stresses the middle ground: hot keys stay in the TLB, the long tail does not. Hot keys are
 * scattered over all of memory, as hashing does. An operation loads the key's index slot, which
 * holds the value's address, then reads or writes each 64-byte line of the value.
 *
 * Exact: n = size / (value + 8) keys, lines = value / 64 rounded up: set-up: stores =
 * n * (1 + lines); work: accesses = ops * (1 + lines). The split into loads and stores follows
 * the seed. guest_faults = pages of the index plus pages of the values, all in set-up.
 *
 * Sampling is exact rejection in integers (no floating point, so no compiler can change it). Ranks
 * are cut into octaves [2^j, 2^(j+1)). A proposal takes an octave in proportion to its bound
 * count * 2^(-js), then a rank k of it evenly, and is kept with probability (k / 2^j)^-s;
 * otherwise it starts anew. At s = 1, 69 % of proposals are kept; at s = 3, 37 %.
 */
#include "workloads/common.h"

enum {
    OCTAVES = 40,  /* ranks below 2^40 */
    PARTS = 16,    /* of an octave, for the quick decisions */
    LINE = 64,     /* bytes */
    ONE_LOG = 32,  /* fraction bits of logarithms */
    ONE_PROB = 62, /* fraction bits of probabilities */
};

static const struct param params[] = {
    {"size", 64ull << 20, 4096, MAX_BYTES, "bytes", "index and values together"},
    {"value", 256, 8, 2048, "bytes", "one value; rounded up to 8"},
    {"skew", 99, 0, 300, "hundredths", "exponent s of the law; 0 = all keys alike"},
    {"gets", 95, 0, 100, "percent", "share of operations that read; the others write"},
    {"ops", 500000, 0, MAX_COUNT, "operations", "gets and puts"},
    {0},
};

struct zipf {
    uint64_t n;    /* ranks 1..n */
    uint64_t skew; /* hundredths */
    unsigned octaves;
    uint64_t upto[OCTAVES];   /* bounds of octaves 0..j, summed */
    uint64_t keep[PARTS + 1]; /* (1 + i/PARTS)^-s */
};

/* 2^-x, x with ONE_LOG fraction bits, as a probability: Taylor's series of e^-(x ln 2) for the
 * fraction. */
static uint64_t exp2_neg(uint64_t x)
{
    const uint64_t ln2 = 0xb17217f7d1cf79abull; /* ln 2 * 2^64 */
    unsigned whole = x >> ONE_LOG > 63 ? 63 : (unsigned)(x >> ONE_LOG);
    uint64_t f = x & 0xffffffff;
    uint64_t y = (uint64_t)(((unsigned __int128)f * ln2) >> (64 + ONE_LOG - ONE_PROB));
    uint64_t term = 1ull << ONE_PROB, sum = term;
    for (unsigned i = 1; i <= 20; i++) {
        term = (uint64_t)(((unsigned __int128)term * y) >> ONE_PROB) / i;
        sum = i & 1 ? sum - term : sum + term;
    }
    return sum >> whole;
}

/* log2 of r in [1, 2), given as r * 2^ONE_PROB: square and compare with 2, bit by bit. */
static uint64_t log2_fraction(uint64_t r)
{
    uint64_t out = 0;
    for (int i = 0; i < ONE_LOG; i++) {
        r = (uint64_t)(((unsigned __int128)r * r) >> ONE_PROB);
        out <<= 1;
        if (r >> (ONE_PROB + 1)) {
            out |= 1;
            r >>= 1;
        }
    }
    return out;
}

/* r^-s as a probability, r in [1, 2) as above. */
static uint64_t power(uint64_t r, uint64_t skew) { return exp2_neg(log2_fraction(r) * skew / 100); }

static uint64_t octave_size(const struct zipf *z, unsigned j)
{
    uint64_t first = 1ull << j;
    return z->n - first < first ? z->n - first + 1 : first;
}

static void zipf_init(struct zipf *z, uint64_t n, uint64_t skew)
{
    z->n = n;
    z->skew = skew;
    z->octaves = bits_for(n + 1);
    /* Bounds are 2^(j (1 - s)), scaled so that the largest of them is 1/64. */
    uint64_t top = skew < 100 ? (z->octaves - 1) * (100 - skew) : 0, sum = 0;
    for (unsigned j = 0; j < z->octaves; j++) {
        uint64_t down = skew < 100 ? top - j * (100 - skew) : j * (skew - 100);
        uint64_t full = exp2_neg((down << ONE_LOG) / 100) >> 6;
        sum += (uint64_t)(((unsigned __int128)full * octave_size(z, j)) >> j);
        z->upto[j] = sum;
    }
    for (unsigned i = 0; i < PARTS; i++)
        z->keep[i] = power((uint64_t)(PARTS + i) << (ONE_PROB - 4), skew);
    z->keep[PARTS] = exp2_neg((skew << ONE_LOG) / 100);
}

/* Decide with the bounds at both ends of k's sixteenth of the octave; only between them compute. */
static bool kept(const struct zipf *z, uint64_t k, unsigned j, uint64_t chance)
{
    unsigned part = (unsigned)(((k - (1ull << j)) * PARTS) >> j);
    if (chance < z->keep[part + 1])
        return true;
    return chance < z->keep[part] && chance < power(k << (ONE_PROB - j), z->skew);
}

/* A rank from 1 to n. */
static uint64_t zipf_next(const struct zipf *z, struct rng *r)
{
    for (;;) {
        uint64_t x = rng_below(r, z->upto[z->octaves - 1]);
        unsigned j = 0;
        while (x >= z->upto[j])
            j++;
        uint64_t k = (1ull << j) + rng_below(r, octave_size(z, j));
        if (kept(z, k, j, rng_next(r) >> (64 - ONE_PROB)))
            return k;
    }
}

static void load_store(struct user *u, gva_t index, uint64_t n, uint64_t bytes)
{
    gva_t value = u_alloc(u, n * bytes);
    for (uint64_t i = 0; i < n; i++, value += bytes) {
        put(u, index, i, value);
        for (uint64_t line = 0; line < bytes; line += LINE)
            st64(u, value + line, i);
    }
}

static void operate(struct user *u, const struct zipf *z, gva_t index, const uint64_t *p)
{
    struct rng r = u->rng;
    uint64_t bytes = ALIGN_UP(p[1], 8), gets = p[3], ops = p[4];
    unsigned bits = bits_for(z->n);
    for (uint64_t i = 0; i < ops; i++) {
        uint64_t key = scatter_below(zipf_next(z, &r) - 1, z->n, bits);
        bool is_get = rng_below(&r, 100) < gets;
        gva_t value = get(u, index, key);
        for (uint64_t line = 0; line < bytes; line += LINE) {
            if (is_get)
                ld(u, value + line);
            else
                st64(u, value + line, i);
        }
    }
    u->rng = r;
}

static void run(struct user *u, const uint64_t *p)
{
    struct zipf z;
    uint64_t bytes = ALIGN_UP(p[1], 8), n = p[0] / (bytes + 8);
    u_phase(u, "setup");
    zipf_init(&z, n, p[2]);
    gva_t index = u_alloc(u, 8 * n);
    load_store(u, index, n, bytes);
    u_phase(u, "work");
    operate(u, &z, index, p);
}

REGISTER(workload, zipf, .summary = "key-value store with skewed keys: a hot set and a long tail",
         .params = params, .run = run);
