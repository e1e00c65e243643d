/* probe.h: what the three parts of a probe agree on: ring 3, ring 0, and the VMM that times it.
 *
 * A probe measures one kind of event. Its program (workloads/image/probe.c) is registered as
 * "probe:NAME" and repeats, parameter PROBE_BATCHES times:
 *
 *     prepare                                       not measured
 *     MARK begin, the loop without its event, MARK empty
 *     MARK begin, n events, MARK end                n: parameter PROBE_EVENTS
 *
 * The VMM cuts times and statistics at the marks. What the events cost is the second part less the
 * first: marks, loop and, for a probe of ring 0, the system call are in both.
 *
 * A store to NB_PROBE_PORT or to an address above guest memory is an exit to the VMM, which does
 * nothing about it when it runs a probe.
 */
#ifndef NB_GUEST_IMAGE_PROBE_H
#define NB_GUEST_IMAGE_PROBE_H

#include "guest/image/abi.h"

/* Parameters of every probe, in order. */
enum { PROBE_BATCHES, PROBE_EVENTS, PROBE_PARAMS };

/* Values of NB_CALL_MARK. REFILL: the host gets every frame of guest memory that it lacks, so that
 * a touch after a discard finds its frame there and only the mapping missing. */
enum probe_mark { PROBE_BEGIN = 1, PROBE_EMPTY, PROBE_END, PROBE_REFILL };

/* Parts in ring 0 (SYS_PROBE). Loops run n times; with PROBE_NO_EVENT without the event. */
enum probe_part {
    PROBE_LOOP_PIO,       /* OUT to NB_PROBE_PORT */
    PROBE_LOOP_CPUID,     /* CPUID leaf 0 */
    PROBE_LOOP_CR3,       /* MOV to CR3 of the value it has, all translations dropped */
    PROBE_LOOP_INVLPG,    /* of address */
    PROBE_LOOP_LEAF,      /* store to the leaf entry of address, as it is */
    PROBE_LOOP_LEAF_SYNC, /* the same, then MOV to CR3; without the event only the latter */
    PROBE_LOOP_UPPER,     /* store to an unused entry of n page directories, of address + i GiB */
    PROBE_PROTECT,    /* take PTE_W from n pages from address on; the next store to each faults */
    PROBE_MAP_MMIO,   /* the page at address becomes one above guest memory */
    PROBE_UNMAP_MMIO, /* and its own again */
    PROBE_NOTHING,
    PROBE_NO_EVENT = 0x100, /* flag */
};

/* Most page directories of PROBE_LOOP_UPPER. */
#define PROBE_UPPER_MAX 64u

#endif
