/* smp.c: vCPUs: which one runs, whose tables each has loaded, and how one makes the others forget.
 *
 * The kernel and the program are one thread of execution that moves from vCPU to vCPU: a sequence
 * that a machine with all of them running could show. Moving costs nothing and is no event. What is
 * private to a vCPU stays behind on it: its TLB and the CR3 it has loaded.
 *
 * A change of a process's tables must reach all vCPUs that may hold its translations (Linux:
 * mm_cpumask and tlb_gen):
 *   loaded here        invalidate at once
 *   loaded elsewhere   an IPI; the vCPU makes the same invalidation (a shootdown)
 *   not loaded         with PCIDs its translations may still be there: `stale` makes the next load
 *                      there drop them
 * It stays loaded on a vCPU until that vCPU loads another process: a vCPU that execution has left has
 * not stopped, its thread is only between two accesses.
 *
 * Invariant M9: p->loaded is the set of vCPUs that have p; the current process is what the vCPU that
 * runs has; a vCPU that ever had a process has one that lives.
 */
#include "guest/internal.h"

uint64_t smp_started(const struct gk *g)
{
    uint64_t cpus = 0;
    for (unsigned i = 0; i < g->cfg.cpus; i++)
        cpus |= g->on[i] ? cpu_bit(i) : 0;
    return cpus;
}

void smp_move(struct gk *g, unsigned cpu)
{
    if (cpu == g->cpu)
        return;
    hw_run_on(g->hw, cpu);
    g->cpu = cpu;
    g->cur = g->on[cpu];
}

void smp_load(struct gk *g, struct proc *p)
{
    uint64_t here = cpu_bit(g->cpu);
    uint64_t keep = p->pcid && !(p->stale & here) ? CR3_KEEP : 0;
    if (g->on[g->cpu])
        g->on[g->cpu]->loaded &= ~here;
    g->on[g->cpu] = g->cur = p;
    p->loaded |= here;
    p->stale &= ~here;
    hw_load_cr3(g->hw, proc_cr3(p) | keep);
    tea_load(g);
}

void smp_call(struct gk *g, uint64_t cpus, void (*fn)(struct gk *, const void *), const void *arg)
{
    unsigned here = g->cpu;
    if (!cpus)
        return;
    hw_ipi(g->hw, cpus);
    for (; cpus; cpus &= cpus - 1) {
        smp_move(g, (unsigned)__builtin_ctzll(cpus));
        fn(g, arg);
    }
    smp_move(g, here);
}

const char *smp_check(const struct gk *g)
{
    uint64_t loaded = 0;
    if (g->cpu >= g->cfg.cpus || !g->cur || g->on[g->cpu] != g->cur)
        return "M9: the vCPU that runs has not loaded the current process";
    for (const struct proc *p = g->first; p; p = p->next) {
        loaded |= p->loaded;
        for (unsigned i = 0; i < GK_MAX_CPUS; i++)
            if ((p->loaded & cpu_bit(i)) && (i >= g->cfg.cpus || g->on[i] != p))
                return "M9: a process is taken to be where it is not";
    }
    return loaded == smp_started(g) ? NULL : "M9: a vCPU has a process that is gone";
}
