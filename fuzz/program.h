/* program.h: programs for the fuzzer: one operation a line, as numbers in memory and as text.
 *
 * Two kinds. A raw program has no guest kernel: it writes the guest's tables itself, whatever the value,
 * loads control registers, invalidates or forgets to, and makes any access. A kernel program is a
 * script (workloads/script.h): it asks a guest kernel for what a process may ask, so that it runs on a real
 * KVM too.
 *
 *     raw 4                                    kind and levels of the guest's tables
 *     cr3 0x200000 1 0                         root, PCID, keep translations
 *     write 0x200008 0x201007                  a table entry: place, value
 *     store 0x8000000000 user 5                address, who, value
 *     invlpg 0x8000000000
 *
 * Text from '#' to the end of a line is a comment. Operations and their arguments: ops.def. Places and
 * addresses are any numbers: what a machine cannot do it skips, the same on all.
 */
#ifndef NB_FUZZ_PROGRAM_H
#define NB_FUZZ_PROGRAM_H

#include <stdio.h>

#include "base/base.h"
#include "base/rng.h"

enum op_kind {
#define OP(name, kind, args, help) OP_##kind##_##name,
#include "fuzz/ops.def"
#undef OP
    OP_COUNT
};

enum { OP_ARGS = 4 };

struct op {
    enum op_kind kind;
    uint64_t arg[OP_ARGS];
};

enum program_kind { PROGRAM_RAW, PROGRAM_KERNEL };

struct fuzz_prog {
    enum program_kind kind;
    unsigned levels;
    unsigned n, cap;
    struct op *op;
};

/* Who makes an access: argument w of ops.def. */
enum { WHO_USER, WHO_KERNEL, WHO_KERNEL_AC, WHO_COUNT };
/* Control registers: argument c, a set of these bits. */
enum { CTL_WP = 1, CTL_SMEP = 2, CTL_SMAP = 4, CTL_PGE = 8, CTL_NXE = 16, CTL_ALL = 31 };

void program_add(struct fuzz_prog *, struct op);
void program_free(struct fuzz_prog *);

/* A raw program of `n` operations. It writes tables that mostly make sense, mostly invalidates. */
void program_raw(struct fuzz_prog *, struct rng *, unsigned n);
/* Bytes as a raw program: any bytes are one. */
void program_of_bytes(struct fuzz_prog *, const unsigned char *, size_t);
/* The same of kernel programs. */
void program_kernel(struct fuzz_prog *, struct rng *, unsigned n);
void program_kernel_of_bytes(struct fuzz_prog *, const unsigned char *, size_t);

void program_print(FILE *, const struct fuzz_prog *);
/* One operation as text. */
char *op_print(const struct op *, char *buf, size_t n);
/* Read a program; false with file, line and what is wrong in err. */
bool program_read(FILE *, const char *name, struct fuzz_prog *, char *err, size_t errlen);

/* ---- the ground that raw programs play on ---- */
enum {
    RAW_FRAMES = 2048, /* of guest memory: 8 MiB */
    RAW_TABLES = 512,  /* first table frame: below is what KVM's image would own */
    RAW_NTABLES = 16,
};

#endif
