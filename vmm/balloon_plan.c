/* balloon_plan.c: what --balloon asks for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "vmm/balloon_vm.h"
#include "vmm/engine.h"

void balloon_setup_init(struct balloon_setup *s)
{
    *s = (struct balloon_setup){.features = VIRTIO_BALLOON_F_ALL & ~VIRTIO_BALLOON_F_REPORTING,
                                .report_order = 9};
}

static bool parse_when(struct balloon_step *step, const char *when)
{
    char *end;
    if (strncmp(when, "phase:", 6) == 0) {
        snprintf(step->phase, sizeof step->phase, "%s", when + 6);
        return when[6] && strlen(when + 6) < sizeof step->phase;
    }
    if (strncmp(when, "time:", 5) != 0)
        return false;
    step->seconds = strtod(when + 5, &end);
    return end != when + 5 && !*end && step->seconds >= 0 && step->seconds < 1e9;
}

static bool parse_step(struct balloon_step *step, char *text)
{
    char *when = strchr(text, '@');
    uint64_t bytes;
    *step = (struct balloon_step){.pages = 0};
    if (when)
        *when++ = 0;
    if (!parse_size(text, &bytes) || bytes % PAGE_SIZE)
        return false;
    step->pages = bytes >> PAGE_SHIFT;
    return !when || parse_when(step, when);
}

bool balloon_plan_parse(struct balloon_setup *s, const char *plan, char *err, size_t errlen)
{
    char *copy = strdup(plan), *save;
    bool ok = copy != NULL;
    for (char *w = ok ? strtok_r(copy, ",", &save) : NULL; w && ok;
         w = strtok_r(NULL, ",", &save)) {
        char word[80];
        snprintf(word, sizeof word, "%s", w);
        ok = s->nsteps < BALLOON_PLAN_MAX && parse_step(&s->step[s->nsteps], w);
        s->nsteps += ok;
        if (!ok)
            snprintf(
                err, errlen,
                "--balloon: '%s' is no step of a plan: SIZE, SIZE@phase:NAME or SIZE@time:SECONDS, "
                "with commas between at most %d of them, as in 256M@phase:work,0@phase:end",
                word, BALLOON_PLAN_MAX);
    }
    free(copy);
    return ok;
}

bool balloon_plan_by_time(const struct balloon_setup *s)
{
    for (unsigned i = 0; i < s->nsteps; i++)
        if (!s->step[i].phase[0] && s->step[i].seconds > 0)
            return true;
    return false;
}

bool balloon_plan_at_phase(const struct balloon_setup *s, const char *phase, uint64_t *pages)
{
    bool found = false;
    for (unsigned i = 0; i < s->nsteps; i++)
        if (strcmp(s->step[i].phase, phase) == 0) {
            *pages = s->step[i].pages;
            found = true;
        }
    return found;
}

unsigned balloon_host_order(enum page_mode host_page)
{
    return host_page == PAGES_4K ? ORDER_4K : ORDER_2M;
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
