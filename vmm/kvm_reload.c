/* kvm_reload.c: reload the host's KVM module with nested paging on or off, and put it back.
 *
 * This changes the machine for everybody on it, so it is asked for by name (--reload-kvm), needs root, and
 * refuses while any VM runs. Three looks, from cheap to thorough: the module's reference count, the
 * VM folders of debugfs, and every process's open files; modprobe -r refuses once more on its own.
 * What was changed is put back by kvm_reload_restore(), which also runs at exit() and on signals
 * that end the program.
 *
 * Invariant: `undo` is set before the module is taken out, so that a death half-way still restores.
 */
#include "vmm/kvm.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/kvm_module.h"

extern char **environ;

/* How to put it back: the arguments of modprobe, ready for a signal handler. */
static struct {
    volatile sig_atomic_t armed;
    char module[32], option[32];
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
    char count[32];
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

/* ---- modprobe ---- */
/* Run it; true when it succeeded. Uses only what a signal handler may: fork, exec, waitpid. */
static bool modprobe(const char *a, const char *b)
{
    char *const argv[] = {(char *)(uintptr_t) "modprobe", (char *)(uintptr_t)a,
                          (char *)(uintptr_t)b, NULL};
    pid_t child = fork();
    if (child == 0) {
        execve("/sbin/modprobe", argv, environ);
        execve("/usr/sbin/modprobe", argv, environ);
        _exit(127);
    }
    int status = -1;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void kvm_reload_restore(void)
{
    if (!undo.armed)
        return;
    undo.armed = 0;
    modprobe("-r", undo.module);
    if (!modprobe(undo.module, undo.option)) {
        static const char text[] = "nestbed: could not load the KVM module again as it was\n";
        if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
            return; /* nobody listens */
    }
}

static void restore_and_die(int sig)
{
    kvm_reload_restore();
    signal(sig, SIG_DFL);
    raise(sig);
}

/* The restoring handlers, where nobody else has one: those that have end through exit(). */
static void arm(const char *module, const char *option)
{
    static const int fatal[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGBUS, SIGABRT, SIGFPE};
    static bool once;
    snprintf(undo.module, sizeof undo.module, "%s", module);
    snprintf(undo.option, sizeof undo.option, "%s", option);
    undo.armed = 1;
    if (once)
        return;
    once = true;
    atexit(kvm_reload_restore);
    for (unsigned i = 0; i < ARRAY_SIZE(fatal); i++) {
        struct sigaction old;
        if (sigaction(fatal[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            sigaction(fatal[i],
                      &(struct sigaction){.sa_handler = restore_and_die, .sa_flags = SA_NODEFER},
                      NULL);
    }
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
    int was = kvm_module_nested(m);
    if (was == ept)
        return NB_OK;
    if (!reloadable(m, paging, err, errlen) || in_use(m->name, err, errlen))
        return NB_NODEVICE;
    if (was < 0) {
        snprintf(err, errlen, "--reload-kvm: cannot read parameter %s of %s", m->parameter,
                 m->name);
        return NB_NODEVICE;
    }
    char new_option[32], old_option[32];
    snprintf(new_option, sizeof new_option, "%s=%d", m->parameter, ept);
    snprintf(old_option, sizeof old_option, "%s=%d", m->parameter, was);
    if (!undo.armed)
        arm(m->name, old_option);
    if (!modprobe("-r", m->name) || !modprobe(m->name, new_option)) {
        snprintf(err, errlen, "--reload-kvm: modprobe of %s %s failed; see dmesg", m->name,
                 new_option);
        kvm_reload_restore();
        return NB_NODEVICE;
    }
    if (kvm_module_nested(m) != ept) {
        snprintf(err, errlen, "--reload-kvm: %s did not take %s: this processor cannot do it",
                 m->name, new_option);
        kvm_reload_restore();
        return NB_NODEVICE;
    }
    return NB_OK;
}
