/* image_balloon.c: the balloon of an image's VM: the same device as on the model, over real memory.
 *
 * Its registers are one page above the guest's memory (image_balloon_gpa), which has no memory slot, so each access is an exit to us.
 * They are mapped at DEVICE_BASE, uncached. The interrupt is a word in the boot page, which the guest's kernel reads
 * before it returns to its program: the same points as on the model, so the same plan takes the same pages.
 */
#include <string.h>

#include "balloon/owner.h"
#include "base/pte.h"
#include "vmm/image_vm.h"
#include "vmm/virtio_mmio.h"

#define DEVICE_PAGE (PTE_P | PTE_W | PTE_A | PTE_D | PTE_PWT | PTE_PCD)

static void irq(void *ctx, bool level)
{
    __atomic_store_n(&((struct image_vm *)ctx)->boot->interrupt, level, __ATOMIC_RELEASE);
}

void image_balloon_new(struct image_vm *m)
{
    const struct balloon_setup *s = m->cfg->balloon;
    uint64_t *pt = (uint64_t *)(void *)(m->mem->mem + IMAGE_PT_GPA), pages = 0;
    if (!s)
        return;
    const struct balloon_config cfg = {.features = s->features,
                                       .frames = m->mem->bytes >> PAGE_SHIFT,
                                       .order = balloon_host_order(m->cfg->host_page),
                                       .hole = s->hole};
    m->dev_mem = balloon_mem_backing(m->mem);
    m->dev_gpa = image_balloon_gpa(m->cfg);
    pt[(DEVICE_BASE - IMAGE_BASE) >> PAGE_SHIFT] = m->dev_gpa | DEVICE_PAGE;
    m->boot->balloon = true;
    m->boot->balloon_order = s->order;
    m->boot->balloon_report_order = s->report_order;
    m->balloon = balloon_new(&cfg, &m->dev_mem, &balloon_ops_backing, m->mem, irq, m);
    if (balloon_plan_at_boot(s, &pages))
        balloon_set_target(m->balloon, pages);
}

bool image_balloon_mmio(struct image_vm *m)
{
    struct kvm_run *run = m->vcpu->run;
    uint64_t at = run->mmio.phys_addr - m->dev_gpa, value = 0;
    if (!m->balloon || at >= PAGE_SIZE || run->mmio.len > sizeof value)
        return false;
    if (run->mmio.is_write) {
        memcpy(&value, run->mmio.data, run->mmio.len);
        virtio_mmio_write(balloon_virtio(m->balloon), at, run->mmio.len, value);
    } else {
        value = virtio_mmio_read(balloon_virtio(m->balloon), at, run->mmio.len);
        memcpy(run->mmio.data, &value, run->mmio.len);
    }
    return true;
}

void image_balloon_phase(struct image_vm *m, const char *phase)
{
    uint64_t pages;
    if (!m->balloon)
        return;
    if (balloon_plan_at_phase(m->cfg->balloon, phase, &pages))
        balloon_set_target(m->balloon, pages);
    balloon_ask_stats(m->balloon);
}
