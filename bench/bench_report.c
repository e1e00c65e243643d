/* bench_report.c: report.html: one file, no scripts, nothing fetched. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_run.h"
#include "bench/bench_util.h"
#include "bench/env.h"
#include "bench/stats.h"
#include "bench/version.h"

REGISTRY(experiment);

static const char css[] =
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1b1b1b;--line:#ccc;--soft:#f4f4f4}"
    "@media(prefers-color-scheme:dark){:root{--bg:#16181c;--fg:#e6e6e6;--line:#444;--soft:#22252b}}"
    "body{background:var(--bg);color:var(--fg);font:16px/1.5 "
    "system-ui,sans-serif;max-width:70rem;margin:2rem auto;"
    "padding:0 1rem}table{border-collapse:collapse;margin:1rem "
    "0;font-size:.85rem;display:block;overflow-x:auto}"
    "th,td{border-bottom:1px solid var(--line);padding:.2rem .6rem;text-align:left}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}th{background:var(--soft)}"
    "figure{margin:1.5rem 0}img{max-width:100%;height:auto;background:#fff}"
    "figcaption{font-size:.9rem}pre{background:var(--soft);padding:.6rem;overflow-x:auto}"
    "@media print{body{max-width:none}figure{break-inside:avoid}}";

static void escaped(FILE *f, const char *s)
{
    for (; *s; s++) {
        if (*s == '<')
            fputs("&lt;", f);
        else if (*s == '>')
            fputs("&gt;", f);
        else if (*s == '&')
            fputs("&amp;", f);
        else if (*s == '"')
            fputs("&quot;", f);
        else
            fputc(*s, f);
    }
}

static void base64(FILE *f, const unsigned char *p, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16 | (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0) |
                     (i + 2 < n ? p[i + 2] : 0);
        fputc(digit[v >> 18], f);
        fputc(digit[v >> 12 & 63], f);
        fputc(i + 1 < n ? digit[v >> 6 & 63] : '=', f);
        fputc(i + 2 < n ? digit[v & 63] : '=', f);
    }
}

static void figure(FILE *f, const struct results *r, const struct figure *g)
{
    char *path = strf("%s/figs/%s.svg", r->dir, g->stem);
    size_t n;
    char *svg = read_file(path, &n);
    free(path);
    if (!svg)
        return;
    fprintf(f, "<figure id=\"%s\"><img alt=\"", g->stem);
    escaped(f, g->caption);
    fputs("\" src=\"data:image/svg+xml;base64,", f);
    base64(f, (const unsigned char *)svg, n);
    fprintf(f, "\"><figcaption><b>Figure %d.</b> ", g->number);
    escaped(f, g->caption);
    fprintf(f, " [%s]</figcaption></figure>\n", g->tag);
    free(svg);
}

static void cell_number(FILE *f, double v)
{
    if (isnan(v))
        fputs("<td></td>", f);
    else
        fprintf(f, "<td class=\"n\">%.4g</td>", v);
}

static void exact_table(FILE *f, const struct results *r, const char *experiment)
{
    bool any = false;
    for (size_t i = 0; i < r->plan.n; i++) {
        const struct cell *c = &r->plan.cells[i];
        const json_t *rec = json_object_get(r->cells[i], "record");
        if (strcmp(c->experiment, experiment) != 0 || c->kind != CELL_EXACT ||
            !cell_ok(r->cells[i]))
            continue;
        if (!any)
            fputs("<details><summary>Cells</summary><table><tr><th>cell</th><th>refs per walk "
                  "[exact]</th>"
                  "<th>TLB misses per 1000 accesses [exact]</th><th>exits per 1000 accesses "
                  "[exact]</th>"
                  "<th>cycles per access [modelled]</th></tr>\n",
                  f);
        any = true;
        double accesses = rec_counter(rec, "accesses"), refs = rec_refs(rec);
        fputs("<tr><td>", f);
        escaped(f, c->name);
        fputs("</td>", f);
        cell_number(f, isnan(refs) ? num(rec, "refs") : refs);
        cell_number(f, 1000 * rec_counter(rec, "tlb_l2_misses") / accesses);
        cell_number(f, 1000 * rec_counter(rec, "exits") / accesses);
        cell_number(f, rec_cycles(rec, "total") / accesses);
        fputs("</tr>\n", f);
    }
    if (any)
        fputs("</table></details>\n", f);
}

static void timed_table(FILE *f, const struct results *r, const char *experiment)
{
    bool any = false;
    for (size_t i = 0; i < r->plan.n; i++) {
        const struct cell *c = &r->plan.cells[i];
        double x[STAT_MAX];
        size_t n = cell_samples(r->cells[i], "accesses_per_second", x, STAT_MAX);
        if (strcmp(c->experiment, experiment) != 0 || n == 0)
            continue;
        struct interval v = stat_bootstrap(x, n, c->seed);
        if (!any)
            fputs("<table><tr><th>cell [measured]</th><th>M accesses/s, median</th><th>95 % "
                  "from</th><th>to</th>"
                  "<th>samples</th></tr>\n",
                  f);
        any = true;
        fputs("<tr><td>", f);
        escaped(f, c->name);
        fputs("</td>", f);
        cell_number(f, v.mid / 1e6);
        cell_number(f, v.lo / 1e6);
        cell_number(f, v.hi / 1e6);
        fprintf(f, "<td class=\"n\">%zu</td></tr>\n", n);
    }
    if (any)
        fputs("</table>\n", f);
}

static void not_ok(FILE *f, const struct results *r)
{
    bool any = false;
    for (size_t i = 0; i < r->plan.n; i++) {
        const char *status = json_string_value(json_object_get(r->cells[i], "status"));
        const char *reason = json_string_value(json_object_get(r->cells[i], "reason"));
        if (cell_ok(r->cells[i]))
            continue;
        if (!any)
            fputs("<h2>Cells without a "
                  "result</h2><table><tr><th>cell</th><th>status</th><th>reason</th></tr>\n",
                  f);
        any = true;
        fputs("<tr><td>", f);
        escaped(f, r->plan.cells[i].name);
        fputs("</td><td>", f);
        escaped(f, status ? status : "missing");
        fputs("</td><td>", f);
        escaped(f, reason ? reason : "");
        fputs("</td></tr>\n", f);
    }
    if (any)
        fputs("</table>\n", f);
}

static void findings(FILE *f, const struct results *r)
{
    char *text;
    size_t n;
    FILE *m = open_memstream(&text, &n);
    if (!m)
        return;
    findings_print(r, m);
    fclose(m);
    fputs("<h2>Findings</h2><pre>", f);
    escaped(f, text);
    fputs("</pre>\n", f);
    free(text);
}

void report_write(const struct results *r, FILE *f)
{
    const struct reg_head *all[64];
    size_t n = REG_SORTED(experiment, all, ARRAY_SIZE(all));
    char *path = strf("%s/env.json", r->dir), when[40];
    json_t *env = json_load_file(path, 0, NULL);
    char *line = env ? env_paging_line(env) : strf("%s", "");
    fprintf(
        f,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width\"><meta http-equiv=\"Content-Security-Policy\" "
        "content=\"default-src "
        "'none'; img-src data:; style-src 'unsafe-inline'\"><title>nestbed "
        "run</title><style>%s</style>"
        "</head><body>\n<h1>nestbed run</h1><p>Commit %s, %s plan of %zu cells, root seed "
        "%llu, "
        "report written %s by version %s (%s).</p>\n<p>",
        css, results_git(r), scale_names[r->plan.scale], r->plan.n,
        (unsigned long long)r->plan.root_seed, utc("%Y-%m-%d %H:%M UTC", when, sizeof when),
        nb_version, nb_git);
    escaped(f, line);
    fputs("</p><p>Every number is <b>exact</b> (a count that cannot be otherwise), <b>modelled</b> "
          "(computed from "
          "counts and the stated costs) or <b>measured</b> (on the machine of env.json).</p>\n",
          f);
    findings(f, r);
    for (size_t i = 0; i < n; i++) {
        const struct experiment *e = REG_FIND(experiment, all[i]->name);
        fprintf(f, "<h2>%s</h2><p>", e->name);
        escaped(f, e->summary);
        fputs("</p>\n", f);
        for (const struct figure *g = e->figures; g && g->stem; g++)
            figure(f, r, g);
        timed_table(f, r, e->name);
        exact_table(f, r, e->name);
    }
    not_ok(f, r);
    fputs("</body></html>\n", f);
    free(path);
    free(line);
    json_decref(env);
}
