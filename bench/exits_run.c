/* exits_run.c: the probes on the host's KVM: one VM each, cut at its marks.
 *
 * Time is that of the thread that runs the vCPU, in the guest and in the kernel: none of these events
 * waits for anything, and what else runs on the machine does not count.
 * The clock is read last before the guest goes on and first when it comes back, so statistics are
 * read outside of what is timed. The guest's marks are checked: it may say anything.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "bench/bench_util.h"
#include "bench/exits.h"
#include "bench/record.h"
#include "guest/image/probe.h"
#include "vmm/image_vm.h"

/* What can be read at a mark. */
struct reading {
    double ns;
    uint64_t user_exits, faults, pt_writes;
    struct kvm_snapshot kvm;
};

struct session {
    const struct exits_probe *probe;
    struct vm_config vm; /* lives as long as the VM */
    uint64_t mem;
    unsigned batches, events; /* batches: without the warm-up */
    enum probe_mark expected; /* of the marks that end a part: which is next */
    unsigned ended;           /* batches ended, the warm-up among them */
    struct reading from;
    double empty[EXITS_BATCHES_MAX], cost[EXITS_BATCHES_MAX];
    /* sums over the measured batches, less those of the empty parts */
    int64_t kvm[MAX_KVM_VALUES], user_exits, faults, pt_writes;
    char why[256]; /* what the guest did wrong */
};

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint64_t returns(const struct kvm_vcpu *v)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(v->exits); i++)
        n += v->exits[i];
    return n;
}

/* A KVM without statistics has none to read; one that has them and fails has let us down. */
static void read_all(const struct image_vm *m, const struct nb_boot *b, struct reading *r)
{
    if (!kvm_vm_snapshot(m->vm, &r->kvm) && m->vm->stats.n > 0)
        die(NB_NODEVICE, "read of KVM's statistics (KVM_GET_STATS_FD): %s", strerror(errno));
    r->user_exits = returns(m->vcpu);
    r->faults = b->faults;
    r->pt_writes = b->pt_writes;
}

/* ---- marks ---- */
/* Every frame that the host has not yet given: the guest stands still meanwhile. */
static void refill(const struct image_vm *m)
{
    for (uint64_t at = 0; at < m->mem->bytes; at += PAGE_SIZE) {
        volatile unsigned char *p = m->mem->mem + at;
        *p = *p;
    }
}

static void add(struct session *s, const struct reading *to, int sign)
{
    for (unsigned i = 0; i < MAX_KVM_VALUES; i++)
        s->kvm[i] += sign * (int64_t)(to->kvm.v[i] - s->from.kvm.v[i]);
    s->user_exits += sign * (int64_t)(to->user_exits - s->from.user_exits);
    s->faults += sign * (int64_t)(to->faults - s->from.faults);
    s->pt_writes += sign * (int64_t)(to->pt_writes - s->from.pt_writes);
}

static void end_part(struct session *s, const struct reading *to, bool empty)
{
    double ns = to->ns - s->from.ns;
    unsigned i = s->ended ? s->ended - 1 : 0; /* the warm-up is written over */
    if (s->ended)
        add(s, to, empty ? -1 : 1);
    if (empty)
        s->empty[i] = ns;
    else
        s->cost[i] = (ns - s->empty[i]) / s->events;
    s->ended += !empty;
}

static bool on_mark(struct session *s, struct image_vm *m, const struct nb_boot *b, double now)
{
    struct reading r = {.ns = now};
    if (b->value == PROBE_REFILL) {
        refill(m);
        return true;
    }
    if (b->value == PROBE_BEGIN) {
        read_all(m, b, &s->from);
        s->from.ns = now_ns();
        return true;
    }
    if (b->value != (uint64_t)s->expected || s->ended > s->batches) {
        snprintf(s->why, sizeof s->why, "the guest made mark %llu out of turn",
                 (unsigned long long)b->value);
        return false;
    }
    read_all(m, b, &r);
    end_part(s, &r, s->expected == PROBE_EMPTY);
    s->expected = s->expected == PROBE_EMPTY ? PROBE_END : PROBE_EMPTY;
    return true;
}

static bool on_call(void *ctx, struct image_vm *m, enum nb_call call, const struct nb_boot *copy)
{
    double now = now_ns();
    return call != NB_CALL_MARK || on_mark(ctx, m, copy, now);
}

/* ---- one probe ---- */
/* A probe of huge pages measures nothing else where the host has none to give. */
static bool has_its_pages(const struct session *s, const struct image_vm *m)
{
    uint64_t bytes, huge;
    return s->probe->host_page != PAGES_THP ||
           (backing_resident(m->mem, &bytes, &huge) &&
            huge >= s->probe->fresh_bytes * s->events * s->batches);
}

static int run_vm(struct session *s, double timeout, struct image_vm **out, char *err, size_t n)
{
    const uint64_t params[PROBE_PARAMS] = {
        [PROBE_BATCHES] = s->batches + 1, [PROBE_EVENTS] = s->events};
    s->vm = (struct vm_config){.guest_page = PAGES_4K,
                               .host_page = s->probe->host_page,
                               .levels = 4,
                               .mem = s->mem,
                               .flush_ceiling = 33,
                               .timeout = timeout};
    char program[32];
    int code = image_vm_new(out, &s->vm, err, n);
    if (code == NB_NODEVICE && s->probe->host_page != PAGES_4K) /* KVM is there: exits_host() */
        return NB_SKIP;
    if (code != NB_OK)
        return code;
    (*out)->probing = true;
    s->expected = PROBE_EMPTY;
    snprintf(program, sizeof program, "probe:%s", s->probe->name);
    enum outcome o = image_vm_run(*out, program, params, PROBE_PARAMS, 42, on_call, s, err, n);
    if (s->why[0])
        snprintf(err, n, "%s", s->why);
    if (o == OUTCOME_OK && s->ended != s->batches + 1)
        snprintf(err, n, "the guest ended after %u of %u batches", s->ended, s->batches + 1);
    if (o != OUTCOME_OK || err[0])
        return NB_FAIL;
    if (has_its_pages(s, *out))
        return NB_OK;
    snprintf(err, n, "the host gave no huge pages (see /sys/kernel/mm/transparent_hugepage)");
    return NB_SKIP;
}

static json_t *interval_json(struct interval v)
{
    return json_pack("{sf so so sI}", "median", v.mid, "lo",
                     isfinite(v.lo) ? json_real(v.lo) : json_null(), "hi",
                     isfinite(v.hi) ? json_real(v.hi) : json_null(), "n", (json_int_t)v.n);
}

/* Counts only: what a level was in between says nothing about an event. */
static json_t *kvm_json(const struct session *s, const struct image_vm *m)
{
    json_t *j = json_object();
    const struct kvm_stat_set *set = &m->vm->stats;
    for (unsigned i = 0; i < set->n; i++)
        if (!set->stat[i].gauge && set->stat[i].size == 1)
            json_object_set_new(j, set->stat[i].name,
                                set->stat[i].unseen ? json_null()
                                                    : json_integer(s->kvm[set->stat[i].first]));
    return j;
}

static json_t *probe_json(const struct session *s, const struct image_vm *m, int code,
                          const char *why)
{
    const struct exits_probe *p = s->probe;
    bool ran = code == NB_OK;
    json_t *j = json_pack("{ss ss sI sI sI ss so}", "name", p->name, "event", p->event, "ring",
                          (json_int_t)p->ring, "events", (json_int_t)s->events, "batches",
                          (json_int_t)s->batches, "status",
                          ran               ? "ok"
                          : code == NB_SKIP ? "skipped"
                                            : "failed",
                          "reason", ran ? json_null() : json_string(why));
    json_object_set_new(j, "cost",
                        ran ? interval_json(stat_bootstrap(s->cost, s->batches, 42)) : json_null());
    json_object_set_new(j, "empty",
                        ran ? json_real(stat_median(s->empty, s->batches)) : json_null());
    json_object_set_new(j, "kvm", ran ? kvm_json(s, m) : json_object());
    json_object_set_new(j, "user_exits", ran ? json_integer(s->user_exits) : json_null());
    json_object_set_new(j, "guest",
                        ran ? json_pack("{sI sI}", "faults", (json_int_t)s->faults, "pt_writes",
                                        (json_int_t)s->pt_writes)
                            : json_null());
    return j;
}

/* NULL: no probe can run here; *code and err say why. */
static json_t *run_probe(const struct exits_config *cfg, const struct exits_probe *p, int *code,
                         char *err, size_t n)
{
    struct session *s = xcalloc(1, sizeof *s);
    struct image_vm *m = NULL;
    json_t *j = NULL;
    s->probe = p;
    s->batches = cfg->batches;
    s->events = exits_events(cfg, p);
    s->mem = exits_mem(cfg, p);
    err[0] = 0;
    *code = run_vm(s, cfg->timeout, &m, err, n);
    if (*code == NB_OK || *code == NB_FAIL || *code == NB_SKIP)
        j = probe_json(s, m, *code, err);
    image_vm_free(m);
    free(s);
    return j;
}

/* Of the VM whose memory the next one would take at once; and its grace periods (vmm/kvm.h). */
static void settle(void)
{
    struct timespec t = {.tv_nsec = 10000000};
    nanosleep(&t, NULL);
}

json_t *exits_host(const struct exits_config *cfg, int *code, char *err, size_t errlen)
{
    const struct kvm_host *h = kvm_host(err, errlen);
    struct utsname u;
    *code = NB_NODEVICE;
    if (!h)
        return NULL;
    json_t *probes = json_array();
    unsigned total = cfg->only ? 1 : exits_nprobes, done = 0;
    for (unsigned i = 0; i < exits_nprobes; i++) {
        const struct exits_probe *p = &exits_probes[i];
        if (cfg->only && strcmp(cfg->only, p->name) != 0)
            continue;
        if (cfg->progress)
            cfg->progress(cfg->ctx, done++, total, p->name);
        json_t *j = run_probe(cfg, p, code, err, errlen);
        if (!j) {
            json_decref(probes);
            return NULL;
        }
        json_array_append_new(probes, j);
        settle();
    }
    *code = NB_OK;
    return json_pack("{ss ss ss sb so ss so}", "name", "host", "backend", h->backend, "paging",
                     h->paging, "emulates_ring0", h->emulates_ring0, "kernel",
                     uname(&u) == 0 ? json_string(u.release) : json_null(), "unit", "ns", "probes",
                     probes);
}
