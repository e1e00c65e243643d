/* engine_model.c: engine `model`: an exact software MMU under the guest kernel.
 *
 * The guest kernel and the program are compiled for the host; each privileged step (hw_*) and each
 * load and store is a call into the MMU. The kernel's own accesses through its direct map are not
 * modelled as accesses: they count as events (table writes) and as first touches of a frame,
 * nothing else.
 *
 * A run that cannot go on (no frames, segmentation fault) is left by longjmp from wherever it is to
 * model_run(): the machine is then only read for its counters and freed.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/hash.h"
#include "vmm/model.h"

const char *const outcome_names[] = {"ok",      "host_oom", "guest_oom", "guest_segv",
                                     "aborted", "crashed",  "timeout"};

void model_end(struct hw *h, enum outcome outcome, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(h->res->detail, sizeof h->res->detail, fmt, ap);
    va_end(ap);
    h->res->outcome = outcome;
    longjmp(h->end, 1);
}

/* ---- what the MMU asks ---- */

static void on_fault(void *ctx, gva_t va, unsigned error)
{
    struct hw *h = ctx;
    int r = gk_fault(h->kernel, va, error);
    gk_return(h->kernel);
    mmu_guest_return(h->mmu);
    if (r == GK_OK) {
        h->mmu->c.guest_faults++;
        return;
    }
    if (r == GK_SEGV && h->refused) {
        h->refused_error = error;
        longjmp(*h->refused, 1);
    }
    if (r == GK_ENOMEM)
        model_end(h, OUTCOME_GUEST_OOM,
                  "the guest has no free memory for gva 0x%llx; give it more with --mem",
                  (unsigned long long)va);
    if (!h->user.on_segv || h->user.on_segv(&h->user, va, error) != 0)
        model_end(h, OUTCOME_GUEST_SEGV,
                  "the program touched gva 0x%llx (error 0x%x), which it has not mapped so",
                  (unsigned long long)va, error);
}

static __attribute__((noreturn)) void on_no_frames(void *ctx)
{
    struct hw *h = ctx;
    char host[24], guest[24];
    model_end(h, OUTCOME_HOST_OOM,
              "the host ran out of frames: --host-mem %s for a guest of %s; %llu frames hold guest "
              "memory, %llu tables. "
              "Raise --host-mem, or use smaller --host-page",
              format_size(h->cfg->host_mem, host, sizeof host),
              format_size(h->cfg->mem, guest, sizeof guest),
              (unsigned long long)host_used(h->host, FRAME_GUEST),
              (unsigned long long)host_used(h->host, FRAME_TABLE));
}

static __attribute__((noreturn)) void on_no_progress(void *ctx, gva_t va)
{
    model_end(
        ctx, OUTCOME_ABORTED,
        "the access to gva 0x%llx can never complete: the guest maps its own page table there",
        (unsigned long long)va);
}

/* One line of --set run.events=FILE: accesses so far, phase, what, address, value; with more than one
 * vCPU, which. */
static void on_event(void *ctx, unsigned vcpu, const char *what, uint64_t addr, uint64_t value)
{
    struct hw *h = ctx;
    unsigned phase = h->res->nphases;
    uint64_t accesses = 0;
    for (unsigned i = 0; h->mvm && i < h->mvm->nvcpus; i++)
        accesses += h->mvm->vcpu[i]->hot.count[0] + h->mvm->vcpu[i]->hot.count[1];
    fprintf(h->cfg->events, "%llu\t%s\t%s\t0x%llx\t0x%llx", (unsigned long long)accesses,
            phase ? h->res->phases[phase - 1].name : "boot", what, (unsigned long long)addr,
            (unsigned long long)value);
    if (h->cfg->vcpus > 1)
        fprintf(h->cfg->events, "\t%u", vcpu);
    fputc('\n', h->cfg->events);
}

static const struct mmu_ops quiet_ops = {on_fault, on_no_frames, on_no_progress, NULL};
static const struct mmu_ops event_ops = {on_fault, on_no_frames, on_no_progress, on_event};

static void on_zap(void *ctx, gfn_t first, uint64_t n)
{
    struct hw *h = ctx;
    if (!h->mvm)
        return;
    if (h->cfg->events)
        on_event(h, h->mvm->running, "zap", gfn_gpa(first), n);
    h->mvm->paging->zap(h->mvm, first, n);
}

static const struct gmem_ops gmem_ops = {on_zap};

/* ---- guest/hw.h ---- */

/* A table the kernel has not written yet reads as zero without being backed. */
uint64_t hw_pt_read(struct hw *h, gpa_t a)
{
    if (h->mvm->paging->guest_pt_read)
        h->mvm->paging->guest_pt_read(h->mmu, a);
    return gmem_state(h->gm, gpa_gfn(a)) == PG_RESIDENT ? *(uint64_t *)gmem_ptr(h->gm, a) : 0;
}

void hw_pt_write(struct hw *h, gpa_t a, uint64_t entry) { mmu_guest_pt_write(h->mmu, a, entry); }

void hw_zero_page(struct hw *h, gfn_t g)
{
    mmu_guest_touch(h->mmu, g, true);
    memset(gmem_ptr(h->gm, gfn_gpa(g)), 0, PAGE_SIZE);
}

void hw_copy_page(struct hw *h, gfn_t dst, gfn_t src)
{
    mmu_guest_touch(h->mmu, src, false);
    mmu_guest_touch(h->mmu, dst, true);
    memcpy(gmem_ptr(h->gm, gfn_gpa(dst)), gmem_ptr(h->gm, gfn_gpa(src)), PAGE_SIZE);
}

void hw_load_cr3(struct hw *h, uint64_t cr3) { mmu_guest_cr3(h->mmu, cr3); }
void hw_invlpg(struct hw *h, gva_t va) { mmu_guest_invlpg(h->mmu, va); }

void hw_load_teas(struct hw *h, const struct tea *t, unsigned n)
{
    h->mvm->paging->guest_teas(h->mmu, t, n);
}

uint64_t hw_tea_alloc(struct hw *h, gfn_t first, uint64_t n)
{
    const struct paging *p = h->mvm->paging;
    return p->guest_tea_alloc ? p->guest_tea_alloc(h->mmu, first, n) : 0;
}

void hw_tea_free(struct hw *h, uint64_t id) { h->mvm->paging->guest_tea_free(h->mmu, id); }

_Static_assert((int)GK_MAX_CPUS == (int)MAX_VCPUS, "the kernel and the MMU count as far");

/* What the kernel did on the vCPU that it leaves is done: its thread goes on. */
void hw_run_on(struct hw *h, unsigned cpu)
{
    mmu_guest_return(h->mmu);
    h->mvm->running = cpu;
    h->mmu = h->user.mmu = h->mvm->vcpu[cpu];
}

void hw_ipi(struct hw *h, uint64_t cpus)
{
    h->mmu->c.guest_shootdowns++;
    for (; cpus; cpus &= cpus - 1)
        mmu_guest_ipi(h->mmu, h->mvm->vcpu[__builtin_ctzll(cpus)]);
}

void hw_segment(struct hw *h, gpa_t root, const struct hw_segment *s)
{
    if (h->mvm->paging->guest_segment)
        h->mvm->paging->guest_segment(h->mvm, root, s);
}
void hw_segment_escape(struct hw *h, gpa_t root, gva_t va, uint64_t bytes, bool escape)
{
    if (h->mvm->paging->guest_segment_escape)
        h->mvm->paging->guest_segment_escape(h->mvm, root, va, bytes, escape);
}

void *hw_kmem(struct hw *h, size_t bytes)
{
    bytes = ALIGN_UP(bytes, 16);
    if (bytes > h->kmem_left)
        return NULL;
    h->kmem_left -= bytes;
    struct kmem_chunk *c = meta_calloc(META_GUEST, 1, bytes + 16);
    c->next = h->kmem;
    h->kmem = c;
    return (char *)c + 16;
}

/* ---- vmm/user.h ---- */

static struct hw *machine(struct user *u) { return u->hw; }

/* A system call returns to the program. */
static int back(struct user *u, int result)
{
    gk_return(machine(u)->kernel);
    mmu_guest_return(machine(u)->mmu);
    return result;
}

int u_mmap(struct user *u, gva_t hint, uint64_t len, unsigned prot, unsigned flags, gva_t *out)
{
    return back(u, gk_mmap(machine(u)->kernel, hint, len, prot, flags, out));
}
int u_munmap(struct user *u, gva_t a, uint64_t len)
{
    return back(u, gk_munmap(machine(u)->kernel, a, len));
}
int u_mprotect(struct user *u, gva_t a, uint64_t len, unsigned prot)
{
    return back(u, gk_mprotect(machine(u)->kernel, a, len, prot));
}
int u_fork(struct user *u, int *child) { return back(u, gk_fork(machine(u)->kernel, child)); }
int u_exit(struct user *u, int pid) { return back(u, gk_exit(machine(u)->kernel, pid)); }
int u_switch(struct user *u, int pid) { return back(u, gk_switch(machine(u)->kernel, pid)); }
void u_cpu(struct user *u, unsigned cpu)
{
    const struct mmu *was = machine(u)->mmu;
    gk_run_on(machine(u)->kernel, cpu);
    if (machine(u)->mmu != was)
        back(u, GK_OK);
}

gva_t u_alloc(struct user *u, uint64_t len)
{
    gva_t a = 0;
    int r = u_mmap(u, 0, len, GK_READ | GK_WRITE, 0, &a);
    if (r != GK_OK)
        model_end(machine(u), OUTCOME_GUEST_OOM,
                  "the guest cannot map %llu bytes (error %d); give it more with --mem",
                  (unsigned long long)len, r);
    return a;
}

/* An access that is refused is left from within the MMU, as an exception leaves it. */
static bool try(struct user *u, gva_t a, uint64_t *value, bool store, unsigned *error)
{
    struct hw *h = machine(u);
    jmp_buf refused;
    if (setjmp(refused)) {
        h->refused = NULL;
        *error = h->refused_error;
        return false;
    }
    h->refused = &refused;
    if (store)
        st64(u, a, *value);
    else
        *value = ld64(u, a);
    h->refused = NULL;
    return true;
}
bool u_try_load(struct user *u, gva_t a, uint64_t *value, unsigned *error)
{
    return try(u, a, value, false, error);
}
bool u_try_store(struct user *u, gva_t a, uint64_t value, unsigned *error)
{
    return try(u, a, &value, true, error);
}

void u_abort(struct user *u, const char *why) { model_end(machine(u), OUTCOME_ABORTED, "%s", why); }

void model_counters(struct hw *h, struct counters *c)
{
    mmu_counters(h->mvm, c);
    c->guest_pt_bytes = h->kernel ? gk_pt_bytes(h->kernel) : 0;
    model_balloon_count(h, c);
}

static void close_phase(struct hw *h)
{
    struct result *r = h->res;
    struct counters now;
    if (!h->in_phase)
        return;
    model_counters(h, &now);
    counters_delta(&r->phases[r->nphases - 1].counters, &now, &h->phase_start);
    h->phase_start = now;
    h->in_phase = false;
}

/* Phases beyond MAX_PHASES go on in the last one. */
void u_phase(struct user *u, const char *name)
{
    struct hw *h = machine(u);
    if (h->in_phase && h->res->nphases == MAX_PHASES)
        return;
    close_phase(h);
    snprintf(h->res->phases[h->res->nphases++].name, sizeof h->res->phases[0].name, "%s", name);
    h->in_phase = true;
    model_balloon_phase(h, name);
}

/* ---- life of a machine ---- */

uint64_t vm_segment_bytes(const struct vm_config *c)
{
    return c->segment_bytes ? c->segment_bytes
                            : REG_FIND(paging, c->paging)->guest_wants.segment_bytes;
}

static int boot_kernel(struct hw *h, char *err, size_t errlen)
{
    const struct vm_config *c = h->cfg;
    uint64_t reserved = gk_reserved_bytes(c->mem);
    struct gk_config gc = {
        .mem_bytes = c->mem,
        .reserved_bytes = reserved,
        .levels = c->levels,
        .pages = c->guest_page,
        .pcid = c->cpu->pcid,
        .flush_ceiling = c->flush_ceiling,
        .cpus = c->vcpus,
        .balloon = c->balloon,
        .balloon_order = c->balloon ? c->balloon->order : 0,
        .balloon_report_order = c->balloon ? c->balloon->report_order : 0,
        .segment_bytes = vm_segment_bytes(c),
        .tea_registers = h->mvm->paging->tea_registers ? h->mvm->paging->tea_registers(h->mvm) : 0};
    h->kmem_left = reserved - (1ull << SHIFT_2M); /* the rest is the image's (gk_reserved_bytes) */
    if (reserved < c->mem)
        h->kernel = gk_boot(h, &gc);
    if (h->kernel)
        return NB_OK;
    char size[24];
    snprintf(err, errlen, "a guest of %s is too small for its kernel: try --mem 64M",
             format_size(c->mem, size, sizeof size));
    return NB_USAGE;
}

int model_boot(struct hw *h, const struct vm_config *cfg, struct result *res, char *err,
               size_t errlen)
{
    const struct paging *p = REG_FIND(paging, cfg->paging);
    int code = NB_USAGE;
    h->cfg = cfg;
    h->res = res;
    if (!p) {
        snprintf(err, errlen, "no paging strategy '%s'", cfg->paging);
        return NB_USAGE;
    }
    h->host = host_new(cfg->host_mem, &cfg->numa, err, errlen, &code);
    if (!h->host)
        return code;
    h->gm = gmem_new(h->host, cfg->mem, cfg->host_page, &gmem_ops, h);
    h->mvm = mmu_vm_new(p, cfg->paging_params, cfg->cpu, h->host, h->gm, cfg->levels,
                        cfg->host_levels, cfg->events ? &event_ops : &quiet_ops, h, err, errlen);
    if (!h->mvm) {
        model_end(h, OUTCOME_HOST_OOM, "%s; raise --host-mem", err);
    }
    for (unsigned i = 0; i == 0 || i < cfg->vcpus; i++)
        mmu_add_vcpu(h->mvm);
    h->mmu = h->mvm->vcpu[0];
    h->user = (struct user){.mmu = h->mmu, .hw = h};
    rng_seed(&h->user.rng, cfg->seed);
    u_phase(&h->user, "boot");
    model_balloon_new(h);
    return boot_kernel(h, err, errlen);
}

void model_free(struct hw *h)
{
    model_balloon_free(h);
    if (h->mvm)
        mmu_vm_free(h->mvm);
    if (h->gm)
        gmem_free(h->gm);
    host_free(h->host);
    while (h->kmem) {
        struct kmem_chunk *c = h->kmem;
        h->kmem = c->next;
        meta_free(META_GUEST, c);
    }
}

const char *model_check(struct hw *h)
{
    const char *why = h->kernel ? gk_check(h->kernel) : NULL;
    for (unsigned i = 0; i < h->mvm->nvcpus && !why; i++)
        why = mmu_check(h->mvm->vcpu[i]);
    if (!why && h->mvm->paging->check)
        why = h->mvm->paging->check(h->mvm);
    if (!why)
        why = gmem_check(h->gm);
    if (!why && h->balloon)
        why = balloon_check(h->balloon);
    return why ? why : host_check(h->host);
}

struct hash_ctx {
    struct gmem *gm;
    struct memory_hash *memory, *tables; /* NULL: not asked for */
};

/* A page never backed holds zeroes. */
static void hash_page(void *ctx, int pid, gva_t va, gfn_t g, unsigned order, uint64_t pte)
{
    struct hash_ctx *c = ctx;
    if (c->tables)
        memory_hash_leaf(c->tables, pid, va, order, pte);
    for (uint64_t i = 0; i < 1ull << order; i++) {
        gfn_t f = gfn(g.n + i);
        bool there = gmem_state(c->gm, f) == PG_RESIDENT;
        memory_hash_page(c->memory, pid, va + (i << PAGE_SHIFT),
                         there ? gmem_ptr(c->gm, gfn_gpa(f)) : NULL);
    }
}

bool model_hash(struct hw *h, uint64_t *memory, uint64_t *tables)
{
    struct hash_ctx c = {h->gm, memory_hash_new(), tables ? memory_hash_new() : NULL};
    bool ok = c.memory && (c.tables || !tables);
    if (ok)
        gk_for_each_page(h->kernel, hash_page, &c);
    if (c.memory)
        *memory = memory_hash_end(c.memory);
    if (c.tables)
        *tables = memory_hash_end(c.tables);
    return ok;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Fill in what is known at the end, however it came. */
static void finish(struct hw *h, double start)
{
    struct result *r = h->res;
    r->wall_seconds = now() - start;
    balloon_report(h->balloon, r);
    if (h->mmu) {
        close_phase(h);
        model_counters(h, &r->total);
        r->nvcpus = h->mvm->nvcpus > 1 ? h->mvm->nvcpus : 0;
        for (unsigned i = 0; i < r->nvcpus; i++)
            mmu_vcpu_counters(h->mvm->vcpu[i], &r->vcpu[i]);
    }
    for (unsigned i = 0; i < META_COUNT; i++)
        r->meta[i] = meta_bytes((enum meta_subsys)i);
    if (r->outcome != OUTCOME_OK)
        return;
    if (h->cfg->hash)
        r->has_hash = model_hash(h, &r->memory_hash, NULL);
    const char *broken = h->cfg->check ? model_check(h) : NULL;
    if (broken)
        die(NB_INTERNAL, "an invariant is broken: %s", broken);
}

static int run(const struct vm_config *cfg, const struct program *prog, struct result *res)
{
    struct hw *h = meta_calloc(META_MMU, 1, sizeof *h);
    char err[512] = "";
    volatile int code = NB_OK;
    *res = (struct result){.outcome = OUTCOME_OK};
    volatile double start = now(); /* as code: set again before a longjmp may come */
    h->cfg = cfg;
    if (setjmp(h->end) == 0) {
        code = model_boot(h, cfg, res, err, sizeof err);
        start = now();
        if (code == NB_OK)
            prog->run(&h->user, prog->arg);
    }
    if (code == NB_OK)
        finish(h, start);
    else
        fprintf(stderr, "nestbed: %s\n", err);
    model_free(h);
    meta_free(META_MMU, h);
    return code;
}

REGISTER(engine, model, .summary = "exact software MMU: any strategy, deterministic, no privileges",
         .run = run);
