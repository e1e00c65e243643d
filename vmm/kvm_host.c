/* kvm_host.c: /dev/kvm, and what this host's KVM is.
 *
 * Which vendor module serves /dev/kvm cannot be asked of /dev/kvm itself; sysfs shows it. A module
 * that was loaded has an initstate file and could only be loaded when it can drive this processor; one
 * that is built in is listed even where the processor has not what it needs, so its flag decides.
 * The software KVM needs no flag and comes last.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/kvm_internal.h"
#include "vmm/kvm_module.h"

const struct kvm_module kvm_modules[] = {
    {"kvm_intel", "ept", "vmx", "vmx-ept", "vmx-shadow"},
    {"kvm_amd", "npt", "svm", "svm-npt", "svm-shadow"},
    {"kvm_pvm", NULL, NULL, NULL, "pvm"},
    {NULL, NULL, NULL, NULL, NULL},
};

bool kvm_module_file(const char *module, const char *file, char *text, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/module/%s/%s", module, file);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(text, (int)n, f) != NULL;
    fclose(f);
    if (ok)
        text[strcspn(text, "\n")] = 0;
    return ok;
}

static bool cpu_has(const char *flag)
{
    char line[8192];
    bool found = false;
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        if (strncmp(line, "flags", 5) != 0)
            continue;
        char *save = NULL;
        for (char *w = strtok_r(line, " \t\n", &save); w && !found;
             w = strtok_r(NULL, " \t\n", &save))
            found = strcmp(w, flag) == 0;
        break;
    }
    if (f)
        fclose(f);
    return found;
}

const struct kvm_module *kvm_module_active(void)
{
    char path[64], state[32];
    for (const struct kvm_module *m = kvm_modules; m->name; m++) {
        snprintf(path, sizeof path, "/sys/module/%s", m->name);
        if (access(path, F_OK) != 0)
            continue;
        if (kvm_module_file(m->name, "initstate", state, sizeof state)) {
            if (strcmp(state, "live") == 0)
                return m;
        } else if (!m->flag || cpu_has(m->flag))
            return m;
    }
    return NULL;
}

int kvm_module_nested(const struct kvm_module *m)
{
    char file[64], text[16];
    if (!m->parameter)
        return 0;
    snprintf(file, sizeof file, "parameters/%s", m->parameter);
    if (!kvm_module_file(m->name, file, text, sizeof text))
        return -1;
    return text[0] == 'Y' || text[0] == 'y' || text[0] == '1';
}

static void describe(struct kvm_host *h)
{
    const struct kvm_module *m = kvm_module_active();
    h->backend = h->paging = "unknown";
    if (!m)
        return;
    int nested = kvm_module_nested(m);
    h->module = m->name;
    h->emulates_ring0 = !m->flag;
    if (nested >= 0) {
        h->backend = nested ? m->nested_backend : m->shadow_backend;
        h->paging = nested ? "ept" : "shadow";
    }
}

static struct kvm_cpuid2 *supported_cpuid(int fd)
{
    for (unsigned n = 64; n <= 4096; n *= 2) {
        struct kvm_cpuid2 *c = calloc(1, sizeof *c + n * sizeof c->entries[0]);
        if (!c)
            return NULL;
        c->nent = n;
        if (ioctl(fd, KVM_GET_SUPPORTED_CPUID, c) == 0)
            return c;
        free(c);
        if (errno != E2BIG)
            return NULL;
    }
    return NULL;
}

static void say_no_device(char *err, size_t n)
{
    if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
        snprintf(
            err, n,
            "open /dev/kvm: %s: this machine offers no KVM (--engine model and labvm need none)",
            strerror(errno));
    else if (errno == EACCES || errno == EPERM)
        snprintf(err, n,
                 "open /dev/kvm: %s: run as root or join the group of /dev/kvm (usermod -aG kvm "
                 "USER)",
                 strerror(errno));
    else
        snprintf(err, n, "open /dev/kvm: %s", strerror(errno));
}

static bool examine(struct kvm_host *h, char *err, size_t n)
{
    const int registers = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    int version = ioctl(h->fd, KVM_GET_API_VERSION, 0);
    if (version < 0) {
        snprintf(err, n, "KVM_GET_API_VERSION: %s: /dev/kvm is no KVM", strerror(errno));
        return false;
    }
    if (version != KVM_API_VERSION) {
        snprintf(err, n, "KVM_GET_API_VERSION: %d, not %d: /dev/kvm speaks another API", version,
                 KVM_API_VERSION);
        return false;
    }
    h->run_size = ioctl(h->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (h->run_size < 0) {
        snprintf(err, n, "KVM_GET_VCPU_MMAP_SIZE: %s", strerror(errno));
        return false;
    }
    if (h->run_size < (int)sizeof(struct kvm_run)) {
        snprintf(err, n, "KVM_GET_VCPU_MMAP_SIZE: %d bytes, too few", h->run_size);
        return false;
    }
    int sync = ioctl(h->fd, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS);
    h->sync_regs = sync > 0 && (sync & registers) == registers;
    h->cpuid = supported_cpuid(h->fd);
    if (!h->cpuid) {
        snprintf(err, n, "KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
        return false;
    }
    describe(h);
    return true;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kvm_host host;
static bool ready;

const struct kvm_host *kvm_host(char *err, size_t errlen)
{
    pthread_mutex_lock(&lock);
    if (!ready) {
        host = (struct kvm_host){.fd = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
        if (host.fd < 0)
            say_no_device(err, errlen);
        else if (examine(&host, err, errlen))
            ready = true;
        else
            close(host.fd);
    }
    pthread_mutex_unlock(&lock);
    return ready ? &host : NULL;
}

void kvm_host_close(void)
{
    pthread_mutex_lock(&lock);
    if (ready) {
        close(host.fd);
        free(host.cpuid);
    }
    ready = false;
    pthread_mutex_unlock(&lock);
}

const struct kvm_cpuid_entry2 *kvm_host_cpuid(const struct kvm_host *h, uint32_t leaf, uint32_t sub)
{
    for (unsigned i = 0; i < h->cpuid->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &h->cpuid->entries[i];
        bool indexed = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        if (e->function == leaf && (!indexed || e->index == sub))
            return e;
    }
    return NULL;
}
