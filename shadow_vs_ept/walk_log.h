/* walk_log.h: a walk written down, reference by reference. */
#ifndef NB_PAGING_WALK_LOG_H
#define NB_PAGING_WALK_LOG_H

#include "base/addr.h"

enum walk_dim { DIM_GUEST, DIM_NESTED, DIM_SHADOW };

/* One table entry read by the walk, in order. */
struct walk_step {
    enum walk_dim dim;
    unsigned level;       /* of the entry: 5..1 */
    unsigned guest_level; /* DIM_NESTED: the guest table (5..1) being located; 0 = the data page */
    uint64_t index;       /* in its table: 0..511, or more where a table is an array */
    gpa_t gpa;            /* DIM_GUEST: gpa of the entry; DIM_NESTED: the gpa being translated */
    hpa_t hpa;            /* host-physical address of the entry */
    uint64_t value;       /* the entry, as the walk found it */
    unsigned probes;      /* places read at once to find it; 0: this one only */
};

enum { WALK_MAX_STEPS = 64 };

struct walk_log {
    unsigned n;
    unsigned seg_guest, seg_vmm; /* translations by a direct segment: gva to gpa, gpa to hpa */
    struct walk_step step[WALK_MAX_STEPS];
};

#endif
