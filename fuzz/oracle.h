/* oracle.h: what a processor may answer to an access, read off the architecture manual.
 *
 * Written from Intel SDM vol. 3A, chapter 4, to be judged against: it shares no code with the MMU of
 * shadow_vs_ept/ and is slow and plain on purpose. Sections are named where a rule is used.
 *
 * Two layers. oracle_translate() knows no caches: the tables say what happens. struct oracle adds
 * what a processor may remember (4.10): translations and partial ones that the program itself has
 * used, until an operation that must invalidate them. Between a change of the tables and that
 * operation several answers are right, so the answer is a set; after it, the set has one member.
 *
 * Read narrowly, as this project's MMU is: nothing is cached that no access has used (but see
 * oracle_speculate()), and an access that faults sets no flag (4.8 asks for flags of entries "used as part
 * of a translation"; processors differ in what they do before a fault). An address below MAXPHYADDR where the
 * guest has no memory, which the manual leaves to the platform, counts as a reserved bit found out last.
 * Not modelled: protection keys, shadow stacks, SGX, memory types.
 */
#ifndef NB_FUZZ_ORACLE_H
#define NB_FUZZ_ORACLE_H

#include "base/addr.h"
#include "base/pte.h"

/* Registers that translation obeys (4.1.3). */
struct oracle_regs {
    unsigned levels; /* 4, or 5: CR4.LA57 */
    bool wp, smep, smap, pge, nxe, pcide;
    uint64_t root; /* of CR3 */
    unsigned pcid;
};

struct oracle_access {
    uint64_t va;
    bool store, fetch, supervisor, ac;
    bool speculative; /* not an access: what could be cached of the address, whatever its rights */
};

/* The guest's memory; entries are 8 bytes, aligned. */
struct oracle_memory {
    uint64_t bytes;
    uint64_t (*read)(const void *ctx, uint64_t gpa);
    const void *ctx;
};

enum oracle_kind { ORACLE_ADDRESS, ORACLE_PF, ORACLE_GP };

struct oracle_answer {
    enum oracle_kind kind;
    uint64_t gpa;   /* valid when ORACLE_ADDRESS */
    unsigned error; /* valid when ORACLE_PF */
    unsigned nset;  /* entries that get flags: */
    struct {
        uint64_t gpa, bits;
    } set[5];
};

/* The answer of the tables alone. */
void oracle_translate(const struct oracle_regs *, const struct oracle_memory *,
                      const struct oracle_access *, struct oracle_answer *);

/* ---- with what may be cached ---- */

/* Rights gathered over entries: every R/W set, every U/S set, no XD set. */
struct oracle_rights {
    bool w, u, x;
};

/* A TLB entry (4.10.2): a page, whole whatever the processor splits it into. But a fault that only one
 * of its parts took is sure to drop that part: the manual promises the whole page of what the tables say
 * then, which may be another. */
struct oracle_page {
    uint64_t va, gpa, hole; /* hole: 4 KiB page of it that a fault has dropped, or ~0 */
    unsigned shift, pcid;
    bool global, dirty;
    struct oracle_rights rights;
};
/* A paging-structure-cache entry (4.10.3): for addresses that begin so, go on at `table`. */
struct oracle_prefix {
    uint64_t prefix, table;
    unsigned level, pcid; /* of `table` */
    struct oracle_rights rights;
};
/* The same as AMD does it, kept by where the entry lies: the entry's value of then. */
struct oracle_value {
    uint64_t at, value, hole; /* hole: 4 KiB page that a fault has dropped it for, or ~0 */
    unsigned pcid;
};

/* One way to come to an answer, and what may be kept of it. */
struct oracle_way {
    struct oracle_answer answer;
    bool walked;   /* page and entries below are valid when the answer is an address */
    bool on_table; /* the bytes accessed lie in a table that led to them */
    struct oracle_page page;
    unsigned low, top;                  /* levels read: top .. low, the leaf's */
    uint64_t at[6], value[6], table[6]; /* by level: place and value read, the table it is in */
    struct oracle_rights above[6];
};

enum { ORACLE_MAX = 256, ORACLE_WAYS = 512 };

struct oracle {
    struct oracle_regs regs;
    struct oracle_memory mem;
    bool by_place; /* entries are cached by their place, not by address prefix */
    bool full;     /* something did not fit: answers are no longer complete */
    unsigned npages, nprefixes, nvalues, nways;
    struct oracle_page page[ORACLE_MAX];
    struct oracle_prefix prefix[ORACLE_MAX];
    struct oracle_value value[ORACLE_MAX];
    struct oracle_way way[ORACLE_WAYS];
};

void oracle_init(struct oracle *, const struct oracle_regs *, const struct oracle_memory *,
                 bool by_place);
/* Fill way[] with all that is right for this access now. */
void oracle_ask(struct oracle *, const struct oracle_access *);
/* The access was answered so: one of way[]. Remembers what the processor may, forgets what it must. */
void oracle_observe(struct oracle *, const struct oracle_access *, const struct oracle_answer *);
/* The processor may now, without an access, cache what entries marked accessed say of va (4.10.2.3: "may
 * be created for accesses that are speculative"). For machines that do so, before each change. */
void oracle_speculate(struct oracle *, uint64_t va);
/* Do two answers agree in all that software sees? */
bool oracle_same(const struct oracle_answer *, const struct oracle_answer *);

/* What invalidates (4.10.4.1). */
void oracle_cr3(struct oracle *, uint64_t root, unsigned pcid, bool keep);
void oracle_invlpg(struct oracle *, uint64_t va);
void oracle_invpcid(struct oracle *, unsigned type, unsigned pcid, uint64_t va);
void oracle_control(struct oracle *, const struct oracle_regs *);

/* "gpa 0x1000, A at 0x2008" */
char *oracle_describe(const struct oracle_answer *, char *buf, unsigned long n);

#endif
