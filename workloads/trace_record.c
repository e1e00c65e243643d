/* trace_record.c: runs a program under qemu-x86_64 with our plugin, or under valgrind's lackey.
 *
 * QEMU sees processes, threads and memory system calls; its part files lie in a temporary folder
 * until the program and all its descendants have ended (we are their subreaper), then become one
 * trace. Lackey sees the accesses of the first process only; its text comes through a pipe.
 *
 * Addresses repeat from run to run: address randomisation is switched off for the program.
 *
 * SIGINT, SIGTERM and SIGHUP are passed on to the program; we wait for it, kill what it leaves
 * running, remove what is temporary and write no trace. A second signal kills a program that took
 * no notice of the first.
 */
#include "workloads/trace_record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef NB_DATADIR
#define NB_DATADIR "/usr/local/share/nestbed"
#endif
#define PLUGIN "nestbed-qemu-plugin.so"

static volatile pid_t running; /* the tool */

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};

static void on_signal(int sig)
{
    if (running > 0)
        kill(running, trace_stop ? SIGKILL : sig);
    trace_stop = 1;
}

static void handle_signals(void (*handler)(int))
{
    struct sigaction a = {.sa_handler = handler};
    for (size_t i = 0; i < ARRAY_SIZE(stop_signals); i++)
        sigaction(stop_signals[i], &a, NULL);
    signal(SIGPIPE, handler == SIG_DFL ? SIG_DFL : SIG_IGN);
}

/* Keep the signals waiting, or (SIG_UNBLOCK) let them come. */
static void hold_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(stop_signals); i++)
        sigaddset(&set, stop_signals[i]);
    sigprocmask(how, &set, NULL);
}

static int say(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int say(int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("nestbed: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return code;
}

/* ---- finding things ---- */

/* Executable `name` in PATH (or itself, with a slash); from malloc, NULL when there is none. */
static char *which(const char *name)
{
    const char *path = getenv("PATH");
    char *found = NULL;
    if (strchr(name, '/'))
        return access(name, X_OK) == 0 ? strdup(name) : NULL;
    for (const char *p = path ? path : "/usr/bin:/bin"; *p && !found; p += *p == ':') {
        size_t n = strcspn(p, ":");
        if (asprintf(&found, "%.*s/%s", n ? (int)n : 1, n ? p : ".", name) < 0)
            return NULL;
        if (access(found, X_OK) != 0) {
            free(found);
            found = NULL;
        }
        p += n;
    }
    return found;
}

/* The plugin beside this executable, else where it is installed; from malloc, NULL when missing. */
static char *find_plugin(void)
{
    char exe[PATH_MAX], *path = NULL;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n < 0 ? 0 : n] = 0;
    char *slash = strrchr(exe, '/');
    if (slash && asprintf(&path, "%.*s/" PLUGIN, (int)(slash - exe), exe) > 0 &&
        access(path, R_OK) == 0)
        return path;
    free(path);
    return access(NB_DATADIR "/" PLUGIN, R_OK) == 0 ? strdup(NB_DATADIR "/" PLUGIN) : NULL;
}

/* The words of a script's first line that run it, without `env`; from malloc. */
static char *interpreter(const char *path)
{
    char line[256] = "";
    FILE *f = fopen(path, "re");
    if (f && !fgets(line, sizeof line, f))
        line[0] = 0;
    if (f)
        fclose(f);
    line[strcspn(line, "\r\n")] = 0;
    const char *p = line + (strlen(line) < 2 ? strlen(line) : 2);
    p += strspn(p, " \t");
    size_t n = strcspn(p, " \t");
    if (n >= 4 && strncmp(p + n - 4, "/env", 4) == 0) {
        p += n + strspn(p + n, " \t");
        if (strncmp(p, "-S", 2) == 0)
            p += 2 + strspn(p + 2, " \t");
    }
    return trace_clean(strdup(*p ? p : "sh"));
}

static int refuse_script(const char *name, const char *path)
{
    char *words = interpreter(path);
    int code =
        say(NB_USAGE,
            "%s: is a script: record its interpreter, as in: nestbed trace record -o FILE -- %s %s",
            name, words, path);
    free(words);
    return code;
}

/* 0 when `path` is an ELF program; else an exit code, with a reason said. */
static int check_program(const char *name, const char *path)
{
    char head[4] = "";
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd >= 0 ? read(fd, head, sizeof head) : -1;
    if (fd >= 0)
        close(fd);
    if (!path || n < 0)
        return say(NB_NOINPUT,
                   "%s: not found as an executable: give a program in PATH or a path to one", name);
    if (n >= 2 && head[0] == '#' && head[1] == '!')
        return refuse_script(name, path);
    if (n < 4 || memcmp(head,
                        "\x7f"
                        "ELF",
                        4) != 0)
        return say(NB_DATAERR, "%s: is not an ELF program", name);
    return 0;
}

/* ---- describing the recording ---- */

static bool plain(const char *s)
{
    return *s &&
           s[strspn(
               s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,%@")] == 0;
}

/* argv as a shell would take it; from malloc. */
static char *shell_words(char **argv)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        die(NB_FAIL, "open_memstream: %s", strerror(errno));
    for (char **a = argv; *a; a++) {
        if (a != argv)
            fputc(' ', f);
        if (plain(*a)) {
            fputs(*a, f);
            continue;
        }
        fputc('\'', f);
        for (const char *c = *a; *c; c++)
            fputs(*c == '\'' ? "'\\''" : (char[]){*c, 0}, f);
        fputc('\'', f);
    }
    fclose(f);
    return text;
}

/* First line that `tool --version` prints; from malloc. */
static char *version_of(const char *tool)
{
    char line[160] = "", *cmd = NULL, *out = NULL;
    FILE *f = asprintf(&cmd, "'%s' --version 2>/dev/null", tool) > 0 ? popen(cmd, "r") : NULL;
    if (f && !fgets(line, sizeof line, f))
        line[0] = 0;
    if (f)
        pclose(f);
    line[strcspn(line, "\n")] = 0;
    out = strdup(line[0] ? line : tool);
    free(cmd);
    return out;
}

static struct trace_writer *begin(const struct record_options *o, const char *tool,
                                  const char *limits, int *code)
{
    char err[512], *version = version_of(tool), *source = NULL, *note = NULL;
    struct trace_header h = {.command = shell_words(o->command), .page_bytes = 4096, .status = -1};
    if (asprintf(&source, "%s, %s", o->via, version) > 0)
        h.source = source;
    if (o->max == UINT64_MAX ? asprintf(&note, "%s", limits) > 0
                             : asprintf(&note, "the first %llu accesses at most; %s",
                                        (unsigned long long)o->max, limits) > 0)
        h.note = note;
    struct trace_writer *w = trace_create(o->out, &h, o->level, code, err, sizeof err);
    if (!w)
        say(*code, "%s", err);
    free(version);
    free(source);
    free(note);
    free(h.command);
    return w;
}

static int finish(struct trace_writer *w, int status, struct trace_header *head)
{
    char err[512];
    trace_set_status(w, status);
    struct trace_header kept = *trace_written(w);
    int code = trace_finish(w, err, sizeof err);
    if (code)
        return say(code, "%s", err);
    kept.command = kept.source = kept.note = NULL;
    *head = kept;
    return NB_OK;
}

/* ---- running the tool ---- */

static _Noreturn void become(char **argv, int keep)
{
    handle_signals(SIG_DFL);
    hold_signals(SIG_UNBLOCK);
    personality(ADDR_NO_RANDOMIZE);
    if (keep >= 0)
        fcntl(keep, F_SETFD, 0);
    execv(argv[0], argv);
    fprintf(stderr, "nestbed: cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

/* Start argv, with write end `keep` of a pipe left open (-1: none). No signal gets lost on the way:
 * one that came before ends the program, one that comes now waits until it can be passed on. */
static pid_t start(char **argv, int keep)
{
    hold_signals(SIG_BLOCK);
    pid_t pid = fork();
    if (pid == 0)
        become(argv, keep);
    running = pid;
    if (pid > 0 && trace_stop)
        kill(pid, SIGTERM);
    hold_signals(SIG_UNBLOCK);
    return pid;
}

static int shell_status(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* What the tool left running is our child now, as we are its subreaper. */
static void kill_orphans(void)
{
    FILE *f = fopen("/proc/thread-self/children", "r");
    for (int pid; f && fscanf(f, "%d", &pid) == 1;)
        kill(pid, SIGKILL);
    if (f)
        fclose(f);
}

/* Wait for the tool and every descendant; returns the tool's own status. */
static int wait_all(pid_t pid)
{
    int status, own = -1;
    for (;;) {
        pid_t p = waitpid(-1, &status, 0);
        if (p < 0 && errno != EINTR)
            return own;
        if (p == pid) {
            own = shell_status(status);
            running = 0;
        }
        if (trace_stop && !running)
            kill_orphans();
    }
}

/* ---- through QEMU ---- */

static void remove_folder(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    rmdir(dir);
}

/* QEMU splits its option at commas; a doubled one stands for itself. */
static char *double_commas(const char *s)
{
    char *out = malloc(2 * strlen(s) + 1), *p = out;
    if (!out)
        die(NB_FAIL, "malloc: no memory for a path");
    for (; *s; s++) {
        *p++ = *s;
        if (*s == ',')
            *p++ = ',';
    }
    *p = 0;
    return out;
}

/* What the plugin left behind when it gave up; 0 when it did not. */
static int plugin_error(const char *dir)
{
    char path[PATH_MAX], why[200] = "";
    snprintf(path, sizeof path, "%s/error", dir);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    if (!fgets(why, sizeof why, f))
        strcpy(why, "no room for the recording");
    fclose(f);
    return say(
        NB_IOERR,
        "the recording was given up: %s (temporary files are in $TMPDIR: give it more room, or use "
        "--max-accesses)",
        why);
}

static void say_execs(const struct trace_execs *x)
{
    char *text = NULL, *first;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        die(NB_FAIL, "open_memstream: %s", strerror(errno));
    for (unsigned i = 0; i < x->names; i++)
        fprintf(f, "%s%s", i ? ", " : "", x->name[i]);
    fprintf(f, "%s", !x->more ? "" : x->names ? ", ..." : "names unknown");
    fclose(f);
    text = trace_clean(text);
    first = trace_clean(strdup(x->names ? x->name[0] : "COMMAND"));
    say(0,
        "%llu program%s started by exec %s not recorded (%s): record %s directly, as in: nestbed "
        "trace record -o FILE -- %s",
        (unsigned long long)x->n, x->n == 1 ? "" : "s", x->n == 1 ? "was" : "were", text,
        x->n == 1 ? "it" : "them", first);
    free(first);
    free(text);
}

static int run_qemu(char **argv, const char *dir, const struct record_options *o,
                    struct trace_writer *w, struct trace_header *head)
{
    char err[512];
    struct trace_execs execs = {0};
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t pid = start(argv, -1);
    int status = pid < 0 ? -1 : wait_all(pid), code = plugin_error(dir);
    if (pid < 0)
        code = say(NB_FAIL, "fork: %s", strerror(errno));
    if (!code && (code = trace_merge(dir, w, o->max, &execs, err, sizeof err)))
        say(code, "%s: %s", o->command[0], err);
    if (!code && !trace_stop && trace_written(w)->accesses == 0 &&
        trace_written(w)->events[TRACE_EXIT] == 0)
        code = say(NB_FAIL, "%s: could not be run by QEMU (status %d)", o->command[0], status);
    if (trace_stop)
        code = say(NB_SIGINT, "interrupted: no trace was written");
    if (code) {
        trace_abandon(w);
        return code;
    }
    code = finish(w, status, head);
    if (!code && execs.n)
        say_execs(&execs);
    return code;
}

static char *temp_folder(void)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = NULL;
    if (asprintf(&dir, "%s/nestbed-trace-XXXXXX", tmp && *tmp ? tmp : "/tmp") > 0 && mkdtemp(dir))
        return dir;
    say(0, "%s: cannot be made: %s", dir ? dir : "temporary folder", strerror(errno));
    free(dir);
    return NULL;
}

static int via_qemu(const struct record_options *o, char *qemu, char *plugin, char *program,
                    struct trace_header *head)
{
    static const char limits[] =
        "data accesses, 16 bytes and more as pieces of 8; memory system calls; children run "
        "from fork to exit one after another; exec'ed programs not recorded";
    char *dir = temp_folder(), *p = double_commas(plugin), *d = dir ? double_commas(dir) : NULL,
         *arg = NULL;
    struct trace_writer *w = NULL;
    int code = NB_IOERR;
    size_t n = 0;
    if (dir && asprintf(&arg, "%s,dir=%s,max=%llu", p, d, (unsigned long long)o->max) < 0)
        arg = NULL;
    if (arg && (w = begin(o, qemu, limits, &code))) {
        while (o->command[n])
            n++;
        char *lead[] = {qemu, strdup("-seed"), strdup("1"),   strdup("-plugin"),
                        arg,  strdup("-0"),    o->command[0], program};
        char **argv = calloc(ARRAY_SIZE(lead) + n, sizeof *argv);
        memcpy(argv, lead, sizeof lead);
        memcpy(argv + ARRAY_SIZE(lead), o->command + 1, n * sizeof *argv);
        code = run_qemu(argv, dir, o, w, head);
        free(lead[1]), free(lead[2]), free(lead[3]), free(lead[5]);
        free(argv);
    }
    if (dir)
        remove_folder(dir);
    free(dir), free(p), free(d), free(arg);
    return code;
}

/* ---- through lackey ---- */

/* Copy lackey's text into the trace: an exit code. */
static int copy_lackey(int fd, uint64_t max, struct trace_writer *w, const char *command)
{
    struct trace *t;
    struct trace_batch b = {0};
    char err[512];
    int r = 1;
    if (trace_open_fd(fd, "lackey", "lackey", &t, err, sizeof err))
        return say(NB_FAIL, "%s: could not be run by valgrind: %s", command, err);
    while (max && !trace_write_failed(w) && (r = trace_next(t, &b)) > 0) {
        size_t n = b.n < max ? b.n : (size_t)max;
        trace_put(w, b.acc, n);
        max -= n;
    }
    int code = r < 0 && !trace_stop ? say(NB_DATAERR, "%s", trace_error(t)) : 0;
    trace_set_skipped(w, trace_skipped(t));
    trace_close(t);
    return code;
}

static int run_lackey(char **argv, int pipe_fd[2], const struct record_options *o,
                      struct trace_writer *w, struct trace_header *head)
{
    pid_t pid = start(argv, pipe_fd[1]);
    close(pipe_fd[1]);
    int code = copy_lackey(pipe_fd[0], o->max, w, o->command[0]);
    bool cut = trace_written(w)->accesses >= o->max;
    if (pid > 0 && (code || trace_write_failed(w) || trace_stop || cut))
        kill(pid, SIGKILL); /* its text has nowhere to go */
    int status = pid > 0 ? wait_all(pid) : -1;
    if (trace_stop)
        code = say(NB_SIGINT, "interrupted: no trace was written");
    if (code) {
        trace_abandon(w);
        return code;
    }
    return finish(w, cut ? -1 : status, head);
}

static int via_lackey(const struct record_options *o, char *valgrind, char *program,
                      struct trace_header *head)
{
    static const char limits[] = "data accesses of the first process; no memory events";
    int fd[2], code = NB_FAIL;
    char *log = NULL;
    size_t n = 0;
    struct trace_writer *w = begin(o, valgrind, limits, &code);
    if (!w)
        return code;
    if (pipe2(fd, O_CLOEXEC) != 0 || asprintf(&log, "--log-fd=%d", fd[1]) < 0) {
        trace_abandon(w);
        return say(NB_FAIL, "pipe: %s", strerror(errno));
    }
    while (o->command[n])
        n++;
    const char *lead[] = {valgrind,
                          "--tool=lackey",
                          "--trace-mem=yes",
                          "--basic-counts=no",
                          "-q",
                          "--child-silent-after-fork=yes",
                          log,
                          program};
    char **argv = calloc(ARRAY_SIZE(lead) + n, sizeof *argv);
    memcpy(argv, lead, sizeof lead);
    memcpy(argv + ARRAY_SIZE(lead), o->command + 1, n * sizeof *argv);
    code = run_lackey(argv, fd, o, w, head);
    free(argv);
    free(log);
    return code;
}

/* ---- choice ---- */

int trace_record(const struct record_options *asked, struct trace_header *head)
{
    struct record_options o = *asked;
    char *qemu = which("qemu-x86_64"), *plugin = find_plugin(), *valgrind = which("valgrind");
    char *program = which(o.command[0]);
    int code = check_program(o.command[0], program);
    if (!code && strcmp(o.via, "qemu") == 0 && (!qemu || !plugin)) {
        const char *lacks = qemu ? PLUGIN " is not beside nestbed (make builds it)"
                                 : "qemu-x86_64 is not installed (Debian: qemu-user)";
        o.via = "lackey";
        if (valgrind)
            say(0, "note: %s; recording with valgrind's lackey, without memory events", lacks);
        else
            code = say(NB_NODEVICE, "cannot record: %s, and neither is valgrind", lacks);
    }
    if (!code && strcmp(o.via, "lackey") == 0 && !valgrind)
        code = say(NB_NODEVICE, "cannot record: valgrind is not installed");
    handle_signals(on_signal);
    if (!code)
        code = strcmp(o.via, "qemu") == 0 ? via_qemu(&o, qemu, plugin, program, head)
                                          : via_lackey(&o, valgrind, program, head);
    free(qemu), free(plugin), free(valgrind), free(program);
    return code;
}
