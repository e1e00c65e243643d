/* test_oracle.c: the oracle against examples worked out by hand from Intel SDM vol. 3A, chapter 4.
 *
 * link: base fuzz/oracle
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "fuzz/oracle.h"

/* Four tables in a memory of 16 frames: PML4 at 0x1000, PDPT 0x2000, PD 0x3000, PT 0x4000; the
 * address below uses entries 1, 2, 3, 4 of them. */
static uint64_t memory[16 * 512];
#define VA (1ull << 39 | 2ull << 30 | 3ull << 21 | 4ull << 12 | 0x123)
enum { PML4E = 0x1008, PDPTE = 0x2010, PDE = 0x3018, PTE = 0x4020 };

static uint64_t read_word(const void *ctx, uint64_t gpa)
{
    assert_true(gpa < sizeof memory);
    return ((const uint64_t *)ctx)[gpa / 8];
}
static void put(uint64_t at, uint64_t e) { memory[at / 8] = e; }

static const struct oracle_memory mem = {sizeof memory, read_word, memory};
static const uint64_t all = PTE_P | PTE_W | PTE_U;

static struct oracle_regs usual(void)
{
    memset(memory, 0, sizeof memory);
    put(PML4E, 0x2000 | all);
    put(PDPTE, 0x3000 | all);
    put(PDE, 0x4000 | all);
    put(PTE, 0x5000 | all);
    return (struct oracle_regs){.levels = 4,
                                .wp = true,
                                .smep = true,
                                .smap = true,
                                .pge = true,
                                .nxe = true,
                                .pcide = true,
                                .root = 0x1000,
                                .pcid = 7};
}

static const struct oracle_access load = {.va = VA}, store = {.va = VA, .store = true},
                                  fetch = {.va = VA, .fetch = true},
                                  kload = {.va = VA, .supervisor = true},
                                  kstore = {.va = VA, .supervisor = true, .store = true},
                                  kfetch = {.va = VA, .supervisor = true, .fetch = true};

/* Error code of the fault, 0x100 for a translation, 0x200 for #GP. */
static unsigned outcome(const struct oracle_regs *r, struct oracle_access a)
{
    struct oracle_answer x;
    oracle_translate(r, &mem, &a, &x);
    return x.kind == ORACLE_PF ? x.error : x.kind == ORACLE_GP ? 0x200 : 0x100;
}

static void translations_and_their_flags(void **state)
{
    (void)state;
    struct oracle_regs r = usual();
    struct oracle_answer x;
    oracle_translate(&r, &mem, &store, &x);
    assert_int_equal(x.kind, ORACLE_ADDRESS);
    assert_int_equal(x.gpa, 0x5123);
    assert_int_equal(x.nset, 4); /* A in four entries, D in the last (4.8) */
    assert_int_equal(x.set[3].gpa, PTE);
    assert_int_equal(x.set[3].bits, PTE_A | PTE_D);
    put(PML4E, 0x2000 | all | PTE_A);
    put(PTE, 0x5000 | all | PTE_A);
    oracle_translate(&r, &mem, &load, &x);
    assert_int_equal(x.nset, 2);
    put(PDE, all | PTE_PS | PTE_A); /* 2 MiB at 0, of which 64 KiB are memory */
    assert_int_equal(outcome(&r, load), 0x100);
    oracle_translate(&r, &mem, &load, &x);
    assert_int_equal(x.gpa, 0x4123);
    assert_int_equal(outcome(&r, (struct oracle_access){.va = VA + 0x10000}),
                     PF_P | PF_RSVD | PF_U);
}

static void rights_decide(void **state) /* 4.6.1 */
{
    (void)state;
    struct oracle_regs r = usual();
    assert_int_equal(outcome(&r, kload), PF_P);         /* SMAP */
    assert_int_equal(outcome(&r, kfetch), PF_P | PF_I); /* SMEP */
    assert_int_equal(outcome(&r, kstore), PF_P | PF_W); /* SMAP */
    r.smap = r.smep = false;
    assert_int_equal(outcome(&r, kload), 0x100);
    assert_int_equal(outcome(&r, kfetch), 0x100);
    put(PDPTE, 0x3000 | PTE_P | PTE_U); /* read-only from here on */
    assert_int_equal(outcome(&r, store), PF_P | PF_W | PF_U);
    assert_int_equal(outcome(&r, kstore), PF_P | PF_W);
    r.wp = false;
    assert_int_equal(outcome(&r, store), PF_P | PF_W | PF_U);
    assert_int_equal(outcome(&r, kstore), 0x100);
    put(PDE, 0x4000 | PTE_P | PTE_W); /* a supervisor-mode address */
    assert_int_equal(outcome(&r, load), PF_P | PF_U);
    r.smap = r.smep = true;
    assert_int_equal(outcome(&r, kload), 0x100);
    assert_int_equal(outcome(&r, kfetch), 0x100);
    put(PML4E, 0x2000 | all | PTE_NX);
    assert_int_equal(outcome(&r, kfetch), PF_P | PF_I);
    r.smap = true;
    r = usual();
    assert_int_equal(outcome(&r, (struct oracle_access){.va = VA, .supervisor = true, .ac = true}),
                     0x100);
}

static void faults_say_why(void **state) /* 4.7 */
{
    (void)state;
    struct oracle_regs r = usual();
    put(PDE, 0);
    assert_int_equal(outcome(&r, store), PF_W | PF_U);
    assert_int_equal(outcome(&r, fetch), PF_I | PF_U);
    r.nxe = r.smep = false;
    assert_int_equal(outcome(&r, fetch), PF_U); /* a fetch is not told apart */
    put(PDE, 0x4000 | all | PTE_NX);            /* reserved without NXE */
    assert_int_equal(outcome(&r, load), PF_P | PF_RSVD | PF_U);
    r = usual();
    put(PML4E, 0x2000 | all | PTE_PS); /* reserved at this level */
    assert_int_equal(outcome(&r, kload), PF_P | PF_RSVD);
    assert_int_equal(outcome(&r, (struct oracle_access){.va = 1ull << 47}), 0x200);
    assert_int_equal(outcome(&r, (struct oracle_access){.va = ~0ull << 47}), PF_U);
}

/* ---- what may be cached ---- */

static struct oracle o;

/* Make the access and take the answer of memory. */
static void use(struct oracle_access a)
{
    struct oracle_answer x;
    oracle_translate(&o.regs, &mem, &a, &x);
    oracle_ask(&o, &a);
    oracle_observe(&o, &a, &x);
}

/* How many different answers there are. */
static unsigned answers(struct oracle_access a)
{
    unsigned n = 0;
    oracle_ask(&o, &a);
    for (unsigned i = 0; i < o.nways; i++) {
        bool seen = false;
        for (unsigned k = 0; k < i; k++)
            seen |= oracle_same(&o.way[i].answer, &o.way[k].answer);
        n += !seen;
    }
    return n;
}

static void start(bool by_place)
{
    const struct oracle_regs r = usual();
    put(PML4E, 0x2000 | all | PTE_A);
    put(PDPTE, 0x3000 | all | PTE_A);
    put(PDE, 0x4000 | all | PTE_A);
    put(PTE, 0x5000 | all | PTE_A | PTE_D);
    put(0x6020, 0x8000 | all | PTE_A | PTE_D);
    oracle_init(&o, &r, &mem, by_place);
    use(load);
    assert_int_equal(answers(load), 1);
}

static void a_changed_leaf_shows_until_invlpg(void **state)
{
    (void)state;
    start(false);
    put(PTE, 0x7000 | all | PTE_A | PTE_D);
    assert_int_equal(answers(load), 2);
    oracle_invlpg(&o, VA + PAGE_SIZE); /* another page */
    assert_int_equal(answers(load), 2);
    oracle_invlpg(&o, VA & ~PAGE_MASK);
    assert_int_equal(answers(load), 1);
}

static void a_changed_table_shows_until_any_invlpg(void **state) /* 4.10.3, 4.10.4.1 */
{
    (void)state;
    for (unsigned by_place = 0; by_place < 2; by_place++) {
        start(by_place);
        put(PDE, 0x6000 | all | PTE_A); /* another page table: old page, old table, new one */
        assert_int_equal(answers(load), 2);
        put(PTE, 0x7000 | all | PTE_A | PTE_D); /* old TLB entry, old table, new table */
        assert_int_equal(answers(load), 3);
        oracle_invpcid(&o, 0, 7, VA);
        assert_int_equal(answers(load), by_place ? 2 : 1);
        oracle_invlpg(&o, 0);
        assert_int_equal(answers(load), 1);
    }
}

static void cr3_and_pcids(void **state)
{
    (void)state;
    start(false);
    put(PTE, 0x7000 | all | PTE_A | PTE_D);
    oracle_cr3(&o, 0x1000, 8, false);
    assert_int_equal(answers(load), 1); /* nothing is cached for PCID 8 */
    oracle_cr3(&o, 0x1000, 7, true);
    assert_int_equal(answers(load), 2);
    oracle_cr3(&o, 0x1000, 7, false);
    assert_int_equal(answers(load), 1);
}

static void globals_outlive_cr3(void **state) /* 4.10.2.4 */
{
    (void)state;
    start(false);
    put(PTE, 0x5000 | all | PTE_A | PTE_D | PTE_G);
    oracle_invlpg(&o, VA);
    use(load);
    put(PTE, 0x7000 | all | PTE_A | PTE_D);
    oracle_cr3(&o, 0x1000, 9, false);
    oracle_invpcid(&o, 0, 9, VA);
    oracle_invpcid(&o, 3, 0, 0);
    assert_int_equal(answers(load), 2);
    oracle_invpcid(&o, 2, 0, 0);
    assert_int_equal(answers(load), 1);
}

static void a_fault_makes_the_next_answer_certain(void **state)
{
    (void)state;
    struct oracle_answer stale;
    start(false);
    put(PTE,
        0x5000 | PTE_P | PTE_U | PTE_A); /* was filled writable; then read-only, filled again */
    oracle_invlpg(&o, VA);
    use(load);
    put(PTE, 0x5000 | all | PTE_A | PTE_D);
    assert_int_equal(answers(store), 2); /* the store may fault once, spuriously (4.10.4.3) */
    for (unsigned i = 0; i < o.nways; i++)
        if (o.way[i].answer.kind == ORACLE_PF)
            stale = o.way[i].answer;
    assert_int_equal(stale.error, PF_P | PF_W | PF_U);
    oracle_observe(&o, &store, &stale);
    assert_int_equal(answers(store), 1);
    assert_false(o.full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(translations_and_their_flags),
        cmocka_unit_test(rights_decide),
        cmocka_unit_test(faults_say_why),
        cmocka_unit_test(a_changed_leaf_shows_until_invlpg),
        cmocka_unit_test(a_changed_table_shows_until_any_invlpg),
        cmocka_unit_test(cr3_and_pcids),
        cmocka_unit_test(globals_outlive_cr3),
        cmocka_unit_test(a_fault_makes_the_next_answer_certain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
