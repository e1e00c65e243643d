/* test_dmt.c: areas of leaf entries: what registers serve, and what is walked instead.
 *
 * R = references; dmt 3, pvdmt 2, dmt-native 1 where a register serves; the ordinary walk 24, 24, 4. An
 * attempt that finds no leaf is paid on top: G1H1 and G1 (dmt), G1 (the others).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "shadow_vs_ept/walk_log.h"
#include "vmm/model.h"

static const struct {
    const char *paging;
    unsigned served, walked, attempt;
} kinds[] = {{"dmt-native", 1, 4, 1}, {"dmt", 3, 24, 2}, {"pvdmt", 2, 24, 1}};
enum { KINDS = ARRAY_SIZE(kinds) };

/* Run prog under each kind on the textbook machine; every invariant holds at the end. */
static void run(unsigned kind, enum page_mode guest_page, uint64_t registers,
                void (*prog)(struct user *, void *), void *arg, struct counters *c)
{
    char err[300] = "";
    int code;
    const struct cpu *cpu = cpu_load("plain", err, sizeof err, &code);
    const uint64_t params[MAX_PARAMS] = {registers};
    struct vm_config cfg = {.paging = kinds[kind].paging,
                            .paging_params = params,
                            .cpu = cpu,
                            .levels = 4,
                            .host_levels = 4,
                            .guest_page = guest_page,
                            .mem = 256ull << 20,
                            .host_mem = 1ull << 30,
                            .flush_ceiling = 33};
    struct hw *h = meta_calloc(META_MMU, 1, sizeof *h);
    struct result res = {0};
    if (setjmp(h->end) == 0) {
        assert_int_equal(model_boot(h, &cfg, &res, err, sizeof err), NB_OK);
        prog(&h->user, arg);
    }
    assert_int_equal(res.outcome, OUTCOME_OK);
    model_counters(h, c);
    const char *why = model_check(h);
    if (why)
        fail_msg("%s: %s", kinds[kind].paging, why);
    model_free(h);
    meta_free(META_MMU, h);
    cpu_free(cpu);
}

/* Each of n pages is stored to once: one completed walk a page. */
static void store_once(struct user *u, gva_t a, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        st64(u, a + (i << 12), i);
}

/* Three mappings of 2, 8 and 6 MiB, far apart: areas of 1, 4 and 3 tables. */
static void three_mappings(struct user *u, void *arg)
{
    static const uint64_t mib[] = {2, 8, 6};
    (void)arg;
    for (unsigned i = 0; i < 3; i++) {
        gva_t a;
        assert_int_equal(u_mmap(u, (1ull + i) << 39, mib[i] << 20, GK_READ | GK_WRITE, 0, &a),
                         GK_OK);
        store_once(u, a, 64);
    }
}

static void the_largest_areas_have_registers(void **state)
{
    (void)state;
    for (unsigned k = 0; k < KINDS; k++)
        for (uint64_t registers = 1; registers <= 3; registers++) {
            struct counters c;
            /* The mapping of 2 MiB comes first and is used before the others are there: its only
             * area has a register then. */
            run(k, PAGES_4K, registers, three_mappings, NULL, &c);
            uint64_t walked = registers == 1 ? 64 : 0; /* 6 MiB, after the 8 */
            assert_int_equal(c.walks, 3 * 64);
            assert_int_equal(c.dmt_fallbacks, walked);
            assert_int_equal(c.walk_refs,
                             kinds[k].served * (3 * 64 - walked) + kinds[k].walked * walked);
        }
}

/* THP, 2 MiB and 16 pages: an area of level 2, one of level 1 for the tail. Then the large page is
 * split: its entry becomes a link, to a table that no area has. */
static void with_a_tail(struct user *u, void *arg)
{
    gva_t a;
    (void)arg;
    assert_int_equal(u_mmap(u, 1ull << 39, (2 << 20) + (16 << 12), GK_READ | GK_WRITE, 0, &a),
                     GK_OK);
    st64(u, a, 1);
    store_once(u, a + (2 << 20), 16);
    assert_int_equal(u_mprotect(u, a, 4096, GK_READ), GK_OK);
    store_once(u, a + 4096, 16);
}

static void an_entry_that_is_no_leaf_is_walked(void **state)
{
    (void)state;
    for (unsigned k = 0; k < KINDS; k++) {
        struct counters c;
        run(k, PAGES_THP, 16, with_a_tail, NULL, &c);
        assert_int_equal(c.walks, 1 + 16 + 16);
        assert_int_equal(c.dmt_fallbacks, 16);
        assert_int_equal(c.walk_refs,
                         17 * kinds[k].served + 16 * (kinds[k].walked + kinds[k].attempt));
    }
}

static enum walk_status explain(struct user *u, gva_t va, bool store, struct walk *w)
{
    struct walk_log log = {0};
    struct access a = {.va = va, .store = store};
    u->hw->mvm->paging->explain(u->hw->mmu, &a, w, &log);
    assert_int_equal(log.n, w->refs);
    return w->status;
}

/* The guest takes W, then P, from the link above an area's table, which hardware that reads the leaf
 * alone would not notice. */
static void restricting_links(struct user *u, void *arg)
{
    struct hw *h = u->hw;
    unsigned kind = *(unsigned *)arg;
    gva_t a = u_alloc(u, 1 << 20);
    struct walk w;
    st64(u, a, 1);
    assert_int_equal(explain(u, a, true, &w), WALK_OK);
    assert_int_equal(w.refs, kinds[kind].served);
    gpa_t table = gk_cr3(h->kernel) & PTE_ADDR;
    for (unsigned l = 4; l > 2; l--)
        table = hw_pt_read(h, table + 8 * level_index(a, l)) & PTE_ADDR;
    gpa_t at = table + 8 * level_index(a, 2);
    uint64_t link = hw_pt_read(h, at);
    hw_pt_write(h, at, link & ~PTE_W);
    assert_int_equal(explain(u, a, true, &w), WALK_GUEST_FAULT);
    assert_int_equal(w.error, PF_P | PF_W | PF_U);
    assert_int_equal(explain(u, a, false, &w), WALK_OK);
    assert_int_equal(w.refs, kinds[kind].walked + kinds[kind].attempt);
    hw_pt_write(h, at, 0);
    assert_int_equal(explain(u, a, false, &w), WALK_GUEST_FAULT);
    assert_int_equal(w.error, PF_U);
    hw_pt_write(h, at, link);
    assert_int_equal(explain(u, a, true, &w), WALK_OK);
    assert_int_equal(w.refs, kinds[kind].served);
}

static void links_that_contradict_an_area_are_obeyed(void **state)
{
    (void)state;
    for (unsigned k = 0; k < KINDS; k++) {
        struct counters c;
        run(k, PAGES_4K, 16, restricting_links, &k, &c);
    }
}

/* Processes have their own areas: a page that both share after fork is found in each one's. */
static void forked(struct user *u, void *arg)
{
    int child;
    gva_t a = u_alloc(u, 1 << 20);
    (void)arg;
    store_once(u, a, 8);
    assert_int_equal(u_fork(u, &child), GK_OK);
    for (int round = 0; round < 4; round++) {
        assert_int_equal(u_switch(u, round % 2 ? 1 : child), GK_OK);
        for (unsigned i = 0; i < 8; i++) {
            assert_int_equal(ld64(u, a + (i << 12)), i + 100 * (unsigned)(round / 2) * (i == 3));
            if (i == 3 && round < 2)
                st64(u, a + (i << 12), i + 100);
        }
    }
    assert_int_equal(u_exit(u, child), GK_OK);
}

static void each_process_has_its_own_areas(void **state)
{
    (void)state;
    for (unsigned k = 0; k < KINDS; k++) {
        struct counters c;
        run(k, PAGES_4K, 16, forked, NULL, &c);
        assert_int_equal(c.dmt_fallbacks, 0);
        /* Two areas made, one given up. */
        assert_int_equal(c.exit_hypercall, strcmp(kinds[k].paging, "pvdmt") == 0 ? 3 : 0);
    }
}

/* The host moves a placed area: pvdmt then takes the 3 references of dmt, and says so. */
static void host_moves_the_area(struct user *u, void *arg)
{
    struct hw *h = u->hw;
    gva_t a = u_alloc(u, 1 << 20);
    unsigned char saved[PAGE_SIZE];
    struct walk w;
    (void)arg;
    store_once(u, a, 8);
    assert_int_equal(explain(u, a, false, &w), WALK_OK);
    assert_int_equal(w.refs, 2);
    gpa_t table = gk_cr3(h->kernel) & PTE_ADDR;
    for (unsigned l = 4; l > 1; l--)
        table = hw_pt_read(h, table + 8 * level_index(a, l)) & PTE_ADDR;
    memcpy(saved, gmem_ptr(h->gm, table), PAGE_SIZE);
    gmem_discard(h->gm, gpa_gfn(table), 1);
    assert_int_equal(gmem_fault(h->gm, gpa_gfn(table)), GMEM_OK);
    memcpy(gmem_ptr(h->gm, table), saved, PAGE_SIZE);
    ld(u, a);
    assert_int_equal(explain(u, a, false, &w), WALK_OK);
    assert_int_equal(w.refs, 3);
}

static void an_area_the_host_moved_is_found_through_it(void **state)
{
    struct counters c;
    (void)state;
    run(2, PAGES_4K, 16, host_moves_the_area, NULL, &c);
    assert_true(c.dmt_fallbacks > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_areas_have_registers),
        cmocka_unit_test(an_entry_that_is_no_leaf_is_walked),
        cmocka_unit_test(links_that_contradict_an_area_are_obeyed),
        cmocka_unit_test(each_process_has_its_own_areas),
        cmocka_unit_test(an_area_the_host_moved_is_found_through_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
