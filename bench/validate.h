/* validate.h: what the model predicted beside what a real KVM counted, event by event.
 *
 * One guest runs on both: same seed, same memory, same tables. Two records come back, and every
 * event that a row of the table in validate.c names is compared per phase. The document is the only
 * product: the table, the separated form and the figure are printed from it.
 *
 *   {"schema": "nestbed-validate/1", "tolerance_percent": 2, ...,
 *    "runs":      [{target, paging, workload, params, backend, kernel, predicted_by, status, reason}],
 *    "rows":      [{target, paging, workload, phase, event, predicted, counted, difference,
 *                   percent, verdict}],
 *    "constants": [{target, paging, event, predicted, counted, verdict, why,
 *                   differs}],
 *    "summary":   {"equal": n, "within": n, "off": n, "unseen": n, ...},
 *    "tags":      {"predicted": "exact", "counted": "counted"}}
 *
 * Verdicts of a row:
 *   equal    the same number
 *   within   they differ by no more than 2 % of what was counted, and the event allows it
 *   off      anything else
 *   unseen   this KVM does not count the event: its number is null, and nothing is judged. What the
 *            guest counts itself, and what the model predicts, is never unseen: null there is off
 * difference = counted - predicted; percent is of what was counted, null when that is 0.
 *
 * A record is data from elsewhere: a member that is missing or no count is null here.
 */
#ifndef NB_BENCH_VALIDATE_H
#define NB_BENCH_VALIDATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define VALIDATE_SCHEMA "nestbed-validate/1"
enum { VALIDATE_PERCENT = 2 }; /* largest difference that still agrees */

/* ---- validate.c: comparing ---- */
struct seen {
    bool is; /* false: null */
    int64_t v;
};
enum verdict { VERDICT_EQUAL, VERDICT_WITHIN, VERDICT_OFF, VERDICT_UNSEEN, VERDICTS };
extern const char *const verdict_names[VERDICTS];
/* exact: nothing but equality will do. */
enum verdict validate_verdict(struct seen predicted, struct seen counted, bool exact);

/* Name of the model's strategy that predicts a backend, NULL for an unknown one. */
const char *validate_strategy(const char *backend);

/* One guest on both: who ran it, and the two records (NULL: that side printed none). */
struct pairing {
    const char *target, *paging, *workload;
    const json_t *model, *kvm;
};
/* An empty document. */
json_t *validate_new(uint64_t seed, uint64_t mem);
/* Compare a pair: append its rows, and what its boot counted. */
void validate_add(json_t *doc, const struct pairing *);
/* After the last pair: constants and summary. */
void validate_judge(json_t *doc);
/* Is nothing off, and was something compared? Needs validate_judge(). */
bool validate_passed(const json_t *doc);
/* Rows with that verdict. */
size_t validate_count(const json_t *doc, enum verdict);
/* Rows that are equal because neither side saw the event at all: agreement, but weak evidence. */
size_t validate_zeros(const json_t *doc);

/* ---- validate_print.c ---- */
void validate_print_table(const json_t *doc, bool only_different);
void validate_print_csv(const json_t *doc, const char *sep);
/* The head of the figure's TSV, and the points of a document (NULL: none); false: it has none. */
void validate_points_head(FILE *tsv);
bool validate_points(const json_t *doc, FILE *tsv);

/* ---- validate_paper.c ---- */
/* Tables of a document (NULL: none) for PAPER.md. */
void validate_print_markdown(const json_t *doc, FILE *);

#endif
