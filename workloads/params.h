/* params.h: a workload's parameters from the command line. */
#ifndef NB_WORKLOADS_PARAMS_H
#define NB_WORKLOADS_PARAMS_H

#include <stddef.h>
#include <stdint.h>

#include "workloads/workload.h"

/* Number of parameters; values[] below holds as many, in declaration order. */
unsigned params_count(const struct workload *);
/* Fill values[WL_MAX_PARAMS] with the defaults. */
void params_default(const struct workload *, uint64_t *values);
/* Apply "key=value". NB_OK, or NB_USAGE with a sentence in err and values unchanged. */
int params_set(const struct workload *, uint64_t *values, const char *kv, char *err, size_t errlen);

#endif
