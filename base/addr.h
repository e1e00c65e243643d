/* addr.h: addresses, frame numbers and page sizes.
 *
 * gva  guest-virtual address    what the guest program uses
 * gpa  guest-physical address   what the guest kernel believes is memory
 * hpa  host-physical address    a byte of the host's frame pool
 * gfn  guest frame number       gpa >> 12
 * hfn  host frame number        hpa >> 12
 *
 * gfn_t and hfn_t are distinct struct types: passing one for the other does not
 * compile. Byte addresses are plain 64-bit integers because page-table code adds
 * and masks them at every step; cross between the two worlds only as frames.
 */
#ifndef NB_BASE_ADDR_H
#define NB_BASE_ADDR_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t gva_t;
typedef uint64_t gpa_t;
typedef uint64_t hpa_t;
typedef struct {
    uint64_t n;
} gfn_t;
typedef struct {
    uint64_t n;
} hfn_t;

#define PAGE_SHIFT 12
#define PAGE_SIZE (1ull << PAGE_SHIFT)
#define PAGE_MASK (PAGE_SIZE - 1)

/* Page sizes of x86-64 (Intel SDM vol. 3A, 4.5.4), as the order of a block of 4 KiB frames. */
enum { ORDER_4K = 0, ORDER_2M = 9, ORDER_1G = 18 };
#define SHIFT_4K 12
#define SHIFT_2M 21
#define SHIFT_1G 30

/* What --guest-page and --host-page choose. THP: 2 MiB where alignment and memory allow, else 4
 * KiB. */
enum page_mode { PAGES_4K, PAGES_2M, PAGES_1G, PAGES_THP };

static inline gfn_t gfn(uint64_t n) { return (gfn_t){n}; }
static inline hfn_t hfn(uint64_t n) { return (hfn_t){n}; }
static inline gfn_t gpa_gfn(gpa_t a) { return (gfn_t){a >> PAGE_SHIFT}; }
static inline gpa_t gfn_gpa(gfn_t g) { return g.n << PAGE_SHIFT; }
static inline hfn_t hpa_hfn(hpa_t a) { return (hfn_t){a >> PAGE_SHIFT}; }
static inline hpa_t hfn_hpa(hfn_t h) { return h.n << PAGE_SHIFT; }

/* Bytes (as log2) that one entry at `level` maps: level 1 = 4 KiB, 2 = 2 MiB, 3 = 1 GiB. */
static inline unsigned level_shift(unsigned level) { return 3 + 9 * level; }

/* Index of `va` in a table at `level` (9 bits a level, Intel SDM vol. 3A, 4.5). */
static inline unsigned level_index(uint64_t va, unsigned level)
{
    return (va >> level_shift(level)) & 511;
}

/* A canonical address has bits 63..(9*levels+11) all equal (SDM vol. 1, 3.3.7.1). */
static inline bool canonical(gva_t va, unsigned levels)
{
    unsigned top = 64 - (12 + 9 * levels);
    return (uint64_t)((int64_t)(va << top) >> top) == va;
}

#endif
