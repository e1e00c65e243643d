/* hash.c: hash of what a guest's processes can see. */
#include "vmm/hash.h"

#include <xxhash.h>

#include "base/pte.h"

struct memory_hash *memory_hash_new(void)
{
    XXH3_state_t *x = XXH3_createState();
    if (x)
        XXH3_64bits_reset(x);
    return (struct memory_hash *)x;
}

void memory_hash_page(struct memory_hash *h, int pid, gva_t va, const void *contents)
{
    static const unsigned char zeroes[PAGE_SIZE];
    uint64_t id[2] = {(uint64_t)pid, va};
    XXH3_state_t *x = (XXH3_state_t *)h;
    XXH3_64bits_update(x, id, sizeof id);
    XXH3_64bits_update(x, contents ? contents : zeroes, PAGE_SIZE);
}

void memory_hash_leaf(struct memory_hash *h, int pid, gva_t va, unsigned order, uint64_t pte)
{
    uint64_t what[4] = {(uint64_t)pid, va, order, pte & ~PTE_ADDR};
    if (pte & PTE_G)
        what[3] &= ~(PTE_A | PTE_D);
    XXH3_64bits_update((XXH3_state_t *)h, what, sizeof what);
}

uint64_t memory_hash_end(struct memory_hash *h)
{
    XXH3_state_t *x = (XXH3_state_t *)h;
    uint64_t digest = XXH3_64bits_digest(x);
    XXH3_freeState(x);
    return digest;
}
