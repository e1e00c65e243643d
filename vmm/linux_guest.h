/* linux_guest.h: Debian's Linux as a guest of ours: the kernel that labvm keeps in its cache, with an
 * initramfs whose init is this program, and which drives the guest's own virtio_balloon.
 *
 * The two sides talk through three 32-bit ports (boot_balloon.h):
 *
 *   guest                                  host
 *   BALLOON_BEGIN    <- step number        sets the step's target
 *   BALLOON_BEGIN    -> target, in pages   BALLOON_NO_STEP: there is no such step, switch off
 *   (the balloon reaches the target)
 *   BALLOON_REACHED  <- pages in it        asks for statistics, begins to ask for hints
 *   (the guest verifies its memory)
 *   BALLOON_CHECKED  <- pages that were wrong
 *   BALLOON_CHECKED  -> pages reported free so far
 */
#ifndef NB_VMM_LINUX_GUEST_H
#define NB_VMM_LINUX_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BALLOON_BEGIN = 0x610, BALLOON_REACHED = 0x614, BALLOON_CHECKED = 0x618 };
#define BALLOON_NO_STEP UINT32_MAX

/* Before the words of the user, which can so overrule them. */
#define LINUX_GUEST_CMDLINE                                                             \
    "console=ttyS0 loglevel=1 panic=-1 mitigations=off nopti nokaslr norandmaps "       \
    "init_on_alloc=0 cryptomgr.notests=1 random.trust_cpu=on rcupdate.rcu_expedited=1 " \
    "NESTBED_GUEST=1"

struct linux_guest {
    char kernel[600]; /* path of the image */
    char *initrd;     /* freed by linux_guest_free() */
    size_t initrd_bytes;
};

/* Find the kernel, fetching it when it is not cached, and build the initramfs. NB_OK, or NB_NODEVICE or
 * NB_SIGINT with the reason. */
int linux_guest_make(struct linux_guest *, char *err, size_t errlen);
void linux_guest_free(struct linux_guest *);

/* Is this process 1 of such a guest? Then main() does linux_init_main() and nothing else. */
bool linux_is_init(void);
int linux_init_main(void);

#endif
