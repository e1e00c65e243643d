/* validate_print.c: a validation document as a table, as separated fields, as points to plot. */
#include "bench/validate.h"

#include <string.h>

#include "base/base.h"
#include "bench/print.h"

static const char *str(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

/* ---- table ---- */

static const char *number(const json_t *v, char *buf, size_t n)
{
    if (json_is_string(v))
        return json_string_value(v);
    if (!json_is_integer(v))
        return "null";
    json_int_t i = json_integer_value(v);
    if (i < 0) {
        buf[0] = '-';
        group_digits((uint64_t)0 - (uint64_t)i, buf + 1, n - 1);
        return buf;
    }
    return group_digits((uint64_t)i, buf, n);
}

static bool is_zero(const json_t *v) { return json_is_integer(v) && json_integer_value(v) == 0; }

/* Nothing happened, and everybody says so. */
static bool silent(const json_t *row)
{
    return is_zero(json_object_get(row, "predicted")) && is_zero(json_object_get(row, "counted"));
}

static bool differs(const json_t *row)
{
    return strcmp(str(row, "verdict"), verdict_names[VERDICT_EQUAL]) != 0 &&
           strcmp(str(row, "verdict"), verdict_names[VERDICT_UNSEEN]) != 0;
}

static void put_row(struct table *t, const json_t *row, bool first)
{
    char p[32], c[32], d[32];
    const json_t *percent = json_object_get(row, "percent");
    table_cell(t, "%s%s%s", first ? str(row, "target") : "", first ? " " : "",
               first ? str(row, "paging") : "");
    table_cell(t, "%s", first ? str(row, "workload") : "");
    table_cell(t, "%s", str(row, "phase"));
    table_cell(t, "%s", str(row, "event"));
    table_cell(t, "%s", number(json_object_get(row, "predicted"), p, sizeof p));
    table_cell(t, "%s", number(json_object_get(row, "counted"), c, sizeof c));
    table_cell(t, "%s",
               differs(row) && json_is_integer(json_object_get(row, "difference"))
                   ? number(json_object_get(row, "difference"), d, sizeof d)
                   : "");
    if (differs(row) && json_is_real(percent))
        table_cell(t, "%.2f %%", json_real_value(percent));
    else
        table_cell(t, "%s", "");
    table_cell(t, "%s", str(row, "verdict"));
}

static void rows_table(const json_t *doc, bool only_different)
{
    static const char *const head[] = {"machine", "workload",   "phase",   "event",  "predicted",
                                       "counted", "difference", "percent", "verdict"};
    struct table *t = table_new(ARRAY_SIZE(head), "llllrrrrl");
    const json_t *row, *last = NULL;
    size_t i, n = 0;
    for (unsigned k = 0; k < ARRAY_SIZE(head); k++)
        table_cell(t, "%s", head[k]);
    json_array_foreach(json_object_get(doc, "rows"), i, row)
    {
        if (silent(row) || (only_different && !differs(row)))
            continue;
        bool first = !last || strcmp(str(last, "workload"), str(row, "workload")) != 0 ||
                     strcmp(str(last, "target"), str(row, "target")) != 0 ||
                     strcmp(str(last, "paging"), str(row, "paging")) != 0;
        put_row(t, row, first);
        last = row;
        n++;
    }
    if (n)
        table_print(t);
    table_free(t);
}

/* Where each machine's constants come from, one line a machine. */
static void constants_reasons(const json_t *doc)
{
    const json_t *c, *last = NULL;
    size_t i;
    json_array_foreach(json_object_get(doc, "constants"), i, c)
    {
        if (last && strcmp(str(last, "target"), str(c, "target")) == 0 &&
            strcmp(str(last, "paging"), str(c, "paging")) == 0)
            continue;
        printf("%s %s: %s\n", str(c, "target"), str(c, "paging"), str(c, "why"));
        last = c;
    }
}

static void constants_table(const json_t *doc)
{
    struct table *t = table_new(5, "llrrl");
    const json_t *c;
    size_t i, n = 0;
    table_cell(t, "boot, on every run");
    table_cell(t, "event");
    table_cell(t, "predicted");
    table_cell(t, "counted");
    table_cell(t, "verdict");
    json_array_foreach(json_object_get(doc, "constants"), i, c)
    {
        char p[32], v[32];
        if (silent(c) && !differs(c))
            continue;
        table_cell(t, "%s %s", str(c, "target"), str(c, "paging"));
        table_cell(t, "%s", str(c, "event"));
        table_cell(t, "%s", number(json_object_get(c, "predicted"), p, sizeof p));
        table_cell(t, "%s", number(json_object_get(c, "counted"), v, sizeof v));
        table_cell(t, "%s",
                   differs(c) ? "off: not the same in every run" : "the same in every run");
        n++;
    }
    if (n) {
        putchar('\n');
        table_print(t);
        constants_reasons(doc);
    }
    table_free(t);
}

/* What else decides, when there is some of it. */
static void also(const json_t *summary, const char *key, const char *text)
{
    json_int_t n = json_integer_value(json_object_get(summary, key));
    if (n)
        printf(", %" JSON_INTEGER_FORMAT " %s", n, text);
}

static void summary_lines(const json_t *doc)
{
    const json_t *s = json_object_get(doc, "summary");
    bool good = validate_passed(doc);
    printf("\n%s%" JSON_INTEGER_FORMAT " equal, %" JSON_INTEGER_FORMAT
           " within %d %%, %" JSON_INTEGER_FORMAT " off",
           color(good ? STYLE_GOOD : STYLE_BAD), json_integer_value(json_object_get(s, "equal")),
           json_integer_value(json_object_get(s, "within")), VALIDATE_PERCENT,
           json_integer_value(json_object_get(s, "off")));
    also(s, "constants_off", "constants of boot off");
    also(s, "failed", "runs failed");
    printf("%s", color(STYLE_PLAIN));
    also(s, "skipped", "runs skipped");
    also(s, "zero", "of the equal ones 0 on both sides");
    printf(", %" JSON_INTEGER_FORMAT " unseen by one side  [predicted: exact; counted: counted]\n",
           json_integer_value(json_object_get(s, "unseen")));
}

void validate_print_table(const json_t *doc, bool only_different)
{
    rows_table(doc, only_different);
    constants_table(doc);
    summary_lines(doc);
}

/* ---- separated fields; an empty field is null ---- */

static void field(const json_t *v)
{
    if (json_is_string(v))
        fputs(json_string_value(v), stdout);
    else if (json_is_integer(v))
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        printf("%.4f", json_real_value(v));
}

void validate_print_csv(const json_t *doc, const char *sep)
{
    static const char *const columns[] = {"target",  "paging",    "workload", "phase",
                                          "event",   "predicted", "counted",  "difference",
                                          "percent", "verdict"};
    const json_t *row;
    size_t i;
    for (unsigned k = 0; k < ARRAY_SIZE(columns); k++)
        printf("%s%s", columns[k], k + 1 < ARRAY_SIZE(columns) ? sep : "\n");
    json_array_foreach(json_object_get(doc, "rows"), i, row)
    {
        for (unsigned k = 0; k < ARRAY_SIZE(columns); k++) {
            field(json_object_get(row, columns[k]));
            fputs(k + 1 < ARRAY_SIZE(columns) ? sep : "\n", stdout);
        }
    }
}

/* ---- the figure ---- */

static const struct {
    const char *target, *paging;
} series[] = {{"labvm", "ept"}, {"labvm", "shadow"}, {"host", "ept"}, {"host", "shadow"}};

void validate_points_head(FILE *f)
{
    fputs("predicted", f);
    for (unsigned k = 0; k < ARRAY_SIZE(series); k++)
        fprintf(f, "\t%s %s", series[k].target, series[k].paging);
    fputs("\tevent\n", f);
}

/* A logarithmic axis has no 0: it stands half a unit below 1, where the tic says so. */
static double at(const json_t *v) { return is_zero(v) ? 0.5 : json_number_value(v); }

bool validate_points(const json_t *doc, FILE *f)
{
    const json_t *row;
    size_t i;
    bool any = false;
    json_array_foreach(json_object_get(doc, "rows"), i, row)
    {
        const json_t *p = json_object_get(row, "predicted"), *c = json_object_get(row, "counted");
        if (!json_is_integer(p) || !json_is_integer(c) || silent(row))
            continue;
        fprintf(f, "%g", at(p));
        for (unsigned k = 0; k < ARRAY_SIZE(series); k++)
            if (strcmp(str(row, "target"), series[k].target) == 0 &&
                strcmp(str(row, "paging"), series[k].paging) == 0)
                fprintf(f, "\t%g", at(c));
            else
                fputs("\tNaN", f);
        fprintf(f, "\t%s/%s/%s\n", str(row, "workload"), str(row, "phase"), str(row, "event"));
        any = true;
    }
    return any;
}
