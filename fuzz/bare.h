/* bare.h: a VM without a guest kernel: memory, one strategy's MMU and one vCPU.
 *
 * What writes the guest's tables is the test itself: any value at any place. Faults come back as
 * answers of the access that took them.
 */
#ifndef NB_FUZZ_BARE_H
#define NB_FUZZ_BARE_H

#include <setjmp.h>

#include "fuzz/oracle.h"
#include "shadow_vs_ept/cpu.h"
#include "shadow_vs_ept/mmu.h"

struct bare_config {
    const struct paging *paging;
    const uint64_t *params; /* NULL: the defaults */
    const struct cpu *cpu;
    unsigned levels, host_levels;
    uint64_t mem, host_mem;
    enum page_mode host_page;
};

struct bare {
    struct bare_config cfg;
    struct host *host;
    struct gmem *gm;
    struct mmu_vm *mvm;
    struct mmu *mmu;
    unsigned error;  /* of the last fault */
    jmp_buf *escape; /* of the access under way */
};

enum bare_end { BARE_DONE, BARE_FAULT, BARE_STUCK, BARE_NO_FRAMES };

/* False, with the reason in err: this strategy cannot run so. */
bool bare_new(struct bare *, const struct bare_config *, char *err, size_t errlen);
void bare_free(struct bare *);

/* One access; `hot`: the way a program's data accesses go, mmu_access.h (user-mode data only).
 * BARE_DONE: *hpa is where it went. BARE_FAULT: b->error. */
enum bare_end bare_access(struct bare *, const struct access *, bool hot, hpa_t *hpa);

/* Is that where guest-physical address a lives? */
bool bare_is_at(const struct bare *, uint64_t gpa, hpa_t);
/* An 8-byte word of guest memory, without any event. */
uint64_t bare_peek(const struct bare *, uint64_t gpa);

/* NULL, or a broken invariant of the MMU, the strategy or the memory. */
const char *bare_check(struct bare *);

/* The model's access as the oracle's, and registers likewise. */
struct oracle_access bare_oracle_access(const struct access *);
struct oracle_regs bare_oracle_regs(const struct bare *);

#endif
