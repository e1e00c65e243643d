/* test_ept_kvm.c: nested paging with the host's page of zeroes: hand-derived counts.
 * link: base guest memmgr shadow_vs_ept balloon vmm/engine_model vmm/model_balloon vmm/balloon_plan vmm/virtio_mmio vmm/hash vmm/cycles
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "vmm/model.h"

REGISTRY(engine);

static struct counters delta;

/* Run a program and keep what its last phase counted. */
static void run(void (*prog)(struct user *, void *), void *arg)
{
    static struct result res;
    char err[300];
    int code;
    const struct cpu *cpu = cpu_load("plain", err, sizeof err, &code);
    const struct vm_config cfg = {.paging = "ept-kvm",
                                  .cpu = cpu,
                                  .levels = 4,
                                  .host_levels = 4,
                                  .mem = 64ull << 20,
                                  .host_mem = 256ull << 20,
                                  .seed = 42,
                                  .flush_ceiling = 33,
                                  .check = true};
    const struct engine *model = REG_FIND(engine, "model");
    assert_non_null(cpu);
    assert_int_equal(model->run(&cfg, &(struct program){.run = prog, .arg = arg}, &res), NB_OK);
    assert_int_equal(res.outcome, OUTCOME_OK);
    delta = res.phases[res.nphases - 1].counters;
    assert_false(delta.unseen[CTR_exit_retry]);
    assert_true(delta.unseen[CTR_exit_spurious]);
    cpu_free(cpu);
}

enum { PAGES = 100 };

static void stores(struct user *u, void *arg)
{
    (void)arg;
    gva_t a = u_alloc(u, PAGES << PAGE_SHIFT);
    u_phase(u, "work");
    for (unsigned i = 0; i < PAGES; i++)
        st(u, a + ((uint64_t)i << PAGE_SHIFT));
}

/* Each page once, and the three tables below the root: the kernel's first access to a table that it
 * has just linked is a store. The root was had at boot. */
static void test_stores(void **state)
{
    (void)state;
    run(stores, NULL);
    assert_int_equal(delta.exit_ept_violation, PAGES + 3);
    assert_int_equal(delta.exit_retry, 0);
}

static void loads_then_stores(struct user *u, void *arg)
{
    gva_t a = u_alloc(u, PAGES << PAGE_SHIFT);
    u_phase(u, "loads");
    for (unsigned i = 0; i < PAGES; i++)
        ld(u, a + ((uint64_t)i << PAGE_SHIFT));
    if (!arg)
        return;
    u_phase(u, "stores");
    for (unsigned k = 0; k < 2; k++)
        for (unsigned i = 0; i < PAGES; i++)
            st(u, a + ((uint64_t)i << PAGE_SHIFT));
}

/* A load maps the page of zeroes: one violation, as for a store. */
static void test_loads(void **state)
{
    (void)state;
    run(loads_then_stores, NULL);
    assert_int_equal(delta.exit_ept_violation, PAGES + 3);
    assert_int_equal(delta.exit_retry, 0);
}

/* The first store to each page takes two more, of which one is a retry; the second none. */
static void test_stores_after_loads(void **state)
{
    (void)state;
    run(loads_then_stores, &delta);
    assert_int_equal(delta.exit_ept_violation, PAGES);
    assert_int_equal(delta.exit_retry, PAGES);
    assert_int_equal(delta.guest_faults, 0);
}

static void first_switch(struct user *u, void *arg)
{
    int pid;
    (void)arg;
    assert_int_equal(u_fork(u, &pid), GK_OK);
    u_phase(u, "switch");
    assert_int_equal(u_switch(u, pid), GK_OK);
    assert_int_equal(u_switch(u, 1), GK_OK);
    assert_int_equal(u_switch(u, pid), GK_OK);
}

/* An empty process has an empty root: at its first CR3 load the kernel looks for its entry (zeroes) and
 * stores it (retry, frame). */
static void test_first_switch(void **state)
{
    (void)state;
    run(first_switch, NULL);
    assert_int_equal(delta.guest_cr3_loads, 3);
    assert_int_equal(delta.exit_ept_violation, 2);
    assert_int_equal(delta.exit_retry, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stores),
        cmocka_unit_test(test_loads),
        cmocka_unit_test(test_stores_after_loads),
        cmocka_unit_test(test_first_switch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
