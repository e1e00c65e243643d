/* params.c: a workload's parameters from the command line. */
#include "workloads/params.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"

unsigned params_count(const struct workload *w)
{
    unsigned n = 0;
    while (w->params && n < WL_MAX_PARAMS && w->params[n].name)
        n++;
    return n;
}

void params_default(const struct workload *w, uint64_t *values)
{
    unsigned n = params_count(w);
    for (unsigned i = 0; i < WL_MAX_PARAMS; i++)
        values[i] = i < n ? w->params[i].def : 0;
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

static int unknown(const struct workload *w, const char *key, char *err, size_t errlen)
{
    const struct reg_head *heads[WL_MAX_PARAMS];
    unsigned n = params_count(w);
    char list[256] = "";
    for (unsigned i = 0; i < n; i++) {
        heads[i] = (const void *)&w->params[i]; /* both begin with the name */
        size_t len = strlen(list);
        snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", w->params[i].name);
    }
    const char *near = strlen(key) > 32 ? NULL : reg_nearest(heads, heads + n, key);
    snprintf(err, errlen, "workload %s has no parameter '%s'; %s%s%sits parameters are %s", w->name,
             key, near ? "did you mean '" : "", near ? near : "", near ? "'? " : "",
             n ? list : "(none)");
    return NB_USAGE;
}

static const struct param *find(const struct workload *w, const char *key, size_t len)
{
    for (unsigned i = 0; i < params_count(w); i++)
        if (strlen(w->params[i].name) == len && memcmp(w->params[i].name, key, len) == 0)
            return &w->params[i];
    return NULL;
}

int params_set(const struct workload *w, uint64_t *values, const char *kv, char *err, size_t errlen)
{
    const char *eq = strchr(kv, '=');
    char key[64], text[96];
    if (!eq || eq == kv) {
        snprintf(err, errlen, "'%s': key=value is expected", kv);
        return NB_USAGE;
    }
    snprintf(key, sizeof key, "%.*s", (int)(eq - kv < 63 ? eq - kv : 63), kv);
    const struct param *p = find(w, kv, (size_t)(eq - kv));
    if (!p)
        return unknown(w, key, err, errlen);
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
    values[p - w->params] = v;
    return NB_OK;
}
