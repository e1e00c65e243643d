/* kernel_kvm.c: kernel programs on this host's KVM. */
#include "fuzz/kernel.h"

bool kernel_kvm_here(char *err, size_t n)
{
    snprintf(err, n, "this build runs no programs on a KVM yet; use --engine model");
    return false;
}

bool kernel_kvm_run(const struct fuzz_prog *p, struct history *h, char *err, size_t n)
{
    (void)p;
    *h = (struct history){.outcome = OUTCOME_CRASHED};
    return kernel_kvm_here(err, n);
}
