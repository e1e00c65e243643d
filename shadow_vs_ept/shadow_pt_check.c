/* shadow_pt_check.c: the checker of shadow tables: the invariants of shadow_pt.h. */
#include "shadow_vs_ept/shadow_pt_int.h"

static bool on_list(const struct spt *s, uint32_t head, hpa_t spte)
{
    for (; head; head = s->node[head].next)
        if (s->node[head].spte == spte)
            return true;
    return false;
}

/* Invariant (2): a leaf of an indirect page against its guest entry. */
static const char *check_guest_entry(const struct spt *s, const struct sp *p, unsigned idx,
                                     uint64_t e)
{
    uint64_t ge = *(const uint64_t *)gmem_ptr(s->vm->gm, (p->gfn << PAGE_SHIFT) + 8 * idx);
    if (!(ge & PTE_P) || !pte_is_leaf(ge, p->level) ||
        pte_leaf_addr(ge, p->level) >> PAGE_SHIFT != p->target[idx])
        return "shadow (2) a leaf does not follow its guest entry";
    return (e & PTE_W) && (ge & (PTE_W | PTE_D)) != (PTE_W | PTE_D)
               ? "shadow (2) a leaf is writable too early"
               : NULL;
}

static const char *check_leaf(const struct spt *s, const struct sp *p, unsigned idx, uint64_t e)
{
    uint64_t g = sp_leaf_gfn(p, idx), n = 1ull << (9 * (p->level - 1));
    if (g + n > s->vm->gm->frames || gmem_state(s->vm->gm, gfn(g)) != PG_RESIDENT ||
        hfn_hpa(gmem_hfn(s->vm->gm, gfn(g))) != (e & PTE_ADDR) ||
        n > 1ull << gmem_order(s->vm->gm, gfn(g)))
        return "shadow (1) a leaf does not map gmem's frame";
    for (uint64_t k = g; k < g + n && (e & PTE_W); k++)
        if (s->shadowed[k])
            return "shadow (3) a writable leaf covers a guest table";
    if (!on_list(s, s->rmap[g], p->table + 8 * idx))
        return "shadow (4) a leaf is not in its rmap list";
    return sp_tracked(p) ? check_guest_entry(s, p, idx, e) : NULL;
}

/* Invariant (7). */
static const char *check_switch(const struct spt *s, const struct sp *p, unsigned idx, uint64_t e)
{
    uint64_t g = p->target[idx],
             ge = *(const uint64_t *)gmem_ptr(s->vm->gm, (p->gfn << PAGE_SHIFT) + 8 * idx);
    if (gmem_state(s->vm->gm, gfn(g)) != PG_RESIDENT ||
        hfn_hpa(gmem_hfn(s->vm->gm, gfn(g))) != (e & PTE_ADDR) ||
        !on_list(s, s->rmap[g], p->table + 8 * idx))
        return "shadow (7) a switching sPTE does not hold the guest's table";
    if (s->shadowed[g] || !(ge & PTE_P) || pte_is_leaf(ge, p->level) ||
        (ge & PTE_ADDR) >> PAGE_SHIFT != g)
        return "shadow (7) a switching sPTE does not follow its guest entry";
    return NULL;
}

/* Invariant (5). */
static const char *check_parents(const struct spt *s, const struct sp *p)
{
    uint32_t n = p->parents;
    if (p->direct && (!n || s->node[n].next))
        return "shadow (5) a direct page has not exactly one parent";
    if (p->owner && n &&
        (s->node[n].next || spt_of_table(s, s->node[n].spte & ~PAGE_MASK)->owner != p->owner))
        return "shadow (5) a private page has several parents, or one of another vCPU";
    return NULL;
}

static const char *check_page(const struct spt *s, const struct sp *p, uint64_t *listed,
                              uint64_t *leaves)
{
    const char *why = check_parents(s, p);
    unsigned children = 0;
    for (unsigned i = 0; i < 512 && !why; i++) {
        uint64_t e = *spt_at(s, p, i);
        const struct sp *child = spt_child(s, p, i);
        if (!(e & PTE_P))
            continue;
        ++*listed;
        if (e & SPTE_SWITCH) {
            ++*leaves;
            why = check_switch(s, p, i, e);
        } else if (pte_is_leaf(e, p->level)) {
            ++*leaves;
            why = check_leaf(s, p, i, e);
        } else if (!child || child->level + 1 != p->level ||
                   !on_list(s, child->parents, p->table + 8 * i))
            why = "shadow (4) a link is not in its child's list of parents";
        children += child != NULL;
    }
    return !why && children != p->children ? "shadow (4) links are miscounted" : why;
}

/* Invariant (6) of private pages. */
static const char *check_ages(const struct spt *s)
{
    uint32_t listed = 0, owned_pages = 0;
    for (unsigned o = 1; o <= MAX_VCPUS; o++) {
        uint32_t n = 0;
        for (uint32_t i = s->oldest[o]; i; i = s->page[i]->newer)
            n += s->page[i]->owner == o;
        if (n != s->owned[o])
            return "shadow (6) private pages are miscounted";
        listed += n;
    }
    for (uint32_t i = 1; i < s->npages; i++)
        owned_pages += s->page[i] && s->page[i]->owner;
    return listed == owned_pages ? NULL : "shadow (6) a private page is in no list";
}

const char *spt_check(struct spt *s)
{
    uint64_t listed = 0, nodes = s->nnodes - 1, live = 0, leaves = 0;
    for (uint32_t i = 1; i < s->npages; i++) {
        const char *why = s->page[i] ? check_page(s, s->page[i], &listed, &leaves) : NULL;
        live += s->page[i] != NULL;
        if (why)
            return why;
    }
    for (uint32_t n = s->free_node; n; n = s->node[n].next)
        nodes--;
    if (nodes != listed)
        return "shadow (4) a list names an sPTE that is gone";
    if (live != s->live || leaves != s->leaves)
        return "shadow (6) shadow pages or leaves are miscounted";
    return check_ages(s);
}
