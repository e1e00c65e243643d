/* trace_nbt.h: constants of the .nbt format shared by reader and writer; layout in trace.h. */
#ifndef NB_WORKLOADS_TRACE_NBT_H
#define NB_WORKLOADS_TRACE_NBT_H

#include <stdint.h>
#include <string.h>

#define NBT_MAGIC "\x89NBT\r\n\x1a\n"
#define NBT_BLOCK 0x4254424eu /* "NBTB" */

enum {
    NBT_VERSION = 1,
    NBT_FIXED = 8 + 4 + 4 + 4 * 8 + 4 * 4, /* header up to events[] */
    NBT_MAX_HEADER = 1 << 20,
    NBT_BLOCK_HEAD = 40,
    NBT_MAX_PAYLOAD = 64 << 20,
    NBT_MAX_EVENTS = 1 << 20, /* per block */
    NBT_BLOCK_ACCESSES = 4 << 20,
    NBT_SLOTS = 8,
};

/* Varint arguments of each kind, by enum trace_kind. */
enum { ARG_ADDR = 1, ARG_LEN = 2, ARG_PROT = 4, ARG_FLAGS = 8, ARG_PID = 16, ARG_TID = 32 };
static const unsigned char nbt_args[] = {
    0,
    ARG_ADDR | ARG_LEN | ARG_PROT | ARG_FLAGS, /* map */
    ARG_ADDR | ARG_LEN,                        /* unmap */
    ARG_ADDR | ARG_LEN | ARG_PROT,             /* protect */
    ARG_ADDR | ARG_LEN,                        /* discard */
    ARG_PID,                                   /* fork */
    0,                                         /* exec */
    ARG_PID,                                   /* exit */
    ARG_TID,                                   /* thread */
    ARG_TID,                                   /* thread_exit */
    ARG_PID | ARG_TID,                         /* switch */
};

#endif
