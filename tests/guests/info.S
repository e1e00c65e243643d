/* info.S: prints what the loader tells: command line, memory, the environment text, CPUs; ends with
 * the number that the command line ends in, as one digit. */
#include "tests/guests/multiboot.inc"
main:
        movl info, %ebx
        say "cmdline "
        movl 16(%ebx), %esi
        call print
        say "\nmem_upper "
        movl 8(%ebx), %eax
        call print_hex
        say "\nflags "
        movl (%ebx), %eax
        call print_hex
        say "\nregions "
        movl 44(%ebx), %eax
        call print_hex
        say "\nenvironment "
        cmpl $1, 20(%ebx)
        jne no_env
        movl 24(%ebx), %edi
        movl (%edi), %esi
        movl 4(%edi), %ecx
        subl %esi, %ecx
        movw $0x3f8, %dx
        rep outsb
no_env:
        say "\ncpus "
        movw $0x510, %dx
        movw $5, %ax
        outw %ax, %dx
        incw %dx
        xorl %eax, %eax
        inb %dx, %al
        call print_hex
        say "\n"
        movl 16(%ebx), %esi
1:      lodsb
        testb %al, %al
        jnz 1b
        movzbl -2(%esi), %eax
        subl $48, %eax
        finish %eax
