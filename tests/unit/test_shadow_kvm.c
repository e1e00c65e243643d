/* test_shadow_kvm.c: KVM's shadow MMU: what small scenarios must count, derived by hand.
 *
 * Each scenario is run on both strategies. Its preparation brings the tables into a known state;
 * then counting begins, and the counts are compared with a derivation that stands beside it. What
 * the guest kernel does in each step is fixed in guest/kernel.h; how KVM's MMU reacts is in
 * shadow_kvm.h. Flushes (kvm only): one for each exit, or host event, that took a right or a
 * mapping away, and for each CR3 load.
 *
 * link: base memmgr guest shadow_vs_ept balloon vmm/engine_model vmm/model_balloon
 * vmm/balloon_plan vmm/virtio_mmio vmm/hash
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "guest/image/abi.h"
#include "shadow_vs_ept/shadow_kvm.h"
#include "vmm/model.h"

/* What shadow_kvm.h says of the kernel half is what the image has. */
_Static_assert(KHALF_DIRECT == DIRECT_BASE && KHALF_IMAGE == IMAGE_BASE, "bases");
_Static_assert(KHALF_ROOT_ENTRY == KERNEL_ROOT_ENTRY && KHALF_TEXT_GPA == IMAGE_GPA, "image");
_Static_assert(KHALF_PDPT == KERNEL_PDPT_GPA >> PAGE_SHIFT, "PDPT");
_Static_assert(KHALF_IMAGE_PD == IMAGE_PD_GPA >> PAGE_SHIFT, "image PD");
_Static_assert(KHALF_IMAGE_PT == IMAGE_PT_GPA >> PAGE_SHIFT, "image PT");
_Static_assert(KHALF_PML4 == KERNEL_PML4_GPA >> PAGE_SHIFT, "PML4");
_Static_assert(KHALF_DIRECT_PD == DIRECT_PD_GPA >> PAGE_SHIFT, "direct PDs");
_Static_assert(KHALF_FRAMES == KMEM_GPA >> PAGE_SHIFT, "frames of the image");

enum { PAGE = 4096, REGION = 2 << 20 };

/* ---- running a scenario ---- */

struct scenario {
    const char *name;
    void (*prepare)(struct user *, gva_t *);
    void (*run)(struct user *, gva_t *);
    uint64_t mem;
    enum page_mode host_page;
    unsigned ceiling;
};

struct counts {
    uint64_t reflect, fill, pt_write, spurious, retry, cr3, invlpg;
    uint64_t made, zapped, floods, writes, unsyncs, syncs, prefetched, flushes;
};

static struct counts counts_of(const struct counters *c)
{
    return (struct counts){c->exit_reflect,
                           c->exit_fill,
                           c->exit_pt_write,
                           c->exit_spurious,
                           c->exit_retry,
                           c->exit_cr3,
                           c->exit_invlpg,
                           c->shadow_pages_made,
                           c->shadow_pages_zapped,
                           c->shadow_floods,
                           c->shadow_pt_writes,
                           c->shadow_unsyncs,
                           c->shadow_syncs,
                           c->shadow_prefetched,
                           c->unseen[CTR_shadow_flushes] ? 0 : c->shadow_flushes};
}

/* Counters of the scenario; *end as they are then (gauges). */
static struct counts measure(const struct scenario *s, const char *paging, struct counters *end)
{
    struct hw *h = meta_calloc(META_MMU, 1, sizeof *h);
    char err[300] = "";
    int code;
    const struct cpu *cpu = cpu_load("plain", err, sizeof err, &code);
    assert_non_null(cpu);
    struct vm_config cfg = {.paging = paging,
                            .cpu = cpu,
                            .levels = 4,
                            .host_levels = 4,
                            .mem = s->mem ? s->mem : 256ull << 20,
                            .host_mem = 1ull << 30,
                            .host_page = s->host_page,
                            .flush_ceiling = s->ceiling ? s->ceiling : 33};
    struct result res = {0};
    struct counters start, delta;
    gva_t at[8] = {0};
    if (setjmp(h->end) == 0) {
        assert_int_equal(model_boot(h, &cfg, &res, err, sizeof err), NB_OK);
        s->prepare(&h->user, at);
        model_counters(h, &start);
        s->run(&h->user, at);
        model_counters(h, end);
    }
    if (res.outcome != OUTCOME_OK)
        fail_msg("%s on %s: %s", s->name, paging, res.detail);
    const char *why = model_check(h);
    if (why)
        fail_msg("%s on %s: %s", s->name, paging, why);
    counters_delta(&delta, end, &start);
    model_free(h);
    meta_free(META_MMU, h);
    cpu_free(cpu);
    return counts_of(&delta);
}

static const char *const names[] = {"reflect", "fill",    "pt_write", "spurious",   "retry",
                                    "cr3",     "invlpg",  "made",     "zapped",     "floods",
                                    "writes",  "unsyncs", "syncs",    "prefetched", "flushes"};

static void expect(const struct scenario *s, const char *paging, struct counts want)
{
    struct counters end;
    struct counts got = measure(s, paging, &end);
    const uint64_t *w = &want.reflect, *g = &got.reflect;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (w[i] != g[i])
            fail_msg("%s on %s: %s is %lu, must be %lu", s->name, paging, names[i],
                     (unsigned long)g[i], (unsigned long)w[i]);
}

static void kvm_and_pvm(struct scenario s, struct counts kvm, struct counts pvm)
{
    expect(&s, "shadow-kvm", kvm);
    expect(&s, "shadow-pvm", pvm);
}

static void store_pages(struct user *u, gva_t a, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        st64(u, a + i * PAGE, i);
}

static void load_pages(struct user *u, gva_t a, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        ld(u, a + i * PAGE);
}

/* ---- first touch ---- */

static void map_one(struct user *u, gva_t *at)
{
    at[0] = u_alloc(u, 64 * PAGE);
    st(u, at[0]);
}

static void touch_15_more(struct user *u, gva_t *at) { store_pages(u, at[0], 1, 16); }

/* The guest's own faults: 15. kvm: the first table write finds the leaf table write-protected,
 * since page 0's fill has shadowed it: one fill lets it out of sync. That fill is in the direct
 * map, where the frames of root, PDPT, PD and PT are the first four of their 8; of the others the
 * host has only the next, page 0: prefetched. Then one fill a page. pvm: a fill a page; each table
 * write is emulated. Guest neighbours are not there yet: nothing to prefetch. */
static void a_touched_page_costs_two_faults(void **state)
{
    (void)state;
    kvm_and_pvm((struct scenario){"touch", map_one, touch_15_more, .mem = 0},
                (struct counts){.reflect = 15, .fill = 16, .unsyncs = 1, .prefetched = 1},
                (struct counts){.reflect = 15, .fill = 15, .writes = 15});
}

static void load_then_store(struct user *u, gva_t *at)
{
    ld(u, at[0] + PAGE);
    st(u, at[0] + PAGE);
}

/* The load: reflected, then filled read-only: the guest's entry is clean, and the host maps its
 * page of zeroes. The store: the host makes a frame in place of that, so the fault is taken again.
 * kvm: as above, one more fill for the table, with the prefetch. */
static void a_page_read_first_costs_two_more(void **state)
{
    (void)state;
    kvm_and_pvm(
        (struct scenario){"load, store", map_one, load_then_store, .mem = 0},
        (struct counts){
            .reflect = 1, .fill = 3, .retry = 1, .unsyncs = 1, .prefetched = 1, .flushes = 1},
        (struct counts){.reflect = 1, .fill = 2, .retry = 1, .writes = 1});
}

/* With transparent huge pages. The kernel's first load in the block of its first frames made the
 * host map a large page of zeroes; the first store split it into small ones. So each store to a
 * page of the block is taken twice. (A later kernel, pvm's, makes a large page of it: no fault but
 * the fill.) */
static void a_page_of_zeroes_is_large_under_thp(void **state)
{
    (void)state;
    kvm_and_pvm(
        (struct scenario){"THP", map_one, touch_15_more, .host_page = PAGES_THP},
        (struct counts){.reflect = 15, .fill = 16, .retry = 15, .unsyncs = 1, .prefetched = 1},
        (struct counts){.reflect = 15, .fill = 15, .writes = 15});
}

/* ---- changing rights ---- */

static void map_eight(struct user *u, gva_t *at)
{
    at[0] = u_alloc(u, 8 * PAGE);
    store_pages(u, at[0], 0, 8);
}

static void protect_four(struct user *u, gva_t *at)
{
    assert_int_equal(u_mprotect(u, at[0], 4 * PAGE, GK_READ), GK_OK);
    load_pages(u, at[0], 4);
    assert_int_equal(u_mprotect(u, at[0], 4 * PAGE, GK_READ | GK_WRITE), GK_OK);
    store_pages(u, at[0], 0, 4);
}

/* kvm: the table is out of sync, so its 8 writes are free. Each of the 4 INVLPGs reads an entry
 * again and maps it, read-only. The loads hit. Giving the right back invalidates nothing: 4 stores,
 * 4 fills. pvm: the 4 writes drop 4 sPTEs; the first load fills one and prefetches the other 3
 * (entries 4 to 7 are there). The same again for the stores: the entries are dirty. */
static void mprotect_of_few_pages(void **state)
{
    (void)state;
    kvm_and_pvm((struct scenario){"mprotect", map_eight, protect_four, .mem = 0},
                (struct counts){.fill = 4, .invlpg = 4, .prefetched = 4, .flushes = 4},
                (struct counts){.fill = 2, .writes = 8, .prefetched = 6});
}

/* Above the ceiling the kernel reloads CR3 instead: kvm syncs the table, which changes 4 leaves in
 * place; the next table write finds it write-protected again: one fill more. Nothing around its
 * frame is left to prefetch but the frames of the 8 pages: of its group of 8 (root, PDPT, PD, PT,
 * pages 0 to 3) page 0 went when page 1's entry was written, pages 1 to 3 go now. */
static void mprotect_of_many_pages(void **state)
{
    (void)state;
    kvm_and_pvm((struct scenario){"mprotect, CR3", map_eight, protect_four, .mem = 0, .ceiling = 2},
                (struct counts){
                    .fill = 5, .cr3 = 1, .unsyncs = 1, .syncs = 1, .prefetched = 3, .flushes = 1},
                (struct counts){.fill = 2, .writes = 8, .prefetched = 6});
}

static void unmap_eight(struct user *u, gva_t *at)
{
    assert_int_equal(u_munmap(u, at[0], 8 * PAGE), GK_OK);
}

/* kvm: 8 free writes, 8 INVLPGs that find nothing to map. pvm: 8 emulated writes. */
static void munmap_of_few_pages(void **state)
{
    (void)state;
    kvm_and_pvm((struct scenario){"munmap", map_eight, unmap_eight, .mem = 0},
                (struct counts){.invlpg = 8, .flushes = 8}, (struct counts){.writes = 8});
}

/* ---- upper tables ---- */

static void map_regions(struct user *u, gva_t *at)
{
    at[0] = u_alloc(u, 8ull * REGION);
    st(u, at[0]);
}

static void touch_three_regions(struct user *u, gva_t *at)
{
    for (unsigned i = 1; i <= 3; i++)
        st(u, at[0] + (gva_t)i * REGION);
}

/* Each region needs a leaf table, linked in the PD, which is tracked: emulated. Its use between two
 * writes keeps it from being taken for flooded. kvm: the new table's frame is filled in the direct
 * map when the kernel writes the leaf entry; no shadow page for it yet. Prefetched are host pages
 * of the group: frames from the root on are root PDPT PD PT page | PT page PT | page PT page. The
 * first table (frame 5): frame 4. The second (7): frame 6. The third (9): frame 8. */
static void a_new_leaf_table_costs_an_emulated_write(void **state)
{
    (void)state;
    kvm_and_pvm((struct scenario){"regions", map_regions, touch_three_regions, .mem = 0},
                (struct counts){.reflect = 3,
                                .fill = 6,
                                .pt_write = 3,
                                .made = 3,
                                .writes = 3,
                                .prefetched = 3,
                                .flushes = 3},
                (struct counts){.reflect = 3, .fill = 3, .made = 3, .writes = 3});
}

/* ---- processes ---- */

static void child_reads_four_regions(struct user *u, gva_t *at)
{
    int child;
    map_regions(u, at);
    touch_three_regions(u, at);
    assert_int_equal(u_fork(u, &child), GK_OK);
    assert_int_equal(u_switch(u, child), GK_OK);
    for (unsigned i = 0; i < 4; i++)
        ld(u, at[0] + (gva_t)i * REGION);
    at[1] = (gva_t)child;
}

static void child_exits(struct user *u, gva_t *at)
{
    assert_int_equal(u_exit(u, (int)at[1]), GK_OK);
}

/* exit(): the parent's CR3 is loaded: its 4 leaf tables, written by fork, are synced (kvm). The
 * child's 4 leaf entries are cleared: 4 tables go out of sync, a fill each (kvm), or 4 emulated
 * writes (pvm). Then the PD's 4 links: two emulated writes, and with the third the PD is flooded
 * and goes; with it (kvm) go the two tables still linked, which are out of sync. The fourth write
 * is a fill (kvm: the direct map has the frame read-only), or nothing (pvm: it is no table now).
 * One write each in PDPT and root. kvm: 3 + 1 + 1 emulated, 4 + 1 fills; pvm: 4 + 3 + 1 + 1 writes.
 * Flushes: CR3, three PD writes, the root's; not the PDPT's, since its link went with the PD. */
static void freeing_tables_looks_like_a_flood(void **state)
{
    (void)state;
    kvm_and_pvm((struct scenario){"exit", child_reads_four_regions, child_exits, .mem = 0},
                (struct counts){.fill = 5,
                                .pt_write = 5,
                                .cr3 = 1,
                                .zapped = 3,
                                .floods = 1,
                                .writes = 5,
                                .unsyncs = 4,
                                .syncs = 4,
                                .prefetched = 0,
                                .flushes = 5},
                (struct counts){.zapped = 1, .floods = 1, .writes = 9});
}

static void child_has_ended(struct user *u, gva_t *at)
{
    child_reads_four_regions(u, at);
    child_exits(u, at);
    at[2] = u_alloc(u, 64 * PAGE);
}

static void reuse_its_frames(struct user *u, gva_t *at) { store_pages(u, at[2], 0, 64); }

/* PDPT and root of the dead child are still tracked when the kernel clears their frames for the
 * program. kvm: REP STOS is refused twice and their pages dropped; the root's twice, since it was
 * among the last roots used. pvm: 512 emulated writes flood a page at the third. */
static void a_recycled_table_is_dropped(void **state)
{
    (void)state;
    struct scenario s = {"recycle", child_has_ended, reuse_its_frames, .mem = 0};
    struct counters end;
    struct counts kvm = measure(&s, "shadow-kvm", &end);
    assert_int_equal(kvm.pt_write, 2 + 1); /* and the link to the new pages' leaf table */
    assert_int_equal(kvm.writes, 1);
    assert_int_equal(kvm.zapped, 3);
    assert_int_equal(kvm.floods, 0);
    struct counts pvm = measure(&s, "shadow-pvm", &end);
    assert_int_equal(pvm.pt_write, 0);
    assert_int_equal(pvm.zapped, 3);
    assert_int_equal(pvm.floods, 2);
}

enum { PROCS = 6 };

static void make_six(struct user *u, gva_t *at)
{
    for (unsigned i = 1; i < PROCS; i++) {
        int child;
        assert_int_equal(u_fork(u, &child), GK_OK);
        assert_int_equal(u_switch(u, child), GK_OK);
        at[0] = u_alloc(u, PAGE);
        st(u, at[0]);
        assert_int_equal(u_switch(u, 1), GK_OK);
    }
}

static void take_turns(struct user *u, gva_t *at)
{
    for (unsigned i = 0; i < 10 * (PROCS - 1); i++) {
        assert_int_equal(u_switch(u, 2 + (int)(i % (PROCS - 1))), GK_OK);
        ld(u, at[0]);
    }
}

/* More processes than cached roots: a root's shadow page is found, tables and all. Nothing is out
 * of sync: a child's one entry was written before its table was shadowed. */
static void switching_back_fills_nothing(void **state)
{
    (void)state;
    kvm_and_pvm((struct scenario){"switch", make_six, take_turns, .mem = 0},
                (struct counts){.cr3 = 50, .flushes = 50}, (struct counts){.made = 0});
}

static void fork_one(struct user *u, gva_t *at)
{
    int child;
    map_one(u, at);
    assert_int_equal(u_fork(u, &child), GK_OK);
    assert_int_equal(u_switch(u, child), GK_OK);
    assert_int_equal(u_switch(u, 1), GK_OK);
    assert_int_equal(u_fork(u, &child), GK_OK);
    at[1] = (gva_t)child;
}

static void switch_to_it(struct user *u, gva_t *at)
{
    assert_int_equal(u_switch(u, (int)at[1]), GK_OK);
}

/* A new root: its page is made. Before CR3 is loaded the kernel stores its own entry into it; fork
 * has written the frame already. The next instruction faults: only the link at the root was
 * missing, the leaf is right: spurious. (The very first such fault is a fill on Linux 6.1: see
 * make_leaf().) */
static void a_new_root_costs_a_spurious_fault(void **state)
{
    (void)state;
    kvm_and_pvm((struct scenario){"new root", fork_one, switch_to_it, .mem = 0},
                (struct counts){.cr3 = 1, .spurious = 1, .made = 1, .flushes = 2},
                (struct counts){.spurious = 1, .made = 1});
}

/* ---- control registers ---- */

static void map_read_only(struct user *u, gva_t *at)
{
    map_one(u, at);
    assert_int_equal(u_mprotect(u, at[0], PAGE, GK_READ), GK_OK);
    ld(u, at[0]);
}

/* A kernel that clears CR0.WP, and uses the page in turns with its program. */
static void kernel_stores_there(struct user *u, gva_t *at)
{
    const struct mmu_control c = {.smep = true, .pge = true, .nxe = true};
    const struct access store = {.va = at[0], .store = true, .supervisor = true};
    mmu_guest_control(u->hw->mmu, &c);
    mmu_access(u->hw->mmu, &store);
    ld(u, at[0]);
    mmu_access(u->hw->mmu, &store);
}

/* Other registers, other pages: a new root, and on it the three of the image, whose next instruction
 * is a fill. kvm: the store makes three pages for the program's half, whose leaf table was out of sync
 * and writable: a flush, and the sPTE is the kernel's; the load takes W away, a flush, and the second
 * store gives it back: a fill each. pvm: the stores are the emulator's; the load makes the three
 * pages, with no writable sPTE of their tables to be flushed for. */
static void a_kernel_without_wp_shares_a_page_in_turns(void **state)
{
    (void)state;
    kvm_and_pvm((struct scenario){"cr0.wp", map_read_only, kernel_stores_there, .mem = 0},
                (struct counts){.fill = 1 + 3, .made = 4 + 3, .flushes = 2},
                (struct counts){.fill = 1 + 1, .made = 4 + 3});
}

/* With SMAP no sPTE can be the kernel's alone: each store is emulated, one exit (other) and no fill
 * but the image's. */
static void kernel_stores_under_smap(struct user *u, gva_t *at)
{
    const struct mmu_control c = {.smap = true, .pge = true, .nxe = true};
    const struct access store = {.va = at[0], .store = true, .supervisor = true, .ac = true};
    mmu_guest_control(u->hw->mmu, &c);
    uint64_t before = u->hw->mmu->c.exit_other;
    for (unsigned i = 0; i < 3; i++)
        mmu_access(u->hw->mmu, &store);
    assert_int_equal(u->hw->mmu->c.exit_other - before, u->hw->mvm->paging->emulate ? 0 : 3);
}

static void under_smap_its_stores_are_emulated(void **state)
{
    (void)state;
    kvm_and_pvm((struct scenario){"smap", map_read_only, kernel_stores_under_smap, .mem = 0},
                (struct counts){.fill = 1, .made = 4}, (struct counts){.fill = 1, .made = 4});
}

/* ---- the host ---- */

static void touch_16(struct user *u, gva_t *at)
{
    at[0] = u_alloc(u, 64 * PAGE);
    store_pages(u, at[0], 0, 16);
}

/* The host takes all frames back that hold the 16 pages: those after the four tables. */
static void lose_and_touch(struct user *u, gva_t *at)
{
    struct gmem *g = u->hw->gm;
    uint64_t root = (gk_cr3(u->hw->kernel) & PTE_ADDR) >> PAGE_SHIFT;
    gmem_discard(g, gfn(root + 4), 16);
    store_pages(u, at[0], 0, 16);
}

/* No fault of the guest; a fill a page, and no neighbour that the host has. */
static void discarded_pages_are_filled_again(void **state)
{
    (void)state;
    kvm_and_pvm((struct scenario){"discard", touch_16, lose_and_touch, .mem = 0},
                (struct counts){.fill = 16, .flushes = 1}, (struct counts){.fill = 16});
}

static void lose_shadow_and_touch(struct user *u, gva_t *at)
{
    u->hw->mvm->paging->zap(u->hw->mvm, gfn(0), u->hw->gm->frames);
    store_pages(u, at[0], 0, 16);
}

/* The sPTEs go, the frames stay: a fill for each 8 pages, which brings the 7 others. */
static void neighbours_are_prefetched(void **state)
{
    (void)state;
    kvm_and_pvm((struct scenario){"prefetch", touch_16, lose_shadow_and_touch, .mem = 0},
                (struct counts){.fill = 2, .prefetched = 14, .flushes = 1},
                (struct counts){.fill = 2, .prefetched = 14});
}

/* ---- the bound on shadow pages ---- */

static void map_many_regions(struct user *u, gva_t *at)
{
    at[0] = u_alloc(u, 300ull * REGION);
    st(u, at[0]);
}

static void touch_many_regions(struct user *u, gva_t *at)
{
    for (unsigned i = 1; i < 300; i++)
        st(u, at[0] + (gva_t)i * REGION);
}

/* 16 MiB: 4096 frames allow 81 shadow pages. With fewer than 5 left, which is at 77, room is made
 * for 25: 21 pages go. pvm: 5 pages at the start (two roots, PDPT, PD, PT), then 3 for the image at
 * the first run of ring 3, then one a region (299). The oldest are taken, so also those of the
 * image, the PD and the PDPT, and these are made again: every page above 77 - 8 costs a 21st of a
 * round. */
static void shadow_pages_are_bounded(void **state)
{
    (void)state;
    static const char *const both[] = {"shadow-kvm", "shadow-pvm"};
    for (unsigned i = 0; i < 2; i++) {
        struct scenario s = {"bound", map_many_regions, touch_many_regions, .mem = 16 << 20};
        struct counters end;
        struct counts got = measure(&s, both[i], &end);
        uint64_t alive = end.shadow_pages_made - end.shadow_pages_zapped;
        assert_true(got.made >= 299);
        assert_in_range(alive, 77 - 21, 81);
        assert_int_equal(end.shadow_pages_recycled % 21, 0);
        assert_int_equal(end.shadow_pages_recycled, end.shadow_pages_zapped);
        assert_in_range(end.shadow_pages_recycled / 21, 11, 14);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_touched_page_costs_two_faults),
        cmocka_unit_test(a_page_read_first_costs_two_more),
        cmocka_unit_test(a_page_of_zeroes_is_large_under_thp),
        cmocka_unit_test(mprotect_of_few_pages),
        cmocka_unit_test(mprotect_of_many_pages),
        cmocka_unit_test(munmap_of_few_pages),
        cmocka_unit_test(a_new_leaf_table_costs_an_emulated_write),
        cmocka_unit_test(freeing_tables_looks_like_a_flood),
        cmocka_unit_test(a_recycled_table_is_dropped),
        cmocka_unit_test(switching_back_fills_nothing),
        cmocka_unit_test(a_new_root_costs_a_spurious_fault),
        cmocka_unit_test(a_kernel_without_wp_shares_a_page_in_turns),
        cmocka_unit_test(under_smap_its_stores_are_emulated),
        cmocka_unit_test(discarded_pages_are_filled_again),
        cmocka_unit_test(neighbours_are_prefetched),
        cmocka_unit_test(shadow_pages_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
