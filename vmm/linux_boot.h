/* linux_boot.h: Linux kernels (bzImage): check one, put it into guest memory with what it expects.
 *
 * The image is hostile input: every size and address in it is checked before use, with 64-bit sums.
 * Functions return NB_OK, NB_DATAERR (not such an image, one sentence in err) or NB_USAGE (the guest's
 * memory is too small for it).
 *
 * Source: Linux, Documentation/arch/x86/boot.rst and zero-page.rst; the structures are those of
 * <asm/bootparam.h>. Protocol 2.10 (Linux 2.6.31) or later: it says how much memory the kernel needs.
 */
#ifndef NB_VMM_LINUX_BOOT_H
#define NB_VMM_LINUX_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINUX_GDT_GPA 0x6000u     /* null, unused, code (0x10), data (0x18) */
#define LINUX_PARAMS_GPA 0x7000u  /* the zero page, in ESI at the entry */
#define LINUX_CMDLINE_GPA 0x8000u /* at most a page */
#define LINUX_ENTRY_GPA 0x100000u /* the protected-mode kernel, and its 32-bit entry */
enum { LINUX_GDT_BYTES = 32, LINUX_MAX_CMDLINE = 4096 };

struct linux_image {
    uint64_t setup_bytes;  /* boot sector and real-mode code, which is not run */
    uint64_t kernel_bytes; /* what follows them */
    uint64_t end;          /* first address the kernel does not use before it knows its memory */
    uint64_t initrd_max;   /* last address an initrd may have */
    uint32_t cmdline_max;  /* characters */
};

/* What the guest is told. */
struct linux_machine {
    uint64_t low_bytes;  /* memory from address 0; at most MULTIBOOT_LOW_MAX */
    uint64_t high_bytes; /* memory from 4 GiB on, or 0 */
    const char *cmdline;
    const void *initrd; /* or NULL */
    size_t initrd_bytes;
};

/* Does this file claim to be one? */
bool linux_claims(const void *file, size_t n);
/* Check a file of n bytes. */
int linux_parse(const void *file, size_t n, struct linux_image *out, char *err, size_t errlen);
/* Copy a parsed image, its parameters, memory map, command line and initrd into `low`, the low_bytes of
 * guest memory at address 0. ACPI tables are acpi.h's. */
int linux_place(const struct linux_image *, const void *file, const struct linux_machine *,
                unsigned char *low, char *err, size_t errlen);

#endif
