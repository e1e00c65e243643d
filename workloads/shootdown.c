/* shootdown.c: threads of one process share a region, of which one after the other takes rights away.
 *
 * Every thread has the region's translations in the TLB of its vCPU (u_cpu(): thread t runs on vCPU t mod
 * their number). In round r each thread loads from every page of one window; then thread r mod threads
 * invalidates the window, which all vCPUs must hear of:
 *   unmap = 0   mprotect: the rights to write are taken and given back
 *   unmap = 1   munmap; the same addresses are mapped again, and that thread stores once into each page
 * The window moves on by its own length and comes round again after `pages / window` rounds; set-up makes
 * as many, so that every round of the work finds its window invalidated before. With one
 * vCPU, as in the freestanding image, it is a churn of rights or of mappings.
 *
 * Exact, with A = the lesser of threads and vCPUs, and window up to the kernel's flush ceiling (above it
 * each INVLPG-run is one CR3 reload): work: loads = rounds * threads * window; guest_pt_writes =
 * 2 * rounds * window; guest_invlpgs = rounds * window * A; guest_shootdowns = rounds and guest_ipis =
 * rounds * (A - 1) if A > 1. unmap: stores = guest_faults = rounds * window, else neither.
 */
#include "workloads/common.h"

static const struct param params[] = {
    {"threads", 4, 1, 64, "threads", "threads of the process, one after the other on the vCPUs"},
    {"pages", 256, 1, 1u << 20, "4 KiB pages", "region that all of them use"},
    {"window", 8, 1, 1u << 20, "4 KiB pages", "pages of it that one round invalidates"},
    {"rounds", 1000, 0, MAX_COUNT, "rounds", "invalidations"},
    {"unmap", 0, 0, 1, "0 or 1", "0: take rights and give them back; 1: unmap and map again"},
    {0},
};

static void load_pages(struct user *u, gva_t base, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        ld(u, base + (i << PAGE_SHIFT));
}

static void protect(struct user *u, gva_t at, uint64_t bytes)
{
    must(u, u_mprotect(u, at, bytes, GK_READ), "shootdown: mprotect failed");
    must(u, u_mprotect(u, at, bytes, GK_READ | GK_WRITE), "shootdown: mprotect failed");
}

static void remap(struct user *u, gva_t at, uint64_t bytes)
{
    gva_t got;
    must(u, u_munmap(u, at, bytes), "shootdown: munmap failed");
    must(u, u_mmap(u, at, bytes, GK_READ | GK_WRITE, GK_FIXED | GK_4K, &got),
         "shootdown: mmap failed");
    touch_pages(u, at, bytes);
}

struct shootdown {
    uint64_t threads, pages, window, unmap; /* window: at most pages */
    gva_t region;
};

static void rounds(struct user *u, const struct shootdown *s, uint64_t n)
{
    uint64_t slots = s->pages / s->window, bytes = s->window << PAGE_SHIFT;
    for (uint64_t r = 0, slot = 0; r < n; r++, slot = slot + 1 < slots ? slot + 1 : 0) {
        gva_t at = s->region + slot * bytes;
        for (uint64_t t = 0; t < s->threads; t++) {
            u_cpu(u, (unsigned)t);
            load_pages(u, at, s->window);
        }
        u_cpu(u, (unsigned)(r % s->threads));
        s->unmap ? remap(u, at, bytes) : protect(u, at, bytes);
    }
}

static void run(struct user *u, const uint64_t *p)
{
    struct shootdown s = {p[0], p[1], p[2] < p[1] ? p[2] : p[1], p[4], 0};
    u_phase(u, "setup");
    must(u, u_mmap(u, 0, s.pages << PAGE_SHIFT, GK_READ | GK_WRITE, GK_4K, &s.region),
         "shootdown: mmap of the region failed");
    touch_pages(u, s.region, s.pages << PAGE_SHIFT);
    rounds(u, &s, s.pages / s.window);
    u_phase(u, "work");
    rounds(u, &s, p[3]);
}

REGISTER(workload, shootdown,
         .summary = "threads on all vCPUs; one after the other invalidates pages of all",
         .params = params, .run = run);
