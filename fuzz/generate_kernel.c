/* generate_kernel.c: kernel programs. They live in a few windows of address space, near and far apart, so
 * that requests overlap and come back to what was mapped, and tables of every level come and go.
 */
#include "fuzz/kernel.h"
#include "fuzz/program.h"
#include "fuzz/source.h"

enum { WINDOW_PAGES = 1024, LIVE_MAX = 5 };

static const uint64_t windows[] = {GK_USER_BASE, GK_USER_BASE + (4 << 20), 1ull << 30,
                                   3ull << 30,   (1ull << 39) - (2 << 20), 5ull << 39};

struct maker {
    struct source src;
    struct fuzz_prog *p;
    uint64_t used[8]; /* addresses of late */
    unsigned nused;
    bool small;    /* no large pages: such programs are much faster */
    unsigned live; /* processes, if every request was granted */
};

static void emit(struct maker *g, enum op_kind kind, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    program_add(g->p, (struct op){kind, {a, b, c, d}});
}

static uint64_t some_page(struct maker *g)
{
    struct source *s = &g->src;
    uint64_t window = windows[draw(s, ARRAY_SIZE(windows))];
    if (g->nused && chance(s, 75)) {
        uint64_t page = g->used[draw(s, g->nused)] & ~PAGE_MASK;
        return page + (draw(s, 4) << PAGE_SHIFT);
    }
    return window + (draw(s, chance(s, 70) ? 16 : WINDOW_PAGES) << PAGE_SHIFT);
}

static void remember(struct maker *g, uint64_t va)
{
    g->used[g->nused < ARRAY_SIZE(g->used) ? g->nused++ : draw(&g->src, ARRAY_SIZE(g->used))] = va;
}

static uint64_t some_length(struct maker *g)
{
    struct source *s = &g->src;
    return (1 + draw(s, chance(s, 75) ? 8 : chance(s, 85) ? 50 : 600)) << PAGE_SHIFT;
}

static void map(struct maker *g)
{
    static const unsigned rights[] = {GK_READ | GK_WRITE,           GK_READ | GK_WRITE,
                                      GK_READ | GK_WRITE,           GK_READ,
                                      GK_READ | GK_WRITE | GK_EXEC, 0};
    static const unsigned sizes[] = {0, 0, GK_4K, GK_4K, GK_4K, GK_2M};
    static const unsigned more[] = {0, 0, 0, GK_SHARED, GK_GLOBAL};
    struct source *s = &g->src;
    uint64_t at = some_page(g), bytes = some_length(g);
    unsigned flags = sizes[draw(s, ARRAY_SIZE(sizes))];
    flags |= more[draw(s, ARRAY_SIZE(more))];
    flags |= chance(s, 15) ? GK_POPULATE : 0;
    if (g->small)
        flags &= ~(unsigned)GK_2M;
    else if (flags & GK_2M || chance(s, 10)) {
        at &= ~((1ull << SHIFT_2M) - 1);
        bytes = (1 + draw(s, 2)) << SHIFT_2M;
    }
    if (chance(s, 85))
        flags |= GK_FIXED;
    else if (chance(s, 50))
        at = 0;
    emit(g, OP_KERNEL_map, at, bytes, flags, rights[draw(s, ARRAY_SIZE(rights))]);
    remember(g, at ? at : GK_USER_BASE);
}

static void unmap(struct maker *g)
{
    uint64_t bytes = some_length(g);
    emit(g, OP_KERNEL_unmap, some_page(g), bytes, 0, 0);
}

static void protect(struct maker *g)
{
    static const unsigned rights[] = {GK_READ, GK_READ, GK_READ | GK_WRITE, GK_READ | GK_WRITE, 0};
    unsigned may = rights[draw(&g->src, 5)];
    uint64_t bytes = some_length(g);
    emit(g, OP_KERNEL_protect, some_page(g), bytes, may, 0);
}

static void fork_or_exit(struct maker *g)
{
    struct source *s = &g->src;
    if (g->live < LIVE_MAX && chance(s, 60)) {
        emit(g, OP_KERNEL_fork, 0, 0, 0, 0);
        g->live++;
        return;
    }
    emit(g, OP_KERNEL_exit, draw(s, LIVE_MAX), 0, 0, 0);
    g->live -= g->live > 1;
}

static void touch(struct maker *g)
{
    struct source *s = &g->src;
    uint64_t page = some_page(g), at = page + 8 * draw(s, 512), what = draw(s, 100);
    if (what < 40)
        emit(g, OP_KERNEL_load, at, 0, 0, 0);
    else if (what < 80)
        emit(g, OP_KERNEL_store, at, 1 + draw(s, 1 << 16), 0, 0);
    else {
        uint64_t step = (1 + draw(s, 3)) * (PAGE_SIZE + 8);
        emit(g, OP_KERNEL_sweep, at, 1 + draw(s, 24), step, 0);
    }
    if (chance(s, 20))
        remember(g, at);
}

/* Frames just above what the kernel keeps for itself: those that are given out first. */
static void host_moves(struct maker *g)
{
    struct source *s = &g->src;
    uint64_t n = 1 + draw(s, 63);
    emit(g, OP_KERNEL_move, (gk_reserved_bytes(KERNEL_MEM) >> PAGE_SHIFT) + draw(s, 4096), n, 0, 0);
}

static void one_op(struct maker *g)
{
    struct source *s = &g->src;
    uint64_t what = draw(s, 100);
    if (what < 12)
        map(g);
    else if (what < 18)
        unmap(g);
    else if (what < 28)
        protect(g);
    else if (what < 34)
        fork_or_exit(g);
    else if (what < 44)
        emit(g, OP_KERNEL_switch, draw(s, g->live), 0, 0, 0);
    else if (what < 49)
        emit(g, OP_KERNEL_cpu, draw(s, 4), 0, 0, 0);
    else if (what < 55)
        host_moves(g);
    else
        touch(g);
}

static void make(struct maker *g, bool more(const struct maker *, unsigned), unsigned n)
{
    g->small = chance(&g->src, 75);
    for (unsigned i = 0; i < 3; i++)
        map(g);
    while (more(g, n))
        one_op(g);
}

static bool too_few(const struct maker *g, unsigned n) { return g->p->n < n; }
static bool bytes_left(const struct maker *g, unsigned n)
{
    (void)n;
    return g->src.byte < g->src.end;
}

void program_kernel(struct fuzz_prog *p, struct rng *rng, unsigned n)
{
    struct maker g = {.src = {.rng = rng}, .p = p, .live = 1};
    *p = (struct fuzz_prog){.kind = PROGRAM_KERNEL, .levels = 4 + (unsigned)rng_below(rng, 2)};
    make(&g, too_few, n);
}

void program_kernel_of_bytes(struct fuzz_prog *p, const unsigned char *byte, size_t len)
{
    struct maker g = {.src = {.byte = byte, .end = byte + len}, .p = p, .live = 1};
    *p = (struct fuzz_prog){.kind = PROGRAM_KERNEL};
    p->levels = 4 + (unsigned)draw(&g.src, 2);
    make(&g, bytes_left, 0);
}
