/* boot_board.c: the devices of `nestbed boot`: one row per range of ports, two functions per row. */
#include "vmm/boot_board.h"

#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vmm/acpi.h"

#define IOMEM_GPA 0xff000000u

enum { INTERRUPT_ENABLE = 1, INTERRUPT_ID = 2, LINE_CONTROL = 3, MODEM_CONTROL = 4 };
enum { LINE_STATUS = 5, MODEM_STATUS = 6 };
enum { DIVISOR_ACCESS = 0x80, TRANSMITTER_EMPTY = 0x60, OUT2 = 0x08 };
enum { WHEN_EMPTY = 0x02, ID_NONE = 0x01, ID_EMPTY = 0x02 };
enum { FW_RAM_SIZE = 3, FW_NB_CPUS = 5, FW_MAX_CPUS = 0xf };

static uint64_t ones(unsigned size) { return size >= 8 ? UINT64_MAX : (1ull << 8 * size) - 1; }

/* ---- serial line ---- */
char board_plain(char c)
{
    return (c >= ' ' && c < 0x7f) || c == '\n' || c == '\r' || c == '\t' ? c : '?';
}

static void put_char(struct board *b, char c)
{
    if (b->out) {
        fputc(b->plain ? board_plain(c) : c, b->out);
        if (c == '\n')
            fflush(b->out);
    }
    if (b->nconsole < BOARD_CONSOLE_MAX)
        b->console[b->nconsole] = c;
    b->nconsole++;
}

static void set_line(struct board *b, unsigned irq, bool level)
{
    struct kvm_irq_level line = {.irq = irq, .level = level};
    ioctl(b->vm->fd, KVM_IRQ_LINE, &line);
}

/* The one interrupt there is: the transmitter is empty, which it always is, and nobody has been told
 * since the last byte or since the interrupt was enabled. OUT2 connects the line, as on a PC. */
static bool serial_interrupt(const struct board *b)
{
    return b->serial_untold && b->serial[INTERRUPT_ENABLE] & WHEN_EMPTY;
}

static void serial_line(struct board *b)
{
    bool level = serial_interrupt(b) && b->serial[MODEM_CONTROL] & OUT2;
    if (level != b->serial_level)
        set_line(b, BOARD_SERIAL_IRQ, level);
    b->serial_level = level;
}

static void serial_out(struct board *b, unsigned at, unsigned size, uint32_t v)
{
    bool divisor = at < 2 && b->serial[LINE_CONTROL] & DIVISOR_ACCESS;
    (void)size;
    if (divisor)
        b->divisor[at] = (uint8_t)v;
    else if (at == 0)
        put_char(b, (char)v);
    else
        b->serial[at] = (uint8_t)v;
    if (!divisor && at <= INTERRUPT_ENABLE) {
        b->serial_untold = true;
        if (at == 0 && b->serial_level) /* an edge for each byte */
            set_line(b, BOARD_SERIAL_IRQ, b->serial_level = false);
    }
    serial_line(b);
}

/* Reading which interrupt it is takes it back. */
static uint32_t serial_id(struct board *b)
{
    bool pending = serial_interrupt(b);
    b->serial_untold &= !pending;
    serial_line(b);
    return pending ? ID_EMPTY : ID_NONE;
}

static uint32_t serial_in(struct board *b, unsigned at, unsigned size)
{
    (void)size;
    if (at < 2 && b->serial[LINE_CONTROL] & DIVISOR_ACCESS)
        return b->divisor[at];
    switch (at) {
    case 0: /* nothing was received */
    case MODEM_STATUS:
        return 0;
    case INTERRUPT_ID:
        return serial_id(b);
    case LINE_STATUS:
        return TRANSMITTER_EMPTY;
    default:
        return b->serial[at];
    }
}

/* ---- ends ---- */
static void end(struct board *b, uint32_t code)
{
    if (!b->ended)
        b->code = code;
    b->ended = true;
}

static void debug_exit(struct board *b, unsigned at, unsigned size, uint32_t v)
{
    (void)size;
    if (at == 0)
        end(b, v);
}

static void shutdown_out(struct board *b, unsigned at, unsigned size, uint32_t v)
{
    static const char word[] = "Shutdown";
    (void)at;
    (void)size;
    b->shutdown_letters = (char)v == word[b->shutdown_letters] ? b->shutdown_letters + 1 : 0;
    if (!word[b->shutdown_letters]) {
        b->shutdown_letters = 0;
        end(b, 0);
    }
}

/* The two registers of a hardware-reduced ACPI machine (acpi.h). */
static void power_out(struct board *b, unsigned at, unsigned size, uint32_t v)
{
    (void)size;
    if (at == 0 && (v & 0xff) == ACPI_SLEEP_OFF)
        end(b, 0);
    if (at == ACPI_RESET_PORT - ACPI_SLEEP_PORT && !b->ended)
        b->ended = b->reset = true;
}

/* It never wakes up, and has nothing to tell. */
static uint32_t power_in(struct board *b, unsigned at, unsigned size)
{
    (void)b;
    (void)at;
    (void)size;
    return 0;
}

/* ---- fw_cfg ---- */
static void fw_select(struct board *b, unsigned at, unsigned size, uint32_t item)
{
    uint64_t v = 0;
    (void)size;
    if (at != 0)
        return;
    if (item == FW_NB_CPUS || item == FW_MAX_CPUS)
        v = b->vm->nvcpus;
    else if (item == FW_RAM_SIZE)
        for (unsigned i = 0; i < b->vm->nslots; i++)
            v += b->vm->slot_mem[i]->bytes;
    memcpy(b->fw_cfg, &v, sizeof v);
    b->fw_at = 0;
}

static uint32_t fw_read(struct board *b, unsigned at, unsigned size)
{
    (void)size;
    if (at != 1 || b->fw_at >= sizeof b->fw_cfg)
        return 0;
    return b->fw_cfg[b->fw_at++];
}

/* ---- test devices ---- */
/* Two latches of 4 bytes: at 0 and at 8. */
static void latch_out(struct board *b, unsigned at, unsigned size, uint32_t v)
{
    unsigned shift = 8 * (at & 3);
    uint32_t mask = (uint32_t)ones(size) << shift, *latch = &b->latch[at >> 3];
    *latch = (*latch & ~mask) | (v << shift & mask);
}

static uint32_t latch_in(struct board *b, unsigned at, unsigned size)
{
    return b->latch[at >> 3] >> 8 * (at & 3) & (uint32_t)ones(size);
}

/* Any change of a page's protection makes KVM drop its translations. One that takes no right away:
 * other vCPUs go on using the page meanwhile, and an access that fails would end them. Where no page may
 * be both writable and executable, it is read-only for that moment. */
static void flush_page(struct board *b, unsigned at, unsigned size, uint32_t v)
{
    const int ours = PROT_READ | PROT_WRITE;
    (void)size;
    void *page = at == 0 ? kvm_vm_ptr(b->vm, v & ~4095u, 4096) : NULL;
    if (page &&
        (mprotect(page, 4096, ours | PROT_EXEC) == 0 || mprotect(page, 4096, PROT_READ) == 0))
        mprotect(page, 4096, ours);
}

static void irq_line(struct board *b, unsigned at, unsigned size, uint32_t v)
{
    (void)size;
    set_line(b, at, v != 0);
}

static void balloon_out(struct board *b, unsigned at, unsigned size, uint32_t v)
{
    (void)size;
    if (b->balloon)
        boot_balloon_out(b->balloon, BALLOON_PORT + at, v);
}

static uint32_t balloon_in(struct board *b, unsigned at, unsigned size)
{
    (void)size;
    return b->balloon ? boot_balloon_in(b->balloon, BALLOON_PORT + at) : UINT32_MAX;
}

/* ---- dispatch ---- */
static const struct row {
    uint16_t first, last;
    void (*out)(struct board *, unsigned at, unsigned size, uint32_t v); /* NULL: ignored */
    uint32_t (*in)(struct board *, unsigned at, unsigned size);          /* NULL: all ones */
} rows[] = {
    {BOARD_SERIAL, BOARD_SERIAL + 7, serial_out, serial_in},
    {0xf4, 0xf7, debug_exit, NULL},
    {0x510, 0x511, fw_select, fw_read},
    {0xe4, 0xe7, flush_page, NULL},
    {0xe0, 0xeb, latch_out, latch_in},
    {0x2000, 0x2017, irq_line, NULL},
    {0x8900, 0x8900, shutdown_out, NULL},
    {ACPI_SLEEP_PORT, ACPI_RESET_PORT, power_out, power_in},
    {BALLOON_PORT, BALLOON_PORT_END, balloon_out, balloon_in},
};

static const struct row *find(uint16_t port)
{
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (port >= rows[i].first && port <= rows[i].last)
            return &rows[i];
    return NULL;
}

bool board_io(struct board *b, struct kvm_vcpu *v)
{
    struct kvm_run *run = v->run;
    unsigned char *data = (unsigned char *)run + run->io.data_offset;
    unsigned size = run->io.size;
    const struct row *r = find(run->io.port);
    pthread_mutex_lock(&b->lock);
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        uint32_t value = UINT32_MAX;
        unsigned at = r ? run->io.port - r->first : 0;
        if (run->io.direction == KVM_EXIT_IO_IN) {
            if (r && r->in)
                value = r->in(b, at, size);
            memcpy(data, &value, size);
        } else if (r && r->out) {
            value = 0;
            memcpy(&value, data, size);
            r->out(b, at, size, value);
        }
    }
    bool go_on = !b->ended;
    pthread_mutex_unlock(&b->lock);
    return go_on;
}

/* Memory that is neither the guest's nor a device's reads as all ones. */
static void mmio(struct board *b, uint64_t gpa, unsigned char *data, uint32_t n, bool write)
{
    uint64_t at = gpa - IOMEM_GPA, window = gpa - BALLOON_GPA, value = 0;
    bool memory = gpa >= IOMEM_GPA && at + n <= BOARD_IOMEM;
    bool balloon = b->balloon && gpa >= BALLOON_GPA && window + n <= BALLOON_WINDOW;
    if (memory)
        memcpy(write ? b->iomem + at : data, write ? data : b->iomem + at, n);
    else if (balloon && write) {
        memcpy(&value, data, n);
        boot_balloon_write(b->balloon, window, n, value);
    } else if (balloon) {
        value = boot_balloon_read(b->balloon, window, n);
        memcpy(data, &value, n);
    } else if (!write)
        memset(data, 0xff, n);
}

bool board_mmio(struct board *b, struct kvm_vcpu *v)
{
    struct kvm_run *run = v->run;
    pthread_mutex_lock(&b->lock);
    mmio(b, run->mmio.phys_addr, run->mmio.data, run->mmio.len, run->mmio.is_write);
    bool go_on = !b->ended;
    pthread_mutex_unlock(&b->lock);
    return go_on;
}

struct board *board_new(struct kvm_vm *vm, FILE *out, bool plain)
{
    struct board *b = meta_calloc(META_HOST, 1, sizeof *b);
    pthread_mutex_init(&b->lock, NULL);
    b->vm = vm;
    b->out = out;
    b->plain = plain;
    b->console = meta_calloc(META_HOST, BOARD_CONSOLE_MAX, 1);
    b->iomem = meta_calloc(META_HOST, BOARD_IOMEM, 1);
    return b;
}

void board_free(struct board *b)
{
    if (!b)
        return;
    boot_balloon_free(b->balloon);
    meta_free(META_HOST, b->console);
    meta_free(META_HOST, b->iomem);
    pthread_mutex_destroy(&b->lock);
    meta_free(META_HOST, b);
}
