/* unchecked.c: targets of the list of published results that nothing here checks, and why.
 *
 * They stand in the table so that a reader finds every number of the list in it.
 */
#include "bench/verify.h"

#define UNCHECKED(number, what, who, why)                                      \
    REGISTER_AS(claim, v##number, "V" #number, .summary = what, .source = who, \
                .kind = CLAIM_SHAPE, .unchecked = why)

#define HARDWARE "a measurement of hardware"
#define SHARING "needs page sharing"
#define BALLOON "needs the balloon"

UNCHECKED(13, "share of walks in run time: gups 96.3 %, redis 47.8 %, memcached 13.9 %",
          "SagePTE artifact [2]", HARDWARE ", of programs that are not here");
UNCHECKED(19, "fork with 32 processes: 32,000 us with shadow paging, 513.5 with EPT",
          "PVM, SOSP'23 [F]", HARDWARE ": the time is spent waiting for KVM's lock");
UNCHECKED(22, "PVM cuts the latency of nested exits by more than 75 %", "PVM, SOSP'23 [F]",
          HARDWARE);
UNCHECKED(23, "KSM scans 5,000 pages a second; break-even at 64 items a page",
          "Linux, mm/ksm.c and its documentation [F]", SHARING);
UNCHECKED(24, "52 Windows XP guests of 1 GiB in 16 GiB", "KSM, OLS'09 [2]", SHARING);
UNCHECKED(25, "sharing and patching save 90 % and 65 %, 1.5 to 2.5 times ESX's",
          "Difference Engine, OSDI'08 [A]", SHARING);
UNCHECKED(26, "94 % of the sharing that is possible", "Satori, ATC'09 [A]", SHARING);
UNCHECKED(27, "12.6 and 5 times the savings at the same work", "UKSM, FAST'18 [A]", SHARING);
UNCHECKED(28, "a balloon of 2 MiB pages reclaims 143 times as fast", "HyperAlloc, EuroSys'25 [F]",
          BALLOON);
UNCHECKED(30, "breaking large pages before ballooning: up to 2.1 times as fast",
          "Guo et al., VEE'15 [A]", SHARING " and the balloon");
UNCHECKED(32, "a balloon costs 1.4 to 4.4 %", "ESX, OSDI'02 [M]", HARDWARE);
UNCHECKED(33, "second-level TLB hits cost 7 to 9 cycles, L1 4, L2 12 to 15", "InstLatX64 [F, D]",
          "an input: the presets hold these numbers");
