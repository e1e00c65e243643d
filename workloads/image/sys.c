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

void sys_done(void) { sys(SYS_DONE, 0, 0, 0, 0); }
