/* boot_record.h: what `nestbed boot` prints of a run: the record, or a balloon's steps as text. */
#ifndef NB_BENCH_BOOT_RECORD_H
#define NB_BENCH_BOOT_RECORD_H

#include <jansson.h>

#include "vmm/boot.h"

/* One line a step: what was asked for, what the driver claims, what the device holds, and of the guest's
 * memory what the host holds, then and when the guest had used all it could. */
void boot_print_balloon(const struct boot_config *, const struct boot_balloon_result *);
/* Takes `words`, the arguments of the image. */
void boot_print_record(const struct boot_config *, const struct boot_result *, const char *image,
                       json_t *words);

#endif
