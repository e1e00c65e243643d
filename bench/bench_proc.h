/* bench_proc.h: child processes: started, watched, always ended.
 *
 * Children get their own process group and a death signal, so that none outlives this program,
 * however it ends. procs_interrupt() catches SIGINT and SIGTERM; from then on proc_wait_any()
 * returns early.
 */
#ifndef NB_BENCH_PROC_H
#define NB_BENCH_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { PROC_MAX_ARGS = 128, PROC_MAX = 256 };

struct proc {
    pid_t pid;
    int pidfd, out, err; /* out, err: memory files */
    double began, deadline;
    bool timed_out;
    /* valid once it has ended */
    int code; /* exit code; 128 + signal; NB_TIMEOUT */
    double wall, user, system;
    long max_rss_kib;
};

/* Start argv[0] with stdout and stderr into memory. Dies when fork fails. */
void proc_start(struct proc *, char *const argv[], double timeout);
/* Wait for one of n children (pid 0 = unused slot). Returns its index, or -1 when interrupted or
 * none run. */
int proc_wait_any(struct proc *, size_t n);
int proc_run(struct proc *, char *const argv[],
             double timeout);                  /* start and wait; the exit code, or -1 */
char *proc_output(struct proc *, size_t *len); /* stdout, from malloc */
char *proc_errors(struct proc *);              /* first line of stderr, from malloc */
void proc_close(struct proc *);
void procs_kill_all(void); /* also runs at exit */

void procs_interrupt(void); /* install the handlers */
bool interrupted(void);

#endif
