/* main.c: the nestbed command: finds the subcommand, and makes sure that what it printed arrived.
 *
 * Called as nestbed-bench it is the `bench` subcommand.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "bench/command.h"
#include "bench/version.h"
#include "vmm/labvm.h"
#include "vmm/linux_guest.h"

REGISTRY(paging);
REGISTRY(workload);
REGISTRY(engine);
REGISTRY(trace_format);
REGISTRY(experiment);
REGISTRY(claim);

enum { MAX_COMMANDS = 64 };

/* A full disk or a closed pipe shows when the buffer is written: too late to ignore. */
static void close_stdout(void)
{
    bool broken = ferror(stdout), printed = broken || __fpending(stdout);
    errno = 0;
    if (fclose(stdout) == 0 && !broken)
        return;
    if (errno == EBADF && !printed) /* started with stdout closed, and nothing to say */
        return;
    fprintf(stderr,
            "nestbed: cannot write standard output%s%s: free space or choose another place\n",
            errno ? ": " : "", errno ? strerror(errno) : "");
    _exit(NB_IOERR);
}

static void usage(FILE *out)
{
    const struct reg_head *cmd[MAX_COMMANDS];
    size_t n = REG_SORTED(command, cmd, MAX_COMMANDS);
    fputs("Usage: nestbed COMMAND [OPTION...]\n"
          "Native, shadow and nested paging, counted exactly, and beside a real KVM.\n\n"
          "Commands:\n",
          out);
    for (size_t i = 0; i < n; i++)
        fprintf(out, "  %-12s %s\n", cmd[i]->name, cmd[i]->summary);
    fputs("\n"
          "  help COMMAND show the options of a command (also: nestbed COMMAND --help)\n"
          "  --version    print the version\n"
          "\n"
          "Example: nestbed run --paging shadow --workload gups --seed 7\n"
          "\n"
          "Exit status: 0 done, 1 ran but failed, 64 bad usage, 65 bad input, 66 no input,\n"
          "69 something needed is missing, 70 a bug, 74 output could not be written, 77 skipped,\n"
          "124 a guest was ended by --timeout.\n",
          out);
}

static int unknown(const char *name)
{
    static const char *const extra[] = {"help"};
    const char *near = REG_NEAREST(command, name);
    if (!near && edit_distance(name, extra[0]) <= 2)
        near = extra[0];
    if (near)
        fprintf(stderr,
                "nestbed: unknown command '%s': did you mean '%s'? (nestbed --help lists them)\n",
                name, near);
    else
        fprintf(stderr, "nestbed: unknown command '%s': nestbed --help lists the commands\n", name);
    return NB_USAGE;
}

static int dispatch(const char *name, int argc, char **argv)
{
    const struct command *c = REG_FIND(command, name);
    char title[64];
    if (!c)
        return unknown(name);
    snprintf(title, sizeof title, "nestbed %s", name);
    argv[0] = title;
    return c->run(argc, argv);
}

/* nestbed help CMD = nestbed CMD --help */
static int help(int argc, char **argv)
{
    static char flag[] = "--help";
    char *args[] = {argv[0], flag, NULL};
    if (argc < 2) {
        usage(stdout);
        return NB_OK;
    }
    if (strcmp(argv[1], "help") == 0) {
        puts("Usage: nestbed help [COMMAND]\nShow the commands, or the options of one.\n\nExample: "
             "nestbed help run");
        return NB_OK;
    }
    return dispatch(argv[1], 2, args);
}

/* Copying a plug-in and forgetting to rename it would hide one of the two. */
static void refuse_duplicates(void)
{
    const struct {
        const char *kind, *name;
    } twice[] = {
        {"paging strategies", REG_DUPLICATE(paging)},
        {"workloads", REG_DUPLICATE(workload)},
        {"engines", REG_DUPLICATE(engine)},
        {"commands", REG_DUPLICATE(command)},
        {"trace formats", REG_DUPLICATE(trace_format)},
        {"experiments", REG_DUPLICATE(experiment)},
        {"claims", REG_DUPLICATE(claim)},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(twice); i++)
        if (twice[i].name)
            die(NB_INTERNAL, "two %s are called '%s': rename one in its REGISTER line",
                twice[i].kind, twice[i].name);
}

static int nestbed(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (argc < 2) {
        usage(stderr);
        return NB_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "-?") == 0) {
        usage(stdout);
        return NB_OK;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        printf("nestbed %s (%s)\n", nb_version, nb_git);
        return NB_OK;
    }
    if (name[0] == '-') {
        fprintf(stderr,
                "nestbed: option '%s' must follow a command: nestbed COMMAND %s (nestbed --help)\n",
                name, name);
        return NB_USAGE;
    }
    if (strcmp(name, "help") == 0)
        return help(argc - 1, argv + 1);
    return dispatch(name, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    static char self[] = "nestbed";
    static char *none[] = {self, NULL};
    const char *base;
    if (labvm_is_init())
        return labvm_init_main();
    if (linux_is_init())
        return linux_init_main();
    atexit(close_stdout);
    signal(SIGPIPE, SIG_DFL); /* `nestbed list counters | head` ends quietly, whoever started us */
    log_init();
    refuse_duplicates();
    if (argc < 1) {
        argc = 1;
        argv = none;
    }
    base = strrchr(argv[0], '/');
    base = base ? base + 1 : argv[0];
    if (strcmp(base, "nestbed-bench") == 0)
        return dispatch("bench", argc, argv);
    return nestbed(argc, argv);
}
