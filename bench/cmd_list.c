/* cmd_list.c: `nestbed list KIND`: what this build knows, from the registries themselves. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/command.h"
#include "bench/options.h"
#include "bench/record.h"
#include "shadow_vs_ept/paging.h"
#include "workloads/trace.h"

REGISTRY(engine);
REGISTRY(workload);
REGISTRY(experiment);
REGISTRY(claim);

enum { MAX_ENTRIES = 256 };

/* One line of a list. The three optional texts are columns of their own when the kind has them. */
struct entry {
    const char *name, *summary;
    const struct param *params; /* workloads, strategies */
    const char *unit, *tag;     /* counters */
};

struct list_options {
    struct options common;
    const char *kind;
    bool names, verbose;
};

/* ---- where entries come from ---- */
static size_t from_registry(const void *start, const void *stop, struct entry *e)
{
    const struct reg_head *h[MAX_ENTRIES];
    size_t n = reg_sorted(start, stop, h, MAX_ENTRIES);
    for (size_t i = 0; i < n; i++)
        e[i] = (struct entry){.name = h[i]->name, .summary = h[i]->summary};
    return n;
}

static size_t list_paging(struct entry *e)
{
    size_t n = from_registry(__start_reg_paging, __stop_reg_paging, e);
    for (size_t i = 0; i < n; i++)
        e[i].params = REG_FIND(paging, e[i].name)->params;
    return n;
}

static size_t list_engines(struct entry *e)
{
    return from_registry(__start_reg_engine, __stop_reg_engine, e);
}

static size_t list_commands(struct entry *e)
{
    return from_registry(__start_reg_command, __stop_reg_command, e);
}

static size_t list_experiments(struct entry *e)
{
    return from_registry(__start_reg_experiment, __stop_reg_experiment, e);
}

static size_t list_claims(struct entry *e)
{
    return from_registry(__start_reg_claim, __stop_reg_claim, e);
}

static size_t list_workloads(struct entry *e)
{
    size_t n = from_registry(__start_reg_workload, __stop_reg_workload, e);
    for (size_t i = 0; i < n; i++)
        e[i].params = REG_FIND(workload, e[i].name)->params;
    return n;
}

static size_t list_cpus(struct entry *e)
{
    size_t n = cpu_preset_count < MAX_ENTRIES ? cpu_preset_count : MAX_ENTRIES;
    for (size_t i = 0; i < n; i++)
        e[i] = (struct entry){.name = cpu_presets[i].name,
                              .summary = cpu_preset_summary(&cpu_presets[i])};
    return n;
}

static size_t list_counters(struct entry *e)
{
    for (unsigned i = 0; i < CTR_COUNT; i++)
        e[i] = (struct entry){.name = counter_descs[i].name,
                              .summary = counter_descs[i].meaning,
                              .unit = counter_descs[i].unit,
                              .tag = counter_descs[i].tag};
    return CTR_COUNT;
}

static size_t list_traces(struct entry *e)
{
    struct shipped_trace *t;
    size_t n = trace_list(&t); /* kept: the entries point into it until the program ends */
    for (size_t i = 0; i < n && i < MAX_ENTRIES; i++)
        e[i] = (struct entry){.name = t[i].name, .summary = t[i].summary};
    return n < MAX_ENTRIES ? n : MAX_ENTRIES;
}

static const struct kind {
    const char *name;
    size_t (*fill)(struct entry *);
} kinds[] = {
    {"paging", list_paging},           {"workloads", list_workloads}, {"cpus", list_cpus},
    {"counters", list_counters},       {"engines", list_engines},     {"traces", list_traces},
    {"experiments", list_experiments}, {"commands", list_commands},   {"claims", list_claims}};

static const struct kind *find_kind(const char *name)
{
    unsigned best = 3;
    const char *near = NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        unsigned d = edit_distance(kinds[i].name, name);
        if (d == 0)
            return &kinds[i];
        if (d < best) {
            best = d;
            near = kinds[i].name;
        }
    }
    die(NB_USAGE,
        "unknown list '%s':%s%s%s choose from paging, workloads, cpus, counters, engines, traces, "
        "experiments, commands, claims",
        name, near ? " did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* ---- printing ---- */
static json_t *params_json(const struct param *p)
{
    json_t *a = json_array();
    for (; p && p->name; p++)
        json_array_append_new(a, json_pack("{ss ss so so so ss}", "name", p->name, "unit", p->unit,
                                           "default", json_count(p->def), "min", json_count(p->min),
                                           "max", json_count(p->max), "help", p->help));
    return a;
}

static json_t *entry_json(const struct entry *e)
{
    json_t *o = json_pack("{ss ss}", "name", e->name, "summary", e->summary ? e->summary : "");
    if (e->params)
        json_object_set_new(o, "params", params_json(e->params));
    if (e->unit) {
        json_object_set_new(o, "unit", json_string(e->unit));
        json_object_set_new(o, "tag", json_string(e->tag));
    }
    return o;
}

static void print_json(const struct entry *e, size_t n)
{
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(a, entry_json(&e[i])) != 0)
            die(NB_INTERNAL, "cannot build the JSON list");
    record_print_json(a);
    json_decref(a);
}

static char *param_value(uint64_t v, const struct param *p, char *buf, size_t n)
{
    if (strcmp(p->unit, "bytes") == 0)
        return format_size(v, buf, n);
    snprintf(buf, n, "%" PRIu64, v);
    return buf;
}

static void print_params(const struct param *p)
{
    struct table *t = table_new(5, "lllll");
    char def[24], min[24], max[24];
    static const char *const head[] = {"    --set", "default", "range", "unit", ""};
    for (unsigned i = 0; i < ARRAY_SIZE(head); i++)
        table_cell(t, "%s", head[i]);
    for (; p->name; p++) {
        table_cell(t, "    %s", p->name);
        table_cell(t, "%s", param_value(p->def, p, def, sizeof def));
        table_cell(t, "%s to %s", param_value(p->min, p, min, sizeof min),
                   param_value(p->max, p, max, sizeof max));
        table_cell(t, "%s", p->unit);
        table_cell(t, "%s", p->help);
    }
    table_print(t);
    table_free(t);
}

static int widest(const struct entry *e, size_t n)
{
    size_t w = 0;
    for (size_t i = 0; i < n; i++)
        if (strlen(e[i].name) > w)
            w = strlen(e[i].name);
    return (int)w;
}

static void print_list(const struct entry *e, size_t n, bool verbose)
{
    int w = widest(e, n);
    for (size_t i = 0; i < n; i++) {
        printf("%s%-*s%s  %s", color(STYLE_BOLD), w, e[i].name, color(STYLE_PLAIN),
               e[i].summary ? e[i].summary : "");
        if (e[i].unit)
            printf(" [%s, %s]", e[i].unit, e[i].tag);
        putchar('\n');
        if (verbose && e[i].params && e[i].params->name)
            print_params(e[i].params);
    }
}

/* ---- command line ---- */
static const struct argp_option options[] = {
    {"names", 'n', 0, 0, "Names only, one per line", 0},
    {"verbose", 'v', 0, 0, "Workloads and strategies: their parameters, defaults and ranges too",
     0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct list_options *l = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &l->common;
        return 0;
    case 'n':
        l->names = true;
        return 0;
    case 'v':
        l->verbose = true;
        return 0;
    case ARGP_KEY_ARG:
        if (l->kind)
            die_argument(state, arg);
        l->kind = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&opt_json, 0, "Output:", 1}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "paging|workloads|cpus|counters|engines|traces|experiments|commands|claims",
    .children = children,
    .doc = "List what this build knows.\v"
           "Example: nestbed list workloads -v",
};

static int cmd_list(int argc, char **argv)
{
    static struct list_options l;
    static struct entry e[MAX_ENTRIES];
    size_t n;
    options_init(&l.common);
    argp_parse(&argp, argc, argv, 0, NULL, &l);
    options_output(&l.common);
    if (!l.kind)
        die(NB_USAGE, "list what? Give one of paging, workloads, cpus, counters, engines, traces, "
                      "experiments, commands, claims");
    n = find_kind(l.kind)->fill(e);
    if (l.common.format == OUT_JSON)
        print_json(e, n);
    else if (l.names)
        for (size_t i = 0; i < n; i++)
            puts(e[i].name);
    else
        print_list(e, n, l.verbose);
    return NB_OK;
}

REGISTER(
    command, list,
    .summary = "List strategies, workloads, processors, counters, engines, traces, experiments",
    .run = cmd_list);
