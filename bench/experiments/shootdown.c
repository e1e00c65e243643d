/* shootdown.c: exits and cycles of one TLB shootdown against the number of vCPUs.
 *
 * Eight threads of one process share a region; one of them takes the right to write from eight pages and
 * gives it back (workload shootdown), and every vCPU must hear of it. The same accesses whatever the number
 * of vCPUs. Natively that costs interrupts. Nested paging adds the exits that the processor's interrupt
 * virtualization leaves (skx: the write of ICR); shadow paging also one for each table write and, on each
 * vCPU, for each INVLPG, and a hidden fault for each page used again.
 *
 * Cycles are those of interrupts, exits and the hypervisor, of all vCPUs together: work, not time.
 */
#include <math.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/bench_fig.h"
#include "bench/bench_util.h"

static const char *const pagings[] = {"native", "shadow", "ept"};
static const unsigned vcpus[] = {1, 2, 4, 8};

static bool taken(enum scale s, unsigned n) { return s != SCALE_QUICK || n == 1 || n == 8; }

static void plan(struct plan *p)
{
    unsigned rounds = p->scale == SCALE_QUICK ? 500 : 2000;
    for (unsigned i = 0; i < ARRAY_SIZE(vcpus); i++)
        for (unsigned k = 0; k < ARRAY_SIZE(pagings) && taken(p->scale, vcpus[i]); k++)
            plan_add(
                p,
                (struct cell_spec){
                    .experiment = "shootdown",
                    .seed_key = "shootdown",
                    .name = strf("shootdown/vcpus:%u/paging:%s", vcpus[i], pagings[k]),
                    .command = strf(
                        "run --engine model --paging %s --workload shootdown --set threads=8 --set "
                        "pages=256 --set window=8 --set rounds=%u --vcpus %u --cpu skx --mem 64M "
                        "--json",
                        pagings[k], rounds, vcpus[i]),
                    .seconds = 0.1 + rounds * 5e-5,
                    .ram = 80 << 20});
}

static const json_t *cell(const struct results *r, unsigned n, const char *paging)
{
    return results_record(r, "shootdown/vcpus:%u/paging:%s", n, paging);
}

/* Rounds: with one vCPU there is no shootdown to count, but each has the same table writes. */
static double rounds(const json_t *rec) { return rec_counter(rec, "guest_pt_writes") / 16; }

static double exits(const json_t *rec) { return rec_counter(rec, "exits") / rounds(rec); }

static double cycles(const json_t *rec)
{
    return (rec_cycles(rec, "exit") + rec_cycles(rec, "vmm") + rec_cycles(rec, "ipi")) /
           rounds(rec);
}

static bool fig10(const struct results *r, FILE *f)
{
    bool any = false;
    fputs("vcpus\tnative\tshadow\tept\tnative_exits\tshadow_exits\tept_exits\n", f);
    for (unsigned i = 0; i < ARRAY_SIZE(vcpus); i++) {
        const json_t *rec[ARRAY_SIZE(pagings)];
        for (unsigned k = 0; k < ARRAY_SIZE(pagings); k++) {
            rec[k] = cell(r, vcpus[i], pagings[k]);
            any |= rec[k] != NULL;
        }
        if (!rec[0] && !rec[1] && !rec[2])
            continue;
        fprintf(f, "%u\t%.1f\t%.1f\t%.1f\t%.2f\t%.2f\t%.2f\n", vcpus[i], cycles(rec[0]),
                cycles(rec[1]), cycles(rec[2]), exits(rec[0]), exits(rec[1]), exits(rec[2]));
    }
    return any;
}

static void facts(const struct results *r, json_t *f)
{
    for (unsigned i = 0; i < ARRAY_SIZE(vcpus); i += ARRAY_SIZE(vcpus) - 1)
        for (unsigned k = 0; k < ARRAY_SIZE(pagings); k++) {
            const json_t *rec = cell(r, vcpus[i], pagings[k]);
            char *e = strf("shootdown.exits.%s.%u", pagings[k], vcpus[i]),
                 *c = strf("shootdown.cycles.%s.%u", pagings[k], vcpus[i]);
            if (isfinite(exits(rec))) {
                fact(f, e, 0, "%.3g", exits(rec));
                fact(f, c, 0, "%.0f", cycles(rec));
            }
            free(e);
            free(c);
        }
}

static void say(const struct results *r, FILE *f)
{
    double n = cycles(cell(r, 8, "native")), s = cycles(cell(r, 8, "shadow")),
           e = cycles(cell(r, 8, "ept"));
    if (isfinite(n + s + e))
        fprintf(f,
                "a TLB shootdown of 8 pages on 8 vCPUs: %.0f exits under shadow, %.0f under ept; "
                "%.1f and "
                "%.1f times the cycles of native  [modelled]\n",
                exits(cell(r, 8, "shadow")), exits(cell(r, 8, "ept")), s / n, e / n);
}

EMBED(fig10_gp, "bench/plots/fig10.gp");
static struct figure figures[] = {
    {10, "fig10",
     "Cycles of one TLB shootdown of eight pages against the number of vCPUs, of all vCPUs "
     "together, beside "
     "each point its VM exits: under shadow paging each vCPU's INVLPGs exit too",
     "modelled", fig10_gp, fig10},
    {0},
};
REGISTER(experiment, shootdown,
         .summary = "what a TLB shootdown costs under each strategy as vCPUs are added",
         .plan = plan, .figures = figures, .facts = facts, .say = say);
