/* counters.h: the counters of counters.def as a struct, an enum and a table. */
#ifndef NB_BASE_COUNTERS_H
#define NB_BASE_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

enum counter_id {
#define COUNTER(name, unit, tag, meaning) CTR_##name,
#include "base/counters.def"
#undef COUNTER
    CTR_COUNT
};

/* Counts by name (c.walks) or by id (c.v[CTR_walks]). */
struct counters {
    union {
        struct {
#define COUNTER(name, unit, tag, meaning) uint64_t name;
#include "base/counters.def"
#undef COUNTER
        };
        uint64_t v[CTR_COUNT];
    };
    bool unseen[CTR_COUNT]; /* true: this engine cannot count it; printed as null */
};

struct counter_desc {
    const char *name, *unit, *tag, *meaning;
    bool gauge; /* a level at the end of a phase, not a count that grows */
};
extern const struct counter_desc counter_descs[CTR_COUNT];

/* out = later - earlier, except gauges, which keep the later value; unseen flags of later. */
void counters_delta(struct counters *out, const struct counters *later,
                    const struct counters *earlier);

#endif
