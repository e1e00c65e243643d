/* options.c: the options that commands share. */
#include "bench/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bench/progress.h"
#include "workloads/params.h"

REGISTRY(engine);
REGISTRY(workload);

enum { MAX_NAMES = 128 };
enum {
    KEY_ENGINE = 0x100,
    KEY_WORKLOAD,
    KEY_SET,
    KEY_TRACE,
    KEY_BALLOON,
    KEY_PAGING,
    KEY_CPU,
    KEY_GUEST_PAGE,
    KEY_HOST_PAGE,
    KEY_LEVELS,
    KEY_HOST_LEVELS,
    KEY_MEM,
    KEY_HOST_MEM,
    KEY_VCPUS,
    KEY_SEED,
    KEY_NUMA,
    KEY_TIMEOUT,
    KEY_RELOAD,
    KEY_JSON,
    KEY_QUIET,
    KEY_PROGRESS,
    KEY_COLOR,
};

/* ---- names and values ---- */
static const char *const page_names[] = {"4k", "2m", "1g", "thp"};

bool page_mode_parse(const char *s, enum page_mode *out)
{
    for (unsigned i = 0; i < ARRAY_SIZE(page_names); i++)
        if (strcasecmp(s, page_names[i]) == 0) {
            *out = (enum page_mode)i;
            return true;
        }
    return false;
}

const char *page_mode_name(enum page_mode m) { return page_names[m]; }

uint64_t page_mode_bytes(enum page_mode m)
{
    static const unsigned shift[] = {SHIFT_4K, SHIFT_2M, SHIFT_1G, SHIFT_2M};
    return 1ull << shift[m];
}

void die_unknown(const char *kind, const char *wrong, const void *start, const void *stop)
{
    const struct reg_head *h[MAX_NAMES];
    const char *near = reg_nearest(start, stop, wrong);
    size_t n = reg_sorted(start, stop, h, MAX_NAMES), len = 0;
    char list[2048] = "none in this build";
    for (size_t i = 0; i < n && len < sizeof list; i++)
        len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", h[i]->name);
    if (near)
        die(NB_USAGE, "unknown %s '%s': did you mean '%s'? (choose from: %s)", kind, wrong, near,
            list);
    die(NB_USAGE, "unknown %s '%s': choose from: %s", kind, wrong, list);
}

void die_argument(const struct argp_state *state, const char *arg)
{
    die(NB_USAGE, "unexpected argument '%s': see %s --help", arg, state->name);
}

uint64_t option_number(const char *flag, const char *arg, uint64_t least, uint64_t most)
{
    uint64_t v;
    if (!parse_u64(arg, &v) || v < least || v > most)
        die(NB_USAGE, "%s %s: expected a number from %llu to %llu", flag, arg,
            (unsigned long long)least, (unsigned long long)most);
    return v;
}

void option_page(const char *flag, const char *arg, enum page_mode *out)
{
    if (!page_mode_parse(arg, out))
        die(NB_USAGE, "%s %s: choose 4k, 2m, 1g or thp", flag, arg);
}

void option_levels(const char *flag, const char *arg, unsigned *out)
{
    if (strcmp(arg, "4") != 0 && strcmp(arg, "5") != 0)
        die(NB_USAGE, "%s %s: page tables have 4 or 5 levels", flag, arg);
    *out = (unsigned)(arg[0] - '0');
}

static void size_option(const char *flag, const char *arg, uint64_t *out)
{
    if (!parse_size(arg, out))
        die(NB_USAGE,
            "%s %s: not a size below 2^64: write bytes or a number with K, M, G or T, as in 512M",
            flag, arg);
    if (*out == 0)
        die(NB_USAGE, "%s %s: a machine needs memory, as in %s 512M", flag, arg, flag);
}

static void vcpus_option(const char *arg, unsigned *out)
{
    uint64_t n;
    if (!parse_u64(arg, &n) || n < 1 || n > GK_MAX_CPUS)
        die(NB_USAGE, "--vcpus %s: a VM has 1 to %d vCPUs", arg, GK_MAX_CPUS);
    *out = (unsigned)n;
}

static void when_option(const char *flag, const char *arg, enum when *out)
{
    if (!when_parse(arg, out))
        die(NB_USAGE, "%s=%s: choose auto, always or never", flag, arg);
}

/* ---- argp groups ---- */
#define COLOR_HELP "Colour: auto, always or never (default auto; NO_COLOR is honoured)"

static const struct argp_option program_options[] = {
    {"engine", KEY_ENGINE, "NAME", 0, "Machine to run on (default model)", 0},
    {"workload", KEY_WORKLOAD, "NAME", 0, "Program to run (see nestbed list workloads)", 0},
    {"set", KEY_SET, "KEY=VALUE", 0,
     "Set a parameter of the workload, STRATEGY.KEY=N one of the paging strategy, or "
     "guest.flush_ceiling=N, guest.segment=SIZE (mappings as large are primary regions for direct "
     "segments), run.hash=1, run.check=1, "
     "run.events=FILE (one line per event; - is stderr), host.backing=anon|memfd; may be repeated",
     0},
    {"trace", KEY_TRACE, "FILE", 0,
     "Replay a trace instead: a file, or a name of nestbed list traces", 0},
    {"balloon", KEY_BALLOON, "PLAN", 0,
     "Give the guest a virtio balloon of these sizes: SIZE, SIZE@phase:NAME, with commas between, "
     "as "
     "in 256M@phase:work; --set balloon.order=9, balloon.report=ORDER, balloon.hole=defer and "
     "balloon.oom=0 change it",
     0},
    {0}};

static const struct argp_option set_options[] = {
    {"set", KEY_SET, "STRATEGY.KEY=N", 0,
     "Set a parameter of the paging strategy, as in --set ecpt.ways=4, or guest.segment=SIZE; may "
     "be repeated",
     0},
    {0}};

static error_t parse_program(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case KEY_ENGINE:
        o->engine_name = arg;
        return 0;
    case KEY_WORKLOAD:
        o->workload_name = arg;
        return 0;
    case KEY_TRACE:
        o->trace = arg;
        return 0;
    case KEY_BALLOON:
        o->balloon_plan = arg;
        return 0;
    case KEY_SET:
        if (o->nsets == MAX_SETS)
            die(NB_USAGE, "--set %s: at most %d --set options", arg, MAX_SETS);
        o->sets[o->nsets++] = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}
const struct argp opt_program = {.options = program_options, .parser = parse_program};
const struct argp opt_sets = {.options = set_options, .parser = parse_program};

static const struct argp_option machine_options[] = {
    {"paging", KEY_PAGING, "NAME", 0,
     "Paging strategy (default ept, with engine kvm what the host has; see nestbed list paging)",
     0},
    {"cpu", KEY_CPU, "NAME|FILE", 0, "Processor: a preset or an INI file (default skx)", 0},
    {"guest-page", KEY_GUEST_PAGE, "SIZE", 0,
     "Page size in the guest: 4k, 2m, 1g or thp (default 4k)", 0},
    {"host-page", KEY_HOST_PAGE, "SIZE", 0,
     "Page size in the host: 4k, 2m, 1g or thp (default 4k; native strategies have no host)", 0},
    {"levels", KEY_LEVELS, "4|5", 0, "Levels of the guest's page table (default 4)", 0},
    {"host-levels", KEY_HOST_LEVELS, "4|5", 0,
     "Levels of the nested table (default 4; refused where the hardware reads none)", 0},
    {"mem", KEY_MEM, "SIZE", 0, "Guest-physical memory (default 1G)", 0},
    {"host-mem", KEY_HOST_MEM, "SIZE", 0,
     "Host memory (default: all the guest's and its tables fit)", 0},
    {"vcpus", KEY_VCPUS, "N", 0,
     "vCPUs of the VM, each with its own TLB (default 1; engine model takes more, as in --vcpus 4)",
     0},
    {"seed", KEY_SEED, "N", 0, "Seed of all randomness (default 42)", 0},
    {"numa", KEY_NUMA, "POLICY", 0, "Place host memory: local, interleave or bind:N", 0},
    {0}};

static error_t parse_machine(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case KEY_PAGING:
        o->vm.paging = arg;
        o->given |= GIVEN_PAGING;
        return 0;
    case KEY_CPU:
        o->cpu_name = arg;
        o->given |= GIVEN_CPU;
        return 0;
    case KEY_GUEST_PAGE:
        option_page("--guest-page", arg, &o->vm.guest_page);
        o->given |= GIVEN_GUEST_PAGE;
        return 0;
    case KEY_HOST_PAGE:
        option_page("--host-page", arg, &o->vm.host_page);
        o->given |= GIVEN_HOST_PAGE;
        return 0;
    case KEY_LEVELS:
        option_levels("--levels", arg, &o->vm.levels);
        o->given |= GIVEN_LEVELS;
        return 0;
    case KEY_HOST_LEVELS:
        option_levels("--host-levels", arg, &o->vm.host_levels);
        o->given |= GIVEN_HOST_LEVELS;
        return 0;
    case KEY_MEM:
        size_option("--mem", arg, &o->vm.mem);
        o->given |= GIVEN_MEM;
        return 0;
    case KEY_HOST_MEM:
        size_option("--host-mem", arg, &o->vm.host_mem);
        o->given |= GIVEN_HOST_MEM;
        return 0;
    case KEY_VCPUS:
        vcpus_option(arg, &o->vm.vcpus);
        return 0;
    case KEY_SEED:
        if (!parse_u64(arg, &o->vm.seed))
            die(NB_USAGE, "--seed %s: not a number from 0 to 2^64-1, decimal or 0x hex", arg);
        o->given |= GIVEN_SEED;
        return 0;
    case KEY_NUMA:
        if (!numa_policy_parse(arg, &o->vm.numa))
            die(NB_USAGE, "--numa %s: choose local, interleave or bind:N", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}
const struct argp opt_machine = {.options = machine_options, .parser = parse_machine};

static const struct argp_option real_options[] = {
    {"timeout", KEY_TIMEOUT, "SECONDS", 0,
     "End a guest that has not ended by then (exit 124; labvm: its boot included)", 0},
    {"reload-kvm", KEY_RELOAD, 0, 0,
     "Reload the host's KVM module in the mode of --paging, and back afterwards (root; refused "
     "while any VM runs)",
     0},
    {0}};

static error_t parse_real(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    char *end;
    switch (key) {
    case KEY_TIMEOUT:
        o->vm.timeout = strtod(arg, &end);
        if (end == arg || *end || !(o->vm.timeout > 0 && o->vm.timeout < 1e9))
            die(NB_USAGE, "--timeout %s: seconds above 0, as in --timeout 30", arg);
        return 0;
    case KEY_RELOAD:
        o->vm.reload_kvm = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}
const struct argp opt_real = {.options = real_options, .parser = parse_real};

static const struct argp_option output_options[] = {
    {"json", KEY_JSON, 0, 0, "Print one JSON record", 0},
    {"field-separator", 'x', "SEP", 0,
     "Print fields separated by SEP, as perf stat does (\\t = tab)", 0},
    {"quiet", KEY_QUIET, 0, 0, "No progress on stderr", 0},
    {"progress", KEY_PROGRESS, "WHEN", 0, "Show progress: auto, always or never (default auto)", 0},
    {"color", KEY_COLOR, "WHEN", 0, COLOR_HELP, 0},
    {0}};
static const struct argp_option json_options[] = {
    {"json", KEY_JSON, 0, 0, "Print JSON", 0}, {"color", KEY_COLOR, "WHEN", 0, COLOR_HELP, 0}, {0}};

static error_t parse_output(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case KEY_JSON:
        o->json = true;
        return 0;
    case 'x':
        if (!*arg)
            die(NB_USAGE, "-x needs a separator, as in -x ,");
        o->separator = strcmp(arg, "\\t") == 0 ? "\t" : arg;
        return 0;
    case KEY_QUIET:
        o->quiet = true;
        return 0;
    case KEY_PROGRESS:
        when_option("--progress", arg, &o->progress);
        return 0;
    case KEY_COLOR:
        when_option("--color", arg, &o->color);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}
const struct argp opt_output = {.options = output_options, .parser = parse_output};
const struct argp opt_json = {.options = json_options, .parser = parse_output};

/* ---- checks ---- */
void options_init(struct options *o)
{
    *o = (struct options){
        .engine_name = "model",
        .cpu_name = "skx",
        .vm = {.paging = "ept",
               .guest_page = PAGES_4K,
               .host_page = PAGES_4K,
               .levels = 4,
               .host_levels = 4,
               .mem = 1ull << 30,
               .vcpus = 1,
               .seed = 42,
               .flush_ceiling = 33},
    };
}

void options_output(struct options *o)
{
    if (o->json && o->separator)
        die(NB_USAGE, "--json and -x exclude each other: choose one format");
    o->format = o->json ? OUT_JSON : o->separator ? OUT_CSV : OUT_TABLE;
    color_init(o->color);
    progress_init(o->progress, o->quiet);
}

bool paging_has_host_levels(const struct paging *p)
{
    return !(p->bare || p->no_host_table || p->no_host_levels);
}

/* Guest-physical space of the host's radix table: 48 or 57 bits, and 52 at most (MAXPHYADDR). */
static void check_mem(const struct vm_config *vm)
{
    const struct paging *p = vm->paging ? REG_FIND(paging, vm->paging) : NULL;
    unsigned bits = vm->host_levels == 4 && (!p || paging_has_host_levels(p)) ? 48 : 52;
    uint64_t page = vm->guest_page == PAGES_THP ? PAGE_SIZE : page_mode_bytes(vm->guest_page);
    uint64_t least = ALIGN_UP(64ull << 20, page); /* what a guest can do something with */
    char size[24];
    if (vm->mem % page)
        die(NB_USAGE, "--mem is not a multiple of the guest's %s page: try --mem %s",
            vm->guest_page == PAGES_THP ? "4k" : page_mode_name(vm->guest_page),
            format_size(vm->mem < least ? least : ALIGN_DOWN(vm->mem, page), size, sizeof size));
    if (vm->mem > 1ull << bits)
        die(NB_USAGE, "--mem is above 2^%u bytes, all that %s: use less%s", bits,
            bits == 48 ? "4 levels of host table map" : "x86-64 addresses",
            bits == 48 ? " or --host-levels 5" : "");
}

static void settle_host_mem(struct vm_config *vm)
{
    uint64_t page = vm->host_page == PAGES_THP ? 1ull << SHIFT_2M : page_mode_bytes(vm->host_page);
    if (vm->host_mem == 0)
        vm->host_mem = ALIGN_UP(vm->mem + vm->mem / 8 + (64ull << 20), page);
    if (vm->host_mem % PAGE_SIZE)
        die(NB_USAGE, "--host-mem is not a multiple of 4096 bytes: use a size such as 512M");
    if (vm->host_mem > 1ull << 52)
        die(NB_USAGE, "--host-mem is above 2^52 bytes, the limit of x86-64: use less");
}

/* Options that only one kind of engine has. */
static void check_engine(struct options *o)
{
    static const struct {
        unsigned bit;
        const char *flag;
    } model_only[] = {
        {GIVEN_CPU, "--cpu"}, {GIVEN_HOST_LEVELS, "--host-levels"}, {GIVEN_HOST_MEM, "--host-mem"}};
    const char *name = o->engine->name;
    if (!o->engine->real) {
        if (o->vm.timeout > 0 || o->vm.reload_kvm)
            die(NB_USAGE, "%s: engine %s has no hypervisor; add --engine kvm or --engine labvm",
                o->vm.reload_kvm ? "--reload-kvm" : "--timeout", name);
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(model_only); i++)
        if (o->given & model_only[i].bit)
            die(NB_USAGE,
                "%s: engine %s has the processor and memory of a real host; only --engine "
                "model takes it",
                model_only[i].flag, name);
    if (o->vm.vcpus > 1)
        die(NB_USAGE, "--vcpus %u: the guest image of engine %s has one vCPU; use --engine model",
            o->vm.vcpus, name);
    if (o->vm.reload_kvm && !(o->given & GIVEN_PAGING))
        die(NB_USAGE, "--reload-kvm: say which mode, as in --paging shadow --reload-kvm");
    if (!(o->given & GIVEN_PAGING))
        o->vm.paging = NULL;
    else if (strcmp(o->vm.paging, "ept") != 0 && strcmp(o->vm.paging, "shadow") != 0)
        die(NB_USAGE,
            "--paging %s: engine %s has ept and shadow only; others are on --engine model",
            o->vm.paging, name);
}

static const char *no_host_levels(const struct paging *p)
{
    static char why[96];
    snprintf(why, sizeof why,
             p->bare             ? "paging %s has no VMM and so no host table"
             : p->no_host_levels ? "the host table of paging %s has no levels"
                                 : "the hardware reads no host table under paging %s",
             p->name);
    return why;
}

/* What a strategy does not have. The default may be said all the same, so that one command line serves
 * for all strategies. */
static void check_paging(const struct vm_config *vm)
{
    const struct paging *p = vm->paging ? REG_FIND(paging, vm->paging) : NULL;
    if (vm->paging && !p)
        die_unknown("paging strategy", vm->paging, __start_reg_paging, __stop_reg_paging);
    if (!p)
        return; /* whatever the host's KVM has */
    if (p->no_levels && vm->levels != 4)
        die(NB_USAGE,
            "--levels %u: the guest table that paging %s reads has no levels; leave the "
            "option out",
            vm->levels, p->name);
    if (p->bare && vm->host_page != PAGES_4K)
        die(NB_USAGE,
            "--host-page %s: paging %s has no VMM and so no host pages; leave the option out "
            "(--guest-page is the size of all pages)",
            page_mode_name(vm->host_page), p->name);
    if (!paging_has_host_levels(p) && vm->host_levels != 4)
        die(NB_USAGE, "--host-levels %u: %s; leave the option out", vm->host_levels,
            no_host_levels(p));
}

void options_machine(struct options *o)
{
    char err[512];
    int code = NB_USAGE;
    if (o->engine)
        check_engine(o);
    check_paging(&o->vm);
    check_mem(&o->vm);
    settle_host_mem(&o->vm);
    o->vm.cpu = cpu_load(o->cpu_name, err, sizeof err, &code);
    if (!o->vm.cpu)
        die(code, "%s", err);
}

void options_program(struct options *o)
{
    o->engine = REG_FIND(engine, o->engine_name);
    if (!o->engine)
        die_unknown("engine", o->engine_name, __start_reg_engine, __stop_reg_engine);
    if (o->workload_name && o->trace)
        die(NB_USAGE, "--workload and --trace exclude each other: choose what to run");
    if (!o->workload_name && !o->trace)
        die(NB_USAGE, "nothing to run: give --workload NAME or --trace FILE (nestbed list "
                      "workloads shows the names)");
    if (o->workload_name) {
        o->workload = REG_FIND(workload, o->workload_name);
        if (!o->workload)
            die_unknown("workload", o->workload_name, __start_reg_workload, __stop_reg_workload);
        params_default(o->workload, o->params);
    }
    options_balloon(o);
    options_sets(o);
}
