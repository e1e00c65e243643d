/* balloon.c: what the kernel does for its balloon driver (balloon/driver.h).
 *
 * Blocks in the balloon and hinted ones are lists through their frames' structs, last in first out: where
 * they are is known to no page of theirs, whose contents may be gone.
 *
 *   B1  each block of a list is of its kind, and pages[] is their number
 *   B2  the driver's own invariants
 */
#include "guest/internal.h"

/* Frames that wait until they are reported: 2 MiB, so that no system call frees a page or two and exits for it. */
enum { REPORT_AT = 512, HINT_ORDER = 9 };

static const enum frame_kind kinds[BALLOON_KEEPS] = {
    [BALLOON_HELD] = FRAME_BALLOON, [BALLOON_HINTED] = FRAME_HINTED};

static uint32_t reg_read(void *ctx, uint32_t at) { return hw_dev_read(((struct gk *)ctx)->hw, at); }
static void reg_write(void *ctx, uint32_t at, uint32_t v)
{
    hw_dev_write(((struct gk *)ctx)->hw, at, v);
}
static uint64_t load(void *ctx, gpa_t at, unsigned n)
{
    return hw_load(((struct gk *)ctx)->hw, at, n);
}
static void store(void *ctx, gpa_t at, unsigned n, uint64_t v)
{
    hw_store(((struct gk *)ctx)->hw, at, n, v);
}
static bool wait(void *ctx) { return hw_dev_wait(((struct gk *)ctx)->hw); }

static bool alloc(struct gk *g, unsigned order, enum frame_kind kind, bool zero, gfn_t *out)
{
    uint32_t f = pmm_alloc(g, order, kind, zero);
    *out = gfn(f);
    return f != NO_FRAME;
}
static bool frame(void *ctx, gfn_t *out) { return alloc(ctx, 0, FRAME_DEVICE, true, out); }
/* What is free in the end is the kernel's: a guest without any could not even run long enough to give back. */
static bool take(void *ctx, unsigned order, gfn_t *out)
{
    const struct gk *g = ctx;
    uint64_t floor = (g->cfg.mem_bytes >> PAGE_SHIFT) / 64;
    return g->pmm.free >= floor + (1ull << order) && alloc(ctx, order, FRAME_DEVICE, false, out);
}

static void keep(void *ctx, enum balloon_keep k, gfn_t f, unsigned order)
{
    struct gk *g = ctx;
    struct guest_balloon *b = &g->balloon;
    *frame_of(g, (uint32_t)f.n) =
        (struct frame){.next = b->head[k], .kind = (uint8_t)kinds[k], .order = (uint8_t)order};
    b->head[k] = (uint32_t)f.n;
    b->pages[k] += 1ull << order;
}

static bool kept(void *ctx, enum balloon_keep k, gfn_t *out, unsigned *order)
{
    struct gk *g = ctx;
    struct guest_balloon *b = &g->balloon;
    if (b->head[k] == NO_FRAME)
        return false;
    struct frame *fr = frame_of(g, b->head[k]);
    *out = gfn(b->head[k]);
    *order = fr->order;
    b->head[k] = fr->next;
    b->pages[k] -= 1ull << fr->order;
    return true;
}

static void give(void *ctx, gfn_t f, unsigned order)
{
    struct gk *g = ctx;
    *frame_of(g, (uint32_t)f.n) = (struct frame){.kind = FRAME_DEVICE, .order = (uint8_t)order};
    pmm_free(g, (uint32_t)f.n);
}

static bool unreported(void *ctx, gfn_t *out, unsigned *order)
{
    uint32_t f = pmm_take_unreported(ctx, order); /* of pmm.report_order and above */
    *out = gfn(f);
    return f != NO_FRAME;
}

static void reported(void *ctx, gfn_t f, unsigned order)
{
    pmm_give_reported(ctx, (uint32_t)f.n, order);
}

/* This kernel has no swap, no page cache and no hugetlbfs: those are 0 because nothing of the kind happens. */
static void statistics(void *ctx, uint64_t *stat)
{
    const struct gk *g = ctx;
    stat[VIRTIO_BALLOON_S_MEMFREE] = g->pmm.free << PAGE_SHIFT;
    stat[VIRTIO_BALLOON_S_MEMTOT] = (uint64_t)(g->pmm.end - g->pmm.first) << PAGE_SHIFT;
    stat[VIRTIO_BALLOON_S_AVAIL] = g->pmm.free << PAGE_SHIFT;
    stat[VIRTIO_BALLOON_S_MINFLT] = g->faults;
    stat[VIRTIO_BALLOON_S_OOM_KILL] = 0;
}

static const struct balloon_os os = {reg_read, reg_write,  load, store, frame,
                                     take,     keep,       kept, give,  unreported,
                                     reported, statistics, wait};

/* ---- for the rest of the kernel ---- */
void guest_balloon_start(struct gk *g)
{
    struct guest_balloon *b = &g->balloon;
    const struct balloon_driver_config cfg = {.order = g->cfg.balloon_order,
                                              .hint_order = HINT_ORDER};
    for (unsigned k = 0; k < BALLOON_KEEPS; k++)
        b->head[k] = NO_FRAME;
    b->there = g->cfg.balloon && balloon_driver_start(&b->driver, &os, g, &cfg);
    if (!(b->driver.features & VIRTIO_BALLOON_F_REPORTING))
        pmm_report_nothing(g);
}

bool guest_balloon_oom(struct gk *g)
{
    return g->balloon.there && balloon_driver_oom(&g->balloon.driver, 1);
}

void gk_return(struct gk *g)
{
    struct guest_balloon *b = &g->balloon;
    if (!b->there)
        return;
    if (hw_dev_interrupt(g->hw))
        balloon_driver_interrupt(&b->driver);
    if (g->pmm.unreported >= REPORT_AT)
        balloon_driver_report(&b->driver);
}

void gk_idle(struct gk *g)
{
    gk_return(g);
    while (g->balloon.there && g->pmm.unreported && balloon_driver_report(&g->balloon.driver))
        ;
}

void gk_balloon(const struct gk *g, struct gk_balloon_counts *c)
{
    const struct balloon_driver *d = &g->balloon.driver;
    *c = (struct gk_balloon_counts){.held = g->balloon.pages[BALLOON_HELD],
                                    .hinted = g->balloon.pages[BALLOON_HINTED],
                                    .inflated = d->count.inflated,
                                    .deflated = d->count.deflated,
                                    .on_oom = d->count.on_oom,
                                    .reported = d->count.reported,
                                    .requests = d->count.requests};
}

const char *guest_balloon_check(struct gk *g)
{
    struct guest_balloon *b = &g->balloon;
    for (unsigned k = 0; b->there && k < BALLOON_KEEPS; k++) {
        uint64_t pages = 0;
        for (uint32_t f = b->head[k]; f != NO_FRAME; f = frame_of(g, f)->next) {
            if (frame_of(g, f)->kind != kinds[k] || pages > g->cfg.mem_bytes >> PAGE_SHIFT)
                return "B1: the balloon holds a block that is not its own";
            pages += 1ull << frame_of(g, f)->order;
        }
        if (pages != b->pages[k])
            return "B1: the count of pages in the balloon is wrong";
    }
    return b->there ? balloon_driver_check(&b->driver, b->pages[BALLOON_HELD]) : NULL;
}
