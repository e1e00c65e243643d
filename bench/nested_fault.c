/* nested_fault.c: the machine of nested_fault.h. */
#include "bench/nested_fault.h"

#include <assert.h>
#include <stdbool.h>

enum world { L2, L2_KERNEL, L1, L0 };

/* Entries on the path to the page: the first of a table that is missing, counted from its root. */
struct tables {
    unsigned guest; /* L2's own, gva to L2's memory */
    unsigned l1;    /* L1's for L2: a shadow table (SPT, PVM), or its EPT */
    unsigned l0;    /* L0's shadow of L1's EPT (EPT on EPT) */
};

struct machine {
    enum nested_kind kind;
    unsigned levels;
    enum world running;
    struct tables has;
    struct nested_counts n;
};

static bool hardware(const struct machine *m) { return m->kind != PVM_ON_EPT; }

/* ---- who runs ---- */

static void run(struct machine *m, enum world w)
{
    assert(w != m->running);
    m->n.switches++;
    m->n.to_l0 += w == L0;
    m->running = w;
}

/* L2 stops and its hypervisor acts (rule 3). */
static void exit_to_l1(struct machine *m)
{
    if (hardware(m))
        run(m, L0);
    run(m, L1);
}

static void enter(struct machine *m, enum world l2)
{
    if (hardware(m))
        run(m, L0);
    run(m, l2);
}

/* ---- tables ---- */

/* L1 fills what its own table for L2 lacks (rules 2 and 3: L0 shadows an EPT, no shadow table). */
static void l1_fill(struct machine *m)
{
    while (m->has.l1 < m->levels) {
        if (m->kind == EPT_ON_EPT) {
            run(m, L0);
            run(m, L1);
        }
        m->has.l1++;
    }
}

/* L2's kernel maps the page (rules 1 and 2). */
static void kernel_maps(struct machine *m)
{
    while (m->has.guest < m->levels) {
        if (m->kind != EPT_ON_EPT) {
            exit_to_l1(m);
            enter(m, L2_KERNEL);
        }
        m->has.guest++;
    }
}

/* ---- a fault ---- */

/* The page fault is L2's own: its kernel runs, maps, and returns (rules 4 and 5). */
static void guest_fault(struct machine *m)
{
    if (m->kind == EPT_ON_EPT) { /* within L2: rings change, worlds do not */
        kernel_maps(m);
        return;
    }
    exit_to_l1(m);
    enter(m, L2_KERNEL);
    kernel_maps(m);
    if (m->kind == PVM_ON_EPT) {
        exit_to_l1(m);
        l1_fill(m);
        enter(m, L2);
    } else {
        m->running = L2; /* IRET */
    }
}

/* A layer below L2's own table is at fault. */
static void hidden_fault(struct machine *m)
{
    if (m->kind == EPT_ON_EPT && m->has.l1 == m->levels) { /* L0's copy of it is behind */
        run(m, L0);
        m->has.l0 = m->levels;
        run(m, L2);
        return;
    }
    exit_to_l1(m);
    l1_fill(m);
    enter(m, L2);
}

/* Does the hardware find a translation? */
static bool translated(const struct machine *m)
{
    unsigned below = m->kind == EPT_ON_EPT ? m->has.l0 : m->has.l1;
    return m->has.guest == m->levels && below == m->levels;
}

struct nested_counts nested_fault(enum nested_kind kind, unsigned levels, unsigned present)
{
    struct machine m = {kind, levels, L2, {present, present, present}, {0}};
    assert(levels <= NESTED_MAX_LEVELS && present < levels);
    while (!translated(&m)) {
        m.n.faults++;
        if (m.has.guest < levels)
            guest_fault(&m);
        else
            hidden_fault(&m);
    }
    assert(m.running == L2);
    return m.n;
}
