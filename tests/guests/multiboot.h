/* multiboot.h: what the test images of `nestbed boot` begin with, and their few output routines.
 *
 * An image is a multiboot header and 32-bit code from `start` on, which sets a stack, keeps the
 * address of the multiboot information in `info` and goes to `main`. The routines change no register
 * but EAX and ESI.
 */
#define CODE_PASS 0
#define CODE_FAIL 1

        .code32
        .section .text
        .align 4
        .long 0x1badb002, 0, -0x1badb002
        .global start
start:
        movl $stack_top, %esp
        movl %ebx, info
        jmp main

/* The string at ESI, to the serial line. */
print:
        pushl %edx
        movw $0x3f8, %dx
1:      lodsb
        testb %al, %al
        jz 2f
        outb %al, %dx
        jmp 1b
2:      popl %edx
        ret

/* EAX in hexadecimal. */
print_hex:
        pushl %ecx
        pushl %edx
        pushl %ebx
        movl %eax, %ebx
        movl $8, %ecx
        movw $0x3f8, %dx
1:      roll $4, %ebx
        movb %bl, %al
        andb $15, %al
        cmpb $10, %al
        jb 2f
        addb $39, %al
2:      addb $48, %al
        outb %al, %dx
        loop 1b
        popl %ebx
        popl %edx
        popl %ecx
        ret

.macro say text
        pushl %esi
        movl $9f, %esi
        call print
        popl %esi
        .section .rodata
9:      .asciz "\text"
        .section .text
.endm

.macro finish code
        movl \code, %eax
        outl %eax, $0xf4
        hlt
.endm

        .section .bss
info:   .skip 4
        .align 16
        .skip 4096
stack_top:
        .section .text
