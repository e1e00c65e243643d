/* explain.c: one translation in a freshly booted model, written down reference by reference. */
#include "vmm/explain.h"

#include <stdio.h>

#include "vmm/model.h"

static uint64_t page_bytes(enum page_mode m)
{
    return m == PAGES_4K ? 1ull << SHIFT_4K : m == PAGES_1G ? 1ull << SHIFT_1G : 1ull << SHIFT_2M;
}

/* Map the page around gva and store to it; then walk once more, with the log. */
static int translate(struct hw *h, gva_t gva, struct walk_report *out, char *err, size_t errlen)
{
    uint64_t size = page_bytes(h->cfg->guest_page), start = ALIGN_DOWN(gva, size);
    gva_t page;
    struct access load = {.va = gva};
    struct walk w;
    struct walk_log log = {0};
    if (h->mvm->paging->guest_segment)
        size = ALIGN_UP(vm_segment_bytes(h->cfg), size);
    int r = u_mmap(&h->user, start, size, GK_READ | GK_WRITE, GK_FIXED, &page);
    if (r != GK_OK) {
        snprintf(
            err, errlen,
            "gva 0x%llx cannot be mapped: it is not a user address with %u levels (below 0x%llx)",
            (unsigned long long)gva, h->cfg->levels,
            (unsigned long long)GK_USER_TOP(h->cfg->levels));
        return NB_USAGE;
    }
    st(&h->user, gva);
    h->mvm->paging->explain(h->mmu, &load, &w, &log);
    if (w.status != WALK_OK) {
        snprintf(err, errlen, "the walk of gva 0x%llx did not complete; this is a bug",
                 (unsigned long long)gva);
        return NB_INTERNAL;
    }
    *out = (struct walk_report){.gva = gva,
                                .cr3 = gk_cr3(h->kernel),
                                .shift = 12 + 9 * w.size,
                                .refs = w.refs,
                                .refs_nested = w.refs_nested,
                                .seg_guest = log.seg_guest,
                                .seg_vmm = log.seg_vmm,
                                .nsteps = log.n};
    out->hpa = w.page + (gva & ((1ull << out->shift) - 1));
    for (unsigned i = 0; i < log.n; i++) {
        out->steps[i] = log.step[i];
        out->probes += log.step[i].probes;
    }
    return NB_OK;
}

struct find {
    gva_t gva;
    gpa_t gpa;
};

static void find_page(void *ctx, int pid, gva_t va, gfn_t g, unsigned order, uint64_t pte)
{
    struct find *f = ctx;
    uint64_t bytes = PAGE_SIZE << order;
    (void)pid, (void)pte;
    if (f->gva - va < bytes)
        f->gpa = gfn_gpa(g) + (f->gva - va);
}

int model_explain(const struct vm_config *cfg, gva_t gva, struct walk_report *out, char *err,
                  size_t errlen)
{
    struct hw *h = meta_calloc(META_MMU, 1, sizeof *h);
    struct result *res = meta_calloc(META_MMU, 1, sizeof *res);
    volatile int code = NB_FAIL;
    h->cfg = cfg;
    if (setjmp(h->end) == 0) {
        code = model_boot(h, cfg, res, err, errlen);
        if (code == NB_OK)
            code = translate(h, gva, out, err, errlen);
        if (code == NB_OK) {
            struct find f = {gva, 0};
            gk_for_each_page(h->kernel, find_page, &f);
            out->gpa = f.gpa;
        }
    } else
        snprintf(err, errlen, "%s", res->detail);
    model_free(h);
    meta_free(META_MMU, res);
    meta_free(META_MMU, h);
    return code;
}
