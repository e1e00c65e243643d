/* labvm_record.c: the JSON record that a run inside the machine printed, as a struct result.
 *
 * The text is data from elsewhere. Every member that is used is looked up with its type, every name
 * and number is bounded, and what is missing makes the whole record wrong: a result is complete or
 * it is none. A counter that is null is unseen. Statistics of the hypervisor keep the order of the
 * record; each phase must have those of the run.
 */
#include "vmm/labvm_internal.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "vmm/kvm.h"

struct reader {
    struct result *res;
    const char *wrong; /* the first thing that was, or NULL */
};

static void complain(struct reader *r, const char *what)
{
    if (!r->wrong)
        r->wrong = what;
}

/* An integer that is not negative; above 2^63 it is a decimal string. */
static bool read_count(const json_t *j, uint64_t *out)
{
    if (json_is_integer(j) && json_integer_value(j) >= 0) {
        *out = (uint64_t)json_integer_value(j);
        return true;
    }
    return json_is_string(j) && parse_u64(json_string_value(j), out);
}

static void read_text(struct reader *r, const json_t *j, char *out, size_t n, const char *what)
{
    const char *s = json_string_value(j);
    if (!s || strlen(s) >= n)
        complain(r, what);
    else
        memcpy(out, s, strlen(s) + 1);
}

static void read_counters(struct reader *r, const json_t *o, struct counters *c)
{
    for (unsigned i = 0; i < CTR_COUNT; i++) {
        const json_t *j = json_object_get(o, counter_descs[i].name);
        c->unseen[i] = json_is_null(j);
        if (!c->unseen[i] && !read_count(j, &c->v[i]))
            complain(r, "counters");
    }
}

/* ---- statistics of the hypervisor ---- */

/* The values of one statistic as `s` describes it. */
static void read_stat(struct reader *r, const json_t *j, const struct kvm_stat_name *s,
                      uint64_t *values)
{
    bool ok = true;
    if (json_is_null(j) && s->unseen)
        return;
    if (!json_is_array(j))
        ok = s->size == 1 && read_count(j, &values[s->first]);
    else
        ok = json_array_size(j) == s->size;
    for (unsigned i = 0; ok && json_is_array(j) && i < s->size; i++)
        ok = read_count(json_array_get(j, i), &values[s->first + i]);
    if (!ok)
        complain(r, "kvm");
}

/* Names and sizes, from the statistics of the whole run. */
static void read_names(struct reader *r, json_t *o)
{
    struct result *res = r->res;
    unsigned used = 0;
    const char *name;
    json_t *j;
    json_object_foreach(o, name, j)
    {
        size_t size = json_is_array(j) ? json_array_size(j) : 1;
        if (res->nkvm == MAX_KVM_STATS || size > MAX_KVM_VALUES - used ||
            strlen(name) >= sizeof res->kvm_name[0].name) {
            complain(r, "kvm");
            return;
        }
        struct kvm_stat_name *s = &res->kvm_name[res->nkvm++];
        memcpy(s->name, name, strlen(name) + 1);
        s->first = (uint16_t)used;
        s->size = (uint16_t)size;
        s->unseen = json_is_null(j);
        used += (unsigned)size;
    }
}

static void read_kvm(struct reader *r, const json_t *o, uint64_t *values)
{
    for (unsigned i = 0; i < r->res->nkvm; i++)
        read_stat(r, json_object_get(o, r->res->kvm_name[i].name), &r->res->kvm_name[i], values);
}

/* ---- the rest ---- */

static void read_phases(struct reader *r, const json_t *a)
{
    struct result *res = r->res;
    size_t n = json_array_size(a);
    if (!json_is_array(a) || n > MAX_PHASES) {
        complain(r, "phases");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(a, i), *ns = json_object_get(o, "ns");
        struct phase_result *p = &res->phases[res->nphases++];
        read_text(r, json_object_get(o, "name"), p->name, sizeof p->name, "name of a phase");
        read_counters(r, json_object_get(o, "counters"), &p->counters);
        read_kvm(r, json_object_get(o, "kvm"), p->kvm);
        p->timed = !json_is_null(ns);
        if (p->timed && !read_count(ns, &p->ns))
            complain(r, "ns of a phase");
    }
}

static void read_outcome(struct reader *r, const json_t *o)
{
    const char *status = json_string_value(json_object_get(o, "status"));
    const json_t *detail = json_object_get(o, "detail");
    unsigned i = 0;
    while (status && i <= OUTCOME_TIMEOUT && strcmp(outcome_names[i], status) != 0)
        i++;
    if (!status || i > OUTCOME_TIMEOUT)
        complain(r, "outcome");
    else
        r->res->outcome = (enum outcome)i;
    if (!json_is_null(detail))
        read_text(r, detail, r->res->detail, sizeof r->res->detail, "detail of the outcome");
}

/* Exits by name; the number is the first with that name. */
static void read_exits(struct reader *r, json_t *o)
{
    const char *name;
    json_t *j;
    if (!json_is_object(o))
        complain(r, "user_exits");
    json_object_foreach(o, name, j)
    {
        unsigned i = 0;
        while (i < ARRAY_SIZE(r->res->user_exits) && strcmp(kvm_exit_name(i), name) != 0)
            i++;
        if (i == ARRAY_SIZE(r->res->user_exits) || !read_count(j, &r->res->user_exits[i]))
            complain(r, "user_exits");
    }
}

static void read_hash(struct reader *r, const json_t *j)
{
    const char *s = json_string_value(j);
    char *end;
    if (json_is_null(j))
        return;
    errno = 0;
    r->res->memory_hash = s ? strtoull(s, &end, 16) : 0;
    if (!s || strlen(s) != 16 || s[strspn(s, "0123456789abcdef")] || errno)
        complain(r, "memory_hash");
    else
        r->res->has_hash = true;
}

static void read_meta(struct reader *r, const json_t *o)
{
    for (unsigned i = 0; i < META_COUNT; i++)
        if (!read_count(json_object_get(o, meta_names[i]), &r->res->meta[i]))
            complain(r, "metadata_bytes");
}

static void read_record(struct reader *r, json_t *j)
{
    struct result *res = r->res;
    const json_t *emulates = json_object_get(j, "emulates_ring0");
    read_text(r, json_object_get(j, "paging"), res->paging, sizeof res->paging, "paging");
    read_text(r, json_object_get(j, "backend"), res->backend, sizeof res->backend, "backend");
    read_text(r, json_object_get(json_object_get(j, "env"), "kernel"), res->kernel,
              sizeof res->kernel, "kernel");
    if (!json_is_boolean(emulates))
        complain(r, "emulates_ring0");
    res->emulates_ring0 = json_is_true(emulates);
    read_outcome(r, json_object_get(j, "outcome"));
    read_counters(r, json_object_get(j, "counters"), &res->total);
    read_names(r, json_object_get(j, "kvm"));
    read_kvm(r, json_object_get(j, "kvm"), res->kvm);
    read_phases(r, json_object_get(j, "phases"));
    read_exits(r, json_object_get(j, "user_exits"));
    read_hash(r, json_object_get(j, "memory_hash"));
    read_meta(r, json_object_get(j, "metadata_bytes"));
    res->virtual_time = true;
}

bool labvm_record(const char *text, struct result *res, char *err, size_t errlen)
{
    struct reader r = {.res = res};
    json_error_t e;
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &e);
    *res = (struct result){.outcome = OUTCOME_OK};
    if (!json_is_object(j))
        complain(&r, "the JSON text");
    else
        read_record(&r, j);
    json_decref(j);
    if (r.wrong)
        snprintf(err, errlen, "the record from the lab machine is damaged: %s", r.wrong);
    return !r.wrong;
}
