/* engine_kvm.c: engine `kvm`: the guest image on this host's KVM, whatever mode that is in.
 *
 * What the shared counters mean here (kvm.NAME: a statistic of KVM itself, all of which are in the
 * record too). Everything not listed is unseen: null, never 0.
 *
 *   guest_*            counted by the guest kernel where it happens
 *   host_frames        4 KiB host frames behind guest memory above the reserved range of kernel and
 *                      image (on the model they take no guest memory)
 *   exit_hypercall     port calls of the image, run by us
 *   exit_io, _mmio, _hlt  other returns to the VMM for that reason
 *   exits              kvm.exits; unseen on pvm, where a batch of emulated instructions is one exit
 *   exit_intr          kvm.irq_exits
 *  with nested paging (ept):
 *   exit_ept_violation kvm.pf_taken: each one is a fault in the nested table
 *  with shadow paging:
 *   exit_reflect       kvm.pf_guest: page faults passed on to the guest
 *   exit_fill          kvm.pf_fixed: hidden faults that were repaired
 *   exit_spurious      kvm.pf_spurious
 *   exit_pt_write      kvm.pf_emulate; unseen on pvm, whose emulator needs no fault to see a write
 *   exit_retry         what is left of kvm.pf_taken
 *   exit_invlpg        kvm.invlpg
 *   shadow_*           kvm.mmu_cache_miss, mmu_shadow_zapped, mmu_recycled, mmu_flooded, mmu_unsync
 *                      and pages_4k + pages_2m + pages_1g
 *   shadow_pt_writes   kvm.mmu_pte_write; unseen on pvm, where it counts every store of ring 0
 *
 * Fills of the work phase of `touch`, N pages: pvm N. EPT and NPT N + T, T = new guest tables, since
 * the kernel's first store into one is a violation. Shadow without pvm N + T + L, L = leaf tables
 * among them: the second store into a table that is shadowed by then makes it unsynchronised. What
 * else one sees in the total is in phase "boot" (image, kernel memory, the first root).
 *
 * A page that is read before it is written costs two violations or fills where the host maps its page
 * of zeroes for the read (anonymous memory; host.backing=memfd does not).
 *
 * A phase ends with the guest's call that begins the next one, so each has that one exit_hypercall.
 * Phase "boot" begins at the first entry. Its counts contain what only a real machine has: first
 * entry, descriptor tables, warming of kernel and image (guest/image/hw.c, workloads/image/start.c).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/image_vm.h"

struct session {
    const struct vm_config *cfg;
    struct result *res;
    struct image_vm *m;
    struct counters last;           /* at the start of the phase */
    struct kvm_snapshot first, kvm; /* at the start of the run, of the phase */
    uint64_t started;               /* of the phase, ns */
    bool in_phase;
    bool cut_off;        /* the guest ended amid something: only its counts of events are right */
    struct nb_boot boot; /* the last one the guest showed */
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- counters ---- */
static void see(struct counters *c, enum counter_id id, uint64_t value)
{
    c->v[id] = value;
    c->unseen[id] = false;
}

/* The statistic called `name`; false: this KVM does not count it. */
static bool stat_value(const struct session *s, const struct kvm_snapshot *snap, const char *name,
                       uint64_t *out)
{
    const struct kvm_stat_set *set = &s->m->vm->stats;
    for (unsigned i = 0; i < set->n; i++)
        if (strcmp(set->stat[i].name, name) == 0 && !set->stat[i].unseen) {
            *out = snap->v[set->stat[i].first];
            return true;
        }
    return false;
}

static void see_stat(const struct session *s, const struct kvm_snapshot *snap, struct counters *c,
                     enum counter_id id, const char *name)
{
    uint64_t v;
    if (stat_value(s, snap, name, &v))
        see(c, id, v);
}

static uint64_t stat_or_0(const struct session *s, const struct kvm_snapshot *snap,
                          const char *name)
{
    uint64_t v = 0;
    stat_value(s, snap, name, &v);
    return v;
}

/* Page faults that ended neither way. Unseen when more ended than were taken: some KVM counts an end
 * that had no fault. */
static void see_retries(const struct session *s, const struct kvm_snapshot *snap,
                        struct counters *c)
{
    static const char *const ends[] = {"pf_fixed", "pf_guest", "pf_emulate", "pf_spurious"};
    uint64_t left, v;
    if (!stat_value(s, snap, "pf_taken", &left))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
        if (!stat_value(s, snap, ends[i], &v) || v > left)
            return;
        left -= v;
    }
    see(c, CTR_exit_retry, left);
}

static void see_shadow(const struct session *s, const struct kvm_snapshot *snap, struct counters *c)
{
    static const struct {
        enum counter_id id;
        const char *name;
    } same[] = {{CTR_exit_reflect, "pf_guest"},
                {CTR_exit_fill, "pf_fixed"},
                {CTR_exit_spurious, "pf_spurious"},
                {CTR_exit_invlpg, "invlpg"},
                {CTR_shadow_pages_made, "mmu_cache_miss"},
                {CTR_shadow_pages_zapped, "mmu_shadow_zapped"},
                {CTR_shadow_pages_recycled, "mmu_recycled"},
                {CTR_shadow_floods, "mmu_flooded"},
                {CTR_shadow_out_of_sync, "mmu_unsync"},
                {CTR_shadow_leaves, "pages_4k"}};
    for (unsigned i = 0; i < ARRAY_SIZE(same); i++)
        see_stat(s, snap, c, same[i].id, same[i].name);
    c->shadow_leaves += stat_or_0(s, snap, "pages_2m") + stat_or_0(s, snap, "pages_1g");
    see_retries(s, snap, c);
    if (s->m->vm->host->emulates_ring0)
        return;
    see_stat(s, snap, c, CTR_exit_pt_write, "pf_emulate");
    see_stat(s, snap, c, CTR_shadow_pt_writes, "mmu_pte_write");
}

static void see_faults(const struct session *s, const struct kvm_snapshot *snap, struct counters *c)
{
    const char *paging = s->m->vm->host->paging;
    if (strcmp(paging, "ept") == 0)
        see_stat(s, snap, c, CTR_exit_ept_violation, "pf_taken");
    else if (strcmp(paging, "shadow") == 0)
        see_shadow(s, snap, c);
}

static void see_exits(const struct session *s, const struct kvm_snapshot *snap, struct counters *c)
{
    const uint64_t *by_reason = s->m->vcpu->exits;
    see(c, CTR_exit_hypercall, s->m->calls);
    see(c, CTR_exit_io, by_reason[KVM_EXIT_IO] - s->m->calls);
    see(c, CTR_exit_mmio, by_reason[KVM_EXIT_MMIO]);
    see(c, CTR_exit_hlt, by_reason[KVM_EXIT_HLT]);
    see_stat(s, snap, c, CTR_exit_intr, "irq_exits");
    if (!s->m->vm->host->emulates_ring0)
        see_stat(s, snap, c, CTR_exits, "exits");
}

static void all_counters(const struct session *s, const struct kvm_snapshot *snap,
                         struct counters *c)
{
    const struct backing *mem = s->m->mem;
    uint64_t reserved = gk_reserved_bytes(mem->bytes), resident;
    *c = (struct counters){0};
    memset(c->unseen, true, sizeof c->unseen);
    see(c, CTR_guest_faults, s->boot.faults);
    see(c, CTR_guest_pt_writes, s->boot.pt_writes);
    see(c, CTR_guest_cr3_loads, s->boot.cr3_loads);
    see(c, CTR_guest_invlpgs, s->boot.invlpgs);
    if (!s->cut_off)
        see(c, CTR_guest_pt_bytes, s->boot.pt_bytes);
    if (backing_resident_in(mem, reserved, mem->bytes - reserved, &resident))
        see(c, CTR_host_frames, resident >> PAGE_SHIFT);
    if (s->m->balloon)
        see(c, CTR_balloon_pages, s->m->balloon->state->pages);
    see_faults(s, snap, c);
    see_exits(s, snap, c);
}

/* Values of [from, to] as deltas; gauges as at the end. */
static void kvm_delta(const struct session *s, const struct kvm_snapshot *from,
                      const struct kvm_snapshot *to, uint64_t *out)
{
    const struct kvm_stat_set *set = &s->m->vm->stats;
    for (unsigned i = 0; i < set->n; i++)
        for (unsigned k = set->stat[i].first; k < set->stat[i].first + set->stat[i].size; k++)
            out[k] = to->v[k] - (set->stat[i].gauge ? 0 : from->v[k]);
}

/* Statistics now; without any (a KVM that has none) all 0, and none is reported. */
static void take_snapshot(const struct session *s, struct kvm_snapshot *snap)
{
    if (!kvm_vm_snapshot(s->m->vm, snap) && s->m->vm->stats.n > 0)
        die(NB_NODEVICE, "read of KVM's statistics (KVM_GET_STATS_FD): %s", strerror(errno));
}

/* ---- phases ---- */
static void close_phase(struct session *s, uint64_t at)
{
    struct result *r = s->res;
    struct kvm_snapshot snap;
    struct counters now;
    if (!s->in_phase)
        return;
    take_snapshot(s, &snap);
    all_counters(s, &snap, &now);
    struct phase_result *p = &r->phases[r->nphases - 1];
    counters_delta(&p->counters, &now, &s->last);
    kvm_delta(s, &s->kvm, &snap, p->kvm);
    p->timed = true;
    p->ns = at - s->started;
    s->last = now;
    s->kvm = snap;
    s->in_phase = false;
}

/* Phases beyond MAX_PHASES go on in the last one, as on the model. */
static void open_phase(struct session *s, const char *name)
{
    struct result *r = s->res;
    if (s->in_phase && r->nphases == MAX_PHASES)
        return;
    close_phase(s, now_ns());
    snprintf(r->phases[r->nphases++].name, sizeof r->phases[0].name, "%s", name);
    s->in_phase = true;
    s->started = now_ns();
}

static bool on_call(void *ctx, struct image_vm *m, enum nb_call call, const struct nb_boot *copy)
{
    struct session *s = ctx;
    (void)m;
    s->boot = *copy;
    if (call == NB_CALL_PHASE)
        open_phase(s, copy->text);
    else if (call == NB_CALL_DONE)
        close_phase(s, now_ns());
    return true;
}

/* ---- a run ---- */
static void hash_memory(struct session *s)
{
    struct result *r = s->res;
    r->has_hash = image_vm_hash(s->m, &s->boot, &r->memory_hash, NULL);
    if (!r->has_hash)
        log_warn("no memory hash: the guest ended with %u processes, of which %d can be listed, or "
                 "with tables that are not ours",
                 s->boot.nprocs, NB_MAX_PROCS);
}

static void finish(struct session *s, uint64_t start)
{
    struct result *r = s->res;
    const struct kvm_stat_set *set = &s->m->vm->stats;
    r->wall_seconds = (double)(now_ns() - start) * 1e-9;
    balloon_report(s->m->balloon, r);
    if (r->outcome != OUTCOME_OK) { /* what the guest last wrote is all there is */
        memcpy(&s->boot, s->m->boot, sizeof s->boot);
        s->cut_off = r->outcome == OUTCOME_TIMEOUT || r->outcome == OUTCOME_CRASHED ||
                     r->outcome == OUTCOME_HOST_OOM;
    }
    close_phase(s, now_ns());
    r->total = s->last; /* as the last phase ended: what the host does later is not the run's */
    r->nkvm = set->n;
    memcpy(r->kvm_name, set->stat, set->n * sizeof set->stat[0]);
    kvm_delta(s, &s->first, &s->kvm, r->kvm);
    memcpy(r->user_exits, s->m->vcpu->exits, sizeof r->user_exits);
    for (unsigned i = 0; i < META_COUNT; i++)
        r->meta[i] = meta_bytes((enum meta_subsys)i);
    if (s->cfg->hash && r->outcome == OUTCOME_OK)
        hash_memory(s);
}

static void describe(struct result *r, const struct kvm_host *h)
{
    snprintf(r->paging, sizeof r->paging, "%s", h->paging);
    snprintf(r->backend, sizeof r->backend, "%s", h->backend);
    r->emulates_ring0 = h->emulates_ring0;
}

static void warn_of_blindness(const struct session *s)
{
    if (s->m->vm->stats.n == 0)
        log_warn(
            "no statistics of this KVM (KVM_GET_STATS_FD is missing, or too few open files are "
            "allowed): kvm.* and most exits are null");
}

/* Is the host's KVM in the mode that --paging asks for? */
static int check_paging(const struct vm_config *cfg, const struct kvm_host *h, char *err, size_t n)
{
    if (!cfg->paging || strcmp(cfg->paging, h->paging) == 0)
        return NB_OK;
    bool ept = strcmp(cfg->paging, "ept") == 0;
    snprintf(err, n,
             "--paging %s: this host's KVM is in mode %s (%s); load kvm_intel with ept=%d or "
             "kvm_amd with npt=%d, or let --reload-kvm do it, or use --engine labvm",
             cfg->paging, h->paging, h->backend, ept, ept);
    return NB_NODEVICE;
}

static int check_usage(const struct vm_config *cfg, const struct program *prog, char *err, size_t n)
{
    if (!prog->name)
        snprintf(err, n, "a trace runs on --engine model only");
    else if (cfg->paging && strcmp(cfg->paging, "ept") && strcmp(cfg->paging, "shadow"))
        snprintf(err, n, "--paging %s: a real KVM has ept or shadow; others run on --engine model",
                 cfg->paging);
    else if (cfg->events)
        snprintf(err, n, "--set run.events: only --engine model can list events");
    else
        return NB_OK;
    return NB_USAGE;
}

static int prepare(const struct vm_config *cfg, const struct program *prog, char *err, size_t n)
{
    int code = check_usage(cfg, prog, err, n);
    if (code == NB_OK && cfg->reload_kvm && cfg->paging)
        code = kvm_reload(cfg->paging, err, n);
    if (code != NB_OK)
        return code;
    const struct kvm_host *h = kvm_host(err, n);
    return h ? check_paging(cfg, h, err, n) : NB_NODEVICE;
}

static int run(const struct vm_config *cfg, const struct program *prog, struct result *res)
{
    char err[512] = "";
    struct session *s = meta_calloc(META_HOST, 1, sizeof *s);
    *res = (struct result){.outcome = OUTCOME_OK};
    s->cfg = cfg;
    s->res = res;
    int code = prepare(cfg, prog, err, sizeof err);
    if (code == NB_OK)
        code = image_vm_new(&s->m, cfg, err, sizeof err);
    if (code == NB_OK) {
        describe(res, s->m->vm->host);
        warn_of_blindness(s);
        take_snapshot(s, &s->first);
        s->kvm = s->first;
        open_phase(s, "boot");
        uint64_t start = s->started;
        res->outcome = image_vm_run(s->m, prog->name, prog->params, prog->nparams, cfg->seed,
                                    on_call, s, res->detail, sizeof res->detail);
        finish(s, start);
    } else
        fprintf(stderr, "nestbed: %s\n", err);
    image_vm_free(s->m);
    meta_free(META_HOST, s);
    return code;
}

REGISTER(engine, kvm, .summary = "the same guest on this host's KVM: measured times, real counts",
         .real = true, .run = run);
