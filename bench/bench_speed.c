/* bench_speed.c: the same loads through the hand-written loop and through the model.
 *
 * Both touch every page once, then time the loads alone, and print counters: on the `plain` preset
 * they must agree on every TLB miss and on every table entry read.
 */
#include "bench/bench_speed.h"

#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_util.h"
#include "bench/refloop.h"
#include "vmm/engine.h"
#include "vmm/user.h"

REGISTRY(engine);

struct loop_args {
    struct loop_spec spec;
    bool json;
};

static const struct argp_option options[] = {
    {"kind", 'k', "native|ept", 0, "One-dimensional walk (4 reads) or nested (24); default native",
     0},
    {"bytes", 'b', "SIZE", 0, "Data, a power of two (default 64M)", 0},
    {"pattern", 'p', "random|seq", 0, "xorshift64 addresses, or 8-byte steps; default random", 0},
    {"accesses", 'n', "N", 0, "Loads (default 10000000)", 0},
    {"seed", 's', "N", 0, "Of the addresses (default 42)", 0},
    {"json", 'j', 0, 0, "Print JSON", 0},
    {0}};

static bool word(const char *arg, const char *off, const char *on, bool *out)
{
    *out = strcmp(arg, on) == 0;
    return *out || strcmp(arg, off) == 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct loop_args *a = state->input;
    bool fine = true;
    switch (key) {
    case 'k':
        fine = word(arg, "native", "ept", &a->spec.nested);
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

static void print(const struct loop_args *a, const char *loop, const struct loop_result *r)
{
    double rate = (double)a->spec.accesses / r->seconds;
    if (!a->json) {
        printf("%s, %s, %s: %.1f M accesses/s (%" PRIu64 " L1 and %" PRIu64 " L2 misses, %" PRIu64
               " entries read)\n",
               loop, a->spec.nested ? "ept" : "native",
               a->spec.sequential ? "sequential" : "random", rate / 1e6, r->l1_misses, r->l2_misses,
               r->refs);
        return;
    }
    json_t *j = json_pack(
        "{ss ss ss ss sI sf sf sf s{sI sI sI sI sI}}", "schema", "nestbed-loop/1", "loop", loop,
        "kind", a->spec.nested ? "ept" : "native", "pattern", a->spec.sequential ? "seq" : "random",
        "bytes", (json_int_t)a->spec.bytes, "seconds", r->seconds, "cpu_seconds", r->cpu_seconds,
        "accesses_per_second", rate, "counters", "accesses", (json_int_t)a->spec.accesses,
        "tlb_l1_misses", (json_int_t)r->l1_misses, "tlb_l2_misses", (json_int_t)r->l2_misses,
        "walks", (json_int_t)r->walks, "walk_refs", (json_int_t)r->refs);
    json_dumpf(j, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15));
    putchar('\n');
    json_decref(j);
}

int cmd_bench_refloop(int argc, char **argv)
{
    struct loop_args a =
        parse_args(argc, argv,
                   "Time a hand-written loop over the TLB geometry of preset plain.\v"
                   "Example: nestbed bench refloop --kind ept --bytes 1G --json");
    struct loop_result r;
    refloop_run(&a.spec, &r);
    print(&a, "reference", &r);
    return NB_OK;
}

/* ---- the model's side ---- */

struct loads {
    const struct loop_spec *spec;
    struct loop_result *r;
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

static void loads_run(struct user *u, void *arg)
{
    struct loads *l = arg;
    u_phase(u, "setup");
    gva_t base = u_alloc(u, l->spec->bytes);
    for (uint64_t at = 0; at < l->spec->bytes; at += PAGE_SIZE)
        ld(u, base + at);
    u_phase(u, "work");
    double began = now_seconds(), cpu = thread_seconds();
    if (l->spec->sequential)
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
}

int cmd_bench_loop(int argc, char **argv)
{
    struct loop_args a = parse_args(argc, argv,
                                    "Time the same loads through the model on preset plain.\v"
                                    "Example: nestbed bench loop --kind ept --bytes 1G --json");
    const struct engine *model = REG_FIND(engine, "model");
    struct loop_result r = {0};
    struct loads l = {&a.spec, &r};
    struct program prog = {.run = loads_run, .arg = &l};
    char err[256] = "";
    int code = NB_OK;
    const struct cpu *cpu = cpu_load("plain", err, sizeof err, &code);
    if (!model || !cpu)
        die(model ? code : NB_SKIP, "bench loop: %s",
            model ? err : "this build has no model engine");
    struct vm_config cfg = {.paging = a.spec.nested ? "ept" : "native",
                            .cpu = cpu,
                            .levels = 4,
                            .host_levels = 4,
                            .mem = 2 * a.spec.bytes + (64 << 20),
                            .host_mem = 3 * a.spec.bytes + (128 << 20),
                            .seed = a.spec.seed,
                            .flush_ceiling = 33};
    struct result *res = xcalloc(1, sizeof *res);
    code = model->run(&cfg, &prog, res);
    if (code == NB_OK && res->outcome != OUTCOME_OK)
        die(NB_FAIL, "bench loop: %s: %s", outcome_names[res->outcome], res->detail);
    if (code == NB_OK) {
        take_counters(res, &r);
        print(&a, "model", &r);
    }
    free(res);
    cpu_free(cpu);
    return code;
}
