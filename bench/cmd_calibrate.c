/* cmd_calibrate.c: `nestbed calibrate`: a CPU preset of this machine, with its evidence. */
#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/bench_fig.h"
#include "bench/bench_util.h"
#include "bench/calibrate.h"
#include "bench/command.h"
#include "bench/exits.h"
#include "bench/options.h"
#include "bench/progress.h"
#include "bench/record.h"

EMBED(calibrate_gp, "bench/plots/calibrate.gp");

struct cal_args {
    struct options common;
    const char *out, *base;
    enum { EVENTS_KVM, EVENTS_LABVM, EVENTS_NONE } events;
    struct chase_config chase;
};

enum { KEY_BASE = 3100, KEY_ROUNDS, KEY_PAGES, KEY_EVENTS, MAX_PAGES = 1 << 20 };
enum { DEFAULT_ROUNDS = 25, HUGE_PAGES = 128 };

static const struct argp_option options[] = {
    {"output", 'o', "FILE.ini", 0,
     "Write the preset there, and beside it the evidence: FILE.json and a figure (default: the "
     "preset on stdout, nothing else)",
     1},
    {"base", KEY_BASE, "PRESET", 0, "Preset for what is not measured (default: the nearest)", 1},
    {"rounds", KEY_ROUNDS, "N", 0, "Samples of each point (default 25, at most 101)", 1},
    {"pages", KEY_PAGES, "N", 0, "Longest chase, in 4 KiB pages (default 16384, at most 1048576)",
     1},
    {"events", KEY_EVENTS, "kvm|labvm|none", 0,
     "Costs of events: timed under this host's KVM (default); counted in instructions in a labvm, "
     "of "
     "both modes, at a cycle each; or left out",
     1},
    {0}};

static void events_from(struct cal_args *a, const char *arg)
{
    static const char *const names[] = {"kvm", "labvm", "none"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(arg, names[i]) == 0) {
            a->events = i;
            return;
        }
    die(NB_USAGE, "--events %s: expected kvm, labvm or none", arg);
}

static const char *ini_path(const char *arg)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const char *slash = strrchr(arg, '/'), *name = slash ? slash + 1 : arg;
    size_t n = strlen(arg);
    if (name[strspn(name, plain)]) /* the figure's script quotes it */
        die(NB_USAGE, "-o %s: a file name of letters, digits, '.', '_' and '-' is expected", arg);
    if (n < 5 || strcmp(arg + n - 4, ".ini") != 0)
        die(NB_USAGE, "-o %s: the name of a preset ends in .ini, so that --cpu takes it for a file",
            arg);
    return arg;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct cal_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case 'o':
        a->out = ini_path(arg);
        return 0;
    case KEY_BASE:
        a->base = arg;
        return 0;
    case KEY_ROUNDS:
        a->chase.rounds = (unsigned)option_number("--rounds", arg, 3, CHASE_ROUNDS_MAX);
        return 0;
    case KEY_PAGES:
        a->chase.sparse_pages = option_number("--pages", arg, 64, MAX_PAGES);
        return 0;
    case KEY_EVENTS:
        events_from(a, arg);
        return 0;
    case ARGP_KEY_ARG:
        die_argument(state, arg);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&opt_output, 0, "Output:", 2}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .children = children,
    .doc =
        "Write a CPU preset of this machine: TLB reach and latencies from pointer chases, costs of "
        "events from its KVM. --json prints the evidence instead.\v"
        "Every number stands below its source: measured, with its interval, or an assumption.\n\n"
        "Example: nestbed calibrate -o host.ini && nestbed run --cpu ./host.ini --workload gups"};

/* ---- the machine ---- */
struct cpu_id {
    char vendor[13];
    unsigned family, model;
    bool virtualised, pcid;
};

static void identify(struct cpu_id *c)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    memset(c, 0, sizeof *c);
    __get_cpuid(0, &eax, &ebx, &ecx, &edx);
    memcpy(c->vendor, &ebx, 4);
    memcpy(c->vendor + 4, &edx, 4);
    memcpy(c->vendor + 8, &ecx, 4);
    __get_cpuid(1, &eax, &ebx, &ecx, &edx);
    c->family = eax >> 8 & 15;
    c->model = (eax >> 4 & 15) | (eax >> 12 & 0xf0);
    if (c->family == 15)
        c->family += eax >> 20 & 0xff;
    c->virtualised = ecx >> 31 & 1;
    c->pcid = ecx >> 17 & 1;
}

/* By family and model; the nearest of the vendor for those without a preset. */
static const char *nearest_preset(const struct cpu_id *c)
{
    if (strcmp(c->vendor, "AuthenticAMD") == 0)
        return c->family > 0x19 || (c->family == 0x19 && ((c->model >= 0x10 && c->model <= 0x1f) ||
                                                          (c->model >= 0x60 && c->model <= 0xaf)))
                   ? "zen4"
                   : "zen3";
    if (strcmp(c->vendor, "GenuineIntel") == 0)
        return c->family == 6 && c->model < 0x6a ? "skx" : "icx";
    return "plain";
}

/* ---- measuring ---- */
static void chase_progress(void *ctx, unsigned done, unsigned total)
{
    (void)ctx;
    progress_step(done, total + exits_nprobes, "pointer chases");
}

static void event_progress(void *ctx, unsigned done, unsigned total, const char *what)
{
    const struct cal_args *a = ctx;
    progress_step(a->chase.rounds + done, a->chase.rounds + total, what);
}

static void measure_events(struct cal_args *a, struct calibration *c)
{
    struct exits_config cfg = {
        .batches = EXITS_BATCHES, .timeout = 60, .progress = event_progress, .ctx = a};
    json_t *both;
    int code;
    if (a->events == EVENTS_NONE) {
        snprintf(c->why, sizeof c->why, "--events none");
    } else if (a->events == EVENTS_KVM) {
        c->machine = exits_host(&cfg, &code, c->why, sizeof c->why);
    } else if ((both = exits_labvm(&cfg, &code, c->why, sizeof c->why))) {
        c->nested = json_incref(json_array_get(both, 0));
        c->machine = json_incref(json_array_get(both, 1));
        json_decref(both);
    }
}

static void describe(struct calibration *c, const struct cpu_id *id)
{
    json_t *env = record_env();
    const char *model = json_string_value(json_object_get(env, "cpu"));
    snprintf(c->model, sizeof c->model, "%s", model ? model : id->vendor);
    json_decref(env);
    c->virtualised = id->virtualised;
    c->pcid = id->pcid;
}

static void measure(struct cal_args *a, struct calibration *c)
{
    char err[256] = "";
    struct cpu_id id;
    int code = NB_OK;
    identify(&id);
    describe(c, &id);
    c->base = cpu_load(a->base ? a->base : nearest_preset(&id), err, sizeof err, &code);
    if (!c->base)
        die(code, "calibrate: %s", err);
    c->cycle = cycle_length(a->chase.rounds);
    if (!(c->cycle.mid > 0)) /* every cost is divided by it */
        die(NB_NODEVICE, "calibrate: this host's CLOCK_THREAD_CPUTIME_ID is too coarse: a chain of "
                         "multiplications took no time");
    if (!chase_run(&a->chase, &c->chase, err, sizeof err))
        die(NB_NODEVICE, "calibrate: %s; use fewer --pages", err);
    tlb_estimate(&c->chase, &c->tlb);
    measure_events(a, c);
    progress_end();
}

/* ---- output ---- */
static char *text_of(const struct calibration *c, void (*write)(const struct calibration *, FILE *))
{
    char *text;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        die(NB_FAIL, "calibrate: no memory for the preset");
    write(c, f);
    fclose(f);
    return text;
}

/* Where a file lies; freed by the caller. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return !slash ? strf(".") : slash == path ? strf("/") : strf("%.*s", (int)(slash - path), path);
}

/* False: no figure; it has been said why. */
static bool write_evidence(const struct calibration *c, const char *ini)
{
    char *stem = strf("%.*s", (int)(strlen(ini) - 4), ini), *slash = strrchr(stem, '/');
    char *dir = folder_of(stem);
    char *path = strf("%s.json", stem), *tsv = text_of(c, cal_write_tsv);
    struct figure g = {.stem = slash ? slash + 1 : stem,
                       .caption = "Latency of dependent loads against the number of lines",
                       .tag = "measured",
                       .script = calibrate_gp};
    json_t *j = cal_json(c);
    write_json(path, j, RECORD_JSON_FLAGS);
    bool drawn = fig_draw(&g, dir, tsv) == NB_OK;
    json_decref(j);
    free(stem);
    free(dir);
    free(path);
    free(tsv);
    return drawn;
}

/* What we write must be a preset: it is read back from a memory file, before anybody sees it. */
static void check_preset(const char *ini)
{
    char err[512] = "";
    int code = NB_OK, fd = memfd_create("preset", MFD_CLOEXEC);
    char *path = strf("/proc/self/fd/%d", fd);
    if (fd < 0 || write(fd, ini, strlen(ini)) != (ssize_t)strlen(ini))
        die(NB_FAIL, "calibrate: memory file for the preset: %s", strerror(errno));
    const struct cpu *cpu = cpu_load(path, err, sizeof err, &code);
    if (!cpu)
        die(NB_INTERNAL, "calibrate: the preset cannot be read back: %s", err);
    cpu_free(cpu);
    close(fd);
    free(path);
}

static void print_level(const char *what, const struct tlb_level *l)
{
    if (l->found)
        fprintf(stderr, "  %-26s %llu (less than %llu), then %.2f ns more\n", what,
                (unsigned long long)l->reach, (unsigned long long)l->next, l->cost.mid);
    else
        fprintf(stderr, "  %-26s not found\n", what);
}

static void print_events(const struct calibration *c)
{
    const char *unit = c->nested ? "instructions" : "ns";
    struct interval v;
    if (!c->machine)
        fprintf(stderr, "  events not measured: %s\n", c->why);
    for (unsigned i = 0; i < exits_nprobes; i++)
        if (exits_cost(c->machine, exits_probes[i].name, &v))
            fprintf(stderr, "  %-34s ring %u %12.0f %s\n", exits_probes[i].event,
                    exits_probes[i].ring, v.mid, unit);
}

static void say(const struct calibration *c, const char *out, bool drawn)
{
    fprintf(stderr, "%s: %.3f ns a cycle\n", c->model, c->cycle.mid);
    print_level("first-level TLB, 4 KiB", &c->tlb.l1);
    print_level("second-level TLB, 4 KiB", &c->tlb.l2);
    print_level("first-level TLB, 2 MiB", &c->tlb.l1_2m);
    print_events(c);
    fprintf(stderr, "written: %s, beside it .json%s\n", out,
            drawn ? ", .tsv and a figure (.gp, .svg, .png, style.gp)" : "");
}

static int cmd_calibrate(int argc, char **argv)
{
    static struct calibration c;
    struct cal_args a = {.chase = {.rounds = DEFAULT_ROUNDS,
                                   .sparse_pages = 16384,
                                   .huge_pages = HUGE_PAGES,
                                   .seed = 42,
                                   .progress = chase_progress}};
    options_init(&a.common);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (a.common.separator)
        die(NB_USAGE,
            "calibrate: -x does not apply: the preset is an INI file, --json its evidence");
    options_output(&a.common);
    if (a.out) {
        char *dir = folder_of(a.out);
        need_folder("-o", dir);
        free(dir);
    }
    measure(&a, &c);
    char *ini = text_of(&c, cal_write_ini);
    check_preset(ini);
    if (a.out) {
        write_file(a.out, ini, strlen(ini));
        bool drawn = write_evidence(&c, a.out);
        if (!a.common.quiet)
            say(&c, a.out, drawn);
    }
    if (a.common.format == OUT_JSON) {
        json_t *j = cal_json(&c);
        record_print_json(j);
        json_decref(j);
    } else if (!a.out) {
        fputs(ini, stdout);
    }
    free(ini);
    json_decref(c.machine);
    json_decref(c.nested);
    cpu_free(c.base);
    return NB_OK;
}

REGISTER(command, calibrate, .summary = "Write a CPU preset of this machine from measurements",
         .run = cmd_calibrate);
