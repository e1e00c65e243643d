/* long.S: into 64-bit mode as larger test images do, then what they rely on: an exception and IRETQ, the
 * local APIC's timer waking a HLT, x2APIC, an interrupt to oneself. */
#include "tests/guests/multiboot.inc"
#define EFER 0xc0000080
#define APIC_BASE 0x1b
#define X2APIC_ICR 0x830
#define TIMER_VECTOR 0x40
#define SELF_VECTOR 0x41

main:
        /* identity map of 4 GiB with 2 MiB pages: the local APIC is in it */
        movl $directory, %edi
        movl $0xe7, %eax
        movl $2048, %ecx
1:      movl %eax, (%edi)
        movl $0, 4(%edi)
        addl $8, %edi
        addl $0x200000, %eax
        loop 1b
        lgdt gdt_pointer
        movl %cr4, %eax
        btsl $5, %eax                   /* PAE */
        movl %eax, %cr4
        movl $root, %eax
        movl %eax, %cr3
        movl $EFER, %ecx
        rdmsr
        btsl $8, %eax                   /* LME */
        wrmsr
        movl %cr0, %eax
        btsl $31, %eax                  /* PG */
        movl %eax, %cr0
        ljmpl $8, $in_long_mode

        .code64
.macro gate vector, handler
        movl $\handler, %eax
        movw %ax, idt + \vector * 16
        movw $8, idt + \vector * 16 + 2
        movw $0x8e00, idt + \vector * 16 + 4
        shrl $16, %eax
        movw %ax, idt + \vector * 16 + 6
.endm

/* Go on when the count at `where` is `n`, else fail with a number. */
.macro expect_count where, n, number
        cmpl $\n, \where
        je 8f
        movl $\number, %eax
        outl %eax, $0xf4
8:
.endm

in_long_mode:
        movw $16, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movl $tss, %eax
        movw %ax, tss_descriptor + 2
        shrl $16, %eax
        movb %al, tss_descriptor + 4
        movb %ah, tss_descriptor + 7
        movw $24, %ax
        ltr %ax
        lidt idt_pointer
        gate 6, undefined
        gate TIMER_VECTOR, tick
        gate SELF_VECTOR, self

        /* #UD, and back behind it */
        ud2
        expect_count undefineds, 1, 2

        /* controllers off, local APIC on, its timer in one shot */
        movb $0xff, %al
        outb %al, $0x21
        outb %al, $0xa1
        movl $0xfee00000, %ebx
        movl $0x1ff, 0xf0(%rbx)
        movl $0xb, 0x3e0(%rbx)          /* divide by 1 */
        movl $TIMER_VECTOR, 0x320(%rbx)
        movl $100000, 0x380(%rbx)
        sti
        hlt
        cli
        expect_count ticks, 1, 3

        /* x2APIC: the same by MSR */
        movl $APIC_BASE, %ecx
        rdmsr
        orl $0xc00, %eax
        wrmsr
        movl $X2APIC_ICR, %ecx
        movl $0x44000 + SELF_VECTOR, %eax
        xorl %edx, %edx
        wrmsr
        sti
        movl $100000, %ecx              /* a KVM that emulates ring 0 lets it wait for a while */
1:      cmpl $0, selves
        jne 2f
        loop 1b
2:      cli
        expect_count selves, 1, 4
        movl $CODE_PASS, %eax
        outl %eax, $0xf4
        hlt

undefined:
        addq $2, (%rsp)
        incl undefineds
        iretq
tick:
        incl ticks
        movl $0, 0xb0(%rbx)             /* end of interrupt; RBX as in main */
        iretq
self:
        incl selves
        movl $0x80b, %ecx
        xorl %eax, %eax
        xorl %edx, %edx
        wrmsr
        iretq

        .section .data
        .align 4096
root:   .long table + 7, 0
        .skip 4088
table:  .long directory + 7, 0, directory + 4103, 0, directory + 8199, 0, directory + 12295, 0
        .skip 4064
gdt:    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
tss_descriptor:
        .quad 0x0000890000000067, 0
gdt_pointer:
        .word 39
        .long gdt, 0
idt_pointer:
        .word 256 * 16 - 1
        .long idt, 0
undefineds: .long 0
ticks:  .long 0
selves: .long 0
        .section .bss
        .align 4096
directory: .skip 16384
idt:    .skip 4096
tss:    .skip 104
