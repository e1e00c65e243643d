/* script.h: a program given as data: operations run one by one against vmm/user.h, and what it saw.
 *
 * A script is never ended by its own faults: an access that the kernel does not allow is something seen
 * (u_try_load()). Addresses and numbers are any; those outside user space wrap into it. What is seen is
 * the guest's business only: results, addresses, values, faults, not how the machine came to them. So
 * two machines that show different things are not the same to a guest.
 *
 * The order of what is seen is the order of operations; each thing is a tag and two words.
 */
#ifndef NB_WORKLOADS_SCRIPT_H
#define NB_WORKLOADS_SCRIPT_H

#include "vmm/user.h"

enum script_kind {
#define SCRIPT_OP(name, args, help) SCRIPT_##name,
#include "workloads/script.def"
#undef SCRIPT_OP
    SCRIPT_KINDS
};

enum { SCRIPT_ARGS = 4 };

struct script_op {
    uint64_t kind; /* enum script_kind; any other is passed over */
    uint64_t arg[SCRIPT_ARGS];
};

enum script_tag {
    SAW_RESULT, /* of a request: GK_*; its address or pid */
    SAW_VALUE,  /* an access was made: address; what was loaded or stored */
    SAW_FAULT,  /* an access was refused: address; #PF error code */
};

/* Where a script comes from and what it saw goes to. */
struct script_io {
    /* Operation number i; false: there are no more. */
    bool (*next)(void *ctx, uint64_t i, struct script_op *out);
    void (*saw)(void *ctx, enum script_tag, uint64_t a, uint64_t b);
    /* An access is about to be made; NULL: nobody wants to know. */
    void (*access)(void *ctx, gva_t, bool store);
    /* SCRIPT_move; NULL: next() has done it. */
    void (*move)(void *ctx, uint64_t first, uint64_t n);
    void *ctx;
};

/* Of one sweep: places, and so things seen, which no other operation shows more of. */
enum { SCRIPT_MAX_PROCS = 16, SCRIPT_PLACES_MAX = 64, SCRIPT_SEEN_MAX = 2 * SCRIPT_PLACES_MAX };

void script_run(struct user *, const struct script_io *);

#endif
