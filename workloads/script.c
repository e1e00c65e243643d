/* script.c: run a script. Freestanding: the same source on the model and in the image. */
#include "workloads/script.h"

struct script {
    struct user *u;
    const struct script_io *io;
    int pid[SCRIPT_MAX_PROCS]; /* that live, in the order they were made */
    unsigned n;
};

static void saw(struct script *s, enum script_tag tag, uint64_t a, uint64_t b)
{
    s->io->saw(s->io->ctx, tag, a, b);
}

static void result(struct script *s, int r, uint64_t more)
{
    saw(s, SAW_RESULT, (uint64_t)(int64_t)r, r == GK_OK ? more : 0);
}

/* The half that is the kernel's is another address on each engine. */
static gva_t user_address(uint64_t a) { return a & (GK_USER_TOP(4) - 1); }

static void map(struct script *s, const uint64_t *arg)
{
    gva_t at = 0;
    int r = u_mmap(s->u, user_address(arg[0]), arg[1], (unsigned)arg[3], (unsigned)arg[2], &at);
    result(s, r, at);
}

static void make_child(struct script *s)
{
    int child = 0;
    if (s->n == SCRIPT_MAX_PROCS)
        return;
    int r = u_fork(s->u, &child);
    result(s, r, (uint64_t)child);
    if (r == GK_OK)
        s->pid[s->n++] = child;
}

/* The first process cannot end; one that ends itself goes on in the first. */
static void end_process(struct script *s, uint64_t which)
{
    unsigned k = (unsigned)(which % s->n);
    int r = u_exit(s->u, s->pid[k]);
    result(s, r, 0);
    if (r != GK_OK)
        return;
    s->n--;
    for (; k < s->n; k++)
        s->pid[k] = s->pid[k + 1];
}

static void change(struct script *s, uint64_t which)
{
    unsigned k = (unsigned)(which % s->n);
    int r = u_switch(s->u, s->pid[k]);
    result(s, r, 0);
}

static void tell(struct script *s, gva_t a, bool write)
{
    if (s->io->access)
        s->io->access(s->io->ctx, a, write);
}

static void load(struct script *s, gva_t a)
{
    uint64_t value = 0;
    unsigned error = 0;
    tell(s, a, false);
    if (u_try_load(s->u, a, &value, &error))
        saw(s, SAW_VALUE, a, value);
    else
        saw(s, SAW_FAULT, a, error);
}

static void store(struct script *s, gva_t a, uint64_t value)
{
    unsigned error = 0;
    tell(s, a, true);
    if (u_try_store(s->u, a, value, &error))
        saw(s, SAW_VALUE, a, value);
    else
        saw(s, SAW_FAULT, a, error);
}

static gva_t place(const uint64_t *arg, uint64_t i)
{
    return user_address(arg[0] + i * arg[2]) & ~7ull;
}

static void sweep(struct script *s, const uint64_t *arg)
{
    uint64_t n = arg[1] < SCRIPT_PLACES_MAX ? arg[1] : SCRIPT_PLACES_MAX;
    for (uint64_t i = 0; i < n; i++)
        store(s, place(arg, i), i + 1);
    for (uint64_t i = 0; i < n; i++)
        load(s, place(arg, i));
}

static void step(struct script *s, const struct script_op *op)
{
    const uint64_t *arg = op->arg;
    switch (op->kind) {
    case SCRIPT_map:
        map(s, arg);
        break;
    case SCRIPT_unmap:
        result(s, u_munmap(s->u, user_address(arg[0]), arg[1]), 0);
        break;
    case SCRIPT_protect:
        result(s, u_mprotect(s->u, user_address(arg[0]), arg[1], (unsigned)arg[2]), 0);
        break;
    case SCRIPT_fork:
        make_child(s);
        break;
    case SCRIPT_exit:
        end_process(s, arg[0]);
        break;
    case SCRIPT_switch:
        change(s, arg[0]);
        break;
    case SCRIPT_cpu:
        u_cpu(s->u, (unsigned)arg[0]);
        break;
    case SCRIPT_load:
        load(s, user_address(arg[0]) & ~7ull);
        break;
    case SCRIPT_store:
        store(s, user_address(arg[0]) & ~7ull, arg[1]);
        break;
    case SCRIPT_sweep:
        sweep(s, arg);
        break;
    case SCRIPT_move:
        if (s->io->move)
            s->io->move(s->io->ctx, arg[0], arg[1]);
        break;
    default:
        break;
    }
}

void script_run(struct user *u, const struct script_io *io)
{
    struct script s = {.u = u, .io = io, .pid = {1}, .n = 1};
    struct script_op op;
    for (uint64_t i = 0; io->next(io->ctx, i, &op); i++)
        step(&s, &op);
}
