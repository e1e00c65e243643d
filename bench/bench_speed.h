/* bench_speed.h: the loops that experiment `speed` compares, as functions and as commands. */
#ifndef NB_BENCH_SPEED_H
#define NB_BENCH_SPEED_H

#include "bench/refloop.h"

/* The loads of a spec through the model, and through the hand-written loop. NB_OK or an exit code. */
int speed_model(const struct loop_spec *, struct loop_result *);
int speed_reference(const struct loop_spec *, struct loop_result *);

int cmd_bench_refloop(int argc, char **argv); /* nestbed bench refloop: the hand-written loop */
int cmd_bench_loop(int argc,
                   char **argv); /* nestbed bench loop: the same loads through the model */

#endif
