/* shadow_kvm_pages.c: the cache of shadow pages. Terms and invariants are in shadow_kvm.h.
 *
 * Pages are found by (gfn, role) in a hash; leaves by gfn in lists ("rmap"). A list is the index of
 * its first node in one growing array. Orders depend on events only, never on addresses.
 *
 * A page taken out of the cache ("zapped") loses its entries and its parents at once. What it
 * linked to stays in the cache, except for unsync pages below it: with them goes what the guest has
 * not yet said to be invalid.
 */
#include "shadow_vs_ept/shadow_kvm.h"

#include <assert.h>

/* ---- lists ---- */

void kmmu_list_add(struct kmmu *k, uint32_t *head, hpa_t spte)
{
    uint32_t n = k->free_node;
    if (n)
        k->free_node = k->node[n].next;
    else {
        if (k->nnodes == k->node_cap) {
            k->node_cap *= 2;
            k->node = meta_realloc(META_PAGING, k->node, k->node_cap * sizeof *k->node);
        }
        n = k->nnodes++;
    }
    k->node[n] = (struct knode){spte, *head};
    *head = n;
}

static void list_del(struct kmmu *k, uint32_t *head, hpa_t spte)
{
    uint32_t *p = head;
    while (k->node[*p].spte != spte) {
        assert(*p);
        p = &k->node[*p].next;
    }
    uint32_t n = *p;
    *p = k->node[n].next;
    k->node[n].next = k->free_node;
    k->free_node = n;
}

/* ---- the cache as a whole ---- */

static uint32_t *chain(const struct kmmu *k, uint64_t g)
{
    return &k->hash[(g * 0x9e3779b97f4a7c15ull >> 32) & k->hash_mask];
}

static void grow_hash(struct kmmu *k)
{
    uint32_t size = k->hash ? 2 * (k->hash_mask + 1) : 256;
    if (k->hash)
        meta_free(META_PAGING, k->hash);
    k->hash = meta_calloc(META_PAGING, size, sizeof *k->hash);
    k->hash_mask = size - 1;
    for (uint32_t i = k->oldest; i; i = k->page[i]->newer) {
        uint32_t *c = chain(k, k->page[i]->gfn);
        k->page[i]->chain = *c;
        *c = i;
    }
}

struct kmmu *kmmu_new(struct mmu_vm *vm, bool emulated)
{
    struct kmmu *k = meta_calloc(META_PAGING, 1, sizeof *k);
    uint64_t frames = vm->gm->frames;
    k->vm = vm;
    k->emulated = emulated;
    k->limit = frames * KMMU_PERMILLE / 1000;
    k->limit = k->limit < KMMU_MIN_PAGES ? KMMU_MIN_PAGES : k->limit;
    k->npages = k->nnodes = 1; /* 0 means none */
    k->node_cap = 1024;
    k->node = meta_calloc(META_PAGING, k->node_cap, sizeof *k->node);
    k->by_table = meta_calloc(META_PAGING, host_total(vm->host), sizeof *k->by_table);
    k->rmap = meta_calloc(META_PAGING, frames, sizeof *k->rmap);
    k->flags = meta_calloc(META_PAGING, frames, sizeof *k->flags);
    k->tracked = meta_calloc(META_PAGING, frames, sizeof *k->tracked);
    k->indirect = meta_calloc(META_PAGING, frames, sizeof *k->indirect);
    k->indirect_2m = meta_calloc(META_PAGING, (frames >> ORDER_2M) + 1, sizeof *k->indirect_2m);
    k->indirect_1g = meta_calloc(META_PAGING, (frames >> ORDER_1G) + 1, sizeof *k->indirect_1g);
    grow_hash(k);
    return k;
}

static void free_struct(struct kmmu *k, struct kpage *p)
{
    mmu_table_free(k->vm, p->table);
    if (p->target)
        meta_free(META_PAGING, p->target);
    meta_free(META_PAGING, p);
}

void kmmu_free(struct kmmu *k)
{
    for (uint32_t i = 1; i < k->npages; i++)
        if (k->page[i])
            free_struct(k, k->page[i]);
    void *const arrays[] = {k->page,        k->free_next,   k->hash,    k->by_table,
                            k->rmap,        k->flags,       k->tracked, k->indirect,
                            k->indirect_2m, k->indirect_1g, k->node};
    for (unsigned i = 0; i < ARRAY_SIZE(arrays); i++)
        if (arrays[i])
            meta_free(META_PAGING, arrays[i]);
    meta_free(META_PAGING, k);
}

struct kpage *kmmu_of_table(const struct kmmu *k, hpa_t table)
{
    uint32_t id = k->by_table[hpa_hfn(table).n];
    return id ? k->page[id] : NULL;
}

struct kpage *kmmu_child(const struct kmmu *k, const struct kpage *p, unsigned idx)
{
    uint64_t e = *kmmu_spte(k, p, idx);
    return (e & PTE_P) && !pte_is_leaf(e, p->level) ? kmmu_of_table(k, e & PTE_ADDR) : NULL;
}

uint64_t kmmu_leaf_gfn(const struct kpage *p, unsigned idx)
{
    return p->direct ? p->gfn + ((uint64_t)idx << (9 * (p->level - 1))) : p->target[idx];
}

void kmmu_settle(struct kmmu *k)
{
    if (!k->flush)
        return;
    k->flush = false;
    kmmu_counters(k)->shadow_flushes++;
    mmu_vm_flush_all(k->vm);
}

/* ---- which guest frames are tables ---- */

/* Indirect pages forbid large leaves around their table. */
static void count_indirect(struct kmmu *k, const struct kpage *p, int by)
{
    uint64_t g = p->gfn;
    bool before = k->indirect[g] != 0;
    k->indirect[g] = (uint16_t)(k->indirect[g] + by);
    if (p->level > 1)
        k->tracked[g] = (uint16_t)(k->tracked[g] + by);
    int change = (k->indirect[g] != 0) - before;
    k->indirect_2m[g >> ORDER_2M] += (uint32_t)change;
    k->indirect_1g[g >> ORDER_1G] += (uint32_t)change;
}

static unsigned spte_level(const struct kmmu *k, hpa_t a)
{
    return kmmu_of_table(k, a & ~PAGE_MASK)->level;
}

static void protect_list(struct kmmu *k, uint64_t first, unsigned level)
{
    for (uint32_t n = k->rmap[first]; n; n = k->node[n].next) {
        uint64_t *e = mmu_ptr(k->vm, k->node[n].spte);
        if ((*e & PTE_W) && spte_level(k, k->node[n].spte) >= level) {
            *e &= ~(PTE_W | PTE_D);
            k->flush = true;
        }
    }
}

static void write_protect(struct kmmu *k, uint64_t g)
{
    protect_list(k, g & ~((1ull << ORDER_1G) - 1), 3);
    protect_list(k, g & ~((1ull << ORDER_2M) - 1), 2);
    protect_list(k, g, 1);
}

/* ---- entries ---- */

void kmmu_zap_entry(struct kmmu *k, struct kpage *p, unsigned idx)
{
    uint64_t *e = kmmu_spte(k, p, idx);
    if (!(*e & PTE_P))
        return;
    struct kpage *child = kmmu_child(k, p, idx);
    list_del(k, child ? &child->parents : &k->rmap[kmmu_leaf_gfn(p, idx)], p->table + 8 * idx);
    kmmu_counters(k)->shadow_leaves -= !child;
    *e = 0;
    k->flush = true;
}

static void zap_spte(struct kmmu *k, hpa_t a)
{
    kmmu_zap_entry(k, kmmu_of_table(k, a & ~PAGE_MASK), (unsigned)(a >> 3 & 511));
}

static void zap_list(struct kmmu *k, uint64_t first, unsigned level)
{
    for (uint32_t n = k->rmap[first]; n;) {
        hpa_t a = k->node[n].spte;
        n = k->node[n].next;
        if (spte_level(k, a) >= level)
            zap_spte(k, a);
    }
}

void kmmu_zap_leaves(struct kmmu *k, uint64_t g)
{
    zap_list(k, g & ~((1ull << ORDER_1G) - 1), 3);
    zap_list(k, g & ~((1ull << ORDER_2M) - 1), 2);
    zap_list(k, g, 1);
}

/* ---- out of sync ---- */

static void mark_parents(struct kmmu *k, struct kpage *p);

static void note_child(struct kmmu *k, hpa_t link)
{
    struct kpage *p = kmmu_of_table(k, link & ~PAGE_MASK);
    unsigned idx = link >> 3 & 511;
    uint64_t bit = 1ull << idx % 64;
    if (p->unsync_child[idx / 64] & bit)
        return;
    p->unsync_child[idx / 64] |= bit;
    if (!p->unsync_children++)
        mark_parents(k, p);
}

static void mark_parents(struct kmmu *k, struct kpage *p)
{
    for (uint32_t n = p->parents; n; n = k->node[n].next)
        note_child(k, k->node[n].spte);
}

void kmmu_mark_unsync(struct kmmu *k, struct kpage *p)
{
    assert(p->level == 1 && !p->direct && !p->unsync);
    p->unsync = true;
    kmmu_counters(k)->shadow_out_of_sync++;
    kmmu_counters(k)->shadow_unsyncs++;
    mark_parents(k, p);
}

static void clear_unsync(struct kmmu *k, struct kpage *p)
{
    p->unsync = false;
    kmmu_counters(k)->shadow_out_of_sync--;
}

/* Call fn for each unsync page below p, whose notes of them are cleared. */
static void take_unsync(struct kmmu *k, struct kpage *p, void (*fn)(struct kmmu *, struct kpage *))
{
    for (unsigned w = 0; w < 8; w++)
        while (p->unsync_child[w]) {
            unsigned idx = 64 * w + (unsigned)__builtin_ctzll(p->unsync_child[w]);
            struct kpage *child = kmmu_child(k, p, idx);
            p->unsync_child[w] &= p->unsync_child[w] - 1;
            p->unsync_children--;
            if (child && child->unsync)
                fn(k, child);
            else if (child && child->level > 1)
                take_unsync(k, child, fn);
        }
}

static void protect_and_sync(struct kmmu *k, struct kpage *p)
{
    write_protect(k, p->gfn);
    clear_unsync(k, p);
    kmmu_sync_page(k, p);
}

void kmmu_sync_below(struct kmmu *k, struct kpage *p) { take_unsync(k, p, protect_and_sync); }

/* ---- pages ---- */

static uint32_t new_id(struct kmmu *k)
{
    if (k->free_id) {
        uint32_t id = k->free_id;
        k->free_id = k->free_next[id];
        return id;
    }
    if (k->npages >= k->cap) {
        k->cap = k->cap ? 2 * k->cap : 256;
        k->page = meta_realloc(META_PAGING, k->page, k->cap * sizeof *k->page);
        k->free_next = meta_realloc(META_PAGING, k->free_next, k->cap * sizeof *k->free_next);
    }
    return k->npages++;
}

static struct kpage *new_page(struct kmmu *k, uint64_t g, unsigned level, bool direct,
                              unsigned role)
{
    hpa_t table = mmu_table_alloc(k->vm); /* may end the VM: before anything changes */
    struct kpage *p = meta_calloc(META_PAGING, 1, sizeof *p);
    *p = (struct kpage){.gfn = g,
                        .table = table,
                        .level = (uint8_t)level,
                        .role = (uint8_t)role,
                        .direct = direct,
                        .id = new_id(k),
                        .older = k->newest};
    if (!direct)
        p->target = meta_calloc(META_PAGING, 512, sizeof *p->target);
    k->page[p->id] = p;
    k->by_table[hpa_hfn(table).n] = p->id;
    *(k->newest ? &k->page[k->newest]->newer : &k->oldest) = p->id;
    k->newest = p->id;
    k->used++;
    kmmu_counters(k)->shadow_pages_made++;
    return p;
}

/* The guest turns an unsync level-1 table into an upper one: it is a table of another kind now. */
static void zap_other_uses(struct kmmu *k, uint64_t g, unsigned level)
{
    for (uint32_t i = *chain(k, g); i && level > 1;) {
        struct kpage *p = k->page[i];
        i = p->chain;
        if (p->gfn == g && p->unsync)
            kmmu_zap_page(k, p);
    }
}

static struct kpage *find(const struct kmmu *k, uint64_t g, unsigned level, bool direct,
                          unsigned role)
{
    const unsigned ignored = MUTANT(kvm_role_lost) ? ROLE_CONTROL : 0;
    for (uint32_t i = *chain(k, g); i; i = k->page[i]->chain) {
        struct kpage *p = k->page[i];
        if (p->gfn == g && p->level == level && p->direct == direct &&
            !((p->role ^ role) & ~ignored))
            return p;
    }
    return NULL;
}

struct kpage *kmmu_get(struct kmmu *k, uint64_t g, unsigned level, bool direct, unsigned role)
{
    zap_other_uses(k, g, level);
    struct kpage *p = find(k, g, level, direct, role);
    if (p) {
        if (p->unsync) /* the guest need not invalidate what becomes present; it stays writable */
            kmmu_sync_page(k, p);
        p->flood = 0;
        return p;
    }
    p = new_page(k, g, level, direct, role);
    uint32_t *c = chain(k, g);
    p->chain = *c;
    *c = p->id;
    if (!direct) {
        count_indirect(k, p, 1);
        write_protect(k, g);
    }
    if (k->used > k->hash_mask)
        grow_hash(k);
    return p;
}

void kmmu_link(struct kmmu *k, struct kpage *parent, unsigned idx, struct kpage *child)
{
    kmmu_zap_entry(k, parent, idx);
    *kmmu_spte(k, parent, idx) = child->table | PTE_P | PTE_W | PTE_U | PTE_A;
    kmmu_list_add(k, &child->parents, parent->table + 8 * idx);
    if (child->unsync || child->unsync_children)
        note_child(k, parent->table + 8 * idx);
}

static void unlist(struct kmmu *k, struct kpage *p)
{
    uint32_t *c = chain(k, p->gfn);
    while (*c != p->id)
        c = &k->page[*c]->chain;
    *c = p->chain;
    *(p->newer ? &k->page[p->newer]->older : &k->newest) = p->older;
    *(p->older ? &k->page[p->older]->newer : &k->oldest) = p->newer;
    k->used--;
}

static void free_page(struct kmmu *k, struct kpage *p)
{
    k->by_table[hpa_hfn(p->table).n] = 0;
    k->page[p->id] = NULL;
    k->free_next[p->id] = k->free_id;
    k->free_id = p->id;
    free_struct(k, p);
}

void kmmu_zap_page(struct kmmu *k, struct kpage *p)
{
    kmmu_counters(k)->shadow_pages_zapped++;
    take_unsync(k, p, kmmu_zap_page);
    for (unsigned i = 0; i < 512; i++)
        kmmu_zap_entry(k, p, i);
    while (p->parents)
        zap_spte(k, k->node[p->parents].spte);
    if (p->unsync)
        clear_unsync(k, p);
    if (!p->invalid) {
        unlist(k, p);
        if (!p->direct)
            count_indirect(k, p, -1);
    }
    p->invalid = true;
    k->flush = true;
    if (p->roots)
        k->obsolete = true;
    else
        free_page(k, p);
}

void kmmu_put_root(struct kmmu *k, struct kpage *p)
{
    if (!--p->roots && p->invalid)
        kmmu_zap_page(k, p);
}

void kmmu_uses_of(const struct kmmu *k, uint64_t g, struct kuses *u)
{
    u->n = 0;
    for (uint32_t i = *chain(k, g); i; i = k->page[i]->chain)
        if (k->page[i]->gfn == g && !k->page[i]->direct) {
            assert(u->n < KMMU_MAX_USES);
            u->id[u->n++] = i;
        }
}

struct kpage *kmmu_use(const struct kmmu *k, uint64_t g, const struct kuses *u, unsigned i)
{
    struct kpage *p = k->page[u->id[i]];
    return p && p->gfn == g && !p->invalid ? p : NULL;
}

void kmmu_zap_gfn(struct kmmu *k, uint64_t g)
{
    struct kuses u;
    kmmu_uses_of(k, g, &u);
    for (unsigned i = 0; i < u.n; i++)
        if (kmmu_use(k, g, &u, i))
            kmmu_zap_page(k, kmmu_use(k, g, &u, i));
}

/* Zapping one page may free others (unsync ones below it), so look again from the oldest. */
void kmmu_make_room(struct kmmu *k)
{
    uint64_t avail = k->limit > k->used ? k->limit - k->used : 0;
    if (avail >= KMMU_MIN_FREE)
        return;
    uint64_t goal = k->used > KMMU_REFILL - avail ? k->used - (KMMU_REFILL - avail) : 0;
    while (k->used > goal) {
        uint32_t i = k->oldest;
        while (i && k->page[i]->roots)
            i = k->page[i]->newer;
        if (!i)
            return;
        uint64_t before = k->used;
        kmmu_zap_page(k, k->page[i]);
        kmmu_counters(k)->shadow_pages_recycled += before - k->used;
    }
}
