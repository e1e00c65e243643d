/* trace_write.c: writes .nbt traces; the layout is at the head of trace.h.
 *
 * The encoder is free to choose slots; the decoder only follows. Rule: the slot whose address is
 * nearest; if that is farther than a two-byte delta reaches, the slot unused for longest, so that
 * streams that are still alive (stack, heap, globals) keep theirs.
 *
 * Everything goes to a temporary file beside the target. The first failure is kept and reported by
 * trace_finish(), which renames only a complete file.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "workloads/trace.h"
#include "workloads/trace_nbt.h"

struct bytes {
    unsigned char *p;
    size_t n, cap;
};

struct trace_writer {
    struct trace_header head;
    char *path, *temp;
    int fd, error; /* errno of the first failure */
    const char *failed;
    int level;
    ZSTD_CCtx *z;
    struct bytes control, delta, exc, event, packed, header;
    uint32_t naccess, nexc, nevents, last_exc, last_event;
    uint64_t base[NBT_SLOTS], used[NBT_SLOTS], clock;
};

static void reserve(struct bytes *b, size_t more)
{
    if (b->cap - b->n >= more)
        return;
    b->cap = (b->n + more) * 2;
    b->p = meta_realloc(META_TRACE, b->p, b->cap);
}

static void put_bytes(struct bytes *b, const void *p, size_t n)
{
    reserve(b, n);
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_le(struct bytes *b, uint64_t v, unsigned n)
{
    reserve(b, 8);
    for (unsigned i = 0; i < n; i++)
        b->p[b->n++] = (unsigned char)(v >> 8 * i);
}

static void put_varint(struct bytes *b, uint64_t v)
{
    reserve(b, 10);
    for (; v >= 128; v >>= 7)
        b->p[b->n++] = (unsigned char)(v | 128);
    b->p[b->n++] = (unsigned char)v;
}

/* ---- file ---- */

static void fail(struct trace_writer *w, const char *what)
{
    if (!w->error) {
        w->error = errno ? errno : EIO;
        w->failed = what;
    }
}

static void write_all(struct trace_writer *w, const unsigned char *p, size_t n, off_t at)
{
    while (n && !w->error) {
        ssize_t r = at < 0 ? write(w->fd, p, n) : pwrite(w->fd, p, n, at);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0) {
            fail(w, "write");
            return;
        }
        p += r;
        n -= (size_t)r;
        at += at < 0 ? 0 : r;
    }
}

static void put_string(struct bytes *b, const char *s)
{
    put_le(b, strlen(s), 4);
    put_bytes(b, s, strlen(s));
}

/* Its length never changes once the strings are set: trace_finish() writes it over the first one.
 */
static void build_header(struct trace_writer *w)
{
    const struct trace_header *h = &w->head;
    struct bytes *b = &w->header;
    b->n = 0;
    put_bytes(b, NBT_MAGIC, 8);
    put_le(b, NBT_VERSION, 4);
    put_le(b, 0, 4); /* length, below */
    put_le(b, h->accesses, 8);
    put_le(b, h->stores, 8);
    put_le(b, h->skipped, 8);
    put_le(b, h->blocks, 8);
    put_le(b, h->page_bytes, 4);
    put_le(b, (uint32_t)h->status, 4);
    put_le(b, TRACE_KINDS, 4);
    put_le(b, 0, 4);
    assert(b->n == NBT_FIXED);
    for (unsigned i = 0; i < TRACE_KINDS; i++)
        put_le(b, h->events[i], 8);
    put_string(b, h->command);
    put_string(b, h->source);
    put_string(b, h->note);
    size_t end = b->n + 8;
    b->n = 12;
    put_le(b, end, 4);
    b->n = end - 8;
    put_le(b, XXH3_64bits(b->p, b->n), 8);
}

static int open_temp(struct trace_writer *w, int *code, char *err, size_t n)
{
    struct stat st;
    if (stat(w->path, &st) == 0 && !S_ISREG(st.st_mode)) {
        snprintf(err, n,
                 "%s: is not a regular file; a trace is written beside its place and renamed",
                 w->path);
        *code = NB_USAGE;
        return -1;
    }
    if (asprintf(&w->temp, "%s.XXXXXX", w->path) < 0)
        w->temp = NULL;
    w->fd = w->temp ? mkostemp(w->temp, O_CLOEXEC) : -1;
    if (w->fd < 0) {
        snprintf(err, n, "%s: cannot be created: %s", w->path, strerror(errno));
        *code = NB_IOERR;
        return -1;
    }
    mode_t mask = umask(0);
    umask(mask);
    fchmod(w->fd, 0666 & ~mask);
    return 0;
}

static void free_writer(struct trace_writer *w)
{
    struct bytes *b[] = {&w->control, &w->delta, &w->exc, &w->event, &w->packed, &w->header};
    for (size_t i = 0; i < ARRAY_SIZE(b); i++)
        meta_free(META_TRACE, b[i]->p);
    ZSTD_freeCCtx(w->z);
    free(w->head.command);
    free(w->head.source);
    free(w->head.note);
    free(w->path);
    free(w->temp);
    meta_free(META_TRACE, w);
}

struct trace_writer *trace_create(const char *path, const struct trace_header *head, int level,
                                  int *code, char *err, size_t n)
{
    struct trace_writer *w = meta_calloc(META_TRACE, 1, sizeof *w);
    w->level = level;
    w->path = strdup(path);
    w->head = (struct trace_header){.page_bytes = head->page_bytes, .status = head->status};
    w->head.command = strndup(head->command ? head->command : "", 64 << 10);
    w->head.source = strndup(head->source ? head->source : "", 64 << 10);
    w->head.note = strndup(head->note ? head->note : "", 64 << 10);
    trace_clean(w->head.command);
    trace_clean(w->head.source);
    trace_clean(w->head.note);
    w->z = ZSTD_createCCtx();
    if (open_temp(w, code, err, n)) {
        free_writer(w);
        return NULL;
    }
    build_header(w); /* same length at the end: only fixed fields change */
    write_all(w, w->header.p, w->header.n, -1);
    return w;
}

/* ---- accesses and events ---- */

static unsigned nearest(const struct trace_writer *w, uint64_t va)
{
    unsigned best = 0;
    uint64_t best_d = ~0ull;
    for (unsigned i = 0; i < NBT_SLOTS; i++) {
        int64_t d = (int64_t)(va - w->base[i]);
        uint64_t a = d < 0 ? -(uint64_t)d : (uint64_t)d;
        if (a < best_d) {
            best_d = a;
            best = i;
        }
    }
    return best;
}

static unsigned oldest(const struct trace_writer *w)
{
    unsigned best = 0;
    for (unsigned i = 1; i < NBT_SLOTS; i++)
        if (w->used[i] < w->used[best])
            best = i;
    return best;
}

static unsigned delta_log(int64_t d)
{
    return d == (int8_t)d ? 0 : d == (int16_t)d ? 1 : d == (int32_t)d ? 2 : 3;
}

/* Control bits of the size; other sizes become an exception. */
static unsigned size_log(struct trace_writer *w, unsigned size)
{
    if (size == 1 || size == 2 || size == 4 || size == 8)
        return (unsigned)__builtin_ctz(size);
    put_varint(&w->exc, w->naccess - w->last_exc - (w->nexc > 0));
    put_varint(&w->exc, size);
    w->last_exc = w->naccess;
    w->nexc++;
    return 3;
}

static void put_access(struct trace_writer *w, const struct trace_access *a)
{
    unsigned slot = nearest(w, a->va);
    if (delta_log((int64_t)(a->va - w->base[slot])) > 1)
        slot = oldest(w);
    int64_t d = (int64_t)(a->va - w->base[slot]);
    unsigned log = delta_log(d), size = a->size && a->size <= TRACE_MAX_SIZE ? a->size : 1;
    put_le(&w->control, (a->store & 1u) | size_log(w, size) << 1 | slot << 3 | log << 6, 1);
    put_le(&w->delta, (uint64_t)d, 1u << log);
    w->base[slot] = a->va;
    w->used[slot] = ++w->clock;
    w->naccess++;
    w->head.accesses++;
    w->head.stores += a->store & 1u;
}

static void begin_block(struct trace_writer *w)
{
    w->control.n = w->delta.n = w->exc.n = w->event.n = 0;
    w->naccess = w->nexc = w->nevents = w->last_exc = w->last_event = 0;
    w->clock = 0;
    memset(w->base, 0, sizeof w->base);
    memset(w->used, 0, sizeof w->used);
}

static void end_block(struct trace_writer *w)
{
    struct bytes *out = &w->packed, *raw = &w->control;
    size_t nctl = raw->n, ndelta = w->delta.n;
    if (w->naccess == 0 && w->nevents == 0)
        return;
    put_bytes(raw, w->delta.p, w->delta.n);
    put_bytes(raw, w->exc.p, w->exc.n);
    put_bytes(raw, w->event.p, w->event.n);
    assert(raw->n <= NBT_MAX_PAYLOAD);
    out->n = 0;
    reserve(out, NBT_BLOCK_HEAD + ZSTD_compressBound(raw->n));
    size_t packed = ZSTD_compressCCtx(w->z, out->p + NBT_BLOCK_HEAD, out->cap - NBT_BLOCK_HEAD,
                                      raw->p, raw->n, w->level);
    assert(!ZSTD_isError(packed));
    const uint64_t head[] = {NBT_BLOCK, nctl,       ndelta,     w->exc.n,
                             w->nexc,   w->event.n, w->nevents, packed};
    for (size_t i = 0; i < ARRAY_SIZE(head); i++)
        put_le(out, head[i], 4);
    put_le(out, XXH3_64bits_withSeed(out->p + NBT_BLOCK_HEAD, packed, XXH3_64bits(out->p, 32)), 8);
    write_all(w, out->p, NBT_BLOCK_HEAD + packed, -1);
    w->head.blocks++;
    begin_block(w);
}

void trace_put(struct trace_writer *w, const struct trace_access *a, size_t n)
{
    for (size_t i = 0; i < n && !w->error; i++) {
        put_access(w, &a[i]);
        if (w->naccess == NBT_BLOCK_ACCESSES)
            end_block(w);
    }
}

void trace_put_event(struct trace_writer *w, const struct trace_event *e)
{
    unsigned args = nbt_args[e->kind];
    const struct {
        unsigned bit;
        uint64_t v;
    } arg[] = {{ARG_ADDR, e->addr},   {ARG_LEN, e->len}, {ARG_PROT, e->prot},
               {ARG_FLAGS, e->flags}, {ARG_PID, e->pid}, {ARG_TID, e->tid}};
    put_varint(&w->event, w->naccess - w->last_event);
    put_le(&w->event, e->kind, 1);
    for (size_t i = 0; i < ARRAY_SIZE(arg); i++)
        if (args & arg[i].bit)
            put_varint(&w->event, arg[i].v);
    w->last_event = w->naccess;
    w->head.events[e->kind]++;
    if (++w->nevents == NBT_MAX_EVENTS / 4)
        end_block(w);
}

/* ---- the end ---- */

void trace_set_status(struct trace_writer *w, int status) { w->head.status = status; }
void trace_set_skipped(struct trace_writer *w, uint64_t skipped) { w->head.skipped = skipped; }
bool trace_write_failed(const struct trace_writer *w) { return w->error != 0; }
const struct trace_header *trace_written(const struct trace_writer *w) { return &w->head; }

static void close_file(struct trace_writer *w)
{
    errno = 0;
    if (close(w->fd) != 0)
        fail(w, "close");
    w->fd = -1;
    if (!w->error && rename(w->temp, w->path) != 0)
        fail(w, "rename");
}

int trace_finish(struct trace_writer *w, char *err, size_t n)
{
    int code = NB_OK;
    end_block(w);
    build_header(w);
    write_all(w, w->header.p, w->header.n, 0);
    close_file(w);
    if (w->error) {
        snprintf(err, n, "%s: %s failed: %s: nothing was kept; free space or choose another place",
                 w->path, w->failed, strerror(w->error));
        unlink(w->temp);
        code = NB_IOERR;
    }
    free_writer(w);
    return code;
}

void trace_abandon(struct trace_writer *w)
{
    close(w->fd);
    unlink(w->temp);
    free_writer(w);
}
