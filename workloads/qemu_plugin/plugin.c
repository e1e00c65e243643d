/* plugin.c: runs inside qemu-x86_64 and writes what a program does to memory into part files
 * (raw.h).
 *
 * Accesses come from a callback on every load and store, memory events from the program's own
 * system calls: arguments before the call, the result after it, so that only what succeeded is
 * recorded. The map at the first instruction (ELF segments, stack) is asked of QEMU's
 * walk_memory_regions(), which its binary exports; where it does not, replay maps what is touched.
 *
 * Single-threaded (the usual case): words go straight into the part file, mapped shared in windows
 * of WINDOW bytes, so a process that is killed loses nothing.
 *
 * With threads: each vCPU gathers up to BURST accesses of its own, then appends them under one
 * lock, with a RAW_SWITCH where the writer changes: an interleaving like a scheduler's time slices.
 * Before an event is written all bursts are, so no access moves behind an unmap it preceded.
 *
 * fork: bursts are written first; the child, told by its result 0, starts a part file of its own,
 * named by its parent's name and a number both know. vfork is a fork to QEMU, too. A program that
 * is exec'ed runs outside QEMU and is not recorded.
 *
 * When the disk is full, a file named "error" is left for the recorder and the program is ended: a
 * recording with a hole would be worse than none.
 */
#include "qemu_plugin_api.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "raw.h"

#define unlikely(x) __builtin_expect(!!(x), 0)

enum { WINDOW = 1 << 20, BURST = 4096, MAX_VCPUS = 1024, PAGE = 4096 };

int qemu_plugin_version = 1;

static char folder[PATH_MAX - 300];
static char part[200]; /* "0.2.0" */
static int part_fd = -1;
static uint64_t *window, *next,
    *stop; /* next is in [window, stop]; stop leaves room for one event */
static off_t window_at;
static uint64_t room = UINT64_MAX; /* accesses that may still be recorded */
static bool full, started;
static unsigned forks;

static uint64_t brk_end; /* page-aligned; 0 until the program asks */

/* One per vCPU: the system call under way, and its accesses not yet written. */
struct vcpu {
    uint64_t arg[6];
    unsigned child; /* number of the fork under way */
    unsigned n;
    bool alive;
    uint64_t *burst;
};
static struct vcpu vcpus[MAX_VCPUS];
static unsigned writer; /* vCPU whose accesses the part continues with */
static unsigned live = 0;
static bool threaded;
static int lock;

/* ---- the part file ---- */

static _Noreturn void give_up(const char *what)
{
    char path[PATH_MAX];
    int fd, e = errno;
    snprintf(path, sizeof path, "%s/error", folder);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0)
        dprintf(fd, "%s: %s", what, strerror(e));
    _exit(74);
}

static void map_window(void)
{
    if (window)
        munmap(window, WINDOW);
    if ((errno = posix_fallocate(part_fd, window_at, WINDOW)) != 0)
        give_up("no room for the recording");
    window = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, part_fd, window_at);
    if (window == MAP_FAILED)
        give_up("mmap of the recording");
    next = window;
    stop = window + WINDOW / sizeof *window - (1 + RAW_MAX_ARGS);
}

/* Windows overlap by less than a page: the next one starts at the page `next` is in. */
static void next_window(void)
{
    size_t used = (size_t)((char *)next - (char *)window), keep = used % PAGE;
    window_at += (off_t)(used - keep);
    map_window();
    next = window + keep / sizeof *window;
}

static void open_part(void)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, part);
    if (part_fd >= 0)
        close(part_fd);
    part_fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (part_fd < 0)
        give_up("cannot create the recording");
    window_at = 0;
    map_window();
}

/* Nothing more is recorded, although other threads may still run for a moment; give back the room
 * not used. */
static void close_part(void)
{
    full = true;
    room = 0;
    if (ftruncate(part_fd, window_at + ((char *)next - (char *)window)) != 0)
        give_up("ftruncate of the recording");
}

static inline void put_word(uint64_t w)
{
    if (unlikely(next >= stop))
        next_window();
    *next++ = w;
}

static void put_event(enum raw_kind kind, unsigned n, const uint64_t *arg)
{
    if (full)
        return;
    if (next >= stop)
        next_window();
    for (unsigned i = 0; i < n; i++)
        next[1 + i] = arg[i];
    next[0] =
        RAW_EVENT | (uint64_t)n << 16 | kind; /* last: a killed process leaves no half event */
    next += 1 + n;
}
#define PUT(kind, ...) \
    put_event(kind, sizeof((uint64_t[]){__VA_ARGS__}) / 8, (const uint64_t[]){__VA_ARGS__})

static inline void put_access(uint64_t w)
{
    if (unlikely(room == 0)) {
        if (!full)
            put_event(RAW_FULL, 0, NULL);
        full = true;
        return;
    }
    room--;
    put_word(w);
}

/* ---- threads ---- */

static void take_lock(void)
{
    while (threaded && __atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
        sched_yield();
}

static void drop_lock(void) { __atomic_store_n(&lock, 0, __ATOMIC_RELEASE); }

static void switch_to(unsigned v)
{
    if (v != writer)
        PUT(RAW_SWITCH, v);
    writer = v;
}

static void drain(unsigned v)
{
    struct vcpu *c = &vcpus[v];
    if (c->n == 0)
        return;
    switch_to(v);
    for (unsigned i = 0; i < c->n; i++)
        put_access(c->burst[i]);
    c->n = 0;
}

/* Begin an event of vCPU v: all accesses before it are written. The lock is held until event_end.
 */
static void event_begin(unsigned v)
{
    take_lock();
    for (unsigned i = 0; threaded && i < MAX_VCPUS; i++)
        drain(i);
    switch_to(v);
}

static void event_end(void) { drop_lock(); }

static void on_vcpu_init(plugin_id id, unsigned v)
{
    (void)id;
    if (v >= MAX_VCPUS) {
        errno = EAGAIN;
        give_up("more than 1024 threads at a time");
    }
    if (!vcpus[v].burst && !(vcpus[v].burst = malloc(BURST * sizeof(uint64_t))))
        give_up("malloc");
    vcpus[v].alive = true;
    if (live++ == 0) {
        writer = v;
        return;
    }
    /* Called on the thread that clones. Until now it wrote alone, and its new thread does not run
     * yet. */
    threaded = true;
    take_lock();
    PUT(RAW_THREAD, v);
    drop_lock();
}

/* ---- accesses ---- */

static void add_to_burst(unsigned v, uint64_t w)
{
    struct vcpu *c = &vcpus[v];
    take_lock(); /* others may drain this burst */
    c->burst[c->n++] = w;
    if (c->n == BURST)
        drain(v);
    drop_lock();
}

static void on_access(unsigned v, plugin_meminfo info, uint64_t va, void *user)
{
    (void)user;
    uint64_t w = (va & RAW_ADDR) | (uint64_t)(qemu_plugin_mem_size_shift(info) & 15) << 56 |
                 (qemu_plugin_mem_is_store(info) ? RAW_STORE : RAW_LOAD);
    if (unlikely(threaded))
        add_to_burst(v, w);
    else
        put_access(w);
}

/* ---- the map before the first instruction ---- */

static int on_region(void *ctx, uint64_t from, uint64_t to, unsigned long flags)
{
    enum { READ = 1, WRITE = 2, EXEC = 4, VALID = 8, WRITE_ORG = 16 }; /* QEMU's page flags */
    (void)ctx;
    uint64_t prot = (flags & READ ? PROT_READ : 0) |
                    (flags & (WRITE | WRITE_ORG) ? PROT_WRITE : 0) | (flags & EXEC ? PROT_EXEC : 0);
    if ((flags & VALID) && from < to && to <= 1ull << 47)
        PUT(RAW_MAP, from, to - from, prot, RAW_INITIAL);
    return 0;
}

static void put_initial_map(void)
{
    typedef int (*region_fn)(void *, uint64_t, uint64_t, unsigned long);
    typedef int (*walk_fn)(void *, region_fn);
    void *sym = dlsym(RTLD_DEFAULT, "walk_memory_regions");
    walk_fn walk;
    memcpy(&walk, &sym, sizeof walk);
    if (walk)
        walk(NULL, on_region);
}

static void on_translate(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    if (!started) {
        started = true;
        put_initial_map();
    }
    for (size_t i = 0, n = qemu_plugin_tb_n_insns(tb); i < n; i++)
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), on_access, PLUGIN_NO_REGS,
                                         PLUGIN_MEM_RW, NULL);
}

/* ---- system calls ---- */

static uint64_t up(uint64_t x) { return (x + PAGE - 1) & ~(uint64_t)(PAGE - 1); }

static bool is_fork(int64_t num, const uint64_t *arg)
{
    enum { VM = 0x100, VFORK = 0x4000 }; /* CLONE_* */
    return num == SYS_fork || num == SYS_vfork ||
           (num == SYS_clone && (!(arg[0] & VM) || (arg[0] & VFORK)));
}

/* Put the end of the path at guest address va into name, all zero; nothing where it cannot be read.
 */
static void program_name(uint64_t va, char name[RAW_NAME_WORDS * 8])
{
    char path[PATH_MAX];
    size_t n = 0;
    const uint64_t *base = dlsym(RTLD_DEFAULT, "guest_base");
    va += base ? *base : 0;
    for (size_t step; n < sizeof path - 1; n += step) { /* a page at a time: the next may be none */
        step = PAGE - (va + n) % PAGE;
        step = step < sizeof path - 1 - n ? step : sizeof path - 1 - n;
        struct iovec to = {path + n, step}, from = {(void *)(uintptr_t)(va + n), step};
        if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)step)
            break;
        if (memchr(path + n, 0, step)) {
            n += step;
            break;
        }
    }
    path[n] = 0;
    const char *slash = strrchr(path, '/');
    const char *end = slash ? slash + 1 : path;
    memcpy(name, end, strnlen(end, RAW_NAME_WORDS * 8));
}

static void put_exec(uint64_t path)
{
    uint64_t words[RAW_NAME_WORDS];
    char name[sizeof words] = {0};
    program_name(path, name);
    memcpy(words, name, sizeof words);
    put_event(RAW_EXEC, RAW_NAME_WORDS, words);
}

static void on_syscall(plugin_id id, unsigned v, int64_t num, uint64_t a1, uint64_t a2, uint64_t a3,
                       uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)a7, (void)a8;
    const uint64_t arg[6] = {a1, a2, a3, a4, a5, a6};
    memcpy(vcpus[v].arg, arg, sizeof arg);
    if (is_fork(num, arg)) {
        event_begin(v);
        vcpus[v].child = forks++;
        PUT(RAW_FORK, vcpus[v].child);
        event_end();
    } else if (num == SYS_execve || num == SYS_execveat) {
        event_begin(v);
        put_exec(num == SYS_execve ? a1 : a2);
        event_end();
    } else if (num == SYS_exit && live > 1) {
        event_begin(v);
        PUT(RAW_THREAD_EXIT, v);
        vcpus[v].alive = false;
        live--;
        event_end();
    } else if (num == SYS_exit || num == SYS_exit_group) {
        event_begin(v);
        PUT(RAW_EXIT, a1 & 255);
        close_part();
        event_end();
    }
}

/* In the child: only this thread exists, and the part file mapped is the parent's. */
static void become_child(unsigned v)
{
    size_t n = strlen(part);
    for (unsigned i = 0; i < MAX_VCPUS; i++) {
        vcpus[i].n = 0;
        vcpus[i].alive = i == v;
    }
    if (n + 12 >= sizeof part) {
        errno = ENAMETOOLONG;
        give_up("forks nested too deeply");
    }
    snprintf(part + n, sizeof part - n, ".%u", vcpus[v].child);
    forks = 0;
    lock = 0;
    threaded = false;
    live = 1;
    writer = v;
    open_part();
}

static void map_result(const uint64_t *a, uint64_t at)
{
    enum { SHARED = 1, TYPE = 15, ANON = 0x20 }; /* MAP_* */
    uint64_t flags = ((a[3] & TYPE) & SHARED ? RAW_SHARED : 0) | (a[3] & ANON ? 0 : RAW_FILE);
    PUT(RAW_MAP, at, up(a[1]), a[2] & 7, flags);
}

static void mremap_result(const uint64_t *a, uint64_t at)
{
    uint64_t old = a[0], old_len = up(a[1]), len = up(a[2]);
    if (at != old) {
        PUT(RAW_MAP, at, len, PROT_READ | PROT_WRITE, 0);
        if (old_len)
            PUT(RAW_UNMAP, old, old_len);
    } else if (len > old_len)
        PUT(RAW_MAP, at + old_len, len - old_len, PROT_READ | PROT_WRITE, 0);
    else if (len < old_len)
        PUT(RAW_UNMAP, at + len, old_len - len);
}

static void brk_result(uint64_t at)
{
    uint64_t end = up(at);
    if (brk_end && end > brk_end)
        PUT(RAW_MAP, brk_end, end - brk_end, PROT_READ | PROT_WRITE, RAW_BRK);
    else if (brk_end && end < brk_end)
        PUT(RAW_UNMAP, end, brk_end - end);
    brk_end = end;
}

static void memory_result(int64_t num, const uint64_t *a, uint64_t ret)
{
    enum { DONTNEED = 4 };
    if (num == SYS_mmap)
        map_result(a, ret);
    else if (num == SYS_munmap)
        PUT(RAW_UNMAP, a[0], up(a[1]));
    else if (num == SYS_mprotect)
        PUT(RAW_PROTECT, a[0], up(a[1]), a[2] & 7);
    else if (num == SYS_mremap)
        mremap_result(a, ret);
    else if (num == SYS_brk)
        brk_result(ret);
    else if (num == SYS_madvise && a[2] == DONTNEED)
        PUT(RAW_DISCARD, a[0], up(a[1]));
}

static void on_syscall_ret(plugin_id id, unsigned v, int64_t num, int64_t ret)
{
    (void)id;
    static const int64_t memory[] = {SYS_mmap,   SYS_munmap, SYS_mprotect,
                                     SYS_mremap, SYS_brk,    SYS_madvise};
    if (is_fork(num, vcpus[v].arg)) {
        if (ret == 0)
            become_child(v);
        return;
    }
    if (ret < 0 && ret > -4096)
        return;
    for (unsigned i = 0; i < sizeof memory / sizeof *memory; i++)
        if (num == memory[i]) {
            event_begin(v);
            memory_result(num, vcpus[v].arg, (uint64_t)ret);
            event_end();
        }
}

static void on_exit_qemu(plugin_id id, void *user)
{
    (void)id, (void)user;
    take_lock();
    for (unsigned i = 0; threaded && i < MAX_VCPUS; i++)
        drain(i);
    if (!full)
        close_part();
    drop_lock();
}

/* ---- start ---- */

static int option(const char *arg)
{
    if (strncmp(arg, "dir=", 4) == 0)
        return snprintf(folder, sizeof folder, "%s", arg + 4) < (int)sizeof folder ? 0 : -1;
    if (strncmp(arg, "max=", 4) == 0)
        room = strtoull(arg + 4, NULL, 10);
    else
        return -1;
    return 0;
}

int qemu_plugin_install(plugin_id id, const struct plugin_info *info, int argc, char **argv)
{
    if (info->system_emulation || strcmp(info->target_name, "x86_64") != 0)
        return -1;
    for (int i = 0; i < argc; i++)
        if (option(argv[i]) != 0)
            return -1;
    if (!folder[0])
        return -1;
    strcpy(part, "0");
    open_part();
    qemu_plugin_register_vcpu_init_cb(id, on_vcpu_init);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_vcpu_syscall_ret_cb(id, on_syscall_ret);
    qemu_plugin_register_atexit_cb(id, on_exit_qemu, NULL);
    return 0;
}
