/* param.h: parameters of plug-ins: unsigned integers with a unit, a default and a range.
 *
 * A workload or a strategy declares a list that ends with .name = NULL; its values are an array in
 * the order of the list.
 */
#ifndef NB_BASE_PARAM_H
#define NB_BASE_PARAM_H

#include <stddef.h>
#include <stdint.h>

struct param {
    const char *name;
    uint64_t def, min, max;
    const char *unit; /* "bytes" accepts 64M; others are plain numbers */
    const char *help;
};

enum { MAX_PARAMS = 12 };

/* Length of a list; NULL is an empty one. */
unsigned param_count(const struct param *);
/* Fill values[MAX_PARAMS] with the defaults, 0 behind them. */
void param_defaults(const struct param *, uint64_t *values);
/* Apply "key=value" of `owner` ("workload gups"). NB_OK, or NB_USAGE with a sentence in err and
 * values unchanged. */
int param_set(const char *owner, const struct param *, uint64_t *values, const char *kv, char *err,
              size_t errlen);

#endif
