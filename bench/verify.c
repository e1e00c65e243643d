/* verify.c: checking one claim, and the document of all of them.
 *
 * A check collects points. Each is one quantity: what was expected of it, as text for people and
 * as numbers for the verdict, and what we got. The verdict of a claim follows from its points:
 *
 *   holds      every judged point does
 *   disagrees  one does not, and the claim says why it is known not to
 *   fails      one does not, or a run of it failed
 *   stale      all hold although the claim says that they do not
 *   null       not checked: the claim's reason
 *
 * "fails" and "stale" fail the command. A claim without a judged point asserts nothing and fails.
 */
#include "bench/verify.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "bench/bench_util.h"
#include "bench/verify_run.h"
#include "shadow_vs_ept/paging.h"

static const char *const kind_names[] = {"exact", "shape"};
static const char *const basis_names[] = {"model", "stand-in", "events"};

/* ---- points ---- */

__attribute__((format(printf, 2, 0))) static void add_point(struct check *c, const char *what,
                                                            va_list ap, char *expected, json_t *got,
                                                            const bool *holds)
{
    char *text = vstrf(what, ap);
    json_array_append_new(c->points,
                          json_pack("{ss ss so so}", "what", text, "expected", expected, "got", got,
                                    "holds", holds ? json_boolean(*holds) : json_null()));
    c->judged += holds != NULL;
    c->broken |= holds && !*holds;
    free(text);
    free(expected);
}

/* A bound as people read it; from malloc. */
static char *bound(const char *sign, double v)
{
    bool whole = v == floor(v) && fabs(v) < 1e15;
    return whole ? strf("%s%.0f", sign, v) : strf("%s%.4g", sign, v);
}

/* Not measured is null: jansson has no NAN. */
static json_t *real(double v) { return isfinite(v) ? json_real(v) : json_null(); }

void claim_equal(struct check *c, uint64_t expected, uint64_t got, const char *what, ...)
{
    va_list ap;
    bool holds = expected == got;
    va_start(ap, what);
    add_point(c, what, ap, strf("%" PRIu64, expected), json_integer((json_int_t)got), &holds);
    va_end(ap);
}

void claim_below(struct check *c, double limit, double got, const char *what, ...)
{
    va_list ap;
    bool holds = got < limit;
    va_start(ap, what);
    add_point(c, what, ap, bound("< ", limit), real(got), &holds);
    va_end(ap);
}

void claim_above(struct check *c, double limit, double got, const char *what, ...)
{
    va_list ap;
    bool holds = got > limit;
    va_start(ap, what);
    add_point(c, what, ap, bound("> ", limit), real(got), &holds);
    va_end(ap);
}

void claim_within(struct check *c, double low, double high, double got, const char *what, ...)
{
    va_list ap;
    bool holds = got >= low && got <= high;
    va_start(ap, what);
    add_point(c, what, ap, strf("%.4g to %.4g", low, high), real(got), &holds);
    va_end(ap);
}

void claim_beside(struct check *c, double published, double got, const char *what, ...)
{
    va_list ap;
    va_start(ap, what);
    add_point(c, what, ap, bound("published ", published), real(got), NULL);
    va_end(ap);
}

void claim_cases(struct check *c, unsigned same, unsigned of, const char *first, const char *what,
                 ...)
{
    va_list ap;
    bool holds = same == of && of > 0;
    va_start(ap, what);
    add_point(c, what, ap, strf("%u of %u equal", of, of), json_integer((json_int_t)same), &holds);
    va_end(ap);
    if (!holds && first && !c->why)
        c->why = strf("not equal: %s", first);
}

void claim_broken(struct check *c, const char *why, ...)
{
    va_list ap;
    va_start(ap, why);
    if (!c->why)
        c->why = vstrf(why, ap);
    c->broken = c->failed = true;
    va_end(ap);
}

/* ---- one claim ---- */

/* Why it cannot be checked in this build, or NULL; from malloc. */
static char *reason_not(const struct claim *k)
{
    if (k->unchecked)
        return strf("%s", k->unchecked);
    for (unsigned i = 0; i < CLAIM_NEEDS && k->needs[i]; i++)
        if (!REG_FIND(paging, k->needs[i]))
            return strf("this build has no paging strategy %s", k->needs[i]);
    return NULL;
}

static const char *verdict(const struct claim *k, const struct check *c)
{
    if (c->failed || !c->judged)
        return "fails";
    if (c->broken)
        return k->disagrees ? "disagrees" : "fails";
    return k->disagrees ? "stale" : "holds";
}

/* What a reader must know beside the numbers. */
static char *remark(const struct claim *k, const struct check *c, const char *v)
{
    if (strcmp(v, "stale") == 0)
        return strf("holds now, although the claim says: %s", k->disagrees);
    if (strcmp(v, "disagrees") == 0)
        return strf("%s", k->disagrees);
    if (strcmp(v, "fails") == 0 && c->why)
        return strf("%s", c->why);
    if (!c->judged)
        return strf("the claim asserts nothing");
    return k->note ? strf("%s", k->note) : NULL;
}

static json_t *nullable(const char *s) { return s ? json_string(s) : json_null(); }

json_t *claim_check(const struct claim *k)
{
    struct check c = {.points = json_array(), .commands = json_array()};
    char *why_not = reason_not(k), *text = why_not;
    const char *v = NULL;
    if (!why_not) {
        k->check(&c);
        v = verdict(k, &c);
        text = remark(k, &c, v);
    }
    json_t *j = json_pack(
        "{ss ss ss ss ss ss so so so so}", "name", k->name, "claim", k->summary, "source",
        k->source, "kind", kind_names[k->kind], "basis", basis_names[k->basis], "command", "", /**/
        "commands", c.commands, "points", c.points, "verdict", nullable(v), "note", nullable(text));
    char *command = strf("nestbed verify --filter %s", k->name);
    json_object_set_new(j, "command", json_string(command));
    free(command);
    free(text);
    free(c.why);
    return j;
}

/* ---- all of them ---- */

bool claim_matches(const char *name, const char *filter)
{
    size_t n = strlen(filter);
    return n && strncmp(name, filter, n) == 0 && !(name[n] >= '0' && name[n] <= '9');
}

static int by_number(const void *a, const void *b)
{
    const struct claim *x = *(const struct claim *const *)a, *y = *(const struct claim *const *)b;
    return strverscmp(x->name, y->name);
}

size_t claims_sorted(const struct claim **out, size_t max)
{
    size_t n = 0;
    FOR_EACH(claim, k)
    if (n < max)
        out[n++] = k;
    qsort(out, n, sizeof *out, by_number);
    return n;
}

static json_int_t count(const json_t *claims, const char *v)
{
    const json_t *k;
    size_t i;
    json_int_t n = 0;
    json_array_foreach(claims, i, k)
    {
        const char *s = json_string_value(json_object_get(k, "verdict"));
        n += v ? s && strcmp(s, v) == 0 : !s;
    }
    return n;
}

json_t *verify_document(json_t *claims)
{
    json_t *summary =
        json_pack("{sI sI sI sI sI}", "holds", count(claims, "holds"), "disagrees",
                  count(claims, "disagrees"), "fails", count(claims, "fails"), "stale",
                  count(claims, "stale"), "not_checked", count(claims, NULL));
    return json_pack("{ss so so}", "schema", VERIFY_SCHEMA, "claims", claims, "summary", summary);
}

bool verify_passed(const json_t *doc)
{
    const json_t *s = json_object_get(doc, "summary");
    return json_integer_value(json_object_get(s, "fails")) == 0 &&
           json_integer_value(json_object_get(s, "stale")) == 0;
}
