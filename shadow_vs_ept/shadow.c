/* shadow.c: shadow paging with write-protected guest tables.
 *
 * The hardware walks the hypervisor's shadow tables, whose references per walk are the levels of
 * the effective page. The hypervisor keeps them true by seeing all the guest does to its own:
 *
 *   guest #PF       intercepted. The guest's own fault: one exit, reflected. A mapping the guest
 *                   has and the shadow lacks: one exit, filled (a "hidden" fault).
 *   first store     the sPTE is read-only until the guest's D bit is set: one more hidden fault
 *                   after a load, none when the first access is a store.
 *   table write     to a shadowed table: one exit, emulated; the sPTE derived from that entry is
 *                   dropped, and filled again on use. A table not walked yet is not shadowed, and
 *                   its writes are free.
 *   CR3, INVLPG     one exit each. Shadow pages outlive the CR3 that made them, so a process
 *                   switched back to finds its tables filled.
 *   INVPCID         one exit (counted as invlpg).
 *   control         CR0, CR4 and EFER: one exit a change (other). The hardware runs with CR0.WP set,
 *                   for read-only sPTEs must trap the kernel's stores too; while the guest's is clear,
 *                   a kernel store to a page it maps read-only is emulated: one exit each (other).
 *   table recycled  the first clear, copy or user store to a shadowed frame: one exit (counted as
 *                   pt_write); its shadow pages are dropped.
 *   kernel touch    the kernel's first touch of a frame the host has not backed: one exit (fill).
 *                   Its direct map is else taken as mapped; the fills of that are not modelled.
 *
 * A and D bits of guest entries are set by the hypervisor when it fills, as hardware would have.
 * Shadow tables are always in sync or absent (see the invariants in shadow_pt.h).
 */
#include "shadow_vs_ept/shadow.h"
#include "shadow_vs_ept/walk_quick.h"

int shadow_init(struct mmu_vm *vm, char *err, size_t errlen)
{
    (void)err, (void)errlen;
    vm->spt = spt_new(vm);
    return 0;
}

void shadow_fini(struct mmu_vm *vm) { spt_free(vm->spt); }

ALWAYS_INLINE void walk(struct mmu *m, const struct access *a, struct walk *w,
                        const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    walk1d(m, a, w, 0, ~0ull, WALK_EXIT, DIM_SHADOW, pwc, cached, log);
}
WALK_VARIANTS(walk)

walk_fn shadow_walk_for(const struct mmu_vm *vm) { return walk_for(vm); }

void shadow_explain(struct mmu *m, const struct access *a, struct walk *w, struct walk_log *log)
{
    walk_explain(m, a, w, log);
}

ALWAYS_INLINE uint64_t quick(struct mmu *m, gva_t va, unsigned store)
{
    return quick1d(m, va, store, 0, m->pool_bytes);
}
SLOW_INSTANCES(, shadow_quick, quick)

/* A root outside memory has no shadow page: frame 0 is empty, so walks exit, and find that it is. */
struct sp *shadow_root(struct mmu *m)
{
    gfn_t r = gpa_gfn(m->guest_root);
    struct sp *root = gmem_inside(m->vm->gm, r) ? spt_get(m->vm->spt, r, m->vm->levels) : NULL;
    m->root = root ? root->table : 0;
    return root;
}

/* Build the shadow path for a guest walk and its leaf, as far as it is shadowed. */
static void fill(struct mmu *m, const struct access *a, const struct guest_walk *g,
                 const struct shadow_ops *ops)
{
    struct spt *s = m->vm->spt;
    struct sp *p = ops->root(m);
    gfn_t f = gpa_gfn(g->gpa);
    uint64_t leaf = g->entry[g->leaf] & ~SPT_PARTS;
    for (unsigned l = m->vm->levels; p; l--) {
        unsigned idx = level_index(a->va, l), want = spt_max_level(s, f);
        uint64_t first = f.n & ~((1ull << (9 * (l - 1))) - 1);
        if (l <= g->leaf && l <= want) {
            bool writable = (leaf & PTE_W) && ((leaf & PTE_D) || MUTANT(shadow_writable_early)) &&
                            !spt_shadowed(s, f);
            leaf |= l == g->leaf ? 0 : g->leaf == 2 ? TLB_PART_2M : TLB_PART_1G;
            spt_map(s, p, idx, gfn(first), writable ? leaf : leaf & ~PTE_W);
            return;
        }
        struct sp *child = spt_child(s, p, idx);
        if (l > g->leaf && !child) {
            gfn_t t = gpa_gfn(g->entry[l] & PTE_ADDR);
            child = ops->table(m, t, l - 1);
            if (child)
                spt_link(s, p, idx, child, g->entry[l]);
            else
                spt_switch(s, p, idx, t, g->entry[l]);
        } else if (!child)
            child = spt_link_direct(s, p, idx, gfn(first), leaf);
        p = child;
    }
}

static struct sp *table_page(struct mmu *m, gfn_t t, unsigned level)
{
    return spt_get(m->vm->spt, t, level);
}

static void written(struct mmu *m, gfn_t f) { spt_drop_gfn(m->vm->spt, f); }

void shadow_back(struct mmu *m, gfn_t f)
{
    if (gmem_fault(m->vm->gm, f) == GMEM_NO_FRAMES)
        m->vm->ops->no_frames(m->vm->ctx);
}

static const struct shadow_ops shadow_ops = {shadow_root, table_page, written, shadow_back};

/* The guest's kernel stores to a page that no entry lets it write, with CR0.WP clear: the hardware
 * runs with WP set, so the hypervisor makes each such store. */
static enum fix_result emulate(struct mmu *m, const struct access *a, struct walk *w,
                               struct guest_walk *g, const struct shadow_ops *ops)
{
    gfn_t f = gpa_gfn(g->gpa);
    mmu_exit(m, CTR_exit_other, a->va);
    if (spt_shadowed(m->vm->spt, f))
        ops->written(m, f);
    ops->back(m, f);
    guest_walk_mark(m, g, true);
    w->page = hfn_hpa(gmem_hfn(m->vm->gm, f));
    return FIX_EMULATE;
}

enum fix_result shadow_emulate(struct mmu *m, const struct access *a, struct walk *w,
                               struct guest_walk *g)
{
    return emulate(m, a, w, g, &shadow_ops);
}

enum fix_result shadow_repair(struct mmu *m, const struct access *a, struct walk *w,
                              const struct shadow_ops *ops)
{
    struct guest_walk g = {0};
    if (!guest_walk(m, a, &g)) {
        mmu_exit(m, CTR_exit_reflect, a->va);
        w->error = g.error;
        return FIX_REFLECT;
    }
    if (!mmu_permits(&m->hw, g.rights, a))
        return emulate(m, a, w, &g, ops);
    gfn_t f = gpa_gfn(g.gpa);
    if (a->store && spt_shadowed(m->vm->spt, f)) { /* ring 3 stores here: it is no table any more */
        mmu_exit(m, CTR_exit_pt_write, a->va);
        ops->written(m, f);
    } else
        mmu_exit(m, CTR_exit_fill, a->va);
    ops->back(m, f);
    guest_walk_mark(m, &g, a->store);
    fill(m, a, &g, ops);
    return FIX_RETRY;
}

enum fix_result shadow_fix(struct mmu *m, const struct access *a, struct walk *w)
{
    return shadow_repair(m, a, w, &shadow_ops);
}

void shadow_guest_cr3(struct mmu *m, uint64_t cr3)
{
    mmu_exit(m, CTR_exit_cr3, cr3);
    m->levels = m->vm->levels;
    m->guest_root = cr3 & PTE_ADDR;
    shadow_root(m);
    mmu_load_tag(m, cr3);
}

/* INVLPG of any address of a large page drops what stands for its parts. (A fault need not: it may be
 * one that only the hypervisor sees.) */
void shadow_flush_va(struct mmu *m, gva_t va)
{
    bool nested = m->parts;
    m->parts |= spt_splits(m->vm->spt);
    mmu_flush_va(m, va);
    m->parts = nested;
}

void shadow_flush_invpcid(struct mmu *m, enum invpcid_type type, unsigned pcid, gva_t va)
{
    bool nested = m->parts;
    m->parts |= spt_splits(m->vm->spt);
    mmu_flush_invpcid(m, type, pcid, va);
    m->parts = nested;
}

void shadow_guest_invlpg(struct mmu *m, gva_t va)
{
    mmu_exit(m, CTR_exit_invlpg, va);
    shadow_flush_va(m, va);
}

void shadow_guest_invpcid(struct mmu *m, enum invpcid_type type, unsigned pcid, gva_t va)
{
    mmu_exit(m, CTR_exit_invlpg, va);
    shadow_flush_invpcid(m, type, pcid, va);
}

/* The rights in the shadow are the guest's own, whatever the registers say of them. */
void shadow_guest_control(struct mmu *m) { mmu_exit(m, CTR_exit_other, 0); }

void shadow_guest_touch(struct mmu *m, gfn_t f, bool write)
{
    if (write && spt_shadowed(m->vm->spt, f)) {
        mmu_exit(m, CTR_exit_pt_write, gfn_gpa(f));
        spt_drop_gfn(m->vm->spt, f);
    }
    if (gmem_state(m->vm->gm, f) != PG_RESIDENT) {
        mmu_exit(m, CTR_exit_fill, gfn_gpa(f));
        shadow_back(m, f);
    }
}

void shadow_guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    struct spt *s = m->vm->spt;
    gfn_t f = gpa_gfn(gpa);
    if (spt_shadowed(s, f)) {
        mmu_exit(m, CTR_exit_pt_write, gpa);
        shadow_back(m, f);
        spt_entry_written(s, f, (unsigned)(gpa >> 3 & 511));
    } else
        shadow_guest_touch(m, f, true);
    *(uint64_t *)gmem_ptr(m->vm->gm, gpa) = entry;
}

void shadow_zap(struct mmu_vm *vm, gfn_t first, uint64_t n)
{
    spt_zap(vm->spt, first, n);
    mmu_vm_flush_all(vm);
}

void shadow_table_bytes(const struct mmu_vm *vm, uint64_t *shadow, uint64_t *nested)
{
    *shadow = vm->table_frames << PAGE_SHIFT;
    *nested = 0;
}

const char *shadow_check(struct mmu_vm *vm)
{
    const char *why = spt_check(vm->spt);
    return why                                     ? why
           : spt_live(vm->spt) != vm->table_frames ? "shadow: table_frames is wrong"
                                                   : NULL;
}

REGISTER(paging, shadow,
         .summary = "shadow tables; every write to a guest table traps and is emulated",
         .init = shadow_init, .fini = shadow_fini, .walk_for = shadow_walk_for,
         .quick = QUICK(shadow_quick), .explain = shadow_explain, .fix = shadow_fix,
         .guest_cr3 = shadow_guest_cr3, .guest_invlpg = shadow_guest_invlpg,
         .guest_pt_write = shadow_guest_pt_write, .guest_touch = shadow_guest_touch,
         .guest_invpcid = shadow_guest_invpcid, .guest_control = shadow_guest_control,
         .forces_wp = true, .no_host_table = true, .zap = shadow_zap,
         .table_bytes = shadow_table_bytes, .check = shadow_check);
