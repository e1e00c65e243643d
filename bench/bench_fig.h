/* bench_fig.h: plot scripts of bench/plots/, inside the binary. */
#ifndef NB_BENCH_FIG_H
#define NB_BENCH_FIG_H

/* EMBED(name, "bench/plots/x.gp") defines the string `name`: the file's text. Paths are from the
 * root of the source tree, where make runs the compiler. */
#define EMBED(name, path)                                                                \
    __asm__(".section .rodata\n" #name ":\n.incbin \"" path "\"\n.byte 0\n.previous\n"); \
    extern const char name[]

#endif
