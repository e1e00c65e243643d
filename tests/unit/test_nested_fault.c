/* test_nested_fault.c: world switches of a fault of a guest's guest.
 * link: bench/nested_fault
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "bench/nested_fault.h"

static void expect(enum nested_kind kind, unsigned levels, unsigned present, unsigned switches,
                   unsigned to_l0, unsigned faults)
{
    struct nested_counts n = nested_fault(kind, levels, present);
    assert_int_equal(n.switches, switches);
    assert_int_equal(n.to_l0, to_l0);
    assert_int_equal(n.faults, faults);
}

/* Four levels, nothing there (PVM, SOSP 2023): 24 and 12, 14 and 7, 12 and 0. */
static void four_levels(void **state)
{
    (void)state;
    expect(SPT_ON_EPT, 4, 0, 24, 12, 2);
    expect(EPT_ON_EPT, 4, 0, 14, 7, 3);
    expect(PVM_ON_EPT, 4, 0, 12, 0, 1);
}

/* Only the leaf entry is missing, which is what n = 1 says of one level. By hand:
 * SPT: fault to L0, L1, L0, kernel; its write to L0, L1, L0, kernel; the program's fault to L0, L1,
 *      L0, program: 12 switches, 6 into L0.
 * EPT: violation to L0, L1; L1's write to L0, L1; its entry to L0, program; violation of L0's copy to
 *      L0, program: 8, 4 into L0.
 * PVM: fault to L1, kernel; its write to L1, kernel; its return to L1, program: 6. */
static void only_the_leaf(void **state)
{
    (void)state;
    for (unsigned levels = 1; levels <= 5; levels++) {
        expect(SPT_ON_EPT, levels, levels - 1, 12, 6, 2);
        expect(EPT_ON_EPT, levels, levels - 1, 8, 4, 3);
        expect(PVM_ON_EPT, levels, levels - 1, 6, 0, 1);
    }
}

/* Each further level that is missing costs one write more: four switches, two, two. */
static void one_write_a_level(void **state)
{
    (void)state;
    for (unsigned n = 2; n <= 5; n++) {
        unsigned more = n - 1;
        expect(SPT_ON_EPT, 5, 5 - n, 12 + 4 * more, 6 + 2 * more, 2);
        expect(EPT_ON_EPT, 5, 5 - n, 8 + 2 * more, 4 + more, 3);
        expect(PVM_ON_EPT, 5, 5 - n, 6 + 2 * more, 0, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(four_levels),
                                       cmocka_unit_test(only_the_leaf),
                                       cmocka_unit_test(one_write_a_level)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
