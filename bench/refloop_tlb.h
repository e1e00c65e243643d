/* refloop_tlb.h: the two TLB levels of the hand-written loops: 64 entries of 4 ways, 1,536 of 12. */
#ifndef NB_BENCH_REFLOOP_TLB_H
#define NB_BENCH_REFLOOP_TLB_H

#include <stdint.h>

enum { L1_SETS = 16, L1_WAYS = 4, L2_SETS = 128, L2_WAYS = 12 };

/* Ways in order of use, the latest first. tag = page + 1; 0 = empty. */
struct l1_set {
    uint64_t tag[L1_WAYS], frame[L1_WAYS];
};
struct l2_set {
    uint64_t tag[L2_WAYS], frame[L2_WAYS];
};

struct ref_tlb {
    struct l1_set l1[L1_SETS];
    struct l2_set l2[L2_SETS];
    uint64_t l1_misses, l2_misses;
};

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Put (tag, frame) in front, moving the first `n` ways back by one. Unrolled, it beats time stamps.
 */
#define TO_FRONT(set, n, t, f)                       \
    do {                                             \
        UNROLL for (unsigned k_ = (n); k_ > 0; k_--) \
        {                                            \
            (set)->tag[k_] = (set)->tag[k_ - 1];     \
            (set)->frame[k_] = (set)->frame[k_ - 1]; \
        }                                            \
        (set)->tag[0] = (t);                         \
        (set)->frame[0] = (f);                       \
    } while (0)

/* What a miss in both levels costs: the walk. */
typedef uint64_t (*ref_walk)(void *loop, uint64_t page);

static inline __attribute__((always_inline)) uint64_t
ref_second_level(struct ref_tlb *t, uint64_t page, ref_walk walk, void *loop)
{
    struct l2_set *s = &t->l2[page % L2_SETS];
    uint64_t frame;
    for (unsigned i = 0; i < L2_WAYS; i++)
        if (s->tag[i] == page + 1) {
            frame = s->frame[i];
            TO_FRONT(s, i, page + 1, frame);
            return frame;
        }
    t->l2_misses++;
    frame = walk(loop, page);
    TO_FRONT(s, L2_WAYS - 1, page + 1, frame);
    return frame;
}

/* The frame of a page; `walk` a constant. */
static inline __attribute__((always_inline)) uint64_t ref_access(struct ref_tlb *t, uint64_t page,
                                                                 ref_walk walk, void *loop)
{
    struct l1_set *s = &t->l1[page % L1_SETS];
    uint64_t frame;
    if (s->tag[0] == page + 1)
        return s->frame[0];
    for (unsigned i = 1; i < L1_WAYS; i++)
        if (s->tag[i] == page + 1) {
            frame = s->frame[i];
            TO_FRONT(s, i, page + 1, frame);
            return frame;
        }
    t->l1_misses++;
    frame = ref_second_level(t, page, walk, loop);
    TO_FRONT(s, L1_WAYS - 1, page + 1, frame);
    return frame;
}

#endif
