/* registry.c: finding and listing what registered itself. */
#include "base/registry.h"

#include <stdlib.h>
#include <string.h>

const void *reg_find(const void *start, const void *stop, const char *name)
{
    for (const struct reg_head *const *p = start; (const void *)p < stop; p++)
        if (strcmp((*p)->name, name) == 0)
            return *p;
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    const struct reg_head *x = *(const struct reg_head *const *)a,
                          *y = *(const struct reg_head *const *)b;
    return strcmp(x->name, y->name);
}

size_t reg_sorted(const void *start, const void *stop, const struct reg_head **out, size_t max)
{
    size_t n = 0;
    for (const struct reg_head *const *p = start; (const void *)p < stop && n < max; p++)
        out[n++] = *p;
    qsort(out, n, sizeof *out, by_name);
    return n;
}

const char *reg_duplicate(const void *start, const void *stop)
{
    for (const struct reg_head *const *p = start; (const void *)p < stop; p++)
        for (const struct reg_head *const *q = start; q < p; q++)
            if (strcmp((*p)->name, (*q)->name) == 0)
                return (*p)->name;
    return NULL;
}

unsigned edit_distance(const char *a, const char *b)
{
    enum { MAX = 63 };
    unsigned row[MAX + 1];
    size_t na = strlen(a), nb = strlen(b);
    if (na > MAX || nb > MAX)
        return MAX;
    for (size_t j = 0; j <= nb; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned diag = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned best = diag + (a[i - 1] != b[j - 1]);
            diag = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[nb];
}

const char *reg_nearest(const void *start, const void *stop, const char *wrong)
{
    const char *best = NULL;
    unsigned limit = (unsigned)strlen(wrong) / 3 + 2;
    for (const struct reg_head *const *p = start; (const void *)p < stop; p++) {
        unsigned d = edit_distance((*p)->name, wrong);
        if (d < limit || (d == limit && best && strcmp((*p)->name, best) < 0)) {
            best = (*p)->name;
            limit = d;
        }
    }
    return best;
}
