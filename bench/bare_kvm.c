/* bare_kvm.c: the least that runs a guest. */
#include "bench/bare_kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CALL(what, ...) \
    ((what) < 0 ? (snprintf(err, errlen, "%s: %s", #__VA_ARGS__, strerror(errno)), false) : true)

const char *const bare_step_names[BARE_STEPS] = {"vm", "slot", "irqchip", "vcpu", "regs", "run"};

static union {
    struct kvm_cpuid2 head;
    unsigned char room[sizeof(struct kvm_cpuid2) + 256 * sizeof(struct kvm_cpuid_entry2)];
} cpuid = {.head.nent = 256};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

bool bare_open(struct bare *b, char *err, size_t errlen)
{
    *b = (struct bare){.vm = -1, .vcpu = -1};
    return CALL(b->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), open / dev / kvm) &&
           CALL(b->run_size = ioctl(b->kvm, KVM_GET_VCPU_MMAP_SIZE, 0), KVM_GET_VCPU_MMAP_SIZE) &&
           CALL(ioctl(b->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), KVM_GET_SUPPORTED_CPUID);
}

/* Tables that map the first 2 MiB onto themselves; out %al, $BARE_PORT; jmp back to it. */
void bare_guest(unsigned char *mem)
{
    static const unsigned char code[] = {0xe6, BARE_PORT, 0xeb, 0xfc};
    uint64_t entries[3] = {(BARE_CR3 + 0x1000) | 3, (BARE_CR3 + 0x2000) | 3, 0x83};
    for (unsigned i = 0; i < 3; i++)
        memcpy(mem + BARE_CR3 + 0x1000 * i, &entries[i], sizeof entries[i]);
    memcpy(mem + BARE_RIP, code, sizeof code);
}

static bool set_registers(struct bare *b, char *err, size_t errlen)
{
    struct kvm_sregs s;
    struct kvm_regs r = {.rip = BARE_RIP, .rsp = 0x800, .rflags = 2};
    struct kvm_segment
        code = {.limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1},
        data = {.limit = ~0u, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    if (!CALL(ioctl(b->vcpu, KVM_GET_SREGS, &s), KVM_GET_SREGS))
        return false;
    s.cs = code;
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
    s.cr3 = BARE_CR3;
    s.cr4 = 0x20;   /* PAE */
    s.efer = 0x500; /* LME LMA */
    return CALL(ioctl(b->vcpu, KVM_SET_SREGS, &s), KVM_SET_SREGS) &&
           CALL(ioctl(b->vcpu, KVM_SET_REGS, &r), KVM_SET_REGS);
}

static bool add_irqchip(struct bare *b, char *err, size_t errlen)
{
    struct kvm_pit_config pit = {0};
    return CALL(ioctl(b->vm, KVM_CREATE_IRQCHIP, 0), KVM_CREATE_IRQCHIP) &&
           CALL(ioctl(b->vm, KVM_CREATE_PIT2, &pit), KVM_CREATE_PIT2);
}

static bool add_vcpu(struct bare *b, char *err, size_t errlen)
{
    if (!CALL(b->vcpu = ioctl(b->vm, KVM_CREATE_VCPU, 0), KVM_CREATE_VCPU))
        return false;
    b->run = mmap(NULL, (size_t)b->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, b->vcpu, 0);
    return CALL(b->run == MAP_FAILED ? -1 : 0, mmap of the run page) &&
           CALL(ioctl(b->vcpu, KVM_SET_CPUID2, &cpuid), KVM_SET_CPUID2);
}

bool bare_start(struct bare *b, unsigned char *mem, bool irqchip, char *err, size_t errlen)
{
    struct kvm_userspace_memory_region slot = {.memory_size = BARE_BYTES,
                                               .userspace_addr = (uintptr_t)mem};
    double *at = b->at;
    *at++ = seconds();
    if (!CALL(b->vm = ioctl(b->kvm, KVM_CREATE_VM, 0), KVM_CREATE_VM))
        return false;
    *at++ = seconds();
    if (!CALL(ioctl(b->vm, KVM_SET_USER_MEMORY_REGION, &slot), KVM_SET_USER_MEMORY_REGION))
        return false;
    *at++ = seconds();
    if (irqchip && !add_irqchip(b, err, errlen))
        return false;
    *at++ = seconds();
    if (!add_vcpu(b, err, errlen))
        return false;
    *at++ = seconds();
    if (!set_registers(b, err, errlen))
        return false;
    *at++ = seconds();
    if (!bare_exits(b, 1, err, errlen))
        return false;
    *at++ = seconds();
    return true;
}

bool bare_exits(struct bare *b, uint64_t n, char *err, size_t errlen)
{
    while (n > 0) {
        if (ioctl(b->vcpu, KVM_RUN, 0) < 0) {
            if (errno == EINTR)
                continue;
            return CALL(-1, KVM_RUN);
        }
        if (b->run->exit_reason != KVM_EXIT_IO) {
            snprintf(err, errlen, "KVM_RUN: exit reason %u, not a port write", b->run->exit_reason);
            return false;
        }
        n--;
    }
    return true;
}

void bare_stop(struct bare *b)
{
    if (b->run && b->run != MAP_FAILED)
        munmap(b->run, (size_t)b->run_size);
    if (b->vcpu >= 0)
        close(b->vcpu);
    if (b->vm >= 0)
        close(b->vm);
    b->run = NULL;
    b->vcpu = b->vm = -1;
}
