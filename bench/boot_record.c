/* boot_record.c: what `nestbed boot` prints of a run. */
#include "bench/boot_record.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "bench/print.h"
#include "bench/record.h"

#define BOOT_SCHEMA "nestbed-boot/1"

static json_t *exits_json(const struct boot_result *r)
{
    json_t *o = json_object();
    for (unsigned i = 0; i < ARRAY_SIZE(r->user_exits); i++) {
        const char *name = kvm_exit_name(i);
        json_int_t before = json_integer_value(json_object_get(o, name));
        if (r->user_exits[i])
            json_object_set_new(o, name, json_count((uint64_t)before + r->user_exits[i]));
    }
    return o;
}

static json_t *stat_json(const struct kvm_stat_name *s, const uint64_t *v)
{
    if (s->unseen)
        return json_null();
    if (s->size == 1)
        return json_count(v[s->first]);
    json_t *a = json_array();
    for (unsigned i = 0; i < s->size; i++)
        json_array_append_new(a, json_count(v[s->first + i]));
    return a;
}

/* Null: this kernel has no statistics file. */
static json_t *kvm_json(const struct boot_result *r)
{
    json_t *o = r->stats.n ? json_object() : json_null();
    for (unsigned i = 0; i < r->stats.n; i++)
        json_object_set_new(o, r->stats.stat[i].name, stat_json(&r->stats.stat[i], r->kvm.v));
    return o;
}

void boot_print_balloon(const struct boot_config *c, const struct boot_balloon_result *b)
{
    for (unsigned i = 0; i < b->steps; i++) {
        const struct boot_balloon_step *s = &b->step[i];
        printf("balloon: step %u target %" PRIu64 " actual %" PRIu64 " pages %" PRIu64
               " resident %" PRIu64 " then %" PRIu64 " wrong %" PRIu64 "%s\n",
               i, c->balloon->pages[i], s->actual, s->pages, s->resident >> PAGE_SHIFT,
               s->resident_checked >> PAGE_SHIFT, s->wrong, s->checked ? "" : " (not finished)");
    }
    printf("balloon: inflated %" PRIu64 " deflated %" PRIu64 " releases %" PRIu64 " splits %" PRIu64
           " hinted %" PRIu64 " reported %" PRIu64 "\n",
           b->counted.inflated, b->counted.deflated, b->counted.releases, b->counted.splits,
           b->counted.hinted, b->counted.reported);
}

static json_t *counters_json(const struct balloon_counters *c)
{
    json_t *o = json_object();
#define X(name, unit, what) json_object_set_new(o, #name, json_count(c->name));
    BALLOON_COUNTERS(X)
#undef X
    return o;
}

static json_t *stats_json(const struct boot_balloon_step *s)
{
    static const char *const names[VIRTIO_BALLOON_S_NR] = {
        "swap_in",    "swap_out",    "major_faults",   "minor_faults",  "free",     "total",
        "available",  "caches",      "hugetlb_allocs", "hugetlb_fails", "oom_kill", "alloc_stall",
        "async_scan", "direct_scan", "async_reclaim",  "direct_reclaim"};
    json_t *o = s->has_stats ? json_object() : json_null();
    for (unsigned i = 0; s->has_stats && i < VIRTIO_BALLOON_S_NR; i++)
        json_object_set_new(o, names[i],
                            s->stats_valid >> i & 1 ? json_count(s->stats[i]) : json_null());
    return o;
}

/* Null: not said by the guest. */
static json_t *step_json(uint64_t target, const struct boot_balloon_step *s)
{
    json_t *j = s->reached ? json_count(s->guest_pages) : json_null();
    return json_pack("{so so so so so so so so so}", "target", json_count(target), "guest_pages", j,
                     "actual", s->reached ? json_count(s->actual) : json_null(), "pages",
                     s->reached ? json_count(s->pages) : json_null(), "resident",
                     s->reached ? json_count(s->resident) : json_null(), "resident_checked",
                     s->checked ? json_count(s->resident_checked) : json_null(), "wrong",
                     s->checked ? json_count(s->wrong) : json_null(), "stats", stats_json(s),
                     "counters", s->checked ? counters_json(&s->counted) : json_null());
}

/* Null: there was none. */
static json_t *balloon_json(const struct boot_config *c, const struct boot_balloon_result *b)
{
    if (!c->balloon)
        return json_null();
    json_t *steps = json_array(), *refused = json_object();
    for (unsigned i = 0; i < b->steps; i++)
        json_array_append_new(steps, step_json(c->balloon->pages[i], &b->step[i]));
    for (unsigned i = 0; i < VIRTIO_REFUSED_COUNT; i++)
        json_object_set_new(refused, virtio_refused_names[i], json_count(b->refused[i]));
    return json_pack("{so sI so so so so ss*}", "steps", steps, "features", (json_int_t)b->features,
                     "mmio_exits", json_count(b->mmio_exits), "interrupts",
                     json_count(b->interrupts), "counters", counters_json(&b->counted), "refused",
                     refused, "broken", b->broken);
}

void boot_print_record(const struct boot_config *c, const struct boot_result *r, const char *image,
                       json_t *words)
{
    json_t *j =
        json_pack("{ss ss so sI si sf ss so so ss ss sb sf sf so so so ss sb so}", "schema",
                  BOOT_SCHEMA, "image", image, "arguments", words, "mem", (json_int_t)c->mem, "smp",
                  (int)c->cpus, "timeout", c->timeout, "end", boot_end_names[r->end], "code",
                  r->end == BOOT_EXITED ? json_count(r->code) : json_null(), "detail",
                  r->detail[0] ? json_string(r->detail) : json_null(), "backend", r->host->backend,
                  "paging", r->host->paging, "emulates_ring0", r->host->emulates_ring0,
                  "start_seconds", r->start_seconds, "wall_seconds", r->wall_seconds, "user_exits",
                  exits_json(r), "kvm", kvm_json(r), "balloon", balloon_json(c, &r->balloon),
                  "console", r->console, "console_cut", r->console_cut, "env", record_env());
    assert(j);
    record_print_json(j);
    json_decref(j);
}
