/* bare.c: a VM without a guest kernel. */
#include "fuzz/bare.h"

#include <stdio.h>
#include <string.h>

static void on_fault(void *ctx, gva_t va, unsigned error)
{
    struct bare *b = ctx;
    (void)va;
    b->error = error;
    longjmp(*b->escape, BARE_FAULT);
}

static __attribute__((noreturn)) void on_no_frames(void *ctx)
{
    longjmp(*((struct bare *)ctx)->escape, BARE_NO_FRAMES);
}

static __attribute__((noreturn)) void on_no_progress(void *ctx, gva_t va)
{
    (void)va;
    longjmp(*((struct bare *)ctx)->escape, BARE_STUCK);
}

static const struct mmu_ops mmu_ops = {on_fault, on_no_frames, on_no_progress, NULL};

static void on_zap(void *ctx, gfn_t first, uint64_t n)
{
    struct bare *b = ctx;
    if (b->mvm)
        b->mvm->paging->zap(b->mvm, first, n);
}

static const struct gmem_ops gmem_ops = {on_zap};

bool bare_new(struct bare *b, const struct bare_config *c, char *err, size_t errlen)
{
    int code;
    const struct numa_policy numa = {NUMA_DEFAULT, 0};
    *b = (struct bare){.cfg = *c};
    if ((c->levels == 5 && c->paging->no_levels) ||
        (c->host_levels == 5 && c->paging->no_host_levels)) {
        snprintf(err, errlen, "%s has no tables of five levels", c->paging->name);
        return false;
    }
    b->host = host_new(c->host_mem, &numa, err, errlen, &code);
    if (!b->host)
        return false;
    b->gm = gmem_new(b->host, c->mem, c->host_page, &gmem_ops, b);
    b->mvm = mmu_vm_new(c->paging, c->params, c->cpu, b->host, b->gm, c->levels, c->host_levels,
                        &mmu_ops, b, err, errlen);
    if (!b->mvm) {
        bare_free(b);
        return false;
    }
    b->mmu = mmu_add_vcpu(b->mvm);
    return true;
}

void bare_free(struct bare *b)
{
    if (b->mvm)
        mmu_vm_free(b->mvm);
    gmem_free(b->gm);
    host_free(b->host);
}

static hpa_t go(struct bare *b, const struct access *a, bool hot)
{
    if (!hot)
        return mmu_access(b->mmu, a);
    mmu_touch(b->mmu, a->va, a->store);
    return (hpa_t)(b->mmu->hot.page - b->mmu->pool) + (a->va & PAGE_MASK);
}

enum bare_end bare_access(struct bare *b, const struct access *a, bool hot, hpa_t *hpa)
{
    jmp_buf escape;
    b->escape = &escape;
    enum bare_end end = (enum bare_end)setjmp(escape);
    if (end == BARE_DONE)
        *hpa = go(b, a, hot);
    b->escape = NULL;
    return end;
}

bool bare_is_at(const struct bare *b, uint64_t gpa, hpa_t hpa)
{
    gfn_t f = gpa_gfn(gpa);
    return gmem_inside(b->gm, f) && gmem_state(b->gm, f) == PG_RESIDENT &&
           (hfn_hpa(gmem_hfn(b->gm, f)) | (gpa & PAGE_MASK)) == hpa;
}

uint64_t bare_peek(const struct bare *b, uint64_t gpa)
{
    gfn_t f = gpa_gfn(gpa);
    return gmem_state(b->gm, f) == PG_RESIDENT ? *(const uint64_t *)gmem_ptr(b->gm, gpa) : 0;
}

const char *bare_check(struct bare *b)
{
    const char *why = mmu_check(b->mmu);
    if (!why && b->mvm->paging->check)
        why = b->mvm->paging->check(b->mvm);
    if (!why)
        why = gmem_check(b->gm);
    return why ? why : host_check(b->host);
}

struct oracle_access bare_oracle_access(const struct access *a)
{
    return (struct oracle_access){.va = a->va,
                                  .store = a->store,
                                  .fetch = a->fetch,
                                  .supervisor = a->supervisor,
                                  .ac = a->ac};
}

struct oracle_regs bare_oracle_regs(const struct bare *b)
{
    const struct mmu_control *c = &b->mmu->ctl;
    return (struct oracle_regs){.levels = b->cfg.levels,
                                .wp = c->wp,
                                .smep = c->smep,
                                .smap = c->smap,
                                .pge = c->pge,
                                .nxe = c->nxe,
                                .pcide = b->cfg.cpu->pcid};
}
