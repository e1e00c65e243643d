/* init.h: what nestbed does when it is process 1 of a machine that boots for it: of the lab machine
 * (labvm_init.c), or of a Linux guest of ours (linux_init.c).
 */
#ifndef NB_VMM_INIT_H
#define NB_VMM_INIT_H

#include <stdbool.h>
#include <stddef.h>

/* Is this process 1, started with this variable? Unknown words NAME=VALUE of a kernel's command line reach
 * process 1 as its environment. The root must be the initramfs: process 1 of a container is no such
 * machine. */
bool init_is(const char *variable);
/* /proc, /sys, /dev and /tmp. False: why in err. */
bool init_mount(char *err, size_t errlen);
/* The console as standard input and output. */
void init_console(void);
/* Load /NAME.ko unless it is there already. False: why in err; also when there is no such file, and it is
 * not optional. */
bool init_module(const char *name, bool optional, const char *options, char *err, size_t errlen);

#endif
