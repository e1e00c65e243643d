/* validate_run.c: runs the guests of a validation on every machine that is there.
 *
 * Counting comes first: the record of a machine names its backend, and that names the strategy of
 * the model which has to predict it. A guest is predicted once for each strategy.
 */
#include "bench/validate_run.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "bench/bench_proc.h"
#include "bench/bench_util.h"
#include "bench/progress.h"
#include "bench/validate.h"
#include "vmm/kvm.h"
#include "vmm/labvm.h"
#include "workloads/params.h"

enum { MAX_RUNS = 3 * VALIDATE_MAX_GUESTS, STRATEGIES = 3 };

/* One guest on one machine. */
struct run {
    const struct guest *guest;
    const char *target, *paging; /* paging NULL: what the host has */
    const char *status;          /* "ran", "skipped", "failed" */
    char *reason;                /* unless it ran */
    json_t *record;
};

struct session {
    const struct validation *v;
    json_t *doc;
    char *program;
    struct run run[MAX_RUNS];
    unsigned nruns, done;
    struct {
        const char *strategy;
        json_t *record[VALIDATE_MAX_GUESTS];
    } predicted[STRATEGIES];
};

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* Can it stand in JSON? What a machine printed may be anything. */
static char *cleaned(char *s)
{
    for (char *p = s; *p; p++)
        if (*p & 0x80 || (*p > 0 && *p < ' '))
            *p = '?';
    return s;
}

static void step(struct session *s, const char *what)
{
    progress_step(s->done++, 2 * s->nruns, what);
}

/* First line of what a run said on stderr, without the program's name; from malloc. */
static char *complaint(int code, const char *errors)
{
    static const char name[] = "nestbed: ";
    if (code == NB_TIMEOUT)
        return strf("ran out of time; see --timeout");
    if (!errors || !*errors)
        return strf("exit %d without a message", code);
    if (strncmp(errors, name, strlen(name)) == 0)
        errors += strlen(name);
    return strf("%.*s", (int)strcspn(errors, "\n"), errors);
}

/* What one run printed. Text of a machine is bounded by who collected it. */
static void take(struct run *r, int code, const char *out, const char *errors)
{
    json_error_t why;
    r->record = json_loads(out ? out : "", JSON_REJECT_DUPLICATES, &why);
    const char *outcome = text_of(json_object_get(r->record, "outcome"), "status");
    bool well = outcome && strcmp(outcome, "ok") == 0;
    if (json_is_object(r->record) && (code == NB_OK || !well)) {
        r->status = "ran"; /* an outcome that is not ok is a row */
        return;
    }
    json_decref(r->record); /* one that says ok and a status that does not: it is not believed */
    r->record = NULL;
    r->status = code == NB_SKIP || code == NB_NODEVICE ? "skipped" : "failed";
    r->reason = cleaned(code == NB_OK ? strf("printed no record: line %d: %s", why.line, why.text)
                                      : complaint(code, errors));
}

/* None of a target's runs can be made, for one reason. */
static void skip_target(struct session *s, const char *target, const char *status,
                        const char *reason)
{
    for (unsigned i = 0; i < s->nruns; i++)
        if (strcmp(s->run[i].target, target) == 0 && !s->run[i].status) {
            s->run[i].status = status;
            s->run[i].reason = cleaned(strf("%s", reason));
        }
}

/* ---- the host's KVM ---- */

/* Arguments with the program in front. */
static char **with_program(const char *program, char **words)
{
    unsigned n = 0;
    while (words[n])
        n++;
    char **argv = xcalloc(n + 2, sizeof *argv);
    argv[0] = strf("%s", program);
    memcpy(argv + 1, words, n * sizeof *words);
    free(words);
    return argv;
}

/* Run this nestbed; false when interrupted. */
static bool run_here(struct session *s, struct run *r, const char *engine, const char *paging)
{
    struct proc p;
    char **argv = with_program(s->program, validation_words(s->v, r->guest, engine, paging));
    int code = proc_run(&p, argv, s->v->timeout);
    if (code < 0) {
        procs_kill_all();
    } else {
        char *out = proc_output(&p, NULL), *errors = proc_errors(&p);
        take(r, code, out, errors);
        free(out);
        free(errors);
    }
    proc_close(&p);
    words_free(argv);
    return code >= 0;
}

static bool count_on_host(struct session *s)
{
    char err[512];
    if (!s->v->host)
        return true;
    if (!s->v->program && !kvm_host(err, sizeof err)) {
        skip_target(s, "host", "skipped", err);
        return true;
    }
    for (unsigned i = 0; i < s->nruns; i++) {
        struct run *r = &s->run[i];
        if (strcmp(r->target, "host") != 0)
            continue;
        char *what = strf("host %s", r->guest->workload->name);
        step(s, what);
        free(what);
        if (!run_here(s, r, "kvm", NULL))
            return false;
    }
    return true;
}

/* ---- labvm ---- */

static void lab_progress(void *ctx, unsigned job, const char *what)
{
    struct session *s = ctx; /* its first runs are the jobs, in the same order */
    char *text = strf("%s %s", what ? what : "labvm", s->run[job].guest->workload->name);
    s->done = job;
    step(s, text);
    free(text);
}

static void count_in_lab(struct session *s)
{
    struct labvm_job jobs[MAX_RUNS] = {0};
    struct run *of[MAX_RUNS];
    struct labvm_config cfg = {.icount = true, /* virtual time: the same counts each time */
                               .timeout = 10 * s->v->timeout,
                               .progress = lab_progress,
                               .ctx = s};
    char err[2048] = "";
    unsigned n = 0;
    for (unsigned i = 0; i < s->nruns; i++) {
        struct run *r = &s->run[i];
        if (strcmp(r->target, "labvm") != 0)
            continue;
        of[n] = r;
        jobs[n++] = (struct labvm_job){.paging = r->paging,
                                       .argv = validation_words(s->v, r->guest, "kvm", r->paging)};
    }
    int code = labvm_run(&cfg, jobs, n, err, sizeof err);
    for (unsigned i = 0; i < n; i++) {
        if (jobs[i].done)
            take(of[i], jobs[i].status, jobs[i].out, jobs[i].errors);
        words_free(jobs[i].argv);
        jobs[i].argv = NULL;
    }
    labvm_free(jobs, n);
    if (code != NB_OK)
        skip_target(s, "labvm", code == NB_NODEVICE ? "skipped" : "failed", err);
    for (unsigned i = 0; i < n; i++)
        assert(of[i]->status); /* NB_OK: every job is done */
}

static bool count_on_labvm(struct session *s)
{
    char why[512];
    if (!s->v->labvm)
        return true;
    if (labvm_missing(why, sizeof why))
        skip_target(s, "labvm", "skipped", why);
    else
        count_in_lab(s);
    return !interrupted();
}

/* ---- the model, and both together ---- */

/* Record of the model for a guest; made at first need. *failed says why there is none. */
static const json_t *predict(struct session *s, const struct guest *g, const char *strategy,
                             char **failed)
{
    unsigned i = (unsigned)(g - s->v->guest), k = 0;
    while (s->predicted[k].strategy && strcmp(s->predicted[k].strategy, strategy) != 0)
        k++;
    assert(k < STRATEGIES);
    s->predicted[k].strategy = strategy;
    if (!s->predicted[k].record[i]) {
        struct run r = {.guest = g};
        if (run_here(s, &r, "model", strategy))
            *failed = r.reason;
        s->predicted[k].record[i] = r.record;
    }
    return s->predicted[k].record[i];
}

static json_t *params_of(const struct guest *g)
{
    json_t *o = json_object();
    for (unsigned i = 0; i < params_count(g->workload); i++)
        json_object_set_new(o, g->workload->params[i].name, json_integer((json_int_t)g->params[i]));
    return o;
}

static json_t *string_or_null(const char *s) { return s ? json_string(s) : json_null(); }

/* Why it did not run: one line for all runs of a machine that share the reason. */
static void say_why(const struct session *s, const struct run *r)
{
    if (!r->reason)
        return;
    for (const struct run *other = s->run; other < r; other++)
        if (strcmp(other->target, r->target) == 0 && other->reason &&
            strcmp(other->reason, r->reason) == 0)
            return;
    progress_end();
    fprintf(stderr, "nestbed: %s: %s: %s%s%s\n", r->target, r->status, r->reason,
            strcmp(r->status, "failed") == 0 ? "; first: " : "",
            strcmp(r->status, "failed") == 0 ? r->guest->workload->name : "");
}

/* What became of a run, for the document. */
static void log_run(struct session *s, const struct run *r, const char *strategy)
{
    const char *paging = r->paging ? r->paging : text_of(r->record, "paging");
    json_t *j = json_pack(
        "{ss so ss so so so so ss so}", "target", r->target, "paging", string_or_null(paging),
        "workload", r->guest->workload->name, "params", params_of(r->guest), "backend",
        string_or_null(text_of(r->record, "backend")), "kernel",
        string_or_null(text_of(r->record, "kvm_kernel")), "predicted_by", string_or_null(strategy),
        "status", r->status, "reason", string_or_null(r->reason));
    if (!j || json_array_append_new(json_object_get(s->doc, "runs"), j) != 0)
        die(NB_INTERNAL, "cannot build the validation document: out of memory");
    say_why(s, r);
}

/* Why a record cannot be compared, from malloc; NULL: it can. */
static char *unfit(const struct run *r, const char *paging, const char *strategy)
{
    const char *backend = text_of(r->record, "backend");
    if (!strategy)
        return strf("no strategy of the model predicts backend %s", backend ? backend : "null");
    if (!paging || (strcmp(paging, "ept") != 0 && strcmp(paging, "shadow") != 0))
        return strf("it does not say whether it ran with ept or shadow");
    if (r->paging && strcmp(r->paging, paging) != 0)
        return strf("it ran with %s", paging);
    return NULL;
}

/* The model's record for this run; without one the run has failed, and says why. */
static const json_t *model_of(struct session *s, struct run *r, const char *strategy)
{
    char *why = NULL;
    const json_t *model = predict(s, r->guest, strategy, &why);
    if (!model) {
        r->status = "failed";
        r->reason = strf("the model with %s: %s", strategy, why ? why : "interrupted");
        free(why);
    }
    return model;
}

static void compare(struct session *s, struct run *r)
{
    const char *paging = text_of(r->record, "paging");
    const char *strategy = validate_strategy(text_of(r->record, "backend"));
    const json_t *model = NULL;
    if (r->record && (r->reason = unfit(r, paging, strategy)))
        r->status = "failed";
    else if (r->record)
        model = model_of(s, r, strategy);
    log_run(s, r, strategy);
    if (model)
        validate_add(s->doc, &(struct pairing){.target = r->target,
                                               .paging = paging,
                                               .workload = r->guest->workload->name,
                                               .model = model,
                                               .kvm = r->record});
}

static void plan(struct session *s, const char *target, const char *paging)
{
    for (unsigned i = 0; i < s->v->nguests; i++)
        s->run[s->nruns++] =
            (struct run){.guest = &s->v->guest[i], .target = target, .paging = paging};
}

static int compare_all(struct session *s)
{
    bool any = false;
    for (unsigned i = 0; i < s->nruns; i++) {
        struct run *r = &s->run[i];
        any |= strcmp(r->status, "skipped") != 0;
        step(s, r->guest->workload->name);
        compare(s, r);
        if (interrupted())
            return NB_SIGINT;
    }
    return any ? NB_OK : NB_SKIP;
}

static void session_free(struct session *s)
{
    for (unsigned i = 0; i < s->nruns; i++) {
        json_decref(s->run[i].record);
        free(s->run[i].reason);
    }
    for (unsigned k = 0; k < STRATEGIES; k++)
        for (unsigned i = 0; i < VALIDATE_MAX_GUESTS; i++)
            json_decref(s->predicted[k].record[i]);
    free(s->program);
    free(s);
}

int validation_run(const struct validation *v, json_t *doc)
{
    struct session *s = xcalloc(1, sizeof *s);
    s->v = v;
    s->doc = doc;
    s->program = v->program ? strf("%s", v->program) : program_path();
    if (v->labvm) {
        plan(s, "labvm", "ept");
        plan(s, "labvm", "shadow");
    }
    if (v->host)
        plan(s, "host", NULL);
    int code = count_on_labvm(s) && count_on_host(s) ? compare_all(s) : NB_SIGINT;
    progress_end();
    session_free(s);
    return code;
}
