/* test_quick.c: quick walks (walk_quick.h) change no counter: each program runs with and without.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "shadow_vs_ept/walk_log.h"
#include "vmm/model.h"

enum { PAGES = 4096, ROUNDS = 16, ACCESSES = 3000 };

struct variant {
    bool quick, host_takes; /* with quick walks; the host discards frames meanwhile */
};

static void accesses(struct user *u, gva_t base, uint64_t pages)
{
    for (unsigned i = 0; i < ACCESSES; i++) {
        uint64_t r = rng_next(&u->rng);
        gva_t a = base + ((r >> 20) % pages << PAGE_SHIFT) + (r & 0xff8);
        if (r >> 63)
            st64(u, a, r);
        else
            ld64(u, a);
    }
}

/* The host takes frames of the program's data. */
static void discard_data(struct user *u, gva_t base, uint64_t pages)
{
    struct hw *h = u->hw;
    for (unsigned i = 0; i < 20; i++) {
        gva_t va = base + (rng_below(&u->rng, pages) << PAGE_SHIFT);
        struct access load = {.va = va};
        struct walk_log log = {0};
        struct walk w;
        h->mvm->paging->explain(h->mmu, &load, &w, &log);
        if (w.status != WALK_OK)
            continue;
        for (uint64_t g = 0; g < h->gm->frames; g++)
            if (gmem_state(h->gm, gfn(g)) == PG_RESIDENT &&
                hfn_hpa(gmem_hfn(h->gm, gfn(g))) == w.page) {
                gmem_discard(h->gm, gfn(g), 1);
                break;
            }
    }
}

/* The leaf table of a page, aimed at itself by that page's entry; then the program's own store makes
 * the next page the one after it: no walk may know better from before. A shadow strategy never lets
 * such a store through. */
static void map_own_table(struct user *u, gva_t a)
{
    struct hw *h = u->hw;
    const gva_t b = a + PAGE_SIZE, c = b + PAGE_SIZE;
    gpa_t leaf = gk_cr3(h->kernel) & PTE_ADDR, at;
    ld(u, a);
    st64(u, b, 1);
    st64(u, c, 2);
    for (unsigned l = 4; l > 1; l--)
        leaf = hw_pt_read(h, leaf + 8 * level_index(a, l)) & PTE_ADDR;
    at = leaf + 8 * level_index(a, 1);
    uint64_t old = hw_pt_read(h, at), old_b = hw_pt_read(h, at + 8);
    hw_pt_write(h, at, leaf | PTE_P | PTE_W | PTE_U);
    hw_invlpg(h, a);
    ld(u, a);
    if (strncmp(h->mvm->paging->name, "shadow", 6) != 0) {
        st64(u, a + (at & PAGE_MASK) + 8, hw_pt_read(h, at + 16));
        hw_invlpg(h, b);
        assert_int_equal(ld64(u, b), 2);
    }
    hw_pt_write(h, at, old);
    hw_pt_write(h, at + 8, old_b);
    hw_invlpg(h, a);
    hw_invlpg(h, b);
    assert_int_equal(ld64(u, b), 1);
}

static void program(struct user *u, void *arg)
{
    const struct variant *v = arg;
    int child;
    mmu_choose_slow(u->mmu, false, v->quick);
    gva_t base = u_alloc(u, PAGES << PAGE_SHIFT);
    for (unsigned round = 0; round < ROUNDS; round++) {
        gva_t part = base + (rng_below(&u->rng, PAGES - 64) << PAGE_SHIFT);
        accesses(u, base, PAGES);
        u_munmap(u, part, 64 << PAGE_SHIFT);
        u_mmap(u, part, 64 << PAGE_SHIFT, GK_READ | GK_WRITE, GK_FIXED, &part);
        u_mprotect(u, part + (8 << PAGE_SHIFT), 8 << PAGE_SHIFT, GK_READ | GK_WRITE | GK_EXEC);
        if (v->host_takes)
            discard_data(u, base, PAGES);
        if (round % 8 == 3) {
            assert_int_equal(u_fork(u, &child), GK_OK);
            u_switch(u, child);
            accesses(u, base, PAGES / 4);
            u_switch(u, 1);
            accesses(u, base, PAGES / 4);
            u_exit(u, child);
        }
    }
    map_own_table(u, base);
    accesses(u, base, PAGES);
}

static void run(const char *paging, const struct cpu *cpu, enum page_mode host_page,
                const struct variant *v, struct counters *out)
{
    struct vm_config cfg = {.paging = paging,
                            .cpu = cpu,
                            .levels = 4,
                            .host_levels = 4,
                            .mem = 64 << 20,
                            .host_mem = 256 << 20,
                            .host_page = host_page,
                            .seed = 7,
                            .flush_ceiling = 33};
    struct hw *h = meta_calloc(META_MMU, 1, sizeof *h);
    struct result *res = meta_calloc(META_MMU, 1, sizeof *res);
    char err[512] = "";
    if (setjmp(h->end) == 0) {
        if (model_boot(h, &cfg, res, err, sizeof err))
            fail_msg("boot: %s", err);
        program(&h->user, (void *)(uintptr_t)v);
    }
    assert_int_equal(res->outcome, OUTCOME_OK);
    const char *why = model_check(h);
    if (why)
        fail_msg("%s: %s", paging, why);
    model_counters(h, out);
    model_free(h);
    meta_free(META_MMU, res);
    meta_free(META_MMU, h);
}

static void compare(const char *paging, const struct cpu *cpu, enum page_mode host_page)
{
    struct counters with, without;
    bool takes = strcmp(paging, "native") != 0;
    run(paging, cpu, host_page, &(struct variant){true, takes}, &with);
    run(paging, cpu, host_page, &(struct variant){false, takes}, &without);
    for (unsigned i = 0; i < CTR_COUNT; i++)
        if (with.v[i] != without.v[i])
            fail_msg("%s: %s is %llu with quick walks, %llu without", paging, counter_descs[i].name,
                     (unsigned long long)with.v[i], (unsigned long long)without.v[i]);
    assert_true(with.walks > ACCESSES * ROUNDS / 2);
}

static void no_counter_tells(void **state)
{
    (void)state;
    static const char *const paging[] = {"native",     "shadow", "shadow-kvm",
                                         "shadow-pvm", "ept",    "ept-kvm"};
    char err[300];
    int code;
    const struct cpu *plain = cpu_load("plain", err, sizeof err, &code);
    assert_non_null(plain);
    struct cpu wide = *plain; /* the other shape */
    wide.l2[0] = (struct geometry){2048, 16, INDEX_MOD, POLICY_LRU};
    for (size_t i = 0; i < ARRAY_SIZE(paging); i++) {
        compare(paging[i], plain, PAGES_4K);
        compare(paging[i], &wide, PAGES_4K);
        compare(paging[i], plain, PAGES_THP);
    }
    cpu_free(plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_counter_tells)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
