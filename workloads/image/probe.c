/* probe.c: the programs "probe:NAME": the ring-3 half of what guest/image/probe.h describes.
 *
 * Each program is one struct probe: memory it needs, what to do before a batch, and n events. A batch
 * is run twice, without and with its events, between marks. The first batch is a warm-up for whoever
 * reads the marks.
 */
#include "guest/image/probe.h"
#include "workloads/image/sys.h"

#define GIB (1ull << SHIFT_1G)
#define APART (8 * PAGE_SIZE) /* between pages of probe:fill: no KVM maps so far ahead by itself */

struct area {
    gva_t at;
    uint64_t n;     /* events of a batch */
    uint64_t batch; /* from 0 */
};

struct probe {
    gva_t (*memory)(struct user *, uint64_t n, uint64_t batches); /* or NULL */
    void (*begin)(struct user *, const struct area *);            /* once, or NULL */
    void (*prepare)(struct user *, const struct area *);          /* before each batch, or NULL */
    void (*events)(struct user *, const struct area *, bool empty);
    void (*end)(struct user *, const struct area *); /* once, or NULL */
};

static void run(struct user *u, const uint64_t *p, const struct probe *probe)
{
    struct area a = {.n = p[PROBE_EVENTS]};
    u_phase(u, "setup");
    if (probe->memory)
        a.at = probe->memory(u, a.n, p[PROBE_BATCHES]);
    if (probe->begin)
        probe->begin(u, &a);
    u_phase(u, "work");
    for (a.batch = 0; a.batch < p[PROBE_BATCHES]; a.batch++) {
        if (probe->prepare)
            probe->prepare(u, &a);
        sys_mark(PROBE_BEGIN);
        probe->events(u, &a, true);
        sys_mark(PROBE_EMPTY);
        sys_mark(PROBE_BEGIN);
        probe->events(u, &a, false);
        sys_mark(PROBE_END);
    }
    if (probe->end)
        probe->end(u, &a);
}

/* ---- memory ---- */
static gva_t map(struct user *u, gva_t hint, uint64_t len, unsigned flags)
{
    gva_t at = hint;
    if (u_mmap(u, hint, len, GK_READ | GK_WRITE, flags, &at) != GK_OK)
        u_abort(u, "the guest has no memory for this probe");
    return at;
}

static gva_t one_page(struct user *u, uint64_t n, uint64_t batches)
{
    (void)n, (void)batches;
    gva_t at = map(u, 0, PAGE_SIZE, GK_4K | GK_POPULATE);
    st(u, at);
    return at;
}

/* n pages, used by every batch. */
static gva_t some_pages(struct user *u, uint64_t n, uint64_t batches)
{
    (void)batches;
    return map(u, 0, n * PAGE_SIZE, GK_4K | GK_POPULATE);
}

/* n pages for each batch, mapped by the guest, and never touched by anybody. */
static gva_t fresh_pages(struct user *u, uint64_t n, uint64_t batches)
{
    return map(u, 0, n * batches * PAGE_SIZE, GK_4K | GK_POPULATE);
}

/* The same with n blocks of 2 MiB for each batch. */
static gva_t fresh_blocks(struct user *u, uint64_t n, uint64_t batches)
{
    return map(u, 0, n * batches << SHIFT_2M, GK_2M | GK_POPULATE);
}

static gva_t sparse_pages(struct user *u, uint64_t n, uint64_t batches)
{
    (void)batches;
    return map(u, 0, n * APART, GK_4K | GK_POPULATE);
}

/* A page in each of n GiB: each has a page directory of its own. */
static gva_t page_per_gib(struct user *u, uint64_t n, uint64_t batches)
{
    (void)batches;
    gva_t at = 64 * GIB;
    for (uint64_t i = 0; i < n; i++)
        map(u, at + i * GIB, PAGE_SIZE, GK_4K | GK_FIXED | GK_POPULATE);
    return at;
}

static void touch(struct user *u, gva_t at, uint64_t n, uint64_t step, bool empty)
{
    for (uint64_t i = 0; i < n; i++, at += step) {
        if (empty)
            __asm__ volatile("" : : "r"(at));
        else
            st(u, at);
    }
}

/* ---- ring 0 runs the loop ---- */
static void ask(struct user *u, unsigned part, const struct area *a)
{
    if (sys_probe(part, a->n, a->at) != GK_OK)
        u_abort(u, "ring 0 refused its part of a probe");
}

static void loop(struct user *u, const struct area *a, bool empty, unsigned part)
{
    ask(u, empty ? part | PROBE_NO_EVENT : part, a);
}

#define RING0_LOOP(name, part) \
    static void name(struct user *u, const struct area *a, bool empty) { loop(u, a, empty, part); }
RING0_LOOP(pio0, PROBE_LOOP_PIO)
RING0_LOOP(cpuid0, PROBE_LOOP_CPUID)
RING0_LOOP(cr3, PROBE_LOOP_CR3)
RING0_LOOP(invlpg, PROBE_LOOP_INVLPG)
RING0_LOOP(leaf, PROBE_LOOP_LEAF)
RING0_LOOP(leaf_sync, PROBE_LOOP_LEAF_SYNC)
RING0_LOOP(upper, PROBE_LOOP_UPPER)

/* ---- ring 3 ---- */
static void map_mmio(struct user *u, const struct area *a) { ask(u, PROBE_MAP_MMIO, a); }
static void unmap_mmio(struct user *u, const struct area *a) { ask(u, PROBE_UNMAP_MMIO, a); }

static void pio3(struct user *u, const struct area *a, bool empty)
{
    (void)u;
    for (uint64_t i = 0; i < a->n; i++) {
        if (empty)
            __asm__ volatile("");
        else
            __asm__ volatile("outb %%al, %0" : : "i"(NB_PROBE_PORT));
    }
}

static void mmio3(struct user *u, const struct area *a, bool empty)
{
    touch(u, a->at, a->n, 0, empty);
}

static void cpuid3(struct user *u, const struct area *a, bool empty)
{
    (void)u;
    for (uint64_t i = 0; i < a->n; i++) {
        unsigned eax = 0;
        if (empty)
            __asm__ volatile("" : "+a"(eax));
        else
            __asm__ volatile("cpuid" : "+a"(eax) : : "ebx", "ecx", "edx");
    }
}

static void syscall3(struct user *u, const struct area *a, bool empty)
{
    (void)u;
    for (uint64_t i = 0; i < a->n; i++) {
        if (empty)
            __asm__ volatile("");
        else
            sys_probe(PROBE_NOTHING, 0, 0);
    }
}

/* ---- faults ---- */
static void touch_all(struct user *u, const struct area *a)
{
    touch(u, a->at, a->n, PAGE_SIZE, false);
}

static void protect(struct user *u, const struct area *a) { ask(u, PROBE_PROTECT, a); }

static void touch_pages(struct user *u, const struct area *a, bool empty)
{
    touch(u, a->at, a->n, PAGE_SIZE, empty);
}

static void touch_fresh(struct user *u, const struct area *a, bool empty)
{
    touch(u, a->at + a->batch * a->n * PAGE_SIZE, a->n, PAGE_SIZE, empty);
}

static void touch_blocks(struct user *u, const struct area *a, bool empty)
{
    touch(u, a->at + (a->batch * a->n << SHIFT_2M), a->n, 1ull << SHIFT_2M, empty);
}

static void touch_sparse(struct user *u, const struct area *a, bool empty)
{
    touch(u, a->at, a->n, APART, empty);
}

static void give_back(struct user *u, gva_t at, uint64_t len)
{
    if (sys_discard(at, len) != GK_OK)
        u_abort(u, "the host did not take pages back");
}

static void discard(struct user *u, const struct area *a) { give_back(u, a->at, a->n * PAGE_SIZE); }

static void discard_refill(struct user *u, const struct area *a)
{
    give_back(u, a->at, a->n * APART);
    sys_mark(PROBE_REFILL);
}

/* A fault through each directory: a KVM that shadows them takes them for used again. */
static void revive(struct user *u, const struct area *a)
{
    for (uint64_t i = 0; i < a->n; i++) {
        give_back(u, a->at + i * GIB, PAGE_SIZE);
        st(u, a->at + i * GIB);
    }
}

#define PROBE(ident, str, text, ...)                           \
    static void run_##ident(struct user *u, const uint64_t *p) \
    {                                                          \
        static const struct probe probe = {__VA_ARGS__};       \
        run(u, p, &probe);                                     \
    }                                                          \
    REGISTER_AS(workload, probe_##ident, "probe:" str, .summary = text, .run = run_##ident)

PROBE(syscall, "syscall", "INT and IRET: a system call that does nothing", .events = syscall3);
PROBE(pio0, "pio0", "port write from ring 0", .events = pio0);
PROBE(pio3, "pio3", "port write from ring 3", .events = pio3);
PROBE(mmio3, "mmio3", "store to a device's memory from ring 3", .memory = one_page,
      .begin = map_mmio, .events = mmio3, .end = unmap_mmio);
PROBE(cpuid0, "cpuid0", "CPUID from ring 0", .events = cpuid0);
PROBE(cpuid3, "cpuid3", "CPUID from ring 3", .events = cpuid3);
PROBE(cr3, "cr3", "MOV to CR3, everything flushed", .events = cr3);
PROBE(invlpg, "invlpg", "INVLPG", .memory = one_page, .events = invlpg);
PROBE(leaf, "pte-leaf", "stores to one leaf table in use", .memory = one_page, .events = leaf);
PROBE(leaf_sync, "pte-leaf-sync", "store to a leaf table that the last CR3 load synchronised",
      .memory = one_page, .events = leaf_sync);
PROBE(upper, "pte-upper", "store to a page directory in use", .memory = page_per_gib,
      .prepare = revive, .events = upper);
PROBE(fault, "fault", "page fault that the guest handles: a store to a page made read-only",
      .memory = some_pages, .begin = touch_all, .prepare = protect, .events = touch_pages);
PROBE(touch, "touch", "first touch of a page that the guest has mapped", .memory = fresh_pages,
      .events = touch_fresh);
PROBE(touch_huge, "touch-2m", "first touch of 2 MiB that the guest has mapped",
      .memory = fresh_blocks, .events = touch_blocks);
PROBE(retouch, "retouch", "touch of a page that the host took back", .memory = some_pages,
      .begin = touch_all, .prepare = discard, .events = touch_pages);
PROBE(fill, "fill", "touch of a page whose host frame is there, but not mapped",
      .memory = sparse_pages, .prepare = discard_refill, .events = touch_sparse);
