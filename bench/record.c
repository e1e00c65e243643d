/* record.c: builds the record of a run. Printing is in record_print.c. */
#include "bench/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "bench/version.h"
#include "shadow_vs_ept/paging.h"
#include "vmm/kvm.h"

/* jansson returns NULL only for lack of memory or bad UTF-8; either would leave a hole in the
 * record. */
static json_t *must(json_t *j)
{
    if (!j)
        die(NB_INTERNAL,
            "cannot build the JSON record: out of memory, or a name that is not UTF-8");
    return j;
}

static void set(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, must(value)) != 0)
        must(NULL);
}

static json_t *text(const char *s)
{
    json_t *j = json_string(s);
    return j ? j : json_string("(not UTF-8)");
}

json_t *json_count(uint64_t v)
{
    char buf[24];
    if (v <= INT64_MAX)
        return must(json_integer((json_int_t)v));
    snprintf(buf, sizeof buf, "%" PRIu64, v);
    return must(json_string(buf));
}

json_t *json_hex(uint64_t v) { return must(json_sprintf("0x%" PRIx64, v)); }

const enum counter_id record_per_vcpu[RECORD_PER_VCPU] = {
    CTR_accesses,   CTR_tlb_l1_misses, CTR_tlb_l2_misses, CTR_tlb_flushes,
    CTR_walks,      CTR_guest_faults,  CTR_guest_invlpgs, CTR_guest_cr3_loads,
    CTR_guest_ipis, CTR_exits,         CTR_exit_intr};

static json_t *counters_json(const struct counters *c)
{
    json_t *o = must(json_object());
    for (unsigned i = 0; i < CTR_COUNT; i++)
        set(o, counter_descs[i].name, c->unseen[i] ? json_null() : json_count(c->v[i]));
    return o;
}

/* cpu NULL: nothing is modelled. */
static json_t *cycles_json(const struct cpu *cpu, const struct counters *c)
{
    struct cycles y = {0};
    if (!cpu)
        return json_null();
    json_t *o = must(json_object());
    cycles_model(cpu, c, &y);
    const struct {
        const char *name;
        double v;
    } part[] = {{"access", y.access},
                {"stlb", y.stlb},
                {"walk", y.walk},
                {"exit", y.exit},
                {"vmm", y.vmm},
                {"ipi", y.ipi},
                {"guest_fault", y.guest_fault},
                {"host", y.host}};
    double total = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(part); i++) {
        set(o, part[i].name, json_real(part[i].v));
        total += part[i].v;
    }
    set(o, "total", json_real(total));
    return o;
}

/* a / b of two counters, null when either is unseen or b is 0. */
static json_t *ratio(const struct counters *c, enum counter_id a, enum counter_id b, double scale)
{
    if (c->unseen[a] || c->unseen[b] || c->v[b] == 0)
        return json_null();
    return json_real(scale * (double)c->v[a] / (double)c->v[b]);
}

static json_t *derived_json(const struct counters *c, const json_t *cycles)
{
    if (json_is_null(cycles))
        return json_null();
    json_t *o = must(json_object());
    double total = json_number_value(json_object_get(cycles, "total"));
    set(o, "refs_per_walk", ratio(c, CTR_walk_refs, CTR_walks, 1));
    set(o, "reads_per_walk", ratio(c, CTR_walk_reads, CTR_walks, 1));
    set(o, "tlb_l1_miss_rate", ratio(c, CTR_tlb_l1_misses, CTR_accesses, 1));
    set(o, "tlb_l2_miss_rate", ratio(c, CTR_tlb_l2_misses, CTR_accesses, 1));
    set(o, "exits_per_1000_accesses", ratio(c, CTR_exits, CTR_accesses, 1000));
    set(o, "cycles_per_access",
        c->unseen[CTR_accesses] || !c->accesses ? json_null()
                                                : json_real(total / (double)c->accesses));
    return o;
}

static json_t *histogram_json(const uint64_t *v, unsigned n)
{
    json_t *a = must(json_array());
    for (unsigned i = 0; i < n; i++)
        if (json_array_append_new(a, json_count(v[i])) != 0)
            must(NULL);
    return a;
}

/* Statistics of the hypervisor by name; null without one. */
static json_t *kvm_json(const struct result *r, const uint64_t *values)
{
    if (!r->nkvm)
        return json_null();
    json_t *o = must(json_object());
    for (unsigned i = 0; i < r->nkvm; i++) {
        const struct kvm_stat_name *s = &r->kvm_name[i];
        set(o, s->name,
            s->unseen     ? json_null()
            : s->size > 1 ? histogram_json(values + s->first, s->size)
                          : json_count(values[s->first]));
    }
    return o;
}

/* What only a hypervisor's phase has: its statistics and how long it took. */
static void set_real_phase(json_t *p, const struct result *r, const struct phase_result *ph)
{
    set(p, "kvm", kvm_json(r, ph->kvm));
    set(p, "ns", ph->timed && !r->virtual_time ? json_count(ph->ns) : json_null());
    set(p, "instructions", ph->timed && r->virtual_time ? json_count(ph->ns) : json_null());
}

static json_t *phases_json(const struct cpu *cpu, bool real, const struct result *r)
{
    json_t *a = must(json_array());
    for (unsigned i = 0; i < r->nphases; i++) {
        json_t *p = must(json_object());
        const struct counters *c = &r->phases[i].counters;
        set(p, "name", text(r->phases[i].name));
        set(p, "counters", counters_json(c));
        set(p, "cycles", cycles_json(cpu, c));
        set(p, "derived", derived_json(c, json_object_get(p, "cycles")));
        if (real)
            set_real_phase(p, r, &r->phases[i]);
        if (json_array_append_new(a, p) != 0)
            must(NULL);
    }
    return a;
}

/* By vCPU, what is private to it; null with one. */
static json_t *vcpus_json(const struct result *r)
{
    if (!r->nvcpus)
        return json_null();
    json_t *a = must(json_array());
    for (unsigned i = 0; i < r->nvcpus; i++) {
        json_t *o = must(json_object());
        for (unsigned k = 0; k < RECORD_PER_VCPU; k++)
            set(o, counter_descs[record_per_vcpu[k]].name,
                r->vcpu[i].unseen[record_per_vcpu[k]]
                    ? json_null()
                    : json_count(r->vcpu[i].v[record_per_vcpu[k]]));
        if (json_array_append_new(a, o) != 0)
            must(NULL);
    }
    return a;
}

static json_t *workload_json(const struct options *o, json_t *trace)
{
    json_t *w = must(json_object()), *p = must(json_object());
    const struct param *d = o->workload ? o->workload->params : NULL;
    set(w, "name", text(o->workload ? o->workload->name : "trace"));
    for (unsigned i = 0; d && d[i].name; i++)
        set(p, d[i].name, json_count(o->params[i]));
    set(w, "params", p);
    if (trace)
        set(w, "trace", trace);
    set(w, "seed", json_hex(o->vm.seed));
    return w;
}

static json_t *paging_params_json(const struct options *o)
{
    const struct paging *s = o->vm.paging ? REG_FIND(paging, o->vm.paging) : NULL;
    json_t *p = must(json_object());
    for (unsigned i = 0; s && i < param_count(s->params); i++)
        set(p, s->params[i].name, json_count(o->paging_params[i]));
    return p;
}

/* {"guest":a, "host":b} */
static json_t *pair(json_t *guest, json_t *host)
{
    json_t *o = must(json_object());
    set(o, "guest", guest);
    set(o, "host", host);
    return o;
}

/* First line of /proc/cpuinfo that starts with "model name". */
static json_t *host_cpu(void)
{
    char line[256];
    json_t *j = NULL;
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && !j && fgets(line, sizeof line, f))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            line[strcspn(line, "\n")] = 0;
            j = json_string(strchr(line, ':') + 2);
        }
    if (f)
        fclose(f);
    return j ? j : json_null();
}

static json_t *host_kernel(void)
{
    struct utsname u;
    return uname(&u) == 0 ? json_sprintf("%s %s %s", u.sysname, u.release, u.machine) : json_null();
}

json_t *record_env(void)
{
    json_t *o = must(json_object());
    set(o, "nestbed", text(nb_version));
    set(o, "git", text(nb_git));
    set(o, "compiler", text(nb_compiler));
    set(o, "kernel", host_kernel());
    set(o, "cpu", host_cpu());
    return o;
}

static json_t *tags_json(bool real, bool virtual_time)
{
    if (!real)
        return must(json_pack("{ss ss ss ss}", "counters", "exact", "cycles", "modelled",
                              "metadata_bytes", "measured", "wall_seconds", "measured"));
    return must(json_pack("{ss ss ss ss ss ss}", "counters", "counted", "kvm", "counted",
                          "user_exits", "counted", virtual_time ? "instructions" : "ns", "measured",
                          "metadata_bytes", "measured", "wall_seconds", "measured"));
}

static json_t *outcome_json(const struct result *r)
{
    json_t *o = must(json_object());
    set(o, "status", text(outcome_names[r->outcome]));
    set(o, "detail", r->detail[0] ? text(r->detail) : json_null());
    return o;
}

static json_t *metadata_json(const struct result *r)
{
    json_t *o = must(json_object());
    for (unsigned i = 0; i < META_COUNT; i++)
        set(o, meta_names[i], json_count(r->meta[i]));
    return o;
}

/* Which hypervisor it was, and how often it came back to us. */
static void set_real(json_t *j, const struct options *o, const struct result *r)
{
    json_t *exits = must(json_object());
    for (unsigned i = 0; i < ARRAY_SIZE(r->user_exits); i++) {
        const char *name = kvm_exit_name(i);
        uint64_t before = (uint64_t)json_integer_value(json_object_get(exits, name));
        if (r->user_exits[i])
            set(exits, name, json_count(before + r->user_exits[i]));
    }
    set(j, "backend", r->backend[0] ? text(r->backend) : json_null());
    set(j, "kvm_kernel", r->kernel[0] ? text(r->kernel) : host_kernel());
    set(j, "emulates_ring0", json_boolean(r->emulates_ring0));
    set(j, "virtual_time", json_boolean(r->virtual_time));
    set(j, "backing", text(backing_kind_name(o->vm.backing)));
    set(j, "user_exits", exits);
    set(j, "kvm", kvm_json(r, r->kvm));
}

/* What was asked for. */
static void set_config(json_t *j, const struct options *o, const struct result *r, json_t *trace)
{
    const struct vm_config *vm = &o->vm;
    bool real = o->engine->real;
    char numa[64];
    set(j, "schema", text(RECORD_SCHEMA));
    set(j, "engine", text(o->engine->name));
    set(j, "paging", r->paging[0] ? text(r->paging) : vm->paging ? text(vm->paging) : json_null());
    set(j, "paging_params", paging_params_json(o));
    set(j, "workload", workload_json(o, trace));
    set(j, "cpu",
        real ? json_null()
             : must(json_pack("{ss ss}", "name", vm->cpu->name, "source", vm->cpu->source)));
    set(j, "pages",
        pair(text(page_mode_name(vm->guest_page)), text(page_mode_name(vm->host_page))));
    set(j, "levels",
        pair(json_integer(vm->levels), real ? json_null() : json_integer(vm->host_levels)));
    set(j, "mem", pair(json_count(vm->mem), real ? json_null() : json_count(vm->host_mem)));
    set(j, "vcpus", json_integer(vm->vcpus));
    set(j, "numa", text(numa_policy_name(&vm->numa, numa, sizeof numa)));
    set(j, "flush_ceiling", json_integer(vm->flush_ceiling));
    set(j, "segment_bytes", real ? json_null() : json_count(vm_segment_bytes(vm)));
}

/* The names of Linux, lower case. */
static const char *const stat_names[VIRTIO_BALLOON_S_NR] = {
    "swap_in",        "swap_out",         "major_faults",   "minor_faults",
    "free_memory",    "total_memory",     "available",      "caches",
    "hugetlb_allocs", "hugetlb_failures", "oom_kills",      "alloc_stalls",
    "async_scans",    "direct_scans",     "async_reclaims", "direct_reclaims"};

static json_t *balloon_json(const struct result *r)
{
    if (!r->has_balloon)
        return json_null();
    json_t *j = must(json_object()), *count = must(json_object()), *guest = must(json_object());
#define X(name, unit, what) set(count, #name, json_count(r->balloon.name));
    BALLOON_COUNTERS(X)
#undef X
    for (unsigned i = 0; i < VIRTIO_BALLOON_S_NR; i++)
        set(guest, stat_names[i],
            r->balloon_stats_valid >> i & 1 ? json_count(r->balloon_stats[i]) : json_null());
    set(j, "pages", json_count(r->balloon_pages));
    set(j, "actual", json_count(r->balloon_actual));
    set(j, "trail", json_sprintf("%016" PRIx64, r->balloon_trail));
    set(j, "device", count);
    set(j, "guest", guest);
    return j;
}

json_t *record_new(const struct options *o, const struct result *r, json_t *trace)
{
    json_t *j = must(json_object());
    bool real = o->engine->real;
    const struct cpu *cpu = real ? NULL : o->vm.cpu;
    set_config(j, o, r, trace);
    set(j, "outcome", outcome_json(r));
    set(j, "counters", counters_json(&r->total));
    set(j, "phases", phases_json(cpu, real, r));
    set(j, "per_vcpu", vcpus_json(r));
    if (real)
        set_real(j, o, r);
    set(j, "cycles", cycles_json(cpu, &r->total));
    set(j, "derived", derived_json(&r->total, json_object_get(j, "cycles")));
    set(j, "memory_hash", r->has_hash ? json_sprintf("%016" PRIx64, r->memory_hash) : json_null());
    set(j, "balloon", balloon_json(r));
    set(j, "metadata_bytes", metadata_json(r));
    set(j, "wall_seconds", json_real(r->wall_seconds));
    set(j, "tags", tags_json(real, r->virtual_time));
    set(j, "env", record_env());
    return j;
}
