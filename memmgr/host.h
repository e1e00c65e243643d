/* host.h: the host's physical memory: one pool of 4 KiB frames shared by all VMs.
 *
 * The pool is one lazily populated mapping (real memory, bound through libnuma), so that a frame
 * that is never written costs nothing. Frames belong to the host; gmem.h lends them to guests.
 * Paging structures of the VMM are frames too, so that table reads have host-physical addresses.
 *
 * Invariants (host_check verifies 1 to 3, the tests 4):
 *  (1) every frame is in exactly one of: reserved (hfn 0), free, guest, table.
 *  (2) free + guest + table + reserved = total, and used frames never exceed the limit.
 *  (3) free blocks are naturally aligned, do not overlap, and no two free buddies stay unmerged.
 *  (4) a freshly allocated frame reads as zero (cleared then, if it was in use before).
 */
#ifndef NB_MEMMGR_HOST_H
#define NB_MEMMGR_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/addr.h"

enum numa_kind { NUMA_DEFAULT, NUMA_LOCAL, NUMA_INTERLEAVE, NUMA_BIND };
struct numa_policy {
    enum numa_kind kind;
    int node; /* for NUMA_BIND */
};
/* "local", "interleave", "bind:N"; false on anything else. */
bool numa_policy_parse(const char *s, struct numa_policy *out);
/* The policy as text ("default", "local", ...). */
const char *numa_policy_name(const struct numa_policy *, char *buf, size_t n);
/* Place [mem, mem + bytes) so; before any of it is touched. 0, or NB_NODEVICE or NB_USAGE with one
 * sentence in err. */
int numa_policy_apply(const struct numa_policy *, void *mem, uint64_t bytes, char *err, size_t n);

enum frame_use { FRAME_FREE, FRAME_GUEST, FRAME_TABLE };

struct host;

/* A pool of `bytes` (rounded down to 4 KiB) of memory. NULL with a reason in err when the address
 * space or the NUMA policy cannot be had; *code: NB_NODEVICE or NB_USAGE. */
struct host *host_new(uint64_t bytes, const struct numa_policy *, char *err, size_t errlen,
                      int *code);
void host_free(struct host *);

/* A naturally aligned block of 2^order zeroed frames, or false when there is none. */
bool host_alloc(struct host *, unsigned order, enum frame_use, hfn_t *out);
/* `frames` consecutive frames from a multiple of 2^order, or false when no free ones lie so. */
bool host_alloc_span(struct host *, uint64_t frames, unsigned order, enum frame_use, hfn_t *out);
/* Give back any naturally aligned part of what was allocated. */
void host_release(struct host *, hfn_t, unsigned order);

/* The bytes of a frame; valid until host_free. */
static inline void *host_ptr(const struct host *, hpa_t);
uint64_t host_free_frames(const struct host *);
uint64_t host_used(const struct host *, enum frame_use); /* frames in use for guests or tables */
uint64_t host_total(const struct host *);

/* NULL, or a sentence naming the broken invariant. */
const char *host_check(struct host *);

struct host_base {
    unsigned char *pool; /* host-physical address 0 */
};
static inline void *host_ptr(const struct host *h, hpa_t a)
{
    return ((const struct host_base *)h)->pool + a;
}

#endif
