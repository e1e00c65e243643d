/* cmd_labvm.c: `nestbed labvm prepare|run|shell`: the lab machine by hand. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base.h"
#include "bench/command.h"
#include "bench/progress.h"
#include "vmm/labvm.h"

enum {
    MAX_LINE = 4096,
    MAX_LINE_WORDS = 200,
    KEY_NO_ICOUNT = 256,
    KEY_ICOUNT,
    KEY_PLAN,
    KEY_NODES
};

struct lab_options {
    struct labvm_config cfg;
    const char *action, *paging, *plan;
    char **words; /* after the action */
    int nwords;
    int icount; /* -1: not given */
};

struct jobs {
    struct labvm_job *v;
    size_t n;
};

/* ---- options ---- */

static const struct argp_option flags[] = {
    {"paging", 'p', "MODE", 0, "ept (the default) or shadow: kvm_amd with npt=1 or npt=0", 0},
    {"mem", 'm', "SIZE", 0,
     "Memory of the machine (default: what the largest guest of the plan needs)", 0},
    {"nodes", KEY_NODES, "N", 0, "NUMA nodes of the machine (default 1, at most 8)", 0},
    {"icount", KEY_ICOUNT, NULL, 0,
     "Count instructions: a virtual nanosecond is one (default, but for shell)", 0},
    {"no-icount", KEY_NO_ICOUNT, NULL, 0, "Do not: faster, and times mean nothing", 0},
    {"plan", KEY_PLAN, "FILE", 0,
     "run: commands from FILE, one per line; \"ept:\" or \"shadow:\" before one is its paging, # "
     "begins a comment",
     0},
    {"timeout", 't', "SECONDS", 0, "End the machine after this time (default 600; 0: never)", 0},
    {"verbose", 'v', NULL, 0, "Show the machine's console on stderr", 0},
    {0}};

static bool parse_seconds(const char *s, double *out)
{
    char *end;
    double v = strtod(s, &end);
    if (end == s || *end || !(v >= 0 && v < 1e9))
        return false;
    *out = v;
    return true;
}

static void parse_number(struct lab_options *o, int key, const char *arg)
{
    uint64_t n = 0;
    if (key == 'm' && (!parse_size(arg, &o->cfg.mem) || o->cfg.mem < 256 << 20))
        die(NB_USAGE, "--mem %s: expected a size of at least 256M, as 2G", arg);
    if (key == 't' && !parse_seconds(arg, &o->cfg.timeout))
        die(NB_USAGE, "--timeout %s: expected seconds", arg);
    if (key == KEY_NODES && (!parse_u64(arg, &n) || n < 1 || n > 8))
        die(NB_USAGE, "--nodes %s: expected 1 to 8", arg);
    if (key == KEY_NODES)
        o->cfg.nodes = (unsigned)n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct lab_options *o = state->input;
    switch (key) {
    case 'p':
        if (strcmp(arg, "ept") != 0 && strcmp(arg, "shadow") != 0)
            die(NB_USAGE, "--paging %s: labvm has ept and shadow", arg);
        o->paging = arg;
        return 0;
    case 'm':
    case 't':
    case KEY_NODES:
        parse_number(o, key, arg);
        return 0;
    case 'v':
        o->cfg.verbose = true;
        return 0;
    case KEY_ICOUNT:
    case KEY_NO_ICOUNT:
        o->icount = key == KEY_ICOUNT;
        return 0;
    case KEY_PLAN:
        o->plan = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (o->action)
            return ARGP_ERR_UNKNOWN; /* the rest: ARGP_KEY_ARGS */
        o->action = arg;
        return 0;
    case ARGP_KEY_ARGS:
        o->words = state->argv + state->next;
        o->nwords = state->argc - state->next;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    .options = flags,
    .parser = parse,
    .args_doc = "prepare\nrun -- COMMAND... [+ COMMAND...]\nrun --plan FILE\nshell",
    .doc =
        "A small emulated machine whose Linux KVM has both paging modes: on any host, without "
        "privileges.\v"
        "prepare  fetch its kernel (a Debian package) into the cache, and say what it is made of\n"
        "run      run nestbed commands in it, one boot for all; their output and the first exit "
        "status that is not 0 are passed on\n"
        "shell    an interactive shell in it, with nestbed in PATH; exit, or ctrl-a x, ends it. "
        "Commands on a standard input that is no terminal are read to their end, then run\n\n"
        "Example: nestbed labvm run -p shadow -- run --engine kvm --workload touch\n"
        "         nestbed labvm run -- exits --probe pio3 + list engines\n"
        "         nestbed labvm shell --paging ept\n\n"
        "The cache is $NESTBED_CACHE, else $XDG_CACHE_HOME/nestbed, else ~/.cache/nestbed."};

/* ---- jobs ---- */

/* A typing error is said before the machine boots. `status`, `where`: of a plan's line, or usage. */
static void check_command(const char *name, int status, const char *where)
{
    if (name[0] == '-' || strcmp(name, "help") == 0 || REG_FIND(command, name))
        return;
    const char *near = REG_NEAREST(command, name);
    die(status, "%s: unknown command '%s'%s%s%s (nestbed --help lists them)", where, name,
        near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static void add_job(struct jobs *jobs, const char *paging, char **argv, size_t argc)
{
    struct labvm_job *j;
    char **copy = calloc(argc + 1, sizeof *copy);
    jobs->v = realloc(jobs->v, (jobs->n + 1) * sizeof *jobs->v);
    if (!copy || !jobs->v)
        die(NB_INTERNAL, "out of memory");
    for (size_t i = 0; i < argc; i++)
        if (!(copy[i] = strdup(argv[i])))
            die(NB_INTERNAL, "out of memory");
    j = &jobs->v[jobs->n++];
    *j = (struct labvm_job){.paging = paging, .argv = copy};
}

static void jobs_of_words(struct jobs *jobs, const struct lab_options *o)
{
    int from = 0;
    for (int i = 0; i <= o->nwords; i++) {
        if (i < o->nwords && strcmp(o->words[i], "+") != 0)
            continue;
        if (i == from)
            die(NB_USAGE, "labvm run: a command is missing: nestbed labvm run -- list engines");
        check_command(o->words[from], NB_USAGE, "labvm run");
        add_job(jobs, o->paging, o->words + from, (size_t)(i - from));
        from = i + 1;
    }
}

/* A line is words between blanks; "shadow:" or "ept:" before them is the paging of this line. */
static void job_of_line(struct jobs *jobs, const struct lab_options *o, char *line, unsigned number)
{
    char *words[MAX_LINE_WORDS], *save = NULL, where[256];
    const char *paging = o->paging;
    size_t n = 0;
    snprintf(where, sizeof where, "%s:%u", o->plan, number);
    line[strcspn(line, "#\n")] = 0;
    for (char *p = strtok_r(line, " \t\r", &save); p; p = strtok_r(NULL, " \t\r", &save)) {
        if (n == 0 && (strcmp(p, "ept:") == 0 || strcmp(p, "shadow:") == 0))
            paging = *p == 'e' ? "ept" : "shadow";
        else if (n == 0 && p[strlen(p) - 1] == ':')
            die(NB_DATAERR, "%s: '%s' is no paging mode: ept: or shadow:", where, p);
        else if (n < MAX_LINE_WORDS)
            words[n++] = p;
        else
            die(NB_DATAERR, "%s:%u: more than %d words", o->plan, number, MAX_LINE_WORDS);
    }
    if (n) {
        check_command(words[0], NB_DATAERR, where);
        add_job(jobs, paging, words, n);
    }
}

static void jobs_of_file(struct jobs *jobs, const struct lab_options *o)
{
    char line[MAX_LINE];
    unsigned number = 0;
    struct stat st;
    FILE *f = fopen(o->plan, "re");
    if (!f)
        die(NB_NOINPUT, "cannot open the plan %s: %s", o->plan, strerror(errno));
    if (fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode))
        die(NB_NOINPUT, "the plan %s is a folder, not a file", o->plan);
    while (fgets(line, sizeof line, f)) {
        number++;
        if (!strchr(line, '\n') && !feof(f))
            die(NB_DATAERR, "%s:%u: longer than %d bytes", o->plan, number, MAX_LINE);
        job_of_line(jobs, o, line, number);
    }
    fclose(f);
    if (!jobs->n)
        die(NB_DATAERR, "%s: no command in this plan", o->plan);
}

static void jobs_free(struct jobs *jobs)
{
    labvm_free(jobs->v, jobs->n);
    for (size_t i = 0; i < jobs->n; i++) {
        for (char **w = jobs->v[i].argv; *w; w++)
            free(*w);
        free(jobs->v[i].argv);
    }
    free(jobs->v);
}

/* ---- the three actions ---- */

static int failed(int code, const char *err)
{
    if (code != NB_OK)
        fprintf(stderr, "nestbed: %s\n", err);
    return code;
}

/* What the jobs printed, also of those before one that failed. The first bad status is ours. */
static int pass_on(const struct jobs *jobs)
{
    int code = NB_OK;
    for (size_t i = 0; i < jobs->n; i++) {
        const struct labvm_job *j = &jobs->v[i];
        if (j->errors)
            fputs(j->errors, stderr);
        if (j->out)
            fputs(j->out, stdout);
        if (j->done && code == NB_OK)
            code = j->status;
    }
    return code;
}

static void show(void *ctx, unsigned job, const char *paging)
{
    const struct jobs *jobs = ctx;
    fprintf(stderr, "nestbed: job %u of %zu, %s\n", job + 1, jobs->n, paging);
}

static int run(struct lab_options *o)
{
    struct jobs jobs = {0};
    char err[1024] = "";
    int code, status;
    if (o->plan && o->nwords)
        die(NB_USAGE, "labvm run: either --plan or a command");
    if (o->plan)
        jobs_of_file(&jobs, o);
    else
        jobs_of_words(&jobs, o);
    if (o->cfg.verbose) {
        o->cfg.progress = show;
        o->cfg.ctx = &jobs;
    }
    code = labvm_run(&o->cfg, jobs.v, jobs.n, err, sizeof err);
    status = pass_on(&jobs);
    jobs_free(&jobs);
    return code == NB_OK ? status : failed(code, err);
}

static int cmd_labvm(int argc, char **argv)
{
    struct lab_options o = {.cfg.timeout = 600, .paging = "ept", .icount = -1};
    char err[1024] = "";
    argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &o);
    if (!o.action)
        die(NB_USAGE, "labvm: which action? prepare, run or shell (nestbed labvm --help)");
    bool shell = strcmp(o.action, "shell") == 0;
    o.cfg.icount = o.icount < 0 ? !shell : o.icount;
    if (strcmp(o.action, "run") == 0)
        return run(&o);
    if (o.nwords)
        die(NB_USAGE, "labvm %s takes no argument, and was given '%s'", o.action, o.words[0]);
    if (strcmp(o.action, "prepare") == 0)
        return failed(labvm_prepare(false, err, sizeof err), err);
    if (!shell)
        die(NB_USAGE, "labvm: unknown action '%s': prepare, run or shell", o.action);
    o.cfg.timeout = 0;
    err[0] = 0;
    int code = labvm_shell(&o.cfg, o.paging, err, sizeof err);
    return err[0] ? failed(code, err) : code;
}

REGISTER(command, labvm, .summary = "Run commands on a real KVM in an emulated machine",
         .run = cmd_labvm);
