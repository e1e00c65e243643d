/* options_set.c: --set KEY=VALUE.
 *
 * A key with a dot belongs to the run (guest., host., run., balloon.) or to the strategy of that name, one
 * without to the workload.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/options.h"
#include "workloads/params.h"

enum { MAX_STRATEGIES = 64 };

#define RUN_KEYS                                                                                   \
    "guest.flush_ceiling, guest.segment, host.backing, run.hash, run.check, run.events and, of a " \
    "--balloon, balloon.order, balloon.report, balloon.hole and balloon.oom"

/* 0 or 1 behind the '='. */
static bool set_flag(const char *kv)
{
    uint64_t v;
    if (!parse_u64(strchr(kv, '=') + 1, &v) || v > 1)
        die(NB_USAGE, "--set %s: choose 0 or 1", kv);
    return v;
}

static void set_events(struct options *o, const char *file)
{
    if (o->engine->real)
        die(NB_USAGE, "--set run.events: the host cannot see into a running guest; use --engine "
                      "model");
    if (o->vm.events)
        die(NB_USAGE, "--set run.events: given twice");
    o->vm.events = strcmp(file, "-") == 0 ? stderr : fopen(file, "w");
    if (!o->vm.events)
        die(NB_IOERR, "--set run.events=%s: %s", file, strerror(errno));
    fprintf(o->vm.events, "accesses\tphase\tevent\taddress\tvalue%s\n",
            o->vm.vcpus > 1 ? "\tvcpu" : "");
}

static void set_segment(struct options *o, const char *kv)
{
    if (o->engine && o->engine->real)
        die(NB_USAGE, "--set guest.segment: no processor has direct segments; use --engine model");
    if (!parse_size(strchr(kv, '=') + 1, &o->vm.segment_bytes) || !o->vm.segment_bytes)
        die(NB_USAGE, "--set %s: the least size of a primary region, as in guest.segment=64M", kv);
}

/* KEY=VALUE of the machine or the run; false: not one of these keys. */
static bool set_run_key(struct options *o, const char *kv)
{
    uint64_t v;
    const char *eq = strchr(kv, '=');
    if (strncmp(kv, "guest.flush_ceiling=", 20) == 0) {
        if (!parse_u64(eq + 1, &v) || v > UINT32_MAX)
            die(NB_USAGE, "--set %s: a number of pages from 0 to 2^32-1", kv);
        o->vm.flush_ceiling = (unsigned)v;
    } else if (strncmp(kv, "guest.segment=", 14) == 0)
        set_segment(o, kv);
    else if (strncmp(kv, "run.hash=", 9) == 0)
        o->vm.hash = set_flag(kv);
    else if (strncmp(kv, "run.check=", 10) == 0)
        o->vm.check = set_flag(kv);
    else if (strncmp(kv, "run.events=", 11) == 0)
        set_events(o, eq + 1);
    else if (strncmp(kv, "host.backing=", 13) == 0) {
        if (!backing_kind_parse(eq + 1, &o->vm.backing))
            die(NB_USAGE, "--set %s: choose anon or memfd", kv);
    } else if (strncmp(kv, "guest.", 6) == 0 || strncmp(kv, "run.", 4) == 0 ||
               strncmp(kv, "host.", 5) == 0)
        die(NB_USAGE,
            "--set %s: unknown key; besides the workload's parameters there are " RUN_KEYS, kv);
    else
        return false;
    return true;
}

/* "STRATEGY.key=value"; false: no strategy is named. */
static bool set_paging_param(struct options *o, const char *kv)
{
    char name[32], err[512];
    const char *dot = strchr(kv, '.'), *eq = strchr(kv, '=');
    if (!dot || (eq && eq < dot) || (size_t)(dot - kv) >= sizeof name)
        return false;
    snprintf(name, sizeof name, "%.*s", (int)(dot - kv), kv);
    const struct paging *p = REG_FIND(paging, name);
    if (!p)
        return false;
    if (!o->vm.paging || strcmp(o->vm.paging, name) != 0)
        die(NB_USAGE, "--set %s: not the strategy that runs; add --paging %s", kv, name);
    snprintf(name, sizeof name, "%s", p->name);
    if (param_set(name, p->params, o->paging_params, dot + 1, err, sizeof err) != NB_OK)
        die(NB_USAGE, "--set %s: %s", kv, err);
    return true;
}

/* "NAME.key=value" where nothing is called NAME. */
static void refuse_prefix(const struct options *o, const char *kv)
{
    char name[32], list[1024] = "";
    const struct reg_head *h[MAX_STRATEGIES];
    size_t len = strcspn(kv, ".="), n = REG_SORTED(paging, h, MAX_STRATEGIES), at = 0;
    if (kv[len] != '.')
        return;
    snprintf(name, sizeof name, "%.*s", (int)len, kv);
    for (size_t i = 0; i < n && at < sizeof list; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", h[i]->name);
    const char *near = reg_nearest(__start_reg_paging, __stop_reg_paging, name);
    die(NB_USAGE,
        "--set %s: no paging strategy '%s'%s%s%s (choose from: %s); keys of the run are " RUN_KEYS
        "%s%s%s",
        kv, name, near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "", list,
        o->workload ? "; those of workload " : "", o->workload ? o->workload->name : "",
        o->workload ? " have no prefix" : "");
}

static void begin_sets(struct options *o)
{
    const struct paging *p = o->vm.paging ? REG_FIND(paging, o->vm.paging) : NULL;
    param_defaults(p ? p->params : NULL, o->paging_params);
    o->vm.paging_params = o->paging_params;
    for (unsigned i = 0; i < o->nsets; i++)
        if (!strchr(o->sets[i], '=') || o->sets[i][0] == '=')
            die(NB_USAGE, "--set %s: write KEY=VALUE", o->sets[i]);
}

void options_sets(struct options *o)
{
    char err[512];
    begin_sets(o);
    for (unsigned i = 0; i < o->nsets; i++) {
        if (set_run_key(o, o->sets[i]) || options_balloon_set(o, o->sets[i]) ||
            set_paging_param(o, o->sets[i]))
            continue;
        refuse_prefix(o, o->sets[i]);
        if (!o->workload)
            die(NB_USAGE, "--set %s: a trace has no parameters; only " RUN_KEYS " apply",
                o->sets[i]);
        if (params_set(o->workload, o->params, o->sets[i], err, sizeof err) != 0)
            die(NB_USAGE, "--set %s: %s", o->sets[i], err);
    }
}

void options_machine_sets(struct options *o)
{
    begin_sets(o);
    for (unsigned i = 0; i < o->nsets; i++) {
        if (strncmp(o->sets[i], "guest.segment=", 14) == 0)
            set_segment(o, o->sets[i]);
        else if (!set_paging_param(o, o->sets[i]))
            die(NB_USAGE,
                "--set %s: no program runs here: only STRATEGY.KEY and guest.segment apply",
                o->sets[i]);
    }
}
