/* cmd_boot.c: `nestbed boot`: run a multiboot test image or Linux on our VMM and pass on how it ended. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/bench_util.h"
#include "bench/boot_record.h"
#include "bench/command.h"
#include "bench/options.h"
#include "bench/print.h"
#include "vmm/boot.h"
#include "vmm/linux_boot.h"
#include "vmm/linux_guest.h"

#define MAX_IMAGE (1ull << 30)

enum {
    KEY_MEM = 0x100,
    KEY_SMP,
    KEY_TIMEOUT,
    KEY_ENV,
    KEY_INITRD,
    KEY_JSON,
    KEY_LINUX,
    KEY_HOST_PAGE,
    KEY_BALLOON
};
enum { DEFAULT_TIMEOUT = 90, MAX_ENV = 64 << 10, MAX_STATUS = 255 };

struct boot_options {
    const char *image, *initrd;
    char *const *words; /* arguments of the image */
    unsigned nwords, smp;
    uint64_t mem;
    double timeout;
    bool json, linux_guest;
    struct boot_balloon_plan balloon; /* n 0: none */
    enum page_mode page;
    char env[MAX_ENV]; /* of --env, lines */
    size_t nenv;
};

/* ---- command line ---- */
static const struct argp_option options[] = {
    {"mem", KEY_MEM, "SIZE", 0, "Memory of the guest (default 128M)", 1},
    {"smp", KEY_SMP, "N", 0, "Number of CPUs, each a thread of this program (default 1)", 1},
    {"timeout", KEY_TIMEOUT, "SECONDS", 0,
     "End a guest that has not ended by then (default 90; 0: never)", 1},
    {"host-page", KEY_HOST_PAGE, "MODE", 0,
     "Host pages behind the guest's memory: 4k, thp, 2m or 1g (default 4k)", 1},
    {"linux", KEY_LINUX, 0, 0,
     "Instead of an image: Debian's kernel of labvm, with nestbed as its init", 1},
    {"balloon", KEY_BALLOON, "SIZE,...", 0,
     "With --linux: a virtio balloon that takes these sizes, one after the other", 1},
    {"initrd", KEY_INITRD, "FILE", 0,
     "Of Linux, its initrd; of a multiboot image, its environment: KEY=VALUE lines", 1},
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
    case KEY_LINUX:
        o->linux_guest = true;
        return 0;
    case KEY_BALLOON:
        if (!boot_balloon_plan_parse(arg, &o->balloon))
            die(NB_USAGE,
                "--balloon %s: up to %d sizes in whole 4 KiB pages, as in --balloon 64M,8M,0", arg,
                BOOT_BALLOON_STEPS);
        return 0;
    case KEY_HOST_PAGE:
        if (!page_mode_parse(arg, &o->page))
            die(NB_USAGE, "--host-page %s: expected 4k, thp, 2m or 1g", arg);
        return 0;
    case ARGP_KEY_ARG: /* the image; all that follows is its own */
        if (o->linux_guest)
            state->next--;
        else
            o->image = arg;
        o->words = state->argv + state->next;
        o->nwords = (unsigned)(state->argc - state->next);
        state->next = state->argc;
        return 0;
    case ARGP_KEY_END:
        if (o->balloon.n && (!o->linux_guest || o->mem > 3ull << 30))
            die(NB_USAGE, "--balloon is for --linux, and at most 3G of --mem");
        if (!o->image && !o->linux_guest)
            die(NB_USAGE, "boot: which image? as in: nestbed boot x86/access.flat");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "IMAGE [ARGUMENT...]\n--linux [ARGUMENT...]",
    .doc =
        "Run a multiboot-1 ELF32 test image, as kvm-unit-tests builds them, or a Linux kernel "
        "(bzImage) on KVM."
        "\v"
        "What the guest writes to its serial line is standard output, the number it writes to the "
        "debug exit (port 0xf4) the exit status: 0 passed, 1 failed, 38 skipped, 63 aborted; "
        "numbers above 255 give 255. Otherwise the status is 1 when the guest crashed, with one "
        "line that says where, 124 when time ran out, 65 when the file is no such image, 66 when "
        "it cannot be read, 69 when there is no KVM or a call of the host failed. On a terminal, "
        "bytes that are no text appear as '?'.\n\n"
        "The arguments are a Linux kernel's command line; give it console=ttyS0. Switched off, it "
        "ends with 0; reset, as by a panic with panic=-1, with 1. --linux boots Debian's kernel "
        "with an init that, with --balloon, verifies its memory at every size of the balloon, and "
        "has its own virtio_balloon driver make them.\n\n"
        "Example: nestbed boot --smp 2 --timeout 30 x86/smptest.flat\n"
        "Example: nestbed boot x86/vmexit.flat cpuid\n"
        "Example: nestbed boot --initrd initrd.img vmlinuz console=ttyS0 panic=-1\n"
        "Example: nestbed labvm run --no-icount -- boot --linux --mem 1280M --host-page thp "
        "--balloon 1152M,0"};

/* The arguments; before anything runs, since a record can hold no text that is not UTF-8. */
static json_t *words_json(const struct boot_options *o)
{
    json_t *words = json_array(), *image = json_string(o->image ? o->image : "");
    bool ok = image;
    for (unsigned i = 0; ok && i < o->nwords; i++)
        ok = json_array_append_new(words, json_string(o->words[i])) == 0;
    if (!ok)
        die(NB_USAGE, "--json: the image's name or an argument is not UTF-8 text");
    json_decref(image);
    return words;
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

/* `first`, if any, and the arguments, as the guest sees them. */
static char *command_line(const char *first, const struct boot_options *o)
{
    size_t n = strlen(first) + 1;
    for (unsigned i = 0; i < o->nwords; i++)
        n += strlen(o->words[i]) + 1;
    char *line = xcalloc(n, 1), *end = stpcpy(line, first);
    for (unsigned i = 0; i < o->nwords; i++) {
        if (end > line)
            *end++ = ' ';
        end = stpcpy(end, o->words[i]);
    }
    return line;
}

/* What a multiboot image has for an initrd: the file and the --env lines, one text. */
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

static char *linux_initrd(const struct boot_options *o, size_t *n)
{
    if (o->nenv)
        die(NB_USAGE, "--env is for multiboot images; Linux takes NAME=VALUE among its arguments");
    *n = 0;
    return o->initrd ? input("--initrd", o->initrd, MAX_IMAGE, n) : NULL;
}

/* The image and what it is given; of --linux the initrd is the guest's. */
struct material {
    char *image, *line, *initrd;
    struct linux_guest guest;
};

static void gather_linux_guest(struct boot_options *o, struct boot_config *c, struct material *m)
{
    char err[1024];
    if (o->initrd || o->nenv)
        die(NB_USAGE, "--linux has an initrd of its own: no --initrd, no --env");
    int rc = linux_guest_make(&m->guest, err, sizeof err);
    if (rc != NB_OK)
        die(rc, "boot: %s", err);
    o->image = m->guest.kernel;
    m->image = input("boot", o->image, MAX_IMAGE, &c->image_bytes);
    m->line = command_line(LINUX_GUEST_CMDLINE, o);
    c->initrd = m->guest.initrd;
    c->initrd_bytes = m->guest.initrd_bytes;
}

static void gather(struct boot_options *o, struct boot_config *c, struct material *m)
{
    if (o->linux_guest)
        gather_linux_guest(o, c, m);
    else {
        m->image = input("boot", o->image, MAX_IMAGE, &c->image_bytes);
        bool is_linux = linux_claims(m->image, c->image_bytes);
        m->line = command_line(is_linux ? "" : o->image, o); /* Linux sees no name */
        m->initrd = is_linux ? linux_initrd(o, &c->initrd_bytes) : environment(o, &c->initrd_bytes);
        c->initrd = m->initrd;
    }
    c->image = m->image;
    c->cmdline = m->line;
}

static void material_free(struct material *m)
{
    free(m->image);
    free(m->line);
    free(m->initrd);
    linux_guest_free(&m->guest);
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
                            .page = o.page,
                            .balloon = o.balloon.n ? &o.balloon : NULL,
                            .timeout = o.timeout,
                            .out = o.json ? NULL : stdout,
                            .plain = isatty(STDOUT_FILENO)};
    struct material m = {0};
    json_t *words = o.json ? words_json(&o) : NULL;
    gather(&o, &c, &m);
    int rc = boot_run(&c, &r, err, sizeof err);
    if (rc != NB_OK)
        die(rc, "boot %s: %s", o.image, err);
    fflush(stdout);
    if (r.end != BOOT_EXITED)
        fprintf(stderr, "nestbed: boot %s: %s\n", o.image, r.detail);
    if (r.balloon.broken)
        die(NB_INTERNAL, "boot: %s", r.balloon.broken);
    if (c.balloon && !o.json)
        boot_print_balloon(&c, &r.balloon);
    if (o.json)
        boot_print_record(&c, &r, o.image, words);
    boot_result_free(&r);
    material_free(&m);
    return status_of(&r);
}

REGISTER(command, boot, .summary = "Run a multiboot test image (kvm-unit-tests) or Linux on KVM",
         .run = cmd_boot);
