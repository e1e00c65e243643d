/* hash.h: one number for what all processes of a guest can see, the same on every engine.
 *
 * XXH3 (64 bits) over every mapped user page of every process in (pid, gva) order, 4 KiB at a time:
 * pid and gva as two little-endian 64-bit words, then the page's contents. Pages that a PROT_NONE
 * mapping keeps count too. Frame numbers, A and D bits do not.
 */
#ifndef NB_VMM_HASH_H
#define NB_VMM_HASH_H

#include <stdbool.h>

#include "base/addr.h"

struct memory_hash;

struct memory_hash *memory_hash_new(void); /* NULL: no memory */
/* One 4 KiB page; contents NULL: zeroes. */
void memory_hash_page(struct memory_hash *, int pid, gva_t, const void *contents);
/* The number; frees the state. */
uint64_t memory_hash_end(struct memory_hash *);

/* Into a hash of its own: a leaf entry of the guest's tables and where it is, without the frame. A and D
 * of a global page do not count: they depend on what the TLB still holds. */
void memory_hash_leaf(struct memory_hash *, int pid, gva_t, unsigned order, uint64_t pte);

#endif
