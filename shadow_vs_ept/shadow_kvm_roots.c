/* shadow_kvm_roots.c: a vCPU's roots: the one in use, the three before it, and what makes them current.
 *
 * A root is found again by the CR3 it was loaded with. All of a vCPU's have the role of its control
 * registers: others let go of them.
 */
#include "shadow_vs_ept/shadow_kvm.h"

static void put(struct kmmu *k, struct kroot *r)
{
    struct kpage *p = r->page;
    r->page = NULL;
    if (p)
        kmmu_put_root(k, p);
}

static bool usable(const struct kroot *r, uint64_t cr3)
{
    return r->page && !r->page->invalid && r->cr3 == cr3;
}

static void swap(struct kroot *a, struct kroot *b)
{
    struct kroot t = *a;
    *a = *b;
    *b = t;
}

unsigned kmmu_role(const struct mmu_control *c)
{
    unsigned role = ACC_ALL | (c->nxe ? ROLE_NX : 0);
    if (c->wp)
        return role | ROLE_WP;
    return role | (c->smep ? ROLE_SMEP_NOT_WP : 0) | (c->smap ? ROLE_SMAP_NOT_WP : 0);
}

bool kmmu_switch_root(struct kmmu *k, struct kvcpu *v, uint64_t cr3)
{
    if (v->cur.page) {
        for (unsigned i = 0; i < KMMU_PREV_ROOTS; i++) { /* what was current becomes the latest */
            swap(&v->cur, &v->prev[i]);
            if (usable(&v->cur, cr3))
                return true;
        }
        put(k, &v->cur);
        return false;
    }
    for (unsigned i = 0; i < KMMU_PREV_ROOTS; i++) {
        if (!usable(&v->prev[i], cr3))
            continue;
        swap(&v->cur, &v->prev[i]);
        for (; i + 1 < KMMU_PREV_ROOTS; i++)
            swap(&v->prev[i], &v->prev[i + 1]);
        return true;
    }
    return false;
}

static void let_go(struct kmmu *k, unsigned id)
{
    struct kvcpu *v = &k->vcpu[id];
    for (unsigned i = 0; i < KMMU_PREV_ROOTS; i++)
        if (v->prev[i].page && v->prev[i].page->invalid)
            put(k, &v->prev[i]);
    if (v->cur.page && v->cur.page->invalid) {
        put(k, &v->cur);
        k->vm->vcpu[id]->root = 0;
    }
}

void kmmu_let_go(struct kmmu *k)
{
    for (unsigned i = 0; i < k->vm->nvcpus; i++)
        let_go(k, i);
    k->obsolete = false;
}

void kmmu_drop_roots(struct kmmu *k, struct kvcpu *v)
{
    put(k, &v->cur);
    for (unsigned i = 0; i < KMMU_PREV_ROOTS; i++)
        put(k, &v->prev[i]);
}

void kmmu_invalidate(struct mmu *m, unsigned pcid)
{
    struct kmmu *k = m->vm->state;
    struct kvcpu *v = kmmu_vcpu(m);
    if (v->cur.page && (v->cr3 & CR3_PCID) == pcid)
        kmmu_sync_below(k, v->cur.page);
    for (unsigned i = 0; i < KMMU_PREV_ROOTS && m->vm->cpu->pcid; i++)
        if (v->prev[i].page && (v->prev[i].cr3 & CR3_PCID) == pcid)
            put(k, &v->prev[i]);
}

void kmmu_sync_roots(struct mmu *m)
{
    struct kmmu *k = m->vm->state;
    struct kvcpu *v = kmmu_vcpu(m);
    if (v->cur.page)
        kmmu_sync_below(k, v->cur.page);
    for (unsigned i = 0; i < KMMU_PREV_ROOTS; i++)
        if (v->prev[i].page)
            kmmu_sync_below(k, v->prev[i].page);
}

void kmmu_invalidate_va(struct mmu *m, gva_t va, int pcid)
{
    struct kmmu *k = m->vm->state;
    struct kvcpu *v = kmmu_vcpu(m);
    if (pcid == KMMU_ANY_PCID || (int)(v->cr3 & CR3_PCID) == pcid)
        kmmu_invlpg(k, v->cur.page, va);
    for (unsigned i = 0; i < KMMU_PREV_ROOTS; i++)
        if (pcid == KMMU_ANY_PCID || (int)(v->prev[i].cr3 & CR3_PCID) == pcid)
            kmmu_invlpg(k, v->prev[i].page, va);
}
