/* validate_paper.c: a validation document as Markdown tables, one for each machine and mode.
 *
 * A cell is a workload's event, set-up and work together: the number, when both sides say the same;
 * otherwise "predicted / counted". Nothing is judged here: the verdicts of the rows are.
 */
#include "bench/validate.h"

#include <inttypes.h>
#include <string.h>

#include "base/base.h"

static const struct {
    const char *event, *title;
} columns[] = {{"guest_faults", "guest faults"}, {"guest_pt_writes", "table writes"},
               {"guest_cr3_loads", "CR3 loads"}, {"guest_invlpgs", "INVLPGs"},
               {"pf_taken", "faults taken"},     {"pf_fixed", "fixed"},
               {"pf_guest", "reflected"},        {"pf_emulate", "emulated writes"}};

static const char *str(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static bool same(const json_t *a, const json_t *b, const char *key)
{
    return strcmp(str(a, key), str(b, key)) == 0;
}

/* Add one number to a sum; null makes the sum null. */
static void add(struct seen *sum, const json_t *v)
{
    int64_t n = json_integer_value(v);
    sum->is &= json_is_integer(v) && n >= 0 && n <= INT64_MAX - sum->v;
    sum->v += sum->is ? n : 0;
}

/* An event of a run in all phases after boot. False: no row has it. */
static bool totals(const json_t *doc, const json_t *run, const char *event, struct seen *predicted,
                   struct seen *counted)
{
    const json_t *row;
    size_t i;
    bool any = false;
    *predicted = *counted = (struct seen){true, 0};
    json_array_foreach(json_object_get(doc, "rows"), i, row)
    {
        if (!same(row, run, "target") || !same(row, run, "paging") || !same(row, run, "workload") ||
            strcmp(str(row, "event"), event) != 0 || strcmp(str(row, "phase"), "boot") == 0)
            continue;
        add(predicted, json_object_get(row, "predicted"));
        add(counted, json_object_get(row, "counted"));
        any = true;
    }
    return any;
}

static void put(FILE *f, struct seen s)
{
    if (s.is)
        fprintf(f, "%" PRId64, s.v);
    else
        fputs("null", f);
}

static const char *hash_verdict(const json_t *doc, const json_t *run)
{
    const json_t *row;
    size_t i;
    json_array_foreach(json_object_get(doc, "rows"), i,
                       row) if (same(row, run, "target") && same(row, run, "paging") &&
                                same(row, run, "workload") &&
                                strcmp(str(row, "event"), "memory_hash") ==
                                    0) return str(row, "verdict");
    return "no run to its end";
}

static void line(const json_t *doc, const json_t *run, FILE *f)
{
    fprintf(f, "| %s |", str(run, "workload"));
    for (unsigned i = 0; i < ARRAY_SIZE(columns); i++) {
        struct seen p, c;
        fputc(' ', f);
        if (totals(doc, run, columns[i].event, &p, &c)) {
            put(f, p);
            if (p.is != c.is || p.v != c.v) {
                fputs(" / ", f);
                put(f, c);
            }
        } else {
            fputc('-', f);
        }
        fputs(" |", f);
    }
    fprintf(f, " %s |\n", hash_verdict(doc, run));
}

/* "Linux 6.1", of a longer name. */
static const char *linux_of(const json_t *run, char *buf, size_t n)
{
    unsigned major, minor;
    if (sscanf(str(run, "kernel"), "Linux %u.%u", &major, &minor) != 2)
        return "a Linux that did not say which";
    snprintf(buf, n, "Linux %u.%u", major, minor);
    return buf;
}

static void head(const json_t *run, FILE *f)
{
    char kernel[40];
    fprintf(f, "\n%s, %s paging (%s, %s), predicted by `%s`:\n\n| workload |", str(run, "target"),
            str(run, "paging"), str(run, "backend"), linux_of(run, kernel, sizeof kernel),
            str(run, "predicted_by"));
    for (unsigned i = 0; i < ARRAY_SIZE(columns); i++)
        fprintf(f, " %s |", columns[i].title);
    fputs(" memory |\n|---|", f);
    for (unsigned i = 0; i < ARRAY_SIZE(columns); i++)
        fputs("---|", f);
    fputs("---|\n", f);
}

void validate_print_markdown(const json_t *doc, FILE *f)
{
    const json_t *run, *last = NULL;
    size_t i;
    json_array_foreach(json_object_get(doc, "runs"), i, run)
    {
        if (strcmp(str(run, "status"), "ran") != 0)
            continue;
        if (!last || !same(last, run, "target") || !same(last, run, "paging"))
            head(run, f);
        line(doc, run, f);
        last = run;
    }
}
