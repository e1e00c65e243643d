/* explain.h: one translation, reference by reference (the `walk` command, labs, tests). */
#ifndef NB_VMM_EXPLAIN_H
#define NB_VMM_EXPLAIN_H

#include "shadow_vs_ept/walk_log.h"
#include "vmm/engine.h"

struct walk_report {
    gva_t gva;
    gpa_t gpa;
    hpa_t hpa;
    uint64_t cr3;
    unsigned shift; /* log2 of the bytes one TLB entry covers: the effective page */
    unsigned refs, refs_nested;
    unsigned probes; /* places read, where each reference reads several at once; 0: refs are all */
    unsigned seg_guest, seg_vmm; /* translations by direct segments */
    unsigned nsteps;
    struct walk_step steps[WALK_MAX_STEPS];
};

/* Boot a small guest as cfg says, map one page of the configured size at gva (rounded down to that
 * page), or with direct segments the least primary region, store to gva once so that nothing is missing, then make one uncached walk for a load of
 * gva. Returns NB_OK, or an exit code with a reason in err (gva not canonical or outside user
 * space, host too small, ...). cfg->mem must hold the page. */
int model_explain(const struct vm_config *cfg, gva_t gva, struct walk_report *out, char *err,
                  size_t errlen);

#endif
