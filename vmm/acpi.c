/* acpi.c: RSDP -> XSDT -> FADT (-> DSDT) and MADT, in one piece from ACPI_GPA on; and at the end of the
 * area a processor's reset vector. Linux 6.1 takes a machine of reduced hardware to have EFI, does not
 * use the reset register, and jumps there instead: to code that writes it.
 *
 * Linux finds virtio-mmio devices, secondary CPUs and interrupt lines here and nowhere else, unless it
 * was built with options that distributions leave out (VIRTIO_MMIO_CMDLINE_DEVICES, X86_MPPARSE).
 * The hardware ID of a virtio-mmio device is LNRO0005.
 *
 * Sources: ACPI 6.5, 5.2 (tables), 6.4 (resources), 20.2 (AML).
 */
#include "vmm/acpi.h"

#include <assert.h>
#include <string.h>

#include "base/base.h"

enum { HEADER = 36, RSDP = 36, XSDT = HEADER + 2 * 8, FADT = 276 };
enum { LAPIC_GPA = (int)0xfee00000, IOAPIC_GPA = (int)0xfec00000 };

/* A table under construction. */
struct table {
    uint8_t *p;
    unsigned n;
};

static void put(struct table *t, uint64_t v, unsigned bytes)
{
    memcpy(t->p + t->n, &v, bytes);
    t->n += bytes;
}

static void set(struct table *t, unsigned at, uint64_t v, unsigned bytes)
{
    memcpy(t->p + at, &v, bytes);
}

static void put_text(struct table *t, const char *s)
{
    memcpy(t->p + t->n, s, strlen(s));
    t->n += (unsigned)strlen(s);
}

/* Bytes [from, to) add up to 0. */
static void set_checksum(struct table *t, unsigned from, unsigned to, unsigned at)
{
    uint8_t sum = 0;
    for (unsigned i = from; i < to; i++)
        sum = (uint8_t)(sum + t->p[i]);
    t->p[at] = (uint8_t)(t->p[at] - sum);
}

/* 5.2.6: length and checksum are filled in by finish(). */
static void put_header(struct table *t, const char *signature, unsigned revision)
{
    put_text(t, signature);
    put(t, 0, 4);
    put(t, revision, 1);
    put(t, 0, 1);
    put_text(t, "NSTBEDMACHINE ");
    put(t, 1, 4);
    put_text(t, "NSTB");
    put(t, 1, 4);
}

static unsigned finish(struct table *t)
{
    set(t, 4, t->n, 4);
    set_checksum(t, 0, t->n, 9);
    return t->n;
}

/* ---- AML (20.2) ---- */
enum { ZERO = 0x00, NAME = 0x08, BYTE = 0x0a, DWORD = 0x0c, STRING = 0x0d, SCOPE = 0x10 };
enum { BUFFER = 0x11, PACKAGE = 0x12, EXT = 0x5b, DEVICE = 0x82 };

/* A package length of two bytes, for any size below 4 KiB: room for it, and the number. */
static unsigned open_length(struct table *t)
{
    t->n += 2;
    return t->n - 2;
}

static void close_length(struct table *t, unsigned at)
{
    unsigned bytes = t->n - at;
    assert(bytes < 1u << 12);
    t->p[at] = (uint8_t)(0x40 | (bytes & 15));
    t->p[at + 1] = (uint8_t)(bytes >> 4);
}

static void put_name(struct table *t, const char *name)
{
    put(t, NAME, 1);
    put_text(t, name);
}

static unsigned open_device(struct table *t, const char *name)
{
    put(t, EXT, 1);
    put(t, DEVICE, 1);
    unsigned at = open_length(t);
    put_text(t, name);
    return at;
}

/* _CRS: a buffer of resource descriptors (6.4). Its size is a byte, after the package length. */
static unsigned open_resources(struct table *t)
{
    put_name(t, "_CRS");
    put(t, BUFFER, 1);
    unsigned at = open_length(t);
    put(t, BYTE, 1);
    put(t, 0, 1);
    return at;
}

static void close_resources(struct table *t, unsigned at)
{
    put(t, 0x79, 2); /* end tag, no checksum */
    t->p[at + 3] = (uint8_t)(t->n - at - 4);
    close_length(t, at);
}

static void put_interrupt(struct table *t, unsigned irq, bool edge)
{
    put(t, 0x89, 1);
    put(t, 6, 2);
    put(t, 1u | (edge ? 2u : 0u), 1); /* consumer; active high */
    put(t, 1, 1);
    put(t, irq, 4);
}

/* An eisa id as it lies in memory: three letters of 5 bits, four hex digits, most significant first. */
static uint32_t eisa_id(const char *s, unsigned number)
{
    unsigned v = (unsigned)(s[0] - '@') << 26 | (unsigned)(s[1] - '@') << 21 |
                 (unsigned)(s[2] - '@') << 16 | number;
    return __builtin_bswap32(v);
}

static void put_virtio(struct table *t, const struct acpi_machine *m)
{
    unsigned device = open_device(t, "VIO0");
    put_name(t, "_HID");
    put(t, STRING, 1);
    put_text(t, "LNRO0005");
    put(t, 0, 1);
    put_name(t, "_UID");
    put(t, ZERO, 1);
    unsigned resources = open_resources(t);
    put(t, 0x86, 1); /* memory at a fixed address, writable */
    put(t, 9, 2);
    put(t, 1, 1);
    put(t, m->virtio_gpa, 4);
    put(t, 4096, 4);
    put_interrupt(t, m->virtio_irq, false);
    close_resources(t, resources);
    close_length(t, device);
}

static void put_serial(struct table *t, const struct acpi_machine *m)
{
    unsigned device = open_device(t, "COM1");
    put_name(t, "_HID");
    put(t, DWORD, 1);
    put(t, eisa_id("PNP", 0x501), 4);
    put_name(t, "_UID");
    put(t, ZERO, 1);
    unsigned resources = open_resources(t);
    put(t, 0x47, 1); /* ports: 16-bit decoding, from, to, alignment, how many */
    put(t, 1, 1);
    put(t, m->serial_port, 2);
    put(t, m->serial_port, 2);
    put(t, 1, 1);
    put(t, 8, 1);
    put_interrupt(t, m->serial_irq, true);
    close_resources(t, resources);
    close_length(t, device);
}

/* Name (\_S5_, Package {5, 0}): the sleep type that switches off. */
static void put_off(struct table *t)
{
    put_name(t, "\\_S5_");
    put(t, PACKAGE, 1);
    unsigned at = open_length(t);
    put(t, 2, 1);
    put(t, BYTE, 1);
    put(t, ACPI_SLEEP_OFF >> 2 & 7, 1);
    put(t, ZERO, 1);
    close_length(t, at);
}

static void put_dsdt(struct table *t, const struct acpi_machine *m)
{
    put_header(t, "DSDT", 2);
    put_off(t);
    put(t, SCOPE, 1);
    unsigned scope = open_length(t);
    put_text(t, "\\_SB_");
    put_serial(t, m);
    if (m->virtio)
        put_virtio(t, m);
    close_length(t, scope);
}

/* ---- the other tables ---- */
/* Generic address (5.2.3.2) of one byte of I/O space. */
static void set_port(struct table *t, unsigned at, unsigned port)
{
    set(t, at, 1 | 8 << 8 | 1 << 24, 4);
    set(t, at + 4, port, 8);
}

/* 5.2.9. Boot flags: no VGA, no clock of a PC; no keyboard controller is the absence of its flag. */
static void put_fadt(struct table *t, uint64_t dsdt)
{
    enum { BOOT_FLAGS = 109, FLAGS = 112, RESET = 116, RESET_VALUE = 128, MINOR = 131 };
    enum { X_DSDT = 140, SLEEP_CONTROL = 244, SLEEP_STATUS = 256 };
    enum { NO_VGA = 1 << 2, NO_RTC = 1 << 5, HW_REDUCED = 1 << 20, HAS_RESET = 1 << 10 };
    enum { NO_FIXED_BUTTONS = 3 << 4 };
    put_header(t, "FACP", 6);
    t->n = FADT;
    set(t, BOOT_FLAGS, NO_VGA | NO_RTC, 2);
    set(t, FLAGS, HW_REDUCED | HAS_RESET | NO_FIXED_BUTTONS, 4);
    set_port(t, RESET, ACPI_RESET_PORT);
    set(t, RESET_VALUE, ACPI_RESET_VALUE, 1);
    set(t, MINOR, 5, 1);
    set(t, X_DSDT, dsdt, 8);
    set_port(t, SLEEP_CONTROL, ACPI_SLEEP_PORT);
    set_port(t, SLEEP_STATUS, ACPI_SLEEP_PORT + 1);
}

/* 5.2.12: local APICs, and the I/O APIC with all interrupts from 0 on. */
static void put_madt(struct table *t, const struct acpi_machine *m)
{
    enum { LOCAL = 0 | 8 << 8, IO = 1 | 12 << 8, ENABLED = 1 };
    put_header(t, "APIC", 5);
    put(t, (uint32_t)LAPIC_GPA, 4);
    put(t, 0, 4);
    for (unsigned i = 0; i < m->cpus; i++) {
        put(t, LOCAL | i << 16 | i << 24, 4);
        put(t, ENABLED, 4);
    }
    put(t, IO | m->cpus << 16, 4);
    put(t, (uint32_t)IOAPIC_GPA, 4);
    put(t, 0, 4);
}

static void put_rsdp(struct table *t, uint64_t xsdt)
{
    enum { FIRST_PART = 20, SUM = 8, SUM_OF_ALL = 32 };
    put_text(t, "RSD PTR ");
    put(t, 0, 1);
    put_text(t, "NSTBED");
    put(t, 2, 1);
    put(t, 0, 4); /* no table of 32-bit addresses */
    put(t, RSDP, 4);
    put(t, xsdt, 8);
    put(t, 0, 4);
    set_checksum(t, 0, FIRST_PART, SUM);
    set_checksum(t, 0, RSDP, SUM_OF_ALL);
}

static uint64_t address(unsigned at) { return ACPI_GPA + at; }

/* MOV DX, port; MOV AL, value; OUT DX, AL; then HLT again and again. */
static void put_reset_vector(unsigned char *low)
{
    static const uint8_t code[] = {0xba,
                                   ACPI_RESET_PORT & 0xff,
                                   ACPI_RESET_PORT >> 8,
                                   0xb0,
                                   ACPI_RESET_VALUE,
                                   0xee,
                                   0xf4,
                                   0xeb,
                                   0xfd};
    memcpy(low + ACPI_GPA + ACPI_BYTES - 16, code, sizeof code);
}

void acpi_place(const struct acpi_machine *m, unsigned char *low)
{
    unsigned char *base = low + ACPI_GPA;
    const unsigned xsdt_at = ALIGN_UP(RSDP, 16), fadt_at = ALIGN_UP(xsdt_at + XSDT, 16),
                   madt_at = ALIGN_UP(fadt_at + FADT, 16);
    struct table madt = {.p = base + madt_at};
    memset(base, 0, ACPI_BYTES);
    put_madt(&madt, m);
    const unsigned dsdt_at = ALIGN_UP(madt_at + finish(&madt), 16);
    struct table rsdp = {.p = base}, xsdt = {.p = base + xsdt_at}, fadt = {.p = base + fadt_at},
                 dsdt = {.p = base + dsdt_at};
    put_rsdp(&rsdp, address(xsdt_at));
    put_header(&xsdt, "XSDT", 1);
    put(&xsdt, address(fadt_at), 8);
    put(&xsdt, address(madt_at), 8);
    finish(&xsdt);
    put_fadt(&fadt, address(dsdt_at));
    finish(&fadt);
    put_dsdt(&dsdt, m);
    assert(dsdt_at + finish(&dsdt) <= ACPI_BYTES - 16);
    put_reset_vector(low);
}
