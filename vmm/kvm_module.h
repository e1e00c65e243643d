/* kvm_module.h: the kernel modules that can serve /dev/kvm, as sysfs shows them. */
#ifndef NB_VMM_KVM_MODULE_H
#define NB_VMM_KVM_MODULE_H

#include <stdbool.h>
#include <stddef.h>

struct kvm_module {
    const char *name;
    const char *parameter; /* that switches nested paging; NULL: it has none */
    const char *flag;      /* of the processor, in /proc/cpuinfo; NULL: it needs none */
    const char *nested_backend, *shadow_backend;
};
extern const struct kvm_module kvm_modules[]; /* ends with name NULL */

/* The one that serves /dev/kvm, or NULL when sysfs shows none that can. */
const struct kvm_module *kvm_module_active(void);
/* 1: nested paging, 0: shadow, -1: its parameter cannot be read. */
int kvm_module_nested(const struct kvm_module *);
/* First line of /sys/module/MODULE/FILE without its newline; false when it cannot be read. */
bool kvm_module_file(const char *module, const char *file, char *text, size_t n);

#endif
