/* cmd_fuzz.c: `nestbed fuzz`: random guest programs under every strategy, judged by the oracle.
 *
 * Programs are numbered; number and seed make the program. Workers, one for each core, take them in turn;
 * the lowest number that fails is found again in this process, shrunk and printed, so that the output
 * does not depend on the number of cores. A worker that dies of a signal fails its program.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/command.h"
#include "bench/options.h"
#include "bench/progress.h"
#include "bench/record.h"
#include "fuzz/fuzz.h"

#define FUZZ_SCHEMA "nestbed-fuzz/1"

enum { MAX_WORKERS = 256, KEY_OPS = 4000, KEY_REPLAY, KEY_KIND };

static const char *const kinds[] = {"both", "raw", "kernel"}; /* enum fuzz_kind */

struct fuzz_options {
    struct options common;
    struct fuzz_config cfg;
    uint64_t programs;
    unsigned jobs;
    const char *paging, *replay, *kind, *engine;
};

/* What workers and parent share. */
struct shared {
    uint64_t first; /* lowest number that failed, or ~0 */
    struct worker {
        uint64_t now; /* program under way */
        struct fuzz_totals totals;
    } worker[MAX_WORKERS];
};

/* ---- command line ---- */
static const struct argp_option options[] = {
    {"seed", 's', "N", 0, "Of all programs (default 42)", 1},
    {"programs", 'n', "N", 0, "How many (default 1000)", 1},
    {"ops", KEY_OPS, "N", 0, "Operations in a program (default 100)", 1},
    {"kind", KEY_KIND, "KIND", 0,
     "raw: tables written by the program itself; kernel: requests to a guest kernel (map, unmap, "
     "protect, fork, switch, exit), accesses, frames that the host moves; both: in turn (default)",
     1},
    {"engine", 'e', "NAME", 0,
     "model (default), or kvm: kernel programs on this host's KVM, compared with native on the "
     "model",
     1},
    {"paging", 'p', "LIST", 0, "Strategies, with commas between (default: all)", 1},
    {"replay", KEY_REPLAY, "FILE", 0,
     "Run the program in FILE instead, on every machine of each strategy; - is the standard input",
     1},
    {"jobs", 'j', "N", 0, "Worker processes (default: one for each core)", 1},
    {0}};

static uint64_t number(const char *name, const char *arg, uint64_t least, uint64_t most)
{
    uint64_t v;
    if (!parse_u64(arg, &v) || v < least || v > most)
        die(NB_USAGE, "--%s %s: expected a number from %" PRIu64 " to %" PRIu64, name, arg, least,
            most);
    return v;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct fuzz_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        return 0;
    case 's':
        o->cfg.seed = number("seed", arg, 0, UINT64_MAX);
        return 0;
    case 'n':
        o->programs = number("programs", arg, 1, 1000000000);
        return 0;
    case KEY_OPS:
        o->cfg.ops = (unsigned)number("ops", arg, 1, 10000);
        return 0;
    case KEY_KIND:
        o->kind = arg;
        return 0;
    case 'e':
        o->engine = arg;
        return 0;
    case 'p':
        o->paging = arg;
        return 0;
    case KEY_REPLAY:
        o->replay = arg;
        return 0;
    case 'j':
        o->jobs = (unsigned)number("jobs", arg, 1, MAX_WORKERS);
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
        "Run random guest programs under every strategy: raw ones, which write table entries of "
        "any "
        "value, load control registers, invalidate or forget to; and those that ask a guest kernel "
        "to map, protect and fork. Every answer is judged by an oracle written from the "
        "architecture manual, and what a guest kernel's program sees must be the same on every "
        "machine.\v"
        "The first program that fails is shrunk and printed, to be run again with --replay; the "
        "exit "
        "status is then 1. fuzz/program.h describes the language.\n\n"
        "Example: nestbed fuzz --seed 7 --programs 10000\n"
        "Example: nestbed fuzz --engine kvm --programs 100\n"
        "Example: nestbed fuzz --paging shadow,ept --replay failure.txt"};

static void choose_strategies(struct fuzz_options *o)
{
    if (!o->paging) {
        o->cfg.nonly = fuzz_strategies(o->cfg.only, ARRAY_SIZE(o->cfg.only));
        return;
    }
    char *list = strdup(o->paging);
    for (char *save, *w = strtok_r(list, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        const struct paging *p = REG_FIND(paging, w);
        if (!p)
            die_unknown("paging", w, __start_reg_paging, __stop_reg_paging);
        if (o->cfg.nonly < ARRAY_SIZE(o->cfg.only))
            o->cfg.only[o->cfg.nonly++] = p;
    }
    free(list);
}

static void choose_kind(struct fuzz_options *o)
{
    unsigned i = 0;
    while (o->kind && i < ARRAY_SIZE(kinds) && strcmp(o->kind, kinds[i]))
        i++;
    if (i == ARRAY_SIZE(kinds))
        die(NB_USAGE, "--kind %s: expected raw, kernel or both", o->kind);
    o->cfg.kind = (enum fuzz_kind)i;
}

static void choose_engine(struct fuzz_options *o)
{
    char err[300];
    if (!o->engine || strcmp(o->engine, "model") == 0)
        return;
    if (strcmp(o->engine, "kvm"))
        die(NB_USAGE,
            "--engine %s: expected model or kvm; on a KVM with both paging modes: nestbed labvm "
            "run "
            "-- fuzz --engine kvm",
            o->engine);
    if (o->paging)
        die(NB_USAGE, "--paging: a host's KVM has the mode it has; leave it out with --engine kvm");
    if (o->cfg.kind == FUZZ_RAW)
        die(NB_USAGE,
            "--kind raw: such programs have no kernel to run on a KVM; use --kind kernel");
    if (!kernel_kvm_here(err, sizeof err))
        die(NB_NODEVICE, "%s", err);
    o->cfg.kind = FUZZ_KERNEL;
    o->cfg.kvm = true;
    o->cfg.four_levels = !kernel_kvm_five_levels();
}

/* ---- workers ---- */
static void note_failure(struct shared *sh, uint64_t i)
{
    uint64_t seen = __atomic_load_n(&sh->first, __ATOMIC_SEQ_CST);
    while (i < seen && !__atomic_compare_exchange_n(&sh->first, &seen, i, false, __ATOMIC_SEQ_CST,
                                                    __ATOMIC_SEQ_CST))
        ;
}

static _Noreturn void work(const struct fuzz_options *o, struct shared *sh, unsigned id)
{
    struct worker *w = &sh->worker[id];
    struct fuzz_failure f;
    for (uint64_t i = id; i < o->programs && i < __atomic_load_n(&sh->first, __ATOMIC_SEQ_CST);
         i += o->jobs) {
        struct fuzz_prog p;
        w->now = i;
        fuzz_program(&o->cfg, i, &p);
        if (fuzz_one(&o->cfg, i, &p, &w->totals, &f))
            note_failure(sh, i);
        program_free(&p);
    }
    _exit(0);
}

static uint64_t done(const struct shared *sh, unsigned jobs)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < jobs; i++)
        n += sh->worker[i].totals.programs;
    return n;
}

static _Noreturn void give_up(const pid_t *pid, unsigned n, int code)
{
    for (unsigned i = 0; i < n; i++)
        kill(pid[i], SIGTERM);
    progress_end();
    exit(code);
}

/* Number of the program that a signal ended, or ~0. */
static uint64_t run_workers(const struct fuzz_options *o, struct shared *sh)
{
    pid_t pid[MAX_WORKERS];
    uint64_t crashed = ~0ull;
    unsigned left = o->jobs;
    fflush(NULL);
    for (unsigned i = 0; i < o->jobs; i++) {
        pid[i] = fork();
        if (pid[i] < 0)
            die(NB_INTERNAL, "fork: %m");
        if (pid[i] == 0)
            work(o, sh, i);
    }
    while (left) {
        int status;
        pid_t who = waitpid(-1, &status, WNOHANG);
        progress_step((unsigned)done(sh, o->jobs), (unsigned)o->programs, "programs");
        if (who <= 0) {
            usleep(20000);
            continue;
        }
        left--;
        if (WIFEXITED(status) && WEXITSTATUS(status)) /* the host failed, and it has said how */
            give_up(pid, o->jobs, WEXITSTATUS(status));
        for (unsigned i = 0; i < o->jobs; i++)
            if (pid[i] == who && WIFSIGNALED(status)) {
                note_failure(sh, sh->worker[i].now);
                crashed = sh->worker[i].now < crashed ? sh->worker[i].now : crashed;
            }
    }
    progress_end();
    return crashed;
}

/* ---- results ---- */
static json_t *names_json(const struct fuzz_config *c)
{
    json_t *a = json_array();
    for (unsigned i = 0; i < c->nonly; i++)
        json_array_append_new(a, json_string(c->only[i]->name));
    return a;
}

static json_t *failure_json(const struct fuzz_failure *f)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    program_print(out, &f->program);
    fclose(out);
    json_t *j =
        json_pack("{sI ss sI ss ss}", "program", (json_int_t)f->number, "machine", f->machine,
                  "operation", (json_int_t)f->verdict.op, "reason", f->verdict.text, "text", text);
    free(text);
    return j;
}

static void print_failure(const struct fuzz_options *o, const struct fuzz_failure *f)
{
    char op[160] = "at the end";
    if (f->verdict.op < f->program.n)
        op_print(&f->program.op[f->verdict.op], op, sizeof op);
    if (!o->replay)
        printf("# nestbed fuzz --seed %" PRIu64 " --ops %u: program %" PRIu64 " fails\n",
               o->cfg.seed, o->cfg.ops, f->number);
    printf("# %s\n# operation %u (%s): %s\n", f->machine, f->verdict.op + 1, op, f->verdict.text);
    program_print(stdout, &f->program);
}

static void print_totals(const struct fuzz_options *o, const struct fuzz_totals *t)
{
    char a[32], b[32], c[32];
    if (o->cfg.kvm) {
        printf("%s program%s on this host's KVM%s: %s accesses, all that is seen as on the model\n",
               group_digits(t->runs, c, sizeof c), t->runs == 1 ? "" : "s",
               o->cfg.four_levels ? ", 4 levels" : "", group_digits(t->accesses, b, sizeof b));
        return;
    }
    printf("%s program%s on %u strateg%s: %s runs, %s accesses, as the manual permits (%.1f %% of "
           "them "
           "had one permitted answer)\n",
           group_digits(t->programs, a, sizeof a), t->programs == 1 ? "" : "s", o->cfg.nonly,
           o->cfg.nonly == 1 ? "y" : "ies", group_digits(t->runs, b, sizeof b),
           group_digits(t->accesses, c, sizeof c),
           t->accesses ? 100.0 * (double)t->certain / (double)t->accesses : 0.0);
    if (t->early)
        printf("%s runs ended when the guest had no memory left\n",
               group_digits(t->early, a, sizeof a));
}

static int report(const struct fuzz_options *o, const struct fuzz_totals *t,
                  const struct fuzz_failure *f)
{
    if (o->common.format == OUT_JSON) {
        json_t *j =
            json_pack("{ss ss ss sI sI sI sI sI sI so so*}", "schema", FUZZ_SCHEMA, "engine",
                      o->cfg.kvm ? "kvm" : "model", "kind", kinds[o->cfg.kind], "seed",
                      (json_int_t)o->cfg.seed, "programs", (json_int_t)t->programs, "runs",
                      (json_int_t)t->runs, "early", (json_int_t)t->early, "accesses",
                      (json_int_t)t->accesses, "certain", (json_int_t)t->certain, "paging",
                      o->cfg.kvm ? json_null() : names_json(&o->cfg), "failure",
                      f ? failure_json(f) : json_null());
        record_print_json(j);
        json_decref(j);
    } else if (f)
        print_failure(o, f);
    else
        print_totals(o, t);
    return f ? NB_FAIL : NB_OK;
}

/* ---- the two ways to run ---- */
static int replay(struct fuzz_options *o)
{
    struct fuzz_prog p;
    struct fuzz_totals t = {0};
    struct fuzz_failure f;
    char err[300];
    FILE *in = strcmp(o->replay, "-") ? fopen(o->replay, "r") : stdin;
    if (!in)
        die(NB_NOINPUT, "open %s: %m", o->replay);
    if (!program_read(in, o->replay, &p, err, sizeof err))
        die(NB_DATAERR, "%s", err);
    if (in != stdin)
        fclose(in);
    if (o->cfg.four_levels && p.levels == 5)
        die(NB_SKIP, "%s: this host's KVM has no 5-level paging", o->replay);
    if (o->cfg.kvm && p.kind == PROGRAM_RAW)
        die(NB_USAGE, "%s: a raw program has no kernel to run on a KVM; leave --engine kvm out",
            o->replay);
    o->cfg.every_machine = true;
    bool failed = fuzz_one(&o->cfg, 0, &p, &t, &f);
    return report(o, &t, failed ? &f : NULL);
}

static int generate(struct fuzz_options *o)
{
    struct shared *sh =
        mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct fuzz_totals t = {0}, again = {0};
    struct fuzz_failure f;
    if (sh == MAP_FAILED)
        die(NB_INTERNAL, "mmap: %m");
    sh->first = ~0ull;
    uint64_t crashed = run_workers(o, sh);
    for (unsigned i = 0; i < o->jobs; i++) {
        t.programs += sh->worker[i].totals.programs;
        t.runs += sh->worker[i].totals.runs;
        t.early += sh->worker[i].totals.early;
        t.accesses += sh->worker[i].totals.accesses;
        t.certain += sh->worker[i].totals.certain;
    }
    if (sh->first == ~0ull)
        return report(o, &t, NULL);
    struct fuzz_prog p;
    fuzz_program(&o->cfg, sh->first, &p);
    if (sh->first == crashed) { /* it would end this process too */
        f = (struct fuzz_failure){.number = crashed, .program = p, .verdict = {.op = p.n}};
        snprintf(f.machine, sizeof f.machine, "one of the machines");
        snprintf(f.verdict.text, sizeof f.verdict.text, "the program ended a worker process");
    } else if (fuzz_one(&o->cfg, sh->first, &p, &again, &f))
        fuzz_shrink(&f);
    else { /* a KVM's timing */
        f = (struct fuzz_failure){.number = sh->first, .program = p, .verdict = {.op = p.n}};
        snprintf(f.machine, sizeof f.machine, "one of the machines");
        snprintf(f.verdict.text, sizeof f.verdict.text, "it failed once, and not when repeated");
    }
    return report(o, &t, &f);
}

static int cmd_fuzz(int argc, char **argv)
{
    static struct fuzz_options o = {.programs = 1000, .cfg = {.seed = 42, .ops = 100}};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    options_init(&o.common);
    o.jobs = cores < 1 ? 1 : cores > MAX_WORKERS ? MAX_WORKERS : (unsigned)cores;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    options_output(&o.common);
    if (o.common.format == OUT_CSV)
        die(NB_USAGE, "-x: fuzz prints text or --json");
    choose_strategies(&o);
    if (o.replay && o.kind)
        die(NB_USAGE, "--kind: the program of --replay is of a kind; leave it out");
    choose_kind(&o);
    choose_engine(&o);
    return o.replay ? replay(&o) : generate(&o);
}

REGISTER(command, fuzz, .summary = "Run random guest programs under every strategy and an oracle",
         .run = cmd_fuzz);
