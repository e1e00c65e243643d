/* calibrate_tlb.c: the chases: memory, cycles, samples.
 *
 * All points are sampled once a round, in one shuffled order a round, so that a drift of the machine
 * is spread over all of them. Time is the thread's own.
 */
#include "bench/calibrate_tlb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/addr.h"
#include "base/base.h"
#include "base/rng.h"
#include "bench/bench_util.h"

#define LINE 64ull
#define HUGE_BYTES (1ull << SHIFT_2M)

enum { LINES_IN_PAGE = PAGE_SIZE / LINE, FIRST = 8, STEPS_IN_OCTAVE = 4, HOPS = 20000 };

const char *const chase_names[CHASE_KINDS] = {
    [CHASE_SPARSE] = "sparse", [CHASE_DENSE] = "dense", [CHASE_HUGE] = "huge"};

/* Memory of one layout. */
struct region {
    unsigned char *mapped, *mem; /* as mapped; aligned to 2 MiB */
    uint64_t bytes, thp;
};

struct point {
    unsigned kind, point;
};

struct chase {
    const struct chase_config *cfg;
    struct chase_result *res;
    struct region region[CHASE_KINDS];
    uint32_t *order; /* of the largest N */
    double *samples[CHASE_KINDS][CHASE_POINTS];
    struct rng rng;
};

/* Bytes of [mem, mem + bytes) in 2 MiB pages, by the kernel's account of the mapping. */
static uint64_t huge_bytes_of(const unsigned char *mem)
{
    char line[256];
    unsigned long from, to;
    unsigned long long kib = 0, found = 0;
    bool here = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = (uintptr_t)mem >= from && (uintptr_t)mem < to;
        else if (here && sscanf(line, "AnonHugePages: %llu kB", &kib) == 1)
            found = kib << 10;
    }
    if (f)
        fclose(f);
    return found;
}

static bool region_new(struct region *r, uint64_t bytes, int advice, char *err, size_t errlen)
{
    *r = (struct region){.bytes = ALIGN_UP(bytes, HUGE_BYTES)};
    r->mapped = mmap(NULL, r->bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r->mapped == MAP_FAILED) {
        r->mapped = NULL;
        snprintf(err, errlen, "mmap of %llu bytes: %s", (unsigned long long)r->bytes,
                 strerror(errno));
        return false;
    }
    r->mem = (unsigned char *)ALIGN_UP((uintptr_t)r->mapped, HUGE_BYTES);
    madvise(r->mem, r->bytes, advice); /* refused: pages are what they are; thp tells */
    for (uint64_t at = 0; at < r->bytes; at += PAGE_SIZE)
        *(volatile unsigned char *)(r->mem + at) = 1;
    r->thp = huge_bytes_of(r->mem);
    return true;
}

static void region_free(struct region *r)
{
    if (r->mapped)
        munmap(r->mapped, r->bytes + HUGE_BYTES);
}

/* Where line i of a layout is. */
static uint64_t place(enum chase_kind kind, uint64_t i)
{
    uint64_t line = i % LINES_IN_PAGE;
    switch (kind) {
    case CHASE_SPARSE:
        return i * PAGE_SIZE + line * LINE;
    case CHASE_DENSE:
        return i * LINE;
    default: /* another page of each 2 MiB, so that caches with more sets spread them too */
        return i * HUGE_BYTES + (i / LINES_IN_PAGE * 37 + i) % 512 * PAGE_SIZE + line * LINE;
    }
}

/* One cycle through all n lines, in random order (Sattolo's shuffle). Returns its first line. */
static void **link_cycle(struct chase *c, enum chase_kind kind, uint64_t n)
{
    unsigned char *mem = c->region[kind].mem;
    for (uint32_t i = 0; i < n; i++)
        c->order[i] = i;
    for (uint64_t i = n - 1; i > 0; i--) {
        uint64_t k = rng_below(&c->rng, i);
        uint32_t t = c->order[i];
        c->order[i] = c->order[k];
        c->order[k] = t;
    }
    for (uint64_t i = 0; i < n; i++)
        *(void **)(void *)(mem + place(kind, i)) = mem + place(kind, c->order[i]);
    return (void **)(void *)mem;
}

static void **hop(void **p, uint64_t hops)
{
    for (uint64_t i = 0; i < hops; i += 8) {
        for (unsigned k = 0; k < 8; k++)
            p = *p;
        __asm__ volatile("" : "+r"(p));
    }
    return p;
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double sample(struct chase *c, enum chase_kind kind, uint64_t n)
{
    uint64_t hops = ALIGN_UP(n > HOPS / 2 ? 2 * n : HOPS, 8);
    void **p = hop(link_cycle(c, kind, n), ALIGN_UP(2 * n, 8));
    double began = now_ns();
    hop(p, hops);
    return (now_ns() - began) / (double)hops;
}

static void points(struct chase_curve *curve, uint64_t from, uint64_t to)
{
    for (uint64_t octave = from; octave <= to; octave *= 2)
        for (unsigned k = 0; k < STEPS_IN_OCTAVE; k++) {
            uint64_t n = octave + octave * k / STEPS_IN_OCTAVE;
            if (n <= to && curve->n < CHASE_POINTS)
                curve->lines[curve->n++] = n;
        }
}

static unsigned all_points(const struct chase *c, struct point *out)
{
    unsigned n = 0;
    for (unsigned k = 0; k < CHASE_KINDS; k++)
        for (unsigned i = 0; i < c->res->curve[k].n; i++)
            out[n++] = (struct point){k, i};
    return n;
}

static void sample_all(struct chase *c)
{
    struct point at[CHASE_KINDS * CHASE_POINTS];
    unsigned n = all_points(c, at);
    for (unsigned r = 0; r < c->cfg->rounds; r++) {
        for (unsigned i = n; i > 1; i--) {
            unsigned k = (unsigned)rng_below(&c->rng, i);
            struct point t = at[i - 1];
            at[i - 1] = at[k];
            at[k] = t;
        }
        if (c->cfg->progress)
            c->cfg->progress(c->cfg->ctx, r, c->cfg->rounds);
        for (unsigned i = 0; i < n; i++)
            c->samples[at[i].kind][at[i].point][r] = sample(
                c, (enum chase_kind)at[i].kind, c->res->curve[at[i].kind].lines[at[i].point]);
    }
}

static void summarise(struct chase *c)
{
    for (unsigned k = 0; k < CHASE_KINDS; k++)
        for (unsigned i = 0; i < c->res->curve[k].n; i++)
            c->res->curve[k].ns[i] = stat_bootstrap(c->samples[k][i], c->cfg->rounds, c->cfg->seed);
}

static bool make_regions(struct chase *c, char *err, size_t errlen)
{
    const struct chase_config *cfg = c->cfg;
    struct chase_result *res = c->res;
    if (!region_new(&c->region[CHASE_SPARSE], cfg->sparse_pages * PAGE_SIZE, MADV_NOHUGEPAGE, err,
                    errlen) ||
        !region_new(&c->region[CHASE_DENSE], cfg->sparse_pages * LINE, MADV_HUGEPAGE, err, errlen))
        return false;
    points(&res->curve[CHASE_SPARSE], FIRST, cfg->sparse_pages);
    points(&res->curve[CHASE_DENSE], FIRST, cfg->sparse_pages);
    res->dense_bytes = c->region[CHASE_DENSE].bytes;
    res->dense_thp = c->region[CHASE_DENSE].thp;
    if (!cfg->huge_pages)
        return true;
    if (!region_new(&c->region[CHASE_HUGE], cfg->huge_pages * HUGE_BYTES, MADV_HUGEPAGE, err,
                    errlen))
        return false;
    res->huge_bytes = c->region[CHASE_HUGE].bytes;
    res->huge_thp = c->region[CHASE_HUGE].thp;
    if (res->huge_thp == res->huge_bytes)
        points(&res->curve[CHASE_HUGE], FIRST, cfg->huge_pages);
    return true;
}

bool chase_run(const struct chase_config *cfg, struct chase_result *res, char *err, size_t errlen)
{
    struct chase *c = xcalloc(1, sizeof *c);
    uint64_t most = cfg->sparse_pages > cfg->huge_pages ? cfg->sparse_pages : cfg->huge_pages;
    memset(res, 0, sizeof *res);
    c->cfg = cfg;
    c->res = res;
    c->order = xcalloc(most, sizeof *c->order);
    rng_seed(&c->rng, cfg->seed);
    double *all = xcalloc((size_t)CHASE_KINDS * CHASE_POINTS * cfg->rounds, sizeof *all);
    for (unsigned k = 0; k < CHASE_KINDS; k++)
        for (unsigned i = 0; i < CHASE_POINTS; i++)
            c->samples[k][i] = all + ((size_t)k * CHASE_POINTS + i) * cfg->rounds;
    bool fine = make_regions(c, err, errlen);
    if (fine) {
        sample_all(c);
        summarise(c);
    }
    for (unsigned k = 0; k < CHASE_KINDS; k++)
        region_free(&c->region[k]);
    free(c->order);
    free(all);
    free(c);
    return fine;
}
