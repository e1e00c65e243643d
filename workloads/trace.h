/* trace.h: traces of real programs: what they hold, how to read and write them.
 *
 * A trace is the sequence of data accesses of one or more processes together with what they asked
 * of the kernel about memory: map, unmap, protect, fork, exit and the switches between them. It is
 * read in batches: a run of accesses, then at most one event. So the code that handles
 * accesses has no branch on the kind of record, and events cost nothing where there are none.
 *
 * Interface:
 *   trace_open -> trace_next until it returns 0 or -1 -> trace_close
 *   A batch is valid until the next call on the same trace.
 *   Reading starts in process 1, thread 0. Events change the current process (TRACE_SWITCH) and
 *   apply to the current one unless they name another.
 *   Input is hostile: a reader returns -1 with trace_error() set, and never crashes or hangs.
 *
 * A format is one file ending in REGISTER(trace_format, NAME, .summary, .sniff, .open, .next,
 * .close).
 *
 * The .nbt format, version 1. All integers are little-endian.
 *
 *   file    = header block*              the header's counts must match the blocks exactly
 *   header  = "\x89NBT\r\n\x1a\n"        8 bytes, as PNG's: catches text-mode damage
 *             u32 version, u32 bytes     length of the whole header, at most 1 MiB
 *             u64 accesses, stores, skipped, blocks
 *             u32 page_bytes, i32 status, u32 kinds, u32 flags
 *             u64 events[kinds]          by enum trace_kind
 *             3 x (u32 length, bytes)    command, source, note; UTF-8, no NUL
 *             u64 XXH3 of all before
 *   block   = u32 "NBTB", naccess, ndelta, exc_bytes, nexc, event_bytes, nevents, packed
 *             u64 XXH3 of the packed bytes, seeded with XXH3 of the 32 bytes before
 *             packed bytes: one zstd frame holding the payload (at most 64 MiB):
 *   payload = control[naccess] delta[ndelta] exceptions[exc_bytes] events[event_bytes]
 *
 *   control    one byte an access: bit 0 store, bits 1-2 log2 of the size, bits 3-5 slot,
 *              bits 6-7 log2 of the bytes its delta takes
 *   delta      signed, added to slot's address (8 slots, 0 at the start of each block): the
 *              result is the access's address and the slot's new one
 *   exceptions (varint gap, varint size)*: sizes other than 1, 2, 4, 8; the gap counts accesses
 *              since the previous exception
 *   events     (varint gap, u8 kind, varint argument*)*: the event comes after `gap` more accesses;
 *              map: addr len prot flags; unmap, discard: addr len; protect: addr len prot;
 *              fork, exit: pid; thread, thread_exit: tid; switch: pid tid; exec: none
 *
 * Blocks stand alone. Decoding an access is one load, two shifts and an add, without a branch;
 * the sum of the delta lengths is checked once per block, so the loop needs no bounds checks.
 */
#ifndef NB_WORKLOADS_TRACE_H
#define NB_WORKLOADS_TRACE_H

#include <signal.h>
#include <stdio.h>

#include "base/base.h"
#include "base/registry.h"

struct trace_access {
    uint64_t va;
    uint16_t size; /* bytes, 1..TRACE_MAX_SIZE */
    uint8_t store; /* 0 load, 1 store */
    uint8_t zero[5];
};
enum { TRACE_MAX_SIZE = 4096 };

enum trace_kind {
    TRACE_NONE,        /* the batch ended without an event */
    TRACE_MAP,         /* addr, len, prot, flags; replaces what was there, as MAP_FIXED does */
    TRACE_UNMAP,       /* addr, len; holes are fine */
    TRACE_PROTECT,     /* addr, len, prot */
    TRACE_DISCARD,     /* addr, len: contents dropped, mapping kept (MADV_DONTNEED) */
    TRACE_FORK,        /* pid: the new child of the current process */
    TRACE_EXEC,        /* the current process's address space becomes empty */
    TRACE_EXIT,        /* pid: it and all of its threads end */
    TRACE_THREAD,      /* tid: a new thread of the current process */
    TRACE_THREAD_EXIT, /* tid */
    TRACE_SWITCH,      /* pid, tid: whose accesses follow */
    TRACE_KINDS
};
extern const char *const trace_kind_names[TRACE_KINDS];

enum { TRACE_READ = 1, TRACE_WRITE = 2, TRACE_EXECUTE = 4 }; /* prot, as GK_READ... */
enum {                                                       /* flags of TRACE_MAP */
       TRACE_SHARED = 1,                                     /* MAP_SHARED */
       TRACE_FILE = 2,                                       /* has a file behind it */
       TRACE_INITIAL = 4, /* existed before the first instruction: ELF segments, stack */
       TRACE_BRK = 8,     /* made by brk */
};

/* addr and len are multiples of 4 KiB, len > 0, addr + len <= 2^57. */
struct trace_event {
    enum trace_kind kind;
    uint32_t pid, tid; /* 1..TRACE_MAX_PID; tid from 0 */
    uint64_t addr, len;
    uint32_t prot, flags;
};
enum { TRACE_MAX_PID = 1 << 20 };

struct trace_batch {
    const struct trace_access *acc;
    size_t n;
    struct trace_event ev; /* comes after the accesses; TRACE_NONE: nothing */
};

/* What is known of a whole trace. Counts are known beforehand only when `counted`. */
struct trace_header {
    char *command;                              /* what was traced; "" unknown */
    char *source;                               /* how it was recorded */
    char *note;                                 /* limits worth knowing */
    uint64_t accesses, stores, skipped, blocks; /* skipped: instruction records passed over */
    uint64_t events[TRACE_KINDS];
    uint32_t page_bytes; /* page size where it was recorded; 0 unknown */
    int32_t status;      /* exit status of the command; -1 unknown */
    bool counted;
};

/* For signal handlers: once set, reading and merging end with NB_SIGINT instead of waiting for
 * input. */
extern volatile sig_atomic_t trace_stop;

struct trace;
struct trace_format {
    const char *name, *summary;
    /* The first bytes; fewer than 4096 only if that is all. 0: not this format; 1: could be; 2:
     * certain (it has a magic). The surest format wins. */
    int (*sniff)(const unsigned char *p, size_t n);
    int (*open)(struct trace *); /* 0, or -1 after trace_fail() */
    int (*next)(struct trace *, struct trace_batch *);
    void (*close)(struct trace *); /* also after a failed open */
};
REGISTRY(trace_format);

/* Open `path` ("-": standard input); format NULL: look at the first bytes. 0, or an exit code with
 * a sentence in err. */
int trace_open(const char *path, const char *format, struct trace **out, char *err, size_t n);
int trace_open_fd(int fd, const char *name, const char *format, struct trace **out, char *err,
                  size_t n);
int trace_next(struct trace *,
               struct trace_batch *);          /* 1: a batch; 0: the end; -1: trace_error() */
const char *trace_error(const struct trace *); /* a sentence naming file and place */
int trace_error_code(const struct trace *);    /* its exit code */
const struct trace_header *trace_head(const struct trace *);
const struct trace_format *trace_format_of(const struct trace *);
uint64_t trace_skipped(const struct trace *); /* instruction records passed over so far */
void trace_close(struct trace *);

/* Make `s` UTF-8 that is safe to show: other bytes and control characters become '?'. Returns s. */
char *trace_clean(char *s);

/* ---- writing .nbt ---- */
struct trace_writer;
/* Begin `path`: a temporary file beside it, renamed by trace_finish(). NULL: err says why and *code
 * is the exit code. level: zstd's, 1..19. The strings of `head` are copied. */
struct trace_writer *trace_create(const char *path, const struct trace_header *head, int level,
                                  int *code, char *err, size_t n);
void trace_put(struct trace_writer *, const struct trace_access *, size_t n);
void trace_put_event(struct trace_writer *, const struct trace_event *);
void trace_set_status(struct trace_writer *, int status);
void trace_set_skipped(struct trace_writer *, uint64_t skipped);
bool trace_write_failed(const struct trace_writer *); /* so that a long job can stop early */
const struct trace_header *trace_written(const struct trace_writer *); /* counts so far */
/* Complete and rename; frees the writer. 0, or an exit code with a sentence in err and no file
 * left. */
int trace_finish(struct trace_writer *, char *err, size_t n);
void trace_abandon(struct trace_writer *); /* remove what was written, free */

/* ---- traces that come with nestbed ---- */
struct shipped_trace {
    char *name, *path, *summary;
};
/* Sorted by name; *out from malloc, free with trace_list_free. Looks in $NESTBED_DATA/traces, then
 * ../workloads/traces beside the executable's folder, then the installed data folder. */
size_t trace_list(struct shipped_trace **out);
void trace_list_free(struct shipped_trace *, size_t n);
/* Path of `name`: itself when it is a path or a file, else a shipped trace; from malloc. NULL with
 * a sentence (and the nearest name) in err when there is no such trace. */
char *trace_resolve(const char *name, char *err, size_t n);

#endif
