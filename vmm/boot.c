/* boot.c: build the machine of boot.h, run its vCPUs, say how it ended.
 *
 * The first thread that sees an end (an exit code, a crash, the deadline) records it under the lock
 * and kicks every vCPU; each thread leaves its loop when it sees `stop`. The deadline is the first
 * vCPU's thread's. No thread outlives boot_run(), and the VM is gone when it returns.
 */
#include "vmm/boot.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "vmm/acpi.h"
#include "vmm/boot_board.h"
#include "vmm/kvm_internal.h"
#include "vmm/linux_boot.h"
#include "vmm/multiboot.h"

#define FOUR_GIB (1ull << 32)

const char *const boot_end_names[] = {"exited", "crashed", "timeout"};

struct machine {
    const struct boot_config *config;
    bool is_linux; /* which of the two the image is */
    union {
        struct multiboot_image multiboot;
        struct linux_image bzimage;
    };
    struct kvm_vm *vm;
    struct backing *low, *high; /* high: NULL when all memory is below 3 GiB */
    struct board *board;
    struct boot_result *result;
    pthread_mutex_t lock; /* of result's end */
    atomic_bool stop;
    bool host_failed; /* result's detail says which call; read when all threads have ended */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- entry state ---- */
/* Both kinds of image start in protected mode, paging off, flat segments. */
struct entry {
    uint32_t rip, rax, rbx, rsi;
    unsigned code, data; /* selectors */
    uint32_t gdt, gdt_bytes;
};

/* Multiboot 0.6.96, 3.2: EBX to the information; the image has a descriptor table of its own. */
static struct entry multiboot_entry(uint32_t rip)
{
    return (struct entry){
        .rip = rip, .rax = MULTIBOOT_EAX, .rbx = MULTIBOOT_INFO_GPA, .code = 0x08, .data = 0x10};
}

/* Linux, boot.rst, "32-bit boot protocol": ESI to the zero page, a descriptor table. */
static struct entry linux_entry(void)
{
    return (struct entry){.rip = LINUX_ENTRY_GPA,
                          .rsi = LINUX_PARAMS_GPA,
                          .code = 0x10,
                          .data = 0x18,
                          .gdt = LINUX_GDT_GPA,
                          .gdt_bytes = LINUX_GDT_BYTES};
}

static bool set_entry(struct kvm_vcpu *v, const struct entry *e, char *err, size_t n)
{
    enum { CR0_PE = 1, CR0_ET = 1 << 4 };
    struct kvm_sregs s;
    struct kvm_regs r = {.rip = e->rip, .rax = e->rax, .rbx = e->rbx, .rsi = e->rsi, .rflags = 2};
    if (ioctl(v->fd, KVM_GET_SREGS, &s) < 0) {
        snprintf(err, n, "KVM_GET_SREGS: %s", strerror(errno));
        return false;
    }
    s.cs = kvm_flat_segment(e->code, true, 32);
    s.ds = s.es = s.fs = s.gs = s.ss = kvm_flat_segment(e->data, false, 32);
    s.tr = kvm_task_segment();
    s.cr0 = CR0_PE | CR0_ET;
    if (e->gdt_bytes) {
        s.gdt.base = e->gdt;
        s.gdt.limit = (uint16_t)(e->gdt_bytes - 1);
    }
    if (ioctl(v->fd, KVM_SET_SREGS, &s) < 0) {
        snprintf(err, n, "KVM_SET_SREGS: %s", strerror(errno));
        return false;
    }
    if (ioctl(v->fd, KVM_SET_REGS, &r) < 0) {
        snprintf(err, n, "KVM_SET_REGS: %s", strerror(errno));
        return false;
    }
    return true;
}

/* The vectors a PC's firmware leaves the two interrupt controllers with. */
static bool set_pic_vectors(struct kvm_vm *vm, char *err, size_t n)
{
    static const unsigned char base[] = {0x08, 0x70};
    for (unsigned i = 0; i < 2; i++) {
        struct kvm_irqchip chip = {.chip_id = i ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER};
        if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip) < 0) {
            snprintf(err, n, "KVM_GET_IRQCHIP: %s", strerror(errno));
            return false;
        }
        chip.chip.pic.irq_base = base[i];
        if (ioctl(vm->fd, KVM_SET_IRQCHIP, &chip) < 0) {
            snprintf(err, n, "KVM_SET_IRQCHIP: %s", strerror(errno));
            return false;
        }
    }
    return true;
}

/* ---- building ---- */
static struct backing *memory(uint64_t bytes, enum page_mode page, char *err, size_t n, int *code)
{
    return backing_new(bytes, BACKING_ANON, page, &(struct numa_policy){NUMA_DEFAULT, 0}, err, n,
                       code);
}

static int make_memory(struct machine *m, char *err, size_t n)
{
    uint64_t bytes = m->config->mem, low = bytes < MULTIBOOT_LOW_MAX ? bytes : MULTIBOOT_LOW_MAX;
    int code = NB_OK;
    m->low = memory(low, m->config->page, err, n, &code);
    if (m->low && bytes > low)
        m->high = memory(bytes - low, m->config->page, err, n, &code);
    return code;
}

static int parse(struct machine *m, char *err, size_t n)
{
    const struct boot_config *c = m->config;
    m->is_linux = linux_claims(c->image, c->image_bytes);
    return m->is_linux ? linux_parse(c->image, c->image_bytes, &m->bzimage, err, n)
                       : multiboot_parse(c->image, c->image_bytes, &m->multiboot, err, n);
}

static int load_multiboot(struct machine *m, char *err, size_t n)
{
    const struct boot_config *c = m->config;
    struct multiboot_machine told = {.low_bytes = m->low->bytes,
                                     .high_bytes = m->high ? m->high->bytes : 0,
                                     .cmdline = c->cmdline,
                                     .env = c->initrd,
                                     .env_bytes = c->initrd_bytes};
    return multiboot_place(&m->multiboot, c->image, &told, m->low->mem, err, n);
}

static int load_linux(struct machine *m, char *err, size_t n)
{
    const struct boot_config *c = m->config;
    struct linux_machine told = {.low_bytes = m->low->bytes,
                                 .high_bytes = m->high ? m->high->bytes : 0,
                                 .cmdline = c->cmdline,
                                 .initrd = c->initrd,
                                 .initrd_bytes = c->initrd_bytes};
    struct acpi_machine tables = {.cpus = c->cpus,
                                  .virtio = c->balloon,
                                  .virtio_gpa = BALLOON_GPA,
                                  .virtio_irq = BALLOON_IRQ,
                                  .serial_port = BOARD_SERIAL,
                                  .serial_irq = BOARD_SERIAL_IRQ};
    int rc = linux_place(&m->bzimage, c->image, &told, m->low->mem, err, n);
    if (rc == NB_OK)
        acpi_place(&tables, m->low->mem);
    return rc;
}

/* Slots before the interrupt controllers: the other order waits a grace period for each. */
static bool make_vm(struct machine *m, char *err, size_t n)
{
    struct entry entry = m->is_linux ? linux_entry() : multiboot_entry(m->multiboot.entry);
    m->vm = kvm_vm_new(err, n);
    if (!m->vm || !kvm_vm_add_memory(m->vm, 0, m->low, err, n) ||
        (m->high && !kvm_vm_add_memory(m->vm, FOUR_GIB, m->high, err, n)) ||
        !kvm_vm_add_irqchip(m->vm, err, n) || !set_pic_vectors(m->vm, err, n))
        return false;
    m->vm->paravirtual = m->is_linux; /* its clocks: the PC's that it knows are not all here */
    for (unsigned i = 0; i < m->config->cpus; i++)
        if (!kvm_vm_add_vcpu(m->vm, err, n))
            return false;
    return set_entry(m->vm->vcpu[0], &entry, err, n);
}

/* ---- running ---- */
/* The first end counts, and every vCPU is told. True: this was it. */
static bool end(struct machine *m, enum boot_end how, const char *detail)
{
    pthread_mutex_lock(&m->lock);
    bool first = !atomic_load(&m->stop);
    if (first) {
        m->result->end = how;
        snprintf(m->result->detail, sizeof m->result->detail, "%s", detail);
        atomic_store(&m->stop, true);
        for (unsigned i = 0; i < m->vm->nvcpus; i++)
            kvm_kick(m->vm->vcpu[i]);
    }
    pthread_mutex_unlock(&m->lock);
    return first;
}

/* A call for this vCPU failed, which is not the guest's doing. */
static void host_failed(struct machine *m, const char *call, unsigned cpu, int error)
{
    char text[160];
    snprintf(text, sizeof text, "%s of CPU %u: %s%s", call, cpu, strerror(error),
             error == ENOMEM || error == EFAULT ? "; no memory for the guest, use less --mem" : "");
    if (end(m, BOOT_CRASHED, text))
        m->host_failed = true;
}

static void crashed(struct machine *m, struct kvm_vcpu *v)
{
    char text[200], where[256];
    kvm_vcpu_autopsy(v, text, sizeof text);
    snprintf(where, sizeof where, "CPU %d: %s", v->id, text);
    end(m, BOOT_CRASHED, m->vm->nvcpus > 1 ? where : text);
}

static void handle_exit(struct machine *m, struct kvm_vcpu *v)
{
    bool go_on = true;
    switch (v->run->exit_reason) {
    case KVM_EXIT_IO:
        go_on = board_io(m->board, v);
        break;
    case KVM_EXIT_MMIO:
        go_on = board_mmio(m->board, v);
        break;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        break;
    default:
        crashed(m, v);
    }
    if (!go_on && m->board->reset)
        end(m, BOOT_CRASHED, "the guest reset its machine, as a kernel does that panics");
    else if (!go_on)
        end(m, BOOT_EXITED, "");
}

static void timed_out(struct machine *m)
{
    char text[128];
    snprintf(text, sizeof text, "the guest had not ended after %g seconds (--timeout)",
             m->config->timeout);
    end(m, BOOT_TIMEOUT, text);
}

static void run_vcpu(struct machine *m, struct kvm_vcpu *v)
{
    while (!atomic_load(&m->stop))
        switch (kvm_vcpu_step(v)) {
        case KVM_STEP_EXIT:
            handle_exit(m, v);
            break;
        case KVM_STEP_SIGNAL:
            if (v->id == 0 && kvm_expired())
                timed_out(m);
            break;
        case KVM_STEP_FAILED:
            host_failed(m, "KVM_RUN", (unsigned)v->id, errno);
            break;
        }
}

struct worker {
    struct machine *m;
    struct kvm_vcpu *v;
    pthread_t thread;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    run_vcpu(w->m, w->v);
    return NULL;
}

/* Run all vCPUs, the first in this thread. */
static void run_all(struct machine *m)
{
    struct worker w[KVM_MAX_VCPUS];
    unsigned started = 1;
    int rc = 0;
    for (; started < m->vm->nvcpus && rc == 0; started += rc == 0) {
        w[started] = (struct worker){.m = m, .v = m->vm->vcpu[started]};
        rc = pthread_create(&w[started].thread, NULL, work, &w[started]);
    }
    if (rc == 0)
        run_vcpu(m, m->vm->vcpu[0]);
    else
        host_failed(m, "pthread_create", started, rc);
    for (unsigned i = 1; i < started; i++)
        pthread_join(w[i].thread, NULL);
}

/* ---- the result ---- */
static char *console_text(const struct board *b, bool *cut)
{
    size_t n = b->nconsole < BOARD_CONSOLE_MAX ? b->nconsole : BOARD_CONSOLE_MAX;
    char *text = meta_calloc(META_HOST, n + 1, 1);
    for (size_t i = 0; i < n; i++)
        text[i] = board_plain(b->console[i]);
    *cut = n < b->nconsole;
    return text;
}

static void collect(struct machine *m)
{
    struct boot_result *r = m->result;
    r->host = m->vm->host;
    r->code = m->board->code;
    r->console = console_text(m->board, &r->console_cut);
    if (m->board->balloon)
        boot_balloon_result(m->board->balloon, &r->balloon);
    r->stats = m->vm->stats;
    if (!kvm_vm_snapshot(m->vm, &r->kvm))
        r->stats.n = 0;
    for (unsigned i = 0; i < m->vm->nvcpus; i++)
        for (unsigned k = 0; k < ARRAY_SIZE(r->user_exits); k++)
            r->user_exits[k] += m->vm->vcpu[i]->exits[k];
}

static int build_and_run(struct machine *m, char *err, size_t n)
{
    int rc = parse(m, err, n);
    if (rc == NB_OK && !kvm_host(err, n))
        rc = NB_NODEVICE;
    if (rc == NB_OK)
        rc = make_memory(m, err, n);
    if (rc == NB_OK)
        rc = m->is_linux ? load_linux(m, err, n) : load_multiboot(m, err, n);
    if (rc != NB_OK)
        return rc;
    double start = now();
    if (!make_vm(m, err, n))
        return NB_NODEVICE;
    m->board = board_new(m->vm, m->config->out, m->config->plain);
    if (m->config->balloon)
        m->board->balloon = boot_balloon_new(m->vm, m->low, m->config->balloon);
    if (!kvm_deadline(m->config->timeout, err, n))
        return NB_NODEVICE;
    double run = now();
    m->result->start_seconds = run - start;
    run_all(m);
    m->result->wall_seconds = now() - run;
    kvm_deadline(0, err, n);
    if (m->host_failed) {
        snprintf(err, n, "%s", m->result->detail);
        return NB_NODEVICE;
    }
    collect(m);
    return NB_OK;
}

int boot_run(const struct boot_config *config, struct boot_result *out, char *err, size_t errlen)
{
    struct machine m = {.config = config, .result = out, .lock = PTHREAD_MUTEX_INITIALIZER};
    assert(!config->balloon || config->mem <= MULTIBOOT_LOW_MAX);
    assert(config->cpus >= 1 && config->cpus <= KVM_MAX_VCPUS);
    *out = (struct boot_result){0};
    int rc = build_and_run(&m, err, errlen);
    board_free(m.board);
    kvm_vm_free(m.vm);
    backing_free(m.low);
    backing_free(m.high);
    return rc;
}

void boot_result_free(struct boot_result *r)
{
    if (r->console)
        meta_free(META_HOST, r->console);
    r->console = NULL;
}
