/* agile_modes.c: agile paging: which part of the guest's tables is in which mode: the policy at the head of
 * agile.c, and the nested table, which must keep stores from those in shadow mode.
 */
#include "shadow_vs_ept/agile.h"

void agile_list_put(struct list *l, gfn_t g)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        l->gfn = meta_realloc(META_PAGING, l->gfn, l->cap * sizeof *l->gfn);
    }
    l->gfn[l->n++] = (uint32_t)g.n;
}

/* ---- the nested table ---- */

bool agile_protect(struct mmu_vm *vm, gfn_t g, bool shadowed)
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
            agile_protect(vm, gfn(g), true);
        }
}

void agile_map(struct mmu_vm *vm, gfn_t f)
{
    unsigned level;
    if (ept_leaf(vm, gfn_gpa(f), &level))
        return;
    ept_map(vm, gfn_gpa(f));
    protect_block(vm, f);
}

void agile_back(struct mmu *m, gfn_t f)
{
    if (gmem_fault(m->vm->gm, f) == GMEM_NO_FRAMES)
        m->vm->ops->no_frames(m->vm->ctx);
    agile_map(m->vm, f);
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

/* The split may end the VM: first. */
struct sp *agile_table_page(struct mmu *m, gfn_t t, unsigned level)
{
    if (agile_state(m->vm)->flags[t.n] & F_NESTED) {
        agile_back(m, t);
        return NULL;
    }
    if (!spt_shadowed(m->vm->spt, t))
        ept_split(m->vm, gfn_gpa(t));
    return spt_get(m->vm->spt, t, level);
}

struct sp *agile_root_page(struct mmu *m)
{
    gfn_t r = gpa_gfn(m->guest_root);
    struct sp *p = NULL;
    if (!gmem_inside(m->vm->gm, r))
        m->sptr = 0;
    else if (agile_state(m->vm)->flags[r.n] & F_FULL)
        m->sptr = SPTE_SWITCH;
    else {
        p = agile_table_page(m, r, m->vm->levels);
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
    struct agile *s = agile_state(m->vm);
    s->flags[t.n] |= F_NESTED;
    s->top[t.n] = (uint8_t)level;
    agile_list_put(&s->nested, t);
    spt_nest(m->vm->spt, t);
    for (unsigned i = 0; i < m->vm->nvcpus; i++)
        if (is_root(m->vm->vcpu[i], t) && !m->vm->vcpu[i]->sptr)
            agile_root_page(m->vm->vcpu[i]);
    m->c.mode_switches++;
    mmu_note(m, "switch_to_nested", gfn_gpa(t), level);
}

bool agile_count_write(struct mmu *m, gfn_t t)
{
    struct agile *s = agile_state(m->vm);
    if (!s->writes[t.n]++)
        agile_list_put(&s->written, t);
    if (s->writes[t.n] < m->vm->param[P_WRITES])
        return false;
    agile_back(m, t);
    nest(m, t, top_level(m->vm, t));
    return true;
}

void agile_written(struct mmu *m, gfn_t t)
{
    if (!agile_count_write(m, t))
        spt_drop_gfn(m->vm->spt, t);
}

/* ---- the end of an interval ---- */

/* A table at `level`, under a part that stays nested or in shadow mode. What is written in shadow mode
 * becomes the top of a nested part. Each table is visited once per level and mode, whatever loops a guest
 * has made of them. */
static void scan_table(struct mmu *m, gfn_t t, unsigned level, bool under)
{
    struct mmu_vm *vm = m->vm;
    struct agile *s = agile_state(vm);
    uint16_t bit = (uint16_t)(1u << level << (under ? 0 : 8));
    if (!gmem_inside(vm->gm, t) || gmem_state(vm->gm, t) != PG_RESIDENT || (s->seen[t.n] & bit))
        return;
    if (!s->seen[t.n]) {
        agile_list_put(&s->visited, t);
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
    struct agile *s = agile_state(vm);
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
    struct agile *s = agile_state(m->vm);
    struct list old = s->nested;
    s->nested = (struct list){0};
    bool moved = false;
    for (uint32_t i = 0; i < old.n; i++) {
        gfn_t t = gfn(old.gfn[i]);
        if (gmem_state(m->vm->gm, t) == PG_RESIDENT && take_dirty(m->vm, t, false))
            agile_list_put(&s->nested, t);
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
    struct agile *s = agile_state(m->vm);
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

void agile_interval_end(struct mmu *m)
{
    struct agile *s = agile_state(m->vm);
    mmu_exit(m, CTR_exit_intr, 0);
    if (s->nested.n)
        scan(m);
    age_roots(m);
    for (uint32_t i = 0; i < s->written.n; i++)
        s->writes[s->written.gfn[i]] = 0;
    s->written.n = 0;
    timer_restart(&s->timer);
}
