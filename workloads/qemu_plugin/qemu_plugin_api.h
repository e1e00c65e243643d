/* qemu_plugin_api.h: the part of QEMU's TCG plugin interface, version 1, that plugin.c uses.
 *
 * Written from the documentation (QEMU manual, "QEMU TCG Plugins"; interface version 1, QEMU 4.2 to
 * 8.x), because Debian's qemu-user ships no header. QEMU loads the shared object, checks
 * qemu_plugin_version, and calls qemu_plugin_install(), which asks for callbacks.
 */
#ifndef NB_QEMU_PLUGIN_API_H
#define NB_QEMU_PLUGIN_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLUGIN_EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;      /* names this plugin in every call */
typedef uint32_t plugin_meminfo; /* opaque description of an access */

struct qemu_plugin_tb;   /* a block of guest code being translated */
struct qemu_plugin_insn; /* one of its instructions */

/* First argument beside the id of qemu_plugin_install(): where the plugin runs. */
struct plugin_info {
    const char *target_name; /* "x86_64" */
    struct {
        int min, cur; /* interface versions this QEMU speaks */
    } version;
    bool system_emulation;
    struct {
        int smp_vcpus, max_vcpus; /* valid in system emulation */
    } system;
};

enum plugin_regs { PLUGIN_NO_REGS }; /* whether a callback reads guest registers */
enum plugin_rw { PLUGIN_MEM_R = 1, PLUGIN_MEM_W, PLUGIN_MEM_RW };

/* What a plugin defines. */
extern PLUGIN_EXPORT int qemu_plugin_version;
PLUGIN_EXPORT int qemu_plugin_install(plugin_id, const struct plugin_info *, int argc, char **argv);

/* What QEMU defines. */
typedef void (*plugin_tb_cb)(plugin_id, struct qemu_plugin_tb *);
typedef void (*plugin_mem_cb)(unsigned vcpu, plugin_meminfo, uint64_t va, void *user);
typedef void (*plugin_vcpu_cb)(plugin_id, unsigned vcpu);
typedef void (*plugin_syscall_cb)(plugin_id, unsigned vcpu, int64_t num, uint64_t a1, uint64_t a2,
                                  uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7,
                                  uint64_t a8);
typedef void (*plugin_syscall_ret_cb)(plugin_id, unsigned vcpu, int64_t num, int64_t ret);
typedef void (*plugin_exit_cb)(plugin_id, void *user);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, plugin_tb_cb);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, plugin_mem_cb, enum plugin_regs,
                                      enum plugin_rw, void *user);
void qemu_plugin_register_vcpu_init_cb(plugin_id, plugin_vcpu_cb);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, plugin_syscall_cb);
void qemu_plugin_register_vcpu_syscall_ret_cb(plugin_id, plugin_syscall_ret_cb);
void qemu_plugin_register_atexit_cb(plugin_id, plugin_exit_cb, void *user);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t i);
unsigned qemu_plugin_mem_size_shift(plugin_meminfo); /* log2 of the bytes */
bool qemu_plugin_mem_is_store(plugin_meminfo);

#endif
