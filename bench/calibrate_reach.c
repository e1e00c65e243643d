/* calibrate_reach.c: from the curves of the chases to the levels of a TLB.
 *
 * What translation costs at N pages is the chase over N pages less the dense chase over as many lines.
 * That difference climbs in steps: 0 while the first level holds the pages, a second-level hit, a
 * walk. A step begins at the first N that is clearly above the level before it, and ends where the
 * curve flattens out. The reach is the last N below half of the step: a level with a hashed index or
 * a policy that is not LRU fails gradually, and half way is where half of its hits are gone.
 */
#include <math.h>
#include <string.h>

#include "bench/calibrate_tlb.h"

/* A rise is clear when it exceeds both: this part of one hop of the first point, and of the level. */
#define RISE_OF_HOP 0.15
#define RISE_OF_LEVEL 0.25
/* The curve is flat where the next point adds less than this part of the step so far. */
#define FLAT 0.10

enum { PLATEAU = 4 }; /* points whose median is the level of a step */

struct difference {
    unsigned n;
    double hop; /* ns of the dense chase, all caches hitting */
    struct interval d[CHASE_POINTS];
};

static void difference_of(const struct chase_curve *a, const struct chase_curve *dense,
                          struct difference *out)
{
    out->n = a->n < dense->n ? a->n : dense->n;
    out->hop = dense->n ? dense->ns[0].mid : NAN;
    for (unsigned i = 0; i < out->n; i++) { /* the widest that the two intervals allow */
        const struct interval *x = &a->ns[i], *y = &dense->ns[i];
        out->d[i] = (struct interval){x->mid - y->mid, x->lo - y->hi, x->hi - y->lo, x->n};
    }
}

/* Median by value of at most PLATEAU points from `at`, before `end`. */
static struct interval plateau(const struct difference *c, unsigned at, unsigned end)
{
    struct interval v[PLATEAU];
    unsigned n = 0;
    for (; n < PLATEAU && at + n < end; n++) {
        unsigned k = n;
        for (; k > 0 && v[k - 1].mid > c->d[at + n].mid; k--)
            v[k] = v[k - 1];
        v[k] = c->d[at + n];
    }
    return v[(n - 1) / 2];
}

/* First point from `at` that is above the level, and the next one as well; n when there is none. */
static unsigned rise(const struct difference *c, unsigned at, struct interval level)
{
    double above = fmax(RISE_OF_HOP * c->hop, RISE_OF_LEVEL * level.mid);
    for (; at + 1 < c->n; at++)
        if (c->d[at].lo > level.mid + above && c->d[at + 1].lo > level.mid + above)
            return at;
    return c->n;
}

static unsigned flat(const struct difference *c, unsigned at, struct interval level)
{
    while (at + 1 < c->n && c->d[at + 1].mid - c->d[at].mid > FLAT * (c->d[at].mid - level.mid))
        at++;
    return at;
}

/* The step after point `at`, where the cost was `level`. *end: where its plateau begins. */
static struct tlb_level step(const struct difference *c, const uint64_t *lines, unsigned at,
                             struct interval *level, unsigned *end)
{
    struct tlb_level l = {0};
    unsigned from = rise(c, at, *level), to, after, half = from;
    if (from == c->n || from == 0)
        return l;
    to = flat(c, from, *level);
    if (to + 1 >= c->n) /* still climbing at the last point */
        return l;
    after = rise(c, to + 1, c->d[to]);
    struct interval top = plateau(c, to, after);
    while (half < to && c->d[half].mid < (level->mid + top.mid) / 2)
        half++;
    l = (struct tlb_level){
        .found = true,
        .reach = lines[half - 1],
        .next = lines[half],
        .cost = {top.mid - level->mid, top.lo - level->hi, top.hi - level->lo, top.n}};
    *level = top;
    *end = to;
    return l;
}

/* The dense curve by itself. */
static void data_cache(const struct chase_curve *dense, struct tlb_estimate *out)
{
    struct difference c = {.n = dense->n, .hop = dense->ns[0].mid};
    unsigned end;
    memcpy(c.d, dense->ns, sizeof c.d);
    struct interval level = out->hop = c.d[0];
    out->l1d = step(&c, dense->lines, 0, &level, &end);
}

void tlb_estimate(const struct chase_result *r, struct tlb_estimate *out)
{
    const struct chase_curve *sparse = &r->curve[CHASE_SPARSE], *huge = &r->curve[CHASE_HUGE];
    struct difference c;
    unsigned end = 0;
    memset(out, 0, sizeof *out);
    difference_of(sparse, &r->curve[CHASE_DENSE], &c);
    if (!c.n)
        return;
    data_cache(&r->curve[CHASE_DENSE], out);
    struct interval level = c.d[0];
    out->l1 = step(&c, sparse->lines, 0, &level, &end);
    if (out->l1.found)
        out->l2 = step(&c, sparse->lines, end, &level, &end);
    if (out->l2.found) { /* of a walk: over a hit of the first level, as the model counts it */
        out->l2.cost.mid += out->l1.cost.mid;
        out->l2.cost.lo += out->l1.cost.lo;
        out->l2.cost.hi += out->l1.cost.hi;
    }
    difference_of(huge, &r->curve[CHASE_DENSE], &c);
    if (!c.n)
        return;
    level = c.d[0];
    out->l1_2m = step(&c, huge->lines, 0, &level, &end);
}
