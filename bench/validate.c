/* validate.c: compares the model's record of a guest with a real KVM's.
 *
 * Each event is one row of the table below: the counters of the model whose sum predicts it, and
 * where the other record counts it. Only events with one meaning on both sides are in the table. Of
 * the exits those are taken off, by name, that the model has no part in: timer interrupts of the host
 * (irq_exits) and the image's calls to the VMM at the end of a phase (io_exits).
 *
 * What the guest itself does (GUEST) is counted by its kernel on both sides and must be equal in
 * every phase, boot included. Neither side may fail to say it, nor the model what the table has it
 * predict: only what a KVM has no statistic for is left unjudged. What the hypervisor does (KVM) may differ by 2 %, except where EXACT
 * says that it may not. Boot of a real machine has first touches that the model has no part in
 * (tables, image, kernel memory): they are the same for every program, so they are reported as
 * constants, and one that is not constant is off.
 */
#include "bench/validate.h"

#include <inttypes.h>
#include <string.h>

#include "base/base.h"

/* How a backend runs a guest: one bit each. EMULATED: shadow paging, and ring 0 in an emulator. */
enum { NESTED = 1, SHADOW = 2, EMULATED = 4, SHADOWS = SHADOW | EMULATED, ALL = NESTED | SHADOWS };
enum where { GUEST, KVM }; /* "counters" or "kvm" of the record that counts */

struct event {
    const char *name; /* also in the record that counts */
    unsigned modes;
    enum where where;
    unsigned flags;
    const char *predicted[5]; /* counters of the model, to be added up; none: it cannot tell */
    const char *apart[3];     /* statistics that are no part of it, taken off what was counted */
};
enum {
    EXACT = 1, /* nothing but equality will do */
    LEVEL = 2, /* not a count but a level: compared is how far it is above its level after boot */
};

#define SUM(...) .predicted = {__VA_ARGS__}
static const struct event events[] = {
    {.name = "guest_faults", .modes = ALL, .flags = EXACT, SUM("guest_faults")},
    {.name = "guest_pt_writes", .modes = ALL, .flags = EXACT, SUM("guest_pt_writes")},
    {.name = "guest_cr3_loads", .modes = ALL, .flags = EXACT, SUM("guest_cr3_loads")},
    {.name = "guest_invlpgs", .modes = ALL, .flags = EXACT, SUM("guest_invlpgs")},
    {.name = "pf_taken", .modes = NESTED, .where = KVM, SUM("exit_ept_violation", "exit_retry")},
    {.name = "pf_taken",
     .modes = SHADOWS,
     .where = KVM,
     SUM("exit_fill", "exit_reflect", "exit_pt_write", "exit_spurious", "exit_retry")},
    {.name = "pf_fixed", .modes = NESTED, .where = KVM, SUM("exit_ept_violation")},
    {.name = "pf_fixed", .modes = SHADOWS, .where = KVM, SUM("exit_fill")},
    {.name = "pf_guest", .modes = ALL, .where = KVM, SUM("exit_reflect")},
    {.name = "pf_emulate", .modes = ALL, .where = KVM, SUM("exit_pt_write")},
    {.name = "pf_spurious", .modes = SHADOWS, .where = KVM, SUM("exit_spurious")},
    {.name = "invlpg", .modes = NESTED | SHADOW, .where = KVM, .flags = EXACT, SUM("exit_invlpg")},
    /* emulated, as every instruction of ring 0 is */
    {.name = "invlpg", .modes = EMULATED, .where = KVM, .flags = EXACT, SUM("guest_invlpgs")},
    {.name = "exits",
     .modes = NESTED | SHADOW,
     .where = KVM,
     SUM("exits"),
     .apart = {"io_exits", "irq_exits"}},
    {.name = "mmu_pte_write", .modes = SHADOW, .where = KVM, SUM("shadow_pt_writes")},
    /* counts every store of ring 0, to a table or not: the model has no such instructions */
    {.name = "mmu_pte_write", .modes = EMULATED, .where = KVM},
    {.name = "mmu_cache_miss", .modes = SHADOWS, .where = KVM, SUM("shadow_pages_made")},
    {.name = "mmu_shadow_zapped", .modes = SHADOWS, .where = KVM, SUM("shadow_pages_zapped")},
    {.name = "mmu_recycled", .modes = SHADOWS, .where = KVM, SUM("shadow_pages_recycled")},
    {.name = "mmu_flooded", .modes = SHADOWS, .where = KVM, SUM("shadow_floods")},
    {.name = "mmu_unsync",
     .modes = SHADOWS,
     .where = KVM,
     .flags = LEVEL,
     SUM("shadow_out_of_sync")},
    {.name = "pages_4k", .modes = SHADOWS, .where = KVM, .flags = LEVEL, SUM("shadow_leaves")},
};

const char *const verdict_names[VERDICTS] = {"equal", "within", "off", "unseen"};

#define TOUCHES \
    "first touches of the image, its tables, kernel memory (warmed at boot) and the first root"
static const struct backend {
    const char *name, *strategy;
    unsigned mode;
    const char *boot; /* where the constants of boot come from */
} backends[] = {
    {"vmx-ept", "ept-kvm", NESTED, TOUCHES},
    {"svm-npt", "ept-kvm", NESTED, TOUCHES},
    {"vmx-shadow", "shadow-kvm", SHADOW, TOUCHES ", each a fill of the kernel's shadow tables"},
    {"svm-shadow", "shadow-kvm", SHADOW, TOUCHES ", each a fill of the kernel's shadow tables"},
    {"pvm", "shadow-pvm", EMULATED,
     "first touches of the image's ring-3 pages, and ring 0's stores; ring 0 is emulated and "
     "faults "
     "on nothing"}};

static const struct backend *backend_of(const char *name)
{
    for (unsigned i = 0; name && i < ARRAY_SIZE(backends); i++)
        if (strcmp(backends[i].name, name) == 0)
            return &backends[i];
    return NULL;
}

const char *validate_strategy(const char *backend)
{
    const struct backend *b = backend_of(backend);
    return b ? b->strategy : NULL;
}

static uint64_t distance(int64_t a, int64_t b)
{
    return a > b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a;
}

enum verdict validate_verdict(struct seen predicted, struct seen counted, bool exact)
{
    uint64_t apart = distance(predicted.v, counted.v), size = distance(counted.v, 0);
    if (!predicted.is || !counted.is)
        return VERDICT_UNSEEN;
    if (apart == 0)
        return VERDICT_EQUAL;
    if (exact || (unsigned __int128)apart * 100 > (unsigned __int128)size * VALIDATE_PERCENT)
        return VERDICT_OFF;
    return VERDICT_WITHIN;
}

/* ---- numbers out of records ---- */

static struct seen count_of(const json_t *v)
{
    int64_t n = json_integer_value(v);
    return json_is_integer(v) && n >= 0 ? (struct seen){true, n} : (struct seen){0};
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static const json_t *phase_of(const json_t *record, const char *name)
{
    const json_t *phase;
    size_t i;
    json_array_foreach(json_object_get(record, "phases"), i, phase)
    {
        const char *is = text_of(phase, "name");
        if (is && strcmp(is, name) == 0)
            return phase;
    }
    return NULL;
}

/* One counter that nobody saw hides the sum. */
static struct seen predicted_in(const json_t *phase, const struct event *e)
{
    const json_t *counters = json_object_get(phase, "counters");
    struct seen sum = {e->predicted[0] != NULL, 0};
    for (unsigned i = 0; i < ARRAY_SIZE(e->predicted) && e->predicted[i]; i++) {
        struct seen one = count_of(json_object_get(counters, e->predicted[i]));
        sum.is &= one.is && one.v <= INT64_MAX - sum.v;
        sum.v += sum.is ? one.v : 0;
    }
    return sum;
}

static struct seen counted_in(const json_t *phase, const struct event *e)
{
    const json_t *group = json_object_get(phase, e->where == GUEST ? "counters" : "kvm");
    struct seen n = count_of(json_object_get(group, e->name));
    for (unsigned i = 0; i < ARRAY_SIZE(e->apart) && e->apart[i]; i++) {
        struct seen one = count_of(json_object_get(group, e->apart[i]));
        n.is &= one.is;
        n.v -= n.is ? one.v : 0;
    }
    return n;
}

/* A number of one side in a phase. */
static struct seen number_in(const json_t *record, const char *phase, const struct event *e,
                             struct seen (*read)(const json_t *, const struct event *))
{
    struct seen now = read(phase_of(record, phase), e), then;
    if (!(e->flags & LEVEL))
        return now;
    then = read(phase_of(record, "boot"), e);
    now.is &= then.is;
    now.v -= now.is ? then.v : 0; /* both are counts: no overflow */
    return now;
}

/* ---- rows ---- */

static json_t *must(json_t *j)
{
    if (!j)
        die(NB_INTERNAL, "cannot build the validation document: out of memory, or a name that is "
                         "not UTF-8");
    return j;
}

static json_t *value(struct seen s) { return must(s.is ? json_integer(s.v) : json_null()); }

static void append(json_t *doc, const char *list, json_t *item)
{
    if (json_array_append_new(json_object_get(doc, list), must(item)) != 0)
        must(NULL);
}

static void add_row(json_t *doc, const struct pairing *pair, const char *phase, const char *event,
                    json_t *predicted, json_t *counted, enum verdict verdict)
{
    json_t *difference = must(json_null()), *percent = must(json_null());
    if (json_is_integer(predicted) && json_is_integer(counted)) {
        json_int_t c = json_integer_value(counted), d = c - json_integer_value(predicted);
        difference = must(json_integer(d));
        if (c || !d)
            percent = must(json_real(d ? 100.0 * (double)d / (double)c : 0.0));
    }
    append(doc, "rows",
           json_pack("{ss ss ss ss ss so so so so ss}", "target", pair->target, "paging",
                     pair->paging, "workload", pair->workload, "phase", phase, "event", event,
                     "predicted", predicted, "counted", counted, "difference", difference,
                     "percent", percent, "verdict", verdict_names[verdict]));
}

/* What is compared, when that is not just the statistic of the event's name. Boot's own level has
 * nothing before it. */
static const char *row_name(const struct event *e, bool boot, char *buf, size_t n)
{
    bool since = e->flags & LEVEL && !boot;
    size_t len = (size_t)snprintf(buf, n, "%s%s", e->name, since ? " since boot" : "");
    for (unsigned i = 0; i < ARRAY_SIZE(e->apart) && e->apart[i] && len < n; i++)
        len += (size_t)snprintf(buf + len, n - len, " - %s", e->apart[i]);
    return buf;
}

static json_t *constant_of(const json_t *doc, const struct pairing *pair, const char *event)
{
    json_t *c;
    size_t i;
    json_array_foreach(json_object_get(doc, "constants"), i,
                       c) if (strcmp(text_of(c, "target"), pair->target) == 0 &&
                              strcmp(text_of(c, "paging"), pair->paging) == 0 &&
                              strcmp(text_of(c, "event"), event) == 0) return c;
    return NULL;
}

/* What boot counted of a hypervisor's event. The first pair states it, every other must repeat it. */
static void add_constant(json_t *doc, const struct pairing *pair, const struct event *e)
{
    struct seen n = counted_in(phase_of(pair->kvm, "boot"), e);
    char name[64];
    json_t *c = constant_of(doc, pair, row_name(e, true, name, sizeof name));
    if (!c) {
        struct seen p = predicted_in(phase_of(pair->model, "boot"), e);
        append(doc, "constants",
               json_pack("{ss ss ss so so ss ss s[]}", "target", pair->target, "paging",
                         pair->paging, "event", name, "predicted", value(p), "counted", value(n),
                         "verdict", verdict_names[n.is ? VERDICT_EQUAL : VERDICT_UNSEEN], "why",
                         backend_of(text_of(pair->kvm, "backend"))->boot, "differs"));
        return;
    }
    struct seen first = count_of(json_object_get(c, "counted"));
    if (first.is == n.is && first.v == n.v)
        return;
    json_object_set_new(c, "verdict", must(json_string(verdict_names[VERDICT_OFF])));
    append(c, "differs", json_pack("{ss so}", "workload", pair->workload, "counted", value(n)));
}

/* A number that is missing where it must be seen is no excuse: it is off. */
static enum verdict judge(const struct event *e, struct seen p, struct seen c)
{
    if ((e->predicted[0] && !p.is) || (e->where == GUEST && !c.is))
        return VERDICT_OFF;
    return validate_verdict(p, c, e->flags & EXACT);
}

static void add_event(json_t *doc, const struct pairing *pair, const char *phase,
                      const struct event *e)
{
    struct seen p = number_in(pair->model, phase, e, predicted_in),
                c = number_in(pair->kvm, phase, e, counted_in);
    char name[64];
    add_row(doc, pair, phase, row_name(e, false, name, sizeof name), value(p), value(c),
            judge(e, p, c));
}

static void add_phase(json_t *doc, const struct pairing *pair, const char *name)
{
    const struct backend *backend = backend_of(text_of(pair->kvm, "backend"));
    bool boot = strcmp(name, "boot") == 0;
    for (unsigned i = 0; i < ARRAY_SIZE(events); i++) {
        const struct event *e = &events[i];
        if (!(e->modes & backend->mode))
            continue;
        if (boot && e->where == KVM)
            add_constant(doc, pair, e);
        else
            add_event(doc, pair, name, e);
    }
}

/* Two texts that must be the same; one that is absent (NULL) equals nothing. */
static void add_text_row(json_t *doc, const struct pairing *pair, const char *event,
                         const char *predicted, const char *counted)
{
    bool same = predicted && counted && strcmp(predicted, counted) == 0;
    add_row(doc, pair, "end", event, must(predicted ? json_string(predicted) : json_null()),
            must(counted ? json_string(counted) : json_null()), same ? VERDICT_EQUAL : VERDICT_OFF);
}

static const char *outcome_of(const json_t *record)
{
    const char *status = text_of(json_object_get(record, "outcome"), "status");
    return status ? status : "no record";
}

/* Did both run what they were asked to? The first member that differs, or NULL. */
static const char *other_guest(const json_t *a, const json_t *b)
{
    static const char *const same[] = {"workload", "flush_ceiling"};
    static const char *const of_guest[] = {"pages", "levels", "mem"};
    for (unsigned i = 0; i < ARRAY_SIZE(same); i++)
        if (!json_equal(json_object_get(a, same[i]), json_object_get(b, same[i])))
            return same[i];
    for (unsigned i = 0; i < ARRAY_SIZE(of_guest); i++)
        if (!json_equal(json_object_get(json_object_get(a, of_guest[i]), "guest"),
                        json_object_get(json_object_get(b, of_guest[i]), "guest")))
            return of_guest[i];
    return NULL;
}

/* Name of phase i of a record; NULL: it has none, or an earlier phase has it too. */
static const char *phase_name(const json_t *record, size_t i)
{
    const json_t *phase = json_array_get(json_object_get(record, "phases"), i);
    const char *name = text_of(phase, "name");
    return name && phase_of(record, name) == phase ? name : NULL;
}

static size_t phases_of(const json_t *record)
{
    return json_array_size(json_object_get(record, "phases"));
}

/* Both must have the same phases, in the same order, and at least one. */
static void add_phases(json_t *doc, const struct pairing *pair)
{
    size_t n = phases_of(pair->model), m = phases_of(pair->kvm);
    for (size_t i = 0; i < n || i < m || i == 0; i++) {
        const char *p = phase_name(pair->model, i), *c = phase_name(pair->kvm, i);
        if (p && c && strcmp(p, c) == 0)
            add_phase(doc, pair, p);
        else
            add_text_row(doc, pair, "phases", p, c);
    }
}

void validate_add(json_t *doc, const struct pairing *pair)
{
    const char *p = outcome_of(pair->model), *c = outcome_of(pair->kvm);
    const char *other = other_guest(pair->model, pair->kvm);
    if (!other && !backend_of(text_of(pair->kvm, "backend")))
        other = "backend";
    if (strcmp(p, "ok") != 0 || strcmp(c, "ok") != 0 || other) {
        /* Nothing to compare, and that is a disagreement, even when both failed alike. */
        add_row(doc, pair, "end", other ? other : "outcome", must(json_string(p)),
                must(json_string(other ? "another guest" : c)), VERDICT_OFF);
        return;
    }
    add_phases(doc, pair);
    add_text_row(doc, pair, "memory_hash", text_of(pair->model, "memory_hash"),
                 text_of(pair->kvm, "memory_hash"));
}

/* ---- the document ---- */

json_t *validate_new(uint64_t seed, uint64_t mem)
{
    char text[24];
    snprintf(text, sizeof text, "0x%" PRIx64, seed);
    return must(json_pack("{ss ss sI si s[] s[] s[] sn s{ss ss}}", "schema", VALIDATE_SCHEMA,
                          "seed", text, "mem", (json_int_t)mem, "tolerance_percent",
                          VALIDATE_PERCENT, "runs", "rows", "constants", "summary", "tags",
                          "predicted", "exact", "counted", "counted"));
}

static size_t with_verdict(const json_t *list, enum verdict v)
{
    const json_t *item;
    size_t i, n = 0;
    json_array_foreach(list, i, item)
    {
        const char *is = text_of(item, "verdict");
        n += is && strcmp(is, verdict_names[v]) == 0;
    }
    return n;
}

size_t validate_count(const json_t *doc, enum verdict v)
{
    return with_verdict(json_object_get(doc, "rows"), v);
}

size_t validate_zeros(const json_t *doc)
{
    const json_t *row, *counted;
    size_t i, n = 0;
    json_array_foreach(json_object_get(doc, "rows"), i, row)
    {
        const char *is = text_of(row, "verdict");
        counted = json_object_get(row, "counted");
        n += is && strcmp(is, verdict_names[VERDICT_EQUAL]) == 0 && json_is_integer(counted) &&
             json_integer_value(counted) == 0;
    }
    return n;
}

static size_t runs_with(const json_t *doc, const char *status)
{
    const json_t *run;
    size_t i, n = 0;
    json_array_foreach(json_object_get(doc, "runs"), i, run)
    {
        const char *is = text_of(run, "status");
        n += is && strcmp(is, status) == 0;
    }
    return n;
}

void validate_judge(json_t *doc)
{
    json_t *summary = must(json_object());
    for (unsigned v = 0; v < VERDICTS; v++)
        json_object_set_new(summary, verdict_names[v],
                            must(json_integer((json_int_t)validate_count(doc, v))));
    json_object_set_new(summary, "zero", must(json_integer((json_int_t)validate_zeros(doc))));
    json_object_set_new(summary, "constants_off",
                        must(json_integer((json_int_t)with_verdict(
                            json_object_get(doc, "constants"), VERDICT_OFF))));
    json_object_set_new(summary, "skipped",
                        must(json_integer((json_int_t)runs_with(doc, "skipped"))));
    json_object_set_new(summary, "failed",
                        must(json_integer((json_int_t)runs_with(doc, "failed"))));
    json_object_set_new(doc, "summary", summary);
}

bool validate_passed(const json_t *doc)
{
    const json_t *s = json_object_get(doc, "summary");
    json_int_t agree = json_integer_value(json_object_get(s, "equal")) +
                       json_integer_value(json_object_get(s, "within"));
    return agree > 0 && json_integer_value(json_object_get(s, "off")) == 0 &&
           json_integer_value(json_object_get(s, "constants_off")) == 0 &&
           json_integer_value(json_object_get(s, "failed")) == 0;
}
