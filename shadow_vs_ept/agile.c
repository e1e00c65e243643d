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
#include "shadow_vs_ept/ept.h"
#include "shadow_vs_ept/shadow.h"
#include "shadow_vs_ept/timer.h"
#include "shadow_vs_ept/walk.h"

enum { P_INTERVAL, P_WRITES, P_START };
static const struct param params[] = {
    [P_INTERVAL] = {"interval", 10000, TIMER_MIN, 1ull << 40, "walks and guest events",
                    "between scans of dirty bits"},
    [P_WRITES] = {"writes", 2, 1, 255, "exits", "to a table in an interval move it to nested mode"},
    [P_START] = {"start", 0, 0, 1, "mode", "of a process. 0: shadow, 1: fully nested"},
    {0}};

enum { ROOT_NESTED = 7 }; /* PSC_NOTE of a fully nested process; else the level of the switch */

/* What is known of a guest frame. */
enum {
    F_NESTED = 1,   /* the top of a nested part */
    F_KNOWN = 2,    /* a root seen before */
    F_FULL = 4,     /* a root whose process is fully nested */
    F_AGED = 8,     /* for a whole interval */
    F_LOADED = 16,  /* in this interval */
    F_WRITTEN = 32, /* scan: dirty */
};

struct list {
    uint32_t *gfn, n, cap;
};

struct agile {
    struct timer timer;
    uint8_t *flags, *writes; /* by gfn; writes: exits in this interval */
    uint16_t *seen;          /* by gfn: levels at which the scan has been, in shadow mode << 8 */
    uint8_t *top;            /* by gfn, of F_NESTED: its level */
    struct list nested, roots, written, visited;
};

static struct agile *state(const struct mmu_vm *vm) { return vm->state; }

static void list_put(struct list *l, gfn_t g)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        l->gfn = meta_realloc(META_PAGING, l->gfn, l->cap * sizeof *l->gfn);
    }
    l->gfn[l->n++] = (uint32_t)g.n;
}

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
    if (log || !timer_stops_walk(&state(m->vm)->timer, w))
        mixed(m, a, w, pwc, cached, log);
}
WALK_VARIANTS(walk)

/* ---- the nested table ---- */

/* spt_on_shadowed(): a writable nested leaf covers no shadowed table. */
static bool protect(struct mmu_vm *vm, gfn_t g, bool shadowed)
{
    unsigned level;
    uint64_t *e = ept_leaf(vm, gfn_gpa(g), &level), was = e ? *e : 0;
    if (e)
        *e = shadowed ? *e & ~PTE_W : *e | PTE_W;
    return e && *e != was;
}

/* Frame f has just become mapped, with its block. */
static void protect_block(struct mmu_vm *vm, gfn_t f)
{
    uint64_t n = 1ull << gmem_order(vm->gm, f), first = f.n & ~(n - 1);
    if (spt_max_level(vm->spt, f) == 1 + gmem_order(vm->gm, f) / 9 && !spt_shadowed(vm->spt, f))
        return;
    for (uint64_t g = first; g < first + n; g++)
        if (spt_shadowed(vm->spt, gfn(g))) {
            ept_split(vm, gfn_gpa(gfn(g)));
            protect(vm, gfn(g), true);
        }
}

static void map(struct mmu_vm *vm, gfn_t f)
{
    unsigned level;
    if (ept_leaf(vm, gfn_gpa(f), &level))
        return;
    ept_map(vm, gfn_gpa(f));
    protect_block(vm, f);
}

static void back(struct mmu *m, gfn_t f)
{
    if (gmem_fault(m->vm->gm, f) == GMEM_NO_FRAMES)
        m->vm->ops->no_frames(m->vm->ctx);
    map(m->vm, f);
}

static bool take_dirty(struct mmu_vm *vm, gfn_t f, bool clear)
{
    unsigned level;
    uint64_t *e = ept_leaf(vm, gfn_gpa(f), &level);
    bool dirty = e && (*e & PTE_D);
    if (dirty && clear)
        *e &= ~PTE_D;
    return dirty;
}

/* ---- modes ---- */

/* The shadow page of a guest table in shadow mode. The split may end the VM: first. */
static struct sp *table_page(struct mmu *m, gfn_t t, unsigned level)
{
    if (state(m->vm)->flags[t.n] & F_NESTED) {
        back(m, t);
        return NULL;
    }
    if (!spt_shadowed(m->vm->spt, t))
        ept_split(m->vm, gfn_gpa(t));
    return spt_get(m->vm->spt, t, level);
}

/* Have sptr stand for the root; the shadow page, if it has one. A root outside memory has none: walks
 * begin at frame 0, which is empty. */
static struct sp *root_page(struct mmu *m)
{
    gfn_t r = gpa_gfn(m->guest_root);
    struct sp *p = NULL;
    if (!gmem_inside(m->vm->gm, r))
        m->sptr = 0;
    else if (state(m->vm)->flags[r.n] & F_FULL)
        m->sptr = SPTE_SWITCH;
    else {
        p = table_page(m, r, m->vm->levels);
        m->sptr = p ? p->table : hfn_hpa(gmem_hfn(m->vm->gm, r)) | SPTE_SWITCH;
    }
    return p;
}

/* The roots of all vCPUs are to be found again, at their next walk. */
static void forget_roots(struct mmu_vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vm->vcpu[i]->sptr = 0;
    mmu_vm_flush_all(vm);
}

static unsigned top_level(const struct mmu_vm *vm, gfn_t t)
{
    unsigned top = 0;
    for (unsigned l = 1; l <= vm->levels; l++)
        if (spt_find(vm->spt, t, l))
            top = l;
    return top;
}

static bool is_root(const struct mmu *m, gfn_t t) { return gpa_gfn(m->guest_root).n == t.n; }

/* Table t and what is below it go to nested mode. */
static void nest(struct mmu *m, gfn_t t, unsigned level)
{
    struct agile *s = state(m->vm);
    s->flags[t.n] |= F_NESTED;
    s->top[t.n] = (uint8_t)level;
    list_put(&s->nested, t);
    spt_nest(m->vm->spt, t);
    for (unsigned i = 0; i < m->vm->nvcpus; i++)
        if (is_root(m->vm->vcpu[i], t) && !m->vm->vcpu[i]->sptr)
            root_page(m->vm->vcpu[i]);
    m->c.mode_switches++;
    mmu_note(m, "switch_to_nested", gfn_gpa(t), level);
}

/* One write to table t in shadow mode, an exit. True: it is in nested mode now. */
static bool count_write(struct mmu *m, gfn_t t)
{
    struct agile *s = state(m->vm);
    if (!s->writes[t.n]++)
        list_put(&s->written, t);
    if (s->writes[t.n] < m->vm->param[P_WRITES])
        return false;
    back(m, t);
    nest(m, t, top_level(m->vm, t));
    return true;
}

/* A program stored to it: no table, or a hostile guest's. */
static void written(struct mmu *m, gfn_t t)
{
    if (!count_write(m, t))
        spt_drop_gfn(m->vm->spt, t);
}

/* ---- the end of an interval ---- */

/* A table at `level`, under a part that stays nested or in shadow mode. What is written in shadow mode
 * becomes the top of a nested part. Each table is visited once per level and mode, whatever loops a guest
 * has made of them. */
static void scan_table(struct mmu *m, gfn_t t, unsigned level, bool under)
{
    struct mmu_vm *vm = m->vm;
    struct agile *s = state(vm);
    uint16_t bit = (uint16_t)(1u << level << (under ? 0 : 8));
    if (!gmem_inside(vm->gm, t) || gmem_state(vm->gm, t) != PG_RESIDENT || (s->seen[t.n] & bit))
        return;
    if (!s->seen[t.n]) {
        list_put(&s->visited, t);
        s->flags[t.n] |= take_dirty(vm, t, false) ? F_WRITTEN : 0;
    }
    s->seen[t.n] |= bit;
    if (!under && (s->flags[t.n] & F_WRITTEN)) {
        if (!(s->flags[t.n] & F_NESTED)) /* nothing shadowed is written without an exit */
            nest(m, t, level);
        under = true;
    }
    const uint64_t *e = gmem_ptr(vm->gm, gfn_gpa(t));
    for (unsigned i = 0; i < 512 && level > 1; i++)
        if ((e[i] & PTE_P) && !pte_is_leaf(e[i], level))
            scan_table(m, gpa_gfn(e[i] & PTE_ADDR), level - 1, under);
}

/* Clear what the scan has noted. */
static void end_scan(struct mmu_vm *vm)
{
    struct agile *s = state(vm);
    bool cleared = false;
    for (uint32_t i = 0; i < s->visited.n; i++) {
        uint32_t g = s->visited.gfn[i];
        cleared |= take_dirty(vm, gfn(g), true);
        s->seen[g] = 0;
        s->flags[g] &= (uint8_t)~F_WRITTEN;
    }
    s->visited.n = 0;
    if (cleared)
        mmu_vm_flush_all(vm);
}

/* Move the parts that were not written. */
static void scan(struct mmu *m)
{
    struct agile *s = state(m->vm);
    struct list old = s->nested;
    s->nested = (struct list){0};
    bool moved = false;
    for (uint32_t i = 0; i < old.n; i++) {
        gfn_t t = gfn(old.gfn[i]);
        if (gmem_state(m->vm->gm, t) == PG_RESIDENT && take_dirty(m->vm, t, false))
            list_put(&s->nested, t);
        else {
            s->flags[t.n] &= (uint8_t)~F_NESTED;
            spt_unnest(m->vm->spt, t);
            m->c.mode_switches++;
            mmu_note(m, "switch_to_shadow", gfn_gpa(t), s->top[t.n]);
            moved = true;
        }
    }
    for (uint32_t i = 0; i < old.n; i++)
        scan_table(m, gfn(old.gfn[i]), s->top[old.gfn[i]], false);
    meta_free(META_PAGING, old.gfn);
    if (moved)
        forget_roots(m->vm);
    end_scan(m->vm);
}

static bool is_loaded(const struct mmu_vm *vm, gfn_t root)
{
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (is_root(vm->vcpu[i], root))
            return true;
    return false;
}

/* Fully nested processes grow up; roots out of use are forgotten. */
static void age_roots(struct mmu *m)
{
    struct agile *s = state(m->vm);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->roots.n; i++) {
        gfn_t r = gfn(s->roots.gfn[i]);
        uint8_t *f = &s->flags[r.n];
        if (!(*f & F_LOADED) && !is_loaded(m->vm, r)) {
            *f &= (uint8_t) ~(F_KNOWN | F_FULL | F_AGED);
            continue;
        }
        s->roots.gfn[kept++] = (uint32_t)r.n;
        if ((*f & (F_FULL | F_AGED)) == (F_FULL | F_AGED)) {
            *f &= (uint8_t)~F_FULL;
            m->c.mode_switches++;
            mmu_note(m, "switch_to_shadow", gfn_gpa(r), ROOT_NESTED);
            forget_roots(m->vm);
        }
        *f = (uint8_t)((*f | F_AGED) & ~F_LOADED);
    }
    s->roots.n = kept;
}

static void interval_end(struct mmu *m)
{
    struct agile *s = state(m->vm);
    mmu_exit(m, CTR_exit_intr, 0);
    if (s->nested.n)
        scan(m);
    age_roots(m);
    for (uint32_t i = 0; i < s->written.n; i++)
        s->writes[s->written.gfn[i]] = 0;
    s->written.n = 0;
    timer_restart(&s->timer);
}

static void tick(struct mmu *m)
{
    if (timer_tick(&state(m->vm)->timer))
        interval_end(m);
}

/* ---- the hypervisor ---- */

static const struct shadow_ops shadow_ops = {root_page, table_page, written, back};

/* The nested table lacks w->gpa, or forbids to store there. */
static enum fix_result fix_nested(struct mmu *m, const struct access *a, struct walk *w)
{
    gfn_t f = gpa_gfn(w->gpa);
    unsigned level;
    if (ept_leaf(m->vm, w->gpa, &level)) {
        mmu_exit(m, CTR_exit_pt_write, a->va);
        written(m, f);
        return FIX_RETRY;
    }
    if (!ept_back(m, w->gpa))
        return ept_reflect(m, a, w);
    map(m->vm, f);
    return FIX_RETRY;
}

static enum fix_result fix(struct mmu *m, const struct access *a, struct walk *w)
{
    if (timer_expired(&state(m->vm)->timer)) {
        interval_end(m);
        return FIX_RETRY;
    }
    return w->nested_fault ? fix_nested(m, a, w) : shadow_repair(m, a, w, &shadow_ops);
}

/* A process is fully nested when it begins, if that is asked for. */
static void meet_root(struct mmu *m, gfn_t r)
{
    struct agile *s = state(m->vm);
    if (!m->vm->param[P_START] || !gmem_inside(m->vm->gm, r))
        return;
    if (!(s->flags[r.n] & F_KNOWN)) {
        list_put(&s->roots, r);
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
    root_page(m);
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
        map(m->vm, f);
    }
    nested_mark(m, gfn_gpa(f), write);
}

static void guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    struct spt *s = m->vm->spt;
    gfn_t f = gpa_gfn(gpa);
    if (spt_shadowed(s, f)) {
        mmu_exit(m, CTR_exit_pt_write, gpa);
        back(m, f);
        spt_entry_written(s, f, (unsigned)(gpa >> 3 & 511));
        count_write(m, f);
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
    spt_on_shadowed(vm->spt, protect);
    return ept_init(vm, err, errlen);
}

static void fini(struct mmu_vm *vm)
{
    struct agile *s = state(vm);
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
    const struct agile *s = state(vm);
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
    uint8_t f = state(vm)->flags[r.n];
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
