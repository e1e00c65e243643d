/* main.c: the guest kernel on real hardware: boot, system calls, page faults, and ways to end.
 *
 * Boot, in this order: descriptor tables; CR4; gk_boot(), which loads the first process's CR3;
 * kernel memory is warmed (hw.c); NB_CALL_BOOTED; ring 3 begins and warms the image's user part.
 *
 * Invariants
 *   1  boot.faults counts the faults that gk_fault() answered with GK_OK, nothing else
 *   2  what `boot` tells the VMM is up to date at every call
 *   3  no store of the kernel goes to an address a program chose
 *   4  a run ends in stop(), whatever ring 3 did
 */
#include "guest/image/image.h"
#include "guest/image/segments.h"

struct gate {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_mid;
    uint32_t offset_high, zero;
};

struct __attribute__((packed)) task_state {
    uint32_t pad;
    uint64_t rsp[3], pad2, ist[7], pad3;
    uint16_t pad4, io_map;
    uint8_t ports[NB_PROBE_PORT / 8 + 2]; /* a set bit forbids ring 3 the port; ends in ones */
};

struct __attribute__((packed)) table_register {
    uint16_t limit;
    const void *base;
};

/* What an exception leaves on the stack, an error code always among it. */
struct frame_regs {
    uint64_t error, rip, cs, rflags, rsp, ss;
};

/* Of a #PF: and the program's rax, which fault_stub saves first and restores. */
struct fault_frame {
    uint64_t rax;
    struct frame_regs regs;
};

struct two_words {
    uint64_t rax, rdx;
};

enum { VECTORS = 32, VECTOR_DF = 8, VECTOR_PF = 14 };
enum { GATE_KERNEL = 0x8e, GATE_USER = 0xee }; /* present 64-bit interrupt gate, DPL 0 or 3 */

#define WARM_AHEAD (1u << 20)
#define CR4_PGE (1ull << 7)
#define CR4_PCIDE (1ull << 17)

extern char kernel_stack_top[], double_fault_stack_top[], fault_stub[];
_Noreturn void kernel_main(void);
_Noreturn void exception(unsigned vector, const struct frame_regs *);
void page_fault(gva_t, unsigned error, struct fault_frame *);
struct two_words system_call(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t number);

_Static_assert(NB_PTE_KEPT == PTE_KEPT, "the VMM reads the tables as we write them");

static struct hw hw;
static struct gk *kernel;
static struct {
    uint64_t from, to, rip;
} recover; /* SYS_RECOVER; from = to: nothing */
static struct gate idt[VECTORS] __attribute__((aligned(16)));
/* Of all ports ring 3 may use NB_PROBE_PORT. A bitmap, because not every KVM that emulates IRETQ
 * gives ring 3 the IOPL of the frame. */
static struct task_state tss = {.io_map = offsetof(struct task_state, ports),
                                .ports = {[0 ... NB_PROBE_PORT / 8 - 1] = 0xff,
                                          [NB_PROBE_PORT / 8] = 0xff & ~(1u << NB_PROBE_PORT % 8),
                                          [NB_PROBE_PORT / 8 + 1] = 0xff}};
/* Null, the four segments of segments.h, and room for the 16 bytes of the task state's. */
static uint64_t gdt[] = {
    0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00affb000000ffff, 0x00cff3000000ffff, 0, 0};

/* ---- how a run ends, and what the VMM is told ---- */
static void list_processes(void)
{
    uint32_t n = 0;
    for (const struct proc *p = kernel->first; p; p = p->next, n++) {
        if (n < NB_MAX_PROCS) {
            boot.procs[n].pid = (uint32_t)p->pid;
            boot.procs[n].root = p->table;
        }
    }
    boot.nprocs = n;
}

void call(enum nb_call what)
{
    boot.pt_bytes = kernel ? gk_pt_bytes(kernel) : 0;
    vmm_call(what);
}

_Noreturn void stop(enum nb_call why)
{
    for (;;)
        call(why);
}

static _Noreturn void panic(const char *what, uint64_t rip)
{
    say(what);
    boot.addr = rip;
    stop(NB_CALL_PANIC);
}

_Noreturn void exception(unsigned vector, const struct frame_regs *r)
{
    say("exception 0x");
    say_hex("", vector);
    say_hex(r->cs & 3 ? " in ring 3, error 0x" : " in ring 0, error 0x", r->error);
    boot.addr = r->rip;
    stop(NB_CALL_PANIC);
}

static bool recovers(const struct frame_regs *r)
{
    return r->rip >= recover.from && r->rip < recover.to;
}

void page_fault(gva_t va, unsigned error, struct fault_frame *f)
{
    if (!(f->regs.cs & 3)) {
        say("page fault in ring 0 on gva 0x");
        say_hex("", va);
        boot.addr = f->regs.rip;
        stop(NB_CALL_PANIC);
    }
    int result = gk_fault(kernel, va, error);
    gk_return(kernel);
    if (result == GK_OK) {
        boot.faults++;
        return;
    }
    if (result == GK_SEGV && recovers(&f->regs)) {
        f->rax = error;
        f->regs.rip = recover.rip;
        return;
    }
    boot.addr = va;
    boot.value = 0;
    boot.error = error;
    stop(result == GK_ENOMEM ? NB_CALL_NOMEM : NB_CALL_SEGV);
}

/* ---- system calls ---- */
/* The text of a program: only from the image's user part, which is mapped in every process. */
static void take_text(uint64_t from)
{
    uint64_t end = (uint64_t)user_end;
    unsigned n = 0;
    if (from >= (uint64_t)user_start)
        for (; n < NB_TEXT - 1 && from + n < end && *(const char *)(from + n); n++)
            boot.text[n] = *(const char *)(from + n);
    boot.text[n] = 0;
}

static _Noreturn void done(void)
{
    if (boot.check) {
        const char *broken = gk_check(kernel);
        if (broken)
            panic(broken, 0);
    }
    list_processes();
    stop(NB_CALL_DONE);
}

static void discard_run(gpa_t start, uint64_t bytes)
{
    boot.addr = start;
    boot.value = bytes;
    if (bytes)
        call(NB_CALL_DISCARD);
}

/* Give the frames of [va, va + len) back to the host: one call for each run of adjacent frames. */
static int discard(gva_t va, uint64_t len)
{
    gpa_t start = 0;
    uint64_t bytes = 0;
    if ((va | len) & PAGE_MASK || va >= kernel->top || len > kernel->top - va)
        return GK_EINVAL;
    for (gva_t end = va + len; va < end; va += PAGE_SIZE) {
        struct pos pos = pt_walk(kernel, kernel->cur, va);
        if (!(pos.e & PTE_P))
            continue;
        gpa_t at = pte_leaf_addr(pos.e, pos.level) + (va & (level_size(pos.level) - 1));
        if (bytes && at != start + bytes) {
            discard_run(start, bytes);
            bytes = 0;
        }
        if (!bytes)
            start = at;
        bytes += PAGE_SIZE;
    }
    discard_run(start, bytes);
    return GK_OK;
}

/* IRETQ to anywhere else could fault in ring 0. */
static int set_recovery(uint64_t from, uint64_t to, uint64_t rip)
{
    if (rip < (uint64_t)user_start || rip >= (uint64_t)user_end)
        return GK_EINVAL;
    recover.from = from;
    recover.to = to;
    recover.rip = rip;
    return GK_OK;
}

static struct two_words next_op(uint64_t number)
{
    struct two_words r;
    return script_op(number, &r.rax, &r.rdx) ? r : (struct two_words){NB_NO_OP, 0};
}

static struct two_words op_rest(uint64_t k)
{
    uint64_t arg[2];
    if (!script_args(k, arg))
        return (struct two_words){(uint64_t)GK_EINVAL, 0};
    return (struct two_words){arg[0], arg[1]};
}

/* Calls that say something about the run instead of asking the kernel for something. */
static struct two_words report(uint64_t a, uint64_t b, uint64_t c, uint64_t number)
{
    switch (number) {
    case SYS_PHASE:
        take_text(a);
        call(NB_CALL_PHASE);
        return (struct two_words){0, 0};
    case SYS_DONE:
        done();
    case SYS_ABORT:
        take_text(a);
        stop(NB_CALL_ABORT);
    case SYS_NOMEM:
        boot.addr = 0;
        boot.value = a;
        boot.error = (uint32_t)b;
        stop(NB_CALL_NOMEM);
    case SYS_MARK:
        boot.value = a;
        call(NB_CALL_MARK);
        return (struct two_words){0, 0};
    case SYS_OP:
        return next_op(a);
    case SYS_OP_REST:
        return op_rest(a);
    case SYS_SAW:
        script_saw(a, b, c);
        return (struct two_words){0, 0};
    default:
        return (struct two_words){(uint64_t)GK_EINVAL, 0};
    }
}

/* A GK_* result as a register. */
static uint64_t word(int result) { return (uint64_t)(int64_t)result; }

static struct two_words serve(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t number)
{
    gva_t at = 0;
    int pid = 0, r;
    switch (number) {
    case SYS_MMAP:
        r = gk_mmap(kernel, a, b, (unsigned)c, (unsigned)d, &at);
        return (struct two_words){word(r), at};
    case SYS_MUNMAP:
        return (struct two_words){word(gk_munmap(kernel, a, b)), 0};
    case SYS_MPROTECT:
        return (struct two_words){word(gk_mprotect(kernel, a, b, (unsigned)c)), 0};
    case SYS_FORK:
        r = gk_fork(kernel, &pid);
        return (struct two_words){word(r), (uint64_t)pid};
    case SYS_EXIT:
        return (struct two_words){word(gk_exit(kernel, (int)a)), 0};
    case SYS_SWITCH:
        return (struct two_words){word(gk_switch(kernel, (int)a)), 0};
    case SYS_PROBE:
        return (struct two_words){probe_kernel(kernel, (unsigned)a, b, c), 0};
    case SYS_DISCARD:
        return (struct two_words){word(discard(a, b)), 0};
    case SYS_RECOVER:
        return (struct two_words){word(set_recovery(a, b, c)), 0};
    default:
        return report(a, b, c, number);
    }
}

/* What the kernel did for the program is done, or a phase begins: the balloon has its turn. */
struct two_words system_call(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t number)
{
    struct two_words r = serve(a, b, c, d, number);
    if (number <= SYS_SWITCH)
        gk_return(kernel);
    else if (number == SYS_PHASE)
        gk_idle(kernel);
    return r;
}

/* ---- boot ---- */
static void set_gate(unsigned vector, const void *stub, uint8_t type, uint8_t ist)
{
    uint64_t at = (uint64_t)stub;
    idt[vector] = (struct gate){.offset_low = (uint16_t)at,
                                .selector = KERNEL_CODE,
                                .ist = ist,
                                .type = type,
                                .offset_mid = (uint16_t)(at >> 16),
                                .offset_high = (uint32_t)(at >> 32)};
}

static void load_tables(void)
{
    uint64_t base = (uint64_t)&tss;
    struct table_register g = {sizeof gdt - 1, gdt}, i = {sizeof idt - 1, idt};
    for (unsigned v = 0; v < VECTORS; v++)
        set_gate(v, vector_stubs + v * VECTOR_STUB_BYTES, GATE_KERNEL, v == VECTOR_DF);
    set_gate(VECTOR_PF, fault_stub, GATE_KERNEL, 0);
    set_gate(SYSCALL_VECTOR, syscall_stub, GATE_USER, 0);
    tss.rsp[0] = (uint64_t)kernel_stack_top;
    tss.ist[0] = (uint64_t)double_fault_stack_top;
    /* An available 64-bit TSS: SDM vol. 3A, figure 8-4. */
    gdt[TASK_STATE / 8] =
        (sizeof tss - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[TASK_STATE / 8 + 1] = base >> 32;
    __asm__ volatile("lgdt %0" : : "m"(g));
    __asm__ volatile("lidt %0" : : "m"(i));
    __asm__ volatile("ltr %w0" : : "r"(TASK_STATE));
}

static void set_cr4(void)
{
    uint64_t cr4;
    __asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
    cr4 |= CR4_PGE | (boot.pcid ? CR4_PCIDE : 0);
    __asm__ volatile("movq %0, %%cr4" : : "r"(cr4) : "memory");
}

static void start_kernel(void)
{
    uint64_t reserved = gk_reserved_bytes(boot.mem_bytes);
    struct gk_config config = {.mem_bytes = boot.mem_bytes,
                               .reserved_bytes = reserved,
                               .levels = boot.levels,
                               .pages = (enum page_mode)boot.pages,
                               .pcid = boot.pcid,
                               .flush_ceiling = boot.flush_ceiling,
                               .balloon = boot.balloon,
                               .balloon_order = boot.balloon_order,
                               .balloon_report_order = boot.balloon_report_order};
    hw_init(&hw, reserved);
    kernel = gk_boot(&hw, &config);
    if (!kernel)
        panic("the kernel does not fit into this memory", 0);
    hw_warm(&hw, WARM_AHEAD);
}

/* As the loader of a program would: name, parameters and seed into the program's own memory. */
static void give_args(void)
{
    for (unsigned i = 0; i < sizeof user_args.program - 1; i++)
        user_args.program[i] = boot.program[i];
    for (unsigned i = 0; i < NB_PARAMS; i++)
        user_args.params[i] = boot.params[i];
    user_args.seed = boot.seed;
}

_Noreturn void kernel_main(void)
{
    load_tables();
    set_cr4();
    start_kernel();
    give_args();
    call(NB_CALL_BOOTED);
    enter_user((uint64_t)user_entry, (uint64_t)user_stack_top - 8); /* as a call leaves it */
}
