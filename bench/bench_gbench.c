/* bench_gbench.c: results in Google Benchmark's schema, and as its console and CSV reports.
 *
 * Kept to the subset that every known reader accepts: all keys in every entry, finite times, flat
 * numeric counters, names of wall-clock times ending in /real_time, failed cells left out (a 0
 * would poison means). Counts cannot pose as times there, so modelled cycles have a file of their
 * own, in which one nanosecond stands for one cycle per 1,000 accesses.
 */
#include "bench/bench_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench_rundir.h"
#include "bench/bench_util.h"
#include "bench/stats.h"
#include "bench/version.h"

/* Derived numbers that the console shows. */
static const char *const headline[] = {"cycles_per_access", "refs_per_walk", "exits_per_kaccess",
                                       "accesses_per_second"};

struct family {
    char name[64];
    json_int_t members;
};

struct maker {
    const struct bench_flags *flags;
    json_t *entries;
    struct family families[64];
    unsigned nfamilies;
    double per_second;
    const char *unit;
    bool modelled;
};

static json_int_t family_of(struct maker *m, const char *name, json_int_t *member)
{
    unsigned i;
    char family[64];
    snprintf(family, sizeof family, "%.*s", (int)strcspn(name, "/"), name);
    for (i = 0; i < m->nfamilies && strcmp(m->families[i].name, family) != 0; i++)
        ;
    if (i == m->nfamilies && i < ARRAY_SIZE(m->families)) {
        snprintf(m->families[i].name, sizeof m->families[i].name, "%s", family);
        m->nfamilies++;
    }
    *member = m->families[i].members;
    return i;
}

static void put_number(json_t *e, const char *key, double v)
{
    if (isfinite(v))
        json_object_set_new(e, key, json_real(v));
}

static void put_all(json_t *e, const char *prefix, json_t *from)
{
    const char *key;
    json_t *v;
    json_object_foreach(from, key, v)
    {
        char *name = strf("%s%s", prefix, key);
        if (json_is_number(v) && !json_object_get(e, name))
            json_object_set(e, name, v);
        free(name);
    }
}

/* The work phase's counters and cycles, and what is derived from them. */
static void put_counters(json_t *e, json_t *rec)
{
    json_t *from = rec, *phase;
    size_t i;
    json_array_foreach(json_object_get(rec, "phases"), i,
                       phase) if (strcmp(json_string_value(json_object_get(phase, "name")) ?: "",
                                         "work") == 0) from = phase;
    double accesses = rec_counter(rec, "accesses");
    double refs = rec_refs(rec);
    put_number(e, headline[0], rec_cycles(rec, "total") / accesses);
    put_number(e, headline[1], isnan(refs) ? num(rec, "refs") : refs);
    put_number(e, headline[2], 1000 * rec_counter(rec, "exits") / accesses);
    put_number(e, headline[3], num(rec, "accesses_per_second"));
    put_all(e, "", json_object_get(from, "counters"));
    put_all(e, "cycles_", json_object_get(from, "cycles"));
}

static json_t *entry(struct maker *m, const struct cell *c, const char *suffix, size_t repetitions)
{
    json_int_t member, family = family_of(m, c->name, &member);
    char *run = strf("%s/%s", c->name, m->modelled ? "modelled" : "real_time");
    char *name = strf("%s%s%s", run, *suffix ? "_" : "", suffix);
    json_t *e =
        json_pack("{ss sI sI ss ss sI}", "name", name, "family_index", family,
                  "per_family_instance_index", member, "run_name", run, "run_type",
                  *suffix ? "aggregate" : "iteration", "repetitions", (json_int_t)repetitions);
    json_array_append_new(m->entries, e);
    free(name);
    free(run);
    return e;
}

static void put_times(const struct maker *m, json_t *e, json_int_t iterations, double real,
                      double cpu, double scale)
{
    json_object_set_new(e, "threads", json_integer(1));
    json_object_set_new(e, "iterations", json_integer(iterations));
    json_object_set_new(e, "real_time", json_real(real * scale));
    json_object_set_new(e, "cpu_time", json_real(cpu * scale));
    json_object_set_new(e, "time_unit", json_string(m->modelled ? "ns" : m->unit));
}

static json_t *iteration(struct maker *m, const struct cell *c, json_t *rec, size_t k, size_t of,
                         double real, double cpu)
{
    json_t *e = entry(m, c, "", of);
    json_object_set_new(e, "repetition_index", json_integer((json_int_t)k));
    put_times(m, e, 1, real, cpu, m->modelled ? 1 : m->per_second);
    put_counters(e, rec);
    return e;
}

static double aggregate_of(unsigned which, const double *x, size_t n, uint64_t seed)
{
    switch (which) {
    case 0:
        return stat_mean(x, n);
    case 1:
        return stat_median(x, n);
    case 2:
        return stat_stddev(x, n);
    case 3:
        return stat_mean(x, n) > 0 ? stat_stddev(x, n) / stat_mean(x, n) : 0;
    case 4:
        return stat_bootstrap(x, n, seed).lo;
    default:
        return stat_bootstrap(x, n, seed).hi;
    }
}

/* Samples of a timed cell: of the loop itself where the command times it, else of the process. */
struct times {
    double real[STAT_MAX], cpu[STAT_MAX], rate[STAT_MAX];
    size_t n;
    bool rated; /* rate[] holds accesses per second */
};

static void put_rate(json_t *e, const struct times *t, double rate)
{
    if (t->rated)
        json_object_set_new(e, "accesses_per_second", json_real(rate));
}

static void aggregates(struct maker *m, const struct cell *c, json_t *rec, const struct times *t)
{
    static const char *const names[] = {"mean", "median", "stddev", "cv", "ci95_lo", "ci95_hi"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        bool cv = strcmp(names[i], "cv") == 0;
        json_t *e = entry(m, c, names[i], t->n);
        json_object_set_new(e, "aggregate_name", json_string(names[i]));
        json_object_set_new(e, "aggregate_unit", json_string(cv ? "percentage" : "time"));
        put_times(m, e, (json_int_t)t->n, aggregate_of(i, t->real, t->n, c->seed),
                  aggregate_of(i, t->cpu, t->n, c->seed), cv ? 1 : m->per_second);
        put_counters(e, rec);
        put_rate(e, t, t->rated ? aggregate_of(i, t->rate, t->n, c->seed) : 0);
    }
}

static void samples(const json_t *cell, struct times *t)
{
    double sys[STAT_MAX];
    size_t k;
    t->n = cell_samples(cell, "seconds", t->real, STAT_MAX);
    k = t->n ? cell_samples(cell, "cpu_seconds", t->cpu, STAT_MAX) : 0;
    if (!t->n) {
        t->n = cell_samples(cell, "wall_seconds", t->real, STAT_MAX);
        k = cell_samples(cell, "user_seconds", t->cpu, STAT_MAX);
        if (cell_samples(cell, "system_seconds", sys, STAT_MAX) != k)
            k = 0;
        for (size_t i = 0; i < k; i++)
            t->cpu[i] += sys[i];
    }
    if (k != t->n)
        memcpy(t->cpu, t->real, sizeof t->cpu);
    t->rated = cell_samples(cell, "accesses_per_second", t->rate, STAT_MAX) == t->n;
}

static void timed(struct maker *m, const struct cell *c, json_t *cell)
{
    static struct times t;
    json_t *rec = json_object_get(cell, "record");
    samples(cell, &t);
    for (size_t k = 0; k < t.n && !(m->flags->aggregates_only && t.n > 1); k++)
        put_rate(iteration(m, c, rec, k, t.n, t.real[k], t.cpu[k]), &t, t.rated ? t.rate[k] : 0);
    if (t.n > 1)
        aggregates(m, c, rec, &t);
}

/* A cell that ran once; one whose times were taken out (results/reference) has no entry. */
static void once(struct maker *m, const struct cell *c, json_t *cell)
{
    double real = num(cell, "wall_seconds"),
           cpu = num(cell, "user_seconds") + num(cell, "system_seconds");
    if (isfinite(real) && isfinite(cpu))
        iteration(m, c, json_object_get(cell, "record"), 0, 1, real, cpu);
}

static void modelled(struct maker *m, const struct cell *c, json_t *rec)
{
    double cycles = 1000 * rec_cycles(rec, "total") / rec_counter(rec, "accesses");
    if (isfinite(cycles))
        iteration(m, c, rec, 0, 1, cycles, cycles);
}

json_t *gbench_entries(const struct results *r, const struct bench_flags *f, bool want_modelled)
{
    struct maker m = {.flags = f, .entries = json_array(), .modelled = want_modelled};
    m.per_second = flags_unit(f, &m.unit);
    for (size_t i = 0; i < r->plan.n; i++) {
        const struct cell *c = &r->plan.cells[i];
        json_t *cell = r->cells[i];
        size_t before = json_array_size(m.entries);
        if (!cell_ok(cell))
            continue;
        if (want_modelled)
            modelled(&m, c, json_object_get(cell, "record"));
        else if (c->kind == CELL_TIMED)
            timed(&m, c, cell);
        else
            once(&m, c, cell);
        json_int_t member, family = family_of(&m, c->name, &member);
        if (json_array_size(m.entries) > before)
            m.families[family].members++;
    }
    return m.entries;
}

/* Names from outside may be any bytes. */
static json_t *text(const char *s)
{
    json_t *j = json_string(s);
    return j ? j : json_string("(not UTF-8)");
}

/* "k=v,k=v" as strings of the context. */
static void put_context(json_t *context, const char *pairs)
{
    char *copy = strf("%s", pairs), *save = NULL;
    for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        char *eq = strchr(p, '=');
        if (eq) {
            *eq = 0;
            json_object_set_new(context, p, text(eq + 1));
        }
    }
    free(copy);
}

static json_int_t mhz(void)
{
    char *text = read_file("/proc/cpuinfo", NULL), *p = text ? strstr(text, "cpu MHz") : NULL;
    double v = p && (p = strchr(p, ':')) ? atof(p + 1) : 0;
    free(text);
    return (json_int_t)(v + 0.5);
}

static size_t not_ok(const struct results *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->plan.n; i++)
        n += !cell_ok(r->cells[i]);
    return n;
}

json_t *gbench_document(const struct results *r, const struct bench_flags *f, json_t *entries)
{
    char date[40], host[256] = "", zone[8] = "";
    double load[3] = {0, 0, 0};
    time_t t = time(NULL);
    struct tm tm;
    localtime_r(&t, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    strftime(zone, sizeof zone, "%z", &tm); /* +hhmm */
    gethostname(host, sizeof host - 1);
    int known = getloadavg(load, 3);
    bool hide = rundir_redacted(r->dir);
    char *program = program_path(), *when = strf("%s%.3s:%s", date, zone, zone + 3),
         *bad = strf("%zu", not_ok(r));
    json_t *context = json_pack(
        "{ss so so sI sI s[] s[] ss ss si ss ss}", "date", when, "host_name",
        text(hide ? "-" : host), "executable", text(hide ? "nestbed" : program), "num_cpus",
        (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "mhz_per_cpu", mhz(), "caches", "load_avg",
        "library_version", nb_version, "library_build_type", "release", "json_schema_version", 1,
        "nestbed_git", results_git(r), "failed_cells", bad);
    for (int i = 0; i < known; i++)
        json_array_append_new(json_object_get(context, "load_avg"), json_real(load[i]));
    if (f->context)
        put_context(context, f->context);
    free(program);
    free(when);
    free(bad);
    return json_pack("{so so}", "context", context, "benchmarks", entries);
}

/* ---- console and CSV ---- */

static bool shown(const json_t *e, enum show show)
{
    const char *aggregate = json_string_value(json_object_get(e, "aggregate_name"));
    if (show == SHOW_ALL || json_integer_value(json_object_get(e, "repetitions")) == 1)
        return true;
    return aggregate && (show == SHOW_AGGREGATES || strcmp(aggregate, "median") == 0);
}

static void console_counters(const json_t *e, bool tabular, FILE *out)
{
    for (unsigned i = 0; i < ARRAY_SIZE(headline); i++) {
        double v = num(e, headline[i]);
        int width = (int)strlen(headline[i]);
        if (tabular && isnan(v))
            fprintf(out, " %*s", width, "-");
        else if (tabular)
            fprintf(out, " %*.4g", width, v);
        else if (!isnan(v))
            fprintf(out, " %s=%.4g", headline[i], v);
    }
}

static void rule(int n, FILE *out)
{
    while (n-- > 0)
        fputc('-', out);
    fputc('\n', out);
}

static void console(const json_t *entries, const struct bench_flags *f, enum show show, FILE *out)
{
    size_t i;
    json_t *e;
    int width = 10;
    json_array_foreach(entries, i, e)
    {
        int n = (int)json_string_length(json_object_get(e, "name"));
        width = n > width ? n : width;
    }
    rule(width + 58, out);
    fprintf(out, "%-*s %15s %15s %12s", width, "Benchmark", "Time", "CPU", "Iterations");
    for (unsigned k = 0; k < ARRAY_SIZE(headline) && f->tabular; k++)
        fprintf(out, " %s", headline[k]);
    fprintf(out, "%s\n", f->tabular ? "" : " UserCounters...");
    rule(width + 58, out);
    json_array_foreach(entries, i, e)
    {
        if (!shown(e, show))
            continue;
        const char *unit = json_string_value(json_object_get(e, "time_unit"));
        const char *kind = json_string_value(json_object_get(e, "aggregate_unit"));
        bool ratio = kind && strcmp(kind, "percentage") == 0;
        double scale = ratio ? 100 : 1;
        fprintf(out, "%s%-*s%s %12.4g %-2s %12.4g %-2s %12lld",
                out == stdout ? color(STYLE_GOOD) : "", width,
                json_string_value(json_object_get(e, "name")),
                out == stdout ? color(STYLE_PLAIN) : "", scale * num(e, "real_time"),
                ratio ? "%" : unit, scale * num(e, "cpu_time"), ratio ? "%" : unit,
                (long long)json_integer_value(json_object_get(e, "iterations")));
        console_counters(e, f->tabular, out);
        fputc('\n', out);
    }
}

static void csv(const json_t *entries, enum show show, FILE *out)
{
    size_t i;
    json_t *e;
    fputs("name,iterations,real_time,cpu_time,time_unit,bytes_per_second,items_per_second,label,"
          "error_occurred,"
          "error_message",
          out);
    for (unsigned k = 0; k < ARRAY_SIZE(headline); k++)
        fprintf(out, ",\"%s\"", headline[k]);
    fputc('\n', out);
    json_array_foreach(entries, i, e)
    {
        if (!shown(e, show))
            continue;
        fprintf(
            out, "\"%s\",%lld,%.10g,%.10g,%s,,,,,", json_string_value(json_object_get(e, "name")),
            (long long)json_integer_value(json_object_get(e, "iterations")), num(e, "real_time"),
            num(e, "cpu_time"), json_string_value(json_object_get(e, "time_unit")));
        for (unsigned k = 0; k < ARRAY_SIZE(headline); k++) {
            double v = num(e, headline[k]);
            fputc(',', out);
            if (!isnan(v))
                fprintf(out, "%.10g", v);
        }
        fputc('\n', out);
    }
}

void gbench_print(const json_t *document, const struct bench_flags *f, const char *format,
                  enum show show, FILE *out)
{
    const json_t *entries = json_object_get(document, "benchmarks");
    if (strcmp(format, "console") == 0)
        console(entries, f, show, out);
    else if (strcmp(format, "csv") == 0)
        csv(entries, show, out);
    else if (json_dumpf(document, out,
                        JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15)) == 0)
        fputc('\n', out);
}
