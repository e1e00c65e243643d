/* shadow_kvm_fault.c: page faults as KVM's shadow MMU handles them.
 *
 * In this order, because what is counted depends on it:
 *   1  walk the guest's tables. The fault is the guest's own: done (KPF_GUEST). Else set A, and D
 *      for a store, as hardware would.
 *   2  a store through a read-only sPTE to a tracked table: emulate.
 *   3  have the host map the frame. A load of a frame nobody wrote maps the page of zeroes,
 *      read-only. A store to such a frame makes the host replace it, which drops every sPTE of it,
 *      so that the fault must be taken again.
 *   4  a store that only CR0.WP=0 permits: the leaf gets W and loses U, and X under SMEP.
 *   5  link the shadow pages on the way, found or made; each used one is not flooded.
 *   6  make the leaf, then prefetch around it unless the leaf was right already.
 *
 * The image's kernel uses the upper half only, whose walks need no memory: its tables are fixed
 * (shadow_kvm.h), accessed and dirty. All other accesses, of a program or of a kernel that has no
 * image, are walked in the guest's memory, where that half is empty.
 *
 * Not as in KVM: with SMAP set and WP clear, a store under EFLAGS.AC to a read-only user page is
 * emulated (KPF_NO_SPTE). KVM makes it a kernel page, as it does without SMAP, and so lets later
 * accesses through that lack AC; a guest could tell.
 */
#include "shadow_vs_ept/guest_walk.h"
#include "shadow_vs_ept/shadow_kvm.h"

/* A guest translation: by level, the table read there and the rights gathered above it. */
struct gwalk {
    uint64_t table[6];
    unsigned access[6];
    unsigned leaf, leaf_access;
    uint64_t gfn; /* of the byte accessed */
};

/* The image's frames, which the host has from the start. */
static bool in_image(const struct kfault *f) { return f->khalf && f->a.va >= KHALF_IMAGE; }

/* Walk, set A on the path and D for a store; a leaf that stays clean is made read-only. */
static bool walk_tables(const struct mmu *m, struct kfault *f, struct gwalk *g)
{
    struct guest_walk w;
    unsigned access = ACC_ALL;
    if (!guest_walk(m, &f->a, &w)) {
        f->error = w.error;
        return false;
    }
    guest_walk_mark(m, &w, f->a.store);
    for (unsigned l = m->vm->levels; l >= w.leaf; l--) {
        g->table[l] = guest_walk_table(m, &w, l).n;
        g->access[l] = access;
        access &= kmmu_access(w.entry[l]);
    }
    g->leaf = w.leaf;
    g->leaf_access = w.entry[w.leaf] & PTE_D ? access : access & ~(unsigned)ACC_W;
    g->gfn = w.gpa >> PAGE_SHIFT;
    return true;
}

/* Rights for a store that no R/W bit permits, but CR0.WP=0 does: the processor runs with WP set. */
static void write_as_kernel(const struct mmu *m, struct gwalk *g)
{
    g->leaf_access |= ACC_W;
    g->leaf_access &= ~(unsigned)ACC_U;
    if (m->ctl.smep && !MUTANT(kvm_wp_executable))
        g->leaf_access &= ~(unsigned)ACC_X;
}

/* The upper half: KHALF_* of shadow_kvm.h. */
static void walk_kernel(const struct mmu *m, const struct kfault *f, struct gwalk *g)
{
    bool image = in_image(f);
    uint64_t gpa = f->a.va - (image ? KHALF_IMAGE : KHALF_DIRECT);
    for (unsigned l = 1; l <= 5; l++)
        g->access[l] = ACC_ALL;
    g->table[m->vm->levels] = m->guest_root >> PAGE_SHIFT;
    if (m->vm->levels == 5)
        g->table[4] = KHALF_PML4;
    g->table[3] = KHALF_PDPT;
    g->table[2] = image ? KHALF_IMAGE_PD : KHALF_DIRECT_PD + (gpa >> SHIFT_1G);
    g->table[1] = KHALF_IMAGE_PT;
    g->leaf = image ? 1 : 2;
    g->leaf_access = ACC_W | ACC_X;
    g->gfn = gpa >> PAGE_SHIFT;
}

/* ---- the host's side ---- */

static uint64_t block_of(uint64_t g) { return g & ~((1ull << ORDER_2M) - 1); }

void kmmu_split_zero(struct kmmu *k, uint64_t g)
{
    uint64_t first = block_of(g), n = k->flags[g] & GF_HUGE ? 1u << ORDER_2M : 0;
    for (uint64_t i = first; i < first + n; i++) {
        kmmu_zap_leaves(k, i);
        k->flags[i] &= (uint8_t)~GF_HUGE;
    }
}

/* A large page of the host's in which a frame is still to be told from the page of zeroes: it came where
 * the host had small ones. */
static bool holds_zeroes(const struct kmmu *k, uint64_t g)
{
    for (uint64_t i = block_of(g); i < block_of(g) + (1u << ORDER_2M); i++)
        if (k->flags[i] & GF_ZERO)
            return true;
    return false;
}

bool kmmu_break_zero(struct mmu *m, struct kmmu *k, uint64_t g)
{
    if (!(k->flags[g] & GF_ZERO))
        return false;
    kmmu_split_zero(k, g);
    kmmu_zap_leaves(k, g);
    kmmu_back(m, k, g);
    k->flags[g] &= (uint8_t)~GF_ZERO;
    return true;
}

/* Where the host has mapped zeroes it adds small pages, not a large one. */
void kmmu_back(struct mmu *m, const struct kmmu *k, uint64_t g)
{
    struct gmem *gm = m->vm->gm;
    enum page_mode mode = gm->mode;
    if (mode == PAGES_THP && !k->emulated && (k->flags[g] & GF_ZERO))
        gm->mode = PAGES_4K;
    enum gmem_result r = gmem_fault(gm, gfn(g));
    gm->mode = mode;
    if (r == GMEM_NO_FRAMES)
        m->vm->ops->no_frames(m->vm->ctx);
}

/* A load of a frame that is not there maps zeroes: under THP a large page of them, if nothing of
 * its block is mapped. (Later kernels make a large page of it at the first store, so it is as if it
 * had not been.) */
static void map_zero(const struct mmu *m, struct kmmu *k, uint64_t g)
{
    const struct gmem *gm = m->vm->gm;
    uint64_t first = block_of(g), n = 1u << ORDER_2M;
    bool huge = gm->mode == PAGES_THP && !k->emulated && first + n <= gm->frames;
    for (uint64_t i = first; huge && i < first + n; i++)
        huge = gmem_state(gm, gfn(i)) != PG_RESIDENT && !(k->flags[i] & GF_ZERO);
    for (uint64_t i = first; huge && i < first + n; i++)
        k->flags[i] |= GF_ZERO | GF_HUGE;
    k->flags[g] |= GF_ZERO;
}

/* Have the frame mapped; false: the host changed what it had. The image's loads of a frame that is not
 * there read zeroes, and leave it so. */
static bool host_map(struct mmu *m, struct kmmu *k, const struct kfault *f, uint64_t g)
{
    if (in_image(f))
        return true;
    if (f->a.store && kmmu_break_zero(m, k, g))
        return false;
    if (gmem_state(m->vm->gm, gfn(g)) == PG_RESIDENT)
        return true;
    bool zero = !f->a.store && kmmu_maps_zeroes(k);
    if (zero)
        map_zero(m, k, g);
    if (!zero || !f->khalf)
        kmmu_back(m, k, g);
    return true;
}

/* Largest level a leaf for this walk may have. */
static unsigned goal_level(const struct mmu *m, const struct kmmu *k, const struct kfault *f,
                           const struct gwalk *g)
{
    unsigned level = g->leaf, host = 1 + gmem_order(m->vm->gm, gfn(g->gfn)) / 9;
    if (f->khalf && (k->flags[g->gfn] & GF_HUGE))
        host = 2;
    else if (f->khalf && host == 2 && holds_zeroes(k, g->gfn))
        host = 1;
    bool writable = (g->leaf_access & ACC_W) || (f->a.supervisor && !m->ctl.wp);
    if (writable && level > 1) /* a large page that holds its own tables */
        for (unsigned l = g->leaf; l <= m->vm->levels; l++)
            if ((g->gfn ^ g->table[l]) >> (9 * (g->leaf - 1)) == 0)
                return 1;
    if (level == 3 && k->indirect_1g[g->gfn >> ORDER_1G])
        level = 2;
    if (level == 2 && k->indirect_2m[g->gfn >> ORDER_2M])
        level = 1;
    return level < host ? level : host;
}

/* ---- the shadow's side ---- */

/* The page below entry idx of p, linked; `role`: what it does not inherit. */
static struct kpage *descend(struct kmmu *k, struct kpage *p, unsigned idx, uint64_t g, bool direct,
                             unsigned role)
{
    struct kpage *child = kmmu_child(k, p, idx);
    role |= p->role & ROLE_CONTROL;
    p->flood = 0;
    if (child && child->gfn == g && child->direct == direct && child->role == role)
        return child;
    if (child && direct) /* for a page that was clean, or is so no more */
        kmmu_zap_entry(k, p, idx);
    child = kmmu_get(k, g, p->level - 1u, direct, role);
    if (child->unsync_children)
        kmmu_sync_below(k, child);
    kmmu_link(k, p, idx, child);
    return child;
}

static enum kpf fetch(struct mmu *m, struct kmmu *k, struct kpage *p, const struct kfault *f,
                      const struct gwalk *g)
{
    unsigned l = m->vm->levels, half = f->khalf ? ROLE_KHALF : 0;
    for (; l > g->leaf; l--)
        p = descend(k, p, level_index(f->a.va, l), g->table[l - 1], false, g->access[l - 1] | half);
    unsigned goal = goal_level(m, k, f, g);
    for (; l > goal; l--) {
        uint64_t first = g->gfn & ~((1ull << (9 * (l - 1))) - 1);
        p = descend(k, p, level_index(f->a.va, l), first, true, g->leaf_access | half);
    }
    p->flood = 0;
    struct kleaf leaf = {.gfn = g->gfn & ~((1ull << (9 * (l - 1))) - 1),
                         .access = g->leaf_access,
                         .write = f->a.store,
                         .can_unsync = true,
                         .host_writable = in_image(f) || kmmu_host_writable(k, g->gfn)};
    unsigned idx = level_index(f->a.va, l);
    enum kpf r = kmmu_set_leaf(k, p, idx, &leaf);
    if (r != KPF_SPURIOUS)
        kmmu_prefetch(k, p, idx);
    return r;
}

/* An emulated store uses the tables that lead to its target. */
static void used(struct kmmu *k, struct kpage *root, gva_t va)
{
    for (struct kpage *p = root; p; p = kmmu_child(k, p, level_index(va, p->level)))
        p->flood = 0;
}

enum kpf kmmu_fault(struct mmu *m, struct kmmu *k, struct kpage *root, struct kfault *f)
{
    struct gwalk g = {0};
    if (f->khalf)
        walk_kernel(m, f, &g);
    else if (!walk_tables(m, f, &g))
        return KPF_GUEST;
    f->gfn = g.gfn;
    if (f->present && f->a.store && k->tracked[g.gfn]) {
        used(k, root, f->a.va);
        return KPF_EMULATE;
    }
    bool as_kernel = f->a.store && !(g.leaf_access & ACC_W);
    if (as_kernel && m->ctl.smap && (g.leaf_access & ACC_U))
        return KPF_NO_SPTE;
    if (!host_map(m, k, f, g.gfn))
        return KPF_RETRY;
    if (as_kernel)
        write_as_kernel(m, &g);
    kmmu_make_room(k);
    return fetch(m, k, root, f, &g);
}

bool kmmu_permits(struct kmmu *k, struct kpage *root, gva_t va, bool write, bool *present)
{
    struct kpage *p = root, *child;
    unsigned idx = level_index(va, p->level);
    while ((child = kmmu_child(k, p, idx))) {
        p = child;
        idx = level_index(va, p->level);
    }
    uint64_t *e = kmmu_spte(k, p, idx);
    *present = *e & PTE_P;
    if (!*present || (write && !(*e & PTE_W)))
        return false;
    *e |= write ? PTE_A | PTE_D : PTE_A;
    return true;
}
