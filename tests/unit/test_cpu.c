/* test_cpu.c: CPU presets: the built-in ones are what they claim, and nothing wrong is accepted. */
/* link: base shadow_vs_ept/cpu shadow_vs_ept/cpu_ini shadow_vs_ept/cpu_check cpu_presets */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/temp.h"
#include "base/base.h"
#include "base/rng.h"
#include "shadow_vs_ept/cpu.h"

static char path[PATH_MAX + 8];

static void put(const char *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Load `data` as a file; the message goes to err. */
static const struct cpu *load(const char *data, size_t n, char err[512], int *code)
{
    put(data, n);
    err[0] = 0;
    return cpu_load(path, err, 512, code);
}

static const struct cpu *preset(const char *name)
{
    char err[512];
    int code;
    const struct cpu *c = cpu_load(name, err, sizeof err, &code);
    if (!c)
        fail_msg("%s", err);
    assert_int_equal(code, NB_OK);
    return c;
}

static void geo(const struct geometry *g, unsigned entries, unsigned ways, enum tlb_index index,
                enum tlb_policy policy)
{
    assert_int_equal(g->entries, entries);
    assert_int_equal(g->ways, ways);
    assert_int_equal(g->index, index);
    assert_int_equal(g->policy, policy);
}

/* ---- built-in presets ---- */

static void presets_sorted_and_loadable(void **state)
{
    (void)state;
    assert_int_equal(cpu_preset_count, 6);
    for (size_t i = 0; i < cpu_preset_count; i++) {
        const struct cpu *c = preset(cpu_presets[i].name);
        assert_string_equal(c->name, cpu_presets[i].name);
        assert_string_equal(c->source, "built in");
        assert_string_equal(c->summary, cpu_preset_summary(&cpu_presets[i]));
        assert_true(c->cost.exit > 0 && c->cost.alloc_1g > c->cost.alloc_2m);
        assert_true(i == 0 || strcmp(cpu_presets[i - 1].name, cpu_presets[i].name) < 0);
        cpu_free(c);
    }
}

static void dmt_ref_is_dmt(void **state)
{
    (void)state;
    const struct cpu *c = preset("dmt-ref");
    geo(&c->l1[0], 64, 4, INDEX_MOD, POLICY_LRU);
    geo(&c->l2[0], 1536, 12, INDEX_MOD, POLICY_LRU);
    assert_int_equal(c->l2_sizes[0], 3);
    assert_int_equal(c->pwc_kind, PWC_INTEL);
    geo(&c->psc[0], 0, 0, INDEX_MOD, POLICY_LRU);
    geo(&c->psc[1], 2, 1, INDEX_MOD, POLICY_LRU);
    geo(&c->psc[2], 4, 4, INDEX_MOD, POLICY_LRU);
    geo(&c->psc[3], 32, 4, INDEX_MOD, POLICY_LRU);
    assert_memory_equal(c->psc, c->npsc, sizeof c->psc);
    geo(&c->cache[0], 512, 8, INDEX_MOD, POLICY_LRU);
    geo(&c->cache[1], 16384, 16, INDEX_MOD, POLICY_LRU);
    geo(&c->cache[2], 32768 * 11, 11, INDEX_MOD, POLICY_LRU);
    const double costs[] = {4, 14, 54, 200};
    assert_memory_equal(c->cost.cache, costs, sizeof costs);
    assert_true(c->cost.pwc_hit == 1);
    cpu_free(c);
}

static void others_have_their_shapes(void **state)
{
    (void)state;
    const struct cpu *c = preset("skx");
    geo(&c->l2[0], 1536, 12, INDEX_XOR, POLICY_PLRU);
    geo(&c->l2[1], 16, 4, INDEX_MOD, POLICY_PLRU);
    assert_int_equal(c->l2_sizes[1], 4);
    cpu_free(c);
    c = preset("icx");
    geo(&c->l1[2], 8, 8, INDEX_MOD, POLICY_PLRU);
    geo(&c->l2[0], 2048, 16, INDEX_XOR, POLICY_PLRU);
    assert_int_equal(c->l2_sizes[1], 4);
    cpu_free(c);
    c = preset("zen3");
    geo(&c->l1_any, 64, 64, INDEX_MOD, POLICY_LRU);
    geo(&c->l2[0], 2048, 16, INDEX_MOD, POLICY_LRU);
    assert_int_equal(c->pwc_kind, PWC_AMD);
    cpu_free(c);
    c = preset("zen4");
    geo(&c->l1_any, 72, 72, INDEX_MOD, POLICY_LRU);
    geo(&c->l2[0], 3072, 24, INDEX_MOD, POLICY_LRU);
    cpu_free(c);
    c = preset("plain");
    assert_int_equal(c->pwc_kind, PWC_NONE);
    assert_int_equal(c->cache[0].entries, 0);
    assert_true(!c->pcid && c->vpid && c->cost.ref > 0);
    cpu_free(c);
}

/* ---- what is refused, on top of a file that is accepted ---- */

#define COSTS                                                                                     \
    "[cost]\naccess = 4\nref = 54\nstlb_hit = 7\nexit = 1\nfill = 1\nreflect = 1\npt_write = 1\n" \
    "cr3 = 1\ninvlpg = 1\nept_violation = 1\nguest_fault = 1\nalloc_4k = 1\nalloc_2m = 1\n"       \
    "alloc_1g = 1\nhypercall = 1\npv_update = 1\nicr = 1\nintr = 1\nipi = 1\n"
#define CPU "[cpu]\nsummary = a test\npcid = no\nvpid = yes\napic = posted\n"
#define WALK "[walk-caches]\nkind = none\n"
#define BASE CPU WALK COSTS

static void smallest_file_loads(void **state)
{
    (void)state;
    char err[512];
    int code;
    static const char *const good[] = {
        BASE,
        "\xef\xbb\xbf" BASE,                                            /* byte-order mark */
        BASE "  [l1-4k]  ; a comment\r\n\tentries: 64\r\n  ways=4\r\n", /* DOS, indented */
        BASE "[l1-any]\nentries = 72\nways = full\n",
        BASE "[l1-4k]\nentries = 0\n",
        BASE "[l2]\nentries = 24\nways = 12\npolicy = plru\nsizes = 4k, 2m 1g",
        BASE "# no newline at the end",
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        const struct cpu *c = load(good[i], strlen(good[i]), err, &code);
        if (!c)
            fail_msg("case %zu: %s", i, err);
        assert_string_equal(c->name, "t");
        assert_string_equal(c->source, path);
        cpu_free(c);
    }
}

static void wrong_files_are_refused(void **state)
{
    (void)state;
    /* text appended to BASE (27 lines with the header), and what the message must hold */
    static const char *const bad[][2] = {
        {"[l1-4k]\nentires = 64\n", ":29: unknown key 'entires' in [l1-4k]; did you mean "
                                    "'entries'? expected one of entries, ways, index, policy"},
        {"[l1-4q]\n", ":28: unknown section [l1-4q]; did you mean 'l1-4k'? expected one of cpu, "},
        {"[]\n", "unknown section []"},
        {"[l1-4k\n", ":28: a section header is written [name]"},
        {"[l1-4k] entries = 3\n", "unexpected text after a section header"},
        {"[l1-4k]\nentries = 64\nways = 65\n", ":28: [l1-4k] 65 ways are more than its 64"},
        {"[l1-4k]\nentries = 64\nways = 5\n", "no multiple of 5 ways"},
        {"[l1-4k]\nentries = 48\nways = 4\n", "= 12 sets; expected a power of two"},
        {"[l1-4k]\nentries = 4194304\nways = 2\n", "= 2097152 sets"},
        {"[l1-4k]\nentries = 2147483648\nways = 4096\n", "2147483648 entries; expected at most"},
        {"[l1-4k]\nentries = 8192\nways = full\n", "8192 ways; expected 1 to 4096"},
        {"[l1-4k]\nentries = 64\nways = 0\n", "0 ways"},
        {"[l1-4k]\nentries = 64\n", "missing key 'ways' in [l1-4k]"},
        {"[l1-4k]\nways = 4\n", "missing key 'entries' in [l1-4k]"},
        {"[l1-4k]\n", "missing key 'entries' in [l1-4k]"},
        {"[l1-4k]\nentries = -64\n", "'-64' is not a number"},
        {"[l1-4k]\nentries = 4294967296\n", "is not a number from 0 to 4294967295"},
        {"[l1-4k]\nentries = 64 # four\n", "'64 # four' is not a number"},
        {"[l1-4k]\nentries = \n", "'' is not a number"},
        {"[l1-4k]\nentries\n", ":29: expected [section] or key = value"},
        {"[l1-4k]\nentries = 1\nentries = 2\n", ":30: key 'entries' is given twice in [l1-4k]"},
        {"[l1-4k]\nentries = 1\n[cpu]\n[l1-4k]\nentries = 2\n",
         ":32: key 'entries' is given twice"},
        {"[cpu]\napic = posted\n", "key 'apic' is given twice in [cpu]"},
        {"[l1-4k]\nindex = hash\n", "unknown value 'hash'; expected one of mod, xor"},
        {"[l1-4k]\npolicy = fifo\n", "expected one of lru, plru"},
        {"[l1-any]\nentries = 72\nways = full\npolicy = plru\n", "plru with 72 ways"},
        {"[l1-any]\nentries = 4\nways = 4\n[l1-1g]\nentries = 4\nways = 4\n",
         ":31: [l1-1g] and [l1-any] exclude each other"},
        {"[l2]\nentries = 4\nways = 4\n", "missing key 'sizes' in [l2]"},
        {"[l2]\nsizes = 4k 4k\n", "page size 4k is listed twice"},
        {"[l2]\nsizes = 4k 4kilobytes\n", "unknown value '4kilobytes'"},
        {"[l2]\nsizes = ,\n", "no page size given"},
        {"[l2-b]\nentries = 4\nways = 4\nsizes = 1g\n", "[l2-b] without [l2]"},
        {"[l2]\nentries = 4\nways = 4\nsizes = 4k\n[l2-b]\nentries = 4\nways = 4\nsizes = 4k 1g\n",
         ":32: [l2-b] serves a page size that [l2] serves already"},
        {"[psc-pde]\nentries = 4\nways = 4\n", "[psc-pde] needs [walk-caches] kind = intel"},
        {"[pwc]\nentries = 4\nways = 4\n", "[pwc] needs [walk-caches] kind = amd"},
        {"[ntlb]\nentries = 4\nways = 4\n", "[ntlb] needs [walk-caches] kind = intel or amd"},
        {"[l1-any]\nentries = 64\nways = full\npolicy = plru\n", "plru with 64 ways"},
        {"[cache-l1d]\nsize = 2K\nways = 8\n", "4 sets; expected at least 64"},
        {"[cache-l1d]\nsize = 32K\nways = 8\npolicy = lru\n", "unknown key 'policy'"},
        {"[cache-l1d]\nsize = 100\n", "whole 64-byte lines"},
        {"[cache-l2]\nsize = 1M\nways = 16\n", "[cache-l2] without [cache-l1d]"},
        {"[cache-l1d]\nsize = 32K\nways = 8\n", "missing key 'l1' in [cost]"},
        {"[cost]\npwc_hit = -1\n", "is not a number of cycles"},
        {"[cost]\npwc_hit = nan\n", "is not a number of cycles"},
        {"[cost]\npwc_hit = inf\n", "is not a number of cycles"},
        {"[cost]\npwc_hit = 1e13\n", "is not a number of cycles"},
        {"[cost]\npwc_hit = 1e999\n", "is not a number of cycles"},
        {"[cost]\npwc_hit = 0x10\n", "is not a number of cycles"},
        {"[cost]\npwc_hit = 1 cycle\n", "is not a number of cycles"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char text[2048], err[512];
        int code = -1;
        snprintf(text, sizeof text, BASE "%s", bad[i][0]);
        const struct cpu *c = load(text, strlen(text), err, &code);
        if (c || code != NB_DATAERR || !strstr(err, bad[i][1]) || strncmp(err, path, strlen(path)))
            fail_msg("case %zu (%s): %s, code %d, got: %s", i, bad[i][0], c ? "loaded" : "refused",
                     code, err);
    }
}

static void missing_parts_are_named(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"", "missing key 'summary' in [cpu]"},
        {WALK COSTS, "missing key 'summary' in [cpu]"},
        {CPU COSTS, "missing key 'kind' in [walk-caches]"},
        {CPU WALK, "missing key 'access' in [cost]"},
        {"pcid = yes\n" BASE, ":1: key 'pcid' stands before the first [section]"},
        {"[cpu]\npcid = maybe\n", "'maybe' is neither yes nor no"},
        {"[cpu]\napic = on\n", "expected one of trapped, posted, virtual"},
        {"[cpu]\nsummary =\n", ":2: a text of 1 to 127 characters"},
        {CPU "[walk-caches]\nkind = intel\n" COSTS, "missing key 'pwc_hit' in [cost]"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char err[512];
        int code;
        assert_null(load(bad[i][0], strlen(bad[i][0]), err, &code));
        assert_int_equal(code, NB_DATAERR);
        if (!strstr(err, bad[i][1]))
            fail_msg("case %zu: expected %s, got %s", i, bad[i][1], err);
    }
}

static void names_and_files(void **state)
{
    (void)state;
    char err[512];
    int code;
    assert_null(cpu_load("skz", err, sizeof err, &code));
    assert_int_equal(code, NB_USAGE);
    assert_non_null(strstr(err, "did you mean 'skx'? presets are dmt-ref, icx, plain, skx, zen3"));
    assert_null(cpu_load("", err, sizeof err, &code));
    assert_int_equal(code, NB_USAGE);
    assert_null(cpu_load("nowhere.ini", err, sizeof err, &code));
    assert_int_equal(code, NB_NOINPUT);
    assert_non_null(strstr(err, "nowhere.ini: cannot read it: No such file"));
    assert_null(cpu_load("/", err, sizeof err, &code));
    assert_int_equal(code, NB_NOINPUT);
    char tiny[8];
    assert_null(cpu_load("nowhere.ini", tiny, sizeof tiny, &code));
    assert_int_equal(strlen(tiny), 7);
}

/* Long lines, long names, binary files, huge files, and valid files with bytes flipped. */
static void garbage_is_refused(void **state)
{
    (void)state;
    static char big[(1 << 20) + 2];
    char err[512];
    int code;
    memset(big, 'a', sizeof big);
    assert_null(load(big, sizeof big, err, &code));
    assert_non_null(strstr(err, "larger than 1 MiB"));
    assert_null(load(big, 100000, err, &code));
    assert_non_null(strstr(err, ":1: line of 100000 characters"));
    memcpy(big, "[cpu]\n", 6);
    memcpy(big + 150, " = 1\n", 6);
    assert_null(load(big, 155, err, &code));
    assert_non_null(strstr(err, "unknown key 'aaaa"));
    memset(big, '[', 190);
    assert_null(load(big, 190, err, &code));
    assert_int_equal(code, NB_DATAERR);
    assert_null(load("[cpu]\n\0", 7, err, &code));
    assert_non_null(strstr(err, "binary file"));
    assert_null(load("[cpu]\npcid = \x1b[31m", 17, err, &code));
    assert_non_null(strstr(err, "byte 0x1b is not text"));

    struct rng r;
    rng_seed(&r, 1);
    for (int round = 0; round < 2000; round++) {
        char text[8192];
        const char *from = cpu_presets[rng_below(&r, cpu_preset_count)].text;
        size_t n = strlen(from) < sizeof text ? strlen(from) : sizeof text;
        memcpy(text, from, n);
        for (uint64_t k = rng_below(&r, 8); k > 0; k--)
            text[rng_below(&r, n)] = (char)(round % 2 ? rng_next(&r) : 32 + rng_below(&r, 95));
        const struct cpu *c = load(text, n, err, &code);
        assert_int_equal(code, c ? NB_OK : NB_DATAERR);
        assert_true(c || strlen(err) > 10);
        cpu_free(c);
    }
}

static int set_up(void **state)
{
    (void)state;
    if (temp_make() != 0)
        return -1;
    snprintf(path, sizeof path, "%s/t.ini", temp_dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(temp_dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_sorted_and_loadable),
        cmocka_unit_test(dmt_ref_is_dmt),
        cmocka_unit_test(others_have_their_shapes),
        cmocka_unit_test(smallest_file_loads),
        cmocka_unit_test(wrong_files_are_refused),
        cmocka_unit_test(missing_parts_are_named),
        cmocka_unit_test(names_and_files),
        cmocka_unit_test(garbage_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
