/* bench_fig.c: figures: figs/STEM.tsv and .gp, then gnuplot makes .svg and .png.
 *
 * gnuplot without fonts draws charts without text and says nothing, so fonts are asked for first.
 */
#include "bench/bench_fig.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/bench_proc.h"
#include "bench/bench_util.h"

REGISTRY(experiment);
EMBED(style_gp, "bench/plots/style.gp");

#define FONT "DejaVu Sans"

/* NULL, or what to install. */
static const char *missing_tool(void)
{
    char *gnuplot = find_tool("gnuplot"), *match = find_tool("fc-match");
    const char *why = NULL;
    if (!gnuplot)
        why = "gnuplot is not installed: apt-get install gnuplot-nox fonts-dejavu-core fontconfig";
    else if (match) {
        char *argv[] = {match, strf("-f"), strf("%%{family}"), strf(FONT), NULL};
        struct proc p;
        int code = proc_run(&p, argv, 10);
        char *family = proc_output(&p, NULL);
        if (code != 0 || !*family)
            why = "no fonts found, figures would have no text: apt-get install fonts-dejavu-core "
                  "fontconfig";
        free(family);
        proc_close(&p);
        for (int i = 1; i < 4; i++)
            free(argv[i]);
    } else {
        why = "fc-match is not installed, so fonts cannot be checked: apt-get install fontconfig "
              "fonts-dejavu-core";
    }
    free(gnuplot);
    free(match);
    return why;
}

static void write_data(const struct figure *g, const char *dir, const char *text)
{
    char *path = strf("%s/%s.tsv", dir, g->stem),
         *all = strf("# %s [%s]\n%s", g->caption, g->tag, text);
    write_file(path, all, strlen(all));
    free(path);
    free(all);
}

static void write_script(const struct figure *g, const char *dir)
{
    char *path = strf("%s/%s.gp", dir, g->stem);
    char *text =
        strf("# %s [%s]\n# Redraw: gnuplot -e \"fmt='svg'\" %s.gp   (svg, png, pdf or dumb)\n"
             "stem = '%s'\n%s",
             g->caption, g->tag, g->stem, g->stem, g->script);
    write_file(path, text, strlen(text));
    free(text);
    free(path);
}

static int gnuplot(const char *dir, const struct figure *g, const char *fmt)
{
    char *tool = find_tool("gnuplot");
    char *argv[] = {find_tool("sh"),
                    strf("-c"),
                    strf("cd -- \"$1\" && exec \"$2\" -e \"fmt='$3'\" \"$4.gp\""),
                    strf("sh"),
                    strf("%s", dir),
                    tool,
                    strf("%s", fmt),
                    strf("%s", g->stem),
                    NULL};
    struct proc p;
    int code = proc_run(&p, argv, 120);
    char *out = proc_output(&p, NULL), *err = read_fd(p.err, NULL);
    if (strcmp(fmt, "dumb") == 0)
        printf("%s\nFigure %d. %s [%s]\n\n", out, g->number, g->caption, g->tag);
    if (code != 0 && !interrupted())
        fprintf(stderr, "nestbed: gnuplot failed on %s/%s.gp:\n%s", dir, g->stem, err);
    free(out);
    free(err);
    proc_close(&p);
    for (char **a = argv; *a; a++)
        free(*a);
    return code == 0 ? NB_OK : NB_FAIL;
}

static int render(const struct figure *g, const char *dir, const char *text, bool dumb)
{
    write_data(g, dir, text);
    write_script(g, dir);
    if (dumb)
        return gnuplot(dir, g, "dumb");
    int svg = gnuplot(dir, g, "svg"), png = gnuplot(dir, g, "png");
    return svg ? svg : png;
}

/* NB_SKIP: there is nothing to draw. */
static int draw(const struct results *r, const struct figure *g, const char *dir, bool dumb)
{
    char *text;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        die(NB_FAIL, "no memory for a figure");
    bool any = g->data(r, f);
    fclose(f);
    int code = any ? render(g, dir, text, dumb) : NB_SKIP;
    free(text);
    return code;
}

static void write_style(const char *dir)
{
    char *style = strf("%s/style.gp", dir);
    make_dirs(dir);
    write_file(style, style_gp, strlen(style_gp));
    free(style);
}

int fig_draw(const struct figure *g, const char *dir, const char *tsv)
{
    const char *why = missing_tool();
    if (why) {
        fprintf(stderr, "nestbed: no figure: %s\n", why);
        return NB_NODEVICE;
    }
    write_style(dir);
    return render(g, dir, tsv, false);
}

int figs_draw(const struct results *r, int number, bool dumb)
{
    const struct reg_head *all[64];
    size_t n = REG_SORTED(experiment, all, ARRAY_SIZE(all));
    const char *why = missing_tool();
    int code = NB_OK, drawn = 0;
    if (interrupted())
        return NB_SIGINT;
    if (why) {
        fprintf(stderr, "nestbed: no figures: %s\n", why);
        return NB_NODEVICE;
    }
    char *dir = strf("%s/figs", r->dir);
    write_style(dir);
    for (size_t i = 0; i < n; i++) {
        const struct figure *g = REG_FIND(experiment, all[i]->name)->figures;
        for (; g && g->stem; g++) {
            if (number && g->number != number)
                continue;
            int one = draw(r, g, dir, dumb);
            drawn += one == NB_OK;
            if (one == NB_SKIP && number)
                fprintf(stderr, "nestbed: figure %d has no data in this run\n", g->number);
            if (one != NB_OK && (one != NB_SKIP || number))
                code = one;
        }
    }
    if (number && !drawn && code == NB_OK) {
        fprintf(stderr, "nestbed: there is no figure %d\n", number);
        code = NB_USAGE;
    }
    free(dir);
    return code;
}
