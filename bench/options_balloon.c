/* options_balloon.c: --balloon PLAN and --set balloon.KEY=VALUE. */
#include <string.h>

#include "bench/options.h"

void options_balloon(struct options *o)
{
    char err[300];
    const struct paging *p = o->vm.paging ? REG_FIND(paging, o->vm.paging) : NULL;
    if (!o->balloon_plan)
        return;
    if (strcmp(o->engine->name, "labvm") == 0)
        die(NB_USAGE, "--balloon: engine labvm does not pass it on; use nestbed labvm run -- run "
                      "--engine kvm "
                      "--balloon PLAN ...");
    if (p && p->bare && !o->engine->real)
        die(NB_USAGE, "--balloon: paging %s has no VMM that could take memory; use ept or shadow",
            p->name);
    balloon_setup_init(&o->balloon);
    if (!balloon_plan_parse(&o->balloon, o->balloon_plan, err, sizeof err))
        die(NB_USAGE, "%s", err);
    if (balloon_plan_by_time(&o->balloon))
        die(NB_USAGE, "--balloon %s: only phases so far, as in 256M@phase:work", o->balloon_plan);
    o->vm.balloon = &o->balloon;
}

static uint64_t number(const char *kv, const char *value, uint64_t most)
{
    uint64_t v;
    if (!parse_u64(value, &v) || v > most)
        die(NB_USAGE, "--set %s: a number from 0 to %llu", kv, (unsigned long long)most);
    return v;
}

static void set_order(struct balloon_setup *s, const char *kv, const char *value)
{
    s->order = (unsigned)number(kv, value, 9);
    if (s->order && s->order != 9)
        die(NB_USAGE, "--set %s: choose 0 (4 KiB pages) or 9 (2 MiB blocks)", kv);
}

static void set_report(struct balloon_setup *s, const char *kv, const char *value)
{
    if (strcmp(value, "off") == 0) {
        s->features &= ~VIRTIO_BALLOON_F_REPORTING;
        return;
    }
    s->report_order = (unsigned)number(kv, value, 18);
    s->features |= VIRTIO_BALLOON_F_REPORTING;
}

static void set_hole(struct balloon_setup *s, const char *kv, const char *value)
{
    bool defer = strcmp(value, "defer") == 0;
    if (!defer && strcmp(value, "split") != 0)
        die(NB_USAGE,
            "--set %s: choose split (a hole in a large host page is released at once) or defer "
            "(when "
            "all of it is in the balloon)",
            kv);
    s->hole = defer ? BALLOON_HOLE_DEFER : BALLOON_HOLE_SPLIT;
}

bool options_balloon_set(struct options *o, const char *kv)
{
    const char *key = kv + 8, *value = strchr(kv, '=') + 1;
    if (strncmp(kv, "balloon.", 8) != 0)
        return false;
    if (!o->vm.balloon)
        die(NB_USAGE, "--set %s: this VM has no balloon; add --balloon PLAN, as in --balloon 0",
            kv);
    if (strncmp(key, "order=", 6) == 0)
        set_order(&o->balloon, kv, value);
    else if (strncmp(key, "report=", 7) == 0)
        set_report(&o->balloon, kv, value);
    else if (strncmp(key, "hole=", 5) == 0)
        set_hole(&o->balloon, kv, value);
    else if (strncmp(key, "oom=", 4) == 0) {
        o->balloon.features &= ~VIRTIO_BALLOON_F_DEFLATE_ON_OOM;
        o->balloon.features |= number(kv, value, 1) ? VIRTIO_BALLOON_F_DEFLATE_ON_OOM : 0;
    } else
        die(NB_USAGE, "--set %s: a balloon has order, report, hole and oom", kv);
    return true;
}
