/* exits.c: what one event costs under a real KVM: time on this host, instructions in a labvm.
 *
 * The host's probes are timed cells, one each, alone and in rounds. The labvm is one counted cell:
 * one boot measures all probes in both modes, and its instructions do not mind company. The two have
 * different units and are never drawn together, nor with anything modelled. The figure of the labvm,
 * where nothing but the kernel and the compiler moves a number, is part of an exported reference;
 * that of the host is not, so its name is no figN.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_fig.h"
#include "bench/bench_util.h"
#include "bench/exits.h"

#define LABVM_CELL "exits/machine:labvm"

/* Enough for --quick. */
static const char *const few[] = {"pio3", "cpuid3", "fault", "touch", "fill"};

static bool wanted(const struct plan *p, const char *probe)
{
    for (unsigned i = 0; i < ARRAY_SIZE(few); i++)
        if (strcmp(few[i], probe) == 0)
            return true;
    return p->scale != SCALE_QUICK;
}

static char *host_name(const struct exits_probe *p)
{
    return strf("exits/machine:host/probe:%s", p->name);
}

static void plan(struct plan *p)
{
    struct exits_config cfg = {.batches = 5};
    for (unsigned i = 0; i < exits_nprobes; i++)
        if (wanted(p, exits_probes[i].name))
            plan_add(p, (struct cell_spec){.experiment = "exits",
                                           .kind = CELL_TIMED,
                                           .name = host_name(&exits_probes[i]),
                                           .command = strf("exits --probe %s --batches 5 --json",
                                                           exits_probes[i].name),
                                           .seconds = 0.1,
                                           .ram = exits_mem(&cfg, &exits_probes[i])});
    plan_add(p, (struct cell_spec){.experiment = "exits",
                                   .kind = CELL_COUNTED,
                                   .name = strf(LABVM_CELL),
                                   .command = strf("exits --engine labvm --batches %u --json",
                                                   p->scale == SCALE_QUICK ? 3 : EXITS_BATCHES),
                                   .seconds = 25,
                                   .ram = 1536u << 20});
}

/* ---- results ---- */
/* Median seconds of an event on the host, over rounds; false: not measured. */
static bool on_host(const struct results *r, const struct exits_probe *p, struct interval *v)
{
    double x[STAT_MAX];
    char *name = host_name(p);
    size_t n = cell_samples(results_cell(r, name), "seconds", x, STAT_MAX);
    free(name);
    if (n)
        *v = stat_bootstrap(x, n, r->plan.root_seed);
    return n > 0;
}

/* The machine the host's probes ran on, or NULL. */
static const json_t *host_machine(const struct results *r)
{
    for (unsigned i = 0; i < exits_nprobes; i++) {
        char *name = host_name(&exits_probes[i]);
        const json_t *rec = results_record(r, "%s", name);
        free(name);
        if (rec && !exits_check(rec))
            return json_array_get(json_object_get(rec, "machines"), 0);
    }
    return NULL;
}

/* A mode of the labvm, or NULL. */
static const json_t *in_labvm(const struct results *r, const char *paging)
{
    const json_t *rec = results_record(r, LABVM_CELL);
    size_t i;
    json_t *m;
    if (!rec || exits_check(rec))
        return NULL;
    json_array_foreach(json_object_get(rec, "machines"), i,
                       m) if (strcmp(json_string_value(json_object_get(m, "paging")), paging) ==
                              0) return m;
    return NULL;
}

static void number(FILE *f, double v)
{
    if (isfinite(v))
        fprintf(f, "\t%.2f", v);
    else
        fputs("\tNaN", f);
}

static bool fig7(const struct results *r, FILE *f)
{
    const json_t *ept = in_labvm(r, "ept"), *shadow = in_labvm(r, "shadow");
    if (!ept || !shadow)
        return false;
    fputs("row\tevent\tept\tshadow\n", f);
    for (unsigned i = 0; i < exits_nprobes; i++) {
        struct interval a, b;
        exits_cost(ept, exits_probes[i].name, &a);
        exits_cost(shadow, exits_probes[i].name, &b);
        fprintf(f, "%u\t%s, ring %u", i, exits_probes[i].event, exits_probes[i].ring);
        number(f, a.mid);
        number(f, b.mid);
        fputc('\n', f);
    }
    return true;
}

static bool host_figure(const struct results *r, FILE *f)
{
    bool any = false;
    fputs("row\tevent\tring0\tring3\tlo\thi\n", f);
    for (unsigned i = 0; i < exits_nprobes; i++) {
        const struct exits_probe *p = &exits_probes[i];
        struct interval v;
        if (!on_host(r, p, &v) || !(v.mid > 0)) /* nothing to see on a logarithmic axis */
            continue;
        any = true;
        fprintf(f, "%u\t%s, ring %u", i, p->event, p->ring);
        number(f, p->ring == 0 ? 1e9 * v.mid : NAN);
        number(f, p->ring == 3 ? 1e9 * v.mid : NAN);
        number(f, 1e9 * (isfinite(v.lo) ? v.lo : v.mid));
        number(f, 1e9 * (isfinite(v.hi) ? v.hi : v.mid));
        fputc('\n', f);
    }
    return any;
}

/* ---- tables ---- */
static const char *emulated(const json_t *machine)
{
    return json_is_true(json_object_get(machine, "emulates_ring0"))
               ? "; ring 0 is emulated, only ring 3 shows what leaving the guest costs"
               : "";
}

/* " (lo to hi)", nothing where one round has no spread. */
static void spread(FILE *f, struct interval ns)
{
    if (isfinite(ns.lo) && isfinite(ns.hi))
        fprintf(f, " (%.0f to %.0f)", 1e9 * ns.lo, 1e9 * ns.hi);
}

static void host_fact(const struct results *r, json_t *f)
{
    const json_t *m = host_machine(r);
    char *text;
    size_t len;
    FILE *t = m ? open_memstream(&text, &len) : NULL;
    if (!t)
        return;
    fprintf(t, "\nBackend %s%s.\n\n| event | ring | ns (95 %%) |\n|---|---|---|\n",
            json_string_value(json_object_get(m, "backend")), emulated(m));
    for (unsigned i = 0; i < exits_nprobes; i++) {
        struct interval v;
        if (!on_host(r, &exits_probes[i], &v))
            continue;
        fprintf(t, "| %s | %u | %.0f", exits_probes[i].event, exits_probes[i].ring, 1e9 * v.mid);
        spread(t, v);
        fputs(" |\n", t);
    }
    fclose(t);
    fact(f, "exits.host", FACT_MEASURED, "%s", text);
    free(text);
}

static void labvm_fact(const struct results *r, json_t *f)
{
    const json_t *ept = in_labvm(r, "ept"), *shadow = in_labvm(r, "shadow");
    char *text;
    size_t len;
    FILE *t = ept && shadow ? open_memstream(&text, &len) : NULL;
    if (!t)
        return;
    fputs("\n| event | ring | nested: instructions | exits | shadow: instructions | exits |\n"
          "|---|---|---|---|---|---|\n",
          t);
    for (unsigned i = 0; i < exits_nprobes; i++) {
        const char *name = exits_probes[i].name;
        struct interval a, b;
        if (exits_cost(ept, name, &a) && exits_cost(shadow, name, &b))
            fprintf(t, "| %s | %u | %.0f | %.2f | %.0f | %.2f |\n", exits_probes[i].event,
                    exits_probes[i].ring, a.mid, exits_stat(ept, name, "exits"), b.mid,
                    exits_stat(shadow, name, "exits"));
    }
    fclose(t);
    fact(f, "exits.labvm", FACT_MEASURED, "%s", text);
    free(text);
}

static void facts(const struct results *r, json_t *f)
{
    host_fact(r, f);
    labvm_fact(r, f);
}

/* ---- findings ---- */
static void say_host(const struct results *r, FILE *f)
{
    const json_t *m = host_machine(r);
    if (!m)
        return;
    fprintf(f, "events under this host's KVM, ns [measured], backend %s%s\n",
            json_string_value(json_object_get(m, "backend")), emulated(m));
    for (unsigned i = 0; i < exits_nprobes; i++) {
        struct interval v;
        if (!on_host(r, &exits_probes[i], &v))
            continue;
        fprintf(f, "  %-40s ring %u %12.0f ", exits_probes[i].event, exits_probes[i].ring,
                1e9 * v.mid);
        spread(f, v);
        fputc('\n', f);
    }
}

static void say(const struct results *r, FILE *f)
{
    const json_t *ept = in_labvm(r, "ept"), *shadow = in_labvm(r, "shadow");
    say_host(r, f);
    if (!ept || !shadow)
        return;
    fputs("events in a labvm, instructions [measured]                nested       shadow\n", f);
    for (unsigned i = 0; i < exits_nprobes; i++) {
        struct interval a, b;
        if (exits_cost(ept, exits_probes[i].name, &a) &&
            exits_cost(shadow, exits_probes[i].name, &b))
            fprintf(f, "  %-40s ring %u %12.0f %12.0f\n", exits_probes[i].event,
                    exits_probes[i].ring, a.mid, b.mid);
    }
}

EMBED(fig7_gp, "bench/plots/fig7.gp");
EMBED(host_gp, "bench/plots/exits-host.gp");
static struct figure figures[] = {
    {7, "fig7",
     "Instructions that one event makes a processor run, guest, KVM and Linux together, in an "
     "emulated machine without time",
     "measured", fig7_gp, fig7},
    {8, "exits-host",
     "Time of one event under the KVM of this host; where it emulates ring 0 (backend pvm), events "
     "of ring 0 are emulated instructions and no exits",
     "measured", host_gp, host_figure},
    {0},
};
REGISTER(experiment, exits, .summary = "what one event costs a guest of a real KVM", .plan = plan,
         .figures = figures, .facts = facts, .say = say);
