/* bench_collect.c: from cells to files for people: everything here can be made again at any time.
 */
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench_run.h"
#include "bench/bench_util.h"

static void put_json(const char *dir, const char *name, const json_t *j)
{
    char *path = strf("%s/%s", dir, name);
    write_json(path, j, JSON_INDENT(2));
    free(path);
}

/* Cells that are not ok: what happened, and the command that shows it again. */
static json_t *failures(const struct results *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->plan.n; i++) {
        const struct cell *c = &r->plan.cells[i];
        const json_t *cell = r->cells[i];
        const char *status = json_string_value(json_object_get(cell, "status"));
        const char *reason = json_string_value(json_object_get(cell, "reason"));
        if (cell_ok(cell))
            continue;
        char *words = cell_words(c), *again = strf("nestbed %s", words);
        json_array_append_new(list, json_pack("{ss ss ss ss? ss}", "id", c->id, "name", c->name,
                                              "status", status ? status : "missing", "reason",
                                              reason, "command", again));
        free(again);
        free(words);
    }
    return list;
}

static void put_gbench(const struct results *r, const struct bench_flags *f, const char *name,
                       bool modelled)
{
    json_t *doc = gbench_document(r, f, gbench_entries(r, f, modelled));
    double floor = noise_floor(r);
    json_t *context = json_object_get(doc, "context");
    if (isfinite(floor)) {
        char *s = strf("%.4f", floor);
        json_object_set_new(context, "noise_floor", json_string(s));
        free(s);
    }
    if (modelled)
        json_object_set_new(context, "modelled_unit",
                            json_string("1 ns = 1 modelled cycle per 1000 accesses"));
    put_json(r->dir, name, doc);
    json_decref(doc);
}

static void put_text(const struct results *r, const char *name,
                     void (*write)(const struct results *, FILE *))
{
    struct outfile o;
    FILE *f = outfile_open(&o, strf("%s/%s", r->dir, name));
    write(r, f);
    outfile_close(&o);
}

/* SHA256SUMS over all files but itself, by coreutils' sha256sum. */
static void checksums(const char *dir)
{
    char *argv[] =
        {find_tool("sh"),
         strf("-c"),
         strf("cd -- \"$1\" && find . -type f ! -name SHA256SUMS ! -name '*.tmp*' -print0 | "
              "LC_ALL=C sort -z | xargs -0 sha256sum"),
         strf("sh"),
         strf("%s", dir),
         NULL},
         *path = strf("%s/SHA256SUMS", dir);
    struct proc p;
    if (argv[0]) {
        int code = proc_run(&p, argv, 60);
        size_t len;
        char *text = proc_output(&p, &len);
        if (code == 0)
            write_file(path, text, len);
        else
            log_warn("no SHA256SUMS: sha256sum failed");
        free(text);
        proc_close(&p);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(argv); i++)
        free(argv[i]);
    free(path);
}

int bench_derive(const char *dir, const struct bench_flags *f, bool figures)
{
    struct results r;
    char err[512];
    int code = results_load(&r, dir, err, sizeof err);
    if (code != NB_OK)
        die(code, "%s", err);
    json_t *bad = failures(&r), *facts = results_facts(&r);
    put_json(dir, "failed.json", bad);
    put_json(dir, "facts.json", facts);
    put_gbench(&r, f, "gbench.json", false);
    put_gbench(&r, f, "gbench-modelled.json", true);
    put_text(&r, "summary.tsv", summary_write);
    if (figures)
        code = figs_draw(&r, 0, false);
    put_text(&r, "report.html", report_write);
    checksums(dir);
    json_decref(bad);
    json_decref(facts);
    results_free(&r);
    return code;
}

/* ---- collect ---- */

/* Count one more of `value` in a histogram object. */
static void tally(json_t *seen, const char *value)
{
    json_int_t n = json_integer_value(json_object_get(seen, value ? value : "(none)"));
    json_object_set_new(seen, value ? value : "(none)", json_integer(n + 1));
}

static void say_tally(const char *what, const json_t *seen)
{
    const char *key;
    json_t *n;
    printf("%s:", what);
    json_object_foreach((json_t *)(uintptr_t)seen, key, n)
        printf(" %s (%lld)", key, (long long)json_integer_value(n));
    putchar('\n');
}

static const char *text_of(const json_t *cell, const char *key)
{
    return json_string_value(json_object_get(cell, key));
}

int bench_collect(const char *dir, bool allow_mixed, bool *failed)
{
    struct results r;
    char err[512], plan_hash[17];
    int code = results_load(&r, dir, err, sizeof err);
    size_t missing = 0, bad = 0;
    if (code != NB_OK)
        die(code, "%s", err);
    json_t *git = json_object(), *plans = json_object(), *hosts = json_object();
    for (size_t i = 0; i < r.plan.n; i++) {
        if (!r.cells[i]) {
            missing++;
            printf("missing: %s %s\n", r.plan.cells[i].id, r.plan.cells[i].name);
            continue;
        }
        const char *status = text_of(r.cells[i], "status");
        bad += !cell_ok(r.cells[i]);
        *failed |= !cell_ok(r.cells[i]) && !(status && strcmp(status, "skipped") == 0);
        tally(git, text_of(r.cells[i], "git"));
        tally(plans, text_of(r.cells[i], "plan_hash"));
        tally(hosts, text_of(r.cells[i], "host"));
    }
    snprintf(plan_hash, sizeof plan_hash, "%016llx", (unsigned long long)r.plan.hash);
    say_tally("hosts", hosts);
    say_tally("commits", git);
    printf("cells: %zu planned, %zu missing, %zu not ok\n", r.plan.n, missing, bad);
    bool mixed = json_object_size(git) > 1 || json_object_size(plans) > 1 ||
                 (json_object_size(plans) == 1 && !json_object_get(plans, plan_hash));
    if (mixed && !allow_mixed)
        fprintf(stderr,
                "nestbed: %s mixes cells of several commits or plans: run the older ones again "
                "(remove their files), or say --allow-mixed\n",
                dir);
    json_decref(git);
    json_decref(plans);
    json_decref(hosts);
    results_free(&r);
    return (mixed && !allow_mixed) || missing ? NB_FAIL : NB_OK;
}
