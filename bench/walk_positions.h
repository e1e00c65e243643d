/* walk_positions.h: the cycles of each of the 24 references of a nested walk, while a program runs.
 *
 * The published latency models price a walk by position: which cache served the entry that was read
 * there. Names are DMT's (processor/Formula.cs): G1 to G4 are the guest's entries in the order they
 * are read, GiHj the host's entries read to find Gi, UDHj those for the page of user data.
 * (`nestbed walk` numbers entries by level instead, as the manuals do: its G4 is this G1.)
 *
 * How: the walk of strategy ept is replaced by one that makes the same walk uncached, over the same
 * tables, and logs every entry's host-physical address. Each entry is then looked up in walk caches
 * of ours as the publication has them, and else in the vCPU's data caches, which the program's own
 * accesses go through as well. So the tables, the TLBs and the data caches are the model's; only
 * the walk caches are arranged as published. A walk is priced when it completes, and counted when
 * the program is in its work phase.
 */
#ifndef NB_BENCH_WALK_POSITIONS_H
#define NB_BENCH_WALK_POSITIONS_H

#include "bench/verify.h"

/* Rows: G1..G4 and the data page; columns: H1..H4 and the guest's own entry. */
enum { ROW_DATA = 4, ROWS = 5, COL_ENTRY = 4, COLS = 5 };

/* Cycles of one walk by position; 0 where a walk cache skipped the reference. */
struct walk_cost {
    double at[ROWS][COLS];
};

enum walk_caches {
    /* DMT's simulator (simulator-virt, cache_simulator.cpp): a guest entry is skipped by a hit
     * below it in caches of PML4Es, PDPTEs and PDEs by gva prefix, a host entry likewise by gpa
     * prefix; a hit costs one cycle. The host walk for the data page uses neither. */
    CACHES_DMT,
    /* Bhargava et al. (ASPLOS 2008): one cache of 24 entries by host-physical address, of the
     * guest's upper entries (1D), and of the host's too (2D); a nested TLB of 16 frames (NTLB). */
    CACHES_1D,
    CACHES_2D,
    CACHES_2D_NTLB,
};

struct positions {
    enum walk_caches caches;
    bool no_l1; /* table reads go past the first-level data cache: to the second at best */
    bool cold;  /* empty the TLBs and data caches when the work phase begins */
    void *ctx;  /* for each() */
    void (*each)(void *ctx, const struct walk_cost *); /* every counted walk; may be NULL */
    /* Filled: */
    uint64_t walks;
    double sum[ROWS][COLS]; /* over those walks */
    double other;           /* cycles of data accesses and second-level TLB hits meanwhile */
};

/* Run the words (without --paging, which is ept) with that replacement. False: it failed, and the
 * check says so. */
bool positions_run(struct check *, const char *words, struct positions *);
double positions_total(const struct positions *); /* all positions, all walks */
double walk_cost_total(const struct walk_cost *);

#endif
