/* refloop_cached.c: a hand-written loop that does the work of preset dmt-ref.
 *
 * TLBs as in refloop.c; a two-dimensional walk with three walk caches by address prefix in each
 * dimension; and three data caches that every table read and every access goes through. All true
 * LRU, sets in order of use, sizes as constants: refloop_cached_fits() compares them with the
 * preset. What a walk cache, a table read and a miss are is DMT's (Zhang et al., ASPLOS 2024), as
 * walk.h has it:
 *   - the deepest hit of the PDE, PDPTE and PML4E cache is where a walk goes on; one use counted
 *   - a walk enters each table it read, in each dimension, when it has ended
 *   - a data cache that misses takes the line and asks the next one
 * It walks the tables that a machine of the model has built, so that its host-physical addresses,
 * and with them all counters, must be the model's.
 */
#include <string.h>

#include "base/addr.h"
#include "base/base.h"
#include "base/pte.h"
#include "bench/bench_util.h"
#include "bench/refloop.h"
#include "bench/refloop_tlb.h"

#define INLINE static inline __attribute__((always_inline))

/* Data caches: tags of 64-byte lines, 0 = empty. Sets of the last level are padded to a line. */
enum { D1_SETS = 64, D1_WAYS = 8, D2_SETS = 1024, D2_WAYS = 16, D3_SETS = 32768, D3_WAYS = 11 };

/* Walk caches of a dimension. tag = prefix + 1; 0 = empty. */
enum { PDE_SETS = 8, PDE_WAYS = 4, PDPTE_WAYS = 4, PML4E_SETS = 2 };
struct prefix4 {
    uint64_t tag[4], frame[4];
};
struct prefix1 {
    uint64_t tag, frame;
};
struct walk_caches {
    struct prefix4 pde[PDE_SETS], pdpte;
    struct prefix1 pml4e[PML4E_SETS];
};

struct cached {
    uint32_t d1[D1_SETS][D1_WAYS], d2[D2_SETS][D2_WAYS], d3[D3_SETS][16];
    struct ref_tlb tlb;
    struct walk_caches guest, host;
    struct loop_tables tables;
    struct loop_result *r;
} __attribute__((aligned(64)));

static bool is(const struct geometry *g, uint32_t sets, uint32_t ways)
{
    return g->entries == sets * ways && g->ways == ways && g->index == INDEX_MOD &&
           g->policy == POLICY_LRU;
}

bool refloop_cached_fits(const struct cpu *c)
{
    return c->pwc_kind == PWC_INTEL && !c->l1_any.entries && !c->ntlb.entries && !c->pcid &&
           is(&c->l1[0], L1_SETS, L1_WAYS) && is(&c->l2[0], L2_SETS, L2_WAYS) &&
           is(&c->psc[1], PML4E_SETS, 1) && is(&c->npsc[1], PML4E_SETS, 1) &&
           is(&c->psc[2], 1, PDPTE_WAYS) && is(&c->npsc[2], 1, PDPTE_WAYS) &&
           is(&c->psc[3], PDE_SETS, PDE_WAYS) && is(&c->npsc[3], PDE_SETS, PDE_WAYS) &&
           is(&c->cache[0], D1_SETS, D1_WAYS) && is(&c->cache[1], D2_SETS, D2_WAYS) &&
           is(&c->cache[2], D3_SETS, D3_WAYS);
}

/* ---- data caches ---- */

INLINE bool line_in(uint32_t *set, const unsigned ways, uint32_t tag)
{
    if (set[0] == tag)
        return true;
    for (unsigned i = 1; i < ways; i++)
        if (set[i] == tag) {
            UNROLL for (unsigned k = i; k > 0; k--) set[k] = set[k - 1];
            set[0] = tag;
            return true;
        }
    memmove(set + 1, set, 4 * (ways - 1));
    set[0] = tag;
    return false;
}

/* The level that serves hpa: 0, 1, 2, or 3 = memory. */
INLINE unsigned served_by(struct cached *m, hpa_t hpa)
{
    uint64_t line = hpa >> 6;
    if (line_in(m->d1[line % D1_SETS], D1_WAYS, (uint32_t)(line / D1_SETS) + 1))
        return 0;
    if (line_in(m->d2[line % D2_SETS], D2_WAYS, (uint32_t)(line / D2_SETS) + 1))
        return 1;
    return line_in(m->d3[line % D3_SETS], D3_WAYS, (uint32_t)(line / D3_SETS) + 1) ? 2 : 3;
}

/* ---- walks ---- */

INLINE uint64_t read_entry(struct cached *m, hpa_t at)
{
    m->r->reads++;
    m->r->pt[served_by(m, at)]++;
    return *(const uint64_t *)(const void *)(m->tables.pool + at);
}

/* The table behind `prefix`; 0 = not here. */
INLINE hpa_t prefix_get(struct prefix4 *s, uint64_t prefix)
{
    for (unsigned i = 0; i < 4; i++)
        if (s->tag[i] == prefix + 1) {
            hpa_t frame = s->frame[i];
            TO_FRONT(s, i, prefix + 1, frame);
            return frame;
        }
    return 0;
}

INLINE void prefix_put(struct prefix4 *s, uint64_t prefix, hpa_t frame)
{
    TO_FRONT(s, 3, prefix + 1, frame);
}

/* Where the walk of `address` goes on: the level, and in *table the table of that level. */
INLINE unsigned start(struct cached *m, struct walk_caches *c, uint64_t address, hpa_t *table)
{
    hpa_t t = prefix_get(&c->pde[(address >> 21) % PDE_SETS], address >> 21);
    unsigned level = 1;
    if (!t) {
        t = prefix_get(&c->pdpte, address >> 30);
        level = 2;
    }
    if (!t) {
        const struct prefix1 *s = &c->pml4e[(address >> 39) % PML4E_SETS];
        t = s->tag == (address >> 39) + 1 ? s->frame : 0;
        level = 3;
    }
    if (!t)
        return 4;
    m->r->pwc_hits++;
    *table = t;
    return level;
}

/* Enter table[l - 1], behind the entry of level l, for 2 <= l <= top. */
INLINE void enter(struct walk_caches *c, uint64_t address, unsigned top, const hpa_t *table)
{
    if (top >= 2)
        prefix_put(&c->pde[(address >> 21) % PDE_SETS], address >> 21, table[1]);
    if (top >= 3)
        prefix_put(&c->pdpte, address >> 30, table[2]);
    if (top >= 4)
        c->pml4e[(address >> 39) % PML4E_SETS] = (struct prefix1){(address >> 39) + 1, table[3]};
}

INLINE hpa_t walk_host(struct cached *m, gpa_t gpa)
{
    hpa_t table[5], at = m->tables.nested_root;
    const unsigned top = start(m, &m->host, gpa, &at);
    for (unsigned level = top; level; level--) {
        table[level] = at;
        at = read_entry(m, at + 8 * level_index(gpa, level)) & PTE_ADDR;
    }
    enter(&m->host, gpa, top, table);
    return at + (gpa & PAGE_MASK);
}

static hpa_t walk_nested(struct cached *m, gva_t va)
{
    hpa_t table[5], at = 0;
    gpa_t gpa = m->tables.guest_root;
    const unsigned top = start(m, &m->guest, va, &at);
    for (unsigned level = top; level; level--) {
        if (level != top || top == 4)
            at = walk_host(m, gpa + 8 * level_index(va, level)) & ~PAGE_MASK;
        table[level] = at;
        gpa = read_entry(m, at + 8 * level_index(va, level)) & PTE_ADDR;
    }
    at = walk_host(m, gpa);
    enter(&m->guest, va, top, table);
    return at;
}

INLINE uint64_t walk(void *loop, uint64_t page)
{
    struct cached *m = loop;
    m->r->walks++;
    m->r->refs += 24;
    return walk_nested(m, page << PAGE_SHIFT) >> PAGE_SHIFT;
}

/* ---- the loop ---- */

INLINE uint64_t access_byte(struct cached *m, gva_t va)
{
    uint64_t frame = ref_access(&m->tlb, va >> PAGE_SHIFT, walk, m);
    m->r->data[served_by(m, frame << PAGE_SHIFT | (va & PAGE_MASK))]++;
    return frame;
}

static uint64_t random_loads(struct cached *m, const struct loop_spec *s)
{
    uint64_t x = s->seed, sum = 0;
    for (uint64_t i = 0; i < s->accesses; i++)
        sum += access_byte(m, m->tables.base + (xorshift64(&x) & (s->bytes - 1) & ~7ull));
    return sum;
}

static uint64_t sequential_loads(struct cached *m, const struct loop_spec *s)
{
    uint64_t at = 0, sum = 0;
    for (uint64_t i = 0; i < s->accesses; i++) {
        sum += access_byte(m, m->tables.base + at);
        at = (at + 8) & (s->bytes - 1);
    }
    return sum;
}

void refloop_cached_run(const struct loop_spec *s, const struct loop_tables *t,
                        struct loop_result *r)
{
    struct cached *m = NULL;
    if (posix_memalign((void **)&m, 64, sizeof *m) != 0)
        die(NB_FAIL, "posix_memalign: no memory for %zu bytes of caches", sizeof *m);
    memset(m, 0, sizeof *m);
    m->tables = *t;
    m->r = r;
    for (uint64_t at = 0; at < s->bytes; at += PAGE_SIZE) /* from cold, as the model */
        access_byte(m, t->base + at);
    m->tlb.l1_misses = m->tlb.l2_misses = 0;
    *r = (struct loop_result){0};
    double began = now_seconds(), cpu = thread_seconds();
    r->sum = s->sequential ? sequential_loads(m, s) : random_loads(m, s);
    r->seconds = now_seconds() - began;
    r->cpu_seconds = thread_seconds() - cpu;
    r->l1_misses = m->tlb.l1_misses;
    r->l2_misses = m->tlb.l2_misses;
    free(m);
}
