/* env.c: the machine a run was made on, as env.json. */
#include "bench/env.h"

#include <cpuid.h>
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <xxhash.h>
#ifndef NB_NO_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

#include "base/base.h"
#include "bench/bench_util.h"
#include "bench/version.h"

/* First line of a file as a string, an integer where it is one, or null. */
static json_t *line_of(const char *path)
{
    char *s = read_file(path, NULL), *end;
    json_t *j = json_null();
    if (!s)
        return j;
    s[strcspn(s, "\n")] = 0;
    long long v = strtoll(s, &end, 10);
    if (end != s && !*end)
        j = json_integer(v);
    else if (*s)
        j = json_string(s);
    free(s);
    return j ? j : json_null();
}

static void put(json_t *to, const char *key, json_t *value) { json_object_set_new(to, key, value); }

static void put_file(json_t *to, const char *key, const char *path) { put(to, key, line_of(path)); }

static void put_file_in(json_t *to, const char *key, const char *dir, const char *name)
{
    char *path = strf("%s/%s", dir, name);
    put_file(to, key, path);
    free(path);
}

/* Every file of a directory as one object, or null when there is no such directory. */
static json_t *dir_of(const char *path)
{
    struct dirent **e;
    int n = scandir(path, &e, NULL, alphasort);
    if (n < 0)
        return json_null();
    json_t *j = json_object();
    for (int i = 0; i < n; i++) {
        if (e[i]->d_name[0] != '.') {
            char *file = strf("%s/%s", path, e[i]->d_name);
            put_file(j, e[i]->d_name, file);
            free(file);
        }
        free(e[i]);
    }
    free(e);
    return j;
}

/* Value of "key : value" (or "key value") in a text, as a string, or null. */
static json_t *field_of(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = text; p && *p; p = strchr(p, '\n'), p += p != NULL) {
        if (strncmp(p, key, n) != 0 || !strchr(": \t", p[n]))
            continue;
        p += n + strspn(p + n, ": \t");
        return json_stringn(p, strcspn(p, "\n"));
    }
    return json_null();
}

static json_t *cpu_flags(const char *text)
{
    static const char *const wanted[] = {"vmx",     "svm",     "ept",  "npt",  "pcid",
                                         "invpcid", "pdpe1gb", "la57", "vpid", "hypervisor"};
    json_t *all = field_of(text, "flags"), *j = json_object();
    char *padded = strf(" %s ", json_is_string(all) ? json_string_value(all) : "");
    json_t *vmx = field_of(text, "vmx flags"); /* Linux lists ept and vpid there */
    char *more = strf(" %s ", json_is_string(vmx) ? json_string_value(vmx) : "");
    for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++) {
        char *word = strf(" %s ", wanted[i]);
        bool has = strstr(padded, word) || strstr(more, word);
        put(j, wanted[i], json_is_string(all) ? json_boolean(has) : json_null());
        free(word);
    }
    free(padded);
    free(more);
    json_decref(all);
    json_decref(vmx);
    return j;
}

static json_t *caches(void)
{
    json_t *list = json_array();
    for (int i = 0; i < 8; i++) {
        char *dir = strf("/sys/devices/system/cpu/cpu0/cache/index%d", i);
        static const char *const keys[] = {"level", "type", "size", "ways_of_associativity",
                                           "shared_cpu_list"};
        json_t *c = json_object();
        for (unsigned k = 0; k < ARRAY_SIZE(keys); k++) {
            char *file = strf("%s/%s", dir, keys[k]);
            put_file(c, keys[k], file);
            free(file);
        }
        bool there = access(dir, R_OK) == 0;
        free(dir);
        if (there)
            json_array_append_new(list, c);
        else
            json_decref(c);
    }
    return list;
}

/* Packages: processors have one each. Null when the kernel does not tell. */
static json_t *sockets(void)
{
    bool seen[256] = {false};
    json_int_t n = 0;
    for (long i = 0; i < sysconf(_SC_NPROCESSORS_CONF); i++) {
        char *path = strf("/sys/devices/system/cpu/cpu%ld/topology/physical_package_id", i);
        json_t *id = line_of(path);
        json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
        if (v >= 0 && v < (json_int_t)ARRAY_SIZE(seen) && !seen[v]) {
            seen[v] = true;
            n++;
        }
        json_decref(id);
        free(path);
    }
    return n ? json_integer(n) : json_null();
}

static json_t *cpu_object(void)
{
    char *text = read_file("/proc/cpuinfo", NULL);
    json_t *j = json_object();
    put(j, "model", field_of(text, "model name"));
    put(j, "family", field_of(text, "cpu family"));
    put(j, "model_number", field_of(text, "model\t"));
    put(j, "stepping", field_of(text, "stepping"));
    put(j, "microcode", field_of(text, "microcode"));
    put(j, "mhz", field_of(text, "cpu MHz"));
    put(j, "sockets", sockets());
    put(j, "cores_per_socket", field_of(text, "cpu cores"));
    put(j, "flags", text ? cpu_flags(text) : json_null());
    put(j, "online", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    put_file(j, "smt_active", "/sys/devices/system/cpu/smt/active");
    put_file(j, "governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    put_file(j, "no_turbo", "/sys/devices/system/cpu/intel_pstate/no_turbo");
    put_file(j, "boost", "/sys/devices/system/cpu/cpufreq/boost");
    put(j, "caches", caches());
    put(j, "vulnerabilities", dir_of("/sys/devices/system/cpu/vulnerabilities"));
    free(text);
    return j;
}

/* Lines of a file but its heading, as strings; null when it cannot be read. */
static json_t *lines_after_first(const char *path)
{
    char *text = read_file(path, NULL), *save = NULL;
    json_t *a = text ? json_array() : json_null();
    char *line = text ? strtok_r(text, "\n", &save) : NULL;
    while (line && (line = strtok_r(NULL, "\n", &save)))
        json_array_append_new(a, json_string(line));
    free(text);
    return a;
}

/* Memory and distances of each NUMA node, or null when the kernel does not tell. */
static json_t *numa_array(void)
{
    json_t *a = json_array();
    for (int node = 0; node < 1024; node++) {
        char *dir = strf("/sys/devices/system/node/node%d", node), *file = strf("%s/distance", dir);
        bool there = access(dir, F_OK) == 0;
        if (there) {
            json_t *j = json_pack("{si}", "node", node);
            char *distance = read_file(file, NULL), *memory, *path = strf("%s/meminfo", dir),
                 key[40];
            memory = read_file(path, NULL);
            snprintf(key, sizeof key, "Node %d MemTotal", node);
            if (distance)
                distance[strcspn(distance, "\n")] = 0;
            put(j, "distances", distance ? json_string(distance) : json_null());
            put(j, "total", field_of(memory, key));
            put_file_in(j, "cpus", dir, "cpulist");
            json_array_append_new(a, j);
            free(distance);
            free(memory);
            free(path);
        }
        free(dir);
        free(file);
    }
    if (json_array_size(a))
        return a;
    json_decref(a);
    return json_null();
}

static json_t *memory_object(void)
{
    char *text = read_file("/proc/meminfo", NULL);
    json_t *j = json_object();
    put(j, "total", field_of(text, "MemTotal"));
    put(j, "swap_total", field_of(text, "SwapTotal"));
    put(j, "swaps", lines_after_first("/proc/swaps"));
    put_file(j, "zswap", "/sys/module/zswap/parameters/enabled");
    put_file(j, "numa_nodes", "/sys/devices/system/node/online");
    put(j, "numa", numa_array());
    put(j, "thp", dir_of("/sys/kernel/mm/transparent_hugepage"));
    put(j, "ksm", dir_of("/sys/kernel/mm/ksm"));
    put_file(j, "overcommit_memory", "/proc/sys/vm/overcommit_memory");
    put_file(j, "swappiness", "/proc/sys/vm/swappiness");
    put_file(j, "nr_hugepages", "/proc/sys/vm/nr_hugepages");
    free(text);
    return j;
}

static json_t *kernel_object(void)
{
    struct utsname u;
    json_t *j = json_object();
    bool known = uname(&u) == 0;
    put(j, "release", known ? json_string(u.release) : json_null());
    put(j, "build", known ? json_string(u.version) : json_null());
    put_file(j, "command_line", "/proc/cmdline");
    put_file(j, "clocksource", "/sys/devices/system/clocksource/clocksource0/current_clocksource");
    put_file(j, "aslr", "/proc/sys/kernel/randomize_va_space");
    put_file(j, "numa_balancing", "/proc/sys/kernel/numa_balancing");
    put_file(j, "perf_event_paranoid", "/proc/sys/kernel/perf_event_paranoid");
    return j;
}

static json_t *kvm_caps(void)
{
    static const struct {
        const char *name;
        int cap;
    } caps[] = {{"binary_stats_fd", KVM_CAP_BINARY_STATS_FD},
                {"sync_mmu", KVM_CAP_SYNC_MMU},
                {"nr_vcpus", KVM_CAP_NR_VCPUS},
                {"max_vcpus", KVM_CAP_MAX_VCPUS},
                {"nr_memslots", KVM_CAP_NR_MEMSLOTS},
                {"dirty_log_ring", KVM_CAP_DIRTY_LOG_RING}};
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return json_null();
    json_t *j = json_object();
    put(j, "api_version", json_integer(ioctl(fd, KVM_GET_API_VERSION, 0)));
    for (unsigned i = 0; i < ARRAY_SIZE(caps); i++)
        put(j, caps[i].name, json_integer(ioctl(fd, KVM_CHECK_EXTENSION, caps[i].cap)));
    close(fd);
    return j;
}

static json_t *kvm_object(void)
{
    static const char *const backends[] = {"kvm_intel", "kvm_amd", "kvm_pvm"};
    json_t *j = json_object(), *params = json_object();
    put(j, "device", json_boolean(access("/dev/kvm", F_OK) == 0));
    put(j, "usable", json_boolean(access("/dev/kvm", R_OK | W_OK) == 0));
    put(j, "backend", json_null());
    for (unsigned i = 0; i < ARRAY_SIZE(backends); i++) {
        char *dir = strf("/sys/module/%s", backends[i]), *file = strf("%s/parameters", dir);
        if (access(dir, F_OK) == 0) {
            put(j, "backend", json_string(backends[i]));
            put(params, backends[i], dir_of(file));
        }
        free(dir);
        free(file);
    }
    put(params, "kvm", dir_of("/sys/module/kvm/parameters"));
    put(j, "parameters", params);
    put(j, "capabilities", kvm_caps());
    return j;
}

static json_t *hypervisor(void)
{
    unsigned a, b, c, d, v[3];
    char text[13] = "";
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 31)))
        return json_null();
    __cpuid(0x40000000, a, v[0], v[1], v[2]);
    memcpy(text, v, 12);
    for (char *p = text; *p; p++)
        if (!isprint((unsigned char)*p))
            *p = '?';
    return json_string(text);
}

static json_t *cgroup_object(void)
{
    json_t *j = json_object();
    char *text = read_file("/proc/self/cgroup", NULL), *own = text ? strstr(text, "0::/") : NULL;
    if (own)
        own[strcspn(own, "\n")] = 0;
    char *dir = strf("/sys/fs/cgroup%s", own && own[4] ? own + 3 : "");
    put_file_in(j, "cpu_max", dir, "cpu.max");
    put_file_in(j, "memory_max", dir, "memory.max");
    put_file_in(j, "cpuset", dir, "cpuset.cpus.effective");
    free(dir);
    free(text);
    return j;
}

static json_t *build_object(void)
{
    json_t *j = json_object();
    const char *jemalloc = NULL;
    put(j, "version", json_string(nb_version));
    put(j, "git", json_string(nb_git));
    put(j, "dirty",
        strcmp(nb_git, "unknown") == 0 ? json_null()
                                       : json_boolean(strstr(nb_git, "dirty") != NULL));
    put(j, "diff_hash", *nb_diff ? json_string(nb_diff) : json_null());
    put(j, "compiler", json_string(nb_compiler));
    put(j, "libc", json_string(gnu_get_libc_version()));
#ifndef NB_NO_JEMALLOC
    size_t n = sizeof jemalloc;
    if (mallctl("version", (void *)&jemalloc, &n, NULL, 0) != 0)
        jemalloc = NULL;
#endif
    put(j, "jemalloc", jemalloc ? json_string(jemalloc) : json_null());
    return j;
}

static json_t *limits_object(void)
{
    static const struct {
        const char *name;
        __rlimit_resource_t id;
    } limits[] = {{"as", RLIMIT_AS},         {"data", RLIMIT_DATA},   {"memlock", RLIMIT_MEMLOCK},
                  {"nofile", RLIMIT_NOFILE}, {"nproc", RLIMIT_NPROC}, {"stack", RLIMIT_STACK}};
    json_t *j = json_object();
    for (unsigned i = 0; i < ARRAY_SIZE(limits); i++) {
        struct rlimit r;
        bool known = getrlimit(limits[i].id, &r) == 0;
        put(j, limits[i].name,
            !known                        ? json_null()
            : r.rlim_cur == RLIM_INFINITY ? json_string("unlimited")
                                          : json_integer((json_int_t)r.rlim_cur));
    }
    char *status = read_file("/proc/self/status", NULL);
    put(j, "capabilities", field_of(status, "CapEff"));
    free(status);
    return j;
}

/* What moves from minute to minute: not part of the hash. */
json_t *env_activity(void)
{
    char *stat = read_file("/proc/stat", NULL);
    json_t *j = json_object();
    unsigned long long v[8];
    put_file(j, "load_average", "/proc/loadavg");
    int n = stat ? sscanf(stat, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2],
                          &v[3], &v[4], &v[5], &v[6], &v[7])
                 : 0;
    put(j, "steal_ticks", n == 8 ? json_integer((json_int_t)v[7]) : json_null());
    put(j, "context_switches", field_of(stat, "ctxt"));
    free(stat);
    return j;
}

json_t *env_capture(void)
{
    char host[256] = "";
    json_t *j = json_object();
    put(j, "schema", json_string("nestbed-env/1"));
    put(j, "host", gethostname(host, sizeof host - 1) == 0 ? json_string(host) : json_null());
    put(j, "user", json_integer(geteuid()));
    put(j, "cpu", cpu_object());
    put(j, "memory", memory_object());
    put(j, "kernel", kernel_object());
    put(j, "kvm", kvm_object());
    put(j, "hypervisor", hypervisor());
    put(j, "cgroup", cgroup_object());
    put(j, "build", build_object());
    put(j, "limits", limits_object());
    put(j, "activity", env_activity());
    return j;
}

void env_redact(json_t *j)
{
    static const char *const gone[] = {"host", "user"};
    for (unsigned i = 0; i < ARRAY_SIZE(gone); i++)
        put(j, gone[i], json_null());
    put(json_object_get(j, "kernel"), "command_line", json_null());
    put(json_object_get(j, "kernel"), "build", json_null());
    put(json_object_get(j, "memory"), "swaps", json_null());
    put(j, "activity", json_null());
    put(j, "redacted", json_true());
}

void env_hash(const json_t *env, char out[17])
{
    static const char *const stable[] = {"cpu", "kernel", "kvm", "hypervisor", "build"};
    json_t *j = json_object();
    for (unsigned i = 0; i < ARRAY_SIZE(stable); i++) {
        json_t *part = json_deep_copy(json_object_get(env, stable[i]));
        json_object_del(part, "mhz"); /* follows the governor */
        put(j, stable[i], part ? part : json_null());
    }
    char *text = json_dumps(j, JSON_SORT_KEYS | JSON_COMPACT);
    snprintf(out, 17, "%016llx", (unsigned long long)XXH64(text, strlen(text), 0));
    free(text);
    json_decref(j);
}

static bool yes(const json_t *v)
{
    const char *s = json_string_value(v);
    return json_integer_value(v) == 1 || (s && (*s == 'Y' || *s == 'y' || *s == '1'));
}

char *env_paging_line(const json_t *env)
{
    const json_t *kvm = json_object_get(env, "kvm"), *params = json_object_get(kvm, "parameters");
    const char *backend = json_string_value(json_object_get(kvm, "backend"));
    const char *none = "Cycles under EPT are modelled here.";
    if (!json_is_true(json_object_get(kvm, "device")) || !backend)
        return strf("2-D paging hardware: not visible (no /dev/kvm). %s", none);
    bool intel = strcmp(backend, "kvm_intel") == 0, amd = strcmp(backend, "kvm_amd") == 0;
    const json_t *on = json_object_get(json_object_get(params, backend), intel ? "ept" : "npt");
    if ((intel || amd) && yes(on))
        return strf("2-D paging hardware: yes (%s, %s on).", backend, intel ? "ept" : "npt");
    if (intel || amd)
        return strf("2-D paging hardware: switched off (%s, %s=%s). %s", backend,
                    intel ? "ept" : "npt", json_is_null(on) ? "unknown" : "N", none);
    return strf("2-D paging hardware: no (KVM via %s). %s", backend, none);
}
