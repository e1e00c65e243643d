/* verify_run.c: runs of the model for claims, by the words of a command line.
 *
 * What a claim runs is exactly what `nestbed run WORDS` or `nestbed walk WORDS` runs: the same
 * options, parsed by the same code, so that the commands of the document can be repeated by hand. A
 * run is kept by its words: claims that ask for it again get the same result. Words that do not
 * parse end the program as they would on the command line: a claim's mistake is ours.
 */
#include "bench/verify_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "bench/bench_util.h"
#include "bench/options.h"
#include "workloads/replay.h"

enum { MAX_ARGS = 64 };
static const gva_t walk_gva = 0x7f1234567890; /* the default of `nestbed walk` */

struct kept {
    struct kept *next;
    char *words;
    const struct cpu *cpu;
    struct result *res; /* NULL: it failed, */
    char *why;          /* and why */
};
static struct kept *kept;

/* What the program under way is, for check_program_run(). */
static struct {
    const struct options *o;
    struct replay *replay;
} current;

/* ---- words to options ---- */

static error_t parse(int key, char *arg, struct argp_state *state)
{
    if (key == ARGP_KEY_INIT)
        state->child_inputs[0] = state->child_inputs[1] = state->input;
    if (key == ARGP_KEY_ARG)
        die_argument(state, arg);
    return key == ARGP_KEY_INIT ? 0 : ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = {
    {&opt_program, 0, NULL, 0}, {&opt_machine, 0, NULL, 0}, {0}};
static const struct argp argp = {.options = NULL, .parser = parse, .children = children};

/* `text` is cut into words in place, and the options point into it. */
static void read_options(struct options *o, char *text)
{
    static char name[] = "nestbed verify";
    char *argv[MAX_ARGS] = {name}, *save = NULL;
    int argc = 1;
    for (char *w = strtok_r(text, " ", &save); w && argc < MAX_ARGS - 1;
         w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    options_init(o);
    argp_parse(&argp, argc, argv, 0, NULL, o);
}

void check_ran(struct check *c, const char *verb, const char *words)
{
    char *line = strf("nestbed %s %s", verb, words);
    const json_t *old;
    size_t i;
    json_array_foreach(c->commands, i, old) if (strcmp(json_string_value(old), line) == 0)
    {
        free(line);
        return;
    }
    json_array_append_new(c->commands, json_string(line));
    free(line);
}

/* ---- runs ---- */

void check_program_run(struct user *u)
{
    if (current.replay)
        replay_run(u, current.replay);
    else
        current.o->workload->run(u, current.o->params);
}

static void run_it(struct user *u, void *arg)
{
    (void)arg;
    check_program_run(u);
}

/* NULL, or why there is nothing to replay; from malloc. */
static char *open_trace(const struct options *o)
{
    char err[512];
    current.replay = NULL;
    if (!o->trace)
        return NULL;
    char *path = trace_resolve(o->trace, err, sizeof err);
    int code = path ? replay_open(path, NULL, &current.replay, err, sizeof err) : NB_NOINPUT;
    free(path);
    return code == NB_OK ? NULL : strf("%s", err);
}

static void close_trace(void)
{
    if (current.replay)
        replay_close(current.replay);
    current.replay = NULL;
}

/* Run the words; NULL, or why that failed, from malloc. *cpu is the caller's to free. */
static char *run_words(const char *words, void (*run)(struct user *, void *), void *arg,
                       struct result *res, const struct cpu **cpu)
{
    struct options o;
    char *text = strf("%s", words), *why;
    read_options(&o, text);
    options_program(&o);
    options_machine(&o);
    *cpu = o.vm.cpu;
    current.o = &o;
    why = open_trace(&o);
    if (!why && o.engine->run(&o.vm, &(struct program){.run = run, .arg = arg}, res) != NB_OK)
        why = strf("the engine cannot run it");
    else if (!why && res->outcome != OUTCOME_OK)
        why = strf("the run ended as %s: %s", outcome_names[res->outcome], res->detail);
    close_trace();
    current.o = NULL;
    free(text);
    return why;
}

static struct kept *keep(const char *words)
{
    for (struct kept *k = kept; k; k = k->next)
        if (strcmp(k->words, words) == 0)
            return k;
    struct kept *k = xcalloc(1, sizeof *k);
    k->words = strf("%s", words);
    k->res = xcalloc(1, sizeof *k->res);
    k->why = run_words(words, run_it, NULL, k->res, &k->cpu);
    k->next = kept;
    kept = k;
    return k;
}

void verify_forget_runs(void)
{
    for (struct kept *k = kept, *next; k; k = next) {
        next = k->next;
        free(k->words);
        free(k->res);
        free(k->why);
        cpu_free(k->cpu);
        free(k);
    }
    kept = NULL;
}

const struct result *check_run(struct check *c, const char *words)
{
    const struct kept *k = keep(words);
    check_ran(c, "run", words);
    if (!k->why)
        return k->res;
    claim_broken(c, "nestbed run %s: %s", words, k->why);
    return NULL;
}

const struct result *check_program(struct check *c, const char *words,
                                   void (*run)(struct user *, void *), void *arg,
                                   const struct cpu **cpu)
{
    static struct result res;
    res = (struct result){0};
    char *why = run_words(words, run, arg, &res, cpu);
    check_ran(c, "run", words);
    if (why)
        claim_broken(c, "nestbed run %s: %s", words, why);
    bool failed = why != NULL;
    free(why);
    return failed ? NULL : &res;
}

const struct walk_report *check_walk(struct check *c, const char *words)
{
    static struct walk_report report;
    struct options o;
    char *text = strf("%s", words), err[512] = "";
    report = (struct walk_report){0};
    read_options(&o, text);
    options_machine(&o);
    check_ran(c, "walk", words);
    if (model_explain(&o.vm, walk_gva, &report, err, sizeof err) != NB_OK)
        claim_broken(c, "nestbed walk %s: %s", words, err);
    cpu_free(o.vm.cpu);
    free(text);
    return &report;
}

const struct counters *work_counters(const struct result *r)
{
    for (unsigned i = 0; i < r->nphases; i++)
        if (strcmp(r->phases[i].name, "work") == 0)
            return &r->phases[i].counters;
    return &r->total;
}

uint64_t work_counter(struct check *c, const struct result *r, const char *name)
{
    for (unsigned i = 0; i < CTR_COUNT; i++)
        if (strcmp(counter_descs[i].name, name) == 0)
            return work_counters(r)->v[i];
    claim_broken(c, "there is no counter %s", name);
    return 0;
}

struct cycles work_cycles(struct check *c, const char *words)
{
    struct cycles out = {0};
    const struct result *r = check_run(c, words);
    if (r)
        cycles_model(keep(words)->cpu, work_counters(r), &out);
    return out;
}

double work_total(struct check *c, const char *words)
{
    struct cycles y = work_cycles(c, words);
    return check_run(c, words)
               ? y.access + y.stlb + y.walk + y.exit + y.vmm + y.guest_fault + y.host
               : NAN;
}
