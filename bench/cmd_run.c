/* cmd_run.c: `nestbed run`: one program on one machine, one record. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/command.h"
#include "bench/options.h"
#include "bench/progress.h"
#include "bench/record.h"
#include "workloads/replay.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case ARGP_KEY_INIT:
        for (unsigned i = 0; i < 3; i++)
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
                                             {&opt_output, 0, "Output:", 3},
                                             {0}};
static const struct argp argp = {
    .parser = parse,
    .children = children,
    .doc = "Run one workload or trace on one machine and print what it cost.\v"
           "Example: nestbed run --paging shadow --workload gups --set table=64M --json\n\n"
           "The record is printed even when the guest or the host runs out of memory; its outcome "
           "says so and "
           "the exit status is 1."};

static void run_workload(struct user *u, void *arg)
{
    const struct options *o = arg;
    o->workload->run(u, o->params);
}

/* Run, then print; the exit code of the whole command. */
static int run_and_print(const struct options *o, const struct program *prog, struct replay *replay)
{
    static struct result res;
    char what[96];
    int code;
    snprintf(what, sizeof what, "%s on %s", o->workload ? o->workload->name : o->trace,
             o->vm.paging);
    progress_wait(what);
    code = o->engine->run(&o->vm, prog, &res);
    progress_end();
    if (code != NB_OK)
        return code;
    if (replay && replay_error(replay))
        die(NB_DATAERR, "%s", replay_error(replay));
    json_t *record = record_new(o, &res, replay ? replay_describe(replay) : NULL);
    record_print(record, o);
    json_decref(record);
    if (res.outcome == OUTCOME_OK)
        return NB_OK;
    fprintf(stderr, "nestbed: the run ended as %s: %s\n", outcome_names[res.outcome], res.detail);
    return NB_FAIL;
}

static int cmd_run(int argc, char **argv)
{
    static struct options o;
    int code;
    options_init(&o);
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    options_output(&o);
    options_program(&o);
    options_machine(&o);
    if (o.workload)
        code = run_and_print(&o, &(struct program){run_workload, &o}, NULL);
    else
        code = run_trace(&o);
    cpu_free(o.vm.cpu);
    return code;
}

REGISTER(command, run, .summary = "Run a workload or a trace and report exact counts",
         .run = cmd_run);
