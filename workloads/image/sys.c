/* sys.c: vmm/user.h as system calls. */
#include "workloads/image/sys.h"

#include "guest/image/syscall.h"

struct two_words {
    uint64_t rax, rdx;
};

static struct two_words sys(enum nb_syscall number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct two_words r = {number, c};
    register uint64_t r10 __asm__("r10") = d;
    __asm__ volatile("int %[vector]"
                     : "+a"(r.rax), "+d"(r.rdx), "+D"(a), "+S"(b), "+r"(r10)
                     : [vector] "i"(SYSCALL_VECTOR)
                     : "rcx", "r8", "r9", "r11", "memory", "cc");
    return r;
}

int u_mmap(struct user *u, gva_t hint, uint64_t len, unsigned prot, unsigned flags, gva_t *out)
{
    (void)u;
    struct two_words r = sys(SYS_MMAP, hint, len, prot, flags);
    if ((int)r.rax == GK_OK)
        *out = r.rdx;
    return (int)r.rax;
}

int u_munmap(struct user *u, gva_t at, uint64_t len)
{
    (void)u;
    return (int)sys(SYS_MUNMAP, at, len, 0, 0).rax;
}

int u_mprotect(struct user *u, gva_t at, uint64_t len, unsigned prot)
{
    (void)u;
    return (int)sys(SYS_MPROTECT, at, len, prot, 0).rax;
}

int u_fork(struct user *u, int *child)
{
    (void)u;
    struct two_words r = sys(SYS_FORK, 0, 0, 0, 0);
    if ((int)r.rax == GK_OK)
        *child = (int)r.rdx;
    return (int)r.rax;
}

int u_exit(struct user *u, int pid)
{
    (void)u;
    return (int)sys(SYS_EXIT, (uint64_t)pid, 0, 0, 0).rax;
}

int u_switch(struct user *u, int pid)
{
    (void)u;
    return (int)sys(SYS_SWITCH, (uint64_t)pid, 0, 0, 0).rax;
}

/* An access that may be refused is made by a function without a stack frame: where it goes on after that can
 * return to the same caller. */
struct two_words try_load(gva_t), try_store(gva_t, uint64_t value);
extern char try_first[], try_refused[];
__asm__(".text\n"
        "try_first:\n"
        "try_load: movq (%rdi), %rax; movl $1, %edx; ret\n"
        "try_store: movq %rsi, (%rdi); movl $1, %edx; ret\n"
        "try_refused: xorl %edx, %edx; ret\n"); /* rax: error code */

static void expect_refusals(void)
{
    static bool done;
    if (!done)
        sys_recover((uint64_t)try_first, (uint64_t)try_refused, (uint64_t)try_refused);
    done = true;
}

bool u_try_load(struct user *u, gva_t a, uint64_t *value, unsigned *error)
{
    (void)u;
    expect_refusals();
    struct two_words r = try_load(a);
    if (r.rdx)
        *value = r.rax;
    else
        *error = (unsigned)r.rax;
    return r.rdx;
}

bool u_try_store(struct user *u, gva_t a, uint64_t value, unsigned *error)
{
    (void)u;
    expect_refusals();
    struct two_words r = try_store(a, value);
    if (!r.rdx)
        *error = (unsigned)r.rax;
    return r.rdx;
}

gva_t u_alloc(struct user *u, uint64_t len)
{
    gva_t at = 0;
    int r = u_mmap(u, 0, len, GK_READ | GK_WRITE, 0, &at);
    if (r != GK_OK)
        sys(SYS_NOMEM, len, (uint64_t)-r, 0, 0);
    return at;
}

void u_phase(struct user *u, const char *name)
{
    (void)u;
    sys(SYS_PHASE, (uint64_t)name, 0, 0, 0);
}

_Noreturn void u_abort(struct user *u, const char *why)
{
    (void)u;
    for (;;)
        sys(SYS_ABORT, (uint64_t)why, 0, 0, 0);
}

uint64_t sys_probe(unsigned id, uint64_t n, uint64_t addr)
{
    return sys(SYS_PROBE, id, n, addr, 0).rax;
}

void sys_mark(uint64_t value) { sys(SYS_MARK, value, 0, 0, 0); }

int sys_discard(gva_t at, uint64_t len) { return (int)sys(SYS_DISCARD, at, len, 0, 0).rax; }

bool sys_op(uint64_t number, uint64_t *kind, uint64_t *arg)
{
    struct two_words r = sys(SYS_OP, number, 0, 0, 0);
    *kind = r.rax;
    *arg = r.rdx;
    return r.rax != NB_NO_OP;
}
void sys_op_rest(unsigned k, uint64_t arg[2])
{
    struct two_words r = sys(SYS_OP_REST, k, 0, 0, 0);
    arg[0] = r.rax;
    arg[1] = r.rdx;
}

void sys_saw(uint64_t tag, uint64_t a, uint64_t b) { sys(SYS_SAW, tag, a, b, 0); }

int sys_recover(uint64_t from, uint64_t to, uint64_t rip)
{
    return (int)sys(SYS_RECOVER, from, to, rip, 0).rax;
}

void sys_done(void) { sys(SYS_DONE, 0, 0, 0, 0); }
