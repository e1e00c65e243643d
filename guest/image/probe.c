/* probe.c: what probes measure in ring 0. */
#include "guest/image/image.h"

uint64_t probe_kernel(struct gk *g, unsigned id, uint64_t n, uint64_t addr)
{
    (void)g, (void)id, (void)n;
    return addr;
}
