/* base.c: messages, sizes, accounted memory. */
#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef NB_NO_JEMALLOC
#include <jemalloc/jemalloc.h>
#else
#include <malloc.h>
#endif

enum log_level log_threshold = LOG_WARN;

void log_init(void)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    const char *e = getenv("NESTBED_LOG");
    for (unsigned i = 0; e && i < ARRAY_SIZE(names); i++)
        if (strcmp(e, names[i]) == 0)
            log_threshold = (enum log_level)i;
}

void log_msg(enum log_level level, const char *file, int line, const char *fmt, ...)
{
    static const char *const prefix[] = {"error", "warning", "info", "debug"};
    if (level > log_threshold)
        return;
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "nestbed: %s: ", prefix[level]);
    if (level == LOG_DEBUG)
        fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

void die(int code, const char *fmt, ...)
{
    va_list ap;
    fflush(stdout);
    va_start(ap, fmt);
    fputs("nestbed: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(code);
}

bool parse_u64(const char *s, uint64_t *out)
{
    char *end;
    if (*s < '0' || *s > '9')
        return false;
    errno = 0;
    unsigned long long v = strtoull(s, &end, s[0] == '0' && (s[1] | 32) == 'x' ? 16 : 10);
    if (errno || *end)
        return false;
    *out = v;
    return true;
}

bool parse_size(const char *s, uint64_t *out)
{
    static const char units[] = "kmgt";
    char digits[32];
    size_t n = strspn(s, "0123456789");
    if (n == 0 || n >= sizeof digits || (s[0] == '0' && (s[1] | 32) == 'x'))
        return parse_u64(s, out);
    memcpy(digits, s, n);
    digits[n] = 0;
    uint64_t v;
    if (!parse_u64(digits, &v))
        return false;
    const char *suffix = s + n, *u = *suffix ? strchr(units, *suffix | 32) : NULL;
    unsigned shift = u ? 10 * (unsigned)(u - units + 1) : 0;
    if (u) {
        suffix++;
        if ((*suffix | 32) == 'i')
            suffix++;
    }
    if ((*suffix | 32) == 'b' && suffix > s + n)
        suffix++;
    if (*suffix || (v << shift) >> shift != v)
        return false;
    *out = v << shift;
    return true;
}

char *format_size(uint64_t bytes, char *buf, size_t n)
{
    static const char units[] = "TGMK";
    for (unsigned i = 0, shift = 40; i < 4; i++, shift -= 10)
        if (bytes >> shift && !(bytes & ((1ull << shift) - 1))) {
            snprintf(buf, n, "%llu%c", (unsigned long long)(bytes >> shift), units[i]);
            return buf;
        }
    snprintf(buf, n, "%llu", (unsigned long long)bytes);
    return buf;
}

const char *const meta_names[META_COUNT] = {"host", "gmem", "mmu", "paging", "guest", "trace"};
static uint64_t meta_now[META_COUNT];

static size_t real_size(void *p)
{
    if (!p)
        return 0;
#ifndef NB_NO_JEMALLOC
    return sallocx(p, 0);
#else
    return malloc_usable_size(p);
#endif
}

void *meta_calloc(enum meta_subsys s, size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (!p)
        die(NB_FAIL, "calloc: no memory for %zu x %zu bytes of %s bookkeeping", n, size,
            meta_names[s]);
    meta_now[s] += real_size(p);
    return p;
}

void *meta_calloc_aligned(enum meta_subsys s, size_t bytes, size_t align)
{
    void *p = NULL;
    if (posix_memalign(&p, align, bytes) != 0)
        die(NB_FAIL, "posix_memalign: no memory for %zu bytes of %s bookkeeping", bytes,
            meta_names[s]);
    memset(p, 0, bytes);
    meta_now[s] += real_size(p);
    return p;
}

void *meta_realloc(enum meta_subsys s, void *p, size_t bytes)
{
    size_t before = real_size(p);
    void *q = realloc(p, bytes ? bytes : 1);
    if (!q)
        die(NB_FAIL, "realloc: no memory for %zu bytes of %s bookkeeping", bytes, meta_names[s]);
    meta_now[s] += real_size(q) - before;
    return q;
}

void meta_free(enum meta_subsys s, void *p)
{
    meta_now[s] -= real_size(p);
    free(p);
}

uint64_t meta_bytes(enum meta_subsys s) { return meta_now[s]; }
