/* fuzz.c: one program on every machine, and shrinking. */
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
    if (c->kind == FUZZ_RAW || (c->kind == FUZZ_BOTH && number % 2 == 0))
        program_raw(p, &rng, c->ops);
    else
        program_kernel(p, &rng, c->ops);
    if (c->four_levels)
        p->levels = 4;
}

uint64_t fuzz_of_bytes(const unsigned char *byte, size_t n, struct fuzz_prog *p)
{
    uint64_t number = n ? byte[n - 1] : 0;
    if (number % 2)
        program_kernel_of_bytes(p, byte, n - 1);
    else
        program_of_bytes(p, byte, n);
    return number;
}

/* ---- one program ---- */

/* Histories to compare with, of guest kernels without and with direct segments; made when needed. */
struct references {
    bool made[2];
    struct history history[2];
    struct verdict verdict[2];
};

static void forget(struct references *refs)
{
    for (unsigned i = 0; i < ARRAY_SIZE(refs->made); i++)
        if (refs->made[i])
            history_free(&refs->history[i]);
}

static void run_kernel(const struct fuzz_prog *p, const struct fuzz_machine *m,
                       struct references *refs, struct verdict *v)
{
    struct history h;
    unsigned k = m->paging && m->paging->guest_wants.segment_bytes;
    if (!refs->made[k])
        kernel_reference(p, m->paging, &refs->history[k], &refs->verdict[k]);
    refs->made[k] = true;
    if (refs->verdict[k].failed) { /* on any machine of the model */
        *v = refs->verdict[k];
        return;
    }
    *v = (struct verdict){.failed = false};
    if (m->paging)
        kernel_run(p, m, &h, v);
    else {
        v->skipped = !kernel_kvm_run(p, &h, v->text, sizeof v->text);
        v->accesses = v->skipped ? 0 : refs->verdict[k].accesses;
    }
    if (!v->failed && !v->skipped)
        history_agree(&h, &refs->history[k], p, v);
    history_free(&h);
}

static void run(const struct fuzz_prog *p, const struct fuzz_machine *m, struct references *refs,
                struct verdict *v)
{
    if (p->kind == PROGRAM_RAW)
        raw_run(p, m, v);
    else
        run_kernel(p, m, refs, v);
}

void fuzz_try(const struct fuzz_prog *p, const struct fuzz_machine *m, struct verdict *v)
{
    struct references refs = {.made = {false}};
    run(p, m, &refs, v);
    forget(&refs);
}

static bool try_machine(const struct fuzz_prog *p, struct references *refs, struct fuzz_totals *t,
                        struct fuzz_failure *f)
{
    const struct verdict *v = &f->verdict;
    run(p, &f->at, refs, &f->verdict);
    t->runs += !v->skipped;
    t->early += v->early;
    t->accesses += v->accesses;
    t->certain += v->certain;
    return v->failed;
}

static bool fails_somewhere(const struct fuzz_config *c, uint64_t number, const struct fuzz_prog *p,
                            struct references *refs, struct fuzz_totals *t, struct fuzz_failure *f)
{
    const unsigned nv = fuzz_variants();
    f->at = (struct fuzz_machine){NULL, 0};
    if (c->kvm)
        return try_machine(p, refs, t, f);
    for (unsigned s = 0; s < c->nonly; s++)
        for (unsigned k = 0; k < (c->every_machine ? nv : 1); k++) {
            f->at = (struct fuzz_machine){c->only[s], (unsigned)((number / 2 + s + k) % nv)};
            if (try_machine(p, refs, t, f))
                return true;
        }
    return false;
}

bool fuzz_one(const struct fuzz_config *c, uint64_t number, struct fuzz_prog *p,
              struct fuzz_totals *t, struct fuzz_failure *f)
{
    struct references refs = {.made = {false}};
    t->programs++;
    bool failed = fails_somewhere(c, number, p, &refs, t, f);
    forget(&refs);
    if (!failed)
        return false;
    f->number = number;
    f->program = *p;
    fuzz_machine_name(&f->at, f->machine, sizeof f->machine);
    return true;
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
    fuzz_try(&less, &f->at, &v);
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
