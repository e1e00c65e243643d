/* sys.h: ring 3 of the image: system calls that vmm/user.h does not have. For probes and scripts.
 *
 * Nothing of libc exists here. Compilers find memset, memcpy, memmove and memcmp
 * (guest/image/mem.c, this half's own copy).
 */
#ifndef NB_WORKLOADS_IMAGE_SYS_H
#define NB_WORKLOADS_IMAGE_SYS_H

#include "workloads/workload.h"

/* Have ring 0 run part `id` of a probe, n times, at `addr`; what probe_kernel() returned. */
uint64_t sys_probe(unsigned id, uint64_t n, uint64_t addr);
/* A part of a probe ends here: the VMM cuts counts and times (NB_CALL_MARK). */
void sys_mark(uint64_t value);
/* The host takes back the frames behind [at, at + len), 4 KiB aligned; they read as zero afterwards.
 * Pages that are not mapped are passed over. GK_EINVAL: not a range of user space. */
int sys_discard(gva_t at, uint64_t len);
/* Operation `number` of the script that the VMM has: its kind and first argument; false: there is none. */
bool sys_op(uint64_t number, uint64_t *kind, uint64_t *arg);
/* Its arguments k and k + 1, k at most 2. */
void sys_op_rest(unsigned k, uint64_t arg[2]);
void sys_saw(uint64_t tag, uint64_t a, uint64_t b);
/* From now on an access that the kernel refuses to an instruction in [from, to) goes on at rip, its #PF
 * error code in rax. GK_EINVAL: rip is not in the image's user part. */
int sys_recover(uint64_t from, uint64_t to, uint64_t rip);

/* The program has finished: the run ends. */
void sys_done(void);

#endif
