/* common.h: what several workloads need: words in guest memory, first touch, scattering.
 *
 * Freestanding and integer only, like all workloads. Hot loops copy u->rng into a local and put it
 * back at the end, so that its state can live in registers.
 */
#ifndef NB_WORKLOADS_COMMON_H
#define NB_WORKLOADS_COMMON_H

#include "workloads/workload.h"

/* Bounds that several parameter lists share. */
#define MAX_BYTES (1ull << 40) /* 1 TiB: above any guest memory we run */
#define MAX_COUNT (1ull << 40) /* of accesses, operations and the like */

/* 4 KiB pages that `bytes` take. */
static inline uint64_t pages_of(uint64_t bytes) { return (bytes + PAGE_MASK) >> PAGE_SHIFT; }

/* Word i of an array of 8-byte words in guest memory. */
static inline uint64_t get(struct user *u, gva_t array, uint64_t i)
{
    return ld64(u, array + 8 * i);
}
static inline void put(struct user *u, gva_t array, uint64_t i, uint64_t v)
{
    st64(u, array + 8 * i, v);
}

/* End the program unless a system call succeeded. */
static inline void must(struct user *u, int result, const char *why)
{
    if (result != GK_OK)
        u_abort(u, why);
}

/* Store once into each 4 KiB page of [base, base + bytes): pages_of(bytes) stores. */
static inline void touch_pages(struct user *u, gva_t base, uint64_t bytes)
{
    for (uint64_t i = 0; i < pages_of(bytes); i++)
        st(u, base + (i << PAGE_SHIFT));
}

/* Memory for `bytes`, every page of it touched. */
static inline gva_t alloc_touched(struct user *u, uint64_t bytes)
{
    gva_t a = u_alloc(u, bytes);
    touch_pages(u, a, bytes);
    return a;
}

/* Bits needed to count up to n - 1: the least b with 2^b >= n. */
static inline unsigned bits_for(uint64_t n)
{
    unsigned b = 0;
    while (b < 63 && (1ull << b) < n)
        b++;
    return b;
}

/* A fixed permutation of [0, 2^bits) that sends neighbours far apart: multiplying by an odd number
 * and x ^= x >> k are both one to one. */
static inline uint64_t scatter(uint64_t x, unsigned bits)
{
    uint64_t mask = (1ull << bits) - 1;
    unsigned half = (bits + 1) / 2;
    x = (x * 0x9e3779b97f4a7c15ull) & mask;
    x ^= x >> half;
    x = (x * 0xbf58476d1ce4e5b9ull) & mask;
    return x ^ (x >> half);
}

/* The same for [0, n), bits = bits_for(n): values above n go round again until one is below. */
static inline uint64_t scatter_below(uint64_t x, uint64_t n, unsigned bits)
{
    do
        x = scatter(x, bits);
    while (x >= n);
    return x;
}

#endif
