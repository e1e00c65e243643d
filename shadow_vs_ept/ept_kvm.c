/* ept_kvm.c: nested paging as Linux's KVM runs it on anonymous memory. The walk is that of ept.c.
 *
 * Two things differ, and both show in KVM's pf_taken and pf_fixed:
 *
 *   page of zeroes   A load of a frame that nobody has written maps the host's page of zeroes,
 *                    read-only: one fault. The first store then takes two: the host gives the guest a
 *                    frame of its own, which invalidates the entry under KVM's hands, so that the
 *                    fault is taken again (exit_retry), and is fixed the second time.
 *   the root         The guest image maps its kernel half in every root (guest/image/abi.h). At a
 *                    CR3 load it looks for that entry, and stores it where it is missing.
 *
 * 4 KiB host pages only; larger blocks are mapped at once, as ept.c does. In the model a frame that
 * only reads as zero is a frame already: host_frames counts it, a real host would not.
 *
 * Invariant, besides those of ept.c: (3) a leaf without PTE_W has level 1; its frame is all zeroes.
 */
#include "shadow_vs_ept/ept.h"

/* The guest stores where the page of zeroes is mapped. */
static void break_zero(struct mmu *m, gpa_t gpa, uint64_t *leaf)
{
    mmu_exit(m, CTR_exit_retry, gpa);
    mmu_exit(m, CTR_exit_ept_violation, gpa);
    *leaf |= PTE_W;
    mmu_vm_flush_all(m->vm);
}

/* Have gpa mapped for this kind of access; false when the guest has no such memory. */
static bool have(struct mmu *m, gpa_t gpa, bool write)
{
    unsigned level;
    uint64_t *leaf = ept_leaf(m->vm, gpa, &level);
    if (leaf) {
        if (write && !(*leaf & PTE_W))
            break_zero(m, gpa, leaf);
        return true;
    }
    bool there =
        gmem_inside(m->vm->gm, gpa_gfn(gpa)) && gmem_state(m->vm->gm, gpa_gfn(gpa)) == PG_RESIDENT;
    if (!ept_violation(m, gpa))
        return false;
    leaf = ept_leaf(m->vm, gpa, &level);
    if (!there && !write && level == 1)
        *leaf &= ~PTE_W;
    return true;
}

static enum fix_result fix(struct mmu *m, const struct access *a, struct walk *w)
{
    return have(m, w->gpa, a->store) ? FIX_RETRY : ept_reflect(m, a, w);
}

static void guest_touch(struct mmu *m, gfn_t g, bool write) { have(m, gfn_gpa(g), write); }

static void guest_pt_read(struct mmu *m, gpa_t gpa) { have(m, gpa, false); }

static void guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    have(m, gpa, true);
    *(uint64_t *)gmem_ptr(m->vm->gm, gpa) = entry;
}

static void guest_cr3(struct mmu *m, uint64_t cr3)
{
    have(m, cr3 & PTE_ADDR, false);
    have(m, cr3 & PTE_ADDR, true);
    ept_guest_cr3(m, cr3);
}

/* (3), below the table at t. */
static bool zeroes_hold(struct mmu_vm *vm, hpa_t t, unsigned level)
{
    const uint64_t *e = mmu_ptr(vm, t);
    for (unsigned i = 0; i < 512; i++) {
        if (!(e[i] & PTE_P))
            continue;
        if (!pte_is_leaf(e[i], level)) {
            if (!zeroes_hold(vm, e[i] & PTE_ADDR, level - 1))
                return false;
        } else if (!(e[i] & PTE_W)) {
            const uint64_t *word = mmu_ptr(vm, e[i] & PTE_ADDR);
            for (unsigned k = 0; k < 512; k++)
                if (level != 1 || word[k])
                    return false;
        }
    }
    return true;
}

static const char *check(struct mmu_vm *vm)
{
    const char *why = ept_check(vm);
    if (why)
        return why;
    return zeroes_hold(vm, vm->nested_root, vm->host_levels)
               ? NULL
               : "ept-kvm (3) a read-only leaf is not a page of zeroes";
}

REGISTER_AS(paging, ept_kvm, "ept-kvm",
            .summary = "nested paging as Linux's KVM runs it: loads map the host's page of zeroes",
            .init = ept_init, .fini = ept_fini, .walk_for = ept_walk_for, .quick = EPT_QUICK,
            .explain = ept_explain, .fix = fix, .guest_cr3 = guest_cr3,
            .guest_invlpg = mmu_flush_va, .guest_pt_write = guest_pt_write,
            .guest_touch = guest_touch, .guest_pt_read = guest_pt_read, .zap = ept_zap,
            .table_bytes = ept_table_bytes, .counters = COUNTERS(CTR_exit_retry), .check = check);
