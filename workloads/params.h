/* params.h: a workload's parameters from the command line: base/param.h of its list. */
#ifndef NB_WORKLOADS_PARAMS_H
#define NB_WORKLOADS_PARAMS_H

#include <stdio.h>

#include "base/param.h"
#include "workloads/workload.h"

static inline unsigned params_count(const struct workload *w) { return param_count(w->params); }
static inline void params_default(const struct workload *w, uint64_t *values)
{
    param_defaults(w->params, values);
}
static inline int params_set(const struct workload *w, uint64_t *values, const char *kv, char *err,
                             size_t errlen)
{
    char owner[64];
    snprintf(owner, sizeof owner, "workload %s", w->name);
    return param_set(owner, w->params, values, kv, err, errlen);
}

#endif
