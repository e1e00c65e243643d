/* dseg.c: direct segments: base, limit and offset registers instead of a table, in the guest's
 * dimension, in the VMM's, or in both.
 *
 * Basu et al. (ISCA 2013) for native machines; Gandhi et al. (MICRO 2014) under a VMM, in three modes:
 *
 *   strategy    inside its segments        references a walk              who must know of it
 *   dseg-vmm    gpa -> hpa by a segment    g: the guest's table alone     the VMM
 *   dseg-guest  gva -> gpa by a segment    h: the nested table alone      the guest's kernel
 *   dseg        both                       0                              both
 *
 * (g, h: entries read for a page of the guest's, the host's size; 4 for 4 KiB and four levels.) Outside
 * a segment, and for pages that escape from it, that dimension is paged as by ept.c: a walk of dseg-vmm
 * asks for g + 1 translations of gpas, and each goes its own way.
 *
 * The VMM's segment is all of guest memory, in host frames that are reserved when the VM is made
 * (gmem_reserve): nothing is left to be filled, so there is no EPT violation until the host takes frames
 * back. The pages it takes escape from then on, for good: the filter cannot forget a page, and what the
 * guest touches there is mapped by the nested table. Self-ballooning, which makes room for such a
 * reservation, is not modelled.
 *
 * The guest's segment is a process's primary region (guest/segment.c). The kernel says which of its
 * pages escape; the registers and the filter are part of the address space and come with its CR3. A
 * segment has no accessed and dirty bits: the kernel has both set in the region's entries, and an entry
 * without them is one that differs.
 *
 * Where it is looked up. The papers' segments stand beside the TLB. Here they are looked up where a walk
 * would begin, after both levels have missed; what a walk of no references finds goes to the first
 * level only, so that pages in both segments take no room in the second. Such a walk counts as a walk,
 * and costs nothing. (A lookup beside the first level would find in the segment what hits the second
 * here; no page in both segments is there.)
 *
 * All vCPUs see a change of a filter at once; between processors it would travel with the shootdown that
 * the entry's change needs. Filters hold a page that need not escape any more until their owner makes them anew (escape.h).
 *
 * A page of a segment is what its dimension pages with (--guest-page, --host-page): what escapes, and
 * the most that one TLB entry covers, since the filter vouches for no more.
 *
 * Invariants (check()):
 *  (1) a page of the VMM's segment that need not escape is resident at base + gpa.
 *  (2) a page of a guest's segment that need not escape is mapped by the tables of its address space
 *      with every bit as the segment says.
 *  (3) a vCPU has the segment of the address space in its CR3.
 *  (4) escape filters lose no page (escape.h); the nested table is as ept.c says.
 */
#include <stdio.h>

#include "shadow_vs_ept/ept.h"
#include "shadow_vs_ept/escape.h"
#include "shadow_vs_ept/walk.h"

/* What the segment says of each page besides where it is. */
#define SEGMENT_LEAF (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D | PTE_NX)

/* The segment of an address space. */
struct space {
    struct space *next;
    gpa_t root;
    struct hw_segment seg;
    unsigned size; /* 0, 1, 2: of its pages */
    struct escape escape;
};

struct dseg {
    struct escape_hash hash;
    hpa_t base;           /* the VMM's segment: gpa 0 .. limit lies there */
    uint64_t limit;       /* 0: none */
    unsigned size;        /* 0, 1, 2: of its pages */
    struct escape escape; /* valid with limit */
    struct space *spaces;
    const struct space *cur[MAX_VCPUS]; /* by vCPU: NULL when its address space has none */
};

enum { FILTER_BITS, FILTER_HASHES, ESCAPE_PPM };
static const struct param params[] = {
    [FILTER_BITS] = {"filter_bits", 256, 8, 1ull << 30, "bits", "size of an escape filter"},
    [FILTER_HASHES] = {"filter_hashes", 4, 1, ESCAPE_MAX_HASHES, "functions",
                       "hash functions of an escape filter"},
    [ESCAPE_PPM] = {"escape_ppm", 0, 0, 1000000, "pages",
                    "pages of each segment that always escape, of a million"},
    {0}};

/* ---- hardware ---- */

/* A segment holds the page: does it translate it? */
ALWAYS_INLINE bool passes(struct mmu *m, const struct escape *e, uint64_t page,
                          const struct walk_log *log)
{
    enum escape_result r = escape_test(e, page);
    if (!log)
        m->c.v[CTR_seg_hits + r]++;
    return r == ESCAPE_NO || MUTANT(segment_escape_ignored);
}

/* gpa to hpa by the VMM's segment, else by the nested table (nested_fn). */
ALWAYS_INLINE bool by_vmm(struct mmu *m, gpa_t gpa, unsigned guest_level, struct walk *w,
                          struct nested *out, const enum pwc_kind pwc, const bool cached,
                          struct walk_log *log)
{
    const struct dseg *s = m->vm->state;
    if (gpa < s->limit && passes(m, &s->escape, gpa >> tlb_shift(s->size), log)) {
        *out = (struct nested){s->base + gpa, s->size, true, true};
        if (log)
            log->seg_vmm++;
        return true;
    }
    return walk_nested(m, gpa, guest_level, w, out, pwc, cached, log);
}

/* gva to gpa by the guest's segment, then on by `translate`. False: not in a segment. A segment whose
 * rights no entry could have now (NX without EFER.NXE) is none: the tables will fault. */
ALWAYS_INLINE bool by_guest(struct mmu *m, const struct access *a, struct walk *w,
                            nested_fn *const translate, const enum pwc_kind pwc, const bool cached,
                            struct walk_log *log)
{
    const struct space *c = ((const struct dseg *)m->vm->state)->cur[m->id];
    if (!c || a->va - c->seg.start >= c->seg.end - c->seg.start || !walk_present(m, SEGMENT_LEAF) ||
        !passes(m, &c->escape, a->va >> tlb_shift(c->size), log))
        return false;
    uint64_t page = c->seg.to + ((a->va - c->seg.start) & -(1ull << tlb_shift(c->size)));
    uint64_t leaf = page | SEGMENT_LEAF, rights = RIGHTS_ALL & walk_rights(leaf);
    walk_begin(w);
    if (log)
        log->seg_guest++;
    if (walk_accepts(m, w, a, SEGMENT_LEAF, 1, rights) &&
        walk_data(m, a, w, 1 + c->size, rights, leaf, translate, nested_mark, pwc, cached, log) &&
        w->refs == 0)
        w->flags |= TLB_L1_ONLY;
    return true;
}

ALWAYS_INLINE void walk_vmm(struct mmu *m, const struct access *a, struct walk *w,
                            const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    walk2d_over(m, a, w, m->vm->levels, by_vmm, nested_mark, pwc, cached, log);
}
WALK_VARIANTS(walk_vmm)

ALWAYS_INLINE void walk_guest(struct mmu *m, const struct access *a, struct walk *w,
                              const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    if (!by_guest(m, a, w, walk_nested, pwc, cached, log))
        walk2d(m, a, w, m->vm->levels, pwc, cached, log);
}
WALK_VARIANTS(walk_guest)

ALWAYS_INLINE void walk_dual(struct mmu *m, const struct access *a, struct walk *w,
                             const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    if (!by_guest(m, a, w, by_vmm, pwc, cached, log))
        walk2d_over(m, a, w, m->vm->levels, by_vmm, nested_mark, pwc, cached, log);
}
WALK_VARIANTS(walk_dual)

/* ---- life ---- */

static struct dseg *begin(struct mmu_vm *vm)
{
    struct dseg *s = vm->state = meta_calloc(META_PAGING, 1, sizeof *s);
    escape_hash_init(&s->hash, (unsigned)vm->param[FILTER_HASHES], vm->param[FILTER_BITS]);
    return s;
}

static int init_guest(struct mmu_vm *vm, char *err, size_t errlen)
{
    begin(vm);
    return ept_init(vm, err, errlen);
}

static int init_vmm(struct mmu_vm *vm, char *err, size_t errlen)
{
    if (gmem_reserve(vm->gm) != GMEM_OK) {
        snprintf(err, errlen, "%s: the host has no %llu consecutive free frames to reserve",
                 vm->paging->name, (unsigned long long)vm->gm->frames);
        return -1;
    }
    struct dseg *s = begin(vm);
    unsigned order = gmem_order(vm->gm, gfn(0));
    s->base = hfn_hpa(gmem_hfn(vm->gm, gfn(0)));
    s->limit = ALIGN_DOWN(vm->gm->frames, 1ull << order) << PAGE_SHIFT;
    s->size = order / 9;
    escape_init(&s->escape, &s->hash, 0, s->limit >> tlb_shift(s->size));
    escape_some(&s->escape, vm->param[ESCAPE_PPM]);
    return ept_init(vm, err, errlen);
}

static void drop_space(struct space *c)
{
    escape_fini(&c->escape);
    meta_free(META_PAGING, c);
}

static void fini(struct mmu_vm *vm)
{
    struct dseg *s = vm->state;
    if (s->limit)
        escape_fini(&s->escape);
    for (struct space *c = s->spaces, *next; c; c = next) {
        next = c->next;
        drop_space(c);
    }
    ept_fini(vm);
    meta_free(META_PAGING, s);
}

/* ---- guest events ---- */

/* The link to the address space of `root`; the last link when it has no segment. */
static struct space **find(struct dseg *s, gpa_t root)
{
    struct space **at = &s->spaces;
    while (*at && (*at)->root != root)
        at = &(*at)->next;
    return at;
}

static void guest_cr3(struct mmu *m, uint64_t cr3)
{
    struct dseg *s = m->vm->state;
    ept_guest_cr3(m, cr3);
    s->cur[m->id] = *find(s, m->guest_root);
}

static struct space *new_space(const struct mmu_vm *vm, gpa_t root, const struct hw_segment *seg)
{
    const struct dseg *s = vm->state;
    struct space *c = meta_calloc(META_PAGING, 1, sizeof *c);
    *c = (struct space){.root = root, .seg = *seg, .size = seg->order / 9};
    unsigned shift = tlb_shift(c->size);
    escape_init(&c->escape, &s->hash, seg->start >> shift, (seg->end - seg->start) >> shift);
    escape_some(&c->escape, vm->param[ESCAPE_PPM]);
    return c;
}

static void guest_segment(struct mmu_vm *vm, gpa_t root, const struct hw_segment *seg)
{
    struct dseg *s = vm->state;
    struct space **at = find(s, root), *old = *at;
    if (old) {
        *at = old->next;
        drop_space(old);
    }
    struct space *c = seg ? new_space(vm, root, seg) : NULL;
    if (c) {
        c->next = s->spaces;
        s->spaces = c;
    }
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (vm->vcpu[i]->guest_root == root)
            s->cur[i] = c;
}

static void guest_segment_escape(struct mmu_vm *vm, gpa_t root, gva_t va, uint64_t bytes, bool must)
{
    struct space *c = *find(vm->state, root);
    if (c)
        escape_set(&c->escape, va >> tlb_shift(c->size),
                   ((va + bytes - 1) >> tlb_shift(c->size)) + 1, must);
}

static void guest_touch(struct mmu *m, gfn_t g, bool write)
{
    const struct dseg *s = m->vm->state;
    gpa_t gpa = gfn_gpa(g);
    if (gpa >= s->limit || escape_test(&s->escape, gpa >> tlb_shift(s->size)) != ESCAPE_NO)
        ept_guest_touch(m, g, write);
}

static void guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    guest_touch(m, gpa_gfn(gpa), true);
    *(uint64_t *)gmem_ptr(m->vm->gm, gpa) = entry;
}

/* ---- host events ---- */

static void zap(struct mmu_vm *vm, gfn_t first, uint64_t n)
{
    struct dseg *s = vm->state;
    unsigned order = 9 * s->size;
    if (s->limit)
        escape_set(&s->escape, first.n >> order, ((first.n + n - 1) >> order) + 1, true);
    ept_zap(vm, first, n);
}

/* ---- checks ---- */

static const char *check_vmm(const struct mmu_vm *vm)
{
    const struct dseg *s = vm->state;
    for (uint64_t i = 0; i < s->limit >> PAGE_SHIFT; i++) {
        if (escape_must(&s->escape, i >> (9 * s->size)))
            continue;
        if (gmem_state(vm->gm, gfn(i)) != PG_RESIDENT ||
            hfn_hpa(gmem_hfn(vm->gm, gfn(i))) != s->base + (i << PAGE_SHIFT))
            return "dseg (1) a page of the VMM's segment is not where the segment says";
    }
    return s->limit ? escape_check(&s->escape) : NULL;
}

/* The guest's leaf for va in the tables at root, and its level; 0: there is none. */
static uint64_t leaf_of(const struct mmu_vm *vm, gpa_t root, gva_t va, unsigned *level)
{
    for (*level = vm->levels;; --*level) {
        gpa_t at = root + 8 * level_index(va, *level);
        if (!gmem_inside(vm->gm, gpa_gfn(at)) || gmem_state(vm->gm, gpa_gfn(at)) != PG_RESIDENT)
            return 0;
        uint64_t e = *(const uint64_t *)gmem_ptr(vm->gm, at);
        if (!(e & PTE_P) || pte_is_leaf(e, *level))
            return e;
        root = e & PTE_ADDR;
    }
}

static const char *check_space(const struct mmu_vm *vm, const struct space *c)
{
    uint64_t page = 1ull << tlb_shift(c->size);
    for (gva_t va = c->seg.start; va < c->seg.end; va += page) {
        unsigned level;
        uint64_t want = (c->seg.to + (va - c->seg.start)) | SEGMENT_LEAF | (c->size ? PTE_PS : 0);
        if (escape_must(&c->escape, va >> tlb_shift(c->size)))
            continue;
        if (leaf_of(vm, c->root, va, &level) != want || level != 1 + c->size)
            return "dseg (2) a page of a guest's segment is not mapped as the segment says";
    }
    return escape_check(&c->escape);
}

static const char *check(struct mmu_vm *vm)
{
    struct dseg *s = vm->state;
    const char *why = check_vmm(vm);
    for (const struct space *c = s->spaces; c && !why; c = c->next)
        why = check_space(vm, c);
    for (unsigned i = 0; i < vm->nvcpus && !why; i++)
        if (s->cur[i] != *find(s, vm->vcpu[i]->guest_root))
            why = "dseg (3) a vCPU has the segment of another address space";
    return why ? why : ept_check(vm);
}

/* Least mapping of a guest's segment unless --set guest.segment says: what ept would map with one large
 * entry is small for a segment. */
#define SEGMENT_BYTES (2ull << 20)

#define COMMON                                                                                  \
    .params = params, .fini = fini, .fix = ept_fix, .guest_cr3 = guest_cr3,                     \
    .guest_invlpg = mmu_flush_va, .guest_pt_write = guest_pt_write, .guest_touch = guest_touch, \
    .zap = zap, .table_bytes = ept_table_bytes,                                                 \
    .counters = COUNTERS(CTR_seg_hits, CTR_seg_escapes, CTR_seg_false_escapes), .check = check
#define GUEST                                                                     \
    .guest_segment = guest_segment, .guest_segment_escape = guest_segment_escape, \
    .guest_wants = {.segment_bytes = SEGMENT_BYTES}

REGISTER_AS(
    paging, dseg_vmm, "dseg-vmm",
    .summary = "direct segment for guest-physical addresses: walks of the guest's table alone",
    .init = init_vmm, .walk_for = walk_vmm_for, .explain = walk_vmm_explain, COMMON);
REGISTER_AS(
    paging, dseg_guest, "dseg-guest",
    .summary = "direct segment for a region of each process: walks of the nested table alone",
    .init = init_guest, .walk_for = walk_guest_for, .explain = walk_guest_explain, COMMON, GUEST);
REGISTER_AS(paging, dseg, "dseg",
            .summary = "direct segments in both dimensions: no table is read inside both",
            .init = init_vmm, .walk_for = walk_dual_for, .explain = walk_dual_explain, COMMON,
            GUEST);
