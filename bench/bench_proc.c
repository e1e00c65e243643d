/* bench_proc.c: child processes: started, watched, always ended. */
#include "bench/bench_proc.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/base.h"
#include "bench/bench_util.h"

static volatile sig_atomic_t stop;
static pid_t live[PROC_MAX];

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

bool interrupted(void) { return stop; }

void procs_interrupt(void)
{
    struct sigaction sa = {.sa_handler = on_signal}; /* no SA_RESTART: waiting must end */
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of write(), not a crash */
    atexit(procs_kill_all);
}

void procs_kill_all(void)
{
    for (size_t i = 0; i < PROC_MAX; i++)
        if (live[i]) {
            kill(-live[i], SIGKILL);
            waitpid(live[i], NULL, 0);
            live[i] = 0;
        }
}

static void remember(pid_t was, pid_t is)
{
    for (size_t i = 0; i < PROC_MAX; i++)
        if (live[i] == was) {
            live[i] = is;
            return;
        }
}

static int memory_file(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        die(NB_FAIL, "memfd_create: %s", strerror(errno));
    return fd;
}

static _Noreturn void child(const struct proc *p, char *const argv[])
{
    int null = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGXFSZ, SIG_DFL);
    if (null >= 0)
        dup2(null, STDIN_FILENO);
    dup2(p->out, STDOUT_FILENO);
    dup2(p->err, STDERR_FILENO);
    execv(argv[0], argv);
    dprintf(STDERR_FILENO, "exec %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

void proc_start(struct proc *p, char *const argv[], double timeout)
{
    *p = (struct proc){.out = memory_file("out"), .err = memory_file("err")};
    fflush(NULL);
    p->began = now_seconds();
    p->deadline = p->began + timeout;
    p->pid = fork();
    if (p->pid < 0)
        die(NB_FAIL, "fork: %s", strerror(errno));
    if (p->pid == 0)
        child(p, argv);
    setpgid(p->pid, p->pid); /* in both: whoever comes first */
    p->pidfd = pidfd_open(p->pid, 0);
    if (p->pidfd < 0)
        die(NB_FAIL, "pidfd_open: %s", strerror(errno));
    remember(0, p->pid);
}

static double seconds_of(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec * 1e-6; }

static void ended(struct proc *p, int status, const struct rusage *u)
{
    p->wall = now_seconds() - p->began;
    p->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (p->timed_out)
        p->code = NB_TIMEOUT;
    p->user = seconds_of(u->ru_utime);
    p->system = seconds_of(u->ru_stime);
    p->max_rss_kib = u->ru_maxrss;
    remember(p->pid, 0);
    close(p->pidfd);
    p->pid = 0;
}

static void end_late(struct proc *p, size_t n)
{
    double t = now_seconds();
    for (size_t i = 0; i < n; i++)
        if (p[i].pid && !p[i].timed_out && t > p[i].deadline) {
            p[i].timed_out = true;
            kill(-p[i].pid, SIGKILL);
        }
}

/* Reap one child that has ended; its index, or -1. */
static int reap(struct proc *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int status;
        struct rusage u;
        if (p[i].pid && wait4(p[i].pid, &status, WNOHANG, &u) == p[i].pid) {
            ended(&p[i], status, &u);
            return (int)i;
        }
    }
    return -1;
}

int proc_wait_any(struct proc *p, size_t n)
{
    assert(n <= PROC_MAX);
    while (!stop) {
        struct pollfd fd[PROC_MAX];
        nfds_t running = 0;
        int i = reap(p, n);
        if (i >= 0)
            return i;
        for (size_t k = 0; k < n; k++)
            if (p[k].pid)
                fd[running++] = (struct pollfd){.fd = p[k].pidfd, .events = POLLIN};
        if (!running)
            return -1;
        end_late(p, n);
        poll(fd, running, 200); /* also wakes for signals and deadlines */
    }
    return -1;
}

int proc_run(struct proc *p, char *const argv[], double timeout)
{
    proc_start(p, argv, timeout);
    return proc_wait_any(p, 1) < 0 ? -1 : p->code;
}

char *proc_output(struct proc *p, size_t *len) { return read_fd(p->out, len); }

char *proc_errors(struct proc *p)
{
    char *s = read_fd(p->err, NULL);
    s[strcspn(s, "\n")] = 0;
    return s;
}

void proc_close(struct proc *p)
{
    close(p->out);
    close(p->err);
}
