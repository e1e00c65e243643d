/* machine.h: the machines that programs are tried on: a strategy, a small processor and a host.
 *
 * Their TLBs and caches hold so little that few operations evict and conflict.
 */
#ifndef NB_FUZZ_MACHINE_H
#define NB_FUZZ_MACHINE_H

#include "shadow_vs_ept/cpu.h"
#include "shadow_vs_ept/mmu.h"

struct fuzz_variant {
    const char *name;
    struct cpu cpu;
    enum page_mode host_page;
    unsigned host_levels;
    unsigned vcpus; /* of kernel programs; a raw program has one */
};

struct fuzz_machine {
    const struct paging *paging; /* NULL: this host's KVM */
    unsigned variant;
};

unsigned fuzz_variants(void);
const struct fuzz_variant *fuzz_variant(unsigned);
/* "shadow on tiny-intel, host pages 2m, 5 host levels, 3 vCPUs" */
char *fuzz_machine_name(const struct fuzz_machine *, char *buf, size_t n);

/* The host moves guest frames [first, first + n), as swap or migration would: contents survive, places do
 * not. Nothing on a machine without a host. */
void fuzz_move_frames(struct gmem *, uint64_t first, uint64_t n);

/* How a program did on a machine. */
struct verdict {
    bool failed, skipped; /* skipped: the strategy refuses this machine; text says why */
    unsigned op;          /* that failed; the number of operations: at the end */
    bool early;           /* the guest ran out of memory before its program's end */
    uint64_t accesses;    /* judged by the oracle */
    uint64_t certain;     /* of them, with one answer permitted */
    char text[400];
};

#endif
