/* bench_util.h: strings, files written whole or not at all, time. */
#ifndef NB_BENCH_UTIL_H
#define NB_BENCH_UTIL_H

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Formatted strings from malloc; never NULL. */
char *strf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *vstrf(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t bytes);
double now_seconds(void);                           /* monotonic */
char *utc(const char *format, char *buf, size_t n); /* strftime of now in UTC; returns buf */

char *read_file(const char *path,
                size_t *len);       /* NUL-terminated, from malloc; NULL when unreadable */
char *read_fd(int fd, size_t *len); /* from its beginning */
/* Write through a temporary name and rename: the file is whole or as it was. Ends the program with
 * NB_IOERR and a sentence when that fails. */
void write_file(const char *path, const void *data, size_t len);
void write_json(const char *path, const json_t *, size_t flags);
void make_dirs(const char *path); /* mkdir -p; dies with NB_IOERR */
/* Before a long measurement: end with NB_IOERR unless files can be made in this folder, which is made
 * if need be. `option`: what named it, for the message. */
void need_folder(const char *option, const char *dir);

/* A stream into memory that write_file()s itself. */
struct outfile {
    FILE *f;
    char *text, *path;
    size_t len;
};
FILE *outfile_open(struct outfile *, char *path); /* takes path */
void outfile_close(struct outfile *);

char *program_path(void);          /* this executable, as nestbed */
char *find_tool(const char *name); /* in PATH, from malloc; NULL when absent */

#endif
