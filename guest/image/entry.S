/* entry.S: the first instruction, what an exception runs, and the way into ring 3.
 *
 * The VMM enters at image_entry with flat segments and paging on. A stack pointer is all that is
 * missing: selectors are loaded by the first exception and by IRETQ.
 *
 * Each stub clears the direction flag, which an interrupt gate leaves as ring 3 had it (SDM vol. 3A,
 * 6.12.1.2): string instructions of the kernel go upwards.
 *
 * A stack frame from ring 3 begins at TSS.rsp0, which is 16-byte aligned:
 *
 *     ss rsp rflags cs rip [error code] [vector]
 */
#include "guest/image/segments.h"

    .section .head, "a"
    .global image_header
image_header: /* struct nb_image */
    .quad 0x31474d495453454e
    .long image_entry_offset, user_start_offset, user_end_offset
    .long image_file_size, image_mem_size
    .balign 8

    .text
    .global image_entry
image_entry:
    leaq kernel_stack_top(%rip), %rsp
    xorl %ebp, %ebp
    call kernel_main
1:  hlt
    jmp 1b

/* void enter_user(uint64_t rip, uint64_t rsp) */
    .global enter_user
enter_user:
    pushq $USER_DATA
    pushq %rsi
    pushq $2 /* RFLAGS: interrupts off, IOPL 0 */
    pushq $USER_CODE
    pushq %rdi
    iretq

/* A system call saves nothing: the caller expects to lose what a C function may change. */
    .balign 16
    .global syscall_stub
syscall_stub:
    cld
    subq $8, %rsp
    movq %r10, %rcx
    movq %rax, %r8
    call system_call /* (rdi, rsi, rdx, rcx = r10, r8 = number): rax, rdx */
    addq $8, %rsp
    iretq

/* #PF: error code on the stack; everything a C function may change is saved. What is in rax of the frame
 * when page_fault returns is in rax of the program. */
    .balign 16
    .global fault_stub
fault_stub:
    cld
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    subq $8, %rsp
    movq %cr2, %rdi
    movl 80(%rsp), %esi /* error code */
    leaq 72(%rsp), %rdx /* struct fault_frame */
    call page_fault
    addq $8, %rsp
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    addq $8, %rsp
    iretq

/* All others end the run. Those with an error code: SDM vol. 3A, table 6-1. */
    .balign 16
    .global vector_stubs
vector_stubs:
    .set v, 0
    .rept 32
    .balign 16
    .if v != 8 && v != 10 && v != 11 && v != 12 && v != 13 && v != 14 && v != 17 && v != 21
    pushq $0
    .endif
    pushq $v
    jmp unexpected
    .set v, v + 1
    .endr

unexpected:
    cld
    popq %rdi        /* vector */
    movq %rsp, %rsi  /* struct frame_regs */
    call exception
1:  hlt
    jmp 1b

    .bss
    .balign 4096
    .skip KERNEL_STACK
    .global kernel_stack_top
kernel_stack_top:
    .skip 2048 /* of double faults: the other stack may be the reason */
    .global double_fault_stack_top
double_fault_stack_top:

    .section .note.GNU-stack, "", @progbits
