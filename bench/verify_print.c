/* verify_print.c: the document of claims as a table, as separated fields, as Markdown. */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "bench/print.h"
#include "bench/verify.h"

static const char *str(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static const char *verdict_word(const json_t *claim)
{
    const char *v = json_string_value(json_object_get(claim, "verdict"));
    return v ? v : "not checked";
}

static bool is(const json_t *claim, const char *v) { return strcmp(verdict_word(claim), v) == 0; }

/* A number as people read it: whole ones whole, others in four digits. */
static const char *number(const json_t *v, char *buf, size_t n)
{
    if (json_is_integer(v))
        snprintf(buf, n, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v) && json_real_value(v) == floor(json_real_value(v)) &&
             fabs(json_real_value(v)) < 1e15)
        snprintf(buf, n, "%.0f", json_real_value(v));
    else if (json_is_real(v))
        snprintf(buf, n, "%.4g", json_real_value(v));
    else
        snprintf(buf, n, "null");
    return buf;
}

/* What happens to the one judged point of a claim, or to the number of them. */
static void summary_cells(const json_t *claim, char *expected, char *got, size_t n)
{
    const json_t *p, *only = NULL;
    size_t i, judged = 0, held = 0;
    json_array_foreach(json_object_get(claim, "points"), i, p)
    {
        const json_t *h = json_object_get(p, "holds");
        judged += json_is_boolean(h);
        held += json_is_true(h);
        only = json_is_boolean(h) ? p : only;
    }
    expected[0] = got[0] = 0;
    if (judged == 1) {
        snprintf(expected, n, "%s", str(only, "expected"));
        number(json_object_get(only, "got"), got, n);
    } else if (judged) {
        snprintf(expected, n, "all of %zu", judged);
        snprintf(got, n, "%zu", held);
    }
}

static enum style style_of(const json_t *claim)
{
    return is(claim, "holds")                         ? STYLE_GOOD
           : is(claim, "fails") || is(claim, "stale") ? STYLE_BAD
                                                      : STYLE_PLAIN;
}

static void points_of(const json_t *claim)
{
    const json_t *p, *h;
    size_t i;
    char buf[40];
    json_array_foreach(json_object_get(claim, "points"), i, p)
    {
        h = json_object_get(p, "holds");
        printf("    %s: %s, expected %s%s\n", str(p, "what"),
               number(json_object_get(p, "got"), buf, sizeof buf), str(p, "expected"),
               json_is_true(h)    ? ""
               : json_is_false(h) ? ": does not hold"
                                  : " (not judged)");
    }
    json_array_foreach(json_object_get(claim, "commands"), i, p)
        printf("    $ %s\n", json_string_value(p));
}

/* Under the table: whatever is not simply so. */
static void remarks(const json_t *doc, bool points)
{
    const json_t *k;
    size_t i;
    json_array_foreach(json_object_get(doc, "claims"), i, k)
    {
        const char *note = str(k, "note");
        if (!points && (is(k, "holds") || !*note))
            continue;
        printf("\n%s%s%s %s: %s (%s)\n", color(style_of(k)), str(k, "name"), color(STYLE_PLAIN),
               verdict_word(k), str(k, "claim"), str(k, "source"));
        if (*note)
            printf("    %s\n", note);
        if (points || is(k, "fails") || is(k, "disagrees") || is(k, "stale"))
            points_of(k);
    }
}

static void summary_line(const json_t *doc)
{
    static const struct {
        const char *key, *word;
    } parts[] = {{"holds", "hold"},
                 {"disagrees", "disagree, for a known reason"},
                 {"fails", "do not hold"},
                 {"stale", "hold although they are said not to"},
                 {"not_checked", "not checked"}};
    const json_t *s = json_object_get(doc, "summary");
    bool first = true;
    printf("\n%s", color(verify_passed(doc) ? STYLE_GOOD : STYLE_BAD));
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
        json_int_t n = json_integer_value(json_object_get(s, parts[i].key));
        if (n || i == 0)
            printf("%s%" JSON_INTEGER_FORMAT " %s", first ? "" : ", ", n, parts[i].word);
        first = false;
    }
    printf("%s\n", color(STYLE_PLAIN));
}

void verify_print_table(const json_t *doc, bool points)
{
    static const char *const head[] = {"claim", "kind", "expected", "got", "verdict", ""};
    struct table *t = table_new(ARRAY_SIZE(head), "lllrll");
    const json_t *k;
    size_t i;
    char expected[64], got[64];
    for (unsigned h = 0; h < ARRAY_SIZE(head); h++)
        table_cell(t, "%s", head[h]);
    json_array_foreach(json_object_get(doc, "claims"), i, k)
    {
        summary_cells(k, expected, got, sizeof got);
        table_cell(t, "%s", str(k, "name"));
        table_cell(t, "%s", str(k, "kind"));
        table_cell(t, "%s", expected);
        table_cell(t, "%s", got);
        table_cell(t, "%s", verdict_word(k));
        table_cell(t, "%s", str(k, "claim"));
    }
    table_print(t);
    table_free(t);
    remarks(doc, points);
    summary_line(doc);
}

/* ---- separated fields: one line a point; an empty field is null ---- */

void verify_print_csv(const json_t *doc, const char *sep)
{
    const json_t *k, *p;
    size_t i, j;
    char buf[40];
    printf("claim%skind%sverdict%swhat%sexpected%sgot%sholds\n", sep, sep, sep, sep, sep, sep);
    json_array_foreach(json_object_get(doc, "claims"), i, k)
    {
        json_array_foreach(json_object_get(k, "points"), j, p)
        {
            const json_t *h = json_object_get(p, "holds"), *got = json_object_get(p, "got");
            printf("%s%s%s%s%s%s%s%s%s%s%s%s%s\n", str(k, "name"), sep, str(k, "kind"), sep,
                   str(k, "verdict"), sep, str(p, "what"), sep, str(p, "expected"), sep,
                   json_is_null(got) ? "" : number(got, buf, sizeof buf), sep,
                   json_is_true(h)    ? "yes"
                   : json_is_false(h) ? "no"
                                      : "");
        }
        if (json_array_size(json_object_get(k, "points")) == 0)
            printf("%s%s%s%s%s%s%s%s%s\n", str(k, "name"), sep, str(k, "kind"), sep,
                   str(k, "verdict"), sep, sep, sep, sep);
    }
}

/* ---- Markdown ---- */

/* Text of a table cell: a bar would end it. */
static void cell(const char *s, FILE *f)
{
    for (; *s; s++)
        fputs(*s == '|' ? "\\|" : (char[]){*s, 0}, f);
}

/* "what: got (expected)" of every point. */
static void points_cell(const json_t *claim, FILE *f)
{
    const json_t *p;
    size_t i;
    char buf[40];
    json_array_foreach(json_object_get(claim, "points"), i, p)
    {
        fputs(i ? "; " : "", f);
        cell(str(p, "what"), f);
        fprintf(f, ": %s (%s)%s", number(json_object_get(p, "got"), buf, sizeof buf),
                str(p, "expected"), json_is_false(json_object_get(p, "holds")) ? " **no**" : "");
    }
}

void verify_print_markdown(const json_t *doc, FILE *f)
{
    const json_t *k;
    size_t i;
    fputs("\n| id | claim | source | kind | ours (expected) | verdict | why, or how |\n"
          "|---|---|---|---|---|---|---|\n",
          f);
    json_array_foreach(json_object_get(doc, "claims"), i, k)
    {
        fprintf(f, "| %s | ", str(k, "name"));
        cell(str(k, "claim"), f);
        fputs(" | ", f);
        cell(str(k, "source"), f);
        fprintf(f, " | %s | ", str(k, "kind"));
        points_cell(k, f);
        fprintf(f, " | %s | ", verdict_word(k));
        cell(str(k, "note"), f);
        fputs(" |\n", f);
    }
}
