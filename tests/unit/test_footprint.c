/* test_footprint.c: what a run occupies of our own machine's memory.
 *
 * At most 1.1 times the frames that were really written, and 1 % of the guest's memory: a program
 * writes 192 MiB of a machine of 1 GiB. Written are its 49,152 pages and all tables; everything else
 * the model knows of 262,144 frames must fit the rest. A child runs the program, and the kernel says
 * how much of it was in memory at most (getrusage(2), ru_maxrss).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "shadow_vs_ept/paging.h"
#include "vmm/engine.h"
#include "vmm/user.h"

REGISTRY(engine);

enum { DATA = 192 << 20, MEMORY = 1 << 30 };

static void write_all(struct user *u, void *arg)
{
    gva_t base = u_alloc(u, DATA);
    (void)arg;
    for (uint64_t at = 0; at < DATA; at += PAGE_SIZE)
        st64(u, base + at, at + 1);
}

/* Bytes written for the guest. */
static uint64_t run(const char *paging)
{
    char err[300];
    int code;
    const struct cpu *cpu = cpu_load("plain", err, sizeof err, &code);
    struct vm_config cfg = {.paging = paging,
                            .cpu = cpu,
                            .levels = 4,
                            .host_levels = 4,
                            .mem = MEMORY,
                            .host_mem = MEMORY + (256 << 20),
                            .seed = 1,
                            .flush_ceiling = 33};
    struct program prog = {.run = write_all};
    struct result *r = calloc(1, sizeof *r);
    if (!cpu || !r || REG_FIND(engine, "model")->run(&cfg, &prog, r) != NB_OK ||
        r->outcome != OUTCOME_OK)
        return 0;
    const struct counters *c = &r->total;
    return DATA + c->guest_pt_bytes + c->shadow_pt_bytes + c->nested_pt_bytes;
}

static void check(const char *paging)
{
    uint64_t *written =
        mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct rusage use;
    int status;
    assert_ptr_not_equal(written, MAP_FAILED);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        *written = run(paging);
        _exit(0);
    }
    assert_int_equal(wait4(child, &status, 0, &use), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(*written >= DATA);
    uint64_t rss = (uint64_t)use.ru_maxrss << 10, most = *written / 10 * 11 + MEMORY / 100;
    if (rss > most)
        fail_msg("%s: %llu KiB in memory for %llu KiB written; at most %llu", paging,
                 (unsigned long long)rss >> 10, (unsigned long long)*written >> 10,
                 (unsigned long long)most >> 10);
    assert_true(rss >= DATA); /* else nothing was written */
    munmap(written, PAGE_SIZE);
}

static void a_run_occupies_what_it_writes(void **state)
{
    (void)state;
#ifdef NB_NO_JEMALLOC
    skip(); /* sanitizers keep shadow memory */
#endif
    FOR_EACH(paging, p)
    check(p->name);
    assert_true(REG_COUNT(paging) >= 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_run_occupies_what_it_writes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
