/* calibrate_ini.c: a calibration as a CPU preset: each line below the source of its number.
 *
 * The file has the form of the built-in presets (shadow_vs_ept/cpus/), and is read back by the same
 * reader before anybody sees it.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "bench/bench_util.h"
#include "bench/calibrate.h"

enum { LINE_BYTES = 64, WIDTH = 100 };

struct ini {
    FILE *f;
    const struct calibration *c;
    const struct cpu *base;
};

/* "; text", in lines of at most WIDTH. Text may come from a machine: no byte of it ends the comment. */
static void comment(FILE *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void comment(FILE *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = vstrf(fmt, ap), *save = NULL;
    va_end(ap);
    size_t at = 0;
    for (char *p = text; *p; p++)
        if (*p < ' ' && *p > 0)
            *p = ' ';
    for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        bool wrap = at && at + 1 + strlen(w) > WIDTH;
        if (wrap)
            fputc('\n', f);
        at = wrap ? 0 : at;
        at += (size_t)fprintf(f, "%s%s", at ? " " : "; ", w);
    }
    fputc('\n', f);
    free(text);
}

static void assumption(struct ini *i) { comment(i->f, "assumption: as in %s", i->base->name); }

/* ---- [cpu] ---- */
static void cpu_section(struct ini *i)
{
    static const char *const apics[] = {
        [APIC_TRAPPED] = "trapped", [APIC_POSTED] = "posted", [APIC_VIRTUAL] = "virtual"};
    fputs("\n[cpu]\n", i->f);
    fprintf(i->f, "summary = calibrated on %.60s\n", i->c->model);
    comment(i->f, "read: CPUID 1, ECX bit 17");
    fprintf(i->f, "pcid = %s\n", i->c->pcid ? "yes" : "no");
    assumption(i);
    fprintf(i->f, "vpid = %s\n", i->base->vpid ? "yes" : "no");
    assumption(i);
    fprintf(i->f, "apic = %s\n", apics[i->base->apic]);
}

/* ---- arrays ---- */
static void shape(struct ini *i, const struct geometry *g)
{
    if (g->ways == g->entries)
        fputs("ways = full\n", i->f);
    else
        fprintf(i->f, "ways = %u\n", g->ways);
    fprintf(i->f, "index = %s\npolicy = %s\n", g->index == INDEX_XOR ? "xor" : "mod",
            g->policy == POLICY_PLRU ? "plru" : "lru");
}

static void sizes(struct ini *i, unsigned mask)
{
    if (mask)
        fprintf(i->f, "sizes =%s%s%s\n", mask & 1 ? " 4k" : "", mask & 2 ? " 2m" : "",
                mask & 4 ? " 1g" : "");
}

static void base_array(struct ini *i, const char *section, const struct geometry *g, unsigned mask)
{
    if (!g->entries)
        return;
    fprintf(i->f, "\n[%s]\n", section);
    assumption(i);
    fprintf(i->f, "entries = %u\n", g->entries);
    shape(i, g);
    sizes(i, mask);
}

/* An array whose reach was measured, in the shape of the base's. */
static void array(struct ini *i, const char *section, const struct geometry *base, unsigned mask,
                  const struct tlb_level *l, const char *pages)
{
    bool exact;
    if (!base->entries)
        return;
    if (!l->found) {
        base_array(i, section, base, mask);
        comment(i->f, "(looked for: no rise of the latency of %s pages told it)", pages);
        return;
    }
    struct geometry g = cal_fit(l->reach, base, &exact);
    fprintf(i->f, "\n[%s]\n", section);
    comment(
        i->f,
        "measured: with %llu %s pages half of the hits are still there, with %llu not; beyond, a "
        "hop costs %.2f ns more (95 %%: %.2f to %.2f)%s",
        (unsigned long long)l->reach, pages, (unsigned long long)l->next, l->cost.mid, l->cost.lo,
        l->cost.hi, exact ? "" : "; rounded so that sets are a power of two");
    fprintf(i->f, "entries = %u\n", g.entries);
    comment(i->f, "assumption: shape and policy after %s", i->base->name);
    shape(i, &g);
    sizes(i, mask);
}

static void tlbs(struct ini *i)
{
    const struct cpu *b = i->base;
    const struct tlb_estimate *t = &i->c->tlb;
    array(i, "l1-any", &b->l1_any, 0, &t->l1, "4 KiB");
    array(i, "l1-4k", &b->l1[0], 0, &t->l1, "4 KiB");
    array(i, "l1-2m", &b->l1[1], 0, &t->l1_2m, "2 MiB");
    if (b->l1[1].entries && t->l1_2m.found && i->c->virtualised)
        comment(i->f,
                "(a host that backs 2 MiB pages of ours with 4 KiB pages makes this the reach "
                "of 4 KiB entries)");
    base_array(i, "l1-1g", &b->l1[2], 0);
    array(i, "l2", &b->l2[0], b->l2_sizes[0], &t->l2, "4 KiB");
    base_array(i, "l2-b", &b->l2[1], b->l2_sizes[1]);
}

static void walk_caches(struct ini *i)
{
    static const char *const kinds[] = {
        [PWC_NONE] = "none", [PWC_INTEL] = "intel", [PWC_AMD] = "amd"};
    static const char *const levels[] = {"pml5e", "pml4e", "pdpte", "pde"};
    const struct cpu *b = i->base;
    char name[32];
    fputs("\n[walk-caches]\n", i->f);
    assumption(i);
    fprintf(i->f, "kind = %s\n", kinds[b->pwc_kind]);
    for (unsigned k = 0; k < ARRAY_SIZE(levels); k++) {
        snprintf(name, sizeof name, "psc-%s", levels[k]);
        base_array(i, name, &b->psc[k], 0);
    }
    for (unsigned k = 0; k < ARRAY_SIZE(levels); k++) {
        snprintf(name, sizeof name, "npsc-%s", levels[k]);
        base_array(i, name, &b->npsc[k], 0);
    }
    base_array(i, "pwc", &b->pwc, 0);
    base_array(i, "ntlb", &b->ntlb, 0);
}

/* ---- data caches: the system knows them ---- */
static bool sysfs_number(unsigned index, const char *name, unsigned *out)
{
    char *path = strf("/sys/devices/system/cpu/cpu0/cache/index%u/%s", index, name), *end;
    char *text = read_file(path, NULL);
    unsigned long v = text ? strtoul(text, &end, 10) : 0;
    bool fine = text && end != text && v > 0 && v < 1u << 30;
    *out = (unsigned)v;
    free(path);
    free(text);
    return fine;
}

/* Size in KiB and ways of the data or unified cache of a level, if the model can have it so. */
static bool sysfs_cache(unsigned level, unsigned *kib, unsigned *ways)
{
    for (unsigned index = 0; index < 8; index++) {
        unsigned its, sets;
        char *path = strf("/sys/devices/system/cpu/cpu0/cache/index%u/type", index);
        char *type = read_file(path, NULL);
        bool data = type && strncmp(type, "Instruction", 11) != 0;
        free(path);
        free(type);
        if (data && sysfs_number(index, "level", &its) && its == level)
            return sysfs_number(index, "size", kib) &&
                   sysfs_number(index, "ways_of_associativity", ways) && *kib % *ways == 0 &&
                   (sets = *kib * 1024 / LINE_BYTES / *ways) >= 64 && !(sets & (sets - 1));
    }
    return false;
}

static void caches(struct ini *i)
{
    static const char *const names[] = {"cache-l1d", "cache-l2", "cache-l3"};
    for (unsigned k = 0; k < ARRAY_SIZE(names) && i->base->cache[k].entries; k++) {
        const struct geometry *g = &i->base->cache[k];
        unsigned kib, ways;
        fprintf(i->f, "\n[%s]\n", names[k]);
        if (sysfs_cache(k + 1, &kib, &ways)) {
            comment(i->f, "read: /sys/devices/system/cpu/cpu0/cache");
            fprintf(i->f, "size = %uK\nways = %u\n", kib, ways);
        } else {
            comment(i->f,
                    "assumption: as in %s; the system does not say, or sets would be no power "
                    "of two",
                    i->base->name);
            fprintf(i->f, "size = %uK\nways = %u\n", g->entries / (1024 / LINE_BYTES), g->ways);
        }
    }
}

/* ---- [cost] ---- */
static void base_cost(struct ini *i, const char *key, double cycles)
{
    assumption(i);
    fprintf(i->f, "%s = %.10g\n", key, cycles);
}

static void ns_cost(struct ini *i, const char *key, struct interval ns, const char *how)
{
    comment(i->f, "measured: %.2f ns (95 %%: %.2f to %.2f): %s", ns.mid, ns.lo, ns.hi, how);
    fprintf(i->f, "%s = %.0f\n", key, round(ns.mid / i->c->cycle.mid));
}

static struct interval sum(struct interval a, struct interval b)
{
    return (struct interval){a.mid + b.mid, a.lo + b.lo, a.hi + b.hi, a.n};
}

static void memory_costs(struct ini *i)
{
    const struct cpu *b = i->base;
    const struct tlb_estimate *t = &i->c->tlb;
    static const char *const keys[] = {"l1", "l2", "l3", "memory"};
    if (!b->cache[0].entries) {
        ns_cost(i, "access", t->hop, "a load that hits every cache");
        base_cost(i, "ref", b->cost.ref);
        return;
    }
    ns_cost(i, keys[0], t->hop, "a dependent load that hits the first-level cache");
    for (unsigned k = 1; k < ARRAY_SIZE(keys); k++) {
        if (k < 3 && !b->cache[k].entries)
            continue;
        if (k == 1 && t->l1d.found)
            ns_cost(i, keys[k], sum(t->hop, t->l1d.cost), "the same beyond the first-level cache");
        else
            base_cost(i, keys[k], b->cost.cache[k]);
    }
}

static void costs(struct ini *i)
{
    struct cal_value v[CAL_COSTS];
    const struct tlb_estimate *t = &i->c->tlb;
    fputs("\n[cost]\n", i->f);
    comment(i->f,
            "Cycles of %.4f ns (95 %%: %.4f to %.4f), measured with a chain of "
            "multiplications.",
            i->c->cycle.mid, i->c->cycle.lo, i->c->cycle.hi);
    memory_costs(i);
    if (t->l1.found)
        ns_cost(i, "stlb_hit", t->l1.cost, "a hop beyond the reach of the first-level TLB, more");
    else
        base_cost(i, "stlb_hit", i->base->cost.stlb_hit);
    if (i->base->pwc_kind != PWC_NONE)
        base_cost(i, "pwc_hit", i->base->cost.pwc_hit);
    cal_costs(i->c, v);
    for (unsigned k = 0; k < CAL_COSTS; k++) {
        comment(i->f, "%s", v[k].source);
        fprintf(i->f, "%s = %.10g\n", cal_cost_names[k], v[k].cycles);
    }
    base_cost(i, "hypercall", i->base->cost.hypercall);
    base_cost(i, "pv_update", i->base->cost.pv_update);
    base_cost(i, "icr", i->base->cost.icr);
    base_cost(i, "ipi", i->base->cost.ipi);
    base_cost(i, "intr", i->base->cost.intr);
}

/* ---- the file ---- */
static void head(struct ini *i)
{
    const struct calibration *c = i->c;
    const struct interval *miss = &c->tlb.l2.cost;
    comment(i->f, "CPU preset written by nestbed calibrate on: %s", c->model);
    comment(i->f, "Sizes in entries, costs in cycles. `measured` and `read` are of this machine, "
                  "`assumption` is not.");
    if (c->virtualised)
        comment(i->f,
                "This is a virtual machine: a walk reads two tables, so what a TLB miss costs "
                "here is what it costs a guest, and a reach may be that of smaller pages.");
    if (c->tlb.l2.found)
        comment(i->f,
                "A miss of all TLBs costs %.2f ns (95 %%: %.2f to %.2f) over a hit; the model "
                "makes that of walks, so no key holds it.",
                miss->mid, miss->lo, miss->hi);
    if (c->nested)
        comment(i->f,
                "Events were counted in instructions of a real KVM (Linux %s, kvm_amd, npt=0 and "
                "npt=1) on "
                "an emulated machine: what the processor itself takes for a switch is not in them.",
                json_string_value(json_object_get(c->machine, "kernel")));
    else if (c->machine)
        comment(i->f, "Events were measured under KVM backend %s, %s paging%s.",
                json_string_value(json_object_get(c->machine, "backend")),
                json_string_value(json_object_get(c->machine, "paging")),
                json_is_true(json_object_get(c->machine, "emulates_ring0"))
                    ? ", which emulates ring 0: its costs are those of ring 3"
                    : "");
    else
        comment(i->f, "Events were not measured: %s", c->why);
}

void cal_write_ini(const struct calibration *c, FILE *f)
{
    struct ini i = {f, c, c->base};
    head(&i);
    cpu_section(&i);
    tlbs(&i);
    walk_caches(&i);
    caches(&i);
    costs(&i);
}
