/* cmd_plot.c: `nestbed plot`: draw the figures of a run again. */
#include <argp.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/bench_rundir.h"
#include "bench/command.h"

struct args {
    const char *dir;
    int number;
    bool dumb;
};

static const struct argp_option options[] = {{"fig", 'f', "N", 0, "Only figure N", 0},
                                             {"dumb", 'd', 0, 0, "As text on the terminal", 0},
                                             {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    uint64_t n;
    switch (key) {
    case 'f':
        if (!parse_u64(arg, &n) || n < 1 || n > 99)
            argp_error(state, "--fig %s: figures have numbers from 1", arg);
        a->number = (int)n;
        return 0;
    case 'd':
        a->dumb = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->dir)
            argp_error(state, "one run directory at a time");
        a->dir = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    options,
    parse,
    "[RUN_DIR]",
    "Draw the figures of a run (default results/latest) from its cells into RUN_DIR/figs.\v"
    "Example: nestbed plot results/latest --fig 4 --dumb",
    NULL,
    NULL,
    NULL};

static int cmd_plot(int argc, char **argv)
{
    struct args a = {0};
    struct results r;
    char err[512];
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    char *dir = rundir_find("results", a.dir ? a.dir : "latest");
    int code = results_load(&r, dir, err, sizeof err);
    if (code != NB_OK)
        die(code, "%s", err);
    code = figs_draw(&r, a.number, a.dumb);
    if (code == NB_OK && !a.dumb)
        printf("%s/figs\n", dir);
    results_free(&r);
    free(dir);
    return code;
}

REGISTER(command, plot, .summary = "Draw the figures of a benchmark run", .run = cmd_plot);
