/* strategy.h: a strategy and parameters of it in a word each: "shsp window=64 patience=0". */
#ifndef NB_TESTS_STRATEGY_H
#define NB_TESTS_STRATEGY_H

#include <stdio.h>
#include <string.h>

#include "shadow_vs_ept/paging.h"

/* Its name; params[MAX_PARAMS] get their values. */
static inline const char *strategy(const char *words, uint64_t *params)
{
    char text[200], *save = NULL, err[300];
    snprintf(text, sizeof text, "%s", words);
    const char *name = strtok_r(text, " ", &save);
    const struct paging *p = REG_FIND(paging, name);
    assert_non_null(p);
    param_defaults(p->params, params);
    for (char *kv = strtok_r(NULL, " ", &save); kv; kv = strtok_r(NULL, " ", &save))
        if (param_set(p->name, p->params, params, kv, err, sizeof err) != 0)
            fail_msg("%s", err);
    return p->name;
}

#endif
