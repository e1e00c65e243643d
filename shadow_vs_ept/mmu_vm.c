/* mmu_vm.c: making and ending VMs and vCPUs, their tables, counters and checks. */
#include <assert.h>
#include <string.h>

#include "shadow_vs_ept/mmu.h"

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

struct mmu_vm *mmu_vm_new(const struct paging *paging, const uint64_t *params,
                          const struct cpu *cpu, struct host *host, struct gmem *gm,
                          unsigned levels, unsigned host_levels, const struct mmu_ops *ops,
                          void *ctx, char *err, size_t errlen)
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
    param_defaults(paging->params, vm->param);
    if (params)
        memcpy(vm->param, params, param_count(paging->params) * sizeof *params);
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

/* As Linux sets them. */
static void set_control(struct mmu *m)
{
    m->ctl = m->hw =
        (struct mmu_control){.wp = true, .smep = true, .smap = true, .pge = true, .nxe = true};
    m->present = mmu_present(&m->hw);
    m->leaf_flags = TLB_D | TLB_G;
}

struct mmu *mmu_add_vcpu(struct mmu_vm *vm)
{
    const struct cpu *c = vm->cpu;
    struct mmu *m = meta_calloc(META_MMU, 1, sizeof *m);
    assert(vm->nvcpus < MAX_VCPUS);
    m->vm = vm;
    m->id = vm->nvcpus;
    m->pool = host_ptr(vm->host, 0);
    m->pool_bytes = host_total(vm->host) << PAGE_SHIFT;
    m->levels = vm->levels;
    m->walk = vm->paging->walk_for(vm);
    m->hint = meta_calloc(META_MMU, MMU_HINTS, sizeof *m->hint);
    mmu_forget_hints(m);
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
    mmu_choose_slow(m, cached, true);
    set_control(m);
    m->hot.mru_shift = cached ? CACHED_MRU_SHIFT : PAGE_SHIFT;
    mmu_forget_mru(m);
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
    meta_free(META_MMU, m->hint);
    meta_free(META_MMU, m);
}

void mmu_vm_free(struct mmu_vm *vm)
{
    vm->paging->fini(vm);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        free_vcpu(vm->vcpu[i]);
    meta_free(META_MMU, vm);
}

static bool names(const struct paging *p, enum counter_id id)
{
    const enum counter_id *c = p->counters;
    while (c && *c != CTR_COUNT && *c != id)
        c++;
    return c && *c == id;
}

/* Counters that a strategy lacks and another has. */
static void mark_others(const struct paging *mine, struct counters *out)
{
    FOR_EACH(paging, p)
    for (const enum counter_id *c = p->counters; c && *c != CTR_COUNT; c++)
        out->unseen[*c] = !names(mine, *c);
}

/* Counters an engine without caches, or without these mechanisms, cannot see. */
static void mark_unseen(const struct mmu_vm *vm, struct counters *out)
{
    static const enum counter_id later[] = {
        CTR_shared_frames, CTR_saved_frames,   CTR_cow_breaks,       CTR_swap_ins,
        CTR_swap_outs,     CTR_balloon_pages,  CTR_balloon_refaults, CTR_exit_mmio,
        CTR_exit_io,       CTR_exit_hypercall, CTR_exit_hlt,         CTR_exit_intr};
    for (unsigned i = 0; i < ARRAY_SIZE(later); i++)
        out->unseen[later[i]] = true;
    mark_others(vm->paging, out);
    if (vm->nvcpus > 1) /* with one, those of devices and timers, which are not modelled */
        out->unseen[CTR_exit_intr] = false;
    for (unsigned i = 0; i < 4; i++) /* served by L1, L2, L3, memory */
        out->unseen[CTR_pt_l1_hits + i] = out->unseen[CTR_data_l1_hits + i] =
            !vm->cpu->cache[i < 3 ? i : 0].entries;
}

/* What happened on one vCPU, added to *out. */
static void add_vcpu(const struct mmu *m, struct counters *out)
{
    struct counters c = m->c;
    c.loads = m->hot.count[0];
    c.stores = m->hot.count[1];
    c.accesses = c.loads + c.stores;
    c.tlb_l1_hits = c.accesses - c.tlb_l1_misses;
    c.tlb_l2_hits = c.tlb_l1_misses - c.tlb_l2_misses;
    if (m->cache[0]
            .ways) /* repeats of a line are counted, not looked up: they hit the first level */
        c.data_l1_hits = c.accesses - c.data_l2_hits - c.data_l3_hits - c.data_mem_reads;
    for (unsigned i = 0; i < CTR_COUNT; i++)
        out->v[i] += c.v[i];
}

/* What belongs to no vCPU: levels, allocations, and what the strategy keeps for the VM. */
static void set_vm(const struct mmu_vm *vm, struct counters *out)
{
    const struct gmem *g = vm->gm;
    vm->paging->table_bytes(vm, &out->shadow_pt_bytes, &out->nested_pt_bytes);
    out->host_frames = g->resident;
    out->host_allocs_4k = g->allocs[0];
    out->host_allocs_2m = g->allocs[1];
    out->host_allocs_1g = g->allocs[2];
    out->splits = g->splits;
    if (vm->paging->count)
        vm->paging->count(vm, out);
}

void mmu_counters(const struct mmu_vm *vm, struct counters *out)
{
    *out = (struct counters){0};
    for (unsigned i = 0; i < vm->nvcpus; i++)
        add_vcpu(vm->vcpu[i], out);
    set_vm(vm, out);
    mark_unseen(vm, out);
}

/* Levels are the VM's, and so is what set_vm() sets, whatever was there. */
static void mark_vm(const struct mmu_vm *vm, struct counters *out)
{
    struct counters none, all;
    memset(&none, 0, sizeof none);
    memset(&all, 0xff, sizeof all);
    set_vm(vm, &none);
    set_vm(vm, &all);
    for (unsigned i = 0; i < CTR_COUNT; i++)
        out->unseen[i] |= counter_descs[i].gauge || none.v[i] == all.v[i];
}

void mmu_vcpu_counters(const struct mmu *m, struct counters *out)
{
    *out = (struct counters){0};
    add_vcpu(m, out);
    mark_unseen(m->vm, out);
    mark_vm(m->vm, out);
    for (unsigned i = 0; i < CTR_COUNT; i++)
        out->v[i] = out->unseen[i] ? 0 : out->v[i];
}

/* (1), but for the order of use: the entry that lets accesses to unit mru[store] through. */
static bool has_mru(const struct mmu *m, unsigned store)
{
    const gva_t va = m->hot.mru[store] << m->hot.mru_shift;
    const uint64_t need = store ? TLB_STORE : TLB_U;
    for (unsigned s = 0; s < 3; s++)
        for (unsigned global = 0; global < 2 && m->l1[s]; global++) {
            const uint64_t *v =
                assoc_peek(m->l1[s], tlb_vpn(va, s), tlb_key(va, s, global ? TAG_GLOBAL : m->tag));
            if (v && (*v & need) == need)
                return true;
        }
    return false;
}

static const char *check_counts(const struct mmu *m)
{
    const struct counters *c = &m->c;
    if (c->tlb_l1_misses < c->tlb_l2_misses)
        return "mmu (3) more L2 misses than L1 misses";
    uint64_t served = c->pt_l1_hits + c->pt_l2_hits + c->pt_l3_hits + c->pt_mem_reads;
    return m->cache[0].ways && served != c->walk_reads + c->walk_refs_lost
               ? "mmu (4) the caches served more or fewer reads than walks made"
               : NULL;
}

const char *mmu_check(const struct mmu *m)
{
    const struct assoc *const all[] = {&m->l1_own[0], &m->l1_own[1], &m->l1_own[2], &m->l1_any,
                                       &m->l2_own[0], &m->l2_own[1], &m->psc[0],    &m->psc[1],
                                       &m->psc[2],    &m->psc[3],    &m->npsc[0],   &m->npsc[1],
                                       &m->npsc[2],   &m->npsc[3],   &m->pwc,       &m->ntlb};
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        const char *why = assoc_check(all[i]);
        if (why)
            return why;
    }
    for (unsigned store = 0; store < 2; store++)
        if (m->hot.mru[store] != MRU_NONE && !has_mru(m, store))
            return "mmu (1) no entry lets the unit of the last access through";
    return check_counts(m);
}
