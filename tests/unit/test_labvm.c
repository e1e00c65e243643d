/* test_labvm.c: what goes into the lab machine and what comes back: plans, result streams, archives
 * and records, whole and damaged. The machine itself is in tests/cli/labvm.bats.
 *
 * link: base guest memmgr balloon vmm shadow_vs_ept workloads
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/labvm_internal.h"

/* ---- a stream that a machine could have written ---- */
struct bytes {
    char *data;
    size_t n;
    FILE *f;
};

static void begin(struct bytes *b)
{
    *b = (struct bytes){0};
    b->f = open_memstream(&b->data, &b->n);
    assert_non_null(b->f);
}

static void frame(struct bytes *b, enum labvm_kind kind, uint32_t job, const void *data, size_t n)
{
    struct labvm_head h = labvm_head(kind, job, data, (uint32_t)n);
    assert_int_equal(fwrite(&h, sizeof h, 1, b->f), 1);
    assert_int_equal(fwrite(data, 1, n, b->f), n);
}

static void one_job(struct bytes *b, uint32_t job, const char *out, const char *errors, int status)
{
    frame(b, LABVM_BEGIN, job, "", 0);
    frame(b, LABVM_OUT, job, out, strlen(out));
    frame(b, LABVM_ERRORS, job, errors, strlen(errors));
    frame(b, LABVM_STATUS, job, &status, sizeof status);
}

static void two_jobs(struct bytes *b)
{
    begin(b);
    one_job(b, 0, "first", "", 0);
    one_job(b, 1, "second", "and why", 65);
    frame(b, LABVM_DONE, 0, "", 0);
    fclose(b->f);
}

enum { JOBS = 2 };
struct receiver {
    struct labvm_job jobs[JOBS];
    struct labvm_config cfg;
    struct labvm_stream stream;
    char err[256];
};

static void receiver_init(struct receiver *h)
{
    *h = (struct receiver){.jobs = {{.paging = "ept"}, {.paging = "shadow"}}};
    h->stream = (struct labvm_stream){.jobs = h->jobs, .njobs = JOBS, .cfg = &h->cfg};
}

static void receiver_free(struct receiver *h)
{
    labvm_stream_free(&h->stream);
    labvm_free(h->jobs, JOBS);
}

static bool feed(struct receiver *h, const char *p, size_t n)
{
    return labvm_stream_feed(&h->stream, p, n, h->err, sizeof h->err);
}

static void check_two_jobs(const struct receiver *h)
{
    assert_true(h->stream.done);
    assert_true(h->jobs[0].done && h->jobs[1].done);
    assert_string_equal(h->jobs[0].out, "first");
    assert_string_equal(h->jobs[0].errors, "");
    assert_int_equal(h->jobs[0].status, 0);
    assert_string_equal(h->jobs[1].out, "second");
    assert_string_equal(h->jobs[1].errors, "and why");
    assert_int_equal(h->jobs[1].status, 65);
}

static void test_stream_in_any_pieces(void **state)
{
    (void)state;
    struct bytes b;
    two_jobs(&b);
    for (size_t piece = 1; piece <= b.n; piece += piece < 64 ? 1 : 37) {
        struct receiver h;
        receiver_init(&h);
        for (size_t at = 0; at < b.n; at += piece)
            assert_true(feed(&h, b.data + at, at + piece <= b.n ? piece : b.n - at));
        check_two_jobs(&h);
        receiver_free(&h);
    }
    free(b.data);
}

/* Any changed byte is seen: the stream is refused, or it waits for bytes that never come. */
static void test_stream_with_a_changed_byte(void **state)
{
    (void)state;
    struct bytes b;
    two_jobs(&b);
    for (size_t i = 0; i < b.n; i++) {
        struct receiver h;
        receiver_init(&h);
        b.data[i] ^= 0x11;
        if (feed(&h, b.data, b.n))
            assert_false(h.stream.done);
        else
            assert_non_null(strstr(h.err, "damaged"));
        b.data[i] ^= 0x11;
        receiver_free(&h);
    }
    free(b.data);
}

static void test_stream_cut_short(void **state)
{
    (void)state;
    struct bytes b;
    two_jobs(&b);
    for (size_t n = 0; n < b.n; n++) {
        struct receiver h;
        receiver_init(&h);
        assert_true(feed(&h, b.data, n));
        assert_false(h.stream.done);
        receiver_free(&h);
    }
    free(b.data);
}

struct step {
    enum labvm_kind kind;
    uint32_t job;
    unsigned bytes;
};

/* Feed valid frames; how many were taken before one was refused. */
static int taken(const struct step *s, int n)
{
    static const char zero[64];
    struct receiver h;
    int i;
    receiver_init(&h);
    for (i = 0; i < n; i++) {
        struct bytes b;
        begin(&b);
        frame(&b, s[i].kind, s[i].job, zero, s[i].bytes);
        fclose(b.f);
        bool ok = feed(&h, b.data, b.n);
        free(b.data);
        if (!ok)
            break;
    }
    receiver_free(&h);
    return i;
}

#define TAKEN(...)                      \
    taken((struct step[]){__VA_ARGS__}, \
          (int)(sizeof(struct step[]){__VA_ARGS__} / sizeof(struct step)))

static void test_stream_out_of_order(void **state)
{
    (void)state;
    assert_int_equal(TAKEN({LABVM_OUT, 0, 1}), 0);
    assert_int_equal(TAKEN({LABVM_BEGIN, 1, 0}), 0);
    assert_int_equal(TAKEN({LABVM_DONE, 0, 0}), 0);
    assert_int_equal(TAKEN({LABVM_JOB, 0, 0}), 0);
    assert_int_equal(TAKEN({LABVM_BEGIN, 0, 0}, {LABVM_BEGIN, 0, 0}), 1);
    assert_int_equal(TAKEN({LABVM_BEGIN, 0, 0}, {LABVM_ERRORS, 1, 1}), 1);
    assert_int_equal(TAKEN({LABVM_BEGIN, 0, 0}, {LABVM_STATUS, 0, 3}), 1);
    assert_int_equal(TAKEN({LABVM_BEGIN, 0, 0}, {LABVM_STATUS, 0, 4}, {LABVM_STATUS, 0, 4}), 2);
    assert_int_equal(TAKEN({LABVM_BEGIN, 0, 0}, {LABVM_STATUS, 0, 4}, {LABVM_BEGIN, 1, 0},
                           {LABVM_STATUS, 1, 4}, {LABVM_BEGIN, 2, 0}),
                     4);
    assert_int_equal(TAKEN({LABVM_BEGIN, 0, 0}, {LABVM_STATUS, 0, 4}, {LABVM_BEGIN, 1, 0},
                           {LABVM_STATUS, 1, 4}, {LABVM_DONE, 0, 0}, {LABVM_DONE, 0, 0}),
                     5);
}

/* A status that an exit would cut to 0 is damage, not success. */
static void test_stream_status(void **state)
{
    static const int statuses[] = {0, 255, 256, -1, 1 << 30};
    (void)state;
    for (unsigned i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        struct bytes b;
        struct receiver h;
        receiver_init(&h);
        begin(&b);
        frame(&b, LABVM_BEGIN, 0, "", 0);
        frame(&b, LABVM_STATUS, 0, &statuses[i], sizeof statuses[i]);
        fclose(b.f);
        assert_int_equal(feed(&h, b.data, b.n), i < 2);
        receiver_free(&h);
        free(b.data);
    }
}

static void test_stream_note(void **state)
{
    (void)state;
    static const char why[] = "no such module\n\x1b[2J\xff";
    struct bytes b;
    struct receiver h;
    receiver_init(&h);
    begin(&b);
    frame(&b, LABVM_NOTE, 0, why, strlen(why));
    fclose(b.f);
    assert_false(feed(&h, b.data, b.n));
    assert_non_null(strstr(h.err, "no such module??[2J?")); /* one plain line */
    receiver_free(&h);
    free(b.data);
}

/* A job may print a lot, and not without end. */
static void test_stream_bounds_output(void **state)
{
    (void)state;
    static char piece[LABVM_MAX_FRAME];
    struct receiver h;
    struct bytes b;
    receiver_init(&h);
    memset(piece, 'x', sizeof piece);
    begin(&b);
    frame(&b, LABVM_OUT, 0, piece, sizeof piece);
    fclose(b.f);
    struct labvm_head head = labvm_head(LABVM_BEGIN, 0, "", 0);
    assert_true(feed(&h, (const char *)&head, sizeof head));
    for (int i = 0; i < LABVM_MAX_OUTPUT / LABVM_MAX_FRAME; i++)
        assert_true(feed(&h, b.data, b.n));
    assert_false(feed(&h, b.data, b.n));
    assert_non_null(strstr(h.err, "too much"));
    receiver_free(&h);
    free(b.data);
}

/* ---- plans ---- */

static void test_plan(void **state)
{
    (void)state;
    char *argv[] = {(char[]){"run"}, (char[]){""}, (char[]){"--mem=64M"}, NULL};
    const struct labvm_job jobs[] = {{.paging = "ept", .argv = argv}, {.paging = "shadow"}};
    static const char words[] = "ept\0000\0run\0\0--mem=64M";
    struct bytes b;
    struct labvm_frame f;
    ssize_t used;
    begin(&b);
    assert_true(labvm_plan(b.f, jobs, 2));
    fclose(b.f);
    used = labvm_parse(b.data, b.n, &f);
    assert_true(used > 0);
    assert_int_equal(f.kind, LABVM_JOB);
    assert_int_equal(f.bytes, sizeof words);
    assert_memory_equal(f.data, words, sizeof words);
    size_t at = (size_t)used;
    used = labvm_parse(b.data + at, b.n - at, &f);
    assert_true(used > 0 && f.kind == LABVM_SHELL && f.job == 1);
    at += (size_t)used;
    used = labvm_parse(b.data + at, b.n - at, &f);
    assert_true(used > 0 && f.kind == LABVM_END && at + (size_t)used == b.n);
    free(b.data);
}

static void test_plan_too_long(void **state)
{
    (void)state;
    char *argv[LABVM_MAX_WORDS + 2], word[] = "w", *big = malloc(LABVM_MAX_FRAME + 1);
    struct labvm_job job = {.paging = "ept", .argv = argv};
    struct bytes b;
    assert_non_null(big);
    memset(big, 'w', LABVM_MAX_FRAME);
    big[LABVM_MAX_FRAME] = 0;
    for (int i = 0; i < LABVM_MAX_WORDS + 1; i++)
        argv[i] = word;
    argv[LABVM_MAX_WORDS] = NULL;
    begin(&b);
    assert_true(labvm_plan(b.f, &job, 1));
    argv[LABVM_MAX_WORDS] = word;
    argv[LABVM_MAX_WORDS + 1] = NULL;
    assert_false(labvm_plan(b.f, &job, 1));
    argv[0] = big;
    argv[1] = word;
    argv[2] = NULL;
    assert_false(labvm_plan(b.f, &job, 1));
    fclose(b.f);
    free(b.data);
    free(big);
}

static void test_needs_of_a_job(void **state)
{
    (void)state;
    char run[] = "run", mem[] = "--mem", size[] = "96M", mem2[] = "--mem=3G", bad[] = "--mem=x",
         two[] = "--host-page=2m", page[] = "--host-page", one[] = "1g";
    assert_int_equal(labvm_guest_mem((char *[]){run, NULL}), 1ull << 30);
    assert_int_equal(labvm_guest_mem((char *[]){run, mem, size, NULL}), 96ull << 20);
    assert_int_equal(labvm_guest_mem((char *[]){run, mem, size, mem2, NULL}), 3ull << 30);
    assert_int_equal(labvm_guest_mem((char *[]){run, bad, mem, NULL}), 1ull << 30);
    assert_int_equal(labvm_huge_pages((char *[]){run, mem, size, NULL}, "2m"), 0);
    assert_int_equal(labvm_huge_pages((char *[]){run, two, mem, size, NULL}, "2m"), 48);
    assert_int_equal(labvm_huge_pages((char *[]){run, two, mem, size, NULL}, "1g"), 0);
    assert_int_equal(labvm_huge_pages((char *[]){run, page, one, mem, size, NULL}, "1g"), 1);
}

/* ---- the archive: cpio reads it in labvm.bats by way of the kernel; here its layout ---- */

static unsigned hex8(const char *p)
{
    char text[9] = "";
    memcpy(text, p, 8);
    return (unsigned)strtoul(text, NULL, 16);
}

static void test_archive(void **state)
{
    (void)state;
    struct bytes b;
    struct cpio c;
    static const unsigned sizes[] = {0, 5, 7, 0};
    unsigned entries = 0;
    begin(&b);
    c = (struct cpio){.out = b.f};
    assert_true(cpio_folder(&c, "d") && cpio_file(&c, "d/file", 0644, "12345", 5) &&
                cpio_link(&c, "link", "/d/file") && cpio_end(&c));
    fclose(b.f);
    assert_int_equal(b.n, c.at);
    for (size_t at = 0; at < b.n; entries++) {
        assert_int_equal(at % 4, 0);
        assert_true(entries < sizeof sizes / sizeof sizes[0]);
        assert_memory_equal(b.data + at, "070701", 6);
        unsigned mode = hex8(b.data + at + 14), bytes = hex8(b.data + at + 54),
                 name = hex8(b.data + at + 94);
        const char *text = b.data + at + 110;
        assert_int_equal(strlen(text) + 1, name);
        at = (at + 110 + name + 3) & ~(size_t)3;
        if (entries == 1) {
            assert_string_equal(text, "d/file");
            assert_int_equal(mode, 0100644);
            assert_memory_equal(b.data + at, "12345\0\0\0", 8);
        }
        assert_int_equal(bytes, sizes[entries]);
        at = (at + bytes + 3) & ~(size_t)3;
    }
    assert_int_equal(entries, 4);
    free(b.data);
}

/* ---- records ---- */

static const char record_head[] =
    "{\"env\":{\"kernel\":\"Linux 6.1 x86_64\"},\"paging\":\"shadow\",\"backend\":\"svm-shadow\","
    "\"emulates_ring0\":false,\"outcome\":{\"status\":\"ok\","
    "\"detail\":null},\"memory_hash\":\"00000000000000ff\","
    "\"user_exits\":{\"io\":4,\"mmio\":\"5\"},";
static const char record_kvm[] = "\"kvm\":{\"exits\":7,\"hist\":[1,2,3],\"gone\":null}";
static const char phase_kvm[] = "\"kvm\":{\"exits\":6,\"hist\":[1,1,1],\"gone\":null}";

/* A record with these parts; counters: walks 9, all others null. */
static char *make_record(const char *head, const char *kvm, const char *of_phase, const char *ns)
{
    struct bytes b;
    begin(&b);
    fprintf(b.f, "%s%s,", head, kvm);
    for (int phase = 0; phase < 2; phase++) {
        fprintf(b.f,
                phase ? "\"phases\":[{\"name\":\"work\",%s,\"ns\":%s,\"counters\":{"
                      : "\"counters\":{",
                of_phase, ns);
        for (unsigned i = 0; i < CTR_COUNT; i++)
            fprintf(b.f, "%s\"%s\":%s", i ? "," : "", counter_descs[i].name,
                    i == CTR_walks ? "9" : "null");
        fputs(phase ? "}}]," : "},", b.f);
    }
    fputs("\"metadata_bytes\":{", b.f);
    for (unsigned i = 0; i < META_COUNT; i++)
        fprintf(b.f, "%s\"%s\":%u", i ? "," : "", meta_names[i], 100 + i);
    fputs("}}", b.f);
    fclose(b.f);
    return b.data;
}

static bool reads(char *text, struct result *res, const char *expect)
{
    char err[256] = "";
    bool ok = labvm_record(text, res, err, sizeof err);
    if (expect && !strstr(err, expect))
        fail_msg("said '%s' instead of '%s' of %s", err, expect, text);
    free(text);
    return ok;
}

static void test_record(void **state)
{
    (void)state;
    static struct result r;
    assert_true(reads(make_record(record_head, record_kvm, phase_kvm, "1234"), &r, NULL));
    assert_string_equal(r.backend, "svm-shadow");
    assert_string_equal(r.kernel, "Linux 6.1 x86_64");
    assert_int_equal(r.memory_hash, 255);
    assert_true(r.has_hash && r.virtual_time && !r.emulates_ring0);
    assert_int_equal(r.user_exits[2], 4); /* KVM_EXIT_IO */
    assert_int_equal(r.user_exits[6], 5); /* KVM_EXIT_MMIO */
    assert_int_equal(r.total.walks, 9);
    assert_false(r.total.unseen[CTR_walks]);
    assert_true(r.total.unseen[CTR_exits]);
    assert_int_equal(r.nkvm, 3);
    assert_string_equal(r.kvm_name[1].name, "hist");
    assert_int_equal(r.kvm_name[1].size, 3);
    assert_int_equal(r.kvm[r.kvm_name[1].first + 2], 3);
    assert_true(r.kvm_name[2].unseen);
    assert_int_equal(r.nphases, 1);
    assert_int_equal(r.phases[0].kvm[0], 6);
    assert_true(r.phases[0].timed);
    assert_int_equal(r.phases[0].ns, 1234);
    assert_int_equal(r.meta[META_MMU], 100 + META_MMU);
}

static void test_record_without_time(void **state)
{
    (void)state;
    static struct result r;
    assert_true(reads(make_record(record_head, record_kvm, phase_kvm, "null"), &r, NULL));
    assert_false(r.phases[0].timed);
}

static void test_record_damaged(void **state)
{
    (void)state;
    static struct result r;
    static const struct {
        const char *kvm, *phase, *ns, *expect;
    } c[] = {{record_kvm, phase_kvm, "-1", "ns of a phase"},
             {record_kvm, "\"kvm\":{\"exits\":6}", "1", "kvm"},
             {record_kvm, "\"kvm\":{\"exits\":6,\"hist\":[1,1],\"gone\":null}", "1", "kvm"},
             {record_kvm, "\"kvm\":{\"exits\":\"x\",\"hist\":[1,1,1],\"gone\":null}", "1", "kvm"},
             {"\"kvm\":{\"exits\":1.5}", "\"kvm\":{\"exits\":1}", "1", "kvm"},
             {"\"kvm\":{\"a_name_that_is_longer_than_any_statistic_of_a_hypervisor\":1}",
              "\"kvm\":{}", "1", "kvm"},
             {"\"kvm\":{\"exits\":1},\"kvm\":{}", "\"kvm\":{}", "1", "JSON"}};
    for (unsigned i = 0; i < sizeof c / sizeof c[0]; i++)
        assert_false(
            reads(make_record(record_head, c[i].kvm, c[i].phase, c[i].ns), &r, c[i].expect));
    assert_false(reads(strdup("[]"), &r, "JSON"));
    assert_false(reads(strdup(""), &r, "JSON"));
    assert_false(reads(strdup("{}"), &r, "paging"));
    assert_false(
        reads(make_record("{\"paging\":\"a name without end\",", record_kvm, phase_kvm, "1"), &r,
              "paging"));
}

/* Too many statistics, and a histogram larger than there is room for. */
static void test_record_bounds_statistics(void **state)
{
    (void)state;
    static struct result r;
    for (int large = 0; large < 2; large++) {
        struct bytes b;
        begin(&b);
        fputs(large ? "\"kvm\":{\"h\":[0" : "\"kvm\":{\"s\":0", b.f);
        for (int i = 0; i < (large ? MAX_KVM_VALUES : MAX_KVM_STATS); i++)
            fprintf(b.f, large ? ",0" : ",\"s%d\":0", i);
        fputs(large ? "]}" : "}", b.f);
        fclose(b.f);
        assert_false(reads(make_record(record_head, b.data, b.data, "1"), &r, "kvm"));
        free(b.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_in_any_pieces),
        cmocka_unit_test(test_stream_with_a_changed_byte),
        cmocka_unit_test(test_stream_cut_short),
        cmocka_unit_test(test_stream_out_of_order),
        cmocka_unit_test(test_stream_status),
        cmocka_unit_test(test_stream_note),
        cmocka_unit_test(test_stream_bounds_output),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_plan_too_long),
        cmocka_unit_test(test_needs_of_a_job),
        cmocka_unit_test(test_archive),
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_record_without_time),
        cmocka_unit_test(test_record_damaged),
        cmocka_unit_test(test_record_bounds_statistics),
    };
    return cmocka_run_group_tests_name("labvm", tests, NULL, NULL);
}
