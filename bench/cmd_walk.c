/* cmd_walk.c: `nestbed walk`: one translation, reference by reference; or as a question.
 *
 * -s SEED poses a random problem: the words of memory that a student needs, and some that mislead;
 * -c adds the answer. The same seed is the same problem on every machine.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pte.h"
#include "base/rng.h"
#include "bench/command.h"
#include "bench/options.h"
#include "bench/record.h"
#include "shadow_vs_ept/paging.h"
#include "vmm/explain.h"
#include "shadow_vs_ept/shadow_pt.h"

#define DEFAULT_GVA 0x7f1234567890ull
#define WALK_SCHEMA "nestbed-walk/1"

enum { MAX_WORDS = 2 * WALK_MAX_STEPS };

/* One 8-byte word of the memory dump of a problem. */
struct word {
    uint64_t address; /* host-physical, or physical without a VMM */
    uint64_t value;
};

struct walk_options {
    struct options common;
    gva_t gva;
    bool ask, compute;
    uint64_t problem; /* seed of the problem; valid when ask */
};

/* ---- command line ---- */
static const struct argp_option options[] = {
    {"gva", 'g', "ADDRESS", 0, "Guest-virtual address to translate (default 0x7f1234567890)", 0},
    {"ask", 's', "SEED", 0, "Pose a random problem instead; options given fix that part of it", 0},
    {"compute", 'c', 0, 0, "With -s: answer it too", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct walk_options *w = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        for (unsigned i = 0; i < 3; i++)
            state->child_inputs[i] = &w->common;
        return 0;
    case 'g':
        if (!parse_u64(arg, &w->gva))
            die(NB_USAGE, "--gva %s: not an address: write 0x and hexadecimal digits", arg);
        return 0;
    case 's':
        if (!parse_u64(arg, &w->problem))
            die(NB_USAGE, "-s %s: a seed is a number from 0 to 2^64-1", arg);
        w->ask = true;
        return 0;
    case 'c':
        w->compute = true;
        return 0;
    case ARGP_KEY_ARG:
        die_argument(state, arg);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&opt_machine, 0, "The machine:", 1},
                                             {&opt_sets, 0, NULL, 1},
                                             {&opt_json, 0, "Output:", 2},
                                             {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .children = children,
    .doc = "Show one page walk, reference by reference; or ask for it (-s).\v"
           "Labels: G3 is the guest's level-3 entry; G3H2 the host's level-2 entry read while "
           "finding G3; "
           "UDH2 the same for the page of user data; S1 a shadow entry.\n\n"
           "Example: nestbed walk --paging ept --guest-page 2m --gva 0x40000000\n"
           "Example: nestbed walk --paging dseg-guest        (one dimension by registers)\n"
           "Example: nestbed walk --paging ecpt --set ecpt.ways=4        (three steps, 168 reads)\n"
           "Example: nestbed walk -s 7        (then: nestbed walk -s 7 -c)"};

/* ---- words for a step ---- */
static const char *const dim_names[] = {"guest", "nested", "shadow"};

static char *label(const struct walk_step *s, char *buf, size_t n)
{
    if (s->dim == DIM_NESTED && s->guest_level)
        snprintf(buf, n, "G%uH%u", s->guest_level, s->level);
    else if (s->dim == DIM_NESTED)
        snprintf(buf, n, "UDH%u", s->level);
    else
        snprintf(buf, n, "%c%u", s->dim == DIM_GUEST ? 'G' : 'S', s->level);
    return buf;
}

/* The flag bits of an entry by name: "P W U A D". */
static char *bits(uint64_t e, unsigned level, char *buf, size_t n)
{
    static const struct {
        uint64_t bit;
        const char *name;
    } names[] = {{PTE_P, "P"}, {PTE_W, "W"}, {PTE_U, "U"},  {PTE_A, "A"},
                 {PTE_D, "D"}, {PTE_G, "G"}, {PTE_NX, "NX"}};
    size_t len = 0;
    buf[0] = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (e & names[i].bit)
            len += (size_t)snprintf(buf + len, n - len, "%s%s", len ? " " : "", names[i].name);
    if (level > 1 && (e & PTE_PS))
        snprintf(buf + len, n - len, "%sPS", len ? " " : "");
    return buf;
}

static const char *size_name(unsigned shift)
{
    return shift == SHIFT_1G ? "1 GiB" : shift == SHIFT_2M ? "2 MiB" : "4 KiB";
}

/* Without a VMM there is one physical address space: what the tables hold is where things are. */
static bool is_native(const struct vm_config *vm) { return REG_FIND(paging, vm->paging)->bare; }

static const char *space_of(const struct vm_config *vm) { return is_native(vm) ? "pa" : "hpa"; }

static uint64_t address(const struct walk_step *s, const struct vm_config *vm)
{
    return is_native(vm) ? s->gpa : s->hpa;
}

/* Where the entry leads: a table or a page, in guest or host memory. */
static char *meaning(const struct walk_step *s, const struct vm_config *vm, char *buf, size_t n)
{
    const char *space = s->dim == DIM_GUEST && !is_native(vm) ? "gpa" : space_of(vm);
    if (pte_is_leaf(s->value, s->level))
        snprintf(buf, n, "%s page at %s 0x%" PRIx64, size_name(level_shift(s->level)), space,
                 pte_leaf_addr(s->value, s->level));
    else
        snprintf(buf, n, "%stable at %s 0x%" PRIx64,
                 s->dim == DIM_SHADOW && (s->value & SPTE_SWITCH) ? "guest's " : "", space,
                 (uint64_t)(s->value & PTE_ADDR));
    return buf;
}

/* ---- the answer ---- */
static void print_steps(const struct walk_report *r, const struct vm_config *vm)
{
    const bool parallel = r->probes > 0;
    struct table *t = parallel ? table_new(10, "rllrrllllr") : table_new(9, "rllrrllll");
    static const char *const head[] = {"#", "entry", "table", "level", "index"};
    char buf[96];
    for (unsigned i = 0; i < ARRAY_SIZE(head); i++)
        table_cell(t, "%s", head[i]);
    table_cell(t, "at %s", space_of(vm));
    table_cell(t, "value");
    table_cell(t, "bits");
    table_cell(t, "meaning");
    if (parallel)
        table_cell(t, "places read");
    for (unsigned i = 0; i < r->nsteps; i++) {
        const struct walk_step *s = &r->steps[i];
        table_cell(t, "%u", i + 1);
        table_cell(t, "%s", label(s, buf, sizeof buf));
        table_cell(t, "%s", dim_names[s->dim]);
        table_cell(t, "%u", s->level);
        table_cell(t, "%" PRIu64, s->index);
        table_cell(t, "0x%" PRIx64, address(s, vm));
        table_cell(t, "0x%" PRIx64, s->value);
        table_cell(t, "%s", bits(s->value, s->level, buf, sizeof buf));
        table_cell(t, "%s", meaning(s, vm, buf, sizeof buf));
        if (parallel)
            table_cell(t, "%u", s->probes);
    }
    table_print(t);
    table_free(t);
}

static void print_answer(const struct walk_report *r, const struct vm_config *vm)
{
    if (r->nsteps)
        print_steps(r, vm);
    if (r->seg_guest || r->seg_vmm)
        printf("by direct segments: %u from gva to gpa, %u from gpa to hpa\n", r->seg_guest,
               r->seg_vmm);
    printf("\ngva 0x%" PRIx64 " -> %s 0x%" PRIx64, r->gva, is_native(vm) ? "pa" : "gpa", r->gpa);
    if (!is_native(vm))
        printf(" -> hpa 0x%" PRIx64, r->hpa);
    putchar('\n');
    printf("%u reference%s, %u of them in the nested table (exact); one TLB entry covers %s\n",
           r->refs, r->refs == 1 ? "" : "s", r->refs_nested, size_name(r->shift));
    if (r->probes)
        printf("each reference reads all places its entry may be at, at once: %u reads (exact); "
               "shown are those that found it\n",
               r->probes);
}

static json_t *step_json(const struct walk_step *s, unsigned n)
{
    char name[16], flags[32];
    bool nested = s->dim == DIM_NESTED;
    return json_pack(
        "{si ss ss si so* sI so* so so ss so*}", "n", (int)n, "label", label(s, name, sizeof name),
        "table", dim_names[s->dim], "level", (int)s->level, "guest_level",
        nested ? json_integer(s->guest_level) : NULL, "index", (json_int_t)s->index, "gpa",
        s->dim == DIM_SHADOW ? NULL : json_hex(s->gpa), "hpa", json_hex(s->hpa), "value",
        json_hex(s->value), "bits", bits(s->value, s->level, flags, sizeof flags), "probes",
        s->probes ? json_integer(s->probes) : NULL);
}

static json_t *config_json(const struct vm_config *vm, const struct walk_report *r)
{
    return json_pack("{ss ss s{ss ss} s{si si} so so}", "schema", WALK_SCHEMA, "paging", vm->paging,
                     "pages", "guest", page_mode_name(vm->guest_page), "host",
                     page_mode_name(vm->host_page), "levels", "guest", (int)vm->levels, "host",
                     (int)vm->host_levels, "gva", json_hex(r->gva), "cr3", json_hex(r->cr3));
}

static json_t *answer_json(const struct walk_report *r)
{
    json_t *steps = json_array();
    for (unsigned i = 0; i < r->nsteps; i++)
        json_array_append_new(steps, step_json(&r->steps[i], i + 1));
    return json_pack("{so so si si so si si sI so}", "gpa", json_hex(r->gpa), "hpa",
                     json_hex(r->hpa), "refs", (int)r->refs, "refs_nested", (int)r->refs_nested,
                     "probes", r->probes ? json_integer(r->probes) : json_null(), "seg_guest",
                     (int)r->seg_guest, "seg_vmm", (int)r->seg_vmm, "page_bytes",
                     (json_int_t)1 << r->shift, "steps", steps);
}

static void print_json(json_t *j)
{
    if (!j)
        die(NB_INTERNAL, "cannot build the JSON text of the walk");
    record_print_json(j);
    json_decref(j);
}

/* ---- the question ---- */
/* Choose what the command line left open. */
static void draw(struct walk_options *w, struct rng *rng)
{
    static const char *const paging[] = {"native", "shadow", "ept"};
    struct vm_config *vm = &w->common.vm;
    unsigned given = w->common.given;
    uint64_t pick[5], span;
    for (unsigned i = 0; i < ARRAY_SIZE(pick);
         i++) /* always five draws: an option given changes no other part */
        pick[i] = rng_below(rng, i == 0 ? 4 : 6);
    if (!(given & GIVEN_PAGING))
        vm->paging = paging[pick[0] > 2 ? 2 : pick[0]];
    const struct paging *p = REG_FIND(paging, vm->paging);
    if (!p)
        return; /* options_machine() will say so */
    if (!(given & GIVEN_GUEST_PAGE))
        vm->guest_page = pick[1] < 3 ? PAGES_4K : pick[1] < 5 ? PAGES_2M : PAGES_1G;
    if (!(given & GIVEN_HOST_PAGE) && !p->bare)
        vm->host_page = pick[2] < 3 ? PAGES_4K : pick[2] < 5 ? PAGES_2M : PAGES_1G;
    if (!(given & GIVEN_LEVELS) && !p->no_levels)
        vm->levels = pick[3] < 5 ? 4 : 5;
    if (!(given & GIVEN_HOST_LEVELS) && paging_has_host_levels(p))
        vm->host_levels = pick[4] < 5 ? 4 : 5;
    span = GK_USER_TOP(vm->levels) - (2ull << SHIFT_1G);
    if (w->gva == DEFAULT_GVA)
        w->gva = (1ull << SHIFT_1G) + rng_below(rng, span);
}

static bool have(const struct word *words, unsigned n, uint64_t address)
{
    for (unsigned i = 0; i < n; i++)
        if (words[i].address == address)
            return true;
    return false;
}

/* The entries of the walk and, for half of them, a neighbour that a wrong index would read;
 * shuffled. */
static unsigned dump_memory(const struct walk_report *r, const struct vm_config *vm,
                            struct rng *rng, struct word *words)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->nsteps; i++)
        if (!have(words, n, address(&r->steps[i], vm)))
            words[n++] = (struct word){address(&r->steps[i], vm), r->steps[i].value};
    for (unsigned i = 0, real = n; i < real; i++) {
        uint64_t near = words[i].address ^ (8 << rng_below(rng, 9));
        uint64_t other = words[i].value ^ (rng_below(rng, 1023) + 1) << 21;
        if (rng_below(rng, 2) && !have(words, n, near))
            words[n++] = (struct word){near, other};
    }
    for (unsigned i = n; i > 1; i--) {
        unsigned k = (unsigned)rng_below(rng, i);
        struct word swap = words[i - 1];
        words[i - 1] = words[k];
        words[k] = swap;
    }
    return n;
}

/* Root of the table of that dimension, or 0 when the walk does not begin there. */
static hpa_t root_of(const struct walk_report *r, const struct vm_config *vm, enum walk_dim dim)
{
    unsigned top = dim == DIM_NESTED ? vm->host_levels : vm->levels;
    const struct paging *how = REG_FIND(paging, vm->paging);
    bool flat = dim == DIM_NESTED && how->no_host_levels && !how->no_levels;
    for (unsigned i = 0; i < r->nsteps; i++)
        if (r->steps[i].dim == dim)
            return flat || r->steps[i].level == top ? r->steps[i].hpa - 8 * r->steps[i].index : 0;
    return 0;
}

static void print_arguments(const struct walk_options *w, const struct walk_report *r)
{
    const struct vm_config *vm = &w->common.vm;
    const struct paging *p = REG_FIND(paging, vm->paging);
    if (w->ask)
        printf("ARG seed %" PRIu64 "\n", w->problem);
    printf("ARG paging %s\nARG guest-page %s\n", vm->paging, page_mode_name(vm->guest_page));
    if (!p->bare)
        printf("ARG host-page %s\n", page_mode_name(vm->host_page));
    if (!p->no_levels)
        printf("ARG levels %u\n", vm->levels);
    if (paging_has_host_levels(p))
        printf("ARG host-levels %u\n", vm->host_levels);
    printf("ARG gva 0x%" PRIx64 "\n", r->gva);
    if (root_of(r, vm, DIM_GUEST))
        printf("ARG cr3 0x%" PRIx64 " (%s)\n", (uint64_t)(r->cr3 & PTE_ADDR),
               is_native(vm) ? "pa" : "gpa");
    if (root_of(r, vm, DIM_NESTED))
        printf("ARG nested-root 0x%" PRIx64 " (hpa)\n", root_of(r, vm, DIM_NESTED));
    if (root_of(r, vm, DIM_SHADOW))
        printf("ARG shadow-root 0x%" PRIx64 " (hpa)\n", root_of(r, vm, DIM_SHADOW));
    putchar('\n');
}

static void print_question(const struct word *words, unsigned n, bool native)
{
    printf("Memory (%sphysical address: 8-byte word). Not every word is needed; none that is "
           "needed is missing.\n\n",
           native ? "" : "host-");
    for (unsigned i = 0; i < n; i++)
        printf("  0x%012" PRIx64 ": 0x%016" PRIx64 "%s", words[i].address, words[i].value,
               i % 2 || i + 1 == n ? "\n" : "");
    printf("\nThe TLB and all walk caches are empty, and the program loads from gva.\n"
           "  1. Which entries does the hardware read, and in what order?\n"
           "  2. Which %sphysical address does gva translate to?\n"
           "  3. How many references is that, and how many of them are in a nested table?\n"
           "  4. How much memory will one TLB entry cover?\n\n",
           native ? "" : "host-");
}

static json_t *words_json(const struct word *words, unsigned n)
{
    json_t *a = json_array();
    for (unsigned i = 0; i < n; i++)
        json_array_append_new(a, json_pack("{so so}", "address", json_hex(words[i].address),
                                           "value", json_hex(words[i].value)));
    return a;
}

static void set_root(json_t *j, const char *key, hpa_t root)
{
    json_object_set_new(j, key, root ? json_hex(root) : json_null());
}

static json_t *problem_json(const struct walk_options *w, const struct walk_report *r,
                            const struct word *words, unsigned n)
{
    json_t *j = config_json(&w->common.vm, r);
    json_object_set_new(j, "seed", json_hex(w->problem));
    set_root(j, "nested_root", root_of(r, &w->common.vm, DIM_NESTED));
    set_root(j, "shadow_root", root_of(r, &w->common.vm, DIM_SHADOW));
    json_object_set_new(j, "memory", words_json(words, n));
    json_object_set_new(j, "answer", w->compute ? answer_json(r) : json_null());
    return j;
}

static void ask(const struct walk_options *w, const struct walk_report *r, struct rng *rng)
{
    struct word words[MAX_WORDS];
    unsigned n = dump_memory(r, &w->common.vm, rng, words);
    if (w->common.format == OUT_JSON) {
        print_json(problem_json(w, r, words, n));
        return;
    }
    print_arguments(w, r);
    print_question(words, n, is_native(&w->common.vm));
    if (w->compute)
        print_answer(r, &w->common.vm);
    else
        puts("Answers: the same command with -c.");
}

static void show(const struct walk_options *w, const struct walk_report *r)
{
    if (w->common.format == OUT_JSON) {
        json_t *j = config_json(&w->common.vm, r), *answer = answer_json(r);
        json_object_update(j, answer);
        json_decref(answer);
        print_json(j);
        return;
    }
    print_arguments(w, r);
    print_answer(r, &w->common.vm);
}

static int cmd_walk(int argc, char **argv)
{
    static struct walk_options w;
    static struct walk_report r;
    struct rng rng;
    char err[512] = "";
    int code;
    w.gva = DEFAULT_GVA;
    options_init(&w.common);
    w.common.vm.mem = 4ull << 30; /* room for a 1 GiB page; untouched memory costs nothing */
    argp_parse(&argp, argc, argv, 0, NULL, &w);
    options_output(&w.common);
    if (w.compute && !w.ask)
        die(NB_USAGE, "-c answers a problem: give it one with -s SEED");
    rng_seed(&rng, w.problem);
    if (w.ask)
        draw(&w, &rng);
    options_machine(&w.common);
    options_machine_sets(&w.common);
    if (w.common.vm.vcpus > 1)
        die(NB_USAGE, "--vcpus %u: one walk is made by one vCPU; leave the option out",
            w.common.vm.vcpus);
    code = model_explain(&w.common.vm, w.gva, &r, err, sizeof err);
    cpu_free(w.common.vm.cpu);
    if (code != NB_OK)
        die(code, "%s", err);
    if (w.ask && (r.seg_guest || r.seg_vmm))
        die(NB_USAGE, "-s: a direct segment has no table to read; choose another --paging");
    if (w.ask)
        ask(&w, &r, &rng);
    else
        show(&w, &r);
    return NB_OK;
}

REGISTER(command, walk, .summary = "Show one page walk, reference by reference, or ask for it",
         .run = cmd_walk);
