/* balloon_machine.h: a hostile guest out of bytes, over transport, queues and balloon; for libFuzzer and for the unit test
 * that replays its corpus.
 *
 * The first byte chooses features, host page and what to do with holes; then each operation is a byte and its operands:
 * stores into guest memory, descriptors, register accesses of any width, notifications, and what the host does (targets,
 * questions, hint commands, save and restore). One operation sets a well-formed device up and another sends what an honest
 * driver would, so that short inputs get deep. A third makes memory change under the device: each of its reads is followed
 * by a change of the byte it read first.
 *
 * Only the first MEM bytes of the guest's memory exist, and large pages have 16 small ones, so that an input costs
 * microseconds; the balloon has FRAMES frames all the same. After every 16th operation and the last the device's own checks must hold; every range it releases must lie
 * in memory, and, of the inflate queue, in the balloon. The sanitizers see to the rest.
 */
#ifndef NB_TESTS_BALLOON_MACHINE_H
#define NB_TESTS_BALLOON_MACHINE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balloon/device.h"
#include "vmm/virtio_mmio.h"

enum { MACHINE_MEM = 0x1800, MACHINE_FRAMES = 140, MACHINE_ORDER = 4, MACHINE_QUEUE = 16 };

struct machine {
    const uint8_t *byte, *end; /* input left */
    uint8_t mem[MACHINE_MEM];
    bool changing; /* memory changes between two reads */
    bool line;
    unsigned ops;
    struct balloon *b;
};

static inline void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "balloon fuzzer: %s\n", what);
    abort();
}

/* ---- input ---- */
static inline uint64_t take(struct machine *m, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes && m->byte < m->end; i++)
        v |= (uint64_t)*m->byte++ << 8 * i;
    return v;
}

/* ---- guest memory ---- */
static inline bool machine_read(void *ctx, uint64_t gpa, void *buf, uint64_t len)
{
    struct machine *m = ctx;
    if (gpa > MACHINE_MEM || len > MACHINE_MEM - gpa)
        return false;
    memcpy(buf, m->mem + gpa, len);
    if (m->changing && len)
        m->mem[gpa] ^= (uint8_t)(1 + gpa % 7);
    return true;
}
static inline bool machine_write(void *ctx, uint64_t gpa, const void *buf, uint64_t len)
{
    struct machine *m = ctx;
    if (gpa > MACHINE_MEM || len > MACHINE_MEM - gpa)
        return false;
    memcpy(m->mem + gpa, buf, len);
    return true;
}

/* ---- the owner of memory ---- */
static inline void in_memory(gfn_t first, uint64_t n)
{
    must(n && first.n < MACHINE_FRAMES && n <= MACHINE_FRAMES - first.n,
         "a range outside of memory");
}
static inline bool machine_release(void *ctx, gfn_t first, uint64_t n, enum balloon_why why)
{
    struct machine *m = ctx;
    in_memory(first, n);
    for (uint64_t i = 0; why == BALLOON_INFLATED && i < n; i++)
        must(balloon_holds(m->b, gfn(first.n + i)), "a page released that is not in the balloon");
    return first.n % 13 != 12; /* some the host refuses */
}
static inline void machine_deflated(void *ctx, gfn_t first, uint64_t n)
{
    struct machine *m = ctx;
    in_memory(first, n);
    for (uint64_t i = 0; i < n; i++)
        must(!balloon_holds(m->b, gfn(first.n + i)), "a page handed back that is in the balloon");
}
static inline void machine_hinted(void *ctx, gfn_t first, uint64_t n)
{
    (void)ctx;
    in_memory(first, n);
}
static inline void machine_hint_begin(void *ctx) { (void)ctx; }
static inline uint64_t machine_release_unwritten(void *ctx, gfn_t first, uint64_t n)
{
    (void)ctx;
    in_memory(first, n);
    return n / 2;
}
static inline void machine_irq(void *ctx, bool level) { ((struct machine *)ctx)->line = level; }

/* ---- what the guest does ---- */
static inline void reg(struct machine *m, uint64_t at, uint64_t v)
{
    virtio_mmio_write(&m->b->dev, at, 4, v);
}

static inline void notify(struct machine *m, uint32_t queue)
{
    reg(m, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

/* Queue q: descriptors at 0x400 q, available ring behind them, then the used ring. */
static inline uint64_t ring(unsigned q) { return 0x400ull * q; }
static inline uint64_t avail(unsigned q) { return ring(q) + 0x100; }
static inline uint64_t used(unsigned q) { return ring(q) + 0x200; }

static inline void set_up(struct machine *m)
{
    uint64_t f = m->b->dev.features;
    reg(m, VIRTIO_MMIO_STATUS, 0);
    reg(m, VIRTIO_MMIO_STATUS, 3);
    reg(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    reg(m, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)f);
    reg(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    reg(m, VIRTIO_MMIO_DRIVER_FEATURES, f >> 32);
    reg(m, VIRTIO_MMIO_STATUS, 11);
    memset(m->mem, 0, 0x1400);
    for (unsigned q = 0; q < m->b->dev.queues; q++) {
        reg(m, VIRTIO_MMIO_QUEUE_SEL, q);
        reg(m, VIRTIO_MMIO_QUEUE_NUM, MACHINE_QUEUE);
        reg(m, VIRTIO_MMIO_QUEUE_DESC_LOW, ring(q));
        reg(m, VIRTIO_MMIO_QUEUE_DRIVER_LOW, avail(q));
        reg(m, VIRTIO_MMIO_QUEUE_DEVICE_LOW, used(q));
        reg(m, VIRTIO_MMIO_QUEUE_READY, 1);
    }
    reg(m, VIRTIO_MMIO_CONFIG + 12, take(m, 1));
    reg(m, VIRTIO_MMIO_STATUS, 15);
}

static inline void put16(struct machine *m, uint64_t at, uint64_t v)
{
    uint16_t x = (uint16_t)v;
    memcpy(m->mem + at % (MACHINE_MEM - 1), &x, sizeof x);
}

static inline void descriptor(struct machine *m)
{
    unsigned q = (unsigned)take(m, 1) % 5, i = (unsigned)take(m, 1) % MACHINE_QUEUE;
    uint64_t flags = take(m, 1);
    struct virtq_desc d = {take(m, flags & 8 ? 8 : 3),
                           (uint32_t)(flags & 16 ? take(m, 4) : take(m, 2) & 0x1ff), flags & 7,
                           (uint16_t)take(m, 1)};
    memcpy(m->mem + ring(q) + 16 * i, &d, sizeof d);
}

static inline void announce(struct machine *m, unsigned q, uint64_t head)
{
    uint16_t idx;
    memcpy(&idx, m->mem + avail(q) + 2, sizeof idx);
    put16(m, avail(q) + 4 + 2 * (idx % MACHINE_QUEUE), head);
    put16(m, avail(q) + 2, idx + 1u);
}

static inline void make_available(struct machine *m, bool tell)
{
    unsigned q = (unsigned)take(m, 1) % 5;
    announce(m, q, take(m, 1));
    if (tell)
        notify(m, q);
}

/* Consecutive 32-bit numbers: PFNs, or a command id. */
static inline void numbers(struct machine *m)
{
    uint64_t at = take(m, 2), n = take(m, 1);
    uint32_t v = (uint32_t)take(m, 2);
    for (uint64_t i = 0; i < n && at < MACHINE_MEM - 4; i++, at += 4, v++)
        memcpy(m->mem + at, &v, sizeof v);
}

/* What an honest driver would send: PFNs, pages themselves, or the current command id. */
static inline void send(struct machine *m)
{
    enum { BUFFER = 0x1400, ID = 5 };
    static const enum balloon_role role[] = {BALLOON_INFLATE, BALLOON_DEFLATE, BALLOON_STATS,
                                             BALLOON_HINT,    BALLOON_REPORT,  BALLOON_HINT,
                                             BALLOON_INFLATE, BALLOON_DEFLATE};
    unsigned what = (unsigned)take(m, 1) % 8;
    int q = balloon_queue(m->b->dev.features, role[what]);
    uint32_t first = (uint32_t)take(m, 2) % (MACHINE_FRAMES + 20), n = (uint32_t)take(m, 1) % 100;
    struct virtq_desc d = {BUFFER, 4 * n, 0, 0};
    if (q < 0)
        return;
    if (what == BALLOON_HINT || what == BALLOON_REPORT)
        d = (struct virtq_desc){gfn_gpa(gfn(first)), n << PAGE_SHIFT, VIRTQ_DESC_F_WRITE, 0};
    if (what == ID) {
        first = m->b->state->config.free_page_hint_cmd_id;
        d.len = sizeof first;
    }
    for (uint32_t i = 0, v = first; i < d.len / 4 && !(d.flags & VIRTQ_DESC_F_WRITE); i++, v++)
        memcpy(m->mem + BUFFER + 4 * i, &v, sizeof v);
    memcpy(m->mem + ring((unsigned)q), &d, sizeof d);
    announce(m, (unsigned)q, 0);
    notify(m, (unsigned)q);
}

static inline void store(struct machine *m)
{
    uint64_t at = take(m, 2), n = take(m, 1) % 32;
    for (uint64_t i = 0; i < n; i++)
        m->mem[(at + i) % MACHINE_MEM] = (uint8_t)take(m, 1);
}

static inline void access_register(struct machine *m, bool write)
{
    static const unsigned width[] = {4, 4, 4, 1, 2, 8, 3, 0};
    unsigned w = width[take(m, 1) % 8];
    uint64_t at = take(m, 2);
    at = at & 0x8000 ? UINT64_MAX - at : at % 0x120;
    if (write)
        virtio_mmio_write(&m->b->dev, at, w, take(m, w));
    else
        (void)virtio_mmio_read(&m->b->dev, at, w);
}

static inline void host(struct machine *m)
{
    switch (take(m, 1) % 6) {
    case 0:
        balloon_set_target(m->b, take(m, 2));
        break;
    case 1:
        balloon_ask_stats(m->b);
        break;
    case 2:
        balloon_hint_start(m->b);
        break;
    case 3:
        balloon_hint_stop(m->b);
        break;
    case 4:
        balloon_hint_done(m->b);
        break;
    default: {
        size_t bytes = balloon_state_bytes(MACHINE_FRAMES);
        struct balloon_state *s = malloc(bytes);
        must(s != NULL, "no memory");
        memcpy(s, m->b->state, bytes);
        must(!balloon_restore(m->b, s, bytes), "a state does not fit the device it came from");
        must(memcmp(s, m->b->state, bytes) == 0, "restoring has changed the state");
        free(s);
    }
    }
}

static inline void step(struct machine *m)
{
    switch (take(m, 1) % 12) {
    case 0:
        set_up(m);
        break;
    case 1:
        descriptor(m);
        break;
    case 2:
        make_available(m, false);
        break;
    case 3:
        make_available(m, true);
        break;
    case 4:
        numbers(m);
        break;
    case 5:
        store(m);
        break;
    case 6:
        access_register(m, true);
        break;
    case 7:
        access_register(m, false);
        break;
    case 8:
        host(m);
        break;
    case 9:
        m->changing = !m->changing;
        break;
    default:
        send(m);
    }
}

static inline const char *check(const struct machine *m)
{
    if (m->line != (m->b->state->virtio.interrupt_status != 0))
        return "the line is not what the status says";
    return balloon_check(m->b);
}

/* The device of a choice: made once, then put back to how it was made. */
static inline struct balloon *device(struct machine *m, unsigned choice,
                                     const struct guest_mem *mem)
{
    static const struct balloon_ops ops = {machine_release, machine_deflated, machine_hint_begin,
                                           machine_release_unwritten, machine_hinted};
    static struct balloon *made[256];
    static struct balloon_state *as_made[256];
    struct balloon_config cfg = {.features = choice & VIRTIO_BALLOON_F_ALL,
                                 .frames = MACHINE_FRAMES,
                                 .order = choice & 64 ? MACHINE_ORDER : ORDER_4K,
                                 .hole = choice & 128 ? BALLOON_HOLE_DEFER : BALLOON_HOLE_SPLIT};
    size_t bytes = balloon_state_bytes(MACHINE_FRAMES);
    if (!made[choice]) {
        made[choice] = balloon_new(&cfg, mem, &ops, m, machine_irq, m);
        as_made[choice] = malloc(bytes);
        must(as_made[choice] != NULL, "no memory");
        memcpy(as_made[choice], made[choice]->state, bytes);
    }
    memcpy(made[choice]->state, as_made[choice], bytes);
    return made[choice];
}

/* The input as a guest; the number of operations. */
static inline unsigned machine_run(const uint8_t *data, size_t size)
{
    static struct machine m;
    static const struct guest_mem mem = {&m, machine_read, machine_write};
    memset(m.mem, 0, sizeof m.mem);
    m.byte = data;
    m.end = data + size;
    m.changing = m.line = false;
    m.ops = 0;
    m.b = device(&m, (unsigned)take(&m, 1), &mem);
    while (m.byte < m.end) {
        step(&m);
        if (m.ops++ % 16 == 0)
            must(!check(&m), check(&m));
    }
    must(!check(&m), check(&m));
    return m.ops;
}

#endif
