/* bench_paper.c: numbers of a run between the markers of a Markdown file.
 *
 *     <!-- begin:ID -->24<!-- end:ID -->
 *
 * The text between is replaced by the fact called ID. Measured facts differ from run to run, so
 * --check does not compare them; a fact that the run does not hold leaves its text as it is.
 */
#include <stdlib.h>
#include <string.h>

#include "bench/bench_run.h"
#include "bench/bench_util.h"

struct edit {
    const char *path;
    const json_t *facts;
    FILE *out;
    bool check;
    unsigned stale, kept;
};

/* One marker: `p` is at "<!-- begin:". Writes it with its new text; returns what follows, NULL when
 * broken. */
static const char *marker(struct edit *e, const char *p)
{
    char id[96];
    const char *name = p + strlen("<!-- begin:"), *close = strstr(name, " -->");
    if (!close || (size_t)(close - name) >= sizeof id)
        return NULL;
    snprintf(id, sizeof id, "%.*s", (int)(close - name), name);
    const char *body = close + strlen(" -->");
    char *end = strf("<!-- end:%s -->", id);
    const char *stop = strstr(body, end);
    const json_t *f = json_object_get(e->facts, id);
    const char *text = json_string_value(json_object_get(f, "text"));
    if (stop) {
        size_t n = (size_t)(stop - body);
        bool same = text && strlen(text) == n && strncmp(text, body, n) == 0;
        bool measured = json_is_true(json_object_get(f, "measured"));
        if (!text)
            e->kept++;
        if (text && !same && !(e->check && measured)) {
            e->stale++;
            if (e->check)
                fprintf(stderr, "%s: %s is \"%.*s\", the run says \"%s\"\n", e->path, id,
                        (int)(n > 60 ? 60 : n), body,
                        strchr(text, '\n') ? "(another table)" : text);
        }
        fwrite(p, 1, (size_t)(body - p), e->out);
        if (text)
            fputs(text, e->out);
        else
            fwrite(body, 1, n, e->out);
        fputs(end, e->out);
        stop += strlen(end);
    }
    free(end);
    return stop;
}

static void rewrite(struct edit *e, const char *text)
{
    for (const char *p = text; *p;) {
        const char *m = strstr(p, "<!-- begin:");
        if (!m) {
            fputs(p, e->out);
            return;
        }
        fwrite(p, 1, (size_t)(m - p), e->out);
        p = marker(e, m);
        if (!p)
            die(NB_DATAERR, "%s: marker without its end: %.60s", e->path, m);
    }
}

int paper_update(const char *dir, const char *path, bool check)
{
    char *facts = strf("%s/facts.json", dir), *text = read_file(path, NULL), *fresh;
    size_t len;
    json_error_t why;
    struct edit e = {.path = path, .check = check, .facts = json_load_file(facts, 0, &why)};
    if (!e.facts)
        die(NB_NOINPUT, "%s: %s: is it a run directory? (`nestbed bench collect %s` makes it)",
            facts, why.text, dir);
    if (!text)
        die(NB_NOINPUT, "open %s: no such file", path);
    e.out = open_memstream(&fresh, &len);
    rewrite(&e, text);
    fclose(e.out);
    if (!check && strcmp(text, fresh) != 0)
        write_file(path, fresh, len);
    if (check)
        printf("%s: %s\n", path, e.stale ? "stale" : "up to date");
    else
        printf("%s: %u numbers changed%s\n", path, e.stale,
               e.kept ? ", some are not in this run and stay" : "");
    json_decref((json_t *)(uintptr_t)e.facts);
    free(facts);
    free(text);
    free(fresh);
    return check && e.stale ? NB_FAIL : NB_OK;
}
