/* fuzz.c: one program under every strategy, and shrinking. */
#include "fuzz/fuzz.h"

#include <string.h>

unsigned fuzz_strategies(const struct paging **out, unsigned max)
{
    const struct reg_head *sorted[64];
    unsigned n = (unsigned)REG_SORTED(paging, sorted, ARRAY_SIZE(sorted));
    for (unsigned i = 0; i < n && i < max; i++)
        out[i] = (const struct paging *)(const void *)sorted[i];
    return n < max ? n : max;
}

void fuzz_program(const struct fuzz_config *c, uint64_t number, struct fuzz_prog *p)
{
    struct rng rng;
    rng_seed(&rng, rng_child(c->seed, number));
    program_raw(p, &rng, c->ops);
}

static bool try_machine(const struct fuzz_prog *p, const struct fuzz_machine *m,
                        struct fuzz_totals *t, struct verdict *v)
{
    raw_run(p, m, v);
    t->runs += !v->skipped;
    t->accesses += v->accesses;
    t->certain += v->certain;
    return v->failed;
}

bool fuzz_one(const struct fuzz_config *c, uint64_t number, struct fuzz_prog *p,
              struct fuzz_totals *t, struct fuzz_failure *f)
{
    const unsigned nv = raw_variants();
    t->programs++;
    for (unsigned s = 0; s < c->nonly; s++)
        for (unsigned k = 0; k < (c->every_machine ? nv : 1); k++) {
            f->at = (struct fuzz_machine){c->only[s], (unsigned)((number + s + k) % nv)};
            if (!try_machine(p, &f->at, t, &f->verdict))
                continue;
            f->number = number;
            f->program = *p;
            raw_machine_name(&f->at, f->machine, sizeof f->machine);
            return true;
        }
    return false;
}

/* ---- shrinking ---- */

/* Does p without operations [from, to) still fail? Then it is without them. */
static bool without(struct fuzz_failure *f, unsigned from, unsigned to)
{
    struct verdict v;
    struct fuzz_prog *p = &f->program, less = {.kind = p->kind, .levels = p->levels};
    for (unsigned i = 0; i < p->n; i++)
        if (i < from || i >= to)
            program_add(&less, p->op[i]);
    raw_run(&less, &f->at, &v);
    if (!v.failed) {
        program_free(&less);
        return false;
    }
    program_free(p);
    *p = less;
    f->verdict = v;
    return true;
}

void fuzz_shrink(struct fuzz_failure *f)
{
    if (f->verdict.op < f->program.n) /* what follows the failure has no part in it */
        without(f, f->verdict.op + 1, f->program.n);
    for (unsigned chunk = f->program.n / 2; chunk; chunk /= 2)
        for (bool again = true; again;) {
            again = false;
            for (unsigned at = 0; at < f->program.n;)
                if (without(f, at, at + chunk < f->program.n ? at + chunk : f->program.n))
                    again = true;
                else
                    at += chunk;
        }
}
