/* timer.h: the hypervisor's timer, for strategies that decide at intervals.
 *
 * Its clock must repeat, so it counts what takes time instead of time: a tick per page walk, and per guest
 * event for which the strategy asks. A walk on which it expires ends before its first reference, as one
 * that an interrupt came before: WALK_EXIT. fix() finds timer_expired() then, and counts the exit
 * (exit_intr). Whoever handles the expiry restarts the timer.
 */
#ifndef NB_PAGING_TIMER_H
#define NB_PAGING_TIMER_H

#include "base/base.h"
#include "shadow_vs_ept/paging.h"

enum { TIMER_MIN = 64 }; /* no less than the walks one access may need: it must get on */

struct timer {
    uint64_t period, left; /* ticks */
};

static inline void timer_restart(struct timer *t) { t->left = t->period; }
static inline bool timer_expired(const struct timer *t) { return t->left == 0; }

/* A guest event; true: the timer expires. */
static inline bool timer_tick(struct timer *t)
{
    t->left -= t->left > 0;
    return timer_expired(t);
}

/* A walk is about to begin; true: it does not, *w says why. */
static inline bool timer_stops_walk(struct timer *t, struct walk *w)
{
    if (likely(t->left > 0)) {
        t->left--;
        return false;
    }
    *w = (struct walk){.status = WALK_EXIT, .nested_fault = true}; /* no #PF: the TLBs stay */
    return true;
}

#endif
