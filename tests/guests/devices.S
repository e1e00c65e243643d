/* devices.S: uses each device of the board; prints the name of one that is wrong and fails. */
#include "tests/guests/multiboot.inc"

.macro expect register, value, name
        cmpl \value, \register
        je 8f
        say "\name\n"
        finish $CODE_FAIL
8:
.endm

main:
        /* serial: the divisor latch hides the data register; the scratch register keeps */
        movw $0x3fb, %dx
        movb $0x80, %al
        outb %al, %dx
        movw $0x3f8, %dx
        movb $0x41, %al
        outb %al, %dx
        xorl %eax, %eax
        inb %dx, %al
        expect %eax, $0x41, "divisor"
        movw $0x3fb, %dx
        movb $3, %al
        outb %al, %dx
        movw $0x3fd, %dx
        xorl %eax, %eax
        inb %dx, %al
        expect %eax, $0x60, "line status"
        movw $0x3ff, %dx
        movb $0x5a, %al
        outb %al, %dx
        movb $0, %al
        inb %dx, %al
        expect %eax, $0x5a, "scratch"

        /* latch: any width, deposited and extracted */
        movl $0x11223344, %eax
        outl %eax, $0xe0
        movb $0xaa, %al
        outb %al, $0xe1
        inl $0xe0, %eax
        expect %eax, $0x1122aa44, "latch"
        xorl %eax, %eax
        inw $0xe2, %ax
        expect %eax, $0x1122, "latch word"

        /* string output and input */
        movl $0x0badcafe, %eax
        outl %eax, $0xe8
        movw $0xe8, %dx
        movl $buffer, %edi
        movl $4, %ecx
        cld
        rep insb
        movl buffer, %eax
        expect %eax, $0xfefefefe, "string input"

        /* memory behind MMIO, all ones elsewhere */
        movl $0x12345678, 0xff000100
        movl 0xff000100, %eax
        expect %eax, $0x12345678, "iomem"
        movl 0xfe000000, %eax
        expect %eax, $0xffffffff, "empty mmio"
        movw $0xcfc, %dx
        inl %dx, %eax
        expect %eax, $0xffffffff, "pci"

        /* a page that the host takes away for a moment keeps its bytes */
        movl $0x77777777, page
        movl $page, %eax
        outl %eax, $0xe4
        movl page, %eax
        expect %eax, $0x77777777, "flushed page"
        movl $0xfffff000, %eax
        outl %eax, $0xe4

        /* an interrupt: line 11 through the second controller, which a PC's firmware leaves at
         * vector 0x70. The handler does not return: a KVM that emulates ring 0 knows no IRET of
         * 32-bit protected mode. */
        lidt idt_pointer
        lgdt gdt_pointer
        ljmp $8, $1f
1:      movw $16, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movl $handler, %eax
        movw %ax, idt + 0x73 * 8
        shrl $16, %eax
        movw %ax, idt + 0x73 * 8 + 6
        movw $8, idt + 0x73 * 8 + 2
        movw $0x8e00, idt + 0x73 * 8 + 4
        movw $0x200b, %dx
        movb $1, %al
        outb %al, %dx
        sti
        movl $1000000, %ecx
2:      loop 2b
        say "interrupt\n"
        finish $CODE_FAIL
interrupted: /* EIP, CS and EFLAGS are on the stack */
        expect %esp, $stack_top-12, "interrupt frame"
        say "devices ok\n"
        finish $CODE_PASS

handler:
        movw $0x200b, %dx
        movb $0, %al
        outb %al, %dx
        movb $0x20, %al
        outb %al, $0xa0
        outb %al, $0x20
        jmp interrupted

        .section .data
        .align 8
gdt:    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
        .word 23
        .long gdt
idt_pointer:
        .word 256 * 8 - 1
        .long idt
        .section .bss
buffer: .skip 4
        .align 4096
idt:    .skip 4096
page:   .skip 4096
