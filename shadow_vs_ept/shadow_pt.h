/* shadow_pt.h: a cache of shadow page tables: the hypervisor's half of shadow paging.
 *
 * A shadow page is a hardware table of sPTEs that stands for one guest table (kept by the guest
 * table's gfn and level), or, "direct", for a piece of one large guest page that the host backs
 * with smaller pages, or, "private", for a range of virtual addresses of one address space on one
 * vCPU, whatever the guest's tables are. A strategy has private pages only, or none.
 *
 * Terms: a link sPTE points to another shadow page; a leaf sPTE maps memory. A gfn is shadowed
 * while an indirect shadow page stands for it: the guest's writes to it must trap, so no writable
 * leaf may map it.
 *
 * A switching sPTE (SPTE_SWITCH) stands where a link would: it holds the host-physical address of the guest's
 * own table, in which the walk goes on. To what follows it is a leaf that maps that table.
 *
 * Invariants (spt_check verifies all):
 *  (1) a leaf sPTE maps the frame gmem holds for its gfn, at a size no larger than gmem's block.
 *  (2) a leaf of an indirect page agrees with the guest entry it stands for: present, same target,
 *      writable only if the guest entry is writable and dirty. Not so in a private page.
 *  (3) no writable leaf covers a shadowed gfn.
 *  (4) every leaf is in the rmap list of its first gfn, every link in its child's list of parents,
 *      and nothing else is.
 *  (5) a direct page has exactly one parent, a private one at most one, of its own vCPU.
 *  (6) spt_live() counts the shadow pages, spt_leaves() the leaves, spt_private_pages() those of a
 *      vCPU, all of which are in its list by age.
 *  (7) a switching sPTE agrees with the guest entry it stands for, and its table is not shadowed.
 */
#ifndef NB_PAGING_SHADOW_PT_H
#define NB_PAGING_SHADOW_PT_H

#include "shadow_vs_ept/mmu.h"

#define SPTE_SWITCH PTE_SW2

struct spt;

/* One shadow page. Pointers stay valid until the page is freed. */
struct sp {
    union {
        uint64_t gfn; /* guest table it stands for; direct: first gfn it maps */
        gva_t va;     /* private: first address, as far as the root's index tells */
    };
    hpa_t table;   /* the hardware table */
    uint8_t level; /* of that table: 5..1 */
    bool direct;
    uint32_t id, next;     /* own index; next page of the same hash chain */
    uint32_t parents;      /* list of link sPTEs that point here */
    uint32_t *target;      /* not direct: first gfn of each leaf, for the rmap */
    uint8_t owner;         /* private: the vCPU, from 1; else 0 */
    uint16_t children;     /* links in it */
    uint32_t older, newer; /* private: the vCPU's pages by age */
    uint64_t marks;        /* private: for the strategy */
};

struct spt *spt_new(struct mmu_vm *);
void spt_free(struct spt *);

/* The shadow page for guest table g at `level`; made, and g write-protected, when there is none. */
struct sp *spt_get(struct spt *, gfn_t g, unsigned level);
/* That page, or NULL. */
struct sp *spt_find(const struct spt *, gfn_t g, unsigned level);
/* The shadow page whose hardware table is at `table`, or NULL. */
struct sp *spt_of_table(const struct spt *, hpa_t table);
bool spt_shadowed(const struct spt *, gfn_t g);
/* Largest level (3, 2, 1) at which a leaf may map the block around g, from gmem and what is
 * shadowed in it. */
unsigned spt_max_level(const struct spt *, gfn_t g);

/* Make sp's entry idx a link to child with the guest entry's rights, or to a new direct page for
 * `first`. */
void spt_link(struct spt *, struct sp *, unsigned idx, struct sp *child, uint64_t rights);
struct sp *spt_link_direct(struct spt *, struct sp *, unsigned idx, gfn_t first, uint64_t rights);
/* Make sp's entry idx a leaf for the block that starts at g. */
void spt_map(struct spt *, struct sp *, unsigned idx, gfn_t g, uint64_t rights);
/* Make sp's entry idx a switching one to guest table g, which is resident. */
void spt_switch(struct spt *, struct sp *, unsigned idx, gfn_t g, uint64_t rights);
/* Was a large guest page ever mapped in parts? Their leaves carry one of these, for the TLB. */
#define SPT_PARTS (TLB_PART_2M | TLB_PART_1G)
bool spt_splits(const struct spt *);
/* The child a present link entry points to; NULL when the entry is absent or a leaf. */
struct sp *spt_child(const struct spt *, const struct sp *, unsigned idx);
uint64_t spt_entry(const struct spt *, const struct sp *, unsigned idx);
/* First gfn that leaf idx maps. */
gfn_t spt_leaf_gfn(const struct sp *, unsigned idx);

/* ---- private pages ---- */

/* A new one, for a root or to be linked. */
struct sp *spt_private(struct spt *, unsigned vcpu, unsigned level, gva_t va);
unsigned spt_private_pages(const struct spt *, unsigned vcpu);
/* The oldest without a page below it; NULL: the vCPU has none. */
struct sp *spt_oldest(const struct spt *, unsigned vcpu);
/* Free it and what is below. The TLBs of the vCPU may still know of it: spt_settle(). */
void spt_release(struct spt *, struct sp *);
/* Drop entry idx and what is below. The caller flushes the address; else as spt_release. */
void spt_drop(struct spt *, struct sp *, unsigned idx);
/* Flush where pages were freed. `flushed`: the caller has done all that this needs. */
void spt_settle(struct spt *, bool flushed);

/* ---- events ---- */

/* The guest wrote entry idx of guest table g: drop what was derived from it. */
void spt_entry_written(struct spt *, gfn_t g, unsigned idx);
/* g is no longer a table: drop its shadow pages, let writes through. Flushes. */
void spt_drop_gfn(struct spt *, gfn_t g);
/* Walks go on in guest table g from now on: links to its shadow pages become switching sPTEs; the pages
 * go, and with them those below that nothing else leads to. Flushes. */
void spt_nest(struct spt *, gfn_t g);
/* No more: its switching sPTEs go. The caller flushes. */
void spt_unnest(struct spt *, gfn_t g);
/* fn hears when a gfn begins or ceases to be shadowed; true: flush everything. */
void spt_on_shadowed(struct spt *, bool (*fn)(struct mmu_vm *, gfn_t, bool shadowed));
/* The host changes [first, first + n): drop every leaf that maps it. The caller flushes. */
void spt_zap(struct spt *, gfn_t first, uint64_t n);

/* All shadow pages go. Flushes. */
void spt_drop_all(struct spt *);
/* Shadow pages, and leaves in them. */
uint64_t spt_live(const struct spt *);
uint64_t spt_leaves(const struct spt *);

const char *spt_check(struct spt *);

#endif
