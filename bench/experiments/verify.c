/* verify.c: published results, claim by claim, for PAPER.md.
 *
 * One cell for each number of the list, so that they run side by side. A quick run makes those of exact
 * claims alone; then there is no table.
 */
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_util.h"
#include "bench/verify.h"

enum { MAX_CLAIMS = 256 };

/* "V12" of "V12a", from malloc. */
static char *number_of(const struct claim *k)
{
    return strf("%.*s", (int)(1 + strspn(k->name + 1, "0123456789")), k->name);
}

/* The numbers in order, each once; returns how many. The caller frees them. */
static size_t numbers(char *out[MAX_CLAIMS])
{
    const struct claim *all[MAX_CLAIMS];
    size_t n = claims_sorted(all, MAX_CLAIMS), m = 0;
    for (size_t i = 0; i < n; i++) {
        out[m] = number_of(all[i]);
        if (m && strcmp(out[m], out[m - 1]) == 0)
            free(out[m]);
        else
            m++;
    }
    return m;
}

/* Has it an exact claim that can be checked? */
static bool is_exact(const char *number)
{
    bool yes = false;
    FOR_EACH(claim, k)
    yes |= k->kind == CLAIM_EXACT && k->check && claim_matches(k->name, number);
    return yes;
}

/* Estimates: seconds of a number's claims, where it is more than a few. */
static double seconds_of(const char *number)
{
    static const struct {
        const char *number;
        double seconds;
    } longer[] = {{"V5", 23}, {"V4", 20}, {"V9", 16}, {"V3", 14}, {"V10", 12}, {"V7", 10},
                  {"V31", 9}, {"V8", 8},  {"V6", 7},  {"V11", 5}, {"V14", 4},  {"V12", 4}};
    for (unsigned i = 0; i < ARRAY_SIZE(longer); i++)
        if (strcmp(number, longer[i].number) == 0)
            return longer[i].seconds;
    return 0.5;
}

static void plan(struct plan *p)
{
    char *v[MAX_CLAIMS];
    size_t n = numbers(v);
    for (size_t i = 0; i < n; i++) {
        if (p->scale != SCALE_QUICK || is_exact(v[i]))
            plan_add(
                p, (struct cell_spec){.experiment = "verify",
                                      .name = strf("verify/claim:%s", v[i]),
                                      .command = strf("verify --filter %s --json --verdicts", v[i]),
                                      .seconds = seconds_of(v[i]),
                                      .ram = 512 << 20});
        free(v[i]);
    }
}

/* All claims of a run in one document, or NULL when a cell is missing: a table with holes would
 * pass for whole. */
static json_t *document(const struct results *r)
{
    char *v[MAX_CLAIMS];
    size_t n = numbers(v);
    json_t *claims = json_array();
    bool whole = n > 0;
    for (size_t i = 0; i < n; i++) {
        json_t *cell = json_object_get(results_record(r, "verify/claim:%s", v[i]), "claims");
        whole &= json_is_array(cell) && json_array_extend(claims, cell) == 0;
        free(v[i]);
    }
    if (whole)
        return verify_document(claims);
    json_decref(claims);
    return NULL;
}

static json_int_t of(const json_t *doc, const char *key)
{
    return json_integer_value(json_object_get(json_object_get(doc, "summary"), key));
}

static void facts(const struct results *r, json_t *f)
{
    static const char *const keys[] = {"holds", "disagrees", "fails", "stale", "not_checked"};
    json_t *doc = document(r);
    char *text;
    size_t len;
    FILE *t = doc ? open_memstream(&text, &len) : NULL;
    if (t) {
        verify_print_markdown(doc, t);
        fclose(t);
        fact(f, "verify.table", 0, "%s", text);
        free(text);
    }
    for (unsigned i = 0; doc && i < ARRAY_SIZE(keys); i++) {
        char *id = strf("verify.%s", keys[i]);
        fact(f, id, 0, "%" JSON_INTEGER_FORMAT, of(doc, keys[i]));
        free(id);
    }
    json_decref(doc);
}

static void say(const struct results *r, FILE *f)
{
    json_t *doc = document(r);
    if (doc)
        fprintf(f,
                "published results: %" JSON_INTEGER_FORMAT " hold, %" JSON_INTEGER_FORMAT
                " disagree for a known reason, %" JSON_INTEGER_FORMAT
                " do not hold, %" JSON_INTEGER_FORMAT " not checked%s\n",
                of(doc, "holds"), of(doc, "disagrees"), of(doc, "fails") + of(doc, "stale"),
                of(doc, "not_checked"), verify_passed(doc) ? "" : "  NOT PASSED");
    json_decref(doc);
}

REGISTER(experiment, verify, .summary = "published results, checked claim by claim on the model",
         .plan = plan, .facts = facts, .say = say);
