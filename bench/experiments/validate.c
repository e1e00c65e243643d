/* validate.c: what the model predicts beside what real KVMs count, for every workload.
 *
 * A cell is one `nestbed validate` on one machine: the KVM inside the emulated machine in both
 * modes, and the KVM of this host in the mode it has. Where one cannot run its cell is skipped, and
 * what PAPER.md says of it stays. Verdicts are results here, so a cell does not fail by them.
 */
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_fig.h"
#include "bench/bench_util.h"
#include "bench/validate.h"

static const struct {
    const char *target;
    double seconds;
    uint64_t ram;
} machines[] = {{"labvm", 30, 1536 << 20}, {"host", 8, 128 << 20}};

static void plan(struct plan *p)
{
    for (unsigned i = 0; i < ARRAY_SIZE(machines); i++)
        plan_add(p, (struct cell_spec){.experiment = "validate",
                                       .seed_key = "validate",
                                       .kind = CELL_COUNTED,
                                       .name = strf("validate/target:%s", machines[i].target),
                                       .command = strf("validate --targets %s%s --json --verdicts",
                                                       machines[i].target,
                                                       p->scale == SCALE_QUICK ? " --quick" : ""),
                                       .seconds = machines[i].seconds,
                                       .ram = machines[i].ram});
}

/* The document of a machine, or NULL. */
static json_t *document(const struct results *r, unsigned machine)
{
    json_t *doc = results_record(r, "validate/target:%s", machines[machine].target);
    const char *schema = json_string_value(json_object_get(doc, "schema"));
    return schema && strcmp(schema, VALIDATE_SCHEMA) == 0 ? doc : NULL;
}

static bool points(const struct results *r, unsigned machine, FILE *f)
{
    validate_points_head(f);
    return validate_points(document(r, machine), f);
}

/* What the emulated machine counts is the same everywhere, what the host's KVM counts is not: two
 * figures, so that the first can be kept for reference. */
static bool lab_figure(const struct results *r, FILE *f) { return points(r, 0, f); }
static bool host_figure(const struct results *r, FILE *f) { return points(r, 1, f); }

/* Rows of both documents with a verdict. */
static size_t count(const struct results *r, enum verdict v)
{
    size_t n = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(machines); i++)
        n += validate_count(document(r, i), v);
    return n;
}

static size_t zeros(const struct results *r)
{
    size_t n = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(machines); i++)
        n += validate_zeros(document(r, i));
    return n;
}

/* Did every machine that ran pass? A run that failed and a constant that is none count too. */
static bool passed(const struct results *r)
{
    bool all = true;
    for (unsigned i = 0; i < ARRAY_SIZE(machines); i++)
        all &= !document(r, i) || validate_passed(document(r, i));
    return all;
}

/* Did any machine run? With rows or without: a run that failed has none, and is no reason to keep
 * silent. */
static bool any_ran(const struct results *r) { return document(r, 0) || document(r, 1); }

/* What holds on one machine alone is not said of both. */
static void verdict_fact(const struct results *r, json_t *f)
{
    const char *lab = document(r, 0) ? "" : " on the host alone",
               *host = document(r, 1) ? "" : " in the lab machine alone";
    if (passed(r))
        fact(f, "validate.verdict", FACT_MEASURED, "holds%s%s", lab, host);
    else
        fact(f, "validate.verdict", FACT_MEASURED, "does not hold");
}

static void facts(const struct results *r, json_t *f)
{
    size_t equal = count(r, VERDICT_EQUAL), within = count(r, VERDICT_WITHIN),
           off = count(r, VERDICT_OFF), len;
    char *text;
    if (!any_ran(r))
        return;
    fact(f, "validate.rows", FACT_MEASURED, "%zu", equal + within + off);
    fact(f, "validate.zero", FACT_MEASURED, "%zu", zeros(r));
    fact(f, "validate.equal", FACT_MEASURED, "%zu", equal);
    fact(f, "validate.within", FACT_MEASURED, "%zu", within);
    fact(f, "validate.off", FACT_MEASURED, "%zu", off);
    verdict_fact(r, f);
    FILE *t = open_memstream(&text, &len);
    if (!t)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(machines); i++)
        validate_print_markdown(document(r, i), t);
    fclose(t);
    if (len) /* there is no table when every run failed */
        fact(f, "validate.table", FACT_MEASURED, "%s", text);
    free(text);
}

static void say(const struct results *r, FILE *f)
{
    size_t equal = count(r, VERDICT_EQUAL), within = count(r, VERDICT_WITHIN),
           off = count(r, VERDICT_OFF);
    if (any_ran(r))
        fprintf(
            f,
            "model and real KVM: of %zu events %zu are equal (%zu of them 0), %zu within %d %%, "
            "%zu off  [predicted: exact; counted: counted]%s\n",
            equal + within + off, equal, zeros(r), within, VALIDATE_PERCENT, off,
            passed(r) ? "" : "  NOT PASSED");
}

EMBED(validate_gp, "bench/plots/validate.gp");
static struct figure figures[] = {
    {6, "fig6",
     "Events of every workload as the model predicts them and as Linux's KVM in an emulated "
     "machine "
     "counts them, with and without nested paging; the band is 2 %",
     "predicted: exact; counted: counted", validate_gp, lab_figure},
    {9, "validate-host", "The same for the KVM of this host, in the mode it has",
     "predicted: exact; counted: counted", validate_gp, host_figure},
    {0},
};
REGISTER(experiment, validate,
         .summary = "every workload on the model and on real KVMs, event by event", .plan = plan,
         .figures = figures, .facts = facts, .say = say);
