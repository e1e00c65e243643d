/* pmm.c: guest frames: a buddy allocator (Knowlton, CACM 8(10), 1965) and kernel-memory slabs.
 *
 * A block is 2^order aligned frames, order 0..18. Only its first frame's struct is ever written, so
 * booting a large guest touches a few structs per GiB: kernel memory is backed on first touch.
 * Lists are LIFO and a split keeps the lower half, so fresh memory is handed out upwards and a
 * freed frame is the next one used. All of it is deterministic.
 *
 * Which frames hold zeroes: the kernel knows only "never allocated since boot". That is one bit a
 * frame in a bitmap of its own, so that a 1 GiB block costs 32 KiB to look through, not 3 MiB.
 *
 * Invariants (gk_check names them P1..P4):
 *   P1  the blocks partition [first, end): every frame is in exactly one, free or allocated
 *   P2  a block's head says its kind and order; its other frames are FRAME_PART
 *   P3  each free list holds the free blocks of its order and no two of them are buddies
 *   P4  free = sum of free block sizes; bit of `nonempty` set iff that list has a member
 *   P5  on each list blocks that are not reported come first; `unreported` is the number of
 *       their frames, of report_order and above
 *
 * A block is reported as a whole: one that is split or joined is not.
 */
#include "guest/internal.h"

#define BIT(n) (1u << (n))

/* Frames of a free block that are to be reported. */
static uint32_t to_report(const struct pmm *m, const struct frame *fr)
{
    return fr->order >= m->report_order && !fr->reported ? BIT(fr->order) : 0;
}

static void link_block(struct pmm *m, uint32_t f, unsigned order, bool reported)
{
    struct frame *fr = &m->frames[f];
    uint32_t next = reported ? NO_FRAME : m->head[order],
             prev = reported ? m->tail[order] : NO_FRAME;
    *fr = (struct frame){.next = next,
                         .prev = prev,
                         .kind = FRAME_FREE,
                         .order = (uint8_t)order,
                         .reported = reported};
    *(next != NO_FRAME ? &m->frames[next].prev : &m->tail[order]) = f;
    *(prev != NO_FRAME ? &m->frames[prev].next : &m->head[order]) = f;
    m->nonempty |= BIT(order);
    m->unreported += to_report(m, fr);
}

static void push(struct pmm *m, uint32_t f, unsigned order) { link_block(m, f, order, false); }

/* Take a free block off its list; it is FRAME_PART until the caller says otherwise. */
static void unlink_block(struct pmm *m, uint32_t f)
{
    struct frame *fr = &m->frames[f];
    m->unreported -= to_report(m, fr);
    *(fr->prev != NO_FRAME ? &m->frames[fr->prev].next : &m->head[fr->order]) = fr->next;
    *(fr->next != NO_FRAME ? &m->frames[fr->next].prev : &m->tail[fr->order]) = fr->prev;
    if (m->head[fr->order] == NO_FRAME)
        m->nonempty &= ~BIT(fr->order);
    *fr = (struct frame){0};
}

/* Order of the largest aligned block that ends at hi and starts at lo or above. */
static unsigned block_ending(uint32_t lo, uint32_t hi)
{
    unsigned order = 0;
    while (order < MAX_ORDER && !(hi & BIT(order)) && hi - lo >= 2u << order)
        order++;
    return order;
}

bool pmm_init(struct gk *g)
{
    struct pmm *m = &g->pmm;
    m->first = (uint32_t)((g->cfg.reserved_bytes + PAGE_MASK) >> PAGE_SHIFT);
    m->end = (uint32_t)(g->cfg.mem_bytes >> PAGE_SHIFT);
    if (!m->first)
        m->first = 1; /* frame 0 stays unused: address 0 means "no table" */
    if (m->first >= m->end)
        return false;
    m->frames = hw_kmem(g->hw, (size_t)m->end * sizeof(struct frame));
    m->used = hw_kmem(g->hw, ((size_t)m->end / 64 + 1) * sizeof(uint64_t));
    if (!m->frames || !m->used)
        return false;
    for (unsigned o = 0; o <= MAX_ORDER; o++)
        m->head[o] = m->tail[o] = NO_FRAME;
    m->report_order = g->cfg.balloon ? g->cfg.balloon_report_order : MAX_ORDER + 1;
    m->free = m->end - m->first;
    /* From the top down, so that the lowest block of each order is found first. */
    for (uint32_t hi = m->end; hi > m->first;) {
        unsigned order = block_ending(m->first, hi);
        hi -= BIT(order);
        push(m, hi, order);
    }
    return true;
}

bool pmm_has(const struct gk *g, unsigned order) { return g->pmm.nonempty >> order; }

/* Mark n frames as used; with `zero`, first clear those of them that were used before. */
static void mark_used(struct gk *g, uint32_t f, uint32_t n_frames, bool zero)
{
    uint64_t *used = g->pmm.used;
    for (uint64_t at = f, end = at + n_frames; at < end;) {
        unsigned shift = at % 64, n = end - at < 64 - shift ? (unsigned)(end - at) : 64 - shift;
        uint64_t mask = (n == 64 ? ~0ull : (1ull << n) - 1) << shift, old = used[at / 64] & mask;
        for (; zero && old; old &= old - 1)
            hw_zero_page(g->hw, gfn(at - shift + (unsigned)__builtin_ctzll(old)));
        used[at / 64] |= mask;
        at += n;
    }
}

/* Take a block of 2^order frames off the free lists. */
static uint32_t take(struct pmm *m, unsigned order)
{
    uint32_t fit = m->nonempty >> order;
    if (!fit)
        return NO_FRAME;
    unsigned o = order + (unsigned)__builtin_ctz(fit);
    uint32_t f = m->head[o];
    unlink_block(m, f);
    while (o > order) {
        o--;
        push(m, f + BIT(o), o);
    }
    m->free -= BIT(order);
    return f;
}

uint32_t pmm_alloc(struct gk *g, unsigned order, enum frame_kind kind, bool zero)
{
    struct pmm *m = &g->pmm;
    uint32_t f = take(m, order);
    if (f == NO_FRAME && !order && guest_balloon_oom(g))
        f = take(m, order);
    if (f == NO_FRAME)
        return NO_FRAME;
    m->frames[f] = (struct frame){.ref = 1, .kind = (uint8_t)kind, .order = (uint8_t)order};
    mark_used(g, f, BIT(order), zero);
    return f;
}

uint32_t pmm_alloc_run(struct gk *g, uint32_t n, enum frame_kind kind)
{
    struct pmm *m = &g->pmm;
    unsigned order = 0;
    while (BIT(order) < n)
        order++;
    uint32_t f = take(m, order);
    if (f == NO_FRAME)
        return NO_FRAME;
    for (uint32_t i = 0; i < BIT(order); i++)
        m->frames[f + i] = (struct frame){.ref = 1, .kind = (uint8_t)kind};
    for (uint32_t i = BIT(order); i-- > n;)
        pmm_free(g, f + i);
    mark_used(g, f, n, true);
    return f;
}

uint32_t pmm_take_unreported(struct gk *g, unsigned *order)
{
    struct pmm *m = &g->pmm;
    for (unsigned o = MAX_ORDER + 1; m->unreported && o-- > m->report_order;) {
        uint32_t f = m->head[o];
        if (f == NO_FRAME || m->frames[f].reported)
            continue;
        unlink_block(m, f);
        m->free -= BIT(o);
        m->frames[f] = (struct frame){.kind = FRAME_DEVICE, .order = (uint8_t)o};
        mark_used(g, f, BIT(o), false);
        *order = o;
        return f;
    }
    return NO_FRAME;
}

void pmm_report_nothing(struct gk *g)
{
    g->pmm.report_order = MAX_ORDER + 1;
    g->pmm.unreported = 0;
}

void pmm_give_reported(struct gk *g, uint32_t head, unsigned order)
{
    g->pmm.free += BIT(order);
    link_block(&g->pmm, head, order, true);
}

/* Make [lo, hi), in no block, free blocks. They cannot join with what is beside them: either it is in
 * use, or [lo, hi) was cut out of one block. */
static void push_range(struct pmm *m, uint32_t lo, uint32_t hi)
{
    while (hi > lo) {
        unsigned order = block_ending(lo, hi);
        hi -= BIT(order);
        push(m, hi, order);
    }
}

/* First fit: the lowest aligned run of n free frames, or NO_FRAME. Free blocks that follow each other
 * make one run, so it may be longer than the largest block. */
static uint32_t find_run(const struct pmm *m, uint64_t n, unsigned order)
{
    uint64_t start = 0;
    bool in_run = false;
    for (uint64_t f = m->first; f < m->end; f += BIT(m->frames[f].order)) {
        const struct frame *fr = &m->frames[f];
        if (fr->kind == FRAME_FREE && !in_run)
            start = (f + BIT(order) - 1) & ~(uint64_t)(BIT(order) - 1);
        in_run = fr->kind == FRAME_FREE;
        if (in_run && f + BIT(fr->order) >= start + n)
            return (uint32_t)start;
    }
    return NO_FRAME;
}

uint32_t pmm_take_run(struct gk *g, uint64_t n, unsigned order)
{
    struct pmm *m = &g->pmm;
    uint32_t start = n && n <= m->free ? find_run(m, n, order) : NO_FRAME, f, size;
    if (start == NO_FRAME)
        return NO_FRAME;
    uint32_t end = start + (uint32_t)n;
    for (f = start; m->frames[f].kind != FRAME_FREE;) /* the block that holds the first frame */
        f &= f - 1;
    for (; f < end; f += size) {
        size = BIT(m->frames[f].order);
        unlink_block(m, f);
        if (f < start)
            push_range(m, f, start);
        if (f + size > end)
            push_range(m, end, f + size);
    }
    m->free -= n;
    mark_used(g, start, (uint32_t)n, true);
    return start;
}

void pmm_block(struct gk *g, uint32_t head, unsigned order)
{
    g->pmm.frames[head] = (struct frame){.ref = 1, .kind = FRAME_DATA, .order = (uint8_t)order};
}

void pmm_free_run(struct gk *g, uint32_t first, uint32_t end)
{
    for (uint32_t f = end; f > first;) {
        unsigned order = block_ending(first, f);
        f -= BIT(order);
        pmm_block(g, f, order);
        pmm_free(g, f);
    }
}

void pmm_free(struct gk *g, uint32_t f)
{
    struct pmm *m = &g->pmm;
    unsigned order = m->frames[f].order;
    m->free += BIT(order);
    m->frames[f] = (struct frame){0};
    for (; order < MAX_ORDER; order++) {
        uint32_t buddy = f ^ BIT(order);
        if (buddy < m->first || buddy >= m->end || m->frames[buddy].kind != FRAME_FREE ||
            m->frames[buddy].order != order)
            break;
        unlink_block(m, buddy);
        f &= ~BIT(order);
    }
    push(m, f, order);
}

uint32_t pmm_head(const struct gk *g, uint32_t f)
{
    /* Leaves exist in three sizes only, so a block that is mapped has one of three orders. */
    if (g->pmm.frames[f].kind != FRAME_PART)
        return f;
    uint32_t head = f & ~(BIT(ORDER_2M) - 1);
    if (g->pmm.frames[head].kind != FRAME_PART)
        return head;
    return f & ~(BIT(ORDER_1G) - 1);
}

void pmm_split(struct gk *g, uint32_t head)
{
    struct frame *fr = frame_of(g, head);
    unsigned order = fr->order - 9u;
    for (uint32_t i = 0; i < 512; i++)
        g->pmm.frames[head + (i << order)] =
            (struct frame){.ref = 1, .kind = FRAME_DATA, .order = (uint8_t)order};
}

static const char *check_list(const struct pmm *m, unsigned order, uint64_t *sum)
{
    uint32_t prev = NO_FRAME;
    for (uint32_t f = m->head[order]; f != NO_FRAME; prev = f, f = m->frames[f].next) {
        const struct frame *fr = &m->frames[f];
        if (f < m->first || f >= m->end || fr->kind != FRAME_FREE || fr->order != order)
            return "P3: a free list holds a block that is not free or of another order";
        uint32_t buddy = f ^ BIT(order);
        if (order < MAX_ORDER && buddy >= m->first && buddy < m->end &&
            m->frames[buddy].kind == FRAME_FREE && m->frames[buddy].order == order)
            return "P3: two free buddies were not joined";
        if (fr->prev != prev)
            return "P3: a free list is not doubly linked";
        if (prev != NO_FRAME && m->frames[prev].reported && !fr->reported)
            return "P5: a block that is not reported comes after one that is";
        *sum += BIT(order);
        if (*sum > m->free)
            return "P4: more frames on free lists than counted";
    }
    if ((m->head[order] != NO_FRAME) != ((m->nonempty >> order) & 1))
        return "P4: the summary of free lists is wrong";
    return NULL;
}

const char *pmm_check_blocks(struct gk *g)
{
    struct pmm *m = &g->pmm;
    uint64_t listed = 0, found = 0;
    uint32_t unreported = 0;
    for (unsigned o = 0; o <= MAX_ORDER; o++) {
        const char *bad = check_list(m, o, &listed);
        if (bad)
            return bad;
    }
    for (uint32_t f = m->first, size; f < m->end; f += size) {
        struct frame *fr = &m->frames[f];
        size = BIT(fr->order);
        if (fr->kind == FRAME_PART)
            return "P1: a frame belongs to no block";
        if (f & (size - 1) || size > m->end - f)
            return "P2: a block is not aligned or leaves memory";
        if (fr->kind == FRAME_FREE) {
            found += size;
            unreported += to_report(m, fr);
        } else
            fr->seen = 0;
    }
    if (unreported != m->unreported)
        return "P5: the count of frames not reported is wrong";
    if (listed != found || found != m->free)
        return "P4: the count of free frames is wrong";
    return NULL;
}

const char *pmm_check_seen(struct gk *g)
{
    struct pmm *m = &g->pmm;
    uint64_t tables = 0;
    for (uint32_t f = m->first; f < m->end; f += BIT(m->frames[f].order)) {
        const struct frame *fr = &m->frames[f];
        if (fr->kind == FRAME_FREE || fr->kind >= FRAME_BALLOON)
            continue;
        if (!fr->ref || fr->seen != fr->ref)
            return "M3: a frame's count is not its number of mappings";
        tables += fr->kind == FRAME_TABLE;
    }
    return tables == g->tables ? NULL : "M4: a table is lost";
}

void *slab_get(struct gk *g, struct slab *s)
{
    uint64_t *obj = s->free;
    if (obj) {
        s->free = *(void **)obj;
        for (unsigned i = 0; i < s->size / 8; i++)
            obj[i] = 0;
        return obj;
    }
    if (!s->left) {
        unsigned n = s->size >= 2048 ? 1 : 4096 / s->size;
        s->fresh = hw_kmem(g->hw, (size_t)n * s->size);
        if (!s->fresh)
            return NULL;
        s->left = n;
    }
    void *out = s->fresh;
    s->fresh += s->size;
    s->left--;
    return out;
}

void slab_put(struct slab *s, void *obj)
{
    *(void **)obj = s->free;
    s->free = obj;
}
