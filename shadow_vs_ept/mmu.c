/* mmu.c: what every strategy shares: lookup, the retry loop around a walk, fills, events.
 *
 * Trust. A TLB entry is a promise made at fill time: it may outlive a change of the guest's tables
 * until the guest invalidates it (that is the architecture), but never a change of the host's (zap
 * flushes). Rights are decided at each use, from the entry and the control registers of now (SDM vol.
 * 3A, 4.10.2.2). A store needs an entry with TLB_D too; one that lacks what an access needs is a hit
 * for the counters, and a new walk ("assist") decides, as processors do before they fault or to set
 * D. A #PF drops what the TLBs have of its address, also where only the hypervisor sees it.
 *
 * Invariants (mmu_check):
 *  (1) hot.mru[] names only a unit whose entry is the most recently used one of its L1 set, and lets
 *      a program's load, or store, through.
 *  (2) a key is at most once in an array.
 *  (3) tlb_l1_misses >= tlb_l2_misses; hits are derived, so hits + misses = accesses.
 *  (4) walk_reads + walk_refs_lost = all entries read by walks = the sum of pt_* when caches are
 *      modelled.
 */
#include "shadow_vs_ept/mmu_slow.h"

#include <assert.h>

/* Repairs one access may need: levels x (fault, fill) leaves ample room. */
enum { MAX_RETRIES = 64 };

/* The same entry may be there as global. */
static uint64_t *lookup_sizes(struct mmu *m, struct assoc *const *level, gva_t va, unsigned *size)
{
    for (unsigned s = 0; s < 3; s++) {
        if (!(m->sizes >> s & 1) || !level[s])
            continue;
        uint64_t *v = assoc_get(level[s], tlb_vpn(va, s), tlb_key(va, s, m->tag));
        if (!v && m->globals)
            v = assoc_get(level[s], tlb_vpn(va, s), tlb_key(va, s, TAG_GLOBAL));
        if (v) {
            *size = s;
            return v;
        }
    }
    return NULL;
}

/* Value of the entry for va in one TLB level, counted as a use; its page size in *size. Most
 * programs use one page size and no global pages: one search. */
static inline uint64_t *lookup(struct mmu *m, struct assoc *const *level, gva_t va, unsigned *size)
{
    unsigned s = m->only_size;
    if (unlikely(s == SIZE_MIXED))
        return lookup_sizes(m, level, va, size);
    *size = s;
    return likely(level[s] != NULL) ? assoc_get(level[s], tlb_vpn(va, s), tlb_key(va, s, m->tag))
                                    : NULL;
}

/* A translation of this size is about to be there. */
static void note_size(struct mmu *m, unsigned size, bool global)
{
    m->sizes |= 1u << size;
    m->globals |= global;
    m->only_size = m->globals || (m->sizes & (m->sizes - 1)) ? SIZE_MIXED : size;
}

static unsigned entry_tag(const struct mmu *m, uint64_t val)
{
    return (val & TLB_G) || MUTANT(all_global) ? TAG_GLOBAL : m->tag;
}

/* Change the entry in place where it is, leaving the order of use alone; false when it is not
 * there. */
static bool refresh(struct mmu *m, struct assoc *a, gva_t va, unsigned size, uint64_t val)
{
    uint64_t *v = a ? assoc_peek(a, tlb_vpn(va, size), tlb_key(va, size, entry_tag(m, val))) : NULL;
    if (v)
        *v = val;
    return v != NULL;
}

static void insert(struct mmu *m, struct assoc *a, gva_t va, unsigned size, uint64_t val)
{
    if (a)
        assoc_put(a, tlb_vpn(va, size), tlb_key(va, size, entry_tag(m, val)), val);
}

/* A walk gave `val`. Entries that are there are brought up to date in both levels; a new one goes
 * to both. */
static void fill(struct mmu *m, gva_t va, unsigned size, uint64_t val)
{
    note_size(m, size, (val & TLB_G) != 0);
    bool in_l1 = refresh(m, m->l1[size], va, size, val),
         in_l2 = refresh(m, m->l2[size], va, size, val);
    if (in_l1)
        return;
    insert(m, m->l1[size], va, size, val);
    if (!in_l2 && !(val & TLB_L1_ONLY))
        insert(m, m->l2[size], va, size, val);
}

/* A completed walk. */
static inline void book(struct mmu *m, const struct walk *w)
{
    m->c.walks++;
    m->c.walk_refs += w->refs;
    m->c.walk_refs_nested += w->refs_nested;
    m->c.walk_reads += w->reads;
}

/* The guest takes a page fault. */
static void deliver(struct mmu *m, gva_t va, unsigned error)
{
    mmu_note(m, "guest_faults", va, error);
    m->vm->ops->guest_fault(m->vm->ctx, va, error);
}

/* The walk did not complete: repair or deliver, and walk again, until the access has a translation,
 * or, with w->status other than WALK_OK, has been made by the hypervisor. */
static __attribute__((noinline)) void retry(struct mmu *m, const struct access *a, struct walk *w)
{
    for (unsigned tries = 0; tries < MAX_RETRIES; tries++) {
        m->c.walk_refs_lost += w->reads;
        if (!w->nested_fault) /* a #PF, whoever takes it */
            mmu_flush_faulting(m, a->va);
        enum fix_result r =
            w->status == WALK_GUEST_FAULT ? FIX_REFLECT : m->vm->paging->fix(m, a, w);
        if (r == FIX_EMULATE)
            return;
        /* The guest's own #PF, found by the hypervisor: what is cached by place of levels below those that the
         * hardware read must not outlive it either. Like INVLPG, which hypervisors use for it. */
        if (r == FIX_REFLECT && w->status != WALK_GUEST_FAULT) {
            mmu_flush_faulting(m, a->va);
            assoc_clear(&m->pwc);
        }
        if (r == FIX_REFLECT)
            deliver(m, a->va, w->error);
        m->walk(m, a, w);
        if (w->status == WALK_OK)
            return;
    }
    m->c.walk_refs_lost += w->reads;
    m->vm->ops->no_progress(m->vm->ctx, a->va);
}

/* A miss in both levels: the walk, repaired if need be. True when it completed at once; only a
 * fault on the way can have put the entry there meanwhile. */
static inline bool miss(struct mmu *m, gva_t va, unsigned store, struct walk *w)
{
    struct access a = {.va = va, .store = store};
    m->walk(m, &a, w);
    bool first = likely(w->status == WALK_OK);
    if (!first)
        retry(m, &a, w);
    book(m, w);
    return first;
}

/* A hit that lacks a right or the dirty bit: a walk decides. */
static __attribute__((noinline)) uint64_t assist(struct mmu *m, gva_t va, unsigned store,
                                                 unsigned *size)
{
    struct access a = {.va = va, .store = store};
    struct walk w;
    m->walk(m, &a, &w);
    if (w.status != WALK_OK)
        retry(m, &a, &w);
    book(m, &w);
    m->c.walks_assist++;
    *size = w.size;
    fill(m, va, w.size, w.page | w.flags);
    return w.page | w.flags;
}

uint64_t mmu_fetch(struct mmu *m, gva_t va, unsigned store)
{
    struct walk w;
    bool first = miss(m, va, store, &w), alone = first && m->only_size == w.size;
    uint64_t val = w.page | w.flags;
    if (likely(alone && w.size == 0 && !(val & (TLB_G | TLB_L1_ONLY))))
        return val;
    if (alone && !(val & (TLB_G | TLB_L1_ONLY))) {
        insert(m, m->l1[w.size], va, w.size, val);
        insert(m, m->l2[w.size], va, w.size, val);
    } else
        fill(m, va, w.size, val);
    return val | FETCH_DONE | (uint64_t)w.size << FETCH_SIZE;
}

/* What mmu_fetch() gave, now in both levels. */
static uint64_t take(struct mmu *m, gva_t va, uint64_t fetched, unsigned *size)
{
    if (fetched & FETCH_DONE) {
        *size = fetched >> FETCH_SIZE & 3;
        return fetched & ~(FETCH_DONE | 3ull << FETCH_SIZE);
    }
    *size = 0;
    insert(m, m->l1[0], va, 0, fetched);
    insert(m, m->l2[0], va, 0, fetched);
    return fetched;
}

/* The value of the entry for va, found or fetched. Any mixture of page sizes, any geometry. */
static __attribute__((noinline)) uint64_t find(struct mmu *m, gva_t va, unsigned store,
                                               unsigned *size)
{
    uint64_t val, *v = lookup(m, m->l1, va, size);
    if (v)
        return *v;
    m->c.tlb_l1_misses++;
    v = lookup(m, m->l2, va, size);
    if (v) {
        val = *v;
        insert(m, m->l1[*size], va, *size, val);
        return val;
    }
    m->c.tlb_l2_misses++;
    return take(m, va, mmu_fetch(m, va, store), size);
}

/* No TLB entry is for an address that is not canonical, but a key holds 57 bits of it: it must not
 * be looked up. Its walks fault until the run ends. */
static __attribute__((noinline, noreturn)) void not_canonical(struct mmu *m, const struct access *a)
{
    struct walk w;
    m->c.tlb_l1_misses++;
    m->c.tlb_l2_misses++;
    m->walk(m, a, &w);
    retry(m, a, &w);
    __builtin_unreachable(); /* retry() has given up */
}

hpa_t mmu_access_any(struct mmu *m, gva_t va, unsigned store, uint64_t val, bool looked_up)
{
    unsigned size = 0;
    if (!looked_up) {
        if (unlikely(va >> 47) && !canonical(va, m->vm->levels))
            not_canonical(m, &(struct access){.va = va, .store = store});
        val = find(m, va, store, &size);
    } else if (!val || (val & FETCH_DONE))
        val = take(m, va, val ? val : mmu_fetch(m, va, store), &size);
    if (unlikely(!slow_allows(val, store)))
        val = assist(m, va, store, &size);
    return slow_remember(m, va, size, val, m->hot.mru_shift, true);
}

/* The instances of the slow path for strategies without a quick walk. */
SLOW_INSTANCES(static, slow, NULL)

static void slow_any(struct mmu *m, gva_t va, unsigned store)
{
    mmu_access_any(m, va, store, 0, false);
}

/* The same where data caches are modelled. */
#define SLOW_CACHED(name, access)                             \
    static void name(struct mmu *m, gva_t va, unsigned store) \
    {                                                         \
        m->c.v[CTR_data_l1_hits + cache_access(m, access)]++; \
    }
SLOW_CACHED(slow_any_cached, mmu_access_any(m, va, store, 0, false))
SLOW_INSTANCE(cached_4_12, 4, 12, CACHED_MRU_SHIFT, NULL)
SLOW_INSTANCE(cached_4_16, 4, 16, CACHED_MRU_SHIFT, NULL)
SLOW_CACHED(slow_4_12_cached, cached_4_12_access(m, va, store))
SLOW_CACHED(slow_4_16_cached, cached_4_16_access(m, va, store))

/* Where a page size has no first level, repeats must not count as its hits. */
static void slow_no_l1(struct mmu *m, gva_t va, unsigned store)
{
    slow_any(m, va, store);
    mmu_forget_mru(m);
}
static void slow_no_l1_cached(struct mmu *m, gva_t va, unsigned store)
{
    slow_any_cached(m, va, store);
    mmu_forget_mru(m);
}

static bool has_shape(const struct mmu *m, uint32_t w1, uint32_t w2)
{
    return m->l1[0] && m->l2[0] && m->l1[0]->simple == w1 && m->l2[0]->simple == w2;
}

/* Walks are of the kind that quick walks know. */
static bool quick_walks(const struct mmu_vm *vm, bool cached)
{
    return !cached && vm->cpu->pwc_kind == PWC_NONE && vm->levels == 4 && vm->host_levels == 4;
}

void mmu_choose_slow(struct mmu *m, bool cached, bool quick)
{
    const struct paging *p = m->vm->paging;
    quick = quick && p->quick[0] && quick_walks(m->vm, cached);
    m->hot.slow = cached ? slow_any_cached : slow_any;
    if (has_shape(m, 4, 12))
        m->hot.slow = cached ? slow_4_12_cached : quick ? p->quick[SHAPE_4_12] : slow_4_12;
    if (has_shape(m, 4, 16))
        m->hot.slow = cached ? slow_4_16_cached : quick ? p->quick[SHAPE_4_16] : slow_4_16;
    if (!m->l1[0] || !m->l1[1] || !m->l1[2])
        m->hot.slow = cached ? slow_no_l1_cached : slow_no_l1;
}

/* ---- any access ---- */

/* SDM vol. 3A, 4.6.1. */
bool mmu_permits(const struct mmu_control *c, uint64_t rights, const struct access *a)
{
    bool user_page = rights & PTE_U, exec = rights & PTE_NX;
    if (!a->supervisor)
        return user_page && (!a->store || (rights & PTE_W)) && (!a->fetch || exec);
    if (a->fetch)
        return exec && !(user_page && c->smep && !MUTANT(smep_ignored));
    if (user_page && c->smap && !a->ac && !MUTANT(smap_ignored))
        return false;
    return !a->store || (rights & PTE_W) || !(c->wp || MUTANT(wp_ignored));
}

static bool entry_permits(const struct mmu *m, uint64_t val, const struct access *a)
{
    uint64_t rights = (val & (TLB_W | TLB_U)) | (val & TLB_X) << 63;
    return mmu_permits(&m->hw, rights, a) && (!a->store || (val & TLB_D) || MUTANT(store_on_clean));
}

static uint64_t *lookup_both(struct mmu *m, gva_t va, unsigned *size)
{
    uint64_t val, *v = lookup(m, m->l1, va, size);
    if (v)
        return v;
    m->c.tlb_l1_misses++;
    v = lookup(m, m->l2, va, size);
    if (!v) {
        m->c.tlb_l2_misses++;
        return NULL;
    }
    val = *v;
    insert(m, m->l1[*size], va, *size, val);
    return v;
}

/* Ring 0 is run by an emulator: no TLB has a part in its accesses, which count as misses. */
static hpa_t emulated(struct mmu *m, const struct access *a)
{
    struct walk w = {.status = WALK_EXIT};
    m->c.tlb_l1_misses++;
    m->c.tlb_l2_misses++;
    for (unsigned tries = 0; tries < MAX_RETRIES; tries++) {
        if (m->vm->paging->emulate(m, a, &w) == FIX_EMULATE)
            return w.page + (a->va & PAGE_MASK);
        deliver(m, a->va, w.error);
    }
    m->vm->ops->no_progress(m->vm->ctx, a->va);
}

hpa_t mmu_access(struct mmu *m, const struct access *a)
{
    unsigned size;
    struct walk w;
    m->hot.count[a->store]++;
    if (a->supervisor && m->vm->paging->emulate)
        return emulated(m, a);
    if (!canonical(a->va, m->vm->levels))
        not_canonical(m, a);
    uint64_t val, *v = lookup_both(m, a->va, &size);
    if (v && entry_permits(m, *v, a))
        val = *v;
    else {
        m->walk(m, a, &w);
        if (w.status != WALK_OK)
            retry(m, a, &w);
        if (w.status != WALK_OK) { /* emulated: no translation comes of it */
            mmu_forget_mru(m);
            return w.page + (a->va & PAGE_MASK);
        }
        book(m, &w);
        m->c.walks_assist += v != NULL;
        size = w.size;
        val = w.page | w.flags;
        fill(m, a->va, size, val);
    }
    slow_remember(m, a->va, size, val, m->hot.mru_shift, false);
    if (!m->l1[size] || m->cache[0].ways)
        mmu_forget_mru(m);
    return (val & PTE_ADDR) + (a->va & ((1ull << tlb_shift(size)) - 1));
}

/* ---- events ---- */

void mmu_note(struct mmu *m, const char *what, uint64_t addr, uint64_t value)
{
    if (unlikely(m->vm->ops->event != NULL))
        m->vm->ops->event(m->vm->ctx, m->id, what, addr, value);
}

void mmu_exit(struct mmu *m, enum counter_id reason, uint64_t addr)
{
    mmu_note(m, counter_descs[reason].name, addr, 0);
    m->c.exits++;
    m->c.v[reason]++;
    if (!m->vm->cpu
             ->vpid) /* nested translations stay: they are tagged by their table (SDM 29.4.3) */
        mmu_flush_linear(m);
}

void mmu_guest_cr3(struct mmu *m, uint64_t cr3)
{
    mmu_note(m, "guest_cr3_loads", cr3, 0);
    m->c.guest_cr3_loads++;
    m->started = true;
    m->vm->paging->guest_cr3(m, cr3);
}

void mmu_guest_invlpg(struct mmu *m, gva_t va)
{
    mmu_note(m, "guest_invlpgs", va, 0);
    m->c.guest_invlpgs++;
    m->vm->paging->guest_invlpg(m, va);
}

void mmu_guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    mmu_note(m, "guest_pt_writes", gpa, entry);
    m->c.guest_pt_writes++;
    m->vm->paging->guest_pt_write(m, gpa, entry);
}

void mmu_guest_touch(struct mmu *m, gfn_t g, bool write)
{
    m->vm->paging->guest_touch(m, g, write);
}

void mmu_guest_invpcid(struct mmu *m, enum invpcid_type type, unsigned pcid, gva_t va)
{
    mmu_note(m, "guest_invpcids", va, type);
    m->c.guest_invpcids++;
    if (m->vm->paging->guest_invpcid)
        m->vm->paging->guest_invpcid(m, type, pcid, va);
    else
        mmu_flush_invpcid(m, type, pcid, va);
}

void mmu_guest_control(struct mmu *m, const struct mmu_control *ctl)
{
    m->ctl = m->hw = *ctl;
    m->hw.wp |= m->vm->paging->forces_wp;
    m->hw.nxe |= m->vm->paging->forces_nx;
    m->present = mmu_present(&m->hw);
    m->leaf_flags = TLB_D | (ctl->pge ? TLB_G : 0);
    if (m->vm->paging->guest_control)
        m->vm->paging->guest_control(m);
    mmu_flush_linear(m);
}

void mmu_guest_return(struct mmu *m)
{
    if (m->vm->paging->guest_return)
        m->vm->paging->guest_return(m);
}

/* The sender writes ICR (x2APIC, physical destination: one write a target); the target's EOI is the
 * paravirtual one of KVM and costs nothing. Who exits is the processor's: cpu.h. */
void mmu_guest_ipi(struct mmu *from, struct mmu *to)
{
    const struct cpu *cpu = from->vm->cpu;
    mmu_note(from, "guest_ipis", to->id, 0);
    from->c.guest_ipis++;
    if (from->vm->paging->bare)
        return;
    if (cpu->apic != APIC_VIRTUAL)
        mmu_exit(from, CTR_exit_ipi, to->id);
    if (cpu->apic == APIC_TRAPPED)
        mmu_exit(to, CTR_exit_intr, 0);
}
