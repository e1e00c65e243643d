/* engine.h: a machine that can run one guest program, and what a run reports.
 *
 * An engine is one file ending in REGISTER(engine, NAME, .summary, .run). It knows nothing of
 * workloads: it is handed a program (a function over struct user).
 */
#ifndef NB_VMM_ENGINE_H
#define NB_VMM_ENGINE_H

#include <stdio.h>

#include "balloon/device.h"
#include "base/base.h"
#include "base/counters.h"
#include "base/registry.h"
#include "guest/kernel.h"
#include "memmgr/backing.h"
#include "memmgr/host.h"
#include "shadow_vs_ept/cpu.h"

struct user;
struct balloon_setup;

/* What to run: every option of the command line that concerns the machine. */
struct vm_config {
    const char *paging;            /* name of a strategy; NULL: the engine's own choice */
    const uint64_t *paging_params; /* its parameters, in declaration order; NULL: the defaults */
    const struct cpu *cpu;         /* preset, loaded */
    enum page_mode guest_page;     /* --guest-page */
    enum page_mode host_page;      /* --host-page */
    unsigned levels;               /* --levels: guest tables */
    unsigned host_levels;          /* --host-levels: nested tables */
    uint64_t mem;                  /* --mem: guest-physical bytes */
    uint64_t host_mem;             /* --host-mem: bytes of the frame pool */
    unsigned vcpus;                /* --vcpus; 0 is 1 */
    struct numa_policy numa;       /* --numa */
    uint64_t seed;                 /* --seed */
    unsigned flush_ceiling;        /* --set guest.flush_ceiling=N, default 33 */
    uint64_t segment_bytes;        /* --set guest.segment=SIZE; 0: as the strategy wants */
    FILE *events;                  /* --set run.events=FILE: one line per event, or NULL */
    bool check;                    /* --set run.check=1: verify every invariant at the end */
    bool hash;                     /* --set run.hash=1: hash guest memory at the end */
    enum backing_kind backing;     /* --set host.backing=anon|memfd: real engines */
    double timeout;                /* --timeout: seconds until the guest is ended; 0: never */
    const struct balloon_setup *balloon; /* --balloon; NULL: the machine has none */
    bool reload_kvm; /* --reload-kvm: may reload the host's KVM module for --paging */
};

/* The guest's least primary region (gk_config.segment_bytes), as given or wanted by the strategy. */
uint64_t vm_segment_bytes(const struct vm_config *);

/* What a guest runs: for the model a function, for real engines a name that the image knows. */
struct program {
    void (*run)(struct user *, void *arg);
    void *arg;
    const char *name;       /* of the workload; NULL: not in the image (a trace) */
    const uint64_t *params; /* its parameters, in declaration order */
    unsigned nparams;
    char *const
        *words; /* the same as command line words, for an engine that runs nestbed elsewhere:
                           "--workload", "touch", "--set", "pages=64", ..., NULL */
};

/* How a run ended. Every one but OK and BUG is a value a guest or a host limit can cause. */
enum outcome {
    OUTCOME_OK,
    OUTCOME_HOST_OOM,   /* the host ran out of frames: this VM was ended */
    OUTCOME_GUEST_OOM,  /* the guest ran out of memory */
    OUTCOME_GUEST_SEGV, /* the program touched memory it had not mapped */
    OUTCOME_ABORTED,    /* the program gave up (u_abort) */
    OUTCOME_CRASHED,    /* the guest cannot go on: triple fault, KVM internal error, kernel panic */
    OUTCOME_TIMEOUT,    /* --timeout: the guest had not ended by then */
};
extern const char *const outcome_names[];

enum { MAX_PHASES = 16 };

/* Statistics of the hypervisor itself, reported as kvm.NAME: read from its own descriptors, so their
 * names and number are known only when it runs. */
enum { MAX_KVM_STATS = 128, MAX_KVM_VALUES = 320 };
struct kvm_stat_name {
    char name[48];
    uint16_t first, size; /* values [first, first + size): more than one is a histogram */
    bool gauge;           /* a level, not a count that grows */
    bool unseen;          /* listed, but this KVM does not count it: null */
};

struct phase_result {
    char name[32];
    struct counters counters;     /* deltas; gauges as at its end */
    bool timed;                   /* ns is valid */
    uint64_t ns;                  /* measured wall time; engine labvm: instructions */
    uint64_t kvm[MAX_KVM_VALUES]; /* deltas; gauges as at its end */
};

/* Modelled cycles: count x cost, by cause. All 0 until cycles_model() fills them. */
struct cycles {
    double access, stlb, walk, exit, vmm, ipi, guest_fault, host;
};

struct result {
    enum outcome outcome;
    char detail[256]; /* one sentence, with what to do; empty when OK */
    struct counters total;
    unsigned nphases;
    struct phase_result phases[MAX_PHASES];
    unsigned nvcpus;                   /* engine model with more than one vCPU, else 0 */
    struct counters vcpu[GK_MAX_CPUS]; /* of the whole run, by vCPU (mmu_vcpu_counters) */
    uint64_t meta[META_COUNT];         /* bookkeeping bytes at the end of the run */
    uint64_t memory_hash;              /* valid when has_hash */
    bool has_hash;
    bool has_balloon; /* the VM had one; its device at the end: */
    struct balloon_counters balloon;
    uint64_t balloon_pages, balloon_actual, balloon_trail;
    uint16_t
        balloon_stats_valid; /* bit per tag: what the guest said last, at the begin of a phase */
    uint64_t balloon_stats[VIRTIO_BALLOON_S_NR];
    double wall_seconds; /* measured */
    /* Real engines only: */
    char paging[16];     /* what it really was; empty: as asked for */
    char backend[16];    /* vmx-ept vmx-shadow svm-npt svm-shadow pvm; empty: no KVM */
    char kernel[96];     /* the Linux whose KVM it was; empty: this host's */
    bool emulates_ring0; /* the guest kernel's instructions were emulated one by one */
    bool virtual_time;   /* every ns is an instruction of the emulated machine */
    unsigned nkvm;
    struct kvm_stat_name kvm_name[MAX_KVM_STATS];
    uint64_t kvm[MAX_KVM_VALUES]; /* the whole run */
    uint64_t user_exits[64];      /* returns to the VMM by KVM_EXIT_* number */
};

struct engine {
    const char *name, *summary;
    bool real; /* a hypervisor runs the guest: paging is ept or shadow, NULL = what it has; no CPU
                  preset, no modelled cycles */
    /* Run `prog`. Returns NB_OK with *res filled (whatever the outcome), or an exit code after
     * having said on stderr why this engine cannot run here (NB_NODEVICE, NB_SKIP, NB_USAGE). */
    int (*run)(const struct vm_config *, const struct program *prog, struct result *res);
};

/* Modelled cycles of a set of counters under a preset (costs in cpu->cost). */
void cycles_model(const struct cpu *, const struct counters *, struct cycles *);

#endif
