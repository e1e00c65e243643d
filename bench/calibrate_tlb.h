/* calibrate_tlb.h: what the host's TLBs hold, seen from pointer chases.
 *
 * A chase follows a fixed random cycle through N lines of 64 bytes, one dependent load a hop. Three
 * ways to lay out the same N lines:
 *
 *   sparse  one line in each of N consecutive 4 KiB pages, at line (page mod 64) of its page
 *   dense   the N lines side by side, in 2 MiB pages when the host gives them
 *   huge    one line in each of N consecutive 2 MiB pages, at line (page mod 64) of a page inside
 *
 * sparse and dense put the same number of lines into every set of a data cache that is indexed by
 * address bits 6 to 11, so the data caches see the same load: what sparse costs more than dense is
 * address translation. huge has no such control and is compared with dense as well.
 *
 * On a virtual machine a walk has two dimensions, and a 2 MiB page of ours may be 4 KiB pages of its
 * host: reach and latency are those a program sees, not those of the data sheet.
 */
#ifndef NB_BENCH_CALIBRATE_TLB_H
#define NB_BENCH_CALIBRATE_TLB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/stats.h"

enum chase_kind { CHASE_SPARSE, CHASE_DENSE, CHASE_HUGE, CHASE_KINDS };
extern const char *const chase_names[CHASE_KINDS];

enum { CHASE_POINTS = 64, CHASE_ROUNDS_MAX = 101 };

struct chase_curve {
    unsigned n;
    uint64_t lines[CHASE_POINTS];     /* ascending */
    struct interval ns[CHASE_POINTS]; /* per hop */
};

struct chase_config {
    unsigned rounds;       /* samples of each point; at most CHASE_ROUNDS_MAX */
    uint64_t sparse_pages; /* largest N of sparse and dense */
    uint64_t huge_pages;   /* largest N of huge; 0: leave it out */
    uint64_t seed;
    void (*progress)(void *ctx, unsigned done, unsigned total); /* or NULL */
    void *ctx;
};

struct chase_result {
    struct chase_curve curve[CHASE_KINDS];
    uint64_t dense_bytes, dense_thp; /* of dense's memory, and of those in 2 MiB pages */
    uint64_t huge_bytes, huge_thp;
};

/* False with one sentence in err: the host has no memory for it. A host that gives no 2 MiB pages
 * leaves curve[CHASE_HUGE].n = 0. */
bool chase_run(const struct chase_config *, struct chase_result *, char *err, size_t errlen);

/* One level of a TLB: where the cost of translation rises. */
struct tlb_level {
    bool found;
    uint64_t reach;       /* largest N measured before the rise: entries for pages of that size */
    uint64_t next;        /* the N after it: the truth is in [reach, next) */
    struct interval cost; /* ns a hop costs more beyond it than a hit of the first level */
};

struct tlb_estimate {
    struct interval hop;     /* ns: a load that hits the first level of everything */
    struct tlb_level l1d;    /* of the data cache, in lines; beyond it the second level answers */
    struct tlb_level l1, l2; /* of 4 KiB pages; beyond l2 every hop is a walk */
    struct tlb_level l1_2m;  /* of 2 MiB pages */
};

/* Find the rises. What cannot be told from noise is not found. */
void tlb_estimate(const struct chase_result *, struct tlb_estimate *);

#endif
