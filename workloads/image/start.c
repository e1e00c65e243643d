/* start.c: the first code of ring 3: find the program by name and run it.
 *
 * Before that every page of the image's user part is stored into once: under a KVM that shadows page
 * tables each would otherwise fault, unseen by the guest, in whatever phase first comes by it.
 */
#include "workloads/image/sys.h"

#include "guest/image/syscall.h"

REGISTRY(workload);

extern char user_start[], user_end[], user_stack_top[];
extern struct nb_args user_args;
_Noreturn void user_entry(void);

struct nb_args user_args;
/* Grows down from user_stack_top, which is the end of this. */
__asm__(".bss\n.balign 4096\n.skip 65536\n.global user_stack_top\nuser_stack_top:\n.text");

static bool same(const char *a, const char *b)
{
    for (; *a && *a == *b; a++, b++)
        ;
    return *a == *b;
}

static void warm(void)
{
    for (char *p = user_start; p < user_end; p += PAGE_SIZE)
        __asm__ volatile("orb $0, %0" : "+m"(*p));
}

static const struct workload *find(const char *name)
{
    FOR_EACH(workload, w)
    if (same(w->name, name))
        return w;
    return NULL;
}

_Noreturn void user_entry(void)
{
    struct user u;
    const struct workload *w = find(user_args.program);
    warm();
    rng_seed(&u.rng, user_args.seed);
    if (!w)
        u_abort(&u, "the image has no program of this name");
    w->run(&u, user_args.params);
    for (;;)
        sys_done();
}
