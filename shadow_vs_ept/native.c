/* native.c: no VMM. The guest's tables are the hardware's tables.
 *
 * Guest-physical memory is one span of host frames (gpa + base = hpa), all of it there from the
 * start: the memory of a machine. There are no exits; references per walk are the levels of the
 * guest's page: 4, 3, 2 for 4 KiB, 2 MiB, 1 GiB (5, 4, 3 with five levels).
 */
#include <stdio.h>

#include "shadow_vs_ept/walk_quick.h"

struct native {
    hpa_t base;     /* of guest-physical address 0 */
    uint64_t bytes; /* of guest-physical memory */
};

static int init(struct mmu_vm *vm, char *err, size_t errlen)
{
    if (gmem_back_all(vm->gm) != GMEM_OK) {
        snprintf(err, errlen,
                 "native: the host has no %llu consecutive free frames for this machine's memory",
                 (unsigned long long)vm->gm->frames);
        return -1;
    }
    struct native *s = meta_calloc(META_PAGING, 1, sizeof *s);
    s->base = hfn_hpa(gmem_hfn(vm->gm, gfn(0)));
    s->bytes = vm->gm->frames << PAGE_SHIFT;
    vm->state = s;
    return 0;
}

static void fini(struct mmu_vm *vm) { meta_free(META_PAGING, vm->state); }

ALWAYS_INLINE void walk(struct mmu *m, const struct access *a, struct walk *w,
                        const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    const struct native *s = m->vm->state;
    walk1d(m, a, w, s->base, s->bytes, WALK_GUEST_FAULT, DIM_GUEST, pwc, cached, log);
}
WALK_VARIANTS(walk)

ALWAYS_INLINE uint64_t quick(struct mmu *m, gva_t va, unsigned store)
{
    const struct native *s = m->vm->state;
    return quick1d(m, va, store, s->base, s->bytes);
}
SLOW_INSTANCES(static, quick, quick)

static enum fix_result fix(struct mmu *m, const struct access *a, struct walk *w)
{
    (void)m, (void)a, (void)w;
    __builtin_trap(); /* native walks never ask for a hypervisor */
}

static void guest_cr3(struct mmu *m, uint64_t cr3)
{
    m->levels = m->vm->levels;
    m->root = cr3 & PTE_ADDR;
    mmu_load_tag(m, cr3);
}

static void guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    *(uint64_t *)gmem_ptr(m->vm->gm, gpa) = entry;
}

static void guest_touch(struct mmu *m, gfn_t g, bool write) { (void)m, (void)g, (void)write; }

/* Never called: the host does not move a machine's own memory (gmem_back_all). */
static void zap(struct mmu_vm *vm, gfn_t first, uint64_t n)
{
    (void)first, (void)n;
    mmu_vm_flush_all(vm);
}

static void table_bytes(const struct mmu_vm *vm, uint64_t *shadow, uint64_t *nested)
{
    (void)vm;
    *shadow = *nested = 0;
}

REGISTER(paging, native, .summary = "no VMM: the guest's tables are the hardware's", .init = init,
         .fini = fini, .walk_for = walk_for, .quick = QUICK(quick), .explain = walk_explain,
         .fix = fix, .guest_cr3 = guest_cr3, .guest_invlpg = mmu_flush_va,
         .guest_pt_write = guest_pt_write, .guest_touch = guest_touch, .zap = zap,
         .table_bytes = table_bytes, .bare = true);
