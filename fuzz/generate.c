/* generate.c: raw programs, from random numbers and from bytes.
 *
 * A program that only did random things would fault on every access. So tables have a role: of the 16
 * table frames the first three are roots, the rest are shared out among the levels below; entries mostly
 * lead one level down; accesses use the few indices that are ever written; a change is mostly, but not
 * always, followed by an invalidation. Anything else happens now and then: a table at a wrong level, a
 * table mapped as data, reserved bits, memory that is not there.
 *
 * No expression draws twice where C leaves the order open: the same seed is the same program on every
 * compiler.
 *
 * program_of_bytes() makes the same choices by bytes instead of random numbers, so that a fuzzer which
 * changes bytes changes a choice.
 */
#include "base/pte.h"
#include "fuzz/program.h"
#include "fuzz/source.h"

enum { MAX_WRITTEN = 256 };

/* What the program has put where, to change it later. */
struct maker {
    struct source src;
    struct fuzz_prog *p;
    uint64_t at[MAX_WRITTEN], entry[MAX_WRITTEN], va[8];
    unsigned nwritten, nva;
    uint64_t root;
    bool small; /* 4 KiB pages only */
};

static void emit(struct maker *g, enum op_kind kind, uint64_t a, uint64_t b, uint64_t c)
{
    program_add(g->p, (struct op){kind, {a, b, c}});
}

/* ---- places ---- */

/* Table frames by the level they are made for: 3 roots, then 4 for each of levels 3, 2, 1 (and one more
 * for 4 when there are 5). */
static uint64_t table_for(struct maker *g, unsigned level)
{
    struct source *s = &g->src;
    unsigned base, n;
    if (chance(s, 3))
        base = 0, n = RAW_NTABLES; /* of whatever level */
    else if (level == g->p->levels)
        base = 0, n = 2;
    else if (level == 4)
        base = 2, n = 2;
    else
        base = 4 + 4 * (3 - level), n = 2 + 2 * (level == 1);
    return (RAW_TABLES + base + draw(s, n)) << PAGE_SHIFT;
}

/* Few indices, so that programs come back to them; the upper half by the root's. */
static unsigned index_at(struct maker *g, unsigned level)
{
    static const unsigned low[] = {0, 1, 511}, root[] = {0, 1, 256};
    return level == g->p->levels ? root[draw(&g->src, 3)] : low[draw(&g->src, 3)];
}

static uint64_t some_va(struct maker *g)
{
    struct source *s = &g->src;
    unsigned top = 9 * g->p->levels + 12;
    uint64_t va = 8 * draw(s, 512);
    if (g->nva && chance(s, 80)) {
        va = g->va[draw(s, g->nva)];
        if (chance(s, 80))
            return va;
        uint64_t bit = 9 * draw(s, 5) + 12;
        return va ^ (1ull << (bit + draw(s, 2)));
    }
    if (chance(s, 1))
        return va | 1ull << (top - 1 + draw(s, 64 - top)); /* not canonical */
    for (unsigned l = 1; l <= g->p->levels; l++)
        va |= (uint64_t)index_at(g, l) << level_shift(l);
    if (va >> (top - 1))
        va |= ~0ull << (top - 1);
    g->va[g->nva < 8 ? g->nva++ : draw(s, 8)] = va;
    return va;
}

/* ---- entries ---- */

/* Of the frames for data. */
static uint64_t data_frame(struct source *s)
{
    uint64_t n = draw(s, 12);
    return RAW_TABLES + 32 + n + (chance(s, 30) ? 512 : 0);
}

static uint64_t leaf_target(struct maker *g, unsigned level)
{
    struct source *s = &g->src;
    if (chance(s, 3)) /* not there, or nearly */
        return chance(s, 50) ? (uint64_t)RAW_FRAMES << PAGE_SHIFT : 1ull << (40 + draw(s, 12));
    if (level == 3)
        return 0;
    if (level == 2)
        return draw(s, 4) << SHIFT_2M; /* one of them holds the tables */
    if (chance(s, 12))
        return (RAW_TABLES + draw(s, RAW_NTABLES)) << PAGE_SHIFT;
    return data_frame(s) << PAGE_SHIFT;
}

static uint64_t reserved(struct maker *g, unsigned level)
{
    return level > 3 ? PTE_PS : level > 1 ? 1ull << (13 + draw(&g->src, 8)) : 0;
}

static uint64_t some_entry(struct maker *g, unsigned level)
{
    static const struct {
        uint64_t bit;
        unsigned percent;
    } bits[] = {{PTE_P, 95}, {PTE_W, 80},  {PTE_U, 85},   {PTE_A, 60},   {PTE_D, 50},
                {PTE_G, 15}, {PTE_NX, 10}, {PTE_PWT, 10}, {PTE_SW1, 10}, {1ull << 60, 5}};
    struct source *s = &g->src;
    if (chance(s, 6))
        return 0;
    bool leaf = level == 1 || (level <= 3 && !g->small && chance(s, 25));
    uint64_t e = leaf ? leaf_target(g, level) : table_for(g, level - 1);
    e |= leaf && level > 1 ? PTE_PS : 0;
    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
        e |= chance(s, bits[i].percent) ? bits[i].bit : 0;
    return chance(s, 2) ? e | reserved(g, level) : e;
}

static unsigned find(const struct maker *g, uint64_t at)
{
    unsigned i = 0;
    while (i < g->nwritten && g->at[i] != at)
        i++;
    return i;
}

static void write_entry(struct maker *g, uint64_t at, uint64_t entry)
{
    unsigned i = find(g, at);
    if (i == g->nwritten && g->nwritten < MAX_WRITTEN)
        g->nwritten++;
    if (i < MAX_WRITTEN)
        g->at[i] = at, g->entry[i] = entry;
    emit(g, OP_RAW_write, at, entry, 0);
}

static void new_entry(struct maker *g)
{
    unsigned level = 1 + (unsigned)draw(&g->src, g->p->levels);
    uint64_t at = table_for(g, level);
    at += 8 * index_at(g, level);
    write_entry(g, at, some_entry(g, level));
}

/* Change rights, flags or presence of an entry, as kernels do. */
static void change_entry(struct maker *g)
{
    static const uint64_t bit[] = {PTE_W, PTE_W, PTE_U, PTE_A, PTE_D, PTE_P, PTE_NX, PTE_G};
    struct source *s = &g->src;
    if (!g->nwritten)
        return;
    unsigned i = (unsigned)draw(s, g->nwritten);
    uint64_t flip = bit[draw(s, ARRAY_SIZE(bit))];
    flip |= chance(s, 20) ? 1ull << PAGE_SHIFT : 0;
    write_entry(g, g->at[i], g->entry[i] ^ flip);
}

/* Make an address usable: write what is missing on its way. */
static void map_path(struct maker *g)
{
    struct source *s = &g->src;
    uint64_t va = some_va(g), table = g->root;
    for (unsigned level = g->p->levels; level >= 1; level--) {
        uint64_t at = table + 8 * level_index(va, level);
        unsigned i = find(g, at);
        uint64_t e = i < g->nwritten ? g->entry[i] : 0;
        bool leaf = level == 1 || (level <= 3 && !g->small && chance(s, 12));
        if (!(e & PTE_P)) {
            e = PTE_P | PTE_W | PTE_U | (chance(s, 50) ? PTE_A : 0);
            e |= leaf ? leaf_target(g, level) | (level > 1 ? PTE_PS : 0) : table_for(g, level - 1);
            write_entry(g, at, e);
        }
        if (pte_is_leaf(e, level))
            return;
        table = e & PTE_ADDR;
    }
}

/* ---- what goes wrong together ---- */

/* Places of the entries on the way to va, by level, as written; level of its leaf, or 0. */
static unsigned path_of(const struct maker *g, uint64_t va, uint64_t *at)
{
    uint64_t table = g->root;
    for (unsigned level = g->p->levels; level >= 1; level--) {
        at[level] = table + 8 * level_index(va, level);
        unsigned i = find(g, at[level]);
        if (i == g->nwritten || !(g->entry[i] & PTE_P))
            return 0;
        if (pte_is_leaf(g->entry[i], level))
            return level;
        table = g->entry[i] & PTE_ADDR;
    }
    return 0;
}

static void use(struct maker *g, uint64_t va)
{
    bool store = chance(&g->src, 50);
    emit(g, store ? OP_RAW_store : OP_RAW_load, va, WHO_USER, store ? draw(&g->src, 1 << 16) : 0);
}

/* Use an address, change an entry on its way, invalidate it by any address of its page, use it. */
static void change_used(struct maker *g)
{
    static const uint64_t bit[] = {PTE_W, PTE_U, PTE_P, PTE_A, PTE_D, 1ull << PAGE_SHIFT};
    struct source *s = &g->src;
    uint64_t va = some_va(g), at[6];
    unsigned leaf = path_of(g, va, at);
    if (!leaf)
        return;
    use(g, va);
    unsigned level = chance(s, 60) ? leaf : leaf + (unsigned)draw(s, g->p->levels - leaf + 1);
    uint64_t flip = bit[draw(s, level == leaf && leaf == 1 ? 6 : 5)];
    write_entry(g, at[level], g->entry[find(g, at[level])] ^ flip);
    if (chance(s, 80))
        emit(g, OP_RAW_invlpg, va ^ (leaf > 1 ? draw(s, 512) << PAGE_SHIFT : 0), 0, 0);
    use(g, va);
}

/* A program with its page table mapped as data: it stores there before and after the table is used. */
static void change_by_store(struct maker *g)
{
    struct source *s = &g->src;
    uint64_t va = some_va(g), other = some_va(g), at[6], at2[6];
    if (path_of(g, va, at) != 1 || path_of(g, other, at2) != 1 || at[1] == at2[1])
        return;
    uint64_t table = at[1] & ~PAGE_MASK, window = other & ~PAGE_MASK;
    write_entry(g, at2[1], table | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D);
    emit(g, OP_RAW_invlpg, window, 0, 0);
    emit(g, OP_RAW_store, window + 8 * 300, WHO_USER, draw(s, 1 << 16) & ~1ull);
    use(g, va);
    emit(g, OP_RAW_store, window + (at[1] & PAGE_MASK), WHO_USER,
         g->entry[find(g, at[1])] ^ (chance(s, 50) ? PTE_P : 1ull << PAGE_SHIFT));
    emit(g, OP_RAW_invlpg, va, 0, 0);
    use(g, va);
}

/* ---- operations ---- */

static void load_cr3(struct maker *g)
{
    static const unsigned pcid[] = {0, 1, 2, 0xfff};
    g->root = table_for(g, g->p->levels);
    bool keep = chance(&g->src, 50);
    emit(g, OP_RAW_cr3, g->root, pcid[draw(&g->src, 4)], keep);
}

static void invalidate(struct maker *g)
{
    static const unsigned pcid[] = {0, 1, 2, 0xfff};
    struct source *s = &g->src;
    if (chance(s, 65))
        emit(g, OP_RAW_invlpg, some_va(g), 0, 0);
    else if (chance(s, 50))
        load_cr3(g);
    else {
        uint64_t va = some_va(g), tag = pcid[draw(s, 4)];
        emit(g, OP_RAW_invpcid, draw(s, 4), tag, va);
    }
}

static void access_memory(struct maker *g)
{
    static const enum op_kind kinds[] = {OP_RAW_load, OP_RAW_store, OP_RAW_load, OP_RAW_store,
                                         OP_RAW_fetch};
    struct source *s = &g->src;
    enum op_kind kind = kinds[draw(s, ARRAY_SIZE(kinds))];
    uint64_t who = chance(s, 70) ? WHO_USER : 1 + draw(s, 2), va = some_va(g);
    uint64_t value = kind != OP_RAW_store ? 0 : chance(s, 10) ? some_entry(g, 1) : draw(s, 1 << 16);
    emit(g, kind, va, who, value);
}

static void host_moves(struct maker *g)
{
    struct source *s = &g->src;
    uint64_t first = chance(s, 50) ? RAW_TABLES + draw(s, RAW_NTABLES) : data_frame(s);
    emit(g, OP_RAW_move, first, 1 + draw(s, 4), 0);
}

static void read_entry(struct maker *g)
{
    uint64_t at = table_for(g, 1 + (unsigned)draw(&g->src, g->p->levels));
    emit(g, OP_RAW_read, at + 8 * draw(&g->src, 3), 0, 0);
}

static void one_op(struct maker *g)
{
    struct source *s = &g->src;
    uint64_t what = draw(s, 100);
    if (what < 38)
        access_memory(g);
    else if (what < 47)
        change_used(g);
    else if (what < 50)
        change_by_store(g);
    else if (what < 56)
        new_entry(g);
    else if (what < 64)
        map_path(g);
    else if (what < 76)
        change_entry(g);
    else if (what < 87)
        invalidate(g);
    else if (what < 90)
        load_cr3(g);
    else if (what < 93)
        emit(g, OP_RAW_control, draw(s, CTL_ALL + 1) | draw(s, CTL_ALL + 1), 0, 0);
    else if (what < 97)
        host_moves(g);
    else if (what < 98)
        emit(g, OP_RAW_clear, (RAW_TABLES + draw(s, RAW_NTABLES + 20)) << PAGE_SHIFT, 0, 0);
    else
        read_entry(g);
}

/* Tables to begin with. */
static void begin(struct maker *g)
{
    g->small = chance(&g->src, 50);
    load_cr3(g);
    for (unsigned i = 0; i < 6; i++)
        map_path(g);
}

void program_raw(struct fuzz_prog *p, struct rng *rng, unsigned n)
{
    struct maker g = {.src = {.rng = rng}, .p = p};
    *p = (struct fuzz_prog){.kind = PROGRAM_RAW, .levels = 4 + (unsigned)rng_below(rng, 2)};
    begin(&g);
    while (p->n < n)
        one_op(&g);
}

void program_of_bytes(struct fuzz_prog *p, const unsigned char *byte, size_t len)
{
    struct maker g = {.src = {.byte = byte, .end = byte + len}, .p = p};
    *p = (struct fuzz_prog){.kind = PROGRAM_RAW};
    p->levels = 4 + (unsigned)draw(&g.src, 2);
    begin(&g);
    while (g.src.byte < g.src.end)
        one_op(&g);
}
