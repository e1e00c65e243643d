/* image.h: the ring-0 half of the image: what its files share.
 *
 * entry.S  first instruction, exception stubs, way into ring 3
 * hw.c     guest/hw.h as instructions; texts for the VMM
 * script.c operations of a script, and what it saw
 * mem.c    what compilers call: memset, memcpy and the like
 * main.c   boot, system calls, page faults, panics
 * device.c the balloon's registers
 * probe.c  what probes measure in ring 0
 *
 * Interrupts are off at all times: the only ways into this code are boot, SYSCALL_VECTOR and
 * exceptions, so nothing here is ever interrupted by itself. On kvm_pvm each of these instructions is
 * emulated (about half a microsecond): the paths of a fault and of a system call are kept short, and
 * instructions its emulator lacks are not used (INT3, INT n, STAC, CLAC, XGETBV, CLWB, INVPCID,
 * RDPRU, MOVBE, SYSRET, VMCALL, SSE).
 */
#ifndef NB_GUEST_IMAGE_IMAGE_H
#define NB_GUEST_IMAGE_IMAGE_H

#include "guest/image/syscall.h"
#include "guest/internal.h"

/* Kernel memory: [next, end) of the direct map is still to be handed out; pages below `warm` have
 * been stored into. */
struct hw {
    unsigned char *next, *end, *warm;
    uint64_t waited; /* turns of hw_dev_wait() */
};

/* The page at BOOT_GPA, at a fixed address near the code (image.ld). */
extern volatile struct nb_boot boot;
/* The image's user part, [user_start, user_end), and where ring 3 begins. */
extern char user_start[], user_end[], user_entry[], user_stack_top[];
extern struct nb_args user_args;
/* The image as linked: [image_start, image_end). */
extern char image_start[], image_end[];

static inline void *direct(gpa_t a) { return (void *)(DIRECT_BASE + a); }

/* Call the VMM; it reads its arguments from `boot`, and may have written there when this returns. */
static inline void vmm_call(enum nb_call call)
{
    __asm__ volatile("outl %0, %1" : : "a"((uint32_t)call), "Nd"((uint16_t)NB_PORT) : "memory");
}

/* hw.c */
void hw_init(struct hw *, uint64_t reserved_bytes);
/* Store once into each page of the image and of the next `ahead` bytes of kernel memory. */
void hw_warm(struct hw *, uint64_t ahead);
void say(const char *text);                       /* into boot.text */
void say_hex(const char *before, uint64_t value); /* appended to boot.text */

/* main.c: vmm_call() with `boot` up to date, and how a run ends. */
void call(enum nb_call);
_Noreturn void stop(enum nb_call);

/* script.c: SYS_OP, SYS_OP_REST, SYS_SAW. False: there is no such operation, or argument. */
bool script_op(uint64_t number, uint64_t *kind, uint64_t *arg);
bool script_args(uint64_t k, uint64_t arg[2]);
void script_saw(uint64_t tag, uint64_t a, uint64_t b);

/* probe.c: part `id` of a probe, n times, at `addr`. Returns what the program asked for. */
uint64_t probe_kernel(struct gk *, unsigned id, uint64_t n, uint64_t addr);

/* entry.S */
extern char vector_stubs[]; /* 32 stubs of VECTOR_STUB_BYTES each */
extern char syscall_stub[];
_Noreturn void enter_user(uint64_t rip, uint64_t rsp);
#define VECTOR_STUB_BYTES 16

#endif
