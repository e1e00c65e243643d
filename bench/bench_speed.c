/* bench_speed.c: the same loads through the hand-written loops and through the model.
 *
 * Both touch every page once, then time the loads alone, and print counters. On preset plain they
 * must agree on every TLB miss and on every table entry read; on dmt-ref, where both begin with
 * empty caches and the hand-written loop walks the tables of a machine of the model, on every
 * walk-cache hit and on what served each read and access as well.
 */
#include "bench/bench_speed.h"

#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_util.h"
#include "shadow_vs_ept/mmu.h"
#include "vmm/engine.h"
#include "vmm/user.h"
#include "workloads/replay.h"

REGISTRY(engine);

static const char *const kind_names[] = {"native", "shadow", "ept"};

struct loop_args {
    struct loop_spec spec;
    const char *trace;
    bool json;
};

static const struct argp_option options[] = {
    {"kind", 'k', "native|shadow|ept", 0,
     "One-dimensional walk (4 reads) or nested (24); default native", 0},
    {"cpu", 'c', "plain|dmt-ref", 0,
     "Without or with walk caches and data caches; default plain. dmt-ref: --kind ept only", 0},
    {"bytes", 'b', "SIZE", 0, "Data, a power of two (default 64M)", 0},
    {"pattern", 'p', "random|seq", 0, "xorshift64 addresses, or 8-byte steps; default random", 0},
    {"accesses", 'n', "N", 0, "Loads (default 10000000)", 0},
    {"trace", 't', "FILE", 0, "The accesses of a trace instead (loop only)", 0},
    {"seed", 's', "N", 0, "Of the addresses (default 42)", 0},
    {"json", 'j', 0, 0, "Print JSON", 0},
    {0}};

static bool word(const char *arg, const char *off, const char *on, bool *out)
{
    *out = strcmp(arg, on) == 0;
    return *out || strcmp(arg, off) == 0;
}

static bool kind(const char *arg, enum loop_kind *out)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kind_names); i++)
        if (strcmp(arg, kind_names[i]) == 0) {
            *out = (enum loop_kind)i;
            return true;
        }
    return false;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct loop_args *a = state->input;
    bool fine = true;
    switch (key) {
    case 'k':
        fine = kind(arg, &a->spec.kind);
        break;
    case 'c':
        fine = word(arg, "plain", "dmt-ref", &a->spec.cached);
        break;
    case 't':
        a->trace = arg;
        break;
    case 'p':
        fine = word(arg, "random", "seq", &a->spec.sequential);
        break;
    case 'b':
        fine = parse_size(arg, &a->spec.bytes) && a->spec.bytes >= PAGE_SIZE &&
               a->spec.bytes <= 1ull << 40 && (a->spec.bytes & (a->spec.bytes - 1)) == 0;
        break;
    case 'n':
        fine = parse_u64(arg, &a->spec.accesses) && a->spec.accesses > 0;
        break;
    case 's':
        fine = parse_u64(arg, &a->spec.seed) && a->spec.seed > 0;
        break;
    case 'j':
        a->json = true;
        break;
    case ARGP_KEY_END:
        if (a->spec.cached && a->spec.kind != LOOP_EPT)
            argp_error(state, "--cpu dmt-ref: its hand-written loop is nested; add --kind ept");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    if (!fine)
        argp_error(state, "-%c: '%s' is not possible here", key, arg);
    return 0;
}

static struct loop_args parse_args(int argc, char **argv, const char *doc)
{
    struct loop_args a = {.spec = {.bytes = 64 << 20, .accesses = 10000000, .seed = 42}};
    struct argp argp = {options, parse, NULL, doc, NULL, NULL, NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    return a;
}

/* Counters of both loops, by the names of base/counters.def. */
static json_t *counters_json(const struct loop_spec *s, const struct loop_result *r)
{
    static const char *const served[] = {"l1_hits", "l2_hits", "l3_hits", "mem_reads"};
    json_t *j = json_pack("{sI sI sI sI sI}", "accesses", (json_int_t)s->accesses, "tlb_l1_misses",
                          (json_int_t)r->l1_misses, "tlb_l2_misses", (json_int_t)r->l2_misses,
                          "walks", (json_int_t)r->walks, "walk_refs", (json_int_t)r->refs);
    for (unsigned i = 0; s->cached && i < 8; i++) {
        char *name = strf("%s_%s", i < 4 ? "pt" : "data", served[i % 4]);
        json_object_set_new(j, name, json_integer((json_int_t)(i < 4 ? r->pt[i] : r->data[i - 4])));
        free(name);
    }
    if (s->cached) {
        json_object_set_new(j, "walk_reads", json_integer((json_int_t)r->reads));
        json_object_set_new(j, "pwc_hits", json_integer((json_int_t)r->pwc_hits));
    }
    return j;
}

static void print(const struct loop_args *a, const char *loop, const struct loop_result *r)
{
    double rate = (double)a->spec.accesses / r->seconds;
    const char *kind_name = kind_names[a->spec.kind],
               *pattern = a->trace             ? "trace"
                          : a->spec.sequential ? "seq"
                                               : "random",
               *cpu = a->spec.cached ? "dmt-ref" : "plain";
    if (!a->json) {
        printf("%s, %s, %s, %s: %.1f M accesses/s (%" PRIu64 " L1 and %" PRIu64
               " L2 misses, %" PRIu64 " entries read)\n",
               loop, kind_name, cpu, pattern, rate / 1e6, r->l1_misses, r->l2_misses, r->reads);
        return;
    }
    json_t *j =
        json_pack("{ss ss ss ss ss sI sf sf sf so}", "schema", "nestbed-loop/1", "loop", loop,
                  "kind", kind_name, "cpu", cpu, "pattern", pattern, "bytes",
                  (json_int_t)a->spec.bytes, "seconds", r->seconds, "cpu_seconds", r->cpu_seconds,
                  "accesses_per_second", rate, "counters", counters_json(&a->spec, r));
    json_dumpf(j, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15));
    putchar('\n');
    json_decref(j);
}

/* ---- loads through the model ---- */

struct loads {
    const struct loop_spec *spec;
    struct loop_result *r;
    bool reference;        /* the hand-written loop, over this machine's tables */
    struct replay *replay; /* a trace instead */
};

static void random_loads(struct user *u, const struct loop_spec *s, gva_t base)
{
    uint64_t x = s->seed;
    for (uint64_t i = 0; i < s->accesses; i++)
        ld(u, base + (xorshift64(&x) & (s->bytes - 1) & ~7ull));
}

static void sequential_loads(struct user *u, const struct loop_spec *s, gva_t base)
{
    uint64_t at = 0;
    for (uint64_t i = 0; i < s->accesses; i++) {
        ld(u, base + at);
        at = (at + 8) & (s->bytes - 1);
    }
}

static void touch(struct user *u, gva_t base, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += PAGE_SIZE)
        ld(u, base + at);
}

/* A machine whose data is all there, its caches as a touch of each page leaves them. */
static gva_t ready(struct user *u, const struct loads *l)
{
    u_phase(u, "setup");
    gva_t base = u_alloc(u, l->spec->bytes);
    touch(u, base, l->spec->bytes);
    if (l->spec->cached) { /* faults on the way have left traces in them */
        mmu_power_on(u->mmu);
        touch(u, base, l->spec->bytes);
    }
    u_phase(u, "work");
    return base;
}

static void loads_run(struct user *u, void *arg)
{
    struct loads *l = arg;
    gva_t base = l->replay ? 0 : ready(u, l);
    if (l->reference) {
        const struct loop_tables t = {u->mmu->pool, u->mmu->guest_root, u->mmu->root, base};
        refloop_cached_run(l->spec, &t, l->r);
        return;
    }
    double began = now_seconds(), cpu = thread_seconds();
    if (l->replay)
        replay_run(u, l->replay);
    else if (l->spec->sequential)
        sequential_loads(u, l->spec, base);
    else
        random_loads(u, l->spec, base);
    l->r->seconds = now_seconds() - began;
    l->r->cpu_seconds = thread_seconds() - cpu;
}

static void take_counters(const struct result *res, struct loop_result *r)
{
    const struct counters *c = &res->phases[res->nphases - 1].counters;
    r->l1_misses = c->tlb_l1_misses;
    r->l2_misses = c->tlb_l2_misses;
    r->walks = c->walks;
    r->refs = c->walk_refs;
    r->reads = c->walk_reads;
    r->pwc_hits = c->pwc_hits;
    for (unsigned i = 0; i < 4; i++) {
        r->pt[i] = c->v[CTR_pt_l1_hits + i];
        r->data[i] = c->v[CTR_data_l1_hits + i];
    }
}

static int run_machine(struct loads *l)
{
    const struct loop_spec *s = l->spec;
    const struct engine *model = REG_FIND(engine, "model");
    struct program prog = {.run = loads_run, .arg = l};
    char err[256] = "";
    int code = NB_OK;
    const struct cpu *cpu = cpu_load(s->cached ? "dmt-ref" : "plain", err, sizeof err, &code);
    if (!model || !cpu)
        die(model ? code : NB_SKIP, "bench loop: %s",
            model ? err : "this build has no model engine");
    if (l->reference && !refloop_cached_fits(cpu))
        die(NB_INTERNAL, "refloop_cached.c: its sizes are not those of preset dmt-ref");
    struct vm_config cfg = {.paging = kind_names[s->kind],
                            .cpu = cpu,
                            .levels = 4,
                            .host_levels = 4,
                            .mem = 2 * s->bytes + (64 << 20),
                            .host_mem = 3 * s->bytes + (128 << 20),
                            .seed = s->seed,
                            .flush_ceiling = 33};
    struct result *res = xcalloc(1, sizeof *res);
    code = model->run(&cfg, &prog, res);
    if (code == NB_OK && res->outcome != OUTCOME_OK)
        die(NB_FAIL, "bench loop: %s: %s", outcome_names[res->outcome], res->detail);
    if (code == NB_OK && !l->reference)
        take_counters(res, l->r);
    free(res);
    cpu_free(cpu);
    return code;
}

int speed_model(const struct loop_spec *s, struct loop_result *r)
{
    struct loads l = {.spec = s, .r = r};
    return run_machine(&l);
}

int speed_reference(const struct loop_spec *s, struct loop_result *r)
{
    struct loads l = {.spec = s, .r = r, .reference = true};
    if (s->cached)
        return run_machine(&l);
    refloop_run(s, r);
    return NB_OK;
}

/* The accesses of a trace; their number becomes that of the spec. */
static int speed_trace(struct loop_args *a, struct loop_result *r)
{
    char err[512] = "";
    struct loads l = {.spec = &a->spec, .r = r};
    char *path = trace_resolve(a->trace, err, sizeof err);
    int code = path ? replay_open(path, NULL, &l.replay, err, sizeof err) : NB_NOINPUT;
    free(path);
    if (code)
        die(code, "%s", err);
    a->spec.bytes = 1 << 30; /* of guest memory, half of it */
    code = run_machine(&l);
    if (replay_error(l.replay))
        die(replay_error_code(l.replay), "%s", replay_error(l.replay));
    a->spec.accesses = replay_stats(l.replay)->accesses + replay_stats(l.replay)->crossings;
    replay_close(l.replay);
    return code;
}

/* ---- commands ---- */

int cmd_bench_refloop(int argc, char **argv)
{
    struct loop_args a = parse_args(
        argc, argv,
        "Time a hand-written loop over the TLB geometry of preset plain, or over all that "
        "preset dmt-ref has.\v"
        "Example: nestbed bench refloop --kind ept --bytes 1G --json");
    struct loop_result r = {0};
    if (a.trace)
        die(NB_USAGE, "bench refloop: no hand-written loop reads traces; use bench loop --trace");
    int code = speed_reference(&a.spec, &r);
    if (code == NB_OK)
        print(&a, "reference", &r);
    return code;
}

int cmd_bench_loop(int argc, char **argv)
{
    struct loop_args a =
        parse_args(argc, argv,
                   "Time the same loads, or the accesses of a trace, through the model.\v"
                   "Example: nestbed bench loop --kind ept --cpu dmt-ref --bytes 1G --json\n"
                   "         nestbed bench loop --kind ept --trace sqlite");
    struct loop_result r = {0};
    int code = a.trace ? speed_trace(&a, &r) : speed_model(&a.spec, &r);
    if (code == NB_OK)
        print(&a, "model", &r);
    return code;
}
