/* engine_labvm.c: engine `labvm`: engine `kvm`, run by nestbed inside the lab machine.
 *
 * The configuration is written as the command line of that run, its record is read back. Times in it
 * are virtual: with instructions counted, a nanosecond is one instruction of the emulated machine,
 * of the guest, KVM and Linux together. wall_seconds is ours: what the whole took here, boot
 * included. --timeout counts that time too.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/labvm_internal.h"

enum { MAX_NODES = 8, TEXT = 4096 };

struct command {
    char *argv[LABVM_MAX_WORDS + 1];
    unsigned argc;
    char text[TEXT];
    size_t used;
    bool full;
};

static void add(struct command *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct command *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(c->text + c->used, sizeof c->text - c->used, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof c->text - c->used || c->argc == LABVM_MAX_WORDS) {
        c->full = true;
        return;
    }
    c->argv[c->argc++] = c->text + c->used;
    c->argv[c->argc] = NULL;
    c->used += (size_t)n + 1;
}

static void build(struct command *c, const struct vm_config *cfg, const struct program *prog,
                  const char *paging)
{
    static const char *const page[] = {
        [PAGES_4K] = "4k", [PAGES_2M] = "2m", [PAGES_1G] = "1g", [PAGES_THP] = "thp"};
    char numa[64];
    add(c, "run");
    add(c, "--engine=kvm");
    add(c, "--json");
    add(c, "--quiet");
    add(c, "--paging=%s", paging);
    add(c, "--mem=%" PRIu64, cfg->mem);
    add(c, "--seed=%" PRIu64, cfg->seed);
    add(c, "--levels=%u", cfg->levels);
    add(c, "--guest-page=%s", page[cfg->guest_page]);
    add(c, "--host-page=%s", page[cfg->host_page]);
    if (cfg->numa.kind != NUMA_DEFAULT)
        add(c, "--numa=%s", numa_policy_name(&cfg->numa, numa, sizeof numa));
    add(c, "--set=guest.flush_ceiling=%u", cfg->flush_ceiling);
    add(c, "--set=host.backing=%s", backing_kind_name(cfg->backing));
    add(c, "--set=run.hash=%d", cfg->hash);
    add(c, "--set=run.check=%d", cfg->check);
    for (char *const *w = prog->words; *w; w++)
        add(c, "%s", *w);
}

/* Nodes of the machine: as many as the placement names. */
static unsigned nodes(const struct numa_policy *p)
{
    return p->kind == NUMA_BIND ? (unsigned)p->node + 1 : p->kind == NUMA_INTERLEAVE ? 2 : 1;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int check(const struct vm_config *cfg, const struct program *prog, const char *paging,
                 char *err, size_t n)
{
    if (!prog->name || !prog->words)
        snprintf(err, n, "a trace runs on --engine model only");
    else if (strcmp(paging, "ept") != 0 && strcmp(paging, "shadow") != 0)
        snprintf(err, n, "--paging %s: a real KVM has ept or shadow; others run on --engine model",
                 paging);
    else if (cfg->reload_kvm)
        snprintf(err, n, "--reload-kvm is for --engine kvm: labvm has its own KVM in both modes");
    else if (cfg->mem > LABVM_MAX_GUEST)
        snprintf(err, n, "--mem: a guest on labvm has at most %lluG",
                 (unsigned long long)(LABVM_MAX_GUEST >> 30));
    else if (nodes(&cfg->numa) > MAX_NODES)
        snprintf(err, n, "--numa: the lab machine has at most %d nodes", MAX_NODES);
    else
        return NB_OK;
    return NB_USAGE;
}

/* A job that ended without a record has said why on its stderr. */
static int take_record(const struct labvm_job *job, const char *paging, struct result *res,
                       char *err, size_t errlen)
{
    if (!job->out[0]) {
        const char *why = strncmp(job->errors, "nestbed: ", 9) == 0 ? job->errors + 9 : job->errors;
        snprintf(err, errlen, "in the lab machine: %.*s (exit code %d)",
                 *why ? (int)strcspn(why, "\n") : 80,
                 *why ? why : "it was killed, for want of memory", job->status);
        return job->status ? job->status : NB_FAIL;
    }
    if (!labvm_record(job->out, res, err, errlen))
        return NB_FAIL;
    if (strcmp(res->paging, paging) == 0)
        return NB_OK;
    snprintf(err, errlen, "the lab machine ran in mode %s instead of %s", res->paging, paging);
    return NB_FAIL;
}

/* The limit is a limit of the guest, for whoever reads the record; nothing was counted. */
static int timed_out(struct result *res, const char *paging, const char *why)
{
    *res = (struct result){.outcome = OUTCOME_TIMEOUT, .virtual_time = true};
    memset(res->total.unseen, true, sizeof res->total.unseen);
    snprintf(res->paging, sizeof res->paging, "%s", paging);
    snprintf(res->detail, sizeof res->detail, "%.200s", why);
    return NB_OK;
}

static int run(const struct vm_config *cfg, const struct program *prog, struct result *res)
{
    const char *paging = cfg->paging ? cfg->paging : "ept";
    struct labvm_config lab = {.icount = true, .timeout = cfg->timeout, .nodes = nodes(&cfg->numa)};
    struct command c = {.argc = 0};
    struct labvm_job job = {.paging = paging, .argv = c.argv};
    char err[1024] = "";
    double start = now();
    int code = check(cfg, prog, paging, err, sizeof err);
    if (code == NB_OK) {
        build(&c, cfg, prog, paging);
        assert(!c.full);
        code = labvm_run(&lab, &job, 1, err, sizeof err);
        if (code == NB_OK)
            code = take_record(&job, paging, res, err, sizeof err);
        else if (code == NB_TIMEOUT)
            code = timed_out(res, paging, err);
    }
    labvm_free(&job, 1);
    res->wall_seconds = now() - start;
    if (code != NB_OK)
        fprintf(stderr, "nestbed: %s\n", err);
    return code;
}

REGISTER(engine, labvm,
         .summary = "engine kvm on an emulated machine's Linux KVM: both modes, instructions",
         .real = true, .run = run);
