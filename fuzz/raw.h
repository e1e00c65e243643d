/* raw.h: run a raw program on one machine and judge every answer by the oracle.
 *
 * After each access: is the answer one that the manual permits now (one only, where the program has
 * invalidated as it must), and did exactly the A and D bits change that go with it? After each load: is
 * the value what was stored? At the end: is all of the guest's memory as it must be, and do the machine's
 * own invariants hold?
 *
 * Left out, the same for all machines: a store to a table that its own translation uses (the A and D bits
 * it sets and the value it stores race); PCIDs on a processor without them; on a machine whose guest
 * kernel is our image (struct paging, image), what is the image's.
 */
#ifndef NB_FUZZ_RAW_H
#define NB_FUZZ_RAW_H

#include "fuzz/bare.h"
#include "fuzz/machine.h"
#include "fuzz/program.h"

void raw_run(const struct fuzz_prog *, const struct fuzz_machine *, struct verdict *);

#endif
