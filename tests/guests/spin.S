/* spin.S: never ends. */
#include "tests/guests/multiboot.inc"
main:
        say "spinning\n"
1:      jmp 1b
