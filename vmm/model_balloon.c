/* model_balloon.c: the balloon of a machine of engine `model`.
 *
 * The guest's registers are the device's, called at once: each access is an exit_mmio, and what the device does
 * has been done when it returns. Its interrupt is a line that the guest's kernel looks at before it returns to its
 * program (gk_return), so a run repeats.
 */
#include <string.h>

#include "balloon/owner.h"
#include "vmm/model.h"
#include "vmm/virtio_mmio.h"

/* Pages of the balloon are in a state of their own; reported ones are only released. */
static bool release(void *ctx, gfn_t first, uint64_t n, enum balloon_why why)
{
    struct hw *h = ctx;
    if (h->gm->fixed)
        return false;
    if (why == BALLOON_INFLATED)
        gmem_balloon(h->gm, first, n);
    else
        gmem_release(h->gm, first, n);
    return true;
}

static void deflated(void *ctx, gfn_t first, uint64_t n)
{
    gmem_deflate(((struct hw *)ctx)->gm, first, n);
}

static void irq(void *ctx, bool level) { ((struct hw *)ctx)->dev_irq = level; }

static const struct balloon_ops ops = {.release = release, .deflated = deflated};

void model_balloon_new(struct hw *h)
{
    const struct balloon_setup *s = h->cfg->balloon;
    if (!s)
        return;
    const struct balloon_config cfg = {.features = s->features,
                                       .frames = h->gm->frames,
                                       .order = balloon_host_order(h->cfg->host_page),
                                       .hole = s->hole};
    uint64_t pages = 0;
    h->dev_mem = balloon_mem_gmem(h->gm);
    h->balloon = balloon_new(&cfg, &h->dev_mem, &ops, h, irq, h);
    if (balloon_plan_at_boot(s, &pages))
        balloon_set_target(h->balloon, pages);
}

void model_balloon_free(struct hw *h)
{
    if (h->balloon)
        balloon_free(h->balloon);
}

void model_balloon_phase(struct hw *h, const char *phase)
{
    uint64_t pages;
    if (!h->balloon || !h->kernel)
        return;
    if (balloon_plan_at_phase(h->cfg->balloon, phase, &pages))
        balloon_set_target(h->balloon, pages);
    balloon_ask_stats(h->balloon);
    gk_idle(h->kernel);
}

void model_balloon_count(const struct hw *h, struct counters *c)
{
    if (!h->balloon)
        return;
    c->balloon_pages = h->balloon->state->pages;
    c->balloon_refaults = h->gm->refaults;
    c->unseen[CTR_balloon_pages] = c->unseen[CTR_balloon_refaults] = c->unseen[CTR_exit_mmio] =
        false;
}

/* ---- guest/hw.h ---- */
uint32_t hw_dev_read(struct hw *h, uint32_t offset)
{
    mmu_exit(h->mmu, CTR_exit_mmio, offset);
    return (uint32_t)virtio_mmio_read(balloon_virtio(h->balloon), offset, 4);
}

void hw_dev_write(struct hw *h, uint32_t offset, uint32_t value)
{
    mmu_exit(h->mmu, CTR_exit_mmio, offset);
    virtio_mmio_write(balloon_virtio(h->balloon), offset, 4, value);
}

bool hw_dev_interrupt(struct hw *h) { return h->dev_irq; }

/* The device has done all it will before a register access returns. */
bool hw_dev_wait(struct hw *h)
{
    (void)h;
    return false;
}

uint64_t hw_load(struct hw *h, gpa_t at, unsigned bytes)
{
    uint64_t v = 0;
    mmu_guest_touch(h->mmu, gpa_gfn(at), false);
    memcpy(&v, gmem_ptr(h->gm, at), bytes);
    return v;
}

void hw_store(struct hw *h, gpa_t at, unsigned bytes, uint64_t value)
{
    mmu_guest_touch(h->mmu, gpa_gfn(at), true);
    memcpy(gmem_ptr(h->gm, at), &value, bytes);
}
