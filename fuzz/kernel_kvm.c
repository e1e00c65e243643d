/* kernel_kvm.c: kernel programs on this host's KVM: the script in ring 3 of the guest image.
 *
 * The image runs "test:script" (workloads/image/script.c). Operations go to it and what it saw comes
 * back by struct nb_script, many at a time, so that what a TLB holds lives on from one operation to the
 * next. The guest may do anything with it: operations are asked for in turn, what was seen belongs to one
 * that was handed out, never to an earlier one than before, and is at most SCRIPT_SEEN_MAX things of one; a
 * program is finished when it was told that there is no more. Otherwise the run ends as `aborted`.
 *
 * The host moves frames when it hands out SCRIPT_move, always the first of its piece, while the vCPU
 * stands still: contents are copied out, the frames given back, so that KVM's MMU notifiers drop every
 * translation of them, and the contents copied into new ones. The reserved range stays: on the model it
 * takes no guest memory.
 *
 * The guest kernel's invariants are checked on the model, which has the same kernel: in an emulated ring
 * 0 that takes a second. A and D bits, faults and table writes are those of a run from the guest's boot
 * on, as on the model.
 */
#include <inttypes.h>
#include <string.h>

#include "fuzz/kernel.h"
#include "vmm/image_vm.h"

/* Of one program; in ordinary circumstances milliseconds. */
#define TIMEOUT_SECONDS 20

struct session {
    const struct fuzz_prog *prog;
    struct history *h;
    uint64_t given; /* operations */
    bool ended;     /* the guest knows that there are no more */
    uint32_t op;    /* that saw something last, and how much */
    unsigned seen;
};

static bool refuse(struct session *s, const char *what)
{
    snprintf(s->h->detail, sizeof s->h->detail, "after %" PRIu64 " operations the guest %s",
             s->given, what);
    return false;
}

static void move_frames(struct backing *mem, uint64_t first, uint64_t n)
{
    uint64_t low = gk_reserved_bytes(mem->bytes) >> PAGE_SHIFT, frames = mem->bytes >> PAGE_SHIFT;
    uint64_t end = first > frames || n > frames - first ? frames : first + n;
    if (first < low)
        first = low;
    if (first >= end)
        return;
    uint64_t at = first << PAGE_SHIFT, len = (end - first) << PAGE_SHIFT;
    void *copy = meta_calloc(META_HOST, 1, len);
    memcpy(copy, mem->mem + at, len);
    if (!backing_discard(mem, at, len))
        die(NB_NODEVICE, "the host would not take frames of a guest back (madvise): %m");
    memcpy(mem->mem + at, copy, len);
    meta_free(META_HOST, copy);
}

static bool take(struct session *s, struct seen seen)
{
    if (seen.op >= s->given || seen.op < s->op)
        return refuse(s, "saw something without an operation");
    s->seen = seen.op == s->op ? s->seen + 1 : 1;
    s->op = seen.op;
    if (seen.tag > SAW_FAULT || s->seen > SCRIPT_SEEN_MAX)
        return refuse(s, "saw what no operation shows");
    history_add(s->h, seen);
    return true;
}

static bool take_all(struct session *s, struct image_vm *m)
{
    struct nb_script copy;
    memcpy(&copy, m->script, sizeof copy);
    m->script->nsaw = 0;
    if (copy.nsaw > NB_SAWS)
        return refuse(s, "saw more than it can say");
    for (unsigned i = 0; i < copy.nsaw; i++)
        if (!take(s, (struct seen){.op = copy.saw[i].op,
                                   .tag = (enum script_tag)copy.saw[i].tag,
                                   .a = copy.saw[i].a,
                                   .b = copy.saw[i].b}))
            return false;
    return true;
}

/* As many as there is room for, up to the next that moves frames. */
static void give(struct session *s, struct image_vm *m)
{
    struct script_op op;
    unsigned n = 0;
    for (; n < NB_OPS && kernel_op(s->prog, s->given, &op); n++, s->given++) {
        if (op.kind == SCRIPT_move && n > 0)
            break;
        if (op.kind == SCRIPT_move)
            move_frames(m->mem, op.arg[0], op.arg[1]);
        m->script->op[n].kind = op.kind;
        memcpy(m->script->op[n].arg, op.arg, sizeof op.arg);
    }
    m->script->nops = n;
    s->ended = n == 0;
}

static bool on_op(struct session *s, struct image_vm *m, uint64_t number)
{
    if (!take_all(s, m))
        return false;
    if (number != s->given && !s->ended)
        return refuse(s, "asked for another one");
    give(s, m);
    return true;
}

static bool on_done(struct session *s, struct image_vm *m, const struct nb_boot *b)
{
    if (!take_all(s, m))
        return false;
    if (!s->ended)
        return refuse(s, "ended before its program");
    s->h->faults = b->faults;
    s->h->pt_writes = b->pt_writes;
    return image_vm_hash(m, b, &s->h->memory, &s->h->tables) ||
           refuse(s, "ended with tables that are not our kernel's");
}

static bool on_call(void *ctx, struct image_vm *m, enum nb_call call, const struct nb_boot *copy)
{
    switch (call) {
    case NB_CALL_OP:
        return on_op(ctx, m, copy->value);
    case NB_CALL_SAW:
        return take_all(ctx, m);
    case NB_CALL_DONE:
        return on_done(ctx, m, copy);
    default:
        return true;
    }
}

bool kernel_kvm_here(char *err, size_t n) { return kvm_host(err, n) != NULL; }

/* CPUID 7, ECX bit 16. */
bool kernel_kvm_five_levels(void)
{
    char err[300];
    const struct kvm_host *host = kvm_host(err, sizeof err);
    if (!host)
        die(NB_NODEVICE, "%s", err);
    const struct kvm_cpuid_entry2 *e = kvm_host_cpuid(host, 7, 0);
    return e && (e->ecx >> 16 & 1);
}

bool kernel_kvm_run_as(const char *guest, uint64_t param, const struct fuzz_prog *prog,
                       struct history *h, char *err, size_t n)
{
    struct session s = {.prog = prog, .h = h};
    struct vm_config cfg = {.guest_page = PAGES_THP,
                            .levels = prog->levels,
                            .mem = KERNEL_MEM,
                            .flush_ceiling = 33,
                            .timeout = TIMEOUT_SECONDS};
    *h = (struct history){.outcome = OUTCOME_OK};
    if (prog->levels == 5 && !kernel_kvm_five_levels()) {
        snprintf(err, n, "this KVM has no 5-level paging");
        return false;
    }
    struct image_vm *m = NULL;
    int code = image_vm_new(&m, &cfg, err, n);
    if (code != NB_OK)
        die(code, "%s", err);
    h->outcome = image_vm_run(m, guest, &param, 1, 0, on_call, &s, h->detail, sizeof h->detail);
    if (h->outcome != OUTCOME_OK && h->outcome != OUTCOME_ABORTED)
        take_all(&s, m); /* up to what ended it */
    image_vm_free(m);
    return true;
}

bool kernel_kvm_run(const struct fuzz_prog *prog, struct history *h, char *err, size_t n)
{
    return kernel_kvm_run_as("test:script", 0, prog, h, err, n);
}
