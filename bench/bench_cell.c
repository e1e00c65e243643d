/* bench_cell.c: one cell: its process, its file, what counts as finished. */
#include "bench/bench_cell.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "bench/bench_util.h"
#include "bench/env.h"

/* "nestbed 0.1.0 (abc1234)" -> "abc1234" */
static char *program_git(const char *program)
{
    char *argv[] = {strf("%s", program), strf("--version"), NULL};
    struct proc p;
    char *git = NULL;
    if (proc_run(&p, argv, 10) == 0) {
        char *out = proc_output(&p, NULL), *open = strchr(out, '('),
             *end = open ? strchr(open, ')') : NULL;
        if (end)
            git = strf("%.*s", (int)(end - open - 1), open + 1);
        free(out);
    }
    proc_close(&p);
    free(argv[0]);
    free(argv[1]);
    return git ? git : strf("unknown");
}

void origin_init(struct origin *o, const char *program, const struct plan *p, bool redact)
{
    char host[256] = "-";
    json_t *env = env_capture();
    *o = (struct origin){.program = program ? strf("%s", program) : program_path(), .timeout = 600};
    o->git = program_git(o->program);
    if (!redact)
        gethostname(host, sizeof host - 1);
    o->host = strf("%s", host);
    snprintf(o->plan_hash, sizeof o->plan_hash, "%016llx", (unsigned long long)p->hash);
    env_hash(env, o->env_hash);
    json_decref(env);
}

void origin_free(struct origin *o)
{
    free(o->program);
    free(o->git);
    free(o->host);
}

char **cell_argv(const struct origin *o, const struct cell *c)
{
    char **argv = xcalloc(PROC_MAX_ARGS + 1, sizeof *argv), *words = cell_words(c), *save = NULL;
    unsigned n = 0;
    argv[n++] = strf("%s", o->program);
    for (char *w = strtok_r(words, " ", &save); w && n < PROC_MAX_ARGS - 2;
         w = strtok_r(NULL, " ", &save))
        argv[n++] = strf("%s", w);
    free(words);
    return argv;
}

void cell_argv_free(char **argv)
{
    for (char **a = argv; *a; a++)
        free(*a);
    free(argv);
}

char *cell_path(const char *dir, const struct cell *c) { return strf("%s/%s.json", dir, c->id); }

/* An id leaves the seed out; a plan of another root seed wants another result. */
static bool same_seed(const json_t *j, const struct cell *c)
{
    const char *text = json_string_value(json_object_get(j, "seed"));
    uint64_t seed;
    return c->seeded ? text && parse_u64(text, &seed) && seed == c->seed : !text;
}

json_t *cell_finished(const char *dir, const struct cell *c)
{
    char *path = cell_path(dir, c);
    json_t *j = json_load_file(path, 0, NULL);
    const char *id = json_string_value(json_object_get(j, "id"));
    const char *status = json_string_value(json_object_get(j, "status"));
    free(path);
    if (id && status && strcmp(id, c->id) == 0 && same_seed(j, c) &&
        (strcmp(status, "ok") == 0 || strcmp(status, "skipped") == 0))
        return j;
    json_decref(j);
    return NULL;
}

json_t *cell_new(const struct origin *o, const struct cell *c)
{
    char seed[32], when[40];
    snprintf(seed, sizeof seed, "0x%llx", (unsigned long long)c->seed);
    return json_pack("{ss ss ss ss ss ss so ss ss ss ss ss}", "schema", "nestbed-cell/1", "id",
                     c->id, "name", c->name, "experiment", c->experiment, "kind",
                     cell_kinds[c->kind], "command", c->command, "seed",
                     c->seeded ? json_string(seed) : json_null(), "git", o->git, "plan_hash",
                     o->plan_hash, "env_hash", o->env_hash, "host", o->host, "end",
                     utc("%Y-%m-%dT%H:%M:%SZ", when, sizeof when));
}

static char *outcome_of(const json_t *record)
{
    const json_t *o = json_object_get(record, "outcome");
    const char *status = json_string_value(json_object_get(o, "status"));
    const char *detail = json_string_value(json_object_get(o, "detail"));
    if (!status || strcmp(status, "ok") == 0)
        return NULL;
    return strf("%s%s%s", status, detail && *detail ? ": " : "", detail ? detail : "");
}

/* Can it stand in JSON? Programs and file names may hold any bytes. */
static bool utf8(const char *s)
{
    json_t *j = json_string(s);
    json_decref(j);
    return j != NULL;
}

const char *cell_status(int code, const char *out, size_t len, const char *errors, json_t **record,
                        char **why)
{
    json_error_t e;
    /* Of a plan, what a cell needs and the host lacks is no failure: NB_NODEVICE is one of a command
     * that was given by hand. */
    bool skipped = code == NB_SKIP || code == NB_NODEVICE;
    *record = json_loadb(out, len, 0, &e);
    *why = NULL;
    if (skipped)
        *why = strf("%s", *errors ? errors : "skipped");
    else if (code == NB_TIMEOUT)
        *why = strf("ran out of time");
    else if (code == 0 && !*record)
        *why = strf("printed no JSON: line %d: %s", e.line, e.text);
    else if (!(*why = outcome_of(*record)) && code != 0)
        *why = strf("exit %d: %s", code, *errors ? errors : "no message");
    for (char *p = *why; p && *p && !utf8(*why); p++)
        if (*p & 0x80)
            *p = '?';
    if (skipped)
        return "skipped";
    return *why ? "failed" : "ok";
}

void cell_start(const struct origin *o, const struct cell *c, struct proc *p)
{
    char **argv = cell_argv(o, c), *words = cell_words(c);
    log_info("%s: nestbed %s", c->name, words);
    free(words);
    proc_start(p, argv, o->timeout);
    cell_argv_free(argv);
}

const char *cell_end(const struct origin *o, const struct cell *c, struct proc *p, const char *dir)
{
    size_t len;
    char *out = proc_output(p, &len), *errors = proc_errors(p), *why, *path = cell_path(dir, c);
    json_t *record, *j = cell_new(o, c);
    const char *status = cell_status(p->code, out, len, errors, &record, &why);
    json_object_set_new(j, "status", json_string(status));
    json_object_set_new(j, "reason", why ? json_string(why) : json_null());
    json_object_set_new(j, "exit_code", json_integer(p->code));
    json_object_set_new(j, "wall_seconds", json_real(p->wall));
    json_object_set_new(j, "user_seconds", json_real(p->user));
    json_object_set_new(j, "system_seconds", json_real(p->system));
    json_object_set_new(j, "max_rss_kib", json_integer(p->max_rss_kib));
    json_object_set_new(j, "record", record ? record : json_null());
    write_json(path, j, JSON_COMPACT);
    json_decref(j);
    proc_close(p);
    free(path);
    free(out);
    free(errors);
    free(why);
    return status;
}

const char *cell_run(const struct origin *o, const struct cell *c, const char *dir)
{
    struct proc p;
    cell_start(o, c, &p);
    if (proc_wait_any(&p, 1) < 0) {
        procs_kill_all();
        proc_close(&p);
        return NULL;
    }
    return cell_end(o, c, &p, dir);
}
