/* kvm_stats.c: the binary statistics of KVM (Documentation/virt/kvm/api.rst, 4.133).
 *
 * A statistics file is a header, an id string, descriptors and a block of 64-bit values. Header and
 * descriptors never change: they are read once, when the first vCPU exists. A snapshot is then one
 * pread() per file. The header says how long a descriptor is and where everything lies; all of it is
 * checked against the limits of struct kvm_stat_set, and what does not fit is left out, with a warning.
 */
#include "vmm/kvm_internal.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { MAX_FILE = 64 << 10, MAX_NAME = 256 };

/* What was read of a file. */
static _Thread_local union {
    unsigned char bytes[MAX_FILE];
    uint64_t values[MAX_FILE / 8];
} file;

int kvm_stats_open(int fd)
{
    int stats = ioctl(fd, KVM_GET_STATS_FD, NULL);
    if (stats >= 0) /* KVM does not set it, and a program that we start would keep the VM alive */
        fcntl(stats, F_SETFD, FD_CLOEXEC);
    return stats;
}

/* Statistics that a backend lists and never counts. kvm_pvm: these are counted in the code of the
 * hardware vendors only. */
static bool never_counted(const struct kvm_host *h, const char *name)
{
    return h->emulates_ring0 &&
           (strcmp(name, "io_exits") == 0 || strcmp(name, "host_state_reload") == 0);
}

/* Append one descriptor to the set; false: no room or nonsense. */
static bool add(struct kvm_stat_set *s, const struct kvm_host *host, const struct kvm_stats_desc *d,
                const char *name, uint32_t data_at, uint32_t file_bytes, bool of_vcpu)
{
    uint32_t type = d->flags & KVM_STATS_TYPE_MASK;
    uint64_t at = (uint64_t)data_at + d->offset, end = at + d->size * 8u;
    if (s->n == MAX_KVM_STATS || d->size == 0 || d->size > MAX_KVM_VALUES - s->nvalues ||
        end > file_bytes || at % 8)
        return false;
    struct kvm_stat_name *stat = &s->stat[s->n];
    size_t len = strnlen(name, sizeof stat->name - 1);
    memcpy(stat->name, name, len);
    stat->name[len] = 0;
    stat->first = (uint16_t)s->nvalues;
    stat->size = d->size;
    stat->gauge = type == KVM_STATS_TYPE_INSTANT || type == KVM_STATS_TYPE_PEAK;
    stat->unseen = never_counted(host, stat->name);
    s->of_vcpu[s->n] = of_vcpu;
    s->at[s->n] = (uint32_t)at;
    if (end > s->end[of_vcpu])
        s->end[of_vcpu] = (uint32_t)end;
    s->nvalues += d->size;
    s->n++;
    return true;
}

static bool read_descriptors(struct kvm_stat_set *s, const struct kvm_host *host, int fd,
                             bool of_vcpu)
{
    struct kvm_stats_header h;
    ssize_t got = pread(fd, file.bytes, MAX_FILE, 0);
    uint32_t n = got > 0 ? (uint32_t)got : 0;
    memcpy(&h, file.bytes, sizeof h);
    if (n < sizeof h || h.name_size == 0 || h.name_size > MAX_NAME || h.desc_offset > n)
        return false;
    /* The name follows the fixed part at once; sizeof would count padding. */
    const uint32_t fixed = offsetof(struct kvm_stats_desc, name), step = fixed + h.name_size;
    if (h.num_desc > (n - h.desc_offset) / step)
        return false;
    for (uint32_t i = 0; i < h.num_desc; i++) {
        const unsigned char *at = file.bytes + h.desc_offset + i * step;
        struct kvm_stats_desc d;
        char name[MAX_NAME + 1] = "";
        memcpy(&d, at, fixed);
        memcpy(name, at + fixed, h.name_size);
        if (!add(s, host, &d, name, h.data_offset, n, of_vcpu))
            log_warn("KVM statistic %s does not fit and is left out", name);
    }
    return true;
}

void kvm_stats_describe(struct kvm_vm *vm)
{
    assert(vm->stats.n == 0 && vm->nvcpus == 1);
    if (vm->stats_fd < 0 || vm->vcpu[0]->stats_fd < 0)
        return;
    if (!read_descriptors(&vm->stats, vm->host, vm->stats_fd, false) ||
        !read_descriptors(&vm->stats, vm->host, vm->vcpu[0]->stats_fd, true))
        vm->stats = (struct kvm_stat_set){0};
}

/* Add the values of one file to the snapshot. The data follows the descriptors, so only the part
 * from the first value on is read. */
static bool read_values(const struct kvm_stat_set *s, int fd, bool of_vcpu, uint64_t *v)
{
    uint32_t start = MAX_FILE, end = s->end[of_vcpu];
    for (unsigned i = 0; i < s->n; i++)
        if (s->of_vcpu[i] == of_vcpu && s->at[i] < start)
            start = s->at[i];
    if (start >= end)
        return true;
    if (pread(fd, file.bytes, end - start, start) != (ssize_t)(end - start))
        return false;
    for (unsigned i = 0; i < s->n; i++)
        for (unsigned k = 0; s->of_vcpu[i] == of_vcpu && k < s->stat[i].size; k++)
            v[s->stat[i].first + k] += file.values[(s->at[i] - start) / 8 + k];
    return true;
}

bool kvm_vm_snapshot(const struct kvm_vm *vm, struct kvm_snapshot *out)
{
    memset(out, 0, sizeof *out);
    if (vm->stats.n == 0 || !read_values(&vm->stats, vm->stats_fd, false, out->v))
        return false;
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (!read_values(&vm->stats, vm->vcpu[i]->stats_fd, true, out->v))
            return false;
    return true;
}
