/* bench_session.c: `nestbed bench run` from plan to report. */
#include "bench/bench_session.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_rundir.h"
#include "bench/bench_util.h"
#include "bench/env.h"

unsigned processors(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n > 64 ? 64 : (unsigned)n;
}

static void choose_harness(struct bench *b)
{
    b->hyperfine = b->harness == HARNESS_BUILTIN ? NULL : find_tool("hyperfine");
    json_t *program = json_string(b->origin.program);
    if (!program && b->hyperfine && b->harness != HARNESS_HYPERFINE) {
        free(b->hyperfine); /* it takes no path that is not UTF-8 */
        b->hyperfine = NULL;
    }
    json_decref(program);
    if (b->harness == HARNESS_HYPERFINE && !b->hyperfine)
        die(NB_NODEVICE,
            "hyperfine is not installed: apt-get install hyperfine, or --harness=builtin");
}

void session_rounds(struct bench_args *a)
{
    static const unsigned rounds[] = {6, 9, 30};
    struct bench *b = &a->b;
    b->rounds = b->flags.repetitions ? b->flags.repetitions : rounds[b->plan.scale];
    if (b->rounds < b->flags.min_rounds)
        b->rounds = b->flags.min_rounds;
    b->warmup = 1;
    if (b->flags.dry_run) {
        b->rounds = 1;
        b->warmup = 0;
    }
}

void session_plan(struct bench_args *a)
{
    struct plan *p = &a->b.plan, all;
    *p = (struct plan){.scale = a->scale, .root_seed = a->root_seed};
    plan_build(p);
    if (p->n == 0)
        die(NB_INTERNAL, "this build has no experiments: are bench/experiments/*.c linked?");
    const char *why = a->b.flags.filter ? plan_filter(p, a->b.flags.filter) : NULL;
    if (why)
        die(NB_USAGE, "--filter '%s': %s", a->b.flags.filter, why);
    if (p->n == 0)
        die(NB_USAGE, "no cell matches '%s': nestbed bench --list shows the names",
            a->b.flags.filter);
    if (!a->b.flags.repetitions)
        return;
    all = *p; /* --repetitions: time everything */
    *p = (struct plan){.scale = all.scale, .root_seed = all.root_seed};
    for (size_t i = 0; i < all.n; i++)
        plan_time(p, &all.cells[i]);
    plan_free(&all);
}

int session_list(const struct bench_args *a)
{
    const struct plan *p = &a->b.plan;
    bool json = strcmp(a->b.flags.format, "json") == 0;
    for (size_t i = 0; i < p->n; i++) {
        if (json)
            printf("%s{\"name\": \"%s/real_time\"}", i ? ",\n" : "{\"benchmarks\": [\n",
                   p->cells[i].name);
        else
            printf("%s/real_time\n", p->cells[i].name);
    }
    if (json)
        puts("\n]}");
    return NB_OK;
}

int session_dry_run(struct bench_args *a)
{
    struct bench *b = &a->b;
    double exact = 0, timed = 0;
    uint64_t ram = 0;
    size_t ntimed = 0;
    plan_write(&b->plan, stdout);
    for (size_t i = 0; i < b->plan.n; i++) {
        const struct cell *c = &b->plan.cells[i];
        ntimed += c->kind == CELL_TIMED;
        *(c->kind == CELL_TIMED ? &timed : &exact) += c->seconds;
        ram = c->ram > ram ? c->ram : ram;
    }
    timed = (timed + 0.05 * (double)ntimed) * (b->rounds + b->warmup);
    printf("# %zu cells: %zu exact or counted, %zu timed in %u rounds and %u to warm up\n",
           b->plan.n, b->plan.n - ntimed, ntimed, b->rounds, b->warmup);
    printf("# about %.0f s, %llu MiB of RAM (%u at a time), %.1f MiB of disk\n",
           exact / b->jobs + timed + 5, (unsigned long long)(ram >> 20) * b->jobs, b->jobs,
           0.006 * (double)b->plan.n + 0.002 * (double)ntimed * b->rounds + 1);
    return NB_OK;
}

/* Google Benchmark's context banner. */
static void banner(const struct bench *b)
{
    char when[40], *line;
    json_t *env = env_capture();
    line = env_paging_line(env);
    fprintf(stderr, "%s\nRunning %s\nRun on %u processors; %u exact cells at a time\n%s\n",
            utc("%Y-%m-%dT%H:%M:%S+00:00", when, sizeof when), b->origin.program, processors(),
            b->jobs, line);
    free(line);
    json_decref(env);
}

/* Cells of two commits, or times of two machines, do not belong together. */
static void same_origin(const struct bench_args *a, const struct bench *b)
{
    char *path = strf("%s/manifest.json", b->dir);
    json_t *j = json_load_file(path, 0, NULL);
    const char *git = json_string_value(json_object_get(j, "git"));
    const char *env = json_string_value(json_object_get(j, "env_hash"));
    if (git && strcmp(git, b->origin.git) != 0 && !a->allow_mixed)
        die(NB_FAIL, "%s was begun by commit %s, this is %s: begin a new run, or say --allow-mixed",
            b->dir, git, b->origin.git);
    if (env && strcmp(env, b->origin.env_hash) != 0 && !a->allow_mixed)
        die(NB_FAIL,
            "%s was begun on another machine, kernel or build: begin a new run, or say "
            "--allow-mixed",
            b->dir);
    json_decref(j);
    free(path);
}

void session_resume(struct bench_args *a)
{
    struct bench *b = &a->b;
    char err[512], *found = rundir_find(a->results, a->resume), *path;
    b->dir = realpath(found, NULL); /* the folder itself: results/latest is to point at it */
    if (!b->dir)
        die(NB_NOINPUT, "%s: %s", found, strerror(errno));
    path = strf("%s/plan.tsv", b->dir);
    int code = plan_read(&b->plan, path, err, sizeof err);
    if (code != NB_OK)
        die(code, "%s", err);
    if (b->flags.filter || b->flags.repetitions || a->seed_given ||
        (a->scale != SCALE_STD && a->scale != b->plan.scale))
        die(NB_USAGE,
            "--resume goes on with the plan of %s: leave out --filter, --repetitions, "
            "--seed, --quick and --full",
            b->dir);
    session_rounds(a);
    manifest_read(b);
    a->redact |= rundir_redacted(b->dir);
    free(path);
    free(found);
}

static void start_run(struct bench_args *a)
{
    struct bench *b = &a->b;
    if (a->resume) {
        rundir_lock(b->dir);
        origin_init(&b->origin, a->program, &b->plan, a->redact);
        if (interrupted())
            exit(NB_SIGINT); /* before there was anything to keep */
        choose_harness(b);
        same_origin(a, b);
    } else {
        struct outfile o;
        origin_init(&b->origin, a->program, &b->plan, a->redact);
        if (interrupted())
            exit(NB_SIGINT); /* before there was anything to keep */
        choose_harness(b);
        b->dir = rundir_new(a->results, &b->origin);
        rundir_lock(b->dir);
        plan_write(&b->plan, outfile_open(&o, strf("%s/plan.tsv", b->dir)));
        outfile_close(&o);
        snprintf(b->origin.plan_hash, sizeof b->origin.plan_hash, "%016llx",
                 (unsigned long long)b->plan.hash);
    }
    b->origin.timeout = (double)a->timeout;
}

/* The run as make takes it: a name in results/, else a path. */
static const char *run_name(const struct bench_args *a)
{
    if (a->resume)
        return a->resume;
    const char *slash = strrchr(a->b.dir, '/');
    return slash && strcmp(a->results, "results") == 0 ? slash + 1 : a->b.dir;
}

static int stopped(const struct bench_args *a, int argc, char **argv)
{
    const struct bench *b = &a->b;
    manifest_write(b, argc, argv, "interrupted");
    size_t kept = 0;
    char *cells = strf("%s/cells", b->dir);
    for (size_t i = 0; i < b->plan.n; i++) {
        json_t *j = cell_finished(cells, &b->plan.cells[i]);
        kept += j != NULL;
        json_decref(j);
    }
    free(cells);
    fprintf(stderr,
            "nestbed: interrupted: %zu of %zu cells are kept; go on with\n  nestbed bench --resume "
            "%s\nor, in the source tree, with\n  make bench RUN=%s\n",
            kept, b->plan.n, b->dir, run_name(a));
    return NB_SIGINT;
}

/* Tell about cells without a result; NB_FAIL when one failed. */
static int say_failures(const struct results *r)
{
    size_t failed = 0, skipped = 0;
    for (size_t i = 0; i < r->plan.n; i++) {
        const char *status = json_string_value(json_object_get(r->cells[i], "status"));
        const char *reason = json_string_value(json_object_get(r->cells[i], "reason"));
        if (cell_ok(r->cells[i]))
            continue;
        bool skip = status && strcmp(status, "skipped") == 0;
        skipped += skip;
        failed += !skip;
        if ((skip ? skipped : failed) <= 5)
            fprintf(stderr, "nestbed: %s %s: %s\n", skip ? "skipped" : "FAILED",
                    r->plan.cells[i].name, reason ? reason : "no result");
    }
    if (failed || skipped)
        fprintf(stderr, "nestbed: %zu cells failed, %zu were skipped: see %s/failed.json\n", failed,
                skipped, r->dir);
    return failed ? NB_FAIL : NB_OK;
}

static void report(const struct bench_args *a, const struct results *r)
{
    const struct bench_flags *f = &a->b.flags;
    json_t *doc = gbench_document(r, f, gbench_entries(r, f, false));
    if (!a->quiet)
        gbench_print(doc, f, f->format,
                     f->display_given ? SHOW(f->display_aggregates_only) : SHOW_MEDIANS, stdout);
    if (f->out) {
        struct outfile o;
        gbench_print(doc, f, f->out_format, SHOW(f->aggregates_only),
                     outfile_open(&o, strf("%s", f->out)));
        outfile_close(&o);
    }
    json_decref(doc);
    if (strcmp(f->format, "console") == 0) {
        putchar('\n');
        findings_print(r, stdout);
        printf("results: %s  (report.html, figs/, summary.tsv, gbench.json)\n", r->dir);
    }
}

static int finish(struct bench_args *a, int argc, char **argv)
{
    struct bench *b = &a->b;
    struct results r;
    char err[512];
    manifest_write(b, argc, argv, "complete");
    env_finish(b);
    int drawn = bench_derive(b->dir, &b->flags, !a->no_plots);
    bool whole = plan_whole(&b->plan, false);
    if (whole)
        rundir_latest(b->dir);
    if (interrupted()) {
        fprintf(stderr,
                "nestbed: interrupted: all cells are kept; make the report with\n  nestbed bench "
                "collect %s\nor, in the source tree, with\n  make bench RUN=%s\n",
                b->dir, run_name(a));
        return NB_SIGINT;
    }
    int code = results_load(&r, b->dir, err, sizeof err);
    if (code != NB_OK)
        die(code, "%s", err);
    report(a, &r);
    if (!whole && !a->quiet)
        fprintf(stderr,
                "nestbed: part of the plan was run: its results are in %s; %s/latest stays as it "
                "was\n",
                b->dir, a->results);
    code = say_failures(&r);
    results_free(&r);
    return code == NB_OK && drawn == NB_FAIL ? NB_FAIL
                                             : code; /* without gnuplot a run is complete */
}

int session_run(struct bench_args *a, int argc, char **argv)
{
    struct bench *b = &a->b;
    procs_interrupt();
    start_run(a);
    b->quiet = a->quiet;
    if (!a->quiet)
        banner(b);
    env_write(b, a->redact);
    manifest_write(b, argc, argv, "running");
    int code = bench_exact(b);
    if (code == NB_OK)
        code = bench_timed(b);
    code = code == NB_OK ? finish(a, argc, argv) : stopped(a, argc, argv);
    origin_free(&b->origin);
    free(b->dir);
    free(b->hyperfine);
    return code;
}
