/* kvm_run.c: running a vCPU: entry state, one step, interruption, deadlines.
 *
 * No wakeup is lost. A signal that arrives between the last look at a flag and KVM_RUN would be
 * consumed without effect, so its handler also sets run->immediate_exit of the vCPU this thread runs:
 * the next KVM_RUN finishes a pending exit and returns EINTR at once. A signal that arrives before
 * the thread has a vCPU leaves a mark (`interrupted`) that its first step looks at, after it has
 * published the vCPU: whichever comes second sees the other.
 *
 * Interface: one thread runs a vCPU at a time. A deadline belongs to a thread; cancel it
 * (kvm_deadline(0)) before the thread ends.
 */
#include "vmm/kvm_internal.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* ---- what a signal handler may touch ---- */
static _Thread_local struct kvm_run *volatile running;
static _Thread_local volatile sig_atomic_t interrupted, expired;
static _Thread_local volatile sig_atomic_t generation; /* of this thread's deadline */
static _Thread_local timer_t timer;
static _Thread_local bool have_timer;

/* Written by this thread, its signals, and kvm_kick() in others; KVM_RUN reads it. */
static void set_immediate_exit(struct kvm_run *run, uint8_t on)
{
    __atomic_store_n(&run->immediate_exit, on, __ATOMIC_SEQ_CST);
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    if (info->si_code == SI_TIMER) {
        if (info->si_value.sival_int != generation)
            return; /* of a deadline that was cancelled meanwhile */
        expired = 1;
    }
    interrupted = 1;
    if (running)
        set_immediate_exit(running, 1);
}

static void install_handler(void)
{
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGRTMIN, &sa, NULL); /* cannot fail for a valid signal */
}

/* The handler once per process, the mask and the thread's number once per thread. */
static int listen_for_signals(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static _Thread_local int tid;
    if (tid)
        return tid;
    sigset_t set;
    pthread_once(&once, install_handler);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    tid = (int)syscall(SYS_gettid);
    return tid;
}

/* ---- one step ---- */
/* Make this vCPU the one that signals to this thread interrupt. */
static void publish(struct kvm_vcpu *v)
{
    int tid = listen_for_signals();
    if (running == v->run && atomic_load_explicit(&v->tid, memory_order_relaxed) == tid)
        return;
    running = v->run;
    atomic_store(&v->tid, tid);
    atomic_signal_fence(memory_order_seq_cst);
    if (interrupted)
        set_immediate_exit(v->run, 1);
}

void kvm_run_forget(const struct kvm_vcpu *v)
{
    if (running == v->run)
        running = NULL;
}

enum kvm_step kvm_vcpu_step(struct kvm_vcpu *v)
{
    publish(v);
    if (likely(ioctl(v->fd, KVM_RUN, 0) == 0)) {
        uint32_t reason = v->run->exit_reason;
        v->exits[reason < 63 ? reason : 63]++;
        return KVM_STEP_EXIT;
    }
    if (errno != EINTR && errno != EAGAIN)
        return KVM_STEP_FAILED;
    v->eintr += errno == EINTR; /* EAGAIN: it waited to be started, and was */
    /* A signal from here on is one the caller's flags show when it looks at them. */
    interrupted = 0;
    set_immediate_exit(v->run, 0);
    return KVM_STEP_SIGNAL;
}

void kvm_kick(struct kvm_vcpu *v)
{
    set_immediate_exit(v->run, 1);
    int tid = atomic_load(&v->tid);
    if (tid)
        syscall(SYS_tgkill, getpid(), tid, SIGRTMIN);
}

/* ---- deadlines ---- */
static void cancel(void)
{
    generation++; /* a signal already under way is of an old one */
    if (have_timer)
        timer_delete(timer);
    have_timer = false;
    expired = 0;
}

bool kvm_deadline(double seconds, char *err, size_t errlen)
{
    const double longest = 1e9;
    int tid = listen_for_signals();
    cancel();
    if (!(seconds > 0))
        return true;
    seconds = fmin(fmax(seconds, 1e-6), longest);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
    event.sigev_value.sival_int = generation;
    event.sigev_notify_thread_id = tid;
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)seconds}};
    when.it_value.tv_nsec = (long)((seconds - (double)when.it_value.tv_sec) * 1e9);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) {
        snprintf(err, errlen, "timer_create: %s", strerror(errno));
        return false;
    }
    have_timer = true;
    if (timer_settime(timer, 0, &when, NULL) != 0) {
        snprintf(err, errlen, "timer_settime: %s", strerror(errno));
        cancel();
        return false;
    }
    return true;
}

bool kvm_expired(void) { return expired; }

/* ---- entry state ---- */
/* A flat segment; `bits` 64 for code (L), 32 otherwise. Selectors are informative: descriptors are
 * loaded from a table only when the guest loads the register. */
struct kvm_segment kvm_flat_segment(unsigned selector, bool code, unsigned bits)
{
    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = (uint16_t)selector,
                                .type = code ? 11 : 3,
                                .present = 1,
                                .db = bits == 32,
                                .s = 1,
                                .l = bits == 64,
                                .g = 1};
}

/* A task register VMX accepts (SDM vol. 3C, 26.3.1.2): busy, present. */
struct kvm_segment kvm_task_segment(void)
{
    return (struct kvm_segment){.limit = 0x67, .selector = 0x18, .type = 11, .present = 1};
}

/* Without EFER.SCE: a guest that sets no LSTAR would run SYSCALL of ring 3 on at address 0, in ring 0. */
static void set_long_mode(struct kvm_sregs *s, uint64_t cr3, unsigned levels)
{
    enum { CR0_PE = 1, CR0_MP = 2, CR0_ET = 1 << 4, CR0_NE = 1 << 5, CR0_WP = 1 << 16 };
    enum { CR4_PAE = 1 << 5, CR4_PGE = 1 << 7, CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10 };
    enum { CR4_LA57 = 1 << 12, EFER_LME = 1 << 8, EFER_LMA = 1 << 10 };
    enum { EFER_NXE = 1 << 11 };
    const uint32_t paging = 1u << 31;
    s->cs = kvm_flat_segment(0x08, true, 64);
    s->ds = s->es = s->fs = s->gs = s->ss = kvm_flat_segment(0x10, false, 32);
    s->tr = kvm_task_segment();
    s->ldt = (struct kvm_segment){.type = 2, .unusable = 1};
    s->gdt.limit = s->idt.limit = 0;
    s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | paging;
    s->cr3 = cr3;
    s->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | (levels == 5 ? CR4_LA57 : 0);
    s->efer = EFER_LME | EFER_LMA | EFER_NXE;
}

bool kvm_vcpu_long_mode(struct kvm_vcpu *v, uint64_t rip, uint64_t rsp, uint64_t cr3,
                        unsigned levels, char *err, size_t errlen)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = rip, .rsp = rsp, .rflags = 2};
    if (ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0) {
        snprintf(err, errlen, "KVM_GET_SREGS: %s", strerror(errno));
        return false;
    }
    set_long_mode(&sregs, cr3, levels);
    if (ioctl(v->fd, KVM_SET_SREGS, &sregs) < 0) {
        snprintf(err, errlen, "KVM_SET_SREGS: %s%s", strerror(errno),
                 levels == 5 ? "; this KVM offers no 5-level paging, use --levels 4" : "");
        return false;
    }
    if (ioctl(v->fd, KVM_SET_REGS, &regs) < 0) {
        snprintf(err, errlen, "KVM_SET_REGS: %s", strerror(errno));
        return false;
    }
    return true;
}
