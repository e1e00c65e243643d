/* image_vm.h: a VM that runs the guest image: the same kernel and programs as on the model.
 *
 *     image_vm_new()    VM, memory, image, tables, one vCPU at the image's entry
 *     image_vm_run()    one program to its end; once per VM
 *     image_vm_free()
 *
 * The guest calls by a port write (guest/image/abi.h). Calls that end a run are turned into an
 * outcome here, and so is whatever else stops the guest; the rest goes to the caller's function.
 * Everything the guest writes is hostile: the boot page is copied once per call, texts are bounded
 * and made printable, ranges are checked.
 */
#ifndef NB_VMM_IMAGE_VM_H
#define NB_VMM_IMAGE_VM_H

#include "guest/image/abi.h"
#include "vmm/balloon_vm.h"
#include "vmm/engine.h"
#include "vmm/kvm.h"

struct image_vm {
    const struct vm_config *cfg;
    struct kvm_vm *vm;
    struct kvm_vcpu *vcpu;
    struct backing *mem;      /* all of guest memory, gpa 0 first */
    struct nb_boot *boot;     /* in guest memory: may change whenever the guest runs */
    struct nb_script *script; /* likewise */
    struct balloon *balloon;  /* NULL: cfg has none */
    struct guest_mem dev_mem;
    uint64_t dev_gpa; /* of its registers */
    uint64_t calls;   /* port writes of the guest to NB_PORT, up to now */
    bool probing;     /* set by the caller: exits to NB_PROBE_PORT and MMIO are no crash */
};

/* NB_OK; or with one sentence in err: NB_NODEVICE (no KVM, or it lacks something this configuration
 * needs), NB_USAGE (the guest is too small or too large). cfg must outlive the VM. Of cfg->cpu only
 * `pcid` counts, NULL: PCIDs are used when this KVM has them. */
int image_vm_new(struct image_vm **, const struct vm_config *cfg, char *err, size_t errlen);
void image_vm_free(struct image_vm *);

/* For image_vm.c: the device of cfg->balloon, mapped and described in the boot page; an access to its registers
 * (false: it was to something else); a phase begins. */
void image_balloon_new(struct image_vm *);
static inline uint64_t image_balloon_gpa(const struct vm_config *c)
{
    return ALIGN_UP(c->mem, 1ull << SHIFT_2M);
}
bool image_balloon_mmio(struct image_vm *);
void image_balloon_phase(struct image_vm *, const char *phase);

/* BOOTED, PHASE, MARK, OP, SAW and DONE (DISCARD is served here; calls that end a run are not
 * shown). The copy of the boot page has a printable, NUL-terminated text. The answers to OP and SAW are the
 * function's to write into m->script; without one there are no operations. False: end the run; it
 * counts as OUTCOME_ABORTED, and what to say is the function's to write into the run's `detail`. */
typedef bool (*image_call_fn)(void *ctx, struct image_vm *, enum nb_call,
                              const struct nb_boot *copy);

/* Run the program called `program` (a workload, or "probe:..."): its parameters in declaration order
 * (NB_PARAMS at most). cfg->timeout applies. `detail` is one sentence, empty when OK. A KVM_RUN that
 * fails is the host's failure and ends nestbed. */
enum outcome image_vm_run(struct image_vm *, const char *program, const uint64_t *params,
                          unsigned nparams, uint64_t seed, image_call_fn, void *ctx, char *detail,
                          size_t detaillen);

/* Hashes of all processes' memory and, unless NULL, of their leaf entries (vmm/hash.h) as the tables say
 * that a boot page of NB_CALL_DONE lists. False: more processes than it can list, or tables that no kernel
 * of ours makes. */
bool image_vm_hash(const struct image_vm *, const struct nb_boot *copy, uint64_t *memory,
                   uint64_t *tables);

#endif
