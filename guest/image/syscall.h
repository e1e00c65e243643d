/* syscall.h: what ring 3 of the image may ask of ring 0.
 *
 * INT SYSCALL_VECTOR (abi.h) with the number in rax and arguments in rdi, rsi, rdx and r10; the
 * results come back in rax and rdx. All other registers that a function call may change are lost.
 * The kernel never writes to a program's memory; it reads it for texts only, and only inside the
 * image's user part. Unknown numbers give GK_EINVAL.
 */
#ifndef NB_GUEST_IMAGE_SYSCALL_H
#define NB_GUEST_IMAGE_SYSCALL_H

#include "guest/image/abi.h"

enum nb_syscall {
    SYS_MMAP,     /* hint, len, prot, flags: GK_*, address */
    SYS_MUNMAP,   /* address, len: GK_* */
    SYS_MPROTECT, /* address, len, prot: GK_* */
    SYS_FORK,     /* GK_*, pid of the child */
    SYS_EXIT,     /* pid: GK_* */
    SYS_SWITCH,   /* pid: GK_* */
    SYS_PHASE,    /* name */
    SYS_DONE,     /* the program has finished */
    SYS_ABORT,    /* why */
    SYS_NOMEM,    /* len, -GK_*: u_alloc() was refused */
    SYS_PROBE,    /* id, n, address: what probe_kernel() returns */
    SYS_MARK,     /* value: a part of a probe ends here */
    SYS_DISCARD,  /* address, len: the host takes the frames of the mapped pages */
    SYS_OP,       /* number: kind of that operation or NB_NO_OP, its first argument */
    SYS_OP_REST,  /* k at most 2: arguments k and k + 1 of the operation that SYS_OP asked for */
    SYS_SAW,      /* tag, two words: to the VMM */
    SYS_RECOVER /* from, to, rip: GK_*. An access by an instruction in [from, to) that the kernel refuses
                     goes on at rip, with the #PF error code in rax. rip: in the image's user part */
};

#define NB_NO_OP (~0ull)

/* What the kernel leaves for the program before it starts. */
struct nb_args {
    char program[32];
    uint64_t seed;
    uint64_t params[NB_PARAMS];
};

#endif
