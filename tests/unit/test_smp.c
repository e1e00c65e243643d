/* test_smp.c: a VM of several vCPUs on the model: private TLBs, shootdowns and what they cost, and what the
 * VMM itself must have all vCPUs forget. That no program can tell how many there are: test_equivalence.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/model.h"
#include "workloads/workload.h"

REGISTRY(engine);
REGISTRY(workload);

static struct cpu plain; /* no walk caches, no PCIDs */

static struct vm_config config(const char *paging, unsigned vcpus)
{
    return (struct vm_config){.paging = paging,
                              .cpu = &plain,
                              .levels = 4,
                              .host_levels = 4,
                              .mem = 128ull << 20,
                              .host_mem = 512ull << 20,
                              .vcpus = vcpus,
                              .flush_ceiling = 33,
                              .check = true};
}

/* Run a program to its end; the engine checks every invariant (check). */
static void run_program(const struct vm_config *c, void (*run)(struct user *, void *), void *arg,
                        struct result *res)
{
    struct program prog = {.run = run, .arg = arg};
    assert_int_equal(REG_FIND(engine, "model")->run(c, &prog, res), NB_OK);
    if (res->outcome != OUTCOME_OK)
        fail_msg("%s: %s", c->paging, res->detail);
}

/* ---- what a shootdown costs ---- */

enum { THREADS = 4, PAGES = 64, WINDOW = 4, ROUNDS = 40 };

static void shootdown(struct user *u, void *params)
{
    REG_FIND(workload, "shootdown")->run(u, params);
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* In the work phase, with A = min(threads, vCPUs), R = rounds, W = window; the guest's side is derived in
 * workloads/shootdown.c. A page that comes round, R W of them, misses the TLB of each of the A vCPUs; if it
 * was mapped again, not of the one whose thread stored into it, which walked for that.
 *
 * Each IPI exits at the sender (but with apic = virtual) and at the target (only with apic = trapped).
 * native: never. ept: nothing else, as all frames are there since set-up: what is unmapped is the next to be
 * handed out.
 * shadow: each of the 2 W table writes of a round; each INVLPG, on each vCPU; a fill for a page that comes
 * round, once for all vCPUs, since they share the shadow tables. Mapped again: a page fault reflected, then
 * filled with the store, so that coming round costs none. */
static void check_shootdowns(const char *paging, unsigned vcpus, enum apic_kind apic, bool unmap)
{
    const uint64_t active = least(THREADS, vcpus);
    const uint64_t ipis = ROUNDS * (active - 1), all = ROUNDS * WINDOW;
    uint64_t params[] = {THREADS, PAGES, WINDOW, ROUNDS, unmap};
    bool bare = strcmp(paging, "native") == 0, shadow = strcmp(paging, "shadow") == 0;
    static struct result r;
    struct vm_config c = config(paging, vcpus);
    plain.apic = apic;
    run_program(&c, shootdown, params, &r);
    const struct counters *t = &r.phases[r.nphases - 1].counters;
    assert_int_equal(t->loads, ROUNDS * THREADS * WINDOW);
    assert_int_equal(t->stores, unmap ? all : 0);
    assert_int_equal(t->guest_faults, unmap ? all : 0);
    assert_int_equal(t->guest_pt_writes, 2 * all);
    assert_int_equal(t->guest_cr3_loads, 0);
    assert_int_equal(t->guest_invlpgs, all * active);
    assert_int_equal(t->guest_shootdowns, active > 1 ? ROUNDS : 0);
    assert_int_equal(t->guest_ipis, ipis);
    assert_int_equal(t->walks, all * active);
    assert_int_equal(t->exit_ipi, bare || apic == APIC_VIRTUAL ? 0 : ipis);
    assert_int_equal(t->exit_intr, bare || apic != APIC_TRAPPED ? 0 : ipis);
    assert_int_equal(t->unseen[CTR_exit_intr], vcpus == 1);
    assert_int_equal(t->exit_pt_write, shadow ? 2 * all : 0);
    assert_int_equal(t->exit_invlpg, shadow ? all * active : 0);
    assert_int_equal(t->exit_reflect, shadow && unmap ? all : 0);
    assert_int_equal(t->exit_fill, shadow ? all : 0);
    assert_int_equal(t->exits, t->exit_ipi + t->exit_intr + t->exit_pt_write + t->exit_invlpg +
                                   t->exit_reflect + t->exit_fill);
}

static void a_shootdown_costs_what_the_design_predicts(void **state)
{
    (void)state;
    static const char *const paging[] = {"native", "shadow", "ept"};
    static const unsigned vcpus[] = {1, 2, 4, 8};
    for (unsigned p = 0; p < 3; p++)
        for (unsigned v = 0; v < 4; v++)
            for (unsigned a = APIC_TRAPPED; a <= APIC_VIRTUAL; a++)
                for (unsigned unmap = 0; unmap < 2; unmap++)
                    check_shootdowns(paging[p], vcpus[v], (enum apic_kind)a, unmap);
}

/* Whatever the strategy: its invariants hold, also with vCPUs that nothing runs on, and the guest's memory is
 * what it is natively on one vCPU. */
static void every_strategy_takes_several_vcpus(void **state)
{
    (void)state;
    static struct result r;
    unsigned seen = 0;
    for (unsigned unmap = 0; unmap < 2; unmap++) {
        uint64_t params[] = {3, 40, 7, 50, unmap}, alone;
        struct vm_config c = config("native", 1);
        c.hash = true;
        run_program(&c, shootdown, params, &r);
        alone = r.memory_hash;
        FOR_EACH(paging, p)
        {
            c.paging = p->name, c.vcpus = 5;
            run_program(&c, shootdown, params, &r);
            assert_true(r.has_hash && r.memory_hash == alone);
            /* 5 whole windows: 5 rounds of set-up, and 50; threads on 3 of the vCPUs */
            assert_int_equal(r.total.guest_ipis, 2 * (40 / 7 + 50));
            assert_true(!p->bare || !r.total.exits);
            seen++;
        }
    }
    assert_true(seen >= 12);
}

/* Above the kernel's ceiling each vCPU reloads CR3 instead, which a shadow sees as one exit. */
static void above_the_ceiling_every_vcpu_reloads_cr3(void **state)
{
    (void)state;
    static struct result r;
    uint64_t params[] = {3, 80, 40, 7, 0};
    struct vm_config c = config("shadow", 3);
    plain.apic = APIC_POSTED;
    run_program(&c, shootdown, params, &r);
    const struct counters *t = &r.phases[r.nphases - 1].counters;
    assert_int_equal(t->guest_invlpgs, 0);
    assert_int_equal(t->guest_cr3_loads, 7 * 3);
    assert_int_equal(t->exit_cr3, 7 * 3);
    assert_int_equal(t->guest_ipis, 7 * 2);
    assert_int_equal(t->exit_ipi, 7 * 2);
    assert_int_equal(t->exit_intr, 0);
}

/* Cycles are counts times costs: no exit, then one per IPI, then two. */
static void cycles_of_ipis(void **state)
{
    (void)state;
    struct counters c = {.guest_ipis = 10};
    struct cycles native, posted, trapped;
    cycles_model(&plain, &c, &native);
    c.exits = c.exit_ipi = 10;
    cycles_model(&plain, &c, &posted);
    c.exit_intr = 10, c.exits = 20;
    cycles_model(&plain, &c, &trapped);
    assert_true(native.ipi == 10 * plain.cost.ipi && native.vmm == 0 && native.exit == 0);
    assert_true(posted.ipi == native.ipi && posted.vmm == 10 * plain.cost.icr);
    assert_true(trapped.exit == 2 * posted.exit);
    assert_true(trapped.vmm == 10 * plain.cost.icr + 10 * plain.cost.intr);
}

/* ---- TLBs are private ---- */

static struct counters of(struct user *u, unsigned vcpu)
{
    struct counters c;
    mmu_vcpu_counters(u->hw->mvm->vcpu[vcpu], &c);
    return c;
}

/* Each vCPU walks for itself, once; the guest's fault and its accessed bits are of all. */
static void same_page(struct user *u, void *arg)
{
    gva_t a = u_alloc(u, PAGE_SIZE);
    (void)arg;
    for (unsigned i = 0; i < 9; i++) {
        u_cpu(u, i); /* on 3 vCPUs */
        st(u, a);
    }
    for (unsigned v = 0; v < 3; v++) {
        struct counters c = of(u, v);
        assert_int_equal(c.accesses, 3);
        assert_int_equal(c.tlb_l1_misses, 1);
        assert_int_equal(c.tlb_l2_misses, 1);
        assert_int_equal(c.walks, 1);
        assert_int_equal(c.guest_cr3_loads, 1);
        assert_int_equal(c.guest_faults, v == 0);
    }
}

static void tlbs_are_private_and_counters_add_up(void **state)
{
    (void)state;
    static const char *const paging[] = {"native", "shadow", "ept"};
    static struct result r;
    for (unsigned p = 0; p < 3; p++) {
        struct vm_config c = config(paging[p], 3);
        run_program(&c, same_page, NULL, &r);
        assert_int_equal(r.nvcpus, 3);
        assert_int_equal(r.total.accesses, 9);
        assert_int_equal(r.total.walks, 3);
        for (unsigned i = 0; i < CTR_COUNT; i++) {
            uint64_t sum = r.vcpu[0].v[i] + r.vcpu[1].v[i] + r.vcpu[2].v[i];
            if (sum)
                assert_int_equal(r.total.v[i], sum);
        }
        /* levels of the VM are there once: root, PDPT, PD and PT, and the page */
        assert_int_equal(r.total.guest_pt_bytes, 4 * PAGE_SIZE);
        assert_int_equal(r.total.shadow_pt_bytes, p == 1 ? 4 * PAGE_SIZE : 0);
        assert_true(p == 0 || r.total.host_frames == 5);
    }
}

static void store_on_each(struct user *u, void *arg)
{
    gva_t a = u_alloc(u, 16 * PAGE_SIZE);
    (void)arg;
    for (unsigned i = 0; i < 16; i++) {
        u_cpu(u, i);
        st(u, a + i * PAGE_SIZE);
    }
}

/* Per vCPU a counter is its part of the sum, or unseen, never 0 for what it cannot see: levels (tables,
 * frames), the host's allocations, and what a strategy counts for the whole VM. */
static void what_a_vcpu_cannot_count_is_unseen(void **state)
{
    (void)state;
    static const enum counter_id of_vm[] = {
        CTR_guest_pt_bytes, CTR_shadow_pt_bytes, CTR_nested_pt_bytes, CTR_host_frames,
        CTR_host_allocs_4k, CTR_splits,          CTR_shadow_leaves,   CTR_guest_ecpt_bytes,
        CTR_swap_ins,       CTR_exit_mmio,       CTR_accesses_nested};
    static const enum counter_id of_vcpu[] = {CTR_accesses, CTR_walks, CTR_exits, CTR_exit_intr,
                                              CTR_guest_cr3_loads};
    static struct result r;
    FOR_EACH(paging, p)
    {
        struct vm_config c = config(p->name, 3);
        run_program(&c, store_on_each, NULL, &r);
        for (unsigned i = 0; i < ARRAY_SIZE(of_vm); i++)
            assert_true(r.vcpu[1].unseen[of_vm[i]]);
        for (unsigned i = 0; i < ARRAY_SIZE(of_vcpu); i++)
            assert_false(r.vcpu[1].unseen[of_vcpu[i]]);
        for (unsigned i = 0; i < CTR_COUNT; i++) {
            uint64_t sum = 0;
            for (unsigned v = 0; v < 3; v++)
                sum += r.vcpu[v].v[i];
            if (r.total.unseen[i])
                assert_true(r.vcpu[0].unseen[i]);
            if (r.vcpu[0].unseen[i] ? sum : sum != r.total.v[i])
                fail_msg("%s: %s: %llu, of vCPUs %llu", p->name, counter_descs[i].name,
                         (unsigned long long)r.total.v[i], (unsigned long long)sum);
        }
    }
}

/* ---- a translation outlives the guest's change until its vCPU is told ---- */

static gpa_t entry_of(struct user *u, gva_t va, unsigned level)
{
    gpa_t table = gk_cr3(u->hw->kernel) & PTE_ADDR;
    for (unsigned l = 4; l > level; l--)
        table = hw_pt_read(u->hw, table + 8 * level_index(va, l)) & PTE_ADDR;
    return table + 8 * level_index(va, level);
}

/* An INVLPG on another vCPU than the one that runs. */
static void invlpg_on(struct user *u, unsigned vcpu, gva_t va)
{
    unsigned here = u->hw->mvm->running;
    hw_run_on(u->hw, vcpu);
    hw_invlpg(u->hw, va);
    hw_run_on(u->hw, here);
}

static void stale(struct user *u, void *arg)
{
    struct hw *h = u->hw;
    gva_t a = u_alloc(u, 2 * PAGE_SIZE), b = a + PAGE_SIZE;
    (void)arg;
    st64(u, a, 1);
    st64(u, b, 2);
    u_cpu(u, 1);
    assert_int_equal(ld64(u, a), 1);
    u_cpu(u, 0);
    gpa_t at = entry_of(u, a, 1);
    uint64_t was = hw_pt_read(h, at);
    hw_pt_write(h, at, hw_pt_read(h, entry_of(u, b, 1)));
    hw_invlpg(h, a);
    assert_int_equal(ld64(u, a), 2);
    u_cpu(u, 1);
    assert_int_equal(ld64(u, a), 1); /* still what it was here */
    u_cpu(u, 0);
    invlpg_on(u, 1, a);
    u_cpu(u, 1);
    assert_int_equal(ld64(u, a), 2);
    hw_pt_write(h, at, was); /* as the kernel knows it */
    hw_invlpg(h, a);
    invlpg_on(u, 0, a);
}

static void a_stale_entry_stays_until_the_shootdown(void **state)
{
    (void)state;
    static const char *const paging[] = {"native", "shadow", "ept"};
    static struct result r;
    for (unsigned p = 0; p < 3; p++) {
        struct vm_config c = config(paging[p], 2);
        run_program(&c, stale, NULL, &r);
    }
}

/* ---- what the VMM changes must reach all vCPUs at once ---- */

/* The host takes a frame that three vCPUs have in their TLBs; a fourth was never started. */
static void zapped(struct user *u, void *arg)
{
    struct hw *h = u->hw;
    gva_t a = u_alloc(u, PAGE_SIZE);
    struct counters before, after;
    (void)arg;
    st64(u, a, 7);
    for (unsigned v = 1; v < 3; v++) {
        u_cpu(u, v);
        assert_int_equal(ld64(u, a), 7);
    }
    gfn_t f = gpa_gfn(hw_pt_read(h, entry_of(u, a, 1)) & PTE_ADDR);
    model_counters(h, &before);
    gmem_discard(h->gm, f, 1);
    model_counters(h, &after);
    assert_int_equal(after.exit_intr - before.exit_intr, 2); /* 0 and 1 are kicked; 2 runs */
    assert_int_equal(after.exits - before.exits, 2);
    for (unsigned v = 0; v < 4; v++) {
        u_cpu(u, v);
        assert_int_equal(ld64(u, a), 0);
    }
}

static void a_page_the_host_takes_is_gone_on_every_vcpu(void **state)
{
    (void)state;
    static const char *const paging[] = {"shadow", "ept", "shadow-kvm", "shadow-pvm", "ept-kvm"};
    static struct result r;
    for (unsigned p = 0; p < ARRAY_SIZE(paging); p++) {
        struct vm_config c = config(paging[p], 4);
        run_program(&c, zapped, NULL, &r);
    }
}

/* A page that vCPU 1 may store into becomes a page table. From then on the shadow must see vCPU 1's stores
 * too, though the guest has no reason to invalidate that page. */
static void becomes_a_table(struct user *u, void *arg)
{
    struct hw *h = u->hw;
    gva_t a = u_alloc(u, 3 * PAGE_SIZE), far = ALIGN_UP(a, 1ull << SHIFT_2M) + (4ull << SHIFT_2M);
    (void)arg;
    for (unsigned i = 0; i < 3; i++)
        st64(u, a + i * PAGE_SIZE, 100 + i);
    uint64_t leaf1 = hw_pt_read(h, entry_of(u, a + PAGE_SIZE, 1)),
             leaf2 = hw_pt_read(h, entry_of(u, a + 2 * PAGE_SIZE, 1));
    u_cpu(u, 1);
    st64(u, a, leaf1);
    u_cpu(u, 0);
    gpa_t link = entry_of(u, far, 2);
    hw_pt_write(h, link, (hw_pt_read(h, entry_of(u, a, 1)) & PTE_ADDR) | PTE_P | PTE_W | PTE_U);
    assert_int_equal(ld64(u, far), 101);
    u_cpu(u, 1);
    st64(u, a, leaf2);
    u_cpu(u, 0);
    hw_invlpg(h, far);
    assert_int_equal(ld64(u, far), 102);
    hw_pt_write(h, link, 0); /* as the kernel knows it */
    hw_invlpg(h, far);
    st64(u, a, 0);
}

static void a_page_that_becomes_a_table_is_guarded_on_every_vcpu(void **state)
{
    (void)state;
    static const char *const paging[] = {"native", "shadow", "ept", "shadow-kvm", "shadow-pvm"};
    static struct result r;
    for (unsigned p = 0; p < ARRAY_SIZE(paging); p++) {
        struct vm_config c = config(paging[p], 2);
        run_program(&c, becomes_a_table, NULL, &r);
    }
}

static int set_up(void **state)
{
    char err[300];
    int code;
    const struct cpu *c = cpu_load("plain", err, sizeof err, &code);
    (void)state;
    if (!c)
        return -1;
    plain = *c;
    cpu_free(c);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shootdown_costs_what_the_design_predicts),
        cmocka_unit_test(what_a_vcpu_cannot_count_is_unseen),
        cmocka_unit_test(every_strategy_takes_several_vcpus),
        cmocka_unit_test(above_the_ceiling_every_vcpu_reloads_cr3),
        cmocka_unit_test(cycles_of_ipis),
        cmocka_unit_test(tlbs_are_private_and_counters_add_up),
        cmocka_unit_test(a_stale_entry_stays_until_the_shootdown),
        cmocka_unit_test(a_page_the_host_takes_is_gone_on_every_vcpu),
        cmocka_unit_test(a_page_that_becomes_a_table_is_guarded_on_every_vcpu),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
