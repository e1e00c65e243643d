/* dmt_regs.c: the registers of DMT hardware. The design is in dmt_regs.h. */
#include "shadow_vs_ept/dmt_regs.h"

#include <string.h>

#include "base/base.h"

const struct param dmt_params[] = {
    {"registers", 16, 1, MAX_TEA_REGISTERS, "registers",
     "TEA registers of a vCPU; the largest areas have one (16 in the paper's prototype)"},
    {0},
};

unsigned dmt_tea_registers(const struct mmu_vm *vm) { return (unsigned)vm->param[0]; }

void dmt_init(struct dmt *d) { *d = (struct dmt){.suspect = false}; }

void dmt_fini(struct dmt *d)
{
    for (unsigned i = 0; i < MAX_VCPUS; i++)
        if (d->vcpu[i])
            meta_free(META_PAGING, d->vcpu[i]);
}

struct dmt_regs *dmt_load(struct dmt *d, const struct mmu *m, const struct tea *t, unsigned n)
{
    struct dmt_regs *r = d->vcpu[m->id];
    if (!r)
        r = d->vcpu[m->id] = meta_calloc(META_PAGING, 1, sizeof *r);
    r->root = m->guest_root;
    r->n = n;
    memcpy(r->tea, t, n * sizeof *t);
    memset(r->host, 0, n * sizeof *r->host);
    return r;
}

void dmt_load_root(struct dmt *d, const struct mmu *m, gpa_t root)
{
    struct dmt_regs *r = d->vcpu[m->id];
    if (r && r->root != root)
        r->n = 0;
}

static bool in_area(const struct dmt_regs *r, gpa_t a)
{
    for (unsigned i = 0; r && i < r->n; i++)
        if (a - r->tea[i].table < tea_frames(&r->tea[i]) << PAGE_SHIFT)
            return true;
    return false;
}

/* As a link, the entry would restrict what is below it. */
static bool restricts(uint64_t e)
{
    return (e & PTE_P) && (e & (PTE_W | PTE_U | PTE_NX | PTE_PS)) != (PTE_W | PTE_U);
}

void dmt_note_write(struct dmt *d, const struct mmu *m, gpa_t gpa, uint64_t old, uint64_t entry)
{
    if (!d->suspect && ((old & PTE_P) || restricts(entry)))
        d->suspect = !in_area(d->vcpu[m->id], gpa);
}

bool dmt_confirmed(const struct mmu *m, gpa_t root, const struct tea *t, gva_t va)
{
    const struct gmem *gm = m->vm->gm;
    gpa_t table = root;
    for (unsigned l = m->vm->levels; l > t->level; l--) {
        if (!gmem_inside(gm, gpa_gfn(table)) || gmem_state(gm, gpa_gfn(table)) != PG_RESIDENT)
            return false;
        uint64_t e = *(const uint64_t *)gmem_ptr(gm, table + 8 * level_index(va, l));
        if (!(e & PTE_P) || restricts(e))
            return false;
        table = e & PTE_ADDR;
    }
    return table == (tea_entry(t, va) & ~PAGE_MASK);
}

const char *dmt_check(const struct dmt *d, const struct mmu_vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        const struct dmt_regs *r = d->vcpu[i];
        for (unsigned k = 0; r && k < r->n; k++) {
            const struct tea *t = &r->tea[k];
            if (t->start >= t->end || t->level < 1 || t->level > 3 || (t->table & PAGE_MASK))
                return "dmt (1) a register describes no area";
            if ((t->table >> PAGE_SHIFT) + tea_frames(t) > vm->gm->frames)
                return "dmt (1) a register's area leaves guest memory";
        }
    }
    return NULL;
}
