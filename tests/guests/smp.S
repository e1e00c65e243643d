/* smp.S: wakes all other CPUs with INIT and SIPI through the local APIC; each counts itself; ends when
 * all that fw_cfg promised have come. */
#include "tests/guests/multiboot.inc"
#define ICR 0xfee00300
#define SVR 0xfee000f0
main:
        /* copy the trampoline to page 0 */
        movl $trampoline, %esi
        xorl %edi, %edi
        movl $trampoline_end - trampoline, %ecx
        cld
        rep movsb
        movl $0x1ff, SVR
        movl $0xc4500, ICR              /* INIT, to all but self */
        movl $1000, %ecx
1:      inb $0x80, %al
        loop 1b
        movl $0xc4600, ICR              /* SIPI, page 0 */
        movw $0x510, %dx
        movw $5, %ax
        outw %ax, %dx
        incw %dx
        xorl %eax, %eax
        inb %dx, %al
        decl %eax
        movl %eax, %ebx
2:      pause
        cmpl %ebx, arrived
        jb 2b
        say "others "
        movl arrived, %eax
        call print_hex
        say "\n"
        finish $CODE_PASS

        .code16
trampoline:
        lgdtl %cs:(trampoline_gdt - trampoline)
        movl %cr0, %eax
        orb $1, %al
        movl %eax, %cr0
        ljmpl $8, $other
        .align 8
trampoline_gdt:
        .word 23
        .long gdt
trampoline_end:
        .code32
other:
        movw $16, %ax
        movw %ax, %ds
        lock incl arrived
1:      hlt
        jmp 1b

        .section .data
        .align 8
gdt:    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
arrived: .long 0
