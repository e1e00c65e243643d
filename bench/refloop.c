/* refloop.c: a hand-written loop over the same TLB geometry. */
#include "bench/refloop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/addr.h"
#include "base/base.h"
#include "bench/bench_util.h"
#include "bench/refloop_tlb.h"

struct ref {
    struct ref_tlb tlb;
    uint64_t (*tables)[512]; /* page n of the pool = host frame n */
    uint64_t used, pages;    /* frames of the pool */
    uint64_t guest_root, host_root, next_gfn;
    bool nested;
    struct loop_result *r;
};

static uint64_t new_table(struct ref *m)
{
    if (m->used == m->pages)
        die(NB_INTERNAL, "refloop: the table pool is too small");
    return m->used++;
}

/* Entry for `address` in the 4-level table at pool frame `root`, made on the way down. */
static uint64_t *entry_of(struct ref *m, uint64_t root, uint64_t address)
{
    for (unsigned level = 4; level > 1; level--) {
        uint64_t *e = &m->tables[root][level_index(address, level)];
        if (!*e)
            *e = new_table(m);
        root = *e;
    }
    return &m->tables[root][level_index(address, 1)];
}

/* A guest table: a gfn that the host table maps to a pool frame. */
static uint64_t new_guest_table(struct ref *m)
{
    uint64_t table_gfn = m->next_gfn++;
    *entry_of(m, m->host_root, table_gfn << PAGE_SHIFT) = new_table(m);
    return table_gfn;
}

static uint64_t host_frame(struct ref *m, uint64_t guest_frame)
{
    return *entry_of(m, m->host_root, guest_frame << PAGE_SHIFT);
}

static void map_nested(struct ref *m, uint64_t va, uint64_t frame)
{
    uint64_t table = host_frame(m, m->guest_root);
    for (unsigned level = 4; level > 1; level--) {
        uint64_t *e = &m->tables[table][level_index(va, level)];
        if (!*e)
            *e = new_guest_table(m);
        table = host_frame(m, *e);
    }
    m->tables[table][level_index(va, 1)] = m->next_gfn;
    *entry_of(m, m->host_root, m->next_gfn++ << PAGE_SHIFT) = frame;
}

static inline uint64_t read_entry(const struct ref *m, uint64_t table, uint64_t address,
                                  unsigned level)
{
    return m->tables[table][level_index(address, level)];
}

static inline uint64_t walk_host(const struct ref *m, uint64_t root, uint64_t address)
{
    for (unsigned level = 4; level; level--)
        root = read_entry(m, root, address, level);
    return root;
}

static inline uint64_t walk_nested(const struct ref *m, uint64_t va)
{
    uint64_t guest = m->guest_root;
    for (unsigned level = 4; level; level--)
        guest = read_entry(m, walk_host(m, m->host_root, guest << PAGE_SHIFT), va, level);
    return walk_host(m, m->host_root, guest << PAGE_SHIFT);
}

static inline uint64_t walk(void *loop, uint64_t page)
{
    struct ref *m = loop;
    m->r->walks++;
    m->r->refs += m->nested ? 24 : 4;
    return m->nested ? walk_nested(m, page << PAGE_SHIFT)
                     : walk_host(m, m->guest_root, page << PAGE_SHIFT);
}

static inline uint64_t access_page(struct ref *m, uint64_t page)
{
    return ref_access(&m->tlb, page, walk, m);
}

/* Frames the tables of n pages need: leaves of both dimensions, and the levels above them. */
static uint64_t pool_frames(uint64_t n) { return 2 * (n / 512 + n / (512 * 512)) + n / 128 + 64; }

static void build(struct ref *m, const struct loop_spec *s)
{
    uint64_t n = ALIGN_UP(s->bytes, PAGE_SIZE) / PAGE_SIZE;
    m->pages = pool_frames(n);
    m->tables = mmap(NULL, m->pages * PAGE_SIZE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m->tables == MAP_FAILED)
        die(NB_FAIL, "mmap of %llu table bytes: %s", (unsigned long long)(m->pages * PAGE_SIZE),
            strerror(errno));
    m->used = m->next_gfn = 1;
    m->host_root = new_table(m);
    m->guest_root = m->nested ? new_guest_table(m) : m->host_root;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t va = LOOP_BASE + i * PAGE_SIZE, frame = m->pages + i;
        if (m->nested)
            map_nested(m, va, frame);
        else
            *entry_of(m, m->guest_root, va) = frame;
    }
    for (uint64_t i = 0; i < n; i++) /* the model's program touches its memory first, too */
        access_page(m, (LOOP_BASE >> PAGE_SHIFT) + i);
}

static uint64_t random_loads(struct ref *m, const struct loop_spec *s)
{
    uint64_t x = s->seed, sum = 0;
    for (uint64_t i = 0; i < s->accesses; i++)
        sum += access_page(m, (LOOP_BASE + (xorshift64(&x) & (s->bytes - 1))) >> PAGE_SHIFT);
    return sum;
}

static uint64_t sequential_loads(struct ref *m, const struct loop_spec *s)
{
    uint64_t at = 0, sum = 0;
    for (uint64_t i = 0; i < s->accesses; i++) {
        sum += access_page(m, (LOOP_BASE + at) >> PAGE_SHIFT);
        at = (at + 8) & (s->bytes - 1);
    }
    return sum;
}

double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void refloop_run(const struct loop_spec *s, struct loop_result *r)
{
    struct ref *m = xcalloc(1, sizeof *m);
    m->nested = s->kind == LOOP_EPT;
    m->r = r;
    build(m, s);
    m->tlb.l1_misses = m->tlb.l2_misses = 0;
    *r = (struct loop_result){0};
    double began = now_seconds(), cpu = thread_seconds();
    r->sum = s->sequential ? sequential_loads(m, s) : random_loads(m, s);
    r->seconds = now_seconds() - began;
    r->cpu_seconds = thread_seconds() - cpu;
    r->l1_misses = m->tlb.l1_misses;
    r->l2_misses = m->tlb.l2_misses;
    r->reads = r->refs;
    munmap(m->tables, m->pages * PAGE_SIZE);
    free(m);
}
