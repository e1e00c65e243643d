/* boot.h: run a multiboot image or a Linux kernel on KVM: a small PC without firmware.
 *
 * Memory from 0 (up to 3 GiB, the rest from 4 GiB on), in-kernel interrupt controllers and timer,
 * the devices of boot_board.h, one host thread per vCPU; vCPUs other than the first wait for
 * INIT and SIPI.
 */
#ifndef NB_VMM_BOOT_H
#define NB_VMM_BOOT_H

#include <stdbool.h>
#include <stdio.h>

#include "vmm/boot_balloon.h"
#include "vmm/kvm.h"

struct boot_config {
    const char *cmdline; /* as the guest sees it: of a multiboot image, its name comes first */
    const void *image;
    size_t image_bytes;
    const void *initrd; /* of a multiboot image: its environment text; or NULL */
    size_t initrd_bytes;
    uint64_t mem;        /* bytes; multiple of 4 KiB, at least 1 MiB */
    enum page_mode page; /* of the host, behind it */
    unsigned cpus;
    const struct boot_balloon_plan
        *balloon;   /* a virtio balloon and its plan, or NULL; below 3 GiB of memory */
    double timeout; /* seconds; 0: none */
    FILE *out;      /* the guest's serial output as it comes, or NULL */
    bool plain;     /* in `out`, too, bytes that are no ASCII text are replaced: it is a terminal */
};

enum boot_end {
    BOOT_EXITED,  /* the guest wrote `code` to the debug exit */
    BOOT_CRASHED, /* it cannot go on: `detail` says why and where */
    BOOT_TIMEOUT, /* it had not ended by then */
};
extern const char *const boot_end_names[];

struct boot_result {
    enum boot_end end;
    uint32_t code;    /* valid when BOOT_EXITED */
    char detail[256]; /* one sentence; empty when BOOT_EXITED */
    char *console;    /* the serial output: NUL-terminated, bytes that are no ASCII text replaced by
                         '?'; freed by boot_result_free() */
    bool console_cut; /* there was more than is kept */
    double wall_seconds;
    double start_seconds; /* from KVM_CREATE_VM to the first KVM_RUN; /dev/kvm is open before */
    const struct kvm_host *host;
    struct boot_balloon_result balloon; /* valid when there was one */
    uint64_t user_exits[64];            /* by KVM_EXIT_*, all vCPUs */
    struct kvm_stat_set stats;
    struct kvm_snapshot kvm; /* valid when stats.n > 0 */
};

/* NB_OK with *out filled whatever the guest did. Else one sentence in err: NB_DATAERR or NB_USAGE,
 * nothing ran; NB_NODEVICE, the host failed, which may be in the middle. Ends no process. */
int boot_run(const struct boot_config *, struct boot_result *out, char *err, size_t errlen);
void boot_result_free(struct boot_result *);

#endif
