/* raw.h: what the QEMU plugin hands to the recorder: one part file per process.
 *
 * A part is a sequence of 64-bit words; a zero word, or the end of the file, ends it. So a process
 * killed at any moment leaves a readable part: the plugin writes through a shared mapping.
 *
 *   access   bits 0-55 address, 56-59 log2 of the size, 60-61 = 1 load, 2 store
 *   event    bits 0-15 kind, 16-31 arguments that follow (one word each), 60-61 = 3
 *
 * Part names tell the family: the first process is "0", its third fork "0.2", whose first "0.2.0".
 * RAW_FORK carries the number, so that the recorder can put a child's records behind the fork.
 */
#ifndef NB_WORKLOADS_QEMU_PLUGIN_RAW_H
#define NB_WORKLOADS_QEMU_PLUGIN_RAW_H

#include <stdint.h>

#define RAW_ADDR ((1ull << 56) - 1)
#define RAW_LOAD (1ull << 60)
#define RAW_STORE (2ull << 60)
#define RAW_EVENT (3ull << 60)

enum raw_kind {
    RAW_MAP = 1,     /* addr, len, prot (PROT_*), flags (enum raw_flags) */
    RAW_UNMAP,       /* addr, len */
    RAW_PROTECT,     /* addr, len, prot */
    RAW_DISCARD,     /* addr, len */
    RAW_FORK,        /* number of the child */
    RAW_EXEC,        /* tried; it succeeded if nothing follows. RAW_NAME_WORDS: the program */
    RAW_EXIT,        /* status */
    RAW_THREAD,      /* vCPU of a new thread */
    RAW_THREAD_EXIT, /* vCPU */
    RAW_SWITCH,      /* vCPU whose accesses follow */
    RAW_FULL,        /* the limit on accesses was reached: nothing follows */
    RAW_KINDS
};

enum raw_flags { RAW_SHARED = 1, RAW_FILE = 2, RAW_INITIAL = 4, RAW_BRK = 8 };

/* A program's name is the end of its path, cut and filled with zero bytes to these words. */
enum { RAW_MAX_ARGS = 4, RAW_NAME_WORDS = 4 };

#endif
