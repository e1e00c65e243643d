/* native.c: no VMM. The guest's tables are the hardware's tables.
 *
 * Guest-physical memory is one span of host frames (gpa + base = hpa), all of it there from the
 * start: the memory of a machine. There are no exits; references per walk are the levels of the
 * guest's page: 4, 3, 2 for 4 KiB, 2 MiB, 1 GiB (5, 4, 3 with five levels).
 */
#include <stdio.h>

#include "shadow_vs_ept/native.h"
#include "shadow_vs_ept/walk_quick.h"

int native_span(struct mmu_vm *vm, struct native *n, char *err, size_t errlen)
{
    if (gmem_back_all(vm->gm) != GMEM_OK) {
        snprintf(err, errlen,
                 "%s: the host has no %llu consecutive free frames for this machine's memory",
                 vm->paging->name, (unsigned long long)vm->gm->frames);
        return -1;
    }
    n->base = hfn_hpa(gmem_hfn(vm->gm, gfn(0)));
    n->bytes = vm->gm->frames << PAGE_SHIFT;
    return 0;
}

static int init(struct mmu_vm *vm, char *err, size_t errlen)
{
    struct native n;
    if (native_span(vm, &n, err, errlen) != 0)
        return -1;
    vm->state = meta_calloc(META_PAGING, 1, sizeof n);
    *(struct native *)vm->state = n;
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

enum fix_result native_fix(struct mmu *m, const struct access *a, struct walk *w)
{
    (void)m, (void)a, (void)w;
    __builtin_trap(); /* native walks never ask for a hypervisor */
}

void native_guest_cr3(struct mmu *m, uint64_t cr3)
{
    m->levels = m->vm->levels;
    m->root = m->guest_root = cr3 & PTE_ADDR;
    mmu_load_tag(m, cr3);
}

void native_guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    *(uint64_t *)gmem_ptr(m->vm->gm, gpa) = entry;
}

void native_guest_touch(struct mmu *m, gfn_t g, bool write) { (void)m, (void)g, (void)write; }

/* Never called: the host does not move a machine's own memory (gmem_back_all). */
void native_zap(struct mmu_vm *vm, gfn_t first, uint64_t n)
{
    (void)first, (void)n;
    mmu_vm_flush_all(vm);
}

void native_table_bytes(const struct mmu_vm *vm, uint64_t *shadow, uint64_t *nested)
{
    (void)vm;
    *shadow = *nested = 0;
}

REGISTER(paging, native, .summary = "no VMM: the guest's tables are the hardware's", .init = init,
         .fini = fini, .walk_for = walk_for, .quick = QUICK(quick), .explain = walk_explain,
         .fix = native_fix, .guest_cr3 = native_guest_cr3, .guest_invlpg = mmu_flush_va,
         .guest_pt_write = native_guest_pt_write, .guest_touch = native_guest_touch,
         .zap = native_zap, .table_bytes = native_table_bytes, .bare = true);
