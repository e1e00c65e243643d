/* shadow_kvm_sync.c: reading the guest's tables again: sync, INVLPG and prefetch.
 *
 * All three derive sPTEs without a fault of the guest, so all three take only entries that the
 * guest could not tell from ones not yet used: present and accessed, clean ones read-only.
 */
#include "shadow_vs_ept/shadow_kvm.h"

uint64_t kmmu_guest_entry(const struct kmmu *k, const struct kpage *p, unsigned idx)
{
    const struct gmem *gm = k->vm->gm;
    return gmem_state(gm, gfn(p->gfn)) == PG_RESIDENT
               ? *(const uint64_t *)gmem_ptr(gm, (p->gfn << PAGE_SHIFT) + 8 * idx)
               : 0;
}

/* What a level-1 leaf for this entry would be; false: there must be none without a fault. */
static bool leaf_of(const struct kmmu *k, const struct kpage *p, uint64_t entry, struct kleaf *l)
{
    uint64_t g = (entry & PTE_ADDR) >> PAGE_SHIFT;
    if ((entry & (PTE_P | PTE_A)) != (PTE_P | PTE_A) || g >= k->vm->gm->frames ||
        ((entry & PTE_NX) && !(p->role & ROLE_NX)))
        return false;
    unsigned access = p->role & kmmu_access(entry);
    *l = (struct kleaf){
        .gfn = g, .access = entry & PTE_D ? access : access & ~(unsigned)ACC_W, .prefetch = true};
    return true;
}

void kmmu_sync_page(struct kmmu *k, struct kpage *p)
{
    kmmu_counters(k)->shadow_syncs++;
    for (unsigned i = 0; i < 512; i++) {
        struct kleaf l;
        uint64_t old = *kmmu_spte(k, p, i);
        if (!(old & PTE_P))
            continue;
        if (!leaf_of(k, p, kmmu_guest_entry(k, p, i), &l) || l.gfn != p->target[i]) {
            kmmu_zap_entry(k, p, i);
            continue;
        }
        l.host_writable = kmmu_host_writable(k, l.gfn);
        kmmu_set_leaf(k, p, i, &l);
    }
}

bool kmmu_prefetch_entry(struct kmmu *k, struct kpage *p, unsigned idx, uint64_t entry)
{
    struct kleaf l;
    if (!leaf_of(k, p, entry, &l) || !kmmu_host_writable(k, l.gfn))
        return false;
    l.can_unsync = l.host_writable = true;
    kmmu_set_leaf(k, p, idx, &l);
    kmmu_counters(k)->shadow_prefetched++;
    return true;
}

/* The neighbours in a table: from the lowest up, until one would need a fault. */
static void prefetch_table(struct kmmu *k, struct kpage *p, unsigned idx)
{
    unsigned first = idx & ~(KMMU_PREFETCH - 1u);
    for (unsigned i = first; i < first + KMMU_PREFETCH; i++) {
        if (i == idx || (*kmmu_spte(k, p, i) & PTE_P))
            continue;
        if (!kmmu_prefetch_entry(k, p, i, kmmu_guest_entry(k, p, i)))
            return;
    }
}

/* The frames [from, to) of a direct page, as far as the host has them. False: not even the first. */
static bool prefetch_run(struct kmmu *k, struct kpage *p, unsigned from, unsigned to)
{
    unsigned i = from;
    for (; i < to && kmmu_host_writable(k, p->gfn + i); i++) {
        struct kleaf l = {.gfn = p->gfn + i,
                          .access = p->role & ACC_ALL,
                          .prefetch = true,
                          .can_unsync = true,
                          .host_writable = true};
        kmmu_set_leaf(k, p, i, &l);
        kmmu_counters(k)->shadow_prefetched++;
    }
    return i > from;
}

/* The neighbours in a direct page: each run of absent ones, until the host lacks a run's first. */
static void prefetch_direct(struct kmmu *k, struct kpage *p, unsigned idx)
{
    unsigned first = idx & ~(KMMU_PREFETCH - 1u), end = first + KMMU_PREFETCH, start = end;
    for (unsigned i = first; i < end; i++) {
        bool absent = i != idx && !(*kmmu_spte(k, p, i) & PTE_P);
        if (absent && start == end)
            start = i;
        else if (!absent && start != end) {
            if (!prefetch_run(k, p, start, i))
                return;
            start = end;
        }
    }
    if (start != end)
        prefetch_run(k, p, start, end);
}

void kmmu_prefetch(struct kmmu *k, struct kpage *p, unsigned idx)
{
    if (p->level > 1 || kmmu_symbolic(p))
        return;
    if (p->direct)
        prefetch_direct(k, p, idx);
    else
        prefetch_table(k, p, idx);
}

/* Only a page out of sync can differ from what the guest sees. Its entry is read again, and mapped
 * at once when that needs no fault. */
void kmmu_invlpg(struct kmmu *k, struct kpage *root, gva_t va)
{
    struct kpage *p = root;
    while (p && p->level > 1 && p->unsync_children)
        p = kmmu_child(k, p, level_index(va, p->level));
    if (!p || !p->unsync)
        return;
    unsigned idx = level_index(va, 1);
    kmmu_zap_entry(k, p, idx);
    kmmu_prefetch_entry(k, p, idx, kmmu_guest_entry(k, p, idx));
}
