/* test_dseg.c: direct segments: what they translate, what escapes, and who notices. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "shadow_vs_ept/escape.h"
#include "shadow_vs_ept/walk_log.h"
#include "vmm/model.h"

/* ---- the escape filter ---- */

static void a_filter_forgets_no_page(void **state)
{
    (void)state;
    enum { FIRST = 1 << 20, PAGES = 5000 };
    static const struct {
        unsigned k;
        uint64_t bits;
    } shape[] = {{1, 8}, {4, 256}, {3, 1000}, {8, 1 << 16}};
    for (unsigned i = 0; i < ARRAY_SIZE(shape); i++) {
        struct escape_hash h;
        struct escape e;
        struct rng r;
        bool must[PAGES] = {false};
        escape_hash_init(&h, shape[i].k, shape[i].bits);
        escape_init(&e, &h, FIRST, PAGES);
        rng_seed(&r, i);
        for (unsigned step = 0; step < 2000; step++) {
            uint64_t from = rng_below(&r, PAGES + 200), n = rng_below(&r, 20);
            bool set = rng_below(&r, 2);
            escape_set(&e, FIRST - 100 + from, FIRST - 100 + from + n, set); /* and beside it */
            for (uint64_t p = from; p < from + n; p++)
                if (p >= 100 && p < PAGES + 100)
                    must[p - 100] = set;
        }
        for (unsigned p = 0; p < PAGES; p++) {
            enum escape_result got = escape_test(&e, FIRST + p);
            assert_true(must[p] ? got == ESCAPE_TRUE : got != ESCAPE_TRUE);
        }
        assert_null(escape_check(&e));
        escape_set(&e, 0, ~0ull, false); /* nothing is left: the filter is cleared */
        for (unsigned p = 0; p < PAGES; p++)
            assert_int_equal(escape_test(&e, FIRST + p), ESCAPE_NO);
        assert_null(escape_check(&e));
        escape_fini(&e);
    }
}

/* With n pages in k parts of m/k bits a part has a given bit with probability 1 - (1 - k/m)^n, so another
 * page is taken for one of them with that to the power of k. The bits that are set vary from one set of
 * functions to another: by about a tenth of their number where that is 64 (16 pages, k = 4), much less
 * in the others; the rate then varies by k times as much. */
static void false_escapes_are_as_frequent_as_the_closed_form_says(void **state)
{
    (void)state;
    static const struct {
        unsigned k;
        double bits, pages, tolerance;
    } want[] = {{4, 256, 16, 0.5},
                {4, 65536, 8192, 0.05},
                {1, 4096, 1024, 0.1},
                {8, 1 << 20, 120000, 0.1},
                {3, 3000, 1000, 0.1}};
    enum { PROBES = 400000 };
    for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
        struct escape_hash h;
        struct escape e;
        struct rng r;
        uint64_t positive = 0;
        double k = want[i].k, m = want[i].bits, n = want[i].pages;
        escape_hash_init(&h, want[i].k, (uint64_t)m);
        escape_init(&e, &h, 0, 1ull << 27); /* 512 GiB */
        rng_seed(&r, 11 + i);
        while (e.count < (uint64_t)n) {
            uint64_t p = rng_below(&r, e.pages);
            escape_set(&e, p, p + 1, true);
        }
        for (unsigned probe = 0; probe < PROBES; probe++)
            positive += escape_test(&e, rng_below(&r, e.pages)) == ESCAPE_FALSE;
        double got = (double)positive / PROBES, rate = pow(1 - pow(1 - k / m, n), k),
               limit = pow(1 - exp(-k * n / m), k);
        print_message("m %g k %g n %g: %.5f, closed form %.5f, its limit %.5f\n", m, k, n, got,
                      rate, limit);
        assert_true(fabs(rate - limit) < 0.02 * limit + 1e-4);
        assert_true(fabs(got - rate) < want[i].tolerance * rate);
        escape_fini(&e);
    }
}

/* ---- machines ---- */

enum { FILTER_BITS, FILTER_HASHES, ESCAPE_PPM };

static const struct cpu *plain(void)
{
    char err[300];
    int code;
    const struct cpu *c = cpu_load("plain", err, sizeof err, &code);
    assert_non_null(c);
    return c;
}

/* A guest of 256 MiB whose mappings of 1 MiB are primary regions; `escape_ppm` pages of a million escape,
 * with a filter so large that others hardly do. */
static void run(const char *paging, uint64_t escape_ppm, void (*prog)(struct user *, void *),
                void *arg, struct counters *c)
{
    const uint64_t params[MAX_PARAMS] = {1 << 24, 4, escape_ppm};
    const struct cpu *cpu = plain();
    struct vm_config cfg = {.paging = paging,
                            .paging_params = strncmp(paging, "dseg", 4) ? NULL : params,
                            .cpu = cpu,
                            .levels = 4,
                            .host_levels = 4,
                            .mem = 256 << 20,
                            .host_mem = 1 << 30,
                            .segment_bytes = 1 << 20,
                            .flush_ceiling = 33};
    struct hw *h = meta_calloc(META_MMU, 1, sizeof *h);
    struct result res = {0};
    char err[512] = "";
    if (setjmp(h->end) == 0) {
        assert_int_equal(model_boot(h, &cfg, &res, err, sizeof err), NB_OK);
        prog(&h->user, arg);
    }
    if (res.outcome != OUTCOME_OK)
        fail_msg("%s: %s", paging, res.detail);
    const char *why = model_check(h);
    if (why)
        fail_msg("%s: %s", paging, why);
    model_counters(h, c);
    model_free(h);
    meta_free(META_MMU, h);
    cpu_free(cpu);
}

static void explain(struct mmu *m, gva_t va, unsigned *refs, struct walk_log *log)
{
    struct walk w;
    struct access load = {.va = va};
    *log = (struct walk_log){0};
    m->vm->paging->explain(m, &load, &w, log);
    assert_int_equal(w.status, WALK_OK);
    assert_int_equal(w.refs, log->n);
    *refs = w.refs;
}

static void expect_refs_at(struct mmu *m, gva_t va, unsigned refs, unsigned line)
{
    struct walk_log log;
    unsigned got;
    explain(m, va, &got, &log);
    if (got != refs)
        fail_msg("line %u: %u references, not %u", line, got, refs);
}
#define expect_refs(m, va, refs) expect_refs_at(m, va, refs, __LINE__)

/* ---- counters: of 4 KiB pages, in 4 levels ----
 *
 * 8192 random pages of a region, so that nearly every access walks. A walk inside the segments asks for
 * one translation by each: the VMM's g + 1 = 5, or 1 when the guest's has spared the tables. With
 * every page escaping there are 24 references, as under ept, and the same questions are answered by
 * escapes: the guest's 1, the VMM's 5. Walks that end in an exit ask too: hence "at least".
 */
enum {
    TABLES = 1 + 2 + 16
}; /* of the guest: root, PDPT and PD, PTs; the kernel's writes touch them */

static void random_pages(struct user *u, void *arg)
{
    gva_t base = u_alloc(u, 32 << 20);
    (void)arg;
    for (unsigned i = 0; i < 40000; i++) {
        uint64_t r = rng_next(&u->rng);
        if (r >> 63)
            st64(u, base + (r % 8192 << 12), r);
        else
            ld(u, base + (r % 8192 << 12));
    }
}

static void counters_tell_what_was_translated_how(void **state)
{
    (void)state;
    static const struct {
        const char *paging;
        unsigned refs, nested, hits, escapes; /* a walk: none escape; all escape */
    } want[] = {{"dseg-vmm", 4, 0, 5, 5}, {"dseg-guest", 4, 4, 1, 1}, {"dseg", 0, 0, 2, 6}};
    struct counters ept, in, out, some;
    run("ept", 0, random_pages, NULL, &ept);
    assert_int_equal(ept.walk_refs, 24 * ept.walks);
    /* D is set in the guest's entries from the start, but not in the nested table's. */
    assert_true(ept.walks_assist > 0);
    assert_true(ept.unseen[CTR_seg_hits] && ept.unseen[CTR_seg_false_escapes]);
    for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
        run(want[i].paging, 0, random_pages, NULL, &in);
        assert_false(in.unseen[CTR_seg_hits]);
        assert_int_equal(in.accesses, ept.accesses);
        assert_int_equal(in.guest_faults, 0);
        assert_int_equal(in.walks_assist != 0, i == 1);
        assert_int_equal(in.walk_refs, want[i].refs * in.walks);
        assert_int_equal(in.walk_refs_nested, want[i].nested * in.walks);
        assert_int_equal(in.seg_escapes + in.seg_false_escapes, 0);
        /* Only the guest's segment alone leaves host pages to be filled: a walk lost for each. */
        uint64_t lost = i == 1 ? in.exit_ept_violation - TABLES : 0;
        assert_int_equal(in.seg_hits, want[i].hits * in.walks + lost);
        run(want[i].paging, 1000000, random_pages, NULL, &out);
        assert_int_equal(out.walk_refs, 24 * out.walks);
        assert_int_equal(out.walks, ept.walks);
        assert_true(out.seg_escapes >= want[i].escapes * out.walks);
        assert_int_equal(out.seg_hits, 0);
        run(want[i].paging, 250000, random_pages, NULL, &some);
        assert_true(some.seg_hits > 0 && some.seg_escapes > 0);
        assert_in_range(some.walk_refs, in.walk_refs + 1, out.walk_refs - 1);
    }
    /* Pages in both segments take no room in the second level: all of its lookups miss. */
    run("dseg", 0, random_pages, NULL, &in);
    assert_int_equal(in.tlb_l2_hits, 0);
    assert_int_equal(in.tlb_l1_misses, in.walks);
}

/* ---- what changes a page of the region, and what the walk of it then reads ---- */

static void changes(struct user *u, void *arg)
{
    struct mmu *m = u->mmu;
    bool vmm = strcmp(arg, "dseg") == 0;
    const unsigned in = vmm ? 0 : 4, out = vmm ? 4 : 24; /* inside; the guest's tables are walked */
    gva_t a = u_alloc(u, 4 << 20), at;
    int child;
    for (unsigned i = 0; i < 1024; i++)
        st64(u, a + (i << 12), i);
    expect_refs(m, a, in);
    assert_int_equal(u_mprotect(u, a, PAGE_SIZE, GK_READ), GK_OK);
    expect_refs(m, a, out);
    assert_int_equal(u_mprotect(u, a, PAGE_SIZE, GK_READ | GK_WRITE), GK_OK);
    expect_refs(m, a, in);
    assert_int_equal(u_munmap(u, a + PAGE_SIZE, PAGE_SIZE), GK_OK);
    assert_int_equal(u_mmap(u, a + PAGE_SIZE, PAGE_SIZE, GK_READ | GK_WRITE, GK_FIXED, &at), GK_OK);
    assert_int_equal(ld64(u, at), 0);
    expect_refs(m, at, out);
    expect_refs(m, a + 2 * PAGE_SIZE, in);

    assert_int_equal(u_fork(u, &child), GK_OK); /* copy on write: all of the region escapes */
    expect_refs(m, a + 2 * PAGE_SIZE, out);
    st64(u, a + 2 * PAGE_SIZE, 77); /* a copy: another frame */
    expect_refs(m, a + 2 * PAGE_SIZE, out);
    assert_int_equal(u_switch(u, child), GK_OK);
    assert_int_equal(ld64(u, a + 2 * PAGE_SIZE), 2);
    expect_refs(m, a + 2 * PAGE_SIZE, out); /* the child has no segment */
    assert_int_equal(u_exit(u, child), GK_OK);
    /* Each page has one owner now: a store makes it the segment's frame, writable. The filter is made
     * anew when more than half of its pages have left, then half of the others: the last to leave is
     * still in it. */
    for (unsigned i = 3; i < 1024; i++) {
        assert_int_equal(ld64(u, a + (i << 12)), i);
        st64(u, a + (i << 12), 2 * i);
        if (i == 500)
            expect_refs(m, a + 3 * PAGE_SIZE, out);
    }
    st64(u, a, 5);
    expect_refs(m, a + 3 * PAGE_SIZE, in);
    expect_refs(m, a + 1000 * PAGE_SIZE, in);
    expect_refs(m, a, out);
    expect_refs(m, a + PAGE_SIZE, out);
    expect_refs(m, a + 2 * PAGE_SIZE, out);
    assert_int_equal(ld64(u, a + 2 * PAGE_SIZE), 77);

    assert_int_equal(u_munmap(u, a, 4 << 20), GK_OK);
    a = u_alloc(u, 1 << 20); /* the region is gone: this is the next one */
    st64(u, a, 1);
    expect_refs(m, a, in);
}

static void a_changed_page_escapes_and_one_restored_does_not(void **state)
{
    (void)state;
    static char names[][16] = {"dseg", "dseg-guest"};
    struct counters c;
    for (unsigned i = 0; i < 2; i++)
        run(names[i], 0, changes, names[i], &c);
}

/* The host takes one frame: its page is mapped by the nested table from then on, its neighbours are not.
 * dseg-vmm: G4..G1 and, for the page alone, 4 nested; dseg: those 4. */
static void taken(struct user *u, void *arg)
{
    struct hw *h = u->hw;
    unsigned in = *(const unsigned *)arg;
    gva_t a = u_alloc(u, 4 << 20);
    struct walk_log log;
    struct walk w;
    for (unsigned i = 0; i < 16; i++)
        st64(u, a + (i << 12), i + 1);
    struct access load = {.va = a + 5 * PAGE_SIZE};
    h->mvm->paging->explain(h->mmu, &load, &w, &(struct walk_log){0});
    uint64_t g = 0;
    while (hfn_hpa(gmem_hfn(h->gm, gfn(g))) != w.page)
        g++;
    gmem_discard(h->gm, gfn(g), 1);
    assert_null(model_check(h));
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(ld64(u, a + (i << 12)), i == 5 ? 0 : i + 1);
    expect_refs(u->mmu, a + 5 * PAGE_SIZE, in + 4);
    expect_refs(u->mmu, a + 6 * PAGE_SIZE, in);
    explain(u->mmu, a + 5 * PAGE_SIZE, &in, &log);
    assert_int_equal(log.step[log.n - 1].dim, DIM_NESTED);
}

static void a_frame_the_host_takes_escapes_alone(void **state)
{
    (void)state;
    struct counters c;
    unsigned vmm = 4, dual = 0;
    run("dseg-vmm", 0, taken, &vmm, &c);
    assert_int_equal(c.exit_ept_violation, 1);
    assert_int_equal(c.seg_false_escapes, 0);
    run("dseg", 0, taken, &dual, &c);
    assert_int_equal(c.exit_ept_violation, 1);
    assert_true(c.seg_escapes >= 1);
}

/* ---- rights inside a segment are those of the entries, whatever the control registers say ---- */

struct verdicts {
    unsigned n, error[256];
};

static void rights(struct user *u, void *arg)
{
    struct verdicts *v = arg;
    struct mmu *m = u->mmu;
    const struct mmu_control before = m->ctl;
    gva_t a = u_alloc(u, 4 << 20);
    st64(u, a, 1);
    v->n = 0;
    for (unsigned bits = 0; bits < 256; bits++) {
        struct mmu_control c = {bits & 1, bits >> 1 & 1, bits >> 2 & 1, before.pge, bits >> 3 & 1};
        struct access acc = {a, bits >> 4 & 1, bits >> 5 & 1, bits >> 6 & 1, bits >> 7};
        struct walk w;
        if (acc.store && acc.fetch)
            continue;
        mmu_guest_control(m, &c);
        m->vm->paging->explain(m, &acc, &w, &(struct walk_log){0});
        assert_int_not_equal(w.status, WALK_EXIT);
        v->error[v->n++] = w.status == WALK_OK ? 0 : w.error | 1u << 30;
    }
    mmu_guest_control(m, &before);
}

static void a_segment_grants_what_its_entries_would(void **state)
{
    (void)state;
    struct verdicts want = {0}, got = {0};
    struct counters c;
    run("ept", 0, rights, &want, &c);
    assert_int_equal(want.n, 192);
    for (unsigned i = 0; i < 2; i++) {
        run(i ? "dseg" : "dseg-guest", 0, rights, &got, &c);
        assert_memory_equal(&got, &want, sizeof want);
    }
}

/* ---- registers belong to a vCPU, segments to an address space ---- */

static void two_spaces(struct user *u, void *arg)
{
    struct hw *h = u->hw;
    struct mmu *second = mmu_add_vcpu(h->mvm);
    int child;
    (void)arg;
    assert_int_equal(u_fork(u, &child), GK_OK);
    gva_t a = u_alloc(u, 4 << 20);
    st64(u, a, 1);
    uint64_t cr3 = gk_cr3(h->kernel);
    assert_int_equal(u_switch(u, child), GK_OK);
    assert_int_equal(u_alloc(u, 8 << 20), a); /* its own region, at the same address */
    st64(u, a, 2);
    mmu_guest_cr3(second, cr3);
    expect_refs(second, a, 0);
    expect_refs(u->mmu, a, 0);
    expect_refs(u->mmu, a + (5 << 20), 0);
    mmu_load(second, a);
    assert_int_equal(*mmu_data(second, a), 1);
    assert_int_equal(ld64(u, a), 2);
    assert_null(model_check(h));
    assert_int_equal(u_exit(u, child), GK_OK); /* switches to pid 1 */
    expect_refs(u->mmu, a, 0);
    assert_int_equal(u_mprotect(u, a, PAGE_SIZE, GK_READ), GK_OK); /* seen by both */
    expect_refs(u->mmu, a, 4);
    expect_refs(second, a, 4);
}

static void each_vcpu_has_the_segment_of_its_address_space(void **state)
{
    (void)state;
    struct counters c;
    run("dseg", 0, two_spaces, NULL, &c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_filter_forgets_no_page),
        cmocka_unit_test(false_escapes_are_as_frequent_as_the_closed_form_says),
        cmocka_unit_test(counters_tell_what_was_translated_how),
        cmocka_unit_test(a_changed_page_escapes_and_one_restored_does_not),
        cmocka_unit_test(a_frame_the_host_takes_escapes_alone),
        cmocka_unit_test(a_segment_grants_what_its_entries_would),
        cmocka_unit_test(each_vcpu_has_the_segment_of_its_address_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
