/* shadow_pt.c: the cache of shadow page tables. Terms and invariants are in shadow_pt.h.
 *
 * Design. Guest tables are few and their writes frequent, so what a write must find is found by
 * gfn: a hash of shadow pages by guest table, and for each gfn a list ("rmap") of the leaf sPTEs
 * that map it. Lists are chains of small nodes in one growing array; a list is the index of its
 * first node. Nothing here may be trusted after a guest write but through spt_entry_written(), and
 * after a host change but through spt_zap().
 *
 * The order of lists depends only on the sequence of events, never on addresses, so runs repeat.
 */
#include "shadow_vs_ept/shadow_pt_int.h"

#include <assert.h>
#include <string.h>

/* ---- lists ---- */

static void list_add(struct spt *s, uint32_t *head, hpa_t spte)
{
    uint32_t n = s->free_node;
    if (n)
        s->free_node = s->node[n].next;
    else {
        if (s->nnodes == s->node_cap) {
            s->node_cap = s->node_cap ? 2 * s->node_cap : 1024;
            s->node = meta_realloc(META_PAGING, s->node, s->node_cap * sizeof *s->node);
        }
        n = s->nnodes++;
    }
    s->node[n] = (struct node){spte, *head};
    *head = n;
}

static void list_del(struct spt *s, uint32_t *head, hpa_t spte)
{
    for (uint32_t *p = head; *p; p = &s->node[*p].next)
        if (s->node[*p].spte == spte) {
            uint32_t n = *p;
            *p = s->node[n].next;
            s->node[n].next = s->free_node;
            s->free_node = n;
            return;
        }
    assert(!"an sPTE is missing from its list");
}

/* ---- shadow pages ---- */

static uint32_t *chain(const struct spt *s, uint64_t g)
{
    return &s->hash[(g * 0x9e3779b97f4a7c15ull >> 32) & s->hash_mask];
}

static void grow_hash(struct spt *s)
{
    uint32_t size = s->hash ? 2 * (s->hash_mask + 1) : 256;
    if (s->hash)
        meta_free(META_PAGING, s->hash);
    s->hash = meta_calloc(META_PAGING, size, sizeof *s->hash);
    s->hash_mask = size - 1;
    for (uint32_t i = 1; i < s->npages; i++)
        if (s->page[i] && sp_tracked(s->page[i])) {
            uint32_t *c = chain(s, s->page[i]->gfn);
            s->page[i]->next = *c;
            *c = i;
        }
}

struct spt *spt_new(struct mmu_vm *vm)
{
    struct spt *s = meta_calloc(META_PAGING, 1, sizeof *s);
    uint64_t frames = vm->gm->frames;
    s->vm = vm;
    s->npages = s->nnodes = 1; /* 0 means none */
    s->node_cap = 1024;
    s->node = meta_calloc(META_PAGING, s->node_cap, sizeof *s->node);
    s->by_table = meta_calloc(META_PAGING, host_total(vm->host), sizeof *s->by_table);
    s->rmap = meta_calloc(META_PAGING, frames, sizeof *s->rmap);
    s->shadowed = meta_calloc(META_PAGING, frames, sizeof *s->shadowed);
    s->shadowed_2m = meta_calloc(META_PAGING, (frames >> ORDER_2M) + 1, sizeof *s->shadowed_2m);
    s->shadowed_1g = meta_calloc(META_PAGING, (frames >> ORDER_1G) + 1, sizeof *s->shadowed_1g);
    grow_hash(s);
    return s;
}

void spt_free(struct spt *s)
{
    for (uint32_t i = 1; i < s->npages; i++)
        if (s->page[i]) {
            mmu_table_free(s->vm, s->page[i]->table);
            if (s->page[i]->target)
                meta_free(META_PAGING, s->page[i]->target);
            meta_free(META_PAGING, s->page[i]);
        }
    void *const arrays[] = {s->page,     s->free_next,   s->hash,        s->by_table, s->rmap,
                            s->shadowed, s->shadowed_2m, s->shadowed_1g, s->node};
    for (unsigned i = 0; i < ARRAY_SIZE(arrays); i++)
        if (arrays[i])
            meta_free(META_PAGING, arrays[i]);
    meta_free(META_PAGING, s);
}

static uint32_t new_id(struct spt *s)
{
    if (s->free_id) {
        uint32_t id = s->free_id;
        s->free_id = s->free_next[id];
        return id;
    }
    if (s->npages >= s->cap) {
        s->cap = s->cap ? 2 * s->cap : 256;
        s->page = meta_realloc(META_PAGING, s->page, s->cap * sizeof *s->page);
        s->free_next = meta_realloc(META_PAGING, s->free_next, s->cap * sizeof *s->free_next);
    }
    return s->npages++;
}

static struct sp *new_page(struct spt *s, gfn_t g, unsigned level, bool direct)
{
    hpa_t table = mmu_table_alloc(s->vm); /* may end the VM: before anything changes */
    struct sp *p = meta_calloc(META_PAGING, 1, sizeof *p);
    p->gfn = g.n;
    p->table = table;
    p->level = (uint8_t)level;
    p->direct = direct;
    p->id = new_id(s);
    if (!direct)
        p->target = meta_calloc(META_PAGING, 512, sizeof *p->target);
    s->page[p->id] = p;
    s->by_table[hpa_hfn(table).n] = p->id;
    s->live++;
    return p;
}

struct sp *spt_of_table(const struct spt *s, hpa_t table)
{
    uint32_t id = s->by_table[hpa_hfn(table).n];
    return id ? s->page[id] : NULL;
}

bool spt_shadowed(const struct spt *s, gfn_t g) { return s->shadowed[g.n] != 0; }

unsigned spt_max_level(const struct spt *s, gfn_t g)
{
    unsigned level = 1 + gmem_order(s->vm->gm, g) / 9;
    if (level == 3 && s->shadowed_1g[g.n >> ORDER_1G])
        level = 2;
    if (level == 2 && s->shadowed_2m[g.n >> ORDER_2M])
        level = 1;
    return level;
}

/* ---- entries ---- */

uint64_t spt_entry(const struct spt *s, const struct sp *p, unsigned idx)
{
    return *spt_at(s, p, idx);
}

gfn_t spt_leaf_gfn(const struct sp *p, unsigned idx) { return gfn(sp_leaf_gfn(p, idx)); }

struct sp *spt_child(const struct spt *s, const struct sp *p, unsigned idx)
{
    uint64_t e = *spt_at(s, p, idx);
    return (e & PTE_P) && !pte_is_leaf(e, p->level) ? spt_of_table(s, e & PTE_ADDR) : NULL;
}

static void free_page(struct spt *s, struct sp *p);

/* Drop entry idx. A child goes with its only parent. */
static void zap_entry(struct spt *s, struct sp *p, unsigned idx)
{
    uint64_t *e = spt_at(s, p, idx);
    if (!(*e & PTE_P))
        return;
    struct sp *child = spt_child(s, p, idx);
    if (child) {
        list_del(s, &child->parents, p->table + 8 * idx);
        p->children--;
    } else {
        list_del(s, &s->rmap[sp_leaf_gfn(p, idx)], p->table + 8 * idx);
        s->leaves--;
    }
    *e = 0;
    if (child && !sp_tracked(child))
        free_page(s, child);
}

/* Drop the sPTE at address a. */
static void zap_spte(struct spt *s, hpa_t a)
{
    zap_entry(s, spt_of_table(s, a & ~PAGE_MASK), (unsigned)(a >> 3 & 511));
}

static void count_shadowed(struct spt *s, uint64_t g, int by)
{
    bool before = s->shadowed[g] != 0;
    s->shadowed[g] = (uint16_t)(s->shadowed[g] + by);
    int change = (s->shadowed[g] != 0) - before;
    s->shadowed_2m[g >> ORDER_2M] += (uint32_t)change;
    s->shadowed_1g[g >> ORDER_1G] += (uint32_t)change;
    if (change && s->on_shadowed && s->on_shadowed(s->vm, gfn(g), change > 0))
        s->flush = ALL_VCPUS;
}

/* Enter the newest private page into its vCPU's list, and take any out of it. */
static void age_add(struct spt *s, struct sp *p)
{
    unsigned o = p->owner;
    p->older = s->newest[o];
    *(p->older ? &s->page[p->older]->newer : &s->oldest[o]) = p->id;
    s->newest[o] = p->id;
    s->owned[o]++;
}

static void age_del(struct spt *s, const struct sp *p)
{
    unsigned o = p->owner;
    *(p->older ? &s->page[p->older]->newer : &s->oldest[o]) = p->newer;
    *(p->newer ? &s->page[p->newer]->older : &s->newest[o]) = p->older;
    s->owned[o]--;
}

/* Free a shadow page; one with an only parent is out of it. Hardware may still hold pointers to it:
 * every function of shadow_pt.h that can get here ends with spt_settle(), or says so. */
static void free_page(struct spt *s, struct sp *p)
{
    for (unsigned i = 0; i < 512; i++)
        zap_entry(s, p, i);
    while (p->parents)
        zap_spte(s, s->node[p->parents].spte);
    if (p->owner) {
        age_del(s, p);
        meta_free(META_PAGING, p->target);
    }
    if (sp_tracked(p)) {
        uint32_t *c = chain(s, p->gfn);
        while (*c != p->id)
            c = &s->page[*c]->next;
        *c = p->next;
        count_shadowed(s, p->gfn, -1);
        meta_free(META_PAGING, p->target);
    }
    for (unsigned i = 0; i < s->vm->nvcpus; i++) {
        struct mmu *m = s->vm->vcpu[i];
        if (m->root == p->table)
            m->root = 0; /* frame 0 is empty: the next walk exits and finds a new root */
        if (m->sptr == p->table)
            m->sptr = 0;
    }
    s->by_table[hpa_hfn(p->table).n] = 0;
    mmu_table_free(s->vm, p->table);
    s->page[p->id] = NULL;
    s->free_next[p->id] = s->free_id;
    s->free_id = p->id;
    s->live--;
    s->flush |= p->owner ? 1ull << (p->owner - 1) : ALL_VCPUS;
    meta_free(META_PAGING, p);
}

/* One flush for all that an event took away. */
void spt_settle(struct spt *s, bool flushed)
{
    uint64_t who = flushed || MUTANT(protect_keeps_tlb) ? 0 : s->flush;
    s->flush = 0;
    if (who == ALL_VCPUS)
        mmu_vm_flush_all(s->vm);
    else
        for (unsigned i = 0; i < s->vm->nvcpus; i++)
            if (who >> i & 1)
                mmu_flush_linear(s->vm->vcpu[i]);
}

static void settle(struct spt *s) { spt_settle(s, false); }

static unsigned spte_level(const struct spt *s, hpa_t a)
{
    return spt_of_table(s, a & ~PAGE_MASK)->level;
}

/* Drop the leaves of level `level` or above in the list of gfn `first`. */
static bool zap_list(struct spt *s, uint64_t first, unsigned level)
{
    bool any = false;
    for (uint32_t n = s->rmap[first]; n;) {
        hpa_t a = s->node[n].spte;
        n = s->node[n].next;
        if (spte_level(s, a) >= level) {
            zap_spte(s, a);
            any = true;
        }
    }
    return any;
}

/* No writable leaf may map g any more; large ones that cover it go. */
static void write_protect(struct spt *s, uint64_t g)
{
    bool flush = zap_list(s, g & ~((1ull << ORDER_2M) - 1), 2);
    flush |= zap_list(s, g & ~((1ull << ORDER_1G) - 1), 3);
    for (uint32_t n = s->rmap[g]; n; n = s->node[n].next) {
        uint64_t *e = mmu_ptr(s->vm, s->node[n].spte);
        flush |= (*e & PTE_W) != 0;
        *e &= ~PTE_W;
    }
    if (flush)
        s->flush = ALL_VCPUS;
    settle(s);
}

struct sp *spt_find(const struct spt *s, gfn_t g, unsigned level)
{
    for (uint32_t i = *chain(s, g.n); i; i = s->page[i]->next)
        if (s->page[i]->gfn == g.n && s->page[i]->level == level)
            return s->page[i];
    return NULL;
}

struct sp *spt_get(struct spt *s, gfn_t g, unsigned level)
{
    struct sp *p = spt_find(s, g, level);
    if (p)
        return p;
    p = new_page(s, g, level, false);
    uint32_t *c = chain(s, g.n);
    p->next = *c;
    *c = p->id;
    count_shadowed(s, g.n, 1);
    if (s->shadowed[g.n] == 1 && !MUTANT(unprotected))
        write_protect(s, g.n);
    if (s->live > s->hash_mask)
        grow_hash(s);
    return p;
}

void spt_link(struct spt *s, struct sp *p, unsigned idx, struct sp *child, uint64_t rights)
{
    zap_entry(s, p, idx);
    *spt_at(s, p, idx) = child->table | (rights & (PTE_W | PTE_U | PTE_NX)) | PTE_P | PTE_A;
    list_add(s, &child->parents, p->table + 8 * idx);
    p->children++;
    settle(s);
}

struct sp *spt_link_direct(struct spt *s, struct sp *p, unsigned idx, gfn_t first, uint64_t rights)
{
    struct sp *child = new_page(s, first, p->level - 1u, true);
    s->splits = true;
    spt_link(s, p, idx, child, rights);
    return child;
}

bool spt_splits(const struct spt *s) { return s->splits; }

void spt_map(struct spt *s, struct sp *p, unsigned idx, gfn_t g, uint64_t rights)
{
    zap_entry(s, p, idx);
    if (!p->direct)
        p->target[idx] = (uint32_t)g.n;
    *spt_at(s, p, idx) =
        hfn_hpa(gmem_hfn(s->vm->gm, g)) |
        (rights & (PTE_W | PTE_U | PTE_NX | PTE_G | PTE_SW0 | PTE_SW1 | SPT_PARTS)) | PTE_P |
        PTE_A | (rights & PTE_W ? PTE_D : 0) | (p->level > 1 ? PTE_PS : 0);
    list_add(s, &s->rmap[g.n], p->table + 8 * idx);
    s->leaves++;
    settle(s);
}

void spt_switch(struct spt *s, struct sp *p, unsigned idx, gfn_t g, uint64_t rights)
{
    zap_entry(s, p, idx);
    p->target[idx] = (uint32_t)g.n;
    *spt_at(s, p, idx) = hfn_hpa(gmem_hfn(s->vm->gm, g)) | (rights & (PTE_W | PTE_U | PTE_NX)) |
                         PTE_P | PTE_A | SPTE_SWITCH;
    list_add(s, &s->rmap[g.n], p->table + 8 * idx);
    s->leaves++;
    settle(s);
}

/* ---- private pages ---- */

struct sp *spt_private(struct spt *s, unsigned vcpu, unsigned level, gva_t va)
{
    struct sp *p = new_page(s, gfn(0), level, false);
    p->va = va;
    p->owner = (uint8_t)(vcpu + 1);
    age_add(s, p);
    return p;
}

unsigned spt_private_pages(const struct spt *s, unsigned vcpu) { return s->owned[vcpu + 1]; }

struct sp *spt_oldest(const struct spt *s, unsigned vcpu)
{
    uint32_t id = s->oldest[vcpu + 1];
    while (id && s->page[id]->children)
        id = s->page[id]->newer;
    return id ? s->page[id] : NULL;
}

void spt_release(struct spt *s, struct sp *p)
{
    if (p->parents)
        zap_spte(s, s->node[p->parents].spte);
    else
        free_page(s, p);
}

void spt_drop(struct spt *s, struct sp *p, unsigned idx) { zap_entry(s, p, idx); }

/* ---- events ---- */

void spt_entry_written(struct spt *s, gfn_t g, unsigned idx)
{
    for (uint32_t i = *chain(s, g.n); i; i = s->page[i]->next)
        if (s->page[i]->gfn == g.n && !MUTANT(pt_write_unseen))
            zap_entry(s, s->page[i], idx);
    settle(s);
}

void spt_drop_gfn(struct spt *s, gfn_t g)
{
    for (uint32_t i = *chain(s, g.n); i;) {
        struct sp *p = s->page[i];
        i = p->next;
        if (p->gfn == g.n)
            free_page(s, p);
    }
    settle(s);
}

/* Free a tracked page, and those below it that no other link leads to. */
static void free_below(struct spt *s, struct sp *p)
{
    uint32_t below[512], n = 0;
    for (unsigned i = 0; i < 512; i++) {
        const struct sp *child = spt_child(s, p, i);
        if (child && sp_tracked(child))
            below[n++] = child->id;
    }
    free_page(s, p);
    while (n-- > 0) { /* one of two links may have been enough */
        struct sp *child = s->page[below[n]];
        if (child && !child->parents)
            free_below(s, child);
    }
}

static struct sp *any_of(const struct spt *s, gfn_t g)
{
    uint32_t i = *chain(s, g.n);
    while (i && s->page[i]->gfn != g.n)
        i = s->page[i]->next;
    return i ? s->page[i] : NULL;
}

void spt_nest(struct spt *s, gfn_t g)
{
    for (struct sp *p = any_of(s, g); p; p = any_of(s, g)) {
        while (p->parents) {
            hpa_t a = s->node[p->parents].spte;
            spt_switch(s, spt_of_table(s, a & ~PAGE_MASK), a >> 3 & 511, g, *mmu_ptr(s->vm, a));
        }
        free_below(s, p);
    }
    settle(s);
}

void spt_unnest(struct spt *s, gfn_t g)
{
    for (uint32_t n = s->rmap[g.n]; n;) {
        hpa_t a = s->node[n].spte;
        n = s->node[n].next;
        if (*mmu_ptr(s->vm, a) & SPTE_SWITCH)
            zap_spte(s, a);
    }
}

void spt_on_shadowed(struct spt *s, bool (*fn)(struct mmu_vm *, gfn_t, bool shadowed))
{
    s->on_shadowed = fn;
}

void spt_drop_all(struct spt *s)
{
    for (uint32_t i = 1; i < s->npages; i++)
        if (s->page[i] &&
            (sp_tracked(s->page[i]) || !s->page[i]->parents)) /* goes with its parent */
            free_page(s, s->page[i]);
    settle(s);
}

uint64_t spt_live(const struct spt *s) { return s->live; }

uint64_t spt_leaves(const struct spt *s) { return s->leaves; }

void spt_zap(struct spt *s, gfn_t first, uint64_t n)
{
    zap_list(s, first.n & ~((1ull << ORDER_1G) - 1), 3);
    zap_list(s, first.n & ~((1ull << ORDER_2M) - 1), 2);
    for (uint64_t g = first.n; g < first.n + n && !MUTANT(rmap_lost); g++)
        zap_list(s, g, 1);
    s->flush = 0; /* the caller flushes in any case */
}
