/* image_vm.c: load the guest image, run it, answer its calls.
 *
 * Loading is cheap on purpose: of guest memory only the boot page, the kernel's tables and the image
 * are written (about 40 pages), everything else is left as the host gave it, which is zero. A and D
 * bits are set in advance, so that no processor has to write them back. The kernel's pages are
 * global, as in most kernels: its translations outlive the CR3 loads of a guest with many processes.
 */
#include "vmm/image_vm.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/pte.h"

extern const unsigned char image_blob[], image_blob_end[];

#define LINK (PTE_P | PTE_W | PTE_U | PTE_A)
#define KERNEL_LINK (PTE_P | PTE_W | PTE_A) /* ring 0 only */
#define KERNEL_PAGE (KERNEL_LINK | PTE_D | PTE_G)
#define IMAGE_PDPT_ENTRY 510 /* of IMAGE_BASE */

/* ---- the image in guest memory ---- */
static uint64_t *table(struct image_vm *m, uint64_t gpa)
{
    return (uint64_t *)(void *)(m->mem->mem + gpa);
}

static const struct nb_image *image_header(void)
{
    const struct nb_image *h = (const void *)image_blob;
    assert(h->magic == NB_IMAGE_MAGIC && h->entry < h->file_size &&
           h->file_size == (size_t)(image_blob_end - image_blob) && h->file_size <= h->mem_size &&
           h->mem_size <= IMAGE_LIMIT - IMAGE_GPA && h->user_start <= h->user_end &&
           h->user_end <= h->mem_size && !(h->user_start & PAGE_MASK));
    return h;
}

static void map_image(struct image_vm *m, const struct nb_image *h)
{
    uint64_t *pt = table(m, IMAGE_PT_GPA);
    pt[BOOT_GPA >> PAGE_SHIFT] = BOOT_GPA | KERNEL_PAGE;
    for (uint64_t at = 0; at < h->mem_size; at += PAGE_SIZE) {
        bool user = at >= h->user_start && at < h->user_end;
        uint64_t gpa = IMAGE_GPA + at;
        pt[gpa >> PAGE_SHIFT] = gpa | KERNEL_PAGE | (user ? PTE_U : 0);
    }
    table(m, IMAGE_PD_GPA)[0] = IMAGE_PT_GPA | LINK;
    table(m, KERNEL_PDPT_GPA)[IMAGE_PDPT_ENTRY] = IMAGE_PD_GPA | LINK;
}

static void map_memory(struct image_vm *m)
{
    uint64_t *pdpt = table(m, KERNEL_PDPT_GPA);
    for (uint64_t gpa = 0; gpa < m->mem->bytes; gpa += 1ull << SHIFT_2M) {
        uint64_t gib = gpa >> SHIFT_1G, pd = DIRECT_PD_GPA + (gib << PAGE_SHIFT);
        pdpt[gib] = pd | KERNEL_LINK;
        table(m, pd)[(gpa >> SHIFT_2M) & 511] = gpa | KERNEL_PAGE | PTE_PS;
    }
}

/* The root the guest is entered with has the kernel's half only. */
static void map_roots(struct image_vm *m, unsigned levels)
{
    uint64_t top = levels == 5 ? KERNEL_PML4_GPA : KERNEL_PDPT_GPA;
    if (levels == 5)
        table(m, KERNEL_PML4_GPA)[KERNEL_ROOT_ENTRY] = KERNEL_PDPT_GPA | LINK;
    table(m, BOOT_ROOT_GPA)[KERNEL_ROOT_ENTRY] = top | LINK;
}

static bool has_pcid(const struct kvm_host *h)
{
    const struct kvm_cpuid_entry2 *e = kvm_host_cpuid(h, 1, 0);
    return e && (e->ecx >> 17 & 1);
}

static void fill_boot(struct image_vm *m)
{
    const struct vm_config *c = m->cfg;
    m->boot = (struct nb_boot *)(void *)(m->mem->mem + BOOT_GPA);
    m->script = (struct nb_script *)(void *)(m->mem->mem + SCRIPT_GPA);
    m->boot->mem_bytes = c->mem;
    m->boot->levels = c->levels;
    m->boot->pages = (uint32_t)c->guest_page;
    m->boot->flush_ceiling = c->flush_ceiling;
    m->boot->pcid = has_pcid(m->vm->host) && (!c->cpu || c->cpu->pcid);
    m->boot->check = c->check;
    image_balloon_new(m);
}

/* ---- what this KVM and this memory must have ---- */
static int check_config(const struct vm_config *c, char *err, size_t n)
{
    char size[24];
    if (c->mem > (uint64_t)DIRECT_GIB_MAX << SHIFT_1G) {
        snprintf(err, n, "--mem %s: a guest of a real engine has at most %uG",
                 format_size(c->mem, size, sizeof size), DIRECT_GIB_MAX);
        return NB_USAGE;
    }
    if (c->mem <= gk_reserved_bytes(c->mem)) {
        snprintf(err, n, "a guest of %s is too small for its kernel: try --mem 64M",
                 format_size(c->mem, size, sizeof size));
        return NB_USAGE;
    }
    return NB_OK;
}

static int check_cpu(const struct vm_config *c, const struct kvm_host *h, char *err, size_t n)
{
    const struct kvm_cpuid_entry2 *features = kvm_host_cpuid(h, 7, 0);
    const struct kvm_cpuid_entry2 *extended = kvm_host_cpuid(h, 0x80000001, 0);
    const struct kvm_cpuid_entry2 *sizes = kvm_host_cpuid(h, 0x80000008, 0);
    unsigned bits = sizes ? sizes->eax & 0xff : 36; /* of a guest-physical address */
    uint64_t end = c->balloon ? image_balloon_gpa(c) + PAGE_SIZE : c->mem;
    if (bits < 64 && (end - 1) >> bits) {
        snprintf(err, n, "--mem%s: this KVM's guests address 2^%u bytes, not more; use less",
                 c->balloon ? " and the balloon above it" : "", bits);
        return NB_NODEVICE;
    }
    if (c->levels == 5 && !(features && (features->ecx >> 16 & 1))) {
        snprintf(err, n,
                 "--levels 5: this KVM has no 5-level paging (CPUID 7 ECX bit 16); use "
                 "--levels 4, or --engine model");
        return NB_NODEVICE;
    }
    if (c->guest_page == PAGES_1G && !(extended && (extended->edx >> 26 & 1))) {
        snprintf(err, n,
                 "--guest-page 1g: this KVM has no 1 GiB pages for guests (CPUID "
                 "0x80000001 EDX bit 26); use 2m, or --engine model");
        return NB_NODEVICE;
    }
    return NB_OK;
}

/* ---- life ---- */
static int build(struct image_vm *m, char *err, size_t n)
{
    const struct vm_config *c = m->cfg;
    const struct nb_image *h = image_header();
    int code = NB_NODEVICE;
    m->mem = backing_new(c->mem, c->backing, c->host_page, &c->numa, err, n, &code);
    if (!m->mem)
        return code;
    m->vm = kvm_vm_new(err, n);
    if (!m->vm || !kvm_vm_add_memory(m->vm, 0, m->mem, err, n))
        return NB_NODEVICE;
    memcpy(m->mem->mem + IMAGE_GPA, image_blob, h->file_size);
    map_image(m, h);
    map_memory(m);
    map_roots(m, c->levels);
    fill_boot(m);
    m->vcpu = kvm_vm_add_vcpu(m->vm, err, n);
    if (!m->vcpu || !kvm_vcpu_long_mode(m->vcpu, IMAGE_BASE + IMAGE_GPA + h->entry, 0,
                                        BOOT_ROOT_GPA, c->levels, err, n))
        return NB_NODEVICE;
    return NB_OK;
}

int image_vm_new(struct image_vm **out, const struct vm_config *cfg, char *err, size_t errlen)
{
    int code = check_config(cfg, err, errlen);
    const struct kvm_host *host = code == NB_OK ? kvm_host(err, errlen) : NULL;
    if (!host)
        return code ? code : NB_NODEVICE;
    code = check_cpu(cfg, host, err, errlen);
    if (code != NB_OK)
        return code;
    struct image_vm *m = meta_calloc(META_HOST, 1, sizeof *m);
    m->cfg = cfg;
    code = build(m, err, errlen);
    if (code == NB_OK)
        *out = m;
    else
        image_vm_free(m);
    return code;
}

void image_vm_free(struct image_vm *m)
{
    if (!m)
        return;
    if (m->balloon)
        balloon_free(m->balloon);
    kvm_vm_free(m->vm);
    if (m->mem)
        backing_free(m->mem);
    meta_free(META_HOST, m);
}

/* ---- calls ---- */
struct run {
    struct image_vm *m;
    image_call_fn fn;
    void *ctx;
    char *detail;
    size_t n;
    struct nb_boot copy;
};

enum { GO_ON = -1 }; /* no outcome yet */

static void clean_text(char *text)
{
    text[NB_TEXT - 1] = 0;
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            *text = '?';
}

static int crashed(struct run *r)
{
    kvm_vcpu_autopsy(r->m->vcpu, r->detail, r->n);
    return OUTCOME_CRASHED;
}

static int no_memory(struct run *r)
{
    const struct nb_boot *b = &r->copy;
    if (b->value)
        snprintf(r->detail, r->n,
                 "the guest cannot map %llu bytes (error %d); give it more with --mem",
                 (unsigned long long)b->value, (int)-(int64_t)b->error);
    else
        snprintf(r->detail, r->n,
                 "the guest has no free memory for gva 0x%llx; give it more with --mem",
                 (unsigned long long)b->addr);
    return OUTCOME_GUEST_OOM;
}

static int discard(struct run *r)
{
    uint64_t at = r->copy.addr, len = r->copy.value, bytes = r->m->mem->bytes;
    bool ok = at <= bytes && len <= bytes - at && !((at | len) & PAGE_MASK);
    if (ok && backing_discard(r->m->mem, at, len))
        return GO_ON;
    snprintf(r->detail, r->n, "%s guest-physical 0x%llx, 0x%llx bytes",
             ok ? "the host would not take back" : "the guest gave away memory it has not:",
             (unsigned long long)at, (unsigned long long)len);
    return OUTCOME_CRASHED;
}

/* An outcome, or GO_ON. */
static int serve(struct run *r, uint32_t call)
{
    struct nb_boot *b = &r->copy;
    memcpy(b, r->m->boot, sizeof *b);
    clean_text(b->text);
    switch (call) {
    case NB_CALL_PHASE:
        image_balloon_phase(r->m, b->text);
        return r->fn(r->ctx, r->m, NB_CALL_PHASE, b) ? GO_ON : OUTCOME_ABORTED;
    case NB_CALL_BOOTED:
    case NB_CALL_MARK:
    case NB_CALL_OP:
    case NB_CALL_SAW:
        return r->fn(r->ctx, r->m, (enum nb_call)call, b) ? GO_ON : OUTCOME_ABORTED;
    case NB_CALL_DONE:
        return r->fn(r->ctx, r->m, NB_CALL_DONE, b) ? OUTCOME_OK : OUTCOME_ABORTED;
    case NB_CALL_DISCARD:
        return discard(r);
    case NB_CALL_ABORT:
        snprintf(r->detail, r->n, "%s", b->text);
        return OUTCOME_ABORTED;
    case NB_CALL_NOMEM:
        return no_memory(r);
    case NB_CALL_SEGV:
        snprintf(r->detail, r->n,
                 "the program touched gva 0x%llx (error 0x%x), which it has not mapped so",
                 (unsigned long long)b->addr, b->error);
        return OUTCOME_GUEST_SEGV;
    case NB_CALL_PANIC:
        snprintf(r->detail, r->n, "the guest kernel gave up: %s; rip 0x%llx", b->text,
                 (unsigned long long)b->addr);
        return OUTCOME_CRASHED;
    default:
        snprintf(r->detail, r->n, "the guest made call %u, which does not exist", call);
        return OUTCOME_CRASHED;
    }
}

/* What a probe makes happen, and nothing is to be done about. */
static bool is_probe_exit(const struct kvm_run *run)
{
    return run->exit_reason == KVM_EXIT_MMIO ||
           (run->exit_reason == KVM_EXIT_IO && run->io.port == NB_PROBE_PORT);
}

static int on_exit_reason(struct run *r)
{
    const struct kvm_run *run = r->m->vcpu->run;
    uint32_t call;
    if (r->m->probing && is_probe_exit(run))
        return GO_ON;
    if (run->exit_reason == KVM_EXIT_MMIO && image_balloon_mmio(r->m))
        return GO_ON;
    if (run->exit_reason != KVM_EXIT_IO || run->io.direction != KVM_EXIT_IO_OUT ||
        run->io.port != NB_PORT || run->io.size != sizeof call || run->io.count != 1)
        return crashed(r);
    memcpy(&call, (const char *)run + run->io.data_offset, sizeof call);
    r->m->calls++;
    return serve(r, call);
}

static int on_signal(struct run *r)
{
    if (!kvm_expired())
        return GO_ON;
    snprintf(r->detail, r->n, "the guest had not ended after %g seconds (--timeout)",
             r->m->cfg->timeout);
    return OUTCOME_TIMEOUT;
}

static int step(struct run *r)
{
    switch (kvm_vcpu_step(r->m->vcpu)) {
    case KVM_STEP_EXIT:
        return on_exit_reason(r);
    case KVM_STEP_SIGNAL:
        return on_signal(r);
    case KVM_STEP_FAILED:
        break;
    }
    if (errno != ENOMEM && errno != EFAULT)
        die(NB_NODEVICE, "KVM_RUN: %s", strerror(errno));
    snprintf(r->detail, r->n, "the host has no memory for the guest (KVM_RUN: %s); use less --mem",
             strerror(errno));
    return OUTCOME_HOST_OOM;
}

enum outcome image_vm_run(struct image_vm *m, const char *program, const uint64_t *params,
                          unsigned nparams, uint64_t seed, image_call_fn fn, void *ctx,
                          char *detail, size_t detaillen)
{
    struct run r = {.m = m, .fn = fn, .ctx = ctx, .detail = detail, .n = detaillen};
    char err[256];
    int outcome = GO_ON;
    assert(nparams <= NB_PARAMS && strlen(program) < sizeof m->boot->program && m->calls == 0);
    detail[0] = 0;
    snprintf(m->boot->program, sizeof m->boot->program, "%s", program);
    for (unsigned i = 0; i < nparams; i++)
        m->boot->params[i] = params[i];
    m->boot->seed = seed;
    if (!kvm_deadline(m->cfg->timeout, err, sizeof err))
        die(NB_NODEVICE, "%s", err);
    while (outcome == GO_ON)
        outcome = step(&r);
    kvm_deadline(0, err, sizeof err);
    return (enum outcome)outcome;
}
