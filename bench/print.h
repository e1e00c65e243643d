/* print.h: text on stdout: colour, numbers people can read, aligned tables.
 *
 * Colour is never the only sign: whatever is coloured also says its word.
 */
#ifndef NB_BENCH_PRINT_H
#define NB_BENCH_PRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum when { WHEN_AUTO, WHEN_ALWAYS, WHEN_NEVER };
/* "auto", "always", "never"; false on anything else. */
bool when_parse(const char *s, enum when *out);

/* Auto: colour when stdout is a terminal, TERM is not dumb and NO_COLOR is absent or empty. */
void color_init(enum when);
enum style { STYLE_PLAIN, STYLE_BOLD, STYLE_DIM, STYLE_GOOD, STYLE_BAD };
/* Escape sequence that starts a style (STYLE_PLAIN ends it); "" without colour. */
const char *color(enum style);

/* 1234567 -> "1,234,567"; buf of at least 28 bytes; returns buf. */
char *group_digits(uint64_t v, char *buf, size_t n);

/* A table of text cells. The first row is its header; columns are as wide as their widest cell. */
struct table;
struct table *table_new(unsigned columns,
                        const char *align); /* align: one of 'l', 'r' per column */
void table_cell(struct table *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *); /* on stdout */
void table_free(struct table *);

#endif
