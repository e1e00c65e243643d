/* mmu_flush.c: what makes a translation go: INVLPG, CR3 loads, host changes.
 *
 * Three sets, from small to large: the entries of one address, those of a tag (PCID), and everything. Walk
 * caches of guest-virtual addresses go with each; nested ones (npsc, ntlb) only when the host changes.
 */
#include "shadow_vs_ept/walk.h"

/* Linear walk caches: INVLPG and CR3 loads drop all of them (SDM vol. 3A, 4.10.4.1 demands it of
 * the current PCID; more is allowed). AMD's address-tagged cache holds guest entries, so it goes
 * too. */
static void drop_linear_walk_caches(struct mmu *m)
{
    if (MUTANT(walk_caches_kept))
        return;
    for (unsigned i = 0; i < 4; i++)
        assoc_clear(&m->psc[i]);
    assoc_clear(&m->pwc);
}

/* Apply to each TLB array once. */
static void each_tlb(struct mmu *m, bool (*drop)(uint64_t, uint64_t, uint64_t), uint64_t ctx)
{
    for (unsigned i = 0; i < 3; i++)
        assoc_drop(&m->l1_own[i], drop, ctx);
    assoc_drop(&m->l1_any, drop, ctx);
    for (unsigned i = 0; i < 2; i++)
        assoc_drop(&m->l2_own[i], drop, ctx);
}

static unsigned key_tag(uint64_t key) { return key >> 3 & 0x1fff; }
static bool has_tag(uint64_t key, uint64_t val, uint64_t tag)
{
    (void)val;
    return key_tag(key) == tag;
}
static bool not_global(uint64_t key, uint64_t val, uint64_t unused)
{
    (void)val, (void)unused;
    return key_tag(key) != TAG_GLOBAL;
}

/* A part of the large guest page around `where`: page address | tag. */
static bool part_of(uint64_t key, uint64_t val, uint64_t where)
{
    unsigned tag = key_tag(key), shift = val & TLB_PART_1G ? SHIFT_1G : SHIFT_2M;
    uint64_t va = key >> 16 << tlb_shift(key >> 1 & 3);
    return (val & (TLB_PART_2M | TLB_PART_1G)) && (va ^ where) >> shift == 0 &&
           (tag == TAG_GLOBAL || tag == (where & PAGE_MASK));
}

/* The entries of one address in one tag, and the global ones. */
static void drop_va(struct mmu *m, gva_t va, unsigned tag, bool globals)
{
    if (m->parts && !MUTANT(invlpg_keeps_parts))
        each_tlb(m, part_of, (va << 7 >> 7 & ~PAGE_MASK) | tag);
    for (unsigned s = 0; s < 3; s++)
        for (unsigned g = 0; g < 1u + globals; g++) {
            uint64_t key = tlb_key(va, s, g ? TAG_GLOBAL : tag);
            if (m->l1[s])
                assoc_del(m->l1[s], tlb_vpn(va, s), key);
            if (m->l2[s])
                assoc_del(m->l2[s], tlb_vpn(va, s), key);
        }
    mmu_forget_mru(m);
}

/* INVLPG drops all entries of the guest's page, also where the host's smaller pages made them many
 * (SDM vol. 3A, 4.10.4.1, after 4.10.2.3). Which page that was only the entries know: the guest has
 * changed its table already. */
void mmu_flush_va(struct mmu *m, gva_t va)
{
    if (MUTANT(invlpg_lost))
        return;
    drop_va(m, va, m->tag, !MUTANT(invlpg_keeps_globals));
    drop_linear_walk_caches(m);
}

void mmu_flush_faulting(struct mmu *m, gva_t va)
{
    drop_va(m, va, m->tag, true);
    for (unsigned l = 2; l <= 5; l++)
        assoc_del(&m->psc[PSC_SLOT(l)], psc_prefix(va, l), psc_key(va, l, m->tag));
}

void mmu_flush_invpcid(struct mmu *m, enum invpcid_type type, unsigned pcid, gva_t va)
{
    switch (type) {
    case INVPCID_ADDRESS:
        drop_va(m, va, pcid, false);
        drop_linear_walk_caches(m);
        break;
    case INVPCID_CONTEXT:
        mmu_flush_tag(m, pcid);
        break;
    case INVPCID_ALL:
        (MUTANT(invpcid_keeps_globals) ? mmu_flush_nonglobal : mmu_flush_linear)(m);
        break;
    case INVPCID_ALL_NONGLOBAL:
        mmu_flush_nonglobal(m);
        break;
    }
}

void mmu_flush_tag(struct mmu *m, unsigned tag)
{
    m->c.tlb_flushes++;
    each_tlb(m, has_tag, tag);
    drop_linear_walk_caches(m);
    mmu_forget_mru(m);
}

/* Without global entries a flush is a clear. */
void mmu_flush_nonglobal(struct mmu *m)
{
    m->c.tlb_flushes++;
    if (m->globals)
        each_tlb(m, not_global, 0);
    else {
        for (unsigned i = 0; i < 3; i++)
            assoc_clear(&m->l1_own[i]);
        assoc_clear(&m->l1_any);
        for (unsigned i = 0; i < 2; i++)
            assoc_clear(&m->l2_own[i]);
    }
    drop_linear_walk_caches(m);
    mmu_forget_mru(m);
}

/* All that depends on guest-virtual addresses, of every tag, globals too. */
void mmu_flush_linear(struct mmu *m)
{
    m->globals = m->parts = false;
    mmu_flush_nonglobal(m);
    m->sizes = 0;
    m->only_size = SIZE_MIXED;
}

void mmu_flush_all(struct mmu *m)
{
    mmu_flush_linear(m);
    for (unsigned i = 0; i < 4; i++)
        assoc_clear(&m->npsc[i]);
    assoc_clear(&m->ntlb);
    mmu_forget_hints(m);
}

void mmu_power_on(struct mmu *m)
{
    mmu_flush_all(m);
    for (unsigned i = 0; i < 3; i++)
        dcache_clear(&m->cache[i]);
}

/* A vCPU in the guest must leave it before it can be told to flush (Linux: kvm_flush_remote_tlbs). The
 * one that runs has left it already, or is where a host event finds it. */
static void kick(struct mmu *m)
{
    if (m->id != m->vm->running && m->started && !m->vm->paging->bare)
        mmu_exit(m, CTR_exit_intr, 0);
}

void mmu_vm_flush_all(struct mmu_vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        kick(vm->vcpu[i]);
        mmu_flush_all(vm->vcpu[i]);
    }
}

void mmu_load_tag(struct mmu *m, uint64_t cr3)
{
    if (!m->vm->cpu->pcid) {
        m->tag = 0;
        mmu_flush_nonglobal(m);
        return;
    }
    m->tag = (unsigned)(cr3 & (MUTANT(wrong_tag) ? 1 : CR3_PCID));
    if ((cr3 & CR3_KEEP) || MUTANT(cr3_keeps_tlb))
        mmu_forget_mru(m);
    else
        mmu_flush_tag(m, m->tag);
}
