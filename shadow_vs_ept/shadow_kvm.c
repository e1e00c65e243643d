/* shadow_kvm.c: shadow paging as Linux KVM does it: the strategies shadow-kvm and shadow-pvm.
 *
 * The cache of shadow pages is described in shadow_kvm.h. What the guest does, and what comes of
 * it:
 *
 *                     shadow-kvm (ring 0 in the guest)      shadow-pvm (ring 0 emulated)
 *   #PF of ring 3     exit: reflected, filled or spurious   the same
 *   kernel access     a page fault like any other, when     the emulator's own; nothing is filled
 *                     the shadow lacks it
 *   table write       upper table: exit, emulated. Leaf     emulated anyway: the sPTE goes,
 *                     table: one exit makes it writable     the page stays in sync
 *                     (unsync), then none
 *   INVLPG            exit; an unsync entry is read again   nothing to do
 *   CR3               exit; unsync pages are read again     the new root
 *   clear or copy     REP STOS is not how a table is        512 emulated writes
 *                     written: its shadow pages are
 *                     dropped and it runs again
 *
 * Roots. A vCPU keeps the root in use and the three before it; loading one of these again costs no
 * search. A root's shadow page found in the cache is as good. The first instruction under a root
 * that has no kernel entry yet, wherever that page came from, is a fault.
 *
 * What is not predicted: under shadow-pvm the flushes of many emulated instructions merge, as they
 * are run in one go, so flushes are not counted there; and when the bound on shadow pages makes the
 * image's own tables go (shadow_pages_recycled), KVM's guest takes a few faults for its code and
 * stack where the model takes one.
 *
 * A kernel's accesses outside the image's half (mmu_access, which the guest it predicts never makes)
 * are like a program's under shadow-kvm, with a supervisor's rights. Under shadow-pvm they are the
 * emulator's: it walks the guest's tables as they are, in software, sets A and D, and uses no TLB; there
 * is no exit, for the emulator runs already. Their rights and faults are the same. Control registers
 * are the shadow pages' role (shadow_kvm.h); a change is one exit (other) under shadow-kvm, INVPCID one
 * (invlpg).
 *
 * A CR3 that names no memory has no shadow page: under frame 0, which is empty, every access faults and
 * is reflected (later Linux: kvm_mmu_get_dummy_root).
 *
 * Not as in KVM: a store of ring 3 to a frame that is a tracked table makes it a table no more at
 * once; KVM emulates two such stores first. Our guest kernel clears a frame before a program gets
 * it. A kernel's store there is emulated, as the image's is.
 */
#include "shadow_vs_ept/guest_walk.h"
#include "shadow_vs_ept/shadow_kvm.h"
#include "shadow_vs_ept/walk_quick.h"

static int init_native(struct mmu_vm *vm, char *err, size_t errlen)
{
    (void)err, (void)errlen;
    vm->state = kmmu_new(vm, false);
    return 0;
}

static int init_emulated(struct mmu_vm *vm, char *err, size_t errlen)
{
    (void)err, (void)errlen;
    vm->state = kmmu_new(vm, true);
    return 0;
}

static void fini(struct mmu_vm *vm) { kmmu_free(vm->state); }

ALWAYS_INLINE void walk(struct mmu *m, const struct access *a, struct walk *w,
                        const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    walk1d(m, a, w, 0, ~0ull, WALK_EXIT, DIM_SHADOW, pwc, cached, log);
}
WALK_VARIANTS(walk)

ALWAYS_INLINE uint64_t quick(struct mmu *m, gva_t va, unsigned store)
{
    return quick1d(m, va, store, 0, m->pool_bytes);
}
SLOW_INSTANCES(static, quick, quick)

/* ---- entering the guest ---- */

static enum kpf kernel_fault(struct mmu *m, gva_t va, bool write, uint64_t addr);

/* The image's code is used: run, or stored into. */
static void use_image(struct mmu *m, bool write)
{
    const gva_t va = KHALF_IMAGE + KHALF_TEXT_GPA;
    const struct kvcpu *v = kmmu_vcpu(m);
    bool present;
    while (v->cur.page && !kmmu_permits(m->vm->state, v->cur.page, va, write, &present))
        kernel_fault(m, va, write, KHALF_TEXT_GPA);
}

/* The next instruction. The emulator needs no tables to run the kernel at the VMM's root. */
static void run_image(struct mmu *m)
{
    const struct kmmu *k = m->vm->state;
    if (!k->emulated || m->guest_root >> PAGE_SHIFT != KHALF_BOOT_ROOT)
        use_image(m, false);
}

/* Before the guest goes on: let go of invalid roots, have a current one, flush what went. */
static void enter(struct mmu *m)
{
    struct kmmu *k = m->vm->state;
    struct kvcpu *v = kmmu_vcpu(m);
    if (k->obsolete)
        kmmu_let_go(k);
    gfn_t root = gpa_gfn(v->cr3 & PTE_ADDR);
    if (!v->cur.page && gmem_inside(m->vm->gm, root)) {
        kmmu_make_room(k);
        v->cur.page = kmmu_get(k, root.n, m->vm->levels, false, v->role);
        v->cur.page->roots++;
        v->cur.cr3 = v->cr3;
        kmmu_sync_below(k, v->cur.page);
        mmu_vm_flush_all(m->vm);
        kmmu_settle(k);
        m->root = v->cur.page->table;
        run_image(m);
    }
    m->root = v->cur.page ? v->cur.page->table : 0;
    kmmu_settle(k);
}

/* ---- faults ---- */

static enum counter_id reason(enum kpf r)
{
    switch (r) {
    case KPF_FIXED:
        return CTR_exit_fill;
    case KPF_SPURIOUS:
        return CTR_exit_spurious;
    case KPF_EMULATE:
        return CTR_exit_pt_write;
    case KPF_NO_SPTE:
        return CTR_exit_other;
    case KPF_RETRY:
        return CTR_exit_retry;
    default:
        return CTR_exit_reflect;
    }
}

static enum kpf kernel_fault(struct mmu *m, gva_t va, bool write, uint64_t addr)
{
    struct kmmu *k = m->vm->state;
    struct kpage *root = kmmu_vcpu(m)->cur.page;
    struct kfault f = {.a = {.va = va, .store = write, .supervisor = true}, .khalf = true};
    kmmu_permits(k, root, va, write, &f.present);
    enum kpf r = kmmu_fault(m, k, root, &f);
    mmu_exit(m, reason(r), addr);
    return r;
}

/* The emulator stores by itself: the host makes the frame. */
static void emulator_store(struct mmu *m, gfn_t f)
{
    struct kmmu *k = m->vm->state;
    if (!kmmu_break_zero(m, k, f.n))
        kmmu_back(m, k, f.n);
}

/* The guest gets the fault. With P and no reserved bit, what the shadow has of the address goes
 * (kvm_inject_emulated_page_fault() of Linux). */
static enum fix_result reflect(struct mmu *m, gva_t va, unsigned error, struct walk *w)
{
    struct kmmu *k = m->vm->state;
    if ((error & (PF_P | PF_RSVD)) == PF_P) {
        kmmu_invlpg(k, kmmu_vcpu(m)->cur.page, va);
        mmu_flush_faulting(m, va);
    }
    enter(m);
    w->error = error;
    return FIX_REFLECT;
}

/* It stores 8 bytes at a: if that is a table's entry, the sPTEs made from it go. */
static void emulate_word(struct mmu *m, gpa_t a)
{
    emulator_store(m, gpa_gfn(a));
    kmmu_pte_written(m->vm->state, a >> PAGE_SHIFT, (unsigned)(a >> 3 & 511));
    enter(m);
}

/* The kernel's access to a is made by the emulator. */
static enum fix_result emulated(const struct mmu *m, gpa_t a, struct walk *w)
{
    w->page = hfn_hpa(gmem_hfn(m->vm->gm, gpa_gfn(a)));
    return FIX_EMULATE;
}

static enum fix_result fix(struct mmu *m, const struct access *a, struct walk *w)
{
    struct kmmu *k = m->vm->state;
    struct kfault f = {.a = *a, .present = w->error & PF_P};
    enter(m);
    enum kpf r = kmmu_fault(m, k, kmmu_vcpu(m)->cur.page, &f);
    mmu_exit(m, reason(r), a->va);
    if (r == KPF_GUEST)
        return reflect(m, a->va, f.error, w);
    if (r == KPF_NO_SPTE || (r == KPF_EMULATE && a->supervisor)) {
        gpa_t at = gfn_gpa(gfn(f.gfn)) | (a->va & PAGE_MASK);
        emulate_word(m, at);
        return emulated(m, at, w);
    }
    if (r == KPF_EMULATE)
        kmmu_zap_gfn(k, f.gfn);
    enter(m);
    return FIX_RETRY;
}

/* The kernel loads from or stores into guest memory. False: its store must be emulated before the
 * guest is entered again. (Without a root no kernel could run: what raw programs do there is taken as
 * the emulator's.) */
static bool kernel_access(struct mmu *m, gpa_t a, bool write)
{
    const struct kvcpu *v = kmmu_vcpu(m);
    bool present;
    for (;;) {
        enter(m);
        if (!v->cur.page)
            return false;
        if (kmmu_permits(m->vm->state, v->cur.page, KHALF_DIRECT + a, write, &present))
            return true;
        if (kernel_fault(m, KHALF_DIRECT + a, write, a) == KPF_EMULATE)
            return false;
    }
}

/* ---- what the kernel does ---- */

/* One 8-byte store into guest memory, as MOV does it. */
static void store_entry(struct mmu *m, gpa_t a)
{
    const struct kmmu *k = m->vm->state;
    if (k->emulated || !kernel_access(m, a, true))
        emulate_word(m, a);
}

static void guest_pt_read(struct mmu *m, gpa_t a)
{
    struct kmmu *k = m->vm->state;
    if (!k->emulated)
        kernel_access(m, a, false);
    else if (gmem_state(m->vm->gm, gpa_gfn(a)) != PG_RESIDENT && kmmu_maps_zeroes(k))
        k->flags[a >> PAGE_SHIFT] |= GF_ZERO;
}

/* Ring 0 is emulated (shadow-pvm): the emulator walks the guest's tables as they are. */
static enum fix_result emulate(struct mmu *m, const struct access *a, struct walk *w)
{
    struct guest_walk g;
    enter(m);
    if (!guest_walk(m, a, &g))
        return reflect(m, a->va, g.error, w);
    guest_walk_mark(m, &g, a->store);
    if (a->store)
        emulate_word(m, g.gpa);
    else {
        guest_pt_read(m, g.gpa);
        kmmu_back(m, m->vm->state, g.gpa >> PAGE_SHIFT);
    }
    return emulated(m, g.gpa, w);
}

static void guest_pt_write(struct mmu *m, gpa_t a, uint64_t entry)
{
    store_entry(m, a);
    *(uint64_t *)gmem_ptr(m->vm->gm, a) = entry;
}

/* A whole frame written by REP STOS or REP MOVS, one emulated store after the other. */
static void emulate_frame(struct mmu *m, gfn_t f)
{
    emulator_store(m, f);
    for (unsigned i = 0; i < 512; i++)
        kmmu_pte_written(m->vm->state, f.n, i);
    enter(m);
}

/* The same by the guest itself, once the frame's shadow pages are gone; but the root in use is made
 * again at once. */
static void store_frame(struct mmu *m, gfn_t f)
{
    struct kmmu *k = m->vm->state;
    k->flags[f.n] &= (uint8_t)~GF_KROOT;
    bool dropped = false;
    while (k->emulated || !kernel_access(m, gfn_gpa(f), true)) {
        if (k->emulated || dropped) {
            emulate_frame(m, f);
            return;
        }
        kmmu_zap_gfn(k, f.n);
        enter(m);
        dropped = true;
    }
}

static void guest_touch(struct mmu *m, gfn_t f, bool write)
{
    if (write)
        store_frame(m, f);
    else {
        guest_pt_read(m, gfn_gpa(f));
        kmmu_back(m, m->vm->state, f.n);
    }
}

/* The image gives a root its kernel entry before it is loaded for the first time. */
static void give_kernel_entry(struct mmu *m, gpa_t root)
{
    struct kmmu *k = m->vm->state;
    guest_pt_read(m, root);
    if (k->flags[root >> PAGE_SHIFT] & GF_KROOT)
        return;
    k->flags[root >> PAGE_SHIFT] |= GF_KROOT;
    store_entry(m, root + 8 * KHALF_ROOT_ENTRY);
}

/* The guest is entered with a root of the VMM's making. */
static void first_entry(struct mmu *m)
{
    struct kvcpu *v = kmmu_vcpu(m);
    v->started = true;
    v->role = kmmu_role(&m->ctl);
    v->cr3 = (uint64_t)KHALF_BOOT_ROOT << PAGE_SHIFT;
    m->guest_root = v->cr3;
    enter(m);
}

static void guest_cr3(struct mmu *m, uint64_t cr3)
{
    struct kmmu *k = m->vm->state;
    struct kvcpu *v = kmmu_vcpu(m);
    uint64_t root = cr3 & ~CR3_KEEP;
    bool first = !v->started;
    if (first)
        first_entry(m);
    if (gmem_inside(m->vm->gm, gpa_gfn(cr3 & PTE_ADDR)))
        give_kernel_entry(m, cr3 & PTE_ADDR);
    if (!k->emulated)
        mmu_exit(m, CTR_exit_cr3, cr3);
    m->levels = m->vm->levels;
    m->guest_root = cr3 & PTE_ADDR;
    if (v->cr3 != root) {
        v->cr3 = root;
        if (kmmu_switch_root(k, v, root))
            v->cur.page->flood = 0;
    }
    bool keep = m->vm->cpu->pcid && (cr3 & CR3_KEEP);
    if (!keep)
        kmmu_invalidate(m, (unsigned)(root & CR3_PCID));
    if (!k->flush && !keep) /* else the flush of all does for this one too */
        m->c.shadow_flushes++;
    kmmu_settle(k);
    mmu_load_tag(m, cr3);
    enter(m);
    run_image(m);
    if (first) /* the image stores once into each of its pages */
        use_image(m, true);
    kmmu_settle(k);
}

static void guest_invlpg(struct mmu *m, gva_t va)
{
    struct kmmu *k = m->vm->state;
    enter(m);
    if (!k->emulated)
        mmu_exit(m, CTR_exit_invlpg, va);
    kmmu_invalidate_va(m, va, KMMU_ANY_PCID);
    kmmu_settle(k);
    mmu_flush_va(m, va);
}

static void guest_invpcid(struct mmu *m, enum invpcid_type type, unsigned pcid, gva_t va)
{
    struct kmmu *k = m->vm->state;
    enter(m);
    if (!k->emulated)
        mmu_exit(m, CTR_exit_invlpg, va);
    if (type == INVPCID_ADDRESS)
        kmmu_invalidate_va(m, va, (int)pcid);
    else if (type == INVPCID_CONTEXT)
        kmmu_invalidate(m, pcid);
    else
        kmmu_sync_roots(m);
    kmmu_settle(k);
    mmu_flush_invpcid(m, type, pcid, va);
}

/* Other registers make another role, and so other roots: all are let go (Linux: kvm_mmu_reset_context).
 * What no role has, PGE, invalidates everything. */
static void guest_control(struct mmu *m)
{
    struct kmmu *k = m->vm->state;
    struct kvcpu *v = kmmu_vcpu(m);
    unsigned old = v->role;
    if (!k->emulated)
        mmu_exit(m, CTR_exit_other, 0);
    if (!v->started)
        return;
    v->role = kmmu_role(&m->ctl);
    if (v->role == old)
        kmmu_sync_roots(m);
    else
        kmmu_drop_roots(k, v);
    enter(m);
}

/* ---- the host, and the rest ---- */

static void zap(struct mmu_vm *vm, gfn_t first, uint64_t n)
{
    struct kmmu *k = vm->state;
    for (uint64_t g = first.n; g < first.n + n; g++) {
        kmmu_split_zero(k, g);
        kmmu_zap_leaves(k, g);
        k->flags[g] &= (uint8_t) ~(GF_ZERO | GF_HUGE);
    }
    mmu_vm_flush_all(vm); /* and once more, counted, before the guest goes on */
}

static void table_bytes(const struct mmu_vm *vm, uint64_t *shadow, uint64_t *nested)
{
    *shadow = vm->table_frames << PAGE_SHIFT;
    *nested = 0;
}

static const char *check(struct mmu_vm *vm) { return kmmu_check(vm->state); }

#define KMMU_COUNTERS                                                                           \
    CTR_exit_spurious, CTR_exit_retry, CTR_shadow_pages_made, CTR_shadow_pages_zapped,          \
        CTR_shadow_pages_recycled, CTR_shadow_floods, CTR_shadow_pt_writes, CTR_shadow_unsyncs, \
        CTR_shadow_syncs, CTR_shadow_out_of_sync, CTR_shadow_prefetched, CTR_shadow_leaves

#define PARTS                                                                                     \
    .fini = fini, .walk_for = walk_for, .quick = QUICK(quick), .explain = walk_explain,           \
    .fix = fix, .guest_cr3 = guest_cr3, .guest_invlpg = guest_invlpg,                             \
    .guest_pt_write = guest_pt_write, .guest_touch = guest_touch, .guest_pt_read = guest_pt_read, \
    .guest_invpcid = guest_invpcid, .guest_control = guest_control, .zap = zap,                   \
    .table_bytes = table_bytes, .prefetches = true, .forces_wp = true, .forces_nx = true,         \
    .no_host_table = true, .image = true, .check = check

REGISTER_AS(paging, shadow_kvm, "shadow-kvm",
            .summary = "Linux KVM's shadow MMU: leaf tables may drift until they are synchronised",
            .init = init_native, .counters = COUNTERS(KMMU_COUNTERS, CTR_shadow_flushes), PARTS);
REGISTER_AS(paging, shadow_pvm, "shadow-pvm",
            .summary = "the same under a KVM that emulates the guest's ring 0",
            .init = init_emulated, .emulate = emulate, .counters = COUNTERS(KMMU_COUNTERS), PARTS);
