/* trace.c: opening a trace: its input, its format, its errors. */
#include "workloads/trace.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "workloads/trace_in.h"

enum { SNIFF = 4096 };

volatile sig_atomic_t trace_stop;

const char *const trace_kind_names[TRACE_KINDS] = {
    "none", "map",  "unmap",  "protect",     "discard", "fork",
    "exec", "exit", "thread", "thread_exit", "switch",
};

__attribute__((format(printf, 4, 0))) static int vfail(struct trace *t, int code, const char *where,
                                                       const char *fmt, va_list ap)
{
    if (t->broken) /* the first failure is the one that explains */
        return -1;
    int n = snprintf(t->message, sizeof t->message, "%.200s%s: ", t->name, where);
    vsnprintf(t->message + n, sizeof t->message - (size_t)n, fmt, ap);
    t->code = code;
    t->broken = true;
    return -1;
}

int trace_fail(struct trace *t, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = vfail(t, code, "", fmt, ap);
    va_end(ap);
    return r;
}

int trace_fail_line(struct trace *t, uint64_t line, const char *fmt, ...)
{
    char where[32];
    va_list ap;
    snprintf(where, sizeof where, ":%llu", (unsigned long long)line);
    va_start(ap, fmt);
    int r = vfail(t, NB_DATAERR, where, fmt, ap);
    va_end(ap);
    return r;
}

char *in_quote(const unsigned char *p, size_t n, char *buf)
{
    size_t len = n < 40 ? n : 40;
    for (size_t i = 0; i < len; i++)
        buf[i] = p[i] < 0x80 && isprint(p[i]) ? (char)p[i] : '?';
    strcpy(buf + len, n > len ? "..." : "");
    return buf;
}

/* Bytes of the UTF-8 character at p, from 1 to 4; 0: not one, or a control character. */
static size_t utf8_length(const unsigned char *p)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = *p < 0x80 ? 1 : *p < 0xc0 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf8 ? 4 : 0;
    uint32_t c = n < 2 ? *p : *p & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    bool control = (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7f && c < 0xa0);
    return control || c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

char *trace_clean(char *s)
{
    for (unsigned char *p = (unsigned char *)s; *p;) {
        size_t n = utf8_length(p);
        if (n == 0)
            *p = '?';
        p += n ? n : 1;
    }
    return s;
}

/* Move what is unread to the front and make room for n bytes of it. */
static void in_room(struct trace *t, size_t n)
{
    if (t->pos) {
        memmove(t->buf, t->buf + t->pos, t->end - t->pos);
        t->offset += t->pos;
        t->end -= t->pos;
        t->pos = 0;
    }
    size_t cap = n > IN_CHUNK ? n : IN_CHUNK;
    if (cap > t->cap) {
        t->buf = meta_realloc(META_TRACE, t->buf, cap + IN_PAD);
        t->cap = cap;
    }
}

size_t in_fill(struct trace *t, size_t n)
{
    if (t->end - t->pos >= n || t->eof)
        return t->end - t->pos;
    in_room(t, n);
    while (t->end < n && !t->eof) {
        /* Asked here as well as in trace_next(): a reader may pass over input for ever. */
        ssize_t got = trace_stop ? 0 : read(t->fd, t->buf + t->end, t->cap - t->end);
        if (got < 0 && errno == EINTR)
            continue;
        if (trace_stop)
            trace_fail(t, NB_SIGINT, "interrupted");
        else if (got < 0)
            trace_fail(t, NB_NOINPUT, "cannot be read: %s", strerror(errno));
        if (got <= 0)
            t->eof = true;
        else
            t->end += (size_t)got;
    }
    memset(t->buf + t->end, 0, IN_PAD);
    return t->end;
}

/* A file packed by a general compressor: we read it only unpacked, and say how. */
static const char *packed_by(const unsigned char *p, size_t n)
{
    static const struct {
        const char *tool;
        unsigned char magic[6];
        size_t len;
    } known[] = {
        {"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6},
        {"gzip", {0x1f, 0x8b, 8}, 3},
        {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4},
        {"bzip2", {'B', 'Z', 'h'}, 3},
    };
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (n >= known[i].len && memcmp(p, known[i].magic, known[i].len) == 0)
            return known[i].tool;
    return NULL;
}

static void format_names(char *buf, size_t n)
{
    const struct reg_head *f[32];
    size_t count = REG_SORTED(trace_format, f, ARRAY_SIZE(f)), used = 0;
    buf[0] = 0;
    for (size_t i = 0; i < count && used < n; i++)
        used += (size_t)snprintf(buf + used, n - used, "%s%s", i ? ", " : "", f[i]->name);
}

static const struct trace_format *sniff(const unsigned char *p, size_t n)
{
    const struct trace_format *best = NULL;
    int sure = 0;
    FOR_EACH(trace_format, f)
    {
        int s = f->sniff(p, n);
        if (s > sure) {
            sure = s;
            best = f;
        }
    }
    return best;
}

static int choose_format(struct trace *t, const char *name)
{
    char names[128];
    format_names(names, sizeof names);
    if (name && !(t->format = REG_FIND(trace_format, name))) {
        const char *near = REG_NEAREST(trace_format, name);
        return trace_fail(t, NB_USAGE, "unknown trace format '%s'%s%s%s (there are: %s)", name,
                          near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "",
                          names);
    }
    size_t n = in_fill(t, SNIFF);
    const unsigned char *p = t->buf + t->pos;
    const char *tool = packed_by(p, n);
    if (t->broken)
        return -1;
    if (n == 0)
        return trace_fail(t, NB_DATAERR, "the input is empty: a trace was expected");
    if (tool)
        return trace_fail(t, NB_DATAERR,
                          "packed with %s: unpack it on the way in: %s -dc FILE | nestbed ... -",
                          tool, tool);
    if (!t->format)
        t->format = sniff(p, n < SNIFF ? n : SNIFF);
    if (!t->format)
        return trace_fail(t, NB_DATAERR,
                          "not a trace of a known format (%s); nestbed trace convert --format NAME "
                          "reads it all the same",
                          names);
    return 0;
}

int trace_open_fd(int fd, const char *name, const char *format, struct trace **out, char *err,
                  size_t n)
{
    struct trace *t = meta_calloc(META_TRACE, 1, sizeof *t);
    t->fd = fd;
    t->name = strdup(name);
    t->head.status = -1;
    in_room(t, 1);
    if (choose_format(t, format) == 0 && t->format->open(t) == 0) {
        *out = t;
        return 0;
    }
    int code = t->code;
    snprintf(err, n, "%s", t->message);
    trace_close(t);
    return code;
}

int trace_open(const char *path, const char *format, struct trace **out, char *err, size_t n)
{
    if (strcmp(path, "-") == 0)
        return trace_open_fd(dup(STDIN_FILENO), "standard input", format, out, err, n);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        snprintf(err, n, "%s: cannot be opened: %s", path, strerror(errno));
        return NB_NOINPUT;
    }
    return trace_open_fd(fd, path, format, out, err, n);
}

int trace_next(struct trace *t, struct trace_batch *b)
{
    b->n = 0;
    b->ev.kind = TRACE_NONE;
    if (t->broken)
        return -1;
    if (trace_stop)
        return trace_fail(t, NB_SIGINT, "interrupted");
    int r = t->format->next(t, b);
    return t->broken ? -1 : r;
}

const char *trace_error(const struct trace *t) { return t->message; }
int trace_error_code(const struct trace *t) { return t->code; }
const struct trace_header *trace_head(const struct trace *t) { return &t->head; }
const struct trace_format *trace_format_of(const struct trace *t) { return t->format; }
uint64_t trace_skipped(const struct trace *t)
{
    return t->head.counted ? t->head.skipped : t->skipped;
}

void trace_close(struct trace *t)
{
    if (t->format && t->format->close)
        t->format->close(t);
    close(t->fd);
    free(t->head.command);
    free(t->head.source);
    free(t->head.note);
    free(t->name);
    meta_free(META_TRACE, t->buf);
    meta_free(META_TRACE, t);
}
