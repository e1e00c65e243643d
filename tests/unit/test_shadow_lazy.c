/* test_shadow_lazy.c: shadow-lazy and shadow-pv: what may be stale, and until when; what is kept,
 * recycled, batched and filled ahead, counted by hand.
 *
 * A VM without a guest kernel (fuzz/bare.h): the test is the guest, and writes its tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "fuzz/bare.h"
#include "fuzz/machine.h"

/* Guest-physical places: tables of two address spaces, which share all but the root, and data. */
enum { ROOT = 0x100000, ROOT2 = 0x101000, PDPT = 0x102000, PD = 0x103000, PT = 0x104000 };
#define DATA(i) (0x800000ull + ((uint64_t)(i) << 12))
#define LARGE(i) (0x1000000ull + ((uint64_t)(i) << 21))
#define LINK (PTE_P | PTE_W | PTE_U)
#define PAGE (PTE_P | PTE_W | PTE_U)
#define VA 0x7f8000000000ull /* the first entry of the upper tables, but for the root's */

static struct cpu cpu;
static struct bare b;

static void start(const char *paging, const char *preset, const uint64_t *params)
{
    char err[300];
    int code;
    const struct cpu *c = cpu_load(preset, err, sizeof err, &code);
    struct bare_config cfg = {.paging = REG_FIND(paging, paging),
                              .params = params,
                              .cpu = &cpu,
                              .levels = 4,
                              .host_levels = 4,
                              .mem = 64 << 20,
                              .host_mem = 128 << 20};
    assert_non_null(c);
    cpu = *c;
    cpu_free(c);
    if (!bare_new(&b, &cfg, err, sizeof err))
        fail_msg("%s", err);
    mmu_guest_cr3(b.mmu, ROOT | 1);
}

static void finish(void)
{
    const char *why = bare_check(&b);
    if (why)
        fail_msg("%s", why);
    bare_free(&b);
}

static void put(gpa_t at, uint64_t entry) { mmu_guest_pt_write(b.mmu, at, entry); }

/* Both roots lead to one PDPT, PD and PT. */
static void make_tables(void)
{
    put(ROOT + 8 * level_index(VA, 4), PDPT | LINK);
    put(ROOT2 + 8 * level_index(VA, 4), PDPT | LINK);
    put(PDPT, PD | LINK);
    put(PD, PT | LINK);
    for (unsigned i = 0; i < 16; i++)
        put(PT + 8 * i, DATA(i) | PAGE);
}

static gva_t page(unsigned i) { return VA + ((gva_t)i << 12); }

/* One access must reach this guest-physical address. */
static void reach(gva_t va, bool store, gpa_t gpa)
{
    hpa_t at = 0;
    assert_int_equal(bare_access(&b, &(struct access){.va = va, .store = store}, true, &at),
                     BARE_DONE);
    if (!bare_is_at(&b, gpa, at))
        fail_msg("0x%lx is not at 0x%lx", (unsigned long)va, (unsigned long)gpa);
}
static void load(gva_t va, gpa_t gpa) { reach(va, false, gpa); }
static void store(gva_t va, gpa_t gpa) { reach(va, true, gpa); }

static uint64_t fills(void) { return b.mmu->c.exit_fill; }

/* ---- what may be stale, and until when ---- */

/* Page 1 is used and then points elsewhere: what the hardware has of it, nothing being invalidated.
 */
static void make_stale(uint64_t flags)
{
    put(PT + 8, DATA(1) | PAGE | flags);
    mmu_guest_invlpg(b.mmu, page(1));
    load(page(1), DATA(1));
    put(PT + 8, DATA(9) | PAGE | flags);
    mmu_flush_linear(b.mmu); /* the hardware may forget; the shadow must not have noticed */
    load(page(1), DATA(1));
}

static void stale_until_the_guest_invalidates(void **state)
{
    (void)state;
    static uint64_t params[][2] = {{0, 0}, {0, 1}};
    for (unsigned resync = 0; resync < 2; resync++) {
        start("shadow-lazy", "skx", params[resync]);
        make_tables();

        make_stale(0);
        mmu_guest_invlpg(b.mmu, page(2)); /* another address */
        load(page(1), DATA(1));
        mmu_guest_invlpg(b.mmu, page(1) + 0x123);
        load(page(1), DATA(9));

        make_stale(0);
        mmu_guest_cr3(b.mmu, ROOT | 1 | CR3_KEEP);
        load(page(1), DATA(1));
        mmu_guest_cr3(b.mmu, ROOT2 | 2); /* another PCID */
        load(page(1), DATA(9));
        mmu_guest_cr3(b.mmu, ROOT | 1 | CR3_KEEP);
        load(page(1), DATA(1));
        mmu_guest_cr3(b.mmu, ROOT2 | 1); /* this PCID, another root */
        load(page(1), DATA(9));
        mmu_guest_cr3(b.mmu, ROOT | 1 | CR3_KEEP);
        load(page(1), DATA(9));

        make_stale(0);
        mmu_guest_invpcid(b.mmu, INVPCID_CONTEXT, 2, 0);
        load(page(1), DATA(1));
        mmu_guest_invpcid(b.mmu, INVPCID_ADDRESS, 1, page(1));
        load(page(1), DATA(9));
        make_stale(0);
        mmu_guest_invpcid(b.mmu, INVPCID_CONTEXT, 1, 0);
        load(page(1), DATA(9));
        make_stale(0);
        mmu_guest_invpcid(b.mmu, INVPCID_ALL_NONGLOBAL, 0, 0);
        load(page(1), DATA(9));
        finish();
    }
}

static void global_pages_survive_cr3_loads_only(void **state)
{
    (void)state;
    static uint64_t params[][2] = {{0, 0}, {0, 1}};
    for (unsigned n = 0; n < 4; n++) {
        start("shadow-lazy", n & 1 ? "skx" : "plain", params[n / 2]);
        make_tables();
        make_stale(PTE_G);
        mmu_guest_cr3(b.mmu, ROOT | 1);
        load(page(1), DATA(1));
        mmu_guest_invpcid(b.mmu, INVPCID_ALL_NONGLOBAL, 0, 0);
        mmu_guest_invpcid(b.mmu, INVPCID_ADDRESS, 1, page(1));
        load(page(1), DATA(1));
        mmu_guest_cr3(b.mmu, ROOT2 | 2);
        mmu_guest_invlpg(b.mmu, page(1)); /* in whatever PCID */
        mmu_guest_cr3(b.mmu, ROOT | 1 | CR3_KEEP);
        load(page(1), DATA(9));
        make_stale(PTE_G);
        mmu_guest_invpcid(b.mmu, INVPCID_ALL, 0, 0);
        load(page(1), DATA(9));
        finish();
    }
}

/* The guest's large page is many leaves where the host's pages are smaller: all go at once. */
static void one_invlpg_drops_all_parts_of_a_large_page(void **state)
{
    (void)state;
    start("shadow-lazy", "skx", NULL);
    make_tables();
    put(PD + 8, LARGE(0) | PAGE | PTE_PS);
    const gva_t va = VA + (1 << 21);
    for (unsigned i = 0; i < 512; i += 37)
        load(va + (i << 12), LARGE(0) + (i << 12));
    put(PD + 8, LARGE(1) | PAGE | PTE_PS);
    load(va, LARGE(0));
    mmu_guest_invlpg(b.mmu, va + 0x5000);
    for (unsigned i = 0; i < 512; i += 37)
        load(va + (i << 12), LARGE(1) + (i << 12));
    finish();
}

/* A stale entry maps the frame the guest meant, and not a moment longer than that is there. */
static void never_stale_after_a_change_of_the_host(void **state)
{
    (void)state;
    start("shadow-lazy", "skx", NULL);
    make_tables();
    make_stale(0);
    fuzz_move_frames(b.gm, gpa_gfn(DATA(1)).n, 1);
    load(page(1), DATA(9)); /* it was dropped */
    finish();
}

/* A fault drops what is stale of its address (SDM vol. 3A, 4.10.4.1), also when it is reflected. */
static void a_reflected_fault_drops_its_address(void **state)
{
    (void)state;
    hpa_t at;
    start("shadow-lazy", "skx", NULL);
    make_tables();
    put(PT + 8, DATA(1) | PTE_P | PTE_U);
    load(page(1), DATA(1));
    assert_int_equal(bare_access(&b, &(struct access){.va = page(1), .store = true}, true, &at),
                     BARE_FAULT);
    assert_int_equal(b.error, PF_P | PF_W | PF_U);
    put(PT + 8, DATA(9) | PAGE);
    load(page(1), DATA(9));
    finish();
}

/* ---- CR3 loads: dropped, or read again ----
 *
 * Sixteen pages are used in each of two spaces without PCIDs: 8 stored to (D), 8 loaded. Each CR3
 * load invalidates what is held of both. resync=0: the 16 that are held are dropped, and 16 fills
 * bring them back. resync=1: a space's 16 are read again when it is loaded, and stay, until the guest
 * clears A of one, D of another and moves a third: these three go, and are filled again.
 */
static void use_all(void)
{
    for (unsigned i = 0; i < 16; i++)
        reach(page(i), i < 8, DATA(i));
}

static void cr3_loads_drop_or_read_again(void **state)
{
    (void)state;
    static uint64_t params[][2] = {{0, 0}, {0, 1}};
    for (unsigned resync = 0; resync < 2; resync++) {
        start("shadow-lazy", "plain", params[resync]);
        const struct counters *c = &b.mmu->c;
        make_tables();
        use_all();
        mmu_guest_cr3(b.mmu, ROOT2);
        use_all();
        uint64_t filled = fills(), dropped = c->shadow_dropped;
        for (unsigned i = 0; i < 10; i++) {
            mmu_guest_cr3(b.mmu, i & 1 ? ROOT2 : ROOT);
            use_all();
        }
        assert_int_equal(fills() - filled, resync ? 0 : 160);
        assert_int_equal(c->shadow_dropped - dropped, resync ? 0 : 160);
        assert_int_equal(c->shadow_kept, resync ? 160 : 0);

        put(PT + 8 * 8, bare_peek(&b, PT + 8 * 8) & ~PTE_A);
        put(PT + 8 * 2, bare_peek(&b, PT + 8 * 2) & ~PTE_D);
        put(PT + 8 * 3, (bare_peek(&b, PT + 8 * 3) & ~PTE_ADDR) | DATA(20));
        filled = fills(), dropped = c->shadow_dropped;
        mmu_guest_cr3(b.mmu, ROOT2);
        assert_int_equal(c->shadow_dropped - dropped, resync ? 3 : 16);
        load(page(3), DATA(20));
        store(page(2), DATA(2));
        load(page(8), DATA(8));
        assert_int_equal(fills() - filled, 3);
        assert_true(bare_peek(&b, PT + 8 * 2) & PTE_D);
        assert_true(bare_peek(&b, PT + 8 * 8) & PTE_A);
        finish();
    }
}

/* ---- the bound on shadow pages ----
 *
 * 40 regions of 2 MiB under one PD, with room for 16 pages. Root, PDPT and PD stay, since something
 * is below them. A fill asks for room for 4 pages, so it begins with at most 12 and may add one: 13
 * at the end. Once around: 3 + 40 made, 30 recycled. First in, first out: a second time around finds
 * none of the ten that are there, since each has gone when its turn comes: 40 more of both.
 */
static void pages_are_recycled_within_the_bound(void **state)
{
    (void)state;
    static const uint64_t params[] = {16, 0};
    start("shadow-lazy", "skx", params);
    make_tables();
    for (unsigned i = 0; i < 40; i++)
        put(PD + 8 * i, PT | LINK);
    for (unsigned round = 1; round <= 2; round++) {
        for (unsigned i = 0; i < 40; i++)
            load(VA + ((gva_t)i << 21), DATA(0));
        assert_int_equal(b.mmu->c.shadow_pages_made, 3 + 40 * round);
        assert_int_equal(b.mmu->c.shadow_pages_recycled, 40 * round - 10);
        assert_int_equal(b.mvm->table_frames, 13);
    }
    finish();
}

/* ---- shadow-pv ---- */

/* 100 writes, 10 INVLPGs and a CR3 load: 111 operations and the CR3 load of start(). A full queue is
 * sent; the CR3 load sends the rest. */
static void a_hypercall_carries_a_batch(void **state)
{
    (void)state;
    static const struct {
        uint64_t batch, hypercalls;
    } expect[] = {{1, 1 + 111}, {32, 1 + 3 + 1}, {110, 1 + 1 + 1}, {4096, 1 + 1}};
    for (unsigned n = 0; n < ARRAY_SIZE(expect); n++) {
        start("shadow-pv", "skx", &expect[n].batch);
        for (unsigned i = 0; i < 100; i++)
            put(PT + 8 * i, 0);
        for (unsigned i = 0; i < 10; i++)
            mmu_guest_invlpg(b.mmu, page(i));
        mmu_guest_cr3(b.mmu, ROOT | 1);
        mmu_guest_return(b.mmu); /* nothing is queued */
        assert_int_equal(b.mmu->c.exit_hypercall, expect[n].hypercalls);
        assert_int_equal(b.mmu->c.pv_updates, 112);
        finish();
    }
}

/* An entry is filled ahead only when use has nothing left to tell: A, and D for stores. */
static void only_used_entries_are_filled_ahead(void **state)
{
    (void)state;
    start("shadow-pv", "skx", NULL);
    make_tables();
    store(page(0), DATA(0));
    store(page(1), DATA(1));
    const struct counters *c = &b.mmu->c;
    uint64_t filled = fills();

    put(PT, DATA(1) | PAGE); /* no A: nothing */
    mmu_guest_invlpg(b.mmu, page(0));
    assert_int_equal(c->pv_filled, 0);
    load(page(0), DATA(1));
    assert_int_equal(fills(), filled + 1);
    assert_int_equal(bare_peek(&b, PT), DATA(1) | PAGE | PTE_A);

    put(PT, DATA(1) | PAGE | PTE_A); /* A: for loads */
    mmu_guest_invlpg(b.mmu, page(0));
    assert_int_equal(c->pv_filled, 1);
    load(page(0), DATA(1));
    assert_int_equal(fills(), filled + 1);
    store(page(0), DATA(1));
    assert_int_equal(fills(), filled + 2);
    assert_int_equal(bare_peek(&b, PT), DATA(1) | PAGE | PTE_A | PTE_D);

    put(PT, DATA(0) | PAGE | PTE_A | PTE_D); /* both: for stores */
    mmu_guest_invlpg(b.mmu, page(0));
    assert_int_equal(c->pv_filled, 2);
    store(page(0), DATA(0));
    assert_int_equal(fills(), filled + 2);

    put(PT, DATA(15) | PAGE | PTE_A | PTE_D); /* the host has no frame there */
    put(PT, PT | PAGE | PTE_A | PTE_D);       /* a table: for loads only */
    mmu_guest_invlpg(b.mmu, page(0));
    assert_int_equal(c->pv_filled, 3);
    load(page(0), PT);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stale_until_the_guest_invalidates),
        cmocka_unit_test(global_pages_survive_cr3_loads_only),
        cmocka_unit_test(one_invlpg_drops_all_parts_of_a_large_page),
        cmocka_unit_test(never_stale_after_a_change_of_the_host),
        cmocka_unit_test(a_reflected_fault_drops_its_address),
        cmocka_unit_test(cr3_loads_drop_or_read_again),
        cmocka_unit_test(pages_are_recycled_within_the_bound),
        cmocka_unit_test(a_hypercall_carries_a_batch),
        cmocka_unit_test(only_used_entries_are_filled_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
