/* base.h: exit codes, messages, sizes and accounted memory, for every layer.
 *
 * Three kinds of failure, never mixed:
 *   the host failed        die(EXIT_..., "open %s: %s", ...): names the call, ends the program
 *   we are wrong           assert()
 *   the guest misbehaved   a value that is returned and counted, never a crash
 */
#ifndef NB_BASE_H
#define NB_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes of every command (BSD sysexits where they exist). */
enum {
    NB_OK = 0,        /* done */
    NB_FAIL = 1,      /* ran, but failed or a check failed */
    NB_USAGE = 64,    /* bad command line */
    NB_DATAERR = 65,  /* malformed input */
    NB_NOINPUT = 66,  /* input file missing */
    NB_NODEVICE = 69, /* a device, tool or mode needed is missing */
    NB_INTERNAL = 70, /* a bug */
    NB_IOERR = 74,    /* writing results failed: disk full and the like */
    NB_SKIP = 77,     /* cannot run here; the reason has been printed */
    NB_TIMEOUT = 124, /* ran out of time */
    NB_SIGINT = 130   /* interrupted; partial results kept */
};

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define ALIGN_UP(x, a) (((x) + (a)-1) & ~((uint64_t)(a)-1))
#define ALIGN_DOWN(x, a) ((x) & ~((uint64_t)(a)-1))

/* ---- messages: stderr only; stdout is for results ---- */
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
extern enum log_level
    log_threshold; /* default LOG_WARN; NESTBED_LOG=error|warn|info|debug sets it */
void log_init(void);
void log_msg(enum log_level, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
#define log_warn(...) log_msg(LOG_WARN, __FILE__, __LINE__, __VA_ARGS__)
#define log_info(...) log_msg(LOG_INFO, __FILE__, __LINE__, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_DEBUG, __FILE__, __LINE__, __VA_ARGS__)

/* Print "nestbed: <message>" on stderr and end the program with `code`. */
_Noreturn void die(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- sizes ---- */
/* "64M" -> bytes. Suffixes K M G T (binary), optional iB/B; plain numbers in decimal or 0x hex.
 * Returns false on garbage, a negative number or overflow; *out is then untouched. */
bool parse_size(const char *s, uint64_t *out);
/* Whole-string unsigned integer, decimal or 0x hex; false on garbage or overflow. */
bool parse_u64(const char *s, uint64_t *out);
/* Bytes as "64M" where that is exact, else a plain number; buf of at least 24 bytes; returns buf.
 */
char *format_size(uint64_t bytes, char *buf, size_t n);

/* ---- bookkeeping memory: through jemalloc, accounted per subsystem ---- */
enum meta_subsys {
    META_HOST,
    META_GMEM,
    META_MMU,
    META_PAGING,
    META_GUEST,
    META_TRACE,
    META_COUNT
};
extern const char *const meta_names[META_COUNT];
void *meta_calloc(enum meta_subsys, size_t n,
                  size_t size); /* zeroed; dies when there is no memory */
/* The same, aligned to a power of two. */
void *meta_calloc_aligned(enum meta_subsys, size_t bytes, size_t align);
void *meta_realloc(enum meta_subsys, void *p, size_t bytes); /* as realloc; dies likewise */
void meta_free(enum meta_subsys, void *p);
uint64_t meta_bytes(enum meta_subsys); /* now allocated, in bytes as the allocator rounds them */

#endif
