/* boot_board.h: the devices that test images such as those of kvm-unit-tests talk to.
 *
 *   0x3f8-0x3ff   16550 serial line, output only, never busy; interrupt 4: ready for the next byte
 *   0xf4          debug exit: the number written ends the guest
 *   0x510, 0x511  fw_cfg: item 3 memory bytes, 5 and 0xf number of CPUs, all others 0
 *   0xe0-0xe3     latch: what is written is read, in any width; 0xe8-0xeb the same
 *   0xe4          KVM drops its translations of the page at this address
 *   0x2000+irq    level of an ISA interrupt line, irq below 24
 *   0x600-0x602   ACPI's sleep control (off ends the guest with 0), sleep status, and reset
 *   0x8900        "Shutdown", letter by letter, ends the guest with 0
 *   0x610-0x61b   steps of a balloon's plan, where there is one; its registers at 0xd0000000
 *   0xff000000    64 KiB of memory behind MMIO
 * Anything else reads as all ones and ignores writes: so does the PCI configuration at 0xcf8.
 *
 * All vCPU threads share a board; its functions take its lock. What a guest does here is hostile:
 * bounded, never a failure of ours.
 */
#ifndef NB_VMM_BOOT_BOARD_H
#define NB_VMM_BOOT_BOARD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/boot_balloon.h"
#include "vmm/kvm.h"

enum { BOARD_IOMEM = 64 << 10, BOARD_CONSOLE_MAX = 4 << 20 };
enum { BOARD_SERIAL = 0x3f8, BOARD_SERIAL_IRQ = 4 };

struct board {
    pthread_mutex_t lock;
    struct kvm_vm *vm;
    FILE *out;       /* the guest's text, as it comes; NULL: only kept */
    bool plain;      /* in `out` through board_plain() */
    char *console;   /* the same, kept; up to BOARD_CONSOLE_MAX bytes */
    size_t nconsole; /* bytes the guest wrote, kept or not */
    bool ended;      /* by debug exit, "Shutdown", switching off or reset */
    bool reset;      /* by reset: there is no code */
    uint32_t code;   /* valid when ended without reset */
    /* device registers */
    uint8_t serial[8], divisor[2];
    bool serial_untold; /* that the transmitter is empty */
    bool serial_level;  /* of its interrupt line */
    uint32_t latch[2];
    uint8_t fw_cfg[8]; /* bytes of the selected item */
    unsigned fw_at;
    unsigned shutdown_letters;
    uint8_t *iomem;
    struct boot_balloon *balloon; /* or NULL; freed with the board */
};

/* `out` stays the caller's. Dies when there is no memory. */
struct board *board_new(struct kvm_vm *, FILE *out, bool plain);
/* A byte that is no printable ASCII, line end or tab as '?': a guest's text must not steer a
 * terminal or be no UTF-8. */
char board_plain(char);
void board_free(struct board *);
/* Serve KVM_EXIT_IO or KVM_EXIT_MMIO of this vCPU. False: this exit ended the guest. */
bool board_io(struct board *, struct kvm_vcpu *);
bool board_mmio(struct board *, struct kvm_vcpu *);

#endif
