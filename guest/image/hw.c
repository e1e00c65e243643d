/* hw.c: guest/hw.h as instructions, and what the kernel has for telling the VMM something.
 *
 * All guest memory is visible at DIRECT_BASE in every address space: root entry KERNEL_ROOT_ENTRY is
 * put into each root when it is first loaded. That store is the image's own, made on no other
 * engine, so it is not counted.
 *
 * Counted are exactly the four kinds of guest event of counters.def, at the place where they happen.
 * hw_pt_write() is one 8-byte MOV: a KVM that shadows page tables sees a page-table write, and
 * nothing else.
 *
 * Kernel memory is warmed: a page is stored into once when it is handed out, and at boot those of the
 * next MiB and of the image are too. So their first touch, which the host answers with a page of its
 * own, is in phase "boot" and not among what a workload's phases count.
 */
#include "guest/image/image.h"

#define KERNEL_LINK(gpa) ((gpa) | PTE_P | PTE_W | PTE_U | PTE_A)

void hw_init(struct hw *h, uint64_t reserved_bytes)
{
    h->next = h->warm = direct(KMEM_GPA);
    h->end = direct(reserved_bytes);
}

/* A plain store: a read first would have some hosts map their page of zeroes, and fault again. */
static void warm_to(struct hw *h, const unsigned char *end)
{
    for (; h->warm < end; h->warm += PAGE_SIZE)
        *(volatile unsigned char *)h->warm = 0;
}

void hw_warm(struct hw *h, uint64_t ahead)
{
    warm_to(h, (uint64_t)(h->end - h->next) > ahead ? h->next + ahead : h->end);
    for (char *p = image_start; p < image_end; p += PAGE_SIZE)
        __asm__ volatile("orb $0, %0" : "+m"(*p));
}

void *hw_kmem(struct hw *h, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > (size_t)(h->end - h->next))
        return NULL;
    void *out = h->next;
    h->next += bytes;
    warm_to(h, h->next);
    return out;
}

uint64_t hw_pt_read(struct hw *h, gpa_t a)
{
    (void)h;
    return *(const volatile uint64_t *)direct(a);
}

void hw_pt_write(struct hw *h, gpa_t a, uint64_t entry)
{
    (void)h;
    __asm__ volatile("movq %1, %0" : "=m"(*(volatile uint64_t *)direct(a)) : "r"(entry));
    boot.pt_writes++;
}

void hw_zero_page(struct hw *h, gfn_t f)
{
    void *to = direct(gfn_gpa(f));
    size_t words = PAGE_SIZE / 8;
    (void)h;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(0ull) : "memory");
}

void hw_copy_page(struct hw *h, gfn_t dst, gfn_t src)
{
    void *to = direct(gfn_gpa(dst));
    const void *from = direct(gfn_gpa(src));
    size_t words = PAGE_SIZE / 8;
    (void)h;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
}

void hw_load_cr3(struct hw *h, uint64_t cr3)
{
    volatile uint64_t *root = direct(cr3 & PTE_ADDR);
    (void)h;
    if (!root[KERNEL_ROOT_ENTRY])
        root[KERNEL_ROOT_ENTRY] =
            KERNEL_LINK(boot.levels == 5 ? (uint64_t)KERNEL_PML4_GPA : KERNEL_PDPT_GPA);
    boot.cr3_loads++;
    __asm__ volatile("movq %0, %%cr3" : : "r"(cr3) : "memory");
}

void hw_invlpg(struct hw *h, gva_t va)
{
    (void)h;
    boot.invlpgs++;
    __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

/* No processor has TEA registers, and the kernel is told of none. */
void hw_load_teas(struct hw *h, const struct tea *t, unsigned n) { (void)h, (void)t, (void)n; }
uint64_t hw_tea_alloc(struct hw *h, gfn_t first, uint64_t n)
{
    (void)h, (void)first, (void)n;
    return 0;
}
void hw_tea_free(struct hw *h, uint64_t id) { (void)h, (void)id; }
/* Nor direct segments. */
void hw_segment(struct hw *h, gpa_t root, const struct hw_segment *s)
{
    (void)h, (void)root, (void)s;
}
void hw_segment_escape(struct hw *h, gpa_t root, gva_t va, uint64_t bytes, bool escape)
{
    (void)h, (void)root, (void)va, (void)bytes, (void)escape;
}

/* The image has one vCPU (gk_config.cpus), so the kernel never gets here. */
void hw_run_on(struct hw *h, unsigned cpu)
{
    (void)h, (void)cpu;
    __builtin_trap();
}

void hw_ipi(struct hw *h, uint64_t cpus)
{
    (void)h, (void)cpus;
    __builtin_trap();
}

/* ---- texts for the VMM ---- */
static void append(const char *text, unsigned at)
{
    for (; *text && at < NB_TEXT - 1; text++)
        boot.text[at++] = *text;
    boot.text[at] = 0;
}

void say(const char *text) { append(text, 0); }

void say_hex(const char *before, uint64_t value)
{
    char digits[17];
    unsigned at = 0, n = 0;
    while (at < NB_TEXT - 1 && boot.text[at])
        at++;
    append(before, at);
    while (at < NB_TEXT - 1 && boot.text[at])
        at++;
    for (int shift = 60; shift >= 0; shift -= 4)
        if (n || value >> shift || !shift)
            digits[n++] = "0123456789abcdef"[(value >> shift) & 15];
    digits[n] = 0;
    append(digits, at);
}
