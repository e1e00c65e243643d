/* labvm_wire.c: plans and results as frames; rules in labvm_internal.h. */
#include "vmm/labvm_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/base.h"

enum { MAGIC = 0x4d56424c }; /* "LBVM" */

static uint64_t checksum(const struct labvm_head *h, const void *data)
{
    return XXH64(data, h->bytes, XXH64(h, offsetof(struct labvm_head, check), 0));
}

struct labvm_head labvm_head(enum labvm_kind kind, uint32_t job, const void *data, uint32_t bytes)
{
    struct labvm_head h = {MAGIC, kind, job, bytes, 0};
    assert(bytes <= LABVM_MAX_FRAME);
    h.check = checksum(&h, data);
    return h;
}

ssize_t labvm_parse(const char *p, size_t n, struct labvm_frame *out)
{
    struct labvm_head h;
    if (n < sizeof h)
        return 0;
    memcpy(&h, p, sizeof h);
    if (h.magic != MAGIC || h.kind >= LABVM_KINDS || h.bytes > LABVM_MAX_FRAME)
        return -1;
    if (n - sizeof h < h.bytes)
        return 0;
    if (checksum(&h, p + sizeof h) != h.check)
        return -1;
    *out = (struct labvm_frame){h.kind, h.job, h.bytes, p + sizeof h};
    return (ssize_t)(sizeof h + h.bytes);
}

/* ---- plans ---- */

/* What follows --name, or --name=. NULL: not given. The last one counts. */
static const char *option(char *const argv[], const char *name)
{
    const char *value = NULL;
    size_t n = strlen(name);
    for (; *argv; argv++) {
        if (strcmp(*argv, name) == 0 && argv[1])
            value = argv[1];
        else if (strncmp(*argv, name, n) == 0 && (*argv)[n] == '=')
            value = *argv + n + 1;
    }
    return value;
}

uint64_t labvm_guest_mem(char *const argv[])
{
    const char *mem = option(argv, "--mem");
    uint64_t bytes = 1ull << 30;
    if (mem)
        parse_size(mem, &bytes); /* a wrong one is for the command inside to refuse */
    return bytes;
}

bool labvm_needs_kernel(char *const argv[])
{
    if (!*argv || strcmp(*argv, "boot") != 0)
        return false;
    for (; *argv; argv++)
        if (strcmp(*argv, "--linux") == 0)
            return true;
    return false;
}

uint64_t labvm_huge_pages(char *const argv[], const char *size)
{
    const char *page = option(argv, "--host-page");
    unsigned shift = strcmp(size, "1g") == 0 ? 30 : 21;
    if (!page || strcmp(page, size) != 0)
        return 0;
    return (labvm_guest_mem(argv) + (1ull << shift) - 1) >> shift;
}

static void put_word(char *buf, size_t *n, const char *word)
{
    size_t len = strlen(word) + 1;
    if (*n <= LABVM_MAX_FRAME && len <= LABVM_MAX_FRAME - *n)
        memcpy(buf + *n, word, len);
    else
        len = LABVM_MAX_FRAME + 1; /* stays too large */
    *n += len;
}

static bool put_job(FILE *f, uint32_t index, const struct labvm_job *job)
{
    static char buf[LABVM_MAX_FRAME];
    char number[24];
    size_t n = 0, words = 0;
    put_word(buf, &n, job->paging);
    snprintf(number, sizeof number, "%" PRIu64, job->argv ? labvm_huge_pages(job->argv, "2m") : 0);
    put_word(buf, &n, number);
    for (char **w = job->argv; w && *w; w++, words++)
        put_word(buf, &n, *w);
    if (n > LABVM_MAX_FRAME || words > LABVM_MAX_WORDS)
        return false;
    struct labvm_head h = labvm_head(job->argv ? LABVM_JOB : LABVM_SHELL, index, buf, (uint32_t)n);
    return fwrite(&h, sizeof h, 1, f) == 1 && fwrite(buf, n, 1, f) == 1;
}

bool labvm_plan(FILE *f, const struct labvm_job *jobs, size_t njobs)
{
    struct labvm_head end = labvm_head(LABVM_END, (uint32_t)njobs, "", 0);
    for (size_t i = 0; i < njobs; i++)
        if (!put_job(f, (uint32_t)i, &jobs[i]))
            return false;
    return fwrite(&end, sizeof end, 1, f) == 1;
}

/* ---- results, on the host ---- */

static bool refuse(char *err, size_t errlen, const char *why, const struct labvm_frame *f)
{
    snprintf(err, errlen, "the machine's results are damaged: %s (frame %u of job %u, %u bytes)",
             why, f->kind, f->job, f->bytes);
    return false;
}

/* Bytes to allocate for a text of n and its NUL: growing by doubling, a long one is not copied for
 * each of its pieces. */
static size_t room(size_t n)
{
    size_t bytes = 256;
    while (bytes <= n)
        bytes *= 2;
    return bytes;
}

static bool append(char **text, size_t *have, const struct labvm_frame *f)
{
    size_t n = *have + f->bytes;
    if (n > LABVM_MAX_OUTPUT)
        return false;
    if (!*text || room(n) != room(*have)) {
        char *p = realloc(*text, room(n));
        if (!p)
            die(NB_INTERNAL, "out of memory for the output of a labvm job");
        *text = p;
    }
    memcpy(*text + *have, f->data, f->bytes);
    (*text)[n] = 0;
    *have = n;
    return true;
}

static void begin(struct labvm_stream *s)
{
    struct labvm_job *job = &s->jobs[s->next];
    s->running = true;
    s->nout = s->nerrors = 0;
    if (s->cfg->progress)
        s->cfg->progress(s->cfg->ctx, (unsigned)s->next, job->paging);
}

/* A job's two texts exist even when it printed nothing. */
static void end(struct labvm_stream *s, const struct labvm_frame *f)
{
    struct labvm_job *job = &s->jobs[s->next];
    const struct labvm_frame nothing = {.data = ""};
    append(&job->out, &s->nout, &nothing);
    append(&job->errors, &s->nerrors, &nothing);
    memcpy(&job->status, f->data, sizeof job->status);
    job->done = true;
    s->running = false;
    s->next++;
}

static bool of_running(const struct labvm_stream *s, const struct labvm_frame *f)
{
    return s->running && f->job == s->next;
}

/* An exit status: anything else would be cut to one, and could then look like success. */
static bool is_status(const struct labvm_frame *f)
{
    int status;
    if (f->bytes != sizeof status)
        return false;
    memcpy(&status, f->data, sizeof status);
    return status >= 0 && status <= 255;
}

/* One line of plain text, whatever the frame holds. */
static void take_note(const struct labvm_frame *f, char *err, size_t errlen)
{
    snprintf(err, errlen, "in the machine: %.*s", (int)f->bytes, f->data);
    for (char *p = err; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
}

static bool take(struct labvm_stream *s, const struct labvm_frame *f, char *err, size_t errlen)
{
    if (s->done)
        return refuse(err, errlen, "more came after the end", f);
    switch (f->kind) {
    case LABVM_BEGIN:
        if (s->running || f->job != s->next || s->next >= s->njobs)
            return refuse(err, errlen, "a job begins out of order", f);
        begin(s);
        return true;
    case LABVM_OUT:
    case LABVM_ERRORS:
        if (!of_running(s, f))
            return refuse(err, errlen, "output of a job that does not run", f);
        if (f->kind == LABVM_OUT ? append(&s->jobs[s->next].out, &s->nout, f)
                                 : append(&s->jobs[s->next].errors, &s->nerrors, f))
            return true;
        return refuse(err, errlen, "a job printed too much", f);
    case LABVM_STATUS:
        if (!of_running(s, f) || !is_status(f))
            return refuse(err, errlen, "a status of no job", f);
        end(s, f);
        return true;
    case LABVM_NOTE:
        take_note(f, err, errlen);
        return false;
    case LABVM_DONE:
        if (s->running || s->next != s->njobs)
            return refuse(err, errlen, "it ends before the last job", f);
        s->done = true;
        return true;
    default:
        return refuse(err, errlen, "a frame that is no result", f);
    }
}

bool labvm_stream_feed(struct labvm_stream *s, const char *p, size_t n, char *err, size_t errlen)
{
    struct labvm_frame f;
    size_t at = 0;
    ssize_t used = 0;
    bool ok = true;
    s->pending = realloc(s->pending, s->npending + n + 1);
    if (!s->pending)
        die(NB_INTERNAL, "out of memory for the results of labvm");
    memcpy(s->pending + s->npending, p, n);
    s->npending += n;
    while (ok && (used = labvm_parse(s->pending + at, s->npending - at, &f)) > 0) {
        ok = take(s, &f, err, errlen);
        at += (size_t)used;
    }
    if (used < 0) {
        snprintf(err, errlen,
                 "the machine's results are damaged: no valid frame after job %zu of %zu", s->next,
                 s->njobs);
        ok = false;
    }
    s->npending -= at;
    memmove(s->pending, s->pending + at, s->npending);
    return ok;
}

void labvm_stream_free(struct labvm_stream *s)
{
    free(s->pending);
    s->pending = NULL;
    s->npending = 0;
}

void labvm_free(struct labvm_job *jobs, size_t njobs)
{
    for (size_t i = 0; i < njobs; i++) {
        free(jobs[i].out);
        free(jobs[i].errors);
        jobs[i].out = jobs[i].errors = NULL;
    }
}
