/* bench_results.c: finished cells of a run directory, and numbers out of them. */
#include "bench/bench.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/counters.h"
#include "bench/bench_util.h"

REGISTRY(experiment);

int results_load(struct results *r, const char *dir, char *err, size_t errlen)
{
    char *path = strf("%s/plan.tsv", dir);
    *r = (struct results){0};
    int code = plan_read(&r->plan, path, err, errlen);
    free(path);
    if (code != NB_OK)
        return code;
    r->dir = strf("%s", dir);
    r->cells = xcalloc(r->plan.n, sizeof(*r->cells));
    for (size_t i = 0; i < r->plan.n; i++) {
        path = strf("%s/cells/%s.json", dir, r->plan.cells[i].id);
        r->cells[i] = json_load_file(path, 0, NULL);
        free(path);
    }
    return NB_OK;
}

void results_free(struct results *r)
{
    for (size_t i = 0; i < r->plan.n; i++)
        json_decref(r->cells[i]);
    free(r->cells);
    free(r->dir);
    plan_free(&r->plan);
}

const char *results_git(const struct results *r)
{
    const char *git = NULL;
    for (size_t i = 0; i < r->plan.n; i++) {
        const char *one = json_string_value(json_object_get(r->cells[i], "git"));
        if (git && one && strcmp(git, one) != 0)
            return "several";
        git = git ? git : one;
    }
    return git ? git : "unknown";
}

bool cell_ok(const json_t *cell)
{
    const char *s = json_string_value(json_object_get(cell, "status"));
    return s && strcmp(s, "ok") == 0;
}

json_t *results_cell(const struct results *r, const char *name)
{
    for (size_t i = 0; i < r->plan.n; i++)
        if (strcmp(r->plan.cells[i].name, name) == 0)
            return r->cells[i];
    return NULL;
}

json_t *results_record(const struct results *r, const char *fmt, ...)
{
    char name[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    const json_t *cell = results_cell(r, name);
    json_t *record = json_object_get(cell, "record");
    return cell_ok(cell) && json_is_object(record) ? record : NULL;
}

double num(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static const json_t *work_phase(const json_t *rec)
{
    const json_t *phase;
    size_t i;
    json_array_foreach(json_object_get(rec, "phases"), i, phase)
    {
        const char *name = json_string_value(json_object_get(phase, "name"));
        if (name && strcmp(name, "work") == 0)
            return phase;
    }
    return rec;
}

double rec_counter(const json_t *rec, const char *name)
{
    return num(json_object_get(work_phase(rec), "counters"), name);
}

double rec_cycles(const json_t *rec, const char *part)
{
    return num(json_object_get(work_phase(rec), "cycles"), part);
}

double rec_refs(const json_t *rec)
{
    return rec_counter(rec, "walk_refs") / rec_counter(rec, "walks");
}

size_t cell_samples(const json_t *cell, const char *key, double *out, size_t max)
{
    const json_t *s;
    size_t i, n = 0;
    if (!cell_ok(cell))
        return 0;
    json_array_foreach(json_object_get(cell, "samples"), i,
                       s) if (n < max && json_is_number(json_object_get(s, key))) out[n++] =
        num(s, key);
    return n;
}

void fact(json_t *facts, const char *id, int flags, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = vstrf(fmt, ap);
    va_end(ap);
    json_object_set_new(facts, id,
                        json_pack("{ss sb}", "text", text, "measured", flags & FACT_MEASURED));
    free(text);
}

/* Facts that belong to no experiment: what the counters mean, how large the run was. */
static void common_facts(const struct results *r, json_t *facts)
{
    char *text;
    size_t len, exact = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return;
    fputs("\n| counter | unit | meaning |\n|---|---|---|\n", f);
    for (unsigned i = 0; i < CTR_COUNT; i++)
        fprintf(f, "| `%s` | %s | %s |\n", counter_descs[i].name, counter_descs[i].unit,
                counter_descs[i].meaning);
    fclose(f);
    fact(facts, "glossary", 0, "%s", text);
    free(text);
    for (size_t i = 0; i < r->plan.n; i++)
        exact += r->plan.cells[i].kind == CELL_EXACT;
    if (exact)
        fact(facts, "run.exact_cells", 0, "%zu", exact);
    fact(facts, "run.scale", 0, "%s", scale_names[r->plan.scale]);
    fact(facts, "run.root_seed", 0, "%llu", (unsigned long long)r->plan.root_seed);
}

json_t *results_facts(const struct results *r)
{
    const struct reg_head *all[64];
    size_t n = REG_SORTED(experiment, all, ARRAY_SIZE(all));
    json_t *facts = json_object();
    common_facts(r, facts);
    for (size_t i = 0; i < n; i++) {
        const struct experiment *e = REG_FIND(experiment, all[i]->name);
        if (e->facts)
            e->facts(r, facts);
    }
    return facts;
}
