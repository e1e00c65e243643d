/* shadow_pt.h: a cache of shadow page tables: the hypervisor's half of shadow paging.
 *
 * A shadow page is a hardware table of sPTEs that stands for one guest table (kept by the guest
 * table's gfn and level), or, "direct", for a piece of one large guest page that the host backs
 * with smaller pages.
 *
 * Terms: a link sPTE points to another shadow page; a leaf sPTE maps memory. A gfn is shadowed
 * while an indirect shadow page stands for it: the guest's writes to it must trap, so no writable
 * leaf may map it.
 *
 * Invariants (spt_check verifies all):
 *  (1) a leaf sPTE maps the frame gmem holds for its gfn, at a size no larger than gmem's block.
 *  (2) a leaf of an indirect page agrees with the guest entry it stands for: present, same target,
 *      writable only if the guest entry is writable and dirty.
 *  (3) no writable leaf covers a shadowed gfn.
 *  (4) every leaf is in the rmap list of its first gfn, every link in its child's list of parents,
 *      and nothing else is.
 *  (5) a direct page has exactly one parent.
 *  (6) spt_live() counts the shadow pages.
 */
#ifndef NB_PAGING_SHADOW_PT_H
#define NB_PAGING_SHADOW_PT_H

#include "shadow_vs_ept/mmu.h"

struct spt;

/* One shadow page. Pointers stay valid until the page is freed. */
struct sp {
    uint64_t gfn;  /* guest table it stands for; direct: first gfn it maps */
    hpa_t table;   /* the hardware table */
    uint8_t level; /* of that table: 5..1 */
    bool direct;
    uint32_t id, next; /* own index; next page of the same hash chain */
    uint32_t parents;  /* list of link sPTEs that point here */
    uint32_t *target;  /* indirect pages: first gfn of each leaf, for the rmap */
};

struct spt *spt_new(struct mmu_vm *);
void spt_free(struct spt *);

/* The shadow page for guest table g at `level`; made, and g write-protected, when there is none. */
struct sp *spt_get(struct spt *, gfn_t g, unsigned level);
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
/* The child a present link entry points to; NULL when the entry is absent or a leaf. */
struct sp *spt_child(const struct spt *, const struct sp *, unsigned idx);

/* The guest wrote entry idx of guest table g: drop what was derived from it. */
void spt_entry_written(struct spt *, gfn_t g, unsigned idx);
/* g is no longer a table: drop its shadow pages, let writes through. Flushes. */
void spt_drop_gfn(struct spt *, gfn_t g);
/* The host changes [first, first + n): drop every leaf that maps it. The caller flushes. */
void spt_zap(struct spt *, gfn_t first, uint64_t n);

/* All shadow pages go. Flushes. */
void spt_drop_all(struct spt *);
/* Shadow pages, and leaves in them. */
uint64_t spt_live(const struct spt *);
uint64_t spt_leaves(const struct spt *);

const char *spt_check(struct spt *);

#endif
