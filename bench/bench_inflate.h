/* bench_inflate.h: the sides of experiment `inflate`: a balloon's device, a discard for each PFN, and the kernel alone. */
#ifndef NB_BENCH_INFLATE_H
#define NB_BENCH_INFLATE_H

#include "memmgr/backing.h"

enum inflate_loop {
    INFLATE_DEVICE, /* our device */
    INFLATE_PAGE,   /* a discard for each PFN */
    INFLATE_KERNEL, /* the one discard that a notification of consecutive pages comes down to, nothing else */
};

enum inflate_order {
    INFLATE_UP,        /* consecutive pages, ascending */
    INFLATE_DOWN,      /* and descending, as an allocator that splits large blocks gives them */
    INFLATE_SCATTERED, /* every second page: nothing can be merged */
};

struct inflate_spec {
    enum inflate_loop loop;
    enum inflate_order order;
    enum backing_kind kind;
    enum page_mode page; /* of the host: 4 KiB, or transparent huge pages */
    uint64_t pages;      /* to inflate; all of them resident before */
    uint32_t pfns;       /* of a buffer: Linux sends 256 */
    uint32_t chain;      /* buffers of a notification: Linux sends 1 */
};

struct inflate_result {
    double seconds;              /* of the thread's own time, in notifications alone */
    uint64_t discards, resident; /* calls; bytes of those pages still there afterwards */
};

/* NB_OK, or an exit code with one sentence in err. */
int inflate_run(const struct inflate_spec *, struct inflate_result *, char *err, size_t errlen);

int cmd_bench_inflate(int argc, char **argv); /* nestbed bench inflate */

#endif
