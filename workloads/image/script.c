/* script.c: "test:script": a script whose operations the VMM has (NB_CALL_OP), and who is told what it saw
 * (NB_CALL_SAW). Moving frames is the VMM's: it has done so when it hands out the operation.
 */
#include "workloads/script.h"

#include "workloads/image/sys.h"

static bool next(void *ctx, uint64_t i, struct script_op *out)
{
    (void)ctx;
    return sys_op(i, &out->kind, out->arg);
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
