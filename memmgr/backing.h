/* backing.h: real host memory for a guest of a real hypervisor.
 *
 * One mapping = one memory slot. Kinds: anonymous (default) or a memfd, each with 4 KiB pages (THP
 * off), with transparent huge pages asked for, or from hugetlbfs (2 MiB or 1 GiB pages that the
 * administrator set aside). Placement through libnuma, before the first page is touched.
 *
 * Invariants (backing_check): the mapping is as long as asked for and aligned to its page; a page
 * that was discarded reads as zero; residency never exceeds the length.
 */
#ifndef NB_MEMMGR_BACKING_H
#define NB_MEMMGR_BACKING_H

#include "memmgr/host.h"

enum backing_kind { BACKING_ANON, BACKING_MEMFD };

struct backing {
    unsigned char *mem; /* page aligned (2 MiB aligned for THP and larger) */
    uint64_t bytes;
    enum page_mode page; /* PAGES_4K: no huge pages; THP: asked for; 2M, 1G: hugetlbfs */
    enum backing_kind kind;
    int fd;      /* of the memfd, or -1 */
    void *space; /* the address space reserved, with inaccessible margins around mem */
    uint64_t span;
};

/* "anon" or "memfd". */
bool backing_kind_parse(const char *s, enum backing_kind *out);
const char *backing_kind_name(enum backing_kind);

/* NULL with one sentence in err, *code NB_USAGE or NB_NODEVICE (as for hugetlbfs pages that are not
 * there: the sentence then names the sysfs file to write). */
struct backing *backing_new(uint64_t bytes, enum backing_kind, enum page_mode,
                            const struct numa_policy *, char *err, size_t errlen, int *code);
void backing_free(struct backing *);
/* Give [offset, offset + len) back to the host: it reads as zero afterwards, and KVM is told, and a
 * userfaultfd (which must be read by another thread meanwhile). Parts of a page (of hugetlbfs too) are only
 * cleared, which touches it: nothing is given back. A part of a transparent huge page is given back, though the
 * kernel frees its frames when it gets round to splitting the page. False: out of range, or the host refuses (as
 * anonymous hugetlbfs pages before Linux 5.18). */
bool backing_discard(struct backing *, uint64_t offset, uint64_t len);
/* Bytes now in memory, and of those in huge pages; false when the host does not say. */
bool backing_resident(const struct backing *, uint64_t *bytes, uint64_t *huge);
/* The same for [offset, offset + len), whole 4 KiB pages; false also when that is not inside. */
bool backing_resident_in(const struct backing *, uint64_t offset, uint64_t len, uint64_t *bytes);
const char *backing_check(const struct backing *);

#endif
