/* dmt.c: direct memory translation, dmt and pvdmt (Zhang et al., ASPLOS 2024).
 *
 * The leaf tables of a mapping lie in one run of frames, a translation entry area (TEA), which a
 * register describes: its entries are found by arithmetic, without the levels above. In both
 * dimensions a walk becomes (labels of `nestbed walk`; the paper counts levels from the root):
 *
 *   dmt     3 references: G1H1, G1, UDH1    the guest's area lies in guest memory
 *   pvdmt   2 references: G1, UDH1          the hypervisor placed it in consecutive frames of its own,
 *                                           asked by a hypercall, and knows its host address
 *
 * The guest's areas, for leaves of 4 KiB, 2 MiB (also THP) or 1 GiB, are its kernel's
 * (guest/tea.c); the host's is one, all nested tables of the level that --host-page asks for
 * (mmu_vm.nested_area; the artifact has the first two sizes, the third is the same one level up).
 * Areas are parts of the radix trees, so both walks read the same entries.
 *
 * Where no register holds the address, or the entry it finds is not a leaf, the ordinary walk is made,
 * in that dimension: in the guest's all of walk2d(), in the host's that nested walk. Both references
 * of the attempt and those of the walk count. dmt_fallbacks counts the completed walks with such an
 * attempt, or without a register, or of a pvdmt area that the host has moved since it was placed (it
 * then takes the 3 references of dmt).
 *
 * Exits are those of ept: first touches; and for pvdmt a hypercall for each area made or given up.
 * Loading registers costs none: they name areas that the hypervisor checked when it placed them.
 * Walk caches serve the ordinary walk; the nested TLB serves both.
 *
 * Invariants (check(), ept_check()):
 *  (1) registers describe areas inside guest memory.
 *  (2) a placed area is where its record says, and a register's host address is its record's.
 *  (3) nested_area holds all nested tables of its level.
 */
#include <stdio.h>

#include "shadow_vs_ept/dmt_regs.h"
#include "shadow_vs_ept/ept.h"
#include "shadow_vs_ept/walk.h"

enum { MAX_PLACED = 4096 }; /* of one guest: more are refused, and walked as any table */

/* A guest area that the hypervisor placed; its id is its index + 1. */
struct placed {
    uint64_t first, n; /* guest frames; n = 0: not in use */
    hpa_t host;        /* 0: the host has moved some of it */
};

struct state {
    struct dmt dmt; /* first: see registers() */
    struct placed *placed;
    unsigned nplaced;
};

static int init(struct mmu_vm *vm, char *err, size_t errlen)
{
    static const uint8_t level[] = {
        [PAGES_4K] = 1, [PAGES_2M] = 2, [PAGES_1G] = 3, [PAGES_THP] = 2};
    if (ept_init_area(vm, level[vm->gm->mode], err, errlen) != 0)
        return -1;
    struct state *s = vm->state = meta_calloc(META_PAGING, 1, sizeof *s);
    dmt_init(&s->dmt);
    return 0;
}

static void fini(struct mmu_vm *vm)
{
    struct state *s = vm->state;
    ept_fini(vm);
    dmt_fini(&s->dmt);
    if (s->placed)
        meta_free(META_PAGING, s->placed);
    meta_free(META_PAGING, s);
}

/* ---- walks ---- */

/* nested_fn: the entry of the host's area; what it does not map as a leaf is walked. */
ALWAYS_INLINE bool area_nested(struct mmu *m, gpa_t gpa, unsigned guest_level, struct walk *w,
                               struct nested *out, const enum pwc_kind pwc, const bool cached,
                               struct walk_log *log)
{
    const struct nested_area *n = &m->vm->nested_area;
    if (pwc != PWC_NONE && ntlb_lookup(m, gpa, out)) {
        w->refs++;
        w->refs_nested++;
        return true;
    }
    if (unlikely(gpa_gfn(gpa).n >= m->vm->gm->frames))
        return walk_nested_fault(w, gpa);
    uint64_t index = gpa >> level_shift(n->level);
    hpa_t ea = n->table + 8 * index;
    uint64_t e = walk_read(m, w, ea, n->level, false, pwc, cached);
    walk_note_at(log, DIM_NESTED, n->level, guest_level, index, gpa, ea, e);
    if (unlikely(!(e & PTE_P)))
        return walk_nested_fault(w, gpa);
    w->refs++;
    w->refs_nested++;
    if (unlikely(!pte_is_leaf(e, n->level))) {
        w->fallback = true;
        return walk_nested(m, gpa, guest_level, w, out, pwc, cached, log);
    }
    bool dirty = (e & PTE_D) || guest_level; /* the guest's tables are read as if written */
    if (unlikely(!(e & PTE_A) || (guest_level && !(e & PTE_D))))
        nested_mark(m, gpa, dirty);
    *out =
        (struct nested){pte_leaf_addr(e, n->level) + (gpa & ((1ull << level_shift(n->level)) - 1)),
                        n->level - 1, e & PTE_W, dirty};
    if (pwc != PWC_NONE && m->ntlb.ways)
        ntlb_fill(m, gpa, out);
    return true;
}

/* Walk by register i. False: the entry is no leaf, or is not to be trusted: walk the tree. */
ALWAYS_INLINE bool fetch(struct mmu *m, const struct access *a, struct walk *w,
                         const struct dmt_regs *r, int i, const enum pwc_kind pwc,
                         const bool cached, struct walk_log *log)
{
    const struct tea *t = &r->tea[i];
    gpa_t at = tea_entry(t, a->va);
    struct nested n = {.hpa = r->host[i] + (at - t->table)};
    if (!r->host[i]) {
        w->fallback = m->vm->paging->guest_tea_alloc != NULL; /* it was to be placed */
        if (!area_nested(m, at, t->level, w, &n, pwc, cached, log))
            return true;
    }
    uint64_t e = walk_read(m, w, n.hpa, t->level, true, pwc, cached);
    w->refs++;
    walk_note_at(log, DIM_GUEST, t->level, t->level, (at - t->table) / 8, at, n.hpa, e);
    if (unlikely(!walk_present(m, e) || !pte_is_leaf(e, t->level)))
        return false;
    const struct state *s = m->vm->state;
    if (unlikely(s->dmt.suspect) && !dmt_confirmed(m, m->guest_root, t, a->va))
        return false;
    uint64_t rights = RIGHTS_ALL & walk_rights(e);
    if (!walk_accepts(m, w, a, e, t->level, rights) ||
        !walk_data(m, a, w, t->level, rights, e, area_nested, nested_mark, pwc, cached, log))
        return true;
    if (unlikely(!(e & PTE_A) || (a->store && !(e & PTE_D))))
        *mmu_ptr(m->vm, n.hpa) |= a->store ? PTE_A | PTE_D : PTE_A;
    return true;
}

ALWAYS_INLINE void walk(struct mmu *m, const struct access *a, struct walk *w,
                        const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    const struct dmt_regs *r = ((const struct state *)m->vm->state)->dmt.vcpu[m->id];
    int i = canonical(a->va, m->vm->levels) ? dmt_find(r, a->va) : -1;
    walk_begin(w);
    if (unlikely(i < 0 || !fetch(m, a, w, r, i, pwc, cached, log))) {
        const struct walk tried = *w;
        walk2d(m, a, w, m->vm->levels, pwc, cached, log);
        w->refs += tried.refs;
        w->refs_nested += tried.refs_nested;
        w->reads += tried.reads;
        w->fallback = true;
    }
    if (unlikely(w->fallback) && w->status == WALK_OK)
        m->c.dmt_fallbacks++;
}
WALK_VARIANTS(walk)

/* ---- guest events ---- */

static void guest_cr3(struct mmu *m, uint64_t cr3)
{
    struct state *s = m->vm->state;
    ept_guest_cr3(m, cr3);
    dmt_load_root(&s->dmt, m, m->guest_root);
}

static void guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    struct state *s = m->vm->state;
    ept_guest_touch(m, gpa_gfn(gpa), true);
    uint64_t *e = gmem_ptr(m->vm->gm, gpa);
    dmt_note_write(&s->dmt, m, gpa, *e, entry);
    *e = entry;
}

static void guest_teas(struct mmu *m, const struct tea *t, unsigned n)
{
    struct state *s = m->vm->state;
    dmt_load(&s->dmt, m, t, n);
}

/* ---- pvdmt: the hypervisor places guest areas ---- */

/* The host address of the area of a register, or 0: the guest's word is not taken for it. */
static hpa_t placed_at(const struct state *s, const struct tea *t)
{
    if (!t->id || t->id > s->nplaced)
        return 0;
    const struct placed *p = &s->placed[t->id - 1];
    return p->first == gpa_gfn(t->table).n && p->n >= tea_frames(t) ? p->host : 0;
}

static void pv_guest_teas(struct mmu *m, const struct tea *t, unsigned n)
{
    struct state *s = m->vm->state;
    struct dmt_regs *r = dmt_load(&s->dmt, m, t, n);
    for (unsigned i = 0; i < n; i++)
        r->host[i] = placed_at(s, &t[i]);
}

/* A free record, or that of the same area; NULL: the guest has as many as one may have. */
static struct placed *record(struct state *s, gfn_t first)
{
    for (unsigned i = 0; i < s->nplaced; i++)
        if (!s->placed[i].n || s->placed[i].first == first.n)
            return &s->placed[i];
    if (s->nplaced >= MAX_PLACED)
        return NULL;
    unsigned grown = s->nplaced ? 2 * s->nplaced : 16;
    struct placed *p = meta_calloc(META_PAGING, grown, sizeof *p);
    if (s->placed) {
        memcpy(p, s->placed, s->nplaced * sizeof *p);
        meta_free(META_PAGING, s->placed);
    }
    s->placed = p;
    p += s->nplaced;
    s->nplaced = grown;
    return p;
}

static uint64_t pv_tea_alloc(struct mmu *m, gfn_t first, uint64_t n)
{
    struct mmu_vm *vm = m->vm;
    struct state *s = vm->state;
    mmu_exit(m, CTR_exit_hypercall, gfn_gpa(first));
    if (!n || !gmem_inside(vm->gm, first) || n > vm->gm->frames - first.n)
        return 0;
    struct placed *p = record(s, first);
    if (!p || !gmem_place(vm->gm, first, n))
        return 0;
    for (uint64_t g = first.n, size; g < first.n + n; g += size) {
        size = 1ull << gmem_order(vm->gm, gfn(g));
        g &= ~(size - 1);
        ept_map(vm, gfn_gpa(gfn(g)));
        nested_mark(m, gfn_gpa(gfn(g)), true); /* its entries will be read without this one */
    }
    *p = (struct placed){first.n, n, hfn_hpa(gmem_hfn(vm->gm, first))};
    return (uint64_t)(p - s->placed) + 1;
}

static void pv_tea_free(struct mmu *m, uint64_t id)
{
    struct state *s = m->vm->state;
    mmu_exit(m, CTR_exit_hypercall, id);
    if (id && id <= s->nplaced)
        s->placed[id - 1] = (struct placed){.n = 0};
}

/* The host takes frames of a placed area: it is none any more. */
static void pv_zap(struct mmu_vm *vm, gfn_t first, uint64_t n)
{
    struct state *s = vm->state;
    for (unsigned i = 0; i < s->nplaced; i++) {
        struct placed *p = &s->placed[i];
        if (p->n && p->first < first.n + n && first.n < p->first + p->n)
            p->host = MUTANT(tea_zap_lost) ? p->host : 0;
    }
    for (unsigned v = 0; v < vm->nvcpus; v++)
        for (unsigned i = 0; s->dmt.vcpu[v] && i < s->dmt.vcpu[v]->n; i++)
            s->dmt.vcpu[v]->host[i] = placed_at(s, &s->dmt.vcpu[v]->tea[i]);
    ept_zap(vm, first, n);
}

/* ---- checks ---- */

static const char *check_placed(const struct mmu_vm *vm, const struct placed *p)
{
    for (uint64_t i = 0; p->host && i < p->n; i++)
        if (gmem_state(vm->gm, gfn(p->first + i)) != PG_RESIDENT ||
            hfn_hpa(gmem_hfn(vm->gm, gfn(p->first + i))) != p->host + (i << PAGE_SHIFT))
            return "dmt (2) a placed area is elsewhere";
    return NULL;
}

static const char *check_registers(const struct state *s, const struct dmt_regs *r)
{
    for (unsigned i = 0; r && i < r->n; i++)
        if (r->host[i] && r->host[i] != placed_at(s, &r->tea[i]))
            return "dmt (2) a register's host address is not its area's";
    return NULL;
}

static const char *check(struct mmu_vm *vm)
{
    const struct state *s = vm->state;
    const char *why = ept_check(vm);
    if (!why)
        why = dmt_check(&s->dmt, vm);
    for (unsigned i = 0; i < s->nplaced && !why; i++)
        why = check_placed(vm, &s->placed[i]);
    for (unsigned i = 0; i < vm->nvcpus && !why; i++)
        why = check_registers(s, s->dmt.vcpu[i]);
    return why;
}

#define PARTS                                                                                      \
    .params = dmt_params, .init = init, .fini = fini, .walk_for = walk_for,                        \
    .explain = walk_explain, .fix = ept_fix, .guest_cr3 = guest_cr3, .guest_invlpg = mmu_flush_va, \
    .guest_pt_write = guest_pt_write, .guest_touch = ept_guest_touch,                              \
    .tea_registers = dmt_tea_registers, .table_bytes = ept_table_bytes, .check = check

REGISTER_AS(paging, dmt, "dmt",
            .summary = "nested paging with areas of leaf entries that registers find: 3 references",
            .guest_teas = guest_teas, .zap = ept_zap, .counters = COUNTERS(CTR_dmt_fallbacks),
            PARTS);
REGISTER_AS(paging, pvdmt, "pvdmt",
            .summary = "dmt with the guest's areas placed by the hypervisor: 2 references",
            .guest_teas = pv_guest_teas, .guest_tea_alloc = pv_tea_alloc,
            .guest_tea_free = pv_tea_free, .zap = pv_zap,
            .counters = COUNTERS(CTR_dmt_fallbacks, CTR_exit_hypercall), PARTS);
