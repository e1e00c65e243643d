/* ept.c: nested paging (Intel EPT, AMD NPT). The hardware walks two tables.
 *
 * Each guest table reference, and the data reference, is a guest-physical address that the nested
 * table translates: (g + 1)(h + 1) - 1 references when g and h levels are read (24 for 4 and 4).
 * The guest's table writes, CR3 loads and INVLPGs cost no exit; the first touch of a guest frame,
 * by the guest's program, its kernel or the walk itself, is one EPT violation, which maps the host
 * page (4 KiB, 2 MiB or 1 GiB) behind it.
 *
 * A and D bits of the nested table are the hardware's: a walk sets them, and so does the kernel's
 * access through its direct map. The model does not charge for setting them.
 *
 * Invariants (checked by check()):
 *  (1) every leaf maps exactly the block gmem holds there, with its size.
 *  (2) table_frames counts the tables reachable from the root, and all of nested_area.
 */
#include <stdio.h>
#include <string.h>

#include "shadow_vs_ept/ept.h"
#include "shadow_vs_ept/walk_quick.h"

int ept_init(struct mmu_vm *vm, char *err, size_t errlen)
{
    (void)err, (void)errlen;
    vm->nested_root = mmu_table_alloc(vm);
    return 0;
}

int ept_init_area(struct mmu_vm *vm, unsigned level, char *err, size_t errlen)
{
    struct nested_area *n = &vm->nested_area;
    hfn_t first;
    n->frames = (vm->gm->frames + (512ull << 9 * (level - 1)) - 1) >> 9 * level;
    if (!host_alloc_span(vm->host, n->frames, 0, FRAME_TABLE, &first)) {
        snprintf(err, errlen,
                 "%s: the host has no %llu consecutive free frames for its nested tables",
                 vm->paging->name, (unsigned long long)n->frames);
        return -1;
    }
    n->level = level;
    n->table = hfn_hpa(first);
    vm->table_frames = n->frames;
    return ept_init(vm, err, errlen);
}

static bool in_area(const struct mmu_vm *vm, hpa_t t)
{
    return t - vm->nested_area.table < vm->nested_area.frames << PAGE_SHIFT;
}

static hpa_t table_new(struct mmu_vm *vm, gpa_t gpa, unsigned level)
{
    if (level == vm->nested_area.level)
        return vm->nested_area.table + (gpa >> level_shift(level + 1) << PAGE_SHIFT);
    return mmu_table_alloc(vm);
}

static void table_free(struct mmu_vm *vm, hpa_t t)
{
    if (in_area(vm, t))
        memset(mmu_ptr(vm, t), 0, PAGE_SIZE);
    else
        mmu_table_free(vm, t);
}

/* Free the table at t and all below it. */
static void free_tables(struct mmu_vm *vm, hpa_t t, unsigned level)
{
    const uint64_t *e = mmu_ptr(vm, t);
    for (unsigned i = 0; level > 1 && i < 512; i++)
        if ((e[i] & PTE_P) && !pte_is_leaf(e[i], level))
            free_tables(vm, e[i] & PTE_ADDR, level - 1);
    table_free(vm, t);
}

void ept_fini(struct mmu_vm *vm)
{
    free_tables(vm, vm->nested_root, vm->host_levels);
    for (uint64_t i = 0; i < vm->nested_area.frames; i++)
        mmu_table_free(vm, vm->nested_area.table + (i << PAGE_SHIFT));
}

ALWAYS_INLINE void walk(struct mmu *m, const struct access *a, struct walk *w,
                        const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    walk2d(m, a, w, m->vm->levels, pwc, cached, log);
}
WALK_VARIANTS(walk)

SLOW_INSTANCES(, ept_quick, quick2d)

walk_fn ept_walk_for(const struct mmu_vm *vm) { return walk_for(vm); }

void ept_explain(struct mmu *m, const struct access *a, struct walk *w, struct walk_log *log)
{
    walk_explain(m, a, w, log);
}

/* The entry that maps gpa at `level`, making the tables above it. */
static uint64_t *entry_at(struct mmu_vm *vm, gpa_t gpa, unsigned level)
{
    hpa_t t = vm->nested_root;
    for (unsigned l = vm->host_levels; l > level; l--) {
        uint64_t *e = mmu_ptr(vm, t + 8 * level_index(gpa, l));
        if (!(*e & PTE_P))
            *e = table_new(vm, gpa, l - 1) | PTE_P | PTE_W | PTE_U;
        t = *e & PTE_ADDR;
    }
    return mmu_ptr(vm, t + 8 * level_index(gpa, level));
}

uint64_t *ept_leaf(const struct mmu_vm *vm, gpa_t gpa, unsigned *level)
{
    hpa_t t = vm->nested_root;
    for (unsigned l = vm->host_levels;; l--) {
        uint64_t *e = mmu_ptr(vm, t + 8 * level_index(gpa, l));
        if (!(*e & PTE_P))
            return NULL;
        if (pte_is_leaf(*e, l)) {
            *level = l;
            return e;
        }
        t = *e & PTE_ADDR;
    }
}

/* An empty table left by smaller pages gives way to a larger leaf. */
void ept_map(struct mmu_vm *vm, gpa_t gpa)
{
    unsigned order = gmem_order(vm->gm, gpa_gfn(gpa)), level = 1 + order / 9;
    uint64_t first = gpa_gfn(gpa).n & ~((1ull << order) - 1);
    uint64_t *e = entry_at(vm, gpa, level);
    if ((*e & PTE_P) && !pte_is_leaf(*e, level)) {
        free_tables(vm, *e & PTE_ADDR, level - 1);
        mmu_vm_flush_all(vm);
    }
    *e = hfn_hpa(gmem_hfn(vm->gm, gfn(first))) | PTE_P | PTE_W | PTE_U | (level > 1 ? PTE_PS : 0);
}

bool ept_back(struct mmu *m, gpa_t gpa)
{
    struct mmu_vm *vm = m->vm;
    mmu_exit(m, CTR_exit_ept_violation, gpa);
    switch (gmem_fault(vm->gm, gpa_gfn(gpa))) {
    case GMEM_OUTSIDE:
        return false;
    case GMEM_NO_FRAMES:
        vm->ops->no_frames(vm->ctx);
    case GMEM_OK:
        break;
    }
    return true;
}

bool ept_violation(struct mmu *m, gpa_t gpa) { return ept_violation_by(m, gpa, ept_map); }

void ept_split(struct mmu_vm *vm, gpa_t gpa)
{
    const uint64_t keep = PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
    unsigned level;
    uint64_t *e = ept_leaf(vm, gpa, &level);
    for (; e && level > 1; e = ept_leaf(vm, gpa, &level)) {
        hpa_t t = table_new(vm, gpa, level - 1), first = pte_leaf_addr(*e, level);
        uint64_t *part = mmu_ptr(vm, t);
        for (uint64_t i = 0; i < 512; i++)
            part[i] =
                (first + (i << level_shift(level - 1))) | (*e & keep) | (level > 2 ? PTE_PS : 0);
        *e = t | PTE_P | PTE_W | PTE_U;
        mmu_vm_flush_all(vm);
    }
}

enum fix_result ept_reflect(const struct mmu *m, const struct access *a, struct walk *w)
{
    w->error = mmu_error(&m->ctl, a, PF_P | PF_RSVD);
    return FIX_REFLECT;
}

enum fix_result ept_fix(struct mmu *m, const struct access *a, struct walk *w)
{
    return ept_violation(m, w->gpa) ? FIX_RETRY : ept_reflect(m, a, w);
}

void ept_guest_cr3(struct mmu *m, uint64_t cr3)
{
    m->levels = m->vm->host_levels;
    m->root = m->vm->nested_root;
    m->guest_root = cr3 & PTE_ADDR;
    mmu_load_tag(m, cr3);
}

void ept_guest_touch(struct mmu *m, gfn_t g, bool write)
{
    unsigned level;
    if (ept_leaf(m->vm, gfn_gpa(g), &level) || ept_violation(m, gfn_gpa(g)))
        nested_mark(m, gfn_gpa(g), write);
}

void ept_guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    ept_guest_touch(m, gpa_gfn(gpa), true);
    *(uint64_t *)gmem_ptr(m->vm->gm, gpa) = entry;
}

void ept_zap(struct mmu_vm *vm, gfn_t first, uint64_t n)
{
    for (uint64_t i = first.n; i < first.n + n;) {
        unsigned level = 1;
        uint64_t *e = ept_leaf(vm, gfn_gpa(gfn(i)), &level);
        if (e && !MUTANT(zap_keeps_entry))
            *e = 0;
        uint64_t size = 1ull << (9 * (level - 1));
        i = (i & ~(size - 1)) + size;
    }
    if (!MUTANT(zap_keeps_tlb))
        mmu_vm_flush_all(vm);
}

void ept_table_bytes(const struct mmu_vm *vm, uint64_t *shadow, uint64_t *nested)
{
    *shadow = 0;
    *nested = vm->table_frames << PAGE_SHIFT;
}

static const char *check_table(struct mmu_vm *vm, hpa_t t, unsigned level, uint64_t first,
                               bool parts, uint64_t *count)
{
    const uint64_t *e = mmu_ptr(vm, t);
    const char *why = NULL;
    *count += !in_area(vm, t);
    for (unsigned i = 0; i < 512 && !why; i++) {
        uint64_t g = first + ((uint64_t)i << (9 * (level - 1)));
        if (!(e[i] & PTE_P))
            continue;
        if (!pte_is_leaf(e[i], level))
            why = check_table(vm, e[i] & PTE_ADDR, level - 1, g, parts, count);
        else if (g >= vm->gm->frames || gmem_state(vm->gm, gfn(g)) != PG_RESIDENT ||
                 gmem_order(vm->gm, gfn(g)) < 9 * (level - 1) ||
                 (!parts && gmem_order(vm->gm, gfn(g)) != 9 * (level - 1)) ||
                 hfn_hpa(gmem_hfn(vm->gm, gfn(g))) != pte_leaf_addr(e[i], level))
            why = "ept (1) a nested leaf does not map gmem's block";
    }
    return why;
}

const char *ept_check_leaves(struct mmu_vm *vm, bool parts, uint64_t *tables)
{
    return check_table(vm, vm->nested_root, vm->host_levels, 0, parts, tables);
}

const char *ept_check(struct mmu_vm *vm)
{
    uint64_t count = 0;
    const char *why = ept_check_leaves(vm, false, &count);
    if (!why && count + vm->nested_area.frames != vm->table_frames)
        why = "ept (2) table_frames is wrong";
    return why;
}

REGISTER(paging, ept,
         .summary = "nested paging: two-dimensional walks, no exits for the guest's own tables",
         .init = ept_init, .fini = ept_fini, .walk_for = ept_walk_for, .quick = EPT_QUICK,
         .explain = ept_explain, .fix = ept_fix, .guest_cr3 = ept_guest_cr3,
         .guest_invlpg = mmu_flush_va, .guest_pt_write = ept_guest_pt_write,
         .guest_touch = ept_guest_touch, .zap = ept_zap, .table_bytes = ept_table_bytes,
         .check = ept_check);
