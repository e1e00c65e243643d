/* cmd_validate.c: `nestbed validate`: predicted beside counted, event by event. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_proc.h"
#include "bench/bench_util.h"
#include "bench/command.h"
#include "bench/options.h"
#include "bench/record.h"
#include "bench/validate.h"
#include "bench/validate_run.h"
#include "workloads/params.h"

REGISTRY(workload);
REGISTRY(experiment);

struct args {
    struct options common;
    struct validation v;
    bool quick, differences, verdicts;
    const char *figure; /* folder for it, or NULL */
};

enum {
    KEY_WORKLOAD = 256,
    KEY_SET,
    KEY_TARGETS,
    KEY_ALL_QUICK,
    KEY_DIFFERENCES,
    KEY_MEM,
    KEY_SEED,
    KEY_LEVELS,
    KEY_GUEST_PAGE,
    KEY_TIMEOUT,
    KEY_PROGRAM,
    KEY_VERDICTS,
    KEY_FIGURE,
};

static const struct argp_option options[] = {
    {"workload", KEY_WORKLOAD, "NAME", 0,
     "Only this workload; may be repeated (default: all ten, with small parameters)", 0},
    {"set", KEY_SET, "KEY=VALUE", 0,
     "Set a parameter of the workload named last, or guest.flush_ceiling=N for all", 0},
    {"targets", KEY_TARGETS, "LIST", 0,
     "Machines that count: labvm, host or labvm,host (default labvm,host)", 0},
    {"quick", KEY_ALL_QUICK, 0, 0, "Only the workloads that change their tables most", 0},
    {"mem", KEY_MEM, "SIZE", 0, "Memory of every guest (default 64M)", 0},
    {"seed", KEY_SEED, "N", 0, "Seed of every guest (default 42)", 0},
    {"guest-page", KEY_GUEST_PAGE, "SIZE", 0,
     "Page size in the guest: 4k, 2m, 1g or thp (default 4k)", 0},
    {"levels", KEY_LEVELS, "N", 0, "Levels of the guest's page tables: 4 or 5 (default 4)", 0},
    {"timeout", KEY_TIMEOUT, "SECONDS", 0,
     "End a run on the host after so long (default 60), labvm after ten times that", 0},
    {"program", KEY_PROGRAM, "PATH", 0, "The nestbed that runs on the host (default: this one)", 0},
    {"verdicts", KEY_VERDICTS, 0, 0, "Exit 0 whatever the verdicts are", 0},
    {"figure", KEY_FIGURE, "DIR", 0, "Draw predicted against counted into DIR", 0},
    {"differences", KEY_DIFFERENCES, 0, 0, "In the table, only rows that are not equal", 0},
    {0}};

static bool is_word(const char *p, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(p, word, n) == 0;
}

static void set_targets(struct validation *v, const char *list)
{
    v->labvm = v->host = false;
    for (const char *p = list;; p++) {
        size_t n = strcspn(p, ",");
        if (is_word(p, n, "labvm"))
            v->labvm = true;
        else if (is_word(p, n, "host"))
            v->host = true;
        else
            die(NB_USAGE, "--targets %s: choose among labvm and host, as in --targets labvm,host",
                list);
        p += n;
        if (!*p)
            return;
    }
}

static void add_workload(struct validation *v, const char *name)
{
    const struct workload *w = REG_FIND(workload, name);
    if (!w)
        die_unknown("workload", name, __start_reg_workload, __stop_reg_workload);
    if (!validation_add(v, w))
        die(NB_USAGE, "--workload %s: %d are enough", name, VALIDATE_MAX_GUESTS);
}

static void set_parameter(struct validation *v, const char *kv)
{
    static const char ceiling[] = "guest.flush_ceiling=";
    char err[256];
    uint64_t n;
    if (strncmp(kv, ceiling, strlen(ceiling)) == 0) {
        if (!parse_u64(kv + strlen(ceiling), &n) || n > 1u << 30)
            die(NB_USAGE, "--set %s: a whole number up to 2^30", kv);
        v->flush_ceiling = (unsigned)n;
        return;
    }
    if (v->nguests == 0)
        die(NB_USAGE, "--set %s: say before it whose parameter that is, as in --workload touch",
            kv);
    struct guest *g = &v->guest[v->nguests - 1];
    if (params_set(g->workload, g->params, kv, err, sizeof err) != NB_OK)
        die(NB_USAGE, "--set %s: %s", kv, err);
}

static double seconds(const char *arg)
{
    char *end;
    double s = strtod(arg, &end);
    if (end == arg || *end || !(s > 0 && s < 1e6))
        die(NB_USAGE, "--timeout %s: seconds above 0, as in --timeout 60", arg);
    return s;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    enum page_mode pages;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case KEY_WORKLOAD:
        add_workload(&a->v, arg);
        return 0;
    case KEY_SET:
        set_parameter(&a->v, arg);
        return 0;
    case KEY_TARGETS:
        set_targets(&a->v, arg);
        return 0;
    case KEY_ALL_QUICK:
        a->quick = true;
        return 0;
    case KEY_DIFFERENCES:
        a->differences = true;
        return 0;
    case KEY_MEM:
        if (!parse_size(arg, &a->v.mem) || a->v.mem < 4096 || a->v.mem > 1ull << 40)
            die(NB_USAGE, "--mem %s: a size from 4K to 1T, as in --mem 64M", arg);
        return 0;
    case KEY_SEED:
        a->v.seed = option_number("--seed", arg, 0, UINT64_MAX);
        return 0;
    case KEY_LEVELS:
        option_levels("--levels", arg, &a->v.levels);
        return 0;
    case KEY_GUEST_PAGE:
        option_page("--guest-page", arg, &pages);
        a->v.guest_page = arg;
        return 0;
    case KEY_TIMEOUT:
        a->v.timeout = seconds(arg);
        return 0;
    case KEY_VERDICTS:
        a->verdicts = true;
        return 0;
    case KEY_FIGURE:
        a->figure = arg;
        return 0;
    case KEY_PROGRAM:
        a->v.program = arg;
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
    .doc = "Run the same guest on the model and on real KVMs and print what was predicted beside "
           "what was counted.\v"
           "Guest faults, table writes, CR3 loads and INVLPGs must be equal, and so must the "
           "guest's memory at the end; what the hypervisor counts may differ by 2 %. Exit status "
           "1: something is off; 77: no KVM can run here.\n\n"
           "Example: nestbed validate --targets host --workload touch --set pages=4096\n"
           "         nestbed validate --json > validate.json"};

static void print(const struct args *a, const json_t *doc)
{
    if (a->common.format == OUT_JSON)
        record_print_json(doc);
    else if (a->common.format == OUT_CSV)
        validate_print_csv(doc, a->common.separator);
    else
        validate_print_table(doc, a->differences);
}

/* The experiment's figure, of all machines of this document. */
static int draw(const char *dir, const json_t *doc)
{
    struct figure g = REG_FIND(experiment, "validate")->figures[0];
    g.stem = "validate";
    g.caption = "Events of every workload as the model predicts them and as real KVMs count them";
    char *text;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        die(NB_FAIL, "no memory for a figure");
    validate_points_head(f);
    bool any = validate_points(doc, f);
    fclose(f);
    int code = any ? fig_draw(&g, dir, text) : NB_OK;
    free(text);
    return code;
}

static int cmd_validate(int argc, char **argv)
{
    static struct args a = {.v = {.seed = 42,
                                  .mem = 64ull << 20,
                                  .flush_ceiling = 33,
                                  .levels = 4,
                                  .guest_page = "4k",
                                  .labvm = true,
                                  .host = true,
                                  .timeout = 60}};
    options_init(&a.common);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    options_output(&a.common);
    if (a.v.nguests == 0)
        validation_defaults(&a.v, a.quick);
    if (a.figure)
        need_folder("--figure", a.figure);
    procs_interrupt();
    json_t *doc = validate_new(a.v.seed, a.v.mem);
    int code = validation_run(&a.v, doc);
    if (code == NB_OK) {
        validate_judge(doc);
        json_object_set_new(doc, "env", record_env());
        print(&a, doc);
        code = a.figure ? draw(a.figure, doc) : NB_OK;
        if (code == NB_OK && !a.verdicts && !validate_passed(doc))
            code = NB_FAIL;
    }
    json_decref(doc);
    return code;
}

REGISTER(command, validate, .summary = "Compare what the model predicts with what real KVMs count",
         .run = cmd_validate);
