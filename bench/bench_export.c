/* bench_export.c: the part of a run that is the same on every machine, for results/reference/.
 *
 * Kept: the plan, exact cells without times, host names and environment, figures, facts that are
 * not measured. A copy made from two machines differs in nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_export.h"
#include "bench/bench_run.h"
#include "bench/bench_util.h"

static void copy(const char *from, const char *to, const char *name)
{
    char *a = strf("%s/%s", from, name), *b = strf("%s/%s", to, name);
    size_t n;
    char *text = read_file(a, &n);
    if (text)
        write_file(b, text, n);
    free(text);
    free(a);
    free(b);
}

/* Of a run with a work phase only that phase: what experiments compare. */
static void keep_work(json_t *rec)
{
    json_t *phase, *work = NULL;
    size_t i;
    json_array_foreach(json_object_get(rec, "phases"), i,
                       phase) if (strcmp(json_string_value(json_object_get(phase, "name")) ?: "",
                                         "work") == 0) work = phase;
    if (!work)
        return;
    json_object_del(rec, "counters");
    json_object_del(rec, "cycles");
    json_object_del(rec, "derived");
    json_object_set_new(rec, "phases", json_pack("[O]", work));
}

static void strip(json_t *cell)
{
    static const char *const gone[] = {
        "host", "end", "env_hash", "wall_seconds", "user_seconds", "system_seconds", "max_rss_kib"};
    json_t *rec = json_object_get(cell, "record");
    for (unsigned k = 0; k < ARRAY_SIZE(gone); k++)
        json_object_del(cell, gone[k]);
    json_object_del(rec, "env");
    json_object_del(rec, "wall_seconds");
    json_object_del(rec, "metadata_bytes"); /* as the allocator rounds them */
    json_object_del(rec, "steps");
    keep_work(rec);
}

static void write_cells(const struct results *r, struct plan *kept, const char *dir)
{
    for (size_t i = 0; i < r->plan.n; i++) {
        const struct cell *c = &r->plan.cells[i];
        if (c->kind != CELL_EXACT || !cell_ok(r->cells[i]))
            continue;
        char *cells = strf("%s/cells", dir), *path = cell_path(cells, c);
        json_t *j = json_deep_copy(r->cells[i]);
        char hash[17];
        strip(j);
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)kept->hash);
        json_object_set_new(j, "plan_hash", json_string(hash));
        write_json(path, j, JSON_COMPACT);
        json_decref(j);
        free(path);
        free(cells);
    }
}

/* The run's plan without its timed cells. */
static void write_plan(const struct results *r, struct plan *kept, const char *dir)
{
    struct outfile o;
    *kept = (struct plan){.scale = r->plan.scale, .root_seed = r->plan.root_seed};
    kept->cells = xcalloc(r->plan.n, sizeof *kept->cells);
    for (size_t i = 0; i < r->plan.n; i++)
        if (r->plan.cells[i].kind == CELL_EXACT)
            kept->cells[kept->n++] = r->plan.cells[i]; /* strings stay the run's */
    plan_write(kept, outfile_open(&o, strf("%s/plan.tsv", dir)));
    outfile_close(&o);
}

static void write_facts(const struct results *r, const char *dir)
{
    json_t *facts = results_facts(r), *kept = json_object(), *f;
    const char *id;
    char *path = strf("%s/facts.json", dir);
    json_object_foreach(facts, id, f) if (!json_is_true(json_object_get(f, "measured")))
        json_object_set(kept, id, f);
    write_json(path, kept, JSON_INDENT(2));
    json_decref(facts);
    json_decref(kept);
    free(path);
}

int bench_export(const char *from, const char *to)
{
    static const char *const kinds[] = {"tsv", "gp", "png"};
    struct results r;
    struct plan kept;
    char err[512];
    int code = results_load(&r, from, err, sizeof err);
    if (code != NB_OK)
        die(code, "%s", err);
    char *cells = strf("%s/cells", to), *figs = strf("%s/figs", to);
    make_dirs(cells);
    make_dirs(figs);
    write_plan(&r, &kept, to);
    write_cells(&r, &kept, to);
    write_facts(&r, to);
    copy(from, to, "figs/style.gp");
    for (unsigned n = 1; n < 20; n++)
        for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
            char *name = strf("figs/fig%u.%s", n, kinds[k]);
            copy(from, to, name);
            free(name);
        }
    free(kept.cells);
    free(cells);
    free(figs);
    results_free(&r);
    return NB_OK;
}
