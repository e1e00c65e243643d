/* mmu.c: what every strategy shares: lookup, the retry loop around a walk, fills, flushes, counts.
 *
 * Trust. A TLB entry is a promise made at fill time: it may outlive a change of the guest's tables
 * until the guest invalidates it (that is the architecture), but never a change of the host's (zap
 * flushes). A store needs an entry with TLB_W and TLB_D; one that lacks them is a hit for the
 * counters, and a new walk ("assist") decides, as processors do before they fault or to set D.
 *
 * Invariants:
 *  (1) hot.mru[] names only a unit whose entry is the most recently used one of its L1 set.
 *  (2) a key is at most once in an array.
 *  (3) tlb_l1_misses >= tlb_l2_misses; hits are derived, so hits + misses = accesses.
 *  (4) walk_reads + walk_refs_lost = all entries read by walks = the sum of pt_* when caches are
 *      modelled.
 */
#include "shadow_vs_ept/mmu.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Repairs one access may need: levels x (fault, fill) leaves ample room. */
enum { MAX_RETRIES = 64 };

static inline unsigned va_vpn_shift(unsigned size) { return 12 + 9 * size; }
static inline uint64_t vpn(gva_t va, unsigned size) { return (va << 7 >> 7) >> va_vpn_shift(size); }

/* The same entry may be there as global. */
static uint64_t *lookup_sizes(struct mmu *m, struct assoc *const *level, gva_t va, unsigned *size)
{
    for (unsigned s = 0; s < 3; s++) {
        if (!(m->sizes >> s & 1) || !level[s])
            continue;
        uint64_t *v = assoc_get(level[s], vpn(va, s), tlb_key(va, s, m->tag));
        if (!v && m->globals)
            v = assoc_get(level[s], vpn(va, s), tlb_key(va, s, TAG_GLOBAL));
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
    return likely(level[s] != NULL) ? assoc_get(level[s], vpn(va, s), tlb_key(va, s, m->tag))
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
    return val & TLB_G ? TAG_GLOBAL : m->tag;
}

/* Change the entry in place where it is, leaving the order of use alone; false when it is not
 * there. */
static bool refresh(struct mmu *m, struct assoc *a, gva_t va, unsigned size, uint64_t val)
{
    uint64_t *v = a ? assoc_peek(a, vpn(va, size), tlb_key(va, size, entry_tag(m, val))) : NULL;
    if (v)
        *v = val;
    return v != NULL;
}

static void insert(struct mmu *m, struct assoc *a, gva_t va, unsigned size, uint64_t val)
{
    if (a)
        assoc_put(a, vpn(va, size), tlb_key(va, size, entry_tag(m, val)), val);
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
    if (!in_l2)
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

static void event(struct mmu *m, const char *what, uint64_t addr, uint64_t value);

/* The guest takes a page fault. */
static void deliver(struct mmu *m, gva_t va, unsigned error)
{
    event(m, "guest_faults", va, error);
    m->vm->ops->guest_fault(m->vm->ctx, va, error);
}

/* The walk did not complete: repair or deliver, and walk again, until the access has a translation.
 */
static __attribute__((noinline)) void retry(struct mmu *m, const struct access *a, struct walk *w)
{
    for (unsigned tries = 0; tries < MAX_RETRIES; tries++) {
        m->c.walk_refs_lost += w->reads;
        if (w->status == WALK_GUEST_FAULT || m->vm->paging->fix(m, a, w) == FIX_REFLECT)
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
    struct access a = {va, store};
    m->walk(m, &a, w);
    bool first = likely(w->status == WALK_OK);
    if (!first)
        retry(m, &a, w);
    book(m, w);
    return first;
}

/* A hit that lacks a right or the dirty bit: a walk decides. */
static __attribute__((noinline)) uint64_t assist(struct mmu *m, gva_t va, unsigned *size)
{
    struct access a = {va, true};
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

/* The access has entry `val` of `size`: remember it as the most recent. */
static inline void remember(struct mmu *m, gva_t va, unsigned size, uint64_t val)
{
    uint64_t unit = va >> m->hot.mru_shift;
    uint64_t hpa = (val & PTE_ADDR) + (va & ((1ull << va_vpn_shift(size)) - 1));
    m->hot.mru[0] = unit;
    m->hot.mru[1] = (val & (TLB_W | TLB_D)) == (TLB_W | TLB_D) ? unit : MRU_NONE;
    m->hot.page = m->pool + (hpa & ~PAGE_MASK);
}

static void forget_mru(struct mmu *m) { m->hot.mru[0] = m->hot.mru[1] = MRU_NONE; }

static inline bool allows(uint64_t val, bool store)
{
    return !store || (val & (TLB_W | TLB_D)) == (TLB_W | TLB_D);
}

/* The value of the entry for va, found or fetched. Any mixture of page sizes, any geometry. */
static __attribute__((noinline)) uint64_t find(struct mmu *m, gva_t va, unsigned store,
                                               unsigned *size)
{
    struct walk w;
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
    bool first = miss(m, va, store, &w);
    val = w.page | w.flags;
    *size = w.size;
    if (first && m->only_size == w.size && !(val & TLB_G)) {
        insert(m, m->l1[w.size], va, w.size, val);
        insert(m, m->l2[w.size], va, w.size, val);
    } else
        fill(m, va, w.size, val);
    return val;
}

/* The same while there are 4 KiB pages only and both levels are LRU with w1 and w2 ways, constants.
 */
static inline __attribute__((always_inline)) uint64_t find_4k(struct mmu *m, gva_t va,
                                                              unsigned store, unsigned *size,
                                                              const uint32_t w1, const uint32_t w2)
{
    struct assoc *l1 = m->l1[0], *l2 = m->l2[0];
    uint64_t idx = vpn(va, 0), key = tlb_key(va, 0, m->tag), val,
             *v = assoc_get_n(l1, idx, key, w1);
    struct walk w;
    *size = 0;
    if (v)
        return *v;
    m->c.tlb_l1_misses++;
    v = assoc_get_n(l2, idx, key, w2);
    if (v) {
        val = *v;
        assoc_put_n(l1, idx, key, val, w1);
        return val;
    }
    m->c.tlb_l2_misses++;
    bool first = miss(m, va, store, &w);
    val = w.page | w.flags;
    *size = w.size;
    if (unlikely(!first || w.size != 0 || (val & TLB_G))) {
        fill(m, va, w.size, val);
        return val;
    }
    assoc_put_n(l1, idx, key, val, w1);
    assoc_put_n(l2, idx, key, val, w2);
    return val;
}

/* No TLB entry is for an address that is not canonical, but a key holds 57 bits of it: it must not
 * be looked up. Its walks fault until the run ends. */
static __attribute__((noinline)) uint64_t not_canonical(struct mmu *m, gva_t va, unsigned store)
{
    struct walk w;
    m->c.tlb_l1_misses++;
    m->c.tlb_l2_misses++;
    miss(m, va, store, &w);
    __builtin_unreachable(); /* retry() has given up */
}

/* One access that is not to the unit of the last one. Returns its host-physical address. */
static inline __attribute__((always_inline)) hpa_t access(struct mmu *m, gva_t va, unsigned store,
                                                          const uint32_t w1, const uint32_t w2)
{
    unsigned size;
    if (unlikely(va >> 57) && !canonical(va, m->vm->levels))
        not_canonical(m, va, store);
    uint64_t val = w1 && likely(m->only_size == 0) ? find_4k(m, va, store, &size, w1, w2)
                                                   : find(m, va, store, &size);
    if (unlikely(!allows(val, store)))
        val = assist(m, va, &size);
    remember(m, va, size, val);
    return (val & PTE_ADDR) + (va & ((1ull << va_vpn_shift(size)) - 1));
}

/* The slow path, instantiated for the common shapes of the 4 KiB TLBs and for any. */
#define SLOW(name, w1, w2)                                                                      \
    static void name(struct mmu *m, gva_t va, unsigned store) { access(m, va, store, w1, w2); } \
    static void name##_cached(struct mmu *m, gva_t va, unsigned store)                          \
    {                                                                                           \
        hpa_t a = access(m, va, store, w1, w2);                                                 \
        m->c.v[CTR_data_l1_hits + cache_access(m, a)]++;                                        \
    }
SLOW(slow_any, 0, 0)
SLOW(slow_4_12, 4, 12)
SLOW(slow_4_16, 4, 16)

/* Where a page size has no first level, repeats must not count as its hits. */
static void slow_no_l1(struct mmu *m, gva_t va, unsigned store)
{
    slow_any(m, va, store);
    forget_mru(m);
}
static void slow_no_l1_cached(struct mmu *m, gva_t va, unsigned store)
{
    slow_any_cached(m, va, store);
    forget_mru(m);
}

static bool lru_ways(const struct assoc *a, uint32_t ways)
{
    return a && a->ways == ways && !a->plru;
}

static void choose_slow(struct mmu *m, bool cached)
{
    m->hot.slow = cached ? slow_any_cached : slow_any;
    if (lru_ways(m->l1[0], 4) && lru_ways(m->l2[0], 12))
        m->hot.slow = cached ? slow_4_12_cached : slow_4_12;
    if (lru_ways(m->l1[0], 4) && lru_ways(m->l2[0], 16))
        m->hot.slow = cached ? slow_4_16_cached : slow_4_16;
    if (!m->l1[0] || !m->l1[1] || !m->l1[2])
        m->hot.slow = cached ? slow_no_l1_cached : slow_no_l1;
}

/* ---- flushes ---- */

/* Linear walk caches: INVLPG and CR3 loads drop all of them (SDM vol. 3A, 4.10.4.1 demands it of
 * the current PCID; more is allowed). AMD's address-tagged cache holds guest entries, so it goes
 * too. */
static void drop_linear_walk_caches(struct mmu *m)
{
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
    uint64_t va = key >> 16 << va_vpn_shift(key >> 1 & 3);
    return (val & (TLB_PART_2M | TLB_PART_1G)) && (va ^ where) >> shift == 0 &&
           (tag == TAG_GLOBAL || tag == (where & PAGE_MASK));
}

/* INVLPG drops all entries of the guest's page, also where the host's smaller pages made them many
 * (SDM vol. 3A, 4.10.4.1, after 4.10.2.3). Which page that was only the entries know: the guest has
 * changed its table already. */
void mmu_flush_va(struct mmu *m, gva_t va)
{
    if (m->parts)
        each_tlb(m, part_of, (va << 7 >> 7 & ~PAGE_MASK) | m->tag);
    for (unsigned s = 0; s < 3; s++)
        for (unsigned g = 0; g < 2; g++) {
            uint64_t key = tlb_key(va, s, g ? TAG_GLOBAL : m->tag);
            if (m->l1[s])
                assoc_del(m->l1[s], vpn(va, s), key);
            if (m->l2[s])
                assoc_del(m->l2[s], vpn(va, s), key);
        }
    drop_linear_walk_caches(m);
    forget_mru(m);
}

void mmu_flush_tag(struct mmu *m, unsigned tag)
{
    m->c.tlb_flushes++;
    each_tlb(m, has_tag, tag);
    drop_linear_walk_caches(m);
    forget_mru(m);
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
    forget_mru(m);
}

/* All that depends on guest-virtual addresses, of every tag, globals too. */
static void flush_linear(struct mmu *m)
{
    m->globals = m->parts = false;
    mmu_flush_nonglobal(m);
    m->sizes = 0;
    m->only_size = SIZE_MIXED;
}

void mmu_flush_all(struct mmu *m)
{
    flush_linear(m);
    for (unsigned i = 0; i < 4; i++)
        assoc_clear(&m->npsc[i]);
    assoc_clear(&m->ntlb);
}

void mmu_vm_flush_all(struct mmu_vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++)
        mmu_flush_all(vm->vcpu[i]);
}

void mmu_load_tag(struct mmu *m, uint64_t cr3)
{
    if (!m->vm->cpu->pcid) {
        m->tag = 0;
        mmu_flush_nonglobal(m);
        return;
    }
    m->tag = (unsigned)(cr3 & CR3_PCID);
    if (cr3 & CR3_KEEP)
        forget_mru(m);
    else
        mmu_flush_tag(m, m->tag);
}

/* ---- events ---- */

static void event(struct mmu *m, const char *what, uint64_t addr, uint64_t value)
{
    if (unlikely(m->vm->ops->event != NULL))
        m->vm->ops->event(m->vm->ctx, what, addr, value);
}

void mmu_exit(struct mmu *m, enum counter_id reason, uint64_t addr)
{
    event(m, counter_descs[reason].name, addr, 0);
    m->c.exits++;
    m->c.v[reason]++;
    if (!m->vm->cpu
             ->vpid) /* nested translations stay: they are tagged by their table (SDM 29.4.3) */
        flush_linear(m);
}

void mmu_guest_cr3(struct mmu *m, uint64_t cr3)
{
    event(m, "guest_cr3_loads", cr3, 0);
    m->c.guest_cr3_loads++;
    m->vm->paging->guest_cr3(m, cr3);
}

void mmu_guest_invlpg(struct mmu *m, gva_t va)
{
    event(m, "guest_invlpgs", va, 0);
    m->c.guest_invlpgs++;
    m->vm->paging->guest_invlpg(m, va);
}

void mmu_guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    event(m, "guest_pt_writes", gpa, entry);
    m->c.guest_pt_writes++;
    m->vm->paging->guest_pt_write(m, gpa, entry);
}

void mmu_guest_touch(struct mmu *m, gfn_t g, bool write)
{
    m->vm->paging->guest_touch(m, g, write);
}

/* ---- tables ---- */

hpa_t mmu_table_alloc(struct mmu_vm *vm)
{
    hfn_t h;
    if (!host_alloc(vm->host, ORDER_4K, FRAME_TABLE, &h))
        vm->ops->no_frames(vm->ctx);
    vm->table_frames++;
    return hfn_hpa(h);
}

void mmu_table_free(struct mmu_vm *vm, hpa_t table)
{
    vm->table_frames--;
    host_release(vm->host, hpa_hfn(table), ORDER_4K);
}

/* ---- life ---- */

struct mmu_vm *mmu_vm_new(const struct paging *paging, const struct cpu *cpu, struct host *host,
                          struct gmem *gm, unsigned levels, unsigned host_levels,
                          const struct mmu_ops *ops, void *ctx, char *err, size_t errlen)
{
    struct mmu_vm *vm = meta_calloc(META_MMU, 1, sizeof *vm);
    *vm = (struct mmu_vm){.paging = paging,
                          .cpu = cpu,
                          .host = host,
                          .gm = gm,
                          .levels = levels,
                          .host_levels = host_levels,
                          .ops = ops,
                          .ctx = ctx};
    if (paging->init(vm, err, errlen) != 0) {
        meta_free(META_MMU, vm);
        return NULL;
    }
    return vm;
}

static void init_tlbs(struct mmu *m, const struct cpu *c)
{
    assoc_init(&m->l1_any, &c->l1_any);
    for (unsigned s = 0; s < 3; s++) {
        assoc_init(&m->l1_own[s], &c->l1[s]);
        m->l1[s] = m->l1_any.ways ? &m->l1_any : m->l1_own[s].ways ? &m->l1_own[s] : NULL;
    }
    for (unsigned i = 0; i < 2; i++) {
        assoc_init(&m->l2_own[i], &c->l2[i]);
        for (unsigned s = 0; s < 3 && m->l2_own[i].ways; s++)
            if (c->l2_sizes[i] >> s & 1 && !m->l2[s])
                m->l2[s] = &m->l2_own[i];
    }
}

struct mmu *mmu_add_vcpu(struct mmu_vm *vm)
{
    const struct cpu *c = vm->cpu;
    struct mmu *m = meta_calloc(META_MMU, 1, sizeof *m);
    assert(vm->nvcpus < MAX_VCPUS);
    m->vm = vm;
    m->pool = host_ptr(vm->host, 0);
    m->levels = vm->levels;
    m->walk = vm->paging->walk_for(vm);
    m->only_size = SIZE_MIXED;
    init_tlbs(m, c);
    for (unsigned i = 0; i < 4; i++) {
        assoc_init(&m->psc[i], &c->psc[i]);
        assoc_init(&m->npsc[i], &c->npsc[i]);
    }
    assoc_init(&m->pwc, &c->pwc);
    assoc_init(&m->ntlb, &c->ntlb);
    for (unsigned i = 0; i < 3; i++)
        dcache_init(&m->cache[i], &c->cache[i]);
    bool cached = c->cache[0].entries != 0;
    choose_slow(m, cached);
    m->hot.mru_shift = cached ? 6 : PAGE_SHIFT;
    forget_mru(m);
    vm->vcpu[vm->nvcpus++] = m;
    return m;
}

static void free_vcpu(struct mmu *m)
{
    for (unsigned i = 0; i < 3; i++) {
        assoc_fini(&m->l1_own[i]);
        dcache_fini(&m->cache[i]);
    }
    assoc_fini(&m->l1_any);
    for (unsigned i = 0; i < 2; i++)
        assoc_fini(&m->l2_own[i]);
    for (unsigned i = 0; i < 4; i++) {
        assoc_fini(&m->psc[i]);
        assoc_fini(&m->npsc[i]);
    }
    assoc_fini(&m->pwc);
    assoc_fini(&m->ntlb);
    meta_free(META_MMU, m);
}

void mmu_vm_free(struct mmu_vm *vm)
{
    vm->paging->fini(vm);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        free_vcpu(vm->vcpu[i]);
    meta_free(META_MMU, vm);
}

/* Counters an engine without caches, or without these mechanisms yet, cannot see. */
static void mark_unseen(const struct mmu *m, struct counters *out)
{
    static const enum counter_id later[] = {CTR_shared_frames, CTR_saved_frames, CTR_cow_breaks,
                                            CTR_swap_ins,      CTR_swap_outs,    CTR_balloon_pages,
                                            CTR_exit_mmio,     CTR_exit_io,      CTR_exit_hypercall,
                                            CTR_exit_hlt,      CTR_exit_intr};
    for (unsigned i = 0; i < ARRAY_SIZE(later); i++)
        out->unseen[later[i]] = true;
    for (unsigned i = CTR_pt_l1_hits; i <= CTR_data_mem_reads; i++)
        out->unseen[i] = !m->cache[0].ways;
}

void mmu_counters(struct mmu *m, struct counters *out)
{
    struct counters *c = &m->c;
    const struct gmem *g = m->vm->gm;
    c->loads = m->hot.count[0];
    c->stores = m->hot.count[1];
    c->accesses = c->loads + c->stores;
    c->tlb_l1_hits = c->accesses - c->tlb_l1_misses;
    c->tlb_l2_hits = c->tlb_l1_misses - c->tlb_l2_misses;
    m->vm->paging->table_bytes(m->vm, &c->shadow_pt_bytes, &c->nested_pt_bytes);
    c->host_frames = g->resident;
    c->host_allocs_4k = g->allocs[0];
    c->host_allocs_2m = g->allocs[1];
    c->host_allocs_1g = g->allocs[2];
    c->splits = g->splits;
    *out = *c;
    if (m->cache[0]
            .ways) /* repeats of a line are counted, not looked up: they hit the first level */
        out->data_l1_hits = c->accesses - c->data_l2_hits - c->data_l3_hits - c->data_mem_reads;
    mark_unseen(m, out);
}

static const char *check_array(const struct assoc *a)
{
    for (uint64_t set = 0; a->ways && set <= a->set_mask; set++) {
        const uint64_t *k = a->slot + set * 2 * a->ways;
        for (uint32_t i = 0; i < a->ways; i++) {
            if (!k[i])
                continue;
            if (!a->plru && i && !k[i - 1])
                return "mmu: an empty way stands before a used one";
            for (uint32_t j = 0; j < i; j++)
                if (k[j] == k[i])
                    return "mmu (2) a key is twice in a set";
        }
    }
    return NULL;
}

const char *mmu_check(const struct mmu *m)
{
    const struct assoc *const all[] = {&m->l1_own[0], &m->l1_own[1], &m->l1_own[2], &m->l1_any,
                                       &m->l2_own[0], &m->l2_own[1], &m->psc[0],    &m->psc[1],
                                       &m->psc[2],    &m->psc[3],    &m->npsc[0],   &m->npsc[1],
                                       &m->npsc[2],   &m->npsc[3],   &m->pwc,       &m->ntlb};
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        const char *why = check_array(all[i]);
        if (why)
            return why;
    }
    return m->c.tlb_l1_misses < m->c.tlb_l2_misses ? "mmu (3) more L2 misses than L1 misses" : NULL;
}
