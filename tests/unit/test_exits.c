/* test_exits.c: probes on the host's KVM, counted by KVM itself; costs and TLB levels from made-up
 * measurements whose answers are known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/base.h"
#include "bench/bare_kvm.h"
#include "bench/bench.h"
#include "bench/bench_util.h"
#include "bench/calibrate.h"
#include "bench/exits.h"
#include "vmm/kvm.h"

/* ---- on the host's KVM ---- */
static const struct kvm_host *need_kvm(void)
{
    char err[256] = "";
    const struct kvm_host *h = kvm_host(err, sizeof err);
    if (!h) {
        print_message("skip: %s\n", err);
        skip();
    }
    return h;
}

static json_t *run_probe(const char *name, unsigned events)
{
    struct exits_config cfg = {.only = name, .batches = 3, .events = events, .timeout = 20};
    char err[512] = "";
    int code = -1;
    json_t *m = exits_host(&cfg, &code, err, sizeof err);
    if (!m || code != NB_OK)
        fail_msg("%s: code %d: %s", name, code, err);
    json_t *doc = exits_document("kvm", &cfg, json_pack("[o]", m));
    assert_null(exits_check(doc));
    const json_t *probe = json_array_get(json_object_get(m, "probes"), 0); /* lives in doc */
    const char *why = json_string_value(json_object_get(probe, "reason"));
    if (why)
        fail_msg("%s did not run: %s", name, why);
    return doc;
}

static json_t *probe_in(json_t *doc)
{
    return json_array_get(
        json_object_get(json_array_get(json_object_get(doc, "machines"), 0), "probes"), 0);
}

/* A total that KVM counted, or -1 when it does not count that. */
static long long stat(json_t *doc, const char *name)
{
    const json_t *v = json_object_get(json_object_get(probe_in(doc), "kvm"), name);
    return json_is_integer(v) ? json_integer_value(v) : -1;
}

/* N pages touched first, and again after the host took them: N faults fixed, no constant added. */
static void a_touch_is_one_fault(void **state)
{
    static const char *const probes[] = {"touch", "retouch"};
    (void)state;
    need_kvm();
    for (unsigned i = 0; i < ARRAY_SIZE(probes); i++) {
        json_t *doc = run_probe(probes[i], 100);
        if (stat(doc, "pf_fixed") < 0) {
            print_message("skip: this kernel has no KVM_GET_STATS_FD\n");
            json_decref(doc);
            skip();
        }
        assert_int_equal(stat(doc, "pf_fixed"), 3 * 100);
        assert_int_equal(
            json_integer_value(json_object_get(json_object_get(probe_in(doc), "guest"), "faults")),
            0);
        json_decref(doc);
    }
}

static void port_writes_come_back_to_us(void **state)
{
    static const char *const probes[] = {"pio0", "pio3", "mmio3"};
    (void)state;
    need_kvm();
    for (unsigned i = 0; i < ARRAY_SIZE(probes); i++) {
        json_t *doc = run_probe(probes[i], 20);
        assert_int_equal(json_integer_value(json_object_get(probe_in(doc), "user_exits")), 3 * 20);
        assert_true(num(json_object_get(probe_in(doc), "cost"), "median") > 0);
        json_decref(doc);
    }
}

static void guest_faults_are_the_guests(void **state)
{
    (void)state;
    const struct kvm_host *h = need_kvm();
    json_t *doc = run_probe("fault", 16);
    const json_t *guest = json_object_get(probe_in(doc), "guest");
    assert_int_equal(json_integer_value(json_object_get(guest, "faults")), 3 * 16);
    assert_int_equal(json_integer_value(json_object_get(guest, "pt_writes")), 3 * 16);
    if (stat(doc, "pf_guest") >= 0)
        assert_int_equal(stat(doc, "pf_guest"), strcmp(h->paging, "shadow") == 0 ? 3 * 16 : 0);
    json_decref(doc);
}

/* A table that is shadowed is written through KVM; one that is nested is not. */
static void table_writes_leave_where_tables_are_shadowed(void **state)
{
    (void)state;
    const struct kvm_host *h = need_kvm();
    json_t *doc = run_probe("pte-upper", 32);
    if (stat(doc, "mmu_pte_write") >= 0)
        assert_int_equal(stat(doc, "mmu_pte_write"), strcmp(h->paging, "shadow") == 0 ? 3 * 32 : 0);
    json_decref(doc);
}

static void every_probe_runs_and_leaves_a_sound_guest(void **state)
{
    (void)state;
    need_kvm();
    for (unsigned i = 0; i < exits_nprobes; i++) {
        json_t *doc = run_probe(exits_probes[i].name, 2);
        json_decref(doc);
    }
}

/* ---- the yardstick ---- */
static void the_bare_loop_runs(void **state)
{
    static unsigned char mem[BARE_BYTES] __attribute__((aligned(4096)));
    struct bare b;
    char err[256] = "";
    (void)state;
    need_kvm();
    assert_true(bare_open(&b, err, sizeof err));
    bare_guest(mem);
    for (unsigned round = 0; round < 2; round++) {
        if (!bare_start(&b, mem, round, err, sizeof err) || !bare_exits(&b, 100, err, sizeof err))
            fail_msg("%s", err);
        for (unsigned k = 0; k < BARE_STEPS; k++)
            assert_true(b.at[k + 1] >= b.at[k]);
        bare_stop(&b);
    }
}

/* ---- TLB levels ---- */
/* ns of a hop: a TLB of 64 and 1536 entries, a data cache of 512 lines. */
static double made_up(enum chase_kind kind, uint64_t n)
{
    double ns = n <= 512 ? 1.0 : 3.0;
    if (kind == CHASE_DENSE)
        return ns;
    if (kind == CHASE_HUGE)
        return ns + (n <= 32 ? 0 : 2);
    return ns + (n <= 64 ? 0 : n <= 1536 ? 2 : 12);
}

static void make_curves(struct chase_result *r, double noise)
{
    memset(r, 0, sizeof *r);
    for (unsigned k = 0; k < CHASE_KINDS; k++)
        for (uint64_t n = 8; n <= 8192; n += n / 4) {
            struct chase_curve *c = &r->curve[k];
            double ns = made_up((enum chase_kind)k, n);
            c->lines[c->n] = n;
            c->ns[c->n++] = (struct interval){ns, ns - noise, ns + noise, 15};
        }
}

static void steps_of_the_curve_are_levels(void **state)
{
    static struct chase_result r;
    struct tlb_estimate t;
    (void)state;
    make_curves(&r, 0.01);
    tlb_estimate(&r, &t);
    assert_true(t.l1.found && t.l1.reach <= 64 && t.l1.next > 64);
    assert_true(t.l2.found && t.l2.reach <= 1536 && t.l2.next > 1536);
    assert_true(t.l1_2m.found && t.l1_2m.reach <= 32 && t.l1_2m.next > 32);
    assert_true(t.l1d.found && t.l1d.reach <= 512 && t.l1d.next > 512);
    assert_true(fabs(t.l1.cost.mid - 2) < 1e-9 && fabs(t.l2.cost.mid - 12) < 1e-9);
    assert_true(fabs(t.hop.mid - 1) < 1e-9 && fabs(t.l1d.cost.mid - 2) < 1e-9);
}

static void noise_is_no_level(void **state)
{
    static struct chase_result r;
    struct tlb_estimate t;
    (void)state;
    make_curves(&r, 20); /* intervals wider than every step */
    tlb_estimate(&r, &t);
    assert_false(t.l1.found || t.l2.found || t.l1_2m.found || t.l1d.found);
    make_curves(&r, 0.01);
    for (unsigned k = 0; k < CHASE_KINDS; k++)
        r.curve[k].n = 0;
    tlb_estimate(&r, &t);
    assert_false(t.l1.found || t.l2.found);
    make_curves(&r, 0.01);
    r.curve[CHASE_SPARSE].n = 10; /* ends before the first rise */
    tlb_estimate(&r, &t);
    assert_false(t.l1.found || t.l2.found);
}

static void reach_becomes_a_geometry(void **state)
{
    static const struct geometry four = {64, 4, INDEX_MOD, POLICY_PLRU},
                                 full = {64, 64, INDEX_MOD, POLICY_LRU},
                                 sixteen = {2048, 16, INDEX_XOR, POLICY_PLRU};
    bool exact;
    struct geometry g;
    (void)state;
    for (uint64_t reach = 1; reach < 5000; reach += 7) {
        g = cal_fit(reach, &sixteen, &exact);
        uint32_t sets = g.entries / g.ways;
        assert_true(g.entries % g.ways == 0 && !(sets & (sets - 1)) && g.entries <= reach);
        assert_true(exact == (g.entries == reach));
    }
    g = cal_fit(96, &four, &exact);
    assert_true(exact && g.entries == 96 && g.ways == 6 && g.policy == POLICY_PLRU);
    g = cal_fit(72, &full, &exact);
    assert_true(exact && g.ways == 72);
    g = cal_fit(1280, &sixteen, &exact); /* 20 ways have no tree */
    assert_true(exact && g.ways == 20 && g.policy == POLICY_LRU);
}

/* ---- costs ---- */
struct made_up_probe {
    const char *name;
    double ns, exits, fixed, guest;
};

static json_t *machine(const char *paging, bool emulates, const struct made_up_probe *p, size_t n)
{
    json_t *probes = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            probes, json_pack("{ss ss ss si si si s{sf sf sf si} s{sf sf sf}}", "status", "ok",
                              "name", p[i].name, "event", "x", "ring", 3, "events", 10, "batches",
                              10, "cost", "median", p[i].ns, "lo", p[i].ns - 1, "hi", p[i].ns + 1,
                              "n", 10, "kvm", "exits", 100 * p[i].exits, "pf_fixed",
                              100 * p[i].fixed, "pf_guest", 100 * p[i].guest));
    return json_pack("{ss ss ss ss sb so}", "name", "host", "backend", "x", "paging", paging,
                     "unit", "ns", "emulates_ring0", emulates, "probes", probes);
}

static const struct made_up_probe events[] = {
    {"cpuid3", 1000, 1, 0, 0}, {"fill", 1500, 1, 1, 0},     {"touch", 2100, 1, 1, 0},
    {"cr3", 1400, 1, 0, 0},    {"invlpg", 900, 0, 0, 0},    {"pte-upper", 2500, 1, 0, 0},
    {"fault", 5000, 2, 1, 1},  {"touch-2m", 91500, 1, 1, 0}};
/* Half a nanosecond, so that cycles are twice the nanoseconds. */
static const struct interval cycle = {0.5, 0.5, 0.5, 15};

static struct cpu base_cpu(void)
{
    struct cpu c = {.name = "base"};
    c.cost.reflect = 200;
    c.cost.invlpg = 77;
    c.cost.ept_violation = 88;
    return c;
}

static void costs_follow_from_events(void **state)
{
    struct cpu base = base_cpu();
    struct cal_value v[CAL_COSTS];
    json_t *m = machine("shadow", false, events, ARRAY_SIZE(events));
    struct calibration c = {.base = &base, .cycle = cycle, .machine = m};
    (void)state;
    cal_costs(&c, v);
    assert_true(v[CAL_EXIT].measured && v[CAL_EXIT].cycles == 2000);
    assert_true(v[CAL_FILL].measured && v[CAL_FILL].cycles == 1000);
    assert_true(v[CAL_CR3].measured && v[CAL_CR3].cycles == 800);
    assert_true(v[CAL_PT_WRITE].measured && v[CAL_PT_WRITE].cycles == 3000);
    assert_true(v[CAL_ALLOC_4K].measured && v[CAL_ALLOC_4K].cycles == 1200);
    assert_true(v[CAL_ALLOC_2M].measured && v[CAL_ALLOC_2M].cycles == 180000);
    /* 10000 - 2 exits - a fill - the base's reflection */
    assert_true(v[CAL_GUEST_FAULT].measured && v[CAL_GUEST_FAULT].cycles == 4800);
    assert_true(!v[CAL_INVLPG].measured && v[CAL_INVLPG].cycles == 77);
    assert_non_null(strstr(v[CAL_INVLPG].source, "no exit of its own"));
    assert_true(!v[CAL_EPT_VIOLATION].measured && v[CAL_EPT_VIOLATION].cycles == 88);
    json_decref(m);
}

/* Instructions are cycles then, and nested paging's own costs come from the machine that has it. */
static void two_machines_tell_both_modes(void **state)
{
    static const struct made_up_probe nested[] = {
        {"cpuid3", 1100, 1, 0, 0}, {"fill", 1300, 1, 1, 0}, {"fault", 300, 0, 0, 0}};
    struct cpu base = base_cpu();
    struct cal_value v[CAL_COSTS];
    struct calibration c = {.base = &base,
                            .cycle = cycle,
                            .machine = machine("shadow", false, events, ARRAY_SIZE(events)),
                            .nested = machine("ept", false, nested, ARRAY_SIZE(nested))};
    (void)state;
    json_object_set_new(c.machine, "unit", json_string("instructions"));
    json_object_set_new(c.nested, "unit", json_string("instructions"));
    cal_costs(&c, v);
    assert_true(v[CAL_EXIT].cycles == 1000 && v[CAL_FILL].cycles == 500);
    assert_true(v[CAL_EPT_VIOLATION].measured &&
                v[CAL_EPT_VIOLATION].cycles == 300); /* with that exit: 1300 */
    assert_true(v[CAL_GUEST_FAULT].measured && v[CAL_GUEST_FAULT].cycles == 300);
    assert_non_null(strstr(v[CAL_EXIT].source, "assumption: a cycle each"));
    json_decref(c.machine);
    json_decref(c.nested);
}

static void costs_not_measured_are_assumptions(void **state)
{
    struct cpu base = base_cpu();
    struct cal_value v[CAL_COSTS];
    struct calibration c = {.base = &base, .cycle = cycle, .why = "no KVM here"};
    (void)state;
    cal_costs(&c, v);
    for (unsigned i = 0; i < CAL_COSTS; i++) {
        assert_false(v[i].measured);
        assert_non_null(strstr(v[i].source, "assumption: as in base; no KVM here"));
    }
    c.machine = machine("ept", false, events, 3);
    cal_costs(&c, v);
    assert_true(v[CAL_EPT_VIOLATION].measured && v[CAL_EPT_VIOLATION].cycles == 1000);
    assert_false(v[CAL_FILL].measured || v[CAL_PT_WRITE].measured || v[CAL_GUEST_FAULT].measured);
    json_decref(c.machine);
}

/* Why something was not measured may be any text: the file stays a preset, every key its own. */
static void a_preset_is_read_back(void **state)
{
    struct cal_value v[CAL_COSTS];
    char err[256] = "", *text, path[64];
    size_t len;
    int code, fd = memfd_create("preset", MFD_CLOEXEC);
    const struct cpu *base = cpu_load("plain", err, sizeof err, &code);
    (void)state;
    assert_non_null(base);
    struct calibration c = {
        .base = base, .cycle = cycle, .tlb.hop = {2, 2, 2, 15}, .why = "no\nnonsense\r\n[what]\n"};
    FILE *f = open_memstream(&text, &len);
    cal_write_ini(&c, f);
    fclose(f);
    assert_int_equal(write(fd, text, len), (ssize_t)len);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const struct cpu *read = cpu_load(path, err, sizeof err, &code);
    if (!read)
        fail_msg("%s", err);
    cal_costs(&c, v);
    assert_true(read->cost.exit == v[CAL_EXIT].cycles && read->cost.exit == base->cost.exit);
    assert_true(read->cost.access == 4); /* 2 ns of half a nanosecond each */
    cpu_free(read);
    cpu_free(base);
    free(text);
    close(fd);
}

/* Documents come from a labvm, too: nothing about them is sure. */
static void documents_are_checked(void **state)
{
    static const char *const wrong[] = {
        "7",
        "{}",
        "{\"schema\":\"nestbed-exits/1\"}",
        "{\"schema\":\"nestbed-exits/1\",\"machines\":[7]}",
        "{\"schema\":\"nestbed-exits/"
        "1\",\"machines\":[{\"name\":\"a\",\"backend\":\"b\",\"paging\":"
        "\"ept\",\"unit\":\"ns\",\"emulates_ring0\":true,\"probes\":[{\"name\":\"touch\"}]}]}",
        "{\"schema\":\"nestbed-exits/"
        "1\",\"machines\":[{\"name\":\"a\",\"backend\":\"b\",\"paging\":"
        "\"ept\",\"unit\":\"ns\",\"emulates_ring0\":true,\"probes\":[{\"name\":\"touch\",\"cost\":"
        "null,\"status\":\"ok\",\"events\":0,\"batches\":1,\"event\":\"e\",\"ring\":3,\"kvm\":{}}]}"
        "]}"};
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        json_t *d = json_loads(wrong[i], JSON_DECODE_ANY, NULL);
        assert_non_null(exits_check(d));
        json_decref(d);
    }
    struct exits_config cfg = {.batches = 10};
    json_t *good = exits_document(
        "kvm", &cfg, json_pack("[o]", machine("ept", false, events, ARRAY_SIZE(events))));
    assert_null(exits_check(good));
    assert_true(json_is_null(json_object_get(good, "seconds")));
    json_decref(good);
    good = exits_document("kvm", &cfg, json_pack("[o]", machine("ept", false, events, 1)));
    assert_true(fabs(num(good, "seconds") - 1e-6) < 1e-15);
    json_decref(good);
}

/* What the table says, in a buffer of its own. */
static char *table_of(const json_t *document)
{
    char *text = xcalloc(1, 4096);
    FILE *f = tmpfile();
    assert_non_null(f);
    fflush(stdout);
    int out = dup(STDOUT_FILENO);
    dup2(fileno(f), STDOUT_FILENO);
    exits_print_table(document);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out);
    rewind(f);
    assert_true(fread(text, 1, 4095, f) > 0);
    fclose(f);
    return text;
}

static void a_cost_that_may_be_none_is_not_resolved(void **state)
{
    static const struct made_up_probe p[] = {{"cr3", 0.4, -0.003, 0, 0}};
    static const struct made_up_probe q[] = {{"cr3", -1295, 0, 0, 0}, {"fill", 1.02, 0, 0, 0}};
    struct exits_config cfg = {.batches = 10};
    (void)state;
    json_t *d = exits_document("kvm", &cfg, json_pack("[o]", machine("ept", false, p, 1)));
    char *text = table_of(d); /* from -0.6 to 1.4 */
    assert_non_null(strstr(text, "not resolved"));
    assert_null(strstr(text, "-0.00"));
    free(text);
    json_decref(d);
    d = exits_document("kvm", &cfg, json_pack("[o]", machine("ept", false, q, 2)));
    text = table_of(d); /* from -1296 to -1294; from 0.02 to 2.02 */
    assert_null(strstr(text, "not resolved"));
    assert_non_null(strstr(text, " -1,295 "));
    assert_null(strstr(text, "0.0 "));
    free(text);
    json_decref(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_touch_is_one_fault),
        cmocka_unit_test(port_writes_come_back_to_us),
        cmocka_unit_test(guest_faults_are_the_guests),
        cmocka_unit_test(table_writes_leave_where_tables_are_shadowed),
        cmocka_unit_test(every_probe_runs_and_leaves_a_sound_guest),
        cmocka_unit_test(the_bare_loop_runs),
        cmocka_unit_test(steps_of_the_curve_are_levels),
        cmocka_unit_test(noise_is_no_level),
        cmocka_unit_test(reach_becomes_a_geometry),
        cmocka_unit_test(costs_follow_from_events),
        cmocka_unit_test(two_machines_tell_both_modes),
        cmocka_unit_test(costs_not_measured_are_assumptions),
        cmocka_unit_test(a_preset_is_read_back),
        cmocka_unit_test(documents_are_checked),
        cmocka_unit_test(a_cost_that_may_be_none_is_not_resolved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
