/* kernel.h: run a kernel program: a script (workloads/script.h) under a guest kernel, on any machine.
 *
 * A run leaves a history: what the program saw, in order, and how memory and tables were at the end. It
 * is the same on every machine, or the machines are not the same to a guest. On the model each access
 * is judged by the oracle as well: this kernel invalidates all that it changes before its program goes
 * on, so one answer is right, which is what the tables say.
 *
 * Left out of a history: where frames are (TEAs take some), how often the kernel invalidates (it depends
 * on vCPUs and PCIDs), A and D of global pages.
 */
#ifndef NB_FUZZ_KERNEL_H
#define NB_FUZZ_KERNEL_H

#include "fuzz/raw.h"
#include "vmm/engine.h"
#include "workloads/script.h"

struct seen {
    unsigned op; /* of the program */
    enum script_tag tag;
    uint64_t a, b;
};

struct history {
    enum outcome outcome;
    char detail[256];
    unsigned n, cap;
    struct seen *at;
    /* At the end, when the outcome is OK: */
    uint64_t memory; /* memory_hash_page() of all processes' pages */
    uint64_t tables; /* memory_hash_leaf() of all processes' leaf entries */
    uint64_t faults, pt_writes;
};

void history_add(struct history *, struct seen);
void history_free(struct history *);
/* Operation number i of a program as one of a script; false: there are no more. */
bool kernel_op(const struct fuzz_prog *, uint64_t i, struct script_op *);

enum { KERNEL_MEM = 64 << 20 }; /* guest-physical bytes */

/* Is there a KVM here that can run programs? Else err says why not. */
bool kernel_kvm_here(char *err, size_t n);
bool kernel_kvm_five_levels(void); /* has it tables of five? */
/* Run on this host's KVM. False: it lacks what this program needs (5 levels), err says so: to be passed
 * over. Its own failures end nestbed (die). */
bool kernel_kvm_run(const struct fuzz_prog *, struct history *, char *err, size_t n);
/* The same with another program of the image, and its parameter, for tests of what a guest may try. */
bool kernel_kvm_run_as(const char *guest, uint64_t param, const struct fuzz_prog *,
                       struct history *, char *err, size_t n);

/* Run on a machine of the model, judging each access. A broken invariant, or an answer the manual does not
 * permit, is in *v; v->op is where. v->skipped: the strategy refuses this machine. */
void kernel_run(const struct fuzz_prog *, const struct fuzz_machine *, struct history *,
                struct verdict *v);
/* The history of the plainest machine, native, whose guest kernel is as strategy `of` wants it (NULL: as a
 * KVM's); judged like any other. */
void kernel_reference(const struct fuzz_prog *, const struct paging *of, struct history *,
                      struct verdict *);
/* Do they agree? Else *v says where not. */
bool history_agree(const struct history *, const struct history *reference,
                   const struct fuzz_prog *, struct verdict *v);

#endif
