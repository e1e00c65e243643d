/* order.h: the order of use of up to 16 ways in one word: a permutation, four bits a way, the latest
 * used in the lowest ones. A use moves bits, never an entry. Bits above those of the ways are 0.
 */
#ifndef NB_PAGING_ORDER_H
#define NB_PAGING_ORDER_H

#include <stdint.h>

enum { ORDER_WAYS = 16 };

static inline uint64_t order_mask(uint32_t ways) { return ~0ull >> (64 - 4 * ways); }

/* Any order will do for an empty set, but the same on each run. */
static inline uint64_t order_first(uint32_t ways)
{
    return 0xfedcba9876543210ull & order_mask(ways);
}

/* Bit number of the four bits that name `way`. The lowest zero nibble of x is found by the borrow of
 * x - 1 in each nibble, exact up to the first. */
static inline uint32_t order_place(uint64_t order, uint32_t way)
{
    const uint64_t ones = 0x1111111111111111ull;
    uint64_t x = order ^ way * ones;
    return (uint32_t)__builtin_ctzll((x - ones) & ~x & ones << 3) & ~3u;
}

/* `way` is the latest: those used after it move up. */
static inline uint64_t order_use(uint64_t order, uint32_t way)
{
    uint32_t at = order_place(order, way);
    uint64_t newer = order & ((1ull << at) - 1), older = order & ~0xfull << at;
    return older | newer << 4 | way;
}

/* `way` is the oldest: those used before it move down. */
static inline uint64_t order_drop(uint64_t order, uint32_t way, uint32_t ways)
{
    uint32_t at = order_place(order, way);
    uint64_t newer = order & ((1ull << at) - 1), older = order & ~0xfull << at;
    return newer | older >> 4 | (uint64_t)way << (4 * (ways - 1));
}

static inline uint32_t order_oldest(uint64_t order, uint32_t ways)
{
    return (uint32_t)(order >> (4 * (ways - 1))) & 15;
}

/* The oldest is the latest. */
static inline uint64_t order_turn(uint64_t order, uint32_t ways)
{
    return (order << 4 | order_oldest(order, ways)) & order_mask(ways);
}

#endif
