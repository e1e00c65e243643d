/* cmd_run.c: `nestbed run`: one program on one machine, one record. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/command.h"
#include "bench/options.h"
#include "bench/progress.h"
#include "bench/record.h"
#include "workloads/params.h"
#include "workloads/replay.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case ARGP_KEY_INIT:
        for (unsigned i = 0; i < 4; i++)
            state->child_inputs[i] = state->input;
        return 0;
    case ARGP_KEY_ARG:
        die_argument(state, arg);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&opt_program, 0, "What to run:", 1},
                                             {&opt_machine, 0, "The machine:", 2},
                                             {&opt_real, 0, "Engines kvm and labvm:", 3},
                                             {&opt_output, 0, "Output:", 4},
                                             {0}};
static const struct argp argp = {
    .parser = parse,
    .children = children,
    .doc = "Run one workload or trace on one machine and print what it cost.\v"
           "Example: nestbed run --paging shadow --workload gups --set size=64M --json\n"
           "         nestbed run --engine kvm --workload touch --set pages=4096\n\n"
           "The record is printed even when the guest or the host runs out of memory; its outcome "
           "says so and "
           "the exit status is 1."};

static void run_workload(struct user *u, void *arg)
{
    const struct options *o = arg;
    o->workload->run(u, o->params);
}

/* What was replayed: the file, what it holds, and what the replay had to make up. */
static json_t *trace_json(const struct replay *replay, const char *path)
{
    const struct trace *t = replay_trace(replay);
    const struct trace_header *h = trace_head(t);
    const struct replay_stats *s = replay_stats(replay);
    const char *slash = strrchr(path, '/');
    char *file = trace_clean(strdup(slash ? slash + 1 : path));
    json_t *events = json_object();
    for (unsigned k = TRACE_NONE + 1; k < TRACE_KINDS; k++)
        json_object_set_new(events, trace_kind_names[k], json_count(s->events[k]));
    json_t *j =
        json_pack("{ss ss ss? ss? so so so so so so so so so so so}", "file", file, "format",
                  trace_format_of(t)->name, "command", h->command, "note", h->note, "accesses",
                  json_count(s->accesses), "stores", json_count(s->stores), "crossings",
                  json_count(s->crossings), "skipped", json_count(trace_skipped(t)), "processes",
                  json_count(s->processes), "threads", json_count(s->threads), "implicit_maps",
                  json_count(s->implicit_maps), "implicit_bytes", json_count(s->implicit_bytes),
                  "implicit_rights", json_count(s->implicit_rights), "refused",
                  json_count(s->refused), "events", events);
    free(file);
    return j;
}

/* One run with a word on stderr while it lasts. */
static int run_engine(const struct options *o, const struct program *prog, struct result *res)
{
    char what[96];
    int code;
    snprintf(what, sizeof what, "%s on %s", o->workload ? o->workload->name : o->trace,
             o->vm.paging ? o->vm.paging : o->engine->name);
    progress_wait(what);
    code = o->engine->run(&o->vm, prog, res);
    progress_end();
    if (code == NB_OK && o->vm.balloon)
        balloon_plan_warn(o->vm.balloon, res);
    return code;
}

static int report(const struct options *o, const struct result *res, json_t *trace)
{
    json_t *record = record_new(o, res, trace);
    record_print(record, o);
    json_decref(record);
    if (res->outcome == OUTCOME_OK)
        return NB_OK;
    fprintf(stderr, "nestbed: the run ended as %s: %s\n", outcome_names[res->outcome], res->detail);
    return res->outcome == OUTCOME_TIMEOUT ? NB_TIMEOUT : NB_FAIL;
}

static int run_trace(const struct options *o, struct result *res)
{
    struct replay *replay;
    char err[512];
    char *path = trace_resolve(o->trace, err, sizeof err);
    /* A word that is no file may be a misspelt name; a path that is no file is missing input. */
    int code = path                      ? replay_open(path, NULL, &replay, err, sizeof err)
               : strpbrk(o->trace, "/.") ? NB_NOINPUT
                                         : NB_USAGE;
    if (code != NB_OK)
        die(code, "%s", err);
    code = run_engine(o, &(struct program){.run = replay_run, .arg = replay}, res);
    if (replay_error(replay)) /* the counts are of a part of the trace: no record */
        die(replay_error_code(replay), "%s", replay_error(replay));
    if (code == NB_OK)
        code = report(o, res, trace_json(replay, path));
    replay_close(replay);
    free(path);
    return code;
}

/* The workload and its parameters as command line words, for an engine that runs nestbed elsewhere;
 * never freed. */
static char *const *program_words(const struct options *o)
{
    static char *words[2 + 2 * MAX_PARAMS + 1];
    unsigned n = 0;
    words[n++] = strdup("--workload");
    words[n++] = strdup(o->workload->name);
    for (unsigned i = 0; i < params_count(o->workload); i++) {
        words[n++] = strdup("--set");
        if (asprintf(&words[n++], "%s=%" PRIu64, o->workload->params[i].name, o->params[i]) < 0)
            die(NB_INTERNAL, "out of memory");
    }
    return words;
}

static int run_named(const struct options *o, struct result *res)
{
    struct program prog = {.run = run_workload,
                           .arg = (void *)(uintptr_t)o,
                           .name = o->workload->name,
                           .params = o->params,
                           .nparams = params_count(o->workload),
                           .words = program_words(o)};
    int code = run_engine(o, &prog, res);
    return code == NB_OK ? report(o, res, NULL) : code;
}

static int cmd_run(int argc, char **argv)
{
    static struct options o;
    static struct result res;
    int code;
    options_init(&o);
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    options_output(&o);
    options_program(&o);
    options_machine(&o);
    code = o.workload ? run_named(&o, &res) : run_trace(&o, &res);
    if (o.vm.events && (fflush(o.vm.events) || ferror(o.vm.events)))
        die(NB_IOERR, "--set run.events: not all events could be written: %m");
    cpu_free(o.vm.cpu);
    return code;
}

REGISTER(command, run, .summary = "Run a workload or a trace and report exact counts",
         .run = cmd_run);
