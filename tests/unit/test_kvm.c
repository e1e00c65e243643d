/* test_kvm.c: the KVM layer with guests of a few instructions: exits, statistics, deadlines, kicks,
 * autopsies, memory slots. Skipped where there is no KVM.
 * link: base memmgr vmm/kvm_host vmm/kvm_vm vmm/kvm_stats vmm/kvm_run vmm/kvm_autopsy
 * vmm/kvm_reload
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base.h"
#include "base/pte.h"
#include "vmm/kvm.h"

#define MIB (1ull << 20)
#define CODE 0x8000u

static char err[512];

struct guest {
    struct backing *mem;
    struct kvm_vm *vm;
    struct kvm_vcpu *v;
};

/* A VM of 4 MiB with this code; NULL vm when this host has no KVM. */
static struct guest make(const void *code, size_t n)
{
    struct guest g = {0};
    int rc;
    g.vm = kvm_vm_new(err, sizeof err);
    if (!g.vm) {
        print_message("skip: %s\n", err);
        return g;
    }
    g.mem = backing_new(4 * MIB, BACKING_ANON, PAGES_4K, &(struct numa_policy){NUMA_DEFAULT, 0},
                        err, sizeof err, &rc);
    assert_non_null(g.mem);
    assert_true(kvm_vm_add_memory(g.vm, 0, g.mem, err, sizeof err));
    g.v = kvm_vm_add_vcpu(g.vm, err, sizeof err);
    assert_non_null(g.v);
    memcpy(kvm_vm_ptr(g.vm, CODE, n), code, n);
    return g;
}

static void drop(struct guest *g)
{
    kvm_vm_free(g->vm);
    backing_free(g->mem);
}

static void enter_real_mode(struct guest *g)
{
    struct kvm_sregs s;
    struct kvm_regs r = {.rip = CODE, .rsp = 0x7000, .rflags = 2};
    assert_int_equal(ioctl(g->v->fd, KVM_GET_SREGS, &s), 0);
    s.cs.base = s.cs.selector = 0;
    assert_int_equal(ioctl(g->v->fd, KVM_SET_SREGS, &s), 0);
    assert_int_equal(ioctl(g->v->fd, KVM_SET_REGS, &r), 0);
}

/* The first 2 MiB mapped one to one. */
static void enter_long_mode(struct guest *g)
{
    uint64_t *root = kvm_vm_ptr(g->vm, 0x1000, 0x3000);
    root[0] = 0x2000 | PTE_P | PTE_W;
    root[512] = 0x3000 | PTE_P | PTE_W;
    root[1024] = PTE_P | PTE_W | PTE_PS;
    assert_true(kvm_vcpu_long_mode(g->v, CODE, 0x7000, 0x1000, 4, err, sizeof err));
}

/* The same in ring 3, which may use ports: every KVM runs it on the processor. */
static void enter_ring3(struct guest *g)
{
    struct kvm_sregs s;
    struct kvm_regs r = {.rip = CODE, .rsp = 0x7000, .rflags = 2 | 3 << 12};
    enter_long_mode(g);
    uint64_t *root = kvm_vm_ptr(g->vm, 0x1000, 0x3000);
    root[0] |= PTE_U;
    root[512] |= PTE_U;
    root[1024] |= PTE_U;
    assert_int_equal(ioctl(g->v->fd, KVM_GET_SREGS, &s), 0);
    s.cs.dpl = s.ss.dpl = s.ds.dpl = s.es.dpl = s.fs.dpl = s.gs.dpl = 3;
    s.cs.selector = 0x0b;
    s.ss.selector = s.ds.selector = s.es.selector = s.fs.selector = s.gs.selector = 0x13;
    assert_int_equal(ioctl(g->v->fd, KVM_SET_SREGS, &s), 0);
    assert_int_equal(ioctl(g->v->fd, KVM_SET_REGS, &r), 0);
}

#define GUEST(...)                                     \
    static const unsigned char code[] = {__VA_ARGS__}; \
    struct guest g = make(code, sizeof code);          \
    if (!g.vm)                                         \
    skip()

static void the_host_is_described(void **state)
{
    (void)state;
    const struct kvm_host *h = kvm_host(err, sizeof err);
    if (!h) {
        print_message("skip: %s\n", err);
        skip();
    }
    print_message("backend %s, module %s\n", h->backend, h->module ? h->module : "unknown");
    static const char *const backends[] = {"vmx-ept",    "vmx-shadow", "svm-npt",
                                           "svm-shadow", "pvm",        "unknown"};
    unsigned known = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(backends); i++)
        known += strcmp(h->backend, backends[i]) == 0;
    assert_int_equal(known, 1);
    bool nested = strstr(h->backend, "-ept") || strstr(h->backend, "-npt");
    assert_int_equal(nested, strcmp(h->paging, "ept") == 0);
    assert_ptr_equal(h, kvm_host(err, sizeof err));
    const struct kvm_cpuid_entry2 *one = kvm_host_cpuid(h, 1, 0);
    assert_non_null(one);
    assert_int_equal(one->edx & 1u << 6, 1u << 6); /* PAE: no 64-bit guest without it */
    assert_null(kvm_host_cpuid(h, 0x12345678, 0));
}

static void a_real_mode_guest_writes_to_a_port(void **state)
{
    (void)state;
    GUEST(0xb0, 0x2a,                   /* mov $42, %al */
          0xe6, 0x10,                   /* out %al, $0x10 */
          0xc6, 0x06, 0x00, 0x60, 0x11, /* movb $0x11, 0x6000 */
          0xf4);                        /* hlt */
    enter_real_mode(&g);
    assert_int_equal(kvm_vcpu_step(g.v), KVM_STEP_EXIT);
    assert_int_equal(g.v->run->exit_reason, KVM_EXIT_IO);
    assert_int_equal(g.v->run->io.port, 0x10);
    assert_int_equal(*((unsigned char *)g.v->run + g.v->run->io.data_offset), 42);
    assert_int_equal(kvm_vcpu_step(g.v), KVM_STEP_EXIT);
    assert_int_equal(g.v->run->exit_reason, KVM_EXIT_HLT);
    assert_int_equal(*(unsigned char *)kvm_vm_ptr(g.vm, 0x6000, 1), 0x11);
    assert_int_equal(g.v->exits[KVM_EXIT_IO], 1);
    assert_int_equal(g.v->exits[KVM_EXIT_HLT], 1);
    assert_int_equal(g.v->eintr, 0);
    drop(&g);
}

static const struct kvm_stat_name *stat(const struct kvm_vm *vm, const char *name)
{
    for (unsigned i = 0; i < vm->stats.n; i++)
        if (strcmp(vm->stats.stat[i].name, name) == 0)
            return &vm->stats.stat[i];
    return NULL;
}

/* The guest touches 100 pages: KVM's own statistics say so, and again when they were discarded. */
static void statistics_count_first_touches(void **state)
{
    (void)state;
    GUEST(0xe6, 0x10,                               /* again: out %al, $0x10 */
          0xbf, 0x00, 0x00, 0x10, 0x00,             /* mov $0x100000, %edi */
          0xb9, 0x64, 0x00, 0x00, 0x00,             /* mov $100, %ecx */
          0xc6, 0x07, 0x01,                         /* 1: movb $1, (%rdi) */
          0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, /* add $4096, %rdi */
          0xff, 0xc9, 0x75, 0xf2,                   /* dec %ecx; jnz 1b */
          0xeb, 0xe4);                              /* jmp again */
    static struct kvm_snapshot s[3];
    enter_ring3(&g);
    if (g.vm->stats.n == 0) {
        print_message("skip: this kernel has no KVM_GET_STATS_FD\n");
        drop(&g);
        skip();
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(kvm_vcpu_step(g.v), KVM_STEP_EXIT);
        assert_int_equal(g.v->run->exit_reason, KVM_EXIT_IO);
        assert_true(kvm_vm_snapshot(g.vm, &s[i]));
        assert_true(backing_discard(g.mem, MIB, MIB));
    }
    const struct kvm_stat_name *fixed = stat(g.vm, "pf_fixed"), *exits = stat(g.vm, "exits");
    assert_non_null(fixed);
    assert_non_null(exits);
    assert_int_equal(fixed->size, 1);
    assert_false(fixed->gauge);
    uint64_t first = s[1].v[fixed->first] - s[0].v[fixed->first];
    uint64_t second = s[2].v[fixed->first] - s[1].v[fixed->first];
    print_message("pf_fixed %u, then %u\n", (unsigned)first, (unsigned)second);
    assert_in_range(first, 100, 110); /* page tables are a few more */
    assert_in_range(second, 100, 110);
    assert_true(s[2].v[exits->first] > s[1].v[exits->first]);
    drop(&g);
}

static void statistics_are_well_formed(void **state)
{
    (void)state;
    GUEST(0xf4);
    const struct kvm_stat_set *s = &g.vm->stats;
    unsigned next = 0, of_vcpu = 0;
    for (unsigned i = 0; i < s->n; i++) {
        assert_true(s->stat[i].name[0]);
        assert_int_equal(s->stat[i].first, next);
        assert_true(i == 0 || s->of_vcpu[i] >= s->of_vcpu[i - 1]);
        next += s->stat[i].size;
        of_vcpu += s->of_vcpu[i];
    }
    assert_int_equal(next, s->nvalues);
    if (s->n) {
        assert_true(of_vcpu > 0 && of_vcpu < s->n);
        const struct kvm_stat_name *io = stat(g.vm, "io_exits");
        if (io)
            assert_int_equal(io->unseen, g.vm->host->emulates_ring0);
        print_message("%u statistics, %u values\n", s->n, s->nvalues);
    }
    drop(&g);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void a_deadline_ends_a_guest_that_loops(void **state)
{
    (void)state;
    GUEST(0xeb, 0xfe); /* jmp . */
    enter_long_mode(&g);
    double start = now();
    assert_true(kvm_deadline(0.05, err, sizeof err));
    enum kvm_step step;
    do
        step = kvm_vcpu_step(g.v);
    while (step == KVM_STEP_SIGNAL && !kvm_expired());
    assert_int_equal(step, KVM_STEP_SIGNAL);
    assert_true(kvm_expired());
    assert_true(g.v->eintr > 0);
    double took = now() - start;
    assert_true(took >= 0.05 && took < 5);
    assert_true(kvm_deadline(0, err, sizeof err));
    assert_false(kvm_expired());
    drop(&g);
}

/* A deadline that passes while no guest runs is seen by the next step: no wakeup is lost. */
static void a_deadline_before_the_step_is_not_lost(void **state)
{
    (void)state;
    GUEST(0xeb, 0xfe);
    enter_long_mode(&g);
    assert_true(kvm_deadline(0.001, err, sizeof err));
    while (!kvm_expired())
        usleep(100);
    assert_int_equal(kvm_vcpu_step(g.v), KVM_STEP_SIGNAL);
    assert_int_equal(g.v->exits[KVM_EXIT_INTR], 0);
    assert_true(kvm_deadline(0, err, sizeof err));
    drop(&g);
}

/* Deadlines that fall anywhere around the entry: each of them ends its step. */
static void deadlines_at_any_moment_end_the_guest(void **state)
{
    (void)state;
    GUEST(0xeb, 0xfe);
    enter_long_mode(&g);
    for (unsigned us = 1; us < 400; us += 7) {
        assert_true(kvm_deadline(us * 1e-6, err, sizeof err));
        while (!kvm_expired())
            assert_int_equal(kvm_vcpu_step(g.v), KVM_STEP_SIGNAL);
    }
    assert_true(kvm_deadline(0, err, sizeof err));
    drop(&g);
}

static void *run_until_kicked(void *arg) { return (void *)(uintptr_t)kvm_vcpu_step(arg); }

static void a_kick_ends_another_threads_step(void **state)
{
    (void)state;
    GUEST(0xeb, 0xfe);
    enter_long_mode(&g);
    for (unsigned i = 0; i < 20; i++) {
        pthread_t t;
        void *step;
        assert_int_equal(pthread_create(&t, NULL, run_until_kicked, g.v), 0);
        usleep(i * 97);
        kvm_kick(g.v); /* before, during or around its entry */
        pthread_join(t, &step);
        assert_int_equal((uintptr_t)step, KVM_STEP_SIGNAL);
    }
    drop(&g);
}

static void a_triple_fault_is_explained(void **state)
{
    (void)state;
    GUEST(0x90, 0x90, 0x0f, 0x0b); /* nop; nop; ud2: and no IDT */
    enter_long_mode(&g);
    assert_int_equal(kvm_vcpu_step(g.v), KVM_STEP_EXIT);
    assert_int_equal(g.v->run->exit_reason, KVM_EXIT_SHUTDOWN);
    char text[256];
    kvm_vcpu_autopsy(g.v, text, sizeof text);
    print_message("%s\n", text);
    assert_non_null(strstr(text, "triple fault"));
    if (!strstr(text, "does not keep RIP"))
        assert_non_null(strstr(text, "at RIP 0x8002, bytes 0f 0b"));
    assert_null(strchr(text, '\n'));
    drop(&g);
}

/* Where ring 0 is emulated, an instruction the emulator lacks is an internal error. */
static void an_internal_error_is_explained(void **state)
{
    (void)state;
    GUEST(0x90, 0x0f, 0x01, 0xca); /* nop; clac */
    if (!g.vm->host->emulates_ring0) {
        print_message("skip: this KVM runs ring 0 on the processor\n");
        drop(&g);
        skip();
    }
    enter_long_mode(&g);
    assert_int_equal(kvm_vcpu_step(g.v), KVM_STEP_EXIT);
    char text[256];
    kvm_vcpu_autopsy(g.v, text, sizeof text);
    print_message("%s\n", text);
    assert_int_equal(g.v->run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
    assert_non_null(strstr(text, "internal error 1"));
    assert_non_null(strstr(text, "RIP 0x8001, bytes 0f 01 ca"));
    drop(&g);
}

/* RIP where no memory is: the sentence says so, and nothing outside is read. */
static void a_lost_guest_is_explained(void **state)
{
    (void)state;
    GUEST(0xf4);
    char text[64];
    struct kvm_regs r = {.rip = 0x7fff12345678, .rflags = 2};
    enter_long_mode(&g);
    assert_int_equal(ioctl(g.v->fd, KVM_SET_REGS, &r), 0);
    g.v->run->exit_reason = KVM_EXIT_HYPERV;
    kvm_vcpu_autopsy(g.v, text, sizeof text); /* cut, but ended */
    assert_true(strlen(text) < sizeof text);
    char room[256];
    kvm_vcpu_autopsy(g.v, room, sizeof room);
    print_message("%s\n", room);
    assert_non_null(strstr(room, "hyperv"));
    assert_non_null(strstr(room, "0x7fff12345678, instruction bytes not readable"));
    drop(&g);
}

static void slots_have_bounds(void **state)
{
    (void)state;
    GUEST(0xf4);
    int rc;
    struct backing *far = backing_new(8192, BACKING_ANON, PAGES_4K,
                                      &(struct numa_policy){NUMA_DEFAULT, 0}, err, sizeof err, &rc);
    assert_non_null(far);
    assert_true(kvm_vm_add_memory(g.vm, 1ull << 32, far, err, sizeof err));
    assert_ptr_equal(kvm_vm_ptr(g.vm, 0, 4 * MIB), g.mem->mem);
    assert_ptr_equal(kvm_vm_ptr(g.vm, (1ull << 32) + 4096, 4096), far->mem + 4096);
    assert_null(kvm_vm_ptr(g.vm, 0, 4 * MIB + 1));
    assert_null(kvm_vm_ptr(g.vm, 4 * MIB, 0));
    assert_null(kvm_vm_ptr(g.vm, 4 * MIB - 1, 2));
    assert_null(kvm_vm_ptr(g.vm, (1ull << 32) - 1, 1));
    assert_null(kvm_vm_ptr(g.vm, (1ull << 32) + 4096, 4097));
    assert_null(kvm_vm_ptr(g.vm, 4096, UINT64_MAX));
    assert_null(kvm_vm_ptr(g.vm, UINT64_MAX, 2));
    /* Overlapping memory is the host's refusal, in words. */
    assert_false(kvm_vm_add_memory(g.vm, 2 * MIB, far, err, sizeof err));
    assert_non_null(strstr(err, "KVM_SET_USER_MEMORY_REGION"));
    kvm_vm_free(g.vm);
    backing_free(g.mem);
    backing_free(far);
}

static void an_irqchip_comes_before_the_vcpus(void **state)
{
    (void)state;
    struct kvm_vm *vm = kvm_vm_new(err, sizeof err);
    if (!vm) {
        print_message("skip: %s\n", err);
        skip();
    }
    assert_true(kvm_vm_add_irqchip(vm, err, sizeof err));
    for (int i = 0; i < 2; i++) {
        struct kvm_vcpu *v = kvm_vm_add_vcpu(vm, err, sizeof err);
        struct kvm_mp_state mp;
        assert_non_null(v);
        assert_int_equal(v->id, i);
        assert_int_equal(ioctl(v->fd, KVM_GET_MP_STATE, &mp), 0);
        assert_int_equal(mp.mp_state, i ? KVM_MP_STATE_UNINITIALIZED : KVM_MP_STATE_RUNNABLE);
    }
    static struct kvm_snapshot s;
    assert_int_equal(kvm_vm_snapshot(vm, &s), vm->stats.n > 0);
    kvm_vm_free(vm);
}

static void exits_have_names(void **state)
{
    (void)state;
    assert_string_equal(kvm_exit_name(KVM_EXIT_IO), "io");
    assert_string_equal(kvm_exit_name(KVM_EXIT_MMIO), "mmio");
    assert_string_equal(kvm_exit_name(KVM_EXIT_INTERNAL_ERROR), "internal_error");
    assert_string_equal(kvm_exit_name(1000000), "other");
}

/* Whatever this host is, asking for what cannot be reloaded is a sentence, not an attempt. */
static void a_reload_that_cannot_be_is_refused(void **state)
{
    (void)state;
    assert_int_equal(kvm_reload("native", err, sizeof err), NB_USAGE);
    assert_true(err[0]);
    const struct kvm_host *h = kvm_host(err, sizeof err);
    if (h && h->module && strcmp(h->module, "kvm_pvm") == 0) {
        assert_int_equal(kvm_reload("ept", err, sizeof err), NB_NODEVICE);
        print_message("%s\n", err);
        assert_non_null(strstr(err, "kvm_pvm"));
        assert_int_equal(kvm_reload("shadow", err, sizeof err), NB_OK); /* it is in that mode */
    }
    kvm_reload_restore(); /* nothing to restore */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_host_is_described),
        cmocka_unit_test(a_real_mode_guest_writes_to_a_port),
        cmocka_unit_test(statistics_count_first_touches),
        cmocka_unit_test(statistics_are_well_formed),
        cmocka_unit_test(a_deadline_ends_a_guest_that_loops),
        cmocka_unit_test(a_deadline_before_the_step_is_not_lost),
        cmocka_unit_test(deadlines_at_any_moment_end_the_guest),
        cmocka_unit_test(a_kick_ends_another_threads_step),
        cmocka_unit_test(a_triple_fault_is_explained),
        cmocka_unit_test(an_internal_error_is_explained),
        cmocka_unit_test(a_lost_guest_is_explained),
        cmocka_unit_test(slots_have_bounds),
        cmocka_unit_test(an_irqchip_comes_before_the_vcpus),
        cmocka_unit_test(exits_have_names),
        cmocka_unit_test(a_reload_that_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
