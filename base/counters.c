/* counters.c: names, units and meanings of counters.def; differences between two readings. */
#include "base/counters.h"

#include <string.h>

/* Gauges: levels, not counts that grow. */
#define IS_GAUGE(id)                                                                             \
    ((id) == CTR_guest_pt_bytes || (id) == CTR_shadow_pt_bytes || (id) == CTR_nested_pt_bytes || \
     (id) == CTR_host_frames || (id) == CTR_shared_frames || (id) == CTR_saved_frames ||         \
     (id) == CTR_balloon_pages || (id) == CTR_shadow_out_of_sync || (id) == CTR_shadow_leaves || \
     (id) == CTR_guest_ecpt_bytes)

const struct counter_desc counter_descs[CTR_COUNT] = {
#define COUNTER(name, unit, tag, meaning) \
    [CTR_##name] = {#name, unit, tag, meaning, IS_GAUGE(CTR_##name)},
#include "base/counters.def"
#undef COUNTER
};

void counters_delta(struct counters *out, const struct counters *later,
                    const struct counters *earlier)
{
    for (unsigned i = 0; i < CTR_COUNT; i++)
        out->v[i] = counter_descs[i].gauge ? later->v[i] : later->v[i] - earlier->v[i];
    memcpy(out->unseen, later->unseen, sizeof out->unseen);
}
