/* exits.h: what one event costs a guest: the probes of `nestbed exits`.
 *
 * A probe is a program of the guest image (guest/image/probe.h) in a VM of its own. Each batch is
 * timed with and without its events; a sample is the difference by the number of events. Statistics
 * of KVM are cut at the same marks, so that they say what an event really was: how many exits,
 * faults, emulated instructions.
 *
 * Results are one JSON document, {"schema": "nestbed-exits/1", "engine", "batches", "seconds",
 * "machines": []}; seconds: of one event when one probe ran on the host, else null. A machine is one
 * KVM in one mode:
 *
 *   "name"           "host", "labvm npt=1", "labvm npt=0"
 *   "backend", "paging", "emulates_ring0", "kernel"
 *   "unit"           "ns" of time, or "instructions" of an emulated machine
 *   "probes"         one object per probe:
 *     "name", "event", "ring", "events" (of a batch), "batches"
 *     "status"       "ok", "skipped" (this host cannot), "failed"; and "reason", or null
 *     "cost"         {"median", "lo", "hi", "n"}: of one event, in the unit; null: did not run
 *     "empty"        median of a batch without events, in the unit
 *     "kvm"          statistics over all batches, less those of the empty ones; null: not counted
 *     "user_exits"   returns to the VMM, likewise
 *     "guest"        {"faults", "pt_writes"}: what the guest kernel counted, likewise
 */
#ifndef NB_BENCH_EXITS_H
#define NB_BENCH_EXITS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/stats.h"
#include "memmgr/host.h"

#define EXITS_SCHEMA "nestbed-exits/1"

enum { EXITS_BATCHES = 15, EXITS_BATCHES_MAX = 200, EXITS_EVENTS_MAX = 4096 };

/* One kind of event. */
struct exits_probe {
    const char *name;  /* of the program, without "probe:" */
    const char *event; /* in words */
    unsigned ring;     /* the privilege level it happens in */
    unsigned events;   /* of a batch, by default */
    unsigned most;     /* most events of a batch */
    enum page_mode host_page;
    uint64_t fresh_bytes; /* host memory that each event is the first to touch, or 0 */
};
extern const struct exits_probe exits_probes[];
extern const unsigned exits_nprobes;
const struct exits_probe *exits_find(const char *name); /* or NULL */

struct exits_config {
    const char *only; /* name of the one probe to run, or NULL: all */
    unsigned batches; /* measured; one more is a warm-up */
    unsigned events;  /* of a batch; 0: each probe's own */
    double timeout;   /* seconds for one probe; 0: none */
    void (*progress)(void *ctx, unsigned done, unsigned total, const char *what); /* or NULL */
    void *ctx;
};

/* Events of a batch, and bytes of guest memory, of a probe so configured. */
unsigned exits_events(const struct exits_config *, const struct exits_probe *);
uint64_t exits_mem(const struct exits_config *, const struct exits_probe *);

/* The host's KVM as a machine; *code NB_OK. NULL: *code and one sentence in err. */
json_t *exits_host(const struct exits_config *, int *code, char *err, size_t errlen);
/* The two modes of a labvm, one boot: an array of two machines, nested paging first. NULL likewise. */
json_t *exits_labvm(const struct exits_config *, int *code, char *err, size_t errlen);
/* The document. Takes the array of machines. */
json_t *exits_document(const char *engine, const struct exits_config *, json_t *machines);

/* Cost of an event on a machine; false: not measured there. Everything may be NULL. */
bool exits_cost(const json_t *machine, const char *probe, struct interval *out);
/* A KVM statistic of a probe per event; NAN: not counted there. */
double exits_stat(const json_t *machine, const char *probe, const char *stat);

void exits_print_table(const json_t *document);
void exits_print_csv(const json_t *document, const char *separator);
/* The document is what exits_document() makes; NULL or a sentence that says what is wrong. */
const char *exits_check(const json_t *document);

#endif
