/* segment.h: a direct segment, as a guest's kernel describes it to its machine (guest/hw.h). */
#ifndef NB_BASE_SEGMENT_H
#define NB_BASE_SEGMENT_H

#include "base/addr.h"

/* [start, end) of one address space lies at [to, to + end - start) in pages of 2^order frames, each
 * mapped readable and writable, not executable, accessed and dirty. */
struct hw_segment {
    gva_t start, end;
    gpa_t to;
    unsigned order; /* ORDER_*; start, end and to are aligned to it */
};

#endif
