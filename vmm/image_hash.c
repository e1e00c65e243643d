/* image_hash.c: the memory of an image's processes, read through their own page tables, and the leaf
 * entries of these.
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
    struct memory_hash *memory, *leaves;
    int pid;
    uint64_t tables, pages; /* that may still be read */
};

static bool hash_leaf(struct walk_state *w, uint64_t e, unsigned level, gva_t va)
{
    unsigned order = 9 * (level - 1);
    uint64_t n = 1ull << order, at = e & PTE_ADDR;
    if (level > 3 || at > w->mem->bytes || n << PAGE_SHIFT > w->mem->bytes - at || n > w->pages)
        return false;
    w->pages -= n;
    memory_hash_leaf(w->leaves, w->pid, va, order, e);
    for (uint64_t i = 0; i < n; i++)
        memory_hash_page(w->memory, w->pid, va + (i << PAGE_SHIFT),
                         w->mem->mem + at + (i << PAGE_SHIFT));
    return true;
}

static bool hash_table(struct walk_state *w, gpa_t table, unsigned level, unsigned n, gva_t base)
{
    if (table > w->mem->bytes - PAGE_SIZE || w->tables == 0)
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

static uint64_t end(struct memory_hash *h) { return h ? memory_hash_end(h) : 0; }

bool image_vm_hash(const struct image_vm *m, const struct nb_boot *copy, uint64_t *memory,
                   uint64_t *tables)
{
    uint64_t frames = m->mem->bytes >> PAGE_SHIFT;
    struct walk_state w = {
        .mem = m->mem, .memory = memory_hash_new(), .leaves = memory_hash_new(), .tables = frames};
    bool ok = w.memory && w.leaves && copy->nprocs <= NB_MAX_PROCS;
    for (unsigned i = 0; ok && i < copy->nprocs; i++) {
        w.pid = (int)copy->procs[i].pid;
        w.pages = frames; /* a process of ours maps no frame twice */
        ok = !(copy->procs[i].root & PAGE_MASK) &&
             hash_table(&w, copy->procs[i].root, m->cfg->levels, 256, 0);
    }
    uint64_t hashes[] = {end(w.memory), end(w.leaves)};
    if (ok)
        *memory = hashes[0];
    if (ok && tables)
        *tables = hashes[1];
    return ok;
}
