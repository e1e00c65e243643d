/* boot_balloon.h: a virtio balloon in the machine of boot.h, its plan, and what came of each step of it.
 *
 * Its registers are a window at BALLOON_GPA, its interrupt a line of the I/O APIC: ACPI's tables say both.
 * The guest of linux_guest.h asks for the steps of the plan one by one, through ports that linux_guest.h
 * lists; a step is a size of the balloon.
 *
 * Interface: called with the board's lock held, from the exit of the vCPU that made the access.
 */
#ifndef NB_VMM_BOOT_BALLOON_H
#define NB_VMM_BOOT_BALLOON_H

#include "balloon/device.h"
#include "memmgr/backing.h"
#include "vmm/kvm.h"

#define BALLOON_GPA 0xd0000000u
enum { BALLOON_WINDOW = 4096, BALLOON_IRQ = 5, BOOT_BALLOON_STEPS = 64 };
enum { BALLOON_PORT = 0x610, BALLOON_PORT_END = 0x61b };

struct boot_balloon_plan {
    unsigned n;
    uint64_t pages[BOOT_BALLOON_STEPS];
};
/* "64M,8M,0": sizes of the balloon, multiples of 4 KiB. */
bool boot_balloon_plan_parse(const char *s, struct boot_balloon_plan *out);

/* What the host saw of a step. */
struct boot_balloon_step {
    bool reached, checked;  /* the guest said so */
    uint64_t guest_pages;   /* in the balloon by the guest's count; when reached */
    uint64_t actual, pages; /* by the driver's word to the device, by the device's; when reached */
    uint64_t resident;      /* bytes of guest memory that the host holds; when reached */
    uint64_t wrong;         /* pages that the guest found changed; when checked */
    uint64_t resident_checked; /* when it had used what it could; when checked */
    bool has_stats;            /* the statistics that were asked for have come; when checked */
    uint64_t stats[VIRTIO_BALLOON_S_NR];
    uint16_t stats_valid;            /* bit per tag */
    struct balloon_counters counted; /* since the start; when checked */
};

/* All of it: taken over by struct boot_result. */
struct boot_balloon_result {
    unsigned steps; /* begun */
    struct boot_balloon_step step[BOOT_BALLOON_STEPS];
    struct balloon_counters counted; /* at the end */
    uint64_t features;               /* that were negotiated; of the last step that was reached */
    uint64_t mmio_exits, interrupts; /* accesses to its registers; raisings of its line */
    uint64_t refused[VIRTIO_REFUSED_COUNT];
    const char *broken; /* an invariant of the device does not hold; or NULL */
};

struct boot_balloon;

/* A balloon in this memory, which begins at address 0 and is all there is. */
struct boot_balloon *boot_balloon_new(struct kvm_vm *, struct backing *,
                                      const struct boot_balloon_plan *);
void boot_balloon_free(struct boot_balloon *);
uint64_t boot_balloon_read(struct boot_balloon *, uint64_t offset, unsigned width);
void boot_balloon_write(struct boot_balloon *, uint64_t offset, unsigned width, uint64_t value);
uint32_t boot_balloon_in(struct boot_balloon *, unsigned port);
void boot_balloon_out(struct boot_balloon *, unsigned port, uint32_t value);
void boot_balloon_result(struct boot_balloon *, struct boot_balloon_result *);

#endif
