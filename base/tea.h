/* tea.h: a translation entry area as a DMT register describes it (Zhang et al., ASPLOS 2024).
 *
 * The tables of one level for a range of addresses, in address order in consecutive frames: the
 * entry of an address is found by arithmetic. The guest kernel makes them (guest/tea.c), the
 * hardware of strategy dmt reads them (shadow_vs_ept/dmt.c).
 */
#ifndef NB_BASE_TEA_H
#define NB_BASE_TEA_H

#include "base/addr.h"

struct tea {
    gva_t start, end; /* what it maps: a multiple of what one table maps */
    gpa_t table;      /* its first table, the one for `start` */
    unsigned level;   /* of its entries: 1, 2, 3 = leaves of 4 KiB, 2 MiB, 1 GiB */
    uint64_t id;      /* the hypervisor's name of it, when it placed it (pvDMT); 0: it did not */
};

enum { MAX_TEA_REGISTERS = 64 };

static inline bool tea_holds(const struct tea *t, gva_t va)
{
    return va - t->start < t->end - t->start;
}

/* Guest-physical address of the entry for va. */
static inline gpa_t tea_entry(const struct tea *t, gva_t va)
{
    return t->table + ((va - t->start) >> level_shift(t->level) << 3);
}

/* Frames of its tables. */
static inline uint64_t tea_frames(const struct tea *t)
{
    return (t->end - t->start) >> level_shift(t->level + 1);
}

#endif
