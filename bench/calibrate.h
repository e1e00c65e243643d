/* calibrate.h: a CPU preset of this machine: what was measured, and what had to be assumed.
 *
 * Measured: the reach of the TLBs and what a miss costs (calibrate_tlb.h), the length of a cycle, and
 * the costs of events under this host's KVM (exits.h). Read from the system: sizes of data caches.
 * Everything else is taken from a base preset and says so in the file.
 */
#ifndef NB_BENCH_CALIBRATE_H
#define NB_BENCH_CALIBRATE_H

#include <jansson.h>
#include <stdio.h>

#include "bench/calibrate_tlb.h"
#include "shadow_vs_ept/cpu.h"

#define CALIBRATION_SCHEMA "nestbed-calibration/1"

/* The costs of a preset that events of a real KVM tell. */
enum cal_cost {
    CAL_EXIT,
    CAL_FILL,
    CAL_REFLECT,
    CAL_PT_WRITE,
    CAL_CR3,
    CAL_INVLPG,
    CAL_EPT_VIOLATION,
    CAL_GUEST_FAULT,
    CAL_ALLOC_4K,
    CAL_ALLOC_2M,
    CAL_ALLOC_1G,
    CAL_COSTS
};
extern const char *const cal_cost_names[CAL_COSTS]; /* keys of section [cost] */

struct cal_value {
    bool measured;
    double cycles;    /* measured or not */
    char source[320]; /* what was measured, with its interval; or what is assumed, and why */
};

struct calibration {
    const struct cpu *base;
    char model[128];       /* of the processor, as the system calls it */
    bool virtualised;      /* by CPUID: walks have two dimensions */
    bool pcid;             /* the processor has them */
    struct interval cycle; /* ns */
    struct chase_result chase;
    struct tlb_estimate tlb;
    json_t *machine; /* of exits.h, owned; NULL: not measured, and why: */
    json_t *nested;  /* a second one, with nested paging, or NULL */
    char why[256];
};

/* ns of one cycle at the speed the core runs: a chain of multiplications of three cycles each. */
struct interval cycle_length(unsigned rounds);

/* Costs in cycles from the events of c->machine; with c->nested, that one tells what only nested
 * paging shows. A machine that counts instructions is taken at one cycle each, which the source
 * says. On a KVM that emulates ring 0, events of ring 0 that take no exit of their own are not costs
 * of the model, which adds one to each. */
void cal_costs(const struct calibration *c, struct cal_value out[CAL_COSTS]);

/* `reach` entries in the shape of a base array: sets a power of two. *exact: they fit as they are. */
struct geometry cal_fit(uint64_t reach, const struct geometry *base, bool *exact);

/* The preset as an INI file. */
void cal_write_ini(const struct calibration *, FILE *);
/* The evidence: curves, levels, events. */
json_t *cal_json(const struct calibration *);
/* The curves as the table of the figure; the first line names the columns. */
void cal_write_tsv(const struct calibration *, FILE *);

#endif
