/* print.c: colour, grouped digits, aligned tables. */
#include "bench/print.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

static bool use_color;

bool when_parse(const char *s, enum when *out)
{
    static const char *const names[] = {"auto", "always", "never"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(s, names[i]) == 0) {
            *out = (enum when)i;
            return true;
        }
    return false;
}

void color_init(enum when w)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    bool wanted = isatty(STDOUT_FILENO) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
    use_color = w == WHEN_ALWAYS || (w == WHEN_AUTO && wanted);
}

const char *color(enum style s)
{
    static const char *const seq[] = {"\033[0m", "\033[1m", "\033[2m", "\033[32m", "\033[31m"};
    return use_color ? seq[s] : "";
}

char *group_digits(uint64_t v, char *buf, size_t n)
{
    char plain[24];
    size_t len = (size_t)snprintf(plain, sizeof plain, "%" PRIu64, v), out = 0;
    for (size_t i = 0; i < len && out + 2 < n; i++) {
        if (i && (len - i) % 3 == 0)
            buf[out++] = ',';
        buf[out++] = plain[i];
    }
    buf[out] = 0;
    return buf;
}

struct table {
    unsigned columns;
    char *align;
    char **cells;
    size_t n, room;
};

static void *need(void *p)
{
    if (!p)
        die(NB_FAIL, "no memory for a table of text");
    return p;
}

struct table *table_new(unsigned columns, const char *align)
{
    struct table *t = need(calloc(1, sizeof *t));
    t->columns = columns;
    t->align = need(strdup(align));
    return t;
}

void table_cell(struct table *t, const char *fmt, ...)
{
    va_list ap;
    if (t->n == t->room) {
        t->room = t->room ? 2 * t->room : 64;
        t->cells = need(realloc(t->cells, t->room * sizeof *t->cells));
    }
    va_start(ap, fmt);
    if (vasprintf(&t->cells[t->n], fmt, ap) < 0)
        need(NULL);
    va_end(ap);
    t->n++;
}

static int width(const struct table *t, unsigned col)
{
    size_t w = 0;
    for (size_t i = col; i < t->n; i += t->columns)
        if (strlen(t->cells[i]) > w)
            w = strlen(t->cells[i]);
    return (int)w;
}

static void print_row(const struct table *t, size_t first, const int *w)
{
    unsigned last = t->columns;
    while (last > 1 && (first + last > t->n || !*t->cells[first + last - 1]))
        last--; /* no blanks at the end of a line */
    for (unsigned c = 0; c < last; c++) {
        const char *cell = t->cells[first + c], *gap = c ? "  " : "";
        if (t->align[c] == 'r')
            printf("%s%*s", gap, w[c], cell);
        else
            printf("%s%-*s", gap, c + 1 == last ? 0 : w[c], cell);
    }
}

void table_print(const struct table *t)
{
    int *w = need(calloc(t->columns, sizeof *w));
    for (unsigned c = 0; c < t->columns; c++)
        w[c] = width(t, c);
    for (size_t row = 0; row < t->n; row += t->columns) {
        fputs(color(row ? STYLE_PLAIN : STYLE_BOLD), stdout);
        print_row(t, row, w);
        printf("%s\n", row ? "" : color(STYLE_PLAIN));
    }
    free(w);
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->cells[i]);
    free(t->cells);
    free(t->align);
    free(t);
}
