/* virtq.c: taking chains from a ring nobody vouches for. Invariants and rules are in virtq.h. */
#include "balloon/virtq.h"

#include <assert.h>

_Static_assert(sizeof(struct virtq_desc) == 16, "descriptor layout (2.7.5)");
_Static_assert(sizeof(struct virtq_used_elem) == 8, "used element layout (2.7.8)");
_Static_assert(offsetof(struct virtq_avail, ring) == 4, "available ring layout (2.7.6)");
_Static_assert(offsetof(struct virtq_used, ring) == 4, "used ring layout (2.7.8)");

/* `bytes` from an address that is a multiple of `align`, not past the end of the address space. */
static bool part_valid(uint64_t gpa, uint32_t bytes, uint32_t align)
{
    return gpa % align == 0 && gpa <= UINT64_MAX - bytes;
}

bool virtq_valid(const struct virtq *q)
{
    return q->num && q->num <= VIRTQ_MAX && (q->num & (q->num - 1)) == 0 &&
           part_valid(q->desc, virtq_desc_bytes(q->num), 16) &&
           part_valid(q->avail, virtq_avail_bytes(q->num), 2) &&
           part_valid(q->used, virtq_used_bytes(q->num), 4);
}

/* ---- the three parts; offsets stay inside them by invariant (1) ---- */
static bool avail_index(const struct virtq *q, const struct guest_mem *m, uint16_t *idx)
{
    bool ok = m->read(m->ctx, q->avail + offsetof(struct virtq_avail, idx), idx, sizeof *idx);
    /* What was available before the index moved is read after it. */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return ok;
}

static bool avail_entry(const struct virtq *q, const struct guest_mem *m, uint16_t *head)
{
    uint64_t at = offsetof(struct virtq_avail, ring) + 2u * (q->avail_idx % q->num);
    return m->read(m->ctx, q->avail + at, head, sizeof *head);
}

static bool descriptor(const struct virtq *q, const struct guest_mem *m, uint16_t i,
                       struct virtq_desc *d)
{
    return i < q->num && m->read(m->ctx, q->desc + 16u * i, d, sizeof *d);
}

static uint16_t in_flight(const struct virtq *q) { return (uint16_t)(q->avail_idx - q->used_idx); }

bool virtq_available(const struct virtq *q, const struct guest_mem *m, uint16_t *n)
{
    uint16_t idx;
    assert(q->ready);
    if (!avail_index(q, m, &idx))
        return false;
    *n = (uint16_t)(idx - q->avail_idx);
    /* A chain that the device still holds occupies its descriptors: no room for num others. */
    return *n <= q->num - in_flight(q);
}

/* Invariant (3), one segment at a time. */
static bool add(struct virtq_chain *c, const struct virtq_desc *d)
{
    bool writable = d->flags & VIRTQ_DESC_F_WRITE;
    uint32_t *bytes = writable ? &c->writable : &c->readable;
    if ((d->flags & VIRTQ_DESC_F_INDIRECT) || d->len == 0 || d->addr > UINT64_MAX - d->len)
        return false;
    if ((uint64_t)c->readable + c->writable + d->len > UINT32_MAX)
        return false;
    if (!writable && c->nread != c->n)
        return false;
    c->seg[c->n++] = (struct virtq_seg){d->addr, d->len, writable};
    c->nread += !writable;
    *bytes += d->len;
    return true;
}

enum virtq_result virtq_pop(struct virtq *q, const struct guest_mem *m, struct virtq_chain *c)
{
    struct virtq_desc d;
    uint16_t n, at;
    if (!virtq_available(q, m, &n))
        return VIRTQ_BAD;
    if (n == 0)
        return VIRTQ_EMPTY;
    if (!avail_entry(q, m, &at))
        return VIRTQ_BAD;
    c->head = at;
    c->n = c->nread = 0;
    c->readable = c->writable = 0;
    do { /* a chain longer than the table has a loop */
        if (c->n == q->num || !descriptor(q, m, at, &d) || !add(c, &d))
            return VIRTQ_BAD;
        at = d.next;
    } while (d.flags & VIRTQ_DESC_F_NEXT);
    q->avail_idx++;
    return VIRTQ_CHAIN;
}

bool virtq_push(struct virtq *q, const struct guest_mem *m, uint16_t head, uint32_t len)
{
    struct virtq_used_elem e = {head, len};
    uint16_t idx = (uint16_t)(q->used_idx + 1);
    uint64_t at = offsetof(struct virtq_used, ring) + sizeof e * (q->used_idx % q->num);
    assert(q->ready && in_flight(q));
    if (!m->write(m->ctx, q->used + at, &e, sizeof e))
        return false;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    if (!m->write(m->ctx, q->used + offsetof(struct virtq_used, idx), &idx, sizeof idx))
        return false;
    q->used_idx = idx;
    return true;
}

bool virtq_wants_interrupt(const struct virtq *q, const struct guest_mem *m)
{
    uint16_t flags;
    /* The driver writes the flag, then looks at the used index; we the other way round (2.7.7.2). */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return !m->read(m->ctx, q->avail + offsetof(struct virtq_avail, flags), &flags, sizeof flags) ||
           !(flags & VIRTQ_AVAIL_F_NO_INTERRUPT);
}

bool virtq_read(const struct virtq_chain *c, const struct guest_mem *m, uint32_t offset, void *buf,
                uint32_t len)
{
    unsigned char *to = buf;
    if (offset > c->readable || len > c->readable - offset)
        return false;
    for (unsigned i = 0; len; i++) {
        const struct virtq_seg *s = &c->seg[i];
        if (offset >= s->len) {
            offset -= s->len;
            continue;
        }
        uint32_t part = s->len - offset < len ? s->len - offset : len;
        if (!m->read(m->ctx, s->gpa + offset, to, part))
            return false;
        to += part;
        len -= part;
        offset = 0;
    }
    return true;
}

const char *virtq_check(const struct virtq *q)
{
    if (!q->ready)
        return NULL;
    if (!virtq_valid(q))
        return "virtq: a ready queue has no valid shape (1)";
    if (in_flight(q) > q->num)
        return "virtq: more chains in flight than entries (2)";
    return NULL;
}
