/* multiboot.c: check a multiboot-1 ELF32 image and lay it out in guest memory.
 *
 *   0x0000  real-mode interrupt table: 256 vectors, all to the IRET below
 *   0x7000  information structure, then at 0x7080 the memory map, at 0x7100 the module list
 *   0x7200  command line
 *   0x7fff  IRET
 *   ...     the image's segments, where their program headers say
 *   after   the environment text, page aligned, not below 1 MiB
 */
#include "vmm/multiboot.h"

#include <assert.h>
#include <elf.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

#define HEADER_MAGIC 0x1badb002u
#define FOUR_GIB (1ull << 32)

enum { SEARCH = 8192 }; /* the header lies within the first 8 KiB, 4-byte aligned */
/* Requirements of a header (bits 0 to 15) that we meet: modules on page boundaries, memory sizes. */
enum { REQUIRED = 0xffff, PAGE_ALIGN = 1, MEMORY_INFO = 2, HAS_ADDRESSES = 1 << 16 };
/* Fields of the information structure that are valid. */
enum { INFO_MEMORY = 1, INFO_CMDLINE = 4, INFO_MODULES = 8, INFO_MMAP = 64 };
enum { MMAP_AT = 0x80, MODULE_AT = 0x100, CMDLINE_AT = 0x200, IRET_AT = 0xfff };

_Static_assert(CMDLINE_AT + MULTIBOOT_MAX_CMDLINE < IRET_AT, "command_line_fits");

struct info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
    uint32_t mmap_length, mmap_addr;
};
struct mmap_entry {
    uint32_t size; /* of what follows */
    uint64_t base, bytes;
    uint32_t type; /* 1: memory */
} __attribute__((packed));
_Static_assert(sizeof(struct mmap_entry) == 24, "mmap_entry_sane");
_Static_assert(sizeof(struct info) <= MMAP_AT, "info_fits");

/* ---- checking ---- */
static int bad(char *err, size_t n, const char *why)
{
    snprintf(err, n, "%s", why);
    return NB_DATAERR;
}

static int find_header(const unsigned char *file, size_t n, char *err, size_t errlen)
{
    for (size_t at = 0; at + 12 <= n && at + 12 <= SEARCH; at += 4) {
        uint32_t h[3]; /* magic, flags, checksum */
        memcpy(h, file + at, sizeof h);
        if (h[0] != HEADER_MAGIC || h[0] + h[1] + h[2] != 0)
            continue;
        if (h[1] & REQUIRED & ~(PAGE_ALIGN | MEMORY_INFO))
            return bad(err, errlen, "its multiboot header requires what is not offered (video)");
        if (h[1] & HAS_ADDRESSES)
            return bad(err, errlen,
                       "its multiboot header has load addresses of its own (flag 16); only ELF "
                       "headers are used");
        return NB_OK;
    }
    return bad(err, errlen, "no multiboot-1 header in its first 8 KiB");
}

static int check_ehdr(const Elf32_Ehdr *e, size_t n, char *err, size_t errlen)
{
    if (n < sizeof *e || memcmp(e->e_ident, ELFMAG, SELFMAG) != 0)
        return bad(err, errlen, "not an ELF file");
    if (e->e_ident[EI_CLASS] != ELFCLASS32 || e->e_ident[EI_DATA] != ELFDATA2LSB ||
        e->e_machine != EM_386)
        return bad(err, errlen,
                   "not an ELF32 file for i386 (objcopy -O elf32-i386 makes one of a 64-bit file)");
    if (e->e_type != ET_EXEC)
        return bad(err, errlen, "not an executable ELF file");
    if (e->e_phentsize != sizeof(Elf32_Phdr) || e->e_phnum == 0)
        return bad(err, errlen, "its program headers are missing or of a wrong size");
    if (e->e_phoff > n || (uint64_t)e->e_phnum * sizeof(Elf32_Phdr) > n - e->e_phoff)
        return bad(err, errlen, "cut short: its program headers lie outside the file");
    return NB_OK;
}

static int add_segment(struct multiboot_image *m, const Elf32_Phdr *p, size_t n, char *err,
                       size_t errlen)
{
    uint64_t end = (uint64_t)p->p_paddr + p->p_memsz;
    if (p->p_filesz > p->p_memsz)
        return bad(err, errlen, "a segment has more bytes in the file than in memory");
    if (p->p_offset > n || p->p_filesz > n - p->p_offset)
        return bad(err, errlen, "cut short: a segment lies outside the file");
    if (p->p_memsz == 0)
        return NB_OK;
    if (end > MULTIBOOT_LOW_MAX)
        return bad(err, errlen, "a segment ends above 3 GiB, where no memory can be");
    if (p->p_paddr < MULTIBOOT_INFO_GPA + 4096 && end > MULTIBOOT_INFO_GPA)
        return bad(err, errlen, "a segment covers 0x7000, where the multiboot information goes");
    if (m->nsegments == MULTIBOOT_MAX_SEGMENTS)
        return bad(err, errlen, "it has more than 32 segments");
    m->segment[m->nsegments].gpa = p->p_paddr;
    m->segment[m->nsegments].offset = p->p_offset;
    m->segment[m->nsegments].file_bytes = p->p_filesz;
    m->segment[m->nsegments].mem_bytes = p->p_memsz;
    m->nsegments++;
    if (end > m->end)
        m->end = end;
    return NB_OK;
}

static bool entry_is_loaded(const struct multiboot_image *m)
{
    for (unsigned i = 0; i < m->nsegments; i++)
        if (m->entry >= m->segment[i].gpa && m->entry - m->segment[i].gpa < m->segment[i].mem_bytes)
            return true;
    return false;
}

int multiboot_parse(const void *file, size_t n, struct multiboot_image *out, char *err,
                    size_t errlen)
{
    Elf32_Ehdr e = {0};
    memcpy(&e, file, n < sizeof e ? n : sizeof e);
    *out = (struct multiboot_image){.entry = e.e_entry};
    int rc = check_ehdr(&e, n, err, errlen);
    if (rc == NB_OK)
        rc = find_header(file, n, err, errlen);
    for (unsigned i = 0; rc == NB_OK && i < e.e_phnum; i++) {
        Elf32_Phdr p;
        memcpy(&p, (const char *)file + e.e_phoff + i * sizeof p, sizeof p);
        if (p.p_type == PT_LOAD)
            rc = add_segment(out, &p, n, err, errlen);
    }
    if (rc == NB_OK && !entry_is_loaded(out))
        return bad(err, errlen, "its entry point lies in no segment");
    return rc;
}

/* ---- laying out ---- */
static void put_mmap(const struct multiboot_machine *m, unsigned char *page, struct info *info)
{
    struct mmap_entry map[2] = {{20, 0, m->low_bytes, 1}, {20, FOUR_GIB, m->high_bytes, 1}};
    info->mmap_length = (m->high_bytes ? 2 : 1) * sizeof map[0];
    info->mmap_addr = MULTIBOOT_INFO_GPA + MMAP_AT;
    memcpy(page + MMAP_AT, map, info->mmap_length);
}

static void put_module(uint32_t start, size_t bytes, unsigned char *page, struct info *info)
{
    uint32_t module[4] = {start, start + (uint32_t)bytes, 0, 0};
    info->flags |= INFO_MODULES;
    info->mods_count = 1;
    info->mods_addr = MULTIBOOT_INFO_GPA + MODULE_AT;
    memcpy(page + MODULE_AT, module, sizeof module);
}

/* Vectors of real mode: all to one IRET. */
static void put_interrupt_table(unsigned char *low)
{
    const uint32_t to_iret = MULTIBOOT_INFO_GPA + IRET_AT; /* segment 0 */
    for (unsigned i = 0; i < 256; i++)
        memcpy(low + 4 * i, &to_iret, 4);
    low[to_iret] = 0xcf;
}

static int check_room(const struct multiboot_image *img, const struct multiboot_machine *m,
                      uint64_t env_at, char *err, size_t errlen)
{
    uint64_t need = m->env ? env_at + m->env_bytes : img->end;
    if (strlen(m->cmdline) >= MULTIBOOT_MAX_CMDLINE) {
        snprintf(err, errlen, "the command line is longer than %d bytes",
                 MULTIBOOT_MAX_CMDLINE - 1);
        return NB_USAGE;
    }
    if (need > m->low_bytes || m->low_bytes < 1 << 20) {
        snprintf(err, errlen, "the image needs %" PRIu64 " bytes of memory below 3 GiB; use --mem",
                 need > 1 << 20 ? need : 1 << 20);
        return NB_USAGE;
    }
    return NB_OK;
}

int multiboot_place(const struct multiboot_image *img, const void *file,
                    const struct multiboot_machine *m, unsigned char *low, char *err, size_t errlen)
{
    struct info info = {.flags = INFO_MEMORY | INFO_CMDLINE | INFO_MMAP, .mem_lower = 640};
    uint64_t env_at = ALIGN_UP(img->end < 1 << 20 ? 1 << 20 : img->end, 4096);
    assert(m->low_bytes <= MULTIBOOT_LOW_MAX);
    int rc = check_room(img, m, env_at, err, errlen);
    if (rc != NB_OK)
        return rc;
    put_interrupt_table(low);
    for (unsigned i = 0; i < img->nsegments; i++) {
        unsigned char *to = low + img->segment[i].gpa;
        uint32_t n = img->segment[i].file_bytes;
        memcpy(to, (const unsigned char *)file + img->segment[i].offset, n);
        memset(to + n, 0, img->segment[i].mem_bytes - n);
    }
    unsigned char *page = low + MULTIBOOT_INFO_GPA;
    info.mem_upper = (uint32_t)((m->low_bytes - (1 << 20)) >> 10);
    info.cmdline = MULTIBOOT_INFO_GPA + CMDLINE_AT;
    memcpy(page + CMDLINE_AT, m->cmdline, strlen(m->cmdline) + 1);
    put_mmap(m, page, &info);
    if (m->env) {
        memcpy(low + env_at, m->env, m->env_bytes);
        put_module((uint32_t)env_at, m->env_bytes, page, &info);
    }
    memcpy(page, &info, sizeof info);
    return NB_OK;
}
