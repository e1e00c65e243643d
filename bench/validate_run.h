/* validate_run.h: which guests a validation runs, and running them.
 *
 * A guest is a workload with its parameters. Each is run once on each machine that is there (labvm
 * in both modes, one boot for all; the host's KVM in the mode it has) and once on the model for
 * each strategy that a machine's backend asks for. What cannot run here is skipped with one line.
 */
#ifndef NB_BENCH_VALIDATE_RUN_H
#define NB_BENCH_VALIDATE_RUN_H

#include <jansson.h>

#include "workloads/workload.h"

enum { VALIDATE_MAX_GUESTS = 32 };
struct guest {
    const struct workload *workload;
    uint64_t params[MAX_PARAMS];
};

struct validation {
    struct guest guest[VALIDATE_MAX_GUESTS];
    unsigned nguests;
    uint64_t seed, mem; /* mem: bytes of every guest */
    unsigned flush_ceiling, levels;
    const char *guest_page; /* "4k", "2m", "1g" or "thp"; the host's pages are 4 KiB */
    bool labvm, host;       /* machines asked for */
    const char *program;    /* nestbed to run on the host; NULL: this one */
    double timeout;         /* seconds for one run on the host; ten times that for labvm's plan */
};

/* ---- validate_plan.c ---- */
/* Every workload with small parameters; quick: those that change their tables most. */
void validation_defaults(struct validation *, bool quick);
/* One workload of that table, or its own defaults when it is not in it. False: too many. */
bool validation_add(struct validation *, const struct workload *);
/* Arguments of `nestbed run` after the program's name, ending in NULL; paging NULL: the engine's
 * choice. Freed with words_free(). */
char **validation_words(const struct validation *, const struct guest *, const char *engine,
                        const char *paging);
void words_free(char **);

/* ---- validate_run.c ---- */
/* Run all and compare: fills the document (validate_new()) up to its summary. NB_OK, whatever was
 * found; NB_SKIP: no machine can run here; NB_SIGINT. */
int validation_run(const struct validation *, json_t *doc);

#endif
