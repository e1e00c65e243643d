/* kvm_reload.c: reload the host's KVM module with nested paging on or off, and put it back.
 *
 * This changes the machine for everybody on it, so it is asked for by name (--reload-kvm), needs root, and
 * refuses while any VM runs. Three looks, from cheap to thorough: every process's open files, the
 * VM folders of debugfs, the module's reference count; the kernel refuses once more on its own.
 *
 * Only the vendor module leaves; kvm.ko stays with its parameters. Other parameters of the vendor module
 * are what modprobe's configuration says.
 *
 * Putting it back must work however this program ends, also by SIGKILL in the middle of a run, when
 * its own VM still holds the module. So a second process, the guardian, is made before anything is
 * changed. It holds nothing but one end of a connection and stderr, and waits. kvm_reload_restore()
 * normally restores and tells it so with a byte; the end of the connection without a byte means that
 * this program is gone, or could not, and the guardian restores. When neither can, whoever tried
 * last says so, with the command that does it by hand.
 *
 * One such program at a time: a second one would take the first one's mode for the host's own, and put
 * that back. A lock says so, held until the mode is back, by the guardian if need be.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmm/kvm_internal.h"
#include "vmm/kvm_module.h"

extern char **environ;

#define LOCK_DIR "/sys/module" /* there wherever a module can be reloaded */

/* How to put it back. */
static struct {
    bool armed;
    const struct kvm_module *m;
    int was;   /* kvm_module_nested() before */
    pid_t pid; /* of the process that armed it: a child of ours must not restore */
    pid_t guardian;
    int connection; /* our end */
    int lock;       /* flock() of LOCK_DIR */
} undo;

/* ---- looks for running VMs ---- */
static bool is_kvm_fd(const char *pid, const char *fd)
{
    char path[576], target[64];
    snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, fd);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0)
        return false;
    target[n] = 0;
    return strncmp(target, "anon_inode:kvm-vm", 17) == 0;
}

static bool process_has_vm(const char *pid)
{
    char path[300];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *d = opendir(path);
    for (struct dirent *e; d && !found && (e = readdir(d));)
        found = is_kvm_fd(pid, e->d_name);
    if (d)
        closedir(d);
    return found;
}

/* A process with an open VM, or 0. */
static long process_of_a_vm(void)
{
    long pid = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && !pid && (e = readdir(d));)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && process_has_vm(e->d_name))
            pid = strtol(e->d_name, NULL, 10);
    if (d)
        closedir(d);
    return pid;
}

/* debugfs has a folder PID-FD for each VM, those of other PID namespaces too. */
static bool debugfs_shows_vm(void)
{
    bool found = false;
    DIR *d = opendir("/sys/kernel/debug/kvm");
    for (struct dirent *e; d && !found && (e = readdir(d));)
        found = e->d_type == DT_DIR && e->d_name[0] >= '0' && e->d_name[0] <= '9';
    if (d)
        closedir(d);
    return found;
}

static bool in_use(const char *module, char *err, size_t n)
{
    char count[32] = "unknown";
    long pid = process_of_a_vm();
    if (pid) {
        snprintf(err, n, "--reload-kvm: process %ld has a VM open; end it first", pid);
        return true;
    }
    if (debugfs_shows_vm()) {
        snprintf(err, n, "--reload-kvm: /sys/kernel/debug/kvm shows a running VM; end it first");
        return true;
    }
    if (!kvm_module_file(module, "refcnt", count, sizeof count) || strcmp(count, "0") != 0) {
        snprintf(err, n, "--reload-kvm: module %s is in use (refcnt %s); end what uses it first",
                 module, count);
        return true;
    }
    return false;
}

/* ---- out and in ---- */
/* The program that loads modules, or NULL: without it, what was taken out could not be put back. */
static const char *modprobe_path(void)
{
    static const char *const paths[] = {"/sbin/modprobe", "/usr/sbin/modprobe"};
    for (unsigned i = 0; i < ARRAY_SIZE(paths); i++)
        if (access(paths[i], X_OK) == 0)
            return paths[i];
    return NULL;
}

/* Load it; true when that succeeded. */
static bool modprobe(const char *module, const char *option)
{
    char name[] = "modprobe", a[32], b[32];
    char *const argv[] = {name, a, b, NULL};
    snprintf(a, sizeof a, "%s", module);
    snprintf(b, sizeof b, "%s", option);
    const char *path = modprobe_path();
    pid_t child = path ? fork() : -1;
    if (child == 0) {
        execve(path, argv, environ);
        _exit(127);
    }
    int status = -1;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Take the module out. It is busy for a moment after the last VM ended: try for `tries` x 20 ms. */
static bool unload(const char *module, unsigned tries)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    while (syscall(SYS_delete_module, module, O_NONBLOCK) != 0) {
        if (errno == ENOENT)
            return true; /* a switch that died half-way */
        if (errno != EAGAIN && errno != EBUSY)
            return false;
        if (tries-- == 0)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

/* Load the module with that mode, whatever is loaded now. */
static bool switch_to(const struct kvm_module *m, int nested, unsigned tries)
{
    char option[32];
    snprintf(option, sizeof option, "%s=%d", m->parameter, nested);
    if (kvm_module_nested(m) == nested)
        return true;
    return unload(m->name, tries) && modprobe(m->name, option) && kvm_module_nested(m) == nested;
}

/* ---- the guardian ---- */
enum { PATIENCE = 500, ONE_SECOND = 50 }; /* tries of unload() */

static void say_not_restored(void)
{
    fprintf(stderr,
            "nestbed: --reload-kvm: could not load %s again as it was: modprobe -r %s; modprobe %s "
            "%s=%d\n",
            undo.m->name, undo.m->name, undo.m->name, undo.m->parameter, undo.was);
}

static _Noreturn void guard(int connection)
{
    sigset_t all;
    char byte;
    ssize_t n;
    setsid(); /* a terminal's signals are not for it */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    /* Our caller may wait for the end of what our stdout goes to. */
    if (dup2(connection, STDIN_FILENO) < 0 || dup2(undo.lock, STDOUT_FILENO) < 0)
        _exit(NB_NODEVICE); /* as if it were killed */
    close_range(STDERR_FILENO + 1, ~0u, 0);
    while ((n = read(STDIN_FILENO, &byte, 1)) < 0 && errno == EINTR)
        continue;
    if (n <= 0 && !switch_to(undo.m, undo.was, PATIENCE))
        say_not_restored();
    _exit(NB_OK);
}

static bool arm(const struct kvm_module *m, int was, char *err, size_t n)
{
    static bool at_exit;
    int ends[2];
    undo.m = m;
    undo.was = was;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        snprintf(err, n, "--reload-kvm: socketpair: %s", strerror(errno));
        return false;
    }
    pid_t child = fork();
    if (child == 0) {
        close(ends[1]);
        guard(ends[0]);
    }
    if (child < 0)
        snprintf(err, n, "--reload-kvm: fork: %s", strerror(errno));
    close(ends[0]);
    if (child < 0) {
        close(ends[1]);
        return false;
    }
    undo.guardian = child;
    undo.connection = ends[1];
    undo.pid = getpid();
    undo.armed = true;
    if (!at_exit)
        atexit(kvm_reload_restore);
    at_exit = true;
    return true;
}

void kvm_reload_restore(void)
{
    if (!undo.armed || undo.pid != getpid())
        return;
    undo.armed = false;
    kvm_host_close();
    /* With a VM of ours still open this fails, and the guardian does it when we are gone. */
    bool done = switch_to(undo.m, undo.was, ONE_SECOND);
    if (done) /* a guardian that somebody killed needs no word */
        send(undo.connection, "", 1, MSG_NOSIGNAL);
    pid_t ended;
    do
        ended = waitpid(undo.guardian, NULL, done ? 0 : WNOHANG);
    while (ended < 0 && errno == EINTR);
    if (!done && ended != 0)
        say_not_restored();
    close(undo.connection);
    close(undo.lock);
}

static bool take_lock(char *err, size_t n)
{
    undo.lock = open(LOCK_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (undo.lock >= 0 && flock(undo.lock, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (undo.lock >= 0 && errno == EWOULDBLOCK)
        snprintf(err, n, "--reload-kvm: another run has changed the mode; wait for its end");
    else
        snprintf(err, n, "--reload-kvm: lock of " LOCK_DIR ": %s", strerror(errno));
    if (undo.lock >= 0)
        close(undo.lock);
    return false;
}

/* Nobody uses the module, and its mode will be put back: from here on it may be changed. */
static bool prepare(const struct kvm_module *m, char *err, size_t n)
{
    if (undo.armed)
        return !in_use(m->name, err, n);
    if (!take_lock(err, n))
        return false;
    int was = kvm_module_nested(m);
    if (was < 0)
        snprintf(err, n, "--reload-kvm: cannot read parameter %s of %s", m->parameter, m->name);
    else if (!in_use(m->name, err, n) && arm(m, was, err, n))
        return true;
    close(undo.lock);
    return false;
}

/* ---- the switch ---- */
/* May this module be reloaded, here and now? */
static bool reloadable(const struct kvm_module *m, const char *paging, char *err, size_t n)
{
    char text[32];
    if (!m->parameter)
        snprintf(err, n,
                 "--reload-kvm: KVM is served by %s, which has shadow paging only; use --engine "
                 "labvm for %s",
                 m->name, paging);
    else if (!kvm_module_file(m->name, "initstate", text, sizeof text))
        snprintf(err, n,
                 "--reload-kvm: %s is built into this kernel; boot with %s.%s=%d or use --engine "
                 "labvm",
                 m->name, m->name, m->parameter, strcmp(paging, "ept") == 0);
    else if (geteuid() != 0)
        snprintf(err, n, "--reload-kvm: loading %s needs root; run it with sudo", m->name);
    else if (!modprobe_path())
        snprintf(err, n, "--reload-kvm: no /sbin/modprobe to load %s with; install kmod", m->name);
    else
        return true;
    return false;
}

int kvm_reload(const char *paging, char *err, size_t errlen)
{
    bool ept = strcmp(paging, "ept") == 0;
    if (!ept && strcmp(paging, "shadow") != 0) {
        snprintf(err, errlen, "--reload-kvm: KVM knows ept and shadow, not '%s'", paging);
        return NB_USAGE;
    }
    const struct kvm_module *m = kvm_module_active();
    if (!m) {
        snprintf(err, errlen, "--reload-kvm: no KVM module is loaded; load kvm_intel or kvm_amd");
        return NB_NODEVICE;
    }
    if (kvm_module_nested(m) == ept)
        return NB_OK;
    kvm_host_close(); /* or it is we who use the module */
    if (!reloadable(m, paging, err, errlen) || !prepare(m, err, errlen))
        return NB_NODEVICE;
    if (switch_to(m, ept, ONE_SECOND))
        return NB_OK;
    snprintf(err, errlen,
             "--reload-kvm: %s does not load with %s=%d (see dmesg): in use, or this processor "
             "cannot do it",
             m->name, m->parameter, ept);
    kvm_reload_restore();
    return NB_NODEVICE;
}
