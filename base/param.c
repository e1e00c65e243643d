/* param.c: parameters of workloads and strategies from the command line. */
#include "base/param.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "base/registry.h"

unsigned param_count(const struct param *list)
{
    unsigned n = 0;
    while (list && n < MAX_PARAMS && list[n].name)
        n++;
    return n;
}

void param_defaults(const struct param *list, uint64_t *values)
{
    unsigned n = param_count(list);
    for (unsigned i = 0; i < MAX_PARAMS; i++)
        values[i] = i < n ? list[i].def : 0;
}

static bool in_bytes(const struct param *p) { return strcmp(p->unit, "bytes") == 0; }

/* "4K to 1T bytes" or "0 to 100 (percent)"; returns buf. */
static const char *range(const struct param *p, char *buf, size_t n)
{
    char lo[24], hi[24];
    if (in_bytes(p))
        snprintf(buf, n, "%s to %s bytes", format_size(p->min, lo, sizeof lo),
                 format_size(p->max, hi, sizeof hi));
    else
        snprintf(buf, n, "%llu to %llu (%s)", (unsigned long long)p->min,
                 (unsigned long long)p->max, p->unit);
    return buf;
}

static int unknown(const char *owner, const struct param *params, const char *key, char *err,
                   size_t errlen)
{
    const struct reg_head *heads[MAX_PARAMS];
    unsigned n = param_count(params);
    char list[256] = "";
    for (unsigned i = 0; i < n; i++) {
        heads[i] = (const void *)&params[i]; /* both begin with the name */
        size_t len = strlen(list);
        snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", params[i].name);
    }
    const char *near = strlen(key) > 32 ? NULL : reg_nearest(heads, heads + n, key);
    snprintf(err, errlen, "%s has no parameter '%s'; %s%s%s%s%s", owner, key,
             near ? "did you mean '" : "", near ? near : "", near ? "'? " : "",
             n ? "its parameters are " : "it has none", list);
    return NB_USAGE;
}

static const struct param *find(const struct param *params, const char *key, size_t len)
{
    for (unsigned i = 0; i < param_count(params); i++)
        if (strlen(params[i].name) == len && memcmp(params[i].name, key, len) == 0)
            return &params[i];
    return NULL;
}

int param_set(const char *owner, const struct param *params, uint64_t *values, const char *kv,
              char *err, size_t errlen)
{
    const char *eq = strchr(kv, '=');
    char key[64], text[96];
    if (!eq || eq == kv) {
        snprintf(err, errlen, "'%s': key=value is expected", kv);
        return NB_USAGE;
    }
    snprintf(key, sizeof key, "%.*s", (int)(eq - kv < 63 ? eq - kv : 63), kv);
    const struct param *p = find(params, kv, (size_t)(eq - kv));
    if (!p)
        return unknown(owner, params, key, err, errlen);
    uint64_t v;
    if (!(in_bytes(p) ? parse_size(eq + 1, &v) : parse_u64(eq + 1, &v))) {
        snprintf(err, errlen, "%s = '%s' is not a %s; %s is expected", key, eq + 1,
                 in_bytes(p) ? "size such as 64M" : "whole number", range(p, text, sizeof text));
        return NB_USAGE;
    }
    if (v < p->min || v > p->max) {
        snprintf(err, errlen, "%s = %s is out of range: %s", key, eq + 1,
                 range(p, text, sizeof text));
        return NB_USAGE;
    }
    values[p - params] = v;
    return NB_OK;
}
