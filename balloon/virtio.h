/* virtio.h: what a virtio balloon's driver and device agree on, as numbers.
 *
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, OASIS; the section is named at each group. Freestanding: the
 * guest kernel includes it too. All fields are little-endian, as x86 is.
 */
#ifndef NB_BALLOON_VIRTIO_H
#define NB_BALLOON_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

/* ---- device status field (2.1) ---- */
enum {
    VIRTIO_STATUS_ACKNOWLEDGE = 1,
    VIRTIO_STATUS_DRIVER = 2,
    VIRTIO_STATUS_DRIVER_OK = 4,
    VIRTIO_STATUS_FEATURES_OK = 8,
    VIRTIO_STATUS_DEVICE_NEEDS_RESET = 64,
    VIRTIO_STATUS_FAILED = 128,
};

/* ---- feature bits that belong to no device type (6) ---- */
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)
#define VIRTIO_F_RING_RESET (1ull << 40)

/* ---- MMIO register layout, version 2 (4.2.2) ---- */
enum {
    VIRTIO_MMIO_MAGIC_VALUE = 0x000, /* R */
    VIRTIO_MMIO_VERSION = 0x004,     /* R: 2 */
    VIRTIO_MMIO_DEVICE_ID = 0x008,   /* R */
    VIRTIO_MMIO_VENDOR_ID = 0x00c,   /* R */
    VIRTIO_MMIO_DEVICE_FEATURES = 0x010,
    VIRTIO_MMIO_DEVICE_FEATURES_SEL = 0x014, /* W */
    VIRTIO_MMIO_DRIVER_FEATURES = 0x020,     /* W */
    VIRTIO_MMIO_DRIVER_FEATURES_SEL = 0x024, /* W */
    VIRTIO_MMIO_QUEUE_SEL = 0x030,           /* W */
    VIRTIO_MMIO_QUEUE_NUM_MAX = 0x034,       /* R */
    VIRTIO_MMIO_QUEUE_NUM = 0x038,           /* W */
    VIRTIO_MMIO_QUEUE_READY = 0x044,         /* RW */
    VIRTIO_MMIO_QUEUE_NOTIFY = 0x050,        /* W: the queue's index */
    VIRTIO_MMIO_INTERRUPT_STATUS = 0x060,    /* R */
    VIRTIO_MMIO_INTERRUPT_ACK = 0x064,       /* W */
    VIRTIO_MMIO_STATUS = 0x070,              /* RW; writing 0 resets the device */
    VIRTIO_MMIO_QUEUE_DESC_LOW = 0x080,      /* W */
    VIRTIO_MMIO_QUEUE_DESC_HIGH = 0x084,
    VIRTIO_MMIO_QUEUE_DRIVER_LOW = 0x090, /* W: the available ring */
    VIRTIO_MMIO_QUEUE_DRIVER_HIGH = 0x094,
    VIRTIO_MMIO_QUEUE_DEVICE_LOW = 0x0a0, /* W: the used ring */
    VIRTIO_MMIO_QUEUE_DEVICE_HIGH = 0x0a4,
    VIRTIO_MMIO_SHM_SEL = 0x0ac,
    VIRTIO_MMIO_SHM_LEN_LOW = 0x0b0, /* R: all ones where there is no such region */
    VIRTIO_MMIO_SHM_LEN_HIGH = 0x0b4,
    VIRTIO_MMIO_SHM_BASE_LOW = 0x0b8,
    VIRTIO_MMIO_SHM_BASE_HIGH = 0x0bc,
    VIRTIO_MMIO_QUEUE_RESET = 0x0c0,       /* RW, with RING_RESET */
    VIRTIO_MMIO_CONFIG_GENERATION = 0x0fc, /* R */
    VIRTIO_MMIO_CONFIG = 0x100,            /* RW, any width */
    VIRTIO_MMIO_BYTES = 0x200,             /* of the window, as Linux and QEMU lay it out */
};
#define VIRTIO_MMIO_MAGIC 0x74726976u /* "virt" */

/* Bits of InterruptStatus and InterruptACK. */
enum { VIRTIO_INT_USED = 1, VIRTIO_INT_CONFIG = 2 };

/* ---- split virtqueue (2.7) ---- */
enum { VIRTQ_DESC_F_NEXT = 1, VIRTQ_DESC_F_WRITE = 2, VIRTQ_DESC_F_INDIRECT = 4 };
enum { VIRTQ_AVAIL_F_NO_INTERRUPT = 1, VIRTQ_USED_F_NO_NOTIFY = 1 };

struct virtq_desc { /* aligned to 16 */
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};
struct virtq_avail { /* aligned to 2 */
    uint16_t flags;
    uint16_t idx;
    uint16_t ring[];
};
struct virtq_used_elem {
    uint32_t id;
    uint32_t len;
};
struct virtq_used { /* aligned to 4 */
    uint16_t flags;
    uint16_t idx;
    struct virtq_used_elem ring[];
};
/* Bytes of the three parts of a queue of `num` entries, with the event index each ring ends in. */
static inline uint32_t virtq_desc_bytes(uint32_t num) { return 16 * num; }
static inline uint32_t virtq_avail_bytes(uint32_t num) { return 6 + 2 * num; }
static inline uint32_t virtq_used_bytes(uint32_t num) { return 6 + 8 * num; }

/* ---- traditional memory balloon (5.5) ---- */
#define VIRTIO_ID_BALLOON 5

#define VIRTIO_BALLOON_F_MUST_TELL_HOST (1ull << 0)
#define VIRTIO_BALLOON_F_STATS_VQ (1ull << 1)
#define VIRTIO_BALLOON_F_DEFLATE_ON_OOM (1ull << 2)
#define VIRTIO_BALLOON_F_FREE_PAGE_HINT (1ull << 3)
#define VIRTIO_BALLOON_F_PAGE_POISON (1ull << 4)
#define VIRTIO_BALLOON_F_REPORTING (1ull << 5)
#define VIRTIO_BALLOON_F_ALL 0x3full

/* Numbers of pages are in units of 4 KiB whatever the guest's page, and so are PFNs: 32 bits each. */
struct virtio_balloon_config {      /* 5.5.4 */
    uint32_t num_pages;             /* R: what the device wants in the balloon */
    uint32_t actual;                /* RW: what the driver says is in it; it alone writes this */
    uint32_t free_page_hint_cmd_id; /* R, with FREE_PAGE_HINT */
    uint32_t poison_val;            /* RW, with PAGE_POISON; before DRIVER_OK */
};

enum { /* free_page_hint_cmd_id (5.5.6.5); any other value starts a round of hinting */
       VIRTIO_BALLOON_CMD_ID_STOP = 0,
       VIRTIO_BALLOON_CMD_ID_DONE = 1,
       VIRTIO_BALLOON_CMD_ID_FIRST = 2,
};

struct virtio_balloon_stat { /* 5.5.6.3: an array of these in a buffer of the stats queue */
    uint16_t tag;
    uint64_t val;
} __attribute__((packed));

enum { /* 5.5.6.4, tags 0 to 9; 10 to 15 as Linux 6.12 has them (include/uapi/linux/virtio_balloon.h) */
       VIRTIO_BALLOON_S_SWAP_IN,        /* bytes */
       VIRTIO_BALLOON_S_SWAP_OUT,       /* bytes */
       VIRTIO_BALLOON_S_MAJFLT,         /* major faults */
       VIRTIO_BALLOON_S_MINFLT,         /* minor faults */
       VIRTIO_BALLOON_S_MEMFREE,        /* bytes used for nothing */
       VIRTIO_BALLOON_S_MEMTOT,         /* bytes */
       VIRTIO_BALLOON_S_AVAIL,          /* bytes that a new program can have without swapping */
       VIRTIO_BALLOON_S_CACHES,         /* bytes */
       VIRTIO_BALLOON_S_HTLB_PGALLOC,   /* hugetlb pages allocated */
       VIRTIO_BALLOON_S_HTLB_PGFAIL,    /* hugetlb allocations that failed */
       VIRTIO_BALLOON_S_OOM_KILL,       /* processes killed */
       VIRTIO_BALLOON_S_ALLOC_STALL,    /* allocations that had to reclaim */
       VIRTIO_BALLOON_S_ASYNC_SCAN,     /* pages scanned by kswapd */
       VIRTIO_BALLOON_S_DIRECT_SCAN,    /* pages scanned in allocations */
       VIRTIO_BALLOON_S_ASYNC_RECLAIM,  /* pages reclaimed by kswapd */
       VIRTIO_BALLOON_S_DIRECT_RECLAIM, /* pages reclaimed in allocations */
       VIRTIO_BALLOON_S_NR,
};

/* Queues by role (5.5.2). */
enum balloon_role {
    BALLOON_INFLATE,
    BALLOON_DEFLATE,
    BALLOON_STATS,
    BALLOON_HINT,
    BALLOON_REPORT,
    BALLOON_ROLES,
};
/* The feature that a role comes with; 0: always there. */
static inline uint64_t balloon_role_feature(enum balloon_role r)
{
    return r == BALLOON_STATS    ? VIRTIO_BALLOON_F_STATS_VQ
           : r == BALLOON_HINT   ? VIRTIO_BALLOON_F_FREE_PAGE_HINT
           : r == BALLOON_REPORT ? VIRTIO_BALLOON_F_REPORTING
                                 : 0;
}
/* The queue number of a role, or -1. 5.5.2 numbers them 0 to 4 whatever is offered; QEMU and Linux number
 * only those that exist, of the features the device offers, and so do we. */
static inline int balloon_queue(uint64_t offered, enum balloon_role role)
{
    int n = 0;
    for (unsigned r = 0; r < BALLOON_ROLES; r++) {
        uint64_t need = balloon_role_feature((enum balloon_role)r);
        bool there = (offered & need) == need;
        if (r == (unsigned)role)
            return there ? n : -1;
        n += there;
    }
    return -1;
}

#endif
