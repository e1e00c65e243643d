/* acpi.h: the ACPI tables that tell an operating system of the machine of boot.h: its CPUs, interrupt
 * controller, devices, and how it is switched off and reset.
 *
 * Hardware-reduced ACPI (ACPI 6.5, 3.11.1): no fixed hardware but the two registers below.
 */
#ifndef NB_VMM_ACPI_H
#define NB_VMM_ACPI_H

#include <stdbool.h>
#include <stdint.h>

/* In the BIOS area, where operating systems search for the first table. */
#define ACPI_GPA 0xe0000u
enum { ACPI_BYTES = 0x20000 };

/* I/O ports: sleep control and status, reset. */
enum { ACPI_SLEEP_PORT = 0x600, ACPI_RESET_PORT = 0x602 };
enum { ACPI_SLEEP_OFF = 0x34, ACPI_RESET_VALUE = 1 }; /* sleep: type 5 (_S5), enable bit */

struct acpi_machine {
    unsigned cpus;                    /* with the numbers 0, 1, ... */
    bool virtio;                      /* a virtio-mmio device is there: */
    uint32_t virtio_gpa;              /* its registers, a page */
    unsigned virtio_irq;              /* its interrupt, level triggered, active high */
    unsigned serial_port, serial_irq; /* a 16550; its interrupt edge triggered */
};

/* Write all tables into `low`, guest memory from address 0 to at least 1 MiB. */
void acpi_place(const struct acpi_machine *, unsigned char *low);

#endif
