/* cmd_trace.c: `nestbed trace`: record, convert and inspect traces of real programs. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/command.h"
#include "bench/progress.h"
#include "workloads/trace.h"
#include "workloads/trace_record.h"

enum { LEVEL_DEFAULT = 6, LEVEL_MAX = 19, KEY_VIA = 256, KEY_MAX, KEY_LEVEL, KEY_FORMAT };

struct trace_options {
    const char *format, *out, *via, *in;
    uint64_t max;
    int level;
    bool json;
    char **command; /* NULL-terminated */
};

static int report(int code, const char *text)
{
    fprintf(stderr, "nestbed: %s\n", text);
    return code;
}

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
    struct trace_options *o = state->input;
    uint64_t n;
    switch (key) {
    case KEY_FORMAT:
        o->format = arg;
        return 0;
    case KEY_LEVEL:
        if (!parse_u64(arg, &n) || n < 1 || n > LEVEL_MAX)
            argp_error(state, "--level %s: give a number from 1 (fast) to %d (small)", arg,
                       LEVEL_MAX);
        o->level = (int)n;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

#define LEVEL_OPTION                                                                    \
    {                                                                                   \
        "level", KEY_LEVEL, "N", 0, "Compression, 1 (fast) to 19 (small); default 6", 0 \
    }
#define FORMAT_OPTION                                                                      \
    {                                                                                      \
        "format", KEY_FORMAT, "NAME", 0, "Format of the input: nbt, lackey or champsim", 0 \
    }

/* ---- record ---- */

static error_t parse_record(int key, char *arg, struct argp_state *state)
{
    struct trace_options *o = state->input;
    switch (key) {
    case 'o':
        o->out = arg;
        return 0;
    case KEY_VIA:
        if (strcmp(arg, "qemu") != 0 && strcmp(arg, "lackey") != 0)
            argp_error(state, "--via %s: choose qemu or lackey", arg);
        o->via = arg;
        return 0;
    case KEY_MAX:
        if (!parse_u64(arg, &o->max) || o->max == 0)
            argp_error(state, "--max-accesses %s: give a number above 0", arg);
        return 0;
    case ARGP_KEY_ARG: /* the command: the rest is its own */
        o->command = state->argv + state->next - 1;
        state->next = state->argc;
        return 0;
    case ARGP_KEY_END:
        if (!o->out)
            argp_error(state, "say where to: -o FILE");
        if (!o->command)
            argp_error(state, "say what to record: -- COMMAND [ARGUMENT...]");
        return 0;
    default:
        return parse_common(key, arg, state);
    }
}

static const struct argp_option record_options[] = {
    {"output", 'o', "FILE", 0, "Trace to write (.nbt)", 0},
    {"via", KEY_VIA, "TOOL", 0,
     "qemu: accesses and memory system calls of all processes; lackey: accesses of one; "
     "default qemu",
     0},
    {"max-accesses", KEY_MAX, "N", 0, "Keep the first N accesses", 0},
    LEVEL_OPTION,
    {0}};
static const struct argp record_argp = {
    .options = record_options,
    .parser = parse_record,
    .args_doc = "-- COMMAND [ARGUMENT...]",
    .doc =
        "Run COMMAND and record its memory accesses and what it asks of the kernel about memory.\v"
        "The command keeps its standard input, output and error; its exit status goes into the "
        "trace. Exit "
        "status: 0 recorded, whatever the command's own status.\n\n"
        "Example: nestbed trace record -o sort.nbt -- sort -n numbers.txt"};

static int record(int argc, char **argv)
{
    struct trace_options o = {.via = "qemu", .max = UINT64_MAX, .level = LEVEL_DEFAULT};
    struct trace_header h;
    argp_parse(&record_argp, argc, argv, ARGP_IN_ORDER, NULL, &o);
    struct record_options r = {o.out, o.via, o.command, o.max, o.level};
    int code = trace_record(&r, &h);
    if (code == NB_OK)
        fprintf(stderr,
                "nestbed: %s: %" PRIu64 " accesses, %" PRIu64 " processes, command status %d\n",
                o.out, h.accesses, h.events[TRACE_FORK] + 1, h.status);
    return code;
}

/* ---- convert ---- */

static error_t parse_convert(int key, char *arg, struct argp_state *state)
{
    struct trace_options *o = state->input;
    if (key == ARGP_KEY_ARG && state->arg_num < 2) {
        *(state->arg_num ? &o->out : &o->in) = arg;
        return 0;
    }
    if (key == ARGP_KEY_ARG)
        argp_error(state, "unexpected argument '%s'", arg);
    if (key == ARGP_KEY_END && state->arg_num < 2)
        argp_error(state, "give an input and an output");
    return parse_common(key, arg, state);
}

static const struct argp_option convert_options[] = {FORMAT_OPTION, LEVEL_OPTION, {0}};
static const struct argp convert_argp = {
    .options = convert_options,
    .parser = parse_convert,
    .args_doc = "IN OUT",
    .doc = "Convert a trace of any known format to .nbt. IN may be - for standard input.\v"
           "Example: xz -dc 600.perlbench.champsimtrace.xz | nestbed trace convert --format "
           "champsim - perl.nbt"};

static void on_signal(int sig)
{
    (void)sig;
    trace_stop = 1;
}

/* A signal ends the copying, so that the temporary file is removed. No SA_RESTART: a read may be
 * waiting. */
static void catch_signals(void)
{
    static const int sigs[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction a = {.sa_handler = on_signal};
    for (size_t i = 0; i < ARRAY_SIZE(sigs); i++)
        sigaction(sigs[i], &a, NULL);
}

static int copy(struct trace *t, struct trace_writer *w)
{
    struct trace_batch b;
    int r = 1;
    while (!trace_write_failed(w) && (r = trace_next(t, &b)) > 0) {
        trace_put(w, b.acc, b.n);
        if (b.ev.kind != TRACE_NONE)
            trace_put_event(w, &b.ev);
    }
    return r;
}

static int convert_to(struct trace *t, const struct trace_options *o)
{
    char err[512];
    int code = NB_OK;
    catch_signals(); /* first, or one could leave the temporary file behind */
    struct trace_writer *w = trace_create(o->out, trace_head(t), o->level, &code, err, sizeof err);
    if (!w)
        return report(code, err);
    progress_wait("converting");
    int r = copy(t, w);
    progress_end();
    if (r < 0) {
        trace_abandon(w);
        return report(trace_error_code(t), trace_error(t));
    }
    trace_set_skipped(w, trace_skipped(t));
    code = trace_finish(w, err, sizeof err);
    return code ? report(code, err) : NB_OK;
}

static int convert(int argc, char **argv)
{
    struct trace_options o = {.level = LEVEL_DEFAULT};
    struct trace *t;
    char err[512];
    argp_parse(&convert_argp, argc, argv, 0, NULL, &o);
    char *path = trace_resolve(o.in, err, sizeof err);
    if (!path)
        return report(NB_NOINPUT, err);
    int code = trace_open(path, o.format, &t, err, sizeof err);
    free(path);
    if (code)
        return report(code, err);
    code = convert_to(t, &o);
    trace_close(t);
    return code;
}

/* ---- info ---- */

/* Set of (process, page), open addressing; a slot with pid 0 is free. A few bytes of a hostile
 * trace touch millions of pages: above MAX_PAGES (64 GiB of them, a set of 512 MiB) nothing is
 * added. */
enum { MAX_PAGES = (1 << 24) - 1 };
struct page_set {
    struct page {
        uint64_t page;
        uint32_t pid;
    } * slot;
    uint64_t n, cap;
};

static struct page *page_slot(struct page_set *s, struct page want)
{
    uint64_t h = (want.page * 0x9e3779b97f4a7c15ull) ^ (want.pid * 0xd1342543de82ef95ull);
    for (uint64_t i = h ^ h >> 29;; i++) {
        struct page *p = &s->slot[i & (s->cap - 1)];
        if (!p->pid || (p->page == want.page && p->pid == want.pid))
            return p;
    }
}

static void page_grow(struct page_set *s)
{
    struct page_set big = {.cap = s->cap ? 2 * s->cap : 4096, .n = s->n};
    big.slot = meta_calloc(META_TRACE, big.cap, sizeof *big.slot);
    for (uint64_t i = 0; i < s->cap; i++)
        if (s->slot[i].pid)
            *page_slot(&big, s->slot[i]) = s->slot[i];
    meta_free(META_TRACE, s->slot);
    *s = big;
}

static void page_add(struct page_set *s, uint64_t page, uint32_t pid)
{
    if (s->n > MAX_PAGES)
        return;
    if (2 * s->n >= s->cap)
        page_grow(s);
    struct page *p = page_slot(s, (struct page){page, pid});
    s->n += !p->pid;
    *p = (struct page){page, pid};
}

struct survey {
    uint64_t accesses, stores, events[TRACE_KINDS], last;
    uint32_t pid;
    struct page_set pages;
};

static void touch(struct survey *s, uint64_t page)
{
    if (page != s->last)
        page_add(&s->pages, page, s->pid);
    s->last = page;
}

static void survey_batch(struct survey *s, const struct trace_batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        const struct trace_access *a = &b->acc[i];
        s->stores += a->store;
        touch(s, a->va >> 12);
        if ((a->va & 4095) + a->size > 4096)
            touch(s, (a->va >> 12) + 1);
    }
    s->accesses += b->n;
    s->events[b->ev.kind] += b->ev.kind != TRACE_NONE;
    if (b->ev.kind == TRACE_SWITCH && b->ev.pid != s->pid) {
        s->pid = b->ev.pid;
        s->last = ~0ull;
    }
}

static json_t *text(const char *s) { return s && *s ? json_string(s) : json_null(); }
static json_t *count(uint64_t n) { return json_integer((json_int_t)n); }

static json_t *describe(struct trace *t, const char *path, const struct survey *s)
{
    const struct trace_header *h = trace_head(t);
    struct stat st;
    bool sized = strcmp(path, "-") != 0 && stat(path, &st) == 0 && S_ISREG(st.st_mode);
    json_t *j = json_object(), *e = json_object();
    char *file = trace_clean(strdup(path));
    json_object_set_new(j, "schema", json_string("nestbed-trace/1"));
    json_object_set_new(j, "file", json_string(file));
    free(file);
    json_object_set_new(j, "format", json_string(trace_format_of(t)->name));
    json_object_set_new(j, "command", text(h->command));
    json_object_set_new(j, "source", text(h->source));
    json_object_set_new(j, "note", text(h->note));
    json_object_set_new(j, "status", h->status < 0 ? json_null() : json_integer(h->status));
    json_object_set_new(j, "accesses", count(s->accesses));
    json_object_set_new(j, "loads", count(s->accesses - s->stores));
    json_object_set_new(j, "stores", count(s->stores));
    json_object_set_new(j, "skipped", count(trace_skipped(t)));
    json_object_set_new(j, "processes", count(s->events[TRACE_FORK] + 1));
    json_object_set_new(j, "threads", count(s->events[TRACE_THREAD]));
    json_object_set_new(j, "pages_4k", s->pages.n > MAX_PAGES ? json_null() : count(s->pages.n));
    json_object_set_new(j, "bytes", sized ? count((uint64_t)st.st_size) : json_null());
    json_object_set_new(j, "bytes_per_access",
                        sized && s->accesses ? json_real((double)st.st_size / (double)s->accesses)
                                             : json_null());
    for (unsigned k = TRACE_MAP; k < TRACE_KINDS; k++)
        json_object_set_new(e, trace_kind_names[k], count(s->events[k]));
    json_object_set_new(j, "events", e);
    return j;
}

static void print_value(const char *key, const json_t *v)
{
    if (json_is_string(v))
        printf("%-18s %s\n", key, json_string_value(v));
    else if (json_is_integer(v))
        printf("%-18s %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(v));
    else if (json_is_real(v))
        printf("%-18s %.3f\n", key, json_real_value(v));
    else
        printf("%-18s %s\n", key, "unknown");
}

static void print_info(json_t *j, bool json)
{
    const char *key;
    json_t *v;
    if (json) {
        json_dumpf(j, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));
        putchar('\n');
        return;
    }
    json_object_foreach(j, key, v) if (!json_is_object(v) && strcmp(key, "schema") != 0)
        print_value(key, v);
    json_object_foreach(json_object_get(j, "events"), key, v)
    {
        char name[40];
        snprintf(name, sizeof name, "events: %s", key);
        print_value(name, v);
    }
}

static int info_of(struct trace *t, const char *path, bool json)
{
    struct survey s = {.pid = 1, .last = ~0ull};
    struct trace_batch b;
    int r;
    progress_wait("reading");
    while ((r = trace_next(t, &b)) > 0)
        survey_batch(&s, &b);
    progress_end();
    if (r == 0) {
        json_t *j = describe(t, path, &s);
        print_info(j, json);
        json_decref(j);
    }
    meta_free(META_TRACE, s.pages.slot);
    return r < 0 ? report(trace_error_code(t), trace_error(t)) : NB_OK;
}

static error_t parse_info(int key, char *arg, struct argp_state *state)
{
    struct trace_options *o = state->input;
    if (key == 'j') {
        o->json = true;
        return 0;
    }
    if (key == ARGP_KEY_ARG && state->arg_num == 0) {
        o->in = arg;
        return 0;
    }
    if (key == ARGP_KEY_ARG)
        argp_error(state, "unexpected argument '%s'", arg);
    if (key == ARGP_KEY_END && state->arg_num == 0)
        argp_error(state, "give a trace");
    return parse_common(key, arg, state);
}

static const struct argp_option info_options[] = {
    {"json", 'j', NULL, 0, "Print JSON", 0}, FORMAT_OPTION, {0}};
static const struct argp info_argp = {
    .options = info_options,
    .parser = parse_info,
    .args_doc = "FILE",
    .doc = "Check a whole trace and say what is in it. FILE: a path, - for standard input, or a "
           "name of "
           "`nestbed list traces`.\v"
           "pages_4k counts distinct pages of each process, up to 16 million.\n\nExample: nestbed "
           "trace info sqlite"};

static int info(int argc, char **argv)
{
    struct trace_options o = {0};
    struct trace *t;
    char err[512];
    argp_parse(&info_argp, argc, argv, 0, NULL, &o);
    char *path = trace_resolve(o.in, err, sizeof err);
    int code = path ? trace_open(path, o.format, &t, err, sizeof err) : NB_NOINPUT;
    if (code) {
        free(path);
        return report(code, err);
    }
    code = info_of(t, path, o.json);
    trace_close(t);
    free(path);
    return code;
}

/* ---- the subcommands ---- */

static const struct sub {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} subs[] = {{"record", "Run a program and record what it does to memory", record},
            {"convert", "Convert a trace to .nbt", convert},
            {"info", "Check a trace and count what is in it", info}};

static void usage(FILE *f)
{
    fputs("Usage: nestbed trace SUBCOMMAND [OPTION...]\n"
          "Record, convert and inspect traces of real programs.\n\n",
          f);
    for (size_t i = 0; i < ARRAY_SIZE(subs); i++)
        fprintf(f, "  %-10s %s\n", subs[i].name, subs[i].summary);
    fputs("\nFormats read:\n", f);
    const struct reg_head *fmt[32];
    size_t n = REG_SORTED(trace_format, fmt, ARRAY_SIZE(fmt));
    for (size_t i = 0; i < n; i++)
        fprintf(f, "  %-10s %s\n", fmt[i]->name, fmt[i]->summary);
    fputs("\nExample: nestbed trace record -o ls.nbt -- ls -l\n", f);
}

static int unknown(const char *name)
{
    const char *near = NULL;
    unsigned best = 4;
    for (size_t i = 0; i < ARRAY_SIZE(subs); i++)
        if (edit_distance(name, subs[i].name) < best) {
            best = edit_distance(name, subs[i].name);
            near = subs[i].name;
        }
    fprintf(stderr, "nestbed: trace has no subcommand '%s'%s%s%s (record, convert, info)\n", name,
            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    return NB_USAGE;
}

static int cmd_trace(int argc, char **argv)
{
    char title[64];
    progress_init(WHEN_AUTO, false);
    if (argc < 2) {
        usage(stderr);
        return NB_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return NB_OK;
    }
    for (size_t i = 0; i < ARRAY_SIZE(subs); i++)
        if (strcmp(argv[1], subs[i].name) == 0) {
            snprintf(title, sizeof title, "nestbed trace %s", subs[i].name);
            argv[1] = title;
            return subs[i].run(argc - 1, argv + 1);
        }
    return unknown(argv[1]);
}

REGISTER(command, trace, .summary = "Record, convert and inspect traces of real programs",
         .run = cmd_trace);
