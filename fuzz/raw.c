/* raw.c: raw programs on one machine, judged. */
#include "fuzz/raw.h"

#include <string.h>

#include "shadow_vs_ept/shadow_kvm.h"

/* ---- a run ---- */

enum { MAX_WORDS = 512 };

struct run {
    struct bare b;
    struct oracle o;
    uint64_t *mem;                   /* what the guest's memory must hold */
    uint64_t dirty[RAW_FRAMES / 64]; /* frames of it ever written */
    uint64_t word[MAX_WORDS];        /* places in it ever written: where A and D bits may appear */
    unsigned nwords;
    bool has_cr3;
    struct verdict *v;
};

static uint64_t read_mem(const void *ctx, uint64_t gpa) { return ((const uint64_t *)ctx)[gpa / 8]; }

static bool inside(uint64_t gpa) { return gpa < (uint64_t)RAW_FRAMES << PAGE_SHIFT; }

/* The image of a modelled KVM runs from the first frames, which its kernel gives to no program, and in
 * entry 511 of each root: it makes the program's operations, and nobody else may change it. */
static bool usable(const struct run *r, uint64_t gpa)
{
    return inside(gpa) && (!r->b.cfg.paging->image || gpa >= (uint64_t)KHALF_FRAMES << PAGE_SHIFT);
}

static bool usable_va(const struct run *r, uint64_t va)
{
    return !r->b.cfg.paging->image || !canonical(va, r->b.cfg.levels) ||
           level_index(va, r->b.cfg.levels) != KHALF_ROOT_ENTRY;
}

static void put(struct run *r, uint64_t gpa, uint64_t value)
{
    r->mem[gpa / 8] = value;
    r->dirty[gpa >> PAGE_SHIFT >> 6] |= 1ull << (gpa >> PAGE_SHIFT & 63);
    for (unsigned i = 0; i < r->nwords; i++)
        if (r->word[i] == gpa)
            return;
    if (r->nwords < MAX_WORDS)
        r->word[r->nwords++] = gpa;
}

static void __attribute__((format(printf, 2, 3))) fail(struct run *r, const char *fmt, ...)
{
    va_list ap;
    if (r->v->failed)
        return;
    r->v->failed = true;
    va_start(ap, fmt);
    vsnprintf(r->v->text, sizeof r->v->text, fmt, ap);
    va_end(ap);
}

/* ---- accesses ---- */

/* Did memory change exactly as this answer says? */
static bool flags_agree(const struct run *r, const struct oracle_answer *x)
{
    for (unsigned i = 0; i < r->nwords; i++) {
        uint64_t want = r->mem[r->word[i] / 8];
        for (unsigned k = 0; k < x->nset; k++)
            want |= x->set[k].gpa == r->word[i] ? x->set[k].bits : 0;
        if (bare_peek(&r->b, r->word[i]) != want)
            return false;
    }
    return true;
}

static bool answer_agrees(const struct run *r, const struct oracle_answer *x, enum bare_end end,
                          hpa_t hpa)
{
    if (end == BARE_FAULT)
        return x->kind == ORACLE_GP ? r->b.error == FAULT_GP
                                    : x->kind == ORACLE_PF && r->b.error == x->error;
    return end == BARE_DONE && x->kind == ORACLE_ADDRESS && bare_is_at(&r->b, x->gpa, hpa);
}

/* The answers permitted, for a message. */
static char *permitted(const struct run *r, char *buf, size_t n)
{
    size_t k = 0;
    buf[0] = 0;
    for (unsigned i = 0; i < r->o.nways && k + 80 < n; i++) {
        bool seen = false;
        for (unsigned j = 0; j < i; j++)
            seen |= oracle_same(&r->o.way[i].answer, &r->o.way[j].answer);
        if (seen)
            continue;
        k += (size_t)snprintf(buf + k, n - k, "%s", k ? "; or " : "");
        oracle_describe(&r->o.way[i].answer, buf + k, n - k);
        k += strlen(buf + k);
    }
    return buf;
}

static void report(struct run *r, enum bare_end end, hpa_t hpa)
{
    char want[240], got[80];
    uint64_t gpa = 0;
    while (inside(gpa) && !bare_is_at(&r->b, gpa | (hpa & PAGE_MASK), hpa))
        gpa += PAGE_SIZE;
    if (end == BARE_STUCK || end == BARE_NO_FRAMES)
        snprintf(got, sizeof got, "%s", end == BARE_STUCK ? "no progress" : "no frames");
    else if (end == BARE_FAULT)
        snprintf(got, sizeof got, r->b.error == FAULT_GP ? "#GP" : "#PF error 0x%x", r->b.error);
    else if (inside(gpa))
        snprintf(got, sizeof got, "gpa 0x%llx", (unsigned long long)(gpa | (hpa & PAGE_MASK)));
    else
        snprintf(got, sizeof got, "hpa 0x%llx, which is no frame of the guest",
                 (unsigned long long)hpa);
    for (unsigned i = 0; i < r->nwords && strlen(got) < 50; i++) {
        uint64_t now = bare_peek(&r->b, r->word[i]), was = r->mem[r->word[i] / 8];
        if (now != was)
            snprintf(got + strlen(got), sizeof got - strlen(got), ", flips 0x%llx at 0x%llx",
                     (unsigned long long)(now ^ was), (unsigned long long)r->word[i]);
    }
    fail(r, "permitted: %s; got: %s", permitted(r, want, sizeof want), got);
}

static bool races(const struct run *r)
{
    for (unsigned i = 0; i < r->o.nways; i++)
        if (r->o.way[i].on_table)
            return true;
    return false;
}

static bool uses_image(const struct run *r)
{
    for (unsigned i = 0; i < r->o.nways; i++) {
        const struct oracle_way *w = &r->o.way[i];
        if (w->answer.kind == ORACLE_ADDRESS && !usable(r, w->answer.gpa))
            return true;
        for (unsigned l = w->low; l <= w->top; l++)
            if (!usable(r, w->at[l]))
                return true;
    }
    return false;
}

static void count(struct run *r)
{
    bool one = true;
    for (unsigned i = 1; i < r->o.nways; i++)
        one &= oracle_same(&r->o.way[i].answer, &r->o.way[0].answer);
    r->v->accesses++;
    r->v->certain += one;
}

/* The answer was x: go on from there. */
static void accept(struct run *r, const struct oracle_access *a, const struct oracle_answer *x,
                   hpa_t hpa, uint64_t value)
{
    const struct oracle_answer answer = *x; /* it lies in o.way */
    for (unsigned k = 0; k < answer.nset; k++)
        put(r, answer.set[k].gpa, r->mem[answer.set[k].gpa / 8] | answer.set[k].bits);
    /* KVM passes on a fault without P, or with RSVD, and leaves the entry that the hardware found, if
     * there is one: kvm_inject_emulated_page_fault() of Linux invalidates for the others only. */
    bool kept = r->b.cfg.paging->prefetches && answer.kind == ORACLE_PF &&
                (answer.error & (PF_P | PF_RSVD)) != PF_P;
    if (!kept)
        oracle_observe(&r->o, a, &answer);
    if (answer.kind != ORACLE_ADDRESS)
        return;
    uint64_t *there = mmu_ptr(r->b.mvm, hpa);
    if (a->store) {
        *there = value;
        put(r, answer.gpa, value);
    } else if (*there != r->mem[answer.gpa / 8])
        fail(r, "gpa 0x%llx holds 0x%llx, 0x%llx was stored", (unsigned long long)answer.gpa,
             (unsigned long long)*there, (unsigned long long)r->mem[answer.gpa / 8]);
}

/* A hypervisor with shadow tables sets the flags of the tables as they are, then the processor goes on by
 * an entry that AMD's walk cache has kept, by its place: the address of one way, the flags of another.
 * Both are permitted, and such a change has not been invalidated yet. */
static bool mixed_answer(const struct run *r, enum bare_end end, hpa_t hpa,
                         struct oracle_answer *out)
{
    bool address = false, flags = false;
    for (unsigned i = 0; i < r->o.nways; i++) {
        const struct oracle_answer *x = &r->o.way[i].answer;
        if (x->kind != ORACLE_ADDRESS)
            continue;
        if (!address && answer_agrees(r, x, end, hpa)) {
            address = true;
            out->gpa = x->gpa;
        }
        if (!flags && flags_agree(r, x)) {
            flags = true;
            out->nset = x->nset;
            memcpy(out->set, x->set, sizeof out->set);
        }
    }
    out->kind = ORACLE_ADDRESS;
    return r->o.by_place && r->b.cfg.paging->forces_wp && address && flags;
}

static void do_access(struct run *r, const struct op *op)
{
    const struct access a = {.va = op->arg[0] & ~7ull,
                             .store = op->kind == OP_RAW_store,
                             .fetch = op->kind == OP_RAW_fetch,
                             .supervisor = op->arg[1] != WHO_USER,
                             .ac = op->arg[1] == WHO_KERNEL_AC};
    const struct oracle_access oa = bare_oracle_access(&a);
    struct oracle_answer mixed;
    hpa_t hpa = 0;
    if (!r->has_cr3 || !usable_va(r, a.va))
        return;
    oracle_ask(&r->o, &oa);
    if ((a.store && races(r)) || (r->b.cfg.paging->image && uses_image(r)))
        return;
    count(r);
    mmu_guest_return(r->b.mmu); /* who accesses memory is not the code that changes tables */
    enum bare_end end = bare_access(&r->b, &a, !a.supervisor && !a.fetch, &hpa);
    for (unsigned i = 0; i < r->o.nways; i++)
        if (answer_agrees(r, &r->o.way[i].answer, end, hpa) &&
            flags_agree(r, &r->o.way[i].answer)) {
            accept(r, &oa, &r->o.way[i].answer, hpa, op->arg[2]);
            return;
        }
    if (mixed_answer(r, end, hpa, &mixed)) {
        accept(r, &oa, &mixed, hpa, op->arg[2]);
        return;
    }
    report(r, end, hpa);
}

/* ---- other operations ---- */

static void do_write(struct run *r, uint64_t gpa, uint64_t value)
{
    if (!usable(r, gpa) || gpa & 7)
        return;
    mmu_guest_pt_write(r->b.mmu, gpa, value);
    put(r, gpa, value);
}

static void do_read(struct run *r, uint64_t gpa)
{
    if (!usable(r, gpa) || gpa & 7)
        return;
    if (r->b.mvm->paging->guest_pt_read && r->has_cr3)
        r->b.mvm->paging->guest_pt_read(r->b.mmu, gpa);
    if (bare_peek(&r->b, gpa) != r->mem[gpa / 8])
        fail(r, "the kernel reads 0x%llx at 0x%llx, which must hold 0x%llx",
             (unsigned long long)bare_peek(&r->b, gpa), (unsigned long long)gpa,
             (unsigned long long)r->mem[gpa / 8]);
}

static void do_clear(struct run *r, uint64_t gpa)
{
    gpa &= ~PAGE_MASK;
    if (!usable(r, gpa))
        return;
    mmu_guest_touch(r->b.mmu, gpa_gfn(gpa), true);
    memset(gmem_ptr(r->b.gm, gpa), 0, PAGE_SIZE);
    memset(&r->mem[gpa / 8], 0, PAGE_SIZE);
}

static void do_cr3(struct run *r, uint64_t root, uint64_t pcid, bool keep)
{
    bool tags = r->b.cfg.cpu->pcid;
    root &= PTE_ADDR;
    /* KVM's roots share shadow pages, which know no PCIDs: a load that keeps translations keeps those of
     * other roots too. */
    if (r->b.cfg.paging->prefetches) {
        pcid = root >> PAGE_SHIFT;
        keep = false;
    }
    pcid &= CR3_PCID;
    if (!usable(r, root))
        return;
    mmu_guest_cr3(r->b.mmu, root | (tags ? pcid | (keep ? CR3_KEEP : 0) : 0));
    oracle_cr3(&r->o, root, (unsigned)pcid, keep);
    r->has_cr3 = true;
}

static void do_invpcid(struct run *r, uint64_t type, uint64_t pcid, uint64_t va)
{
    if (r->b.cfg.paging->prefetches) /* the root's number, as do_cr3() has it: of a few */
        pcid += RAW_TABLES;
    pcid = r->b.cfg.cpu->pcid ? pcid & CR3_PCID : 0;
    if (type > 3 || !canonical(va, r->b.cfg.levels))
        return;
    mmu_guest_invpcid(r->b.mmu, (enum invpcid_type)type, (unsigned)pcid, va);
    oracle_invpcid(&r->o, (unsigned)type, (unsigned)pcid, va);
}

static void do_control(struct run *r, uint64_t set)
{
    const struct mmu_control c = {.wp = set & CTL_WP,
                                  .smep = set & CTL_SMEP,
                                  .smap = set & CTL_SMAP,
                                  .pge = set & CTL_PGE,
                                  .nxe = set & CTL_NXE};
    mmu_guest_control(r->b.mmu, &c);
    struct oracle_regs regs = bare_oracle_regs(&r->b);
    oracle_control(&r->o, &regs);
}

/* Before an operation that changes something: what may be cached by itself until then. */
static void speculate(struct run *r, const struct fuzz_prog *p, enum op_kind kind)
{
    if (!r->b.cfg.paging->prefetches || !r->has_cr3 || kind == OP_RAW_load ||
        kind == OP_RAW_fetch || kind == OP_RAW_move)
        return;
    for (unsigned i = 0; i < p->n; i++)
        if (p->op[i].kind == OP_RAW_load || p->op[i].kind == OP_RAW_store ||
            p->op[i].kind == OP_RAW_fetch)
            oracle_speculate(&r->o, p->op[i].arg[0]);
}

static void do_op(struct run *r, const struct op *op)
{
    const uint64_t *a = op->arg;
    if (!r->has_cr3 && op->kind != OP_RAW_cr3 && op->kind != OP_RAW_move)
        do_cr3(r, (uint64_t)RAW_TABLES << PAGE_SHIFT, 0, false);
    switch (op->kind) {
    case OP_RAW_write:
        do_write(r, a[0], a[1]);
        break;
    case OP_RAW_read:
        do_read(r, a[0]);
        break;
    case OP_RAW_clear:
        do_clear(r, a[0]);
        break;
    case OP_RAW_cr3:
        do_cr3(r, a[0], a[1], a[2]);
        break;
    case OP_RAW_invlpg:
        if (canonical(a[0], r->b.cfg.levels)) {
            mmu_guest_invlpg(r->b.mmu, a[0]);
            oracle_invlpg(&r->o, a[0]);
        }
        break;
    case OP_RAW_invpcid:
        do_invpcid(r, a[0], a[1], a[2]);
        break;
    case OP_RAW_control:
        do_control(r, a[0]);
        break;
    case OP_RAW_move:
        fuzz_move_frames(r->b.gm, a[0], a[1]);
        break;
    default:
        do_access(r, op);
    }
}

/* ---- the whole ---- */

static void check_end(struct run *r)
{
    static const unsigned char zero[PAGE_SIZE];
    const char *why = bare_check(&r->b);
    /* ecpt mirrors leaves: its (2) is that of a kernel that writes upper entries only to link tables. An
     * entry that is out of date is found by the walk that needs it, so answers are judged all the same. */
    if (why && strncmp(why, "ecpt (2)", 8) != 0)
        fail(r, "an invariant is broken: %s", why);
    for (uint64_t g = 0; g < RAW_FRAMES && !r->v->failed; g++) {
        bool written = r->dirty[g / 64] >> (g % 64) & 1;
        const void *want = written ? (const void *)&r->mem[g << PAGE_SHIFT >> 3] : zero;
        bool there = gmem_state(r->b.gm, gfn(g)) == PG_RESIDENT;
        if (!written && (!there || r->b.gm->fixed)) /* all of a machine's memory is there */
            continue;
        if (memcmp(there ? gmem_ptr(r->b.gm, g << PAGE_SHIFT) : zero, want, PAGE_SIZE))
            fail(r, "frame 0x%llx does not hold what was stored", (unsigned long long)g);
    }
}

/* Memory to judge by, kept from run to run: only what was written is cleared. */
static void forget_memory(struct run *r)
{
    for (uint64_t g = 0; g < RAW_FRAMES; g++)
        if (r->dirty[g / 64] >> (g % 64) & 1)
            memset(&r->mem[g << PAGE_SHIFT >> 3], 0, PAGE_SIZE);
}

void raw_run(const struct fuzz_prog *p, const struct fuzz_machine *m, struct verdict *v)
{
    static uint64_t memory[(uint64_t)RAW_FRAMES << PAGE_SHIFT >> 3];
    static struct run r;
    const struct fuzz_variant *var = fuzz_variant(m->variant);
    const struct bare_config cfg = {.paging = m->paging,
                                    .cpu = &var->cpu,
                                    .levels = p->levels,
                                    .host_levels = var->host_levels,
                                    .mem = (uint64_t)RAW_FRAMES << PAGE_SHIFT,
                                    .host_mem = 4ull * RAW_FRAMES << PAGE_SHIFT,
                                    .host_page = var->host_page};
    memset(&r.dirty, 0, sizeof r.dirty);
    r.mem = memory;
    r.nwords = 0;
    r.has_cr3 = false;
    r.v = v;
    *v = (struct verdict){.failed = false};
    if (!bare_new(&r.b, &cfg, v->text, sizeof v->text)) {
        v->skipped = true;
        return;
    }
    const struct oracle_memory om = {cfg.mem, read_mem, r.mem};
    struct oracle_regs regs = bare_oracle_regs(&r.b);
    oracle_init(&r.o, &regs, &om, var->cpu.pwc_kind == PWC_AMD);
    for (v->op = 0; v->op < p->n && !v->failed && !r.o.full; v->op++) {
        speculate(&r, p, p->op[v->op].kind);
        do_op(&r, &p->op[v->op]);
        if (v->failed)
            break;
    }
    if (!v->failed)
        check_end(&r);
    bare_free(&r.b);
    forget_memory(&r);
}
