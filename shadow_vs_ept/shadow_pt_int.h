/* shadow_pt_int.h: the data of shadow_pt.c, for its own files only. */
#ifndef NB_PAGING_SHADOW_PT_INT_H
#define NB_PAGING_SHADOW_PT_INT_H

#include <assert.h>

#include "shadow_vs_ept/shadow_pt.h"

struct node {
    hpa_t spte; /* address of the sPTE */
    uint32_t next;
};

#define ALL_VCPUS (~0ull)
static_assert(MAX_VCPUS <= 64, "spt.flush has a bit for each vCPU");

struct spt {
    struct mmu_vm *vm;
    struct sp **page;              /* by id; [0] unused; NULL = free id */
    uint32_t npages, cap, free_id; /* free ids are chained through free_next */
    uint32_t *free_next;
    uint32_t *hash, hash_mask;                             /* chains of ids, by guest table */
    uint32_t live;                                         /* shadow pages now */
    uint64_t leaves;                                       /* leaf sPTEs now */
    uint32_t oldest[MAX_VCPUS + 1], newest[MAX_VCPUS + 1]; /* private pages, by owner */
    uint32_t owned[MAX_VCPUS + 1];                         /* their number */
    uint32_t *by_table;                                    /* by hfn: id of the shadow page there */
    uint32_t *rmap;                                        /* by gfn: list of leaf sPTEs */
    uint16_t *shadowed;                  /* by gfn: indirect shadow pages standing for it */
    uint32_t *shadowed_2m, *shadowed_1g; /* shadowed gfns in each 2 MiB, 1 GiB */
    bool (*on_shadowed)(struct mmu_vm *, gfn_t, bool);
    struct node *node;
    uint32_t nnodes, node_cap, free_node;
    bool splits;    /* a direct page was made */
    uint64_t flush; /* vCPUs that may hold pointers to a table that is gone, by bit: spt_settle() */
};

/* It stands for a guest table, which it protects. Else it goes with its only parent. */
static inline bool sp_tracked(const struct sp *p) { return !p->direct && !p->owner; }

static inline uint64_t *spt_at(const struct spt *s, const struct sp *p, unsigned idx)
{
    return mmu_ptr(s->vm, p->table + 8 * idx);
}

/* First gfn that leaf idx of p maps. */
static inline uint64_t sp_leaf_gfn(const struct sp *p, unsigned idx)
{
    return p->direct ? p->gfn + ((uint64_t)idx << (9 * (p->level - 1))) : p->target[idx];
}

#endif
