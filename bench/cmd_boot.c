/* cmd_boot.c: `nestbed boot`: run a multiboot test image on our VMM and pass on how it ended. */
#include <argp.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/bench_util.h"
#include "bench/command.h"
#include "bench/print.h"
#include "bench/record.h"
#include "vmm/boot.h"

#define BOOT_SCHEMA "nestbed-boot/1"
#define MAX_IMAGE (1ull << 30)

enum { KEY_MEM = 0x100, KEY_SMP, KEY_TIMEOUT, KEY_ENV, KEY_INITRD, KEY_JSON };
enum { DEFAULT_TIMEOUT = 90, MAX_ENV = 64 << 10, MAX_STATUS = 255 };

struct boot_options {
    const char *image, *initrd;
    char *const *words; /* arguments of the image */
    unsigned nwords, smp;
    uint64_t mem;
    double timeout;
    bool json;
    char env[MAX_ENV]; /* of --env, lines */
    size_t nenv;
};

/* ---- command line ---- */
static const struct argp_option options[] = {
    {"mem", KEY_MEM, "SIZE", 0, "Memory of the guest (default 128M)", 1},
    {"smp", KEY_SMP, "N", 0, "Number of CPUs, each a thread of this program (default 1)", 1},
    {"timeout", KEY_TIMEOUT, "SECONDS", 0,
     "End a guest that has not ended by then (default 90; 0: never)", 1},
    {"initrd", KEY_INITRD, "FILE", 0, "Environment of the image: a file of KEY=VALUE lines", 1},
    {"env", KEY_ENV, "KEY=VALUE", 0, "One line of it more; may be repeated", 1},
    {"json", KEY_JSON, 0, 0,
     "Print a record instead of the guest's text: how it ended, exits, KVM's statistics, its text",
     2},
    {0}};

static void add_env(struct boot_options *o, const char *line)
{
    size_t n = strlen(line);
    if (!strchr(line, '=') || line[0] == '=' || strchr(line, '\n'))
        die(NB_USAGE, "--env %s: write KEY=VALUE", line);
    if (n + 1 > sizeof o->env - o->nenv)
        die(NB_USAGE, "--env: more than %d bytes in all", MAX_ENV);
    memcpy(o->env + o->nenv, line, n);
    o->env[o->nenv + n] = '\n';
    o->nenv += n + 1;
}

static double seconds(const char *arg)
{
    char *stop;
    double v = strtod(arg, &stop);
    if (stop == arg || *stop || !(v >= 0 && v < 1e9))
        die(NB_USAGE, "--timeout %s: seconds, as in --timeout 30, or 0 for no limit", arg);
    return v;
}

static uint64_t mem_size(const char *arg)
{
    uint64_t v;
    if (!parse_size(arg, &v) || v % 4096 || v < 1 << 20 || v > 1ull << 40)
        die(NB_USAGE, "--mem %s: 1M to 1T in whole 4 KiB pages, as in --mem 128M", arg);
    return v;
}

static unsigned cpus(const char *arg)
{
    uint64_t v;
    if (!parse_u64(arg, &v) || v < 1 || v > KVM_MAX_VCPUS)
        die(NB_USAGE, "--smp %s: 1 to %d CPUs", arg, KVM_MAX_VCPUS);
    return (unsigned)v;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct boot_options *o = state->input;
    switch (key) {
    case KEY_MEM:
        o->mem = mem_size(arg);
        return 0;
    case KEY_SMP:
        o->smp = cpus(arg);
        return 0;
    case KEY_TIMEOUT:
        o->timeout = seconds(arg);
        return 0;
    case KEY_ENV:
        add_env(o, arg);
        return 0;
    case KEY_INITRD:
        o->initrd = arg;
        return 0;
    case KEY_JSON:
        o->json = true;
        return 0;
    case ARGP_KEY_ARG: /* the image; all that follows is its own */
        o->image = arg;
        o->words = state->argv + state->next;
        o->nwords = (unsigned)(state->argc - state->next);
        state->next = state->argc;
        return 0;
    case ARGP_KEY_END:
        if (!o->image)
            die(NB_USAGE, "boot: which image? as in: nestbed boot x86/access.flat");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "IMAGE [ARGUMENT...]",
    .doc =
        "Run a multiboot-1 ELF32 test image, as kvm-unit-tests builds them, on KVM."
        "\v"
        "What the guest writes to its serial line is standard output, the number it writes to the "
        "debug exit (port 0xf4) the exit status: 0 passed, 1 failed, 38 skipped, 63 aborted; "
        "numbers above 255 give 255. Otherwise the status is 1 when the guest crashed, with one "
        "line that says where, 124 when time ran out, 65 when the file is no such image, 66 when "
        "it cannot be read, 69 when there is no KVM or a call of the host failed. On a terminal, "
        "bytes that are no text appear as '?'.\n\n"
        "Example: nestbed boot --smp 2 --timeout 30 x86/smptest.flat\n"
        "Example: nestbed boot x86/vmexit.flat cpuid"};

/* ---- the record ---- */
static json_t *exits_json(const struct boot_result *r)
{
    json_t *o = json_object();
    for (unsigned i = 0; i < ARRAY_SIZE(r->user_exits); i++) {
        const char *name = kvm_exit_name(i);
        json_int_t before = json_integer_value(json_object_get(o, name));
        if (r->user_exits[i])
            json_object_set_new(o, name, json_count((uint64_t)before + r->user_exits[i]));
    }
    return o;
}

static json_t *stat_json(const struct kvm_stat_name *s, const uint64_t *v)
{
    if (s->unseen)
        return json_null();
    if (s->size == 1)
        return json_count(v[s->first]);
    json_t *a = json_array();
    for (unsigned i = 0; i < s->size; i++)
        json_array_append_new(a, json_count(v[s->first + i]));
    return a;
}

/* Null: this kernel has no statistics file. */
static json_t *kvm_json(const struct boot_result *r)
{
    json_t *o = r->stats.n ? json_object() : json_null();
    for (unsigned i = 0; i < r->stats.n; i++)
        json_object_set_new(o, r->stats.stat[i].name, stat_json(&r->stats.stat[i], r->kvm.v));
    return o;
}

/* The arguments; before anything runs, since a record can hold no text that is not UTF-8. */
static json_t *words_json(const struct boot_options *o)
{
    json_t *words = json_array(), *image = json_string(o->image);
    bool ok = image;
    for (unsigned i = 0; ok && i < o->nwords; i++)
        ok = json_array_append_new(words, json_string(o->words[i])) == 0;
    if (!ok)
        die(NB_USAGE, "--json: the image's name or an argument is not UTF-8 text");
    json_decref(image);
    return words;
}

/* Takes `words`. */
static void print_record(const struct boot_config *c, const struct boot_options *o,
                         const struct boot_result *r, json_t *words)
{
    json_t *j = json_pack(
        "{ss ss so sI si sf ss so so ss ss sb sf sf so so ss sb so}", "schema", BOOT_SCHEMA,
        "image", o->image, "arguments", words, "mem", (json_int_t)c->mem, "smp", (int)c->cpus,
        "timeout", c->timeout, "end", boot_end_names[r->end], "code",
        r->end == BOOT_EXITED ? json_count(r->code) : json_null(), "detail",
        r->detail[0] ? json_string(r->detail) : json_null(), "backend", r->host->backend, "paging",
        r->host->paging, "emulates_ring0", r->host->emulates_ring0, "start_seconds",
        r->start_seconds, "wall_seconds", r->wall_seconds, "user_exits", exits_json(r), "kvm",
        kvm_json(r), "console", r->console, "console_cut", r->console_cut, "env", record_env());
    assert(j);
    record_print_json(j);
    json_decref(j);
}

/* ---- the run ---- */
/* A regular file of at most `max` bytes: a device or a pipe has no end. */
static char *input(const char *what, const char *path, uint64_t max, size_t *n)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        die(NB_NOINPUT, "%s %s: %s", what, path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        die(NB_NOINPUT, "%s %s: not a regular file", what, path);
    if ((uint64_t)st.st_size > max)
        die(NB_DATAERR, "%s %s: larger than %" PRIu64 " bytes", what, path, max);
    char *text = read_fd(fd, n);
    close(fd);
    return text;
}

/* "image argument argument", as the guest sees it. */
static char *command_line(const struct boot_options *o)
{
    size_t n = strlen(o->image) + 1;
    for (unsigned i = 0; i < o->nwords; i++)
        n += strlen(o->words[i]) + 1;
    char *line = xcalloc(n, 1), *end = stpcpy(line, o->image);
    for (unsigned i = 0; i < o->nwords; i++) {
        *end++ = ' ';
        end = stpcpy(end, o->words[i]);
    }
    return line;
}

/* The file and the --env lines, one text. */
static char *environment(const struct boot_options *o, size_t *n)
{
    size_t file = 0;
    char *text = o->initrd ? input("--initrd", o->initrd, MAX_ENV, &file) : NULL;
    *n = 0;
    if (!text && !o->nenv)
        return NULL;
    text = xrealloc(text, file + 1 + o->nenv + 1);
    if (file && text[file - 1] != '\n')
        text[file++] = '\n';
    memcpy(text + file, o->env, o->nenv);
    *n = file + o->nenv;
    text[*n] = 0;
    return text;
}

static int status_of(const struct boot_result *r)
{
    switch (r->end) {
    case BOOT_EXITED:
        return r->code > MAX_STATUS ? MAX_STATUS : (int)r->code;
    case BOOT_TIMEOUT:
        return NB_TIMEOUT;
    case BOOT_CRASHED:
        break;
    }
    return NB_FAIL;
}

static int cmd_boot(int argc, char **argv)
{
    static struct boot_options o = {.mem = 128 << 20, .smp = 1, .timeout = DEFAULT_TIMEOUT};
    static struct boot_result r;
    char err[512] = "";
    argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &o);
    struct boot_config c = {.mem = o.mem,
                            .cpus = o.smp,
                            .timeout = o.timeout,
                            .out = o.json ? NULL : stdout,
                            .plain = isatty(STDOUT_FILENO)};
    json_t *words = o.json ? words_json(&o) : NULL;
    char *image = input("boot", o.image, MAX_IMAGE, &c.image_bytes), *line = command_line(&o);
    char *env = environment(&o, &c.env_bytes);
    c.image = image;
    c.cmdline = line;
    c.env = env;
    int rc = boot_run(&c, &r, err, sizeof err);
    if (rc != NB_OK)
        die(rc, "boot %s: %s", o.image, err);
    fflush(stdout);
    if (r.end != BOOT_EXITED)
        fprintf(stderr, "nestbed: boot %s: %s\n", o.image, r.detail);
    if (o.json)
        print_record(&c, &o, &r, words);
    boot_result_free(&r);
    free(image);
    free(line);
    free(env);
    return status_of(&r);
}

REGISTER(command, boot, .summary = "Run a multiboot test image (kvm-unit-tests) on KVM",
         .run = cmd_boot);
