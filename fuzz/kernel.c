/* kernel.c: kernel programs on the model, each access judged, and histories compared.
 *
 * The judge stands between the MMU and the engine. Before an access it asks the oracle what the guest's
 * tables say. A #PF must have been foretold, with its error code; when the kernel has repaired it, the
 * oracle is asked again. An access that is made must have gone where the tables say, and must have set
 * the A and D bits that it had to: of the leaf exactly, of upper entries at most, since a translation
 * that is cached reads none. Bits of global pages are not judged: another process may have cached them.
 *
 * What the guest kernel decides (which access it refuses, what a new page holds) is not judged but compared: with
 * native, which has the same kernel. tests/unit/test_guest.c is about the kernel.
 */
#include "fuzz/kernel.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/model.h"

/* ---- histories ---- */
void history_add(struct history *h, struct seen s)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? 2 * h->cap : 256;
        h->at = meta_realloc(META_TRACE, h->at, h->cap * sizeof *h->at);
    }
    h->at[h->n++] = s;
}

void history_free(struct history *h)
{
    if (h->at)
        meta_free(META_TRACE, h->at);
    *h = (struct history){.n = 0};
}

bool kernel_op(const struct fuzz_prog *p, uint64_t i, struct script_op *out)
{
    if (i >= p->n)
        return false;
    out->kind = (uint64_t)(p->op[i].kind - OP_KERNEL_map);
    memcpy(out->arg, p->op[i].arg, sizeof out->arg);
    return true;
}

/* ---- a run ---- */
struct run {
    const struct fuzz_prog *p;
    struct history *history;
    struct verdict *v;
    struct hw *hw;
    const struct mmu_ops *below; /* the engine's */
    struct oracle oracle;
    struct oracle_access access; /* under way */
    bool asked;                  /* oracle.way[0] is what it must do */
    unsigned op;
};

static void __attribute__((format(printf, 2, 3))) fail(struct run *r, const char *fmt, ...)
{
    va_list ap;
    if (r->v->failed)
        return;
    r->v->failed = true;
    r->v->op = r->op;
    va_start(ap, fmt);
    vsnprintf(r->v->text, sizeof r->v->text, fmt, ap);
    va_end(ap);
}

static uint64_t read_word(const void *ctx, uint64_t gpa)
{
    const struct gmem *g = ctx;
    return gmem_state(g, gpa_gfn(gpa)) == PG_RESIDENT ? *(const uint64_t *)gmem_ptr(g, gpa) : 0;
}

static void ask(struct run *r)
{
    const struct hw *h = r->hw;
    const struct mmu_control *c = &h->mmu->ctl;
    const struct oracle_regs regs = {.levels = h->cfg->levels,
                                     .wp = c->wp,
                                     .smep = c->smep,
                                     .smap = c->smap,
                                     .pge = c->pge,
                                     .nxe = c->nxe,
                                     .root = gk_cr3(h->kernel) & PTE_ADDR};
    const struct oracle_memory mem = {h->cfg->mem, read_word, h->gm};
    oracle_init(&r->oracle, &regs, &mem, false);
    oracle_ask(&r->oracle, &r->access);
    r->asked = true;
}

/* ---- judging ---- */
static void on_fault(void *ctx, gva_t va, unsigned error)
{
    struct run *r = ctx;
    const struct oracle_answer *x = &r->oracle.way[0].answer;
    if (r->asked && (x->kind != ORACLE_PF || x->error != error)) {
        char want[160];
        fail(r, "permitted: %s; got: #PF error 0x%x at 0x%llx",
             oracle_describe(x, want, sizeof want), error, (unsigned long long)va);
    }
    r->asked = false; /* a refused access comes back elsewhere */
    r->below->guest_fault(r->hw, va, error);
    ask(r);
}

static __attribute__((noreturn)) void on_no_frames(void *ctx)
{
    struct run *r = ctx;
    r->below->no_frames(r->hw);
}

static __attribute__((noreturn)) void on_no_progress(void *ctx, gva_t va)
{
    struct run *r = ctx;
    r->below->no_progress(r->hw, va);
}

static const struct mmu_ops judging_ops = {on_fault, on_no_frames, on_no_progress, NULL};

/* Flags of the entries on its way, after the access. */
static void judge_flags(struct run *r, const struct oracle_way *w)
{
    for (unsigned l = w->low; l <= w->top; l++) {
        uint64_t now = read_word(r->hw->gm, w->at[l]), must = 0;
        for (unsigned i = 0; i < w->answer.nset; i++)
            must |= w->answer.set[i].gpa == w->at[l] ? w->answer.set[i].bits : 0;
        if (w->page.global || now == (w->value[l] | must) || (l > w->low && now == w->value[l]))
            continue;
        fail(r, "the level %u entry at 0x%llx is 0x%llx, not 0x%llx", l,
             (unsigned long long)w->at[l], (unsigned long long)now,
             (unsigned long long)(w->value[l] | must));
    }
}

static void judge_access(struct run *r, uint64_t value)
{
    const struct oracle_way *w = &r->oracle.way[0];
    const struct hw *h = r->hw;
    uint64_t gpa = w->answer.gpa;
    r->v->accesses++;
    r->v->certain++;
    if (w->answer.kind != ORACLE_ADDRESS) {
        char want[160];
        fail(r, "permitted: %s; got: an access", oracle_describe(&w->answer, want, sizeof want));
        return;
    }
    bool there = gmem_state(h->gm, gpa_gfn(gpa)) == PG_RESIDENT;
    if (!there || (unsigned char *)gmem_ptr(h->gm, gpa & ~PAGE_MASK) != h->mmu->hot.page)
        fail(r, "permitted: gpa 0x%llx; got: another frame", (unsigned long long)gpa);
    else if (read_word(h->gm, gpa) != value)
        fail(r, "gpa 0x%llx holds 0x%llx, not 0x%llx", (unsigned long long)gpa,
             (unsigned long long)read_word(h->gm, gpa), (unsigned long long)value);
    judge_flags(r, w);
}

/* ---- the script's input and output ---- */
static bool next(void *ctx, uint64_t i, struct script_op *out)
{
    struct run *r = ctx;
    r->op = (unsigned)i;
    return !r->v->failed && kernel_op(r->p, i, out);
}

static void about_to_access(void *ctx, gva_t va, bool store)
{
    struct run *r = ctx;
    r->access = (struct oracle_access){.va = va, .store = store};
    ask(r);
}

static void saw(void *ctx, enum script_tag tag, uint64_t a, uint64_t b)
{
    struct run *r = ctx;
    if (tag == SAW_VALUE)
        judge_access(r, b);
    r->asked = false;
    history_add(r->history, (struct seen){r->op, tag, a, b});
}

static void move(void *ctx, uint64_t first, uint64_t n)
{
    struct run *r = ctx;
    fuzz_move_frames(r->hw->gm, first, n);
}

/* ---- the end ---- */
static void at_the_end(struct run *r)
{
    struct hw *h = r->hw;
    struct counters c;
    const char *why = model_check(h);
    if (why)
        fail(r, "an invariant is broken: %s", why);
    if (!model_hash(h, &r->history->memory, &r->history->tables))
        die(NB_INTERNAL, "no memory for a hash");
    model_counters(h, &c);
    r->history->faults = c.guest_faults;
    r->history->pt_writes = c.guest_pt_writes;
}

/* ---- the whole ---- */
enum { SEGMENT = 64 << 10 }; /* least primary region, where the strategy wants some */

static void run_on(struct run *r, const struct vm_config *cfg, struct result *res)
{
    const struct script_io io = {next, saw, about_to_access, move, r};
    struct hw *h = r->hw;
    if (setjmp(h->end)) {
        if (res->outcome != OUTCOME_GUEST_OOM) /* the one end that a program can bring about */
            fail(r, "the run ended as %s: %s", outcome_names[res->outcome], res->detail);
        r->v->early = true;
        return;
    }
    int code = model_boot(h, cfg, res, r->v->text, sizeof r->v->text);
    if (code != NB_OK && code != NB_USAGE)
        die(code, "%s", r->v->text);
    if (code != NB_OK) {
        r->v->skipped = true;
        return;
    }
    r->below = h->mvm->ops;
    h->mvm->ops = &judging_ops;
    h->mvm->ctx = r;
    script_run(&h->user, &io);
    if (!r->v->failed)
        at_the_end(r);
}

static void run_with(const struct fuzz_prog *p, const struct fuzz_machine *m, uint64_t segment,
                     struct history *history, struct verdict *v)
{
    static struct run r; /* its oracle is large */
    static struct result res;
    const struct fuzz_variant *var = fuzz_variant(m->variant);
    const struct vm_config cfg = {.paging = m->paging->name,
                                  .segment_bytes = segment,
                                  .cpu = &var->cpu,
                                  .host_page = var->host_page,
                                  .guest_page = PAGES_THP,
                                  .levels = p->levels,
                                  .host_levels = var->host_levels,
                                  .mem = KERNEL_MEM,
                                  .host_mem = 2ull * KERNEL_MEM,
                                  .vcpus = var->vcpus,
                                  .flush_ceiling = 33};
    *v = (struct verdict){.failed = false};
    *history = (struct history){.outcome = OUTCOME_OK};
    r.p = p, r.history = history, r.v = v, r.op = 0, r.asked = false;
    if ((p->levels == 5 && m->paging->no_levels) ||
        (var->host_levels == 5 && m->paging->no_host_levels)) {
        snprintf(v->text, sizeof v->text, "%s has no tables of five levels", m->paging->name);
        v->skipped = true;
        return;
    }
    res = (struct result){.outcome = OUTCOME_OK};
    r.hw = meta_calloc(META_MMU, 1, sizeof *r.hw);
    run_on(&r, &cfg, &res);
    history->outcome = res.outcome;
    snprintf(history->detail, sizeof history->detail, "%s", res.detail);
    model_free(r.hw);
    meta_free(META_MMU, r.hw);
}

static uint64_t segment_for(const struct paging *p)
{
    return p && p->guest_wants.segment_bytes ? SEGMENT : 0;
}

void kernel_run(const struct fuzz_prog *p, const struct fuzz_machine *m, struct history *h,
                struct verdict *v)
{
    run_with(p, m, segment_for(m->paging), h, v);
}

void kernel_reference(const struct fuzz_prog *p, const struct paging *of, struct history *h,
                      struct verdict *v)
{
    const struct fuzz_machine plainest = {REG_FIND(paging, "native"), 0};
    run_with(p, &plainest, segment_for(of), h, v);
    if (v->skipped)
        die(NB_INTERNAL, "native, to compare with, does not start: %s", v->text);
}

/* ---- comparing ---- */
static const char *const tags[] = {"a result of", "a value at", "a fault at"};

static void print_seen(const struct history *h, unsigned i, char *buf, size_t n)
{
    const struct seen *s = &h->at[i];
    if (i >= h->n)
        snprintf(buf, n, "nothing more (%s%s%.100s)", outcome_names[h->outcome],
                 h->detail[0] ? ": " : "", h->detail);
    else if (s->tag == SAW_RESULT)
        snprintf(buf, n, "result %lld, 0x%llx", (long long)s->a, (unsigned long long)s->b);
    else
        snprintf(buf, n, "%s 0x%llx: 0x%llx", tags[s->tag], (unsigned long long)s->a,
                 (unsigned long long)s->b);
}

static bool differ(struct verdict *v, unsigned op, const char *what, uint64_t want, uint64_t got)
{
    if (want == got)
        return false;
    v->failed = true;
    v->op = op;
    snprintf(v->text, sizeof v->text, "native has %s 0x%llx; got 0x%llx", what,
             (unsigned long long)want, (unsigned long long)got);
    return true;
}

static bool same_seen(const struct history *a, const struct history *b, unsigned i)
{
    return i < a->n && i < b->n && a->at[i].op == b->at[i].op && a->at[i].tag == b->at[i].tag &&
           a->at[i].a == b->at[i].a && a->at[i].b == b->at[i].b;
}

bool history_agree(const struct history *h, const struct history *ref, const struct fuzz_prog *p,
                   struct verdict *v)
{
    char want[180], got[180];
    for (unsigned i = 0; i < ref->n || i < h->n; i++)
        if (!same_seen(ref, h, i)) {
            v->failed = true;
            v->op = i < ref->n ? ref->at[i].op : i < h->n ? h->at[i].op : p->n;
            print_seen(ref, i, want, sizeof want);
            print_seen(h, i, got, sizeof got);
            snprintf(v->text, sizeof v->text, "native shows %s; got %s", want, got);
            return false;
        }
    if (differ(v, p->n, "outcome", ref->outcome, h->outcome) || ref->outcome != OUTCOME_OK)
        return !v->failed;
    return !differ(v, p->n, "memory (hash)", ref->memory, h->memory) &&
           !differ(v, p->n, "leaf entries (hash)", ref->tables, h->tables) &&
           !differ(v, p->n, "page faults", ref->faults, h->faults) &&
           !differ(v, p->n, "table writes", ref->pt_writes, h->pt_writes);
}
