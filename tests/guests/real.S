/* real.S: into real mode at 0x8000, where images of real-mode code begin: the interrupt table returns at
 * once, lines of the second controller arrive at 0x70 and up, as a PC's firmware leaves both. */
#include "tests/guests/multiboot.inc"
main:
        movl $real_start, %esi
        movl $0x8000, %edi
        movl $real_end - real_start, %ecx
        cld
        rep movsb
        lgdt gdt_pointer
        lidt idt_pointer
        ljmpl $8, $0x8000

        .code16
/* Runs at 0x8000: labels count from real_start. */
real_start:
        movw $16, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movl %cr0, %eax
        andb $0xfe, %al
        movl %eax, %cr0
        ljmpw $0, $0x8000 + (1f - real_start)
1:      xorw %ax, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movw $0x7c00, %sp

        /* line 5, vector 0x0d: nobody listens, so it comes back */
        sti
        movw $0x2005, %dx
        movb $1, %al
        outb %al, %dx
        movw $1000, %cx
2:      loop 2b
        cli
        movb $0, %al
        outb %al, %dx
        movb $0x20, %al
        outb %al, $0x20

        /* line 11, vector 0x73: ours */
        movw $0x8000 + (handler - real_start), 0x73 * 4
        sti
        movw $0x200b, %dx
        movb $1, %al
        outb %al, %dx
        movw $10000, %cx
3:      cmpb $1, 0x8000 + (seen - real_start)
        je 4f
        loop 3b
4:      cli
        movl $CODE_PASS, %eax
        cmpb $1, 0x8000 + (seen - real_start)
        je 5f
        movl $CODE_FAIL, %eax
5:      outl %eax, $0xf4
        hlt
handler:
        movb $1, 0x8000 + (seen - real_start)
        iretw
seen:   .byte 0
real_end:

        .section .data
        .align 8
/* 16-bit code and data, 64 KiB from address 0 */
gdt:    .quad 0, 0x00009b000000ffff, 0x000093000000ffff
gdt_pointer:
        .word 23
        .long gdt
idt_pointer:
        .word 0x3ff
        .long 0
