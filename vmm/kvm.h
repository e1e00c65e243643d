/* kvm.h: KVM as the engines, the probes, `boot` and the benchmarks use it: one VM in one process.
 *
 * Three layers, each usable alone:
 *   kvm_host   /dev/kvm and what this host's KVM is: opened once per process
 *   kvm_vm     a VM: memory slots, vCPUs, statistics
 *   kvm_vcpu   one vCPU and its run page; used by one thread
 *
 * Failures are the host's: a function returns false (or an NB_* code) with one sentence in `err`
 * that names the call and what to do. What a guest does is an exit, never a failure.
 *
 * Order matters for speed: slots before the irqchip (each of them waits for a grace period
 * otherwise), GET_SUPPORTED_CPUID once per process (0.3 ms).
 */
#ifndef NB_VMM_KVM_H
#define NB_VMM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "vmm/engine.h"

/* ---- the host's KVM ---- */
struct kvm_host {
    int fd;
    int run_size;        /* bytes of a vCPU's run page mapping */
    const char *backend; /* "vmx-ept" "vmx-shadow" "svm-npt" "svm-shadow" "pvm", or "unknown" */
    const char *paging;  /* "ept" or "shadow": how it runs a guest with paging on; or "unknown" */
    const char *module;  /* "kvm_intel", "kvm_amd", "kvm_pvm", or NULL when it cannot be told */
    bool emulates_ring0; /* pvm: ring 0 runs in KVM's instruction emulator */
    bool sync_regs;      /* KVM_CAP_SYNC_REGS: registers travel in the run page */
    struct kvm_cpuid2 *cpuid; /* KVM_GET_SUPPORTED_CPUID */
};

/* The host's KVM, opened at first use and kept. NULL with the reason in err: there is no
 * /dev/kvm, we may not open it, or its API is not version 12. */
const struct kvm_host *kvm_host(char *err, size_t errlen);
/* An entry of the supported CPUID, or NULL. */
const struct kvm_cpuid_entry2 *kvm_host_cpuid(const struct kvm_host *, uint32_t leaf, uint32_t sub);

/* ---- statistics: the KVM_GET_STATS_FD file of a VM and of its vCPUs ---- */
/* Nothing is hard-coded: names, sizes and kinds come from the file (struct kvm_stat_name, engine.h).
 * VM statistics first, then those of a vCPU, summed over vCPUs. */
struct kvm_stat_set {
    unsigned n, nvalues;
    struct kvm_stat_name stat[MAX_KVM_STATS];
    bool of_vcpu[MAX_KVM_STATS];
    uint32_t at[MAX_KVM_STATS]; /* byte offset in the file of the VM or vCPU */
    uint32_t end[2];            /* bytes to read of the file of the VM, of a vCPU */
};
struct kvm_snapshot {
    uint64_t v[MAX_KVM_VALUES];
};

/* ---- a VM ---- */
enum { KVM_MAX_VCPUS = 64, KVM_MAX_SLOTS = 32 };

struct kvm_vm;

struct kvm_vcpu {
    struct kvm_vm *vm;
    int fd, id;
    struct kvm_run *run;
    int stats_fd;
    uint64_t exits[64]; /* returns to user space by KVM_EXIT_*; [63] for larger numbers */
    uint64_t eintr;     /* KVM_RUN calls that a signal ended */
    _Atomic int tid;    /* of the thread that last ran it, for kvm_kick(); 0: none yet */
};

struct kvm_vm {
    const struct kvm_host *host;
    int fd, stats_fd;
    unsigned nvcpus, nslots;
    bool irqchip;
    bool paravirtual; /* vCPUs made from now on say in CPUID that they are a hypervisor's, whose own
                         leaves (clock, steal time, ...) a guest looks for only then */
    struct kvm_vcpu *vcpu[KVM_MAX_VCPUS];
    struct backing *slot_mem[KVM_MAX_SLOTS];
    uint64_t slot_gpa[KVM_MAX_SLOTS];
    struct kvm_stat_set stats; /* known once the first vCPU exists */
};

struct kvm_vm *kvm_vm_new(char *err, size_t errlen);
/* Statistics files are closed first: an open one keeps the VM alive. Memory is the caller's. No
 * other thread that ran a vCPU is alive any more. */
void kvm_vm_free(struct kvm_vm *);
/* Guest-physical [gpa, gpa + backing_bytes) is this memory. */
bool kvm_vm_add_memory(struct kvm_vm *, uint64_t gpa, struct backing *, char *err, size_t errlen);
/* In-kernel interrupt controllers and timer; after the slots, before the vCPUs. */
bool kvm_vm_add_irqchip(struct kvm_vm *, char *err, size_t errlen);
/* A vCPU with the host's supported CPUID (APIC id filled in). NULL with the reason. */
struct kvm_vcpu *kvm_vm_add_vcpu(struct kvm_vm *, char *err, size_t errlen);
/* Host memory of guest-physical [gpa, gpa + len) or NULL when it is not all inside one slot. */
void *kvm_vm_ptr(const struct kvm_vm *, uint64_t gpa, uint64_t len);
/* All statistics now. False: the kernel has no KVM_GET_STATS_FD (vm->stats.n is 0 then). */
bool kvm_vm_snapshot(const struct kvm_vm *, struct kvm_snapshot *);

/* ---- running ---- */
/* Put a vCPU into 64-bit ring 0 at rip, paging on with this root, flat segments, interrupts off. */
bool kvm_vcpu_long_mode(struct kvm_vcpu *, uint64_t rip, uint64_t rsp, uint64_t cr3,
                        unsigned levels, char *err, size_t errlen);

enum kvm_step {
    KVM_STEP_EXIT,   /* run->exit_reason says why */
    KVM_STEP_SIGNAL, /* a signal or kvm_kick() ended it, or it was started: look at flags, go on */
    KVM_STEP_FAILED, /* KVM_RUN itself failed: errno */
};
/* Run the vCPU until its next exit to user space, and count that. */
enum kvm_step kvm_vcpu_step(struct kvm_vcpu *);
/* From any thread: the vCPU's next or current step ends with KVM_STEP_SIGNAL. */
void kvm_kick(struct kvm_vcpu *);
/* What ended a guest that cannot go on (internal error, failed entry, shutdown, unknown exit): one
 * sentence with the reason, RIP and the instruction bytes there where they can be read. */
void kvm_vcpu_autopsy(struct kvm_vcpu *, char *buf, size_t n);
const char *kvm_exit_name(unsigned reason); /* "io", "mmio", ... or "other" */

/* After `seconds` the calling thread is interrupted (KVM_STEP_SIGNAL) and kvm_expired() is true.
 * One deadline per thread; 0 seconds cancels it, which a thread does before it ends. Takes the
 * signal SIGRTMIN. */
bool kvm_deadline(double seconds, char *err, size_t errlen);
bool kvm_expired(void);

/* ---- switching the mode of the host's KVM (--reload-kvm) ---- */
/* Reload kvm_intel or kvm_amd with nested paging on or off, unless it is so already.
 * kvm_reload_restore() (also run at exit) puts it back; when the program dies, a process of its own
 * does; when neither can, a line on stderr says so. NB_OK, or NB_NODEVICE/NB_USAGE with the reason:
 * not root, a VM is running, another program has switched it, no modprobe, or a module without such a
 * parameter. No VM of ours exists; kvm_host() is asked for again afterwards. */
int kvm_reload(const char *paging, char *err, size_t errlen);
void kvm_reload_restore(void);

#endif
