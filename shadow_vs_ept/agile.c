/* agile.c: agile paging: a walk begins in the shadow table and, where the guest changes its tables often,
 * goes on in the guest's own. Gandhi, Hill, Swift, ISCA 2016.
 *
 * The hardware has three roots: of the shadow table (sptr), the guest's (gptr) and the nested one. A
 * switching bit in an sPTE says that its address is the host-physical one of the guest's next table, and
 * that the rest of the walk is two-dimensional. With i leaf-most of g guest levels read so, and h levels of
 * the nested table, a walk makes
 *
 *     (g - i) + i (1 + h)      4, 8, 12, 16, 20 for g = h = 4 and i = 0 .. 4
 *
 * references: g - i entries of the shadow table, i of the guest's, and after each of these the translation
 * of what it points to. With i = g, sptr itself switches. A process may also be fully nested: then the
 * root's gPA is translated too, 24 references. The counters walks_nested_* are how many walks had which i.
 *
 * Which part is where (the hypervisor's policy; "table" is a page of the guest's page tables):
 *   to nested   a table in shadow mode that the guest writes (an exit) `writes` times within an interval
 *               moves with all below it: the sPTEs that lead to it become switching ones in the same
 *               exit. Its writes are free from then on.
 *   to shadow   at the end of an interval each table at the top of a nested part that was not written in it
 *               moves back, alone: what is written below stays nested, as a part of its own. Written: the
 *               dirty bit of the nested leaf that maps it is set. The scan clears them, which costs a flush.
 *   start       1: a process begins fully nested, and moves to shadow mode at the end of its first whole
 *               interval, as the paper has it for short-lived ones. A root not loaded for an interval is
 *               forgotten.
 *
 * What exits, beside the EPT violations of ept.c:
 *   page faults    that a walk meets in its shadow part. One in the nested part is the guest's own, and
 *                  delivered at once
 *   table writes   to a table in shadow mode
 *   CR3 loads      all, for the hypervisor must set sptr. The paper's cache of (gptr, sptr) pairs, which
 *                  avoids most, is not modelled
 *   control        changes of control registers, as in shadow.c
 * INVLPG and INVPCID do not: shadow tables are in sync or absent, so the hardware's part is all there
 * is to do. The paper does not name them among the costs; shadow.c has them exit, as hypervisors had.
 *
 * The nested table is complete: whenever the hypervisor backs a frame, in whichever mode, it maps it there,
 * so moving to nested mode brings no violations. A shadowed table, one in shadow mode, must not change
 * unseen by a nested walk's store: its nested leaf is 4 KiB and read-only, a larger one is split (and stays
 * split until the host changes the block). A table that both a shadow and a nested path lead to is shadowed:
 * protected, which is right for both.
 *
 * Walk caches by prefix (psc) hold the next table of either kind, with the level at which nested mode
 * began (PSC_NOTE), and give rights gathered and references saved, as in ept.c. AMD's hold entries as
 * read, switching bit included. All go when a part changes mode.
 *
 * CR0.WP: sPTEs that are read-only to see the first store need it set, so the hardware has it set. While
 * the guest's is clear, every fault in the nested part exits as well, and stores that only the kernel may
 * make are emulated, as in shadow.c.
 *
 * Simplified: a nested dirty bit means a guest's store, while today's processors set it too when a walk reads a
 * guest table (SDM vol. 3C, 29.3.5), nor do A and D updates in the guest's tables set it. One bit stands for
 * a whole large host page: a table beside written data looks written. The paper's interval of a second is
 * `interval` walks and guest events here (timer.h), whose end is one exit (exit_intr) whatever the scan reads.
 *
 * Invariants (check(), besides those of shadow_pt.h):
 *  (1) a nested leaf that is writable covers no shadowed table.
 *  (2) a nested leaf maps the frames gmem holds, at a size no larger than gmem's block.
 *  (3) a table at the top of a nested part is not shadowed, and in the list of those once.
 *  (4) sptr is 0 (none yet, gone, or outside memory), or stands for the root's mode.
 *  (5) table_frames counts nested tables and shadow pages.
 */
#include "shadow_vs_ept/agile.h"
#include "shadow_vs_ept/walk.h"

static const struct param params[] = {
    [P_INTERVAL] = {"interval", 10000, TIMER_MIN, 1ull << 40, "walks and guest events",
                    "between scans of dirty bits"},
    [P_WRITES] = {"writes", 2, 1, 255, "exits", "to a table in an interval move it to nested mode"},
    [P_START] = {"start", 0, 0, 1, "mode", "of a process. 0: shadow, 1: fully nested"},
    {0}};

/* ---- walks ---- */

/* Reading a guest table does not make it dirty. */
ALWAYS_INLINE bool translate(struct mmu *m, gpa_t gpa, unsigned guest_level, struct walk *w,
                             struct nested *out, const enum pwc_kind pwc, const bool cached,
                             struct walk_log *log)
{
    return nested_walk(m, gpa, guest_level, w, out, false, pwc, cached, log);
}

/* The shadow part, from the entry *e above `level`. True: it ends in a leaf, or stops. */
ALWAYS_INLINE bool shadow_part(struct mmu *m, const struct access *a, struct walk *w,
                               struct walk_path *p, uint64_t *e, unsigned *level, uint64_t *rights,
                               const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    for (; !(*e & SPTE_SWITCH); --*level) {
        hpa_t ea = (*e & PTE_ADDR) + 8 * level_index(a->va, *level);
        p->above[*level] = psc_pack(*rights) | w->refs;
        *e = walk_step(m, w, p, ea, *level, pwc, cached);
        w->refs++;
        walk_note(log, DIM_SHADOW, *level, 0, ea, ea, *e);
        if (unlikely(!walk_present(m, *e))) { /* XD too, while the guest has NXE clear */
            pwc_forget(m, p, *level, pwc);
            w->status = WALK_EXIT;
            return true;
        }
        *rights &= walk_rights(*e);
        if (*level == 1 || (*e & PTE_PS)) {
            p->leaf = *level;
            if (!walk_accepts(m, w, a, *e, *level, *rights)) {
                pwc_forget(m, p, *level, pwc);
                w->status = WALK_EXIT;
                return true;
            }
            walk_done(m, w, a->va,
                      pte_leaf_addr(*e, *level) + (a->va & ((1ull << level_shift(*level)) - 1)),
                      *level - 1, *rights, *e, a->store);
            w->flags |= *e & SPT_PARTS;
            return true;
        }
    }
    return false;
}

/* A completed walk whose nested part, if any, began at level `began`. */
ALWAYS_INLINE void book_levels(struct mmu *m, unsigned began, unsigned leaf)
{
    unsigned i = began ? began - leaf + 1 : 0;
    m->c.v[began == ROOT_NESTED ? CTR_walks_nested_root : CTR_walks_nested_0 + i]++;
}

ALWAYS_INLINE void mixed(struct mmu *m, const struct access *a, struct walk *w,
                         const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    const unsigned levels = m->vm->levels;
    unsigned level = levels, began = 0;
    uint64_t e = m->sptr, rights = RIGHTS_ALL;
    struct walk_path p;
    walk_begin(w);
    if (unlikely(!canonical(a->va, levels))) {
        walk_fault(m, w, a, FAULT_GP);
        return;
    }
    if (e & SPTE_SWITCH)
        began = e & PTE_ADDR ? level : ROOT_NESTED;
    if (pwc == PWC_INTEL) {
        uint64_t hit = 0;
        level = psc_lookup(m, m->psc, a->va, levels, m->tag, &hit);
        if (level != levels) {
            began = PSC_NOTED(hit);
            e = (hit & PSC_ADDR) | (began ? SPTE_SWITCH : 0);
            rights = psc_unpack(hit);
            w->refs = hit & 63;
            w->refs_nested = hit >> 6 & 63;
        }
    }
    p.top = level;
    p.cached = 0;
    if (shadow_part(m, a, w, &p, &e, &level, &rights, pwc, cached, log)) {
        if (w->status == WALK_OK && pwc == PWC_INTEL)
            psc_fill(m, a->va, &p);
    } else {
        began = began ? began : level;
        walk2d_from(m, a, w, &p,
                    (struct walk2d_at){level, m->guest_root, e & PTE_ADDR, rights, PSC_NOTE(began)},
                    translate, nested_mark, pwc, cached, log);
        if (unlikely(w->status == WALK_GUEST_FAULT && !m->ctl.wp))
            w->status = WALK_EXIT;
    }
    if (w->status == WALK_OK && !log)
        book_levels(m, began, p.leaf);
}

ALWAYS_INLINE void walk(struct mmu *m, const struct access *a, struct walk *w,
                        const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    if (log || !timer_stops_walk(&agile_state(m->vm)->timer, w))
        mixed(m, a, w, pwc, cached, log);
}
WALK_VARIANTS(walk)

static void tick(struct mmu *m)
{
    if (timer_tick(&agile_state(m->vm)->timer))
        agile_interval_end(m);
}

/* ---- the hypervisor ---- */

static const struct shadow_ops shadow_ops = {agile_root_page, agile_table_page, agile_written,
                                             agile_back};

/* The nested table lacks w->gpa, or forbids to store there. */
static enum fix_result fix_nested(struct mmu *m, const struct access *a, struct walk *w)
{
    gfn_t f = gpa_gfn(w->gpa);
    unsigned level;
    if (ept_leaf(m->vm, w->gpa, &level)) {
        mmu_exit(m, CTR_exit_pt_write, a->va);
        agile_written(m, f);
        return FIX_RETRY;
    }
    if (!ept_back(m, w->gpa))
        return ept_reflect(m, a, w);
    agile_map(m->vm, f);
    return FIX_RETRY;
}

static enum fix_result fix(struct mmu *m, const struct access *a, struct walk *w)
{
    if (timer_expired(&agile_state(m->vm)->timer)) {
        agile_interval_end(m);
        return FIX_RETRY;
    }
    return w->nested_fault ? fix_nested(m, a, w) : shadow_repair(m, a, w, &shadow_ops);
}

/* A process is fully nested when it begins, if that is asked for. */
static void meet_root(struct mmu *m, gfn_t r)
{
    struct agile *s = agile_state(m->vm);
    if (!m->vm->param[P_START] || !gmem_inside(m->vm->gm, r))
        return;
    if (!(s->flags[r.n] & F_KNOWN)) {
        agile_list_put(&s->roots, r);
        s->flags[r.n] |= F_KNOWN | F_FULL;
    }
    s->flags[r.n] |= F_LOADED;
}

static void guest_cr3(struct mmu *m, uint64_t cr3)
{
    mmu_exit(m, CTR_exit_cr3, cr3);
    m->root = m->vm->nested_root;
    m->levels = m->vm->host_levels;
    m->guest_root = cr3 & PTE_ADDR;
    meet_root(m, gpa_gfn(m->guest_root));
    agile_root_page(m);
    mmu_load_tag(m, cr3);
    tick(m);
}

static void guest_invlpg(struct mmu *m, gva_t va)
{
    shadow_flush_va(m, va);
    tick(m);
}

static void guest_invpcid(struct mmu *m, enum invpcid_type type, unsigned pcid, gva_t va)
{
    shadow_flush_invpcid(m, type, pcid, va);
    tick(m);
}

/* The kernel's first touch of a frame is an EPT violation. Its first clear, copy or other store to a
 * shadowed table says that it is one no more. */
static void guest_touch(struct mmu *m, gfn_t f, bool write)
{
    unsigned level;
    if (write && spt_shadowed(m->vm->spt, f)) {
        mmu_exit(m, CTR_exit_pt_write, gfn_gpa(f));
        spt_drop_gfn(m->vm->spt, f);
    }
    if (!ept_leaf(m->vm, gfn_gpa(f), &level)) {
        ept_back(m, gfn_gpa(f));
        agile_map(m->vm, f);
    }
    nested_mark(m, gfn_gpa(f), write);
}

static void guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    struct spt *s = m->vm->spt;
    gfn_t f = gpa_gfn(gpa);
    if (spt_shadowed(s, f)) {
        mmu_exit(m, CTR_exit_pt_write, gpa);
        agile_back(m, f);
        spt_entry_written(s, f, (unsigned)(gpa >> 3 & 511));
        agile_count_write(m, f);
    } else
        guest_touch(m, f, true);
    *(uint64_t *)gmem_ptr(m->vm->gm, gpa) = entry;
    tick(m);
}

/* A root that moves is found again. */
static void zap(struct mmu_vm *vm, gfn_t first, uint64_t n)
{
    spt_zap(vm->spt, first, n);
    ept_zap(vm, first, n);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (gpa_gfn(vm->vcpu[i]->guest_root).n - first.n < n) /* unsigned: not below first */
            vm->vcpu[i]->sptr = 0;
}

static void table_bytes(const struct mmu_vm *vm, uint64_t *shadow, uint64_t *nested)
{
    *shadow = spt_live(vm->spt) << PAGE_SHIFT;
    *nested = (vm->table_frames << PAGE_SHIFT) - *shadow;
}

/* ---- life ---- */

static int init(struct mmu_vm *vm, char *err, size_t errlen)
{
    struct agile *s = vm->state = meta_calloc(META_PAGING, 1, sizeof *s);
    s->flags = meta_calloc(META_PAGING, vm->gm->frames, sizeof *s->flags);
    s->writes = meta_calloc(META_PAGING, vm->gm->frames, sizeof *s->writes);
    s->seen = meta_calloc(META_PAGING, vm->gm->frames, sizeof *s->seen);
    s->top = meta_calloc(META_PAGING, vm->gm->frames, sizeof *s->top);
    s->timer.period = vm->param[P_INTERVAL];
    timer_restart(&s->timer);
    shadow_init(vm, err, errlen);
    spt_on_shadowed(vm->spt, agile_protect);
    return ept_init(vm, err, errlen);
}

static void fini(struct mmu_vm *vm)
{
    struct agile *s = agile_state(vm);
    void *const arrays[] = {s->flags,      s->writes,    s->seen,        s->top,
                            s->nested.gfn, s->roots.gfn, s->written.gfn, s->visited.gfn};
    spt_on_shadowed(vm->spt, NULL);
    shadow_fini(vm);
    ept_fini(vm);
    for (unsigned i = 0; i < ARRAY_SIZE(arrays); i++)
        if (arrays[i])
            meta_free(META_PAGING, arrays[i]);
    meta_free(META_PAGING, s);
}

/* (1) and (3), for frame g. */
static const char *check_frame(const struct mmu_vm *vm, gfn_t g)
{
    const struct agile *s = agile_state(vm);
    unsigned level;
    const uint64_t *e = ept_leaf(vm, gfn_gpa(g), &level);
    if (spt_shadowed(vm->spt, g) && e && (*e & PTE_W))
        return "agile (1) a nested leaf lets stores to a shadowed table through";
    uint32_t listed = 0;
    for (uint32_t i = 0; i < s->nested.n && (s->flags[g.n] & F_NESTED); i++)
        listed += s->nested.gfn[i] == g.n;
    if ((s->flags[g.n] & F_NESTED) && (listed != 1 || spt_shadowed(vm->spt, g)))
        return "agile (3) the top of a nested part is shadowed, or not listed once";
    return NULL;
}

/* (4). */
static const char *check_root(const struct mmu *m)
{
    const struct mmu_vm *vm = m->vm;
    gfn_t r = gpa_gfn(m->guest_root);
    uint64_t want = SPTE_SWITCH;
    if (!m->sptr)
        return NULL;
    uint8_t f = agile_state(vm)->flags[r.n];
    if (!(f & F_FULL) && (f & F_NESTED))
        want |= hfn_hpa(gmem_hfn(vm->gm, r));
    else if (!(f & F_FULL)) {
        const struct sp *p = spt_find(vm->spt, r, vm->levels);
        want = p ? p->table : 1;
    }
    return m->sptr == want ? NULL : "agile (4) sptr does not stand for the root's mode";
}

static const char *check(struct mmu_vm *vm)
{
    uint64_t tables = 0;
    const char *why =
        ept_check_leaves(vm, true, &tables) ? "agile (2) a nested leaf is wrong" : NULL;
    if (!why)
        why = spt_check(vm->spt);
    for (uint64_t g = 0; g < vm->gm->frames && !why; g++)
        why = check_frame(vm, gfn(g));
    for (unsigned i = 0; i < vm->nvcpus && !why; i++)
        why = check_root(vm->vcpu[i]);
    return why                                              ? why
           : tables + spt_live(vm->spt) != vm->table_frames ? "agile (5) table_frames is wrong"
                                                            : NULL;
}

REGISTER(paging, agile,
         .summary = "walks begin in shadow tables and end nested where tables are written often",
         .params = params, .init = init, .fini = fini, .walk_for = walk_for,
         .explain = walk_explain, .fix = fix, .guest_cr3 = guest_cr3, .guest_invlpg = guest_invlpg,
         .guest_invpcid = guest_invpcid, .guest_control = shadow_guest_control,
         .guest_pt_write = guest_pt_write, .guest_touch = guest_touch, .forces_wp = true,
         .zap = zap, .table_bytes = table_bytes,
         .counters = COUNTERS(CTR_exit_intr, CTR_mode_switches, CTR_walks_nested_0,
                              CTR_walks_nested_1, CTR_walks_nested_2, CTR_walks_nested_3,
                              CTR_walks_nested_4, CTR_walks_nested_5, CTR_walks_nested_root),
         .check = check);
