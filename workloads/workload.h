/* workload.h: a workload is one file ending in
 *
 *     REGISTER(workload, gups, .summary = "...", .params = params, .run = run);
 *
 * Parameters are unsigned integers with a unit, a default and a range; run() gets their values in
 * declaration order. Workloads use only vmm/user.h, no libc and no floating point: the same
 * source is built for ring 3 of a real guest. All randomness comes from u->rng.
 *
 * run() calls u_phase(u, "setup") before building its data and u_phase(u, "work") before the part
 * that experiments compare.
 */
#ifndef NB_WORKLOADS_WORKLOAD_H
#define NB_WORKLOADS_WORKLOAD_H

#include "base/param.h"
#include "base/registry.h"
#include "vmm/user.h"

struct workload {
    const char *name, *summary;
    const struct param *params;
    void (*run)(struct user *, const uint64_t *p);
};

#endif
