/* trace_record.h: recording a program: run it under a tool that sees its accesses, write a trace.
 */
#ifndef NB_WORKLOADS_TRACE_RECORD_H
#define NB_WORKLOADS_TRACE_RECORD_H

#include "workloads/trace.h"

struct record_options {
    const char *out; /* trace to write */
    const char *via; /* "qemu" or "lackey" */
    char **command;  /* NULL-terminated argv */
    uint64_t max;    /* accesses; UINT64_MAX: all */
    int level;       /* zstd's */
};

/* Run and record. Returns an exit code, after having said on stderr what went wrong. *head (strings
 * excepted) receives what was written. */
int trace_record(const struct record_options *, struct trace_header *head);

/* Programs that recorded processes became by exec, without being recorded: how many, and the first
 * names among them. */
struct trace_execs {
    uint64_t n;
    unsigned names;
    bool more; /* not all names are here */
    char name[5][33];
};

/* Turn the part files of the QEMU plugin (qemu_plugin/raw.h) in `dir` into events of `w`, at most
 * `max` accesses. A child's records follow its fork at once; then its parent goes on. Ends early
 * when trace_stop is set. 0, or an exit code with a sentence in err. */
int trace_merge(const char *dir, struct trace_writer *w, uint64_t max, struct trace_execs *,
                char *err, size_t n);

#endif
