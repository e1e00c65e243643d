/* trace_nbt.c: reads nestbed's own compact traces; the layout is at the head of trace.h.
 *
 * What may be trusted, and when: the header once its hash matches; a block once its hash matches,
 * its payload has unpacked to exactly the promised size, the delta lengths sum to the delta
 * stream and every exception and event has been decoded and checked. After load_block() the
 * decoding loop runs without checks. A hash stops accidents, not intent, so each check stands on
 * its own.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

#include "workloads/trace_in.h"
#include "workloads/trace_nbt.h"

struct exception {
    uint32_t at, size;
};
struct placed_event {
    uint32_t at; /* accesses of the block before it */
    struct trace_event ev;
};

struct nbt {
    ZSTD_DCtx *z;
    unsigned char *raw;
    size_t raw_cap;
    struct exception *exc;
    struct placed_event *ev;
    size_t exc_cap, ev_cap;
    /* the current block */
    uint32_t naccess, nexc, nevents, done, exc_at, ev_at;
    const unsigned char *control, *delta;
    uint64_t base[NBT_SLOTS];
    /* so far, to compare with the header */
    uint64_t blocks, accesses, stores, events[TRACE_KINDS];
};

static int sniff(const unsigned char *p, size_t n)
{
    return n >= 8 && memcmp(p, NBT_MAGIC, 8) == 0 ? 2 : 0;
}

/* ---- header ---- */

/* Copy one length-prefixed string at *p, which must end before `end`. */
static char *take_string(const unsigned char **p, const unsigned char *end)
{
    if (end - *p < 4)
        return NULL;
    uint32_t len = get32(*p);
    *p += 4;
    if (len > (size_t)(end - *p) || memchr(*p, 0, len))
        return NULL;
    char *s = strndup((const char *)*p, len);
    *p += len;
    return trace_clean(s);
}

static int read_strings(struct trace *t, const unsigned char *p, const unsigned char *end)
{
    char **field[] = {&t->head.command, &t->head.source, &t->head.note};
    for (size_t i = 0; i < ARRAY_SIZE(field); i++)
        if (!(*field[i] = take_string(&p, end)))
            return trace_fail(t, NB_DATAERR, "damaged header: a string runs past its end");
    return p == end
               ? 0
               : trace_fail(t, NB_DATAERR, "damaged header: %zu bytes too long", (size_t)(end - p));
}

static int read_header(struct trace *t)
{
    struct trace_header *h = &t->head;
    if (in_fill(t, NBT_FIXED) < NBT_FIXED)
        return trace_fail(t, NB_DATAERR, "cut short: the header is not complete");
    const unsigned char *p = t->buf + t->pos;
    if (!sniff(p, 8))
        return trace_fail(t, NB_DATAERR, "not an .nbt trace");
    uint32_t version = get32(p + 8), bytes = get32(p + 12), kinds = get32(p + 56);
    if (version != NBT_VERSION)
        return trace_fail(t, NB_DATAERR, ".nbt version %u; this program reads version %u", version,
                          NBT_VERSION);
    if (bytes > NBT_MAX_HEADER || kinds != TRACE_KINDS || bytes < NBT_FIXED + 8 * kinds + 8)
        return trace_fail(t, NB_DATAERR, "damaged header: %u bytes, %u kinds of event", bytes,
                          kinds);
    if (in_fill(t, bytes) < bytes)
        return trace_fail(t, NB_DATAERR, "cut short: the header is not complete");
    p = t->buf + t->pos;
    if (XXH3_64bits(p, bytes - 8) != get64(p + bytes - 8))
        return trace_fail(t, NB_DATAERR, "damaged header: its checksum does not match");
    h->accesses = get64(p + 16);
    h->stores = get64(p + 24);
    h->skipped = get64(p + 32);
    h->blocks = get64(p + 40);
    h->page_bytes = get32(p + 48);
    h->status = (int32_t)get32(p + 52);
    for (unsigned i = 0; i < TRACE_KINDS; i++)
        h->events[i] = get64(p + NBT_FIXED + 8 * i);
    h->counted = true;
    if (h->skipped > INT64_MAX)
        return trace_fail(t, NB_DATAERR, "damaged header: no program runs %llu instructions",
                          (unsigned long long)h->skipped);
    t->pos += bytes;
    return read_strings(t, p + NBT_FIXED + 8 * TRACE_KINDS, p + bytes - 8);
}

static int nbt_open(struct trace *t)
{
    struct nbt *s = t->state = meta_calloc(META_TRACE, 1, sizeof *s);
    s->z = ZSTD_createDCtx();
    return read_header(t);
}

static void nbt_close(struct trace *t)
{
    struct nbt *s = t->state;
    if (!s)
        return;
    ZSTD_freeDCtx(s->z);
    meta_free(META_TRACE, s->raw);
    meta_free(META_TRACE, s->exc);
    meta_free(META_TRACE, s->ev);
    meta_free(META_TRACE, s);
}

/* ---- blocks ---- */

static int damaged(struct trace *t, const char *what)
{
    struct nbt *s = t->state;
    return trace_fail(t, NB_DATAERR, "block %llu is damaged: %s", (unsigned long long)s->blocks + 1,
                      what);
}

struct cursor {
    const unsigned char *p, *end;
    bool bad;
};

static uint64_t varint(struct cursor *c)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (c->p == c->end)
            break;
        uint64_t b = *c->p++;
        if (shift == 63 && b > 1)
            break;
        v |= (b & 127) << shift;
        if (b < 128)
            return v;
    }
    c->bad = true;
    return 0;
}

static bool read_exceptions(struct nbt *s, struct cursor c)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < s->nexc; i++) {
        uint64_t gap = varint(&c), size = varint(&c);
        if (c.bad || gap >= s->naccess || size == 0 || size > TRACE_MAX_SIZE)
            return false;
        at += gap + (i > 0);
        if (at >= s->naccess)
            return false;
        s->exc[i] = (struct exception){(uint32_t)at, (uint32_t)size};
    }
    return c.p == c.end;
}

static bool range_ok(const struct trace_event *e)
{
    const uint64_t top = 1ull << 57;
    return !(e->addr & 4095) && !(e->len & 4095) && e->len && e->len <= top &&
           e->addr <= top - e->len;
}

static bool read_event(struct cursor *c, struct trace_event *e)
{
    unsigned kind = c->p < c->end ? *c->p++ : 0;
    if (kind == TRACE_NONE || kind >= TRACE_KINDS)
        return false;
    unsigned args = nbt_args[kind];
    *e = (struct trace_event){.kind = kind};
    e->addr = args & ARG_ADDR ? varint(c) : 0;
    e->len = args & ARG_LEN ? varint(c) : 0;
    uint64_t prot = args & ARG_PROT ? varint(c) : 0, flags = args & ARG_FLAGS ? varint(c) : 0;
    uint64_t pid = args & ARG_PID ? varint(c) : 1, tid = args & ARG_TID ? varint(c) : 0;
    if (c->bad || prot > 7 || flags > 0xffff || pid == 0 || pid > TRACE_MAX_PID ||
        tid > TRACE_MAX_PID)
        return false;
    e->prot = (uint32_t)prot;
    e->flags = (uint32_t)flags;
    e->pid = (uint32_t)pid;
    e->tid = (uint32_t)tid;
    return !(args & ARG_ADDR) || range_ok(e);
}

static bool read_events(struct nbt *s, struct cursor c)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < s->nevents; i++) {
        uint64_t gap = varint(&c);
        if (c.bad || gap > s->naccess - at || !read_event(&c, &s->ev[i].ev))
            return false;
        at += gap;
        s->ev[i].at = (uint32_t)at;
        s->events[s->ev[i].ev.kind]++;
    }
    return c.p == c.end;
}

static void grow(void *ptr, size_t *cap, size_t need, size_t size)
{
    void **p = ptr;
    if (need <= *cap)
        return;
    *p = meta_realloc(META_TRACE, *p, need * size);
    *cap = need;
}

/* Sum of delta lengths and number of stores, which the decoding loop relies on. Eight controls at a
 * time: with the length's log2 in bits b1 b0, the length is 1 + b0 + 3 b1 + 3 b0 b1. */
static uint64_t sum_controls(const unsigned char *c, size_t n, uint64_t *stores)
{
    const uint64_t ones = 0x0101010101010101ull;
    uint64_t sum = n, st = 0, w, b0, b1;
    for (size_t i = 0; i < n; i += 8) {
        size_t left = n - i;
        memcpy(&w, c + i, 8); /* IN_PAD bytes follow the payload */
        w &= left < 8 ? (1ull << 8 * left) - 1 : ~0ull;
        b0 = w >> 6 & ones;
        b1 = w >> 7 & ones;
        sum += (b0 + 3 * b1 + 3 * (b0 & b1)) * ones >> 56;
        st += (w & ones) * ones >> 56;
    }
    *stores += st;
    return sum;
}

struct block_head {
    uint32_t magic, naccess, ndelta, exc_bytes, nexc, event_bytes, nevents, packed;
};

static const char *bad_head(const struct block_head *h)
{
    uint64_t raw = (uint64_t)h->naccess + h->ndelta + h->exc_bytes + h->event_bytes;
    if (h->magic != NBT_BLOCK)
        return "it does not begin as a block";
    if (raw > NBT_MAX_PAYLOAD || h->packed > ZSTD_compressBound(NBT_MAX_PAYLOAD) ||
        h->nevents > NBT_MAX_EVENTS)
        return "its sizes are beyond the format's limits";
    if (h->nexc > h->naccess || h->nexc > h->exc_bytes || h->nevents > h->event_bytes)
        return "its counts contradict each other";
    return NULL;
}

/* Unpack and check the payload of `h`, found at p. */
static int unpack(struct trace *t, const struct block_head *h, const unsigned char *p)
{
    struct nbt *s = t->state;
    size_t raw = (size_t)h->naccess + h->ndelta + h->exc_bytes + h->event_bytes;
    grow(&s->raw, &s->raw_cap, raw + IN_PAD, 1);
    if (XXH3_64bits_withSeed(p + NBT_BLOCK_HEAD, h->packed, XXH3_64bits(p, 32)) != get64(p + 32))
        return damaged(t, "its checksum does not match");
    size_t got = ZSTD_decompressDCtx(s->z, s->raw, raw, p + NBT_BLOCK_HEAD, h->packed);
    if (ZSTD_isError(got) || got != raw)
        return damaged(t, "it does not unpack");
    memset(s->raw + raw, 0, IN_PAD);
    return 0;
}

static int use_payload(struct trace *t, const struct block_head *h)
{
    struct nbt *s = t->state;
    const unsigned char *exc = s->raw + h->naccess + h->ndelta, *ev = exc + h->exc_bytes;
    s->naccess = h->naccess;
    s->nexc = h->nexc;
    s->nevents = h->nevents;
    s->done = s->exc_at = s->ev_at = 0;
    s->control = s->raw;
    s->delta = s->raw + h->naccess;
    memset(s->base, 0, sizeof s->base);
    grow(&s->exc, &s->exc_cap, h->nexc, sizeof *s->exc);
    grow(&s->ev, &s->ev_cap, h->nevents, sizeof *s->ev);
    if (sum_controls(s->control, h->naccess, &s->stores) != h->ndelta)
        return damaged(t, "its address stream has another length than its controls say");
    if (!read_exceptions(s, (struct cursor){exc, exc + h->exc_bytes, false}))
        return damaged(t, "its access sizes are malformed");
    if (!read_events(s, (struct cursor){ev, ev + h->event_bytes, false}))
        return damaged(t, "its events are malformed");
    s->accesses += h->naccess;
    s->blocks++;
    return 0;
}

/* The end of the input: right only where the header's counts are reached. */
static int check_end(struct trace *t)
{
    struct nbt *s = t->state;
    if (s->blocks < t->head.blocks)
        return trace_fail(t, NB_DATAERR, "cut short: %llu of %llu blocks",
                          (unsigned long long)s->blocks, (unsigned long long)t->head.blocks);
    if (s->accesses != t->head.accesses || s->stores != t->head.stores ||
        memcmp(s->events, t->head.events, sizeof s->events) != 0)
        return trace_fail(
            t, NB_DATAERR,
            "damaged: the header counts other accesses or events than the blocks hold");
    return 0;
}

/* 1: a block is loaded; 0: the end; -1: failed. */
static int load_block(struct trace *t)
{
    struct nbt *s = t->state;
    size_t have = in_fill(t, NBT_BLOCK_HEAD);
    if (have == 0)
        return check_end(t);
    if (s->blocks == t->head.blocks)
        return trace_fail(t, NB_DATAERR, "bytes follow the last block");
    if (have < NBT_BLOCK_HEAD)
        return trace_fail(t, NB_DATAERR, "cut short in the head of block %llu",
                          (unsigned long long)s->blocks + 1);
    struct block_head h;
    const unsigned char *p = t->buf + t->pos;
    uint32_t *field = &h.magic;
    for (unsigned i = 0; i < 8; i++)
        field[i] = get32(p + 4 * i);
    const char *bad = bad_head(&h);
    if (bad)
        return damaged(t, bad);
    size_t whole = NBT_BLOCK_HEAD + (size_t)h.packed;
    if (in_fill(t, whole) < whole)
        return trace_fail(t, NB_DATAERR, "cut short in block %llu",
                          (unsigned long long)s->blocks + 1);
    if (unpack(t, &h, t->buf + t->pos) || use_payload(t, &h))
        return -1;
    t->pos += whole;
    return 1;
}

/* ---- accesses ---- */

/* The last eight bytes an access decodes to: size and store, by the low three bits of its control.
 */
#define META(store, log) ((uint64_t)(store) << 16 | 1u << (log))
static const uint64_t meta[8] = {META(0, 0), META(1, 0), META(0, 1), META(1, 1),
                                 META(0, 2), META(1, 2), META(0, 3), META(1, 3)};
static_assert(sizeof(struct trace_access) == 16, "decode() writes an access as two words");

/* By the log2 of a delta's length. Tables rather than shifts: x86 shifts by a variable are slow. */
static const struct {
    uint64_t mask, sign, len;
} deltas[4] = {{0xff, 0x80, 1}, {0xffff, 0x8000, 2}, {~0u, 1ull << 31, 4}, {~0ull, 1ull << 63, 8}};

static void decode(struct nbt *s, struct trace_access *out, size_t n)
{
    const unsigned char *c = s->control + s->done, *p = s->delta;
    uint64_t base[NBT_SLOTS];
    memcpy(base, s->base, sizeof base);
    for (size_t i = 0; i < n; i++) {
        unsigned ctl = c[i], log = ctl >> 6, slot = ctl >> 3 & 7;
        uint64_t d, sign = deltas[log].sign, word[2];
        memcpy(&d, p, 8);
        p += deltas[log].len;
        word[0] = base[slot] += ((d & deltas[log].mask) ^ sign) - sign;
        word[1] = meta[ctl & 7];
        memcpy(&out[i], word, sizeof word);
    }
    memcpy(s->base, base, sizeof base);
    s->delta = p;
}

/* Give the accesses [done, done + n) in `out` their unusual sizes. */
static void patch_sizes(struct nbt *s, struct trace_access *out, size_t n)
{
    for (; s->exc_at < s->nexc && s->exc[s->exc_at].at < s->done + n; s->exc_at++)
        out[s->exc[s->exc_at].at - s->done].size = (uint16_t)s->exc[s->exc_at].size;
}

static int nbt_next(struct trace *t, struct trace_batch *b)
{
    struct nbt *s = t->state;
    while (s->done == s->naccess && s->ev_at == s->nevents) {
        int r = load_block(t);
        if (r <= 0)
            return r;
    }
    uint32_t stop = s->ev_at < s->nevents ? s->ev[s->ev_at].at : s->naccess;
    uint32_t n = stop - s->done < TRACE_BATCH ? stop - s->done : TRACE_BATCH;
    decode(s, t->batch, n);
    patch_sizes(s, t->batch, n);
    s->done += n;
    b->acc = t->batch;
    b->n = n;
    if (s->done == stop && s->ev_at < s->nevents)
        b->ev = s->ev[s->ev_at++].ev;
    return 1;
}

REGISTER(trace_format, nbt,
         .summary = "nestbed's own: accesses and memory events, compressed (.nbt)", .sniff = sniff,
         .open = nbt_open, .next = nbt_next, .close = nbt_close);
