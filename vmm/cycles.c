/* cycles.c: modelled cycles = sum of count x cost. Costs and their sources are in the CPU preset.
 *
 * Cycles of all vCPUs are added: work, not time. What several do at once, and what one waits for
 * another, is not told apart.
 */
#include "vmm/engine.h"

static double sum(const double *cost, const uint64_t *count, unsigned n)
{
    double total = 0;
    for (unsigned i = 0; i < n; i++)
        total += cost[i] * (double)count[i];
    return total;
}

void cycles_model(const struct cpu *cpu, const struct counters *c, struct cycles *out)
{
    bool cached = cpu->cache[0].entries != 0;
    uint64_t reads = c->walk_reads + c->walk_refs_lost;
    *out = (struct cycles){
        .access = cached ? sum(cpu->cost.cache, &c->data_l1_hits, 4)
                         : cpu->cost.access * (double)c->accesses,
        .stlb = cpu->cost.stlb_hit * (double)c->tlb_l2_hits,
        .walk = (cached ? sum(cpu->cost.cache, &c->pt_l1_hits, 4) : cpu->cost.ref * (double)reads) +
                cpu->cost.pwc_hit * (double)(c->pwc_hits + c->ntlb_hits),
        .exit = cpu->cost.exit * (double)c->exits,
        /* A fault that was right already, or must be taken again, walks and looks as a fill does. */
        .vmm = cpu->cost.fill * (double)(c->exit_fill + c->exit_spurious + c->exit_retry) +
               cpu->cost.reflect * (double)c->exit_reflect +
               cpu->cost.pt_write * (double)c->exit_pt_write + cpu->cost.cr3 * (double)c->exit_cr3 +
               cpu->cost.invlpg * (double)c->exit_invlpg +
               cpu->cost.ept_violation * (double)c->exit_ept_violation +
               cpu->cost.hypercall * (double)c->exit_hypercall +
               cpu->cost.pv_update * (double)c->pv_updates + cpu->cost.icr * (double)c->exit_ipi +
               cpu->cost.intr * (double)c->exit_intr,
        .ipi = cpu->cost.ipi * (double)c->guest_ipis,
        .guest_fault = cpu->cost.guest_fault * (double)c->guest_faults,
        .host = cpu->cost.alloc_4k * (double)c->host_allocs_4k +
                cpu->cost.alloc_2m * (double)c->host_allocs_2m +
                cpu->cost.alloc_1g * (double)c->host_allocs_1g,
    };
}
