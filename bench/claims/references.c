/* references.c: V1, V2: how many table entries a walk reads.
 *
 * Every number on our side is counted from a walk over real tables (`nestbed walk`, which logs each
 * entry), or from the walks of a run. What is expected is the published number or its closed form,
 * with g and h the entries read in the guest's and the host's table, a page of 2 MiB or 1 GiB
 * saving one or two:
 *
 *   native g; shadow g of the smaller page; nested (g + 1)(h + 1) - 1
 *   flat nested table, h = 1: 2g + 1; merged pairs of levels, g = h = 2: 8
 *   hashed tables: the host entries of the guest entry, that, the host entry of the page: 3
 *   DMT: guest leaf, and the host leaf that finds it and the page's: 3; with guest tables in host
 *   memory 2
 *   agile: 4 - i levels in shadow mode, i guest levels nested: (4 - i) + 5i; all nested 24
 */
#include <string.h>

#include "base/base.h"
#include "bench/bench_util.h"
#include "bench/verify.h"

enum { SIZES = 3 };
static const char *const pages[SIZES] = {"4k", "2m", "1g"};

/* Entries read of a table of `levels` for a page of size `page`. */
static unsigned read_of(unsigned levels, unsigned page) { return levels - page; }

/* One logged walk: references and steps, which must agree. 0 when they do not. */
static unsigned walk(struct check *c, const char *paging, unsigned guest, unsigned host, unsigned g,
                     unsigned h)
{
    char words[200];
    snprintf(words, sizeof words,
             "--paging %s --guest-page %s --host-page %s --levels %u --host-levels %u --mem 4G "
             "--host-mem 8G",
             paging, pages[guest], pages[host], g, h);
    const struct walk_report *r = check_walk(c, words);
    return r->nsteps == r->refs ? r->refs : 0;
}

static void native(struct check *c)
{
    for (unsigned levels = 4; levels <= 5; levels++)
        for (unsigned page = 0; page < SIZES; page++)
            claim_equal(c, read_of(levels, page), walk(c, "native", page, 0, levels, 4),
                        "%u levels, %s", levels, pages[page]);
}
REGISTER_AS(claim, v1a, "V1a",
            .summary = "a native walk reads 4, 3, 2 entries; with 5 levels 5, 4, 3",
            .source = "Intel SDM vol. 3A, 4.5 [F]", .check = native, .needs = {"native"});

static void nested(struct check *c)
{
    unsigned same = 0, of = 0;
    char first[120] = "";
    for (unsigned g = 4; g <= 5; g++)
        for (unsigned h = 4; h <= 5; h++)
            for (unsigned i = 0; i < SIZES * SIZES; i++) {
                unsigned gp = i / SIZES, hp = i % SIZES, got = walk(c, "ept", gp, hp, g, h),
                         want = (read_of(g, gp) + 1) * (read_of(h, hp) + 1) - 1;
                of++;
                same += got == want;
                if (got != want && !*first)
                    snprintf(first, sizeof first, "levels %u/%u, %s on %s: %u, not %u", g, h,
                             pages[gp], pages[hp], got, want);
            }
    claim_equal(c, 24, walk(c, "ept", 0, 0, 4, 4), "4 and 4 levels, 4 KiB");
    claim_equal(c, 35, walk(c, "ept", 0, 0, 5, 5), "5 and 5 levels, 4 KiB");
    claim_cases(c, same, of, first,
                "(g+1)(h+1)-1 for 3 x 3 page sizes and 2 x 2 numbers of levels");
}
REGISTER_AS(claim, v1b, "V1b",
            .summary = "a nested walk reads up to 24 entries, 35 with five levels",
            .source = "DMT, ASPLOS'24 [A]; nested ECPT, ASPLOS'22 [A]", .check = nested,
            .needs = {"ept"});

static void shadow(struct check *c)
{
    unsigned same = 0, of = 0;
    char first[120] = "";
    for (unsigned g = 4; g <= 5; g++)
        for (unsigned i = 0; i < SIZES * SIZES; i++) {
            unsigned gp = i / SIZES, hp = i % SIZES, got = walk(c, "shadow", gp, hp, g, 4),
                     want = read_of(g, gp < hp ? gp : hp);
            of++;
            same += got == want;
            if (got != want && !*first)
                snprintf(first, sizeof first, "%u levels, %s on %s: %u, not %u", g, pages[gp],
                         pages[hp], got, want);
        }
    claim_equal(c, 4, walk(c, "shadow", 0, 0, 4, 4), "4 levels, 4 KiB");
    claim_cases(c, same, of, first,
                "levels down to the smaller page, 3 x 3 page sizes, 4 and 5 levels");
}
REGISTER_AS(claim, v1c, "V1c",
            .summary = "a walk of a shadow table reads as many entries as a native one",
            .source = "Agile paging, ISCA'16 [A]", .check = shadow, .needs = {"shadow"});

/* The same over all walks of a program, faults and evictions among them. */
static void of_a_run(struct check *c)
{
    static const struct {
        const char *paging;
        unsigned refs;
    } row[] = {{"native", 4}, {"shadow", 4}, {"ept", 24}};
    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        char words[120];
        snprintf(words, sizeof words,
                 "--paging %s --workload gups --set updates=100000 --cpu plain", row[i].paging);
        const struct result *r = check_run(c, words);
        if (r)
            claim_equal(c, row[i].refs * r->total.walks, r->total.walk_refs,
                        "%s, entries read in %llu walks", row[i].paging,
                        (unsigned long long)r->total.walks);
    }
}
REGISTER_AS(claim, v1d, "V1d", .summary = "every walk of a program reads 4, 4 and 24 entries",
            .source = "DMT, ASPLOS'24 [A]", .check = of_a_run, .needs = {"native", "shadow", "ept"},
            .note = "random updates of 64 MiB without walk caches: references / walks");

static void flat(struct check *c)
{
    for (unsigned g = 4; g <= 5; g++)
        claim_equal(c, 2 * g + 1, walk(c, "ept-flat", 0, 0, g, 4), "%u guest levels, 4 KiB", g);
}
REGISTER_AS(claim, v2a, "V2a", .summary = "with a flat host table a nested walk reads 9 entries",
            .source = "Ahn et al., ISCA'12 [A]", .check = flat, .needs = {"ept-flat"});

/* Entries of a logged nested walk that a table with levels 4+3 and 2+1 merged reads too: those of
 * level 3 and 1 on both sides, since a merged entry is found by the lower level's index. */
static void flattened(struct check *c)
{
    const struct walk_report *r = check_walk(c, "--paging ept");
    unsigned n = 0;
    for (unsigned i = 0; i < r->nsteps; i++) {
        const struct walk_step *s = &r->steps[i];
        bool guest = s->guest_level == 0 || s->guest_level == 3 || s->guest_level == 1;
        n += guest && (s->level == 3 || s->level == 1);
    }
    claim_equal(c, 8, n, "entries left of %u logged ones", r->nsteps);
}
REGISTER_AS(claim, v2b, "V2b",
            .summary = "with pairs of levels merged on both sides 8 entries are left",
            .source = "DMT's Formula.cs, FPT [F]", .basis = BASIS_STAND_IN, .check = flattened,
            .needs = {"ept"},
            .note = "no such table is built: the entries a merged table keeps are counted in a "
                    "logged nested walk");

static void dmt(struct check *c)
{
    claim_equal(c, 1, walk(c, "dmt-native", 0, 0, 4, 4), "native");
    claim_equal(c, 3, walk(c, "dmt", 0, 0, 4, 4), "in a VM");
    claim_equal(c, 2, walk(c, "pvdmt", 0, 0, 4, 4), "pvDMT, in a VM");
}
REGISTER_AS(claim, v2c, "V2c", .summary = "DMT reads 1 entry natively, 3 in a VM, pvDMT 2",
            .source = "DMT, ASPLOS'24 [A]", .check = dmt, .needs = {"dmt-native", "dmt", "pvdmt"});
REGISTER_AS(claim, v2d, "V2d", .summary = "pvDMT reads 3 entries in a VM in a VM",
            .source = "DMT, ASPLOS'24 [A]",
            .unchecked = "the model has two dimensions, a guest's guest would be a third");

/* i guest levels nested: (4 - i) + 5i. The walks of each i are counted, and all their references. */
static void agile_run(struct check *c, const char *words, bool *seen)
{
    static const char *const by_level[] = {"walks_nested_0", "walks_nested_1", "walks_nested_2",
                                           "walks_nested_3", "walks_nested_4", "walks_nested_root"};
    static const unsigned refs[] = {4, 8, 12, 16, 20, 24};
    const struct result *r = check_run(c, words);
    uint64_t want = 0, walks = 0;
    for (unsigned i = 0; r && i < ARRAY_SIZE(refs); i++) {
        uint64_t n = work_counter(c, r, by_level[i]);
        want += n * refs[i];
        walks += n;
        seen[i] |= n > 0;
    }
    if (!r)
        return;
    claim_equal(c, work_counters(r)->walks, walks, "%s: walks by levels nested", words);
    claim_equal(c, want, work_counters(r)->walk_refs, "%s: entries read", words);
}

static void agile(struct check *c)
{
    static const char *const runs[] = {
        "--paging agile --cpu plain --workload forkcow --set procs=8",
        "--paging agile --cpu plain --workload churn --set updates=200 --set accesses=100000",
        ("--paging agile --cpu plain --workload gups --set updates=100000 --set agile.start=1 "
         "--set agile.interval=1000000000")};
    bool seen[6] = {false};
    unsigned kinds = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(runs); i++)
        agile_run(c, runs[i], seen);
    for (unsigned i = 0; i < ARRAY_SIZE(seen); i++)
        kinds += seen[i];
    claim_equal(c, 1, seen[0], "some walks are all shadow: 4 entries");
    claim_equal(c, 1, seen[5], "some are all nested: 24");
    claim_above(c, 2, kinds, "kinds of walk seen, of 6");
}
REGISTER_AS(claim, v2e, "V2e", .summary = "agile paging reads 4, 8, 12, 16, 20 or 24 entries",
            .source = "Agile paging, ISCA'16 [A]", .check = agile, .needs = {"agile"});

/* In a program whose memory is one region: all its walks lie inside the segments. */
static void segments(struct check *c)
{
    static const struct {
        const char *paging;
        unsigned refs;
    } row[] = {{"dseg", 0}, {"dseg-vmm", 4}, {"dseg-guest", 4}};
    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        char words[120];
        snprintf(words, sizeof words,
                 "--paging %s --cpu plain --workload gups --set updates=100000", row[i].paging);
        const struct result *r = check_run(c, words);
        if (!r)
            return;
        claim_above(c, 0, (double)work_counters(r)->walks, "%s: walks", row[i].paging);
        claim_equal(c, row[i].refs * work_counters(r)->walks, work_counters(r)->walk_refs,
                    "%s: entries read, %u a walk", row[i].paging, row[i].refs);
    }
}
REGISTER_AS(claim, v2f, "V2f",
            .summary = "direct segments: dual reads no entry, VMM direct 4, guest direct 4",
            .source = "Gandhi et al., MICRO'14 [M]", .check = segments,
            .needs = {"dseg", "dseg-vmm", "dseg-guest"});

static void hashed(struct check *c)
{
    const struct result *r =
        check_run(c, "--paging ecpt --cpu plain --workload gups --set updates=100000");
    if (!r)
        return;
    claim_above(c, 0, (double)work_counters(r)->walks, "walks");
    claim_equal(c, 3 * work_counters(r)->walks, work_counters(r)->walk_refs,
                "steps one after the other, 3 a walk");
}
REGISTER_AS(claim, v2g, "V2g", .summary = "nested ECPT: 3 steps are left of 24, of parallel probes",
            .source = "Stojkovic et al., ASPLOS'22 [A]", .check = hashed, .needs = {"ecpt"});
