/* link: base guest memmgr balloon shadow_vs_ept vmm workloads/replay workloads/trace workloads/trace_nbt
 * workloads/trace_write */
/* test_replay.c: traces as guest programs: what each event does, and what a trace that says
 * impossible things comes to. Each case is a few records; every run ends with all invariants
 * checked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/temp.h"
#include "vmm/model.h"
#include "workloads/replay.h"

REGISTRY(engine);
REGISTRY(trace_format);

static char file[PATH_MAX + 8];

static int setup(void **state)
{
    (void)state;
    if (temp_make() != 0)
        return -1;
    snprintf(file, sizeof file, "%s/t.nbt", temp_dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(temp_dir);
}

/* A record: an access when `size` is not 0, else an event. */
struct item {
    struct trace_event e;
    uint64_t va;
    uint16_t size;
};

#define LOAD(at)              \
    {                         \
        .va = (at), .size = 8 \
    }
#define EVENT(...)                  \
    {                               \
        .e = {.kind = __VA_ARGS__ } \
    }
#define MAP(at, bytes) EVENT(TRACE_MAP, .addr = (at), .len = (bytes), .prot = 3)
#define FORK(p) EVENT(TRACE_FORK, .pid = (p))
#define SWITCH(p) EVENT(TRACE_SWITCH, .pid = (p))
#define EXIT(p) EVENT(TRACE_EXIT, .pid = (p))

struct ended {
    enum outcome outcome;
    int code;        /* of the trace: 0 or 65 */
    char error[640]; /* likewise */
    struct replay_stats stats;
    struct counters total, vcpu[4];
};

static void save(const struct item *it, size_t n)
{
    char err[512];
    int code;
    struct trace_header h = {.status = -1};
    struct trace_writer *w = trace_create(file, &h, 1, &code, err, sizeof err);
    assert_non_null(w);
    for (size_t i = 0; i < n; i++) {
        if (it[i].size)
            trace_put(w, &(struct trace_access){.va = it[i].va, .size = it[i].size}, 1);
        else
            trace_put_event(w, &it[i].e);
    }
    assert_int_equal(trace_finish(w, err, sizeof err), 0);
}

static struct ended run_on(unsigned vcpus, const struct item *it, size_t n, unsigned levels)
{
    struct ended end = {0};
    struct replay *r;
    struct result res;
    char err[512];
    int code;
    const struct cpu *cpu = cpu_load("plain", err, sizeof err, &code);
    save(it, n);
    assert_int_equal(replay_open(file, NULL, &r, err, sizeof err), 0);
    const struct vm_config c = {.paging = "shadow",
                                .cpu = cpu,
                                .levels = levels,
                                .host_levels = 4,
                                .mem = 64ull << 20,
                                .host_mem = 256ull << 20,
                                .flush_ceiling = 33,
                                .vcpus = vcpus,
                                .check = true};
    const struct engine *model = NULL;
    FOR_EACH(engine, e)
    if (strcmp(e->name, "model") == 0)
        model = e;
    assert_int_equal(model->run(&c, &(struct program){.run = replay_run, .arg = r}, &res), 0);
    end.outcome = res.outcome;
    end.total = res.total;
    memcpy(end.vcpu, res.vcpu, sizeof end.vcpu);
    end.stats = *replay_stats(r);
    if (replay_error(r)) {
        end.code = replay_error_code(r);
        snprintf(end.error, sizeof end.error, "%s", replay_error(r));
    }
    replay_close(r);
    cpu_free(cpu);
    return end;
}

static struct ended run(const struct item *it, size_t n, unsigned levels)
{
    return run_on(1, it, n, levels);
}
#define RUN(levels, ...)                    \
    run((const struct item[]){__VA_ARGS__}, \
        sizeof((const struct item[]){__VA_ARGS__}) / sizeof(struct item), levels)

static void sound(const struct ended *e)
{
    if (e->code || e->outcome != OUTCOME_OK)
        fail_msg("outcome %s, code %d: %s", outcome_names[e->outcome], e->code, e->error);
}

static void damaged(const struct ended *e, const char *why)
{
    assert_int_equal(e->code, NB_DATAERR);
    if (!strstr(e->error, why))
        fail_msg("expected \"%s\", got \"%s\"", why, e->error);
}

/* After an exec nothing is mapped: three pages touched again are three more faults. One of them is
 * page 0, one lies above 2^47 where there are five levels. */
static void test_exec_empties(void **state)
{
    (void)state;
    for (unsigned levels = 4; levels <= 5; levels++) {
        uint64_t high = levels == 5 ? 1ull << 55 : 1ull << 46;
        struct ended e = RUN(levels, MAP(0, 4096), MAP(1ull << 30, 4096), MAP(high, 4096), LOAD(8),
                             LOAD(1ull << 30), LOAD(high), EVENT(TRACE_EXEC), MAP(0, 4096),
                             MAP(1ull << 30, 4096), MAP(high, 4096), LOAD(8), LOAD(1ull << 30),
                             LOAD(high), EXIT(1));
        sound(&e);
        assert_int_equal(e.total.guest_faults, 6);
        assert_int_equal(e.stats.refused + e.stats.implicit_maps, 0);
        e = RUN(levels, MAP(0, 4096), MAP(high, 4096), EVENT(TRACE_EXEC), LOAD(8), LOAD(high));
        sound(&e);
        assert_int_equal(e.stats.implicit_maps, 2);
    }
}

static void test_impossible_processes(void **state)
{
    (void)state;
    struct ended e = RUN(4, SWITCH(7));
    damaged(&e, "switches to a process that is not there");
    e = RUN(4, EXIT(TRACE_MAX_PID));
    damaged(&e, "ends a process that is not there");
    e = RUN(4, FORK(1));
    damaged(&e, "forks a process that is already there");
    e = RUN(4, EXIT(1), LOAD(4096));
    damaged(&e, "goes on in a process that has ended");
    e = RUN(4, EXIT(1), FORK(2));
    damaged(&e, "goes on in a process that has ended");
    e = RUN(4, EXIT(1), EXIT(1));
    damaged(&e, "ends a process that is not there");
    e = RUN(4, FORK(2), EXIT(1), SWITCH(1));
    damaged(&e, "switches to a process that is not there");
    e = RUN(4, FORK(2), EXIT(2), SWITCH(2));
    damaged(&e, "switches to a process that is not there");
}

/* The first process may end before its children; a number may be used again. */
static void test_families(void **state)
{
    (void)state;
    struct ended e = RUN(4, MAP(1 << 20, 8192), LOAD(1 << 20), FORK(2), EXIT(1), SWITCH(2),
                         LOAD(1 << 20), FORK(1), SWITCH(1), LOAD(1 << 20), EXIT(2), EXIT(1));
    sound(&e);
    assert_int_equal(e.stats.processes, 3);
    assert_int_equal(e.stats.implicit_maps, 0);
}

static void test_fork_bomb(void **state)
{
    (void)state;
    enum { N = 5000 };
    struct item *it = calloc(N, sizeof *it);
    for (uint32_t i = 0; i < N; i++)
        it[i] = (struct item)FORK(i + 2);
    struct ended e = run(it, N, 4);
    assert_int_equal(e.outcome, OUTCOME_ABORTED);
    assert_int_equal(e.code, 0);
    free(it);
}

/* What no address space can hold is refused and counted; touching it ends the program. */
static void test_wild_addresses(void **state)
{
    (void)state;
    const uint64_t top = 1ull << 47;
    struct ended e = RUN(4, MAP(top, 4096), MAP(top - 4096, 8192), MAP(1ull << 56, 4096),
                         EVENT(TRACE_UNMAP, .addr = 0, .len = 1ull << 57),
                         EVENT(TRACE_PROTECT, .addr = top, .len = 4096, .prot = 1),
                         EVENT(TRACE_DISCARD, .addr = top, .len = 4096), LOAD(top - 8));
    sound(&e);
    assert_int_equal(e.stats.refused, 6);
    const uint64_t wild[] = {top, 1ull << 56, 1ull << 63, 0xffff800000000000ull, ~0ull - 7, ~0ull};
    for (size_t i = 0; i < ARRAY_SIZE(wild); i++) {
        e = RUN(4, MAP(4096, 4096), LOAD(wild[i]));
        assert_int_equal(e.outcome, OUTCOME_GUEST_SEGV);
        assert_int_equal(e.code, 0);
    }
    e = RUN(4, {.va = top - 1, .size = 8}); /* its second half lies above user space */
    assert_int_equal(e.outcome, OUTCOME_GUEST_SEGV);
}

/* The traced process is the guest's second, so on 4 vCPUs its threads 0, 1 and 2 run on vCPUs 1, 2 and 3.
 * The fault is the process's, the TLB misses the threads'; thread 0's unmap interrupts the two others. */
static void test_threads_run_on_their_vcpus(void **state)
{
    (void)state;
    const gva_t page = 1 << 20;
    const struct item it[] = {MAP(page, 4096),
                              LOAD(page),
                              EVENT(TRACE_THREAD, .tid = 1),
                              EVENT(TRACE_SWITCH, .pid = 1, .tid = 1),
                              LOAD(page),
                              EVENT(TRACE_THREAD, .tid = 2),
                              EVENT(TRACE_SWITCH, .pid = 1, .tid = 2),
                              LOAD(page),
                              SWITCH(1),
                              LOAD(page),
                              EVENT(TRACE_UNMAP, .addr = page, .len = 4096)};
    struct ended one = run_on(1, it, ARRAY_SIZE(it), 4), e = run_on(4, it, ARRAY_SIZE(it), 4);
    const uint64_t loads[] = {0, 2, 1, 1}, misses[] = {0, 1, 1, 1};
    sound(&one);
    sound(&e);
    for (unsigned v = 0; v < 4; v++) {
        assert_int_equal(e.vcpu[v].loads, loads[v]);
        assert_int_equal(e.vcpu[v].tlb_l2_misses, misses[v]);
    }
    assert_int_equal(e.total.guest_ipis, 2);
    assert_int_equal(e.total.guest_invlpgs, 3);
    assert_int_equal(e.total.guest_faults, one.total.guest_faults);
    assert_int_equal(one.total.guest_ipis, 0);
    assert_int_equal(one.total.tlb_l2_misses, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec_empties),   cmocka_unit_test(test_impossible_processes),
        cmocka_unit_test(test_families),       cmocka_unit_test(test_fork_bomb),
        cmocka_unit_test(test_wild_addresses), cmocka_unit_test(test_threads_run_on_their_vcpus),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
