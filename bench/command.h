/* command.h: one subcommand of nestbed.
 *
 * A subcommand is one file bench/cmd_NAME.c ending in
 *
 *     REGISTER(command, NAME, .summary = "...", .run = cmd_NAME);
 *
 * run() gets argv[0] = "nestbed NAME" (so that argp's messages and --help name it) and the rest of
 * the command line, and returns an exit code of base/base.h. Its --help ends in an example.
 * Results go to stdout, everything else to stderr; main() flushes and checks stdout at exit.
 */
#ifndef NB_BENCH_COMMAND_H
#define NB_BENCH_COMMAND_H

#include "base/registry.h"

struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
};

REGISTRY(command);

#endif
