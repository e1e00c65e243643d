/* test_linux_boot.c: Linux images: what is accepted and refused, where what the kernel reads is put, and
 * ACPI tables that add up and lead from one to the next.
 * link: base vmm/linux_boot vmm/acpi
 */
#include <asm/bootparam.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/base.h"
#include "base/rng.h"
#include "vmm/acpi.h"
#include "vmm/linux_boot.h"

#define MIB (1ull << 20)
enum { SECTORS = 2, KERNEL = 48, FILE_BYTES = (1 + SECTORS) * 512 + KERNEL, LOW = 32 << 20 };

static char err[512];

/* A boot sector, two of real-mode code, 48 bytes of kernel that prefers 16 MiB and needs 4 MiB there. */
static void correct(unsigned char *file)
{
    struct setup_header h = {.setup_sects = SECTORS,
                             .syssize = KERNEL / 16,
                             .boot_flag = 0xaa55,
                             .jump = 0x66eb, /* the header ends at 0x202 + 0x66 */
                             .header = 0x53726448,
                             .version = 0x20f,
                             .loadflags = LOADED_HIGH,
                             .initrd_addr_max = 0x7fffffff,
                             .cmdline_size = 2047,
                             .pref_address = 16 * MIB,
                             .init_size = 4 * MIB};
    memset(file, 0xcc, FILE_BYTES);
    memcpy(file + 0x1f1, &h, sizeof h);
    memset(file + FILE_BYTES - KERNEL, 0x5a, KERNEL);
}

static int parse(const unsigned char *file, size_t n, struct linux_image *out)
{
    err[0] = 0;
    return linux_parse(file, n, out, err, sizeof err);
}

static void a_correct_image_is_accepted(void **state)
{
    unsigned char file[FILE_BYTES];
    struct linux_image img;
    (void)state;
    correct(file);
    assert_true(linux_claims(file, sizeof file));
    assert_int_equal(parse(file, sizeof file, &img), NB_OK);
    assert_int_equal(img.setup_bytes, 3 * 512);
    assert_int_equal(img.kernel_bytes, KERNEL);
    assert_int_equal(img.end, 20 * MIB);
    assert_int_equal(img.cmdline_max, 2047);
}

/* Offsets of boot.rst's table of the header. */
static void wrong_images_are_refused(void **state)
{
    static const struct {
        unsigned at, bytes;
        uint64_t value;
        const char *word;
    } wrong[] = {{0x202, 4, 0x53726449, "not a Linux"},
                 {0x1fe, 2, 0xaa56, "not a Linux"},
                 {0x206, 2, 0x0209, "2.10"},
                 {0x211, 1, 0, "zImage"},
                 {0x1f4, 4, 0, "cut short"},
                 {0x1f4, 4, 4, "cut short"},
                 {0x1f4, 4, 0xffffffff, "cut short"},
                 {0x1f1, 1, 64, "cut short"},
                 {0x1f1, 1, 0, "cut short"},
                 {0x258, 8, 1ull << 32, "above 4 GiB"}};
    unsigned char file[FILE_BYTES];
    struct linux_image img;
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        correct(file);
        memcpy(file + wrong[i].at, &wrong[i].value, wrong[i].bytes);
        assert_int_equal(parse(file, sizeof file, &img), NB_DATAERR);
        assert_non_null(strstr(err, wrong[i].word));
    }
    correct(file);
    for (size_t n = 0; n < sizeof file; n++)
        assert_int_equal(parse(file, n, &img), NB_DATAERR);
}

static uint64_t get(const unsigned char *p, unsigned bytes)
{
    uint64_t v = 0;
    memcpy(&v, p, bytes);
    return v;
}

/* Offsets of zero-page.rst. An initrd of 5000 bytes takes two pages, at the top of memory. */
static void everything_is_where_the_protocol_says(void **state)
{
    unsigned char file[FILE_BYTES], *low = calloc(1, LOW), initrd[5000];
    struct linux_image img;
    struct linux_machine m = {.low_bytes = LOW,
                              .high_bytes = 64 * MIB,
                              .cmdline = "quiet panic=-1",
                              .initrd = initrd,
                              .initrd_bytes = sizeof initrd};
    const uint64_t map[][3] = {
        {0, 0x9fc00, 1}, {0xe0000, 0x20000, 2}, {MIB, LOW - MIB, 1}, {4096 * MIB, 64 * MIB, 1}};
    (void)state;
    correct(file);
    memset(initrd, 0x77, sizeof initrd);
    assert_int_equal(parse(file, sizeof file, &img), NB_OK);
    assert_int_equal(linux_place(&img, file, &m, low, err, sizeof err), NB_OK);
    const unsigned char *zero = low + LINUX_PARAMS_GPA;
    assert_memory_equal(zero + 0x1f1, file + 0x1f1, 0x210 - 0x1f1); /* up to the loader's own */
    assert_int_equal(zero[0x210], 0xff);
    assert_int_equal(zero[0x1ef], 0); /* the sentinel: the page was cleared */
    assert_int_equal(get(zero + 0x268, 8), 0);
    assert_int_equal(get(zero + 0x070, 8), ACPI_GPA);
    assert_int_equal(get(zero + 0x218, 4), LOW - 8192);
    assert_int_equal(get(zero + 0x21c, 4), sizeof initrd);
    assert_memory_equal(low + LOW - 8192, initrd, sizeof initrd);
    assert_string_equal((char *)low + get(zero + 0x228, 4), m.cmdline);
    assert_int_equal(zero[0x1e8], ARRAY_SIZE(map));
    for (unsigned i = 0; i < ARRAY_SIZE(map); i++) {
        assert_int_equal(get(zero + 0x2d0 + 20 * i, 8), map[i][0]);
        assert_int_equal(get(zero + 0x2d0 + 20 * i + 8, 8), map[i][1]);
        assert_int_equal(get(zero + 0x2d0 + 20 * i + 16, 4), map[i][2]);
    }
    assert_memory_equal(low + MIB, file + FILE_BYTES - KERNEL, KERNEL);
    free(low);
}

static void what_does_not_fit_is_refused(void **state)
{
    unsigned char file[FILE_BYTES], *low = calloc(1, LOW);
    char line[LINUX_MAX_CMDLINE + 1];
    struct linux_image img;
    struct linux_machine m = {.low_bytes = 20 * MIB, .cmdline = "", .initrd = low};
    (void)state;
    correct(file);
    assert_int_equal(parse(file, sizeof file, &img), NB_OK);
    assert_int_equal(linux_place(&img, file, &m, low, err, sizeof err), NB_OK);
    m.initrd_bytes = 1; /* the kernel ends where memory does */
    assert_int_equal(linux_place(&img, file, &m, low, err, sizeof err), NB_USAGE);
    assert_non_null(strstr(err, "--mem"));
    m.initrd_bytes = SIZE_MAX;
    assert_int_equal(linux_place(&img, file, &m, low, err, sizeof err), NB_USAGE);
    m.initrd_bytes = 0;
    m.low_bytes -= 4096;
    assert_int_equal(linux_place(&img, file, &m, low, err, sizeof err), NB_USAGE);
    memset(line, 'a', sizeof line);
    line[2047] = 0;
    m.low_bytes = LOW;
    m.cmdline = line;
    assert_int_equal(linux_place(&img, file, &m, low, err, sizeof err), NB_OK);
    line[2047] = 'a';
    line[2048] = 0;
    assert_int_equal(linux_place(&img, file, &m, low, err, sizeof err), NB_USAGE);
    assert_non_null(strstr(err, "2047"));
    free(low);
}

/* Headers of random bytes: refused, or placed inside memory (the sanitizers see the rest). */
static void random_headers_stay_inside(void **state)
{
    unsigned char file[FILE_BYTES], *low = malloc(LOW), initrd[64] = {0};
    struct linux_machine m = {
        .low_bytes = LOW, .cmdline = "x", .initrd = initrd, .initrd_bytes = sizeof initrd};
    struct rng rng;
    unsigned placed = 0;
    rng_seed(&rng, 7);
    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        struct linux_image img;
        correct(file);
        for (unsigned k = rng_next(&rng) % 4; k < 4; k++)
            file[0x1f1 + rng_next(&rng) % 0x77] = (unsigned char)rng_next(&rng);
        if (parse(file, sizeof file, &img) != NB_OK)
            continue;
        assert_true(img.setup_bytes + img.kernel_bytes <= sizeof file);
        placed += linux_place(&img, file, &m, low, err, sizeof err) == NB_OK;
    }
    assert_true(placed > 100);
    free(low);
}

/* ---- ACPI ---- */
/* The table at a guest-physical address, which must add up to 0. */
static const unsigned char *table(const unsigned char *low, uint64_t gpa, const char *signature)
{
    const unsigned char *t = low + gpa;
    uint8_t sum = 0;
    assert_in_range(gpa, ACPI_GPA, ACPI_GPA + ACPI_BYTES - 64);
    assert_memory_equal(t, signature, 4);
    for (unsigned i = 0; i < get(t + 4, 4); i++)
        sum = (uint8_t)(sum + t[i]);
    assert_int_equal(sum, 0);
    return t;
}

static void acpi_tables_lead_to_every_device(void **state)
{
    unsigned char *low = calloc(1, MIB);
    struct acpi_machine m = {.cpus = 3,
                             .virtio_gpa = 0xd0000000,
                             .virtio_irq = 5,
                             .serial_port = 0x3f8,
                             .serial_irq = 4};
    (void)state;
    for (unsigned virtio = 0; virtio < 2; virtio++) {
        m.virtio = virtio;
        acpi_place(&m, low);
        const unsigned char *rsdp = low + ACPI_GPA;
        uint8_t sum = 0;
        assert_memory_equal(rsdp, "RSD PTR ", 8);
        for (unsigned i = 0; i < 36; i++)
            sum = (uint8_t)(sum + rsdp[i]);
        assert_int_equal(sum, 0);
        const unsigned char *xsdt = table(low, get(rsdp + 24, 8), "XSDT");
        const unsigned char *fadt = table(low, get(xsdt + 36, 8), "FACP"),
                            *madt = table(low, get(xsdt + 44, 8), "APIC"),
                            *dsdt = table(low, get(fadt + 140, 8), "DSDT");
        unsigned bytes = (unsigned)get(dsdt + 4, 4);
        assert_int_equal(get(fadt + 120, 8), ACPI_RESET_PORT); /* 5.2.9 */
        assert_int_equal(get(fadt + 248, 8), ACPI_SLEEP_PORT);
        assert_int_equal(get(madt + 4, 4), 44 + 3 * 8 + 12);         /* 5.2.12 */
        assert_int_equal(madt[44 + 2 * 8 + 3], 2);                   /* the third CPU's APIC */
        assert_non_null(memmem(dsdt, bytes, "\x41\xd0\x05\x01", 4)); /* EISAID("PNP0501") */
        assert_int_equal(memmem(dsdt, bytes, "LNRO0005", 9) != NULL, virtio);
        assert_int_equal(memmem(dsdt, bytes, "\x86\x09\0\x01\0\0\0\xd0\0\x10\0\0", 12) != NULL,
                         virtio);
        assert_int_equal(get(low + MIB - 16, 1), 0xba); /* the reset vector: MOV DX */
    }
    free(low);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_correct_image_is_accepted),
        cmocka_unit_test(wrong_images_are_refused),
        cmocka_unit_test(everything_is_where_the_protocol_says),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(random_headers_stay_inside),
        cmocka_unit_test(acpi_tables_lead_to_every_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
