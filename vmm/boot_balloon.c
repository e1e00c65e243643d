/* boot_balloon.c: registers, ports and record of the balloon of `nestbed boot`.
 *
 * A step: begin -> reached -> checked, each said by the guest. Out of order, or beyond the plan, it is
 * ignored: the record then lacks what was not said. Statistics and hints are asked for when the target is
 * reached and taken when the guest has verified its memory, so that hints and their end fall into the time
 * in which it uses all of it.
 *
 * Memory is given back on the vCPU's exit that announces it, before the driver is told (device.h, 3).
 */
#include "vmm/boot_balloon.h"

#include <string.h>
#include <sys/ioctl.h>

#include "balloon/owner.h"
#include "vmm/balloon_vm.h"
#include "vmm/linux_guest.h"
#include "vmm/virtio_mmio.h"

struct boot_balloon {
    struct kvm_vm *vm;
    struct backing *memory;
    struct guest_mem access;
    struct balloon *device;
    const struct boot_balloon_plan *plan;
    struct boot_balloon_result result;
    uint64_t stats_before; /* buffers of statistics read when they were asked for */
    bool line;
};

bool boot_balloon_plan_parse(const char *s, struct boot_balloon_plan *out)
{
    char copy[1024], *save = NULL;
    *out = (struct boot_balloon_plan){0};
    if (strlen(s) >= sizeof copy)
        return false;
    strcpy(copy, s);
    for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        uint64_t bytes;
        if (out->n == BOOT_BALLOON_STEPS || !parse_size(p, &bytes) || bytes % PAGE_SIZE)
            return false;
        out->pages[out->n++] = bytes / PAGE_SIZE;
    }
    return out->n > 0;
}

static void irq(void *ctx, bool level)
{
    struct boot_balloon *b = ctx;
    struct kvm_irq_level line = {.irq = BALLOON_IRQ, .level = level};
    if (level == b->line)
        return;
    b->line = level;
    b->result.interrupts += level;
    ioctl(b->vm->fd, KVM_IRQ_LINE, &line);
}

struct boot_balloon *boot_balloon_new(struct kvm_vm *vm, struct backing *memory,
                                      const struct boot_balloon_plan *plan)
{
    struct boot_balloon *b = meta_calloc(META_HOST, 1, sizeof *b);
    struct balloon_config config = {.features = VIRTIO_BALLOON_F_ALL,
                                    .frames = memory->bytes / PAGE_SIZE,
                                    .order = balloon_host_order(memory->page),
                                    .hole = BALLOON_HOLE_SPLIT};
    b->vm = vm;
    b->memory = memory;
    b->plan = plan;
    b->access = balloon_mem_backing(memory);
    b->device = balloon_new(&config, &b->access, &balloon_ops_backing, memory, irq, b);
    return b;
}

void boot_balloon_free(struct boot_balloon *b)
{
    if (!b)
        return;
    balloon_free(b->device);
    meta_free(META_HOST, b);
}

/* ---- registers ---- */
uint64_t boot_balloon_read(struct boot_balloon *b, uint64_t offset, unsigned width)
{
    b->result.mmio_exits++;
    return virtio_mmio_read(balloon_virtio(b->device), offset, width);
}

void boot_balloon_write(struct boot_balloon *b, uint64_t offset, unsigned width, uint64_t value)
{
    b->result.mmio_exits++;
    virtio_mmio_write(balloon_virtio(b->device), offset, width, value);
}

/* ---- steps ---- */
/* The step under way, or NULL. */
static struct boot_balloon_step *current(struct boot_balloon *b)
{
    return b->result.steps ? &b->result.step[b->result.steps - 1] : NULL;
}

static uint64_t resident(const struct boot_balloon *b)
{
    uint64_t bytes = 0, huge = 0;
    return backing_resident(b->memory, &bytes, &huge) ? bytes : 0;
}

static void begin(struct boot_balloon *b, uint32_t step)
{
    if (step != b->result.steps || step >= b->plan->n)
        return;
    b->result.steps++;
    balloon_set_target(b->device, b->plan->pages[step]);
}

static void reached(struct boot_balloon *b, uint32_t guest_pages)
{
    struct boot_balloon_step *s = current(b);
    if (!s || s->reached)
        return;
    *s = (struct boot_balloon_step){.reached = true,
                                    .guest_pages = guest_pages,
                                    .actual = b->device->state->config.actual,
                                    .pages = b->device->state->pages,
                                    .resident = resident(b)};
    b->stats_before = b->device->state->count.stats_buffers;
    b->result.features = b->device->state->virtio.driver_features;
    balloon_ask_stats(b->device);
    balloon_hint_start(b->device);
}

static void checked(struct boot_balloon *b, uint32_t wrong)
{
    const struct balloon_state *d = b->device->state;
    struct boot_balloon_step *s = current(b);
    if (!s || !s->reached || s->checked)
        return;
    s->checked = true;
    s->wrong = wrong;
    s->resident_checked = resident(b);
    s->has_stats = d->count.stats_buffers > b->stats_before;
    s->stats_valid = d->stats_valid;
    memcpy(s->stats, d->stats, sizeof s->stats);
    balloon_hint_done(b->device);
    s->counted = d->count;
}

void boot_balloon_out(struct boot_balloon *b, unsigned port, uint32_t value)
{
    if (port == BALLOON_BEGIN)
        begin(b, value);
    else if (port == BALLOON_REACHED)
        reached(b, value);
    else if (port == BALLOON_CHECKED)
        checked(b, value);
}

uint32_t boot_balloon_in(struct boot_balloon *b, unsigned port)
{
    const struct boot_balloon_step *s = current(b);
    if (port == BALLOON_CHECKED)
        return (uint32_t)b->device->state->count.reported;
    if (port == BALLOON_BEGIN && s && !s->reached)
        return (uint32_t)b->plan->pages[b->result.steps - 1];
    return BALLOON_NO_STEP;
}

void boot_balloon_result(struct boot_balloon *b, struct boot_balloon_result *out)
{
    const struct virtio_state *v = &b->device->state->virtio;
    *out = b->result;
    out->counted = b->device->state->count;
    memcpy(out->refused, v->refused, sizeof out->refused);
    out->broken = balloon_check(b->device);
}
