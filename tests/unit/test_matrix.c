/* test_matrix.c: what every strategy says of every kind of entry and access, against the manual.
 *
 * Each case builds one path of guest tables, makes one access, and asks the oracle (fuzz/oracle.h):
 * same fault, same error code, same address, same A and D bits. The same access is made again, with
 * what the first has left in the TLBs. Cases are products over the bits that can matter together, and a
 * random sample of everything at once:
 *
 *   rights   {R/W, U/S, XD} of the leaf x the same of one entry above it x each entry above it x 8 kinds
 *            of access x {WP, SMEP, SMAP, NXE}
 *   flags    {P, A, D, R/W, G} x {nothing, a reserved bit, PAT} of the leaf x {P, A, a reserved bit} of
 *            one entry above x each of those x 8 kinds of access x {WP, NXE}
 *   nowhere  each entry of a path, and CR3, with an address where no memory is x 8 kinds of access
 *   sample   all of them at all levels
 *
 * for pages of 4 KiB, 2 MiB and 1 GiB, in both halves of the address space, on three machines per
 * strategy: 4 and 5 levels, each kind of walk cache, each size of host page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "fuzz/bare.h"

/* Places in the guest's memory of 2 GiB: tables above the frames that a modelled image owns. */
#define GIB (1ull << 30)
#define TABLES 0x300000ull
static const uint64_t page_at[] = {0, 0x654000, 0x800000, GIB};

static const struct access kinds[] = {
    {.store = false},
    {.store = true},
    {.fetch = true},
    {.supervisor = true},
    {.supervisor = true, .store = true},
    {.supervisor = true, .fetch = true},
    {.supervisor = true, .ac = true},
    {.supervisor = true, .store = true, .ac = true},
};
enum { NKINDS = ARRAY_SIZE(kinds), NOWHERE = 3 };

struct matrix {
    struct bare b;
    const char *paging;
    unsigned levels, leaf; /* of the path in use */
    uint64_t va, at[6];    /* by level: place of the entry */
    uint64_t root;         /* in CR3 */
    uint64_t cases;
};

static uint64_t peek(const void *ctx, uint64_t gpa) { return bare_peek(ctx, gpa); }

/* ---- one case ---- */

static void describe(const struct matrix *x, const uint64_t *entry, const struct access *a)
{
    const struct mmu_control *c = &x->b.mmu->ctl;
    print_error("%s, %u levels, host pages %u, %s: %s %s%s at 0x%llx, wp %d smep %d smap %d pge %d "
                "nxe %d\n",
                x->paging, x->levels, (unsigned)x->b.cfg.host_page, x->b.cfg.cpu->name,
                a->supervisor ? "supervisor" : "user",
                a->store   ? "store"
                : a->fetch ? "fetch"
                           : "load",
                a->ac ? " (AC)" : "", (unsigned long long)x->va, c->wp, c->smep, c->smap, c->pge,
                c->nxe);
    for (unsigned l = x->levels; l >= x->leaf; l--)
        print_error("  level %u: 0x%llx, now 0x%llx\n", l, (unsigned long long)entry[l],
                    (unsigned long long)bare_peek(&x->b, x->at[l]));
}

static void wrong(const struct matrix *x, const uint64_t *entry, const struct access *a,
                  const struct oracle_answer *want, const char *got, const char *when)
{
    char text[300];
    describe(x, entry, a);
    fail_msg("%s: the manual says %s, got %s", when, oracle_describe(want, text, sizeof text), got);
}

/* What the entry at `level` must be after the access. */
static uint64_t flagged(const struct matrix *x, const struct oracle_answer *want, unsigned level,
                        uint64_t e)
{
    for (unsigned i = 0; i < want->nset; i++)
        if (want->set[i].gpa == x->at[level])
            e |= want->set[i].bits;
    return e;
}

static void one_access(struct matrix *x, const uint64_t *entry, const struct access *kind, bool hot,
                       const char *when)
{
    struct access a = *kind;
    struct oracle_answer want;
    uint64_t before[6];
    hpa_t hpa = 0;
    a.va = x->va;
    const struct oracle_access oa = bare_oracle_access(&a);
    struct oracle_regs regs = bare_oracle_regs(&x->b);
    const struct oracle_memory mem = {x->b.cfg.mem, peek, &x->b};
    regs.root = x->root;
    oracle_translate(&regs, &mem, &oa, &want);
    for (unsigned l = x->leaf; l <= x->levels; l++)
        before[l] = bare_peek(&x->b, x->at[l]);
    char text[64];
    switch (bare_access(&x->b, &a, hot, &hpa)) {
    case BARE_DONE:
        if (want.kind != ORACLE_ADDRESS || !bare_is_at(&x->b, want.gpa, hpa))
            wrong(x, entry, &a, &want, "another address", when);
        break;
    case BARE_FAULT:
        snprintf(text, sizeof text, "a fault, error 0x%x", x->b.error);
        if (want.kind == ORACLE_ADDRESS ||
            x->b.error != (want.kind == ORACLE_GP ? FAULT_GP : want.error))
            wrong(x, entry, &a, &want, text, when);
        break;
    default:
        wrong(x, entry, &a, &want, "no progress", when);
    }
    for (unsigned l = x->leaf; l <= x->levels; l++)
        if (bare_peek(&x->b, x->at[l]) != flagged(x, &want, l, before[l]))
            wrong(x, entry, &a, &want, "other flags", when);
}

static void one_case(struct matrix *x, const uint64_t *entry, const struct access *a)
{
    for (unsigned l = x->leaf; l <= x->levels; l++)
        if (bare_peek(&x->b, x->at[l]) != entry[l])
            mmu_guest_pt_write(x->b.mmu, x->at[l], entry[l]);
    mmu_guest_invlpg(x->b.mmu, x->va);
    mmu_guest_return(x->b.mmu);
    one_access(x, entry, a, false, "first");
    one_access(x, entry, a, !a->supervisor && !a->fetch, "again");
    x->cases++;
}

/* ---- products ---- */

static void control(struct matrix *x, bool wp, bool smep, bool smap, bool pge, bool nxe)
{
    const struct mmu_control c = {.wp = wp, .smep = smep, .smap = smap, .pge = pge, .nxe = nxe};
    if (memcmp(&c, &x->b.mmu->ctl, sizeof c))
        mmu_guest_control(x->b.mmu, &c);
}

/* Path with all rights and A set; the leaf maps its size. */
static void plain_path(const struct matrix *x, uint64_t *entry)
{
    for (unsigned l = x->levels; l > x->leaf; l--)
        entry[l] = (x->at[l - 1] & ~PAGE_MASK) | PTE_P | PTE_W | PTE_U | PTE_A;
    entry[x->leaf] =
        page_at[x->leaf] | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D | (x->leaf > 1 ? PTE_PS : 0);
}

static uint64_t rights_bits(unsigned k)
{
    return (k & 1 ? PTE_W : 0) | (k & 2 ? PTE_U : 0) | (k & 4 ? PTE_NX : 0);
}

static void rights(struct matrix *x, unsigned upper)
{
    const uint64_t all = PTE_W | PTE_U | PTE_NX;
    uint64_t entry[6], base[6];
    plain_path(x, base);
    for (unsigned c = 0; c < 16; c++) {
        control(x, c & 1, c & 2, c & 4, true, c & 8);
        for (unsigned up = 0; up < 8; up++)
            for (unsigned leaf = 0; leaf < 8; leaf++)
                for (unsigned k = 0; k < NKINDS; k++) {
                    memcpy(entry, base, sizeof entry);
                    entry[upper] = (entry[upper] & ~all) | rights_bits(up);
                    entry[x->leaf] = (entry[x->leaf] & ~all) | rights_bits(leaf);
                    one_case(x, entry, &kinds[k]);
                }
    }
}

/* A reserved bit of an entry at this level, alternating when there are several. */
static uint64_t reserved_bit(unsigned level, bool leaf, unsigned n)
{
    if (level > 3)
        return PTE_PS;
    if (level > 1 && leaf)
        return n & 1 ? 1ull << 13 : 1ull << (level_shift(level) - 1);
    return PTE_NX; /* while NXE is clear */
}

static uint64_t flag_bits(unsigned k, uint64_t e)
{
    static const uint64_t bit[] = {PTE_P, PTE_A, PTE_D, PTE_W, PTE_G};
    for (unsigned i = 0; i < ARRAY_SIZE(bit); i++)
        e = k >> i & 1 ? e | bit[i] : e & ~bit[i];
    return e;
}

static void flags(struct matrix *x, unsigned upper)
{
    uint64_t entry[6], base[6];
    plain_path(x, base);
    for (unsigned c = 0; c < 4; c++) {
        control(x, c & 1, true, true, true, c & 2);
        for (unsigned leaf = 0; leaf < 3 * 32; leaf++)
            for (unsigned up = 0; up < 8; up++)
                for (unsigned k = 0; k < NKINDS; k++) {
                    memcpy(entry, base, sizeof entry);
                    entry[x->leaf] = flag_bits(leaf / 3, base[x->leaf]);
                    entry[x->leaf] |= leaf % 3 == 1 ? reserved_bit(x->leaf, true, leaf + up) : 0;
                    entry[x->leaf] |= leaf % 3 == 2 && x->leaf > 1 ? 1ull << 12 : 0; /* PAT */
                    entry[upper] &= up & 1 ? ~0ull : ~PTE_P;
                    entry[upper] &= up & 2 ? ~0ull : ~PTE_A;
                    entry[upper] |= up & 4 ? reserved_bit(upper, false, 0) : 0;
                    one_case(x, entry, &kinds[k]);
                }
    }
}

static void load_root(struct matrix *x, uint64_t root)
{
    x->root = root;
    mmu_guest_cr3(x->b.mmu, root);
}

/* Addresses just beyond memory, and ones that differ from memory's only in bits that four levels of
 * nested tables do not index, and that are reserved (PTE_GUEST_RSVD): those must not be taken for what
 * is in memory. MOV to CR3 would not take the latter (#GP). */
static void nowhere(struct matrix *x)
{
    static const uint64_t bit[NOWHERE] = {2 * GIB, 1ull << 48, 1ull << 51};
    const uint64_t root = x->root;
    uint64_t entry[6];
    control(x, true, true, true, true, true);
    plain_path(x, entry);
    one_case(x, entry, &kinds[1]);
    for (unsigned i = 0; i < NOWHERE; i++)
        for (unsigned k = 0; k < NKINDS; k++) {
            for (unsigned l = x->leaf; l <= x->levels; l++) {
                plain_path(x, entry);
                entry[l] |= bit[i];
                one_case(x, entry, &kinds[k]);
            }
        }
    for (unsigned k = 0; k < NKINDS; k++) {
        load_root(x, root | 2 * GIB);
        one_access(x, entry, &kinds[k], false, "in no root");
        x->cases++;
        load_root(x, root);
    }
}

/* Bits of an entry at random, its address kept; each more often permissive than not. */
static uint64_t random_bits(struct rng *r, unsigned level, bool leaf, uint64_t e)
{
    static const uint64_t bit[] = {PTE_W, PTE_U, PTE_A, PTE_D, PTE_G, PTE_PCD, PTE_SW1, 1ull << 58};
    uint64_t v = rng_next(r);
    for (unsigned i = 0; i < ARRAY_SIZE(bit); i++)
        e = v >> (2 * i) & 3 ? e | bit[i] : e & ~bit[i];
    e |= (v >> 40 & 7) == 0 ? PTE_NX : 0;
    e |= (v >> 44 & 15) == 0 ? reserved_bit(level, leaf, v >> 50 & 1) : 0;
    return (v >> 55 & 15) == 0 ? e & ~PTE_P : e;
}

static void sample(struct matrix *x, struct rng *r, unsigned n)
{
    uint64_t entry[6];
    for (unsigned i = 0; i < n; i++) {
        uint64_t c = rng_next(r);
        if (i % 8 == 0)
            control(x, c & 1, c & 2, c & 4, c & 8, c & 48);
        plain_path(x, entry);
        for (unsigned l = x->leaf; l <= x->levels; l++)
            entry[l] = random_bits(r, l, l == x->leaf, entry[l]);
        one_case(x, entry, &kinds[rng_below(r, NKINDS)]);
    }
}

/* ---- machines ---- */

struct machine {
    const char *cpu;
    unsigned levels, host_levels;
    enum page_mode host_page;
};
static const struct machine machines[] = {
    {"plain", 4, 4, PAGES_4K}, {"icx", 5, 5, PAGES_2M}, {"zen4", 4, 4, PAGES_1G}};

/* Small TLBs: what a flush costs is most of a case. */
static struct cpu small_cpu(const char *name)
{
    char err[300];
    int code;
    const struct cpu *p = cpu_load(name, err, sizeof err, &code);
    assert_non_null(p);
    struct cpu c = *p;
    cpu_free(p);
    for (unsigned i = 0; i < 2; i++)
        if (c.l2[i].entries)
            c.l2[i].entries = 4 * c.l2[i].ways;
    return c;
}

/* A path whose leaf is at `leaf`, in the lower or upper half. */
static void choose_path(struct matrix *x, unsigned leaf, bool upper_half)
{
    static const unsigned index[] = {0, 8, 7, 6, 5, 3};
    x->leaf = leaf;
    x->va = 0x5a8;
    for (unsigned l = x->levels; l >= 1; l--) {
        unsigned i = index[l] + (upper_half && l == x->levels ? 256 : 0) + 16 * leaf;
        x->at[l] = TABLES + ((uint64_t)l << PAGE_SHIFT) + 8 * i;
        x->va |= (uint64_t)i << level_shift(l);
    }
    if (upper_half)
        x->va |= ~0ull << (level_shift(x->levels) + 9);
}

enum { SAMPLES = 4000, EDGES = 6 };

/* Addresses on either side of the two holes' edges. */
static void not_canonical(struct matrix *x)
{
    const uint64_t half = 1ull << (9 * x->levels + 11);
    const uint64_t va[EDGES] = {half, half | 0x5a8, -half - 1, ~half, 1ull << 63, half << 1};
    uint64_t entry[6] = {0};
    for (unsigned i = 0; i < EDGES; i++)
        for (unsigned k = 0; k < NKINDS; k++) {
            x->va = va[i];
            x->leaf = x->levels + 1; /* no entry is read */
            one_access(x, entry, &kinds[k], !kinds[k].supervisor && !kinds[k].fetch, "first");
            x->cases++;
        }
}

/* Pairs of a leaf and an entry above it: 3 + 2 + 1 with 4 levels, 4 + 3 + 2 with 5. For each, rights:
 * 8 x 8 bits; flags: 3 x 32 x 8. Samples: 3 sizes in 2 halves. Nowhere: the same 6 paths, of 4, 3, 2
 * entries (one more with 5 levels), and one CR3; and a plain case. */
static uint64_t expected(unsigned levels)
{
    const uint64_t pairs = levels == 4 ? 6 : 9, nk = NKINDS;
    const uint64_t places = 2 * (levels == 4 ? 9 : 12);
    return pairs * (64 * 16 + 768 * 4) * nk + 6 * SAMPLES + EDGES * nk + places * NOWHERE * nk +
           6 * nk + 6;
}

static uint64_t run_machine(const struct paging *p, const struct machine *m)
{
    struct cpu cpu = small_cpu(m->cpu);
    struct matrix x = {.paging = p->name, .levels = m->levels};
    struct bare_config cfg = {.paging = p,
                              .cpu = &cpu,
                              .levels = m->levels,
                              .host_levels = m->host_levels,
                              .mem = 2 * GIB,
                              .host_mem = 5 * GIB,
                              .host_page = m->host_page};
    char err[300] = "";
    struct rng rng;
    if (!bare_new(&x.b, &cfg, err, sizeof err)) {
        print_message("%s refuses %u levels on pages of %u: %s\n", p->name, m->levels,
                      (unsigned)m->host_page, err);
        return 0;
    }
    rng_seed(&rng, 1);
    load_root(&x, TABLES + ((uint64_t)m->levels << PAGE_SHIFT));
    for (unsigned leaf = 1; leaf <= 3; leaf++)
        for (unsigned half = 0; half < 2; half++) {
            choose_path(&x, leaf, half);
            for (unsigned upper = leaf + 1; upper <= m->levels && half == leaf % 2; upper++) {
                rights(&x, upper);
                flags(&x, upper);
            }
            sample(&x, &rng, SAMPLES);
            nowhere(&x);
        }
    not_canonical(&x);
    const char *why = bare_check(&x.b);
    if (why)
        fail_msg("%s: %s", p->name, why);
    bare_free(&x.b);
    assert_int_equal(x.cases, expected(m->levels));
    return x.cases;
}

static void every_strategy_does_what_the_manual_says(void **state)
{
    (void)state;
    uint64_t all = 0;
    FOR_EACH(paging, p)
    {
        uint64_t n = 0;
        for (unsigned i = 0; i < ARRAY_SIZE(machines); i++)
            n += run_machine(p, &machines[i]);
        print_message("%-12s %llu cases\n", p->name, (unsigned long long)n);
        assert_true(n > 0);
        all += n;
    }
    print_message("%llu cases\n", (unsigned long long)all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_strategy_does_what_the_manual_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
