/* labvm_init.c: process 1 of the lab machine.
 *
 * The kernel starts it with what is in the initramfs: this program (/init), modules, and /plan. It
 * loads KVM, then takes job after job: kvm_amd with the paging mode of the job, the command with its
 * stdout and stderr in memory files, then those and its status as frames on the debug port. Port
 * writes are instructions, so that results need no driver and cost the machine's clock little.
 *
 * Whatever goes wrong here is said in one NOTE frame and ends the machine. Ending is a reboot: QEMU
 * (-no-reboot) exits on it, and it needs no ACPI.
 */
#include "vmm/labvm_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/base.h"
#include "vmm/init.h"

/* ---- saying things ---- */

/* outsb() of sys/io.h does not tell the compiler that it reads memory. */
static void send_bytes(const void *data, size_t n)
{
    __asm__ volatile("rep outsb" : "+S"(data), "+c"(n) : "d"((uint16_t)LABVM_PORT) : "memory");
}

static void send_frame(enum labvm_kind kind, uint32_t job, const void *data, uint32_t bytes)
{
    struct labvm_head h = labvm_head(kind, job, data, bytes);
    send_bytes(&h, sizeof h);
    send_bytes(data, bytes);
}

static _Noreturn void end_machine(void)
{
    reboot(RB_AUTOBOOT);
    _exit(0); /* the kernel panics, which ends it as well */
}

static _Noreturn void give_up(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void give_up(const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    send_frame(LABVM_NOTE, 0, text, (uint32_t)strlen(text));
    end_machine();
}

/* ---- files ---- */

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, text, strlen(text)) < 0)
        log_debug("write %s: %s", path, strerror(errno));
    close(fd);
}

static char *read_file(const char *path, size_t *bytes)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        give_up("open %s: %s", path, strerror(errno));
    char *data = malloc((size_t)st.st_size + 1);
    *bytes = (size_t)st.st_size;
    if (!data || read(fd, data, *bytes) != st.st_size)
        give_up("read %s: %s", path, strerror(errno));
    close(fd);
    return data;
}

/* ---- modules ---- */

static void load_module(const struct labvm_module *m, const char *options)
{
    char err[256];
    if (!init_module(m->name, m->optional, options, err, sizeof err))
        give_up("%s", err);
}

/* "Y" or "N" of /sys/module/kvm_amd/parameters/npt. */
static char npt_is(void)
{
    char c = '?';
    int fd = open("/sys/module/kvm_amd/parameters/npt", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &c, 1) != 1)
        c = '?';
    if (fd >= 0)
        close(fd);
    return c;
}

/* kvm_amd in the mode of `paging`; whoever still holds a VM has been killed. */
static void set_paging(const char *paging)
{
    char want = strcmp(paging, "ept") == 0 ? 'Y' : 'N', is = npt_is();
    const struct labvm_module *amd = &labvm_modules[labvm_nmodules - 1];
    if (is == want)
        return;
    if (is != '?' && syscall(SYS_delete_module, "kvm_amd", O_NONBLOCK) != 0)
        give_up("unloading kvm_amd: %s", strerror(errno));
    load_module(amd, want == 'Y' ? "npt=1" : "npt=0");
    if (npt_is() != want)
        give_up("kvm_amd was asked for npt=%d and has npt=%c: this machine lacks nested paging",
                want == 'Y', npt_is());
}

/* ---- jobs ---- */

struct plan_job {
    const char *paging;
    uint64_t huge_pages;
    char *argv[LABVM_MAX_WORDS + 2];
};

static void read_job(const struct labvm_frame *f, struct plan_job *job)
{
    static char nestbed[] = "nestbed";
    char *word[LABVM_MAX_WORDS + 3], *text = malloc(f->bytes + 1);
    size_t n = 0;
    if (!text)
        give_up("no memory for the plan");
    memcpy(text, f->data, f->bytes);
    text[f->bytes] = 0;
    for (char *p = text; p < text + f->bytes && n < ARRAY_SIZE(word); p += strlen(p) + 1)
        word[n++] = p;
    if (n < 2 || n - 2 > LABVM_MAX_WORDS || !parse_u64(word[1], &job->huge_pages))
        give_up("job %u of the plan is damaged", f->job);
    job->paging = word[0];
    job->argv[0] = nestbed;
    memcpy(&job->argv[1], &word[2], (n - 2) * sizeof *word);
    job->argv[n - 1] = NULL;
}

/* Set aside huge pages, and give back those of an earlier job. A kernel that cannot gives fewer:
 * the command then says so. */
static void set_huge_pages(uint64_t pages)
{
    char number[24];
    snprintf(number, sizeof number, "%" PRIu64, pages);
    write_file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", number);
}

static void send_output(enum labvm_kind kind, uint32_t job, int fd)
{
    static char buf[LABVM_MAX_FRAME];
    off_t at = 0;
    ssize_t n;
    while (at < LABVM_MAX_OUTPUT && (n = pread(fd, buf, sizeof buf, at)) > 0) {
        send_frame(kind, job, buf, (uint32_t)n);
        at += n;
    }
    if (at >= LABVM_MAX_OUTPUT)
        give_up("job %u printed more than %d MiB", job, LABVM_MAX_OUTPUT >> 20);
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* What a job left running would hold the module. */
static void kill_rest(void)
{
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0)
        continue;
}

static void run_job(const struct labvm_frame *f)
{
    struct plan_job job;
    int out = memfd_create("out", MFD_CLOEXEC), errors = memfd_create("errors", MFD_CLOEXEC);
    read_job(f, &job);
    if (out < 0 || errors < 0)
        give_up("memfd_create: %s", strerror(errno));
    set_paging(job.paging);
    set_huge_pages(job.huge_pages);
    send_frame(LABVM_BEGIN, f->job, "", 0);
    pid_t pid = fork();
    if (pid < 0)
        give_up("fork: %s", strerror(errno));
    if (pid == 0) {
        dup2(out, STDOUT_FILENO);
        dup2(errors, STDERR_FILENO);
        execv("/init", job.argv);
        _exit(127);
    }
    int code = wait_for(pid);
    kill_rest();
    send_output(LABVM_OUT, f->job, out);
    send_output(LABVM_ERRORS, f->job, errors);
    send_frame(LABVM_STATUS, f->job, &code, sizeof code);
    close(out);
    close(errors);
}

/* Standard input from a file, if it is there; the console then gets plain lines. */
static bool read_from(const char *file)
{
    struct termios tty;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (tcgetattr(STDOUT_FILENO, &tty) == 0) {
        tty.c_oflag &= ~(tcflag_t)OPOST;
        tcsetattr(STDOUT_FILENO, TCSANOW, &tty);
    }
    return dup2(fd, STDIN_FILENO) >= 0;
}

static void run_shell(const struct labvm_frame *f)
{
    struct plan_job job;
    read_job(f, &job);
    set_paging(job.paging);
    send_frame(LABVM_BEGIN, f->job, "", 0);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/busybox", "busybox", "--install", "-s", "/bin", NULL);
        _exit(127);
    }
    wait_for(pid);
    pid = fork();
    if (pid == 0) {
        setsid();
        if (!read_from(LABVM_INPUT))
            ioctl(STDIN_FILENO, TIOCSCTTY, 1);
        execl("/bin/sh", "-sh", NULL);
        _exit(127);
    }
    int code = wait_for(pid);
    kill_rest();
    send_frame(LABVM_STATUS, f->job, &code, sizeof code);
}

static void run_plan(void)
{
    size_t n, at = 0;
    char *plan = read_file("/plan", &n);
    for (;;) {
        struct labvm_frame f;
        ssize_t used = labvm_parse(plan + at, n - at, &f);
        if (used <= 0)
            give_up("the plan is damaged");
        at += (size_t)used;
        if (f.kind == LABVM_JOB)
            run_job(&f);
        else if (f.kind == LABVM_SHELL)
            run_shell(&f);
        else
            break;
    }
    free(plan);
}

/* ---- the machine ---- */

bool labvm_is_init(void) { return init_is("NESTBED_LABVM"); }

int labvm_init_main(void)
{
    char err[256];
    if (ioperm(LABVM_PORT, 1, 1) != 0)
        end_machine();
    if (!init_mount(err, sizeof err))
        give_up("%s", err);
    init_console();
    clearenv();
    setenv("PATH", "/bin", 1);
    setenv("HOME", "/tmp", 1);
    setenv("NESTBED_CACHE", LABVM_CACHE, 1);
    for (unsigned i = 0; i + 1 < labvm_nmodules; i++)
        load_module(&labvm_modules[i], "");
    run_plan();
    send_frame(LABVM_DONE, 0, "", 0);
    end_machine();
}
