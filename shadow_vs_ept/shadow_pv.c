/* shadow_pv.c: paravirtual shadow paging: the guest tells of its table writes, many at a time.
 *
 * Mechanism. The guest's kernel knows that its tables are shadowed. It writes them itself, without
 * an exit, and queues what the hypervisor must know; one hypercall sends the queue, as VMware's VMI
 * (UpdatePxE, deferred), Linux's KVM_HC_MMU_OP and Xen's multicalls do, Xen and Linux 32 at a time.
 * All else is as in shadow.c, whose code does it: shadow tables by guest table, #PF intercepted,
 * hidden faults, dirty tracking by read-only sPTEs, protection from stores of programs to tables.
 *
 *   table write     queued.
 *   INVLPG, INVPCID queued, behind the writes they complete.
 *   table recycled  queued: the frame was a table and is cleared or copied over.
 *   CR3             queued, and the queue is sent: one exit for all.
 *   return          the queue is sent before the program runs again: after a system call or fault
 *                   that changed nothing there is none, and no exit.
 *   queue full      sent when it holds `batch` operations.
 *   control         one exit a change (other), as in shadow.c.
 *
 * Every exit of these is exit_hypercall; pv_updates counts the operations they carried, CR3 loads
 * too, so that pv_updates / exit_hypercall is the mean batch.
 *
 * Order. The model applies an operation when it is queued and counts its exit when the queue is
 * sent. Nobody can see that: the program does not run in between, a dropped sPTE is one that need
 * not have been there, and a kernel that uses a program's addresses sees what it would after sending
 * its queue. A vCPU that invalidates on behalf of another (a shootdown) must find the other's writes
 * in the shadow tables, which all share: so queues of other vCPUs are sent before an invalidation.
 *
 * Filling ahead. A hypercall that installs a mapping could fill its sPTE and save the hidden fault.
 * But use of a filled sPTE is not seen, so the guest's A bit would have to be set before its use,
 * and D before a store: a guest could tell. So an sPTE is filled ahead only when the guest's entry
 * has A set, and writable only when it has D too, as Linux's KVM does (prefetch_invalid_gpte): then
 * these bits have nothing to tell any more. Entries that a fork or mprotect changes, and copies of
 * written pages, keep A; those of a page's first fault do not have it here (Linux's do: its guests
 * would save these faults too). Only frames the host has backed, at the guest's own page size.
 *
 * Trust. A guest that does not tell, or lies, harms itself: its stale sPTEs are as a TLB's stale
 * entries, they map its own frames, and the rmap of shadow_pt.h finds them when the host changes
 * these. The invariants of shadow_pt.h hold all the time, for what is told is applied at once.
 *
 * Invariants, beside those of shadow_pt.h:
 *  (1) a queue holds fewer than `batch` operations.
 */
#include "shadow_vs_ept/shadow.h"
#include "shadow_vs_ept/walk_quick.h"

enum { PARAM_BATCH };
static const struct param params[] = {
    [PARAM_BATCH] = {"batch", 32, 1, 4096, "operations",
                     "length of the queue of a vCPU: a full one is sent"},
    {0}};

struct pv {
    unsigned queued[MAX_VCPUS];
};

static int init(struct mmu_vm *vm, char *err, size_t errlen)
{
    vm->state = meta_calloc(META_PAGING, 1, sizeof(struct pv));
    return shadow_init(vm, err, errlen);
}

static void fini(struct mmu_vm *vm)
{
    shadow_fini(vm);
    meta_free(META_PAGING, vm->state);
}

/* ---- the queue ---- */

static unsigned *queued(const struct mmu *m)
{
    struct pv *pv = m->vm->state;
    return &pv->queued[m->id];
}

static void send(struct mmu *m)
{
    unsigned *n = queued(m);
    if (!*n)
        return;
    m->c.pv_updates += *n;
    *n = 0;
    mmu_exit(m, CTR_exit_hypercall, 0);
}

static void queue(struct mmu *m)
{
    if (++*queued(m) == m->vm->param[PARAM_BATCH])
        send(m);
}

static void send_others(const struct mmu *m)
{
    for (unsigned i = 0; i < m->vm->nvcpus; i++)
        if (m->vm->vcpu[i] != m)
            send(m->vm->vcpu[i]);
}

/* ---- what the guest does ---- */

/* May the sPTE of this entry, in a table at `level`, be filled before it is used? */
static bool fills_ahead(const struct mmu *m, uint64_t entry, unsigned level)
{
    const struct gmem *gm = m->vm->gm;
    if (!walk_present(m, entry) || !(entry & PTE_A) || !pte_is_leaf(entry, level) ||
        (entry & pte_rsvd(level)))
        return false;
    gfn_t f = gpa_gfn(pte_leaf_addr(entry, level));
    return gmem_inside(gm, f) && gmem_state(gm, f) == PG_RESIDENT &&
           spt_max_level(m->vm->spt, f) >= level;
}

/* The guest has written an entry of a table that is shadowed. */
static void apply(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    struct spt *s = m->vm->spt;
    gfn_t table = gpa_gfn(gpa);
    unsigned idx = (unsigned)(gpa >> 3 & 511);
    spt_entry_written(s, table, idx);
    for (unsigned level = 1; level <= 3; level++) {
        struct sp *p = spt_find(s, table, level);
        if (!p || !fills_ahead(m, entry, level))
            continue;
        gfn_t f = gpa_gfn(pte_leaf_addr(entry, level));
        bool writable = (entry & PTE_D) && !spt_shadowed(s, f);
        spt_map(s, p, idx, f, writable ? entry : entry & ~PTE_W);
        m->c.pv_filled++;
    }
}

static void guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    gfn_t f = gpa_gfn(gpa);
    if (gmem_state(m->vm->gm, f) != PG_RESIDENT) {
        mmu_exit(m, CTR_exit_fill, gpa);
        shadow_back(m, f);
    }
    *(uint64_t *)gmem_ptr(m->vm->gm, gpa) = entry;
    if (spt_shadowed(m->vm->spt, f))
        apply(m, gpa, entry);
    queue(m);
}

static void guest_touch(struct mmu *m, gfn_t f, bool write)
{
    if (write && spt_shadowed(m->vm->spt, f)) {
        spt_drop_gfn(m->vm->spt, f);
        queue(m);
    }
    shadow_guest_touch(m, f, write);
}

static void guest_invlpg(struct mmu *m, gva_t va)
{
    send_others(m);
    shadow_flush_va(m, va);
    queue(m);
}

static void guest_invpcid(struct mmu *m, enum invpcid_type type, unsigned pcid, gva_t va)
{
    send_others(m);
    shadow_flush_invpcid(m, type, pcid, va);
    queue(m);
}

static void guest_cr3(struct mmu *m, uint64_t cr3)
{
    send_others(m);
    ++*queued(m);
    send(m);
    m->levels = m->vm->levels;
    m->guest_root = cr3 & PTE_ADDR;
    shadow_root(m);
    mmu_load_tag(m, cr3);
}

static const char *check(struct mmu_vm *vm)
{
    const struct pv *pv = vm->state;
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (pv->queued[i] >= vm->param[PARAM_BATCH])
            return "shadow-pv (1) a full queue was not sent";
    return shadow_check(vm);
}

REGISTER_AS(paging, shadow_pv, "shadow-pv",
            .summary = "shadow tables; the guest tells of its table writes by batched hypercalls",
            .params = params, .init = init, .fini = fini, .walk_for = shadow_walk_for,
            .quick = QUICK(shadow_quick), .explain = shadow_explain, .fix = shadow_fix,
            .guest_cr3 = guest_cr3, .guest_invlpg = guest_invlpg, .guest_pt_write = guest_pt_write,
            .guest_touch = guest_touch, .guest_invpcid = guest_invpcid,
            .guest_control = shadow_guest_control, .guest_return = send, .forces_wp = true,
            .no_host_table = true, .zap = shadow_zap, .table_bytes = shadow_table_bytes,
            .check = check,
            .counters = COUNTERS(CTR_exit_hypercall, CTR_pv_updates, CTR_pv_filled));
