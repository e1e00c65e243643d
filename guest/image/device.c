/* device.c: guest/hw.h's balloon: registers at DEVICE_BASE, an interrupt line in the boot page, the kernel's own
 * data through the direct map.
 */
#include "guest/image/image.h"

static volatile uint32_t *reg(uint32_t offset)
{
    return (volatile uint32_t *)(DEVICE_BASE + offset);
}

uint32_t hw_dev_read(struct hw *h, uint32_t offset)
{
    (void)h;
    return *reg(offset);
}

void hw_dev_write(struct hw *h, uint32_t offset, uint32_t value)
{
    (void)h;
    *reg(offset) = value;
}

bool hw_dev_interrupt(struct hw *h)
{
    (void)h;
    return boot.interrupt;
}

/* About a minute where nothing else is to be done. */
bool hw_dev_wait(struct hw *h)
{
    __asm__ volatile("pause");
    return ++h->waited < 1ull << 30;
}

uint64_t hw_load(struct hw *h, gpa_t a, unsigned bytes)
{
    const volatile void *at = direct(a);
    (void)h;
    return bytes == 1   ? *(const volatile uint8_t *)at
           : bytes == 2 ? *(const volatile uint16_t *)at
           : bytes == 4 ? *(const volatile uint32_t *)at
                        : *(const volatile uint64_t *)at;
}

void hw_store(struct hw *h, gpa_t a, unsigned bytes, uint64_t value)
{
    volatile void *at = direct(a);
    (void)h;
    if (bytes == 1)
        *(volatile uint8_t *)at = (uint8_t)value;
    else if (bytes == 2)
        *(volatile uint16_t *)at = (uint16_t)value;
    else if (bytes == 4)
        *(volatile uint32_t *)at = (uint32_t)value;
    else
        *(volatile uint64_t *)at = value;
}
