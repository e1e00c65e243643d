/* balloon_plan.c: what --balloon asks for. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "vmm/balloon_vm.h"
#include "vmm/engine.h"

void balloon_setup_init(struct balloon_setup *s)
{
    *s = (struct balloon_setup){.features = VIRTIO_BALLOON_F_ALL & ~VIRTIO_BALLOON_F_REPORTING &
                                            ~VIRTIO_BALLOON_F_FREE_PAGE_HINT,
                                .report_order = 9};
}

/* "phase:NAME" or "time:SECONDS"; false with what is wrong with it. */
static bool parse_when(struct balloon_step *step, const char *when, const char **why)
{
    char *end;
    if (strcmp(when, "phase:boot") == 0) {
        *why = "has no driver yet when phase boot begins: leave the when out";
        return false;
    }
    if (strncmp(when, "phase:", 6) == 0) {
        step->when = BALLOON_AT_PHASE;
        snprintf(step->phase, sizeof step->phase, "%s", when + 6);
        return when[6] && strlen(when + 6) < sizeof step->phase;
    }
    step->when = BALLOON_AT_TIME;
    if (strncmp(when, "time:", 5) != 0)
        return false;
    step->seconds = strtod(when + 5, &end);
    return end != when + 5 && !*end && step->seconds >= 0 && step->seconds < 1e9;
}

static bool parse_step(struct balloon_step *step, char *text, const char **why)
{
    char *when = strchr(text, '@');
    uint64_t bytes;
    *step = (struct balloon_step){.when = BALLOON_AT_BOOT};
    if (when)
        *when++ = 0;
    if (!parse_size(text, &bytes) || bytes % PAGE_SIZE)
        return false;
    step->pages = bytes >> PAGE_SHIFT;
    return !when || parse_when(step, when, why);
}

static bool add_step(struct balloon_setup *s, char *text, char *err, size_t errlen)
{
    char word[80];
    const char *why = NULL;
    snprintf(word, sizeof word, "%s", text);
    if (s->nsteps < BALLOON_PLAN_MAX && parse_step(&s->step[s->nsteps], text, &why)) {
        s->nsteps++;
        return true;
    }
    if (why)
        snprintf(err, errlen, "--balloon: '%s': a guest %s, as in 256M", word, why);
    else
        snprintf(
            err, errlen,
            "--balloon: '%s' is no step of a plan: SIZE, SIZE@phase:NAME or SIZE@time:SECONDS, "
            "with commas between at most %d of them, as in 256M@phase:work,0@phase:end",
            word, BALLOON_PLAN_MAX);
    return false;
}

bool balloon_plan_parse(struct balloon_setup *s, const char *plan, char *err, size_t errlen)
{
    char *copy = strdup(plan), *next = copy;
    bool ok = copy != NULL;
    for (char *w; ok && (w = strsep(&next, ","));) /* also the empty words, which are none */
        ok = add_step(s, w, err, errlen);
    free(copy);
    return ok;
}

bool balloon_plan_by_time(const struct balloon_setup *s)
{
    for (unsigned i = 0; i < s->nsteps; i++)
        if (s->step[i].when == BALLOON_AT_TIME)
            return true;
    return false;
}

static bool find(const struct balloon_setup *s, enum balloon_when when, const char *phase,
                 uint64_t *pages)
{
    bool found = false;
    for (unsigned i = 0; i < s->nsteps; i++)
        if (s->step[i].when == when && strcmp(s->step[i].phase, phase) == 0) {
            *pages = s->step[i].pages;
            found = true;
        }
    return found;
}

bool balloon_plan_at_boot(const struct balloon_setup *s, uint64_t *pages)
{
    return find(s, BALLOON_AT_BOOT, "", pages);
}

bool balloon_plan_at_phase(const struct balloon_setup *s, const char *phase, uint64_t *pages)
{
    return find(s, BALLOON_AT_PHASE, phase, pages);
}

static bool began(const struct result *r, const char *phase)
{
    for (unsigned i = 0; i < r->nphases; i++)
        if (strcmp(r->phases[i].name, phase) == 0)
            return true;
    return r->nphases == MAX_PHASES; /* it may be one that the result has no place for */
}

void balloon_plan_warn(const struct balloon_setup *s, const struct result *r)
{
    for (unsigned i = 0; i < s->nsteps; i++)
        if (s->step[i].when == BALLOON_AT_PHASE && !began(r, s->step[i].phase))
            log_warn("--balloon: phase '%s' never began, so its %" PRIu64
                     " KiB were not asked for; the phases are in the record",
                     s->step[i].phase, s->step[i].pages << (PAGE_SHIFT - 10));
}

/* Blocks of memory are as large as the host's pages can be. */
unsigned balloon_host_order(enum page_mode host_page)
{
    return host_page == PAGES_4K ? ORDER_4K : host_page == PAGES_1G ? ORDER_1G : ORDER_2M;
}

void balloon_report(const struct balloon *b, struct result *r)
{
    if (!b)
        return;
    const struct balloon_state *s = b->state;
    r->has_balloon = true;
    r->balloon = s->count;
    r->balloon_pages = s->pages;
    r->balloon_actual = s->config.actual;
    r->balloon_trail = s->trail;
    r->balloon_stats_valid = s->stats_valid;
    memcpy(r->balloon_stats, s->stats, sizeof r->balloon_stats);
}
