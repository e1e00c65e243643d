/* backing.c: host memory for real guests: reserve, align, map, place, give back, count.
 *
 * Design. Address space is reserved first, larger than asked for, and the memory is mapped over the
 * aligned middle of it. What stays around it is inaccessible: a run past the end faults instead of
 * reaching a neighbour, and the kernel cannot merge the mapping with another one, so what
 * /proc/self/smaps says of it concerns this memory alone.
 *
 * Huge pages are promised only when they can be had: hugetlbfs reserves them at mmap(), and THP that
 * the administrator turned off is an error, not a silent 4 KiB run.
 */
#include "memmgr/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

#define SYS_MM "/sys/kernel/mm/"

enum { HUGE_SHIFT_BIT = 26 }; /* MAP_HUGE_SHIFT, MFD_HUGE_SHIFT: log2(page) lives there */

static const char *const kind_names[] = {"anon", "memfd"};

bool backing_kind_parse(const char *s, enum backing_kind *out)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kind_names); i++)
        if (strcmp(s, kind_names[i]) == 0) {
            *out = (enum backing_kind)i;
            return true;
        }
    return false;
}

const char *backing_kind_name(enum backing_kind k) { return kind_names[k]; }

/* The page the system maps at once, as a shift: hugetlbfs modes have their own. */
static unsigned unit_shift(enum page_mode page)
{
    return page == PAGES_2M ? SHIFT_2M : page == PAGES_1G ? SHIFT_1G : PAGE_SHIFT;
}
static bool is_hugetlb(enum page_mode page) { return page == PAGES_2M || page == PAGES_1G; }

static uint64_t alignment(enum page_mode page)
{
    unsigned shift = page == PAGES_THP ? SHIFT_2M : unit_shift(page);
    return 1ull << shift;
}

/* Does the sysfs choice ("always [madvise] never") stand on `word`? A missing file: no. */
static bool sysfs_choice(const char *path, const char *word)
{
    char line[128] = "", want[32];
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    if (!fgets(line, sizeof line, f))
        line[0] = 0;
    fclose(f);
    snprintf(want, sizeof want, "[%s]", word);
    return strstr(line, want) != NULL;
}

/* Can transparent huge pages be asked for? */
static bool thp_possible(enum backing_kind kind, char *err, size_t n)
{
    const char *file = kind == BACKING_ANON ? SYS_MM "transparent_hugepage/enabled"
                                            : SYS_MM "transparent_hugepage/shmem_enabled";
    const char *write = kind == BACKING_ANON ? "madvise" : "advise";
    if (access(file, R_OK) == 0 && !sysfs_choice(file, "never") && !sysfs_choice(file, "deny"))
        return true;
    snprintf(err, n, "--host-page thp: transparent huge pages are off for %s memory: echo %s > %s",
             kind == BACKING_ANON ? "anonymous" : "memfd", write, file);
    return false;
}

static void say_no_memory(const struct backing *b, const char *call, char *err, size_t n)
{
    unsigned shift = unit_shift(b->page);
    int e = errno;
    if (is_hugetlb(b->page))
        snprintf(err, n,
                 "%s of %" PRIu64 " huge pages: %s; set them aside with echo %" PRIu64 " > " SYS_MM
                 "hugepages/hugepages-%ukB/nr_hugepages",
                 call, b->bytes >> shift, strerror(e), b->bytes >> shift, 1u << (shift - 10));
    else
        snprintf(err, n, "%s of %" PRIu64 " bytes of guest memory: %s; try a smaller --mem", call,
                 b->bytes, strerror(e));
}

static bool make_memfd(struct backing *b, char *err, size_t n)
{
    unsigned flags = MFD_CLOEXEC;
    if (is_hugetlb(b->page))
        flags |= MFD_HUGETLB | unit_shift(b->page) << HUGE_SHIFT_BIT;
    b->fd = memfd_create("nestbed-guest", flags);
    if (b->fd < 0) {
        say_no_memory(b, "memfd_create", err, n);
        return false;
    }
    if (ftruncate(b->fd, (off_t)b->bytes) != 0) {
        say_no_memory(b, "ftruncate", err, n);
        return false;
    }
    return true;
}

/* Reserve address space and map the memory inside; what is around it stays inaccessible. */
static bool map(struct backing *b, char *err, size_t n)
{
    uint64_t align = alignment(b->page), span = b->bytes + 2 * align + 2 * PAGE_SIZE;
    int flags = MAP_FIXED | (b->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    if (is_hugetlb(b->page))
        flags |= MAP_HUGETLB | (int)(unit_shift(b->page) << HUGE_SHIFT_BIT);
    else
        flags |= MAP_NORESERVE;
    void *space = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED) {
        say_no_memory(b, "mmap", err, n);
        return false;
    }
    b->space = space;
    b->span = span;
    void *at = (void *)ALIGN_UP((uintptr_t)space + PAGE_SIZE, align);
    b->mem = mmap(at, b->bytes, PROT_READ | PROT_WRITE, flags, b->fd, 0);
    if (b->mem == MAP_FAILED) {
        say_no_memory(b, "mmap", err, n);
        b->mem = NULL;
        return false;
    }
    return true;
}

/* Ask for huge pages, or for none: the default must not depend on the host's settings. */
static bool advise(struct backing *b, char *err, size_t n)
{
    if (is_hugetlb(b->page))
        return true;
    bool thp = b->page == PAGES_THP;
    if (madvise(b->mem, b->bytes, thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0 || !thp)
        return true; /* a kernel without THP refuses both, and then 4 KiB is what there is */
    snprintf(err, n, "madvise(MADV_HUGEPAGE): %s; this kernel has no transparent huge pages",
             strerror(errno));
    return false;
}

/* hugetlbfs reserves pages of the machine, not of a node: without enough free ones there the first
 * touch would be a SIGBUS. */
static bool node_has_huge_pages(const struct backing *b, int node, char *err, size_t n)
{
    unsigned shift = unit_shift(b->page);
    uint64_t pages = 0;
    char dir[128], file[160];
    snprintf(dir, sizeof dir, "/sys/devices/system/node/node%d/hugepages/hugepages-%ukB", node,
             1u << (shift - 10));
    snprintf(file, sizeof file, "%s/free_hugepages", dir);
    FILE *f = fopen(file, "re");
    bool ok = f && fscanf(f, "%" SCNu64, &pages) == 1 && pages >= b->bytes >> shift;
    if (f)
        fclose(f);
    if (!ok)
        snprintf(err, n,
                 "--numa bind:%d: %" PRIu64 " free huge pages on that node, %" PRIu64
                 " needed; set them aside in %s/nr_hugepages",
                 node, pages, b->bytes >> shift, dir);
    return ok;
}

static int build(struct backing *b, const struct numa_policy *policy, char *err, size_t n)
{
    if (b->page == PAGES_THP && !thp_possible(b->kind, err, n))
        return NB_NODEVICE;
    if (b->kind == BACKING_MEMFD && !make_memfd(b, err, n))
        return NB_NODEVICE;
    if (!map(b, err, n) || !advise(b, err, n))
        return NB_NODEVICE;
    int code = numa_policy_apply(policy, b->mem, b->bytes, err, n);
    if (code == NB_OK && policy->kind == NUMA_BIND && is_hugetlb(b->page) &&
        !node_has_huge_pages(b, policy->node, err, n))
        return NB_NODEVICE;
    return code;
}

struct backing *backing_new(uint64_t bytes, enum backing_kind kind, enum page_mode page,
                            const struct numa_policy *policy, char *err, size_t errlen, int *code)
{
    uint64_t unit = 1ull << unit_shift(page);
    if (bytes == 0 || bytes % unit || bytes > 1ull << 46) {
        snprintf(err, errlen,
                 "--mem: %" PRIu64 " bytes is not a multiple of the %" PRIu64 "-byte host page "
                 "between one page and 64T",
                 bytes, unit);
        *code = NB_USAGE;
        return NULL;
    }
    struct backing *b = meta_calloc(META_HOST, 1, sizeof *b);
    *b = (struct backing){.bytes = bytes, .page = page, .kind = kind, .fd = -1};
    *code = build(b, policy, err, errlen);
    if (*code != NB_OK) {
        backing_free(b);
        return NULL;
    }
    return b;
}

void backing_free(struct backing *b)
{
    if (!b)
        return;
    if (b->space)
        munmap(b->space, b->span);
    if (b->fd >= 0)
        close(b->fd);
    meta_free(META_HOST, b);
}

/* Whole pages of the mapping back to the host. Both calls tell KVM (MMU notifiers) and a userfaultfd that asked for
 * UFFD_EVENT_REMOVE, and wait until its handler has read the event. Punching the hole by fallocate() would free the pages of
 * a file too, but no userfaultfd would hear of it. */
static bool drop(struct backing *b, uint64_t from, uint64_t to)
{
    if (from >= to)
        return true;
    return madvise(b->mem + from, to - from, b->fd >= 0 ? MADV_REMOVE : MADV_DONTNEED) == 0;
}

bool backing_discard(struct backing *b, uint64_t offset, uint64_t len)
{
    if (offset > b->bytes || len > b->bytes - offset)
        return false;
    uint64_t unit = 1ull << unit_shift(b->page), end = offset + len;
    uint64_t from = ALIGN_UP(offset, unit), to = ALIGN_DOWN(end, unit);
    if (from > to) { /* inside one page */
        memset(b->mem + offset, 0, len);
        return true;
    }
    if (!drop(b, from, to))
        return false;
    memset(b->mem + offset, 0, from - offset);
    memset(b->mem + to, 0, end - to);
    return true;
}

/* ---- residency ---- */
bool backing_resident_in(const struct backing *b, uint64_t offset, uint64_t len, uint64_t *bytes)
{
    if ((offset | len) & PAGE_MASK || offset > b->bytes || len > b->bytes - offset)
        return false;
    enum { CHUNK = 1 << 16 }; /* pages asked for at a time */
    unsigned char *vec = meta_calloc(META_HOST, CHUNK, 1);
    uint64_t pages = 0;
    bool ok = true;
    for (uint64_t at = 0; ok && at < len; at += (uint64_t)CHUNK << PAGE_SHIFT) {
        uint64_t left = len - at, part = (uint64_t)CHUNK << PAGE_SHIFT;
        part = left < part ? left : part;
        ok = mincore(b->mem + offset + at, part, vec) == 0;
        for (uint64_t i = 0; ok && i < part >> PAGE_SHIFT; i++)
            pages += vec[i] & 1;
    }
    meta_free(META_HOST, vec);
    *bytes = pages << PAGE_SHIFT;
    return ok;
}

/* One line of smaps, "AnonHugePages:   2048 kB", if it counts memory in huge pages; in bytes. */
static uint64_t huge_line(const char *line)
{
    static const char *const keys[] = {
        "AnonHugePages:", "ShmemPmdMapped:", "Shared_Hugetlb:", "Private_Hugetlb:"};
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
        if (strncmp(line, keys[i], strlen(keys[i])) == 0)
            return strtoull(line + strlen(keys[i]), NULL, 10) << 10;
    return 0;
}

static bool count_huge(const struct backing *b, uint64_t *huge)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[512];
    uint64_t from, to, start = (uintptr_t)b->mem;
    bool inside = false, found = false;
    if (!f)
        return false;
    *huge = 0;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2) {
            inside = from >= start && to <= start + b->bytes;
            found |= inside;
        } else if (inside)
            *huge += huge_line(line);
    }
    fclose(f);
    return found;
}

bool backing_resident(const struct backing *b, uint64_t *bytes, uint64_t *huge)
{
    return backing_resident_in(b, 0, b->bytes, bytes) && count_huge(b, huge);
}

const char *backing_check(const struct backing *b)
{
    uint64_t bytes, huge;
    struct stat st;
    if (!b->mem || b->bytes == 0 || b->bytes % (1ull << unit_shift(b->page)))
        return "backing: the length is not a whole number of pages";
    if ((uintptr_t)b->mem % alignment(b->page))
        return "backing: the mapping is not aligned to its page";
    if ((b->fd >= 0) != (b->kind == BACKING_MEMFD))
        return "backing: the file does not fit the kind";
    if (b->fd >= 0 && (fstat(b->fd, &st) != 0 || (uint64_t)st.st_size != b->bytes))
        return "backing: the memfd is not as long as the mapping";
    if (backing_resident(b, &bytes, &huge) && (bytes > b->bytes || huge > b->bytes))
        return "backing: more memory is resident than there is";
    return NULL;
}
