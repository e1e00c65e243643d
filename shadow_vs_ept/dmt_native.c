/* dmt_native.c: direct memory translation without a VMM (Zhang et al., ASPLOS 2024): 1 reference.
 *
 * As dmt.c in the guest's dimension alone, on the memory of native.c: the entry that a register finds
 * is read, and is the translation. An address that no register holds, or whose entry is not a leaf,
 * is walked as under native, and counted in dmt_fallbacks when that completes.
 *
 * Invariant (check()): (1) registers describe areas inside memory.
 */
#include <stdio.h>

#include "shadow_vs_ept/dmt_regs.h"
#include "shadow_vs_ept/native.h"
#include "shadow_vs_ept/walk.h"

struct state {
    struct native native; /* first: native.h */
    struct dmt dmt;
};

static int init(struct mmu_vm *vm, char *err, size_t errlen)
{
    struct native n;
    if (native_span(vm, &n, err, errlen) != 0)
        return -1;
    struct state *s = vm->state = meta_calloc(META_PAGING, 1, sizeof *s);
    s->native = n;
    dmt_init(&s->dmt);
    return 0;
}

static void fini(struct mmu_vm *vm)
{
    struct state *s = vm->state;
    dmt_fini(&s->dmt);
    meta_free(META_PAGING, s);
}

/* Walk by register i. False: walk the tree. */
ALWAYS_INLINE bool fetch(struct mmu *m, const struct access *a, struct walk *w, const struct tea *t,
                         const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    const struct state *s = m->vm->state;
    gpa_t at = tea_entry(t, a->va);
    if (unlikely(at >= s->native.bytes))
        return false;
    hpa_t ea = s->native.base + at;
    uint64_t e = walk_read(m, w, ea, t->level, true, pwc, cached);
    w->refs++;
    walk_note_at(log, DIM_GUEST, t->level, 0, (at - t->table) / 8, at, ea, e);
    uint64_t mask = (1ull << level_shift(t->level)) - 1, byte = pte_leaf_addr(e, t->level);
    if (unlikely(!walk_present(m, e) || !pte_is_leaf(e, t->level) ||
                 (byte | mask) >= s->native.bytes)) /* the tree's walk knows what to do */
        return false;
    if (unlikely(s->dmt.suspect) && !dmt_confirmed(m, m->guest_root, t, a->va))
        return false;
    uint64_t rights = RIGHTS_ALL & walk_rights(e);
    if (!walk_accepts(m, w, a, e, t->level, rights))
        return true;
    if (unlikely(!(e & PTE_A) || (a->store && !(e & PTE_D))))
        *mmu_ptr(m->vm, ea) |= a->store ? PTE_A | PTE_D : PTE_A;
    walk_done(m, w, a->va, s->native.base + byte + (a->va & mask), t->level - 1, rights, e,
              a->store);
    return true;
}

ALWAYS_INLINE void walk(struct mmu *m, const struct access *a, struct walk *w,
                        const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    const struct state *s = m->vm->state;
    const struct dmt_regs *r = s->dmt.vcpu[m->id];
    int i = canonical(a->va, m->vm->levels) ? dmt_find(r, a->va) : -1;
    walk_begin(w);
    if (likely(i >= 0 && fetch(m, a, w, &r->tea[i], pwc, cached, log)))
        return;
    const struct walk tried = *w;
    walk1d(m, a, w, s->native.base, s->native.bytes, WALK_GUEST_FAULT, DIM_GUEST, pwc, cached, log);
    w->refs += tried.refs;
    w->reads += tried.reads;
    if (w->status == WALK_OK)
        m->c.dmt_fallbacks++;
}
WALK_VARIANTS(walk)

static void guest_cr3(struct mmu *m, uint64_t cr3)
{
    struct state *s = m->vm->state;
    native_guest_cr3(m, cr3);
    dmt_load_root(&s->dmt, m, m->guest_root);
}

static void guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    struct state *s = m->vm->state;
    dmt_note_write(&s->dmt, m, gpa, *(uint64_t *)gmem_ptr(m->vm->gm, gpa), entry);
    native_guest_pt_write(m, gpa, entry);
}

static void guest_teas(struct mmu *m, const struct tea *t, unsigned n)
{
    struct state *s = m->vm->state;
    dmt_load(&s->dmt, m, t, n);
}

static const char *check(struct mmu_vm *vm)
{
    return dmt_check(&((const struct state *)vm->state)->dmt, vm);
}

REGISTER_AS(paging, dmt_native, "dmt-native",
            .summary = "no VMM; areas of leaf entries that registers find: 1 reference",
            .params = dmt_params, .init = init, .fini = fini, .walk_for = walk_for,
            .explain = walk_explain, .fix = native_fix, .guest_cr3 = guest_cr3,
            .guest_invlpg = mmu_flush_va, .guest_pt_write = guest_pt_write,
            .guest_touch = native_guest_touch, .tea_registers = dmt_tea_registers,
            .guest_teas = guest_teas, .zap = native_zap, .table_bytes = native_table_bytes,
            .counters = COUNTERS(CTR_dmt_fallbacks), .bare = true, .check = check);
