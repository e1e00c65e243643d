/* kvm_vm.c: a VM: its memory slots, interrupt controllers and vCPUs, from creation to teardown. */
#include "vmm/kvm_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Three pages below the BIOS: VMX without unrestricted guests (so with ept=0 too) runs real mode with
 * their help, and puts a slot of its own there. */
#define TSS_GPA 0xfffbd000u
#define TSS_BYTES (3 * 4096u)

static bool failed(char *err, size_t n, const char *call)
{
    snprintf(err, n, "%s: %s", call, strerror(errno));
    return false;
}

struct kvm_vm *kvm_vm_new(char *err, size_t errlen)
{
    const struct kvm_host *host = kvm_host(err, errlen);
    if (!host)
        return NULL;
    struct kvm_vm *vm = meta_calloc(META_HOST, 1, sizeof *vm);
    vm->host = host;
    vm->stats_fd = -1;
    do /* creation waits for other threads' grace periods and can be interrupted */
        vm->fd = ioctl(host->fd, KVM_CREATE_VM, 0);
    while (vm->fd < 0 && errno == EINTR);
    if (vm->fd < 0) {
        failed(err, errlen, "KVM_CREATE_VM");
        kvm_vm_free(vm);
        return NULL;
    }
    vm->stats_fd = kvm_stats_open(vm->fd);
    return vm;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void vcpu_free(struct kvm_vcpu *v)
{
    if (!v)
        return;
    if (v->run) {
        kvm_run_forget(v);
        munmap(v->run, (size_t)v->vm->host->run_size);
    }
    close_fd(v->fd);
    meta_free(META_HOST, v);
}

void kvm_vm_free(struct kvm_vm *vm)
{
    if (!vm)
        return;
    close_fd(vm->stats_fd);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        close_fd(vm->vcpu[i]->stats_fd);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vcpu_free(vm->vcpu[i]);
    close_fd(vm->fd);
    meta_free(META_HOST, vm);
}

bool kvm_vm_add_memory(struct kvm_vm *vm, uint64_t gpa, struct backing *mem, char *err,
                       size_t errlen)
{
    if (vm->nslots == KVM_MAX_SLOTS) {
        snprintf(err, errlen, "a VM has at most %d memory slots", KVM_MAX_SLOTS);
        return false;
    }
    struct kvm_userspace_memory_region region = {.slot = vm->nslots,
                                                 .guest_phys_addr = gpa,
                                                 .memory_size = mem->bytes,
                                                 .userspace_addr = (uintptr_t)mem->mem};
    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0) {
        snprintf(err, errlen,
                 "KVM_SET_USER_MEMORY_REGION of %" PRIu64 " bytes at 0x%" PRIx64 ": %s", mem->bytes,
                 gpa, strerror(errno));
        return false;
    }
    vm->slot_mem[vm->nslots] = mem;
    vm->slot_gpa[vm->nslots] = gpa;
    vm->nslots++;
    return true;
}

bool kvm_vm_add_irqchip(struct kvm_vm *vm, char *err, size_t errlen)
{
    struct kvm_pit_config pit = {0};
    assert(vm->nvcpus == 0);
    if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
        return failed(err, errlen, "KVM_CREATE_IRQCHIP");
    if (ioctl(vm->fd, KVM_CREATE_PIT2, &pit) < 0)
        return failed(err, errlen, "KVM_CREATE_PIT2");
    vm->irqchip = true;
    return true;
}

/* ---- vCPUs ---- */
/* The supported CPUID, made this vCPU's: its APIC id, and what an in-kernel APIC adds. */
static bool set_cpuid(struct kvm_vcpu *v, char *err, size_t errlen)
{
    const uint32_t x2apic = 1u << 21, tsc_deadline = 1u << 24, hypervisor = 1u << 31;
    const struct kvm_host *host = v->vm->host;
    size_t bytes = sizeof *host->cpuid + host->cpuid->nent * sizeof host->cpuid->entries[0];
    struct kvm_cpuid2 *c = meta_calloc(META_HOST, 1, bytes);
    memcpy(c, host->cpuid, bytes);
    bool deadline =
        v->vm->irqchip && ioctl(host->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    for (unsigned i = 0; i < c->nent; i++) {
        struct kvm_cpuid_entry2 *e = &c->entries[i];
        if (e->function == 1) {
            e->ebx = (e->ebx & 0x00ffffff) | (uint32_t)v->id << 24;
            e->ecx &= ~(x2apic | tsc_deadline);
            if (v->vm->irqchip)
                e->ecx |= x2apic | (deadline ? tsc_deadline : 0);
            if (v->vm->paravirtual)
                e->ecx |= hypervisor;
        } else if (e->function == 0xb || e->function == 0x1f)
            e->edx = (uint32_t)v->id;
    }
    bool ok = ioctl(v->fd, KVM_SET_CPUID2, c) == 0;
    meta_free(META_HOST, c);
    return ok || failed(err, errlen, "KVM_SET_CPUID2");
}

static bool vcpu_setup(struct kvm_vcpu *v, char *err, size_t errlen)
{
    v->fd = ioctl(v->vm->fd, KVM_CREATE_VCPU, v->id);
    if (v->fd < 0)
        return failed(err, errlen, "KVM_CREATE_VCPU");
    void *run =
        mmap(NULL, (size_t)v->vm->host->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (run == MAP_FAILED)
        return failed(err, errlen, "mmap of a vCPU's run page");
    v->run = run;
    return set_cpuid(v, err, errlen);
}

/* Slots must not overlap, so this waits until ours are known: memory that reaches there leaves no
 * room, and its guest begins in protected mode, where nothing of the kind is needed. */
static bool place_tss(struct kvm_vm *vm, char *err, size_t errlen)
{
    const char *module = vm->host->module;
    if (!module || strcmp(module, "kvm_intel") != 0 || kvm_vm_ptr(vm, TSS_GPA, 1) ||
        kvm_vm_ptr(vm, TSS_GPA + TSS_BYTES - 1, 1))
        return true;
    return ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_GPA) == 0 || failed(err, errlen, "KVM_SET_TSS_ADDR");
}

struct kvm_vcpu *kvm_vm_add_vcpu(struct kvm_vm *vm, char *err, size_t errlen)
{
    if (vm->nvcpus == KVM_MAX_VCPUS) {
        snprintf(err, errlen, "a VM has at most %d vCPUs", KVM_MAX_VCPUS);
        return NULL;
    }
    if (vm->nvcpus == 0 && !place_tss(vm, err, errlen))
        return NULL;
    struct kvm_vcpu *v = meta_calloc(META_HOST, 1, sizeof *v);
    v->vm = vm;
    v->id = (int)vm->nvcpus;
    if (!vcpu_setup(v, err, errlen)) {
        vcpu_free(v);
        return NULL;
    }
    v->stats_fd = kvm_stats_open(v->fd);
    vm->vcpu[vm->nvcpus++] = v;
    if (vm->nvcpus == 1)
        kvm_stats_describe(vm);
    return v;
}

void *kvm_vm_ptr(const struct kvm_vm *vm, uint64_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < vm->nslots; i++) {
        uint64_t bytes = vm->slot_mem[i]->bytes, offset = gpa - vm->slot_gpa[i];
        if (gpa >= vm->slot_gpa[i] && offset < bytes && len <= bytes - offset)
            return vm->slot_mem[i]->mem + offset;
    }
    return NULL;
}
