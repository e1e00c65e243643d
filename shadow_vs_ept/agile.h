/* agile.h: what agile.c, the hardware and the exits, and agile_modes.c, which part of a guest's tables is in
 * which mode, know of each other. agile.c has the design and its invariants.
 */
#ifndef NB_PAGING_AGILE_H
#define NB_PAGING_AGILE_H

#include "shadow_vs_ept/ept.h"
#include "shadow_vs_ept/shadow.h"
#include "shadow_vs_ept/timer.h"

enum { P_INTERVAL, P_WRITES, P_START }; /* parameters */

enum { ROOT_NESTED = 7 }; /* PSC_NOTE of a fully nested process; else the level of the switch */

/* What is known of a guest frame. */
enum {
    F_NESTED = 1,   /* the top of a nested part */
    F_KNOWN = 2,    /* a root seen before */
    F_FULL = 4,     /* a root whose process is fully nested */
    F_AGED = 8,     /* for a whole interval */
    F_LOADED = 16,  /* in this interval */
    F_WRITTEN = 32, /* scan: dirty */
};

struct list {
    uint32_t *gfn, n, cap;
};

struct agile {
    struct timer timer;
    uint8_t *flags, *writes; /* by gfn; writes: exits in this interval */
    uint16_t *seen;          /* by gfn: levels at which the scan has been, in shadow mode << 8 */
    uint8_t *top;            /* by gfn, of F_NESTED: its level */
    struct list nested, roots, written, visited;
};

static inline struct agile *agile_state(const struct mmu_vm *vm) { return vm->state; }

void agile_list_put(struct list *, gfn_t);

/* spt_on_shadowed(): a writable nested leaf covers no shadowed table. */
bool agile_protect(struct mmu_vm *, gfn_t, bool shadowed);
/* Map the backed frame f in the nested table; back it first. */
void agile_map(struct mmu_vm *, gfn_t f);
void agile_back(struct mmu *, gfn_t f);

/* The shadow page of a guest table; NULL: in nested mode. May end the VM, for want of frames. */
struct sp *agile_table_page(struct mmu *, gfn_t table, unsigned level);
/* Have sptr stand for the root; its shadow page, if it has one. A root outside memory has none: walks
 * begin at frame 0, which is empty. */
struct sp *agile_root_page(struct mmu *);

/* One write to a table in shadow mode, an exit. True: it is in nested mode now. */
bool agile_count_write(struct mmu *, gfn_t table);
/* A program stored to it: no table, or a hostile guest's. */
void agile_written(struct mmu *, gfn_t table);
/* The timer has expired: move what was not written to shadow mode. */
void agile_interval_end(struct mmu *);

#endif
