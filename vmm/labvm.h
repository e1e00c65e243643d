/* labvm.h: a small emulated machine whose Linux KVM can be loaded in both paging modes.
 *
 * QEMU (TCG, no privileges, no hardware) boots Debian's cloud kernel with an initramfs that holds the
 * static nestbed binary as its init. Init reads a plan, loads kvm_amd with npt=1 or npt=0 as each
 * job asks, runs the job's command and writes what it printed to a second serial port. Times inside
 * are virtual: with -icount one guest instruction is one nanosecond.
 *
 * One boot serves a whole plan. Nothing outlives a call: QEMU is killed when its caller ends. SIGINT,
 * SIGTERM and SIGHUP first end what a call started, the fetch of the kernel included, and then take
 * their course; a caller that handles them gets NB_SIGINT.
 */
#ifndef NB_VMM_LABVM_H
#define NB_VMM_LABVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct labvm_job {
    const char *paging; /* "ept" (npt=1) or "shadow" (npt=0) */
    char **argv;        /* nestbed's arguments without the program: "run", "--engine", "kvm", ... */
    /* filled in: */
    bool done;    /* it ran to its end; else `err` of labvm_run says why it did not */
    int status;   /* its exit code */
    char *out;    /* its stdout, NUL-terminated; freed by labvm_free() */
    char *errors; /* its stderr */
};

struct labvm_config {
    uint64_t mem;   /* of the machine; 0: as large as the largest guest of the plan needs */
    unsigned nodes; /* NUMA nodes, 0 or 1: one */
    bool icount;    /* count instructions (slower); off: faster, times meaningless */
    double timeout; /* seconds for the whole plan; 0: none */
    bool verbose;   /* show the machine's console on stderr */
    void (*progress)(void *ctx, unsigned job, const char *what); /* or NULL */
    void *ctx;
};

/* What is missing for labvm here, as one sentence with the apt-get line, or false: nothing is. Does
 * not touch the network. */
bool labvm_missing(char *why, size_t n);
/* Fetch and unpack the kernel package into the cache if it is not there, or damaged. Says on stdout
 * what the machine is made of, unless quiet. NB_OK, or NB_NODEVICE with the reason: at most 1,000
 * bytes, as it quotes apt. */
int labvm_prepare(bool quiet, char *err, size_t errlen);
/* Run the jobs, in order. NB_OK: every job is done; NB_NODEVICE: cannot run here; NB_TIMEOUT;
 * NB_FAIL: the machine died (err holds the end of its console). */
int labvm_run(const struct labvm_config *, struct labvm_job *, size_t njobs, char *err,
              size_t errlen);
void labvm_free(struct labvm_job *, size_t njobs);
/* An interactive shell in the machine, kvm_amd loaded as `paging` says. A standard input that is no
 * terminal is read to its end before the boot, at most 16 MiB. Returns its exit code. */
int labvm_shell(const struct labvm_config *, const char *paging, char *err, size_t errlen);
/* Is this process 1 of a labvm? Then main() does labvm_init_main() and nothing else. */
bool labvm_is_init(void);
int labvm_init_main(void);

#endif
