/* record_print.c: a record as JSON, as separated fields, as a table. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/record.h"

REGISTRY(workload);

static const char *const cycle_parts[] = {"access", "stlb", "walk",        "exit",
                                          "vmm",    "ipi",  "guest_fault", "host"};

static const char *str(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static const json_t *at(const json_t *object, const char *outer, const char *inner)
{
    return json_object_get(json_object_get(object, outer), inner);
}

/* A hypervisor made it (struct engine.real). */
static bool is_real(const json_t *record) { return json_object_get(record, "kvm") != NULL; }

static unsigned vcpus(const json_t *record)
{
    return (unsigned)json_integer_value(json_object_get(record, "vcpus"));
}

/* Value of a count, which is an integer or a decimal string. */
static uint64_t count_value(const json_t *j)
{
    return json_is_string(j) ? strtoull(json_string_value(j), NULL, 10)
                             : (uint64_t)json_integer_value(j);
}

void record_print_json(const json_t *record)
{
    json_dumpf(record, stdout, RECORD_JSON_FLAGS);
    putchar('\n');
}

/* ---- separated fields: value, unit, name, tag ---- */
static void csv_value(const json_t *v)
{
    if (json_is_string(v))
        fputs(json_string_value(v), stdout);
    else if (json_is_integer(v))
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        printf("%.15g", json_real_value(v));
}

static void csv_row(const json_t *v, const char *unit, const char *prefix, const char *name,
                    const char *tag, const char *sep)
{
    csv_value(v);
    printf("%s%s%s%s%s%s%s\n", sep, unit, sep, prefix, name, sep, tag);
}

/* Counters, cycles and derived values of the whole run (prefix "") or of a phase ("work."). */
static void csv_group(const json_t *group, bool real, const char *prefix, const char *sep)
{
    const char *key;
    json_t *v;
    char name[64];
    for (unsigned i = 0; i < CTR_COUNT; i++)
        csv_row(at(group, "counters", counter_descs[i].name), counter_descs[i].unit, prefix,
                counter_descs[i].name, real ? "counted" : counter_descs[i].tag, sep);
    json_object_foreach(json_object_get(group, "kvm"), key, v)
    {
        snprintf(name, sizeof name, "kvm.%s", key);
        if (!json_is_array(v))
            csv_row(v, "", prefix, name, "counted", sep);
    }
    if (real && json_object_get(group, "ns")) {
        csv_row(json_object_get(group, "ns"), "ns", prefix, "ns", "measured", sep);
        csv_row(json_object_get(group, "instructions"), "instructions", prefix, "instructions",
                "measured", sep);
    }
    json_object_foreach(json_object_get(group, "cycles"), key, v)
    {
        snprintf(name, sizeof name, "cycles.%s", key);
        csv_row(v, "cycles", prefix, name, "modelled", sep);
    }
    json_object_foreach(json_object_get(group, "derived"), key, v)
        csv_row(v, "", prefix, key, strncmp(key, "cycles", 6) == 0 ? "modelled" : "exact", sep);
}

/* "vcpu0.accesses" */
static void csv_vcpu(const json_t *vcpu, size_t i, const char *sep)
{
    char prefix[40];
    snprintf(prefix, sizeof prefix, "vcpu%zu.", i);
    for (unsigned k = 0; k < RECORD_PER_VCPU; k++) {
        const struct counter_desc *d = &counter_descs[record_per_vcpu[k]];
        csv_row(json_object_get(vcpu, d->name), d->unit, prefix, d->name, d->tag, sep);
    }
}

void record_print_csv(const json_t *record, const char *sep)
{
    size_t i;
    json_t *phase, *bytes;
    const char *key;
    bool real = is_real(record);
    printf("value%sunit%sname%stag\n", sep, sep, sep);
    csv_row(at(record, "outcome", "status"), "", "", "outcome", "exact", sep);
    csv_group(record, real, "", sep);
    json_array_foreach(json_object_get(record, "phases"), i, phase)
    {
        char prefix[40];
        snprintf(prefix, sizeof prefix, "%s.", str(phase, "name"));
        csv_group(phase, real, prefix, sep);
    }
    json_array_foreach(json_object_get(record, "per_vcpu"), i, phase) csv_vcpu(phase, i, sep);
    json_object_foreach(json_object_get(record, "metadata_bytes"), key, bytes)
        csv_row(bytes, "bytes", "metadata_bytes.", key, "measured", sep);
    csv_row(json_object_get(record, "memory_hash"), "", "", "memory_hash", "exact", sep);
    csv_row(json_object_get(record, "wall_seconds"), "seconds", "", "wall_seconds", "measured",
            sep);
}

/* ---- table ---- */
static void arg(const char *name, const char *value) { printf("ARG %-14s %s\n", name, value); }

/* A parameter or option as a size: 64M where that is exact. */
static void arg_size(const char *name, const json_t *v)
{
    char buf[24];
    arg(name, format_size(count_value(v), buf, sizeof buf));
}

static bool is_bytes(const char *workload, const char *param)
{
    const struct workload *w = REG_FIND(workload, workload);
    for (const struct param *p = w ? w->params : NULL; p && p->name; p++)
        if (strcmp(p->name, param) == 0)
            return p->unit && strcmp(p->unit, "bytes") == 0;
    return false;
}

static void print_program(const json_t *record)
{
    const json_t *w = json_object_get(record, "workload");
    const char *key;
    json_t *v;
    arg("workload", str(w, "name"));
    json_object_foreach(json_object_get(w, "params"), key, v)
    {
        char name[40], buf[24];
        snprintf(name, sizeof name, "set %s", key);
        if (is_bytes(str(w, "name"), key)) {
            arg_size(name, v);
            continue;
        }
        snprintf(buf, sizeof buf, "%" PRIu64, count_value(v));
        arg(name, buf);
    }
    json_object_foreach(json_object_get(w, "trace"), key, v) if (json_is_string(v))
        arg(strcmp(key, "file") == 0 ? "trace" : key, json_string_value(v));
    arg("seed", str(w, "seed"));
}

static void print_arguments(const json_t *r)
{
    char both[64];
    arg("engine", str(r, "engine"));
    arg("paging", str(r, "paging"));
    print_program(r);
    if (!is_real(r))
        arg("cpu", json_string_value(at(r, "cpu", "name")));
    else if (*str(r, "backend")) /* a run that ended before it had one has none */
        printf("ARG %-14s %s, %s\n", "backend", str(r, "backend"), str(r, "kvm_kernel"));
    snprintf(both, sizeof both, "guest %s, host %s", json_string_value(at(r, "pages", "guest")),
             json_string_value(at(r, "pages", "host")));
    arg("pages", both);
    int n =
        snprintf(both, sizeof both, "guest %d", (int)json_integer_value(at(r, "levels", "guest")));
    if (!is_real(r))
        snprintf(both + n, sizeof both - (size_t)n, ", host %d",
                 (int)json_integer_value(at(r, "levels", "host")));
    arg("levels", both);
    arg_size("mem", at(r, "mem", "guest"));
    if (is_real(r))
        arg("backing", str(r, "backing"));
    else
        arg_size("host-mem", at(r, "mem", "host"));
    if (vcpus(r) > 1) {
        snprintf(both, sizeof both, "%u", vcpus(r));
        arg("vcpus", both);
    }
}

/* What a count means beside its neighbours: a few words, or nothing. */
static void comment(const json_t *record, const char *name, char *buf, size_t n)
{
    static const struct {
        const char *counter, *derived, *unit;
        double scale;
    } words[] = {
        {"walk_refs", "refs_per_walk", "refs per walk", 1},
        {"walk_reads", "reads_per_walk", "reads per walk", 1},
        {"tlb_l1_misses", "tlb_l1_miss_rate", "% of accesses", 100},
        {"tlb_l2_misses", "tlb_l2_miss_rate", "% of accesses", 100},
        {"exits", "exits_per_1000_accesses", "per 1,000 accesses", 1},
    };
    buf[0] = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        const json_t *v = at(record, "derived", words[i].derived);
        if (strcmp(words[i].counter, name) == 0 && json_is_real(v))
            snprintf(buf, n, "# %.4g %s", words[i].scale * json_real_value(v), words[i].unit);
    }
}

/* Phases are columns while they fit a terminal. */
enum { MAX_PHASE_COLUMNS = 4 };
static unsigned phase_columns(const json_t *record)
{
    size_t n = json_array_size(json_object_get(record, "phases"));
    return n > 1 && n <= MAX_PHASE_COLUMNS ? (unsigned)n : 0;
}

static void header(struct table *t, const json_t *record, const char *what)
{
    for (unsigned i = 0; i < phase_columns(record); i++)
        table_cell(t, "%s", str(json_array_get(json_object_get(record, "phases"), i), "name"));
    table_cell(t, "total");
    table_cell(t, "%s", what);
    table_cell(t, "# of the total");
}

static void count_cell(struct table *t, const json_t *v)
{
    char buf[32];
    if (json_is_null(v))
        table_cell(t, "-");
    else
        table_cell(t, "%s", group_digits(count_value(v), buf, sizeof buf));
}

static bool is_zero(const json_t *v) { return json_is_integer(v) && json_integer_value(v) == 0; }

static bool all_zero(const json_t *record, const char *name)
{
    size_t i;
    json_t *phase;
    json_array_foreach(json_object_get(record, "phases"), i,
                       phase) if (!is_zero(at(phase, "counters", name))) return false;
    return is_zero(at(record, "counters", name));
}

static struct table *new_table(const json_t *record)
{
    return table_new(phase_columns(record) + 3,
                     &"rrrrrll"[MAX_PHASE_COLUMNS - phase_columns(record)]);
}

static void print_counters(const json_t *record)
{
    struct table *t = new_table(record);
    header(t, record, is_real(record) ? "counter (counted)" : "counter (exact)");
    for (unsigned i = 0; i < CTR_COUNT; i++) {
        const char *name = counter_descs[i].name;
        char words[64];
        if (json_is_null(at(record, "counters", name)) || all_zero(record, name))
            continue;
        for (unsigned p = 0; p < phase_columns(record); p++)
            count_cell(t,
                       at(json_array_get(json_object_get(record, "phases"), p), "counters", name));
        count_cell(t, at(record, "counters", name));
        table_cell(t, "%s", name);
        comment(record, name, words, sizeof words);
        table_cell(t, "%s", words);
    }
    table_print(t);
    table_free(t);
}

/* Names of the counters that the table leaves out, on one wrapped paragraph. */
static void print_left_out(const json_t *record, bool unseen, const char *title)
{
    int column = 0;
    for (unsigned i = 0; i < CTR_COUNT; i++) {
        const char *name = counter_descs[i].name;
        bool null = json_is_null(at(record, "counters", name));
        if (unseen ? !null : null || !all_zero(record, name))
            continue;
        if (column == 0)
            column = printf("%s%s:", color(STYLE_DIM), title);
        if (column + (int)strlen(name) > 98)
            column = printf("\n ") - 1;
        column += printf(" %s", name);
    }
    if (column)
        printf("%s\n", color(STYLE_PLAIN));
}

/* One column a vCPU. */
enum { MAX_VCPU_COLUMNS = 8 };
static void print_vcpus(const json_t *record)
{
    const json_t *list = json_object_get(record, "per_vcpu");
    unsigned n = (unsigned)json_array_size(list),
             shown = n < MAX_VCPU_COLUMNS ? n : MAX_VCPU_COLUMNS;
    if (!n)
        return;
    struct table *t = table_new(shown + 1, &"rrrrrrrrl"[MAX_VCPU_COLUMNS - shown]);
    for (unsigned i = 0; i < shown; i++)
        table_cell(t, "vCPU %u", i);
    table_cell(t, "counter (exact)");
    for (unsigned k = 0; k < RECORD_PER_VCPU; k++) {
        const char *name = counter_descs[record_per_vcpu[k]].name;
        for (unsigned i = 0; i < shown; i++)
            count_cell(t, json_object_get(json_array_get(list, i), name));
        table_cell(t, "%s", name);
    }
    table_print(t);
    table_free(t);
    if (shown < n)
        printf("%s%u more vCPUs: --json%s\n", color(STYLE_DIM), n - shown, color(STYLE_PLAIN));
}

static bool kvm_zero(const json_t *record, const char *name)
{
    size_t i;
    json_t *phase;
    json_array_foreach(json_object_get(record, "phases"), i,
                       phase) if (!is_zero(at(phase, "kvm", name))) return false;
    return is_zero(at(record, "kvm", name));
}

/* The hypervisor's own statistics that moved, and how long each phase took. */
static void print_kvm(const json_t *record)
{
    static const char *const times[] = {"ns", "instructions"};
    const json_t *phases = json_object_get(record, "phases");
    struct table *t = new_table(record);
    const char *name;
    json_t *v;
    header(t, record, "kvm statistic (counted)");
    json_object_foreach(json_object_get(record, "kvm"), name, v)
    {
        if (!json_is_integer(v) || kvm_zero(record, name))
            continue;
        for (unsigned p = 0; p < phase_columns(record); p++)
            count_cell(t, at(json_array_get(phases, p), "kvm", name));
        count_cell(t, v);
        table_cell(t, "kvm.%s", name);
        table_cell(t, "%s", "");
    }
    for (unsigned i = 0; i < ARRAY_SIZE(times); i++) {
        if (json_is_null(json_object_get(json_array_get(phases, 0), times[i])))
            continue;
        for (unsigned p = 0; p < phase_columns(record); p++)
            count_cell(t, json_object_get(json_array_get(phases, p), times[i]));
        table_cell(t, "-");
        table_cell(t, "%s", times[i]);
        table_cell(t, "# measured");
    }
    table_print(t);
    table_free(t);
    if (json_is_true(json_object_get(record, "emulates_ring0")))
        printf("%sthe guest kernel's instructions were emulated one by one (insn_emulation)%s\n",
               color(STYLE_DIM), color(STYLE_PLAIN));
}

static void cycle_cell(struct table *t, const json_t *v)
{
    char buf[32];
    table_cell(t, "%s", group_digits((uint64_t)(json_number_value(v) + 0.5), buf, sizeof buf));
}

static void cycle_row(struct table *t, const json_t *record, const char *part, const char *words)
{
    for (unsigned p = 0; p < phase_columns(record); p++)
        cycle_cell(t, at(json_array_get(json_object_get(record, "phases"), p), "cycles", part));
    cycle_cell(t, at(record, "cycles", part));
    table_cell(t, "%s", part);
    table_cell(t, "%s", words);
}

/* Cycles per access of the phase that experiments compare; NULL when there is none. */
static const json_t *phase_per_access(const json_t *record, const char *name)
{
    size_t i;
    json_t *phase;
    json_array_foreach(json_object_get(record, "phases"), i,
                       phase) if (strcmp(json_string_value(json_object_get(phase, "name")), name) ==
                                  0) return at(phase, "derived", "cycles_per_access");
    return NULL;
}

static void print_cycles(const json_t *record)
{
    double total = json_number_value(at(record, "cycles", "total"));
    const json_t *per = at(record, "derived", "cycles_per_access");
    struct table *t = new_table(record);
    char words[64];
    header(t, record, "cycles (modelled)");
    for (unsigned i = 0; i < ARRAY_SIZE(cycle_parts); i++) {
        if (vcpus(record) == 1 && strcmp(cycle_parts[i], "ipi") == 0)
            continue;
        double v = json_number_value(at(record, "cycles", cycle_parts[i]));
        snprintf(words, sizeof words, "# %.1f %%", total > 0 ? 100 * v / total : 0);
        cycle_row(t, record, cycle_parts[i], words);
    }
    int n = snprintf(words, sizeof words, "# %.4g per access", json_number_value(per));
    const json_t *work = phase_per_access(record, "work");
    if (json_is_real(work))
        snprintf(words + n, sizeof words - (size_t)n, ", %.4g in work", json_number_value(work));
    cycle_row(t, record, "total", json_is_real(per) ? words : "");
    table_print(t);
    table_free(t);
}

static void print_outcome(const json_t *record)
{
    const char *status = json_string_value(at(record, "outcome", "status"));
    bool ok = strcmp(status, outcome_names[OUTCOME_OK]) == 0;
    const char *hash = json_string_value(json_object_get(record, "memory_hash"));
    printf("%soutcome %s%s", color(ok ? STYLE_GOOD : STYLE_BAD), status, color(STYLE_PLAIN));
    if (!ok)
        printf(": %s", json_string_value(at(record, "outcome", "detail")));
    printf("; %.3g s (measured)\n", json_number_value(json_object_get(record, "wall_seconds")));
    if (hash)
        printf("memory hash %s (exact)\n", hash);
}

void record_print_table(const json_t *record)
{
    print_arguments(record);
    putchar('\n');
    print_counters(record);
    print_left_out(record, false, "0");
    print_left_out(record, true, "not counted by this engine or strategy");
    putchar('\n');
    print_vcpus(record);
    if (!json_is_null(json_object_get(record, "per_vcpu")))
        putchar('\n');
    if (is_real(record))
        print_kvm(record);
    else
        print_cycles(record);
    putchar('\n');
    print_outcome(record);
}

void record_print(const json_t *record, const struct options *o)
{
    switch (o->format) {
    case OUT_JSON:
        record_print_json(record);
        return;
    case OUT_CSV:
        record_print_csv(record, o->separator);
        return;
    case OUT_TABLE:
        record_print_table(record);
        return;
    }
}
