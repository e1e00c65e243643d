/* link: guest base balloon/driver
 *
 * test_guest.c: the guest kernel on a fake machine.
 *
 * The fake has table memory (sparse), one 64-bit token per frame that stands for its contents, and
 * for each vCPU a TLB that forgets only what INVLPG and CR3 loads there make it forget. After every
 * kernel operation each cached translation is compared with the tables: an invalidation that is
 * missing shows itself.
 *
 * Exact counts are derived in comments; L = levels. A random program is compared with a plain
 * model of what its memory must hold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "base/pte.h"
#include "base/rng.h"
#include "guest/internal.h"

#define KIB 1024ull
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define P4 PAGE_SIZE
#define P2M (2 * MIB)
#define RW (GK_READ | GK_WRITE)
#define TLB_SIZE 64
#define CONFIG(mem, reserved, lev, mode, pc, ceiling)                                           \
    {                                                                                           \
        .mem_bytes = mem, .reserved_bytes = reserved, .levels = lev, .pages = mode, .pcid = pc, \
        .flush_ceiling = ceiling                                                                \
    }

/* ---- the machine ---- */
struct tlb_entry {
    uint64_t cr3; /* root | PCID it was filled under; 0: unused */
    gva_t va;
    uint64_t size, e;
};

struct counts {
    unsigned writes, invlpgs, cr3_loads, zeroes, copies, shootdowns, ipis;
};

enum { CPUS = 8 };
struct vcpu {
    struct tlb_entry tlb[TLB_SIZE];
    unsigned victim;
    uint64_t cr3;
    struct tea tea[MAX_TEA_REGISTERS];
    unsigned nteas;
};

/* A direct segment, and for each of its pages whether it escapes. */
struct fake_segment {
    gpa_t root; /* 0: unused */
    struct hw_segment s;
    bool *escaped;
};

enum { MAX_SEGMENTS = 8 };

struct hw {
    uint64_t *mem;   /* table memory */
    uint64_t *token; /* per frame: what its data is */
    bool *table;     /* per frame: written as a table */
    bool *touched;   /* per frame: not zero since boot */
    uint64_t frames;
    bool pcid;
    size_t kmem_left;
    void *kmem[4096];
    unsigned nkmem;
    struct counts n;
    struct vcpu vcpu[CPUS], *on; /* on: the one that runs */
    struct gk *gk;
    unsigned levels;
    uint64_t total;             /* frames the kernel manages */
    unsigned tea_hits;          /* entries found through registers */
    uint64_t tea_ids, tea_live; /* areas the hypervisor was told of; those it still knows */
    struct fake_segment segment[MAX_SEGMENTS];
    unsigned segments, straight; /* ever loaded; pages that segments translate, at the last check */
};

uint64_t hw_pt_read(struct hw *h, gpa_t a)
{
    assert_true(a % 8 == 0 && a >> PAGE_SHIFT < h->frames);
    return h->mem[a / 8];
}

void hw_pt_write(struct hw *h, gpa_t a, uint64_t e)
{
    assert_true(a % 8 == 0 && a >> PAGE_SHIFT < h->frames);
    h->table[a >> PAGE_SHIFT] = h->touched[a >> PAGE_SHIFT] = true;
    h->mem[a / 8] = e;
    h->n.writes++;
}

void hw_zero_page(struct hw *h, gfn_t f)
{
    assert_true(f.n < h->frames);
    if (h->table[f.n])
        memset(h->mem + f.n * 512, 0, P4);
    h->table[f.n] = false;
    h->token[f.n] = 0;
    h->n.zeroes++;
}

void hw_copy_page(struct hw *h, gfn_t dst, gfn_t src)
{
    assert_true(dst.n < h->frames && src.n < h->frames && !h->table[src.n]);
    h->token[dst.n] = h->token[src.n];
    h->table[dst.n] = false;
    h->touched[dst.n] = true;
    h->n.copies++;
}

void hw_load_cr3(struct hw *h, uint64_t cr3)
{
    uint64_t value = cr3 & ~CR3_KEEP;
    assert_true(h->pcid || !(cr3 & (CR3_KEEP | CR3_PCID)));
    for (struct tlb_entry *t = h->on->tlb; t < h->on->tlb + TLB_SIZE; t++)
        if (!(cr3 & CR3_KEEP) && !(t->e & PTE_G) && ((t->cr3 ^ value) & CR3_PCID) == 0)
            t->cr3 = 0;
    h->on->cr3 = value;
    h->n.cr3_loads++;
}

void hw_invlpg(struct hw *h, gva_t va)
{
    for (struct tlb_entry *t = h->on->tlb; t < h->on->tlb + TLB_SIZE; t++)
        if (t->va == (va & ~(t->size - 1)) &&
            ((t->e & PTE_G) || ((t->cr3 ^ h->on->cr3) & CR3_PCID) == 0))
            t->cr3 = 0;
    h->n.invlpgs++;
}

void hw_load_teas(struct hw *h, const struct tea *t, unsigned n)
{
    memcpy(h->on->tea, t, n * sizeof *t);
    h->on->nteas = n;
}

uint64_t hw_tea_alloc(struct hw *h, gfn_t first, uint64_t n)
{
    for (uint64_t i = first.n * 512; i < (first.n + n) * 512; i++)
        assert_int_equal(h->mem[i], 0);
    h->tea_live++;
    return ++h->tea_ids;
}

void hw_tea_free(struct hw *h, uint64_t id)
{
    assert_in_range(id, 1, h->tea_ids);
    h->tea_live--;
}

void hw_run_on(struct hw *h, unsigned cpu)
{
    assert_true(cpu < CPUS && h->on != &h->vcpu[cpu]);
    h->on = &h->vcpu[cpu];
}

void hw_ipi(struct hw *h, uint64_t cpus)
{
    assert_true(cpus && !(cpus >> CPUS) && !(cpus >> (h->on - h->vcpu) & 1));
    for (unsigned i = 0; i < CPUS; i++)
        assert_true(!(cpus >> i & 1) || h->vcpu[i].cr3); /* it has been started */
    h->n.shootdowns++;
    h->n.ipis += (unsigned)__builtin_popcountll(cpus);
}

static struct fake_segment *segment_of(struct hw *h, gpa_t root)
{
    struct fake_segment *f = h->segment;
    while (f < h->segment + MAX_SEGMENTS && f->root != root)
        f++;
    return f < h->segment + MAX_SEGMENTS ? f : NULL;
}

/* This machine has no balloon, so the kernel asks for none of these. */
uint32_t hw_dev_read(struct hw *h, uint32_t offset)
{
    (void)h, (void)offset;
    fail_msg("a device register was read");
    return 0;
}
void hw_dev_write(struct hw *h, uint32_t offset, uint32_t value)
{
    (void)h, (void)offset, (void)value;
    fail_msg("a device register was written");
}
bool hw_dev_interrupt(struct hw *h)
{
    (void)h;
    fail_msg("the interrupt line was read");
    return false;
}
bool hw_dev_wait(struct hw *h) { return hw_dev_interrupt(h); }
uint64_t hw_load(struct hw *h, gpa_t a, unsigned bytes)
{
    (void)bytes;
    return hw_dev_read(h, (uint32_t)a);
}
void hw_store(struct hw *h, gpa_t a, unsigned bytes, uint64_t value)
{
    (void)bytes;
    hw_dev_write(h, (uint32_t)a, (uint32_t)value);
}

void hw_segment(struct hw *h, gpa_t root, const struct hw_segment *s)
{
    struct fake_segment *f = segment_of(h, root);
    assert_true(s ? !f : f != NULL); /* one at a time; none is dropped twice */
    f = f ? f : segment_of(h, 0);
    assert_non_null(f);
    free(f->escaped);
    *f = (struct fake_segment){0};
    if (s) {
        uint64_t page = P4 << s->order;
        assert_true(s->start < s->end && !((s->start | s->end | s->to) & (page - 1)));
        *f = (struct fake_segment){root, *s, calloc((s->end - s->start) / page, 1)};
        h->segments++;
    }
}

void hw_segment_escape(struct hw *h, gpa_t root, gva_t va, uint64_t bytes, bool escape)
{
    struct fake_segment *f = segment_of(h, root);
    assert_non_null(f);
    uint64_t page = P4 << f->s.order, end = va + bytes;
    for (va &= ~(page - 1); va < end; va += page)
        if (va >= f->s.start && va < f->s.end)
            f->escaped[(va - f->s.start) / page] = escape;
}

void *hw_kmem(struct hw *h, size_t bytes)
{
    if (bytes > h->kmem_left || h->nkmem == 4096)
        return NULL;
    h->kmem_left -= bytes;
    return h->kmem[h->nkmem++] = calloc(1, bytes);
}

static void *sparse(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    assert_true(p != MAP_FAILED);
    return p;
}

static struct hw *boot_cfg(const struct gk_config *c)
{
    struct hw *h = calloc(1, sizeof *h);
    h->frames = c->mem_bytes >> PAGE_SHIFT;
    h->mem = sparse(c->mem_bytes);
    h->token = sparse(h->frames * 8);
    h->table = sparse(h->frames);
    h->touched = sparse(h->frames);
    h->pcid = c->pcid;
    h->on = h->vcpu;
    h->kmem_left = gk_kmem_bytes(c->mem_bytes);
    h->levels = c->levels;
    h->gk = gk_boot(h, c);
    assert_non_null(h->gk);
    h->total = gk_free_frames(h->gk) + gk_pt_bytes(h->gk) / P4;
    h->n = (struct counts){0};
    return h;
}

static struct hw *boot(uint64_t mem, enum page_mode pages, unsigned levels, bool pcid)
{
    return boot_cfg(&(struct gk_config)CONFIG(mem, MIB, levels, pages, pcid, 33));
}

static void halt(struct hw *h)
{
    assert_null(gk_check(h->gk));
    for (unsigned i = 0; i < h->nkmem; i++)
        free(h->kmem[i]);
    for (unsigned i = 0; i < MAX_SEGMENTS; i++)
        free(h->segment[i].escaped);
    munmap(h->mem, h->frames * P4);
    munmap(h->token, h->frames * 8);
    munmap(h->table, h->frames);
    munmap(h->touched, h->frames);
    free(h);
}

/* What the tables say: leaf entry and size, or 0. */
static uint64_t walk(struct hw *h, uint64_t root, gva_t va, uint64_t *size, gpa_t *at)
{
    gpa_t table = root & PTE_ADDR;
    for (unsigned level = h->levels;; level--) {
        *at = table + 8 * level_index(va, level);
        uint64_t e = h->mem[*at / 8];
        if (!(e & PTE_P))
            return 0;
        if (pte_is_leaf(e, level)) {
            *size = 1ull << level_shift(level);
            return e;
        }
        table = e & PTE_ADDR;
    }
}

static uint64_t frame_at(uint64_t e, uint64_t size, gva_t va)
{
    return ((e & PTE_ADDR & ~(size - 1)) | (va & (size - 1))) >> PAGE_SHIFT;
}

/* The next load of this CR3 there drops what the vCPU has cached of it. */
static bool is_stale(const struct hw *h, unsigned cpu, uint64_t cr3)
{
    for (const struct proc *p = h->gk->first; p; p = p->next)
        if (proc_cr3(p) == cr3)
            return p->stale >> cpu & 1;
    return false;
}

static void check_entry(struct hw *h, const struct vcpu *c, const struct tlb_entry *t)
{
    for (int i = 0; i < 3; i++) {
        gva_t va = t->va + (t->size / 2 * (uint64_t)i & ~PAGE_MASK) - (i == 2 ? P4 : 0);
        if (va < t->va)
            continue;
        uint64_t size = 0, e;
        gpa_t at;
        e = walk(h, t->e & PTE_G ? c->cr3 : t->cr3, va, &size, &at);
        assert_true(e & PTE_P);
        assert_int_equal(frame_at(e, size, va), frame_at(t->e, t->size, va));
        assert_true(!(t->e & PTE_W) || (e & PTE_W));
        assert_true(!(e & PTE_NX) || (t->e & PTE_NX));
        assert_true((t->e & PTE_G) || !(t->e & PTE_D) || !(t->e & PTE_W) || (e & PTE_D));
    }
}

/* A page that does not escape is mapped by the tables as the segment says, in every bit. */
static void check_segments(struct hw *h)
{
    h->straight = 0;
    for (struct fake_segment *f = h->segment; f < h->segment + MAX_SEGMENTS; f++)
        for (uint64_t i = 0, page = P4 << f->s.order; f->root && i < (f->s.end - f->s.start) / page;
             i++) {
            uint64_t size = 0, e;
            gpa_t at;
            if (f->escaped[i])
                continue;
            e = walk(h, f->root, f->s.start + i * page, &size, &at);
            assert_int_equal(size, page);
            assert_int_equal(e, (f->s.to + i * page) | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D |
                                    PTE_NX | (f->s.order ? PTE_PS : 0));
            h->straight++;
        }
}

/* Every cached translation that can still be used grants no more than the tables. */
static void check_tlb(struct hw *h)
{
    check_segments(h);
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        for (struct tlb_entry *t = h->vcpu[cpu].tlb; t < h->vcpu[cpu].tlb + TLB_SIZE; t++) {
            if (!t->cr3 || (t->cr3 & CR3_KEEP)) /* unused, or poisoned by forget_root */
                continue;
            if ((t->e & PTE_G) || !is_stale(h, cpu, t->cr3))
                check_entry(h, &h->vcpu[cpu], t);
        }
}

/* What a register finds is what the tables say. */
static void check_teas(struct hw *h)
{
    for (const struct vcpu *c = h->vcpu; c < h->vcpu + CPUS; c++)
        for (unsigned i = 0; i < c->nteas; i++) {
            const struct tea *t = &c->tea[i];
            for (gva_t va = t->start; va < t->end; va += 1ull << level_shift(t->level)) {
                uint64_t e = h->mem[tea_entry(t, va) / 8], size = 0;
                gpa_t at;
                if (!(e & PTE_P) || !pte_is_leaf(e, t->level))
                    continue;
                assert_int_equal(walk(h, c->cr3, va, &size, &at), e);
                assert_int_equal(at, tea_entry(t, va));
                h->tea_hits++;
            }
        }
}

/* Entries of an ended process can stay cached, but nothing may ever hit them: use() asserts that.
 */
static void forget_root(struct hw *h, uint64_t cr3)
{
    assert_null(segment_of(h, cr3 & PTE_ADDR));
    for (struct vcpu *c = h->vcpu; c < h->vcpu + CPUS; c++)
        for (struct tlb_entry *t = c->tlb; t < c->tlb + TLB_SIZE; t++)
            if (t->cr3 == cr3 && !(t->e & PTE_G))
                t->cr3 = CR3_KEEP | (cr3 & CR3_PCID); /* poisoned: dropped by a load without KEEP */
}

static struct tlb_entry *lookup(struct hw *h, gva_t va)
{
    for (struct tlb_entry *t = h->on->tlb; t < h->on->tlb + TLB_SIZE; t++) {
        if (!t->cr3 || t->va != (va & ~(t->size - 1)))
            continue;
        if (!(t->e & PTE_G) && ((t->cr3 ^ h->on->cr3) & CR3_PCID))
            continue;
        assert_false(t->cr3 & CR3_KEEP);
        return t;
    }
    return NULL;
}

static bool permits(uint64_t e, unsigned error)
{
    return (e & PTE_P) && !((error & PF_W) && !(e & PTE_W)) && !((error & PF_I) && (e & PTE_NX));
}

/* One access; fills the TLB and calls the kernel as hardware would. *frame is valid with GK_OK. */
static int use(struct hw *h, gva_t va, unsigned error, uint64_t *frame)
{
    for (int tries = 0; tries < 3; tries++) {
        struct tlb_entry *t = lookup(h, va);
        if (t && permits(t->e, error) && (!(error & PF_W) || (t->e & PTE_D))) {
            *frame = frame_at(t->e, t->size, va);
            return GK_OK;
        }
        uint64_t size = 0;
        gpa_t at;
        uint64_t e = walk(h, h->on->cr3, va, &size, &at);
        if (permits(e, error) && !(t && !permits(t->e, error))) {
            e = h->mem[at / 8] |= PTE_A | (error & PF_W ? PTE_D : 0);
            t = t ? t : &h->on->tlb[h->on->victim++ % TLB_SIZE];
            *t = (struct tlb_entry){h->on->cr3, va & ~(size - 1), size, e};
            *frame = frame_at(e, size, va);
            return GK_OK;
        }
        if (t)
            t->cr3 = 0; /* a fault drops the translation that caused it */
        int err = gk_fault(h->gk, va, error | PF_U | (e ? PF_P : 0));
        check_tlb(h);
        if (err)
            return err;
    }
    fail_msg("a fault was not repaired");
    return GK_SEGV;
}

static int put(struct hw *h, gva_t va, uint64_t value)
{
    uint64_t f = 0;
    int err = use(h, va, PF_W, &f);
    if (!err) {
        assert_false(h->table[f]);
        h->token[f] = value;
        h->touched[f] = true;
    }
    return err;
}

static int get(struct hw *h, gva_t va, uint64_t *value)
{
    uint64_t f = 0;
    int err = use(h, va, 0, &f);
    *value = 0;
    if (!err) {
        assert_false(h->table[f]);
        *value = h->token[f];
    }
    return err;
}

static uint64_t val(struct hw *h, gva_t va)
{
    uint64_t v;
    assert_int_equal(get(h, va, &v), GK_OK);
    return v;
}

static gva_t map(struct hw *h, uint64_t len, unsigned prot, unsigned flags)
{
    gva_t a = 0;
    assert_int_equal(gk_mmap(h->gk, 0, len, prot, flags, &a), GK_OK);
    return a;
}

static void touch(struct hw *h, gva_t a, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(put(h, a + i * P4, 100 + i), GK_OK);
}

static void reset(struct hw *h) { h->n = (struct counts){0}; }

#define EXPECT(h, w, inv, cr3, zero, copy)       \
    do {                                         \
        assert_int_equal((h)->n.writes, w);      \
        assert_int_equal((h)->n.invlpgs, inv);   \
        assert_int_equal((h)->n.cr3_loads, cr3); \
        assert_int_equal((h)->n.zeroes, zero);   \
        assert_int_equal((h)->n.copies, copy);   \
        check_tlb(h);                            \
        assert_null(gk_check((h)->gk));          \
        reset(h);                                \
    } while (0)

static int fork_of(struct hw *h)
{
    int pid = 0;
    assert_int_equal(gk_fork(h->gk, &pid), GK_OK);
    check_tlb(h);
    return pid;
}

static void end(struct hw *h, int pid)
{
    const struct proc *p = h->gk->first;
    while (p->pid != pid)
        p = p->next;
    uint64_t cr3 = proc_cr3(p);
    assert_int_equal(gk_exit(h->gk, pid), GK_OK);
    forget_root(h, cr3);
    check_tlb(h);
}

/* All that is not a table is free again. */
static void assert_no_leak(struct hw *h)
{
    assert_int_equal(gk_free_frames(h->gk) + gk_reserved_frames(h->gk) + gk_pt_bytes(h->gk) / P4,
                     h->total);
}

/* ---- exact sequences ---- */
/* First touch with no tables: L-1 links and the leaf. Every frame is new: nothing is cleared. */
static void demand_zero(unsigned levels)
{
    struct hw *h = boot(64 * MIB, PAGES_4K, levels, false);
    gva_t a = map(h, 8 * MIB, RW, 0);
    assert_int_equal(a, GK_USER_BASE);
    EXPECT(h, 0, 0, 0, 0, 0);
    assert_int_equal(val(h, a), 0);
    EXPECT(h, levels, 0, 0, 0, 0);
    assert_int_equal(put(h, a + P4, 7), GK_OK); /* same table: the leaf only */
    EXPECT(h, 1, 0, 0, 0, 0);
    assert_int_equal(put(h, a + P2M, 8), GK_OK); /* next table: one link and the leaf */
    EXPECT(h, 2, 0, 0, 0, 0);
    assert_int_equal(put(h, a, 9), GK_OK); /* mapped writable by the read: no fault */
    EXPECT(h, 0, 0, 0, 0, 0);
    uint64_t size, e;
    gpa_t at;
    e = walk(h, h->on->cr3, a + P4, &size, &at);
    assert_int_equal(e & ~PTE_ADDR, PTE_P | PTE_W | PTE_U | PTE_NX | PTE_A | PTE_D);
    assert_int_equal(gk_fault(h->gk, a, PF_W | PF_P), GK_OK); /* spurious */
    EXPECT(h, 0, 0, 0, 0, 0);
    halt(h);
}

static void test_demand_zero(void **s)
{
    (void)s;
    demand_zero(4);
    demand_zero(5);
}

/* munmap: 1 write a page; up to 33 INVLPGs, above that 1 CR3 load; tables stay. Touching the pages
 * again clears each recycled frame and needs no table. */
static void test_munmap_counts(void **s)
{
    (void)s;
    struct hw *h = boot(64 * MIB, PAGES_4K, 4, false);
    for (unsigned n = 32; n <= 35; n++) {
        gva_t a = map(h, 64 * P4, RW, 0);
        touch(h, a, n);
        reset(h);
        assert_int_equal(gk_munmap(h->gk, a, 64 * P4), GK_OK);
        EXPECT(h, n, n <= 33 ? n : 0, n > 33, 0, 0);
        assert_no_leak(h);
        assert_int_equal(gk_pt_bytes(h->gk), 4 * P4);
    }
    gva_t a = map(h, 64 * P4, RW, 0);
    touch(h, a, 30);
    EXPECT(h, 30, 0, 0, 30, 0);
    assert_int_equal(gk_munmap(h->gk, a + 100 * P2M, P4), GK_OK); /* a hole is fine */
    EXPECT(h, 0, 0, 0, 0, 0);
    halt(h);
}

/* fork, n = 10 pages in one table: 3 child links, then per page 1 parent and 1 child write, 10
 * INVLPGs. First store to a page: copy, 1 write, 1 INVLPG; the other process is then sole owner:
 * 1 write. exit: 10 leaves and 3 links. */
static void fork_counts(bool pcid)
{
    struct hw *h = boot(64 * MIB, PAGES_4K, 4, pcid);
    gva_t a = map(h, 16 * P4, RW, 0);
    touch(h, a, 10);
    reset(h);
    uint64_t before = gk_free_frames(h->gk);
    int child = fork_of(h);
    EXPECT(h, 3 + 20, 10, 0, 0, 0);
    assert_int_equal(before - gk_free_frames(h->gk), 4);
    assert_int_equal(put(h, a, 1), GK_OK);
    EXPECT(h, 1, 1, 0, 0, 1);
    assert_int_equal(gk_switch(h->gk, child), GK_OK);
    EXPECT(h, 0, 0, 1, 0, 0);
    uint64_t cr3 = gk_cr3(h->gk);
    assert_int_equal(val(h, a), 100);
    assert_int_equal(put(h, a, 2), GK_OK);
    EXPECT(h, 1, 0, 0, 0, 0);
    assert_int_equal(put(h, a + P4, 3), GK_OK);
    EXPECT(h, 1, 1, 0, 0, 1);
    assert_int_equal(gk_switch(h->gk, 1), GK_OK);
    assert_int_equal(val(h, a), 1);
    assert_int_equal(val(h, a + P4), 101);
    /* A second fork finds 9 pages read-only already: page 0 is the only one to protect. */
    reset(h);
    int second = fork_of(h);
    EXPECT(h, 3 + 1 + 10, 1, 0, 0, 0);
    end(h, second);
    reset(h);
    assert_int_equal(gk_exit(h->gk, child), GK_OK);
    forget_root(h, cr3);
    EXPECT(h, 10 + 3, 0, 0, 0, 0);
    assert_int_equal(gk_munmap(h->gk, a, 16 * P4), GK_OK);
    assert_no_leak(h);
    assert_int_equal(gk_exit(h->gk, child), GK_ESRCH);
    assert_int_equal(gk_exit(h->gk, 1), GK_EINVAL);
    halt(h);
}

static void test_fork_counts(void **s)
{
    (void)s;
    fork_counts(false);
    fork_counts(true);
}

/* With PCIDs a process keeps its translations over switches; a reused PCID starts without any. */
static void test_pcid(void **s)
{
    (void)s;
    struct hw *h = boot(64 * MIB, PAGES_4K, 4, true);
    assert_int_equal(gk_cr3(h->gk) & CR3_PCID, 1);
    gva_t a = map(h, 4 * P4, RW, 0);
    put(h, a, 5);
    for (int round = 0; round < 3; round++) {
        int child = fork_of(h);
        gk_switch(h->gk, child);
        assert_int_equal(gk_cr3(h->gk) & CR3_PCID, 2);
        put(h, a, 50 + (uint64_t)round);
        gk_switch(h->gk, 1);
        assert_int_equal(val(h, a), 5);
        assert_non_null(lookup(h, a));
        gk_switch(h->gk, child);
        assert_non_null(lookup(h, a)); /* kept */
        assert_int_equal(val(h, a), 50 + (uint64_t)round);
        end(h, child);
        assert_int_equal(gk_current(h->gk), 1);
    }
    halt(h);
}

static void test_fork_chain(void **s)
{
    (void)s;
    struct hw *h = boot(64 * MIB, PAGES_4K, 4, true);
    gva_t a = map(h, 8 * P4, RW, 0);
    touch(h, a, 8);
    int pid[20] = {1};
    for (int i = 1; i < 20; i++) {
        pid[i] = fork_of(h);
        assert_int_equal(gk_switch(h->gk, pid[i]), GK_OK);
        put(h, a, (uint64_t)i);
    }
    for (int i = 19; i > 0; i--) {
        assert_int_equal(gk_switch(h->gk, pid[i]), GK_OK);
        assert_int_equal(val(h, a), (uint64_t)i);
        assert_int_equal(val(h, a + P4), 101);
        assert_null(gk_check(h->gk));
    }
    for (int i = 1; i < 20; i++)
        end(h, pid[i]);
    assert_int_equal(val(h, a), 100);
    assert_int_equal(gk_munmap(h->gk, a, 8 * P4), GK_OK);
    assert_no_leak(h);
    halt(h);
}

/* Lowering: 1 write and 1 INVLPG a page; raising: 1 write. PROT_NONE keeps the contents. */
static void test_mprotect(void **s)
{
    (void)s;
    struct hw *h = boot(64 * MIB, PAGES_4K, 4, false);
    uint64_t v;
    gva_t a = map(h, 16 * P4, RW, 0);
    touch(h, a, 8);
    reset(h);
    assert_int_equal(gk_mprotect(h->gk, a, 4 * P4, GK_READ), GK_OK);
    EXPECT(h, 4, 4, 0, 0, 0);
    assert_int_equal(put(h, a, 1), GK_SEGV);
    assert_int_equal(gk_mprotect(h->gk, a, 4 * P4, RW), GK_OK);
    EXPECT(h, 4, 0, 0, 0, 0);
    assert_int_equal(gk_mprotect(h->gk, a, 16 * P4, RW), GK_OK);
    EXPECT(h, 0, 0, 0, 0, 0);
    assert_int_equal(gk_mprotect(h->gk, a, 8 * P4, 0), GK_OK);
    EXPECT(h, 8, 8, 0, 0, 0);
    assert_int_equal(get(h, a, &v), GK_SEGV);
    int child = fork_of(h); /* 3 links, 8 kept entries; the parent's do not change */
    EXPECT(h, 11, 0, 0, 0, 0);
    assert_int_equal(gk_mprotect(h->gk, a, 8 * P4, RW), GK_OK);
    EXPECT(h, 8, 0, 0, 0, 0);
    assert_int_equal(put(h, a, 77), GK_OK); /* the child still holds the frame */
    EXPECT(h, 1, 1, 0, 0, 1);
    gk_switch(h->gk, child);
    assert_int_equal(get(h, a, &v), GK_SEGV);
    assert_int_equal(gk_mprotect(h->gk, a, 8 * P4, GK_READ | GK_EXEC), GK_OK);
    assert_int_equal(val(h, a), 100);
    assert_int_equal(use(h, a, PF_I, &v), GK_OK);
    assert_int_equal(gk_mprotect(h->gk, a, 17 * P4, RW), GK_ENOMEM); /* a hole at the end */
    end(h, child);
    assert_int_equal(val(h, a), 77);
    assert_int_equal(use(h, a, PF_I, &v), GK_SEGV);
    assert_int_equal(gk_munmap(h->gk, a, 16 * P4), GK_OK);
    assert_no_leak(h);
    halt(h);
}

/* Unmapping one 4 KiB page of a 2 MiB page: 512 writes fill the table, 1 replaces the large leaf, 1
 * clears the page; INVLPG of the large page and of the small one. */
static void test_split_2m(void **s)
{
    (void)s;
    struct hw *h = boot(64 * MIB, PAGES_2M, 4, false);
    uint64_t v;
    gva_t a = map(h, 3 * MIB, RW, 0); /* rounded up to 4 MiB */
    put(h, a + 5 * P4, 5);
    EXPECT(h, 3, 0, 0, 0, 0);
    put(h, a + 6 * P4, 6);
    EXPECT(h, 0, 0, 0, 0, 0);
    assert_int_equal(gk_munmap(h->gk, a + 5 * P4, P4), GK_OK);
    EXPECT(h, 512 + 1 + 1, 2, 0, 0, 0);
    assert_int_equal(val(h, a + 6 * P4), 6);
    assert_int_equal(get(h, a + 5 * P4, &v), GK_SEGV);
    assert_int_equal(gk_mprotect(h->gk, a, P2M / 2, GK_READ), GK_ENOMEM);
    assert_int_equal(gk_munmap(h->gk, a, 2 * P2M), GK_OK);
    assert_no_leak(h);
    /* The empty table is in the way of the next large page: unlinked (1 write, 1 INVLPG). */
    assert_int_equal(map(h, P2M, RW, 0), a);
    reset(h);
    put(h, a, 1);
    EXPECT(h, 2, 1, 0, 512, 0); /* every frame of the block was used before */
    halt(h);
}

/* A large page shared by fork is copied before it is split. */
static void test_split_shared_by_fork(void **s)
{
    (void)s;
    struct hw *h = boot(64 * MIB, PAGES_2M, 4, true);
    gva_t a = map(h, P2M, RW, 0);
    touch(h, a, 3);
    int child = fork_of(h);
    reset(h);
    assert_int_equal(gk_munmap(h->gk, a, P4), GK_OK);
    EXPECT(h, 512 + 1 + 1, 2, 0, 0, 512);
    put(h, a + P4, 9);
    EXPECT(h, 0, 0, 0, 0, 0); /* the copy is private and writable */
    gk_switch(h->gk, child);
    assert_int_equal(val(h, a), 100);
    assert_int_equal(val(h, a + P4), 101);
    reset(h);
    put(h, a, 4);
    EXPECT(h, 1, 0, 0, 0, 0); /* sole owner by now */
    end(h, child);
    assert_int_equal(gk_munmap(h->gk, a, P2M), GK_OK);
    assert_no_leak(h);
    halt(h);
}

/* A store to a large copy-on-write page copies 512 frames; without a free block: GK_ENOMEM. */
static void test_cow_2m(void **s)
{
    (void)s;
    struct hw *h = boot(8 * MIB, PAGES_2M, 4, false);
    gva_t a = map(h, P2M, RW, 0);
    touch(h, a, 2);
    int child = fork_of(h);
    reset(h);
    put(h, a, 1);
    EXPECT(h, 1, 1, 0, 0, 512);
    int second = fork_of(h);
    gva_t b = map(h, P2M, RW, 0);
    assert_int_equal(put(h, b, 1), GK_OK);
    assert_int_equal(put(h, a, 2), GK_ENOMEM);
    assert_int_equal(val(h, a), 1);
    end(h, second);
    assert_int_equal(put(h, a, 2), GK_OK);
    end(h, child);
    halt(h);
}

/* 1 GiB page: munmap of 4 KiB splits it into 2 MiB, then one of these: 2 * (512 + 1) + 1 writes. */
static void test_split_1g(void **s)
{
    (void)s;
    struct hw *h = boot(3 * GIB, PAGES_1G, 4, false);
    uint64_t v;
    gva_t a = map(h, 1, RW, 0);
    assert_int_equal(a, GIB);
    put(h, a + 12345 * P4, 3);
    EXPECT(h, 2, 0, 0, 0, 0);
    assert_int_equal(gk_munmap(h->gk, a + 777 * P4, P4), GK_OK);
    EXPECT(h, 2 * 513 + 1, 3, 0, 0, 0);
    assert_int_equal(val(h, a + 12345 * P4), 3);
    assert_int_equal(get(h, a + 777 * P4, &v), GK_SEGV);
    assert_int_equal(gk_munmap(h->gk, a, GIB), GK_OK);
    assert_no_leak(h);
    assert_int_equal(gk_mmap(h->gk, GIB + P4, P4, RW, GK_1G, &v), GK_EINVAL);
    halt(h);
}

/* In 2 MiB mode a fixed range has 4 KiB pages at its unaligned ends. */
static void test_unaligned_ends(void **s)
{
    (void)s;
    struct hw *h = boot(64 * MIB, PAGES_2M, 4, false);
    gva_t out, a = GIB + P2M - P4;
    assert_int_equal(gk_mmap(h->gk, a, P2M + 2 * P4, RW, GK_FIXED, &out), GK_OK);
    put(h, a, 1);
    EXPECT(h, 4, 0, 0, 0, 0);
    put(h, a + P4, 2);
    EXPECT(h, 1, 0, 0, 0, 0); /* a large leaf */
    put(h, a + P4 + P2M, 3);
    EXPECT(h, 2, 0, 0, 0, 0);
    assert_int_equal(gk_mmap(h->gk, a, P4, RW, GK_FIXED, &out), GK_EEXIST);
    assert_int_equal(gk_mmap(h->gk, a + 4 * P2M, P2M, RW, GK_FIXED | GK_2M, &out), GK_EINVAL);
    assert_int_equal(gk_mmap(h->gk, a, P4, RW, 0, &out), GK_OK); /* a taken hint: anywhere */
    assert_int_equal(out, GK_USER_BASE);
    halt(h);
}

/* THP: large where a block is free, else small; never GK_ENOMEM while a frame is left. */
static void test_thp(void **s)
{
    (void)s;
    struct hw *h = boot(8 * MIB, PAGES_THP, 4, false);
    gva_t a = map(h, 8 * MIB, RW, 0);
    assert_int_equal(a % P2M, 0);
    for (gva_t va = a; va < a + 3 * P2M; va += P4)
        assert_int_equal(put(h, va, va), GK_OK);
    assert_true(h->n.writes < 600); /* 2 large at least, the rest small */
    assert_null(gk_check(h->gk));
    while (put(h, a += P4, 1) == GK_OK)
        ;
    assert_int_equal(gk_free_frames(h->gk), 0);
    halt(h);
}

/* Shared pages: also those first touched after fork, by either, and after the toucher has ended. */
static void shared(enum page_mode mode)
{
    struct hw *h = boot(64 * MIB, mode, 4, true);
    gva_t a = map(h, 2 * P2M, RW, GK_SHARED);
    put(h, a, 1);
    int child = fork_of(h);
    gk_switch(h->gk, child);
    assert_int_equal(val(h, a), 1);
    put(h, a, 2);
    put(h, a + P2M, 3);
    assert_int_equal(gk_munmap(h->gk, a, P4), GK_OK); /* splits in the child only */
    assert_int_equal(gk_mprotect(h->gk, a + P2M, P4, GK_READ), GK_OK);
    assert_null(gk_check(h->gk));
    put(h, a + P4, 4);
    end(h, child);
    assert_int_equal(val(h, a), 2);
    assert_int_equal(val(h, a + P4), 4);
    assert_int_equal(val(h, a + P2M), 3);
    assert_int_equal(gk_munmap(h->gk, a, 2 * P2M), GK_OK);
    assert_no_leak(h);
    halt(h);
}

static void test_shared(void **s)
{
    (void)s;
    for (int mode = PAGES_4K; mode <= PAGES_THP; mode++)
        if (mode != PAGES_1G)
            shared((enum page_mode)mode);
}

/* Small pages that one process made of a shared range keep the other from a large page there. */
static void test_shared_sizes(void **s)
{
    (void)s;
    struct hw *h = boot(64 * MIB, PAGES_2M, 4, true);
    gva_t a = map(h, P2M, RW, GK_SHARED);
    int child = fork_of(h);
    gk_switch(h->gk, child);
    assert_int_equal(gk_mprotect(h->gk, a, P4, GK_READ), GK_OK);
    put(h, a + 3 * P4, 3);
    gk_switch(h->gk, 1);
    reset(h);
    put(h, a + 5 * P4, 5);
    EXPECT(h, 4, 0, 0, 0, 0); /* 3 links and a 4 KiB leaf */
    assert_int_equal(val(h, a + 3 * P4), 3);
    gk_switch(h->gk, child);
    assert_int_equal(val(h, a + 5 * P4), 5);
    end(h, child);
    assert_int_equal(gk_munmap(h->gk, a, P2M), GK_OK);
    assert_no_leak(h);
    halt(h);
}

/* Global pages: INVLPG always, outside the ceiling; a fault maps them in every process. */
static void test_global(void **s)
{
    (void)s;
    struct hw *h = boot(64 * MIB, PAGES_4K, 4, false);
    gva_t out, a = map(h, 64 * P4, RW, GK_GLOBAL);
    touch(h, a, 40);
    reset(h);
    assert_int_equal(gk_mprotect(h->gk, a, 64 * P4, GK_READ), GK_OK);
    EXPECT(h, 40, 40, 0, 0, 0);
    assert_int_equal(gk_mprotect(h->gk, a, 64 * P4, RW), GK_OK);
    int child = fork_of(h);
    reset(h);
    put(h, a + 50 * P4, 5);
    EXPECT(h, 2, 0, 0, 0, 0);
    gk_switch(h->gk, child);
    assert_int_equal(val(h, a + 50 * P4), 5);
    put(h, a, 6);
    assert_int_equal(gk_munmap(h->gk, a, P4), GK_EINVAL);
    assert_int_equal(gk_mprotect(h->gk, a, P4, 0), GK_EINVAL);
    assert_int_equal(gk_mmap(h->gk, 0, P4, RW, GK_GLOBAL, &out), GK_EINVAL);
    end(h, child);
    assert_int_equal(val(h, a), 6);
    assert_int_equal(gk_munmap(h->gk, a, 64 * P4), GK_OK);
    check_tlb(h);
    assert_no_leak(h);
    halt(h);
}

/* GK_POPULATE: the writes of n faults; without memory the mapping is undone. */
static void test_populate(void **s)
{
    (void)s;
    struct hw *h = boot(4 * MIB, PAGES_4K, 4, false);
    gva_t out, a = map(h, 16 * P4, RW, GK_POPULATE);
    EXPECT(h, 3 + 16, 0, 0, 0, 0);
    touch(h, a, 16);
    EXPECT(h, 0, 0, 0, 0, 0);
    uint64_t before = gk_free_frames(h->gk);
    assert_int_equal(gk_mmap(h->gk, 0, 8 * MIB, RW, GK_POPULATE, &out), GK_ENOMEM);
    assert_true(before - gk_free_frames(h->gk) <= 2); /* tables stay */
    assert_int_equal(gk_fault(h->gk, a + 16 * P4, PF_U), GK_SEGV);
    halt(h);
}

/* fork without memory changes nothing, wherever it stops. */
static void test_fork_oom(void **s)
{
    (void)s;
    for (unsigned spare = 0; spare < 8; spare++) {
        struct hw *h = boot(4 * MIB, PAGES_4K, 4, false);
        gva_t out, a = map(h, 3 * P4, RW, 0), b = map(h, 4 * P4, RW, GK_SHARED);
        assert_int_equal(gk_mmap(h->gk, GIB, P4, RW, GK_FIXED, &out), GK_OK);
        touch(h, a, 3);
        touch(h, b, 3);
        put(h, out, 1);
        gva_t fill = map(h, 4 * MIB, RW, 0);
        while (gk_free_frames(h->gk) > spare)
            assert_int_equal(put(h, fill += P4, 1), GK_OK);
        int child = 0, err = gk_fork(h->gk, &child);
        check_tlb(h);
        assert_null(gk_check(h->gk));
        if (err) {
            assert_int_equal(err, GK_ENOMEM);
            assert_int_equal(gk_free_frames(h->gk), spare);
            reset(h);
            touch(h, a, 3); /* writable as before: no copy on write, whatever was cached */
            EXPECT(h, 0, 0, 0, 0, 0);
        } else {
            end(h, child);
            assert_int_equal(gk_free_frames(h->gk), spare);
        }
        halt(h);
    }
}

/* Kernel memory ends at any point: an error value, never a broken structure. */
static void test_kmem_oom(void **s)
{
    (void)s;
    struct hw *h = boot(16 * MIB, PAGES_4K, 4, false);
    h->kmem_left = 64 * KIB;
    gva_t a = map(h, 4000 * P4, RW, 0);
    unsigned failed = 0, child_failed = 0;
    for (unsigned i = 0; i < 1900; i++)
        failed += gk_mprotect(h->gk, a + 2 * i * P4, P4, GK_READ) == GK_ENOMEM;
    assert_in_range(failed, 1, 1899);
    for (int i = 0; i < 4; i++) {
        int child;
        child_failed += gk_fork(h->gk, &child) == GK_ENOMEM;
    }
    assert_int_equal(child_failed, 4);
    assert_null(gk_check(h->gk));
    assert_int_equal(gk_munmap(h->gk, a, 4000 * P4), GK_OK);
    halt(h);
}

static void test_bad_arguments(void **s)
{
    (void)s;
    for (unsigned levels = 4; levels <= 5; levels++) {
        struct hw *h = boot(16 * MIB, PAGES_4K, levels, true);
        struct gk *g = h->gk;
        gva_t out = 42, top = GK_USER_TOP(levels);
        const gva_t bad_va[] = {1,         P4 - 1, top,        top + P4,
                                0ull - P4, ~0ull,  1ull << 63, top - P4 + 8};
        for (unsigned i = 0; i < sizeof bad_va / sizeof *bad_va; i++) {
            for (unsigned flags = 0; flags < 2; flags++)
                assert_int_equal(gk_mmap(g, bad_va[i], P4, RW, flags, &out), GK_EINVAL);
            assert_int_equal(gk_munmap(g, bad_va[i], P4), GK_EINVAL);
            assert_int_equal(gk_mprotect(g, bad_va[i], P4, RW), GK_EINVAL);
            assert_int_equal(gk_fault(g, bad_va[i], PF_U | PF_W), GK_SEGV);
        }
        const uint64_t bad_len[] = {0, top + 1, ~0ull, 1ull << 63, ~0ull - P4 + 1};
        for (unsigned i = 0; i < sizeof bad_len / sizeof *bad_len; i++) {
            assert_int_equal(gk_mmap(g, 0, bad_len[i], RW, 0, &out), GK_EINVAL);
            assert_int_equal(gk_mmap(g, GIB, bad_len[i], RW, GK_FIXED, &out), GK_EINVAL);
            assert_int_equal(gk_munmap(g, GIB, bad_len[i]), GK_EINVAL);
            assert_int_equal(gk_mprotect(g, GIB, bad_len[i], RW), GK_EINVAL);
        }
        assert_int_equal(gk_mmap(g, 0, P4, 8, 0, &out), GK_EINVAL);
        assert_int_equal(gk_mmap(g, 0, P4, RW, 128, &out), GK_EINVAL);
        assert_int_equal(gk_mmap(g, 0, P4, RW, GK_4K | GK_2M, &out), GK_EINVAL);
        assert_int_equal(gk_mmap(g, 0, P4, RW, GK_2M, &out), GK_EINVAL);
        assert_int_equal(gk_mmap(g, 0, P4, RW, 0, NULL), GK_EINVAL);
        assert_int_equal(gk_mmap(g, 0, top, RW, 0, &out), GK_ENOMEM);
        assert_int_equal(gk_mprotect(g, GIB, P4, 9), GK_EINVAL);
        assert_int_equal(gk_fork(g, NULL), GK_EINVAL);
        assert_int_equal(gk_switch(g, 0), GK_ESRCH);
        assert_int_equal(gk_switch(g, -5), GK_ESRCH);
        assert_int_equal(gk_exit(g, 2), GK_ESRCH);
        assert_int_equal(out, 42);
        /* The last page of user space and the first are ordinary ones. */
        assert_int_equal(gk_mmap(g, top - P4, P4, RW, GK_FIXED, &out), GK_OK);
        assert_int_equal(put(h, out, 1), GK_OK);
        assert_int_equal(gk_mmap(g, 0, P4, RW, GK_FIXED, &out), GK_OK);
        assert_int_equal(put(h, 0, 1), GK_OK);
        assert_int_equal(gk_munmap(g, 0, top), GK_OK);
        assert_no_leak(h);
        halt(h);
    }
}

static void test_bad_config(void **s)
{
    (void)s;
    const struct gk_config bad[] = {
        CONFIG(16 * MIB, MIB, 3, PAGES_4K, false, 33),
        CONFIG(16 * MIB, MIB, 6, PAGES_4K, false, 33),
        CONFIG(16 * MIB, 16 * MIB, 4, PAGES_4K, false, 33),
        CONFIG(16 * MIB + 1, MIB, 4, PAGES_4K, false, 33),
        CONFIG(0, 0, 4, PAGES_4K, false, 33),
        CONFIG(P4, 0, 4, PAGES_4K, false, 33),
        CONFIG(16 * MIB, MIB, 4, (enum page_mode)9, false, 33),
        CONFIG(1ull << 60, MIB, 4, PAGES_4K, false, 33),
        {.mem_bytes = 16 * MIB, .levels = 4, .tea_registers = MAX_TEA_REGISTERS + 1},
        {.mem_bytes = 16 * MIB, .levels = 4, .cpus = GK_MAX_CPUS + 1},
    };
    struct hw *h = calloc(1, sizeof *h);
    h->kmem_left = 64 * MIB;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_null(gk_boot(h, &bad[i]));
    h->kmem_left = 100; /* no kernel memory */
    assert_null(gk_boot(h, &(struct gk_config)CONFIG(16 * MIB, MIB, 4, PAGES_4K, false, 33)));
    for (unsigned i = 0; i < h->nkmem; i++)
        free(h->kmem[i]);
    free(h);
}

/* All 4095 processes, each PCID once; one more is refused. */
static void test_many_processes(void **s)
{
    (void)s;
    struct hw *h = boot(64 * MIB, PAGES_4K, 4, true);
    int pid = 0, last = 0;
    for (int i = 1; i < 4095; i++) {
        last = pid;
        assert_int_equal(gk_fork(h->gk, &pid), GK_OK);
        assert_true(pid > last);
    }
    assert_int_equal(gk_fork(h->gk, &last), GK_ENOMEM);
    assert_int_equal(gk_switch(h->gk, pid), GK_OK);
    assert_int_equal(gk_cr3(h->gk) & CR3_PCID, 4095);
    assert_null(gk_check(h->gk));
    for (; pid > 1; pid--)
        assert_int_equal(gk_exit(h->gk, pid), GK_OK);
    assert_no_leak(h);
    halt(h);
}

/* ---- more than one vCPU ---- */
static bool cached(const struct hw *h, unsigned cpu, gva_t va)
{
    for (const struct tlb_entry *t = h->vcpu[cpu].tlb; t < h->vcpu[cpu].tlb + TLB_SIZE; t++)
        if (t->cr3 && t->va == va)
            return true;
    return false;
}

#define EXPECT_SMP(h, inv, cr3, shoot, ipi)         \
    do {                                            \
        assert_int_equal((h)->n.invlpgs, inv);      \
        assert_int_equal((h)->n.cr3_loads, cr3);    \
        assert_int_equal((h)->n.shootdowns, shoot); \
        assert_int_equal((h)->n.ipis, ipi);         \
        check_tlb(h);                               \
        assert_null(gk_check((h)->gk));             \
        reset(h);                                   \
    } while (0)

/* One process on vCPUs 0, 1 and 2 of 4: a thread that comes to a vCPU for the first time loads CR3 there,
 * later none does. Each invalidation is made on all three, vCPU 3 hears of none. */
static void test_shootdown(void **s)
{
    (void)s;
    struct gk_config cfg = CONFIG(64 * MIB, MIB, 4, PAGES_4K, false, 33);
    cfg.cpus = 4;
    struct hw *h = boot_cfg(&cfg);
    gva_t a = map(h, 64 * P4, RW, 0);
    touch(h, a, 64);
    reset(h);
    for (unsigned cpu = 1; cpu < 3; cpu++) {
        gk_run_on(h->gk, cpu);
        assert_int_equal(val(h, a), 100);
        assert_int_equal(val(h, a + P4), 101);
    }
    gk_run_on(h->gk, 4); /* mod 4 */
    EXPECT_SMP(h, 0, 2, 0, 0);
    assert_int_equal(gk_munmap(h->gk, a, P4), GK_OK);
    EXPECT_SMP(h, 3, 0, 1, 2);
    for (unsigned cpu = 0; cpu < 4; cpu++) /* the other page is still where it was used */
        assert_true(!cached(h, cpu, a) && cached(h, cpu, a + P4) == (cpu < 3));
    assert_int_equal(gk_mprotect(h->gk, a + 2 * P4, 33 * P4, GK_READ), GK_OK);
    EXPECT_SMP(h, 3 * 33, 0, 1, 2);
    gk_run_on(h->gk, 1);
    assert_int_equal(gk_munmap(h->gk, a, 36 * P4), GK_OK); /* 35 entries: CR3 reloads */
    EXPECT_SMP(h, 0, 3, 1, 2);
    assert_int_equal(gk_mprotect(h->gk, a + 40 * P4, P4, GK_READ), GK_OK);
    EXPECT_SMP(h, 3, 0, 1, 2);
    assert_int_equal(gk_mprotect(h->gk, a + 40 * P4, P4, RW), GK_OK); /* rights only grow */
    EXPECT_SMP(h, 0, 0, 0, 0);
    halt(h);
}

/* Process p runs on vCPU (p - 1) mod 2: vCPU 0 has 1 and 3, vCPU 1 has 2. Only a process that is loaded
 * elsewhere costs an IPI; on a vCPU that has loaded another, its translations are dropped later, and only
 * if something changed. */
static void test_processes_on_vcpus(void **s)
{
    (void)s;
    struct gk_config cfg = CONFIG(64 * MIB, MIB, 4, PAGES_4K, true, 33);
    cfg.cpus = 2;
    struct hw *h = boot_cfg(&cfg);
    gva_t a = map(h, 4 * P4, RW, 0);
    touch(h, a, 4);
    int two = fork_of(h), three = fork_of(h);
    reset(h);
    assert_int_equal(gk_switch(h->gk, two), GK_OK);
    assert_int_equal(put(h, a, 2), GK_OK); /* copied: 1 INVLPG, on vCPU 1 */
    EXPECT_SMP(h, 1, 1, 0, 0);
    assert_int_equal(gk_switch(h->gk, 1), GK_OK); /* vCPU 0 has it still */
    assert_int_equal(val(h, a), 100);
    EXPECT_SMP(h, 0, 0, 0, 0);
    gk_run_on(h->gk, 1); /* a thread of process 1 beside process 2 */
    assert_int_equal(val(h, a + P4), 101);
    assert_int_equal(gk_munmap(h->gk, a, P4), GK_OK); /* loaded on both */
    EXPECT_SMP(h, 2, 1, 1, 1);
    assert_int_equal(gk_switch(h->gk, three), GK_OK); /* now process 1 is on vCPU 1 only */
    assert_int_equal(gk_switch(h->gk, 1), GK_OK);     /* its own vCPU is 0: loaded again */
    assert_true(cached(h, 1, a + P4));
    EXPECT_SMP(h, 0, 2, 0, 0);
    assert_int_equal(gk_switch(h->gk, two),
                     GK_OK); /* takes vCPU 1 from it, keeping what is cached */
    assert_int_equal(gk_switch(h->gk, 1), GK_OK);
    assert_true(cached(h, 1, a + P4));
    EXPECT_SMP(h, 0, 1, 0, 0);
    assert_int_equal(gk_munmap(h->gk, a + P4, P4),
                     GK_OK); /* vCPU 1 has process 2: no IPI, but stale */
    assert_true(cached(h, 1, a + P4));
    EXPECT_SMP(h, 1, 0, 0, 0);
    gk_run_on(h->gk, 1);
    assert_false(cached(h, 1, a + P4));
    EXPECT_SMP(h, 0, 1, 0, 0);
    assert_int_equal(gk_switch(h->gk, two), GK_OK);
    assert_int_equal(gk_switch(h->gk, 1), GK_OK);
    reset(h);
    end(h, two); /* vCPU 1 has it: an IPI, and it loads process 1 */
    EXPECT_SMP(h, 0, 1, 1, 1);
    assert_int_equal(gk_switch(h->gk, three), GK_OK);
    reset(h);
    end(h, three); /* it runs: vCPU 0 loads process 1 by itself */
    EXPECT_SMP(h, 0, 1, 0, 0);
    halt(h);
}

/* A global page may be cached by a vCPU that has another process now: every vCPU that was started is
 * reached, page by page. */
static void test_global_shootdown(void **s)
{
    (void)s;
    struct gk_config cfg = CONFIG(64 * MIB, MIB, 4, PAGES_4K, true, 33);
    cfg.cpus = 4;
    struct hw *h = boot_cfg(&cfg);
    gva_t a = map(h, 2 * P4, RW, GK_GLOBAL);
    touch(h, a, 2);
    int child = fork_of(h);
    assert_int_equal(gk_switch(h->gk, child), GK_OK); /* on vCPU 1 */
    assert_int_equal(val(h, a), 100);
    end(h, child);
    reset(h);
    assert_int_equal(gk_munmap(h->gk, a, 2 * P4), GK_OK);
    EXPECT_SMP(h, 4, 0, 2, 2);
    assert_false(cached(h, 1, a));
    halt(h);
}

/* ---- the tree of address ranges ---- */
static unsigned depth(const struct vma *v)
{
    if (!v)
        return 0;
    unsigned l = depth(v->left), r = depth(v->right);
    return (l > r ? l : r) + 1;
}

/* Whatever the order in which ranges come and go, the recursions over them stay shallow: an AVL
 * tree of n nodes has at most 1.45 log2(n + 2) levels. */
static void test_tree_depth(void **s)
{
    (void)s;
    enum { N = 4096, MOST = 17, MOST_HALF = 15 };
    struct hw *h = boot(64 * MIB, PAGES_4K, 4, true);
    for (unsigned order = 0; order < 3; order++) {
        for (uint64_t i = 0; i < N; i++) {
            uint64_t at[] = {i, N - 1 - i, i % 2 ? N - 1 - i / 2 : i / 2};
            gva_t out, va = GIB + at[order] * 2 * P4; /* a hole after each keeps them apart */
            assert_int_equal(gk_mmap(h->gk, va, P4, RW, GK_FIXED, &out), GK_OK);
        }
        assert_in_range(depth(h->gk->cur->root), 12, MOST);
        assert_null(gk_check(h->gk));
        for (uint64_t i = 0; i < N / 2; i++)
            assert_int_equal(gk_munmap(h->gk, GIB + i * 2 * P4, P4), GK_OK);
        assert_in_range(depth(h->gk->cur->root), 11, MOST_HALF);
        assert_null(gk_check(h->gk));
        assert_int_equal(gk_munmap(h->gk, GIB, N * 2 * P4), GK_OK);
    }
    assert_no_leak(h);
    halt(h);
}

/* ---- primary regions ---- */
/* 64 pages: 63 are too few, and those of a shared, executable or read-only mapping are not ones. 64
 * leaves and L-1 links are written at once; straight counts what the segment translates. */
static void test_primary_region(void **state)
{
    (void)state;
    struct gk_config c = CONFIG(64 * MIB, MIB, 4, PAGES_4K, false, 33);
    c.segment_bytes = 64 * P4;
    struct hw *h = boot_cfg(&c);
    map(h, 63 * P4, RW, 0);
    map(h, 64 * P4, GK_READ, 0);
    map(h, 64 * P4, RW | GK_EXEC, 0);
    map(h, 64 * P4, RW, GK_SHARED);
    EXPECT(h, 0, 0, 0, 0, 0);
    assert_int_equal(h->segments, 0);
    gva_t a = map(h, 64 * P4, RW, 0);
    EXPECT(h, 64 + 3, 0, 0, 0, 0);
    assert_int_equal(h->segments, 1);
    map(h, 64 * P4, RW, 0); /* one a process */
    touch(h, a, 64);        /* all is mapped: no fault, no write */
    EXPECT(h, 0, 0, 0, 0, 0);
    assert_int_equal(h->straight, 64);

    assert_int_equal(gk_mprotect(h->gk, a, 4 * P4, GK_READ), GK_OK);
    check_segments(h);
    assert_int_equal(h->straight, 60);
    assert_int_equal(gk_mprotect(h->gk, a, 4 * P4, RW), GK_OK);
    check_segments(h);
    assert_int_equal(h->straight, 64);
    assert_int_equal(gk_munmap(h->gk, a + 60 * P4, 4 * P4), GK_OK);
    check_segments(h);
    assert_int_equal(h->straight, 60);
    assert_int_equal(gk_mmap(h->gk, a + 60 * P4, 4 * P4, RW, GK_FIXED, &a), GK_OK);
    touch(h, a, 4); /* the same addresses again, but not marked before they were used */
    a -= 60 * P4;
    assert_int_equal(h->straight, 60);

    /* The very frame that the segment says, and every right, but a load has not set D. */
    gva_t last = a + 59 * P4;
    uint64_t size, was = walk(h, h->on->cr3, last, &size, &(gpa_t){0});
    assert_int_equal(gk_munmap(h->gk, last, P4), GK_OK);
    assert_int_equal(gk_mmap(h->gk, last, P4, RW, GK_FIXED, &last), GK_OK);
    assert_int_equal(val(h, last), 0);
    assert_int_equal(gk_mprotect(h->gk, last, P4, GK_READ), GK_OK);
    assert_int_equal(gk_mprotect(h->gk, last, P4, RW), GK_OK);
    assert_int_equal(walk(h, h->on->cr3, last, &size, &(gpa_t){0}), was & ~PTE_D);
    check_segments(h);
    assert_int_equal(h->straight, 59);

    int child = fork_of(h); /* all is copy on write */
    assert_int_equal(h->straight, 0);
    touch(h, a, 10); /* ten pages are copied: other frames */
    assert_int_equal(h->straight, 0);
    end(h, child);
    touch(h, a, 60); /* but for the last, the others are the parent's own again, and D is set */
    assert_int_equal(h->straight, 49);

    assert_int_equal(gk_munmap(h->gk, a, 64 * P4), GK_OK);
    assert_null(segment_of(h, h->on->cr3));
    map(h, 64 * P4, RW, 0);
    assert_int_equal(h->segments, 2);
    halt(h);
}

/* Every page size; without a run of frames the mapping is an ordinary one. */
static void test_primary_region_sizes(void **state)
{
    (void)state;
    static const struct {
        enum page_mode mode;
        unsigned pages, size; /* of the region, in pages of its size */
    } want[] = {{PAGES_4K, 2560, 0}, {PAGES_2M, 5, 9}, {PAGES_THP, 5, 9}};
    for (unsigned i = 0; i < 3; i++) {
        struct gk_config c = CONFIG(64 * MIB, MIB, 5, want[i].mode, true, 33);
        c.segment_bytes = 4 * MIB;
        struct hw *h = boot_cfg(&c);
        gva_t a = map(h, 10 * MIB, RW, 0);
        check_tlb(h);
        assert_int_equal(h->straight, want[i].pages);
        assert_int_equal(h->segment[0].s.order, want[i].size);
        assert_int_equal(gk_munmap(h->gk, a + 3 * P2M / 2, P4), GK_OK); /* splits a large page */
        check_tlb(h);
        assert_int_equal(h->straight, want[i].pages - 1);
        assert_int_equal(gk_munmap(h->gk, a, 10 * MIB), GK_OK);
        unsigned before = h->segments;
        a = map(h, 256 * MIB, RW, 0); /* no such run */
        assert_int_equal(h->segments, before);
        assert_int_equal(put(h, a, 1), GK_OK);
        assert_int_equal(gk_munmap(h->gk, a, 256 * MIB), GK_OK);
        assert_no_leak(h);
        halt(h);
    }
}

/* Runs of frames: aligned, free before, longer than the largest block; all come back. */
static void test_runs(void **state)
{
    (void)state;
    struct hw *h = boot(3 * GIB, PAGES_4K, 4, false);
    struct rng r;
    uint64_t total = gk_free_frames(h->gk);
    uint32_t at[40], end[40];
    rng_seed(&r, 7);
    for (unsigned round = 0; round < 50; round++) {
        unsigned n = 0;
        for (unsigned i = 0; i < 40; i++) {
            unsigned order = (unsigned)rng_below(&r, 10);
            uint64_t frames = 1 + rng_below(&r, i ? 30000 : 400000);
            uint32_t f = pmm_take_run(h->gk, frames, order);
            if (f == NO_FRAME)
                continue;
            assert_int_equal(f & ((1u << order) - 1), 0);
            for (unsigned k = 0; k < n; k++)
                assert_true(f + frames <= at[k] || f >= end[k]);
            at[n] = f;
            end[n++] = f + (uint32_t)frames;
        }
        assert_true(n > 10);
        while (n--)
            pmm_free_run(h->gk, at[n], end[n]);
        assert_int_equal(gk_free_frames(h->gk), total);
        assert_null(gk_check(h->gk));
    }
    uint32_t f = pmm_take_run(h->gk, 500000, 18); /* 1.9 GiB */
    assert_int_equal(f, 1u << 18);
    pmm_free_run(h->gk, f, f + 500000);
    halt(h);
}

/* ---- a random program against a plain model ---- */
#define WINDOW 4096 /* pages */
#define NPROC 5

struct cell { /* what one page holds; shared by several processes under GK_SHARED */
    uint64_t value;
    int refs;
};

struct page {
    struct cell *cell; /* NULL: not mapped */
    uint8_t prot;
    bool shared;
};

struct world {
    struct hw *h;
    struct rng r;
    enum page_mode mode;
    struct page page[NPROC][WINDOW];
    int pid[NPROC]; /* 0: none */
    int cur;
};

static void drop(struct page *p)
{
    if (p->cell && !--p->cell->refs)
        free(p->cell);
    *p = (struct page){0};
}

static gva_t va_of(unsigned i) { return GK_USER_BASE + i * P4; }
static unsigned pick(struct world *w, unsigned n) { return (unsigned)rng_below(&w->r, n); }

static unsigned pick_len(struct world *w, unsigned from)
{
    unsigned n = 1 + (pick(w, 4) ? pick(w, 40) : pick(w, 1500));
    return n < WINDOW - from ? n : WINDOW - from;
}

static void step_mmap(struct world *w)
{
    unsigned from = pick(w, WINDOW - 1), n = pick_len(w, from), prot = pick(w, 8), flags = 0;
    bool fixed = pick(w, 3), taken = false;
    flags |= (fixed ? GK_FIXED : 0) | (pick(w, 4) ? 0 : GK_SHARED) | (pick(w, 8) ? 0 : GK_POPULATE);
    flags |= pick(w, 5) ? 0 : GK_4K;
    struct page *pages = w->page[w->cur];
    gva_t out = 0;
    int err = gk_mmap(w->h->gk, fixed ? va_of(from) : 0, n * P4, prot, flags, &out);
    for (unsigned i = from; fixed && i < from + n; i++)
        taken |= pages[i].cell != NULL;
    if (taken)
        assert_int_equal(err, GK_EEXIST);
    if (err) {
        assert_true(err == GK_ENOMEM || (taken && err == GK_EEXIST));
        return;
    }
    assert_true(!fixed || out == va_of(from));
    from = (unsigned)((out - GK_USER_BASE) / P4);
    if (!fixed && w->mode == PAGES_2M && !(flags & GK_4K)) /* the kernel rounded it up */
        n = (n + 511) & ~511u;
    if (out + n * P4 > va_of(WINDOW)) { /* outside the model: must go, whatever it costs */
        w->h->kmem_left += 8 * KIB;
        assert_int_equal(gk_munmap(w->h->gk, out, n * P4), GK_OK);
        return;
    }
    for (unsigned i = from; i < from + n; i++) {
        assert_null(pages[i].cell);
        pages[i] = (struct page){calloc(1, sizeof(struct cell)), (uint8_t)prot, flags & GK_SHARED};
        pages[i].cell->refs = 1;
    }
}

static void step_munmap(struct world *w)
{
    unsigned from = pick(w, WINDOW), n = pick_len(w, from);
    int err = gk_munmap(w->h->gk, va_of(from), n * P4);
    if (err) {
        assert_int_equal(err, GK_ENOMEM);
        return;
    }
    for (unsigned i = from; i < from + n; i++)
        drop(&w->page[w->cur][i]);
}

static void step_mprotect(struct world *w)
{
    unsigned from = pick(w, WINDOW), n = pick_len(w, from), prot = pick(w, 8);
    bool hole = false;
    struct page *pages = w->page[w->cur];
    for (unsigned i = from; i < from + n; i++)
        hole |= !pages[i].cell;
    int err = gk_mprotect(w->h->gk, va_of(from), n * P4, prot);
    if (hole || err) {
        assert_int_equal(err, GK_ENOMEM);
        return;
    }
    for (unsigned i = from; i < from + n; i++)
        pages[i].prot = (uint8_t)prot;
}

static void step_access(struct world *w)
{
    unsigned i = pick(w, WINDOW);
    struct page *p = &w->page[w->cur][i];
    for (unsigned n = 0; n < 64 && !p->cell; n++) /* mostly to mapped pages */
        p = &w->page[w->cur][i = (i + 61) % WINDOW];
    bool store = pick(w, 2);
    uint64_t value = rng_next(&w->r), seen = 0;
    int err = store ? put(w->h, va_of(i), value) : get(w->h, va_of(i), &seen);
    if (!p->cell || !(store ? p->prot & GK_WRITE : p->prot)) {
        assert_int_equal(err, GK_SEGV);
        return;
    }
    if (err) {
        assert_int_equal(err, GK_ENOMEM);
        return;
    }
    if (store)
        p->cell->value = value;
    else
        assert_int_equal(seen, p->cell->value);
}

static void step_fork(struct world *w)
{
    int slot = 0, pid = 0;
    while (slot < NPROC && w->pid[slot])
        slot++;
    if (slot == NPROC)
        return;
    int err = gk_fork(w->h->gk, &pid);
    if (err) {
        assert_int_equal(err, GK_ENOMEM);
        return;
    }
    w->pid[slot] = pid;
    for (unsigned i = 0; i < WINDOW; i++) {
        struct page *p = &w->page[slot][i];
        *p = w->page[w->cur][i];
        if (!p->cell)
            continue;
        if (p->shared) {
            p->cell->refs++;
        } else {
            p->cell = malloc(sizeof *p->cell);
            *p->cell = (struct cell){w->page[w->cur][i].cell->value, 1};
        }
    }
}

static void step_exit(struct world *w)
{
    int slot = 1 + (int)pick(w, NPROC - 1);
    if (!w->pid[slot])
        return;
    end(w->h, w->pid[slot]);
    for (unsigned i = 0; i < WINDOW; i++)
        drop(&w->page[slot][i]);
    w->pid[slot] = 0;
    if (w->cur == slot)
        w->cur = 0;
}

static void step_thread(struct world *w) { gk_run_on(w->h->gk, pick(w, 16)); }

static void step_switch(struct world *w)
{
    int slot = (int)pick(w, NPROC);
    if (!w->pid[slot])
        return;
    assert_int_equal(gk_switch(w->h->gk, w->pid[slot]), GK_OK);
    w->cur = slot;
}

static void compare(void *ctx, int pid, gva_t va, gfn_t f, unsigned order, uint64_t pte)
{
    struct world *w = ctx;
    int slot = 0;
    (void)pte;
    while (w->pid[slot] != pid)
        slot++;
    unsigned first = (unsigned)((va - GK_USER_BASE) / P4);
    for (unsigned i = 0; i < 1u << order; i++) {
        const struct page *p = &w->page[slot][first + i];
        assert_non_null(p->cell);
        assert_int_equal(w->h->token[f.n + i], p->cell->value);
    }
}

static void random_program(uint64_t seed, uint64_t mem, enum page_mode mode, unsigned levels,
                           bool pcid, unsigned teas, unsigned cpus, unsigned steps)
{
    struct world *w = calloc(1, sizeof *w);
    struct gk_config c = CONFIG(mem, 100 * P4, levels, mode, pcid, seed % 3 ? 33 : 2);
    c.tea_registers = teas;
    c.cpus = cpus;
    c.segment_bytes = seed / 12 % 2 ? 64 * KIB : 0;
    w->h = boot_cfg(&c);
    w->mode = mode;
    if (seed % 4 == 3) /* kernel memory runs out, too */
        w->h->kmem_left = 24 * KIB;
    rng_seed(&w->r, seed);
    w->pid[0] = 1;
    for (unsigned n = 1; n <= steps; n++) {
        unsigned what = pick(w, 100);
        what < 8    ? step_mmap(w)
        : what < 14 ? step_munmap(w)
        : what < 21 ? step_mprotect(w)
        : what < 23 ? step_fork(w)
        : what < 25 ? step_exit(w)
        : what < 30 ? step_switch(w)
        : what < 34 ? step_thread(w)
                    : step_access(w);
        if (what < 34)
            check_tlb(w->h);
        if (what < 30)
            check_teas(w->h);
        if (n % 100 == 0 && gk_check(w->h->gk))
            fail_msg("seed %lu, %u teas, step %u: %s", (unsigned long)seed, teas, n,
                     gk_check(w->h->gk));
        if (n % 500 == 0)
            gk_for_each_page(w->h->gk, compare, w);
    }
    assert_true(!teas || mem < 64 * MIB || w->h->tea_hits > 0);
    for (int i = 1; i < NPROC; i++)
        if (w->pid[i])
            end(w->h, w->pid[i]);
    assert_int_equal(gk_switch(w->h->gk, 1), GK_OK);
    assert_int_equal(gk_munmap(w->h->gk, 0, GK_USER_TOP(levels)), GK_OK);
    assert_no_leak(w->h);
    assert_int_equal(w->h->segments != 0, c.segment_bytes != 0);
    for (int i = 0; i < NPROC; i++)
        for (unsigned k = 0; k < WINDOW; k++)
            drop(&w->page[i][k]);
    halt(w->h);
    free(w);
}

/* ---- translation entry areas ----
 *
 * Registers 2, L = 4. mmap of 20 MiB: tables for [256M, 276M) = 10 frames. A first touch costs the
 * same 4 writes as without areas, and the third frame of the area is the one linked for the third
 * 2 MiB. A child of fork has an area of its own.
 */
static void test_tea(void **s)
{
    (void)s;
    struct gk_config cfg = CONFIG(64 * MIB, MIB, 4, PAGES_4K, false, 33);
    cfg.tea_registers = 2;
    struct hw *h = boot_cfg(&cfg);
    gva_t a = map(h, 20 * MIB, RW, 0);
    int child;
    EXPECT(h, 0, 0, 0, 0, 0);
    assert_int_equal(h->on->nteas, 1);
    assert_int_equal(h->on->tea[0].start, a);
    assert_int_equal(tea_frames(&h->on->tea[0]), 10);
    assert_int_equal(gk_reserved_frames(h->gk), 10);
    touch(h, a + 2 * P2M, 1);
    EXPECT(h, 4, 0, 0, 0, 0);
    assert_int_equal(gk_reserved_frames(h->gk), 9);
    assert_true(h->mem[tea_entry(&h->on->tea[0], a + 2 * P2M) / 8] & PTE_P);
    const struct tea parent = h->on->tea[0];
    assert_int_equal(gk_fork(h->gk, &child), GK_OK);
    assert_int_equal(gk_switch(h->gk, child), GK_OK);
    assert_int_equal(h->on->tea[0].start, a);
    assert_int_not_equal(h->on->tea[0].table, parent.table);
    assert_true(h->mem[tea_entry(&h->on->tea[0], a + 2 * P2M) / 8] & PTE_P);
    /* Smaller ones come after larger ones, and only two have a register. A mapping beside another
     * that shares no table with it has an area of its own; one in the same table has none. */
    gva_t b = map(h, 64 * P4, RW, 0);
    assert_int_equal(b, a + 20 * MIB);
    assert_int_equal(map(h, 64 * P4, RW, 0), b + 64 * P4);
    gva_t c = map(h, 30 * MIB, RW, 0);
    assert_int_equal(h->on->nteas, 2);
    assert_int_equal(h->on->tea[0].start, (c & ~(P2M - 1)) + P2M); /* the first table is b's */
    assert_int_equal(tea_frames(&h->on->tea[0]), 15);
    assert_int_equal(h->on->tea[1].start, a);
    assert_int_equal(gk_exit(h->gk, child), GK_OK);
    assert_int_equal(h->on->tea[0].table, parent.table);
    assert_int_equal(h->tea_live, 1);
    assert_int_equal(gk_munmap(h->gk, a, 20 * MIB), GK_OK); /* the area stays, as tables do */
    assert_int_equal(gk_reserved_frames(h->gk), 9);
    assert_int_equal(h->on->nteas, 1);
    assert_no_leak(h);
    halt(h);
}

static void test_random(void **s)
{
    (void)s;
    static const enum page_mode modes[] = {PAGES_4K, PAGES_2M, PAGES_THP};
    const char *n = getenv("NB_TEST_SEEDS");
    unsigned seeds = n ? (unsigned)atoi(n) : 24;
    for (unsigned seed = 0; seed < seeds; seed++)
        random_program(seed, (seed & 1 ? 64 : 10) * MIB, modes[seed % 3], 4 + (seed / 2) % 2,
                       (seed / 3) & 1, 0, (unsigned[]){1, 2, 3, 8}[(seed + seed / 4) % 4], 20000);
    for (unsigned seed = 0; seed < seeds; seed++)
        random_program(seed, (seed & 1 ? 64 : 10) * MIB, modes[seed % 3], 4 + (seed / 2) % 2,
                       (seed / 3) & 1, 1 + seed % 5, (unsigned[]){1, 3}[seed / 2 % 2], 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demand_zero),
        cmocka_unit_test(test_munmap_counts),
        cmocka_unit_test(test_fork_counts),
        cmocka_unit_test(test_pcid),
        cmocka_unit_test(test_fork_chain),
        cmocka_unit_test(test_mprotect),
        cmocka_unit_test(test_split_2m),
        cmocka_unit_test(test_split_shared_by_fork),
        cmocka_unit_test(test_cow_2m),
        cmocka_unit_test(test_split_1g),
        cmocka_unit_test(test_unaligned_ends),
        cmocka_unit_test(test_thp),
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_shared_sizes),
        cmocka_unit_test(test_global),
        cmocka_unit_test(test_populate),
        cmocka_unit_test(test_fork_oom),
        cmocka_unit_test(test_kmem_oom),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_bad_config),
        cmocka_unit_test(test_many_processes),
        cmocka_unit_test(test_shootdown),
        cmocka_unit_test(test_processes_on_vcpus),
        cmocka_unit_test(test_global_shootdown),
        cmocka_unit_test(test_tree_depth),
        cmocka_unit_test(test_tea),
        cmocka_unit_test(test_primary_region),
        cmocka_unit_test(test_primary_region_sizes),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
