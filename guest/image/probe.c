/* probe.c: what probes measure in ring 0, and what their ring 3 cannot prepare by itself.
 *
 * A loop is a few instructions of assembler, the same with and without its event, so that on a KVM
 * which emulates ring 0 one by one the difference is the event alone. Entries are changed by plain
 * stores, not by hw_pt_write(): probes are no part of what a workload counts. Whatever a probe
 * changes about a mapping is as before when its program ends.
 */
#include "guest/image/probe.h"

#include "guest/image/image.h"

/* n times `both`, and `event` unless `empty`. %[n] is the counter; neither may change it. */
#define LOOP(n, empty, both, event, ...)                                    \
    do {                                                                    \
        uint64_t left_ = (n);                                               \
        if (empty)                                                          \
            __asm__ volatile("1: " both " decq %[n]; jnz 1b"                \
                             : [n] "+r"(left_)                              \
                             : __VA_ARGS__                                  \
                             : "rax", "rbx", "rcx", "rdx", "memory", "cc"); \
        else                                                                \
            __asm__ volatile("1: " both " " event " decq %[n]; jnz 1b"      \
                             : [n] "+r"(left_)                              \
                             : __VA_ARGS__                                  \
                             : "rax", "rbx", "rcx", "rdx", "memory", "cc"); \
    } while (0)

static uint64_t saved_leaf; /* of the page that PROBE_MAP_MMIO took, 0: none */
static gva_t saved_va;
static volatile uint64_t *upper[PROBE_UPPER_MAX];

/* The entry that maps an address of the current process, or NULL. Addresses are ring 3's: the
 * kernel's own are none. */
static volatile uint64_t *leaf_of(struct gk *g, gva_t va)
{
    if (va >= g->top)
        return NULL;
    struct pos pos = pt_walk(g, g->cur, va);
    return pos.e & PTE_P && pos.level == 1 ? direct(pos.at) : NULL;
}

/* The last entry, unused, of the page directory that holds va's table; NULL when there is none. */
static volatile uint64_t *directory_slot(struct gk *g, gva_t va)
{
    if (va >= g->top)
        return NULL;
    uint64_t e =
        *(const volatile uint64_t *)direct(g->cur->table + 8 * level_index(va, g->cfg.levels));
    for (unsigned level = g->cfg.levels - 1; level >= 2 && e & PTE_P; level--) {
        volatile uint64_t *table = direct(e & PTE_ADDR);
        if (level == 2)
            return table[511] ? NULL : &table[511];
        e = table[level_index(va, level)];
    }
    return NULL;
}

static uint64_t upper_loop(struct gk *g, bool empty, uint64_t n, gva_t va)
{
    if (n > PROBE_UPPER_MAX)
        return (uint64_t)GK_EINVAL;
    for (uint64_t i = 0; i < n; i++) {
        upper[i] = directory_slot(g, va + (i << SHIFT_1G));
        if (!upper[i])
            return (uint64_t)GK_EINVAL;
    }
    LOOP(n, empty, "movq -8(%[at], %[n], 8), %%rax;", "movq $0, (%%rax);", [at] "r"(upper));
    return GK_OK;
}

static uint64_t leaf_loop(struct gk *g, bool sync, bool empty, uint64_t n, gva_t va)
{
    volatile uint64_t *leaf = leaf_of(g, va);
    if (!leaf)
        return (uint64_t)GK_EINVAL;
    uint64_t e = *leaf;
    if (sync)
        LOOP(n, empty, "movq %[cr3], %%cr3;",
             "movq %[e], (%[at]);", [at] "r"(leaf), [e] "r"(e), [cr3] "r"(gk_cr3(g)));
    else
        LOOP(n, empty, "", "movq %[e], (%[at]);", [at] "r"(leaf), [e] "r"(e));
    return GK_OK;
}

static uint64_t protect(struct gk *g, uint64_t n, gva_t va)
{
    for (uint64_t i = 0; i < n; i++) {
        volatile uint64_t *leaf = leaf_of(g, va + (i << PAGE_SHIFT));
        if (!leaf)
            return (uint64_t)GK_EINVAL;
        *leaf &= ~PTE_W;
    }
    __asm__ volatile("movq %0, %%cr3" : : "r"(gk_cr3(g)) : "memory");
    return GK_OK;
}

static uint64_t remap(struct gk *g, gva_t va, bool mmio)
{
    volatile uint64_t *leaf = leaf_of(g, va);
    if (!leaf || (mmio ? saved_leaf != 0 : !saved_leaf || saved_va != va))
        return (uint64_t)GK_EINVAL;
    if (mmio) {
        saved_leaf = *leaf;
        saved_va = va;
        *leaf = (saved_leaf & ~PTE_ADDR) | g->cfg.mem_bytes;
    } else {
        *leaf = saved_leaf;
        saved_leaf = 0;
    }
    __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
    return GK_OK;
}

uint64_t probe_kernel(struct gk *g, unsigned id, uint64_t n, uint64_t addr)
{
    bool empty = id & PROBE_NO_EVENT;
    if (!n)
        return (uint64_t)GK_EINVAL;
    switch (id & ~(unsigned)PROBE_NO_EVENT) {
    case PROBE_LOOP_PIO:
        LOOP(n, empty, "", "outb %%al, %[port];", [port] "i"(NB_PROBE_PORT));
        return GK_OK;
    case PROBE_LOOP_CPUID:
        LOOP(n, empty, "xorl %%eax, %%eax;", "cpuid;", "m"(g->cfg));
        return GK_OK;
    case PROBE_LOOP_CR3:
        LOOP(n, empty, "", "movq %[cr3], %%cr3;", [cr3] "r"(gk_cr3(g)));
        return GK_OK;
    case PROBE_LOOP_INVLPG:
        LOOP(n, empty, "", "invlpg (%[va]);", [va] "r"(addr));
        return GK_OK;
    case PROBE_LOOP_LEAF:
        return leaf_loop(g, false, empty, n, addr);
    case PROBE_LOOP_LEAF_SYNC:
        return leaf_loop(g, true, empty, n, addr);
    case PROBE_LOOP_UPPER:
        return upper_loop(g, empty, n, addr);
    case PROBE_PROTECT:
        return protect(g, n, addr);
    case PROBE_MAP_MMIO:
        return remap(g, addr, true);
    case PROBE_UNMAP_MMIO:
        return remap(g, addr, false);
    default:
        return (uint64_t)GK_EINVAL;
    }
}
