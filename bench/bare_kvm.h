/* bare_kvm.h: the least that runs a guest: the yardstick for our KVM layer.
 *
 * About a hundred dense lines over the ioctls, without a line of vmm/: one slot, one vCPU in 64-bit
 * ring 0, a guest of two instructions (out to a port, jump back). Experiment `vmm` times it and our
 * layer in turn, in the same rounds.
 */
#ifndef NB_BENCH_BARE_KVM_H
#define NB_BENCH_BARE_KVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guest memory that bare_guest() needs, and where the guest begins and its top table is. */
enum { BARE_BYTES = 4 << 20, BARE_RIP = 0x1000, BARE_CR3 = 0x2000, BARE_PORT = 0x10 };

/* Steps of a start, timed apart: their sum is the whole. */
enum bare_step {
    BARE_VM,      /* KVM_CREATE_VM */
    BARE_SLOT,    /* KVM_SET_USER_MEMORY_REGION */
    BARE_IRQCHIP, /* KVM_CREATE_IRQCHIP and KVM_CREATE_PIT2; absent without */
    BARE_VCPU,    /* KVM_CREATE_VCPU, the run page, KVM_SET_CPUID2 */
    BARE_REGS,    /* KVM_SET_SREGS, KVM_SET_REGS */
    BARE_RUN,     /* the first KVM_RUN, to its first exit */
    BARE_STEPS
};
extern const char *const bare_step_names[BARE_STEPS];

struct bare {
    int kvm, vm, vcpu;
    struct kvm_run *run;
    int run_size;
    double at[BARE_STEPS + 1]; /* CLOCK_MONOTONIC, seconds: step i lasted at[i + 1] - at[i] */
};

/* Open /dev/kvm and fetch the supported CPUID, once; false with the call that failed in err. */
bool bare_open(struct bare *, char *err, size_t errlen);
/* Put the guest into BARE_BYTES of zeroed, page-aligned memory. */
void bare_guest(unsigned char *mem);
/* A VM over this memory, run until its first exit. False with the call that failed. */
bool bare_start(struct bare *, unsigned char *mem, bool irqchip, char *err, size_t errlen);
/* n exits more. */
bool bare_exits(struct bare *, uint64_t n, char *err, size_t errlen);
void bare_stop(struct bare *); /* the VM; /dev/kvm stays open */

#endif
