/* multiboot.h: multiboot-1 ELF32 images: check one, put it into guest memory with what it expects.
 *
 * The image is hostile input: every offset, size and count in it is checked before use, with 64-bit
 * sums of 32-bit fields. Functions return NB_OK, NB_DATAERR (not such an image, one sentence in err)
 * or NB_USAGE (the guest's memory is too small for it).
 *
 * Sources: Multiboot Specification 0.6.96; System V ABI, i386 supplement (ELF).
 */
#ifndef NB_VMM_MULTIBOOT_H
#define NB_VMM_MULTIBOOT_H

#include <stddef.h>
#include <stdint.h>

#define MULTIBOOT_EAX 0x2badb002u /* in EAX at the entry */
/* Guest-physical page of the information structure, memory map, module list and command line: below
 * 0x8000, where real-mode images begin. Its last byte is an IRET (see multiboot_place). */
#define MULTIBOOT_INFO_GPA 0x7000u
/* Memory from address 0 ends there at the latest: devices follow, up to 4 GiB. */
#define MULTIBOOT_LOW_MAX (3ull << 30)
enum { MULTIBOOT_MAX_SEGMENTS = 32, MULTIBOOT_MAX_CMDLINE = 2048 };

struct multiboot_image {
    uint32_t entry;
    unsigned nsegments;
    struct {
        uint32_t gpa, offset, file_bytes, mem_bytes; /* file [offset, +file_bytes), zeroes after */
    } segment[MULTIBOOT_MAX_SEGMENTS];
    uint64_t end; /* first guest-physical address after all segments */
};

/* What the guest is told. */
struct multiboot_machine {
    uint64_t low_bytes;  /* memory from address 0; at most MULTIBOOT_LOW_MAX */
    uint64_t high_bytes; /* memory from 4 GiB on, or 0 */
    const char *cmdline; /* image name and arguments */
    const char *env;     /* environment text, KEY=VALUE lines: the one module; NULL: none */
    size_t env_bytes;
};

/* Check a file of n bytes. */
int multiboot_parse(const void *file, size_t n, struct multiboot_image *out, char *err,
                    size_t errlen);
/* Copy a parsed image and its information into `low`, the low_bytes of guest memory at address 0.
 * Also an interrupt table of 256 real-mode vectors that return at once, as a BIOS leaves. */
int multiboot_place(const struct multiboot_image *, const void *file,
                    const struct multiboot_machine *, unsigned char *low, char *err, size_t errlen);

#endif
