/* test_engine_kvm.c: the guest image on the host's KVM: the same events and memory as on the model,
 * and every way a run can end. Without KVM all of it is skipped.
 *
 * link: base guest memmgr balloon shadow_vs_ept vmm workloads
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/image_vm.h"
#include "workloads/params.h"

REGISTRY(engine);
REGISTRY(workload);

static void need_kvm(void)
{
    char err[256];
    if (kvm_host(err, sizeof err))
        return;
    printf("skip: %s\n", err);
    skip();
}

static struct vm_config config(void)
{
    return (struct vm_config){.levels = 4,
                              .host_levels = 4,
                              .mem = 64ull << 20,
                              .host_mem = 256ull << 20,
                              .seed = 42,
                              .flush_ceiling = 33,
                              .timeout = 60,
                              .hash = true};
}

/* ---- the same as the model ---- */
struct job {
    const struct workload *w;
    uint64_t params[MAX_PARAMS];
};

static void run_workload(struct user *u, void *arg)
{
    const struct job *j = arg;
    j->w->run(u, j->params);
}

static struct job make_job(const char *name, const char *const *sets)
{
    struct job j = {.w = REG_FIND(workload, name)};
    char err[256];
    assert_non_null(j.w);
    params_default(j.w, j.params);
    for (; *sets; sets++)
        if (params_set(j.w, j.params, *sets, err, sizeof err) != NB_OK)
            fail_msg("%s", err);
    return j;
}

static void run_on(const char *engine, const struct vm_config *cfg, struct job *j,
                   struct result *res)
{
    const struct engine *e = REG_FIND(engine, engine);
    struct program prog = {.run = run_workload,
                           .arg = j,
                           .name = j->w->name,
                           .params = j->params,
                           .nparams = params_count(j->w)};
    assert_non_null(e);
    assert_int_equal(e->run(cfg, &prog, res), NB_OK);
    if (res->outcome != OUTCOME_OK)
        fail_msg("%s on %s: %s: %s", j->w->name, engine, outcome_names[res->outcome], res->detail);
}

/* What both engines count, phase by phase. */
static void assert_same(const char *name, const struct result *model, const struct result *kvm)
{
    static const enum counter_id same[] = {CTR_guest_faults, CTR_guest_pt_writes,
                                           CTR_guest_cr3_loads, CTR_guest_invlpgs,
                                           CTR_guest_pt_bytes};
    assert_int_equal(model->nphases, kvm->nphases);
    for (unsigned i = 0; i < model->nphases; i++) {
        const struct phase_result *a = &model->phases[i], *b = &kvm->phases[i];
        assert_string_equal(a->name, b->name);
        assert_true(b->timed && b->ns > 0);
        for (unsigned k = 0; k < ARRAY_SIZE(same); k++)
            if (a->counters.v[same[k]] != b->counters.v[same[k]] || b->counters.unseen[same[k]])
                fail_msg("%s, phase %s, %s: model %llu, kvm %llu", name, a->name,
                         counter_descs[same[k]].name, (unsigned long long)a->counters.v[same[k]],
                         (unsigned long long)b->counters.v[same[k]]);
    }
    assert_true(model->has_hash && kvm->has_hash);
    if (model->memory_hash != kvm->memory_hash)
        fail_msg("%s: the guests' memories differ", name);
}

static void compare(const char *name, const char *const *sets, enum page_mode guest_page)
{
    static struct result model, kvm;
    struct vm_config cfg = config();
    char err[256];
    int code = NB_OK;
    struct job j = make_job(name, sets);
    cfg.guest_page = guest_page;
    cfg.check = true;
    run_on("kvm", &cfg, &j, &kvm);
    cfg.paging = "native";
    cfg.cpu = cpu_load("plain", err, sizeof err, &code);
    assert_non_null(cfg.cpu);
    run_on("model", &cfg, &j, &model);
    cpu_free(cfg.cpu);
    assert_same(name, &model, &kvm);
}

#define SETS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_same_as_model(void **state)
{
    (void)state;
    need_kvm();
    compare("bfs", SETS("scale=9", "roots=2"), PAGES_4K);
    compare("btree", SETS("keys=5000", "ops=5000", "inserts=30"), PAGES_4K);
    compare("chase", SETS("size=512K", "hops=5000"), PAGES_4K);
    compare("churn", SETS("size=512K", "accesses=5000", "updates=30", "window=32"), PAGES_4K);
    compare("churn", SETS("size=512K", "accesses=4000", "updates=50", "batch=40"), PAGES_4K);
    compare("forkcow", SETS("procs=2", "pages=60", "dirty=30"), PAGES_4K);
    compare("gups", SETS("size=1M", "updates=5000"), PAGES_4K);
    compare("spawn", SETS("procs=2", "pages=40", "exec=30", "depth=2"), PAGES_4K);
    compare("stream", SETS("size=1M", "triad=1"), PAGES_4K);
    compare("switch", SETS("procs=3", "size=64K", "burst=50", "switches=40", "global=64K"),
            PAGES_4K);
    compare("syscall", SETS("calls=100"), PAGES_4K);
    compare("touch", SETS("pages=300", "rounds=3"), PAGES_4K);
    compare("zipf", SETS("size=1M", "ops=5000"), PAGES_4K);
}

static void test_page_sizes(void **state)
{
    (void)state;
    need_kvm();
    compare("gups", SETS("size=8M", "updates=2000"), PAGES_2M);
    compare("touch", SETS("pages=1100", "rounds=1"), PAGES_THP);
}

/* ---- one fill a page ---- */
static uint64_t stat_of(const struct result *r, const uint64_t *values, const char *name)
{
    for (unsigned i = 0; i < r->nkvm; i++)
        if (strcmp(r->kvm_name[i].name, name) == 0)
            return values[r->kvm_name[i].first];
    fail_msg("no statistic %s", name);
    return 0;
}

/* The constants of engine_kvm.c; what the image itself needs is in phase boot, the same for every N.
 */
static uint64_t fills(const struct result *r, uint64_t pages, uint64_t tables)
{
    if (r->emulates_ring0)
        return pages;
    return pages + tables + (strcmp(r->paging, "shadow") == 0 ? tables - 2 : 0);
}

static void test_fills(void **state)
{
    static struct result r[2];
    static const uint64_t pages[2] = {100, 700};
    struct vm_config cfg = config();
    (void)state;
    need_kvm();
    for (unsigned i = 0; i < 2; i++) {
        struct job j = make_job("touch", SETS("rounds=1"));
        j.params[0] = pages[i];
        run_on("kvm", &cfg, &j, &r[i]);
        assert_int_equal(r[i].nphases, 3);
        const struct phase_result *setup = &r[i].phases[1], *work = &r[i].phases[2];
        uint64_t tables =
            (work->counters.guest_pt_bytes - setup->counters.guest_pt_bytes) / PAGE_SIZE;
        assert_int_equal(tables, i ? 4 : 3); /* one for each 2 MiB, and two above */
        assert_int_equal(stat_of(&r[i], work->kvm, "pf_fixed"), fills(&r[i], pages[i], tables));
        assert_int_equal(work->counters.host_frames - setup->counters.host_frames,
                         pages[i] + tables);
    }
    assert_int_equal(stat_of(&r[0], r[0].phases[0].kvm, "pf_fixed"),
                     stat_of(&r[1], r[1].phases[0].kvm, "pf_fixed"));
}

/* Host memory in huge pages counts as a whole, but for what lies in the kernel's range. */
static void test_huge_host_pages(void **state)
{
    static struct result r;
    struct vm_config cfg = config();
    struct job j = make_job("touch", SETS("pages=10", "rounds=1"));
    char err[256];
    int code = NB_OK;
    (void)state;
    need_kvm();
    cfg.host_page = PAGES_THP;
    struct backing *b =
        backing_new(cfg.mem, cfg.backing, cfg.host_page, &cfg.numa, err, sizeof err, &code);
    if (!b) {
        printf("skip: %s\n", err);
        skip();
    }
    backing_free(b);
    run_on("kvm", &cfg, &j, &r);
    assert_int_equal(r.total.host_frames % 512, 0);
    assert_in_range(r.total.host_frames, 512, 1024);
}

/* ---- programs that misbehave ---- */
static void expect_end(const char *program, uint64_t param, double timeout, enum outcome outcome,
                       const char *text)
{
    static struct result res;
    struct vm_config cfg = config();
    struct program prog = {.name = program, .params = &param, .nparams = 1};
    cfg.timeout = timeout;
    cfg.check = true;
    assert_int_equal(REG_FIND(engine, "kvm")->run(&cfg, &prog, &res), NB_OK);
    if (res.outcome != outcome || !strstr(res.detail, text))
        fail_msg("%s: %s: %s; expected %s: %s", program, outcome_names[res.outcome], res.detail,
                 outcome_names[outcome], text);
    assert_true(!res.has_hash || outcome == OUTCOME_OK);
}

static void test_ends(void **state)
{
    (void)state;
    need_kvm();
    expect_end("test:load", 0, 20, OUTCOME_GUEST_SEGV, "gva 0x0 ");
    expect_end("test:store", 0x12345678, 20, OUTCOME_GUEST_SEGV, "gva 0x12345678");
    expect_end("test:load", DIRECT_BASE, 20, OUTCOME_GUEST_SEGV, "gva 0xffffff8000000000");
    expect_end("test:store", IMAGE_BASE + BOOT_GPA, 20, OUTCOME_GUEST_SEGV, "0xffffffff80001000");
    expect_end("test:load", 1ull << 62, 20, OUTCOME_CRASHED, "exception 0xd in ring 3");
    expect_end("test:halt", 0, 20, OUTCOME_CRASHED, "exception 0xd in ring 3");
    expect_end("test:loop", 0, 0.1, OUTCOME_TIMEOUT, "0.1 seconds");
    expect_end("test:recover", 0, 0.2, OUTCOME_TIMEOUT, "0.2 seconds");
    expect_end("test:alloc", 1ull << 50, 20, OUTCOME_GUEST_OOM, "1125899906842624 bytes");
    expect_end("test:refused", 0, 20, OUTCOME_OK, "");
    expect_end("test:backwards", 0, 20, OUTCOME_OK, "");
    /* #UD; kvm_pvm jumps to address 0, but leaves it ring 3. */
    expect_end("test:syscall", 0, 20, OUTCOME_CRASHED, "in ring 3");
    expect_end("test:none", 0, 20, OUTCOME_ABORTED, "no program of this name");
}

/* Eight bytes of code in ring 3, first one lowest; NOP is 0x90. */
static void test_ring_3(void **state)
{
    (void)state;
    need_kvm();
    const uint64_t nops = 0x9090909090909090;
    expect_end("test:code", nops, 20, OUTCOME_OK, "");
    /* OUT and IN of eax: NB_CALL_DONE to NB_PORT is ring 0's. */
    expect_end("test:code", nops << 8 | 0xef, 20, OUTCOME_CRASHED, "exception 0xd in ring 3");
    expect_end("test:code", nops << 8 | 0xed, 20, OUTCOME_CRASHED, "exception 0xd in ring 3");
    /* MOV $NB_PROBE_PORT, %dl; XOR %dh, %dh; OUT of eax: four ports, of which one is allowed */
    expect_end("test:code", nops << 40 | 0xeff6304eb2, 20, OUTCOME_CRASHED,
               "exception 0xd in ring 3");
    expect_end("test:code", nops << 8 | 0xfa, 20, OUTCOME_CRASHED, "exception 0xd in ring 3");
    expect_end("test:code", nops << 16 | 0x0b0f, 20, OUTCOME_CRASHED, "exception 0x6 in ring 3");
    expect_end("test:code", nops << 16 | 0x0ecd, 20, OUTCOME_CRASHED, "in ring 3"); /* INT 14 */
    /* STD, INT SYSCALL_VECTOR; and with RFLAGS.NT set: PUSHF, OR $0x40, 1(%rsp), POPF */
    expect_end("test:code", nops << 24 | 0x04cdfd, 20, OUTCOME_OK, "");
    expect_end("test:code", nops << 56 | 0x9d4001244c809c, 20, OUTCOME_OK, "");
    /* The same with RFLAGS.TF: a trap in ring 3. */
    expect_end("test:code", nops << 56 | 0x9d0101244c809c, 20, OUTCOME_CRASHED,
               "exception 0x1 in ring 3");
}

/* A name that lies outside the program's memory is empty; unprintable bytes are replaced. */
static void test_texts(void **state)
{
    static struct result res;
    struct vm_config cfg = config();
    uint64_t where = IMAGE_BASE + BOOT_GPA;
    struct program prog = {.name = "test:phase", .params = &where, .nparams = 1};
    (void)state;
    need_kvm();
    assert_int_equal(REG_FIND(engine, "kvm")->run(&cfg, &prog, &res), NB_OK);
    assert_int_equal(res.outcome, OUTCOME_OK);
    assert_int_equal(res.nphases, 3);
    assert_string_equal(res.phases[1].name, "");
    assert_string_equal(res.phases[2].name, "after?it");
}

/* ---- the host takes memory back ---- */
struct marks {
    uint64_t fixed[4];
    unsigned n;
};

static bool on_mark(void *ctx, struct image_vm *m, enum nb_call call, const struct nb_boot *copy)
{
    struct marks *marks = ctx;
    struct kvm_snapshot snap;
    if (call != NB_CALL_MARK || copy->value >= 4)
        return true;
    assert_true(kvm_vm_snapshot(m->vm, &snap));
    for (unsigned i = 0; i < m->vm->stats.n; i++)
        if (strcmp(m->vm->stats.stat[i].name, "pf_fixed") == 0)
            marks->fixed[copy->value] = snap.v[m->vm->stats.stat[i].first];
    marks->n++;
    return true;
}

static void test_discard(void **state)
{
    struct vm_config cfg = config();
    struct image_vm *m = NULL;
    struct marks marks = {0};
    uint64_t pages = 200;
    char err[256];
    (void)state;
    need_kvm();
    assert_int_equal(image_vm_new(&m, &cfg, err, sizeof err), NB_OK);
    enum outcome end =
        image_vm_run(m, "test:discard", &pages, 1, 1, on_mark, &marks, err, sizeof err);
    if (end != OUTCOME_OK)
        fail_msg("%s: %s", outcome_names[end], err);
    assert_int_equal(marks.n, 3);
    assert_int_equal(marks.fixed[3] - marks.fixed[2], pages);
    assert_null(backing_check(m->mem));
    image_vm_free(m);
}

/* ---- nothing is left of a VM ---- */
static unsigned open_files(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Also where making one fails: no 5 levels at the last step, too little memory at the first. */
static void test_no_leaks(void **state)
{
    struct vm_config cfg[3] = {config(), config(), config()};
    char err[256];
    (void)state;
    need_kvm();
    cfg[0].backing = BACKING_MEMFD;
    cfg[1].levels = 5;
    cfg[2].mem = 4ull << 20;
    unsigned before = open_files();
    uint64_t bytes = meta_bytes(META_HOST);
    for (unsigned i = 0; i < 6; i++) {
        struct image_vm *m = NULL;
        int code = image_vm_new(&m, &cfg[i % 3], err, sizeof err);
        assert_true(code == NB_OK || (i % 3 == 1 && code == NB_NODEVICE) ||
                    (i % 3 == 2 && code == NB_USAGE));
        image_vm_free(m);
    }
    assert_int_equal(open_files(), before);
    assert_int_equal(meta_bytes(META_HOST), bytes);
}

/* ---- an image that is not ours ---- */
static bool never(void *ctx, struct image_vm *m, enum nb_call call, const struct nb_boot *copy)
{
    (void)ctx, (void)m, (void)copy;
    fail_msg("unexpected call %d", (int)call);
    return false;
}

/* Run `code` instead of the image's first instructions, with boot.addr and boot.value set. */
static void run_code(const char *what, const char *code, size_t len, uint64_t addr, uint64_t value,
                     const char *text)
{
    struct vm_config cfg = config();
    struct image_vm *m = NULL;
    char err[512];
    cfg.timeout = 5;
    assert_int_equal(image_vm_new(&m, &cfg, err, sizeof err), NB_OK);
    const struct nb_image *h = (const void *)(m->mem->mem + IMAGE_GPA);
    memcpy(m->mem->mem + IMAGE_GPA + h->entry, code, len);
    m->boot->addr = addr;
    m->boot->value = value;
    memset(m->boot->text, 0xff, sizeof m->boot->text);
    enum outcome end = image_vm_run(m, "touch", NULL, 0, 1, never, NULL, err, sizeof err);
    if (end != OUTCOME_CRASHED || !strstr(err, text))
        fail_msg("%s: %s: %s; expected: %s", what, outcome_names[end], err, text);
    image_vm_free(m);
}

#define CALL(n) "\xb8" n "\0\0\0\xba\x42\x4e\0\0\xef" /* mov n,%eax; mov port,%edx; out */
#define RUN(what, code, addr, value, text) run_code(what, code, sizeof(code) - 1, addr, value, text)

static void test_crashes(void **state)
{
    const uint64_t mem = config().mem;
    (void)state;
    need_kvm();
    RUN("ud2 without an IDT", "\x0f\x0b", 0, 0, "0xffffffff8001");
    RUN("hlt", "\xf4", 0, 0, "hlt");
    RUN("a port of nobody", "\xba\x99\0\0\0\xef", 0, 0, "io");
    RUN("memory of nobody", "\x48\xb8\0\0\0\x10\x80\xff\xff\xff\x8b\0", 0, 0, "0x");
    RUN("an unknown call", CALL("\x63"), 0, 0, "call 99,");
    RUN("discard beyond memory", CALL("\x08"), mem, 4096, "it has not");
    RUN("discard with overflow", CALL("\x08"), 4096, ~0xfffull, "it has not");
    RUN("discard of half a page", CALL("\x08"), 0, 2048, "it has not");
    RUN("panic with a wild text", CALL("\x07"), 0, 0, "????");
}

/* ---- the hash reads tables that a guest may have written ---- */
static void test_hostile_tables(void **state)
{
    struct vm_config cfg = config();
    struct image_vm *m = NULL;
    struct nb_boot boot = {.nprocs = 1};
    char err[256];
    uint64_t hash;
    (void)state;
    need_kvm();
    assert_int_equal(image_vm_new(&m, &cfg, err, sizeof err), NB_OK);
    boot.procs[0].root = 0x400000;
    assert_true(image_vm_hash(m, &boot, &hash, NULL));
    uint64_t *root = (uint64_t *)(void *)(m->mem->mem + 0x400000);
    root[3] = 0x400000 | 7; /* itself, at three levels: one page in the end */
    assert_true(image_vm_hash(m, &boot, &hash, NULL));
    for (unsigned i = 0; i < 512; i++)
        root[i] = 0x400000 | 7; /* 2^35 pages */
    assert_false(image_vm_hash(m, &boot, &hash, NULL));
    memset(root, 0, PAGE_SIZE);
    root[3] = cfg.mem | 7; /* a table outside memory */
    assert_false(image_vm_hash(m, &boot, &hash, NULL));
    root[3] = NB_PTE_KEPT; /* a leaf where none can be */
    assert_false(image_vm_hash(m, &boot, &hash, NULL));
    root[3] = 0;
    boot.procs[0].root = 0x400008;
    assert_false(image_vm_hash(m, &boot, &hash, NULL));
    boot.nprocs = NB_MAX_PROCS + 1;
    assert_false(image_vm_hash(m, &boot, &hash, NULL));
    image_vm_free(m);
}

/* A guest kernel may say anything of its tables: outside of its memory there are none, wherever the sum wraps to. */
static void tables_outside_memory_have_no_hash(void **state)
{
    static unsigned char memory[16 * PAGE_SIZE];
    static const uint64_t roots[] = {~0xfffull, 1ull << 63, sizeof memory,
                                     sizeof memory - PAGE_SIZE + 1};
    struct backing mem = {.mem = memory, .bytes = sizeof memory};
    const struct vm_config cfg = {.levels = 4};
    const struct image_vm m = {.cfg = &cfg, .mem = &mem};
    struct nb_boot *copy = calloc(1, sizeof *copy);
    uint64_t hash, tables;
    (void)state;
    assert_non_null(copy);
    copy->nprocs = 1;
    assert_true(image_vm_hash(&m, copy, &hash, &tables)); /* an empty table at 0 */
    for (unsigned i = 0; i < ARRAY_SIZE(roots); i++) {
        copy->procs[0].root = roots[i];
        assert_false(image_vm_hash(&m, copy, &hash, &tables));
    }
    memory[2] = 0xf0, memory[0] = 1, memory[5] = 0xff; /* an entry far outside, present */
    copy->procs[0].root = 0;
    assert_false(image_vm_hash(&m, copy, &hash, &tables));
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_outside_memory_have_no_hash),
        cmocka_unit_test(test_same_as_model),
        cmocka_unit_test(test_page_sizes),
        cmocka_unit_test(test_fills),
        cmocka_unit_test(test_huge_host_pages),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_ring_3),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_discard),
        cmocka_unit_test(test_no_leaks),
        cmocka_unit_test(test_crashes),
        cmocka_unit_test(test_hostile_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
