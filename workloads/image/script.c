/* script.c: "test:script": a script whose operations the VMM has (NB_CALL_OP), and who is told what it saw
 * (NB_CALL_SAW). Moving frames is the VMM's: it has done so when it hands out the operation.
 */
#include "workloads/script.h"

#include "workloads/image/sys.h"

/* A system call is dear where ring 0 is emulated, so only the arguments that this kind has. */
static bool next(void *ctx, uint64_t i, struct script_op *out)
{
    static const unsigned char nargs[] = {
#define SCRIPT_OP(name, args, help) sizeof(args) - 1,
#include "workloads/script.def"
#undef SCRIPT_OP
    };
    (void)ctx;
    if (!sys_op(i, &out->kind, &out->arg[0]))
        return false;
    unsigned n = out->kind < SCRIPT_KINDS ? nargs[out->kind] : 0;
    if (n > 1)
        sys_op_rest(1, &out->arg[1]);
    if (n > 3)
        sys_op_rest(2, &out->arg[2]);
    return true;
}

static void saw(void *ctx, enum script_tag tag, uint64_t a, uint64_t b)
{
    (void)ctx;
    sys_saw(tag, a, b);
}

static void run(struct user *u, const uint64_t *p)
{
    static const struct script_io io = {.next = next, .saw = saw};
    (void)p;
    script_run(u, &io);
}

REGISTER_AS(workload, script, "test:script", .run = run);
