/* shadow_kvm_leaf.c: making a leaf sPTE, and what an emulated write of a table does to the sPTEs.
 *
 * A leaf is made writable only if its frame is no table, or only a leaf table: then that table's
 * pages go out of sync first. Making one again that is right already is told apart (KPF_SPURIOUS).
 */
#include "shadow_vs_ept/shadow_kvm.h"

/* A writable leaf of g is wanted: its level-1 pages go out of sync. False: it must be read-only. */
static bool unsync_pages(struct kmmu *k, const struct kleaf *l)
{
    if (k->tracked[l->gfn])
        return false;
    if (!k->indirect[l->gfn])
        return true;
    struct kuses u;
    kmmu_uses_of(k, l->gfn, &u);
    for (unsigned i = 0; i < u.n; i++) {
        struct kpage *p = kmmu_use(k, l->gfn, &u, i);
        if (!l->can_unsync || (!p->unsync && l->prefetch))
            return false;
        if (!p->unsync)
            kmmu_mark_unsync(k, p);
    }
    return true;
}

/* The sPTE, and whether a store could not be allowed. Linux 6.1 leaves D to the hardware when a
 * writable leaf is made again; later ones set it always. */
static uint64_t make_leaf(struct kmmu *k, const struct kpage *p, uint64_t old, hpa_t to,
                          const struct kleaf *l, bool *protected)
{
    uint64_t e = to | PTE_P | (l->prefetch ? 0 : PTE_A) | (l->access & ACC_X ? 0 : PTE_NX) |
                 (l->access & ACC_U ? PTE_U : 0) | (p->level > 1 ? PTE_PS : 0);
    if (!(l->access & ACC_W) || !l->host_writable)
        return e;
    if (old & PTE_W)
        return k->emulated ? e | PTE_W | PTE_D : e | PTE_W;
    if (unsync_pages(k, l))
        return e | PTE_W | PTE_D;
    *protected = true;
    return e;
}

/* Make room for a leaf that maps `to`; the old leaf when it maps the same already. */
static uint64_t displace(struct kmmu *k, struct kpage *p, unsigned idx, hpa_t to)
{
    uint64_t old = *kmmu_spte(k, p, idx);
    if ((old & PTE_P) && (!pte_is_leaf(old, p->level) || (old & PTE_ADDR) != to)) {
        kmmu_zap_entry(k, p, idx);
        old = 0;
    }
    return old;
}

enum kpf kmmu_set_leaf(struct kmmu *k, struct kpage *p, unsigned idx, const struct kleaf *l)
{
    bool protected = false;
    hpa_t to = kmmu_maps(k, p, l->gfn);
    uint64_t old = displace(k, p, idx, to), e = make_leaf(k, p, old, to, l, &protected);
    if (old & ~e & (PTE_W | PTE_A | PTE_D))
        k->flush = true;
    *kmmu_spte(k, p, idx) = e;
    if (!old) {
        if (!p->direct)
            p->target[idx] = (uint32_t)l->gfn;
        kmmu_list_add(k, &k->rmap[l->gfn], p->table + 8 * idx);
        kmmu_counters(k)->shadow_leaves++;
    }
    if (protected && l->write)
        return KPF_EMULATE;
    return old == e ? KPF_SPURIOUS : KPF_FIXED;
}

/* ---- writes of upper tables ---- */

void kmmu_pte_written(struct kmmu *k, uint64_t g, unsigned idx)
{
    if (!k->indirect[g])
        return;
    struct kuses u;
    kmmu_counters(k)->shadow_pt_writes++;
    kmmu_uses_of(k, g, &u);
    for (unsigned i = 0; i < u.n; i++) {
        struct kpage *p = kmmu_use(k, g, &u, i);
        if (!p)
            continue;
        if (p->level > 1 && ++p->flood >= KMMU_FLOOD) {
            kmmu_counters(k)->shadow_floods++;
            kmmu_zap_page(k, p);
        } else
            kmmu_zap_entry(k, p, idx);
    }
}
