/* cmd_doctor.c: `nestbed doctor`: what this machine has, what is missing, and the line that gets
 * it.
 *
 * Each check is a row of one table. Needed rows decide the exit status; the others only say which
 * part of nestbed cannot run here. Facts (huge pages, NUMA nodes) are reported and never fail.
 */
#include <dirent.h>
#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/command.h"
#include "bench/options.h"
#include "bench/record.h"
#include "vmm/kvm.h"
#include "vmm/labvm.h"

enum kind { PIECE, FACT }; /* something to install; something the machine has or has not */
enum { MAX_DETAIL = 256 };

struct finding {
    bool found;
    char detail[MAX_DETAIL];
};

struct check {
    const char *name;
    enum kind kind;
    bool needed;
    const char *for_what;
    const char *package;             /* Debian package(s) that provide it */
    void (*probe)(struct finding *); /* NULL: look for `name` in PATH */
};

/* ---- probes ---- */
static bool in_path(const char *tool, char *where, size_t n)
{
    const char *path = getenv("PATH");
    char *copy = strdup(path ? path : "/usr/bin:/bin"), *save = NULL;
    bool found = false;
    for (char *dir = copy ? strtok_r(copy, ":", &save) : NULL; dir && !found;
         dir = strtok_r(NULL, ":", &save)) {
        struct stat st;
        snprintf(where, n, "%s/%s", dir, tool);
        found = access(where, X_OK) == 0 && stat(where, &st) == 0 && S_ISREG(st.st_mode);
    }
    free(copy);
    return found;
}

static void probe_tool(const char *tool, struct finding *f)
{
    f->found = in_path(tool, f->detail, sizeof f->detail);
    if (!f->found)
        f->detail[0] = 0;
}

static void probe_compare(struct finding *f)
{
    static const char path[] = "/usr/share/benchmark/compare.py";
    f->found = access(path, R_OK) == 0;
    snprintf(f->detail, sizeof f->detail, "%s", f->found ? path : "");
}

/* First line of a command's output, without its newline. */
static bool first_line(const char *command, char *buf, size_t n)
{
    FILE *p = popen(command, "re");
    bool ok = p && fgets(buf, (int)n, p);
    if (p)
        pclose(p);
    if (ok)
        buf[strcspn(buf, "\n")] = 0;
    else
        buf[0] = 0;
    return ok;
}

/* gnuplot without fonts draws charts without any text, and says nothing. */
static void probe_font(struct finding *f)
{
    first_line("fc-match -f '%{family}\\n' 'DejaVu Sans' 2>/dev/null", f->detail, sizeof f->detail);
    f->found = strcmp(f->detail, "DejaVu Sans") == 0;
}

static void probe_kvm(struct finding *f)
{
    const struct kvm_host *host = kvm_host(f->detail, sizeof f->detail);
    f->found = host != NULL;
    if (host)
        snprintf(f->detail, sizeof f->detail, "%s: --paging %s%s", host->backend, host->paging,
                 host->emulates_ring0 ? "; ring 0 of a guest is emulated" : "");
}

static void probe_labvm(struct finding *f)
{
    f->found = !labvm_missing(f->detail, sizeof f->detail);
    if (f->found)
        snprintf(f->detail, sizeof f->detail, "--paging ept and shadow");
}

static bool read_word(const char *path, char *buf, size_t n)
{
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(buf, (int)n, f);
    if (f)
        fclose(f);
    if (ok)
        buf[strcspn(buf, "\n")] = 0;
    return ok;
}

static void probe_cmocka(struct finding *f)
{
    snprintf(f->detail, sizeof f->detail, "/usr/include/cmocka.h");
    f->found = access(f->detail, R_OK) == 0;
    if (!f->found)
        f->detail[0] = 0;
}

static void probe_thp(struct finding *f)
{
    f->found =
        read_word("/sys/kernel/mm/transparent_hugepage/enabled", f->detail, sizeof f->detail);
    if (!f->found)
        snprintf(f->detail, sizeof f->detail, "this kernel has no transparent huge pages");
}

static void probe_hugepages(struct finding *f)
{
    char n[64];
    f->found = read_word("/proc/sys/vm/nr_hugepages", n, sizeof n) && strcmp(n, "0") != 0;
    snprintf(f->detail, sizeof f->detail, "%s reserved%s", f->found ? n : "0",
             f->found ? "" : "; nothing needs them (sysctl vm.nr_hugepages=N reserves some)");
}

static void probe_numa(struct finding *f)
{
    int nodes = numa_available() < 0 ? 0 : numa_num_configured_nodes();
    f->found = nodes > 0;
    if (nodes == 0)
        snprintf(f->detail, sizeof f->detail, "no NUMA support: --numa cannot be used");
    else
        snprintf(f->detail, sizeof f->detail, "%d node%s%s", nodes, nodes > 1 ? "s" : "",
                 nodes > 1 ? "" : ": placement has no effect here");
}

static void probe_rights(struct finding *f)
{
    f->found = geteuid() == 0;
    snprintf(f->detail, sizeof f->detail, "%s",
             f->found ? "root"
                      : "not root: everything but host-wide KSM settings and module options works");
}

static void probe_ksm(struct finding *f)
{
    f->found = access("/sys/kernel/mm/ksm/run", R_OK) == 0;
    snprintf(f->detail, sizeof f->detail, "%s",
             f->found ? "the kernel can merge pages" : "this kernel has no KSM");
}

static const struct check checks[] = {
    {"gcc", PIECE, true, "make", "gcc", NULL},
    {"make", PIECE, true, "make", "make", NULL},
    {"git", PIECE, false, "the commit in records", "git", NULL},
    {"gnuplot", PIECE, false, "make plots", "gnuplot-nox", NULL},
    {"DejaVu Sans", PIECE, false, "text in plots", "fonts-dejavu-core fontconfig", probe_font},
    {"hyperfine", PIECE, false, "timings of make bench", "hyperfine", NULL},
    {"compare.py", PIECE, false, "comparing two benchmark files",
     "libbenchmark-tools python3-scipy", probe_compare},
    {"cmocka", PIECE, false, "make check: unit tests", "libcmocka-dev", probe_cmocka},
    {"bats", PIECE, false, "make check: command-line tests", "bats", NULL},
    {"jq", PIECE, false, "make check: command-line tests", "jq", NULL},
    {"shellcheck", PIECE, false, "make check: shell scripts", "shellcheck", NULL},
    {"clang-format", PIECE, false, "make check: layout of the sources", "clang-format", NULL},
    {"clang", PIECE, false, "make check: same counts from another compiler", "clang", NULL},
    {"valgrind", PIECE, false, "recording traces with valgrind", "valgrind", NULL},
    {"qemu-x86_64", PIECE, false, "recording traces with QEMU", "qemu-user", NULL},
    {"help2man", PIECE, false, "make man", "help2man", NULL},
    {"qemu-system-x86_64", PIECE, false, "--engine labvm: both paging modes of a real KVM",
     "qemu-system-x86", NULL},
    {"kvm", FACT, false, "--engine kvm", NULL, probe_kvm},
    {"labvm", FACT, false, "--engine labvm", NULL, probe_labvm},
    {"rights", FACT, false, "host-wide settings", NULL, probe_rights},
    {"KSM", FACT, false, "the kernel's page sharing", NULL, probe_ksm},
    {"THP", FACT, false, "transparent huge pages", NULL, probe_thp},
    {"hugepages", FACT, false, "reserved huge pages", NULL, probe_hugepages},
    {"NUMA", FACT, false, "--numa", NULL, probe_numa},
};

/* ---- report ---- */
static void examine(struct finding *f)
{
    for (unsigned i = 0; i < ARRAY_SIZE(checks); i++)
        if (checks[i].probe)
            checks[i].probe(&f[i]);
        else
            probe_tool(checks[i].name, &f[i]);
}

static const char *verdict(const struct check *c, const struct finding *f)
{
    return f->found ? "found" : c->kind == FACT ? "none" : c->needed ? "MISSING" : "missing";
}

static void print_report(const struct finding *f)
{
    struct table *t = table_new(4, "llll");
    static const char *const head[] = {"what", "state", "for", "detail"};
    for (unsigned i = 0; i < ARRAY_SIZE(head); i++)
        table_cell(t, "%s", head[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(checks); i++) {
        const struct check *c = &checks[i];
        table_cell(t, "%s", c->name);
        table_cell(t, "%s", verdict(c, &f[i]));
        table_cell(t, "%s", c->for_what);
        if (!f[i].found && c->package)
            table_cell(t, "apt-get install %s", c->package);
        else
            table_cell(t, "%s", f[i].detail);
    }
    table_print(t);
    table_free(t);
}

/* All that is missing, as one command to paste. */
static void print_install_line(const struct finding *f)
{
    bool any = false;
    for (unsigned i = 0; i < ARRAY_SIZE(checks); i++) {
        if (f[i].found || !checks[i].package)
            continue;
        printf("%s %s",
               any ? "" : "\nEverything missing: sudo apt-get install -y --no-install-recommends",
               checks[i].package);
        any = true;
    }
    puts(any ? "" : "\nNothing is missing.");
}

static void print_json(const struct finding *f, bool ok)
{
    json_t *a = json_array(), *j;
    for (unsigned i = 0; i < ARRAY_SIZE(checks); i++)
        json_array_append_new(a, json_pack("{ss sb sb ss ss? ss}", "name", checks[i].name, "found",
                                           f[i].found, "needed", checks[i].needed, "for",
                                           checks[i].for_what, "package", checks[i].package,
                                           "detail", f[i].detail));
    j = json_pack("{sb so so}", "ok", ok, "checks", a, "env", record_env());
    if (!j)
        die(NB_INTERNAL, "cannot build the JSON report: a path that is not UTF-8?");
    record_print_json(j);
    json_decref(j);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->input;
        return 0;
    case ARGP_KEY_ARG:
        die_argument(state, arg);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&opt_json, 0, "Output:", 1}, {0}};
static const struct argp argp = {
    .parser = parse,
    .children = children,
    .doc = "Say what this machine has and what is missing, with the line that installs it. Exit "
           "status 0 when "
           "everything that is needed is there.\v"
           "Example: nestbed doctor --json",
};

static int cmd_doctor(int argc, char **argv)
{
    static struct options o;
    static struct finding f[ARRAY_SIZE(checks)];
    bool ok = true;
    options_init(&o);
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    options_output(&o);
    examine(f);
    for (unsigned i = 0; i < ARRAY_SIZE(checks); i++)
        ok = ok && (f[i].found || !checks[i].needed);
    if (o.format == OUT_JSON) {
        print_json(f, ok);
    } else {
        print_report(f);
        print_install_line(f);
    }
    if (!ok)
        fprintf(stderr, "nestbed: something that is needed is missing: install it as shown\n");
    return ok ? NB_OK : NB_NODEVICE;
}

REGISTER(command, doctor, .summary = "Say what this machine has and what is missing",
         .run = cmd_doctor);
