/* bench_speed.h: the two loops that experiment `speed` compares, as commands. */
#ifndef NB_BENCH_SPEED_H
#define NB_BENCH_SPEED_H

int cmd_bench_refloop(int argc, char **argv); /* nestbed bench refloop: the hand-written loop */
int cmd_bench_loop(int argc,
                   char **argv); /* nestbed bench loop: the same loads through the model */

#endif
