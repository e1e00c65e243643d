/* linux_boot.c: check a bzImage and lay it out in guest memory, for its 32-bit entry.
 *
 *   0x06000   descriptor table with the two segments that the entry expects
 *   0x07000   zero page: the image's own setup header, completed, and the memory map
 *   0x08000   command line
 *   0xe0000   ACPI tables (acpi.c)
 *   0x100000  the protected-mode kernel: its decompressor moves itself and the kernel to
 *             pref_address, and stays below pref_address + init_size
 *   ...
 *   top       initrd, page aligned, as high as memory and initrd_addr_max allow
 *
 * The 32-bit entry needs no page tables of ours, and every bzImage has it. The real-mode code of the
 * image is for a BIOS; it does not run.
 */
#include "vmm/linux_boot.h"

#include <asm/bootparam.h>
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "vmm/acpi.h"

#define HEADER_MAGIC 0x53726448u /* "HdrS" */
#define FOUR_GIB (1ull << 32)

enum { SECTOR = 512, HEADER_AT = 0x1f1, OLDEST = 0x020a, NO_LOADER_ID = 0xff };
enum { BOOT_FLAG = 0xaa55, DEFAULT_SECTORS = 4, LOW_RAM_END = 0x9fc00 };
enum { E820_RAM = 1, E820_RESERVED = 2 };

_Static_assert(offsetof(struct boot_params, hdr) == HEADER_AT, "setup_header_sane");
_Static_assert(sizeof(struct boot_params) == 4096, "zero_page_sane");

/* ---- checking ---- */
static int bad(char *err, size_t n, const char *why)
{
    snprintf(err, n, "%s", why);
    return NB_DATAERR;
}

static struct setup_header header(const void *file, size_t n)
{
    struct setup_header h = {0};
    if (n >= HEADER_AT + sizeof h)
        memcpy(&h, (const char *)file + HEADER_AT, sizeof h);
    return h;
}

bool linux_claims(const void *file, size_t n) { return header(file, n).header == HEADER_MAGIC; }

/* The decompressor runs where it was loaded until it has moved to pref_address. */
static uint64_t last_used(const struct setup_header *h, uint64_t kernel_bytes)
{
    uint64_t loaded = LINUX_ENTRY_GPA + kernel_bytes, at = h->pref_address;
    if (at < LINUX_ENTRY_GPA)
        at = LINUX_ENTRY_GPA;
    return at + h->init_size > loaded ? at + h->init_size : loaded;
}

int linux_parse(const void *file, size_t n, struct linux_image *out, char *err, size_t errlen)
{
    struct setup_header h = header(file, n);
    unsigned sectors = 1u + (h.setup_sects ? h.setup_sects : DEFAULT_SECTORS);
    if (h.header != HEADER_MAGIC || h.boot_flag != BOOT_FLAG)
        return bad(err, errlen, "not a Linux kernel image (bzImage)");
    if (h.version < OLDEST)
        return bad(err, errlen, "its boot protocol is older than 2.10 (Linux 2.6.31)");
    if (!(h.loadflags & LOADED_HIGH))
        return bad(err, errlen, "a zImage, which loads low; only a bzImage is run");
    *out = (struct linux_image){.setup_bytes = sectors * SECTOR,
                                .kernel_bytes = 16ull * h.syssize,
                                .initrd_max = h.initrd_addr_max,
                                .cmdline_max = h.cmdline_size};
    if (out->kernel_bytes == 0 || out->setup_bytes > n || out->kernel_bytes > n - out->setup_bytes)
        return bad(err, errlen, "cut short: the kernel's code lies outside the file");
    if (h.pref_address >= FOUR_GIB)
        return bad(err, errlen, "it prefers an address above 4 GiB, where this entry cannot go");
    out->end = last_used(&h, out->kernel_bytes);
    return NB_OK;
}

/* ---- laying out ---- */
static uint64_t initrd_at(const struct linux_image *img, const struct linux_machine *m)
{
    uint64_t top = m->low_bytes;
    if (top > img->initrd_max + 1)
        top = img->initrd_max + 1;
    return m->initrd_bytes > top ? 0 : ALIGN_DOWN(top - m->initrd_bytes, 4096);
}

static int check_room(const struct linux_image *img, const struct linux_machine *m, char *err,
                      size_t errlen)
{
    size_t line = strlen(m->cmdline);
    if (line > img->cmdline_max || line >= LINUX_MAX_CMDLINE) {
        snprintf(err, errlen, "the command line is longer than %" PRIu32 " bytes",
                 img->cmdline_max < LINUX_MAX_CMDLINE ? img->cmdline_max : LINUX_MAX_CMDLINE - 1);
        return NB_USAGE;
    }
    if (initrd_at(img, m) < img->end) {
        snprintf(err, errlen,
                 "the kernel and its initrd need %" PRIu64
                 " bytes of memory below 2 GiB; use --mem",
                 img->end + ALIGN_UP(m->initrd_bytes, 4096));
        return NB_USAGE;
    }
    return NB_OK;
}

static void add_range(struct boot_params *p, uint64_t from, uint64_t to, uint32_t type)
{
    assert(p->e820_entries < E820_MAX_ENTRIES_ZEROPAGE);
    if (to > from)
        p->e820_table[p->e820_entries++] =
            (struct boot_e820_entry){.addr = from, .size = to - from, .type = type};
}

static void put_memory_map(struct boot_params *p, const struct linux_machine *m)
{
    add_range(p, 0, LOW_RAM_END, E820_RAM);
    add_range(p, ACPI_GPA, ACPI_GPA + ACPI_BYTES, E820_RESERVED);
    add_range(p, LINUX_ENTRY_GPA, m->low_bytes, E820_RAM);
    add_range(p, FOUR_GIB, FOUR_GIB + m->high_bytes, E820_RAM);
}

/* Flat segments of 4 GiB, type 11 (code) and 3 (data), accessed (SDM vol. 3A, 3.4.5). */
static void put_gdt(unsigned char *low)
{
    static const uint64_t gdt[] = {0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
    _Static_assert(sizeof gdt == LINUX_GDT_BYTES, "gdt_sane");
    memcpy(low + LINUX_GDT_GPA, gdt, sizeof gdt);
}

/* The setup header as long as the image says (boot.rst, "32-bit boot protocol"): what lies behind it is
 * none of its fields. */
static void put_params(const struct linux_image *img, const void *file,
                       const struct linux_machine *m, unsigned char *low)
{
    struct boot_params p = {0};
    struct setup_header h = header(file, img->setup_bytes);
    size_t bytes = offsetof(struct setup_header, header) + (h.jump >> 8);
    memcpy(&p.hdr, &h, bytes < sizeof h ? bytes : sizeof h);
    p.hdr.type_of_loader = NO_LOADER_ID;
    p.hdr.cmd_line_ptr = LINUX_CMDLINE_GPA;
    p.acpi_rsdp_addr = ACPI_GPA;
    if (m->initrd_bytes) {
        p.hdr.ramdisk_image = (uint32_t)initrd_at(img, m);
        p.hdr.ramdisk_size = (uint32_t)m->initrd_bytes;
        memcpy(low + p.hdr.ramdisk_image, m->initrd, m->initrd_bytes);
    }
    put_memory_map(&p, m);
    memcpy(low + LINUX_PARAMS_GPA, &p, sizeof p);
}

int linux_place(const struct linux_image *img, const void *file, const struct linux_machine *m,
                unsigned char *low, char *err, size_t errlen)
{
    int rc = check_room(img, m, err, errlen);
    if (rc != NB_OK)
        return rc;
    put_gdt(low);
    put_params(img, file, m, low);
    memcpy(low + LINUX_CMDLINE_GPA, m->cmdline, strlen(m->cmdline) + 1);
    memcpy(low + LINUX_ENTRY_GPA, (const char *)file + img->setup_bytes, img->kernel_bytes);
    return NB_OK;
}
