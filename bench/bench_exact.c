/* bench_exact.c: exact and counted cells: each once, several at a time. Counts do not mind company.
 *
 * The longest by the plan's estimate begin first, so that at the end no core waits long for another.
 */
#include "bench/bench_run.h"

#include <stdlib.h>
#include <string.h>

#include "bench/bench_util.h"
#include "bench/progress.h"

struct pool {
    const struct bench *b;
    char *dir;
    struct proc slot[PROC_MAX];
    const struct cell *cell[PROC_MAX]; /* what runs in a slot; NULL = free */
    const struct cell *waiting;        /* found, but too large beside what runs */
    const struct cell **order;         /* all cells, longest first */
    size_t next;                       /* first of them not yet looked at */
    uint64_t budget;                   /* estimates of cells that run together stay below it */
    unsigned done, total;
};

/* Next cell that has no finished file, or NULL. */
static const struct cell *next_cell(struct pool *p)
{
    while (p->next < p->b->plan.n) {
        const struct cell *c = p->order[p->next++];
        if (c->kind == CELL_TIMED)
            continue;
        json_t *finished = cell_finished(p->dir, c);
        if (!finished)
            return c;
        json_decref(finished);
        p->done++;
    }
    return NULL;
}

/* Half of what the kernel says it could give without swapping. */
static uint64_t half_of_memory(void)
{
    unsigned long long kib = 0;
    char line[160];
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && !kib && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu", &kib) != 1)
            kib = 0;
    if (f)
        fclose(f);
    return kib ? kib << 9 : UINT64_MAX;
}

/* A cell that is alone always fits. */
static bool fits(const struct pool *p, const struct cell *c)
{
    uint64_t ram = 0;
    for (unsigned i = 0; i < p->b->jobs; i++)
        ram += p->cell[i] ? p->cell[i]->ram : 0;
    return ram == 0 || (ram < p->budget && c->ram <= p->budget - ram);
}

static void fill(struct pool *p)
{
    for (unsigned i = 0; i < p->b->jobs; i++) {
        if (p->cell[i])
            continue;
        if (!p->waiting && !(p->waiting = next_cell(p)))
            return;
        if (!fits(p, p->waiting))
            return;
        p->cell[i] = p->waiting;
        p->waiting = NULL;
        progress_step(p->done, p->total, p->cell[i]->name);
        cell_start(&p->b->origin, p->cell[i], &p->slot[i]);
    }
}

static int longer(const void *x, const void *y)
{
    const struct cell *a = *(const struct cell *const *)x, *b = *(const struct cell *const *)y;
    if (a->seconds != b->seconds)
        return a->seconds > b->seconds ? -1 : 1;
    return a < b ? -1 : a > b; /* as planned */
}

int bench_exact(struct bench *b)
{
    struct pool *p = xcalloc(1, sizeof *p);
    p->b = b;
    p->budget = half_of_memory();
    p->dir = strf("%s/cells", b->dir);
    p->order = xcalloc(b->plan.n, sizeof *p->order);
    for (size_t i = 0; i < b->plan.n; i++) {
        p->order[i] = &b->plan.cells[i];
        p->total += b->plan.cells[i].kind != CELL_TIMED;
    }
    qsort(p->order, b->plan.n, sizeof *p->order, longer);
    progress_init_long(b->progress, b->quiet);
    int i;
    for (fill(p); (i = proc_wait_any(p->slot, b->jobs)) >= 0; fill(p)) {
        cell_end(&b->origin, p->cell[i], &p->slot[i], p->dir);
        p->cell[i] = NULL;
        p->done++;
    }
    procs_kill_all();
    progress_end();
    free(p->order);
    free(p->dir);
    free(p);
    return interrupted() ? NB_SIGINT : NB_OK;
}
