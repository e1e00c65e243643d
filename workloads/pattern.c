/* pattern.c: memory that checks itself: every page holds what was stored there, and new pages hold zeroes.
 *
 * For what takes memory from a guest or gives it back (--balloon): each step is a phase of its own, "step1" on, so
 * that a plan can change the balloon before it. A step checks every page, gives a quarter of them back to the kernel
 * and takes as many again, which must read as zero, and fills them. A wrong word ends the run as `aborted`.
 *
 * Closed forms: (steps + 1) * pages words are checked; pages + steps * (pages / 4) pages are first touched.
 */
#include "workloads/workload.h"

static const struct param params[] = {
    {"pages", 8192, 4, 1ull << 28, "4 KiB pages", "memory to fill and check"},
    {"steps", 4, 1, 9, "steps", "each a phase: check, free a quarter, take it again"},
    {0}};

enum { QUARTERS = 4 };

struct filled {
    gva_t at[QUARTERS];
    uint64_t pages;             /* of a quarter */
    uint64_t version[QUARTERS]; /* how often it was taken */
};

/* What a page holds, at a place of its own. */
static uint64_t word_of(const struct filled *f, unsigned quarter, uint64_t page)
{
    return ((uint64_t)quarter << 56 | f->version[quarter] << 48 | (page + 1)) *
           0x9e3779b97f4a7c15ull;
}
static gva_t place_of(const struct filled *f, unsigned quarter, uint64_t page)
{
    return f->at[quarter] + (page << PAGE_SHIFT) + 8 * (page % 512);
}

static void fill(struct user *u, struct filled *f, unsigned quarter)
{
    f->version[quarter]++;
    for (uint64_t i = 0; i < f->pages; i++) {
        if (ld64(u, place_of(f, quarter, i)) != 0)
            u_abort(u, "a new page does not read as zero");
        st64(u, place_of(f, quarter, i), word_of(f, quarter, i));
    }
}

static void check(struct user *u, const struct filled *f)
{
    for (unsigned q = 0; q < QUARTERS; q++)
        for (uint64_t i = 0; i < f->pages; i++)
            if (ld64(u, place_of(f, q, i)) != word_of(f, q, i))
                u_abort(u, "a page does not hold what was stored there");
}

static void step(struct user *u, struct filled *f, unsigned number)
{
    char name[] = "step0";
    unsigned q = number % QUARTERS;
    name[4] = (char)('0' + number);
    u_phase(u, name);
    check(u, f);
    if (u_munmap(u, f->at[q], f->pages << PAGE_SHIFT) != GK_OK)
        u_abort(u, "a quarter could not be given back");
    f->at[q] = u_alloc(u, f->pages << PAGE_SHIFT);
    fill(u, f, q);
}

static void run(struct user *u, const uint64_t *p)
{
    struct filled f = {.pages = p[0] / QUARTERS};
    u_phase(u, "setup");
    for (unsigned q = 0; q < QUARTERS; q++) {
        f.at[q] = u_alloc(u, f.pages << PAGE_SHIFT);
        fill(u, &f, q);
    }
    for (unsigned i = 1; i <= p[1]; i++)
        step(u, &f, i);
    u_phase(u, "work");
    check(u, &f);
}

REGISTER(workload, pattern, .summary = "memory that checks itself while it is taken and given back",
         .params = params, .run = run);
