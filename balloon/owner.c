/* owner.c: a balloon on gmem, and on backing. */
#include "balloon/owner.h"

#include <string.h>

/* ---- gmem: frames lie anywhere, and may not be there yet ---- */
static bool gmem_has(const struct gmem *g, uint64_t gpa, uint64_t len)
{
    uint64_t bytes = g->frames << PAGE_SHIFT;
    return gpa <= bytes && len <= bytes - gpa;
}

static uint64_t in_page(uint64_t gpa, uint64_t len)
{
    uint64_t left = PAGE_SIZE - (gpa & PAGE_MASK);
    return len < left ? len : left;
}

static bool gmem_read(void *ctx, uint64_t gpa, void *buf, uint64_t len)
{
    const struct gmem *g = ctx;
    unsigned char *to = buf;
    if (!gmem_has(g, gpa, len))
        return false;
    for (uint64_t part; len; gpa += part, to += part, len -= part) {
        part = in_page(gpa, len);
        if (gmem_state(g, gpa_gfn(gpa)) == PG_RESIDENT)
            memcpy(to, gmem_ptr(g, gpa), part);
        else
            memset(to, 0, part); /* a page that was never written, or discarded */
    }
    return true;
}

static bool gmem_write(void *ctx, uint64_t gpa, const void *buf, uint64_t len)
{
    struct gmem *g = ctx;
    const unsigned char *from = buf;
    if (!gmem_has(g, gpa, len))
        return false;
    for (uint64_t part; len; gpa += part, from += part, len -= part) {
        part = in_page(gpa, len);
        if (gmem_fault(g, gpa_gfn(gpa)) != GMEM_OK)
            return false;
        memcpy(gmem_ptr(g, gpa), from, part);
    }
    return true;
}

struct guest_mem balloon_mem_gmem(struct gmem *g)
{
    return (struct guest_mem){g, gmem_read, gmem_write};
}

/* ---- backing: one mapping ---- */
static bool backing_has(const struct backing *b, uint64_t gpa, uint64_t len)
{
    return gpa <= b->bytes && len <= b->bytes - gpa;
}

static bool backing_read(void *ctx, uint64_t gpa, void *buf, uint64_t len)
{
    const struct backing *b = ctx;
    if (!backing_has(b, gpa, len))
        return false;
    memcpy(buf, b->mem + gpa, len);
    return true;
}

static bool backing_write(void *ctx, uint64_t gpa, const void *buf, uint64_t len)
{
    struct backing *b = ctx;
    if (!backing_has(b, gpa, len))
        return false;
    memcpy(b->mem + gpa, buf, len);
    return true;
}

struct guest_mem balloon_mem_backing(struct backing *b)
{
    return (struct guest_mem){b, backing_read, backing_write};
}

static bool release_backing(void *ctx, gfn_t first, uint64_t n, enum balloon_why why)
{
    (void)why;
    return backing_discard(ctx, gfn_gpa(first), n << PAGE_SHIFT);
}

const struct balloon_ops balloon_ops_backing = {.release = release_backing};
