/* ept_flat.c: nested paging over a flat host table (Ahn, Jin, Huh, ISCA 2012).
 *
 * Guest-physical memory is small and dense, so its table can be one array, indexed by gfn: a nested
 * translation is one reference, and a walk reads 2g + 1 entries for g guest levels (9 for 4, 11 for
 * 5; 7 and 5 for guest pages of 2 MiB and 1 GiB). All else is as under ept: the guest's table
 * writes, CR3 loads and INVLPGs cost no exit, the first touch of a guest frame costs one.
 *
 * A slot is a leaf entry. Those of a block of 2 MiB or 1 GiB all hold the leaf of the block, and two
 * of the bits that hardware ignores tell its size: effective pages are as under ept.
 * The array lies in consecutive host frames (8 bytes a guest frame, 1/512 of guest memory), there
 * from the start; like the limit of a segment its end is checked without a reference.
 *
 * Walk caches: psc[] skips guest levels, and with each its nested reference; npsc[] has nothing to
 * skip; ntlb saves a reference; AMD's cache holds guest entries, slots being leaves.
 *
 * Simplified: the paper's other half, the speculative inverted shadow table, is not here. Each slot of
 * a large block has A and D of its own; what counts for D is the slot that was used.
 *
 * Invariants (check()):
 *  (1) a present slot maps exactly the block gmem holds there, with its size; its block's other
 *      slots are present too.
 *  (2) table_frames counts the array.
 */
#include <assert.h>
#include <stdio.h>

#include "shadow_vs_ept/ept.h"
#include "shadow_vs_ept/walk.h"

#define SLOT_SIZE 9 /* bits 9 and 10: 0, 1, 2 = 4K, 2M, 1G */
static_assert(3ull << SLOT_SIZE == (PTE_SW0 | PTE_SW1), "bits that hardware ignores");

struct flat {
    hpa_t table;
};

static uint64_t table_frames(const struct mmu_vm *vm) { return (vm->gm->frames + 511) / 512; }

static int init(struct mmu_vm *vm, char *err, size_t errlen)
{
    hfn_t first;
    if (!host_alloc_span(vm->host, table_frames(vm), 0, FRAME_TABLE, &first)) {
        snprintf(err, errlen,
                 "ept-flat: the host has no %llu consecutive free frames for its table",
                 (unsigned long long)table_frames(vm));
        return -1;
    }
    struct flat *s = vm->state = meta_calloc(META_PAGING, 1, sizeof *s);
    s->table = hfn_hpa(first);
    vm->table_frames = table_frames(vm);
    return 0;
}

static void fini(struct mmu_vm *vm)
{
    struct flat *s = vm->state;
    for (uint64_t i = 0; i < table_frames(vm); i++)
        mmu_table_free(vm, s->table + (i << PAGE_SHIFT));
    meta_free(META_PAGING, s);
}

static uint64_t *slot(const struct mmu_vm *vm, uint64_t g)
{
    return mmu_ptr(vm, ((const struct flat *)vm->state)->table + 8 * g);
}

static unsigned slot_size(uint64_t e) { return e >> SLOT_SIZE & 3; }

static void flat_mark(struct mmu *m, gpa_t gpa, bool dirty)
{
    *slot(m->vm, gpa_gfn(gpa).n) |= dirty ? PTE_A | PTE_D : PTE_A;
}

/* nested_fn: one slot. m->root is the array. */
ALWAYS_INLINE bool flat_nested(struct mmu *m, gpa_t gpa, unsigned guest_level, struct walk *w,
                               struct nested *out, const enum pwc_kind pwc, const bool cached,
                               struct walk_log *log)
{
    if (pwc != PWC_NONE && ntlb_lookup(m, gpa, out)) {
        w->refs++;
        w->refs_nested++;
        return true;
    }
    if (unlikely(gpa_gfn(gpa).n >= m->vm->gm->frames))
        return walk_nested_fault(w, gpa);
    hpa_t ea = m->root + 8 * gpa_gfn(gpa).n;
    uint64_t e = walk_read(m, w, ea, 1, false, pwc, cached);
    unsigned size = slot_size(e);
    walk_note_at(log, DIM_NESTED, size + 1, guest_level, gpa_gfn(gpa).n, gpa, ea, e);
    if (unlikely(!(e & PTE_P)))
        return walk_nested_fault(w, gpa);
    w->refs++;
    w->refs_nested++;
    bool dirty = (e & PTE_D) || guest_level; /* the guest's tables are read as if written */
    if (unlikely(!(e & PTE_A) || (guest_level && !(e & PTE_D))))
        flat_mark(m, gpa, dirty);
    *out = (struct nested){pte_leaf_addr(e, size + 1) + (gpa & ((1ull << tlb_shift(size)) - 1)),
                           size, e & PTE_W, dirty};
    if (pwc != PWC_NONE && m->ntlb.ways)
        ntlb_fill(m, gpa, out);
    return true;
}

ALWAYS_INLINE void walk(struct mmu *m, const struct access *a, struct walk *w,
                        const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    walk2d_over(m, a, w, m->vm->levels, flat_nested, flat_mark, pwc, cached, log);
}
WALK_VARIANTS(walk)

/* All slots of the resident block around gpa. */
static void map(struct mmu_vm *vm, gpa_t gpa)
{
    unsigned order = gmem_order(vm->gm, gpa_gfn(gpa)), size = order / 9;
    uint64_t first = gpa_gfn(gpa).n & ~((1ull << order) - 1), *e = slot(vm, first);
    uint64_t leaf = hfn_hpa(gmem_hfn(vm->gm, gfn(first))) | PTE_P | PTE_W | PTE_U |
                    (size ? PTE_PS : 0) | (uint64_t)size << SLOT_SIZE;
    for (uint64_t i = 0; i < 1ull << order; i++)
        e[i] = leaf;
}

static bool violation(struct mmu *m, gpa_t gpa) { return ept_violation_by(m, gpa, map); }

static enum fix_result fix(struct mmu *m, const struct access *a, struct walk *w)
{
    return violation(m, w->gpa) ? FIX_RETRY : ept_reflect(m, a, w);
}

static void guest_cr3(struct mmu *m, uint64_t cr3)
{
    m->root = ((const struct flat *)m->vm->state)->table;
    m->guest_root = cr3 & PTE_ADDR;
    mmu_load_tag(m, cr3);
}

static void guest_touch(struct mmu *m, gfn_t g, bool write)
{
    if ((*slot(m->vm, g.n) & PTE_P) || violation(m, gfn_gpa(g)))
        flat_mark(m, gfn_gpa(g), write);
}

static void guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    guest_touch(m, gpa_gfn(gpa), true);
    *(uint64_t *)gmem_ptr(m->vm->gm, gpa) = entry;
}

/* gmem zaps whole blocks. */
static void zap(struct mmu_vm *vm, gfn_t first, uint64_t n)
{
    uint64_t *e = slot(vm, first.n);
    for (uint64_t i = 0; i < n; i++)
        e[i] = 0;
    mmu_vm_flush_all(vm);
}

static const char *check_slot(struct mmu_vm *vm, uint64_t g)
{
    uint64_t e = *slot(vm, g), head;
    if (!(e & PTE_P))
        return e ? "ept-flat (1) an absent slot is not empty" : NULL;
    unsigned order = gmem_order(vm->gm, gfn(g));
    head = g & ~((1ull << order) - 1);
    if (gmem_state(vm->gm, gfn(g)) != PG_RESIDENT || order != 9 * slot_size(e) ||
        hfn_hpa(gmem_hfn(vm->gm, gfn(head))) != (e & PTE_ADDR))
        return "ept-flat (1) a slot does not map gmem's block";
    return *slot(vm, head) & PTE_P ? NULL : "ept-flat (1) a block has slots without its first";
}

static const char *check(struct mmu_vm *vm)
{
    const char *why =
        vm->table_frames == table_frames(vm) ? NULL : "ept-flat (2) table_frames is wrong";
    for (uint64_t g = 0; g < vm->gm->frames && !why; g++)
        why = check_slot(vm, g);
    return why;
}

REGISTER_AS(paging, ept_flat, "ept-flat",
            .summary = "nested paging over a flat host table: one reference a translation",
            .init = init, .fini = fini, .walk_for = walk_for, .explain = walk_explain, .fix = fix,
            .guest_cr3 = guest_cr3, .guest_invlpg = mmu_flush_va, .guest_pt_write = guest_pt_write,
            .guest_touch = guest_touch, .zap = zap, .table_bytes = ept_table_bytes,
            .no_host_levels = true, .check = check);
