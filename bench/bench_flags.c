/* bench_flags.c: Google Benchmark's command line. */
#include "bench/bench_flags.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base.h"

enum type { BOOL, TEXT, COUNT, SECONDS, MIN_TIME, FORMAT, UNIT, COLOR };

static const struct flag {
    const char *name;
    enum type type;
    size_t offset;
} flags[] = {
#define FLAG(name, type, field)                         \
    {                                                   \
        name, type, offsetof(struct bench_flags, field) \
    }
    FLAG("list_tests", BOOL, list_tests),
    FLAG("filter", TEXT, filter),
    FLAG("min_time", MIN_TIME, min_time),
    FLAG("min_warmup_time", SECONDS, min_warmup),
    FLAG("repetitions", COUNT, repetitions),
    FLAG("dry_run", BOOL, dry_run),
    FLAG("enable_random_interleaving", BOOL, interleave),
    FLAG("report_aggregates_only", BOOL, aggregates_only),
    FLAG("display_aggregates_only", BOOL, display_aggregates_only),
    FLAG("format", FORMAT, format),
    FLAG("out", TEXT, out),
    FLAG("out_format", FORMAT, out_format),
    FLAG("color", COLOR, color),
    FLAG("counters_tabular", BOOL, tabular),
    FLAG("perf_counters", TEXT, perf_counters),
    FLAG("context", TEXT, context),
    FLAG("time_unit", UNIT, time_unit),
};

static const struct {
    const char *name;
    double per_second;
} units[] = {{"ns", 1e9}, {"us", 1e6}, {"ms", 1e3}, {"s", 1}};

void flags_init(struct bench_flags *f)
{
    *f = (struct bench_flags){
        .interleave = true, .format = "console", .out_format = "json", .time_unit = "us"};
}

static bool parse_bool(const char *v, bool *out)
{
    static const char *const words[] = {"1", "t", "true",  "y", "yes", "on",
                                        "0", "f", "false", "n", "no",  "off"};
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
        if (strcasecmp(v, words[i]) == 0) {
            *out = i < ARRAY_SIZE(words) / 2;
            return true;
        }
    return false;
}

static bool parse_seconds(const char *v, double *out)
{
    char *end;
    double x = strtod(v, &end);
    if (end == v || !isfinite(x) || x < 0)
        return false;
    if (*end == 's')
        end++;
    *out = x;
    return *end == 0;
}

static bool parse_count(const char *v, unsigned *out)
{
    uint64_t n;
    if (!parse_u64(v, &n) || n < 1 || n > 1000)
        return false;
    *out = (unsigned)n;
    return true;
}

/* "0.5", "0.5s" or "20x" */
static bool parse_min_time(const char *v, struct bench_flags *f)
{
    char digits[16];
    size_t n = strlen(v);
    if (n < 2 || n >= sizeof digits || v[n - 1] != 'x')
        return parse_seconds(v, &f->min_time);
    snprintf(digits, sizeof digits, "%.*s", (int)n - 1, v);
    return parse_count(digits, &f->min_rounds);
}

static bool one_of(const char *v, const char *list)
{
    size_t n = strlen(v);
    for (const char *p = list; *p; p += strcspn(p, " "), p += *p == ' ')
        if (n && strncmp(p, v, n) == 0 && (p[n] == ' ' || p[n] == 0))
            return true;
    return false;
}

static bool set(struct bench_flags *f, const struct flag *flag, const char *v)
{
    char *field = (char *)f + flag->offset;
    bool fine = true, on = false;
    f->display_given |= flag->offset == offsetof(struct bench_flags, display_aggregates_only);
    switch (flag->type) {
    case BOOL:
        return parse_bool(v, (bool *)field);
    case COUNT:
        return parse_count(v, (unsigned *)(void *)field);
    case SECONDS:
        return parse_seconds(v, (double *)(void *)field);
    case MIN_TIME:
        return parse_min_time(v, f);
    case FORMAT:
        fine = one_of(v, "console json csv");
        break;
    case UNIT:
        fine = one_of(v, "ns us ms s");
        break;
    case COLOR:
        fine = strcmp(v, "auto") == 0 || parse_bool(v, &on);
        if (fine)
            f->color = *v == 'a' ? WHEN_AUTO : on ? WHEN_ALWAYS : WHEN_NEVER;
        return fine;
    case TEXT:
        break;
    }
    if (fine)
        *(const char **)(void *)field = v;
    return fine;
}

static const char *expected(enum type t)
{
    static const char *const text[] = {[BOOL] = "true or false",
                                       [TEXT] = "text",
                                       [COUNT] = "a number from 1 to 1000",
                                       [SECONDS] = "seconds",
                                       [MIN_TIME] = "seconds (0.5 or 0.5s) or rounds (20x)",
                                       [FORMAT] = "console, json or csv",
                                       [UNIT] = "ns, us, ms or s",
                                       [COLOR] = "auto, true or false"};
    return text[t];
}

static const struct flag *find(const char *name, size_t n)
{
    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
        if (strlen(flags[i].name) == n && strncmp(flags[i].name, name, n) == 0)
            return &flags[i];
    return NULL;
}

bool flags_set(struct bench_flags *f, const char *name, const char *value, char *err, size_t errlen)
{
    const struct flag *flag = find(name, strlen(name));
    if (flag && set(f, flag, value))
        return true;
    snprintf(err, errlen, "'%s': expected %s", value, flag ? expected(flag->type) : "a known flag");
    return false;
}

bool flags_environment(struct bench_flags *f)
{
    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
        char name[64] = "BENCHMARK_";
        size_t n = strlen(name);
        for (const char *p = flags[i].name; *p; p++)
            name[n++] = (char)toupper((unsigned char)*p);
        name[n] = 0;
        const char *v = getenv(name);
        if (v && !set(f, &flags[i], v)) {
            fprintf(stderr, "nestbed bench: %s=%s: expected %s\n", name, v,
                    expected(flags[i].type));
            return false;
        }
    }
    return true;
}

/* arg is "--benchmark_NAME" or "--benchmark_NAME=VALUE" */
static bool take(struct bench_flags *f, const char *arg)
{
    const char *name = arg + strlen("--benchmark_");
    const char *eq = strchr(name, '=');
    const struct flag *flag = find(name, eq ? (size_t)(eq - name) : strlen(name));
    if (!flag) {
        fprintf(stderr, "nestbed bench: unrecognized flag %s (nestbed bench --help lists them)\n",
                arg);
        return false;
    }
    if (set(f, flag, eq ? eq + 1 : flag->type == BOOL ? "true" : ""))
        return true;
    fprintf(stderr, "nestbed bench: %s: expected %s\n", arg, expected(flag->type));
    return false;
}

bool flags_take(struct bench_flags *f, int *argc, char **argv)
{
    int kept = 1;
    uint64_t level;
    for (int i = 1; i < *argc; i++) {
        if (strncmp(argv[i], "--benchmark_", 12) == 0) {
            if (!take(f, argv[i]))
                return false;
        } else if (strncmp(argv[i], "--v=", 4) == 0) {
            if (!parse_u64(argv[i] + 4, &level)) {
                fprintf(stderr, "nestbed bench: %s: expected a number\n", argv[i]);
                return false;
            }
            f->verbosity = level > 2 ? 2 : (unsigned)level;
        } else {
            argv[kept++] = argv[i];
        }
    }
    argv[kept] = NULL;
    *argc = kept;
    return true;
}

double flags_unit(const struct bench_flags *f, const char **name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(units); i++)
        if (strcmp(units[i].name, f->time_unit) == 0) {
            *name = units[i].name;
            return units[i].per_second;
        }
    *name = "us";
    return 1e6;
}
