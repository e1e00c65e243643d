/* mutant.h: faults that are built in for the tests that must find them.
 *
 * MUTANT(name) is 0, a constant, in the product. Built with NB_MUTATIONS (the Makefile's $(B)/mutants/)
 * it is true while that fault is chosen. test_mutants fails when one is not found.
 */
#ifndef NB_BASE_MUTANT_H
#define NB_BASE_MUTANT_H

enum mutant_id {
    MUTANT_none,
#define MUTANT_DEF(name, what) MUTANT_##name,
#include "base/mutants.def"
#undef MUTANT_DEF
    MUTANT_COUNT
};

#ifdef NB_MUTATIONS
extern enum mutant_id mutant;
#define MUTANT(name) (mutant == MUTANT_##name)
#else
#define MUTANT(name) 0
#endif

#endif
