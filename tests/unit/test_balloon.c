/* test_balloon.c: driver and device together: the guest kernel's balloon on engines model and kvm.
 *
 * Expected numbers are derived here; 256 PFNs make a chain, a notification is one MMIO access.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/strategy.h"
#include "vmm/balloon_vm.h"
#include "vmm/kvm.h"
#include "vmm/user.h"
#include "workloads/workload.h"

REGISTRY(workload);
REGISTRY(engine);

enum { MIB = 256 }; /* pages */

static struct balloon_setup setup_of(const char *plan)
{
    struct balloon_setup s;
    char err[300];
    balloon_setup_init(&s);
    assert_true(balloon_plan_parse(&s, plan, err, sizeof err));
    return s;
}

static void run_on(const char *engine, const char *paging, const char *workload,
                   const struct balloon_setup *s, enum page_mode host_page, struct result *r)
{
    char err[300];
    int code;
    uint64_t params[MAX_PARAMS], values[MAX_PARAMS];
    const struct workload *w = REG_FIND(workload, workload);
    unsigned n = 0;
    assert_non_null(w);
    for (; w->params && w->params[n].name; n++)
        params[n] = w->params[n].def;
    bool few = strcmp(engine, "model:few") == 0;
    if (few || strcmp(engine, "kvm") == 0)
        params[0] = 1024; /* pages: an emulated ring 0 takes its time for each fault */
    const struct cpu *cpu = cpu_load("plain", err, sizeof err, &code);
    struct vm_config cfg = {.paging = paging ? strategy(paging, values) : NULL,
                            .paging_params = paging ? values : NULL,
                            .cpu = cpu,
                            .levels = 4,
                            .host_levels = 4,
                            .mem = 256ull << 20,
                            .host_mem = 384ull << 20,
                            .host_page = host_page,
                            .vcpus = 1,
                            .seed = 7,
                            .flush_ceiling = 33,
                            .balloon = s,
                            .check = true,
                            .hash = true};
    struct program prog = {.run = (void (*)(struct user *, void *))(void *)w->run,
                           .arg = params,
                           .name = workload,
                           .params = params,
                           .nparams = n};
    assert_int_equal(REG_FIND(engine, few ? "model" : engine)->run(&cfg, &prog, r), NB_OK);
    cpu_free(cpu);
    if (r->outcome != OUTCOME_OK)
        fail_msg("%s: %s", engine, r->detail);
}

/* Strategies differ in what reclaiming costs, never in what is taken or what the program sees. */
static void every_strategy_gives_the_same_pages(void **state)
{
    static const char *const paging[] = {"ept",      "shadow", "shadow-lazy", "shadow-pv",
                                         "ept-flat", "shsp",   "agile",       "dseg-guest",
                                         "dmt",      "ecpt",   "ept-kvm",     "shadow-kvm"};
    struct balloon_setup s = setup_of("96M@phase:setup,16M@phase:work");
    struct result *first = calloc(1, sizeof *first), *r = calloc(1, sizeof *r);
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(paging); i++) {
        run_on("model", paging[i], "churn", &s, PAGES_4K, i ? r : first);
        struct result *now = i ? r : first;
        assert_int_equal(now->balloon_pages, 16 * MIB);
        assert_int_equal(now->balloon_actual, 16 * MIB);
        assert_int_equal(now->balloon.inflated, 96 * MIB);
        assert_int_equal(now->balloon.deflated, 80 * MIB);
        assert_int_equal(now->memory_hash, first->memory_hash);
        if (!strstr(paging[i], "dmt") &&
            !strstr(paging[i], "dseg")) /* their kernels place frames otherwise */
            assert_int_equal(now->balloon_trail, first->balloon_trail);
    }
    free(first), free(r);
}

/* 64 MiB are 64 chains of 256 pages. Each: the target is read, the chain notified, `actual` written. Then the target is
 * read once more. Status, acknowledgement and the statistics are as without a target: one
 * interrupt says both, and what the driver waits for interrupts nobody. */
static void a_reclaimed_gigabyte_costs_exits(void **state)
{
    struct balloon_setup none = setup_of("0"), s = setup_of("64M@phase:work");
    struct result *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    (void)state;
    run_on("model", "ept", "touch", &none, PAGES_4K, a);
    run_on("model", "ept", "touch", &s, PAGES_4K, b);
    assert_int_equal(b->total.exit_mmio - a->total.exit_mmio, 64 * 3 + 1);
    assert_in_range(b->balloon.ranges, 1, 64);
    assert_int_equal(b->balloon.released, 64 * MIB);
    s.order = 9; /* a block is two chains and one `actual`: 32 blocks */
    run_on("model", "ept", "touch", &s, PAGES_4K, b);
    assert_int_equal(b->total.exit_mmio - a->total.exit_mmio, 32 * (1 + 2 + 1) + 1);
    free(a), free(b);
}

/* A balloon that leaves less than the program needs comes down when the last page is gone. */
static void a_guest_without_memory_takes_some_back(void **state)
{
    struct balloon_setup s = setup_of("256M@phase:work");
    struct result *r = calloc(1, sizeof *r);
    (void)state;
    run_on("model", "ept", "touch", &s, PAGES_4K, r); /* touches 64 MiB in its work */
    assert_true(r->balloon.inflated > 200 * MIB);
    assert_true(r->balloon.deflated_oom >= 48 * MIB);
    assert_true(r->balloon_pages < 200 * MIB);
    assert_int_equal(r->balloon.deflated_unasked, 0);
    free(r);
}

/* Without DEFLATE_ON_OOM the same program ends, as a value. */
static void without_that_right_it_runs_out_of_memory(void **state)
{
    struct balloon_setup s = setup_of("256M@phase:work");
    struct result *r = calloc(1, sizeof *r);
    uint64_t params[MAX_PARAMS];
    const struct workload *w = REG_FIND(workload, "touch");
    char err[300];
    int code;
    (void)state;
    for (unsigned n = 0; w->params[n].name; n++)
        params[n] = w->params[n].def;
    s.features &= ~VIRTIO_BALLOON_F_DEFLATE_ON_OOM;
    struct vm_config cfg = {.paging = "ept",
                            .cpu = cpu_load("plain", err, sizeof err, &code),
                            .levels = 4,
                            .host_levels = 4,
                            .mem = 256ull << 20,
                            .host_mem = 384ull << 20,
                            .vcpus = 1,
                            .flush_ceiling = 33,
                            .balloon = &s};
    struct program prog = {.run = (void (*)(struct user *, void *))(void *)w->run, .arg = params};
    assert_int_equal(REG_FIND(engine, "model")->run(&cfg, &prog, r), NB_OK);
    assert_int_equal(r->outcome, OUTCOME_GUEST_OOM);
    cpu_free(cfg.cpu);
    free(r);
}

/* What a large host page loses: everything at once, or nothing before all of it is in the balloon. */
static void holes_split_or_wait(void **state)
{
    struct balloon_setup s = setup_of("63M@phase:work");
    struct result *r = calloc(1, sizeof *r);
    (void)state;
    run_on("model", "ept", "churn", &s, PAGES_THP, r);
    assert_int_equal(r->balloon.released, 63 * MIB);
    s.hole = BALLOON_HOLE_DEFER;
    run_on("model", "ept", "churn", &s, PAGES_THP, r);
    assert_int_equal(r->balloon.released % 512, 0);
    assert_in_range(r->balloon.released, 60 * MIB, 63 * MIB);
    assert_int_equal(r->total.splits, 0);
    assert_int_equal(r->total.balloon_pages, 63 * MIB); /* also those whose memory is kept */
    free(r);
}

/* Statistics that the guest sent at the begin of the last phase. */
static void statistics_arrive(void **state)
{
    struct balloon_setup s = setup_of("32M@phase:setup");
    struct result *r = calloc(1, sizeof *r);
    (void)state;
    run_on("model", "ept", "touch", &s, PAGES_4K, r);
    assert_int_equal(r->balloon_stats_valid, 0xffff);
    uint64_t free_bytes = r->balloon_stats[VIRTIO_BALLOON_S_MEMFREE];
    uint64_t total = r->balloon_stats[VIRTIO_BALLOON_S_MEMTOT];
    assert_int_equal(total, (256ull << 20) - gk_reserved_bytes(256ull << 20));
    /* All but the balloon, six frames of the driver and the tables of two processes at most. */
    assert_in_range(total - free_bytes, 32ull << 20, (32ull << 20) + (64 << PAGE_SHIFT));
    free(r);
}

/* Free memory is reported, and what is used again is a refault. */
static void reports_give_memory_back(void **state)
{
    struct balloon_setup s = setup_of("0");
    struct result *quiet = calloc(1, sizeof *quiet), *r = calloc(1, sizeof *r);
    (void)state;
    run_on("model", "ept", "forkcow", &s, PAGES_4K, quiet);
    s.features |= VIRTIO_BALLOON_F_REPORTING;
    s.report_order = 0;
    run_on("model", "ept", "forkcow", &s, PAGES_4K, r);
    assert_true(r->balloon.reported > 0);
    assert_true(r->total.balloon_refaults > 0);
    assert_true(r->total.host_frames < quiet->total.host_frames);
    assert_int_equal(r->memory_hash, quiet->memory_hash);
    free(quiet), free(r);
}

/* A large page is deferred as a whole, whatever its size: 63 MiB complete no block of 1 GiB. */
static void a_page_of_1_gib_is_one_block(void **state)
{
    struct balloon_setup s = setup_of("63M@phase:work");
    struct result *r = calloc(1, sizeof *r);
    (void)state;
    assert_int_equal(balloon_host_order(PAGES_4K), ORDER_4K);
    assert_int_equal(balloon_host_order(PAGES_THP), ORDER_2M);
    assert_int_equal(balloon_host_order(PAGES_1G), ORDER_1G);
    s.hole = BALLOON_HOLE_DEFER;
    run_on("model", "ept", "churn", &s, PAGES_1G, r);
    assert_int_equal(r->balloon.released, 0);
    assert_int_equal(r->balloon.deferred, 63 * MIB);
    assert_int_equal(r->total.balloon_pages, 63 * MIB);
    free(r);
}

static void kvm_takes_the_same_pages(void **state)
{
    struct result *model = calloc(1, sizeof *model), *kvm = calloc(1, sizeof *kvm);
    char err[300];
    (void)state;
    if (!kvm_host(err, sizeof err)) {
        print_message("skipped: %s\n", err);
        skip();
    }
    for (unsigned order = 0; order <= 9; order += 9) {
        struct balloon_setup s = setup_of("64M@phase:setup,100M@phase:work");
        s.order = order;
        s.features |= VIRTIO_BALLOON_F_REPORTING;
        s.report_order = 4;
        run_on("model:few", "ept", "touch", &s, PAGES_4K, model);
        run_on("kvm", NULL, "touch", &s, PAGES_4K, kvm);
        assert_int_equal(kvm->balloon_trail, model->balloon_trail);
        assert_int_equal(kvm->balloon_pages, model->balloon_pages);
        assert_int_equal(kvm->memory_hash, model->memory_hash);
        assert_int_equal(kvm->total.exit_mmio, model->total.exit_mmio);
        assert_int_equal(kvm->balloon.reported, model->balloon.reported);
        assert_memory_equal(kvm->balloon_stats, model->balloon_stats, sizeof kvm->balloon_stats);
    }
    struct balloon_setup s = setup_of("7M@phase:work");
    s.hole = BALLOON_HOLE_DEFER;
    run_on("model:few", "ept", "touch", &s, PAGES_THP, model);
    run_on("kvm", NULL, "touch", &s, PAGES_THP, kvm);
    assert_int_equal(model->total.balloon_pages, 7 * MIB);
    assert_int_equal(kvm->total.balloon_pages, 7 * MIB);
    free(model), free(kvm);
}

static void plans_are_read(void **state)
{
    struct balloon_setup s = setup_of("1M,256M@phase:work,0@phase:end,2M@time:1.5");
    uint64_t pages;
    char err[300];
    (void)state;
    assert_int_equal(s.nsteps, 4);
    assert_true(balloon_plan_by_time(&s));
    assert_true(balloon_plan_at_boot(&s, &pages));
    assert_int_equal(pages, 1 * MIB);
    assert_true(balloon_plan_at_phase(&s, "work", &pages));
    assert_int_equal(pages, 256 * MIB);
    assert_false(balloon_plan_at_phase(&s, "setup", &pages));
    assert_false(
        balloon_plan_at_phase(&s, "", &pages)); /* of a phase without a name, not of the boot */
    static const char *const wrong[] = {"x",      "1M@",      "1M@phase:",    "1M@time:x",
                                        "1000",   "1M@never", "1M@time:-1",   "",
                                        "1M,,2M", "1M,",      "1M@phase:boot"};
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_false(balloon_plan_parse(&s, wrong[i], err, sizeof err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_are_read),
        cmocka_unit_test(every_strategy_gives_the_same_pages),
        cmocka_unit_test(a_reclaimed_gigabyte_costs_exits),
        cmocka_unit_test(a_guest_without_memory_takes_some_back),
        cmocka_unit_test(without_that_right_it_runs_out_of_memory),
        cmocka_unit_test(holes_split_or_wait),
        cmocka_unit_test(a_page_of_1_gib_is_one_block),
        cmocka_unit_test(statistics_arrive),
        cmocka_unit_test(reports_give_memory_back),
        cmocka_unit_test(kvm_takes_the_same_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
