/* validate_plan.c: the guests of a validation.
 *
 * Parameters are small: the slowest machine is a KVM inside an emulator, where an exit costs some
 * 30 us and a page of guest memory several exits. They are large enough for every event a workload
 * makes to come up hundreds of times, so that 2 % is more than one event.
 */
#include "bench/validate_run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "bench/bench_util.h"
#include "workloads/params.h"

REGISTRY(workload);

enum { MAX_SETTINGS = 5, MAX_WORDS = 40 };
static const struct {
    const char *workload;
    bool quick;
    const char *sets[MAX_SETTINGS];
} table[] = {
    {"bfs", false, {"scale=12", "degree=8"}},
    {"btree", false, {"keys=50000", "ops=10000"}},
    {"chase", false, {"size=4M", "stride=256", "hops=20000"}},
    {"churn", true, {"size=2M", "updates=50", "accesses=40000"}},
    {"forkcow", true, {"procs=4", "pages=2048"}}, /* tables enough to be flooded */
    {"gups", false, {"size=4M", "updates=20000"}},
    {"stream", false, {"size=4M", "stride=64", "passes=2"}},
    {"switch", true, {"procs=4", "size=512K", "burst=100", "switches=400"}},
    {"touch", true, {"pages=2048", "rounds=4"}},
    {"zipf", false, {"size=4M", "ops=10000"}},
};

static void settle(struct guest *g, const char *const *sets)
{
    char err[256];
    for (unsigned i = 0; i < MAX_SETTINGS && sets[i]; i++)
        if (params_set(g->workload, g->params, sets[i], err, sizeof err) != NB_OK)
            die(NB_INTERNAL, "the table of validations: %s", err);
}

bool validation_add(struct validation *v, const struct workload *w)
{
    if (v->nguests == VALIDATE_MAX_GUESTS)
        return false;
    struct guest *g = &v->guest[v->nguests++];
    g->workload = w;
    params_default(w, g->params);
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
        if (strcmp(table[i].workload, w->name) == 0)
            settle(g, table[i].sets);
    return true;
}

void validation_defaults(struct validation *v, bool quick)
{
    v->nguests = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        const struct workload *w = REG_FIND(workload, table[i].workload);
        if (w && (table[i].quick || !quick))
            validation_add(v, w);
    }
}

char **validation_words(const struct validation *v, const struct guest *g, const char *engine,
                        const char *paging)
{
    char **w = xcalloc(MAX_WORDS, sizeof *w);
    unsigned n = 0;
    w[n++] = strf("run");
    w[n++] = strf("--engine=%s", engine);
    if (paging)
        w[n++] = strf("--paging=%s", paging);
    w[n++] = strf("--workload=%s", g->workload->name);
    for (unsigned i = 0; i < params_count(g->workload); i++)
        w[n++] = strf("--set=%s=%" PRIu64, g->workload->params[i].name, g->params[i]);
    w[n++] = strf("--set=guest.flush_ceiling=%u", v->flush_ceiling);
    w[n++] = strf("--set=run.hash=1");
    w[n++] = strf("--mem=%" PRIu64, v->mem);
    w[n++] = strf("--seed=%" PRIu64, v->seed);
    w[n++] = strf("--levels=%u", v->levels);
    w[n++] = strf("--guest-page=%s", v->guest_page);
    w[n++] = strf("--host-page=4k");
    if (strcmp(engine, "model") == 0)
        w[n++] = strf("--cpu=plain"); /* no PCIDs: the image uses none */
    w[n++] = strf("--json");
    return w;
}

void words_free(char **w)
{
    for (char **p = w; p && *p; p++)
        free(*p);
    free(w);
}
