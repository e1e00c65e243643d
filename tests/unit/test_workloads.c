/* test_workloads.c: each workload does what its head says, access by access.
 *
 * The machine under them is a fake: a flat array for memory, one byte of state per page and
 * process, counters. It has 4 KiB pages only and faults like the guest kernel: first touch, copy on
 * write.
 */
/* link: base workloads/touch workloads/stream workloads/gups workloads/chase workloads/zipf
 * workloads/btree workloads/bfs workloads/churn workloads/forkcow workloads/switch
 * workloads/syscall workloads/spawn
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "base/base.h"
#include "workloads/common.h"
#include "workloads/params.h"

REGISTRY(workload);

/* ---- the fake machine ---- */

enum {
    SPAN = 1 << 30,
    PAGES = SPAN >> PAGE_SHIFT,
    PROCS = 160,
    ALLOCS = 8,
};
enum page_state { NONE, MAPPED, MAPPED_GLOBAL, PRESENT, PRESENT_GLOBAL, COW };
enum { SETUP, WORK };

struct counts {
    uint64_t loads, stores, faults, pt_writes, cr3;
};

static struct fake {
    struct mmu_hot hot;
    unsigned char *mem;          /* of address GK_USER_BASE */
    unsigned char *state[PROCS]; /* per page; NULL = no such process */
    uint64_t brk[PROCS];         /* pages handed out */
    int pid;
    unsigned phase, phases; /* the present one; begun so far */
    struct counts n[2];
    uint64_t hash;       /* of every access, in order */
    gva_t alloc[ALLOCS]; /* what u_alloc gave, in order */
    unsigned allocs;
    void (*watch)(gva_t, unsigned store); /* called in the work phase */
} f;

static void *at(gva_t va) { return f.mem + (va - GK_USER_BASE); }
static uint64_t word(gva_t a, uint64_t i) { return ((uint64_t *)at(a))[i]; }

static void fault(unsigned char *s, unsigned store)
{
    if (*s == NONE)
        fail_msg("access to an unmapped page");
    if (*s <= MAPPED_GLOBAL || (*s == COW && store)) {
        *s = *s == MAPPED_GLOBAL ? PRESENT_GLOBAL : PRESENT;
        f.n[f.phase].faults++;
        f.n[f.phase].pt_writes++;
    }
}

static void slow(struct mmu *m, gva_t va, unsigned store)
{
    (void)m;
    if (va - GK_USER_BASE >= SPAN)
        fail_msg("wild access to %#llx", (unsigned long long)va);
    fault(&f.state[f.pid][(va - GK_USER_BASE) >> PAGE_SHIFT], store);
    f.hash = (f.hash ^ (va << 1 | store)) * 0x100000001b3ull;
    f.hot.page = at(va & ~PAGE_MASK);
    if (store)
        f.n[f.phase].stores++;
    else
        f.n[f.phase].loads++;
    if (f.watch && f.phase == WORK)
        f.watch(va, store);
}

int u_mmap(struct user *u, gva_t hint, uint64_t len, unsigned prot, unsigned flags, gva_t *out)
{
    (void)u;
    assert_int_equal(prot, GK_READ | GK_WRITE);
    uint64_t pages = pages_of(len), first = f.brk[f.pid];
    if (flags & GK_FIXED)
        first = (hint - GK_USER_BASE) >> PAGE_SHIFT;
    else
        f.brk[f.pid] += pages;
    if (first + pages > PAGES || pages == 0)
        return GK_ENOMEM;
    for (uint64_t i = first; i < first + pages; i++) {
        if (f.state[f.pid][i] != NONE)
            return GK_EEXIST;
        f.state[f.pid][i] = flags & GK_GLOBAL ? MAPPED_GLOBAL : MAPPED;
    }
    *out = GK_USER_BASE + (first << PAGE_SHIFT);
    return GK_OK;
}

int u_munmap(struct user *u, gva_t va, uint64_t len)
{
    (void)u;
    unsigned char *s = &f.state[f.pid][(va - GK_USER_BASE) >> PAGE_SHIFT];
    for (uint64_t i = 0; i < pages_of(len); i++) {
        f.n[f.phase].pt_writes += s[i] >= PRESENT;
        s[i] = NONE;
    }
    return GK_OK;
}

int u_fork(struct user *u, int *child)
{
    (void)u;
    int pid = 1;
    while (pid < PROCS && f.state[pid])
        pid++;
    assert_true(pid < PROCS);
    f.state[pid] = malloc(PAGES);
    for (uint64_t i = 0; i < PAGES; i++) {
        unsigned char *s = &f.state[f.pid][i];
        *s = *s == PRESENT ? COW : *s;
        f.state[pid][i] = *s;
    }
    f.brk[pid] = f.brk[f.pid];
    *child = pid;
    return GK_OK;
}

int u_switch(struct user *u, int pid)
{
    (void)u;
    assert_true(pid > 0 && pid < PROCS && f.state[pid]);
    f.n[f.phase].cr3 += pid != f.pid;
    f.pid = pid;
    return GK_OK;
}

int u_exit(struct user *u, int pid)
{
    assert_int_not_equal(pid, 1);
    if (pid == f.pid)
        u_switch(u, 1);
    free(f.state[pid]);
    f.state[pid] = NULL;
    return GK_OK;
}

gva_t u_alloc(struct user *u, uint64_t len)
{
    gva_t a = 0;
    if (u_mmap(u, 0, len, GK_READ | GK_WRITE, 0, &a))
        fail_msg("out of memory: %llu bytes", (unsigned long long)len);
    if (f.allocs < ALLOCS)
        f.alloc[f.allocs++] = a;
    return a;
}

void u_phase(struct user *u, const char *name)
{
    static const char *const names[] = {"setup", "work", "no third phase"};
    (void)u;
    assert_string_equal(name, names[f.phases++]);
    f.phase = f.phases - 1;
}

void u_abort(struct user *u, const char *why)
{
    (void)u;
    fail_msg("aborted: %s", why);
    abort();
}

static void power_off(void)
{
    if (f.mem)
        munmap(f.mem, SPAN);
    for (int i = 0; i < PROCS; i++)
        free(f.state[i]);
    memset(&f, 0, sizeof f);
}

static void power_on(void)
{
    power_off();
    f.mem = mmap(NULL, SPAN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
    assert_ptr_not_equal(f.mem, MAP_FAILED);
    f.hot = (struct mmu_hot){.mru = {MRU_NONE, MRU_NONE}, .slow = slow, .mru_shift = PAGE_SHIFT};
    f.state[1] = calloc(1, PAGES);
    f.pid = 1;
}

/* ---- running a workload ---- */

/* Run `name` with "k=v k=v ..." on a new machine. */
static const uint64_t *run_watched(const char *name, const char *settings, uint64_t seed,
                                   void (*watch)(gva_t, unsigned))
{
    static uint64_t values[MAX_PARAMS];
    char buf[256], err[512], *save = NULL;
    const struct workload *w = REG_FIND(workload, name);
    assert_non_null(w);
    params_default(w, values);
    snprintf(buf, sizeof buf, "%s", settings);
    for (char *kv = strtok_r(buf, " ", &save); kv; kv = strtok_r(NULL, " ", &save))
        if (params_set(w, values, kv, err, sizeof err))
            fail_msg("%s", err);
    struct user u = {.mmu = (struct mmu *)&f};
    rng_seed(&u.rng, seed);
    power_on();
    f.watch = watch;
    w->run(&u, values);
    assert_int_equal(f.phases, 2);
    assert_int_equal(f.hot.count[0], f.n[SETUP].loads + f.n[WORK].loads);
    assert_int_equal(f.hot.count[1], f.n[SETUP].stores + f.n[WORK].stores);
    return values;
}

static void run(const char *name, const char *settings) { run_watched(name, settings, 1, NULL); }

static void expect(unsigned phase, uint64_t loads, uint64_t stores, uint64_t faults)
{
    assert_int_equal(f.n[phase].loads, loads);
    assert_int_equal(f.n[phase].stores, stores);
    assert_int_equal(f.n[phase].faults, faults);
}

static const char *const twelve[] = {"bfs",   "btree",  "chase",  "churn",   "forkcow", "gups",
                                     "spawn", "stream", "switch", "syscall", "touch",   "zipf"};

static void all_are_registered(void **state)
{
    (void)state;
    assert_int_equal(REG_COUNT(workload), ARRAY_SIZE(twelve));
    for (size_t i = 0; i < ARRAY_SIZE(twelve); i++) {
        const struct workload *w = REG_FIND(workload, twelve[i]);
        assert_non_null(w);
        assert_true(strlen(w->summary) > 20 && strlen(w->summary) < 80);
        for (unsigned k = 0; k < params_count(w); k++) {
            const struct param *p = &w->params[k];
            assert_true(p->min <= p->def && p->def <= p->max);
            assert_true(*p->unit && *p->help);
        }
    }
}

/* Every parameter at its least; then the defaults, in the time a default run should take. */
static void smallest_and_default_run(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(twelve); i++) {
        const struct workload *w = REG_FIND(workload, twelve[i]);
        char settings[256] = "";
        for (unsigned k = 0; k < params_count(w); k++) {
            size_t len = strlen(settings);
            snprintf(settings + len, sizeof settings - len, "%s=%llu ", w->params[k].name,
                     (unsigned long long)w->params[k].min);
        }
        run(twelve[i], settings);
        run(twelve[i], "");
        uint64_t accesses = f.hot.count[0] + f.hot.count[1];
        print_message("  %-8s %llu accesses by default, %llu faults\n", twelve[i],
                      (unsigned long long)accesses,
                      (unsigned long long)(f.n[SETUP].faults + f.n[WORK].faults));
        assert_true(accesses >= 250000 && accesses <= 12000000);
    }
}

/* The stream of accesses of small runs, as a hash: the same on every compiler and host. A change
 * here changes every published count; print what it is now and say why. */
static const struct {
    const char *name, *settings;
    uint64_t hash;
    bool seeded;
} golden[] = {
    {"bfs", "scale=8 roots=2", 0x27d8d72711863778, true},
    {"btree", "keys=1000 ops=1000", 0xa5b111359909491, true},
    {"chase", "size=64K stride=64 hops=100", 0x5eed4db02572360a, true},
    {"churn", "size=64K accesses=10000", 0x714672dbca4efe41, true},
    {"forkcow", "pages=100 procs=3", 0xa1bfdd19ba73ce5f, false},
    {"gups", "size=64K updates=100", 0x72f8c53c124892c0, true},
    {"spawn", "procs=3 pages=20 exec=10 depth=2", 0xd0d1dbd867d17354, false},
    {"stream", "size=64K triad=1", 0x5c1669a572198b96, false},
    {"switch", "size=64K switches=10 global=8K", 0x329d8045bd0be186, true},
    {"syscall", "calls=50", 0xe77e9fe543f9c9f0, false},
    {"touch", "pages=100 rounds=3", 0xb62cf0975fdc9834, false},
    {"zipf", "size=64K ops=1000", 0x621c555af0210f40, true},
};

static void streams_are_pinned(void **state)
{
    (void)state;
    bool same = true;
    for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
        run(golden[i].name, golden[i].settings);
        same &= f.hash == golden[i].hash;
        if (f.hash != golden[i].hash)
            print_error("    {\"%s\", \"%s\", 0x%llx, %s},\n", golden[i].name, golden[i].settings,
                        (unsigned long long)f.hash, golden[i].seeded ? "true" : "false");
    }
    assert_true(same);
}

static void seeds_decide_the_stream(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
        run_watched(golden[i].name, golden[i].settings, 2, NULL);
        assert_int_equal(f.hash != golden[i].hash, golden[i].seeded);
    }
}

/* ---- the counts that the heads state ---- */

static void touch_counts(void **state)
{
    (void)state;
    run("touch", "pages=100 rounds=7");
    expect(SETUP, 0, 0, 0);
    expect(WORK, 0, 700, 100);
}

static void stream_counts(void **state)
{
    (void)state;
    run("stream", "size=64K passes=3");
    expect(SETUP, 0, 16, 16);
    expect(WORK, 3 * 8192, 0, 0);
    run("stream", "size=10001 stride=24 passes=2");
    expect(SETUP, 0, 3, 3);
    expect(WORK, 2 * ((10000 - 8) / 24 + 1), 0, 0);
    run("stream", "size=10000 triad=1 passes=5");
    expect(WORK, 5 * 2 * 416, 5 * 416, 0); /* 10000 / 3 = 3333, down to 3328 = 416 words */
}

static void gups_counts(void **state)
{
    (void)state;
    run("gups", "size=100K updates=1234");
    expect(SETUP, 0, 25, 25);
    expect(WORK, 1234, 1234, 0);
}

static unsigned char seen[1 << 16];
static uint64_t seen_count, seen_stride;

static void see(gva_t va, unsigned store)
{
    assert_int_equal(store, 0);
    uint64_t i = (va - f.alloc[0]) / seen_stride;
    assert_int_equal((va - f.alloc[0]) % seen_stride, 0);
    assert_true(i < ARRAY_SIZE(seen) && !seen[i]);
    seen[i] = 1;
    seen_count++;
}

static void chase_visits_each_once(void **state)
{
    (void)state;
    static const struct {
        const char *settings;
        uint64_t n, stride;
    } runs[] = {{"size=64K stride=64 hops=1024", 1024, 64},
                {"size=70001 stride=27 hops=2916", 2916, 24},
                {"size=4K stride=4K hops=1", 1, 4096}};
    for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
        memset(seen, 0, sizeof seen);
        seen_count = 0;
        seen_stride = runs[i].stride;
        run_watched("chase", runs[i].settings, i, see);
        uint64_t n = runs[i].n;
        assert_int_equal(seen_count, n);
        expect(WORK, n, 0, 0);
        expect(SETUP, 2 * n - 2, 3 * n - 2, pages_of(n * seen_stride));
    }
}

static void zipf_counts(void **state)
{
    (void)state;
    run("zipf", "size=1M value=200 ops=5000"); /* 5041 keys of 4 lines */
    expect(SETUP, 0, 5041 * 5, pages_of(5041 * 8) + pages_of(5041 * 200));
    assert_int_equal(f.n[WORK].loads + f.n[WORK].stores, 5000 * 5);
    assert_true(f.n[WORK].stores > 4 * 200 && f.n[WORK].stores < 4 * 300);
    run("zipf", "size=1M value=200 ops=5000 gets=100");
    expect(WORK, 5000 * 5, 0, 0);
    run("zipf", "size=1M value=8 ops=5000 gets=0");
    expect(WORK, 5000, 5000, 0);
}

static uint64_t asked[1 << 17];

static void count_slot(gva_t va, unsigned store)
{
    uint64_t i = (va - f.alloc[0]) / 8;
    (void)store;
    if (va < f.alloc[1])
        asked[i]++;
}

/* Ranks 1 to 8, and the sums of octaves, against k^-s / H(n, s): within 5 standard deviations. */
static void zipf_follows_its_law(void **state)
{
    (void)state;
    enum { OPS = 1000000 };
    static const unsigned skews[] = {0, 50, 99, 100, 120, 300};
    for (size_t t = 0; t < ARRAY_SIZE(skews); t++) {
        char settings[64];
        snprintf(settings, sizeof settings, "size=1M value=8 gets=100 ops=%d skew=%u", OPS,
                 skews[t]);
        memset(asked, 0, sizeof asked);
        run_watched("zipf", settings, 7, count_slot);
        uint64_t n = (1 << 20) / 16, sum = 0;
        double s = skews[t] / 100.0, total = 0;
        for (uint64_t k = 1; k <= n; k++)
            total += pow((double)k, -s);
        double octave = 0;
        for (uint64_t k = 1; k <= n; k++) {
            double p = pow((double)k, -s) / total;
            uint64_t got = asked[scatter_below(k - 1, n, bits_for(n))];
            if (k <= 8)
                assert_true(fabs((double)got - OPS * p) < 5 * sqrt(OPS * p) + 1);
            octave += p;
            sum += got;
            if ((k & (k + 1)) == 0) { /* k = 2^j - 1 ends an octave */
                assert_true(fabs((double)sum - OPS * octave) < 5 * sqrt(OPS * octave) + 1);
                octave = 0;
                sum = 0;
            }
        }
    }
}

/* ---- btree ---- */

static uint64_t stores_of_build(uint64_t keys)
{
    uint64_t level = (keys + 9) / 10, stores = 2 * keys + 2 * level;
    for (; level > 1; level = (level + 10) / 11)
        stores += 2 * level;
    return stores;
}

/* Walk the chain of leaves from the first: keys ascend, and every even key up to 2 * keys is there.
 * Returns how many odd ones are. */
static uint64_t check_leaves(uint64_t keys)
{
    uint64_t last = 0, evens = 0, odds = 0;
    for (gva_t leaf = f.alloc[0]; leaf; leaf = word(leaf, 31))
        for (uint64_t i = 0; i < word(leaf, 0); i++) {
            uint64_t key = word(leaf, 1 + i);
            assert_true(key > last);
            last = key;
            evens += key % 2 == 0;
            odds += key % 2;
        }
    assert_int_equal(evens, keys);
    return odds;
}

static void btree_keeps_its_keys(void **state)
{
    (void)state;
    static const unsigned sizes[] = {1, 9, 10, 11, 109, 110, 111, 1210, 1211, 30000};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        char settings[64];
        snprintf(settings, sizeof settings, "keys=%u ops=2000 inserts=0", sizes[i]);
        run("btree", settings);
        assert_int_equal(f.n[SETUP].stores, stores_of_build(sizes[i]));
        assert_int_equal(f.n[SETUP].loads + f.n[WORK].stores, 0);
        assert_int_equal(check_leaves(sizes[i]), 0);
        snprintf(settings, sizeof settings, "keys=%u ops=20000 inserts=60", sizes[i]);
        run("btree", settings);
        uint64_t odds = check_leaves(sizes[i]);
        assert_true(odds > 0 && odds <= sizes[i] + 1 && odds < 12500);
    }
    run("btree", "keys=1000000 ops=300000 inserts=100"); /* arena large enough */
    assert_true(check_leaves(1000000) > 250000);
}

/* ---- bfs ---- */

/* Search the graph in guest memory from the root of the workload's last search, by repeated
 * relaxing of depths, which shares nothing with the workload's queue. */
static void compare_search(uint64_t vertices)
{
    gva_t start = f.alloc[0], adj = f.alloc[1], parent = f.alloc[2], queue = f.alloc[3];
    uint64_t *depth = malloc(vertices * sizeof *depth), reached = 0, visited = 0;
    for (uint64_t v = 0; v < vertices; v++)
        depth[v] = UINT32_MAX;
    depth[word(queue, 0)] = 0;
    for (bool changed = true; changed;) {
        changed = false;
        for (uint64_t v = 0; v < vertices; v++)
            for (uint64_t i = word(start, v); i < word(start, v + 1); i++)
                if (depth[v] + 1 < depth[word(adj, i)]) {
                    depth[word(adj, i)] = depth[v] + 1;
                    changed = true;
                }
    }
    for (uint64_t v = 0; v < vertices; v++) {
        uint64_t by = word(parent, v);
        reached += depth[v] != UINT32_MAX;
        visited += by != ~0ull;
        if (by != ~0ull && by != v)
            assert_int_equal(depth[v], depth[by] + 1); /* shortest: breadth first */
    }
    assert_int_equal(visited, reached);
    free(depth);
}

static void bfs_is_a_search(void **state)
{
    (void)state;
    for (unsigned scale = 1; scale <= 12; scale++) {
        char settings[64];
        uint64_t v = 1ull << scale, e = 4 * v;
        snprintf(settings, sizeof settings, "scale=%u degree=4 roots=1", scale);
        run_watched("bfs", settings, scale, NULL);
        assert_int_equal(f.n[SETUP].loads, 4 * e + v);
        assert_int_equal(f.n[SETUP].stores, 6 * e + v);
        assert_int_equal(word(f.alloc[0], v), 2 * e);
        assert_true(f.n[WORK].stores >= v + 2 && (f.n[WORK].stores - v) % 2 == 0);
        compare_search(v);
    }
}

/* ---- page tables and processes ---- */

static void churn_hits_its_rate(void **state)
{
    (void)state;
    static const unsigned rates[] = {0, 1, 3, 10, 100, 333, 500, 999, 1000, 1500, 2000};
    static const unsigned batches[] = {1, 7, 64};
    for (size_t i = 0; i < ARRAY_SIZE(rates); i++)
        for (size_t k = 0; k < ARRAY_SIZE(batches); k++) {
            char settings[96];
            unsigned accesses = 1000000, batch = batches[k];
            snprintf(settings, sizeof settings, "accesses=%u updates=%u batch=%u size=1M", accesses,
                     rates[i], batch);
            run("churn", settings);
            uint64_t want = (uint64_t)accesses * rates[i] / 1000, got = f.n[WORK].pt_writes;
            assert_int_equal(f.n[WORK].loads + f.n[WORK].stores, accesses);
            assert_int_equal(f.n[WORK].faults, f.n[WORK].stores);
            assert_int_equal(got, 2 * f.n[WORK].stores);
            assert_true(got <= want && want - got <= 4 * batch);
            assert_true(batch > 1 || want - got <= want / 50 + 2);
        }
}

static void forkcow_counts(void **state)
{
    (void)state;
    run("forkcow", "procs=5 pages=333 dirty=30");
    expect(SETUP, 0, 333, 333);
    expect(WORK, 5 * (333 - 99), 5 * 99, 5 * 99);
    run("forkcow", "procs=2 pages=10 dirty=100");
    expect(WORK, 0, 20, 20);
    run("forkcow", "procs=2 pages=10 dirty=0");
    expect(WORK, 20, 0, 0);
}

static uint64_t global_loads;

static void count_global(gva_t va, unsigned store)
{
    (void)store;
    global_loads += va - GK_USER_BASE < 5 * PAGE_SIZE;
}

static void switch_counts(void **state)
{
    (void)state;
    run("switch", "procs=3 size=64K burst=10 switches=7");
    expect(SETUP, 0, 3 * 16, 3 * 16);
    expect(WORK, 70, 0, 0);
    assert_int_equal(f.n[WORK].cr3, 7);
    global_loads = 0;
    run_watched("switch", "procs=128 size=4K burst=11 switches=300 global=20K", 1, count_global);
    expect(WORK, 3300, 0, 0);
    expect(SETUP, 0, 128 + 5, 128 + 5);
    assert_int_equal(global_loads, 300 * 2);
    assert_int_equal(f.n[WORK].cr3, 300);
    run("switch", "procs=1 switches=9");
    assert_int_equal(f.n[WORK].cr3, 0);
}

static void syscall_counts(void **state)
{
    (void)state;
    run("syscall", "calls=100 loads=7 pages=3");
    expect(SETUP, 0, 3, 3);
    expect(WORK, 700, 0, 0);
    assert_int_equal(f.n[WORK].cr3, 200);
    run("syscall", "calls=100 loads=7 pages=3 kpti=0");
    expect(WORK, 700, 0, 0);
    assert_int_equal(f.n[WORK].cr3, 0);
}

/* Table writes of the fake machine: one a fault, one for each present page that exec unmaps. */
static void spawn_counts(void **state)
{
    (void)state;
    run("spawn", "procs=5 pages=30 stack=4 exec=0");
    expect(SETUP, 0, 30, 30);
    expect(WORK, 0, 5 * 4, 5 * 4);
    assert_int_equal(f.n[WORK].cr3, 5 * 2); /* to the child; its exit leads back */
    run("spawn", "procs=5 pages=30 stack=4 exec=10 rounds=3");
    expect(WORK, 0, 5 * (4 + 30), 5 * (4 + 10));
    assert_int_equal(f.n[WORK].pt_writes, 5 * (4 + 10 + 30));
    run("spawn", "procs=5 pages=30 stack=4 exec=10 rounds=3 depth=2");
    expect(WORK, 0, 5 * 2 * (4 + 30), 5 * 2 * (4 + 10));
    /* To the shell, to the program, by its exit to process 1, back to the shell, and home. */
    assert_int_equal(f.n[WORK].cr3, 5 * 5);
}

/* ---- parameters ---- */

static void params_are_checked(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"sizes=64M",
         "no parameter 'sizes'; did you mean 'size'? its parameters are size, updates"},
        {"=3", "key=value is expected"},
        {"size", "key=value is expected"},
        {"size=", "size = '' is not a size such as 64M; 4K to 1T bytes is expected"},
        {"size=lots", "is not a size"},
        {"size=4095", "size = 4095 is out of range: 4K to 1T bytes"},
        {"size=2T", "is out of range"},
        {"size=99999999999T", "is not a size"},
        {"updates=-1", "updates = '-1' is not a whole number; 0 to 1099511627776 (updates)"},
        {"updates=1.5", "is not a whole number"},
        {"updates=1k", "is not a whole number"},
    };
    const struct workload *w = REG_FIND(workload, "gups");
    uint64_t values[MAX_PARAMS], before[MAX_PARAMS];
    char err[512];
    params_default(w, values);
    memcpy(before, values, sizeof before);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(params_set(w, values, bad[i][0], err, sizeof err), NB_USAGE);
        if (!strstr(err, bad[i][1]))
            fail_msg("%s: %s", bad[i][0], err);
    }
    assert_memory_equal(values, before, sizeof before);
    assert_int_equal(params_set(w, values, "size=1M", err, sizeof err), NB_OK);
    assert_int_equal(params_set(w, values, "updates=0x10", err, sizeof err), NB_OK);
    assert_int_equal(values[0], 1 << 20);
    assert_int_equal(values[1], 16);
}

static int tear_down(void **state)
{
    (void)state;
    power_off();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_are_registered),   cmocka_unit_test(smallest_and_default_run),
        cmocka_unit_test(streams_are_pinned),   cmocka_unit_test(seeds_decide_the_stream),
        cmocka_unit_test(touch_counts),         cmocka_unit_test(stream_counts),
        cmocka_unit_test(gups_counts),          cmocka_unit_test(chase_visits_each_once),
        cmocka_unit_test(zipf_counts),          cmocka_unit_test(zipf_follows_its_law),
        cmocka_unit_test(btree_keeps_its_keys), cmocka_unit_test(bfs_is_a_search),
        cmocka_unit_test(churn_hits_its_rate),  cmocka_unit_test(forkcow_counts),
        cmocka_unit_test(switch_counts),        cmocka_unit_test(syscall_counts),
        cmocka_unit_test(spawn_counts),         cmocka_unit_test(params_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
