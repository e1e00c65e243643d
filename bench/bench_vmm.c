/* bench_vmm.c: exits and VM starts, through the bare loop or through our KVM layer.
 *
 * Both sides run the same guest in memory of the same kind, and fetch the supported CPUID before the
 * clock starts, as a program does once. Exits wait for nothing: they are timed by the thread's own
 * clock, which other programs do not move. A start waits for the kernel, so it is timed by the clock
 * on the wall, from the creation of the VM to the first exit of its guest. Creating VMs back to back
 * waits for the end of the last one's grace periods, so there is a pause before each; and as those
 * waits come in steps of a timer tick, a sample is the least of a few starts. The median and the steps
 * of a start, one by one, stand beside it.
 */
#include "bench/bench_vmm.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/bare_kvm.h"
#include "bench/bench_util.h"
#include "bench/options.h"
#include "bench/record.h"
#include "bench/refloop.h"
#include "bench/stats.h"
#include "vmm/kvm.h"

enum { STARTS_MAX = 100, PAUSE_MS = 30 };

struct vmm_args {
    const char *what; /* "pio", "start", "irqchip" */
    bool ours, json;
    uint64_t n; /* exits, or starts */
};

/* What one side measured. */
struct vmm_result {
    double seconds, median; /* of all exits; of a start: the least and the median */
    double step[BARE_STEPS][STARTS_MAX];
    unsigned starts;
};

/* ---- one VM, on either side ---- */
struct side {
    bool ours, irqchip;
    unsigned char *mem;
    struct bare bare;
    struct backing *backing;
    struct kvm_vm *vm;
    struct kvm_vcpu *vcpu;
    double at[BARE_STEPS + 1];
};

static void side_open(struct side *s)
{
    static const struct numa_policy anywhere = {0};
    char err[256] = "";
    int code = NB_NODEVICE;
    if (s->ours ? !kvm_host(err, sizeof err) : !bare_open(&s->bare, err, sizeof err))
        die(NB_SKIP, "bench vmm: %s", err);
    s->backing = backing_new(BARE_BYTES, BACKING_ANON, PAGES_4K, &anywhere, err, sizeof err, &code);
    if (!s->backing)
        die(code, "bench vmm: %s", err);
    s->mem = s->backing->mem;
    bare_guest(s->mem);
}

static bool our_exits(struct side *s, uint64_t n, char *err, size_t errlen)
{
    while (n > 0) {
        enum kvm_step step = kvm_vcpu_step(s->vcpu);
        if (step == KVM_STEP_FAILED) {
            snprintf(err, errlen, "KVM_RUN: %s", strerror(errno));
            return false;
        }
        if (step == KVM_STEP_EXIT && s->vcpu->run->exit_reason != KVM_EXIT_IO) {
            kvm_vcpu_autopsy(s->vcpu, err, errlen);
            return false;
        }
        n -= step == KVM_STEP_EXIT;
    }
    return true;
}

static bool our_start(struct side *s, char *err, size_t errlen)
{
    double *at = s->at;
    *at++ = now_seconds();
    if (!(s->vm = kvm_vm_new(err, errlen)))
        return false;
    *at++ = now_seconds();
    if (!kvm_vm_add_memory(s->vm, 0, s->backing, err, errlen))
        return false;
    *at++ = now_seconds();
    if (s->irqchip && !kvm_vm_add_irqchip(s->vm, err, errlen))
        return false;
    *at++ = now_seconds();
    if (!(s->vcpu = kvm_vm_add_vcpu(s->vm, err, errlen)))
        return false;
    *at++ = now_seconds();
    if (!kvm_vcpu_long_mode(s->vcpu, BARE_RIP, 0x800, BARE_CR3, 4, err, errlen))
        return false;
    *at++ = now_seconds();
    if (!our_exits(s, 1, err, errlen))
        return false;
    *at++ = now_seconds();
    return true;
}

static void side_start(struct side *s)
{
    char err[512] = "";
    bool fine = s->ours ? our_start(s, err, sizeof err)
                        : bare_start(&s->bare, s->mem, s->irqchip, err, sizeof err);
    if (!fine)
        die(NB_FAIL, "bench vmm: %s", err);
    if (!s->ours)
        memcpy(s->at, s->bare.at, sizeof s->at);
}

static void side_stop(struct side *s)
{
    if (s->ours)
        kvm_vm_free(s->vm);
    else
        bare_stop(&s->bare);
    s->vm = NULL;
}

/* ---- what is measured ---- */
static void measure_exits(struct side *s, uint64_t n, struct vmm_result *r)
{
    char err[512] = "";
    double began = thread_seconds();
    bool fine =
        s->ours ? our_exits(s, n, err, sizeof err) : bare_exits(&s->bare, n, err, sizeof err);
    r->seconds = r->median = thread_seconds() - began;
    if (!fine)
        die(NB_FAIL, "bench vmm: %s", err);
}

static void pause_ms(unsigned ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000L};
    nanosleep(&t, NULL);
}

static void note_start(const struct side *s, struct vmm_result *r, double *whole)
{
    whole[r->starts] = s->at[BARE_STEPS] - s->at[0];
    if (!r->starts || whole[r->starts] < r->seconds)
        r->seconds = whole[r->starts];
    for (unsigned k = 0; k < BARE_STEPS; k++)
        r->step[k][r->starts] = s->at[k + 1] - s->at[k];
    r->starts++;
}

/* The first start of a process is a warm-up. */
static void measure_starts(struct side *s, uint64_t n, struct vmm_result *r)
{
    double whole[STARTS_MAX];
    while (r->starts < n) {
        pause_ms(PAUSE_MS);
        side_start(s);
        note_start(s, r, whole);
        side_stop(s);
    }
    r->median = stat_median(whole, r->starts);
}

static void measure(const struct vmm_args *a, struct vmm_result *r)
{
    struct side s = {.ours = a->ours, .irqchip = strcmp(a->what, "irqchip") == 0};
    side_open(&s);
    side_start(&s);
    if (strcmp(a->what, "pio") == 0)
        measure_exits(&s, a->n, r);
    side_stop(&s);
    if (strcmp(a->what, "pio") != 0)
        measure_starts(&s, a->n, r);
    backing_free(s.backing);
}

/* ---- output ---- */
static json_t *steps_json(const struct vmm_result *r, bool irqchip)
{
    if (!r->starts)
        return json_null();
    json_t *j = json_object();
    for (unsigned k = 0; k < BARE_STEPS; k++)
        json_object_set_new(j, bare_step_names[k],
                            k == BARE_IRQCHIP && !irqchip
                                ? json_null()
                                : json_real(stat_median(r->step[k], r->starts)));
    return j;
}

static void print(const struct vmm_args *a, const struct vmm_result *r)
{
    bool pio = strcmp(a->what, "pio") == 0;
    if (a->json) {
        json_t *j = json_pack("{ss ss ss sI sf sf so}", "schema", "nestbed-vmm/1", "what", a->what,
                              "loop", a->ours ? "ours" : "bare", "n", (json_int_t)a->n, "seconds",
                              r->seconds, "median_seconds", r->median, "steps",
                              steps_json(r, strcmp(a->what, "irqchip") == 0));
        record_print_json(j);
        json_decref(j);
        return;
    }
    if (pio) {
        printf("%s: %" PRIu64 " exits, %.2f us each\n", a->ours ? "ours" : "bare", a->n,
               1e6 * r->seconds / (double)a->n);
        return;
    }
    printf("%s: VM start %.3f ms (least of %u), %.3f ms (median); medians of its steps:\n",
           a->ours ? "ours" : "bare", 1e3 * r->seconds, r->starts, 1e3 * r->median);
    for (unsigned k = 0; k < BARE_STEPS; k++)
        printf("  %-8s %8.1f us\n", bare_step_names[k], 1e6 * stat_median(r->step[k], r->starts));
}

/* ---- command line ---- */
static const struct argp_option options[] = {
    {"what", 'w', "pio|start|irqchip", 0,
     "Port-write round trips from ring 0, or VM starts without or with irqchip; default pio", 0},
    {"loop", 'l', "bare|ours", 0, "The bare ioctl loop, or our KVM layer; default ours", 0},
    {"count", 'n', "N", 0, "Exits (default 20000) or starts (default 7, at most 100)", 0},
    {"json", 'j', 0, 0, "Print JSON", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct vmm_args *a = state->input;
    bool fine = true;
    switch (key) {
    case 'w':
        fine = strcmp(arg, "pio") == 0 || strcmp(arg, "start") == 0 || strcmp(arg, "irqchip") == 0;
        a->what = arg;
        break;
    case 'l':
        a->ours = strcmp(arg, "ours") == 0;
        fine = a->ours || strcmp(arg, "bare") == 0;
        break;
    case 'n':
        fine = parse_u64(arg, &a->n) && a->n > 0 && a->n <= 100000000;
        break;
    case 'j':
        a->json = true;
        break;
    case ARGP_KEY_ARG:
        die_argument(state, arg);
    default:
        return ARGP_ERR_UNKNOWN;
    }
    if (!fine)
        die(NB_USAGE, "bench vmm: -%c %s: see nestbed bench vmm --help", key, arg);
    return 0;
}

int cmd_bench_vmm(int argc, char **argv)
{
    static struct vmm_result r;
    struct vmm_args a = {.what = "pio", .ours = true};
    struct argp argp = {
        options,
        parse,
        NULL,
        "Time exits or VM starts, through a bare ioctl loop or through our KVM layer.\v"
        "Example: nestbed bench vmm --what start --loop bare --json",
        NULL,
        NULL,
        NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    bool pio = strcmp(a.what, "pio") == 0;
    if (!a.n)
        a.n = pio ? 20000 : 7;
    if (!pio && a.n > STARTS_MAX)
        die(NB_USAGE, "bench vmm: at most %d starts", STARTS_MAX);
    measure(&a, &r);
    print(&a, &r);
    return NB_OK;
}
