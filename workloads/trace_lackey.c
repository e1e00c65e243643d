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
 * the output index advances by how many it does. All digits of an address are found and
 * converted at once.
 */
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "workloads/trace_in.h"

enum { LINE_MAX_BYTES = 64 }; /* longest data line: 3 + 16 + 1 + 4 digits, and a carriage return */

struct lackey {
    uint64_t line; /* lines consumed so far */
};

/* What the first three bytes of a line say. Computed, not branched on. */
struct kind {
    bool valid, store; /* store: the first access is one */
    unsigned accesses;
};

#define HEAD(a, b) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)' ' << 16)
static inline struct kind line_kind(const unsigned char *p)
{
    uint32_t w = get32(p) & 0xffffff;
    unsigned i = w == HEAD('I', ' '), l = w == HEAD(' ', 'L'), s = w == HEAD(' ', 'S'),
             m = w == HEAD(' ', 'M');
    return (struct kind){i | l | s | m, s, l + s + 2 * m};
}

/* The 1 to 16 hex digits at p; *n says how many there are (0: none). Sixteen bytes may be read. */
#ifdef __SSE2__
static inline uint64_t hex_digits(const unsigned char *p, unsigned *n)
{
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p),
            lower = _mm_or_si128(v, _mm_set1_epi8(0x20));
    __m128i digit = _mm_and_si128(_mm_cmpgt_epi8(v, _mm_set1_epi8('0' - 1)),
                                  _mm_cmplt_epi8(v, _mm_set1_epi8('9' + 1)));
    __m128i alpha = _mm_and_si128(_mm_cmpgt_epi8(lower, _mm_set1_epi8('a' - 1)),
                                  _mm_cmplt_epi8(lower, _mm_set1_epi8('f' + 1)));
    *n = (unsigned)__builtin_ctz(~(unsigned)_mm_movemask_epi8(_mm_or_si128(digit, alpha)));
    /* one digit a byte, then two, then all; what is not a digit is shifted out at the end */
    v = _mm_and_si128(_mm_add_epi8(v, _mm_and_si128(alpha, _mm_set1_epi8(9))), _mm_set1_epi8(15));
    v = _mm_or_si128(_mm_slli_epi16(v, 4), _mm_srli_epi16(v, 8));
    v = _mm_and_si128(v, _mm_set1_epi16(0xff));
    uint64_t all = __builtin_bswap64((uint64_t)_mm_cvtsi128_si64(_mm_packus_epi16(v, v)));
    return *n ? all >> (64 - 4 * *n) : 0;
}
#else
static uint64_t hex_digits(const unsigned char *p, unsigned *n)
{
    uint64_t v = 0;
    for (*n = 0; *n < 16; ++*n) {
        unsigned c = p[*n], d = c - '0' <= 9          ? c - '0'
                                : (c | 32) - 'a' <= 5 ? (c | 32) - 'a' + 10
                                                      : 16;
        if (d > 15)
            break;
        v = v << 4 | d;
    }
    return v;
}
#endif

/* Parse "ADDR,SIZE\n" at p; NULL when malformed, else the byte after it. Stops at the zero padding.
 */
static inline const unsigned char *parse_line(const unsigned char *p, uint64_t *va, unsigned *size)
{
    unsigned digits, s = 0;
    *va = hex_digits(p, &digits);
    p += digits;
    if (unlikely(digits == 0 || p[0] != ',' || (unsigned)(p[1] - '0') > 9))
        return NULL;
    s = p[1] - '0';
    p += 2;
    for (unsigned n = 1; (unsigned)(*p - '0') <= 9 && n < 4; n++)
        s = s * 10 + (*p++ - '0');
    if (unlikely(*p == '\r'))
        p++;
    if (unlikely(*p != '\n' || s == 0 || s > TRACE_MAX_SIZE))
        return NULL;
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
    while (n < TRACE_BATCH && p < stop) {
        struct kind k = line_kind(p);
        const unsigned char *next = parse_line(p + 3, &va, &size);
        if (unlikely(!k.valid || !next || next > t->buf + t->end))
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

static int sniff(const unsigned char *p, size_t n)
{
    uint64_t va;
    unsigned size;
    const unsigned char *end = p + n; /* zero padding follows */
    while (p < end && message_line(p)) {
        const unsigned char *nl = memchr(p, '\n', (size_t)(end - p));
        if (!nl)
            return 1; /* nothing but valgrind's messages so far */
        p = nl + 1;
    }
    return p < end && line_kind(p).valid && parse_line(p + 3, &va, &size);
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
