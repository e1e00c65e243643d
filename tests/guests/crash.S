/* crash.S: no interrupt table, then an undefined instruction: a triple fault. */
#include "tests/guests/multiboot.inc"
main:
        say "about to crash\n"
        ud2
