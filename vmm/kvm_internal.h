/* kvm_internal.h: what the files of the KVM layer share among themselves. */
#ifndef NB_VMM_KVM_INTERNAL_H
#define NB_VMM_KVM_INTERNAL_H

#include "vmm/kvm.h"

/* Close /dev/kvm, which holds the vendor module; kvm_host() opens it again. No VM exists. */
void kvm_host_close(void);

/* The statistics file of a VM or vCPU, or -1. */
int kvm_stats_open(int fd);
/* Read the descriptors: once, when the first vCPU exists. vm->stats.n stays 0 without them. */
void kvm_stats_describe(struct kvm_vm *);

/* The run page is about to go: signals to this thread must not touch it any more. */
void kvm_run_forget(const struct kvm_vcpu *);

/* Entry state: a flat segment of 32 or 64 bits, and a task register every processor accepts. */
struct kvm_segment kvm_flat_segment(unsigned selector, bool code, unsigned bits);
struct kvm_segment kvm_task_segment(void);

#endif
