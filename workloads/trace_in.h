/* trace_in.h: for trace readers only: the open trace and its input.
 *
 * Input is read(2) into one large buffer, for files and pipes alike: copying from the page cache
 * costs little beside parsing, and a file that shrinks underneath cannot raise SIGBUS.
 */
#ifndef NB_WORKLOADS_TRACE_IN_H
#define NB_WORKLOADS_TRACE_IN_H

#include "workloads/trace.h"

enum { TRACE_BATCH = 4096, IN_PAD = 64, IN_CHUNK = 1 << 20 };

struct trace {
    const struct trace_format *format;
    struct trace_header head;
    char *name;  /* for messages */
    void *state; /* the reader's own */
    uint64_t skipped;
    int code;    /* exit code once failed */
    bool broken; /* trace_next keeps returning -1 */
    char message[512];
    int fd;
    bool eof;
    unsigned char *buf;   /* cap + IN_PAD bytes */
    size_t cap, pos, end; /* unread: [pos, end); IN_PAD zeros follow */
    uint64_t offset;      /* file offset of buf[0] */
    struct trace_access batch[TRACE_BATCH + 8];
};

/* Have at least n unread bytes at buf + pos: returns how many there are, fewer than n only at the
 * end of the input. A read error also ends it, with trace_fail() called. */
size_t in_fill(struct trace *, size_t n);

/* Record the failure "NAME: <message>"; returns -1. */
int trace_fail(struct trace *, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for line `line` of a text: "NAME:LINE: <message>", malformed input. */
int trace_fail_line(struct trace *, uint64_t line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Quote input for a message: printable, cut at 40 characters. Returns buf, of at least 64 bytes. */
char *in_quote(const unsigned char *p, size_t n, char *buf);

static inline uint32_t get32(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t get64(const unsigned char *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

#endif
