/* hostile.c: programs that do what no workload does, for the tests of the VMM and of the kernel: each
 * must end as a value, whatever ring 3 tries.
 */
#include "guest/image/probe.h"
#include "workloads/image/sys.h"

/* p[0]: an address. */
static void run_load(struct user *u, const uint64_t *p)
{
    u_phase(u, "setup");
    ld(u, p[0]);
}

static void run_store(struct user *u, const uint64_t *p)
{
    u_phase(u, "setup");
    st(u, p[0]);
}

static void run_halt(struct user *u, const uint64_t *p)
{
    (void)p;
    u_phase(u, "setup");
    __asm__ volatile("hlt");
}

static void run_loop(struct user *u, const uint64_t *p)
{
    (void)p;
    u_phase(u, "setup");
    for (;;)
        __asm__ volatile("pause");
}

/* p[0]: where the name of a phase is said to be. */
static void run_phase(struct user *u, const uint64_t *p)
{
    u_phase(u, (const char *)p[0]);
    u_phase(u, "after\nit");
}

/* p[0]: bytes to ask for. */
static void run_alloc(struct user *u, const uint64_t *p)
{
    u_phase(u, "setup");
    u_alloc(u, p[0]);
}

static void expect(struct user *u, bool ok, const char *why)
{
    if (!ok)
        u_abort(u, why);
}

/* Every system call refuses nonsense with a value, and the program goes on. */
static void run_refused(struct user *u, const uint64_t *p)
{
    static const unsigned kernel_parts[] = {PROBE_LOOP_LEAF, PROBE_LOOP_LEAF_SYNC, PROBE_LOOP_UPPER,
                                            PROBE_PROTECT, PROBE_MAP_MMIO};
    gva_t at = 0;
    (void)p;
    u_phase(u, "setup");
    expect(u, u_mmap(u, 1, 1, GK_READ, 0, &at) == GK_EINVAL, "mmap took an odd address");
    expect(u, u_mmap(u, 0, 0, GK_READ, 0, &at) == GK_EINVAL, "mmap took no bytes");
    expect(u, u_mmap(u, ~0xfffull, 4096, GK_READ, GK_FIXED, &at) == GK_EINVAL,
           "mmap took a kernel address");
    expect(u, u_munmap(u, ~0xfffull, 4096) == GK_EINVAL, "munmap took a kernel address");
    expect(u, u_mprotect(u, 1, 4096, 0) == GK_EINVAL, "mprotect took an odd address");
    expect(u, u_exit(u, 99) == GK_ESRCH, "exit took an unknown pid");
    expect(u, u_exit(u, 1) == GK_EINVAL, "exit took pid 1");
    expect(u, u_switch(u, -1) == GK_ESRCH, "switch took an unknown pid");
    expect(u, sys_discard(~0xfffull, 4096) == GK_EINVAL, "discard took a kernel address");
    expect(u, sys_discard(0x10000000, 4096) == GK_OK, "discard refused what is not mapped");
    expect(u, sys_recover(0, ~0ull, IMAGE_BASE + IMAGE_GPA) == GK_EINVAL,
           "a refused access may go on in the kernel");
    expect(u, sys_recover(0, ~0ull, 1ull << 62) == GK_EINVAL,
           "a refused access may go on at an address that is none");
    uint64_t arg[2];
    sys_op_rest(~0u, arg);
    expect(u, arg[0] == (uint64_t)GK_EINVAL && !arg[1], "an operation has more arguments");
    for (unsigned i = 0; i < sizeof kernel_parts / sizeof kernel_parts[0]; i++)
        expect(u, sys_probe(kernel_parts[i], 1, IMAGE_BASE + BOOT_GPA) == (uint64_t)GK_EINVAL,
               "a probe took a kernel address");
    at = u_alloc(u, 4096);
    st(u, at);
    expect(u, sys_probe(PROBE_UNMAP_MMIO, 1, at) == (uint64_t)GK_EINVAL,
           "a probe gave back what it had not taken");
}

/* p[0] pages: write them, have the host take them, read zeroes. Marks 1, 2, 3 after each. */
static void run_discard(struct user *u, const uint64_t *p)
{
    uint64_t pages = p[0];
    u_phase(u, "setup");
    gva_t base = u_alloc(u, pages << PAGE_SHIFT);
    for (uint64_t i = 0; i < pages; i++)
        st64(u, base + (i << PAGE_SHIFT), i + 1);
    sys_mark(1);
    expect(u, sys_discard(base, pages << PAGE_SHIFT) == GK_OK, "discard was refused");
    sys_mark(2);
    for (uint64_t i = 0; i < pages; i++) {
        st(u, base + (i << PAGE_SHIFT) + 8);
        expect(u, ld64(u, base + (i << PAGE_SHIFT)) == 0, "a discarded page still has its data");
    }
    sys_mark(3);
}

/* Recycled pages, first touched with the direction flag set: only they are to be cleared. */
static void run_backwards(struct user *u, const uint64_t *p)
{
    enum { PAGES = 64, HALF = PAGES / 2 };
    (void)p;
    u_phase(u, "setup");
    gva_t base = u_alloc(u, PAGES << PAGE_SHIFT), half = base + (HALF << PAGE_SHIFT);
    for (gva_t at = base; at < base + (PAGES << PAGE_SHIFT); at += 8)
        st64(u, at, at);
    expect(u, u_munmap(u, half, HALF << PAGE_SHIFT) == GK_OK, "munmap was refused");
    expect(u, u_mmap(u, half, HALF << PAGE_SHIFT, GK_READ | GK_WRITE, GK_FIXED, &half) == GK_OK,
           "mmap was refused");
    for (gva_t at = half; at < half + (HALF << PAGE_SHIFT); at += PAGE_SIZE)
        __asm__ volatile("std; movb $0, %0; cld" : "=m"(*(volatile unsigned char *)at));
    for (gva_t at = base; at < half; at += 8)
        expect(u, ld64(u, at) == at, "the kernel cleared a page that is in use");
    for (gva_t at = half; at < half + (HALF << PAGE_SHIFT); at += 8)
        expect(u, ld64(u, at) == 0, "a new page shows old data");
}

/* p[0]: eight bytes of code to run, with a call of the VMM prepared in edx and eax. */
static void run_code(struct user *u, const uint64_t *p)
{
    gva_t at = 0;
    u_phase(u, "setup");
    expect(u, u_mmap(u, 0, PAGE_SIZE, GK_READ | GK_WRITE | GK_EXEC, 0, &at) == GK_OK,
           "mmap was refused");
    st64(u, at, p[0]);
    st64(u, at + 8, 0xc3); /* RET */
    uint64_t rax = NB_CALL_DONE, rdx = NB_PORT;
    __asm__ volatile("call *%[at]"
                     : "+a"(rax), "+d"(rdx)
                     : [at] "r"(at)
                     : "rbx", "rcx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
}

/* A refused access that goes on with itself. */
void load_forever(void);
__asm__(".text\nload_forever: movb 0, %al; ret\n");

static void run_recover(struct user *u, const uint64_t *p)
{
    uint64_t at = (uint64_t)load_forever;
    (void)p;
    u_phase(u, "setup");
    expect(u, sys_recover(at, at + 1, at) == GK_OK, "a refused access may not go on where it was");
    load_forever();
}

/* What scripts may not do to the VMM that serves them. p[0]: which. */
enum { FORGE_EARLY, FORGE_FLOOD, FORGE_TAG, FORGE_TURN, FORGE_END, FORGE_AGAIN };
static void run_forge(struct user *u, const uint64_t *p)
{
    uint64_t kind, arg, i = 0;
    if (p[0] == FORGE_EARLY)
        sys_saw(0, 0, 0);
    sys_op(i++, &kind, &arg);
    for (unsigned n = 0; p[0] == FORGE_FLOOD && n < 100000; n++)
        sys_saw(0, n, n);
    if (p[0] == FORGE_TAG)
        sys_saw(1ull << 63 | 99, 0, 0);
    if (p[0] == FORGE_TURN)
        sys_op(99, &kind, &arg);
    if (p[0] == FORGE_END)
        return;
    while (sys_op(i++, &kind, &arg))
        ;
    for (unsigned n = 0; n < 10; n++) /* there are still none */
        expect(u, !sys_op(i++, &kind, &arg), "a script goes on after its end");
    if (p[0] == FORGE_AGAIN)
        sys_saw(0, 0, 0);
}

/* SYSCALL, which no kernel of ours offers, with code where it would go if nobody said where. */
static void run_syscall(struct user *u, const uint64_t *p)
{
    gva_t at = 0;
    (void)p;
    u_phase(u, "setup");
    if (u_mmap(u, 0, PAGE_SIZE, GK_READ | GK_WRITE | GK_EXEC, GK_FIXED, &at) == GK_OK && !at)
        st64(u, at, 0xf4); /* HLT: ring 0 only */
    __asm__ volatile("syscall" : : : "rcx", "r11", "memory");
}

REGISTER_AS(workload, load, "test:load", .run = run_load);
REGISTER_AS(workload, store, "test:store", .run = run_store);
REGISTER_AS(workload, halt, "test:halt", .run = run_halt);
REGISTER_AS(workload, loop, "test:loop", .run = run_loop);
REGISTER_AS(workload, phase, "test:phase", .run = run_phase);
REGISTER_AS(workload, alloc, "test:alloc", .run = run_alloc);
REGISTER_AS(workload, refused, "test:refused", .run = run_refused);
REGISTER_AS(workload, backwards, "test:backwards", .run = run_backwards);
REGISTER_AS(workload, code, "test:code", .run = run_code);
REGISTER_AS(workload, recover, "test:recover", .run = run_recover);
REGISTER_AS(workload, forge, "test:forge", .run = run_forge);
REGISTER_AS(workload, syscall, "test:syscall", .run = run_syscall);
REGISTER_AS(workload, discard, "test:discard", .run = run_discard);
