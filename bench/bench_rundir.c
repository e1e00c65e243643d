/* bench_rundir.c: one folder per run, never overwritten. */
#include "bench/bench_rundir.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/bench_util.h"
#include "bench/env.h"
#include "bench/version.h"

/* Host names go into file names: letters, digits and dashes, at most 20. */
static char *host_tag(const char *host)
{
    char *tag = strf("%.20s", strcmp(host, "-") == 0 ? "host" : host);
    for (char *p = tag; *p; p++)
        if (!isalnum((unsigned char)*p))
            *p = '-';
    return tag;
}

char *rundir_new(const char *results, const struct origin *o)
{
    char when[32], *tag = host_tag(o->host), *dir = NULL;
    utc("%Y%m%dT%H%M%SZ", when, sizeof when);
    make_dirs(results);
    for (unsigned i = 1; i < 1000; i++) {
        dir = i == 1 ? strf("%s/%s-%.7s-%s", results, when, o->git, tag)
                     : strf("%s/%s-%.7s-%s-%u", results, when, o->git, tag, i);
        if (mkdir(dir, 0777) == 0)
            break;
        if (errno != EEXIST)
            die(NB_IOERR, "mkdir %s: %s", dir, strerror(errno));
        free(dir);
        dir = NULL;
    }
    free(tag);
    if (!dir)
        die(NB_IOERR, "%s: no free name for a run", results);
    static const char *const parts[] = {"cells", "raw", "figs"};
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
        char *sub = strf("%s/%s", dir, parts[i]);
        make_dirs(sub);
        free(sub);
    }
    return dir;
}

char *rundir_find(const char *results, const char *run)
{
    char *dir = strf("%s", run);
    for (int pass = 0; pass < 2; pass++) {
        char *plan = strf("%s/plan.tsv", dir);
        bool there = access(plan, R_OK) == 0;
        free(plan);
        if (there)
            return dir;
        free(dir);
        dir = strf("%s/%s", results, run);
    }
    free(dir);
    die(NB_NOINPUT, "%s: no run there (no plan.tsv): give a folder, or the name of one in %s/", run,
        results);
}

void rundir_lock(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* stays open: the lock ends with us */
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        die(NB_FAIL, "%s: another nestbed is at work in this run: wait for it, or stop it first",
            dir);
}

bool rundir_redacted(const char *dir)
{
    char *path = strf("%s/env.json", dir);
    json_t *env = json_load_file(path, 0, NULL);
    bool yes = json_is_true(json_object_get(env, "redacted"));
    json_decref(env);
    free(path);
    return yes;
}

void rundir_latest(const char *dir)
{
    const char *name = strrchr(dir, '/');
    if (!name)
        return;
    char *link = strf("%.*s/latest", (int)(name - dir), dir),
         *tmp = strf("%s.tmp%ld", link, (long)getpid());
    unlink(tmp);
    if (symlink(name + 1, tmp) != 0 || rename(tmp, link) != 0) {
        log_warn("%s was not updated: %s", link, strerror(errno));
        unlink(tmp);
    }
    free(link);
    free(tmp);
}

static json_t *strings(int n, char **v)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++)
        if (json_array_append_new(a, json_string(v[i])) != 0) /* any bytes may come from outside */
            json_array_append_new(a, json_string("(not UTF-8)"));
    return a;
}

/* First line of `tool --version`, or null. */
static json_t *tool_version(const char *name)
{
    char *path = find_tool(name);
    if (!path)
        return json_null();
    char *argv[] = {path, strf("--version"), NULL};
    struct proc p;
    json_t *j = NULL;
    if (proc_run(&p, argv, 10) == 0) {
        char *out = proc_output(&p, NULL);
        j = json_stringn(out, strcspn(out, "\n"));
        free(out);
    }
    proc_close(&p);
    free(argv[1]);
    free(path);
    return j ? j : json_null();
}

static json_t *statuses(const struct bench *b)
{
    json_t *all = json_object();
    for (size_t i = 0; i < b->plan.n; i++) {
        char *path = strf("%s/cells/%s.json", b->dir, b->plan.cells[i].id);
        json_t *cell = json_load_file(path, 0, NULL), *status = json_object_get(cell, "status");
        json_object_set_new(all, b->plan.cells[i].id,
                            status ? json_incref(status) : json_string("missing"));
        json_decref(cell);
        free(path);
    }
    return all;
}

static char *manifest_path(const struct bench *b) { return strf("%s/manifest.json", b->dir); }

void manifest_write(const struct bench *b, int argc, char **argv, const char *status)
{
    char *path = manifest_path(b), now[40];
    json_t *old = json_load_file(path, 0, NULL), *j = json_object(),
           *started = json_object_get(old, "started");
    utc("%Y-%m-%dT%H:%M:%SZ", now, sizeof now);
    json_object_set_new(j, "schema", json_string("nestbed-run/1"));
    json_object_set_new(j, "version", json_string(nb_version));
    json_object_set_new(j, "git", json_string(b->origin.git));
    json_object_set_new(j, "command",
                        strcmp(b->origin.host, "-") == 0 ? json_null() : strings(argc, argv));
    json_object_set_new(j, "plan_hash", json_string(b->origin.plan_hash));
    json_object_set_new(j, "env_hash", json_string(b->origin.env_hash));
    json_object_set_new(j, "root_seed",
                        json_sprintf("0x%llx", (unsigned long long)b->plan.root_seed));
    json_object_set_new(j, "scale", json_string(scale_names[b->plan.scale]));
    json_object_set_new(j, "rounds", json_integer(b->rounds));
    json_object_set_new(j, "warmup", json_integer(b->warmup));
    json_object_set_new(j, "interleaved", json_boolean(b->flags.interleave));
    json_object_set_new(j, "harness", json_string(b->hyperfine ? "hyperfine" : "builtin"));
    json_object_set_new(j, "jobs", json_integer(b->jobs));
    json_object_set_new(j, "started", started ? json_incref(started) : json_string(now));
    json_object_set_new(j, "ended",
                        strcmp(status, "running") == 0 ? json_null() : json_string(now));
    json_object_set_new(j, "status", json_string(status));
    json_object_set_new(j, "tools",
                        json_pack("{so so}", "hyperfine", tool_version("hyperfine"), "gnuplot",
                                  tool_version("gnuplot")));
    json_object_set_new(j, "cells", statuses(b));
    write_json(path, j, JSON_INDENT(2));
    json_decref(j);
    json_decref(old);
    free(path);
}

void manifest_read(struct bench *b)
{
    char *path = manifest_path(b);
    json_t *j = json_load_file(path, 0, NULL);
    unsigned rounds = (unsigned)json_integer_value(json_object_get(j, "rounds"));
    const char *harness = json_string_value(json_object_get(j, "harness"));
    if (rounds) {
        b->rounds = rounds;
        b->warmup = (unsigned)json_integer_value(json_object_get(j, "warmup"));
        b->flags.interleave = json_is_true(json_object_get(j, "interleaved"));
    }
    if (harness && b->harness == HARNESS_AUTO)
        b->harness = strcmp(harness, "builtin") == 0 ? HARNESS_BUILTIN : HARNESS_HYPERFINE;
    json_decref(j);
    free(path);
}

void env_write(const struct bench *b, bool redact)
{
    char *path = strf("%s/env.json", b->dir);
    json_t *env = env_capture();
    char *line = env_paging_line(env);
    json_object_set_new(env, "summary", json_string(line));
    if (redact)
        env_redact(env);
    write_json(path, env, JSON_INDENT(2));
    json_decref(env);
    free(line);
    free(path);
}

void env_finish(const struct bench *b)
{
    char *path = strf("%s/env.json", b->dir);
    json_t *env = json_load_file(path, 0, NULL);
    if (env && !json_is_true(json_object_get(env, "redacted"))) {
        json_object_set_new(env, "activity_after", env_activity());
        write_json(path, env, JSON_INDENT(2));
    }
    json_decref(env);
    free(path);
}
