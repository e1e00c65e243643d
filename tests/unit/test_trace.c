/* link: base workloads/trace workloads/trace_nbt workloads/trace_write workloads/trace_lackey
 * workloads/trace_champsim workloads/trace_list */
/* test_trace.c: trace formats: round trips, truncation at every byte, mutation, malformed text.
 *
 * Fuzzing is deterministic: one seed, one sequence. Mutated files get their checksums repaired half
 * of the time, so that the checks behind the checksums are reached too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <fcntl.h>

#include <cmocka.h>
#include <xxhash.h>
#include <zstd.h>

#include "tests/unit/temp.h"
#include "base/rng.h"
#include "workloads/trace.h"
#include "workloads/trace_in.h"
#include "workloads/trace_nbt.h"

static char file[PATH_MAX + 8];

static int setup(void **state)
{
    (void)state;
    if (temp_make() != 0)
        return -1;
    snprintf(file, sizeof file, "%s/t.nbt", temp_dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(temp_dir); /* fails, and says so, when a temporary file was left behind */
}

/* ---- streams ---- */

struct item {
    bool is_event;
    struct trace_access a;
    struct trace_event e;
};

static struct trace_event random_event(struct rng *r)
{
    struct trace_event e = {.kind = 1 + rng_below(r, TRACE_KINDS - 1)};
    unsigned args = nbt_args[e.kind];
    e.pid = args & ARG_PID ? 1 + (uint32_t)rng_below(r, TRACE_MAX_PID) : 1;
    e.tid = args & ARG_TID ? (uint32_t)rng_below(r, 100) : 0;
    e.addr = args & ARG_ADDR ? rng_below(r, 1ull << 40) << 12 : 0;
    e.len = args & ARG_LEN ? (1 + rng_below(r, 1ull << 20)) << 12 : 0;
    e.prot = args & ARG_PROT ? (uint32_t)rng_below(r, 8) : 0;
    e.flags = args & ARG_FLAGS ? (uint32_t)rng_below(r, 16) : 0;
    return e;
}

static struct trace_access random_access(struct rng *r)
{
    static const uint16_t sizes[] = {1, 2, 4, 8, 8, 8, 4, 4, 16, 32, 10, 512, 4096};
    uint64_t va =
        rng_below(r, 4) ? 0x7fff00000000 + rng_below(r, 1 << rng_below(r, 30)) : rng_next(r);
    return (struct trace_access){.va = va,
                                 .size = sizes[rng_below(r, ARRAY_SIZE(sizes))],
                                 .store = (uint8_t)rng_below(r, 2)};
}

static struct item *random_stream(uint64_t seed, size_t n, unsigned events_in_1000)
{
    struct item *s = calloc(n, sizeof *s);
    struct rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++) {
        s[i].is_event = rng_below(&r, 1000) < events_in_1000;
        if (s[i].is_event)
            s[i].e = random_event(&r);
        else
            s[i].a = random_access(&r);
    }
    return s;
}

static void write_stream(const struct item *s, size_t n)
{
    char text[] = "cmd 'a b'", err[256];
    struct trace_header h = {.command = text, .source = text, .page_bytes = 4096, .status = 3};
    int code;
    struct trace_writer *w = trace_create(file, &h, 1, &code, err, sizeof err);
    assert_non_null(w);
    for (size_t i = 0; i < n; i++) {
        if (s[i].is_event)
            trace_put_event(w, &s[i].e);
        else
            trace_put(w, &s[i].a, 1);
    }
    assert_int_equal(trace_finish(w, err, sizeof err), 0);
}

/* Read `t` to its end; with `s`, compare. Returns the last trace_next(). */
static int drain(struct trace *t, const struct item *s, size_t n)
{
    struct trace_batch b;
    size_t at = 0;
    int r;
    while ((r = trace_next(t, &b)) > 0) {
        for (size_t i = 0; i < b.n && s; i++, at++) {
            assert_true(at < n && !s[at].is_event);
            assert_memory_equal(&s[at].a, &b.acc[i], sizeof *b.acc);
        }
        if (b.ev.kind != TRACE_NONE && s) {
            const struct trace_event *e = &s[at++].e;
            assert_true(at <= n && e->kind == b.ev.kind && e->addr == b.ev.addr &&
                        e->len == b.ev.len && e->prot == b.ev.prot && e->flags == b.ev.flags &&
                        e->pid == b.ev.pid && e->tid == b.ev.tid);
        }
    }
    if (r == 0 && s)
        assert_int_equal(at, n);
    return r;
}

static void round_trip(uint64_t seed, size_t n, unsigned events)
{
    struct item *s = random_stream(seed, n, events);
    struct trace *t;
    char err[512];
    write_stream(s, n);
    assert_int_equal(trace_open(file, NULL, &t, err, sizeof err), 0);
    assert_string_equal(trace_format_of(t)->name, "nbt");
    assert_string_equal(trace_head(t)->command, "cmd 'a b'");
    assert_int_equal(trace_head(t)->status, 3);
    assert_int_equal(drain(t, s, n), 0);
    trace_close(t);
    free(s);
}

static void test_round_trip(void **state)
{
    (void)state;
    round_trip(1, 0, 0);
    round_trip(2, 1, 0);
    round_trip(3, 1, 1000);
    for (uint64_t seed = 10; seed < 40; seed++)
        round_trip(seed, 1 + seed * 331, (unsigned)(seed % 4) * 300);
    round_trip(50, NBT_BLOCK_ACCESSES + 10, 1);
}

/* ---- damaged files ---- */

static unsigned char *slurp(size_t *n)
{
    FILE *f = fopen(file, "rb");
    unsigned char *p = malloc(1 << 20);
    assert_non_null(f);
    *n = fread(p, 1, 1 << 20, f);
    fclose(f);
    return p;
}

/* Read bytes as a trace through a pipe-like descriptor: the exit code, 0 when all was well. */
static int read_bytes(const unsigned char *p, size_t n, const char *format, char *err, size_t len)
{
    struct trace *t;
    int fd = memfd_create("t", 0), code;
    assert_int_equal(write(fd, p, n), (ssize_t)n);
    lseek(fd, 0, SEEK_SET);
    code = trace_open_fd(fd, "t", format, &t, err, len);
    if (code)
        return code;
    if (drain(t, NULL, 0) < 0) {
        code = trace_error_code(t);
        snprintf(err, len, "%s", trace_error(t));
        assert_int_not_equal(code, 0);
    }
    trace_close(t);
    return code;
}

static void test_truncation(void **state)
{
    (void)state;
    struct item *s = random_stream(7, 300, 200);
    char err[512];
    size_t n;
    write_stream(s, 300);
    unsigned char *p = slurp(&n);
    assert_int_equal(read_bytes(p, n, NULL, err, sizeof err), 0);
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(read_bytes(p, cut, cut < 8 ? "nbt" : NULL, err, sizeof err), NB_DATAERR);
    p[n] = 'x';
    assert_int_equal(read_bytes(p, n + 1, NULL, err, sizeof err), NB_DATAERR);
    free(p);
    free(s);
}

static void test_every_bit_counts(void **state)
{
    (void)state;
    struct item *s = random_stream(8, 60, 100);
    char err[512];
    size_t n;
    write_stream(s, 60);
    unsigned char *p = slurp(&n);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        p[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_int_not_equal(read_bytes(p, n, "nbt", err, sizeof err), 0);
        p[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    free(p);
    free(s);
}

static void set_le(unsigned char *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (unsigned char)(v >> 8 * i);
}

static void mutate(struct rng *r, unsigned char *p, size_t n)
{
    for (uint64_t k = 1 + rng_below(r, 4); k && n; k--) {
        size_t at = rng_below(r, n);
        p[at] = rng_below(r, 3) ? (unsigned char)rng_next(r)
                                : (unsigned char)(p[at] ^ 1 << rng_below(r, 8));
    }
}

/* Unpack the single block at p, mutate head or payload, pack it again with right checksums. */
static size_t mutate_block(struct rng *r, unsigned char *p, size_t n, unsigned char *out)
{
    unsigned char raw[1 << 16];
    size_t got = ZSTD_decompress(raw, sizeof raw, p + NBT_BLOCK_HEAD, n - NBT_BLOCK_HEAD);
    assert_false(ZSTD_isError(got));
    memcpy(out, p, NBT_BLOCK_HEAD);
    if (rng_below(r, 4) == 0)
        mutate(r, out + 4, 24);
    else
        mutate(r, raw, got);
    size_t packed = ZSTD_compress(out + NBT_BLOCK_HEAD, 1 << 17, raw, got, 1);
    set_le(out + 28, packed, 4);
    set_le(out + 32, XXH3_64bits_withSeed(out + NBT_BLOCK_HEAD, packed, XXH3_64bits(out, 32)), 8);
    return NBT_BLOCK_HEAD + packed;
}

static void test_mutation(void **state)
{
    (void)state;
    enum { ROUNDS = 2400 };
    struct item *s = random_stream(9, 400, 300);
    unsigned char *copy = malloc(1 << 18);
    char err[512];
    struct rng r;
    size_t n;
    unsigned refused = 0;
    write_stream(s, 400);
    unsigned char *p = slurp(&n);
    size_t head = get32(p + 12);
    rng_seed(&r, 99);
    for (int i = 0; i < ROUNDS; i++) {
        size_t len = n;
        memcpy(copy, p, n);
        if (i % 4 == 0)
            mutate(&r, copy, n);
        else if (i % 4 == 1) {
            mutate(&r, copy + 8, head - 16);
            set_le(copy + head - 8, XXH3_64bits(copy, head - 8), 8);
        } else
            len = head + mutate_block(&r, p + head, n - head, copy + head);
        refused += read_bytes(copy, len, "nbt", err, sizeof err) != 0;
    }
    assert_in_range(refused, ROUNDS / 3, ROUNDS);
    free(copy);
    free(p);
    free(s);
}

/* No count of a record may turn negative in JSON. */
static void test_huge_count(void **state)
{
    (void)state;
    struct item *s = random_stream(3, 20, 0);
    char err[512];
    size_t n;
    write_stream(s, 20);
    unsigned char *p = slurp(&n);
    size_t head = get32(p + 12);
    for (unsigned bit = 62; bit < 64; bit++) {
        set_le(p + 32, 1ull << bit, 8);
        set_le(p + head - 8, XXH3_64bits(p, head - 8), 8);
        assert_int_equal(read_bytes(p, n, "nbt", err, sizeof err), bit == 63 ? NB_DATAERR : 0);
    }
    free(p);
    free(s);
}

static void test_text_mutation(void **state)
{
    (void)state;
    static const char text[] =
        "==1== x\nI  04001000,3\n L 1ffeff8,8\n S 1ffeff8,8\n M 00001000,4\n";
    unsigned char buf[sizeof text];
    char err[512];
    struct rng r;
    rng_seed(&r, 5);
    for (int i = 0; i < 6000; i++) {
        memcpy(buf, text, sizeof text);
        mutate(&r, buf, sizeof text - 1);
        (void)read_bytes(buf, rng_below(&r, sizeof text), i & 1 ? "lackey" : "champsim", err,
                         sizeof err);
    }
}

/* ---- foreign formats ---- */

static void test_lackey(void **state)
{
    (void)state;
    static const char text[] =
        "==42== Lackey\n\nI  04001000,3\n S 1ffeffe3f8,8\n--42-- note\n L 04222c88,4\n"
        " M 0000000000ABCdef,32\r\n L 10,1\n";
    static const struct trace_access want[] = {{.va = 0x1ffeffe3f8, .size = 8, .store = 1},
                                               {.va = 0x4222c88, .size = 4},
                                               {.va = 0xabcdef, .size = 32},
                                               {.va = 0xabcdef, .size = 32, .store = 1},
                                               {.va = 0x10, .size = 1}};
    struct trace *t;
    struct trace_batch b;
    char err[512];
    int fd = memfd_create("t", 0);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    lseek(fd, 0, SEEK_SET);
    assert_int_equal(trace_open_fd(fd, "t", NULL, &t, err, sizeof err), 0);
    assert_string_equal(trace_format_of(t)->name, "lackey");
    assert_int_equal(trace_next(t, &b), 1);
    assert_int_equal(b.n, ARRAY_SIZE(want));
    assert_memory_equal(b.acc, want, sizeof want);
    assert_int_equal(trace_next(t, &b), 0);
    assert_int_equal(trace_skipped(t), 1);
    trace_close(t);
}

static void refuse(const char *text, const char *format, const char *message)
{
    char err[512] = "";
    int code = read_bytes((const unsigned char *)text, strlen(text), format, err, sizeof err);
    assert_int_equal(code, NB_DATAERR);
    if (!strstr(err, message))
        fail_msg("'%s' lacks '%s'", err, message);
}

static void test_lackey_malformed(void **state)
{
    (void)state;
    refuse(" L 1000,8\n X 2000,8\n", "lackey",
           "t:2: expected ' L address,size' (or S, M, I), got ' X 2000,8'");
    refuse(" L 1000,8\n L 2000\n", NULL, "t:2: ");
    refuse(" L ,8\n", "lackey", "t:1: ");
    refuse(" L 1000,\n", "lackey", "t:1: ");
    refuse(" L 1000,0\n", "lackey", "t:1: ");
    refuse(" L 1000,99999\n", "lackey", "t:1: ");
    refuse(" L 1000,4097\n", "lackey", "t:1: ");
    refuse(" L 00000000000001000,8\n", "lackey", "t:1: "); /* 17 digits */
    refuse(" L 0400100g,8\n", "lackey", "t:1: ");
    refuse(" L 1000,8 \n", "lackey", "t:1: ");
    refuse(" L 1000,8\n L 1000,8", "lackey", "t:2: ");
    refuse(" I 1000,8\n", "lackey", "t:1: ");
    refuse("==1== a\n==1== b\nhello\n", "lackey",
           "t:3: expected ' L address,size' (or S, M, I), got 'hello'");
    refuse("nonsense", NULL, "not a trace of a known format");
    refuse("", NULL, "empty");
    refuse("\xfd"
           "7zXZ",
           NULL, "not a trace");
}

/* Lines across the edges of the input window, long messages between them. */
static void test_lackey_windows(void **state)
{
    (void)state;
    enum { LINES = 400000 };
    char *text = malloc(40u << 20), *p = text, err[512];
    uint64_t n = 0;
    struct trace *t;
    struct trace_batch b;
    for (int i = 0; i < LINES; i++) {
        p += sprintf(p, i % 3 ? " L %08x,8\n" : "I  %08x,3\n", i * 7);
        if (i % 100000 == 50000) {
            p += sprintf(p, "==1== ");
            memset(p, 'x', 3 << 20);
            p += 3 << 20;
            *p++ = '\n';
        }
    }
    int fd = memfd_create("t", 0);
    assert_int_equal(write(fd, text, (size_t)(p - text)), p - text);
    lseek(fd, 0, SEEK_SET);
    assert_int_equal(trace_open_fd(fd, "t", NULL, &t, err, sizeof err), 0);
    while (trace_next(t, &b) > 0)
        for (size_t i = 0; i < b.n; i++, n++)
            assert_int_equal(b.acc[i].va, (n / 2 * 3 + 1 + n % 2) * 7);
    assert_string_equal(trace_error(t), "");
    assert_int_equal(n + trace_skipped(t), LINES);
    trace_close(t);
    free(text);
}

static void test_champsim(void **state)
{
    (void)state;
    unsigned char rec[3 * 64 + 1] = {0};
    char err[512];
    struct trace *t;
    struct trace_batch b;
    set_le(rec, 0x400000, 8);
    set_le(rec + 64 + 16, 0x7fffffffeffc, 8); /* 4 bytes before a page ends */
    set_le(rec + 64 + 32, 0x1000, 8);
    set_le(rec + 64 + 56, 0x2000, 8);
    rec[128 + 8] = rec[128 + 9] = 1;
    int fd = memfd_create("t", 0);
    assert_int_equal(write(fd, rec, 3 * 64), 3 * 64);
    lseek(fd, 0, SEEK_SET);
    assert_int_equal(trace_open_fd(fd, "t", NULL, &t, err, sizeof err), 0);
    assert_string_equal(trace_format_of(t)->name, "champsim");
    assert_int_equal(trace_next(t, &b), 1);
    static const struct trace_access want[] = {{.va = 0x1000, .size = 8},
                                               {.va = 0x2000, .size = 8},
                                               {.va = 0x7fffffffeffc, .size = 4, .store = 1}};
    assert_int_equal(b.n, 3);
    assert_memory_equal(b.acc, want, sizeof want);
    assert_int_equal(trace_next(t, &b), 0);
    trace_close(t);
    assert_int_equal(read_bytes(rec, 3 * 64 + 1, NULL, err, sizeof err), NB_DATAERR);
    assert_string_equal(err, "t: record 4: expected 64 bytes, got '1'");
    rec[2 * 64 + 8] = 7;
    assert_int_equal(read_bytes(rec, 3 * 64, "champsim", err, sizeof err), NB_DATAERR);
    assert_string_equal(err,
                        "t: record 3: expected is_branch and branch_taken 0 or 1, got '7' and '1'");
}

static void test_opening(void **state)
{
    (void)state;
    static const unsigned char xz[] = {0xfd, '7', 'z', 'X', 'Z', 0, 1, 2, 3};
    char err[512];
    struct trace *t;
    assert_int_equal(read_bytes(xz, sizeof xz, NULL, err, sizeof err), NB_DATAERR);
    assert_non_null(strstr(err, "xz -dc"));
    assert_int_equal(trace_open("/nonexistent", NULL, &t, err, sizeof err), NB_NOINPUT);
    assert_int_equal(read_bytes(xz, 1, "lacky", err, sizeof err), NB_USAGE);
    assert_non_null(strstr(err, "did you mean 'lackey'"));
}

static void test_abandon(void **state)
{
    (void)state;
    struct trace_header h = {0};
    char err[256], path[PATH_MAX + 16];
    int code;
    snprintf(path, sizeof path, "%s/none/x.nbt", temp_dir);
    assert_null(trace_create(path, &h, 1, &code, err, sizeof err));
    assert_int_equal(code, NB_IOERR);
    snprintf(path, sizeof path, "%s/x.nbt", temp_dir);
    struct trace_writer *w = trace_create(path, &h, 1, &code, err, sizeof err);
    assert_non_null(w);
    trace_abandon(w); /* teardown's rmdir fails if anything is left */
    assert_null(trace_create("/dev/null", &h, 1, &code, err, sizeof err));
    assert_int_equal(code, NB_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_every_bit_counts), cmocka_unit_test(test_mutation),
        cmocka_unit_test(test_text_mutation),    cmocka_unit_test(test_lackey),
        cmocka_unit_test(test_lackey_malformed), cmocka_unit_test(test_lackey_windows),
        cmocka_unit_test(test_champsim),         cmocka_unit_test(test_opening),
        cmocka_unit_test(test_abandon),          cmocka_unit_test(test_huge_count),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
