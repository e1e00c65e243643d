/* test_equivalence.c: a guest cannot tell which machine it runs on.
 *
 * One random program of guest operations runs on many machines: every strategy, with different
 * TLBs, walk caches, tags and host pages, and with a host that moves frames below it. Whatever the
 * guest sees (results of its requests, faults and their error codes, contents, the accessed and
 * dirty bits of its tables) must be as on the plainest machine: native, one small TLB. Which frames its
 * kernel takes is compared too, among the machines with TEA registers and among those without:
 * with them it reserves frames for tables.
 *
 * Nor can its program tell on how many vCPUs its processes and threads run: each vCPU has a TLB of its
 * own, and only shootdowns keep it from what is no longer so. How much the kernel invalidates does
 * depend on them, and is compared between machines that have as many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/strategy.h"
#include "vmm/model.h"

enum { MAX_STEPS = 300, MAX_PIDS = 64, MAX_REGIONS = 24, MAX_LIVE = 5 };

struct region {
    gva_t start;
    uint64_t len;
    bool global;
};

struct space {
    bool live;
    unsigned n;
    struct region r[MAX_REGIONS];
};

/* The program and what it saw: one hash per step, so that a difference names its step. */
struct program_state {
    struct user *u;
    struct rng rng;
    int pid;
    unsigned nlive, step;
    uint64_t seen, log[MAX_STEPS], invalidated[MAX_STEPS];
    uint64_t frames, place[MAX_STEPS]; /* where pages are */
    bool teas;                         /* the machine has TEA registers */
    struct space space[MAX_PIDS];
};

static void see(struct program_state *p, uint64_t what)
{
    p->seen = (p->seen ^ what) * 0x9e3779b97f4a7c15ull;
    p->seen ^= p->seen >> 29;
}

static void see_frame(struct program_state *p, uint64_t f)
{
    p->frames = (p->frames ^ f) * 0x9e3779b97f4a7c15ull;
}

static struct space *here(struct program_state *p) { return &p->space[p->pid]; }
static uint64_t draw(struct program_state *p, uint64_t n) { return rng_below(&p->rng, n); }

static void map(struct program_state *p)
{
    static const unsigned sizes[] = {0, GK_4K, GK_2M, GK_2M}, more[] = {0, 0, GK_SHARED, GK_GLOBAL};
    struct space *s = here(p);
    unsigned size = sizes[draw(p, 4)], flags = size | more[draw(p, 4)];
    uint64_t len = size == GK_2M ? (1 + draw(p, 2)) << 21 : (1 + draw(p, 600)) << 12;
    flags |= draw(p, 8) ? 0 : GK_POPULATE;
    if (s->n == MAX_REGIONS)
        return;
    /* Far apart, so that tables of every level come and go with their process. */
    gva_t at = 0,
          hint = draw(p, 3) ? (1 + draw(p, 3)) << 39 | draw(p, 3) << 30 | draw(p, 3) << 23 : 0;
    int r = u_mmap(p->u, hint, len, GK_READ | GK_WRITE, flags, &at);
    see(p, (uint64_t)r), see(p, at);
    if (r == GK_OK)
        s->r[s->n++] = (struct region){at, len, flags & GK_GLOBAL};
}

/* A part of a region: all of it, or some pages. */
static struct region part(struct program_state *p, const struct region *r)
{
    uint64_t pages = r->len >> 12, first = draw(p, pages), n = 1 + draw(p, pages - first);
    return draw(p, 2) ? *r : (struct region){r->start + (first << 12), n << 12, r->global};
}

static void unmap(struct program_state *p)
{
    struct space *s = here(p);
    if (!s->n)
        return;
    unsigned i = (unsigned)draw(p, s->n);
    struct region cut = part(p, &s->r[i]);
    int r = u_munmap(p->u, cut.start, cut.len);
    see(p, (uint64_t)r);
    if (r == GK_OK && cut.len == s->r[i].len) /* a hole stays: touching it is a fault to see */
        s->r[i] = s->r[--s->n];
}

static void protect(struct program_state *p)
{
    static const unsigned prot[] = {0, GK_READ, GK_READ | GK_WRITE};
    struct space *s = here(p);
    if (!s->n)
        return;
    struct region cut = part(p, &s->r[draw(p, s->n)]);
    if (cut.global) /* repair() could not give the rights back once there are two processes */
        return;
    see(p, (uint64_t)u_mprotect(p->u, cut.start, cut.len, prot[draw(p, 3)]));
}

static void fork_or_exit(struct program_state *p)
{
    int child = 0;
    if (p->nlive < MAX_LIVE && draw(p, 2)) {
        int r = u_fork(p->u, &child);
        see(p, (uint64_t)r), see(p, (uint64_t)child);
        if (r == GK_OK && child < MAX_PIDS) {
            p->space[child] = *here(p);
            p->nlive++;
        }
        return;
    }
    int pid = (int)draw(p, MAX_PIDS);
    if (pid <= 1 || !p->space[pid].live)
        pid = p->pid;
    if (pid <= 1)
        return;
    see(p, (uint64_t)u_exit(p->u, pid));
    p->space[pid].live = false;
    p->nlive--;
    p->pid = pid == p->pid ? 1 : p->pid;
}

static void change(struct program_state *p)
{
    int pid = (int)draw(p, MAX_PIDS);
    while (!p->space[pid].live)
        pid = (pid + 1) % MAX_PIDS;
    see(p, (uint64_t)u_switch(p->u, pid));
    p->pid = pid;
}

/* Go on as a thread of the same process on another vCPU, if there is one. */
static void thread(struct program_state *p) { u_cpu(p->u, (unsigned)draw(p, 24)); }

static void touch(struct program_state *p)
{
    struct space *s = here(p);
    if (!s->n)
        return;
    const struct region r = s->r[draw(p, s->n)];
    gva_t near = r.start + draw(p, r.len);
    for (uint64_t n = 1 + draw(p, 48); n; n--) {
        gva_t a = n & 3 ? r.start + (near + draw(p, 64 << 12)) % r.len : near;
        a &= ~7ull;
        if (draw(p, 2))
            see(p, ld64(p->u, a));
        else
            st64(p->u, a, draw(p, 1 << 20));
    }
}

/* The program touched a hole or what it had protected: note it and make it usable. */
static int repair(struct user *u, gva_t va, unsigned error)
{
    struct program_state *p = u->ctx;
    gva_t page = va & ~PAGE_MASK, at;
    see(p, va), see(p, error);
    if (u_mprotect(u, page, PAGE_SIZE, GK_READ | GK_WRITE) == GK_OK)
        return 0;
    int r = u_mmap(u, page, PAGE_SIZE, GK_READ | GK_WRITE, GK_FIXED | GK_4K, &at);
    if (r != GK_OK) /* a global page may not be changed now */
        fail_msg("repair of 0x%lx: %d", (unsigned long)va, r);
    return 0;
}

/* The host moves some guest frames, as swap or migration would: contents survive, places do not.
 * A machine without a host has nothing that could do so. */
static void move(struct program_state *p)
{
    struct gmem *g = p->u->hw->gm;
    uint64_t n = 1 + draw(p, 24), first = draw(p, g->frames / 2);
    static unsigned char saved[24][PAGE_SIZE];
    bool was[24] = {0};
    if (g->fixed)
        return;
    for (uint64_t i = 0; i < n; i++) {
        was[i] = gmem_state(g, gfn(first + i)) == PG_RESIDENT;
        if (was[i])
            memcpy(saved[i], gmem_ptr(g, (first + i) << PAGE_SHIFT), PAGE_SIZE);
    }
    gmem_discard(g, gfn(first), n);
    for (uint64_t i = n; i-- > 0;)
        if (was[i]) {
            assert_int_equal(gmem_fault(g, gfn(first + i)), GMEM_OK);
            memcpy(gmem_ptr(g, (first + i) << PAGE_SHIFT), saved[i], PAGE_SIZE);
        }
}

/* A global page that one process used is in the TLB for all: whether the others' entries are marked
 * depends on what the TLB still holds. */
static void see_page(void *ctx, int pid, gva_t va, gfn_t g, unsigned order, uint64_t pte)
{
    struct program_state *p = ctx;
    see(p, (uint64_t)pid << 48 | va), see(p, order), see_frame(p, g.n);
    pte &= ~PTE_ADDR;
    see(p, pte & PTE_G ? pte & ~(PTE_A | PTE_D) : pte);
}

static void step(struct program_state *p)
{
    uint64_t what = draw(p, 100);
    if (what < 8)
        map(p);
    else if (what < 12)
        unmap(p);
    else if (what < 18)
        protect(p);
    else if (what < 22)
        fork_or_exit(p);
    else if (what < 30)
        change(p);
    else if (what < 34)
        move(p);
    else if (what < 42)
        thread(p);
    else
        touch(p);
}

static void random_program(struct program_state *p, unsigned steps)
{
    struct hw *h = p->u->hw;
    p->u->ctx = p;
    p->u->on_segv = repair;
    p->pid = p->nlive = 1;
    p->space[1].live = true;
    for (p->step = 0; p->step < steps; p->step++) {
        step(p);
        struct counters c;
        model_counters(h, &c);
        see(p, c.guest_faults), see(p, c.guest_pt_writes);
        see(p, c.guest_pt_bytes), see(p, c.accesses);
        p->invalidated[p->step] =
            c.guest_invlpgs + 1000003 * c.guest_cr3_loads + 1000000000039 * c.guest_ipis;
        if (p->step % 50 == 0 || p->step + 1 == steps)
            gk_for_each_page(h->kernel, see_page, p);
        p->log[p->step] = p->seen;
        p->place[p->step] = p->frames;
        const char *why = p->step % 100 == 99 ? model_check(h) : NULL;
        if (why)
            fail_msg("step %u: %s", p->step, why);
    }
}

struct machine {
    const char *paging, *cpu; /* a strategy, and parameters of it: "shsp window=64" */
    int pcid, vpid;           /* -1: as the preset says */
    enum page_mode host_page;
    unsigned levels;
};

/* Escape filters of direct segments: one that takes most pages for escapes, and one with many pages that
 * must escape. */
#define SMALL_FILTER " filter_bits=64 filter_hashes=1"
#define BAD_PAGES " filter_bits=16384 filter_hashes=3 escape_ppm=300000"

/* In every other pair of seeds the guest makes primary regions for direct segments, on every machine. */
static uint64_t segment_bytes(uint64_t seed) { return seed % 4 < 2 ? 1ull << 40 : 64 << 10; }

static void run_on(const struct machine *m, unsigned vcpus, uint64_t seed, unsigned steps,
                   struct program_state *p)
{
    char err[512] = "";
    int code;
    const struct cpu *preset = cpu_load(m->cpu, err, sizeof err, &code);
    assert_non_null(preset);
    struct cpu cpu = *preset;
    cpu.pcid = m->pcid < 0 ? cpu.pcid : m->pcid;
    cpu.vpid = m->vpid < 0 ? cpu.vpid : m->vpid;
    uint64_t params[MAX_PARAMS];
    struct vm_config cfg = {.paging = strategy(m->paging, params),
                            .paging_params = params,
                            .segment_bytes = segment_bytes(seed),
                            .cpu = &cpu,
                            .host_page = m->host_page,
                            .guest_page = PAGES_THP,
                            .levels = m->levels,
                            .host_levels = m->levels,
                            .mem = 96ull << 20,
                            .host_mem = 256ull << 20,
                            .vcpus = vcpus,
                            .flush_ceiling = 33};
    struct hw *h = meta_calloc(META_MMU, 1, sizeof *h);
    struct result res = {0};
    memset(p, 0, sizeof *p);
    rng_seed(&p->rng, seed);
    if (setjmp(h->end) == 0) {
        assert_int_equal(model_boot(h, &cfg, &res, err, sizeof err), NB_OK);
        p->u = &h->user;
        p->teas = h->mvm->paging->tea_registers != NULL;
        random_program(p, steps);
    }
    if (res.outcome != OUTCOME_OK)
        fail_msg("%s on %s, step %u: %s", m->paging, m->cpu, p->step, res.detail);
    struct counters c;
    model_counters(h, &c);
    if (!c.unseen[CTR_mode_switches])
        assert_true(c.mode_switches > 2);
    model_free(h);
    meta_free(META_MMU, h);
    cpu_free(preset);
}

/* Switching as often as it can. */
#define SHSP "shsp window=64 patience=0 walk_extra=1000"
#define AGILE "agile interval=64"

#define FEW "shadow-lazy pages=16" /* recycling all the time */
#define RESYNC FEW " resync=1"
#define SINGLE "shadow-pv batch=1"

static const struct machine machines[] = {
    {"native", "plain", 0, 1, PAGES_4K, 4},
    {"native", "skx", -1, -1, PAGES_4K, 4},
    {"native", "zen3", -1, -1, PAGES_4K, 4},
    {"native", "dmt-ref", -1, -1, PAGES_4K, 5},
    {"native", "zen4", 0, 1, PAGES_4K, 4},
    {"native", "plain", 1, 1, PAGES_4K, 4},
    {"shadow", "plain", 0, 1, PAGES_4K, 4},
    {"shadow", "plain", 1, 0, PAGES_2M, 4},
    {"shadow", "skx", -1, -1, PAGES_THP, 4},
    {"shadow", "zen3", -1, -1, PAGES_4K, 4},
    {"shadow", "dmt-ref", 0, 0, PAGES_4K, 5},
    {"shadow", "icx", -1, -1, PAGES_4K, 4},
    {"shadow-kvm", "plain", 0, 1, PAGES_4K, 4},
    {"shadow-kvm", "skx", -1, -1, PAGES_THP, 4},
    {"shadow-kvm", "zen3", 1, -1, PAGES_4K, 4},
    {"shadow-kvm", "icx", -1, -1, PAGES_4K, 5},
    {"shadow-kvm", "plain", 1, 0, PAGES_2M, 5},
    {"shadow-pvm", "plain", 0, 1, PAGES_4K, 4},
    {"shadow-pvm", "skx", -1, -1, PAGES_THP, 4},
    {"shadow-pvm", "icx", -1, -1, PAGES_4K, 5},
    {"shadow-lazy", "plain", 0, 1, PAGES_4K, 4},
    {"shadow-lazy", "plain", 1, 0, PAGES_2M, 4},
    {"shadow-lazy", "skx", -1, -1, PAGES_THP, 4},
    {"shadow-lazy", "zen3", -1, -1, PAGES_4K, 4},
    {"shadow-lazy", "icx", -1, -1, PAGES_4K, 5},
    {"shadow-lazy", "dmt-ref", 0, 0, PAGES_THP, 5},
    {FEW, "icx", -1, -1, PAGES_4K, 4},
    {RESYNC, "plain", 0, 1, PAGES_4K, 4},
    {RESYNC, "plain", 1, 0, PAGES_2M, 4},
    {RESYNC, "skx", -1, -1, PAGES_THP, 4},
    {RESYNC, "zen3", 0, 1, PAGES_THP, 5},
    {SINGLE, "plain", 0, 1, PAGES_THP, 4},
    {"shadow-pv", "plain", 0, 1, PAGES_4K, 4},
    {"shadow-pv", "plain", 1, 0, PAGES_2M, 4},
    {"shadow-pv", "skx", -1, -1, PAGES_THP, 4},
    {"shadow-pv", "zen3", -1, -1, PAGES_4K, 4},
    {"shadow-pv", "icx", -1, -1, PAGES_4K, 5},
    {"shadow-pv", "dmt-ref", 0, 0, PAGES_THP, 5},
    {"ept", "plain", 0, 1, PAGES_4K, 4},
    {"ept", "plain", 1, 1, PAGES_2M, 4},
    {"ept", "skx", -1, -1, PAGES_4K, 4},
    {"ept", "skx", -1, 0, PAGES_THP, 4},
    {"ept", "zen3", -1, -1, PAGES_4K, 4},
    {"ept", "zen4", -1, -1, PAGES_2M, 5},
    {"ept", "dmt-ref", 1, 1, PAGES_4K, 4},
    {"ept", "icx", -1, -1, PAGES_4K, 5},
    {"ept-flat", "plain", 0, 1, PAGES_4K, 4},
    {"ept-flat", "skx", -1, -1, PAGES_THP, 4},
    {"ept-flat", "zen3", -1, 0, PAGES_2M, 4},
    {"ept-flat", "icx", 1, -1, PAGES_4K, 5},
    {"dmt-native", "plain", 0, 1, PAGES_4K, 4},
    {"dmt-native", "skx", -1, -1, PAGES_4K, 5},
    {"dmt-native", "zen3", 1, -1, PAGES_4K, 4},
    {"dmt", "plain", 0, 1, PAGES_4K, 4},
    {"dmt", "skx", -1, -1, PAGES_THP, 5},
    {"dmt", "zen3", -1, 0, PAGES_2M, 4},
    {"dmt registers=2", "dmt-ref", 1, 1, PAGES_4K, 4},
    {"pvdmt", "plain", 0, 1, PAGES_4K, 4},
    {"pvdmt", "skx", -1, -1, PAGES_THP, 4},
    {"pvdmt", "zen3", -1, 0, PAGES_2M, 4},
    {"pvdmt", "icx", 1, -1, PAGES_4K, 5},
    {"pvdmt registers=3", "zen4", -1, -1, PAGES_THP, 5},
    {"ecpt", "plain", 0, 1, PAGES_4K, 4},
    {"ecpt", "skx", -1, -1, PAGES_THP, 4},
    {"ecpt", "zen3", -1, 0, PAGES_2M, 4},
    {"ecpt ways=4", "dmt-ref", 1, 1, PAGES_4K, 5},
    {"ept-kvm", "plain", 0, 1, PAGES_4K, 4},
    {"ept-kvm", "skx", -1, -1, PAGES_4K, 4},
    {"ept-kvm", "zen3", -1, -1, PAGES_THP, 4},
    {"ept-kvm", "icx", 1, 0, PAGES_4K, 5},
    {SHSP " start=1", "plain", 0, 1, PAGES_4K, 4},
    {SHSP, "skx", -1, -1, PAGES_THP, 4},
    {SHSP, "zen3", -1, -1, PAGES_2M, 5},
    {SHSP, "dmt-ref", 1, 0, PAGES_4K, 4},
    {SHSP " start=1", "icx", -1, -1, PAGES_4K, 5},
    {"dseg-vmm", "plain", 0, 1, PAGES_4K, 4},
    {"dseg-vmm", "skx", -1, 0, PAGES_2M, 5},
    {"dseg-vmm" SMALL_FILTER, "zen3", -1, -1, PAGES_THP, 4},
    {"dseg-guest", "plain", 0, 1, PAGES_4K, 4},
    {"dseg-guest", "icx", -1, 0, PAGES_THP, 5},
    {"dseg-guest" BAD_PAGES, "zen3", 1, -1, PAGES_4K, 4},
    {"dseg", "plain", 1, 0, PAGES_4K, 5},
    {"dseg", "zen4", -1, -1, PAGES_2M, 4},
    {"dseg" SMALL_FILTER, "dmt-ref", 0, 1, PAGES_4K, 4},
    {"dseg" BAD_PAGES, "skx", -1, -1, PAGES_4K, 4},
    {AGILE, "plain", 0, 1, PAGES_4K, 4},
    {AGILE, "skx", -1, -1, PAGES_THP, 4},
    {AGILE " start=1", "zen3", -1, -1, PAGES_4K, 4},
    {AGILE, "dmt-ref", 1, 0, PAGES_2M, 4},
    {AGILE, "icx", -1, -1, PAGES_4K, 5},
    {AGILE " writes=1", "zen4", -1, -1, PAGES_2M, 5},
    {AGILE " start=1", "plain", 1, 1, PAGES_THP, 5},
};

enum { SEEDS = 2, STEPS = MAX_STEPS };

static void compare(const uint64_t *a, const uint64_t *b, const char *who, uint64_t seed,
                    const struct machine *m, unsigned vcpus)
{
    for (unsigned k = 0; k < STEPS; k++)
        if (a[k] != b[k])
            fail_msg("seed %u: the %s differs at step %u: %s, %s, %u vCPUs", (unsigned)seed, who, k,
                     m->paging, m->cpu, vcpus);
}

static void a_guest_sees_the_same_on_every_machine(void **state)
{
    (void)state;
    static struct program_state reference, teas, p;
    for (unsigned n = 0; n < 2 * SEEDS; n++) {
        struct machine plainest = machines[0];
        plainest.levels = 4 + n % 2;
        run_on(&plainest, 1, n, STEPS, &reference);
        plainest.paging = "dmt-native";
        run_on(&plainest, 1, n, STEPS, &teas);
        for (unsigned i = 1; i < ARRAY_SIZE(machines); i++) {
            const struct machine *m = &machines[i];
            if (m->levels != plainest.levels)
                continue;
            run_on(m, 1, n, STEPS, &p);
            compare(p.log, reference.log, "program", n, m, 1);
            compare(p.invalidated, reference.invalidated, "kernel", n, m, 1);
            compare(p.place, p.teas ? teas.place : reference.place, "kernel's choice", n, m, 1);
        }
    }
}

static void a_program_cannot_tell_the_number_of_vcpus(void **state)
{
    (void)state;
    static const unsigned vcpus[] = {2, 3, 8};
    static struct program_state one, reference, p;
    for (unsigned n = 0; n < 2 * ARRAY_SIZE(vcpus); n++) {
        struct machine plainest = machines[0];
        unsigned v = vcpus[n / 2];
        plainest.levels = 4 + n % 2;
        run_on(&plainest, 1, n, STEPS, &one);
        run_on(&plainest, v, n, STEPS, &reference);
        compare(reference.log, one.log, "program", n, &plainest, v);
        assert_true(reference.invalidated[STEPS - 1] >= 1000000000039); /* there were IPIs */
        for (unsigned i = 1; i < ARRAY_SIZE(machines); i++) {
            const struct machine *m = &machines[i];
            if (m->levels != plainest.levels)
                continue;
            run_on(m, v, n, STEPS, &p);
            compare(p.log, one.log, "program", n, m, v);
            compare(p.invalidated, reference.invalidated, "kernel", n, m, v);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guest_sees_the_same_on_every_machine),
        cmocka_unit_test(a_program_cannot_tell_the_number_of_vcpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
