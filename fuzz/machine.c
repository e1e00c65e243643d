/* machine.c: the machines that programs are tried on. */
#include "fuzz/machine.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"

/* Tiny arrays, so that few operations evict and conflict. */
static const struct fuzz_variant variants[] = {
    {"tiny",
     {.vpid = true,
      .l1 = {{4, 2, INDEX_MOD, POLICY_LRU},
             {2, 2, INDEX_MOD, POLICY_LRU},
             {2, 2, INDEX_MOD, POLICY_LRU}},
      .l2 = {{8, 4, INDEX_MOD, POLICY_LRU}},
      .l2_sizes = {7}},
     PAGES_4K,
     4,
     1},
    {"tiny-intel",
     {.pcid = true,
      .vpid = true,
      .l1 = {{8, 4, INDEX_MOD, POLICY_PLRU},
             {4, 4, INDEX_MOD, POLICY_LRU},
             {2, 2, INDEX_MOD, POLICY_LRU}},
      .l2 = {{16, 4, INDEX_XOR, POLICY_LRU}, {4, 4, INDEX_MOD, POLICY_LRU}},
      .l2_sizes = {3, 4},
      .pwc_kind = PWC_INTEL,
      .psc = {{2, 2, INDEX_MOD, POLICY_LRU},
              {2, 2, INDEX_MOD, POLICY_LRU},
              {4, 4, INDEX_MOD, POLICY_LRU},
              {8, 4, INDEX_MOD, POLICY_LRU}},
      .npsc = {{2, 2, INDEX_MOD, POLICY_LRU},
               {2, 2, INDEX_MOD, POLICY_LRU},
               {4, 4, INDEX_MOD, POLICY_LRU},
               {8, 4, INDEX_MOD, POLICY_LRU}},
      .ntlb = {8, 4, INDEX_MOD, POLICY_LRU}},
     PAGES_2M,
     5,
     3},
    {"tiny-amd",
     {.pcid = true,
      .vpid = true,
      .l1_any = {8, 8, INDEX_MOD, POLICY_LRU},
      .l2 = {{16, 8, INDEX_MOD, POLICY_PLRU}},
      .l2_sizes = {3},
      .pwc_kind = PWC_AMD,
      .pwc = {16, 8, INDEX_MOD, POLICY_LRU},
      .ntlb = {8, 8, INDEX_MOD, POLICY_LRU}},
     PAGES_THP,
     4,
     1},
    {"untagged",
     {.pcid = true,
      .l1 = {{16, 4, INDEX_MOD, POLICY_LRU}, {4, 4, INDEX_MOD, POLICY_LRU}, {0}},
      .l2 = {{48, 12, INDEX_MOD, POLICY_LRU}},
      .l2_sizes = {1}},
     PAGES_4K,
     5,
     2},
    {"quick",
     {.pcid = true,
      .vpid = true,
      .l1 = {{8, 4, INDEX_MOD, POLICY_LRU},
             {4, 4, INDEX_MOD, POLICY_LRU},
             {4, 4, INDEX_MOD, POLICY_LRU}},
      .l2 = {{32, 16, INDEX_MOD, POLICY_LRU}},
      .l2_sizes = {7}},
     PAGES_4K,
     4,
     1},
    {"cached",
     {.pcid = true,
      .vpid = true,
      .l1 = {{16, 4, INDEX_MOD, POLICY_LRU},
             {4, 4, INDEX_MOD, POLICY_LRU},
             {4, 4, INDEX_MOD, POLICY_LRU}},
      .l2 = {{64, 16, INDEX_MOD, POLICY_LRU}},
      .l2_sizes = {7},
      .pwc_kind = PWC_INTEL,
      .psc = {{0},
              {4, 4, INDEX_MOD, POLICY_LRU},
              {4, 4, INDEX_MOD, POLICY_LRU},
              {16, 4, INDEX_MOD, POLICY_LRU}},
      .cache = {{128, 2, INDEX_MOD, POLICY_LRU}, {256, 4, INDEX_MOD, POLICY_LRU}, {0}}},
     PAGES_4K,
     4,
     1},
};
static const char *const page_names[] = {"4k", "2m", "1g", "thp"};

unsigned fuzz_variants(void) { return ARRAY_SIZE(variants); }

const struct fuzz_variant *fuzz_variant(unsigned i) { return &variants[i]; }

char *fuzz_machine_name(const struct fuzz_machine *m, char *buf, size_t n)
{
    const struct fuzz_variant *v = &variants[m->variant];
    if (!m->paging)
        snprintf(buf, n, "this host's KVM");
    else
        snprintf(buf, n, "%s on %s, host pages %s, %u host levels, %u vCPU%s", m->paging->name,
                 v->name, page_names[v->host_page], v->host_levels, v->vcpus,
                 v->vcpus > 1 ? "s" : "");
    return buf;
}

/* The frame it leaves is taken and spoilt meanwhile: it would be given again, and what still points there
 * must show. */
static void move_one(struct gmem *m, uint64_t g)
{
    static unsigned char saved[PAGE_SIZE];
    hfn_t left;
    if (gmem_state(m, gfn(g)) != PG_RESIDENT)
        return;
    memcpy(saved, gmem_ptr(m, g << PAGE_SHIFT), PAGE_SIZE);
    gmem_discard(m, gfn(g), 1);
    bool took = host_alloc(m->host, ORDER_4K, FRAME_GUEST, &left);
    if (gmem_fault(m, gfn(g)) == GMEM_OK)
        memcpy(gmem_ptr(m, g << PAGE_SHIFT), saved, PAGE_SIZE);
    if (!took)
        return;
    memset(host_ptr(m->host, hfn_hpa(left)), 0x55, PAGE_SIZE);
    host_release(m->host, left, ORDER_4K);
}

void fuzz_move_frames(struct gmem *m, uint64_t first, uint64_t n)
{
    for (uint64_t g = first; g - first < n && g < m->frames && !m->fixed; g++)
        move_one(m, g);
}
