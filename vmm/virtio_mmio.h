/* virtio_mmio.h: a virtio device behind memory-mapped registers (virtio 1.2, 4.2, version 2 only).
 *
 * The window is VIRTIO_MMIO_BYTES long. A Linux guest finds it by virtio_mmio.device=512@ADDRESS:IRQ on its command
 * line. Interrupts are a level: high while InterruptStatus is not 0.
 *
 * Interface: call these from the exit of the vCPU that made the access; every access is answered, refused ones read
 * as 0 and are counted in virtio_state.refused. One thread at a time.
 */
#ifndef NB_VMM_VIRTIO_MMIO_H
#define NB_VMM_VIRTIO_MMIO_H

#include "balloon/virtio_dev.h"

uint64_t virtio_mmio_read(struct virtio_device *, uint64_t offset, unsigned width);
void virtio_mmio_write(struct virtio_device *, uint64_t offset, unsigned width, uint64_t value);

#endif
