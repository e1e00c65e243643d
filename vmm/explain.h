/* explain.h: one translation, reference by reference (the `walk` command, labs, tests). */
#ifndef NB_VMM_EXPLAIN_H
#define NB_VMM_EXPLAIN_H

#include "vmm/engine.h"

enum walk_dim { DIM_GUEST, DIM_NESTED, DIM_SHADOW };

/* One table entry read by the walk, in order. */
struct walk_step {
    enum walk_dim dim;
    unsigned level;       /* of the entry: 5..1 */
    unsigned guest_level; /* DIM_NESTED: the guest table (5..1) whose gpa is being translated; 0 =
                             the data page */
    uint64_t index;       /* 0..511 in its table */
    gpa_t gpa;      /* DIM_GUEST: guest-physical address of the entry; DIM_NESTED: the gpa being
                       translated */
    hpa_t hpa;      /* host-physical address of the entry */
    uint64_t value; /* the entry, as the walk found it */
};

enum { WALK_MAX_STEPS = 64 };

struct walk_report {
    gva_t gva;
    gpa_t gpa;
    hpa_t hpa;
    uint64_t cr3;
    unsigned shift; /* log2 of the bytes one TLB entry covers: the effective page */
    unsigned refs, refs_nested;
    unsigned nsteps;
    struct walk_step steps[WALK_MAX_STEPS];
};

/* Boot a small guest as cfg says, map one page of the configured size at gva (rounded down to that
 * page), store to gva once so that nothing is missing, then make one uncached walk for a load of
 * gva. Returns NB_OK, or an exit code with a reason in err (gva not canonical or outside user
 * space, host too small, ...). cfg->mem must hold the page. */
int model_explain(const struct vm_config *cfg, gva_t gva, struct walk_report *out, char *err,
                  size_t errlen);

#endif
