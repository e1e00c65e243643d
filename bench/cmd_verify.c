/* cmd_verify.c: `nestbed verify`: published results, checked on the model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "bench/command.h"
#include "bench/options.h"
#include "bench/progress.h"
#include "bench/record.h"
#include "bench/verify.h"

enum { MAX_CLAIMS = 256, MAX_FILTERS = 64 };

struct args {
    struct options common;
    const char *filter[MAX_FILTERS];
    unsigned nfilters;
    bool points, verdicts, list;
};

enum { KEY_FILTER = 256, KEY_VERDICTS, KEY_LIST };

static const struct argp_option options[] = {
    {"filter", KEY_FILTER, "V..", 0,
     "Only this claim, or all of that number: V6 is V6a and V6b; may be repeated", 0},
    {"list", KEY_LIST, 0, 0, "Print the claims and their sources, check nothing", 0},
    {"verbose", 'v', 0, 0, "In the table: every point, and the commands that were run", 0},
    {"verdicts", KEY_VERDICTS, 0, 0, "Exit 0 whatever the verdicts are", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case KEY_FILTER:
        if (a->nfilters == MAX_FILTERS)
            die(NB_USAGE, "--filter %s: %d are enough", arg, MAX_FILTERS);
        a->filter[a->nfilters++] = arg;
        return 0;
    case KEY_LIST:
        a->list = true;
        return 0;
    case KEY_VERDICTS:
        a->verdicts = true;
        return 0;
    case 'v':
        a->points = true;
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
    .doc = "Check published results on the model and print what was expected beside what we got.\v"
           "Exact claims must be equal, shapes are stated inequalities. A claim that the model is "
           "known not to meet says why and does not fail the command. Exit status 1: a claim that "
           "must hold does not, or one that is said not to hold does.\n\n"
           "Example: nestbed verify --filter V1 --filter V21 -v\n"
           "         nestbed verify --json > verify.json"};

static bool wanted(const struct args *a, const char *name)
{
    bool yes = a->nfilters == 0;
    for (unsigned i = 0; i < a->nfilters; i++)
        yes |= claim_matches(name, a->filter[i]);
    return yes;
}

/* Every filter must pick something: a misspelt one would otherwise pass. */
static void check_filters(const struct args *a, const struct claim *const *k, size_t n)
{
    for (unsigned i = 0; i < a->nfilters; i++) {
        bool any = false;
        for (size_t j = 0; j < n; j++)
            any |= claim_matches(k[j]->name, a->filter[i]);
        if (!any)
            die(NB_USAGE, "--filter %s: no claim is called so; nestbed verify --list shows them",
                a->filter[i]);
    }
}

static json_t *check_all(const struct claim *const *k, size_t n)
{
    json_t *claims = json_array();
    for (size_t i = 0; i < n; i++) {
        progress_step((unsigned)i, (unsigned)n, k[i]->name);
        json_array_append_new(claims, claim_check(k[i]));
    }
    progress_end();
    verify_forget_runs();
    return verify_document(claims);
}

static void list(const struct claim *const *k, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf("%-5s %s (%s)\n", k[i]->name, k[i]->summary, k[i]->source);
}

static void print(const struct args *a, json_t *doc)
{
    json_object_set_new(doc, "env", record_env());
    if (a->common.format == OUT_JSON)
        record_print_json(doc);
    else if (a->common.format == OUT_CSV)
        verify_print_csv(doc, a->common.separator);
    else
        verify_print_table(doc, a->points);
}

static int cmd_verify(int argc, char **argv)
{
    static struct args a;
    const struct claim *all[MAX_CLAIMS], *chosen[MAX_CLAIMS];
    a = (struct args){0};
    options_init(&a.common);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    options_output(&a.common);
    size_t n = claims_sorted(all, MAX_CLAIMS), m = 0;
    check_filters(&a, all, n);
    for (size_t i = 0; i < n; i++)
        if (wanted(&a, all[i]->name))
            chosen[m++] = all[i];
    if (a.list) {
        list(chosen, m);
        return NB_OK;
    }
    if (a.nfilters == 0)
        progress_init_long(a.common.progress, a.common.quiet);
    json_t *doc = check_all(chosen, m);
    int code = a.verdicts || verify_passed(doc) ? NB_OK : NB_FAIL;
    print(&a, doc);
    json_decref(doc);
    return code;
}

REGISTER(command, verify, .summary = "Check published results on the model: claim by claim",
         .run = cmd_verify);
