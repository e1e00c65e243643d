/* labvm_qemu.c: QEMU as a child that never outlives us and leaves no file.
 *
 * What it reads (the initramfs) is a memory file, what it writes (results, console) are pipes; all
 * are given as /proc/self/fd/N. It gets its own process group, so that a terminal's ^C comes to us
 * alone, and a death signal.
 */
#include "vmm/labvm_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

enum { MAX_ARGS = 64, MAX_NODES = 8, TEXT = 4096 };

struct command_line {
    char *argv[MAX_ARGS + 1];
    unsigned argc;
    char text[TEXT]; /* the words, one after another */
    size_t used;
};

static void add(struct command_line *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct command_line *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(c->text + c->used, sizeof c->text - c->used, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof c->text - c->used || c->argc >= MAX_ARGS)
        die(NB_INTERNAL, "QEMU's command line is too long");
    c->argv[c->argc++] = c->text + c->used;
    c->used += (size_t)n + 1;
}

static void add_words(struct command_line *c, const char *const words[])
{
    for (; *words; words++)
        add(c, "%s", *words);
}

static void add_memory(struct command_line *c, uint64_t mem, unsigned nodes)
{
    uint64_t each = ALIGN_UP(mem / (nodes ? nodes : 1), 2 << 20);
    add(c, "-m");
    add(c, "%" PRIu64 "M", (each * (nodes ? nodes : 1)) >> 20);
    for (unsigned i = 0; nodes > 1 && i < nodes; i++) {
        add(c, "-object");
        add(c, "memory-backend-ram,id=m%u,size=%" PRIu64 "M", i, each >> 20);
        add(c, "-numa");
        add(c, "node,nodeid=%u,memdev=m%u%s", i, i, i ? "" : ",cpus=0");
    }
}

/* Fixed seeds, addresses and dates: two runs of one plan are the same run. */
static void add_clock(struct command_line *c, bool icount)
{
    static const char *const counted[] = {"-accel", "tcg,thread=single", "-icount",
                                          "shift=0,sleep=off", NULL};
    static const char *const fast[] = {"-accel", "tcg,thread=multi", NULL};
    static const char *const fixed[] = {"-seed", "1", "-rtc", "base=2020-01-01T00:00:00,clock=vm",
                                        NULL};
    add_words(c, icount ? counted : fast);
    if (icount)
        add_words(c, fixed);
}

/* nolapic_timer: with instructions counted, the calibration of that timer is 200 million of them, half
 * of the time of a boot; the machine's other timer serves as well. ACPI stays: without it interrupts
 * come through the old PIC, and a KVM under TCG then may never get on. loglevel=1: the kernel says only
 * what it dies of; a shell's output goes the same way. */
static void add_kernel_options(struct command_line *c, const struct labvm_machine *m, bool verbose)
{
    char giant[64] = "";
    if (m->giant_pages)
        snprintf(giant, sizeof giant, " hugepagesz=1G hugepages=%" PRIu64, m->giant_pages);
    add(c, "-append");
    add(c,
        "console=ttyS0 %s panic=-1 mitigations=off nopti nokaslr norandmaps tsc=reliable "
        "nolapic_timer no_timer_check cryptomgr.notests=1 random.trust_cpu=on "
        "rcupdate.rcu_expedited=1%s NESTBED_LABVM=1",
        verbose ? "loglevel=7" : "loglevel=1", giant);
}

static void build(struct command_line *c, const struct labvm_parts *p,
                  const struct labvm_config *cfg, const struct labvm_machine *m, int results,
                  int console)
{
    static const char *const machine[] = {"-cpu",     "max",  "-nodefaults", "-no-user-config",
                                          "-display", "none", "-no-reboot",  "-no-hpet",
                                          "-smp",     "1",    "-chardev",    NULL};
    add(c, "%s", p->qemu);
    add_clock(c, cfg->icount);
    add_memory(c, m->mem, cfg->nodes);
    add_words(c, machine);
    add(c, "file,id=results,path=/proc/self/fd/%d", results);
    add(c, "-device");
    add(c, "isa-debugcon,iobase=0x%x,chardev=results", LABVM_PORT);
    add(c, "-serial");
    if (console < 0)
        add(c, "mon:stdio");
    else
        add(c, "file:/proc/self/fd/%d", console);
    add(c, "-kernel");
    add(c, "%s/vmlinuz", p->kernel);
    add(c, "-initrd");
    add(c, "/proc/self/fd/%d", m->initrd);
    add_kernel_options(c, m, cfg->verbose);
}

static _Noreturn void child(struct command_line *c, int console, pid_t parent)
{
    sigset_t none;
    if (console >= 0 || !isatty(STDIN_FILENO))
        dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
    if (console >= 0) {
        setpgid(0, 0);
        dup2(console, STDOUT_FILENO);
        dup2(console, STDERR_FILENO);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before that */
        _exit(127);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(c->argv[0], c->argv);
    dprintf(STDERR_FILENO, "exec %s: %s\n", c->argv[0], strerror(errno));
    _exit(127);
}

/* The child inherits exactly its ends: a pipe's writing end left open here would hide its end. */
static void keep(int fd)
{
    if (fd >= 0)
        fcntl(fd, F_SETFD, 0);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

bool labvm_qemu_start(struct labvm_qemu *q, const struct labvm_parts *p,
                      const struct labvm_config *cfg, const struct labvm_machine *m, char *err,
                      size_t errlen)
{
    struct command_line c = {.argc = 0};
    int results[2] = {-1, -1}, console[2] = {-1, -1};
    pid_t self = getpid();
    bool ok = pipe2(results, O_CLOEXEC) == 0 && (m->terminal || pipe2(console, O_CLOEXEC) == 0);
    *q = (struct labvm_qemu){.results = results[0], .console = console[0]};
    if (ok) {
        build(&c, p, cfg, m, results[1], console[1]);
        fflush(NULL);
        q->pid = fork();
        if (q->pid == 0) {
            keep(results[1]);
            keep(console[1]);
            keep(m->initrd);
            child(&c, console[1], self);
        }
    }
    if (!ok || q->pid < 0)
        snprintf(err, errlen, "labvm cannot start QEMU: %s: %s", ok ? "fork" : "pipe",
                 strerror(errno));
    close_fd(&results[1]);
    close_fd(&console[1]);
    if (ok && q->pid > 0)
        return true;
    q->pid = 0;
    labvm_qemu_end(q);
    return false;
}

void labvm_qemu_epitaph(struct labvm_qemu *q, char *buf, size_t n)
{
    enum { TRIES = 50 };
    const struct timespec pause = {0, 20000000};
    int status = 0;
    for (int i = 0; i < TRIES; i++) {
        if (waitpid(q->pid, &status, WNOHANG) == q->pid) {
            q->pid = 0;
            snprintf(buf, n, "%s %d", WIFSIGNALED(status) ? "signal" : "exit code",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            return;
        }
        nanosleep(&pause, NULL);
    }
    snprintf(buf, n, "still running");
}

void labvm_qemu_end(struct labvm_qemu *q)
{
    if (q->pid > 0) {
        kill(q->pid, SIGKILL);
        while (waitpid(q->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    q->pid = 0;
    close_fd(&q->results);
    close_fd(&q->console);
}
