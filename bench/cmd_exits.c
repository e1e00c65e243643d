/* cmd_exits.c: `nestbed exits`: what one event costs a guest of this machine, or of a labvm. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_util.h"
#include "bench/command.h"
#include "bench/exits.h"
#include "bench/options.h"
#include "bench/progress.h"
#include "bench/record.h"

struct exits_args {
    struct options common;
    struct exits_config cfg;
    bool labvm, list;
};

enum { KEY_BATCHES = 3000, KEY_EVENTS, KEY_LIST, KEY_ENGINE, KEY_TIMEOUT };

static const struct argp_option options[] = {
    {"engine", KEY_ENGINE, "kvm|labvm", 0,
     "This host's KVM, timed (default); or a real KVM on an emulated machine in both modes, "
     "instructions counted",
     1},
    {"probe", 'p', "NAME", 0, "This one only (--list names them)", 1},
    {"batches", KEY_BATCHES, "N", 0, "Samples of each event (default 15)", 1},
    {"events", KEY_EVENTS, "N", 0, "Events in a batch (default: each probe's own, 2 to 200)", 1},
    {"timeout", KEY_TIMEOUT, "SECONDS", 0, "End a probe that takes longer (default 60)", 1},
    {"list", KEY_LIST, 0, 0, "List the probes", 1},
    {0}};

/* "did you mean" among the probes. */
static _Noreturn void unknown_probe(const char *wrong)
{
    const char *best = exits_probes[0].name;
    for (unsigned i = 1; i < exits_nprobes; i++)
        if (edit_distance(wrong, exits_probes[i].name) < edit_distance(wrong, best))
            best = exits_probes[i].name;
    die(NB_USAGE, "unknown probe '%s': did you mean '%s'? (nestbed exits --list)", wrong, best);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct exits_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case KEY_ENGINE:
        a->labvm = strcmp(arg, "labvm") == 0;
        if (!a->labvm && strcmp(arg, "kvm") != 0)
            die(NB_USAGE, "--engine %s: events are measured on kvm or labvm", arg);
        return 0;
    case 'p':
        if (!exits_find(arg))
            unknown_probe(arg);
        a->cfg.only = arg;
        return 0;
    case KEY_BATCHES:
        a->cfg.batches = (unsigned)option_number("--batches", arg, 1, EXITS_BATCHES_MAX);
        return 0;
    case KEY_EVENTS:
        a->cfg.events = (unsigned)option_number("--events", arg, 1, EXITS_EVENTS_MAX);
        return 0;
    case KEY_TIMEOUT:
        a->cfg.timeout = (double)option_number("--timeout", arg, 1, 86400);
        return 0;
    case KEY_LIST:
        a->list = true;
        return 0;
    case ARGP_KEY_ARG:
        die_argument(state, arg);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&opt_output, 0, "Output:", 2}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .children = children,
    .doc =
        "Measure what one event costs a guest: port and device access, CPUID, CR3 load, INVLPG, "
        "page-table writes, page faults, first touch of a page.\v"
        "Each event is repeated in batches, timed beside the same loop without it. KVM's own "
        "statistics say what an event was made of. Where the interval includes 0, the cost is not "
        "resolved. Exit status 1: a probe failed; 69: there is no such KVM here.\n\n"
        "Example: nestbed exits\n"
        "Example: nestbed exits --engine labvm --json"};

static void list(void)
{
    for (unsigned i = 0; i < exits_nprobes; i++)
        printf("%-14s ring %u  %s\n", exits_probes[i].name, exits_probes[i].ring,
               exits_probes[i].event);
}

static void progress(void *ctx, unsigned done, unsigned total, const char *what)
{
    (void)ctx;
    progress_step(done, total, what);
}

static void print(const struct exits_args *a, const json_t *document)
{
    switch (a->common.format) {
    case OUT_JSON:
        record_print_json(document);
        break;
    case OUT_CSV:
        exits_print_csv(document, a->common.separator);
        break;
    default:
        exits_print_table(document);
    }
}

static bool any_failed(const json_t *document)
{
    size_t i, k;
    json_t *m, *p;
    json_array_foreach(json_object_get(document, "machines"), i, m) json_array_foreach(
        json_object_get(m, "probes"), k,
        p) if (strcmp(json_string_value(json_object_get(p, "status")), "failed") == 0) return true;
    return false;
}

static json_t *measure(struct exits_args *a)
{
    char err[1024] = "";
    int code;
    json_t *machines = a->labvm ? exits_labvm(&a->cfg, &code, err, sizeof err) : json_array();
    if (!a->labvm) {
        json_t *host = exits_host(&a->cfg, &code, err, sizeof err);
        if (host)
            json_array_append_new(machines, host);
        else
            machines = NULL;
    }
    progress_end();
    if (!machines)
        die(code, "exits: %s", err);
    return exits_document(a->labvm ? "labvm" : "kvm", &a->cfg, machines);
}

static int cmd_exits(int argc, char **argv)
{
    struct exits_args a = {.cfg = {.batches = EXITS_BATCHES, .timeout = 60, .progress = progress}};
    options_init(&a.common);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (a.list) {
        list();
        return NB_OK;
    }
    options_output(&a.common);
    json_t *document = measure(&a);
    print(&a, document);
    int code = any_failed(document) ? NB_FAIL : NB_OK;
    json_decref(document);
    return code;
}

REGISTER(command, exits, .summary = "Measure what one event costs a guest of a real KVM",
         .run = cmd_exits);
