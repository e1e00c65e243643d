/* trace_champsim.c: reads ChampSim's instruction traces, data accesses only.
 *
 * One record of 64 bytes an instruction, little-endian:
 *
 *    0  u64 ip             8  u8 is_branch, u8 branch_taken
 *   10  u8 destination_registers[2], u8 source_registers[4]
 *   16  u64 destination_memory[2]       stores; 0 = none
 *   32  u64 source_memory[4]            loads;  0 = none
 *
 * Sizes are not recorded: every access is taken as 8 bytes, or what fits before the end of its
 * page, so that no access the program did not make is invented. An instruction reads before
 * it writes. The form with address-space numbers (CloudSuite) is another layout and not read.
 *
 * The format has no magic: sniff() accepts what cannot be text and has plausible branch fields.
 * The distributed files are packed: `xz -dc FILE.champsimtrace.xz | nestbed ... -`.
 */
#include <string.h>

#include "workloads/trace_in.h"

enum { RECORD = 64, PER_RECORD = 6 };

static bool plausible(const unsigned char *p) { return p[8] <= 1 && p[9] <= 1; }

static int sniff(const unsigned char *p, size_t n)
{
    bool zero = false;
    if (n < RECORD)
        return 0;
    for (size_t at = 0; at + RECORD <= n; at += RECORD) {
        if (!plausible(p + at))
            return 0;
        zero |= memchr(p + at, 0, RECORD) != NULL;
    }
    return zero;
}

static int champsim_open(struct trace *t)
{
    t->state = meta_calloc(META_TRACE, 1, sizeof(uint64_t)); /* records read */
    t->head.source = strdup("ChampSim");
    t->head.page_bytes = 4096;
    return 0;
}

static void champsim_close(struct trace *t) { meta_free(META_TRACE, t->state); }

static size_t put(struct trace_access *out, uint64_t va, unsigned store)
{
    uint64_t room = 4096 - (va & 4095);
    *out = (struct trace_access){
        .va = va, .size = (uint16_t)(room < 8 ? room : 8), .store = (uint8_t)store};
    return va != 0;
}

static size_t record(const unsigned char *p, struct trace_access *out)
{
    size_t n = 0;
    for (unsigned i = 0; i < 4; i++)
        n += put(out + n, get64(p + 32 + 8 * i), 0);
    for (unsigned i = 0; i < 2; i++)
        n += put(out + n, get64(p + 16 + 8 * i), 1);
    return n;
}

static int malformed(struct trace *t, uint64_t at)
{
    const unsigned char *p = t->buf + t->pos;
    size_t have = t->end - t->pos;
    if (have < RECORD)
        return trace_fail(t, NB_DATAERR, "record %llu: expected 64 bytes, got '%zu'",
                          (unsigned long long)at + 1, have);
    return trace_fail(t, NB_DATAERR,
                      "record %llu: expected is_branch and branch_taken 0 or 1, got '%u' and '%u'",
                      (unsigned long long)at + 1, p[8], p[9]);
}

static int champsim_next(struct trace *t, struct trace_batch *b)
{
    uint64_t *records = t->state;
    size_t n = 0, have;
    while (n <= TRACE_BATCH - PER_RECORD && (have = in_fill(t, RECORD)) > 0) {
        const unsigned char *p = t->buf + t->pos;
        if (have < RECORD || !plausible(p))
            return malformed(t, *records);
        size_t k = record(p, t->batch + n);
        t->skipped += k == 0;
        n += k;
        t->pos += RECORD;
        ++*records;
    }
    b->acc = t->batch;
    b->n = n;
    return n > 0 ? 1 : 0;
}

REGISTER(trace_format, champsim,
         .summary = "ChampSim, 64-byte records, unpacked (data accesses, taken as 8 bytes)",
         .sniff = sniff, .open = champsim_open, .next = champsim_next, .close = champsim_close);
