/* exits.c: the list of probes, and numbers out of their document. */
#include "bench/exits.h"

#include <math.h>
#include <string.h>

#include "base/addr.h"
#include "base/base.h"
#include "bench/bench.h"
#include "guest/image/probe.h"

#define ANY EXITS_EVENTS_MAX
#define BASE (64ull << 20) /* holds the kernel and every probe's memory but fresh pages */

const struct exits_probe exits_probes[] = {
    {"syscall", "system call that does nothing", 3, 200, ANY, PAGES_4K, 0},
    {"pio0", "port write, to the VMM and back", 0, 200, ANY, PAGES_4K, 0},
    {"pio3", "port write, to the VMM and back", 3, 100, ANY, PAGES_4K, 0},
    {"mmio3", "device store, to the VMM and back", 3, 100, ANY, PAGES_4K, 0},
    {"cpuid0", "CPUID", 0, 200, ANY, PAGES_4K, 0},
    {"cpuid3", "CPUID", 3, 200, ANY, PAGES_4K, 0},
    {"cr3", "CR3 load", 0, 200, ANY, PAGES_4K, 0},
    {"invlpg", "INVLPG", 0, 200, ANY, PAGES_4K, 0},
    {"pte-leaf", "PTE write, leaf table in use", 0, 200, ANY, PAGES_4K, 0},
    {"pte-leaf-sync", "PTE write, leaf table synchronised", 0, 100, ANY, PAGES_4K, 0},
    {"pte-upper", "PTE write, page directory in use", 0, 64, PROBE_UPPER_MAX, PAGES_4K, 0},
    {"fault", "guest page fault and its handler", 3, 128, ANY, PAGES_4K, 0},
    {"touch", "first touch of a page", 3, 128, 1024, PAGES_4K, PAGE_SIZE},
    {"touch-2m", "first touch of 2 MiB, huge pages", 3, 2, 4, PAGES_THP, 1ull << SHIFT_2M},
    {"retouch", "touch of a page the host took", 3, 128, 1024, PAGES_4K, 0},
    {"fill", "touch of a page not mapped", 3, 128, 1024, PAGES_4K, 0},
};
const unsigned exits_nprobes = ARRAY_SIZE(exits_probes);

const struct exits_probe *exits_find(const char *name)
{
    for (unsigned i = 0; i < exits_nprobes; i++)
        if (strcmp(exits_probes[i].name, name) == 0)
            return &exits_probes[i];
    return NULL;
}

unsigned exits_events(const struct exits_config *cfg, const struct exits_probe *p)
{
    return !cfg->events ? p->events : cfg->events < p->most ? cfg->events : p->most;
}

uint64_t exits_mem(const struct exits_config *cfg, const struct exits_probe *p)
{
    uint64_t fresh = p->fresh_bytes * exits_events(cfg, p) * (cfg->batches + 1);
    return BASE + ALIGN_UP(fresh, 1ull << SHIFT_2M);
}

/* Of the only probe of a host's document: what a timed cell of `bench` samples. */
static json_t *seconds(const json_t *machines)
{
    const json_t *m = json_array_get(machines, 0), *probes = json_object_get(m, "probes");
    const char *unit = json_string_value(json_object_get(m, "unit"));
    double ns = num(json_object_get(json_array_get(probes, 0), "cost"), "median");
    bool one = json_array_size(machines) == 1 && json_array_size(probes) == 1;
    return one && unit && strcmp(unit, "ns") == 0 && isfinite(ns) ? json_real(ns * 1e-9)
                                                                  : json_null();
}

json_t *exits_document(const char *engine, const struct exits_config *cfg, json_t *machines)
{
    return json_pack("{ss ss sI so so}", "schema", EXITS_SCHEMA, "engine", engine, "batches",
                     (json_int_t)cfg->batches, "seconds", seconds(machines), "machines", machines);
}

static const json_t *probe_of(const json_t *machine, const char *name)
{
    size_t i;
    json_t *p;
    json_array_foreach(json_object_get(machine, "probes"), i, p)
    {
        const char *its = json_string_value(json_object_get(p, "name"));
        if (its && strcmp(its, name) == 0)
            return p;
    }
    return NULL;
}

bool exits_cost(const json_t *machine, const char *probe, struct interval *out)
{
    const json_t *cost = json_object_get(probe_of(machine, probe), "cost");
    *out = (struct interval){num(cost, "median"), num(cost, "lo"), num(cost, "hi"),
                             (size_t)json_integer_value(json_object_get(cost, "n"))};
    return isfinite(out->mid);
}

double exits_stat(const json_t *machine, const char *probe, const char *stat)
{
    const json_t *p = probe_of(machine, probe);
    return num(json_object_get(p, "kvm"), stat) / (num(p, "events") * num(p, "batches"));
}

static bool is_interval(const json_t *v)
{
    return json_is_null(v) ||
           (json_is_number(json_object_get(v, "median")) && json_object_get(v, "lo") &&
            json_object_get(v, "hi") && json_is_integer(json_object_get(v, "n")));
}

static const char *check_probe(const json_t *p)
{
    const char *name = json_string_value(json_object_get(p, "name"));
    if (!name || !exits_find(name))
        return "a probe that does not exist";
    if (!is_interval(json_object_get(p, "cost")))
        return "a probe without its cost";
    if (json_integer_value(json_object_get(p, "events")) <= 0 ||
        json_integer_value(json_object_get(p, "batches")) <= 0)
        return "a probe without events";
    if (!json_is_string(json_object_get(p, "status")) ||
        !json_is_string(json_object_get(p, "event")) ||
        !json_is_integer(json_object_get(p, "ring")) || !json_is_object(json_object_get(p, "kvm")))
        return "a probe that lacks a member";
    return NULL;
}

static const char *check_machine(const json_t *m)
{
    size_t i;
    json_t *p;
    if (!json_is_string(json_object_get(m, "backend")) ||
        !json_is_string(json_object_get(m, "paging")) ||
        !json_is_string(json_object_get(m, "name")) ||
        !json_is_string(json_object_get(m, "unit")) ||
        !json_is_boolean(json_object_get(m, "emulates_ring0")) ||
        !json_is_array(json_object_get(m, "probes")))
        return "a machine that lacks a member";
    json_array_foreach(json_object_get(m, "probes"), i, p)
    {
        const char *wrong = check_probe(p);
        if (wrong)
            return wrong;
    }
    return NULL;
}

const char *exits_check(const json_t *document)
{
    const char *schema = json_string_value(json_object_get(document, "schema"));
    size_t i;
    json_t *m;
    if (!schema || strcmp(schema, EXITS_SCHEMA) != 0)
        return "not of schema " EXITS_SCHEMA;
    if (json_array_size(json_object_get(document, "machines")) == 0)
        return "no machine";
    json_array_foreach(json_object_get(document, "machines"), i, m)
    {
        const char *wrong = check_machine(m);
        if (wrong)
            return wrong;
    }
    return NULL;
}
