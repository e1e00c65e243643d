/* cpu_ini.h: what the parts of the CPU presets' reader share: see cpu.c. */
#ifndef NB_PAGING_CPU_INI_H
#define NB_PAGING_CPU_INI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shadow_vs_ept/cpu.h"

enum { MAX_PRESETS = 64 };

enum section_id {
    SEC_CPU,
    SEC_L1_4K,
    SEC_L1_2M,
    SEC_L1_1G,
    SEC_L1_ANY,
    SEC_L2,
    SEC_L2B,
    SEC_WALK,
    SEC_PSC,
    SEC_NPSC = SEC_PSC + 4,
    SEC_PWC = SEC_NPSC + 4,
    SEC_NTLB,
    SEC_CACHE,
    SEC_COST = SEC_CACHE + 3,
    SEC_COUNT
};

struct parser {
    const char *file;
    const char *text; /* what is left of it */
    int line;         /* of the last line read; from 1 */
    struct cpu *cpu;
    enum section_id section;   /* of the key being set */
    int header[SEC_COUNT];     /* line of a section's header; 0 = not in the file */
    uint32_t keys[SEC_COUNT];  /* bit i: the section's key i was given */
    bool full_ways[SEC_COUNT]; /* ways = full */
    bool failed;
    char *err;
    size_t errlen;
};

/* Keep the first error, as "FILE:LINE: ...", or "FILE: ..." when line is 0. Returns false. */
bool cpu_ini_fail(struct parser *p, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

struct key { /* begins as struct reg_head does, for reg_nearest() */
    const char *name, *unused;
    bool (*set)(struct parser *, void *field, const char *value);
    size_t offset; /* of the field in the section's part of struct cpu */
};

/* Positions in a section's keys: of an array, and of [cost]. There first those that stand for the data
 * caches when there are none, then those of the caches. */
enum { KEY_ENTRIES, KEY_WAYS, KEY_SIZES = 4 };
enum { COST_ACCESS, COST_REF, COST_L1, COST_PWC = COST_L1 + 4, COST_OTHER };

struct section { /* begins as struct reg_head does */
    const char *name, *unused;
    const struct key *keys;
    size_t offset; /* of its part of struct cpu */
};
extern const struct section cpu_ini_sections[SEC_COUNT];

/* Names of `n` structs of `size` bytes at `base`: "a, b, c" and the one nearest to `wrong`. */
struct choices {
    char list[512];
    const char *nearest;
};
void cpu_ini_choose(struct choices *, const char *wrong, const void *base, size_t n, size_t size);

/* Step 1, lines and keys; step 2, the whole. False with a message in p->err. */
bool cpu_ini_read(struct parser *);
bool cpu_ini_check(struct parser *);

#endif
