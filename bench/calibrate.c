/* calibrate.c: from measured events to the costs of a preset; the evidence as JSON and TSV.
 *
 * The model charges an event one exit and one handler. What can be timed is their sum. The cheapest
 * round trip through KVM stands for the exit, and a handler is what its event costs more, so that the
 * sum is what was timed. Only an event cheaper than that round trip comes out too dear: as a bare exit,
 * its handler 0. With two machines there is one exit for both, that of shadow paging.
 */
#include "bench/calibrate.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "bench/bench.h"
#include "bench/exits.h"

enum { CHAIN = 30000, ROUNDS_MAX = 101 };

const char *const cal_cost_names[CAL_COSTS] = {
    "exit",          "fill",        "reflect",  "pt_write", "cr3",     "invlpg",
    "ept_violation", "guest_fault", "alloc_4k", "alloc_2m", "alloc_1g"};

/* ---- the length of a cycle ---- */
static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Ten dependent IMULs a step: three cycles each on every x86-64 processor of the last decade (Agner
 * Fog's tables; additions can be removed by the front end of some). */
static double chain(unsigned steps)
{
    uint64_t x = 3;
    double began = now_ns();
    for (unsigned i = 0; i < steps; i++)
        __asm__ volatile("imul %0, %0; imul %0, %0; imul %0, %0; imul %0, %0; imul %0, %0;"
                         "imul %0, %0; imul %0, %0; imul %0, %0; imul %0, %0; imul %0, %0"
                         : "+r"(x)
                         :
                         : "cc");
    return (now_ns() - began) / (30.0 * steps);
}

struct interval cycle_length(unsigned rounds)
{
    double ns[ROUNDS_MAX];
    rounds = rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
    chain(CHAIN); /* the core speeds up */
    for (unsigned i = 0; i < rounds; i++)
        ns[i] = chain(CHAIN);
    return stat_bootstrap(ns, rounds, 42);
}

/* ---- costs ---- */
struct derive {
    const json_t *machine;
    const struct cpu *base;
    double cycle; /* in the machine's unit */
    bool shadow, instructions;
    double exit; /* in the unit; NAN: not known */
    struct cal_value *out;
};

static double base_cost(const struct cpu *b, enum cal_cost which)
{
    const double v[CAL_COSTS] = {b->cost.exit,          b->cost.fill,        b->cost.reflect,
                                 b->cost.pt_write,      b->cost.cr3,         b->cost.invlpg,
                                 b->cost.ept_violation, b->cost.guest_fault, b->cost.alloc_4k,
                                 b->cost.alloc_2m,      b->cost.alloc_1g};
    return v[which];
}

static void assume(struct derive *d, enum cal_cost which, const char *why)
{
    struct cal_value *v = &d->out[which];
    *v = (struct cal_value){.cycles = base_cost(d->base, which)};
    snprintf(v->source, sizeof v->source, "assumption: as in %.40s%s%.200s", d->base->name,
             *why ? "; " : "", why);
}

static const char *unit(const struct derive *d) { return d->instructions ? "instructions" : "ns"; }

static void measured(struct derive *d, enum cal_cost which, double ns, struct interval of,
                     const char *how)
{
    struct cal_value *v = &d->out[which];
    *v = (struct cal_value){.measured = true, .cycles = round(fmax(ns, 0) / d->cycle)};
    snprintf(v->source, sizeof v->source, "measured: %.0f %s (95 %%: %.0f to %.0f): %.160s%s",
             of.mid, unit(d), of.lo, of.hi, how,
             d->instructions ? "; assumption: a cycle each" : "");
}

/* Does an event of this probe leave the guest once? Where exits are not counted, ring 3 must do. */
static bool leaves(const struct derive *d, const char *probe)
{
    double exits = exits_stat(d->machine, probe, "exits");
    return isfinite(exits) ? exits > 0.9
                           : !json_is_true(json_object_get(d->machine, "emulates_ring0"));
}

static void derive_exit(struct derive *d)
{
    static const char *const trips[] = {"cpuid0", "cpuid3", "fill"};
    struct interval v, least = {.mid = NAN};
    const char *which = NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(trips); i++)
        if (exits_cost(d->machine, trips[i], &v) && leaves(d, trips[i]) && v.mid > 0 &&
            !(v.mid >= least.mid)) {
            least = v;
            which = trips[i];
        }
    d->exit = least.mid;
    if (!which) {
        assume(d, CAL_EXIT, "no round trip was measured");
        return;
    }
    char how[160];
    snprintf(how, sizeof how, "probe %s, the cheapest round trip, its own handler included", which);
    measured(d, CAL_EXIT, d->exit, least, how);
}

/* What the event of a probe costs over an exit. */
static void derive_handler(struct derive *d, enum cal_cost which, const char *probe)
{
    struct interval v;
    char text[160];
    if (!isfinite(d->exit) || !exits_cost(d->machine, probe, &v)) {
        assume(d, which, "not measured");
    } else if (!leaves(d, probe)) {
        snprintf(text, sizeof text,
                 "here probe %s takes %.0f %s (95 %%: %.0f to %.0f) and no exit of its own", probe,
                 v.mid, unit(d), v.lo, v.hi);
        assume(d, which, text);
    } else {
        snprintf(text, sizeof text, "probe %s, less one exit", probe);
        measured(d, which, v.mid - d->exit, v, text);
    }
}

/* The guest's fault, less what the hypervisor does about it. */
static void derive_guest_fault(struct derive *d)
{
    struct interval v;
    if (!isfinite(d->exit) || !exits_cost(d->machine, "fault", &v)) {
        assume(d, CAL_GUEST_FAULT, "not measured");
        return;
    }
    double exits = exits_stat(d->machine, "fault", "exits"), ns = v.mid;
    double fixed = exits_stat(d->machine, "fault", "pf_fixed"),
           guest = exits_stat(d->machine, "fault", "pf_guest");
    if (!isfinite(exits) || !isfinite(fixed) || !isfinite(guest)) {
        assume(d, CAL_GUEST_FAULT, "KVM does not count what it did");
        return;
    }
    ns -= exits * d->exit +
          d->cycle * (fixed * d->out[d->shadow ? CAL_FILL : CAL_EPT_VIOLATION].cycles +
                      guest * d->out[CAL_REFLECT].cycles);
    if (ns < 0)
        assume(d, CAL_GUEST_FAULT, "less than the exits in it, as measured");
    else
        measured(d, CAL_GUEST_FAULT, ns, v, "probe fault, less its exits and their handlers");
}

/* What the host does to find and clear a page: a touch with that, less one without. */
static void derive_alloc(struct derive *d, enum cal_cost which, const char *probe)
{
    struct interval with, without;
    char how[160];
    if (!exits_cost(d->machine, probe, &with) || !exits_cost(d->machine, "fill", &without)) {
        assume(d, which, "not measured");
        return;
    }
    snprintf(how, sizeof how, "probe %s, less probe fill (%.0f)", probe, without.mid);
    measured(d, which, with.mid - without.mid, with, how);
}

static void derive_all(struct derive *d)
{
    static const enum cal_cost of_shadow[] = {CAL_FILL, CAL_PT_WRITE, CAL_CR3, CAL_INVLPG};
    static const char *const probes[] = {"fill", "pte-upper", "cr3", "invlpg"};
    static const char other[] = "this KVM pages the other way";
    if (!isfinite(d->exit))
        derive_exit(d);
    for (unsigned i = 0; i < ARRAY_SIZE(of_shadow); i++)
        if (d->shadow)
            derive_handler(d, of_shadow[i], probes[i]);
        else
            assume(d, of_shadow[i], other);
    if (d->shadow)
        assume(d, CAL_EPT_VIOLATION, other);
    else
        derive_handler(d, CAL_EPT_VIOLATION, "fill");
    assume(d, CAL_REFLECT, d->shadow ? "not told apart from the guest's own handler" : other);
    derive_guest_fault(d);
    derive_alloc(d, CAL_ALLOC_4K, "touch");
    derive_alloc(d, CAL_ALLOC_2M, "touch-2m");
    assume(d, CAL_ALLOC_1G, "not measured");
}

/* exit: in the machine's unit; NAN: this machine tells. Returns it. */
static double costs_of(const struct calibration *c, const json_t *machine, double exit,
                       struct cal_value out[CAL_COSTS])
{
    const char *paging = json_string_value(json_object_get(machine, "paging"));
    const char *u = json_string_value(json_object_get(machine, "unit"));
    struct derive d = {.machine = machine,
                       .base = c->base,
                       .instructions = u && strcmp(u, "instructions") == 0,
                       .shadow = paging && strcmp(paging, "shadow") == 0,
                       .exit = exit,
                       .out = out};
    bool known = d.shadow || (paging && strcmp(paging, "ept") == 0);
    d.cycle = d.instructions ? 1 : c->cycle.mid;
    if (known)
        derive_all(&d);
    else
        for (unsigned i = 0; i < CAL_COSTS; i++)
            assume(&d, (enum cal_cost)i, paging ? "the mode of this KVM is not known" : c->why);
    return d.exit;
}

void cal_costs(const struct calibration *c, struct cal_value out[CAL_COSTS])
{
    struct cal_value nested[CAL_COSTS];
    double exit = costs_of(c, c->machine, NAN, out);
    if (!c->nested)
        return;
    costs_of(c, c->nested, exit, nested);
    out[CAL_EPT_VIOLATION] = nested[CAL_EPT_VIOLATION];
    out[CAL_GUEST_FAULT] = nested[CAL_GUEST_FAULT]; /* no exit is in it */
}

/* ---- geometry ---- */
/* As the presets' reader has it: groups of 2^k ways, or three of them. */
static bool has_tree(uint32_t ways)
{
    uint32_t group = ways % 3 == 0 ? ways / 3 : ways;
    return !(group & (group - 1)) && (ways % 3 == 0 ? ways <= 48 : ways <= 32);
}

struct geometry cal_fit(uint64_t reach, const struct geometry *base, bool *exact)
{
    struct geometry g = *base;
    uint32_t entries = (uint32_t)reach, sets = 1;
    if (base->ways == base->entries || entries <= base->ways) { /* fully associative */
        g.entries = g.ways = entries;
        *exact = true;
    } else {
        while (sets * 2 <= entries / base->ways)
            sets *= 2;
        g.ways = entries / sets;
        g.entries = g.ways * sets;
        *exact = g.entries == entries;
    }
    if (g.policy == POLICY_PLRU && !has_tree(g.ways))
        g.policy = POLICY_LRU;
    return g;
}

/* ---- evidence ---- */
static json_t *interval_json(struct interval v)
{
    return json_pack("{sf so so}", "median", v.mid, "lo",
                     isfinite(v.lo) ? json_real(v.lo) : json_null(), "hi",
                     isfinite(v.hi) ? json_real(v.hi) : json_null());
}

static json_t *curve_json(const struct chase_curve *c)
{
    json_t *a = json_array();
    for (unsigned i = 0; i < c->n; i++) {
        json_t *p = interval_json(c->ns[i]);
        json_object_set_new(p, "lines", json_integer((json_int_t)c->lines[i]));
        json_array_append_new(a, p);
    }
    return a;
}

static json_t *level_json(const struct tlb_level *l)
{
    if (!l->found)
        return json_null();
    return json_pack("{sI sI so}", "reach", (json_int_t)l->reach, "below", (json_int_t)l->next,
                     "cost_ns", interval_json(l->cost));
}

json_t *cal_json(const struct calibration *c)
{
    json_t *curves = json_object();
    for (unsigned k = 0; k < CHASE_KINDS; k++)
        json_object_set_new(curves, chase_names[k], curve_json(&c->chase.curve[k]));
    json_t *levels = json_pack("{so so so so}", "tlb_l1_4k", level_json(&c->tlb.l1), "tlb_l2_4k",
                               level_json(&c->tlb.l2), "tlb_l1_2m", level_json(&c->tlb.l1_2m),
                               "cache_l1d", level_json(&c->tlb.l1d));
    return json_pack("{ss ss sb ss so so so so so}", "schema", CALIBRATION_SCHEMA, "cpu", c->model,
                     "virtualised", c->virtualised, "base", c->base->name, "cycle_ns",
                     interval_json(c->cycle), "curves_ns_per_hop", curves, "levels", levels,
                     "events",
                     c->nested    ? json_pack("[OO]", c->machine, c->nested)
                     : c->machine ? json_pack("[O]", c->machine)
                                  : json_null(),
                     "events_reason", c->machine ? json_null() : json_string(c->why));
}

static void tsv_point(FILE *f, const struct chase_curve *c, unsigned i)
{
    if (i < c->n)
        fprintf(f, "\t%.4f\t%.4f\t%.4f", c->ns[i].mid, c->ns[i].lo, c->ns[i].hi);
    else
        fputs("\tNaN\tNaN\tNaN", f);
}

void cal_write_tsv(const struct calibration *c, FILE *f)
{
    const struct chase_curve *longest = &c->chase.curve[CHASE_SPARSE];
    fputs("lines", f);
    for (unsigned k = 0; k < CHASE_KINDS; k++)
        fprintf(f, "\t%s\t%s_lo\t%s_hi", chase_names[k], chase_names[k], chase_names[k]);
    fputc('\n', f);
    for (unsigned i = 0; i < longest->n; i++) { /* all begin with the same numbers of lines */
        fprintf(f, "%llu", (unsigned long long)longest->lines[i]);
        for (unsigned k = 0; k < CHASE_KINDS; k++)
            tsv_point(f, &c->chase.curve[k], i);
        fputc('\n', f);
    }
}
