/* bench_inflate.c: how fast a host takes the pages of an inflating balloon, on real memory.
 *
 * All sides get the same PFNs in the same buffers of the guest's memory, whose pages are all resident. One is the device of
 * balloon/ behind its registers: a notification, checks, sorting, merging, a discard for each range, used ring. The second
 * does what most devices do: check a PFN, discard its page, next. The third is the bound: the discards that remain when
 * all is merged, without a look at the PFNs, so that its rate is the kernel's. Only notifications are timed, by the thread's own
 * clock, which other programs do not move; filling buffers is the guest's work.
 *
 * The guest: the queue at 0, buffers behind it, pages to give from 2 MiB on.
 */
#include "bench/bench_inflate.h"

#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "balloon/owner.h"
#include "bench/bench_util.h"
#include "bench/options.h"
#include "bench/record.h"
#include "bench/refloop.h"
#include "vmm/virtio_mmio.h"

enum { AVAIL = 0x4000, USED = 0x8000, BUFFERS = 0x10000, PAGES = 1 << 21 };
#define MOST_PFNS ((PAGES - BUFFERS) / 4u)

static const char *const loops[] = {"device", "page", "kernel"};
static const char *const orders[] = {"up", "down", "scattered"};

/* ---- the guest ---- */
struct guest {
    const struct inflate_spec *spec;
    struct backing *mem;
    uint64_t given; /* pages */
};

static uint64_t stride(const struct inflate_spec *s)
{
    return s->order == INFLATE_SCATTERED ? 2 : 1;
}

/* The i-th page it gives. */
static uint64_t page(const struct inflate_spec *s, uint64_t i)
{
    uint64_t first = PAGES >> PAGE_SHIFT;
    return first + (s->order == INFLATE_DOWN ? s->pages - 1 - i : i * stride(s));
}

/* Fill the buffers of the next notification; how many. */
static uint16_t fill(struct guest *g)
{
    const struct inflate_spec *s = g->spec;
    struct virtq_desc *desc = (void *)g->mem->mem;
    struct virtq_avail *avail = (void *)(g->mem->mem + AVAIL);
    uint32_t *pfn = (void *)(g->mem->mem + BUFFERS);
    uint16_t n = 0;
    for (; n < s->chain && g->given < s->pages; n++) {
        uint64_t left = s->pages - g->given, k = left < s->pfns ? left : s->pfns;
        for (uint64_t i = 0; i < k; i++)
            pfn[n * s->pfns + i] = (uint32_t)page(s, g->given + i);
        desc[n] = (struct virtq_desc){BUFFERS + 4ull * n * s->pfns, (uint32_t)(4 * k), 0, 0};
        avail->ring[avail->idx++ % VIRTQ_MAX] = n;
        g->given += k;
    }
    return n;
}

/* ---- the side that has a device ---- */
static void set(struct virtio_device *d, uint64_t at, uint64_t v)
{
    virtio_mmio_write(d, at, 4, v);
}

static void set_up(struct virtio_device *d)
{
    set(d, VIRTIO_MMIO_STATUS, 3);
    set(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    set(d, VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_F_VERSION_1 >> 32);
    set(d, VIRTIO_MMIO_STATUS, 11);
    set(d, VIRTIO_MMIO_QUEUE_DRIVER_LOW, AVAIL);
    set(d, VIRTIO_MMIO_QUEUE_DEVICE_LOW, USED);
    set(d, VIRTIO_MMIO_QUEUE_READY, 1);
    set(d, VIRTIO_MMIO_STATUS, 15);
}

static bool by_device(struct guest *g, struct inflate_result *r)
{
    struct balloon_config cfg = {.frames = g->mem->bytes >> PAGE_SHIFT,
                                 .order = g->spec->page == PAGES_THP ? ORDER_2M : ORDER_4K};
    struct guest_mem mem = balloon_mem_backing(g->mem);
    struct balloon *b = balloon_new(&cfg, &mem, &balloon_ops_backing, g->mem, NULL, NULL);
    set_up(balloon_virtio(b));
    while (fill(g)) {
        double began = thread_seconds();
        set(balloon_virtio(b), VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        r->seconds += thread_seconds() - began;
    }
    r->discards = b->state->count.releases;
    bool all = b->state->count.released == g->spec->pages;
    balloon_free(b);
    return all;
}

/* ---- the sides that have none: the PFNs of one notification ---- */
static bool discard_each(struct backing *b, const uint32_t *pfn, uint64_t n, uint64_t *discards)
{
    for (uint64_t i = 0; i < n; i++, ++*discards)
        if (pfn[i] >= b->bytes >> PAGE_SHIFT ||
            !backing_discard(b, (uint64_t)pfn[i] << PAGE_SHIFT, PAGE_SIZE))
            return false;
    return true;
}

static bool discard_all(struct backing *b, const uint32_t *pfn, uint64_t n, uint64_t *discards)
{
    uint64_t first = pfn[0] < pfn[n - 1] ? pfn[0] : pfn[n - 1];
    ++*discards;
    return backing_discard(b, first << PAGE_SHIFT, n << PAGE_SHIFT);
}

static bool by_discards(struct guest *g, struct inflate_result *r)
{
    const uint32_t *pfn = (const void *)(g->mem->mem + BUFFERS);
    bool fine = true, each = g->spec->loop == INFLATE_PAGE;
    for (uint64_t done = 0; fine && fill(g); done = g->given) {
        double began = thread_seconds();
        fine = (each ? discard_each : discard_all)(g->mem, pfn, g->given - done, &r->discards);
        r->seconds += thread_seconds() - began;
    }
    return fine;
}

/* ---- both ---- */
static bool still_there(const struct guest *g, uint64_t *bytes)
{
    uint64_t all = (g->spec->pages * stride(g->spec)) << PAGE_SHIFT, others = stride(g->spec) - 1;
    if (!backing_resident_in(g->mem, PAGES, all, bytes))
        return false;
    *bytes -= others * (g->spec->pages << PAGE_SHIFT);
    return true;
}

int inflate_run(const struct inflate_spec *s, struct inflate_result *r, char *err, size_t errlen)
{
    static const struct numa_policy anywhere = {0};
    int code = NB_NODEVICE;
    uint64_t bytes = ALIGN_UP(PAGES + ((s->pages * stride(s)) << PAGE_SHIFT), 1ull << SHIFT_2M);
    struct guest g = {.spec = s};
    *r = (struct inflate_result){0};
    if (s->chain == 0 || s->chain > VIRTQ_MAX || s->pfns == 0 ||
        (uint64_t)s->pfns * s->chain > MOST_PFNS || s->pages == 0) {
        snprintf(err, errlen, "1 to %d buffers of 1 PFN or more, %u together", VIRTQ_MAX,
                 MOST_PFNS);
        return NB_USAGE;
    }
    if (s->loop == INFLATE_KERNEL && s->order == INFLATE_SCATTERED) {
        snprintf(err, errlen, "--loop kernel discards consecutive pages: --order up or down");
        return NB_USAGE;
    }
    g.mem = backing_new(bytes, s->kind, s->page, &anywhere, err, errlen, &code);
    if (!g.mem)
        return code;
    memset(g.mem->mem + PAGES, 1, bytes - PAGES);
    bool fine = s->loop == INFLATE_DEVICE ? by_device(&g, r) : by_discards(&g, r);
    if (!fine || !still_there(&g, &r->resident))
        snprintf(err, errlen, "the host would not take the pages");
    backing_free(g.mem);
    return fine ? NB_OK : NB_FAIL;
}

/* ---- command line ---- */
struct args {
    struct inflate_spec spec;
    bool json;
};

static void print(const struct args *a, const struct inflate_result *r)
{
    const struct inflate_spec *s = &a->spec;
    const char *loop = loops[s->loop];
    if (a->json) {
        json_t *j = json_pack(
            "{ss ss ss ss ss sI sI sI sf s{sI sI sI}}", "schema", "nestbed-inflate/1", "loop", loop,
            "order", orders[s->order], "backing", backing_kind_name(s->kind), "host_page",
            s->page == PAGES_THP ? "thp" : "4K", "pages", (json_int_t)s->pages, "pfns",
            (json_int_t)s->pfns, "buffers", (json_int_t)s->chain, "seconds", r->seconds, "counters",
            "pfns", (json_int_t)s->pages, "discards", (json_int_t)r->discards, "resident",
            (json_int_t)r->resident);
        record_print_json(j);
        json_decref(j);
        return;
    }
    printf("%s, %s: %.2f M PFNs/s, %" PRIu64 " discards for %" PRIu64 " pages\n", loop,
           orders[s->order], (double)s->pages / r->seconds / 1e6, r->discards, s->pages);
}

static const struct argp_option options[] = {
    {"loop", 'l', "device|page|kernel", 0,
     "The balloon's device, a discard for each PFN, or the fewest discards alone; default device",
     0},
    {"order", 'o', "up|down|scattered", 0, "Of the PFNs; scattered: every second page; default up",
     0},
    {"backing", 'b', "anon|memfd", 0, "Kind of memory; default anon", 0},
    {"host-page", 'h', "4K|thp", 0, "Host pages behind it; default 4K", 0},
    {"mem", 'm', "SIZE", 0, "To inflate; default 256M", 0},
    {"pfns", 'p', "N", 0, "PFNs of a buffer; default 256, as Linux sends", 0},
    {"buffers", 'n', "N", 0, "Buffers of a notification; default 1, as Linux sends", 0},
    {"json", 'j', 0, 0, "Print JSON", 0},
    {0}};

static int name_index(const char *s, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(s, names[i]) == 0)
            return (int)i;
    return -1;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    struct inflate_spec *s = &a->spec;
    uint64_t n = 0;
    bool fine = true;
    int i;
    switch (key) {
    case 'l':
        fine = (i = name_index(arg, loops, ARRAY_SIZE(loops))) >= 0;
        s->loop = (enum inflate_loop)i;
        break;
    case 'o':
        fine = (i = name_index(arg, orders, ARRAY_SIZE(orders))) >= 0;
        s->order = (enum inflate_order)i;
        break;
    case 'b':
        fine = backing_kind_parse(arg, &s->kind);
        break;
    case 'h':
        s->page = strcmp(arg, "thp") == 0 ? PAGES_THP : PAGES_4K;
        fine = s->page == PAGES_THP || strcmp(arg, "4K") == 0;
        break;
    case 'm':
        fine = parse_size(arg, &n) && n && n % PAGE_SIZE == 0 && n <= 1ull << 40;
        s->pages = n >> PAGE_SHIFT;
        break;
    case 'p':
    case 'n':
        fine = parse_u64(arg, &n) && n > 0 && n <= MOST_PFNS;
        *(key == 'p' ? &s->pfns : &s->chain) = (uint32_t)n;
        break;
    case 'j':
        a->json = true;
        break;
    case ARGP_KEY_ARG:
        die_argument(state, arg);
    default:
        return ARGP_ERR_UNKNOWN;
    }
    if (!fine)
        die(NB_USAGE, "bench inflate: -%c %s: see nestbed bench inflate --help", key, arg);
    return 0;
}

int cmd_bench_inflate(int argc, char **argv)
{
    struct args a = {.spec = {.pages = 65536, .pfns = 256, .chain = 1}};
    struct argp argp = {options,
                        parse,
                        NULL,
                        "Time a host that takes the pages of an inflating balloon: by the "
                        "balloon's device, page by "
                        "page, or in the fewest discards alone.\vExample: nestbed bench inflate "
                        "--loop page --order down --json",
                        NULL,
                        NULL,
                        NULL};
    struct inflate_result r;
    char err[256] = "";
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    int code = inflate_run(&a.spec, &r, err, sizeof err);
    if (code != NB_OK)
        die(code, "bench inflate: %s", err);
    print(&a, &r);
    return NB_OK;
}
