/* labvm.c: a plan of jobs in one boot of the lab machine, and the shell.
 *
 * One loop reads two pipes until both end: results (frames) and console (text, of which the end is
 * kept to say why a machine died). It is left early when the plan is done, when the results are
 * damaged, at the time limit, or by a signal; QEMU is killed and reaped in each of these cases, and
 * the signal then takes its course.
 */
#include "vmm/labvm_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

enum {
    CONSOLE_TAIL = 2048, /* bytes of the console that are kept */
    OWN_MEM_MIB = 384,   /* of the machine beside its guest: kernel, initramfs, programs */
    OWN_PART = 32,       /* and this part of its memory: page descriptors, KVM's tables */
};

/* ---- the initramfs ---- */

/* From a folder into one of the initramfs: "" or "NAME/". */
static bool add_modules(struct cpio *c, const char *folder, const char *to,
                        const struct labvm_module *m, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char name[128], path[1024];
        snprintf(name, sizeof name, "%s%s.ko", to, m[i].name);
        snprintf(path, sizeof path, "%s/%s.ko", folder, m[i].name);
        if (!cpio_copy(c, name, 0644, path) && !m[i].optional)
            return false;
    }
    return true;
}

/* The machine's own kernel, where its nestbed looks for one. */
static bool add_kernel(struct cpio *c, const char *folder)
{
    static const char to[] = "cache/linux-image-guest/";
    char path[1024], name[64];
    snprintf(path, sizeof path, "%s/vmlinuz", folder);
    snprintf(name, sizeof name, "%svmlinuz", to);
    return cpio_folder(c, "cache") && cpio_folder(c, "cache/linux-image-guest") &&
           cpio_copy(c, name, 0644, path) && cpio_link(c, "nestbed-static", "/init") &&
           add_modules(c, folder, to, labvm_modules, labvm_nmodules) &&
           add_modules(c, folder, to, labvm_guest_modules, labvm_nguest_modules);
}

static bool needs_kernel(const struct labvm_job *jobs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (jobs[i].argv && labvm_needs_kernel(jobs[i].argv))
            return true;
    return false;
}

static bool add_plan(struct cpio *c, const struct labvm_job *jobs, size_t njobs)
{
    char *plan = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&plan, &bytes);
    bool ok = f && labvm_plan(f, jobs, njobs);
    ok = f && fclose(f) == 0 && ok && cpio_file(c, "plan", 0644, plan, bytes);
    free(plan);
    return ok;
}

/* A serial line drops what is sent before anyone listens, and has no end: input that is no terminal
 * goes in as a file. */
static bool add_input(struct cpio *c, char *err, size_t errlen)
{
    size_t n = 0;
    ssize_t r = 1;
    bool ok = false;
    char *text = malloc(LABVM_MAX_INPUT + 1);
    if (!text)
        die(NB_INTERNAL, "out of memory for the shell's input");
    while (r > 0 && n <= LABVM_MAX_INPUT)
        if ((r = read(STDIN_FILENO, text + n, LABVM_MAX_INPUT + 1 - n)) > 0)
            n += (size_t)r;
    if (r < 0)
        snprintf(err, errlen, "labvm shell cannot read standard input: %s", strerror(errno));
    else if (n > LABVM_MAX_INPUT)
        snprintf(err, errlen, "labvm shell takes at most %d MiB of standard input",
                 LABVM_MAX_INPUT >> 20);
    else
        ok = cpio_file(c, &LABVM_INPUT[1], 0644, text, n);
    free(text);
    return ok;
}

static bool add_shell(struct cpio *c, char *err, size_t errlen)
{
    char path[512];
    if (!isatty(STDIN_FILENO) && !add_input(c, err, errlen))
        return false;
    return labvm_in_path("busybox", path, sizeof path) && cpio_copy(c, "bin/busybox", 0755, path) &&
           cpio_link(c, "bin/sh", "busybox") && cpio_link(c, "bin/nestbed", "/init");
}

/* A memory file with the program, the modules and the plan; -1 with the reason. */
static int initramfs(const struct labvm_parts *p, const struct labvm_job *jobs, size_t njobs,
                     bool shell, char *err, size_t errlen)
{
    static const char *const folders[] = {"dev", "proc", "sys", "tmp", "bin"};
    int fd = memfd_create("initramfs", MFD_CLOEXEC), copy = fd < 0 ? -1 : dup(fd);
    struct cpio c = {.out = copy < 0 ? NULL : fdopen(copy, "w")};
    bool ok = c.out;
    err[0] = 0;
    for (unsigned i = 0; ok && i < ARRAY_SIZE(folders); i++)
        ok = cpio_folder(&c, folders[i]);
    ok = ok && cpio_copy(&c, "init", 0755, p->nestbed) &&
         add_modules(&c, p->kernel, "", labvm_modules, labvm_nmodules) &&
         (!needs_kernel(jobs, njobs) || add_kernel(&c, p->kernel)) && add_plan(&c, jobs, njobs) &&
         (!shell || add_shell(&c, err, errlen)) && cpio_end(&c);
    if (c.out)
        fclose(c.out);
    if (ok)
        return fd;
    if (!*err)
        snprintf(
            err, errlen,
            "labvm cannot build its initramfs: %s unreadable, or a command of the plan is longer "
            "than %d words",
            p->nestbed, LABVM_MAX_WORDS);
    if (fd >= 0)
        close(fd);
    return -1;
}

/* ---- the loop ---- */

struct run {
    const struct labvm_config *cfg;
    struct labvm_qemu qemu;
    struct labvm_stream stream;
    struct labvm_signals signals;
    double deadline; /* 0: none */
    char tail[CONSOLE_TAIL + 1];
    size_t ntail;
    char *err;
    size_t errlen;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void take_console(struct run *r, const char *p, size_t n)
{
    size_t drop;
    if (r->cfg->verbose)
        fwrite(p, 1, n, stderr);
    if (n > CONSOLE_TAIL) {
        p += n - CONSOLE_TAIL;
        n = CONSOLE_TAIL;
    }
    drop = r->ntail + n > CONSOLE_TAIL ? r->ntail + n - CONSOLE_TAIL : 0;
    memmove(r->tail, r->tail + drop, r->ntail - drop);
    memcpy(r->tail + r->ntail - drop, p, n);
    r->ntail += n - drop;
}

/* The last line of the console that says something, for a message of one line. */
static const char *last_words(struct run *r)
{
    char *line = NULL, *save = NULL;
    for (size_t i = 0; i < r->ntail; i++)
        if ((unsigned char)r->tail[i] < ' ' || (unsigned char)r->tail[i] > '~')
            r->tail[i] = '\n';
    r->tail[r->ntail] = 0;
    for (char *p = strtok_r(r->tail, "\n", &save); p; p = strtok_r(NULL, "\n", &save))
        if (strstr(p, "panic") || strstr(p, "qemu") || strstr(p, "exec") || !line ||
            !(strstr(line, "panic") || strstr(line, "qemu")))
            line = p;
    return line ? line : "nothing";
}

/* Read what one pipe has. False: it ended, or what it carries is damaged (*bad). */
static bool drain(struct run *r, int fd, bool results, bool *bad)
{
    static char buf[64 << 10];
    ssize_t n = read(fd, buf, sizeof buf);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    if (n == 0)
        return false;
    if (!results)
        take_console(r, buf, (size_t)n);
    else if (!labvm_stream_feed(&r->stream, buf, (size_t)n, r->err, r->errlen))
        *bad = true;
    return !*bad;
}

/* NB_TIMEOUT when time is up, NB_SIGINT for a signal, else NB_OK: something to read. */
static int wait_input(struct run *r, struct pollfd *fd, nfds_t n)
{
    struct timespec left = {0}, *limit = NULL;
    if (r->deadline > 0) {
        double s = r->deadline - now();
        if (s <= 0)
            return NB_TIMEOUT;
        left = (struct timespec){(time_t)s, (long)((s - (double)(time_t)s) * 1e9)};
        limit = &left;
    }
    if (ppoll(fd, n, limit, &r->signals.mask) < 0 && errno != EINTR)
        die(NB_FAIL, "ppoll: %s", strerror(errno));
    return labvm_signals_caught() ? NB_SIGINT : NB_OK;
}

static int follow(struct run *r)
{
    struct pollfd fd[2] = {{.fd = r->qemu.results, .events = POLLIN},
                           {.fd = r->qemu.console, .events = POLLIN}};
    char how[32];
    bool bad = false;
    while (fd[0].fd >= 0 && !r->stream.done) {
        int code = wait_input(r, fd, 2);
        if (code != NB_OK)
            return code;
        for (int i = 1; i >= 0; i--) /* the console first: it explains the end of the results */
            if (fd[i].fd >= 0 && fd[i].revents && !drain(r, fd[i].fd, i == 0, &bad))
                fd[i].fd = -1;
        if (bad)
            return NB_FAIL;
        fd[0].revents = fd[1].revents = 0;
    }
    if (r->stream.done)
        return NB_OK;
    while (fd[1].fd >= 0 && drain(r, fd[1].fd, false, &bad))
        continue;
    labvm_qemu_epitaph(&r->qemu, how, sizeof how);
    snprintf(r->err, r->errlen, "the lab machine ended in job %zu of %zu (QEMU: %s); console: %s",
             r->stream.next + 1, r->stream.njobs, how, last_words(r));
    return NB_FAIL;
}

/* ---- a plan ---- */

/* As large as the largest guest needs. Pages of 1 GiB lie beside that, and not in the first GiB. */
static void size_machine(struct labvm_machine *m, const struct labvm_config *cfg,
                         const struct labvm_job *jobs, size_t n)
{
    uint64_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t mem = jobs[i].argv ? labvm_guest_mem(jobs[i].argv) : 1ull << 30;
        uint64_t giant = jobs[i].argv ? labvm_huge_pages(jobs[i].argv, "1g") : 0;
        if (mem > LABVM_MAX_GUEST) /* for the command inside to find out */
            continue;
        if (giant > m->giant_pages)
            m->giant_pages = giant;
        if (!giant && mem > largest)
            largest = mem;
    }
    if (m->giant_pages)
        largest += (m->giant_pages + 1) << 30;
    m->mem = cfg->mem ? cfg->mem : largest + largest / OWN_PART + ((uint64_t)OWN_MEM_MIB << 20);
}

static int run_plan(struct run *r, const struct labvm_parts *parts, bool terminal)
{
    const struct labvm_job *jobs = r->stream.jobs;
    struct labvm_machine m = {.terminal = terminal};
    int code = NB_FAIL;
    m.initrd = initramfs(parts, jobs, r->stream.njobs, terminal, r->err, r->errlen);
    if (m.initrd < 0)
        return NB_FAIL;
    size_machine(&m, r->cfg, jobs, r->stream.njobs);
    labvm_signals_catch(&r->signals);
    if (r->cfg->timeout > 0)
        r->deadline = now() + r->cfg->timeout;
    if (labvm_qemu_start(&r->qemu, parts, r->cfg, &m, r->err, r->errlen)) {
        code = follow(r);
        labvm_qemu_end(&r->qemu);
    }
    close(m.initrd);
    labvm_stream_free(&r->stream);
    labvm_signals_release(&r->signals);
    if (code == NB_TIMEOUT)
        snprintf(r->err, r->errlen, "the lab machine was ended after %g s (--timeout), in job %zu",
                 r->cfg->timeout, r->stream.next + 1);
    if (code == NB_SIGINT)
        snprintf(r->err, r->errlen, "interrupted");
    return code;
}

int labvm_run(const struct labvm_config *cfg, struct labvm_job *jobs, size_t njobs, char *err,
              size_t errlen)
{
    struct labvm_parts parts;
    struct run r = {.cfg = cfg, .err = err, .errlen = errlen};
    int code = labvm_parts(&parts, !cfg->verbose, err, errlen);
    r.stream = (struct labvm_stream){.jobs = jobs, .njobs = njobs, .cfg = cfg};
    for (size_t i = 0; i < njobs; i++) {
        jobs[i].done = false;
        jobs[i].out = jobs[i].errors = NULL;
    }
    if (code != NB_OK || njobs == 0)
        return code;
    if (njobs > LABVM_MAX_JOBS) {
        snprintf(err, errlen, "a plan has at most %d commands", LABVM_MAX_JOBS);
        return NB_FAIL;
    }
    return run_plan(&r, &parts, false);
}

int labvm_shell(const struct labvm_config *cfg, const char *paging, char *err, size_t errlen)
{
    struct labvm_parts parts;
    struct labvm_job job = {.paging = paging};
    struct run r = {.cfg = cfg, .err = err, .errlen = errlen};
    char busybox[512];
    struct termios tty;
    bool has_tty = tcgetattr(STDIN_FILENO, &tty) == 0;
    int code = labvm_parts(&parts, false, err, errlen);
    r.stream = (struct labvm_stream){.jobs = &job, .njobs = 1, .cfg = cfg};
    if (code != NB_OK)
        return code;
    if (!labvm_in_path("busybox", busybox, sizeof busybox)) {
        snprintf(err, errlen,
                 "labvm shell needs a static busybox: apt-get install -y "
                 "--no-install-recommends busybox-static");
        return NB_NODEVICE;
    }
    code = run_plan(&r, &parts, true);
    if (has_tty) /* QEMU had it raw, and was killed */
        tcsetattr(STDIN_FILENO, TCSANOW, &tty);
    labvm_free(&job, 1);
    return code == NB_OK ? job.status : code;
}
