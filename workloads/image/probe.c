/* probe.c: programs that measure single events, for `nestbed exits`. */
#include "workloads/image/sys.h"

static void run_null(struct user *u, const uint64_t *p)
{
    u_phase(u, "setup");
    u_phase(u, "work");
    sys_mark(sys_probe(0, 0, p[0]));
}

REGISTER_AS(workload, probe_null, "probe:null", .summary = "nothing: the cost of a probe itself",
            .run = run_null);
