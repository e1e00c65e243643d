/* replay.h: a trace as a guest program.
 *
 *   struct replay *r;
 *   code = replay_open(path, format, &r, err, sizeof err);     path from trace_resolve()
 *   engine->run(&config, &(struct program){replay_run, r}, &res);
 *   if (replay_error(r))                    the trace itself is bad: print no record,
 *       die(replay_error_code(r), "%s", replay_error(r));      leave with this code (65)
 *   ... print res, replay_stats(r) ...
 *   replay_close(r);
 *
 * A trace found to be damaged halfway ends the run through u_abort(): the result then counts
 * a part of the trace and must not be shown.
 *
 * A replay runs once: traces may come from a pipe.
 */
#ifndef NB_WORKLOADS_REPLAY_H
#define NB_WORKLOADS_REPLAY_H

#include "vmm/user.h"
#include "workloads/trace.h"

struct replay;

struct replay_stats {
    uint64_t accesses, stores;    /* as recorded */
    uint64_t crossings;           /* accesses across a page boundary: two accesses each */
    uint64_t events[TRACE_KINDS]; /* by kind */
    uint64_t implicit_maps;       /* regions mapped because something touched them unannounced */
    uint64_t implicit_bytes;
    uint64_t implicit_rights;    /* pages given rights the trace never announced */
    uint64_t refused;            /* map, unmap, protect, discard the guest kernel refused */
    uint64_t processes, threads; /* ever alive; threads without the first of each process */
};

/* 0, or an exit code with a sentence in err. */
int replay_open(const char *path, const char *format, struct replay **out, char *err, size_t n);
void replay_run(struct user *, void *replay);    /* struct program's run */
const char *replay_error(const struct replay *); /* NULL: the trace was sound to its end */
int replay_error_code(const struct replay *);
const struct replay_stats *replay_stats(const struct replay *);
const struct trace *replay_trace(const struct replay *); /* for trace_head(), trace_format_of() */
void replay_close(struct replay *);

#endif
