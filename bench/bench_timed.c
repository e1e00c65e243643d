/* bench_timed.c: timed cells: alone, in shuffled rounds.
 *
 * Running all repetitions of one cell and then all of the next lets a drift of the machine look
 * like a difference. So each round runs every cell once, in an order shuffled from the recorded
 * seed, and comparisons pair the samples of a round. The first rounds are warm-up and are thrown
 * away.
 *
 * A sample is one file, raw/<id>.<round>.json, written whole; a stopped run goes on at the first
 * that is missing.
 */
#include "bench/bench_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "bench/bench_util.h"
#include "bench/progress.h"

enum { MAX_ROUNDS = 1000 };

struct sample {
    int code;
    double wall, user, system;
    json_t *max_rss;
    char *out, *errors;
    size_t len;
};

static char *sample_path(const struct bench *b, const struct cell *c, unsigned round)
{
    return strf("%s/raw/%s.%03u.json", b->dir, c->id, round);
}

/* One word for hyperfine's -N, which splits like a shell. */
static void quote(FILE *f, const char *word)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:=+,%@-";
    if (*word && word[strspn(word, plain)] == 0) {
        fputs(word, f);
        return;
    }
    fputc('\'', f);
    for (const char *p = word; *p; p++)
        fputs(*p == '\'' ? "'\\''" : (char[]){*p, 0}, f);
    fputc('\'', f);
}

static char *command_line(const struct bench *b, const struct cell *c)
{
    char *text, **argv = cell_argv(&b->origin, c);
    size_t len;
    FILE *f = open_memstream(&text, &len);
    for (char **a = argv; f && *a; a++) {
        if (a != argv)
            fputc(' ', f);
        quote(f, *a);
    }
    if (!f || fclose(f) != 0)
        die(NB_FAIL, "no memory for a command line");
    cell_argv_free(argv);
    return text;
}

/* Numbers of one hyperfine export with one result. */
static bool read_export(const char *path, struct sample *s)
{
    json_t *j = json_load_file(path, 0, NULL);
    const json_t *r = json_array_get(json_object_get(j, "results"), 0);
    s->wall = num(r, "mean");
    s->user = num(r, "user");
    s->system = num(r, "system");
    s->code = (int)json_integer_value(json_array_get(json_object_get(r, "exit_codes"), 0));
    bool whole = json_is_object(r) && isfinite(s->wall);
    json_decref(j);
    return whole;
}

static bool by_hyperfine(const struct bench *b, const struct cell *c, struct sample *s)
{
    char *export = strf("%s/raw/.export", b->dir), *output = strf("%s/raw/.output", b->dir);
    char *command = command_line(b, c);
    char *words = cell_words(c);
    log_info("%s: nestbed %s", c->name, words);
    free(words);
    char *argv[] = {b->hyperfine, strf("-N"),       strf("-r"), strf("1"), strf("--style"),
                    strf("none"), strf("-i"),       strf("-n"), c->name,   strf("--export-json"),
                    export,       strf("--output"), output,     command,   NULL};
    struct proc p;
    unlink(export);
    bool done = proc_run(&p, argv, b->origin.timeout) >= 0;
    if (!done)
        procs_kill_all();
    s->errors = proc_errors(&p);
    proc_close(&p);
    if (done && !read_export(export, s))
        s->code = p.code == NB_TIMEOUT ? NB_TIMEOUT : 127;
    s->out = read_file(output, &s->len);
    if (!s->out)
        s->out = strf("%s", "");
    s->max_rss = json_null();
    unlink(export);
    unlink(output);
    static const unsigned ours[] = {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13};
    for (unsigned i = 0; i < ARRAY_SIZE(ours); i++)
        free(argv[ours[i]]);
    return done;
}

static bool by_ourselves(const struct bench *b, const struct cell *c, struct sample *s)
{
    struct proc p;
    cell_start(&b->origin, c, &p);
    bool done = proc_wait_any(&p, 1) >= 0;
    if (!done)
        procs_kill_all();
    *s = (struct sample){.code = p.code, .wall = p.wall, .user = p.user, .system = p.system};
    s->max_rss = json_integer(p.max_rss_kib);
    s->out = proc_output(&p, &s->len);
    s->errors = proc_errors(&p);
    proc_close(&p);
    return done;
}

static void write_sample(const struct bench *b, const struct cell *c, unsigned round,
                         struct sample *s)
{
    char *why, *path = sample_path(b, c, round);
    json_t *record;
    const char *status = cell_status(s->code, s->out, s->len, s->errors, &record, &why);
    json_t *j = json_pack("{ss ss ss si ss ss ss? si sf sf sf sO so}", "schema", "nestbed-sample/1",
                          "id", c->id, "name", c->name, "round", (int)round, "harness",
                          b->hyperfine ? "hyperfine" : "builtin", "status", status, "reason", why,
                          "exit_code", s->code, "wall_seconds", s->wall, "user_seconds", s->user,
                          "system_seconds", s->system, "max_rss_kib", s->max_rss, "record",
                          record ? record : json_null());
    if (!j)
        die(NB_INTERNAL, "json_pack failed for a sample of %s", c->name);
    write_json(path, j, JSON_COMPACT);
    json_decref(j);
    free(why);
    free(path);
}

static json_t *load_sample(const struct bench *b, const struct cell *c, unsigned round)
{
    char *path = sample_path(b, c, round);
    json_t *j = json_load_file(path, 0, NULL);
    free(path);
    return j;
}

/* Make one sample unless it is there; one that failed is made again. False when interrupted. */
static bool sample(const struct bench *b, const struct cell *c, unsigned round)
{
    json_t *old = load_sample(b, c, round);
    const char *status = json_string_value(json_object_get(old, "status"));
    bool there = status && strcmp(status, "failed") != 0;
    struct sample s = {0};
    json_decref(old);
    if (there)
        return true;
    bool done = b->hyperfine ? by_hyperfine(b, c, &s) : by_ourselves(b, c, &s);
    if (done)
        write_sample(b, c, round, &s);
    json_decref(s.max_rss);
    free(s.out);
    free(s.errors);
    return done;
}

/* Numbers of a sample for the cell's file; the loop's own seconds where the command reports them.
 */
static json_t *sample_row(const json_t *s)
{
    static const char *const kept[] = {"round", "wall_seconds", "user_seconds", "system_seconds",
                                       "max_rss_kib"};
    static const char *const inner[] = {"seconds", "cpu_seconds", "accesses_per_second"};
    json_t *row = json_object();
    for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
        json_object_set(row, kept[i], json_object_get(s, kept[i]));
    for (unsigned i = 0; i < ARRAY_SIZE(inner); i++) {
        json_t *v = json_object_get(json_object_get(s, "record"), inner[i]);
        if (v)
            json_object_set(row, inner[i], v);
    }
    return row;
}

/* Same counters in two records; a record may have none. */
static bool same_counters(const json_t *a, const json_t *b)
{
    const json_t *x = json_object_get(a, "counters"), *y = json_object_get(b, "counters");
    return x == y || json_equal(x, y);
}

/* Join the samples of a cell into cells/<id>.json. Counters must not differ between rounds. */
static void join(const struct bench *b, const struct cell *c, unsigned rounds)
{
    json_t *j = cell_new(&b->origin, c), *rows = json_array(), *record = NULL;
    const char *status = "ok";
    char *why = NULL, *cells = strf("%s/cells", b->dir), *path = cell_path(cells, c);
    for (unsigned k = b->warmup; k < b->warmup + rounds; k++) {
        json_t *s = load_sample(b, c, k), *rec = json_object_get(s, "record");
        if (!cell_ok(s) && strcmp(status, "ok") == 0) {
            status = strcmp(json_string_value(json_object_get(s, "status")) ?: "", "skipped")
                         ? "failed"
                         : "skipped";
            why = strf("%s",
                       json_string_value(json_object_get(s, "reason")) ?: "a sample is missing");
        }
        if (record && rec && !same_counters(record, rec) && strcmp(status, "ok") == 0) {
            status = "failed";
            why = strf("counters differ between rounds: not deterministic");
        }
        json_array_append_new(rows, sample_row(s));
        json_decref(record);
        record = json_incref(rec);
        json_decref(s);
    }
    json_object_set_new(j, "status", json_string(status));
    json_object_set_new(j, "reason", why ? json_string(why) : json_null());
    json_object_set_new(j, "harness", json_string(b->hyperfine ? "hyperfine" : "builtin"));
    json_object_set_new(j, "samples", rows);
    json_object_set_new(j, "record", record ? record : json_null());
    write_json(path, j, JSON_COMPACT);
    json_decref(j);
    free(why);
    free(path);
    free(cells);
}

/* Order of a round: shuffled, or as planned. */
static void order_of(const struct bench *b, unsigned round, const size_t *timed, size_t n,
                     size_t *order)
{
    struct rng r;
    memcpy(order, timed, n * sizeof *order);
    rng_seed(&r, rng_child(b->plan.root_seed, round));
    for (size_t i = n; b->flags.interleave && i > 1; i--) {
        size_t j = rng_below(&r, i), t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
}

static size_t timed_cells(const struct bench *b, size_t *out)
{
    char *dir = strf("%s/cells", b->dir);
    size_t n = 0;
    for (size_t i = 0; i < b->plan.n; i++) {
        json_t *done = cell_finished(dir, &b->plan.cells[i]);
        if (b->plan.cells[i].kind == CELL_TIMED && !done)
            out[n++] = i;
        json_decref(done);
    }
    free(dir);
    return n;
}

/* Has every cell run for so long in rounds from..to-1? */
static bool ran_for(const struct bench *b, const size_t *timed, size_t n, unsigned from,
                    unsigned to, double seconds)
{
    for (size_t i = 0; i < n && seconds > 0; i++) {
        double sum = 0;
        for (unsigned k = from; k < to; k++) {
            json_t *s = load_sample(b, &b->plan.cells[timed[i]], k);
            double v = num(s, "wall_seconds");
            sum += isfinite(v) ? v : 0;
            json_decref(s);
        }
        if (sum < seconds)
            return false;
    }
    return true;
}

static int run_round(const struct bench *b, const size_t *timed, size_t n, unsigned round,
                     unsigned total)
{
    size_t *order = xcalloc(n, sizeof *order);
    int code = NB_OK;
    order_of(b, round, timed, n, order);
    for (size_t i = 0; i < n && code == NB_OK; i++) {
        const struct cell *c = &b->plan.cells[order[i]];
        progress_step((unsigned)(round * n + i), (unsigned)(total * n), c->name);
        if (!sample(b, c, round))
            code = NB_SIGINT;
    }
    free(order);
    return code;
}

/* --benchmark_enable_random_interleaving=false: all repetitions of a cell, then the next cell. */
static int run_blocks(const struct bench *b, const size_t *timed, size_t n, unsigned total)
{
    for (size_t i = 0; i < n; i++)
        for (unsigned k = 0; k < total; k++) {
            progress_step((unsigned)(i * total + k), (unsigned)(total * n),
                          b->plan.cells[timed[i]].name);
            if (!sample(b, &b->plan.cells[timed[i]], k))
                return NB_SIGINT;
        }
    return NB_OK;
}

/* Rounds to be thrown away: those asked for, and more until each cell has run min_warmup seconds.
 */
static int warm_up(struct bench *b, const size_t *timed, size_t n)
{
    unsigned k = 0;
    int code = NB_OK;
    for (; code == NB_OK && k < MAX_ROUNDS; k++) {
        if (k >= b->warmup && ran_for(b, timed, n, 0, k, b->flags.min_warmup))
            break;
        b->warmup = k + 1 > b->warmup ? k + 1 : b->warmup;
        code = run_round(b, timed, n, k, b->warmup + b->rounds);
    }
    return code;
}

/* All rounds, and more until each cell was measured for min_time. */
static int measure(struct bench *b, const size_t *timed, size_t n)
{
    int code = NB_OK;
    if (!b->flags.interleave)
        code = run_blocks(b, timed, n, b->warmup + b->rounds);
    for (unsigned k = b->warmup; b->flags.interleave && k < b->warmup + b->rounds && code == NB_OK;
         k++)
        code = run_round(b, timed, n, k, b->warmup + b->rounds);
    while (code == NB_OK && b->rounds < MAX_ROUNDS &&
           !ran_for(b, timed, n, b->warmup, b->warmup + b->rounds, b->flags.min_time)) {
        code = run_round(b, timed, n, b->warmup + b->rounds, b->warmup + b->rounds + 1);
        b->rounds += code == NB_OK;
    }
    return code;
}

int bench_timed(struct bench *b)
{
    size_t *timed = xcalloc(b->plan.n, sizeof *timed), n = timed_cells(b, timed);
    int code = NB_OK;
    progress_init_long(b->progress, b->quiet);
    if (n && (b->flags.interleave || b->flags.min_warmup > 0))
        code = warm_up(b, timed, n);
    if (n && code == NB_OK)
        code = measure(b, timed, n);
    progress_end();
    for (size_t i = 0; i < n && code == NB_OK; i++)
        join(b, &b->plan.cells[timed[i]], b->rounds);
    free(timed);
    return code;
}
