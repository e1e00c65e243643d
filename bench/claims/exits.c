/* exits.c: V15 to V18, V20: what leaves the guest under shadow and under nested paging.
 *
 * The published numbers are of Linux's KVM, so that its two algorithms run here: shadow-kvm and
 * ept-kvm, which predict a real KVM's counts exactly (nestbed validate). Exits are counts; cycles
 * are modelled with the exit costs of preset skx, some of which were derived from PVM's table of
 * faults: where a claim would then only give back what was put in, it is not made.
 */
#include "base/base.h"
#include "bench/bench_util.h"
#include "bench/verify.h"

enum { SHADOW, EPT, PAGINGS };
static const char *const pagings[PAGINGS] = {"shadow-kvm", "ept-kvm"};

/* Counters of the work phase of both, or zeroes when a run failed. */
static void both(struct check *c, const char *program, struct counters out[PAGINGS])
{
    for (unsigned i = 0; i < PAGINGS; i++) {
        char words[200];
        snprintf(words, sizeof words, "--paging %s %s", pagings[i], program);
        const struct result *r = check_run(c, words);
        out[i] = r ? *work_counters(r) : (struct counters){0};
    }
}

static double cycles(struct check *c, const char *paging, const char *program)
{
    char words[200];
    snprintf(words, sizeof words, "--paging %s %s", paging, program);
    return work_total(c, words);
}

/* Faults that reach the hypervisor. */
static uint64_t faults(const struct counters *n)
{
    return n->exit_fill + n->exit_reflect + n->exit_pt_write + n->exit_ept_violation;
}

/* ---- V15, V16: a whole system ---- */

static void exits_by_reason(struct check *c)
{
    struct counters n[PAGINGS];
    both(c, "--trace shell", n);
    claim_above(c, 10.0 * (double)faults(&n[EPT]), (double)faults(&n[SHADOW]),
                "faults with shadow paging, above ten times those with nested paging");
    claim_above(c, 10.0 * (double)n[EPT].exit_cr3, (double)n[SHADOW].exit_cr3,
                "CR3 exits, likewise");
    claim_above(c, 0, (double)n[SHADOW].exit_invlpg, "INVLPG exits with shadow paging");
    claim_equal(c, 0, n[EPT].exit_invlpg, "INVLPG exits with nested paging");
    claim_beside(c, 110, (double)faults(&n[SHADOW]) / (double)faults(&n[EPT]), "faults, ratio");
}
REGISTER_AS(claim, v15a, "V15a",
            .summary =
                "shadow paging exits 110 times as often by faults, 297 times by CR, and alone "
                "by INVLPG",
            .source = "ericjlin/linux, a lab's counts of a boot [2]", .kind = CLAIM_SHAPE,
            .check = exits_by_reason, .needs = {"shadow-kvm", "ept-kvm"},
            .note = "a shell script that forks stands for the boot");

static void build_exits(struct check *c)
{
    const struct result *shadow = check_run(c, "--paging shadow-lazy --trace shell"),
                        *ept = check_run(c, "--paging ept --trace shell");
    if (!shadow || !ept)
        return;
    double ratio = (double)work_counters(shadow)->exits / (double)work_counters(ept)->exits;
    claim_within(c, 23.4, 2340, ratio, "exits, vTLB / EPT: the order of magnitude");
    claim_beside(c, 234, ratio, "exits, vTLB / EPT");
}
REGISTER_AS(claim, v16a, "V16a",
            .summary = "a kernel build exits 234 times as often with a vTLB as with EPT",
            .source = "NOVA, EuroSys'10 [M]", .kind = CLAIM_SHAPE, .check = build_exits,
            .needs = {"shadow-lazy", "ept"},
            .note = "a shell script that forks stands for the build; the published number is from "
                    "memory");

/* ---- V17: system calls ---- */

static void kpti(struct check *c)
{
    static const struct {
        const char *program;
        unsigned exits[PAGINGS]; /* per call */
    } row[] = {{"--workload syscall --set calls=1000 --set kpti=1", {2, 0}},
               {"--workload syscall --set calls=1000 --set kpti=0", {0, 0}}};
    for (unsigned k = 0; k < ARRAY_SIZE(row); k++) {
        struct counters n[PAGINGS];
        both(c, row[k].program, n);
        for (unsigned i = 0; i < PAGINGS; i++)
            claim_equal(c, 1000ull * row[k].exits[i], n[i].exit_cr3,
                        "CR3 exits of 1,000 calls, KPTI %s, %s", k ? "off" : "on", pagings[i]);
    }
}
REGISTER_AS(claim, v17a, "V17a",
            .summary = "a system call with KPTI takes two exits with shadow paging, none with EPT; "
                       "none without KPTI",
            .source = "PVM, SOSP'23: 2.09 and 0.22 us, without 0.06 and 0.06 [F]", .check = kpti,
            .needs = {"shadow-kvm", "ept-kvm"});

/* ---- V18: starting programs ---- */

static const char *const starts[] = {"--workload spawn --set exec=0", "--workload spawn",
                                     "--workload spawn --set depth=2"};
static const char *const start_names[] = {"fork", "exec", "sh"};

static void start_cost(struct check *c)
{
    static const double published[] = {6.1, 3.6, 2.6};
    double ratio[ARRAY_SIZE(starts)];
    for (unsigned i = 0; i < ARRAY_SIZE(starts); i++) {
        ratio[i] = cycles(c, pagings[SHADOW], starts[i]) / cycles(c, pagings[EPT], starts[i]);
        claim_beside(c, published[i], ratio[i], "%s, shadow / EPT", start_names[i]);
    }
    claim_above(c, ratio[1], ratio[0], "fork, above exec");
    claim_above(c, ratio[2], ratio[1], "exec, above sh");
    claim_above(c, 1, ratio[2], "sh");
}
REGISTER_AS(claim, v18a, "V18a",
            .summary = "with shadow paging fork takes 6.1 times as long, exec 3.6, sh 2.6",
            .source = "PVM, SOSP'23, LMbench [F]", .kind = CLAIM_SHAPE, .check = start_cost,
            .needs = {"shadow-kvm", "ept-kvm"},
            .note = "modelled cycles of memory management alone; the order is judged");

static void start_exits(struct check *c)
{
    for (unsigned i = 0; i < ARRAY_SIZE(starts); i++) {
        struct counters n[PAGINGS];
        both(c, starts[i], n);
        claim_above(
            c, 100 * (double)n[EPT].exits, (double)n[SHADOW].exits,
            "exits of 256 times %s with shadow paging, above a hundred times those with EPT",
            start_names[i]);
    }
}
REGISTER_AS(claim, v18b, "V18b", .summary = "because shadow paging exits for tables, EPT does not",
            .source = "PVM, SOSP'23 [F]", .kind = CLAIM_SHAPE, .check = start_exits,
            .needs = {"shadow-kvm", "ept-kvm"});

/* ---- V20: faults ---- */

/* Map, touch, unmap 512 pages at a time, of frames that the host has given already. */
#define TOUCH "--workload churn --set updates=2000 --set batch=512 --set accesses=100000"
#define PROTECT "--workload forkcow --set procs=16 --set pages=256 --set dirty=100"

static void fault_exits(struct check *c)
{
    static const char *const programs[] = {TOUCH, PROTECT};
    static const char *const names[] = {"page fault", "protection fault"};
    for (unsigned k = 0; k < ARRAY_SIZE(programs); k++) {
        double shadow = cycles(c, pagings[SHADOW], programs[k]),
               ept = cycles(c, pagings[EPT], programs[k]);
        claim_above(c, 1, shadow / ept, "%s, shadow / EPT", names[k]);
        claim_beside(c, k ? 3.17 / 0.66 : 0.93 / 0.15, shadow / ept, "%s, shadow / EPT", names[k]);
    }
}
REGISTER_AS(claim, v20a, "V20a",
            .summary = "a page fault takes 0.93 us with shadow paging, 0.15 with EPT; a protection "
                       "fault 3.17 and 0.66",
            .source = "PVM, SOSP'23, LMbench [F]", .kind = CLAIM_SHAPE, .check = fault_exits,
            .needs = {"shadow-kvm", "ept-kvm"},
            .note = "the sign is judged: exit costs of the presets stem from this table");
