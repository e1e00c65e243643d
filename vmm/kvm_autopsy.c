/* kvm_autopsy.c: why a guest cannot go on, in one sentence a person can act on.
 *
 * Instruction bytes come from KVM when it hands them over, else they are read at RIP through the
 * vCPU's own paging (KVM_TRANSLATE). Nothing here trusts the guest: an address that translates to no
 * memory of ours ends the bytes.
 */
#include "vmm/kvm_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/addr.h"

enum { MAX_INSN = 15 };

const char *kvm_exit_name(unsigned reason)
{
    static const char *const names[] = {
        [KVM_EXIT_UNKNOWN] = "unknown",
        [KVM_EXIT_EXCEPTION] = "exception",
        [KVM_EXIT_IO] = "io",
        [KVM_EXIT_HYPERCALL] = "hypercall",
        [KVM_EXIT_DEBUG] = "debug",
        [KVM_EXIT_HLT] = "hlt",
        [KVM_EXIT_MMIO] = "mmio",
        [KVM_EXIT_IRQ_WINDOW_OPEN] = "irq_window",
        [KVM_EXIT_SHUTDOWN] = "shutdown",
        [KVM_EXIT_FAIL_ENTRY] = "fail_entry",
        [KVM_EXIT_INTR] = "intr",
        [KVM_EXIT_SET_TPR] = "set_tpr",
        [KVM_EXIT_TPR_ACCESS] = "tpr_access",
        [KVM_EXIT_NMI] = "nmi",
        [KVM_EXIT_INTERNAL_ERROR] = "internal_error",
        [KVM_EXIT_SYSTEM_EVENT] = "system_event",
        [KVM_EXIT_IOAPIC_EOI] = "ioapic_eoi",
        [KVM_EXIT_HYPERV] = "hyperv",
        [KVM_EXIT_X86_RDMSR] = "rdmsr",
        [KVM_EXIT_X86_WRMSR] = "wrmsr",
        [KVM_EXIT_DIRTY_RING_FULL] = "dirty_ring_full",
        [KVM_EXIT_X86_BUS_LOCK] = "bus_lock",
        [KVM_EXIT_XEN] = "xen",
        [KVM_EXIT_NOTIFY] = "notify",
    };
    return reason < ARRAY_SIZE(names) && names[reason] ? names[reason] : "other";
}

static const char *suberror_name(uint32_t suberror)
{
    static const char *const names[] = {
        [KVM_INTERNAL_ERROR_EMULATION] = "it cannot emulate the instruction",
        [KVM_INTERNAL_ERROR_SIMUL_EX] = "an exception while another was delivered",
        [KVM_INTERNAL_ERROR_DELIVERY_EV] = "an exit while an event was delivered",
        [KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "an exit it does not know",
    };
    return suberror < ARRAY_SIZE(names) && names[suberror] ? names[suberror] : "unknown cause";
}

/* Why, without the place. */
static void reason_text(const struct kvm_run *run, char *buf, size_t n)
{
    switch (run->exit_reason) {
    case KVM_EXIT_INTERNAL_ERROR:
        snprintf(buf, n, "KVM internal error %u (%s)", run->internal.suberror,
                 suberror_name(run->internal.suberror));
        break;
    case KVM_EXIT_FAIL_ENTRY:
        snprintf(buf, n, "the processor refused to enter the guest (reason 0x%" PRIx64 ")",
                 (uint64_t)run->fail_entry.hardware_entry_failure_reason);
        break;
    case KVM_EXIT_SHUTDOWN:
        snprintf(buf, n, "triple fault");
        break;
    case KVM_EXIT_UNKNOWN:
        snprintf(buf, n, "an exit KVM does not know (hardware reason 0x%" PRIx64 ")",
                 (uint64_t)run->hw.hardware_exit_reason);
        break;
    default:
        snprintf(buf, n, "unexpected exit %u (%s)", run->exit_reason,
                 kvm_exit_name(run->exit_reason));
    }
}

/* Bytes that came with an emulation failure; their number. */
static unsigned reported_bytes(const struct kvm_run *run, unsigned char *bytes)
{
    if (run->exit_reason != KVM_EXIT_INTERNAL_ERROR ||
        run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION ||
        run->emulation_failure.ndata < 3 ||
        !(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
        return 0;
    unsigned n = run->emulation_failure.insn_size;
    n = n > MAX_INSN ? MAX_INSN : n;
    memcpy(bytes, run->emulation_failure.insn_bytes, n);
    return n;
}

/* Bytes at a linear address, through the vCPU's paging; as many as there are. */
static unsigned read_bytes(struct kvm_vcpu *v, uint64_t linear, unsigned char *bytes)
{
    unsigned n = 0;
    while (n < MAX_INSN) {
        struct kvm_translation t = {.linear_address = linear + n};
        unsigned part = (unsigned)(PAGE_SIZE - (linear + n) % PAGE_SIZE);
        part = part < MAX_INSN - n ? part : MAX_INSN - n;
        if (ioctl(v->fd, KVM_TRANSLATE, &t) < 0 || !t.valid)
            break;
        const void *p = kvm_vm_ptr(v->vm, t.physical_address, part);
        if (!p)
            break;
        memcpy(bytes + n, p, part);
        n += part;
    }
    return n;
}

static void append_bytes(const unsigned char *bytes, unsigned count, char *buf, size_t n)
{
    size_t len = strlen(buf);
    if (count == 0)
        snprintf(buf + len, n - len, ", instruction bytes not readable");
    else
        len += (size_t)snprintf(buf + len, n - len, ", bytes");
    for (unsigned i = 0; i < count && len + 4 < n; i++)
        len += (size_t)snprintf(buf + len, n - len, " %02x", bytes[i]);
}

void kvm_vcpu_autopsy(struct kvm_vcpu *v, char *buf, size_t n)
{
    char why[128];
    unsigned char bytes[MAX_INSN];
    struct kvm_regs r;
    struct kvm_sregs s;
    reason_text(v->run, why, sizeof why);
    if (ioctl(v->fd, KVM_GET_REGS, &r) < 0 || ioctl(v->fd, KVM_GET_SREGS, &s) < 0) {
        snprintf(buf, n, "%s; KVM_GET_REGS: %s", why, strerror(errno));
        return;
    }
    if (v->run->exit_reason == KVM_EXIT_SHUTDOWN && r.rip == 0xfff0 && s.cs.base == 0xffff0000) {
        /* SVM leaves no state behind; KVM resets the vCPU (APM vol. 2, 15.14.3). */
        snprintf(buf, n, "%s; this processor does not keep RIP", why);
        return;
    }
    uint64_t linear = s.cs.l ? r.rip : (uint32_t)(s.cs.base + r.rip);
    unsigned count = reported_bytes(v->run, bytes);
    if (count == 0)
        count = read_bytes(v, linear, bytes);
    snprintf(buf, n, "%s at RIP 0x%" PRIx64, why, (uint64_t)r.rip);
    append_bytes(bytes, count, buf, n);
}
