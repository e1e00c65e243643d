/* bench_vmm.h: the two sides of experiment `vmm`, as one command. */
#ifndef NB_BENCH_VMM_H
#define NB_BENCH_VMM_H

int cmd_bench_vmm(int argc, char **argv); /* nestbed bench vmm: exits and VM starts, bare or ours */

#endif
