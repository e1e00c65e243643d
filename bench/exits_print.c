/* exits_print.c: the document of `nestbed exits` as tables and as separated fields. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "bench/bench.h"
#include "bench/exits.h"
#include "bench/print.h"

/* What the table shows of KVM's statistics, per event. */
static const struct {
    const char *stat, *head;
} shown[] = {{"exits", "exits"},         {"pf_taken", "faults"},    {"pf_fixed", "fixed"},
             {"pf_emulate", "emulated"}, {"pf_guest", "reflected"}, {"mmu_pte_write", "pt writes"},
             {"invlpg", "invlpg"},       {"tlb_flush", "flushes"},  {"insn_emulation", "insns"}};

static const char *string(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "-";
}

/* A number of the scale of nanoseconds or instructions. */
static void cost_cell(struct table *t, double v)
{
    char digits[28];
    if (!isfinite(v))
        table_cell(t, "-");
    else if (fabs(v) < 0.05) /* and not "-0.0" */
        table_cell(t, "0");
    else if (fabs(v) < 100)
        table_cell(t, "%.1f", v);
    else
        table_cell(t, "%s%s", v < 0 ? "-" : "",
                   group_digits((uint64_t)(fabs(v) + 0.5), digits, sizeof digits));
}

static void count_cell(struct table *t, double v)
{
    if (!isfinite(v))
        table_cell(t, "-");
    else if (fabs(v) < 0.005)
        table_cell(t, "0");
    else
        table_cell(t, v == floor(v) || fabs(v) >= 100 ? "%.0f" : "%.2f", v);
}

/* A cost that may as well be none is not printed as one; nothing at all in every batch is. */
static void median_cell(struct table *t, const struct interval *v)
{
    if (v->lo <= 0 && v->hi >= 0 && v->lo < v->hi)
        table_cell(t, "not resolved");
    else
        cost_cell(t, v->mid);
}

static void head_row(struct table *t, const char *unit)
{
    table_cell(t, "event");
    table_cell(t, "ring");
    table_cell(t, "%s", unit);
    table_cell(t, "95 %% from");
    table_cell(t, "to");
    for (unsigned i = 0; i < ARRAY_SIZE(shown); i++)
        table_cell(t, "%s", shown[i].head);
}

static void probe_row(struct table *t, const json_t *machine, const json_t *p)
{
    struct interval v;
    const char *name = string(p, "name");
    exits_cost(machine, name, &v);
    table_cell(t, "%s", string(p, "event"));
    table_cell(t, "%d", (int)json_integer_value(json_object_get(p, "ring")));
    median_cell(t, &v);
    cost_cell(t, v.lo);
    cost_cell(t, v.hi);
    for (unsigned i = 0; i < ARRAY_SIZE(shown); i++)
        count_cell(t, exits_stat(machine, name, shown[i].stat));
}

static void notes(const json_t *m)
{
    size_t i;
    json_t *p;
    if (json_is_true(json_object_get(m, "emulates_ring0")))
        puts("This KVM runs ring 0 in its instruction emulator: costs of ring 0 are those of "
             "emulated\ninstructions, not of exits; only ring 3 shows what leaving the guest "
             "costs.");
    json_array_foreach(json_object_get(m, "probes"), i, p)
    {
        const char *why = json_string_value(json_object_get(p, "reason"));
        if (why)
            printf("%s did not run: %s\n", string(p, "name"), why);
    }
}

static void print_machine(const json_t *m, json_int_t batches)
{
    size_t i;
    json_t *p;
    const char *unit = string(m, "unit");
    struct table *t = table_new(5 + ARRAY_SIZE(shown), "lrrrrrrrrrrrrr");
    printf("%s: %s, %s paging, Linux %s; %s per event, median of %" JSON_INTEGER_FORMAT
           " batches [measured]; statistics of KVM per event [counted]\n\n",
           string(m, "name"), string(m, "backend"), string(m, "paging"), string(m, "kernel"), unit,
           batches);
    head_row(t, unit);
    json_array_foreach(json_object_get(m, "probes"), i, p) probe_row(t, m, p);
    table_print(t);
    table_free(t);
    notes(m);
}

void exits_print_table(const json_t *document)
{
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(document, "machines"), i, m)
    {
        if (i)
            putchar('\n');
        print_machine(m, json_integer_value(json_object_get(document, "batches")));
    }
}

static void field(double v, const char *sep)
{
    if (isfinite(v))
        printf("%.10g%s", v, sep);
    else
        printf("null%s", sep);
}

void exits_print_csv(const json_t *document, const char *sep)
{
    size_t i, k;
    json_t *m, *p;
    printf("machine%sbackend%spaging%sprobe%sring%sunit%smedian%slo%shi%sempty", sep, sep, sep, sep,
           sep, sep, sep, sep, sep);
    for (unsigned s = 0; s < ARRAY_SIZE(shown); s++)
        printf("%s%s", sep, shown[s].stat);
    putchar('\n');
    json_array_foreach(json_object_get(document, "machines"), i, m)
        json_array_foreach(json_object_get(m, "probes"), k, p)
    {
        struct interval v;
        const char *name = string(p, "name");
        exits_cost(m, name, &v);
        printf("%s%s%s%s%s%s%s%s%d%s%s%s", string(m, "name"), sep, string(m, "backend"), sep,
               string(m, "paging"), sep, name, sep,
               (int)json_integer_value(json_object_get(p, "ring")), sep, string(m, "unit"), sep);
        field(v.mid, sep);
        field(v.lo, sep);
        field(v.hi, sep);
        field(num(p, "empty"), "");
        for (unsigned s = 0; s < ARRAY_SIZE(shown); s++) {
            fputs(sep, stdout);
            field(exits_stat(m, name, shown[s].stat), "");
        }
        putchar('\n');
    }
}
