/* device_pages.c: the queues that carry pages: inflate, deflate, free page hints, free page reports.
 *
 * One notification. The chains available when it arrives are taken one after the other, their pages collected in a
 * set, and the set settled: sorted and merged by being a set, one call of the owner for each range. Only then are the
 * chains returned: the driver may use reported pages, and deflate inflated ones, from that moment on (5.5.6, 5.5.6.7). A
 * batch ends after BALLOON_BATCH pages, so that one notification cannot keep the device without limit: there are at most
 * `num` chains of that many PFNs, or of as many bytes as the guest has. What becomes available meanwhile has a
 * notification of its own.
 *
 * Holes in large host pages. Under SPLIT a page is released at once. Under DEFER a ballooned page keeps its memory until
 * its whole large page is in the balloon, then all of it is released at once: after the acknowledgement of most of its
 * pages. The device may do that to a page "in the balloon" only where the driver promises to tell it first before it
 * uses the page again, and to wait: MUST_TELL_HOST (5.5.6.2). Without that promise a guest could already be using a page
 * that the bitmap still holds, and lose its contents to the release. So without MUST_TELL_HOST negotiated, DEFER
 * releases at once as SPLIT does. Reported and hinted pages are not held by the device after it has answered: under
 * DEFER only whole large pages of a batch are released, the rest is kept.
 *
 * Poison (5.5.6.6, 5.5.6.7). A released page comes back as zero. The driver rewrites deflated pages, so inflation does
 * not care; but reported pages promise to keep poison_val, so with PAGE_POISON and a value other than zero reports are
 * acknowledged and nothing is released, as QEMU does.
 *
 * Hints, and the race that comes with them. The driver puts free pages on the hint queue under a command id, and may take
 * any of them back at any time, also before the device has seen the hint (5.5.6.5); Linux's shrinker does. It then writes
 * the page, and a device that acts on the hint now destroys what was written:
 *
 *     driver: hint P            take P back, write P
 *     device:        (not yet)                        read hint P: release P    <- corrupts
 *
 * Serving the queue inside the exit does not help, as the notification may come later than the write. The specification
 * puts the duty on the device: it may modify a page only if the guest has not modified it since the id was issued. So
 * writes must be known from before the id is visible (hint_begin, before the configuration changes) until the release,
 * and the test and the release must be one step for the guest (release_unwritten). An owner of memory that cannot do so
 * leaves them out: hints are then recorded, no more, which is what migration needs. Linux initializes what it takes
 * back, as it must, by writing: the write that protects the page. Pages under a stale id, after STOP or after DONE are
 * ignored: the id is compared when the page is read, and cannot change before the release as both are one call.
 */
#include "balloon/device_int.h"

#include <assert.h>

static uint64_t block(const struct balloon *b) { return 1ull << b->config.order; }

static bool whole_only(const struct balloon *b)
{
    return b->config.order && b->config.hole == BALLOON_HOLE_DEFER;
}

static bool deferring(const struct balloon *b)
{
    return whole_only(b) && virtio_has(&b->dev, VIRTIO_BALLOON_F_MUST_TELL_HOST);
}

/* ---- releasing ---- */
/* The block at `at` is cut by [first, first + n), and no page of the balloon in it was released before. What reports
 * released is not remembered, as the guest uses it again untold. */
static bool first_hole(const struct balloon *b, uint64_t at, uint64_t first, uint64_t n)
{
    uint64_t frames = b->state->frames, lo = ALIGN_DOWN(at, block(b)), hi = lo + block(b);
    if (hi > frames || (first <= lo && first + n >= hi))
        return false;
    return bits_count(balloon_released(b->state), lo, hi - lo) == 0;
}

static void count_splits(struct balloon *b, uint64_t first, uint64_t n)
{
    uint64_t last = first + n - 1;
    if (!b->config.order)
        return;
    b->state->count.splits += first_hole(b, first, first, n);
    if (first / block(b) != last / block(b))
        b->state->count.splits += first_hole(b, last, first, n);
}

static bool release(struct balloon *b, uint64_t first, uint64_t n, enum balloon_why why)
{
    b->state->count.releases++;
    if (!b->ops.release(b->ctx, gfn(first), n, why)) {
        b->state->count.release_failed += n;
        return false;
    }
    count_splits(b, first, n);
    return true;
}

/* A range of the balloon. */
static void release_held(struct balloon *b, uint64_t first, uint64_t n)
{
    if (release(b, first, n, BALLOON_INFLATED))
        b->state->count.released += bits_set(balloon_released(b->state), first, n);
}

/* Large pages that are complete grow into one range. */
static void flush_whole(struct balloon *b)
{
    struct balloon_scratch *x = b->scratch;
    if (x->whole_n)
        release_held(b, x->whole, x->whole_n);
    x->whole_n = 0;
}

static void add_whole(struct balloon *b, uint64_t lo, uint64_t hi)
{
    struct balloon_scratch *x = b->scratch;
    if (x->whole_n && lo > x->whole + x->whole_n)
        flush_whole(b);
    if (!x->whole_n)
        x->whole = lo;
    x->whole_n = hi - x->whole;
}

/* A range that has just entered the balloon, block by block; the last one of memory may be short. */
static void release_complete(struct balloon *b, uint64_t first, uint64_t n)
{
    struct balloon_state *s = b->state;
    uint64_t end = first + n;
    for (uint64_t lo = ALIGN_DOWN(first, block(b)); lo < end; lo += block(b)) {
        uint64_t hi = lo + block(b) < s->frames ? lo + block(b) : s->frames;
        if (bits_count(balloon_ballooned(s), lo, hi - lo) == hi - lo)
            add_whole(b, lo, hi);
        else
            s->count.deferred += (hi < end ? hi : end) - (lo > first ? lo : first);
    }
}

/* ---- settling a batch: what each queue does with a range ---- */
static void settle_inflate(struct balloon *b, uint64_t first, uint64_t n)
{
    b->state->count.inflated += n;
    b->state->pages += n;
    if (deferring(b))
        release_complete(b, first, n);
    else
        release_held(b, first, n);
}

static void settle_deflate(struct balloon *b, uint64_t first, uint64_t n)
{
    struct balloon_state *s = b->state;
    uint64_t target = s->config.num_pages, spare = s->pages > target ? s->pages - target : 0;
    uint64_t below = n > spare ? n - spare : 0;
    *(virtio_has(&b->dev, VIRTIO_BALLOON_F_DEFLATE_ON_OOM) ? &s->count.deflated_oom
                                                           : &s->count.deflated_unasked) += below;
    s->count.deflated += n;
    s->pages -= n;
    bits_clear(balloon_released(s), first, n);
    if (b->ops.deflated)
        b->ops.deflated(b->ctx, gfn(first), n);
}

/* The whole large pages of a range, where others must be kept; the last one of memory may be short. */
static uint64_t trim(const struct balloon *b, uint64_t *first, uint64_t n)
{
    uint64_t end = *first + n;
    if (!whole_only(b))
        return n;
    *first = ALIGN_UP(*first, block(b));
    if (end != b->state->frames)
        end = ALIGN_DOWN(end, block(b));
    return end > *first ? end - *first : 0;
}

static void settle_report(struct balloon *b, uint64_t first, uint64_t n)
{
    struct balloon_counters *count = &b->state->count;
    bool poisoned =
        virtio_has(&b->dev, VIRTIO_BALLOON_F_PAGE_POISON) && b->state->config.poison_val != 0;
    uint64_t kept = n, part = poisoned ? 0 : trim(b, &first, n);
    count->reported += n;
    if (part && release(b, first, part, BALLOON_REPORTED))
        count->released += part;
    kept -= part;
    count->reported_kept += kept;
}

static void settle_hint(struct balloon *b, uint64_t first, uint64_t n)
{
    b->state->count.hinted += n;
    if (b->ops.hinted)
        b->ops.hinted(b->ctx, gfn(first), n);
    n = b->ops.release_unwritten ? trim(b, &first, n) : 0;
    if (n)
        b->state->count.hinted_released += b->ops.release_unwritten(b->ctx, gfn(first), n);
}

/* ---- collecting PFNs ---- */
typedef uint64_t mover(struct pageset *, uint64_t *bitmap, uint64_t first, uint64_t n);

/* How many of the PFNs are consecutive, up or down, and the lowest of them. */
static uint32_t run(const uint32_t *pfn, uint32_t n, uint64_t *first)
{
    uint64_t at = pfn[0];
    uint32_t len = 1;
    while (len < n && pfn[len] == at + len)
        len++;
    *first = at;
    if (len > 1)
        return len;
    while (len < n && (uint64_t)pfn[len] + len == at)
        len++;
    *first = at - (len - 1);
    return len;
}

static void move(struct balloon *b, uint64_t first, uint64_t n, mover *mv, uint64_t *already)
{
    struct balloon_state *s = b->state;
    s->trail =
        (s->trail ^ (first << 20) ^ (n << 1) ^ (mv == pageset_leave)) * 0x9e3779b97f4a7c15ull;
    s->trail ^= s->trail >> 29;
    uint64_t inside = first >= s->frames ? 0 : n < s->frames - first ? n : s->frames - first;
    s->count.refused_pfn += n - inside;
    if (inside)
        *already += inside - mv(&b->scratch->set, balloon_ballooned(s), first, inside);
}

static void collect_pfns(struct balloon *b, const struct virtq_chain *c, mover *mv,
                         uint64_t *already)
{
    struct balloon_counters *count = &b->state->count;
    uint32_t *pfn = b->scratch->pfn, pfns = c->readable / 4, n;
    uint64_t first;
    count->refused_direction += c->writable != 0;
    count->refused_partial += c->readable % 4 != 0;
    if (pfns > BALLOON_BATCH) {
        count->refused_long++;
        return;
    }
    for (uint32_t at = 0; at < pfns; at += n) {
        n = pfns - at < BALLOON_PFNS ? pfns - at : BALLOON_PFNS;
        if (!virtq_read(c, b->dev.mem, 4 * at, pfn, 4 * n)) {
            count->refused_memory++;
            return;
        }
        for (uint32_t i = 0, len; i < n; i += len) {
            len = run(pfn + i, n - i, &first);
            move(b, first, len, mv, already);
        }
    }
}

static void collect_inflate(struct balloon *b, const struct virtq_chain *c)
{
    collect_pfns(b, c, pageset_enter, &b->state->count.refused_double);
}

static void collect_deflate(struct balloon *b, const struct virtq_chain *c)
{
    collect_pfns(b, c, pageset_leave, &b->state->count.refused_absent);
}

/* ---- collecting pages that are buffers themselves ---- */
/* Whole pages of a segment, inside memory; returns how many. */
static uint64_t pages_of(struct balloon *b, const struct virtq_seg *s, uint64_t *first)
{
    uint64_t end = (s->gpa + s->len) >> PAGE_SHIFT, frames = b->state->frames, all;
    *first = (s->gpa >> PAGE_SHIFT) + ((s->gpa & PAGE_MASK) != 0);
    b->state->count.refused_partial += ((s->gpa | s->len) & PAGE_MASK) != 0;
    all = end > *first ? end - *first : 0;
    end = end < frames ? end : frames;
    uint64_t inside = end > *first ? end - *first : 0;
    b->state->count.refused_pfn += all - inside;
    return inside;
}

/* The writable segments into the set; `stale`: only count them there. */
static void collect_segments(struct balloon *b, const struct virtq_chain *c, uint64_t *stale)
{
    uint64_t first, n;
    if (c->writable > b->state->frames << PAGE_SHIFT) {
        b->state->count.refused_long++;
        return;
    }
    for (unsigned i = c->nread; i < c->n; i++) {
        n = pages_of(b, &c->seg[i], &first);
        if (n && stale)
            *stale += n;
        else if (n)
            pageset_add(&b->scratch->set, first, n);
    }
}

static void collect_report(struct balloon *b, const struct virtq_chain *c)
{
    b->state->count.refused_direction += c->readable != 0;
    collect_segments(b, c, NULL);
}

/* A readable part is a command id: the one under which what follows is hinted. */
static void collect_hint(struct balloon *b, const struct virtq_chain *c)
{
    struct balloon_state *s = b->state;
    uint32_t id;
    if (c->readable && c->readable != sizeof id)
        s->count.refused_partial++;
    else if (c->readable && !virtq_read(c, b->dev.mem, 0, &id, sizeof id))
        s->count.refused_memory++;
    else if (c->readable)
        s->hint_heard = id;
    bool current = s->hint_heard >= VIRTIO_BALLOON_CMD_ID_FIRST &&
                   s->hint_heard == s->config.free_page_hint_cmd_id;
    collect_segments(b, c, current ? NULL : &s->count.hinted_stale);
}

/* ---- a notification ---- */
static const struct {
    void (*collect)(struct balloon *, const struct virtq_chain *);
    void (*settle)(struct balloon *, uint64_t first, uint64_t n);
} page_queue[BALLOON_ROLES] = {
    [BALLOON_INFLATE] = {collect_inflate, settle_inflate},
    [BALLOON_DEFLATE] = {collect_deflate, settle_deflate},
    [BALLOON_HINT] = {collect_hint, settle_hint},
    [BALLOON_REPORT] = {collect_report, settle_report},
};

static void settle(struct balloon *b, void (*range)(struct balloon *, uint64_t, uint64_t))
{
    struct balloon_scratch *x = b->scratch;
    uint64_t at = 0, first, n;
    while (pageset_range(&x->set, &at, &first, &n)) {
        b->state->count.ranges++;
        range(b, first, n);
    }
    flush_whole(b);
    pageset_empty(&x->set);
}

/* Settle the batch, then return its chains; a broken ring gets nothing back. */
static void finish(struct balloon *b, enum balloon_role role, unsigned queue)
{
    struct balloon_scratch *x = b->scratch;
    settle(b, page_queue[role].settle);
    for (unsigned i = 0; i < x->nheads && virtio_live(&b->dev); i++)
        virtio_push(&b->dev, queue, x->heads[i], 0);
    if (x->nheads && virtio_live(&b->dev))
        virtio_pushed(&b->dev, queue);
    x->nheads = 0;
}

void balloon_pages_notify(struct balloon *b, enum balloon_role role, unsigned queue)
{
    struct balloon_scratch *x = b->scratch;
    uint16_t n = virtio_available(&b->dev, queue);
    assert(x->nheads == 0 && x->set.count == 0);
    while (n-- && virtio_pop(&b->dev, queue, &x->chain) == VIRTQ_CHAIN) {
        page_queue[role].collect(b, &x->chain);
        x->heads[x->nheads++] = x->chain.head;
        if (x->set.count >= BALLOON_BATCH)
            finish(b, role, queue);
    }
    finish(b, role, queue);
}

/* Not the driver's wish to deflate, so not counted against the target. */
static void settle_reset(struct balloon *b, uint64_t first, uint64_t n)
{
    b->state->count.deflated += n;
    if (b->ops.deflated)
        b->ops.deflated(b->ctx, gfn(first), n);
}

void balloon_pages_reset(struct balloon *b)
{
    struct balloon_state *s = b->state;
    if (!s->pages)
        return;
    pageset_leave(&b->scratch->set, balloon_ballooned(s), 0, s->frames);
    bits_clear(balloon_released(s), 0, s->frames);
    s->pages = 0;
    settle(b, settle_reset);
}
