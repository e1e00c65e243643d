/* trace_lackey.c: reads what `valgrind --tool=lackey --trace-mem=yes` prints.
 *
 *   I  04001000,3     instruction: address in hex (8 digits or more), bytes; counted, not kept
 *    L 1ffe8,8        load          S store          M modify: a load and a store
 *   ==123== text      valgrind's own messages ("--123--" likewise): ignored
 *
 * One process, one thread, no memory events: replay maps what is touched.
 *
 * Every data line takes the same path whatever its kind, so that the mix of loads, stores and
 * instructions costs no branch mispredictions: both accesses a line could mean are written, and
 * the output index advances by how many it does. The first eight digits are converted at once.
 */
#include <stdlib.h>
#include <string.h>

#include "workloads/trace_in.h"

enum { LINE_MAX_BYTES = 64 }; /* longest data line: 3 + 16 + 1 + 4 digits, and a carriage return */

struct kind {
    unsigned char valid, accesses, store; /* store: whether the first access is one */
};
static const struct kind kinds[256] = {
    ['I'] = {1, 0, 0}, ['L'] = {1, 1, 0}, ['S'] = {1, 1, 1}, ['M'] = {1, 2, 0}};

struct lackey {
    uint64_t line; /* lines consumed so far */
};

static bool data_head(const unsigned char *p)
{
    bool insn = p[0] == 'I' && p[1] == ' ' && p[2] == ' ';
    return insn || (p[0] == ' ' && kinds[p[1]].valid && p[1] != 'I' && p[2] == ' ');
}

/* Value of a hex digit, or 255. */
static const unsigned char hex[256] = {
#define BAD16 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255
#define AF 255, 10, 11, 12, 13, 14, 15, 255, 255, 255, 255, 255, 255, 255, 255, 255
    BAD16, BAD16, BAD16, 0,     1,     2,     3,     4,     5,    6,     7,
    8,     9,     255,   255,   255,   255,   255,   255,   AF,   BAD16, AF,
    BAD16, BAD16, BAD16, BAD16, BAD16, BAD16, BAD16, BAD16, BAD16};

/* Eight hex digits at p as a number; false when one is none. */
static inline bool hex8(const unsigned char *p, uint64_t *out)
{
    const uint64_t ones = 0x0101010101010101ull;
    uint64_t v, lower;
    memcpy(&v, p, 8);
    lower = v | 0x20 * ones;
    /* bytes '0'..'9' and 'a'..'f', by carries into bit 7; bytes above 127 are refused first */
    uint64_t digit = (v + (0x80 - '0') * ones) & ~(v + (0x7f - '9') * ones);
    uint64_t alpha = (lower + (0x80 - 'a') * ones) & ~(lower + (0x7f - 'f') * ones);
    if ((v & 0x80 * ones) || ((digit | alpha) & 0x80 * ones) != 0x80 * ones)
        return false;
    v = (v & 0x0f * ones) + 9 * ((v >> 6) & ones); /* '0' = 0x30, 'a' = 0x61, 'A' = 0x41 */
    v = __builtin_bswap64(v);
    v = (v | v >> 4) & 0x00ff00ff00ff00ffull;
    v = (v | v >> 8) & 0x0000ffff0000ffffull;
    *out = (v | v >> 16) & 0xffffffffull;
    return true;
}

/* Parse "ADDR,SIZE\n" at p; NULL when malformed, else the byte after it. Stops at the zero padding.
 */
static inline const unsigned char *parse_line(const unsigned char *p, uint64_t *va, unsigned *size)
{
    uint64_t v = 0;
    unsigned n = 0, s = 0;
    if (likely(hex8(p, &v)))
        for (p += 8; hex[*p] != 255 && n < 8; n++)
            v = v << 4 | hex[*p++];
    else
        for (; hex[*p] != 255 && n < 8; n++)
            v = v << 4 | hex[*p++];
    if (unlikely(*p != ',' || (p[-1] == ' ')))
        return NULL;
    p++;
    if (unlikely((unsigned)(*p - '0') > 9))
        return NULL;
    for (n = 0; (unsigned)(*p - '0') <= 9 && n < 4; n++)
        s = s * 10 + (*p++ - '0');
    if (unlikely(*p == '\r'))
        p++;
    if (unlikely(*p != '\n' || s == 0 || s > TRACE_MAX_SIZE))
        return NULL;
    *va = v;
    *size = s;
    return p + 1;
}

static int malformed(struct trace *t, const unsigned char *p, const unsigned char *end)
{
    struct lackey *s = t->state;
    const unsigned char *nl = memchr(p, '\n', (size_t)(end - p));
    char got[64];
    in_quote(p, (size_t)((nl ? nl : end) - p), got);
    return trace_fail_line(t, s->line + 1, "expected ' L address,size' (or S, M, I), got '%s'%s",
                           got, nl ? "" : " and no end of line: cut short?");
}

static bool message_line(const unsigned char *p)
{
    return (p[0] == '=' && p[1] == '=') || (p[0] == '-' && p[1] == '-') || p[0] == '\n' ||
           (p[0] == '\r' && p[1] == '\n');
}

/* Pass over a valgrind message, however long; false at the end of the input. */
static bool skip_message(struct trace *t)
{
    struct lackey *s = t->state;
    for (;;) {
        const unsigned char *p = t->buf + t->pos;
        const unsigned char *nl = memchr(p, '\n', t->end - t->pos);
        t->pos = nl ? (size_t)(nl + 1 - t->buf) : t->end;
        s->line += nl != NULL;
        if (nl || in_fill(t, 1) == 0)
            return nl != NULL;
    }
}

/* Parse data lines until the batch is full, the window ends or a line is something else. */
static size_t parse_window(struct trace *t, size_t n)
{
    struct lackey *s = t->state;
    const unsigned char *p = t->buf + t->pos;
    /* Whole lines only: what may be cut by the end of the window is left for the next one. */
    const unsigned char *stop = t->buf + t->end - (t->eof ? 0 : LINE_MAX_BYTES);
    uint64_t va, skipped = 0, lines = 0;
    unsigned size;
    while (n < TRACE_BATCH && p < stop && data_head(p)) {
        struct kind k = kinds[(unsigned char)(p[0] == ' ' ? p[1] : p[0])];
        const unsigned char *next = parse_line(p + 3, &va, &size);
        if (unlikely(!next || next > t->buf + t->end))
            break;
        t->batch[n] = (struct trace_access){.va = va, .size = (uint16_t)size, .store = k.store};
        t->batch[n + 1] = (struct trace_access){.va = va, .size = (uint16_t)size, .store = 1};
        n += k.accesses;
        skipped += !k.accesses;
        lines++;
        p = next;
    }
    t->pos = (size_t)(p - t->buf);
    t->skipped += skipped;
    s->line += lines;
    return n;
}

static bool sniff(const unsigned char *p, size_t n)
{
    uint64_t va;
    unsigned size;
    const unsigned char *end = p + n; /* zero padding follows */
    while (p < end && message_line(p)) {
        const unsigned char *nl = memchr(p, '\n', (size_t)(end - p));
        if (!nl)
            return true; /* nothing but valgrind's messages so far */
        p = nl + 1;
    }
    return p < end && data_head(p) && parse_line(p + 3, &va, &size);
}

static int lackey_open(struct trace *t)
{
    t->state = meta_calloc(META_TRACE, 1, sizeof(struct lackey));
    t->head.source = strdup("valgrind lackey");
    t->head.page_bytes = 4096;
    return 0;
}

static void lackey_close(struct trace *t) { meta_free(META_TRACE, t->state); }

static int lackey_next(struct trace *t, struct trace_batch *b)
{
    size_t n = 0;
    while (n < TRACE_BATCH && in_fill(t, 2ul * LINE_MAX_BYTES) > 0) {
        size_t pos = t->pos;
        n = parse_window(t, n);
        if (t->pos != pos || n >= TRACE_BATCH)
            continue;
        const unsigned char *p = t->buf + t->pos;
        if (!message_line(p))
            return malformed(t, p, t->buf + t->end);
        if (!skip_message(t))
            break;
    }
    b->acc = t->batch;
    b->n = n;
    return n > 0 ? 1 : 0;
}

REGISTER(trace_format, lackey,
         .summary = "valgrind --tool=lackey --trace-mem=yes (text; data accesses)", .sniff = sniff,
         .open = lackey_open, .next = lackey_next, .close = lackey_close);
