/* linux_init.c: process 1 of a Linux guest: watches its balloon, and that no memory in use is taken.
 *
 * 1. One region is filled with a pattern at the start and verified after every step.
 * 2. In every step nearly all memory that is available then is filled, verified and given back: what the
 *    balloon returned can be used, what it holds is not in use.
 * 3. It says what it sees on its console, one line a step, and to the host through ports, which
 *    keeps it beside what the device counted.
 *
 * Anything that goes wrong is one line that begins "nestbed guest:", and ends the machine with 1 through
 * its debug exit. The balloon's size is what the kernel counts (/proc/vmstat: inflated less deflated).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "vmm/init.h"
#include "vmm/labvm_internal.h"
#include "vmm/linux_guest.h"

enum { DEBUG_EXIT = 0xf4, PAGE = 4096, WORDS = PAGE / 8, LINE = 8 /* words */ };
enum { POLL_MS = 20, PATIENCE = 500, REPORT_PATIENCE = 500 }; /* polls without a change */
enum {
    MIN_FREE_KIB = 4096,
    KEPT_PART = 256,
    SPARE_KIB = 12 << 10
}; /* kept: this part of memory; left free by (2) */

static _Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("nestbed guest: ");
    vprintf(fmt, ap);
    printf("\n");
    fflush(stdout);
    va_end(ap);
    sync();
    outl(1, DEBUG_EXIT);
    _exit(1);
}

static void nap(unsigned ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

/* ---- what the kernel says ---- */
/* The number after NAME at the beginning of a line of a file. */
static uint64_t number(const char *file, const char *name)
{
    char line[256];
    uint64_t v = 0;
    bool found = false;
    FILE *f = fopen(file, "re");
    while (f && !found && fgets(line, sizeof line, f))
        found = strncmp(line, name, strlen(name)) == 0 &&
                sscanf(line + strlen(name), "%" SCNu64, &v) == 1;
    if (f)
        fclose(f);
    if (!found)
        fail("%s has no %s", file, name);
    return v;
}

static uint64_t kib(const char *name) { return number("/proc/meminfo", name); }

static uint32_t balloon_pages(void)
{
    return (uint32_t)(number("/proc/vmstat", "balloon_inflate ") -
                      number("/proc/vmstat", "balloon_deflate "));
}

/* ---- patterns: a word of each line of 64 bytes ---- */
struct region {
    uint64_t *mem;
    uint64_t pages, seed;
};

static uint64_t word(const struct region *r, uint64_t page, unsigned i)
{
    return (r->seed + page * WORDS + i) * 0x9e3779b97f4a7c15u;
}

/* No more than there is: fewer pages when the kernel gives no more. */
static struct region fill(uint64_t pages, uint64_t seed)
{
    struct region r = {.pages = pages, .seed = seed};
    r.mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r.mem == MAP_FAILED)
        fail("mmap of %" PRIu64 " pages: %s", pages, strerror(errno));
    for (uint64_t p = 0; p < pages; p++)
        for (unsigned i = 0; i < WORDS; i += LINE)
            r.mem[p * WORDS + i] = word(&r, p, i);
    return r;
}

/* Pages that do not hold their pattern. */
static uint32_t wrong(const struct region *r)
{
    uint32_t bad = 0;
    for (uint64_t p = 0; p < r->pages; p++) {
        uint64_t differ = 0;
        for (unsigned i = 0; i < WORDS; i += LINE)
            differ |= r->mem[p * WORDS + i] ^ word(r, p, i);
        bad += differ != 0;
    }
    return bad;
}

/* ---- steps ---- */
/* Until the balloon has that many pages, or has not changed for long. */
static uint32_t wait_for(uint32_t target)
{
    uint32_t now = balloon_pages(), before = now;
    for (unsigned same = 0; now != target && same < PATIENCE; same++) {
        nap(POLL_MS);
        now = balloon_pages();
        if (now != before)
            same = 0;
        before = now;
    }
    return now;
}

static uint64_t available_pages(void)
{
    uint64_t free = kib("MemAvailable:");
    return free > SPARE_KIB ? (free - SPARE_KIB) / (PAGE / 1024) : 0;
}

static void step(uint32_t n, uint32_t target, const struct region *kept)
{
    uint32_t pages = wait_for(target), bad;
    uint64_t total = kib("MemTotal:"), unused = kib("MemFree:"), fillable = available_pages();
    outl(pages, BALLOON_REACHED);
    bad = wrong(kept);
    if (fillable) {
        struct region r = fill(fillable, 1 + n);
        bad += wrong(&r);
        munmap(r.mem, r.pages * PAGE);
    }
    outl(bad, BALLOON_CHECKED);
    printf("nestbed guest: step %" PRIu32 " target %" PRIu32 " balloon %" PRIu32 " total %" PRIu64
           " kB free %" PRIu64 " kB checked %" PRIu64 " pages wrong %" PRIu32 "\n",
           n, target, pages, total, unused, kept->pages + fillable, bad);
    fflush(stdout);
}

/* Linux reports what has been free for two seconds. */
static void wait_for_report(void)
{
    for (unsigned i = 0; i < REPORT_PATIENCE && inl(BALLOON_CHECKED) == 0; i++)
        nap(POLL_MS);
}

/* With huge pages Linux keeps 5 % of memory free, and gives a balloon none of that. */
static void keep_little_free(void)
{
    FILE *f = fopen("/proc/sys/vm/min_free_kbytes", "we");
    bool ok = f && fprintf(f, "%d", MIN_FREE_KIB) > 0;
    if (!f || fclose(f) != 0 || !ok)
        fail("cannot set vm.min_free_kbytes");
}

bool linux_is_init(void) { return init_is("NESTBED_GUEST"); }

int linux_init_main(void)
{
    char err[256];
    uint32_t n = 0, target;
    if (iopl(3) != 0) /* ports above 0x3ff as well */
        reboot(RB_AUTOBOOT);
    if (!init_mount(err, sizeof err))
        fail("%s", err);
    init_console();
    for (unsigned i = 0; i < labvm_nguest_modules; i++)
        if (!init_module(labvm_guest_modules[i].name, labvm_guest_modules[i].optional, "", err,
                         sizeof err))
            fail("%s", err);
    keep_little_free();
    printf("nestbed guest: total %" PRIu64 " kB free %" PRIu64 " kB\n", kib("MemTotal:"),
           kib("MemFree:"));
    fflush(stdout);
    struct region kept = fill(kib("MemTotal:") / (PAGE / 1024) / KEPT_PART, 0);
    for (;; n++) {
        outl(n, BALLOON_BEGIN);
        target = inl(BALLOON_BEGIN);
        if (target == BALLOON_NO_STEP)
            break;
        step(n, target, &kept);
    }
    if (n)
        wait_for_report();
    reboot(RB_POWER_OFF);
    _exit(0);
}
