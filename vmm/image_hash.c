/* image_hash.c: the memory of an image's processes, read through their own page tables.
 *
 * The same pages in the same order as gk_for_each_page() (guest/proc.c): entries of the user half of
 * each root in address order; present leaves, and those a PROT_NONE mapping keeps. The tables are
 * the guest's, so they may hold anything: frames are checked, and a budget of tables and pages that
 * no kernel of ours exceeds ends a walk through tables that contain themselves.
 */
#include "base/pte.h"
#include "vmm/hash.h"
#include "vmm/image_vm.h"

struct walk_state {
    const struct backing *mem;
    struct memory_hash *hash;
    int pid;
    uint64_t tables, pages; /* that may still be read */
};

static bool hash_leaf(struct walk_state *w, uint64_t e, unsigned level, gva_t va)
{
    uint64_t n = 1ull << (9 * (level - 1)), at = e & PTE_ADDR;
    if (level > 3 || at + (n << PAGE_SHIFT) > w->mem->bytes || n > w->pages)
        return false;
    w->pages -= n;
    for (uint64_t i = 0; i < n; i++)
        memory_hash_page(w->hash, w->pid, va + (i << PAGE_SHIFT),
                         w->mem->mem + at + (i << PAGE_SHIFT));
    return true;
}

static bool hash_table(struct walk_state *w, gpa_t table, unsigned level, unsigned n, gva_t base)
{
    if (table + PAGE_SIZE > w->mem->bytes || w->tables == 0)
        return false;
    const uint64_t *entry = (const void *)(w->mem->mem + table);
    w->tables--;
    for (unsigned i = 0; i < n; i++) {
        uint64_t e = entry[i];
        gva_t va = base + ((uint64_t)i << level_shift(level));
        bool ok = true;
        if ((e & PTE_P) && !pte_is_leaf(e, level))
            ok = hash_table(w, e & PTE_ADDR, level - 1, 512, va);
        else if (e & (PTE_P | NB_PTE_KEPT))
            ok = hash_leaf(w, e, level, va);
        if (!ok)
            return false;
    }
    return true;
}

bool image_vm_hash(const struct image_vm *m, const struct nb_boot *copy, uint64_t *out)
{
    uint64_t frames = m->mem->bytes >> PAGE_SHIFT;
    struct walk_state w = {.mem = m->mem, .hash = memory_hash_new(), .tables = frames};
    bool ok = w.hash && copy->nprocs <= NB_MAX_PROCS;
    for (unsigned i = 0; ok && i < copy->nprocs; i++) {
        w.pid = (int)copy->procs[i].pid;
        w.pages = frames; /* a process of ours maps no frame twice */
        ok = !(copy->procs[i].root & PAGE_MASK) &&
             hash_table(&w, copy->procs[i].root, m->cfg->levels, 256, 0);
    }
    uint64_t digest = w.hash ? memory_hash_end(w.hash) : 0;
    if (ok)
        *out = digest;
    return ok;
}
