/* exits_labvm.c: the probes inside a labvm: one boot, both modes, instructions for nanoseconds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "bench/bench_util.h"
#include "bench/exits.h"
#include "vmm/labvm.h"

enum { MODES = 2, WORDS = 12, SECONDS = 600 };
static const char *const modes[MODES][2] = {{"ept", "labvm npt=1"}, {"shadow", "labvm npt=0"}};

struct jobs {
    struct labvm_job job[MODES];
    char *words[WORDS];
};

static void make_jobs(const struct exits_config *cfg, struct jobs *j)
{
    unsigned n = 0;
    j->words[n++] = strf("exits");
    j->words[n++] = strf("--json");
    j->words[n++] = strf("--quiet");
    j->words[n++] = strf("--batches=%u", cfg->batches);
    if (cfg->timeout > 0)
        j->words[n++] = strf("--timeout=%.0f", cfg->timeout); /* of the machine's time */
    if (cfg->events)
        j->words[n++] = strf("--events=%u", cfg->events);
    if (cfg->only)
        j->words[n++] = strf("--probe=%s", cfg->only);
    for (unsigned i = 0; i < MODES; i++)
        j->job[i] = (struct labvm_job){.paging = modes[i][0], .argv = j->words};
}

static void on_progress(void *ctx, unsigned job, const char *what)
{
    const struct exits_config *cfg = ctx;
    if (cfg->progress)
        cfg->progress(cfg->ctx, job, MODES, what);
}

/* NULL, or what is wrong with a document that should be of this mode. */
static const char *wrong_with(const json_t *d, unsigned mode)
{
    const char *wrong = d ? exits_check(d) : "no JSON";
    const json_t *m = json_array_get(json_object_get(d, "machines"), 0);
    if (wrong)
        return wrong;
    return strcmp(json_string_value(json_object_get(m, "paging")), modes[mode][0]) == 0
               ? NULL
               : "it ran in the other mode";
}

/* What ran inside is data from elsewhere: checked, then named and given its unit. */
static json_t *machine_of(const struct labvm_job *job, unsigned mode, char *err, size_t errlen)
{
    json_t *d = job->out ? json_loads(job->out, 0, NULL) : NULL;
    const char *wrong = wrong_with(d, mode), *errors = job->errors ? job->errors : "";
    json_t *m = json_incref(json_array_get(json_object_get(d, "machines"), 0));
    json_decref(d);
    if (wrong) {
        snprintf(err, errlen, "%s: exit code %d, %s%s%.*s", modes[mode][1], job->status, wrong,
                 *errors ? ": " : "", (int)strcspn(errors, "\n"), errors);
        json_decref(m);
        return NULL;
    }
    json_object_set_new(m, "name", json_string(modes[mode][1]));
    json_object_set_new(m, "unit", json_string("instructions"));
    return m;
}

static json_t *machines_of(const struct jobs *j, char *err, size_t errlen)
{
    json_t *all = json_array();
    for (unsigned i = 0; i < MODES; i++) {
        json_t *m = machine_of(&j->job[i], i, err, errlen);
        if (!m) {
            json_decref(all);
            return NULL;
        }
        json_array_append_new(all, m);
    }
    return all;
}

/* The largest guest, and Linux beside it; which has no huge pages with less than 512 MiB. */
static uint64_t machine_mem(const struct exits_config *cfg)
{
    uint64_t most = 0;
    for (unsigned i = 0; i < exits_nprobes; i++)
        if (!cfg->only || strcmp(cfg->only, exits_probes[i].name) == 0)
            most =
                exits_mem(cfg, &exits_probes[i]) > most ? exits_mem(cfg, &exits_probes[i]) : most;
    return most + (768u << 20);
}

json_t *exits_labvm(const struct exits_config *cfg, int *code, char *err, size_t errlen)
{
    struct jobs j = {0};
    json_t *machines = NULL;
    struct exits_config copy = *cfg;
    struct labvm_config lab = {.mem = machine_mem(cfg),
                               .icount = true,
                               .timeout = SECONDS,
                               .progress = on_progress,
                               .ctx = &copy};
    *code = labvm_missing(err, errlen) ? NB_NODEVICE : labvm_prepare(true, err, errlen);
    if (*code != NB_OK)
        return NULL;
    make_jobs(cfg, &j);
    *code = labvm_run(&lab, j.job, MODES, err, errlen);
    if (*code == NB_OK && !(machines = machines_of(&j, err, errlen)))
        *code = NB_FAIL;
    labvm_free(j.job, MODES);
    for (unsigned i = 0; i < WORDS; i++)
        free(j.words[i]);
    return machines;
}
