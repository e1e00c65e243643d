/* cmd_bench.c: `nestbed bench`: plan, run, collect; and Google Benchmark's command line. */
#include <argp.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_export.h"
#include "bench/bench_rundir.h"
#include "bench/bench_session.h"
#include "bench/bench_inflate.h"
#include "bench/bench_speed.h"
#include "bench/bench_util.h"
#include "bench/bench_vmm.h"
#include "bench/command.h"
#include "bench/env.h"

/* Plain aliases of Google Benchmark's flags have keys from here on. */
enum {
    KEY_QUICK = 1000,
    KEY_FULL,
    KEY_RESUME,
    KEY_RESULTS,
    KEY_HARNESS,
    KEY_DRY,
    KEY_PROGRAM,
    KEY_TIMEOUT,
    KEY_REDACT,
    KEY_NOPLOTS,
    KEY_PROGRESS,
    KEY_PLAN,
    KEY_INDEX,
    KEY_ID,
    KEY_MIXED,
    KEY_CHECK,
    KEY_ANYPLAN,
    KEY_SEED,
    KEY_ALIAS = 2000,
};
static const char *const aliases[] = {"filter", "repetitions", "out",       "out_format",
                                      "format", "min_time",    "list_tests"};
enum {
    ALIAS_FILTER,
    ALIAS_REPETITIONS,
    ALIAS_OUT,
    ALIAS_OUT_FORMAT,
    ALIAS_FORMAT,
    ALIAS_MIN_TIME,
    ALIAS_LIST
};

static const struct argp_option options[] = {
    {"quick", KEY_QUICK, 0, 0, "Small plan: a minute", 1},
    {"full", KEY_FULL, 0, 0, "Long plan: 30 rounds of timed cells", 1},
    {"filter", KEY_ALIAS + ALIAS_FILTER, "REGEXP", 0,
     "Cells whose name matches; a leading '-' negates", 1},
    {"repetitions", KEY_ALIAS + ALIAS_REPETITIONS, "N", 0,
     "Time every selected cell N times (default: exact cells once, timed ones 9 times, 6 with "
     "--quick)",
     1},
    {"seed", KEY_SEED, "N", 0, "Root seed (default 42)", 1},
    {"dry-run", KEY_DRY, 0, 0, "Print the plan and what it will take", 2},
    {"list", KEY_ALIAS + ALIAS_LIST, 0, 0, "Print the names of the cells", 2},
    {"jobs", 'j', "N", 0, "Exact cells at a time (default: all processors)", 2},
    {"harness", KEY_HARNESS, "hyperfine|builtin", 0,
     "How timed cells are timed (default: hyperfine if there)", 2},
    {"min-time", KEY_ALIAS + ALIAS_MIN_TIME, "SECONDS|Nx", 0,
     "More rounds until each timed cell ran that long", 2},
    {"timeout", KEY_TIMEOUT, "SECONDS", 0, "End a cell that takes longer (default 600)", 2},
    {"resume", KEY_RESUME, "RUN", 0, "Go on with an interrupted run: its folder or name", 2},
    {"program", KEY_PROGRAM, "FILE", 0, "Run the cells with this nestbed (default: this one)", 2},
    {"results", KEY_RESULTS, "DIR", 0, "Where run folders go (default results)", 3},
    {"out", KEY_ALIAS + ALIAS_OUT, "FILE", 0,
     "Copy of the report; for cell: the folder of its file", 3},
    {"out-format", KEY_ALIAS + ALIAS_OUT_FORMAT, "json|console|csv", 0, "Of --out (default json)",
     3},
    {"format", KEY_ALIAS + ALIAS_FORMAT, "console|json|csv", 0, "Of the report on stdout", 3},
    {"no-plots", KEY_NOPLOTS, 0, 0, "Draw no figures", 3},
    {"redact", KEY_REDACT, 0, 0, "Leave out host name, user and kernel command line", 3},
    {"quiet", 'q', 0, 0, "No progress, no table", 3},
    {"progress", KEY_PROGRESS, "auto|always|never", 0, "Progress on stderr", 3},
    {"plan", KEY_PLAN, "FILE", 0, "cell: the plan", 4},
    {"index", KEY_INDEX, "N", 0, "cell: line N of the plan, from 0", 4},
    {"id", KEY_ID, "ID", 0, "cell: the cell with this id", 4},
    {"allow-mixed", KEY_MIXED, 0, 0, "collect, --resume: accept cells of several commits or plans",
     4},
    {"check", KEY_CHECK, 0, 0, "paper: change nothing, fail when the file is stale", 4},
    {"any-plan", KEY_ANYPLAN, 0, 0, "paper: take a quick or filtered run, too", 4},
    {0}};

static void number(struct argp_state *state, const char *name, const char *arg, uint64_t max,
                   uint64_t *out)
{
    if (!parse_u64(arg, out) || *out > max)
        argp_error(state, "--%s %s: expected a number from 0 to %llu", name, arg,
                   (unsigned long long)max);
}

static void alias(struct argp_state *state, struct bench_args *a, int which, const char *arg)
{
    char err[256];
    if (which == ALIAS_OUT)
        a->out = arg;
    if (!flags_set(&a->b.flags, aliases[which], arg ? arg : "true", err, sizeof err))
        argp_error(state, "--%s %s", aliases[which], err);
}

static void harness(struct argp_state *state, struct bench_args *a, const char *arg)
{
    if (strcmp(arg, "hyperfine") == 0)
        a->b.harness = HARNESS_HYPERFINE;
    else if (strcmp(arg, "builtin") == 0)
        a->b.harness = HARNESS_BUILTIN;
    else
        argp_error(state, "--harness %s: expected hyperfine or builtin", arg);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct bench_args *a = state->input;
    switch (key) {
    case KEY_QUICK:
        a->scale = SCALE_QUICK;
        break;
    case KEY_FULL:
        a->scale = SCALE_FULL;
        break;
    case KEY_SEED:
        number(state, "seed", arg, UINT64_MAX, &a->root_seed);
        a->seed_given = true;
        break;
    case KEY_DRY:
        a->dry_run = true;
        break;
    case 'j':
        number(state, "jobs", arg, PROC_MAX, &a->jobs);
        break;
    case KEY_HARNESS:
        harness(state, a, arg);
        break;
    case KEY_TIMEOUT:
        number(state, "timeout", arg, 1u << 30, &a->timeout);
        if (!a->timeout)
            argp_error(state, "--timeout 0: expected a number from 1");
        break;
    case KEY_RESUME:
        a->resume = arg;
        break;
    case KEY_PROGRAM:
        a->program = arg;
        break;
    case KEY_RESULTS:
        a->results = arg;
        break;
    case KEY_NOPLOTS:
        a->no_plots = true;
        break;
    case KEY_REDACT:
        a->redact = true;
        break;
    case 'q':
        a->quiet = true;
        break;
    case KEY_PROGRESS:
        if (!when_parse(arg, &a->b.progress))
            argp_error(state, "--progress %s: expected auto, always or never", arg);
        break;
    case KEY_PLAN:
        a->plan = arg;
        break;
    case KEY_INDEX:
        number(state, "index", arg, 1u << 20, &a->index);
        a->has_index = true;
        break;
    case KEY_ID:
        a->id = arg;
        break;
    case KEY_MIXED:
        a->allow_mixed = true;
        break;
    case KEY_CHECK:
        a->check = true;
        break;
    case KEY_ANYPLAN:
        a->any_plan = true;
        break;
    case ARGP_KEY_ARG:
        if (a->nargs == ARRAY_SIZE(a->arg))
            argp_error(state, "too many arguments: %s", arg);
        a->arg[a->nargs++] = arg;
        break;
    default:
        if (key < KEY_ALIAS || key >= KEY_ALIAS + (int)ARRAY_SIZE(aliases))
            return ARGP_ERR_UNKNOWN;
        alias(state, a, key - KEY_ALIAS, arg);
    }
    return 0;
}

static const struct argp argp = {
    options,
    parse,
    "[run]\nplan [--quick|--full]\ncell --plan FILE --index N --out DIR\ncollect DIR\npaper "
    "RUN_DIR FILE\n"
    "export RUN_DIR DIR\nenv\nrefloop\nloop\nvmm\ninflate",
    "Run the experiments, draw the figures, write the report.\v"
    "A run is a folder: results/<time>-<commit>-<host>. Exact cells run side by side, timed cells "
    "alone in shuffled rounds.\n\n"
    "Google Benchmark's flags work too, each also as an upper-case environment variable: "
    "--benchmark_list_tests, _filter, _min_time, _min_warmup_time, _repetitions, _dry_run (each "
    "timed "
    "cell once), _enable_random_interleaving (default true), _report_aggregates_only, "
    "_display_aggregates_only, _format, _out, _out_format, _color, _counters_tabular, "
    "_context, _time_unit; --v=N. Processor counters (_perf_counters) are refused.\n\n"
    "plan prints the cells as TSV; cell runs one of them into one JSON file; collect makes the "
    "report from such "
    "files, wherever they were made.\n\n"
    "Example: nestbed bench --quick --filter compare/workload:gups",
    NULL,
    NULL,
    NULL};

/* ---- the other subcommands ---- */

static int sub_plan(struct bench_args *a)
{
    plan_write(&a->b.plan, stdout);
    return NB_OK;
}

static int sub_cell(struct bench_args *a)
{
    struct plan p;
    struct origin o;
    char err[512];
    if (!a->plan || !a->out || (!a->has_index && !a->id))
        die(NB_USAGE, "bench cell needs --plan FILE, --index N or --id ID, and --out DIR");
    int code = plan_read(&p, a->plan, err, sizeof err);
    if (code != NB_OK)
        die(code, "%s", err);
    const struct cell *c = a->id            ? plan_find(&p, a->id)
                           : a->index < p.n ? &p.cells[a->index]
                                            : NULL;
    if (!c)
        die(NB_USAGE, "%s has no such cell: it has %zu, counted from 0", a->plan, p.n);
    procs_interrupt();
    make_dirs(a->out);
    origin_init(&o, a->program, &p, a->redact);
    o.timeout = (double)a->timeout;
    json_t *done = cell_finished(a->out, c);
    const char *status =
        done ? json_string_value(json_object_get(done, "status")) : cell_run(&o, c, a->out);
    if (status)
        fprintf(stderr, "%s %s %s%s\n", c->id, c->name, status, done ? " (already there)" : "");
    code = !status                          ? NB_SIGINT
           : strcmp(status, "ok") == 0      ? NB_OK
           : strcmp(status, "skipped") == 0 ? NB_SKIP
                                            : NB_FAIL;
    json_decref(done);
    origin_free(&o);
    plan_free(&p);
    return code;
}

static int sub_collect(struct bench_args *a)
{
    if (a->nargs != 1)
        die(NB_USAGE, "bench collect needs one run directory (with plan.tsv and cells/)");
    char *dir = rundir_find(a->results, a->arg[0]);
    bool failed = false;
    int code = bench_collect(dir, a->allow_mixed, &failed);
    if (code == NB_OK || a->allow_mixed)
        code = bench_derive(dir, &a->b.flags, !a->no_plots) == NB_FAIL ? NB_FAIL : code;
    free(dir);
    return failed && code == NB_OK ? NB_FAIL : code;
}

/* Is it a run of everything, at a scale that PAPER.md speaks of? An export, without timed cells, is
 * one, too. Cells that failed or were skipped were run. */
static bool whole_run(const char *dir)
{
    struct results r;
    char err[512];
    if (results_load(&r, dir, err, sizeof err) != NB_OK)
        return false;
    bool yes = r.plan.scale != SCALE_QUICK && plan_whole(&r.plan, true);
    for (size_t i = 0; i < r.plan.n && yes; i++)
        yes = r.cells[i] != NULL;
    results_free(&r);
    return yes;
}

static int sub_paper(struct bench_args *a)
{
    if (a->nargs != 2)
        die(NB_USAGE, "bench paper needs a run directory and a Markdown file");
    char *dir = rundir_find(a->results, a->arg[0]);
    bool whole = a->any_plan || whole_run(dir);
    if (!whole && !a->check)
        die(NB_FAIL,
            "%s: left as it is: %s is not a whole run of `nestbed bench` without --quick, --filter "
            "and --repetitions; --any-plan takes it all the same",
            a->arg[1], dir);
    int code = paper_update(dir, a->arg[1], a->check);
    if (a->check && code == NB_FAIL)
        fputs(whole ? "nestbed: `make paper` puts the numbers of results/latest there\n"
                    : "nestbed: but this is not a whole run: its numbers do not belong there\n",
              stderr);
    free(dir);
    return code;
}

static int sub_export(struct bench_args *a)
{
    if (a->nargs != 2)
        die(NB_USAGE, "bench export needs a run directory and the folder to write");
    char *dir = rundir_find(a->results, a->arg[0]);
    int code = bench_export(dir, a->arg[1]);
    free(dir);
    return code;
}

static int sub_env(struct bench_args *a)
{
    json_t *env = env_capture();
    char *line = env_paging_line(env);
    json_object_set_new(env, "summary", json_string(line));
    if (a->redact)
        env_redact(env);
    json_dumpf(env, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
    free(line);
    json_decref(env);
    return NB_OK;
}

static const struct {
    const char *name;
    int (*run)(struct bench_args *);
    bool planned;
} subs[] = {{"plan", sub_plan, true},        {"cell", sub_cell, false},
            {"collect", sub_collect, false}, {"paper", sub_paper, false},
            {"export", sub_export, false},   {"env", sub_env, false}};

static int dispatch(struct bench_args *a, const char *sub, int argc, char **argv)
{
    for (unsigned i = 0; sub && i < ARRAY_SIZE(subs); i++)
        if (strcmp(subs[i].name, sub) == 0) {
            if (subs[i].planned)
                session_plan(a);
            return subs[i].run(a);
        }
    if (sub && strcmp(sub, "run") != 0)
        die(NB_USAGE,
            "bench %s: expected run, plan, cell, collect, paper, export, env, refloop, loop, vmm "
            "or inflate",
            sub);
    if (a->resume) {
        session_resume(a);
    } else {
        session_plan(a);
        session_rounds(a);
    }
    if (a->b.flags.list_tests)
        return session_list(a);
    return a->dry_run ? session_dry_run(a) : session_run(a, argc, argv);
}

/* What no flag may do silently: nothing. */
static bool supported(const struct bench_flags *f)
{
    if (f->perf_counters && *f->perf_counters)
        fprintf(stderr,
                "nestbed bench: --benchmark_perf_counters=%s: processor counters are not "
                "read here; leave the flag out (perf stat -- nestbed run ... reads them)\n",
                f->perf_counters);
    return !f->perf_counters || !*f->perf_counters;
}

static int cmd_bench(int argc, char **argv)
{
    struct bench_args a = {
        .scale = SCALE_STD, .root_seed = 42, .timeout = 600, .results = "results"};
    int given = argc;
    char *sub = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL;
    if (sub && strcmp(sub, "refloop") == 0)
        return cmd_bench_refloop(argc - 1, argv + 1);
    if (sub && strcmp(sub, "loop") == 0)
        return cmd_bench_loop(argc - 1, argv + 1);
    if (sub && strcmp(sub, "vmm") == 0)
        return cmd_bench_vmm(argc - 1, argv + 1);
    if (sub && strcmp(sub, "inflate") == 0)
        return cmd_bench_inflate(argc - 1, argv + 1);
    char **line = xcalloc((size_t)argc + 1, sizeof *line); /* as typed, for the manifest */
    memcpy(line, argv, (size_t)argc * sizeof *line);
    if (sub) { /* argp must not see the word */
        memmove(argv + 1, argv + 2, (size_t)(argc - 1) * sizeof *argv);
        argc--;
    }
    flags_init(&a.b.flags);
    if (!flags_environment(&a.b.flags) || !flags_take(&a.b.flags, &argc, argv))
        return NB_FAIL;
    if (!supported(&a.b.flags))
        return NB_FAIL;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    color_init(a.b.flags.color);
    if (a.b.flags.verbosity && log_threshold < LOG_WARN + a.b.flags.verbosity)
        log_threshold = LOG_WARN + a.b.flags.verbosity;
    a.b.jobs = a.jobs ? (unsigned)a.jobs : processors();
    int code = dispatch(&a, sub, given, line);
    plan_free(&a.b.plan);
    free(line);
    return code;
}

REGISTER(command, bench, .summary = "Run the experiments: counts, times, figures, report",
         .run = cmd_bench);
