/* churn.c: accesses over a working set, interrupted by mapping, touching and unmapping pages.
 *
 * The knob between shadow and nested paging: `updates` page-table writes happen per thousand
 * accesses. At 0 only the TLB counts, and the shorter walk wins; the more updates, the more exits
 * a shadow pays.
 *
 * One cycle maps `batch` pages of 4 KiB, stores once into each and unmaps them: batch accesses,
 * batch guest faults, 2 * batch table writes (set-up has made the tables, and munmap keeps them).
 * A debt grows by `updates` with every access; a cycle runs when it covers 2000 * batch, so cycles
 * spread evenly. With a `period`, stretches of that many accesses alternate, each a phase of its own: calm
 * ones without updates and busy ones with. What adapts to the rate must follow.
 *
 * Exact: work: accesses = `accesses`, of which guest_faults = stores = batch * cycles;
 * guest_pt_writes = 2 * batch * cycles, which is accesses * updates / 1000 short of at most
 * 4 * batch. guest_invlpgs = batch * cycles while batch is not above the kernel's flush ceiling,
 * else one CR3 reload a cycle. With a period, the same holds of each busy stretch.
 */
#include "workloads/common.h"

static const struct param params[] = {
    {"updates", 10, 0, 2000, "per 1000 accesses", "page-table writes; 2000 = nothing but cycles"},
    {"accesses", 1000000, 0, MAX_COUNT, "accesses", "accesses in all"},
    {"size", 64ull << 20, 4096, MAX_BYTES, "bytes", "the working set"},
    {"batch", 1, 1, 1u << 20, "4 KiB pages", "pages mapped and unmapped together"},
    {"window", 512, 1, 1u << 20, "4 KiB pages", "address range that cycles go round in"},
    {"period", 0, 0, MAX_COUNT, "accesses", "updates in every other stretch of so many; 0: in all"},
    {0},
};

struct churn {
    struct user *u;
    gva_t window;
    uint64_t slots, next; /* of `bytes` each */
    uint64_t bytes;
};

/* Map `bytes` at `at`, touch, unmap. */
static void cycle_at(struct user *u, gva_t at, uint64_t bytes)
{
    gva_t got;
    must(u, u_mmap(u, at, bytes, GK_READ | GK_WRITE, GK_FIXED | GK_4K, &got),
         "churn: mmap of a batch failed");
    touch_pages(u, at, bytes);
    must(u, u_munmap(u, at, bytes), "churn: munmap of a batch failed");
}

static void cycle(struct churn *c)
{
    cycle_at(c->u, c->window + c->next * c->bytes, c->bytes);
    c->next = c->next + 1 < c->slots ? c->next + 1 : 0;
}

/* Find room for the window and make its page tables. */
static void prepare(struct churn *c)
{
    uint64_t len = c->slots * c->bytes;
    must(c->u, u_mmap(c->u, 0, len, GK_READ | GK_WRITE, GK_4K, &c->window),
         "churn: mmap of the window failed");
    must(c->u, u_munmap(c->u, c->window, len), "churn: munmap of the window failed");
    for (uint64_t i = 0; i < c->slots; i++)
        cycle(c);
}

static void work(struct churn *c, gva_t set, const uint64_t *p, uint64_t left, uint64_t rate)
{
    struct rng r = c->u->rng;
    uint64_t words = p[2] / 8, batch = p[3], debt = 0;
    while (left > 0) {
        if (debt >= 2000 * batch && left >= batch) {
            cycle(c);
            debt -= (2000 - rate) * batch;
            left -= batch;
        } else {
            ld(c->u, set + 8 * rng_below(&r, words));
            debt += rate;
            left--;
        }
    }
    c->u->rng = r;
}

/* Names for as many phases as a record holds; the last one goes on. */
static void stretches(struct churn *c, gva_t set, const uint64_t *p)
{
    static const char *const names[] = {"calm 1", "busy 1", "calm 2", "busy 2", "calm 3",
                                        "busy 3", "calm 4", "busy 4", "calm 5", "busy 5",
                                        "calm 6", "busy 6", "calm 7", "others"};
    uint64_t left = p[1];
    for (unsigned i = 0; left > 0; i++) {
        uint64_t n = left < p[5] ? left : p[5];
        if (i < ARRAY_SIZE(names))
            u_phase(c->u, names[i]);
        work(c, set, p, n, i & 1 ? p[0] : 0);
        left -= n;
    }
}

static void run(struct user *u, const uint64_t *p)
{
    uint64_t batch = p[3], window = p[4] > batch ? p[4] : batch;
    struct churn c = {.u = u, .slots = window / batch, .bytes = batch << PAGE_SHIFT};
    u_phase(u, "setup");
    gva_t set = alloc_touched(u, p[2]);
    prepare(&c);
    if (p[5]) {
        stretches(&c, set, p);
        return;
    }
    u_phase(u, "work");
    work(&c, set, p, p[1], p[0]);
}

REGISTER(workload, churn, .summary = "accesses with a set rate of page-table updates among them",
         .params = params, .run = run);
