/* ecpt.c: nested elastic cuckoo page tables (Stojkovic et al., ASPLOS 2022; native ones: Skarlatos et
 * al., ASPLOS 2020).
 *
 * Both dimensions are hashed: a table per page size, each of d ways (ecpt_table.h). All places an entry
 * may be at are known from the address alone, so they are read at once, and a walk has three steps
 * however deep radix tables would be (labels of `nestbed walk`: G1H1, G1, UDH1, here with the levels
 * of the pages):
 *
 *   1  host entries of every place of the guest's entry   3 sizes x d guest places x 3 sizes x d
 *   2  the guest's entry                                  3 sizes x d
 *   3  the host's entry of the page                       3 sizes x d
 *
 * walk_refs counts the steps: what is read one after the other. walk_probes counts the places read:
 * 81 + 9 + 9 with 3 ways. The time of a step is that of its slowest probe, so the counters pt_* have
 * that one of each step, though every probe goes through the modelled data caches, and fills them.
 * This is the plain design: the paper's cuckoo walk tables and caches, which prune probes, and its
 * shortcut cache are not here. Walk caches of radix tables play no part.
 *
 * The guest's tables. A guest for this hardware would keep hashed tables; the guest here keeps radix
 * ones, and the strategy mirrors them: an entry enters the mirror when a walk first needs it, is
 * dropped when the kernel writes it, and carries the rights gathered over the levels. Radix tables
 * stay the truth; each walk compares (uncharged). A and D bits go to both. The mirror stands for the
 * guest's own stores, so it costs no exit. Its arrays lie at guest-physical addresses above the
 * guest's memory, in frames of their own, which the host maps with 4 KiB pages; no guest entry may
 * lead there. One set of tables serves all processes (the paper: one each), a number in the tag
 * telling them apart: a walk probes as many places.
 *
 * Exits are those of ept: the first touch of a guest frame.
 *
 * Invariants (check()):
 *  (1) a host entry maps a block of gmem, with its size, or a frame of the mirror.
 *  (2) a guest entry is what the radix tables of its process say of that address, A and D included.
 *      It holds while a guest's tables are written by its kernel alone: a program that has its own
 *      tables mapped changes them unseen, and then only the comparison of each walk stands.
 *  (3) the tables' own (ecpt_table.h); table_frames is their sum.
 */
#include <stdio.h>

#include "shadow_vs_ept/ecpt_table.h"
#include "shadow_vs_ept/ept.h"
#include "shadow_vs_ept/guest_walk.h"
#include "shadow_vs_ept/walk.h"

enum { SIZES = 3, MAX_SPACES = 4095 };

static const struct param params[] = {
    {"ways", 3, 3, ECT_MAX_WAYS, "ways", "ways of each hashed table (the papers: 3)"},
    {0},
};

/* Where a guest table was when a walk last found a leaf in it. */
#define ROLE(base, level, space) ((base) | (uint64_t)(level) << 12 | (space))
#define ROLE_SPACE(r) ((r)&0xfff) /* 0: none */
#define ROLE_LEVEL(r) ((unsigned)((r) >> 12 & 3))
#define ROLE_BASE(r) ((r) & ~0xffffull)

struct state {
    struct ect host[SIZES], guest[SIZES]; /* by page size */
    gpa_t window;                         /* next address for an array of the mirror */
    uint64_t *role;                       /* per gfn */
    uint64_t nspaces;
    gpa_t root[MAX_SPACES + 1]; /* of each space; 0 is unused */
    unsigned space[MAX_VCPUS];  /* of each vCPU */
};

/* ---- the mirror's arrays in guest-physical memory ---- */

static gpa_t appear(struct mmu_vm *vm, hpa_t hpa, uint64_t frames)
{
    struct state *s = vm->state;
    gpa_t gpa = s->window;
    s->window += frames << PAGE_SHIFT;
    for (uint64_t i = 0; i < frames; i++)
        ect_set(&s->host[0], 0, gpa_gfn(gpa).n + i,
                (hpa + (i << PAGE_SHIFT)) | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D);
    return gpa;
}

static void vanish(struct mmu_vm *vm, gpa_t gpa, uint64_t frames)
{
    struct state *s = vm->state;
    for (uint64_t i = 0; i < frames; i++)
        ect_clear(&s->host[0], 0, gpa_gfn(gpa).n + i);
}

static int init(struct mmu_vm *vm, char *err, size_t errlen)
{
    struct state *s = vm->state = meta_calloc(META_PAGING, 1, sizeof *s);
    (void)err, (void)errlen;
    s->window = ALIGN_UP(vm->gm->frames << PAGE_SHIFT, 1ull << SHIFT_1G);
    s->role = meta_calloc(META_PAGING, vm->gm->frames, sizeof *s->role);
    for (unsigned i = 0; i < SIZES; i++)
        ect_init(&s->host[i], vm, (unsigned)vm->param[0]);
    for (unsigned i = 0; i < SIZES; i++) {
        s->guest[i] = (struct ect){.appear = appear, .vanish = vanish};
        ect_init(&s->guest[i], vm, (unsigned)vm->param[0]);
    }
    return 0;
}

static void fini(struct mmu_vm *vm)
{
    struct state *s = vm->state;
    for (unsigned i = 0; i < SIZES; i++)
        ect_fini(&s->guest[i]);
    for (unsigned i = 0; i < SIZES; i++)
        ect_fini(&s->host[i]);
    meta_free(META_PAGING, s->role);
    meta_free(META_PAGING, s);
}

/* ---- mirroring ---- */

static uint64_t page_number(gva_t va, unsigned size) { return (va << 7 >> 7) >> tlb_shift(size); }

/* The number of this address space; all are forgotten when there are too many. */
static unsigned space_of(struct state *s, gpa_t root)
{
    for (unsigned i = 1; i <= s->nspaces; i++)
        if (s->root[i] == root)
            return i;
    if (s->nspaces == MAX_SPACES) {
        for (unsigned i = 0; i < SIZES; i++)
            ect_reset(&s->guest[i]);
        s->nspaces = 0;
        memset(s->space, 0, sizeof s->space);
    }
    s->root[++s->nspaces] = root;
    return (unsigned)s->nspaces;
}

/* What a hashed table would hold: the leaf, with the rights of all levels. */
static uint64_t mirrored(const struct guest_walk *g)
{
    return (g->entry[g->leaf] & ~(PTE_W | PTE_U | PTE_NX)) | (g->rights & (PTE_W | PTE_U)) |
           (g->rights & PTE_NX ? 0 : PTE_NX);
}

/* The mirror holds what the walk g found. */
static void mirror(struct mmu *m, gva_t va, const struct guest_walk *g)
{
    struct state *s = m->vm->state;
    unsigned size = g->leaf - 1;
    if (!s->space[m->id])
        s->space[m->id] = space_of(s, m->guest_root);
    uint64_t space = s->space[m->id], n = page_number(va, size), want = mirrored(g);
    const uint64_t *have = ect_find(&s->guest[size], space, n);
    if (!have || ((*have ^ want) & ~(0x7full << 52)))
        ect_set(&s->guest[size], space, n, want);
    gva_t base = va & ~((1ull << level_shift(g->leaf + 1)) - 1);
    s->role[guest_walk_table(m, g, g->leaf).n] = ROLE(base, g->leaf, space);
}

/* ---- walks ---- */

/* One probe: through the caches where they are modelled; the slowest of a step in *slowest. */
ALWAYS_INLINE void probe(struct mmu *m, hpa_t a, const bool cached, unsigned *slowest)
{
    m->c.walk_probes++;
    if (cached) {
        unsigned level = cache_access(m, a);
        *slowest = level > *slowest ? level : *slowest;
    }
}

/* A step is over. */
ALWAYS_INLINE void step(struct mmu *m, struct walk *w, const bool cached, unsigned slowest,
                        bool nested)
{
    w->refs++;
    w->reads++;
    w->refs_nested += nested;
    if (cached)
        m->c.v[CTR_pt_l1_hits + slowest]++;
}

/* Probe the host's tables for gpa. */
ALWAYS_INLINE void probe_host(struct mmu *m, const struct state *s, gpa_t gpa, const bool cached,
                              unsigned *slowest)
{
    unsigned ways = s->host[0].ways;
    if (!cached) {
        m->c.walk_probes += SIZES * ways;
        return;
    }
    for (unsigned i = 0; i < SIZES; i++)
        for (unsigned k = 0; k < ways; k++)
            probe(m, ect_probe(&s->host[i], ect_tag(0, gpa >> tlb_shift(i)), k).hpa, cached,
                  slowest);
}

/* The host's entry for gpa, and its page size; NULL: none. */
static uint64_t *host_entry(const struct state *s, gpa_t gpa, unsigned *size)
{
    for (*size = 0; *size < SIZES; ++*size) {
        uint64_t *e = ect_find(&s->host[*size], 0, gpa >> tlb_shift(*size));
        if (e)
            return e;
    }
    return NULL;
}

/* One step: the entry it found, of the `probes` places it read. */
static void note(struct mmu *m, struct walk_log *log, enum walk_dim dim, unsigned level,
                 unsigned guest_level, gpa_t gpa, const uint64_t *e, unsigned probes)
{
    hpa_t at = (hpa_t)((const unsigned char *)e - m->pool);
    walk_note(log, dim, level, guest_level, gpa, at, *e & ~(0x7full << 52));
    log->step[log->n - 1].probes = probes;
}

/* nested_fn: step 3. */
ALWAYS_INLINE bool host_nested(struct mmu *m, gpa_t gpa, unsigned guest_level, struct walk *w,
                               struct nested *out, const enum pwc_kind pwc, const bool cached,
                               struct walk_log *log)
{
    const struct state *s = m->vm->state;
    unsigned slowest = 0, size;
    (void)pwc;
    probe_host(m, s, gpa, cached, &slowest);
    step(m, w, cached, slowest, true);
    uint64_t *e = gpa_gfn(gpa).n < m->vm->gm->frames ? host_entry(s, gpa, &size) : NULL;
    if (unlikely(!e))
        return walk_nested_fault(w, gpa);
    if (log)
        note(m, log, DIM_NESTED, size + 1, guest_level, gpa, e, SIZES * s->host[0].ways);
    *e |= PTE_A;
    *out = (struct nested){pte_leaf_addr(*e, size + 1) + (gpa & ((1ull << tlb_shift(size)) - 1)),
                           size, *e & PTE_W, *e & PTE_D};
    return true;
}

static void host_mark(struct mmu *m, gpa_t gpa, bool dirty)
{
    unsigned size;
    uint64_t *e = host_entry(m->vm->state, gpa, &size);
    if (e)
        *e |= dirty ? PTE_A | PTE_D : PTE_A;
}

/* Steps 1 and 2: all places of the guest's entry. */
ALWAYS_INLINE void guest_steps(struct mmu *m, gva_t va, struct walk *w, const bool cached)
{
    const struct state *s = m->vm->state;
    unsigned ways = s->guest[0].ways, slowest = 0;
    if (!cached)
        m->c.walk_probes += SIZES * ways * (SIZES * ways + 1);
    for (unsigned pass = 0; cached && pass < 2; pass++, slowest = 0) {
        for (unsigned i = 0; i < SIZES; i++)
            for (unsigned k = 0; k < ways; k++) {
                struct ect_region at =
                    ect_probe(&s->guest[i], ect_tag(s->space[m->id], page_number(va, i)), k);
                if (pass == 0)
                    probe_host(m, s, at.gpa, cached, &slowest);
                else
                    probe(m, at.hpa, cached, &slowest);
            }
        step(m, w, cached, slowest, pass == 0);
    }
    if (!cached) {
        step(m, w, cached, 0, true);
        step(m, w, cached, 0, false);
    }
}

/* The entries of steps 1 and 2, into the log. */
static void note_guest(struct mmu *m, gva_t va, const struct guest_walk *g, struct walk_log *log)
{
    const struct state *s = m->vm->state;
    unsigned size = g->leaf - 1, host_size, places = SIZES * s->guest[0].ways;
    uint64_t tag = ect_tag(s->space[m->id], page_number(va, size));
    const uint64_t *e = ect_find(&s->guest[size], s->space[m->id], page_number(va, size));
    hpa_t at = (hpa_t)((const unsigned char *)e - m->pool);
    gpa_t gpa = 0;
    for (unsigned k = 0; k < s->guest[size].ways; k++) {
        struct ect_region r = ect_probe(&s->guest[size], tag, k);
        if (at - r.hpa < 64)
            gpa = r.gpa + (at - r.hpa);
    }
    note(m, log, DIM_NESTED, 1, g->leaf, gpa, host_entry(s, gpa, &host_size),
         places * SIZES * s->host[0].ways);
    note(m, log, DIM_GUEST, g->leaf, g->leaf, gpa, e, places);
}

ALWAYS_INLINE void walk(struct mmu *m, const struct access *a, struct walk *w,
                        const enum pwc_kind pwc, const bool cached, struct walk_log *log)
{
    struct guest_walk g;
    walk_begin(w);
    if (unlikely(!canonical(a->va, m->vm->levels))) {
        walk_fault(m, w, a, FAULT_GP);
        return;
    }
    bool granted = guest_walk(m, a, &g);
    if (granted)
        mirror(m, a->va, &g);
    guest_steps(m, a->va, w, cached);
    if (unlikely(!granted)) {
        w->status = WALK_GUEST_FAULT;
        w->error = g.error;
        return;
    }
    if (log)
        note_guest(m, a->va, &g, log);
    if (!walk_data(m, a, w, g.leaf, g.rights, g.entry[g.leaf], host_nested, host_mark, pwc, cached,
                   log))
        return;
    uint64_t all = PTE_A;
    for (unsigned l = g.leaf; l <= m->vm->levels; l++)
        all &= g.entry[l];
    if (unlikely(!all || (a->store && !(g.entry[g.leaf] & PTE_D)))) {
        guest_walk_mark(m, &g, a->store);
        mirror(m, a->va, &g);
    }
}
WALK_VARIANTS(walk)

/* ---- upkeep ---- */

static void map(struct mmu_vm *vm, gpa_t gpa)
{
    struct state *s = vm->state;
    unsigned order = gmem_order(vm->gm, gpa_gfn(gpa)), size = order / 9;
    uint64_t first = gpa_gfn(gpa).n & ~((1ull << order) - 1);
    ect_set(&s->host[size], 0, first >> order,
            hfn_hpa(gmem_hfn(vm->gm, gfn(first))) | PTE_P | PTE_W | PTE_U | (size ? PTE_PS : 0));
}

static bool violation(struct mmu *m, gpa_t gpa) { return ept_violation_by(m, gpa, map); }

static enum fix_result fix(struct mmu *m, const struct access *a, struct walk *w)
{
    return violation(m, w->gpa) ? FIX_RETRY : ept_reflect(m, a, w);
}

static void guest_cr3(struct mmu *m, uint64_t cr3)
{
    struct state *s = m->vm->state;
    m->guest_root = cr3 & PTE_ADDR;
    s->space[m->id] = space_of(s, m->guest_root);
    mmu_load_tag(m, cr3);
}

static void guest_touch(struct mmu *m, gfn_t g, bool write)
{
    unsigned size;
    if (host_entry(m->vm->state, gfn_gpa(g), &size) || violation(m, gfn_gpa(g)))
        host_mark(m, gfn_gpa(g), write);
}

/* The entry leaves the mirror; a walk will bring the new one. */
static void guest_pt_write(struct mmu *m, gpa_t gpa, uint64_t entry)
{
    struct state *s = m->vm->state;
    guest_touch(m, gpa_gfn(gpa), true);
    *(uint64_t *)gmem_ptr(m->vm->gm, gpa) = entry;
    uint64_t role = s->role[gpa_gfn(gpa).n];
    unsigned level = ROLE_LEVEL(role);
    if (ROLE_SPACE(role))
        ect_clear(&s->guest[level - 1], ROLE_SPACE(role),
                  page_number(ROLE_BASE(role) + ((gpa & PAGE_MASK) / 8 << level_shift(level)),
                              level - 1));
}

/* gmem zaps whole blocks, while it still has them. */
static void zap(struct mmu_vm *vm, gfn_t first, uint64_t n)
{
    struct state *s = vm->state;
    for (uint64_t i = first.n, order; i < first.n + n; i += 1ull << order) {
        order = gmem_order(vm->gm, gfn(i));
        ect_clear(&s->host[order / 9], 0, i >> order);
    }
    mmu_vm_flush_all(vm);
}

static uint64_t frames_of(const struct ect *t) { return t[0].frames + t[1].frames + t[2].frames; }

static void table_bytes(const struct mmu_vm *vm, uint64_t *shadow, uint64_t *nested)
{
    const struct state *s = vm->state;
    *shadow = 0;
    *nested = frames_of(s->host) << PAGE_SHIFT;
}

static void count(const struct mmu_vm *vm, struct counters *c)
{
    const struct state *s = vm->state;
    c->guest_ecpt_bytes = frames_of(s->guest) << PAGE_SHIFT;
}

/* ---- checks ---- */

struct checking {
    struct mmu_vm *vm;
    unsigned size;
};

static const char *check_host(void *ctx, uint64_t space, uint64_t n, uint64_t e)
{
    const struct checking *c = ctx;
    const struct gmem *gm = c->vm->gm;
    uint64_t g = n << 9 * c->size;
    if (space)
        return "ecpt (1) a host entry of some process";
    if (g >= gm->frames) /* the mirror's */
        return c->size ? "ecpt (1) a large page beyond guest memory" : NULL;
    if (gmem_state(gm, gfn(g)) != PG_RESIDENT || gmem_order(gm, gfn(g)) != 9 * c->size ||
        hfn_hpa(gmem_hfn(gm, gfn(g))) != pte_leaf_addr(e, c->size + 1))
        return "ecpt (1) a host entry does not map gmem's block";
    return NULL;
}

static const char *check_guest(void *ctx, uint64_t space, uint64_t n, uint64_t e)
{
    const struct checking *c = ctx;
    const struct state *s = c->vm->state;
    struct mmu any = *c->vm->vcpu[0]; /* as a supervisor that may all, in that address space */
    struct guest_walk g;
    struct access a = {.va = (gva_t)((int64_t)(n << tlb_shift(c->size) << 7) >> 7),
                       .supervisor = true,
                       .ac = true};
    any.guest_root = s->root[space];
    if (!canonical(a.va, c->vm->levels)) /* 48 bits of address, kept as 57 */
        return "ecpt (2) a guest entry for no address";
    if (!guest_walk(&any, &a, &g) || g.leaf != c->size + 1)
        return "ecpt (2) a guest entry that the radix tables do not have";
    return ((mirrored(&g) ^ e) & ~(0x7full << 52)) ? "ecpt (2) a guest entry is out of date" : NULL;
}

static const char *check(struct mmu_vm *vm)
{
    const struct state *s = vm->state;
    const char *why = frames_of(s->host) + frames_of(s->guest) == vm->table_frames
                          ? NULL
                          : "ecpt (3) table_frames is wrong";
    for (unsigned i = 0; i < SIZES && !why; i++) {
        struct checking c = {vm, i};
        why = ect_check(&s->host[i]);
        if (!why)
            why = ect_check(&s->guest[i]);
        if (!why)
            why = ect_each(&s->host[i], check_host, &c);
        if (!why)
            why = ect_each(&s->guest[i], check_guest, &c);
    }
    return why;
}

REGISTER(paging, ecpt, .summary = "nested elastic cuckoo tables: three steps of parallel probes",
         .params = params, .init = init, .fini = fini, .walk_for = walk_for,
         .explain = walk_explain, .fix = fix, .guest_cr3 = guest_cr3, .guest_invlpg = mmu_flush_va,
         .guest_pt_write = guest_pt_write, .guest_touch = guest_touch, .zap = zap,
         .table_bytes = table_bytes, .counters = COUNTERS(CTR_walk_probes, CTR_guest_ecpt_bytes),
         .count = count, .no_levels = true, .no_host_levels = true, .check = check);
