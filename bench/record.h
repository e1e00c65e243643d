/* record.h: what one run reports: a JSON record, and its two other renderings.
 *
 * record_new() is the only writer. The table and the separated form are printed from the record, so
 * the three can never disagree. Order: what was asked, what was counted (byte-identical for one
 * seed), what was modelled from the counts, what was measured, where.
 *
 * A real engine (struct engine.real) has no CPU preset and no modelled cycles: cpu, cycles and
 * derived are null. It adds backend, kvm_kernel, emulates_ring0, virtual_time, user_exits, and "kvm": every
 * statistic of the hypervisor, of the run and of each phase (a histogram is an array); its counts
 * carry the tag "counted". "ns" of a phase is measured; on engine labvm it is null and
 * "instructions" holds what the emulated machine ran in that time.
 */
#ifndef NB_BENCH_RECORD_H
#define NB_BENCH_RECORD_H

#include <jansson.h>

#include "bench/options.h"

#define RECORD_SCHEMA "nestbed-record/1"
/* How every JSON text of the project is written. */
#define RECORD_JSON_FLAGS (JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15))

/* Counters that "per_vcpu" holds of each vCPU of several, over the whole run. */
enum { RECORD_PER_VCPU = 11 };
extern const enum counter_id record_per_vcpu[RECORD_PER_VCPU];

/* The record of a run; `trace`: description of a replayed trace (taken over), or NULL. Free with
 * json_decref. */
json_t *record_new(const struct options *, const struct result *, json_t *trace);

/* An unsigned count: an integer, or a decimal string from 2^63 on, where jansson's integers end. */
json_t *json_count(uint64_t v);
/* "0x2a" */
json_t *json_hex(uint64_t v);
/* Small description of this build and machine; nothing that names its user. */
json_t *record_env(void);

/* On stdout. */
void record_print_json(const json_t *record);
void record_print_csv(const json_t *record, const char *sep);
void record_print_table(const json_t *record);
void record_print(const json_t *record, const struct options *);

#endif
