/* user.h: what a guest program may do. Workloads and trace replay are written against this only.
 *
 * One program drives every process of the guest: u_switch() changes the address space under it,
 * as a ring-3 program whose code and stack are mapped in all of them. With more than one vCPU each
 * process has its own (guest/kernel.h), and u_cpu() makes a thread of one: the program is one sequence
 * of accesses that a machine with all of them running could make, whatever the number of vCPUs. On the model each call goes
 * into the MMU; in the freestanding image (NB_FREESTANDING) loads and stores are instructions and
 * the rest are system calls.
 *
 * ld/st      touch memory; the value does not matter. In the image st stores a zero byte, on the model
 *            nothing: never use it on bytes that hold data
 * ld64/st64  move 8 bytes, 8-byte aligned: what was stored is what is read
 *
 * A request the kernel refuses returns GK_E* (guest/kernel.h). An access to unmapped memory ends
 * the program with outcome guest_segv, unless on_segv() repairs it.
 */
#ifndef NB_VMM_USER_H
#define NB_VMM_USER_H

#include "base/base.h"
#include "base/rng.h"
#include "guest/kernel.h"

#ifdef NB_FREESTANDING

/* The image has no on_segv: only trace replay uses it, and replay runs on the model. */
struct user {
    struct rng rng; /* seeded from --seed; all randomness of a program comes from here */
};

/* One instruction each, which no compiler may drop, join or move past another of them. They name no
 * memory that C knows of, so nothing else needs to be written back for them. */
static inline void ld(struct user *u, gva_t a)
{
    unsigned char sink;
    (void)u;
    __asm__ volatile("movb %1, %0" : "=q"(sink) : "m"(*(const volatile unsigned char *)a));
}
static inline void st(struct user *u, gva_t a)
{
    (void)u;
    __asm__ volatile("movb $0, %0" : "=m"(*(volatile unsigned char *)a));
}
static inline uint64_t ld64(struct user *u, gva_t a)
{
    uint64_t v;
    (void)u;
    __asm__ volatile("movq %1, %0" : "=r"(v) : "m"(*(const volatile uint64_t *)a));
    return v;
}
static inline void st64(struct user *u, gva_t a, uint64_t v)
{
    (void)u;
    __asm__ volatile("movq %1, %0" : "=m"(*(volatile uint64_t *)a) : "r"(v));
}

/* The image has one vCPU. */
static inline void u_cpu(struct user *u, unsigned cpu) { (void)u, (void)cpu; }

#else

#include "shadow_vs_ept/mmu_access.h"

struct user {
    struct mmu *mmu; /* the vCPU the program runs on */
    struct hw *hw;   /* the machine below; for the engine */
    struct rng rng;  /* seeded from --seed; all randomness of a program comes from here */
    /* Called on an access without a mapping: return 0 to retry (having mapped it), else it ends. */
    int (*on_segv)(struct user *, gva_t, unsigned error);
    void *ctx; /* for on_segv */
};

static inline void ld(struct user *u, gva_t a) { mmu_load(u->mmu, a); }
static inline void st(struct user *u, gva_t a) { mmu_store(u->mmu, a); }
static inline uint64_t ld64(struct user *u, gva_t a)
{
    mmu_load(u->mmu, a);
    return *mmu_data(u->mmu, a);
}
static inline void st64(struct user *u, gva_t a, uint64_t v)
{
    mmu_store(u->mmu, a);
    *mmu_data(u->mmu, a) = v;
}

/* Go on on vCPU `cpu` mod their number, in the same process: as its thread there. Costs nothing; what
 * is private to a vCPU (TLB, CR3) stays behind. */
void u_cpu(struct user *, unsigned cpu);

#endif

/* System calls; see guest/kernel.h. u_alloc: anonymous read-write memory of `len` bytes, or the end
 * of the program (outcome guest_oom). */
int u_mmap(struct user *, gva_t hint, uint64_t len, unsigned prot, unsigned flags, gva_t *out);
int u_munmap(struct user *, gva_t, uint64_t len);
int u_mprotect(struct user *, gva_t, uint64_t len, unsigned prot);
int u_fork(struct user *, int *child);
int u_exit(struct user *, int pid);
int u_switch(struct user *, int pid);
gva_t u_alloc(struct user *, uint64_t len);

/* ld64() and st64() that may be refused: false, and the #PF error code in *error, when the kernel does not
 * allow the access, and the program goes on. Needs no on_segv. */
bool u_try_load(struct user *, gva_t, uint64_t *value, unsigned *error);
bool u_try_store(struct user *, gva_t, uint64_t value, unsigned *error);

/* Begin a phase: counters are reported per phase. The harness calls "setup", then "work". */
void u_phase(struct user *, const char *name);

/* End the program at once because the guest cannot go on (a counted outcome, not a crash). */
_Noreturn void u_abort(struct user *, const char *why);

#endif
