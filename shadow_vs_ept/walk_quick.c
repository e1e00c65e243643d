/* walk_quick.c: the part of walk_quick.h that is seldom needed. */
#include "shadow_vs_ept/walk_quick.h"

const unsigned char *quick_nested_table(struct mmu *m, gpa_t gpa)
{
    const uint64_t usual = PTE_P | PTE_W | PTE_A;
    const unsigned char *table = m->pool + m->root;
    for (unsigned level = 4; level > 1; level--) {
        uint64_t e = quick_entry(table, gpa, level);
        if ((e & (usual | PTE_PS)) != usual)
            return m->pool;
        table = m->pool + (e & PTE_ADDR);
    }
    const uint64_t region = gpa >> SHIFT_2M;
    m->hint[region % MMU_HINTS] = (struct mmu_hint){region, table};
    return table;
}
