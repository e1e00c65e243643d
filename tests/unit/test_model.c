/* test_model.c: the model engine: formulae, golden exit counts, an independent TLB, limits,
 * invariants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/strategy.h"
#include "vmm/explain.h"
#include "vmm/model.h"

REGISTRY(engine);

/* The strategies that adapt, made to do so at every turn. */
#define RESTLESS "shsp window=64 patience=0 walk_extra=1000"
#define AGILE "agile interval=64"
#define AGILE_NESTED "agile interval=100 start=1"
#define RESYNC "shadow-lazy pages=16 resync=1"

/* Every strategy there is: a new one is tested without being named here. */
enum { MAX_STRATEGIES = 40 };
static unsigned strategies(const char *out[MAX_STRATEGIES], bool bare_too)
{
    const struct reg_head *all[MAX_STRATEGIES - 4];
    size_t n = REG_SORTED(paging, all, ARRAY_SIZE(all));
    unsigned k = 0;
    assert_in_range(n, 8, ARRAY_SIZE(all));
    for (size_t i = 0; i < n; i++)
        if (bare_too || !((const struct paging *)all[i])->bare)
            out[k++] = all[i]->name;
    out[k++] = RESTLESS;
    out[k++] = AGILE;
    out[k++] = AGILE_NESTED;
    out[k++] = RESYNC;
    return k;
}

static const struct cpu *preset(const char *name)
{
    char err[300];
    int code;
    const struct cpu *c = cpu_load(name, err, sizeof err, &code);
    assert_non_null(c);
    return c;
}

static struct vm_config config(const char *paging, const struct cpu *cpu)
{
    static uint64_t params[MAX_PARAMS];
    return (struct vm_config){.paging = strategy(paging, params),
                              .paging_params = params,
                              .cpu = cpu,
                              .levels = 4,
                              .host_levels = 4,
                              .mem = 256ull << 20,
                              .host_mem = 1ull << 30,
                              .seed = 42,
                              .flush_ceiling = 33};
}

/* Run prog on a model and check every invariant before the machine goes. */
static void run_checked(const struct vm_config *cfg, void (*prog)(struct user *, void *), void *arg,
                        struct result *res)
{
    struct hw *h = meta_calloc(META_MMU, 1, sizeof *h);
    char err[512] = "";
    memset(res, 0, sizeof *res);
    if (setjmp(h->end) == 0) {
        int code = model_boot(h, cfg, res, err, sizeof err);
        if (code)
            fail_msg("boot: %s", err);
        prog(&h->user, arg);
    }
    if (h->mmu)
        model_counters(h, &res->total);
    const char *why = res->outcome == OUTCOME_OK ? model_check(h) : NULL;
    if (why)
        fail_msg("%s: %s", cfg->paging, why);
    model_free(h);
    meta_free(META_MMU, h);
}

/* ---- references per walk: the closed forms of nested paging, R = g + sum of h over g + 1 ---- */

static unsigned levels_read(unsigned levels, enum page_mode page)
{
    return levels - (unsigned)page;
}

static void references_per_walk_follow_the_formula(void **state)
{
    (void)state;
    const struct cpu *cpu = preset("plain");
    unsigned checked = 0;
    for (unsigned gl = 4; gl <= 5; gl++)
        for (unsigned hl = 4; hl <= 5; hl++)
            for (enum page_mode g = PAGES_4K; g <= PAGES_1G; g++)
                for (enum page_mode h = PAGES_4K; h <= PAGES_1G; h++) {
                    struct vm_config c = config("ept", cpu);
                    struct walk_report r;
                    char err[300] = "";
                    unsigned eg = levels_read(gl, g), eh = levels_read(hl, h);
                    c.levels = gl, c.host_levels = hl, c.guest_page = g, c.host_page = h;
                    c.mem = 2ull << 30, c.host_mem = 4ull << 30;
                    assert_int_equal(model_explain(&c, 0x7f1234567000, &r, err, sizeof err), NB_OK);
                    assert_int_equal(r.refs, (eg + 1) * (eh + 1) - 1);
                    assert_int_equal(r.refs_nested, (eg + 1) * eh);
                    assert_int_equal(r.nsteps, r.refs);
                    assert_int_equal(r.shift, 12 + 9 * (g < h ? g : h)); /* the effective page */
                    c.paging = "ept-flat";                               /* h = 1 */
                    assert_int_equal(model_explain(&c, 0x7f1234567000, &r, err, sizeof err), NB_OK);
                    assert_int_equal(r.refs, 2 * eg + 1);
                    assert_int_equal(r.refs_nested, eg + 1);
                    assert_int_equal(r.nsteps, r.refs);
                    assert_int_equal(r.shift, 12 + 9 * (g < h ? g : h));
                    c.paging = "ecpt"; /* steps, whatever the sizes */
                    c.paging_params = NULL;
                    assert_int_equal(model_explain(&c, 0x7f1234567000, &r, err, sizeof err), NB_OK);
                    assert_int_equal(r.refs, 3);
                    assert_int_equal(r.refs_nested, 2);
                    assert_int_equal(r.nsteps, 3);
                    assert_int_equal(r.shift, 12 + 9 * (g < h ? g : h));
                    c.paging = "dmt"; /* whatever the sizes */
                    assert_int_equal(model_explain(&c, 0x7f1234567000, &r, err, sizeof err), NB_OK);
                    assert_int_equal(r.refs, 3);
                    assert_int_equal(r.refs_nested, 2);
                    assert_int_equal(r.nsteps, 3);
                    assert_int_equal(r.shift, 12 + 9 * (g < h ? g : h));
                    c.paging = "pvdmt";
                    assert_int_equal(model_explain(&c, 0x7f1234567000, &r, err, sizeof err), NB_OK);
                    assert_int_equal(r.refs, 2);
                    assert_int_equal(r.refs_nested, 1);
                    assert_int_equal(r.shift, 12 + 9 * (g < h ? g : h));
                    c.paging = "dmt-native";
                    assert_int_equal(model_explain(&c, 0x7f1234567000, &r, err, sizeof err), NB_OK);
                    assert_int_equal(r.refs, 1);
                    assert_int_equal(r.shift, 12 + 9 * g);
                    c.paging = "shadow";
                    assert_int_equal(model_explain(&c, 0x7f1234567000, &r, err, sizeof err), NB_OK);
                    assert_int_equal(r.refs, levels_read(gl, g < h ? g : h));
                    c.paging = "shadow-lazy";
                    assert_int_equal(model_explain(&c, 0x7f1234567000, &r, err, sizeof err), NB_OK);
                    assert_int_equal(r.refs, levels_read(gl, g < h ? g : h));
                    c.paging = "native";
                    assert_int_equal(model_explain(&c, 0x7f1234567000, &r, err, sizeof err), NB_OK);
                    assert_int_equal(r.refs, eg);
                    /* A segment in place of one dimension leaves the other's entries. */
                    c.paging_params = NULL; /* the defaults */
                    c.paging = "dseg-vmm";
                    assert_int_equal(model_explain(&c, 0x7f1234567000, &r, err, sizeof err), NB_OK);
                    assert_int_equal(r.refs, eg);
                    assert_int_equal(r.refs_nested, 0);
                    assert_int_equal(r.seg_vmm, eg + 1);
                    assert_int_equal(r.shift, 12 + 9 * (g < h ? g : h));
                    c.paging = "dseg-guest";
                    assert_int_equal(model_explain(&c, 0x7f1234567000, &r, err, sizeof err), NB_OK);
                    assert_int_equal(r.refs, eh);
                    assert_int_equal(r.refs_nested, eh);
                    assert_int_equal(r.seg_guest, 1);
                    assert_int_equal(r.shift, 12 + 9 * (g < h ? g : h));
                    c.paging = "dseg";
                    assert_int_equal(model_explain(&c, 0x7f1234567000, &r, err, sizeof err), NB_OK);
                    assert_int_equal(r.refs + r.nsteps, 0);
                    assert_int_equal(r.seg_guest + r.seg_vmm, 2);
                    checked++;
                }
    assert_int_equal(checked, 36);
    cpu_free(cpu);
}

/* ---- agile: R = (g - i) + i (1 + h) when i of g guest levels are nested ----
 *
 * The page is mapped and stored to, then the kernel writes the table at the top of the i leaf-most levels
 * twice, which moves it. Until then all tables were shadowed, in the first 2 MiB of the guest's free
 * memory: that block is mapped by 4 KiB, so a table is translated in h = host levels. So is a 4 KiB guest
 * page, which comes from the same block. A 2 MiB guest page has a block of its own, of a 1 GiB host page
 * split into 2 MiB; a 1 GiB guest page that of a host page: h is less by the smaller of both sizes.
 *     R = (g - i) + i + (i - 1) * tables' h + the page's h
 * Shadowed throughout (i = 0), the levels of the effective page. Fully nested, nothing was ever
 * shadowed or split: (g + 1)(h + 1) - 1.
 */
struct nest {
    unsigned levels; /* i; 0: none */
    struct walk w;
    unsigned steps;
};

static void nest_page(struct user *u, void *arg)
{
    struct nest *n = arg;
    struct hw *h = u->hw;
    const gva_t va = 0x7f1234567000;
    unsigned leaf = 1 + h->cfg->guest_page, level = h->cfg->levels;
    uint64_t size = 1ull << level_shift(leaf);
    gva_t at;
    assert_int_equal(u_mmap(u, ALIGN_DOWN(va, size), size, GK_READ | GK_WRITE, GK_FIXED, &at),
                     GK_OK);
    st(u, va);
    gpa_t table = gk_cr3(h->kernel) & PTE_ADDR;
    for (; n->levels && level > leaf + n->levels - 1; level--)
        table = hw_pt_read(h, table + 8 * level_index(va, level)) & PTE_ADDR;
    gpa_t e = table + 8 * level_index(va, level);
    for (unsigned k = 0; n->levels && k < 2; k++)
        hw_pt_write(h, e, hw_pt_read(h, e));
    struct access load = {.va = va};
    struct walk_log log = {0};
    h->mvm->paging->explain(h->mmu, &load, &n->w, &log);
    n->steps = log.n;
}

static unsigned least(unsigned a, unsigned b) { return a < b ? a : b; }

static void agile_walks_follow_the_formula(void **state)
{
    (void)state;
    const struct cpu *cpu = preset("plain");
    unsigned checked = 0;
    for (unsigned k = 0; k < 36; k++) {
        unsigned gl = 4 + k % 2, hl = 4 + k / 2 % 2, gp = k / 4 % 3, hp = k / 12, g = gl - gp;
        for (unsigned i = 0; i <= g + 1; i++) {
            bool full = i == g + 1;
            struct vm_config c = config(full ? "agile start=1" : "agile", cpu);
            struct nest n = {.levels = full ? 0 : i};
            struct result r;
            unsigned page_h = hl - least(gp, hp), want = full ? (g + 1) * (hl - hp + 1) - 1
                                                         : i  ? g + (i - 1) * hl + page_h
                                                              : gl - least(gp, hp);
            c.levels = gl, c.host_levels = hl;
            c.guest_page = (enum page_mode)gp, c.host_page = (enum page_mode)hp;
            c.mem = 2ull << 30, c.host_mem = 4ull << 30;
            run_checked(&c, nest_page, &n, &r);
            assert_int_equal(n.w.status, WALK_OK);
            assert_int_equal(n.w.refs, want);
            assert_int_equal(n.steps, want);
            assert_int_equal(n.w.refs_nested, full ? want - g : i ? want - g : 0);
            assert_int_equal(n.w.size, least(gp, hp));
            checked++;
        }
    }
    assert_int_equal(checked, 4 * 3 * 3 * (2 + 3.5)); /* g is 3.5 on average */
    cpu_free(cpu);
}

/* Random loads and stores over `pages` pages, so that walks, assists and evictions mix. */
struct mix {
    uint64_t pages, accesses;
};
static void random_mix(struct user *u, void *arg)
{
    const struct mix *x = arg;
    gva_t base = u_alloc(u, x->pages << 12);
    for (uint64_t i = 0; i < x->accesses; i++) {
        uint64_t r = rng_next(&u->rng);
        gva_t a = base + (((r >> 20) % x->pages) << 12) + (r & 0xff8);
        if (r >> 63)
            st64(u, a, r);
        else
            ld(u, a);
    }
}

/* Walk caches change what is read, never what an uncached walk would read. */
static void refs_per_walk_do_not_depend_on_walk_caches(void **state)
{
    (void)state;
    static const char *const cpus[] = {"plain", "skx", "icx", "zen3", "zen4", "dmt-ref"};
    static const struct {
        const char *paging;
        unsigned refs, nested;
    } want[] = {{"native", 4, 0},
                {"shadow", 4, 0},
                {"ept", 24, 20},
                {"shadow-kvm", 4, 0},
                {"shadow-pvm", 4, 0},
                {"ept-flat", 9, 5},
                {"dmt-native", 1, 0},
                {"dmt", 3, 2},
                {"pvdmt", 2, 1},
                {"ecpt", 3, 2},
                {"shadow-lazy", 4, 0},
                {"shadow-lazy resync=1", 4, 0},
                {"shadow-pv", 4, 0},
                {"dseg-vmm", 4, 0},
                {"dseg-guest", 4, 4},
                {"dseg", 0, 0},
                {"shsp patience=1000000", 24, 20},
                {"shsp patience=1000000 start=1", 4, 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(cpus); i++)
        for (unsigned p = 0; p < ARRAY_SIZE(want); p++) {
            const struct cpu *cpu = preset(cpus[i]);
            struct vm_config c = config(want[p].paging, cpu);
            struct mix x = {5000, 60000};
            struct result r;
            run_checked(&c, random_mix, &x, &r);
            assert_int_equal(r.outcome, OUTCOME_OK);
            assert_true(r.total.walks > 0);
            assert_int_equal(r.total.walk_refs, want[p].refs * r.total.walks);
            assert_int_equal(r.total.walk_refs_nested, want[p].nested * r.total.walks);
            if (cpu->pwc_kind == PWC_NONE || !want[p].refs)
                assert_int_equal(r.total.walk_reads, r.total.walk_refs);
            else if (want[p].refs >= 4) /* fewer: there is next to nothing to skip */
                assert_true(r.total.walk_reads < r.total.walk_refs);
            assert_int_equal(r.total.dmt_fallbacks, 0);
            /* 3 ways: 81 + 9 + 9 a walk; one that ends in a #PF has no third step. Of the violations 13
             * are the kernel's: 3 upper tables and 10 of 512 pages, at their first links. */
            if (strcmp(want[p].paging, "ecpt") == 0)
                assert_int_equal(r.total.walk_probes,
                                 99 * (r.total.walks + r.total.exit_ept_violation - 13) +
                                     90 * r.total.guest_faults);
            if (cpu->cache[0].entries) {
                const struct counters *t = &r.total;
                assert_int_equal(t->pt_l1_hits + t->pt_l2_hits + t->pt_l3_hits + t->pt_mem_reads,
                                 t->walk_reads + t->walk_refs_lost);
                /* data_l1_hits is what is left of accesses: the others were counted where they hit */
                assert_true(t->data_l2_hits + t->data_l3_hits + t->data_mem_reads < t->accesses);
                assert_true(t->data_mem_reads >= 5000); /* each page's first access, at least */
            }
            assert_int_equal(r.total.tlb_l2_misses + r.total.walks_assist, r.total.walks);
            cpu_free(cpu);
        }
}

/* 4 + 4 i references, or 24, whatever the walk caches; and the walks counted are all. */
static void agile_counts_add_up(void **state)
{
    (void)state;
    static const char *const cpus[] = {"plain", "skx", "icx", "zen3", "zen4", "dmt-ref"},
                             *const paging[] = {"agile", AGILE, AGILE_NESTED};
    for (unsigned i = 0; i < ARRAY_SIZE(cpus); i++)
        for (unsigned p = 0; p < ARRAY_SIZE(paging); p++) {
            const struct cpu *cpu = preset(cpus[i]);
            struct vm_config c = config(paging[p], cpu);
            struct mix x = {5000, 60000};
            struct result r;
            run_checked(&c, random_mix, &x, &r);
            uint64_t walks = r.total.walks_nested_root, refs = 24 * walks, nested = 20 * walks;
            for (unsigned k = 0; k <= 4; k++) {
                uint64_t n = r.total.v[CTR_walks_nested_0 + k];
                walks += n, refs += (4 + 4 * k) * n, nested += 4 * k * n;
            }
            assert_int_equal(walks, r.total.walks);
            assert_int_equal(refs, r.total.walk_refs);
            assert_int_equal(nested, r.total.walk_refs_nested);
            assert_true(r.total.walks_nested_0 > 0 && r.total.walks_nested_1 > 0);
            cpu_free(cpu);
        }
}

/* ---- golden exits: 256 pages mapped, stored to and unmapped, eight times ----
 *
 * Derivation (policies of guest/kernel.h, reactions of shadow.c and ept.c). Per round the guest
 * takes 256 demand-zero faults and writes 256 leaf entries; munmap clears 256. The first round also
 * links three new tables: one entry in the root, PDPT and PD each.   guest_pt_writes = 8 * 512 + 3,
 * guest_faults = 8 * 256.
 *
 * shadow: every #PF exits and is reflected: 2048. Each page is then filled: 2048. A write exits
 * when its table is shadowed: the root is, since CR3 was loaded (1); PDPT, PD and PT are not, when
 * they are first written, but these writes are the kernel's first touch of the frame: 3 fills, and
 * 1 more for nothing else: the first leaf entry goes into that same PT. So leaf writes exit 8 * 256
 * - 1 times, clears 8 * 256. pt_write = 1 + 2047 + 2048 = 4096; fill = 2048 + 3 = 2051. munmap
 * changes more than 33 entries: one CR3 reload a round, and one at boot: 9. No INVLPG. ept: the
 * first walk touches the root (1), the kernel PDPT, PD, PT (3), the program 256 pages, which come
 * back from the free list in later rounds: 260 violations, nothing else. ept-flat: the same, its
 * table being there from the start. dmt: the same, though the PT is touched first: by the walk that
 * finds no leaf in it. pvdmt: that PT is the area that a hypercall placed and mapped: 1 + 259. ecpt:
 * no walk reads the radix tables, but the kernel's link in the root touches that frame too.
 *
 * shadow-lazy, shadow-pv: reflected as shadow, 2048, and filled, 2048. Table writes do not exit, so
 * the root's first touch is a fill too: 2048 + 4. shadow-lazy: CR3 loads and INVLPGs as shadow.
 * shadow-pv: hypercalls. A fault's writes go when it returns: 256 a round. munmap queues 256 writes,
 * sent 32 at a time: 8; then the CR3 reload is sent: 1. And one at boot: 8 * (256 + 8 + 1) + 1 =
 * 2121. With INVLPG 256 more operations are queued, and 8 more batches sent, but no CR3 load:
 * 8 * (256 + 16) + 1 = 2177.
 *
 * shadow-kvm: reflected and filled as above, 2048 each. Boot: the kernel's text under the VMM's
 * root and under the first process's, the root's frame read, then written: 4 fills, and 1 fault
 * taken again (the page of zeroes). One emulated write: the root's link. 3 fills for the first
 * touches of PDPT, PD and PT. The PT goes out of sync once a round, after each CR3 load: 8 fills;
 * with INVLPG it stays so: 1. From round 2 the kernel clears the program's 256 frames, which are 4
 * to 259 from the root on: a fill for each aligned 8 of them, the other 7 being prefetched: 31, and
 * 1 for the last 4. The 4 beside the tables come with the fills of the PT: the first in round 1,
 * the rest in round 2, or with INVLPG by one fill more.
 * 2048 + 4 + 3 + 8 + 32 = 2095; 2048 + 4 + 3 + 1 + 33 = 2089.
 * shadow-pvm: no fills but the program's and the first of the image's ring-3 text.
 *
 * agile, without scans: the root is shadowed from the CR3 load on; its link exits, as under shadow. The
 * kernel's first touches of PDPT, PD and PT are violations. Page 0 is reflected, and filled, which shadows
 * these three. Pages 1 and 2 are reflected, their leaf writes exit, and page 1 is filled; the second write
 * has moved the PT to nested mode. From then on faults and writes are free: pages 2 to 255 are violations
 * in the first round, being first touches; later rounds use the same frames. CR3 loads exit, INVLPGs do not.
 *
 * shsp that never switches is ept or shadow and its timer: an exit per 10,000 walks and guest events. The
 * latter are 4099 table writes and 9 CR3 loads. Nested: a walk that faults and one that does not for each of
 * 2048 pages, 257 more that end in the program's violations: 8461 ticks, none expires. Shadow: one walk is
 * reflected, one filled, one completes: 6144 walks, 10252 ticks: one expires.
 *
 * dseg-vmm, dseg: all of guest memory is in the VMM's segment before the guest runs: nothing is filled.
 * dseg-guest: 1 MiB is no primary region, and what is outside one is paged as by ept.
 */
static void remap(struct user *u, void *arg)
{
    (void)arg;
    for (unsigned round = 0; round < 8; round++) {
        gva_t a = u_alloc(u, 256 << 12);
        for (unsigned i = 0; i < 256; i++)
            st64(u, a + (i << 12), i);
        assert_int_equal(u_munmap(u, a, 256 << 12), GK_OK);
    }
}

struct golden {
    const char *paging;
    unsigned ceiling;
    uint64_t exits, fill, reflect, pt_write, cr3, invlpg, violation;
};

static void remapping_costs_the_exits_the_design_predicts(void **state)
{
    (void)state;
    static const struct golden golden[] = {
        {"native", 33, 0, 0, 0, 0, 0, 0, 0},
        {"shadow", 33, 2051 + 2048 + 4096 + 9, 2051, 2048, 4096, 9, 0, 0},
        {"shadow", 256, 2051 + 2048 + 4096 + 1 + 2048, 2051, 2048, 4096, 1, 2048, 0},
        {"ept", 33, 260, 0, 0, 0, 0, 0, 260},
        {"ept-flat", 33, 260, 0, 0, 0, 0, 0, 260},
        {"dmt-native", 33, 0, 0, 0, 0, 0, 0, 0},
        {"dmt", 33, 260, 0, 0, 0, 0, 0, 260},
        {"pvdmt", 33, 1 + 259, 0, 0, 0, 0, 0, 259},
        {"ecpt", 33, 260, 0, 0, 0, 0, 0, 260},
        {"shadow-lazy", 33, 2052 + 2048 + 9, 2052, 2048, 0, 9, 0, 0},
        {"shadow-lazy", 256, 2052 + 2048 + 1 + 2048, 2052, 2048, 0, 1, 2048, 0},
        {"shadow-pv", 33, 2052 + 2048 + 2121, 2052, 2048, 0, 0, 0, 0},
        {"shadow-pv", 256, 2052 + 2048 + 2177, 2052, 2048, 0, 0, 0, 0},
        {"shadow-kvm", 33, 2095 + 2048 + 1 + 9 + 1, 2095, 2048, 1, 9, 0, 0},
        {"shadow-kvm", 256, 2089 + 2048 + 1 + 1 + 2048 + 1, 2089, 2048, 1, 1, 2048, 0},
        {"shadow-pvm", 33, 2049 + 2048, 2049, 2048, 0, 0, 0, 0},
        {"agile interval=1000000", 33, 2 + 3 + 3 + 9 + 257, 2, 3, 3, 9, 0, 257},
        {"agile interval=1000000", 256, 2 + 3 + 3 + 1 + 257, 2, 3, 3, 1, 0, 257},
        {"shsp patience=1000000", 33, 260, 0, 0, 0, 0, 0, 260},
        {"shsp patience=1000000 start=1", 33, 2051 + 2048 + 4096 + 9 + 1, 2051, 2048, 4096, 9, 0,
         0},
        {"dseg-vmm", 33, 0, 0, 0, 0, 0, 0, 0},
        {"dseg-guest", 33, 260, 0, 0, 0, 0, 0, 260},
        {"dseg", 33, 0, 0, 0, 0, 0, 0, 0},
    };
    const struct cpu *cpu = preset("plain");
    for (unsigned i = 0; i < ARRAY_SIZE(golden); i++) {
        const struct golden *g = &golden[i];
        struct vm_config c = config(g->paging, cpu);
        struct result r;
        c.flush_ceiling = g->ceiling;
        run_checked(&c, remap, NULL, &r);
        const struct counters *t = &r.total;
        print_message("    {\"%s\", %u, %lu, %lu, %lu, %lu, %lu, %lu, %lu},\n", g->paging,
                      g->ceiling, t->exits, t->exit_fill, t->exit_reflect, t->exit_pt_write,
                      t->exit_cr3, t->exit_invlpg, t->exit_ept_violation);
        assert_int_equal(t->guest_faults, 8 * 256);
        assert_int_equal(t->guest_pt_writes, 8 * 512 + 3);
        assert_int_equal(t->exit_fill, g->fill);
        assert_int_equal(t->exit_reflect, g->reflect);
        assert_int_equal(t->exit_pt_write, g->pt_write);
        assert_int_equal(t->exit_cr3, g->cr3);
        assert_int_equal(t->exit_invlpg, g->invlpg);
        assert_int_equal(t->exit_ept_violation, g->violation);
        assert_int_equal(t->exits, g->exits);
        assert_true(strcmp(g->paging, "pvdmt") != 0 || t->exit_hypercall == 1);
    }
    cpu_free(cpu);
}

/* ---- shsp follows its guest ----
 *
 * A window is 1000 walks and events, a nested walk is taken to be 100 cycles dearer, and patience is
 * none. 4096 pages are touched: each is a guest fault, dearer than the walk: nested. They are read in
 * turn, which misses a TLB of 1536 every time: a tick an access. The window that the first read falls into
 * may hold faults, the next does not: shadow after 1000 to 2000 reads. Each page read there is filled
 * once. Then pages are mapped and unmapped: exits, no less than a walk each: nested, by the end of the
 * next window.
 */
static void calm_then_busy(struct user *u, void *arg)
{
    struct counters *calm = arg;
    gva_t a = u_alloc(u, 4096 << 12);
    for (unsigned i = 0; i < 4096; i++)
        st(u, a + (i << 12));
    for (unsigned i = 0; i < 3 * 4096; i++)
        ld(u, a + (i % 4096 << 12));
    model_counters(u->hw, calm);
    remap(u, NULL);
}

static void shsp_follows_its_guest(void **state)
{
    (void)state;
    const struct cpu *cpu = preset("plain");
    struct vm_config c = config("shsp window=1000 patience=0 walk_extra=100", cpu);
    struct counters calm;
    struct result r;
    run_checked(&c, calm_then_busy, &calm, &r);
    assert_int_equal(calm.mode_switches, 1);
    assert_in_range(calm.accesses_nested, 4096 + 1000, 4096 + 2000);
    assert_int_equal(calm.accesses_nested + calm.accesses_shadow, 4 * 4096);
    assert_int_equal(calm.exit_fill, 4096);
    assert_int_equal(r.total.mode_switches, 2);
    assert_in_range(r.total.accesses_shadow - calm.accesses_shadow, 0, 1000);
    cpu_free(cpu);
}

/* ---- an independent TLB over the same stream: time stamps, no sharing of code ---- */

struct oracle_level {
    uint64_t page[1536], stamp[1536];
    unsigned sets, ways;
};
struct oracle {
    struct oracle_level l1, l2;
    uint64_t now, l1_misses, l2_misses;
};

static bool oracle_touch(struct oracle *o, struct oracle_level *l, uint64_t page)
{
    uint64_t first = page % l->sets * l->ways, victim = first;
    for (uint64_t i = first; i < first + l->ways; i++) {
        if (l->stamp[i] && l->page[i] == page) {
            l->stamp[i] = ++o->now;
            return true;
        }
        if (l->stamp[i] < l->stamp[victim])
            victim = i;
    }
    l->page[victim] = page;
    l->stamp[victim] = ++o->now;
    return false;
}

static void oracle_access(struct oracle *o, gva_t a)
{
    if (oracle_touch(o, &o->l1, a >> 12))
        return;
    o->l1_misses++;
    o->l2_misses += !oracle_touch(o, &o->l2, a >> 12);
}

static void oracle_stream(struct user *u, void *arg)
{
    struct oracle *o = arg;
    gva_t base = u_alloc(u, 32 << 20);
    for (unsigned i = 0; i < 300000; i++) {
        uint64_t r = rng_next(&u->rng),
                 page = i & 4096 ? r % 8192 : (r % 8192) * (r >> 32 & 1023) / 1024;
        gva_t a = base + (page << 12) + (r >> 40 & 0xff8);
        oracle_access(o, a);
        if (i & 1)
            st(u, a);
        else
            ld(u, a);
    }
}

static void tlb_misses_equal_an_independent_simulation(void **state)
{
    (void)state;
    static const char *const paging[] = {"native", "shadow", "ept", "dseg-vmm", "dseg-guest"};
    const struct cpu *cpu = preset("plain");
    for (unsigned p = 0; p < ARRAY_SIZE(paging); p++) {
        static struct oracle o;
        struct vm_config c = config(paging[p], cpu);
        struct result r;
        memset(&o, 0, sizeof o);
        o.l1.sets = 16, o.l1.ways = 4, o.l2.sets = 128, o.l2.ways = 12;
        run_checked(&c, oracle_stream, &o, &r);
        assert_int_equal(r.total.accesses, 300000);
        assert_int_equal(r.total.tlb_l1_misses, o.l1_misses);
        assert_int_equal(r.total.tlb_l2_misses, o.l2_misses);
        assert_in_range(o.l2_misses, 1000, o.l1_misses - 1);
    }
    cpu_free(cpu);
}

/* ---- limits and ends ---- */

static void touch_all(struct user *u, void *arg)
{
    uint64_t bytes = *(const uint64_t *)arg;
    gva_t a = u_alloc(u, bytes);
    for (uint64_t i = 0; i < bytes; i += 4096)
        st(u, a + i);
}

static void running_out_of_memory_is_an_outcome(void **state)
{
    (void)state;
    const char *paging[MAX_STRATEGIES];
    unsigned np = strategies(paging, false);
    const struct cpu *cpu = preset("skx");
    uint64_t bytes = 128ull << 20;
    struct result r;
    for (unsigned p = 0; p < np; p++)
        for (uint64_t host = 1ull << 20; host <= 64ull << 20; host *= 8) {
            struct vm_config c = config(paging[p], cpu);
            c.host_mem = host;
            run_checked(&c, touch_all, &bytes, &r);
            assert_int_equal(r.outcome, OUTCOME_HOST_OOM);
            assert_non_null(strstr(r.detail, "--host-mem"));
        }
    struct vm_config c = config("ept", cpu);
    c.mem = 64ull << 20;
    run_checked(&c, touch_all, &bytes, &r);
    assert_int_equal(r.outcome, OUTCOME_GUEST_OOM);
    c = config("native", cpu);
    c.host_mem = 8 << 20;
    run_checked(&c, touch_all, &bytes, &r);
    assert_int_equal(r.outcome, OUTCOME_HOST_OOM);
    cpu_free(cpu);
}

static void wild_access(struct user *u, void *arg) { ld(u, *(gva_t *)arg); }

static void a_wild_access_ends_the_program(void **state)
{
    (void)state;
    static gva_t wild[] = {0,     0x7fffffffffff,     0x8000000000000000,
                           ~0ull, 0xffff800000000000, 0x0000800000000000};
    const struct cpu *cpu = preset("icx");
    const char *paging[MAX_STRATEGIES];
    unsigned np = strategies(paging, true);
    for (unsigned i = 0; i < ARRAY_SIZE(wild); i++)
        for (unsigned p = 0; p < np; p++) {
            struct vm_config c = config(paging[p], cpu);
            struct result r;
            run_checked(&c, wild_access, &wild[i], &r);
            assert_int_equal(r.outcome, OUTCOME_GUEST_SEGV);
        }
    cpu_free(cpu);
}

/* Bits above the address must not be lost on the way to a TLB that knows the page. */
static void wild_alias(struct user *u, void *arg)
{
    gva_t a = u_alloc(u, 4096);
    st(u, a);
    ld(u, a | *(gva_t *)arg);
}

static void a_wild_alias_of_a_cached_page_ends_the_program(void **state)
{
    (void)state;
    static gva_t bits[] = {1ull << 47, 1ull << 57, 1ull << 63};
    static const char *const cpus[] = {"plain", "zen3"};
    for (unsigned n = 0; n < 2 * ARRAY_SIZE(bits); n++) {
        const struct cpu *cpu = preset(cpus[n % 2]);
        struct vm_config c = config("native", cpu);
        struct result r;
        run_checked(&c, wild_alias, &bits[n / 2], &r);
        assert_int_equal(r.outcome, OUTCOME_GUEST_SEGV);
        cpu_free(cpu);
    }
}

/* ---- the host takes pages away under a running guest; contents that must survive are checked ----
 */

static void zapped(struct user *u, void *arg)
{
    (void)arg;
    struct hw *h = u->hw;
    gva_t a = u_alloc(u, 4 << 20);
    for (unsigned i = 0; i < 1024; i++)
        st64(u, a + (i << 12), i + 1);
    struct walk w;
    for (unsigned i = 0; i < 1024; i += 3) { /* discard the frame of every third page */
        struct walk_log log = {0};
        struct access load = {.va = a + (i << 12)};
        ld(u, load.va); /* fills first: a false escape, what has changed mode since */
        h->mvm->paging->explain(h->mmu, &load, &w, &log);
        assert_int_equal(w.status, WALK_OK);
        for (uint64_t g = 0; g < h->gm->frames; g++)
            if (gmem_state(h->gm, gfn(g)) == PG_RESIDENT &&
                hfn_hpa(gmem_hfn(h->gm, gfn(g))) == w.page) {
                gmem_discard(h->gm, gfn(g), 1);
                break;
            }
    }
    const char *why = model_check(h);
    if (why)
        fail_msg("%s", why);
    for (unsigned i = 0; i < 1024; i++)
        assert_int_equal(ld64(u, a + (i << 12)), i % 3 ? i + 1 : 0);
}

static void a_page_the_host_takes_is_refilled_and_others_survive(void **state)
{
    (void)state;
    const char *paging[MAX_STRATEGIES];
    unsigned np = strategies(paging, false);
    static const char *const cpus[] = {"plain", "skx", "zen3"};
    for (unsigned p = 0; p < np; p++)
        for (unsigned i = 0; i < 3; i++) {
            const struct cpu *cpu = preset(cpus[i]);
            struct vm_config c = config(paging[p], cpu);
            struct result r;
            run_checked(&c, zapped, NULL, &r);
            assert_int_equal(r.outcome, OUTCOME_OK);
            /* 1024 first touches, where memory is not reserved, and the 342 taken pages again. */
            bool reserved = !strcmp(paging[p], "dseg") || !strcmp(paging[p], "dseg-vmm");
            uint64_t again = r.total.exit_ept_violation + r.total.exit_fill;
            assert_true(again >= 342 + (reserved ? 0 : 1024));
            cpu_free(cpu);
        }
}

/* ---- a hostile guest maps its own page tables into user space and writes them ---- */

static void self_map(struct user *u, void *arg)
{
    struct hw *h = u->hw;
    gva_t a = u_alloc(u, 1 << 20);
    (void)arg;
    for (unsigned i = 0; i < 64; i++)
        st64(u, a + (i << 12), i);
    /* Aim page 1 at the frame of the root table, then at the table that maps it. */
    gpa_t table = gk_cr3(h->kernel) & PTE_ADDR, leaf = table;
    for (unsigned l = 4; l > 1; l--)
        leaf = hw_pt_read(h, leaf + 8 * level_index(a, l)) & PTE_ADDR;
    hw_pt_write(h, leaf + 8 * level_index(a + 4096, 1), leaf | PTE_P | PTE_W | PTE_U);
    hw_invlpg(h, a + 4096);
    ld(u, a + 4096);
    st(u, a + 4096); /* its own last-level table: under shadow this can never be mapped writable */
    hw_pt_write(h, leaf + 8 * level_index(a + 4096, 1), table | PTE_P | PTE_W | PTE_U);
    hw_invlpg(h, a + 4096);
    st(u, a + 4096);
}

static void a_guest_that_maps_its_tables_is_no_crash(void **state)
{
    (void)state;
    const char *paging[MAX_STRATEGIES];
    unsigned np = strategies(paging, true);
    const struct cpu *cpu = preset("skx");
    for (unsigned p = 0; p < np; p++) {
        struct vm_config c = config(paging[p], cpu);
        struct hw *h = meta_calloc(META_MMU, 1, sizeof *h);
        struct result r = {0};
        struct counters t;
        char err[300];
        if (setjmp(h->end) == 0) {
            assert_int_equal(model_boot(h, &c, &r, err, sizeof err), NB_OK);
            self_map(&h->user, NULL);
        }
        /* A virtual TLB needs no protection of the guest's tables. */
        bool protects =
            strncmp(paging[p], "shadow", 6) == 0 && strncmp(paging[p], "shadow-lazy", 11);
        assert_int_equal(r.outcome, protects ? OUTCOME_ABORTED : OUTCOME_OK);
        assert_null(h->mvm->paging->check ? h->mvm->paging->check(h->mvm) : NULL);
        model_counters(h, &t);
        assert_int_equal(t.pt_l1_hits + t.pt_l2_hits + t.pt_l3_hits + t.pt_mem_reads,
                         t.walk_reads + t.walk_refs_lost);
        model_free(h);
        meta_free(META_MMU, h);
    }
    cpu_free(cpu);
}

/* ---- what mmu_check() is for ---- */

static void break_the_mmu(struct user *u, void *arg)
{
    struct mmu *m = u->mmu;
    gva_t a = u_alloc(u, PAGE_SIZE);
    (void)arg;
    st64(u, a, 1);
    const uint64_t unit = m->hot.mru[1];
    assert_int_equal(unit, a >> m->hot.mru_shift);
    assert_null(mmu_check(m));
    m->hot.mru[1] += 1ull << 20; /* what no entry is for */
    assert_string_equal(mmu_check(m), "mmu (1) no entry lets the unit of the last access through");
    m->hot.mru[1] = unit;
    m->c.pt_mem_reads++;
    assert_string_equal(mmu_check(m),
                        "mmu (4) the caches served more or fewer reads than walks made");
    m->c.pt_mem_reads--;
    m->c.tlb_l2_misses += 1000;
    assert_string_equal(mmu_check(m), "mmu (3) more L2 misses than L1 misses");
    m->c.tlb_l2_misses -= 1000;
    assert_null(mmu_check(m));
}

static void the_check_finds_what_is_broken(void **state)
{
    (void)state;
    const struct cpu *cpu = preset("dmt-ref");
    struct vm_config c = config("ept", cpu);
    struct program prog = {.run = break_the_mmu};
    struct result r;
    assert_int_equal(REG_FIND(engine, "model")->run(&c, &prog, &r), NB_OK);
    assert_int_equal(r.outcome, OUTCOME_OK);
    cpu_free(cpu);
}

/* ---- every page size in either dimension runs the same program to the same memory ---- */

static void contents(struct user *u, void *arg)
{
    uint64_t *sum = arg;
    gva_t a = u_alloc(u, 8 << 20);
    int child;
    for (unsigned i = 0; i < 2048; i++)
        st64(u, a + (i << 12) + 8 * (i % 512), i * 7919ull);
    assert_int_equal(u_munmap(u, a + (100 << 12), 50 << 12), GK_OK);
    assert_int_equal(u_mprotect(u, a + (512 << 12), 5 << 12, GK_READ), GK_OK);
    assert_int_equal(u_fork(u, &child), GK_OK);
    for (unsigned i = 600; i < 700; i++)
        st64(u, a + (i << 12), 1);
    assert_int_equal(u_switch(u, child), GK_OK);
    for (unsigned i = 0; i < 2048; i++)
        if (i < 100 || i >= 150)
            *sum = *sum * 31 + ld64(u, a + (i << 12) + 8 * (i % 512)) + ld64(u, a + (i << 12));
    for (unsigned i = 640; i < 660; i++)
        st64(u, a + (i << 12), 2);
    assert_int_equal(u_exit(u, child), GK_OK);
    for (unsigned i = 600; i < 700; i++)
        *sum = *sum * 31 + ld64(u, a + (i << 12));
}

static void every_configuration_computes_the_same(void **state)
{
    (void)state;
    const char *paging[MAX_STRATEGIES];
    const unsigned np = strategies(paging, true);
    static const char *const cpus[] = {"plain", "skx", "zen4", "dmt-ref"};
    uint64_t first = 0;
    for (unsigned n = 0; n < np * 3 * 3 * 2; n++) { /* the CPUs take turns */
        static const enum page_mode sizes[] = {PAGES_4K, PAGES_2M, PAGES_THP};
        const struct cpu *cpu = preset(cpus[n / np % 4]);
        struct vm_config c = config(paging[n % np], cpu);
        struct result r;
        uint64_t sum = 1;
        c.guest_page = sizes[n / np % 3];
        c.host_page = sizes[n / (3 * np) % 3];
        c.levels = c.host_levels = 4 + n / (9 * np);
        const struct paging *mine = REG_FIND(paging, c.paging);
        if (c.levels == 5 && (mine->no_levels || mine->no_host_levels)) {
            cpu_free(cpu);
            continue;
        }
        run_checked(&c, contents, &sum, &r);
        if (r.outcome != OUTCOME_OK)
            fail_msg("%s: %s", c.paging, r.detail);
        first = n ? first : sum;
        assert_int_equal(sum, first);
        cpu_free(cpu);
    }
}

/* ---- frames of an ended process's tables come back as tables of another ----
 *
 * With PCIDs nothing is invalidated when a process ends: what is cached of its tables is tagged
 * with a PCID that is loaded without CR3_KEEP when it is used again.
 */

/* Four pages at `at`, stored to; each is where an uncached walk says. */
static void map_and_store(struct user *u, gva_t at)
{
    struct hw *h = u->hw;
    gva_t a;
    assert_int_equal(u_mmap(u, at, 4 << 12, GK_READ | GK_WRITE, GK_FIXED | GK_4K, &a), GK_OK);
    for (unsigned i = 0; i < 4; i++) {
        struct access load = {.va = a + (i << 12)};
        struct walk w;
        st64(u, load.va, i);
        h->mvm->paging->explain(h->mmu, &load, &w, &(struct walk_log){0});
        assert_int_equal(w.status, WALK_OK);
        assert_ptr_equal(h->mmu->hot.page, host_ptr(h->host, w.page));
    }
}

static void recycle(struct user *u, void *arg)
{
    const gva_t root = 1ull << 39, pdpt = 1ull << SHIFT_1G, pd = 1ull << SHIFT_2M;
    gva_t spare = u_alloc(u, 1 << 20);
    int child;
    (void)arg;
    st(u, spare);
    for (unsigned round = 0; round < 20; round++) {
        assert_int_equal(u_fork(u, &child), GK_OK);
        assert_int_equal(u_switch(u, child), GK_OK);
        map_and_store(u, root);
        map_and_store(u, root + pdpt);
        map_and_store(u, root + pdpt + pd);
        assert_int_equal(u_exit(u, child), GK_OK);
        for (unsigned i = 0; i < round;
             i++) /* data takes some frames: which become tables varies */
            st(u, spare += PAGE_SIZE);
        map_and_store(u, 2 * root + pdpt + pd);
        assert_int_equal(u_munmap(u, 2 * root + pdpt + pd, 4 << 12), GK_OK);
    }
}

static void tables_of_an_ended_process_are_forgotten(void **state)
{
    (void)state;
    const char *paging[MAX_STRATEGIES];
    unsigned np = strategies(paging, true);
    static const char *const cpus[] = {"skx", "zen3"};
    for (unsigned n = 0; n < 2 * np; n++) {
        const struct cpu *cpu = preset(cpus[n % 2]);
        struct vm_config c = config(paging[n / 2], cpu);
        struct result r;
        assert_true(cpu->pcid);
        run_checked(&c, recycle, NULL, &r);
        if (r.outcome != OUTCOME_OK)
            fail_msg("%s on %s: %s", c.paging, cpu->name, r.detail);
        cpu_free(cpu);
    }
}

/* ---- a machine without a first-level TLB (for one page size, or any) misses it every time ---- */

static void same_page(struct user *u, void *arg)
{
    gva_t a = u_alloc(u, 4096);
    (void)arg;
    for (unsigned i = 0; i < 1000; i++)
        ld(u, a + 8 * (i % 4));
}

static void a_missing_first_level_never_hits(void **state)
{
    (void)state;
    static const char *const cpus[] = {"plain", "dmt-ref"};
    for (unsigned n = 0; n < 2; n++) {
        const struct cpu *cpu = preset(cpus[n]);
        struct cpu none = *cpu;
        struct vm_config c = config("native", &none);
        struct result r;
        none.l1[0] = (struct geometry){0};
        run_checked(&c, same_page, NULL, &r);
        assert_int_equal(r.total.accesses, 1000);
        assert_int_equal(r.total.tlb_l1_misses, 1000);
        assert_int_equal(r.total.tlb_l2_misses, 1);
        none.l2[0] = (struct geometry){0}, none.l2_sizes[0] = 0;
        run_checked(&c, same_page, NULL, &r);
        assert_int_equal(r.total.tlb_l2_misses, 1000);
        assert_int_equal(r.total.walks, 1000);
        cpu_free(cpu);
    }
}

/* Without VPID each exit costs the TLBs; with it none does. */
static void vpid_decides_whether_exits_flush(void **state)
{
    (void)state;
    const struct cpu *cpu = preset("plain");
    struct cpu no = *cpu;
    struct result with, without;
    struct mix x = {64, 20000};
    no.vpid = false;
    struct vm_config c = config("ept", cpu);
    run_checked(&c, random_mix, &x, &with);
    c.cpu = &no;
    run_checked(&c, random_mix, &x, &without);
    assert_int_equal(with.total.exits, without.total.exits);
    assert_int_equal(without.total.tlb_flushes, with.total.tlb_flushes + without.total.exits);
    assert_true(without.total.tlb_l2_misses > with.total.tlb_l2_misses);
    cpu_free(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_per_walk_follow_the_formula),
        cmocka_unit_test(refs_per_walk_do_not_depend_on_walk_caches),
        cmocka_unit_test(remapping_costs_the_exits_the_design_predicts),
        cmocka_unit_test(shsp_follows_its_guest),
        cmocka_unit_test(agile_walks_follow_the_formula),
        cmocka_unit_test(agile_counts_add_up),
        cmocka_unit_test(tlb_misses_equal_an_independent_simulation),
        cmocka_unit_test(running_out_of_memory_is_an_outcome),
        cmocka_unit_test(a_wild_access_ends_the_program),
        cmocka_unit_test(a_wild_alias_of_a_cached_page_ends_the_program),
        cmocka_unit_test(a_page_the_host_takes_is_refilled_and_others_survive),
        cmocka_unit_test(a_guest_that_maps_its_tables_is_no_crash),
        cmocka_unit_test(the_check_finds_what_is_broken),
        cmocka_unit_test(every_configuration_computes_the_same),
        cmocka_unit_test(tables_of_an_ended_process_are_forgotten),
        cmocka_unit_test(a_missing_first_level_never_hits),
        cmocka_unit_test(vpid_decides_whether_exits_flush),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
