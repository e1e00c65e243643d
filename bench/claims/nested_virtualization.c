/* nested_virtualization.c: V21: world switches of a page fault of a guest's guest.
 *
 * What is expected are PVM's closed forms; what we got counts the machine of nested_fault.h, which
 * knows who intercepts what and has no formula.
 */
#include "base/base.h"
#include "bench/nested_fault.h"
#include "bench/verify.h"

static void faults(struct check *c)
{
    static const struct {
        enum nested_kind kind;
        const char *name;
        unsigned per_level, more, to_l0_per_level, to_l0_more;
    } row[] = {{SPT_ON_EPT, "SPT on EPT", 4, 8, 2, 4},
               {EPT_ON_EPT, "EPT on EPT", 2, 6, 1, 3},
               {PVM_ON_EPT, "PVM on EPT", 2, 4, 0, 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(row); i++)
        for (unsigned n = 4; n <= 5; n++) {
            struct nested_counts got = nested_fault(row[i].kind, n, 0);
            claim_equal(c, row[i].per_level * n + row[i].more, got.switches,
                        "%s, %u levels: switches", row[i].name, n);
            claim_equal(c, row[i].to_l0_per_level * n + row[i].to_l0_more, got.to_l0,
                        "%s, %u levels: into L0", row[i].name, n);
        }
}
REGISTER_AS(claim, v21a, "V21a",
            .summary =
                "a fault in L2 takes 4n+8 (SPT), 2n+6 (EPT), 2n+4 (PVM) world switches, 2n+4, "
                "n+3 and 0 of them into L0",
            .source = "PVM, SOSP'23 [F]", .basis = BASIS_EVENTS, .check = faults,
            .note = "counted by a machine of events made from the paper's description");
