/* fuzz.h: programs by number, under every strategy; and the smallest program that still fails. */
#ifndef NB_FUZZ_FUZZ_H
#define NB_FUZZ_FUZZ_H

#include "fuzz/kernel.h"
#include "fuzz/raw.h"

enum fuzz_kind { FUZZ_BOTH, FUZZ_RAW, FUZZ_KERNEL }; /* both: every other program */

struct fuzz_config {
    uint64_t seed;
    unsigned ops; /* of a program */
    enum fuzz_kind kind;
    bool four_levels; /* of every program's tables: a KVM may have no more */
    bool kvm;         /* kernel programs on this host's KVM, beside native on the model */
    const struct paging *only[64]; /* strategies, sorted by name */
    unsigned nonly;
    bool every_machine; /* each program on all machines of a strategy, not on one of them in turn */
};

struct fuzz_totals {
    uint64_t programs, runs, early, accesses,
        certain; /* early: runs that ended by a guest without memory */
};

struct fuzz_failure {
    uint64_t number; /* of the program */
    char machine[96];
    struct fuzz_machine at;
    struct verdict verdict;
    struct fuzz_prog program;
};

/* Program `number` of a seed. */
void fuzz_program(const struct fuzz_config *, uint64_t number, struct fuzz_prog *);
/* Bytes as a program, any bytes are one, and as the number that says on which machines: the last byte, whose
 * first bit set makes it a kernel program. */
uint64_t fuzz_of_bytes(const unsigned char *, size_t, struct fuzz_prog *);
/* Run it under every strategy. True when one failed: *f says how, and owns the program. */
bool fuzz_one(const struct fuzz_config *, uint64_t number, struct fuzz_prog *, struct fuzz_totals *,
              struct fuzz_failure *f);
/* One program on one machine. */
void fuzz_try(const struct fuzz_prog *, const struct fuzz_machine *, struct verdict *);
/* Take out of f->program what it can do without and still fail on f->at (ddmin: Zeller and
 * Hildebrandt, IEEE TSE 28(2), 2002). */
void fuzz_shrink(struct fuzz_failure *);
/* All strategies, sorted by name. */
unsigned fuzz_strategies(const struct paging **out, unsigned max);

#endif
