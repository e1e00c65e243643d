/* device.c: the balloon's life, configuration, statistics and commands. Pages move in device_pages.c.
 *
 * The driver is not trusted: what it says about pages is checked against the bitmap and the size of memory, what it says
 * about itself (actual, statistics) is handed on as its claim. A guest that lies about statistics only misleads the policy
 * about itself.
 *
 * Statistics (5.5.6.3). The driver leaves a filled buffer; the device reads it and keeps it. Returning it is the request
 * for the next. At most 64 entries are read; unknown tags are ignored, of two with one tag the last counts. The values of one
 * buffer replace all of the previous one.
 *
 * Reset: the guest starts over, so all its memory is its own again: every page leaves the balloon. The target stays, as
 * it is the host's.
 *
 * Simplified: the target is no promise of time, and nothing is asked of the driver while it does not move. The state is
 * trusted by balloon_restore as far as balloon_check goes: it is a copy made by this program, not a file from a stranger.
 */
#include "balloon/device_int.h"

#include <assert.h>
#include <string.h>

#include "base/base.h"

_Static_assert(sizeof(struct virtio_balloon_config) == 16, "configuration layout (5.5.4)");
_Static_assert(sizeof(struct virtio_balloon_stat) == 10, "statistics layout (5.5.6.3)");

static struct balloon *of(struct virtio_device *d)
{
    return (struct balloon *)((char *)d - offsetof(struct balloon, dev));
}

/* ---- configuration ---- */
static void config_read(struct virtio_device *d, uint32_t offset, void *buf, uint32_t len)
{
    memcpy(buf, (const char *)&of(d)->state->config + offset, len);
}

static bool inside(uint32_t offset, uint32_t len, size_t field)
{
    return offset >= field && offset + len <= field + sizeof(uint32_t);
}

/* Of the fields the driver may write, any bytes. */
static bool config_write(struct virtio_device *d, uint32_t offset, const void *buf, uint32_t len)
{
    bool poison = virtio_has(d, VIRTIO_BALLOON_F_PAGE_POISON) &&
                  !(d->state->status & VIRTIO_STATUS_DRIVER_OK); /* 5.5.6.6 */
    if (!inside(offset, len, offsetof(struct virtio_balloon_config, actual)) &&
        !(poison && inside(offset, len, offsetof(struct virtio_balloon_config, poison_val))))
        return false;
    memcpy((char *)&of(d)->state->config + offset, buf, len);
    return true;
}

void balloon_set_target(struct balloon *b, uint64_t pages)
{
    uint64_t most = b->state->frames < UINT32_MAX ? b->state->frames : UINT32_MAX;
    uint32_t target = (uint32_t)(pages < most ? pages : most);
    if (target == b->state->config.num_pages)
        return;
    b->state->config.num_pages = target;
    virtio_config_changed(&b->dev);
}

/* ---- statistics ---- */
static void read_stats(struct balloon *b, const struct virtq_chain *c)
{
    enum { MOST = 64 };
    struct virtio_balloon_stat stat[MOST];
    struct balloon_state *s = b->state;
    uint32_t n = c->readable / sizeof *stat;
    s->count.stats_buffers++;
    s->count.refused_direction += c->writable != 0;
    s->count.refused_partial += c->readable % sizeof *stat != 0;
    s->count.refused_long += n > MOST;
    n = n < MOST ? n : MOST;
    if (!virtq_read(c, b->dev.mem, 0, stat, n * (uint32_t)sizeof *stat)) {
        s->count.refused_memory++;
        return;
    }
    s->stats_valid = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (stat[i].tag >= VIRTIO_BALLOON_S_NR) {
            s->count.refused_stat++;
            continue;
        }
        s->stats[stat[i].tag] = stat[i].val;
        s->stats_valid |= (uint16_t)(1u << stat[i].tag);
    }
}

/* The held buffer goes back. */
static void return_stats(struct balloon *b, unsigned queue)
{
    b->state->stats_held = false;
    if (virtio_push(&b->dev, queue, b->state->stats_head, 0))
        virtio_pushed(&b->dev, queue);
}

static void stats_notify(struct balloon *b, unsigned queue)
{
    struct balloon_state *s = b->state;
    struct virtq_chain *c = &b->scratch->chain;
    uint16_t n = virtio_available(&b->dev, queue);
    while (n-- && virtio_pop(&b->dev, queue, c) == VIRTQ_CHAIN) {
        read_stats(b, c);
        if (s->stats_held) {
            s->count.refused_stats_buffer++;
            return_stats(b, queue);
        }
        s->stats_held = true;
        s->stats_asked = false;
        s->stats_head = c->head;
    }
}

bool balloon_ask_stats(struct balloon *b)
{
    if (!b->state->stats_held || !virtio_live(&b->dev))
        return false;
    b->state->stats_asked = true;
    return_stats(b, (unsigned)balloon_queue(b->dev.features, BALLOON_STATS));
    return virtio_live(&b->dev);
}

/* ---- hinting ---- */
static void hint_command(struct balloon *b, uint32_t id)
{
    b->state->config.free_page_hint_cmd_id = id;
    virtio_config_changed(&b->dev);
}

bool balloon_hint_start(struct balloon *b)
{
    struct balloon_state *s = b->state;
    if (!virtio_has(&b->dev, VIRTIO_BALLOON_F_FREE_PAGE_HINT) || !virtio_live(&b->dev))
        return false;
    uint32_t id = s->hint_next;
    s->hint_next = id == UINT32_MAX ? VIRTIO_BALLOON_CMD_ID_FIRST : id + 1;
    if (b->ops.hint_begin)
        b->ops.hint_begin(b->ctx); /* before the driver can see the id */
    hint_command(b, id);
    return true;
}

void balloon_hint_stop(struct balloon *b) { hint_command(b, VIRTIO_BALLOON_CMD_ID_STOP); }
void balloon_hint_done(struct balloon *b) { hint_command(b, VIRTIO_BALLOON_CMD_ID_DONE); }

/* ---- what the transport tells ---- */
static enum balloon_role role_of(const struct balloon *b, unsigned queue)
{
    unsigned r = 0;
    while (balloon_queue(b->dev.features, (enum balloon_role)r) != (int)queue)
        r++;
    assert(r < BALLOON_ROLES);
    return (enum balloon_role)r;
}

static bool notify(struct virtio_device *d, unsigned queue)
{
    enum balloon_role role = role_of(of(d), queue);
    if (balloon_role_feature(role) && !virtio_has(d, balloon_role_feature(role)))
        return false;
    if (role == BALLOON_STATS)
        stats_notify(of(d), queue);
    else
        balloon_pages_notify(of(d), role, queue);
    return true;
}

static void queue_reset(struct virtio_device *d, unsigned queue)
{
    if (role_of(of(d), queue) == BALLOON_STATS)
        of(d)->state->stats_held = of(d)->state->stats_asked = false;
}

static void reset(struct virtio_device *d)
{
    struct balloon_state *s = of(d)->state;
    balloon_pages_reset(of(d));
    s->config.actual = s->config.poison_val = 0;
    s->config.free_page_hint_cmd_id = s->hint_heard = VIRTIO_BALLOON_CMD_ID_STOP;
    s->stats_valid = 0;
}

static const struct virtio_device_ops device_ops = {
    .config_read = config_read,
    .config_write = config_write,
    .notify = notify,
    .queue_reset = queue_reset,
    .reset = reset,
};

/* ---- life ---- */
static unsigned queues(uint64_t offered)
{
    unsigned n = 0;
    for (unsigned r = 0; r < BALLOON_ROLES; r++)
        n += balloon_queue(offered, (enum balloon_role)r) >= 0;
    return n;
}

size_t balloon_state_bytes(uint64_t frames)
{
    return sizeof(struct balloon_state) + 2 * bits_words(frames) * sizeof(uint64_t);
}

struct balloon *balloon_new(const struct balloon_config *cfg, const struct guest_mem *mem,
                            const struct balloon_ops *ops, void *ctx, void (*irq)(void *, bool),
                            void *irq_ctx)
{
    assert(cfg->frames && !(cfg->features & ~VIRTIO_BALLOON_F_ALL) && cfg->order <= ORDER_1G);
    struct balloon *b = meta_calloc(META_GMEM, 1, sizeof *b);
    *b = (struct balloon){
        .dev = {.id = VIRTIO_ID_BALLOON,
                .features = cfg->features | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET,
                .queues = queues(cfg->features),
                .config_bytes = sizeof(struct virtio_balloon_config),
                .ops = &device_ops,
                .mem = mem,
                .irq = irq,
                .irq_ctx = irq_ctx},
        .config = *cfg,
        .ops = *ops,
        .ctx = ctx,
    };
    b->state = meta_calloc(META_GMEM, 1, balloon_state_bytes(cfg->frames));
    b->state->frames = cfg->frames;
    b->state->hint_next = VIRTIO_BALLOON_CMD_ID_FIRST;
    b->dev.state = &b->state->virtio;
    b->scratch = meta_calloc(META_GMEM, 1, sizeof *b->scratch);
    pageset_init(&b->scratch->set, cfg->frames);
    virtio_reset(&b->dev);
    return b;
}

void balloon_free(struct balloon *b)
{
    if (!b)
        return;
    pageset_fini(&b->scratch->set);
    meta_free(META_GMEM, b->scratch);
    meta_free(META_GMEM, b->state);
    meta_free(META_GMEM, b);
}

static void use_state(struct balloon *b, struct balloon_state *s)
{
    b->state = s;
    b->dev.state = &s->virtio;
}

const char *balloon_restore(struct balloon *b, const struct balloon_state *from, size_t bytes)
{
    struct balloon_state *old = b->state;
    if (bytes != balloon_state_bytes(old->frames) || from->frames != old->frames)
        return "balloon: the state of a guest of another size";
    struct balloon_state *copy = meta_calloc(META_GMEM, 1, bytes);
    memcpy(copy, from, bytes);
    use_state(b, copy);
    const char *wrong = balloon_check(b);
    if (wrong)
        use_state(b, old);
    meta_free(META_GMEM, wrong ? copy : old);
    if (!wrong)
        virtio_update_line(&b->dev);
    return wrong;
}

/* ---- checks ---- */
static const char *check_pages(const struct balloon *b)
{
    struct balloon_state *s = b->state;
    const uint64_t *in = balloon_ballooned(s), *out = balloon_released(s);
    uint64_t words = bits_words(s->frames), pages = 0;
    for (uint64_t w = 0; w < words; w++) {
        pages += bits_ones(in[w]);
        if (out[w] & ~in[w])
            return "balloon: a page was released that is not in the balloon (1)";
    }
    if (s->frames % 64 && in[words - 1] >> s->frames % 64)
        return "balloon: a page beyond the guest's memory (1)";
    if (pages != s->pages)
        return "balloon: the number of pages does not fit the bitmap (1)";
    if (s->count.inflated != s->count.deflated + s->pages)
        return "balloon: pages entered that neither left nor stayed (2)";
    return NULL;
}

/* In flight is what was popped and not pushed. */
static const char *check_queues(const struct balloon *b)
{
    const struct balloon_state *s = b->state;
    int stats = balloon_queue(b->dev.features, BALLOON_STATS);
    for (unsigned i = 0; i < b->dev.queues; i++) {
        const struct virtq *q = &s->virtio.queue[i];
        uint16_t held = s->stats_held && (int)i == stats;
        if (held && !q->ready)
            return "balloon: a statistics buffer of a queue that is not ready (4)";
        if ((uint16_t)(q->avail_idx - q->used_idx) != held)
            return "balloon: a chain is in flight between calls (4)";
    }
    return b->scratch->nheads || b->scratch->set.count ? "balloon: a batch was left over" : NULL;
}

const char *balloon_check(const struct balloon *b)
{
    const char *wrong = virtio_check(&b->dev);
    wrong = wrong ? wrong : pageset_check(&b->scratch->set);
    wrong = wrong ? wrong : check_pages(b);
    if (!wrong && !(b->state->virtio.status & VIRTIO_STATUS_DEVICE_NEEDS_RESET))
        wrong = check_queues(b);
    return wrong;
}
