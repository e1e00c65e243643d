/* spawn.c: starting programs: fork, exec, exit; directly or by a shell.
 *
 * What LMbench's lat_proc measures. A child first stores to `stack` pages that it inherits (copy on
 * write). With exec = 0 it then exits: fork alone. Else it unmaps all it inherits and maps a new
 * image of `exec` pages, which it sweeps `rounds` times: exec. With depth = 2 that program is a
 * shell, which starts the real one in the same way before it exits: sh.
 *
 * Exact, with stack <= pages and stack <= exec, 4 KiB guest pages: set-up: stores = pages. Work:
 * each program started stores stack + exec * rounds times and takes stack + exec faults;
 * procs * depth are started.
 */
#include "workloads/common.h"

static const struct param params[] = {
    {"procs", 256, 1, 1u << 20, "processes", "times that a program is started"},
    {"pages", 256, 1, MAX_BYTES >> PAGE_SHIFT, "4 KiB pages", "the parent's memory"},
    {"stack", 4, 0, 1u << 20, "4 KiB pages", "inherited pages that a child writes first"},
    {"exec", 128, 0, MAX_BYTES >> PAGE_SHIFT, "4 KiB pages", "image of the program; 0 = no exec"},
    {"rounds", 8, 1, MAX_COUNT, "sweeps", "of the program over its image"},
    {"depth", 1, 1, 2, "programs", "2: by a shell"},
    {0},
};

/* Memory of a process. */
struct image {
    gva_t base;
    uint64_t pages;
};

static void store_pages(struct user *u, const struct image *m, uint64_t pages)
{
    touch_pages(u, m->base, (pages < m->pages ? pages : m->pages) << PAGE_SHIFT);
}

/* The current process becomes another program. */
static struct image exec(struct user *u, const struct image *old, const uint64_t *p)
{
    must(u, u_munmap(u, old->base, old->pages << PAGE_SHIFT), "spawn: munmap failed");
    struct image m = {u_alloc(u, p[3] << PAGE_SHIFT), p[3]};
    for (uint64_t i = 0; i < p[4]; i++)
        store_pages(u, &m, m.pages);
    return m;
}

/* Start one program from process `parent`, and be back in it when that program has ended. */
static void start(struct user *u, int parent, struct image m, const uint64_t *p, uint64_t depth)
{
    int child;
    must(u, u_fork(u, &child), "spawn: fork failed: guest memory is used up");
    must(u, u_switch(u, child), "spawn: switch to the child failed");
    store_pages(u, &m, p[2]);
    if (p[3])
        m = exec(u, &m, p);
    if (depth > 1)
        start(u, child, m, p, depth - 1);
    must(u, u_exit(u, child), "spawn: exit of the child failed"); /* and to process 1 */
    must(u, u_switch(u, parent), "spawn: switch to the parent failed");
}

static void run(struct user *u, const uint64_t *p)
{
    u_phase(u, "setup");
    struct image parent = {alloc_touched(u, p[1] << PAGE_SHIFT), p[1]};
    u_phase(u, "work");
    for (uint64_t i = 0; i < p[0]; i++)
        start(u, 1, parent, p, p[5]);
}

REGISTER(workload, spawn, .summary = "fork, exec and exit of programs, directly or by a shell",
         .params = params, .run = run);
