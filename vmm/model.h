/* model.h: the machine of engine `model`, for the files that build on it (explain.c, tests). */
#ifndef NB_VMM_MODEL_H
#define NB_VMM_MODEL_H

#include <setjmp.h>

#include "guest/kernel.h"
#include "shadow_vs_ept/mmu.h"
#include "vmm/balloon_vm.h"
#include "vmm/engine.h"
#include "vmm/user.h"

/* Kernel memory handed out by hw_kmem, freed with the machine. */
struct kmem_chunk {
    struct kmem_chunk *next;
};

/* The hardware a guest kernel sees, and the VM around it. */
struct hw {
    const struct vm_config *cfg;
    struct host *host;
    struct gmem *gm;
    struct mmu_vm *mvm;
    struct mmu *mmu; /* of the vCPU that runs: mvm->vcpu[mvm->running] */
    struct gk *kernel;
    struct kmem_chunk *kmem;
    uint64_t kmem_left; /* bytes hw_kmem may still hand out */
    struct user user;
    struct result *res;
    jmp_buf end;             /* where a run that cannot go on continues */
    jmp_buf *refused;        /* where an access that may be refused does (u_try_load) */
    unsigned refused_error;  /* of that access */
    struct balloon *balloon; /* NULL: this machine has none */
    struct guest_mem dev_mem;
    bool dev_irq; /* its interrupt line */
    struct counters phase_start;
    bool in_phase;
};

/* Build host, memory, MMU and boot the kernel. NB_OK, or an exit code with the reason in err. The
 * jump target hw->end must have been set (setjmp) before: boot may run out of frames. */
int model_boot(struct hw *, const struct vm_config *, struct result *, char *err, size_t errlen);
void model_free(struct hw *);
/* Counters of the whole machine now. */
void model_counters(struct hw *, struct counters *);
/* Hashes (hash.h) of all processes' memory and, unless NULL, of their leaf entries. False: no memory for them. */
bool model_hash(struct hw *, uint64_t *memory, uint64_t *tables);
/* Check every invariant: kernel, MMU, strategy, memory, host. NULL or what is broken. */
const char *model_check(struct hw *);
/* model_balloon.c: cfg->balloon, if it is given; a phase begins; its counters. */
void model_balloon_new(struct hw *);
void model_balloon_free(struct hw *);
void model_balloon_phase(struct hw *, const char *phase);
void model_balloon_count(const struct hw *, struct counters *);
/* End the run with an outcome. */
_Noreturn void model_end(struct hw *, enum outcome, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
