/* bench_plan.c: the plan of a run: one line per cell, as a TSV file.
 *
 * A cell's id depends on its kind and command only, its seed on the root seed and a key that leaves
 * out the axis being compared. So adding a cell changes no other, and strategies see the same
 * guest.
 */
#include "bench/bench.h"

#include <assert.h>
#include <errno.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/rng.h"
#include "bench/bench_util.h"

REGISTRY(experiment);

const char *const scale_names[] = {"quick", "standard", "full"};
const char *const cell_kinds[] = {"exact", "timed", "counted"};
static const char header[] = "id\texperiment\tname\tkind\tseed\tseconds\tram\tcommand";
enum { COLUMNS = 8 };

static struct cell *plan_grow(struct plan *p)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 64;
        p->cells = xrealloc(p->cells, p->cap * sizeof *p->cells);
    }
    return memset(&p->cells[p->n++], 0, sizeof *p->cells);
}

static void cell_id(struct cell *c)
{
    char *text = strf("%s\t%s", cell_kinds[c->kind], c->command);
    snprintf(c->id, sizeof c->id, "%016llx", (unsigned long long)XXH64(text, strlen(text), 0));
    free(text);
}

void plan_add(struct plan *p, struct cell_spec s)
{
    struct cell *c = plan_grow(p);
    c->experiment = strf("%s", s.experiment);
    c->name = s.name;
    c->kind = s.kind;
    c->command = s.command;
    c->seconds = s.seconds;
    c->ram = s.ram;
    c->seeded = s.seed_key != NULL;
    if (s.seed_key) /* 63 bits: a seed is also a JSON integer somewhere */
        c->seed = rng_child(p->root_seed, XXH64(s.seed_key, strlen(s.seed_key), 0)) >> 1;
    cell_id(c);
    for (size_t i = 0; i + 1 < p->n; i++) /* two cells of one command would share a file */
        assert(strcmp(p->cells[i].id, c->id) != 0);
}

void plan_time(struct plan *p, const struct cell *from)
{
    struct cell *c = plan_grow(p);
    *c = *from;
    c->experiment = strf("%s", from->experiment);
    c->name = strf("%s", from->name);
    c->command = strf("%s", from->command);
    c->kind = CELL_TIMED;
    cell_id(c);
}

void plan_build(struct plan *p)
{
    const struct reg_head *all[64];
    size_t n = REG_SORTED(experiment, all, ARRAY_SIZE(all));
    for (size_t i = 0; i < n; i++)
        REG_FIND(experiment, all[i]->name)->plan(p);
}

static void cell_free(struct cell *c)
{
    free(c->experiment);
    free(c->name);
    free(c->command);
}

void plan_free(struct plan *p)
{
    for (size_t i = 0; i < p->n; i++)
        cell_free(&p->cells[i]);
    free(p->cells);
    *p = (struct plan){0};
}

static size_t exact_cells(const struct plan *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++)
        n += p->cells[i].kind == CELL_EXACT;
    return n;
}

bool plan_whole(const struct plan *p, bool exact_only)
{
    struct plan all = {.scale = p->scale, .root_seed = p->root_seed};
    plan_build(&all);
    bool whole = p->n == all.n || (exact_only && p->n == exact_cells(&all));
    for (size_t i = 0; i < p->n && whole; i++)
        whole = (p->n == all.n || p->cells[i].kind == CELL_EXACT) &&
                plan_find(&all, p->cells[i].id) != NULL;
    plan_free(&all);
    return whole;
}

static bool matches(const regex_t *re, const char *name)
{
    char *full = strf("%s/real_time", name);
    bool hit = regexec(re, full, 0, NULL, 0) == 0;
    free(full);
    return hit;
}

const char *plan_filter(struct plan *p, const char *regexp)
{
    static char why[256];
    regex_t re;
    bool negate = regexp[0] == '-';
    size_t kept = 0;
    if (strcmp(regexp, "all") == 0)
        regexp = ".";
    int bad = regcomp(&re, regexp + negate, REG_EXTENDED | REG_NOSUB);
    if (bad) {
        regerror(bad, &re, why, sizeof why);
        return why;
    }
    for (size_t i = 0; i < p->n; i++) {
        if (matches(&re, p->cells[i].name) != negate)
            p->cells[kept++] = p->cells[i];
        else
            cell_free(&p->cells[i]);
    }
    p->n = kept;
    regfree(&re);
    return NULL;
}

char *cell_words(const struct cell *c)
{
    return c->seeded ? strf("%s --seed 0x%llx", c->command, (unsigned long long)c->seed)
                     : strf("%s", c->command);
}

static void plan_text(const struct plan *p, FILE *f)
{
    fprintf(f, "# nestbed-plan/1 scale=%s root_seed=%llu\n%s\n", scale_names[p->scale],
            (unsigned long long)p->root_seed, header);
    for (size_t i = 0; i < p->n; i++) {
        const struct cell *c = &p->cells[i];
        char seed[32] = "-", *words = cell_words(c);
        if (c->seeded)
            snprintf(seed, sizeof seed, "0x%llx", (unsigned long long)c->seed);
        fprintf(f, "%s\t%s\t%s\t%s\t%s\t%.3g\t%llu\t%s\n", c->id, c->experiment, c->name,
                cell_kinds[c->kind], seed, c->seconds, (unsigned long long)c->ram, words);
        free(words);
    }
}

void plan_write(struct plan *p, FILE *out)
{
    char *text;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        die(NB_FAIL, "open_memstream: %s", strerror(errno));
    plan_text(p, f);
    fclose(f);
    p->hash = XXH64(text, len, 0);
    fwrite(text, 1, len, out);
    free(text);
}

/* Split a line at tabs; returns the number of columns. */
static unsigned split(char *line, char *col[COLUMNS])
{
    unsigned n = 0;
    for (char *p = line; p && n < COLUMNS; n++) {
        col[n] = p;
        p = n + 1 < COLUMNS ? strchr(p, '\t') : NULL;
        if (p)
            *p++ = 0;
    }
    return n;
}

/* The command of a plan line may end in the seed of its column, which is no part of the id. */
static void cut_seed(char *command, const char *seed)
{
    char *end = strf(" --seed %s", seed);
    size_t n = strlen(command), cut = strlen(end);
    if (n > cut && strcmp(command + n - cut, end) == 0)
        command[n - cut] = 0;
    free(end);
}

static bool parse_cell(struct cell *c, char *col[COLUMNS])
{
    char given[17];
    snprintf(given, sizeof given, "%s", col[0]);
    c->experiment = strf("%s", col[1]);
    c->name = strf("%s", col[2]);
    while (c->kind < CELL_COUNTED && strcmp(cell_kinds[c->kind], col[3]) != 0)
        c->kind++;
    c->seeded = strcmp(col[4], "-") != 0;
    c->seconds = atof(col[5]);
    c->command = strf("%s", col[7]);
    cut_seed(c->command, col[4]);
    if (c->seeded && !parse_u64(col[4], &c->seed))
        return false;
    if (!parse_u64(col[6], &c->ram) || strcmp(cell_kinds[c->kind], col[3]) != 0)
        return false;
    cell_id(c);
    return strcmp(c->id, given) == 0;
}

static void parse_head(struct plan *p, const char *line)
{
    char scale[16] = "";
    unsigned long long seed = 0;
    if (sscanf(line, "# nestbed-plan/1 scale=%15s root_seed=%llu", scale, &seed) != 2)
        return;
    p->root_seed = seed;
    for (unsigned i = SCALE_QUICK; i <= SCALE_FULL; i++)
        if (strcmp(scale, scale_names[i]) == 0)
            p->scale = (enum scale)i;
}

int plan_read(struct plan *p, const char *path, char *err, size_t errlen)
{
    size_t len;
    char *text = read_file(path, &len), *save = NULL;
    *p = (struct plan){0};
    if (!text) {
        snprintf(err, errlen, "open %s: %s", path, strerror(errno));
        return NB_NOINPUT;
    }
    p->hash = XXH64(text, len, 0);
    unsigned number = 1;
    for (char *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save), number++) {
        char *col[COLUMNS];
        if (line[0] == '#')
            parse_head(p, line);
        if (line[0] == '#' || strcmp(line, header) == 0)
            continue;
        if (split(line, col) != COLUMNS || !parse_cell(plan_grow(p), col)) {
            snprintf(err, errlen,
                     "%s:%u: not a plan line: expected %d columns (%s) and an id that fits "
                     "its command; write a new one with `nestbed bench plan`",
                     path, number, COLUMNS, header);
            free(text);
            return NB_DATAERR;
        }
    }
    free(text);
    if (p->n == 0) {
        snprintf(err, errlen,
                 "%s: no cells in this plan; write a new one with `nestbed bench plan`", path);
        return NB_DATAERR;
    }
    return NB_OK;
}

const struct cell *plan_find(const struct plan *p, const char *id)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->cells[i].id, id) == 0)
            return &p->cells[i];
    return NULL;
}

const char *cell_arg(const char *name, const char *arg, char *buf, size_t n)
{
    size_t len = strlen(arg);
    for (const char *p = strchr(name, '/'); p; p = strchr(p, '/')) {
        p++;
        if (strncmp(p, arg, len) != 0 || p[len] != ':')
            continue;
        p += len + 1;
        snprintf(buf, n, "%.*s", (int)strcspn(p, "/"), p);
        return buf;
    }
    return NULL;
}
