/* balloon_vm.h: the balloon of a VM, whatever runs it: what it offers, and the plan of its targets.
 *
 * A plan is a list "SIZE[@phase:NAME|@time:SECONDS],...": from the start of that phase, or that time after the
 * guest's boot, the balloon is to hold SIZE bytes; without a when: from the boot on. So "256M@phase:work" takes 256 MiB
 * when phase "work" begins, and ",0@phase:end" would give them back. A step is obeyed each time its phase begins, so
 * also again when a program has two phases of that name; of two steps for one phase the last counts. Nothing is said at
 * the begin of phase "boot", as the guest has no driver yet: such a step is refused. A phase without a name has no step.
 *
 * Hinting is not offered by default: it is for a device that acts on hints during a round, and here no owner of memory
 * does (device_pages.c). A round would last a phase and keep the guest's free memory from it meanwhile.
 * `nestbed boot --linux` has rounds, between two of its guest's steps (boot_balloon.c).
 */
#ifndef NB_VMM_BALLOON_VM_H
#define NB_VMM_BALLOON_VM_H

#include <stddef.h>

#include "balloon/device.h"

enum { BALLOON_PLAN_MAX = 64 };

enum balloon_when { BALLOON_AT_BOOT, BALLOON_AT_PHASE, BALLOON_AT_TIME };
struct balloon_step {
    uint64_t pages;
    enum balloon_when when;
    char phase[32]; /* at its begin; AT_PHASE */
    double seconds; /* after the boot; AT_TIME */
};

struct balloon_setup {
    unsigned nsteps;
    struct balloon_step step[BALLOON_PLAN_MAX];
    uint64_t features;     /* VIRTIO_BALLOON_F_*: what the device offers */
    unsigned order;        /* of the blocks that the guest puts into it: 0 or 9 */
    unsigned report_order; /* of the least free block that the guest reports */
    enum balloon_hole hole;
};

/* No plan; all features but reporting and hinting, 4 KiB pages, holes split large pages. */
void balloon_setup_init(struct balloon_setup *);
/* Add the steps of a plan. False with one sentence in err. */
bool balloon_plan_parse(struct balloon_setup *, const char *plan, char *err, size_t errlen);
/* Does a step wait for a time? */
bool balloon_plan_by_time(const struct balloon_setup *);
/* The target that the boot, or a phase's begin, asks for, in pages; false: none. */
bool balloon_plan_at_boot(const struct balloon_setup *, uint64_t *pages);
bool balloon_plan_at_phase(const struct balloon_setup *, const char *phase, uint64_t *pages);

struct result;
/* Warn of each step whose phase did not begin in this run. */
void balloon_plan_warn(const struct balloon_setup *, const struct result *);
/* What a run reports of its device. */
void balloon_report(const struct balloon *, struct result *);

/* Pages of a guest's memory that are in blocks of 2^order, as its device wants it. */
unsigned balloon_host_order(enum page_mode host_page);

#endif
