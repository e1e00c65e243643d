/* host.c: the frame pool: a buddy allocator over one lazily populated mapping.
 *
 * Design. Frame n is the 4 KiB at pool + n * 4096, so host-physical addresses are offsets into the
 * pool and table walks are plain loads. Hfn 0 is reserved: address 0 can mean "none". Free blocks
 * of each order hang in a doubly linked LIFO list threaded through per-frame arrays; the arrays are
 * zeroed lazily by the system, so bookkeeping is touched only for frames that were in use.
 * Allocation order depends on nothing but the sequence of requests, so host-physical addresses
 * repeat from run to run.
 *
 * The invariants are numbered in host.h; host_check() verifies them.
 */
#include "memmgr/host.h"

#include <assert.h>
#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/base.h"

enum { MAX_ORDER = 24, NORDERS = MAX_ORDER + 1 };

/* What is known of one frame; all zero = inside a free block or never reached. */
struct frame {
    uint8_t use;    /* enum frame_use */
    uint8_t order1; /* order + 1 when this frame heads a free block, else 0 */
    uint8_t dirty;  /* was in use once: must be cleared before it is lent again */
};

struct host {
    struct host_base base; /* first: host_ptr() */
    uint64_t total;        /* frames in the pool, hfn 0 included */
    uint64_t used[3];      /* by enum frame_use; FRAME_FREE unused */
    struct frame *frame;
    uint32_t *next, *prev; /* free lists, by head frame; 0 ends a list */
    uint32_t head[NORDERS];
};

bool numa_policy_parse(const char *s, struct numa_policy *out)
{
    struct numa_policy p = {NUMA_DEFAULT, 0};
    uint64_t node;
    if (strcmp(s, "local") == 0)
        p.kind = NUMA_LOCAL;
    else if (strcmp(s, "interleave") == 0)
        p.kind = NUMA_INTERLEAVE;
    else if (strncmp(s, "bind:", 5) == 0 && parse_u64(s + 5, &node) && node < 1024) {
        p.kind = NUMA_BIND;
        p.node = (int)node;
    } else
        return false;
    *out = p;
    return true;
}

const char *numa_policy_name(const struct numa_policy *p, char *buf, size_t n)
{
    static const char *const names[] = {"default", "local", "interleave"};
    if (p->kind == NUMA_BIND)
        snprintf(buf, n, "bind:%d", p->node);
    else
        snprintf(buf, n, "%s", names[p->kind]);
    return buf;
}

/* mbind() itself: libnuma's functions print what it refuses, and go on without the policy. */
static bool place(const struct numa_policy *p, void *mem, uint64_t bytes)
{
    if (p->kind == NUMA_LOCAL)
        return mbind(mem, bytes, MPOL_LOCAL, NULL, 0, 0) == 0;
    if (p->kind == NUMA_INTERLEAVE)
        return mbind(mem, bytes, MPOL_INTERLEAVE, numa_all_nodes_ptr->maskp,
                     numa_all_nodes_ptr->size + 1, 0) == 0;
    struct bitmask *one = numa_allocate_nodemask();
    numa_bitmask_setbit(one, (unsigned)p->node);
    bool ok = mbind(mem, bytes, MPOL_BIND, one->maskp, one->size + 1, 0) == 0;
    int e = errno;
    numa_bitmask_free(one);
    errno = e;
    return ok;
}

int numa_policy_apply(const struct numa_policy *p, void *mem, uint64_t bytes, char *err, size_t n)
{
    if (p->kind == NUMA_DEFAULT)
        return 0;
    if (numa_available() < 0) {
        snprintf(err, n, "--numa: this kernel has no NUMA support; leave the option out");
        return NB_NODEVICE;
    }
    if (p->kind == NUMA_BIND && (p->node > numa_max_node() ||
                                 !numa_bitmask_isbitset(numa_all_nodes_ptr, (unsigned)p->node))) {
        snprintf(err, n, "--numa bind:%d: no such node; nodes here are 0..%d", p->node,
                 numa_max_node());
        return NB_USAGE;
    }
    if (place(p, mem, bytes))
        return 0;
    char name[32];
    snprintf(err, n, "--numa %s: mbind: %s; leave the option out, or allow the call (containers)",
             numa_policy_name(p, name, sizeof name), strerror(errno));
    return NB_NODEVICE;
}

static void list_push(struct host *h, uint64_t f, unsigned order)
{
    uint32_t old = h->head[order];
    h->frame[f].order1 = (uint8_t)(order + 1);
    h->next[f] = old;
    h->prev[f] = 0;
    if (old)
        h->prev[old] = (uint32_t)f;
    h->head[order] = (uint32_t)f;
}

static void list_remove(struct host *h, uint64_t f, unsigned order)
{
    uint32_t n = h->next[f], p = h->prev[f];
    if (p)
        h->next[p] = n;
    else
        h->head[order] = n;
    if (n)
        h->prev[n] = p;
    h->frame[f].order1 = 0;
}

/* Make [from, to) free as the largest aligned blocks, highest first so that low frames go out
 * first. */
static void seed_free(struct host *h, uint64_t from, uint64_t to)
{
    while (to > from) {
        unsigned order = 0;
        while (order < MAX_ORDER && !(to & (1ull << order)) && to - (2ull << order) + 1 > from &&
               to >= (2ull << order))
            order++;
        while (to - (1ull << order) < from)
            order--;
        to -= 1ull << order;
        list_push(h, to, order);
    }
}

struct host *host_new(uint64_t bytes, const struct numa_policy *policy, char *err, size_t errlen,
                      int *code)
{
    uint64_t total = bytes >> PAGE_SHIFT;
    if (total < 2 || total > UINT32_MAX) {
        snprintf(err, errlen, "--host-mem: %llu bytes; possible are 8K to 16T",
                 (unsigned long long)bytes);
        *code = NB_USAGE;
        return NULL;
    }
    void *pool = mmap(NULL, total << PAGE_SHIFT, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool == MAP_FAILED) {
        snprintf(err, errlen, "mmap of a %llu-byte frame pool: %s; try a smaller --host-mem",
                 (unsigned long long)bytes, strerror(errno));
        *code = NB_NODEVICE;
        return NULL;
    }
    if ((*code = numa_policy_apply(policy, pool, total << PAGE_SHIFT, err, errlen)) != 0) {
        munmap(pool, total << PAGE_SHIFT);
        return NULL;
    }
    /* One touched frame must cost one frame, not a 2 MiB page of the machine below. */
    madvise(pool, total << PAGE_SHIFT, MADV_NOHUGEPAGE);
    struct host *h = meta_calloc(META_HOST, 1, sizeof *h);
    h->base.pool = pool;
    h->total = total;
    h->frame = meta_calloc(META_HOST, total, sizeof *h->frame);
    h->next = meta_calloc(META_HOST, total, sizeof *h->next);
    h->prev = meta_calloc(META_HOST, total, sizeof *h->prev);
    seed_free(h, 1, total);
    return h;
}

void host_free(struct host *h)
{
    if (!h)
        return;
    munmap(h->base.pool, h->total << PAGE_SHIFT);
    meta_free(META_HOST, h->frame);
    meta_free(META_HOST, h->next);
    meta_free(META_HOST, h->prev);
    meta_free(META_HOST, h);
}

/* Frames [f, f + n) go out: those that were in use before are cleared now, not when they came back, so that
 * ending a VM costs nothing and memory that was never written is never committed. */
static void hand_out(struct host *h, uint64_t f, uint64_t n, enum frame_use use)
{
    bool dirty = false;
    for (uint64_t i = f; i < f + n; i++) {
        dirty |= h->frame[i].dirty;
        h->frame[i] = (struct frame){.use = (uint8_t)use, .dirty = 1};
    }
    void *p = h->base.pool + (f << PAGE_SHIFT);
    size_t bytes = (size_t)n << PAGE_SHIFT;
    if (dirty && (n == 1 || madvise(p, bytes, MADV_DONTNEED) != 0))
        memset(p, 0, bytes);
    h->used[use] += n;
}

bool host_alloc(struct host *h, unsigned order, enum frame_use use, hfn_t *out)
{
    unsigned o = order;
    while (o <= MAX_ORDER && !h->head[o])
        o++;
    if (order > MAX_ORDER || o > MAX_ORDER)
        return false;
    uint64_t f = h->head[o];
    list_remove(h, f, o);
    while (o > order) { /* keep the low half, so that addresses grow */
        o--;
        list_push(h, f + (1ull << o), o);
    }
    hand_out(h, f, 1ull << order, use);
    *out = hfn(f);
    return true;
}

/* The free block that holds frame f: its head in *head, its order; false when f is in use. */
static bool block_of(const struct host *h, uint64_t f, uint64_t *head, unsigned *order)
{
    for (unsigned o = 0; o <= MAX_ORDER; o++) {
        uint64_t b = f & ~((1ull << o) - 1);
        if (h->frame[b].order1 == o + 1) {
            *head = b;
            *order = o;
            return true;
        }
    }
    return false;
}

/* First frame at or after `from`, aligned to `align`, from which n frames are free; 0 if none. */
static uint64_t find_span(const struct host *h, uint64_t n, uint64_t align)
{
    for (uint64_t start = align; start + n <= h->total; start += align) {
        uint64_t f = start, head;
        unsigned order;
        while (f < start + n && block_of(h, f, &head, &order))
            f = head + (1ull << order);
        if (f >= start + n)
            return start;
    }
    return 0;
}

/* Take free block `head` apart: what lies outside [start, end) stays free. */
static void carve(struct host *h, uint64_t head, unsigned order, uint64_t start, uint64_t end)
{
    uint64_t block_end = head + (1ull << order);
    list_remove(h, head, order);
    if (head < start)
        seed_free(h, head, start);
    if (block_end > end)
        seed_free(h, end, block_end);
}

bool host_alloc_span(struct host *h, uint64_t frames, unsigned order, enum frame_use use,
                     hfn_t *out)
{
    uint64_t start = frames ? find_span(h, frames, 1ull << order) : 0, head = 0;
    unsigned size = 0;
    if (!start)
        return false;
    for (uint64_t f = start; f < start + frames; f = head + (1ull << size)) {
        if (!block_of(h, f, &head, &size))
            assert(!"find_span returned a frame in use");
        carve(h, head, size, start, start + frames);
    }
    hand_out(h, start, frames, use);
    *out = hfn(start);
    return true;
}

void host_release(struct host *h, hfn_t frame, unsigned order)
{
    uint64_t f = frame.n, n = 1ull << order;
    enum frame_use use = (enum frame_use)h->frame[f].use;
    assert(f && !(f & (n - 1)) && f + n <= h->total && use != FRAME_FREE);
    for (uint64_t i = f; i < f + n; i++) {
        assert(h->frame[i].use == use);
        h->frame[i].use = FRAME_FREE;
    }
    h->used[use] -= n;
    for (; order < MAX_ORDER; order++) {
        uint64_t buddy = f ^ (1ull << order);
        if (!buddy || buddy + (1ull << order) > h->total || h->frame[buddy].order1 != order + 1)
            break;
        list_remove(h, buddy, order);
        f &= ~(1ull << order);
    }
    list_push(h, f, order);
}

uint64_t host_used(const struct host *h, enum frame_use use) { return h->used[use]; }
uint64_t host_total(const struct host *h) { return h->total; }
uint64_t host_free_frames(const struct host *h)
{
    return h->total - 1 - h->used[FRAME_GUEST] - h->used[FRAME_TABLE];
}

/* One free block: invariants (1) and (3). */
static const char *check_block(const struct host *h, uint64_t f, unsigned order)
{
    uint64_t n = 1ull << order, buddy = f ^ n;
    if (f & (n - 1) || f + n > h->total)
        return "(3) a free block is not aligned or leaves the pool";
    if (order < MAX_ORDER && buddy && buddy + n <= h->total && h->frame[buddy].order1 == order + 1)
        return "(3) two free buddies were not merged";
    for (uint64_t i = f; i < f + n; i++) {
        if (h->frame[i].use != FRAME_FREE || (i > f && h->frame[i].order1))
            return "(1) a frame of a free block is in use or heads another block";
    }
    return NULL;
}

const char *host_check(struct host *h)
{
    uint64_t nfree = 0, used[3] = {0};
    for (unsigned o = 0; o < NORDERS; o++)
        for (uint64_t f = h->head[o]; f; f = h->next[f]) {
            const char *why = h->frame[f].order1 != o + 1 ? "(3) a block is in the wrong list"
                                                          : check_block(h, f, o);
            if (why)
                return why;
            nfree += 1ull << o;
        }
    for (uint64_t f = 1; f < h->total; f++)
        used[h->frame[f].use]++;
    if (used[FRAME_FREE] != nfree)
        return "(1) a free frame is in no free block";
    if (used[FRAME_GUEST] != h->used[FRAME_GUEST] || used[FRAME_TABLE] != h->used[FRAME_TABLE])
        return "(2) the counts of used frames do not add up";
    return NULL;
}
