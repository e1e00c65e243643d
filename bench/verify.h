/* verify.h: published results as claims that the model checks (`nestbed verify`).
 *
 * A claim is one REGISTER(claim, ...) in a file of bench/claims/. Its check() runs the model and
 * states what must be true of it, point by point:
 *
 *     static void nested_walk(struct check *c)
 *     {
 *         claim_equal(c, 24, check_walk(c, "--paging ept")->refs, "4 KiB on 4 KiB");
 *     }
 *     REGISTER_AS(claim, v1, "V1", .summary = "a nested walk reads 24 entries", .source = "...",
 *                 .kind = CLAIM_EXACT, .check = nested_walk);
 *
 * Rules:
 *  - What is expected comes from the publication or from its formula, what we got from the model's
 *    walks, counters or cycles. `basis` says so where that is not all: BASIS_STAND_IN when a
 *    strategy of ours stands for the published mechanism, BASIS_EVENTS when the model is one of
 *    events alone (nested_fault.h).
 *  - Exact claims are equalities. Shapes are inequalities, written down before they were run.
 *  - Nothing is tuned. A claim that ours is known not to meet says why in `disagrees`: its verdict
 *    is then "disagrees", and "stale" (which fails) on the day that it does hold.
 *  - What cannot be checked has a reason and the verdict null, never "holds".
 *
 * The order of claims is that of their names with numbers read as numbers.
 */
#ifndef NB_BENCH_VERIFY_H
#define NB_BENCH_VERIFY_H

#include <jansson.h>
#include <stdio.h>

#include "base/registry.h"
#include "vmm/engine.h"
#include "vmm/explain.h"

#define VERIFY_SCHEMA "nestbed-verify/1"

struct check;

enum claim_kind { CLAIM_EXACT, CLAIM_SHAPE };
enum claim_basis { BASIS_MODEL, BASIS_STAND_IN, BASIS_EVENTS };
enum { CLAIM_NEEDS = 4 };

struct claim {
    const char *name;    /* number in the list of published results, and a letter: V6a */
    const char *summary; /* what is claimed, as published */
    const char *source;  /* who, where; how well we know it (PAPER.md): [F] [A] [2] [M] */
    enum claim_kind kind;
    enum claim_basis basis;
    void (*check)(struct check *);
    const char *needs[CLAIM_NEEDS]; /* paging strategies it runs; one that is absent: not checked */
    const char *note;               /* how it was made checkable; what it leaves out; may be NULL */
    const char *disagrees;          /* why ours is known not to meet it; NULL: it must */
    const char *unchecked;          /* why it cannot be checked; check is then NULL */
};

REGISTRY(claim);

/* ---- for claims: running the model ---- */

/* `nestbed run WORDS` on engine model; kept, so that claims share runs. NULL once the claim has
 * failed: the run did not end well, and the claim says so. */
const struct result *check_run(struct check *, const char *words);
/* The same, not kept, through a function that may prepare the machine before it calls
 * check_program_run(). The caller frees *cpu. */
const struct result *check_program(struct check *, const char *words,
                                   void (*run)(struct user *, void *arg), void *arg,
                                   const struct cpu **cpu);
/* The program that WORDS name, inside a program of check_program(). */
void check_program_run(struct user *);
/* Note among the claim's commands `nestbed VERB WORDS`: a result of it that the claim kept itself. */
void check_ran(struct check *, const char *verb, const char *words);
/* `nestbed walk WORDS`; a walk of nothing when that fails. */
const struct walk_report *check_walk(struct check *, const char *words);

/* Counters of a run's work phase, or of the whole run when it has none; modelled cycles of them. */
const struct counters *work_counters(const struct result *);
/* A counter of the work phase by name; the claim is broken when there is none. */
uint64_t work_counter(struct check *, const struct result *, const char *name);
struct cycles work_cycles(struct check *, const char *words);
double work_total(struct check *, const char *words); /* their sum; NAN when the run failed */

/* ---- for claims: points ---- */
#define CLAIM_FORMAT(n) __attribute__((format(printf, n, (n) + 1)))
void claim_equal(struct check *, uint64_t expected, uint64_t got, const char *what, ...)
    CLAIM_FORMAT(4);
/* got < limit; got > limit. A NAN satisfies neither. */
void claim_below(struct check *, double limit, double got, const char *what, ...) CLAIM_FORMAT(4);
void claim_above(struct check *, double limit, double got, const char *what, ...) CLAIM_FORMAT(4);
void claim_within(struct check *, double low, double high, double got, const char *what, ...)
    CLAIM_FORMAT(5);
/* A published size beside ours, for the reader: it decides nothing. */
void claim_beside(struct check *, double published, double got, const char *what, ...)
    CLAIM_FORMAT(4);
/* `same` of `of` cases are equal; `first` describes one that is not. All must be. */
void claim_cases(struct check *, unsigned same, unsigned of, const char *first, const char *what,
                 ...) CLAIM_FORMAT(5);
/* The claim cannot be decided: a run failed. It then does not hold. */
void claim_broken(struct check *, const char *why, ...) CLAIM_FORMAT(2);

/* ---- for the command ---- */
/* Claims that a filter picks: "V1" is V1, V1a, V1b, not V12. True when name is one of them. */
bool claim_matches(const char *name, const char *filter);
/* All claims in order; returns their number. */
size_t claims_sorted(const struct claim **out, size_t max);
/* Check one: its JSON object. */
json_t *claim_check(const struct claim *);
/* {"schema", "claims", "summary"} of claim objects (taken over). */
json_t *verify_document(json_t *claims);
/* Does every claim that must hold do so? */
bool verify_passed(const json_t *doc);

void verify_print_table(const json_t *doc, bool points);
void verify_print_csv(const json_t *doc, const char *separator);
void verify_print_markdown(const json_t *doc, FILE *);

/* ---- verify_run.c ---- */
void verify_forget_runs(void); /* free what check_run() kept */

#endif
