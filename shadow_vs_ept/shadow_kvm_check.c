/* shadow_kvm_check.c: verifies the invariants numbered in shadow_kvm.h. */
#include "shadow_vs_ept/shadow_kvm.h"

static bool on_list(const struct kmmu *k, uint32_t head, hpa_t spte)
{
    for (; head; head = k->node[head].next)
        if (k->node[head].spte == spte)
            return true;
    return false;
}

static const char *check_writable(const struct kmmu *k, uint64_t first, uint64_t n)
{
    for (uint64_t g = first; g < first + n; g++) {
        if (k->tracked[g])
            return "shadow-kvm (3) a writable leaf covers a tracked table";
        if (!k->indirect[g])
            continue;
        for (uint32_t i = k->oldest; i; i = k->page[i]->newer)
            if (k->page[i]->gfn == g && !k->page[i]->direct && !k->page[i]->unsync)
                return "shadow-kvm (3) a writable leaf covers a table in sync";
    }
    return NULL;
}

static const char *check_guest_entry(const struct kmmu *k, const struct kpage *p, unsigned idx,
                                     uint64_t e)
{
    uint64_t ge = kmmu_guest_entry(k, p, idx);
    if ((ge & (PTE_P | PTE_A)) != (PTE_P | PTE_A) || !pte_is_leaf(ge, p->level) ||
        pte_leaf_addr(ge, p->level) >> PAGE_SHIFT != p->target[idx])
        return "shadow-kvm (2) a leaf does not follow its guest entry";
    unsigned more = kmmu_access(e) & ~(p->role & kmmu_access(ge));
    if ((e & PTE_W) && !(ge & PTE_D))
        return "shadow-kvm (2) a leaf is writable too early";
    if (more == ACC_W && !(p->role & ROLE_WP) && !(e & PTE_U) &&
        !((p->role & ROLE_SMEP_NOT_WP) && !(e & PTE_NX)))
        more = 0;
    return more ? "shadow-kvm (2) a leaf has a right that its guest entries deny" : NULL;
}

static const char *check_leaf(const struct kmmu *k, const struct kpage *p, unsigned idx, uint64_t e)
{
    const struct gmem *gm = k->vm->gm;
    uint64_t g = kmmu_leaf_gfn(p, idx), n = 1ull << (9 * (p->level - 1));
    const char *why = NULL;
    if (g + n > gm->frames)
        return "shadow-kvm (1) a leaf maps what is no memory";
    hpa_t to = kmmu_maps(k, p, g);
    if (to != (e & PTE_ADDR) || (to && n > 1ull << gmem_order(gm, gfn(g))) ||
        (!to && n > 1 && !(k->flags[g] & GF_HUGE)))
        return "shadow-kvm (1) a leaf does not map gmem's frame";
    if (!to && !kmmu_symbolic(p) && ((e & PTE_W) || !p->direct))
        return "shadow-kvm (1) a leaf maps a frame that is not there";
    if (e & PTE_W)
        why = check_writable(k, g, n);
    if (!why && !on_list(k, k->rmap[g], p->table + 8 * idx))
        why = "shadow-kvm (4) a leaf is not in its rmap list";
    if (why || p->direct || p->unsync || kmmu_symbolic(p))
        return why;
    return check_guest_entry(k, p, idx, e);
}

static const char *check_link(const struct kmmu *k, const struct kpage *p, unsigned idx)
{
    const struct kpage *child = kmmu_child(k, p, idx);
    if (!child || child->level + 1 != p->level || !on_list(k, child->parents, p->table + 8 * idx))
        return "shadow-kvm (4) a link is not in its child's list of parents";
    if ((child->unsync || child->unsync_children) && !(p->unsync_child[idx / 64] >> (idx % 64) & 1))
        return "shadow-kvm (5) a link to an unsync page is not noted";
    return NULL;
}

static const char *check_page(const struct kmmu *k, const struct kpage *p, uint64_t *listed)
{
    unsigned noted = 0;
    for (unsigned w = 0; w < 8; w++)
        noted += (unsigned)__builtin_popcountll(p->unsync_child[w]);
    if (noted != p->unsync_children || (p->unsync && (p->level != 1 || p->direct)))
        return "shadow-kvm (5) notes of unsync pages are wrong";
    if (p->invalid && !p->roots)
        return "shadow-kvm (7) an invalid page is nobody's root";
    for (unsigned i = 0; i < 512; i++) {
        uint64_t e = *kmmu_spte(k, p, i);
        if (!(e & PTE_P))
            continue;
        ++*listed;
        const char *why = pte_is_leaf(e, p->level) ? check_leaf(k, p, i, e) : check_link(k, p, i);
        if (why)
            return why;
    }
    return NULL;
}

const char *kmmu_check(struct kmmu *k)
{
    uint64_t listed = 0, nodes = k->nnodes - 1, pages = 0, aged = 0, unsync = 0;
    for (uint32_t i = 1; i < k->npages; i++) {
        const struct kpage *p = k->page[i];
        const char *why = p ? check_page(k, p, &listed) : NULL;
        if (why)
            return why;
        pages += p != NULL;
        unsync += p && p->unsync;
    }
    for (uint32_t i = k->oldest; i; i = k->page[i]->newer)
        aged++;
    for (uint32_t n = k->free_node; n; n = k->node[n].next)
        nodes--;
    if (nodes != listed)
        return "shadow-kvm (4) a list names an sPTE that is gone";
    return pages != k->vm->table_frames || aged != k->used ||
                   unsync != kmmu_counters(k)->shadow_out_of_sync
               ? "shadow-kvm (6) a count of pages is wrong"
               : NULL;
}
