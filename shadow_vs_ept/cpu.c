/* cpu.c: CPU presets: reading an INI file into struct cpu, refusing whatever is not understood.
 *
 * The grammar is three tables: sections[] names each section, the part of struct cpu it fills and
 * its keys; a key names the function that parses its value. A file is read in two steps:
 *   1. inih splits lines and calls on_key() for each pair; every value is checked by itself.
 *   2. finish() checks what only the whole file can show: geometry, keys that are missing,
 *      sections that exclude each other.
 * Only the first error is kept. inih does not hand out line numbers, so the lines are fed to it by
 * next_line(), which counts them, and which also refuses what inih would silently cut or join:
 * long lines, control characters, indented continuation lines.
 */
#include "shadow_vs_ept/cpu.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/registry.h"

enum {
    MAX_FILE = 1 << 20, /* bytes; a preset is a few thousand */
    MAX_SETS = 1 << 20,
    MAX_WAYS = 4096,
    MAX_ENTRIES = 1 << 24, /* of one array: 256 MiB of ours */
    MAX_PRESETS = 64,
    LINE_BYTES = 64,     /* a cache line */
    MIN_CACHE_SETS = 64, /* so that the tag of any line of a 16 TiB host fits 32 bits (dcache.h) */
};
#define MAX_COST 1e12

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
static bool fail(struct parser *p, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static bool fail(struct parser *p, int line, const char *fmt, ...)
{
    if (p->failed)
        return false;
    p->failed = true;
    int n = line ? snprintf(p->err, p->errlen, "%s:%d: ", p->file, line)
                 : snprintf(p->err, p->errlen, "%s: ", p->file);
    va_list ap;
    va_start(ap, fmt);
    if (n >= 0 && (size_t)n < p->errlen)
        vsnprintf(p->err + n, p->errlen - (size_t)n, fmt, ap);
    va_end(ap);
    return false;
}

/* ---- values: each parses text into its field ---- */

static bool set_text(struct parser *p, void *field, const char *value)
{
    enum { ROOM = sizeof p->cpu->summary };
    if (!*value || strlen(value) >= ROOM)
        return fail(p, p->line, "a text of 1 to %d characters is expected", ROOM - 1);
    memcpy(field, value, strlen(value) + 1);
    return true;
}

static bool set_bool(struct parser *p, void *field, const char *value)
{
    if (strcmp(value, "yes") && strcmp(value, "no"))
        return fail(p, p->line, "'%s' is neither yes nor no", value);
    *(bool *)field = *value == 'y';
    return true;
}

static bool set_count(struct parser *p, void *field, const char *value)
{
    uint64_t v;
    if (!parse_u64(value, &v) || v > UINT32_MAX)
        return fail(p, p->line, "'%s' is not a number from 0 to %u", value, UINT32_MAX);
    *(uint32_t *)field = (uint32_t)v;
    return true;
}

static bool set_ways(struct parser *p, void *field, const char *value)
{
    if (strcmp(value, "full") == 0)
        return p->full_ways[p->section] = true;
    return set_count(p, field, value);
}

/* A cache's size in bytes; kept as lines. */
static bool set_lines(struct parser *p, void *field, const char *value)
{
    uint64_t v;
    if (!parse_size(value, &v) || v % LINE_BYTES || v / LINE_BYTES > UINT32_MAX)
        return fail(p, p->line, "'%s' is not a size in whole %d-byte lines, such as 32K", value,
                    LINE_BYTES);
    *(uint32_t *)field = (uint32_t)(v / LINE_BYTES);
    return true;
}

/* Position of value in names[n], or -1 with an error that lists them. */
static int one_of(struct parser *p, const char *value, const char *const *names, int n)
{
    char list[64] = "";
    for (int i = 0; i < n; i++) {
        if (strcmp(value, names[i]) == 0)
            return i;
        size_t len = strlen(list);
        snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", names[i]);
    }
    fail(p, p->line, "unknown value '%s'; expected one of %s", value, list);
    return -1;
}

static bool set_index(struct parser *p, void *field, const char *value)
{
    static const char *const names[] = {[INDEX_MOD] = "mod", [INDEX_XOR] = "xor"};
    int i = one_of(p, value, names, ARRAY_SIZE(names));
    *(enum tlb_index *)field = i > 0 ? (enum tlb_index)i : INDEX_MOD;
    return i >= 0;
}

static bool set_policy(struct parser *p, void *field, const char *value)
{
    static const char *const names[] = {[POLICY_LRU] = "lru", [POLICY_PLRU] = "plru"};
    int i = one_of(p, value, names, ARRAY_SIZE(names));
    *(enum tlb_policy *)field = i > 0 ? (enum tlb_policy)i : POLICY_LRU;
    return i >= 0;
}

static bool set_apic(struct parser *p, void *field, const char *value)
{
    static const char *const names[] = {
        [APIC_TRAPPED] = "trapped", [APIC_POSTED] = "posted", [APIC_VIRTUAL] = "virtual"};
    int i = one_of(p, value, names, ARRAY_SIZE(names));
    *(enum apic_kind *)field = i > 0 ? (enum apic_kind)i : APIC_TRAPPED;
    return i >= 0;
}

static bool set_kind(struct parser *p, void *field, const char *value)
{
    static const char *const names[] = {
        [PWC_NONE] = "none", [PWC_INTEL] = "intel", [PWC_AMD] = "amd"};
    int i = one_of(p, value, names, ARRAY_SIZE(names));
    *(enum pwc_kind *)field = i > 0 ? (enum pwc_kind)i : PWC_NONE;
    return i >= 0;
}

/* "4k 2m": page sizes, separated by blanks or commas. */
static bool set_sizes(struct parser *p, void *field, const char *value)
{
    static const char *const names[] = {"4k", "2m", "1g"};
    unsigned *mask = &p->cpu->l2_sizes[p->section == SEC_L2B];
    (void)field;
    for (const char *s = value + strspn(value, " ,\t"); *s;) {
        char word[16];
        size_t n = strcspn(s, " ,\t");
        snprintf(word, sizeof word, "%.*s", (int)(n < 15 ? n : 15), s);
        int i = one_of(p, word, names, ARRAY_SIZE(names));
        if (i < 0)
            return false;
        if (*mask & 1u << i)
            return fail(p, p->line, "page size %s is listed twice", names[i]);
        *mask |= 1u << i;
        s += n;
        s += strspn(s, " ,\t");
    }
    return *mask ? true : fail(p, p->line, "no page size given; expected some of 4k, 2m, 1g");
}

static bool set_cost(struct parser *p, void *field, const char *value)
{
    char *end = NULL;
    bool plain = isdigit((unsigned char)*value) && !strpbrk(value, "xX");
    double v = plain ? strtod(value, &end) : 0;
    if (!plain || *end || !isfinite(v) || v > MAX_COST)
        return fail(p, p->line, "'%s' is not a number of cycles from 0 to %g", value, MAX_COST);
    *(double *)field = v;
    return true;
}

/* ---- the grammar ---- */

struct key { /* begins as struct reg_head does, for reg_nearest() */
    const char *name, *unused;
    bool (*set)(struct parser *, void *field, const char *value);
    size_t offset; /* of the field in the section's part of struct cpu */
};

#define AT(member) offsetof(struct cpu, member)
#define GEO(member) offsetof(struct geometry, member)

static const struct key cpu_keys[] = {
    {"summary", NULL, set_text, AT(summary)},
    {"pcid", NULL, set_bool, AT(pcid)},
    {"vpid", NULL, set_bool, AT(vpid)},
    {"apic", NULL, set_apic, AT(apic)},
    {0},
};

enum { KEY_ENTRIES, KEY_WAYS, KEY_SIZES = 4 }; /* positions in the three tables below */
static const struct key array_keys[] = {
    {"entries", NULL, set_count, GEO(entries)},
    {"ways", NULL, set_ways, GEO(ways)},
    {"index", NULL, set_index, GEO(index)},
    {"policy", NULL, set_policy, GEO(policy)},
    {0},
};
static const struct key l2_keys[] = {
    {"entries", NULL, set_count, GEO(entries)},
    {"ways", NULL, set_ways, GEO(ways)},
    {"index", NULL, set_index, GEO(index)},
    {"policy", NULL, set_policy, GEO(policy)},
    {"sizes", NULL, set_sizes, 0},
    {0},
};
static const struct key cache_keys[] = {
    {"size", NULL, set_lines, GEO(entries)},
    {"ways", NULL, set_ways, GEO(ways)},
    {0},
};

static const struct key walk_keys[] = {{"kind", NULL, set_kind, AT(pwc_kind)}, {0}};

/* First those that stand for the data caches when there are none, then those of the caches. */
enum { COST_ACCESS, COST_REF, COST_L1, COST_PWC = COST_L1 + 4, COST_OTHER };
static const struct key cost_keys[] = {
    {"access", NULL, set_cost, AT(cost.access)},
    {"ref", NULL, set_cost, AT(cost.ref)},
    {"l1", NULL, set_cost, AT(cost.cache[0])},
    {"l2", NULL, set_cost, AT(cost.cache[1])},
    {"l3", NULL, set_cost, AT(cost.cache[2])},
    {"memory", NULL, set_cost, AT(cost.cache[3])},
    {"pwc_hit", NULL, set_cost, AT(cost.pwc_hit)},
    {"stlb_hit", NULL, set_cost, AT(cost.stlb_hit)},
    {"exit", NULL, set_cost, AT(cost.exit)},
    {"fill", NULL, set_cost, AT(cost.fill)},
    {"reflect", NULL, set_cost, AT(cost.reflect)},
    {"pt_write", NULL, set_cost, AT(cost.pt_write)},
    {"cr3", NULL, set_cost, AT(cost.cr3)},
    {"invlpg", NULL, set_cost, AT(cost.invlpg)},
    {"ept_violation", NULL, set_cost, AT(cost.ept_violation)},
    {"hypercall", NULL, set_cost, AT(cost.hypercall)},
    {"pv_update", NULL, set_cost, AT(cost.pv_update)},
    {"icr", NULL, set_cost, AT(cost.icr)},
    {"intr", NULL, set_cost, AT(cost.intr)},
    {"ipi", NULL, set_cost, AT(cost.ipi)},
    {"guest_fault", NULL, set_cost, AT(cost.guest_fault)},
    {"alloc_4k", NULL, set_cost, AT(cost.alloc_4k)},
    {"alloc_2m", NULL, set_cost, AT(cost.alloc_2m)},
    {"alloc_1g", NULL, set_cost, AT(cost.alloc_1g)},
    {0},
};

struct section { /* begins as struct reg_head does */
    const char *name, *unused;
    const struct key *keys;
    size_t offset; /* of its part of struct cpu */
};

static const struct section sections[SEC_COUNT] = {
    [SEC_CPU] = {"cpu", NULL, cpu_keys, 0},
    [SEC_L1_4K] = {"l1-4k", NULL, array_keys, AT(l1[0])},
    [SEC_L1_2M] = {"l1-2m", NULL, array_keys, AT(l1[1])},
    [SEC_L1_1G] = {"l1-1g", NULL, array_keys, AT(l1[2])},
    [SEC_L1_ANY] = {"l1-any", NULL, array_keys, AT(l1_any)},
    [SEC_L2] = {"l2", NULL, l2_keys, AT(l2[0])},
    [SEC_L2B] = {"l2-b", NULL, l2_keys, AT(l2[1])},
    [SEC_WALK] = {"walk-caches", NULL, walk_keys, 0},
    [SEC_PSC] = {"psc-pml5e", NULL, array_keys, AT(psc[0])},
    [SEC_PSC + 1] = {"psc-pml4e", NULL, array_keys, AT(psc[1])},
    [SEC_PSC + 2] = {"psc-pdpte", NULL, array_keys, AT(psc[2])},
    [SEC_PSC + 3] = {"psc-pde", NULL, array_keys, AT(psc[3])},
    [SEC_NPSC] = {"npsc-pml5e", NULL, array_keys, AT(npsc[0])},
    [SEC_NPSC + 1] = {"npsc-pml4e", NULL, array_keys, AT(npsc[1])},
    [SEC_NPSC + 2] = {"npsc-pdpte", NULL, array_keys, AT(npsc[2])},
    [SEC_NPSC + 3] = {"npsc-pde", NULL, array_keys, AT(npsc[3])},
    [SEC_PWC] = {"pwc", NULL, array_keys, AT(pwc)},
    [SEC_NTLB] = {"ntlb", NULL, array_keys, AT(ntlb)},
    [SEC_CACHE] = {"cache-l1d", NULL, cache_keys, AT(cache[0])},
    [SEC_CACHE + 1] = {"cache-l2", NULL, cache_keys, AT(cache[1])},
    [SEC_CACHE + 2] = {"cache-l3", NULL, cache_keys, AT(cache[2])},
    [SEC_COST] = {"cost", NULL, cost_keys, 0},
};

/* Names of `n` structs of `size` bytes at `base`: "a, b, c" and the one nearest to `wrong`. */
struct choices {
    char list[512];
    const char *nearest;
};

static void choose(struct choices *c, const char *wrong, const void *base, size_t n, size_t size)
{
    const struct reg_head *heads[MAX_PRESETS];
    size_t used = 0;
    c->list[0] = 0;
    n = n < ARRAY_SIZE(heads) ? n : ARRAY_SIZE(heads);
    for (size_t i = 0; i < n; i++) {
        heads[i] = (const void *)((const char *)base + i * size);
        used += (size_t)snprintf(c->list + used, sizeof c->list - used, "%s%s", i ? ", " : "",
                                 heads[i]->name);
        used = used < sizeof c->list ? used : sizeof c->list - 1;
    }
    c->nearest = strlen(wrong) > 32 ? NULL : reg_nearest(heads, heads + n, wrong);
}

static bool unknown(struct parser *p, const char *wrong, const char *where, const void *base,
                    size_t n, size_t size)
{
    struct choices c;
    choose(&c, wrong, base, n, size);
    return fail(p, p->line, "unknown %s; %s%s%sexpected one of %s", where,
                c.nearest ? "did you mean '" : "", c.nearest ? c.nearest : "",
                c.nearest ? "'? " : "", c.list);
}

/* ---- step 1: lines and keys ---- */

static bool find_section(struct parser *p, const char *name)
{
    for (int i = 0; i < SEC_COUNT; i++)
        if (strcmp(sections[i].name, name) == 0) {
            p->section = (enum section_id)i;
            if (!p->header[i])
                p->header[i] = p->line;
            return true;
        }
    char where[80];
    snprintf(where, sizeof where, "section [%.64s]", name);
    return unknown(p, name, where, sections, SEC_COUNT, sizeof sections[0]);
}

/* Check a line that begins with '[': inih would not report an empty or oddly ended section. */
static bool check_header(struct parser *p, const char *line, size_t len)
{
    char name[80];
    const char *end = memchr(line, ']', len);
    size_t n = end ? (size_t)(end - line) - 1 : 0;
    if (!end || n >= sizeof name)
        return fail(p, p->line, "a section header is written [name]");
    const char *rest = end + 1;
    rest += strspn(rest, " \t");
    if (rest < line + len && *rest != ';' && *rest != '#')
        return fail(p, p->line, "unexpected text after a section header");
    memcpy(name, line + 1, n);
    name[n] = 0;
    return find_section(p, name);
}

/* fgets() for inih: the next line without indentation, or NULL at the end and after an error. */
static char *next_line(char *out, int room, void *stream)
{
    struct parser *p = stream;
    if (p->failed || !*p->text)
        return NULL;
    p->line++;
    size_t len = strcspn(p->text, "\n");
    const char *s = p->text;
    p->text += len + (s[len] == '\n');
    while (len && (s[len - 1] == '\r' || s[len - 1] == ' ' || s[len - 1] == '\t'))
        len--;
    for (; len && (*s == ' ' || *s == '\t'); len--)
        s++;
    for (size_t i = 0; i < len; i++)
        if (iscntrl((unsigned char)s[i]) && s[i] != '\t') {
            fail(p, p->line, "byte 0x%02x is not text", (unsigned char)s[i]);
            return NULL;
        }
    if (len + 3 > (size_t)room) {
        fail(p, p->line, "line of %zu characters; at most %d are allowed", len, room - 3);
        return NULL;
    }
    if (*s == '[' && len && !check_header(p, s, len))
        return NULL;
    memcpy(out, s, len);
    memcpy(out + len, "\n", 2);
    return out;
}

static bool set_key(struct parser *p, const char *name, const char *value)
{
    const struct section *s = &sections[p->section];
    unsigned n = 0;
    for (; s->keys[n].name; n++) {
        if (strcmp(s->keys[n].name, name))
            continue;
        if (p->keys[p->section] & 1u << n)
            return fail(p, p->line, "key '%s' is given twice in [%s]", name, s->name);
        p->keys[p->section] |= 1u << n;
        return s->keys[n].set(p, (char *)p->cpu + s->offset + s->keys[n].offset, value);
    }
    char where[160];
    snprintf(where, sizeof where, "key '%.64s' in [%s]", name, s->name);
    return unknown(p, name, where, s->keys, n, sizeof s->keys[0]);
}

static int on_key(void *user, const char *section, const char *name, const char *value)
{
    struct parser *p = user;
    if (p->failed)
        return 0;
    if (!*section)
        return fail(p, p->line, "key '%.64s' stands before the first [section]", name);
    return find_section(p, section) && set_key(p, name, value);
}

/* ---- step 2: the whole ---- */

static bool pow2(uint32_t n) { return n && !(n & (n - 1)); }

/* Tree pseudo-LRU needs 2^k ways, or three groups of 2^k (the 12 ways of a Skylake STLB); the node
 * bits of a set fit one word of assoc.h. */
static bool plru_ways(uint32_t ways)
{
    return (pow2(ways) && ways <= 32) || (ways % 3 == 0 && pow2(ways / 3) && ways <= 48);
}

static bool check_shape(struct parser *p, int line, const char *name, const struct geometry *g)
{
    if (g->entries > MAX_ENTRIES)
        return fail(p, line, "[%s] %u entries; expected at most %d", name, g->entries, MAX_ENTRIES);
    if (g->ways == 0 || g->ways > MAX_WAYS)
        return fail(p, line, "[%s] %u ways; expected 1 to %d", name, g->ways, MAX_WAYS);
    if (g->ways > g->entries)
        return fail(p, line, "[%s] %u ways are more than its %u entries", name, g->ways,
                    g->entries);
    if (g->entries % g->ways)
        return fail(p, line, "[%s] %u entries are no multiple of %u ways", name, g->entries,
                    g->ways);
    uint32_t sets = g->entries / g->ways;
    if (!pow2(sets) || sets > MAX_SETS)
        return fail(p, line,
                    "[%s] %u entries / %u ways = %u sets; expected a power of two, at most %d",
                    name, g->entries, g->ways, sets, MAX_SETS);
    if (g->policy == POLICY_PLRU && !plru_ways(g->ways))
        return fail(p, line, "[%s] plru with %u ways; it needs 2^k up to 32, or 3 * 2^k up to 48",
                    name, g->ways);
    return true;
}

static bool check_array(struct parser *p, enum section_id id)
{
    const struct section *s = &sections[id];
    int line = p->header[id];
    if (!line || s->offset == 0)
        return true;
    struct geometry *g = (void *)((char *)p->cpu + s->offset);
    if (!(p->keys[id] & 1u << KEY_ENTRIES))
        return fail(p, line, "missing key '%s' in [%s]", s->keys[KEY_ENTRIES].name, s->name);
    if (g->entries == 0) {
        *g = (struct geometry){0};
        return true;
    }
    if (!(p->keys[id] & 1u << KEY_WAYS))
        return fail(p, line, "missing key 'ways' in [%s]", s->name);
    if (s->keys == l2_keys && !(p->keys[id] & 1u << KEY_SIZES))
        return fail(p, line, "missing key 'sizes' in [%s]", s->name);
    if (p->full_ways[id])
        g->ways = g->entries;
    return check_shape(p, line, s->name, g);
}

static bool check_tlbs(struct parser *p)
{
    struct cpu *c = p->cpu;
    for (int i = 0; i < 3; i++)
        if (c->l1_any.entries && c->l1[i].entries)
            return fail(p, p->header[SEC_L1_4K + i],
                        "[%s] and [l1-any] exclude each other: l1-any serves every page size",
                        sections[SEC_L1_4K + i].name);
    if (c->l2[1].entries && !c->l2[0].entries)
        return fail(p, p->header[SEC_L2B], "[l2-b] without [l2]");
    for (int i = 0; i < 2; i++)
        if (!c->l2[i].entries)
            c->l2_sizes[i] = 0;
    if (c->l2_sizes[0] & c->l2_sizes[1])
        return fail(p, p->header[SEC_L2B], "[l2-b] serves a page size that [l2] serves already");
    return true;
}

static bool check_walk_caches(struct parser *p)
{
    for (int id = SEC_PSC; id <= SEC_NTLB; id++) {
        const struct geometry *g = (const void *)((const char *)p->cpu + sections[id].offset);
        enum pwc_kind kind = p->cpu->pwc_kind;
        if (!g->entries || (id == SEC_NTLB && kind != PWC_NONE))
            continue;
        if (kind != (id < SEC_PWC ? PWC_INTEL : PWC_AMD) || id == SEC_NTLB)
            return fail(p, p->header[id], "[%s] needs [walk-caches] kind = %s", sections[id].name,
                        id < SEC_PWC    ? "intel"
                        : id == SEC_PWC ? "amd"
                                        : "intel or amd");
    }
    return true;
}

static bool check_caches(struct parser *p)
{
    for (int i = 0; i < 3; i++) {
        const struct geometry *g = &p->cpu->cache[i];
        const char *name = sections[SEC_CACHE + i].name;
        int line = p->header[SEC_CACHE + i];
        if (i && g->entries && !g[-1].entries)
            return fail(p, line, "[%s] without [%s]", name, sections[SEC_CACHE + i - 1].name);
        if (g->entries && g->entries / g->ways < MIN_CACHE_SETS)
            return fail(p, line, "[%s] %u sets; expected at least %d", name, g->entries / g->ways,
                        MIN_CACHE_SETS);
    }
    return true;
}

/* A cost may be left out only where nothing can use it. */
static bool cost_used(const struct cpu *c, unsigned key)
{
    bool caches = c->cache[0].entries != 0;
    if (key == COST_ACCESS || key == COST_REF)
        return !caches;
    if (key == COST_L1 + 3)
        return caches;
    if (key < COST_PWC)
        return c->cache[key - COST_L1].entries != 0;
    return key != COST_PWC || c->pwc_kind != PWC_NONE;
}

static bool check_missing(struct parser *p)
{
    static const enum section_id whole[] = {SEC_CPU, SEC_WALK, SEC_COST};
    for (unsigned i = 0; i < ARRAY_SIZE(whole); i++) {
        const struct section *s = &sections[whole[i]];
        for (unsigned k = 0; s->keys[k].name; k++)
            if (!(p->keys[whole[i]] & 1u << k) && (whole[i] != SEC_COST || cost_used(p->cpu, k)))
                return fail(p, p->header[whole[i]], "missing key '%s' in [%s]", s->keys[k].name,
                            s->name);
    }
    return true;
}

static bool finish(struct parser *p)
{
    for (int id = 0; id < SEC_COUNT; id++)
        if (!check_array(p, (enum section_id)id))
            return false;
    return check_tlbs(p) && check_walk_caches(p) && check_caches(p) && check_missing(p);
}

/* Fill *cpu from text; false with a message in err. */
static bool parse(struct cpu *cpu, const char *file, const char *text, char *err, size_t errlen)
{
    struct parser p = {.file = file, .text = text, .cpu = cpu, .err = err, .errlen = errlen};
    if (strncmp(text, "\xef\xbb\xbf", 3) == 0) /* byte-order mark */
        p.text += 3;
    int bad = ini_parse_stream(next_line, &p, on_key, &p);
    if (bad)
        fail(&p, bad, "expected [section] or key = value");
    return !p.failed && finish(&p);
}

/* ---- files and presets ---- */

/* Whole file as a string, or NULL with err and *code. */
static char *read_file(const char *path, char *err, size_t errlen, int *code)
{
    FILE *f = fopen(path, "rb");
    char *text = f ? meta_calloc(META_MMU, 1, MAX_FILE + 1) : NULL;
    size_t n = f ? fread(text, 1, MAX_FILE + 1, f) : 0;
    *code = NB_NOINPUT;
    if (!f || ferror(f)) {
        snprintf(err, errlen, "%s: cannot read it: %s", path, strerror(errno));
    } else if (n > MAX_FILE || memchr(text, 0, n)) {
        *code = NB_DATAERR;
        snprintf(err, errlen, "%s: not a CPU preset: %s", path,
                 n > MAX_FILE ? "larger than 1 MiB" : "it is a binary file");
    } else {
        text[n] = 0;
        *code = NB_OK;
    }
    if (f)
        fclose(f);
    if (*code != NB_OK && text) {
        meta_free(META_MMU, text);
        text = NULL;
    }
    return text;
}

static const struct cpu_preset *find_preset(const char *name)
{
    for (size_t i = 0; i < cpu_preset_count; i++)
        if (strcmp(cpu_presets[i].name, name) == 0)
            return &cpu_presets[i];
    return NULL;
}

static void unknown_preset(const char *name, char *err, size_t errlen)
{
    struct choices c;
    choose(&c, name, cpu_presets, cpu_preset_count, sizeof cpu_presets[0]);
    snprintf(err, errlen,
             "unknown CPU preset '%s'; %s%s%spresets are %s; a file is a name with '/' or "
             "ending in .ini",
             name, c.nearest ? "did you mean '" : "", c.nearest ? c.nearest : "",
             c.nearest ? "'? " : "", c.list);
}

static bool is_path(const char *name)
{
    size_t n = strlen(name);
    return strchr(name, '/') || (n >= 4 && strcmp(name + n - 4, ".ini") == 0);
}

/* "dir/skx.ini" -> "skx" */
static void base_name(char *out, size_t room, const char *path)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, room, "%s", slash ? slash + 1 : path);
    size_t n = strlen(out);
    if (n > 4 && strcmp(out + n - 4, ".ini") == 0)
        out[n - 4] = 0;
}

static struct cpu *from_text(const char *name, const char *source, const char *text, char *err,
                             size_t errlen)
{
    struct cpu *c = meta_calloc(META_MMU, 1, sizeof *c);
    base_name(c->name, sizeof c->name, name);
    snprintf(c->source, sizeof c->source, "%s", source);
    if (parse(c, name, text, err, errlen))
        return c;
    meta_free(META_MMU, c);
    return NULL;
}

const struct cpu *cpu_load(const char *name, char *err, size_t errlen, int *code)
{
    struct cpu *c = NULL;
    *code = NB_OK;
    if (is_path(name)) {
        char *text = read_file(name, err, errlen, code);
        if (!text)
            return NULL;
        c = from_text(name, name, text, err, errlen);
        meta_free(META_MMU, text);
    } else {
        const struct cpu_preset *p = find_preset(name);
        if (!p) {
            unknown_preset(name, err, errlen);
            *code = NB_USAGE;
            return NULL;
        }
        c = from_text(name, "built in", p->text, err, errlen);
    }
    if (!c)
        *code = NB_DATAERR;
    return c;
}

void cpu_free(const struct cpu *c)
{
    union {
        const struct cpu *in;
        void *out;
    } u = {c};
    if (c)
        meta_free(META_MMU, u.out);
}

const char *cpu_preset_summary(const struct cpu_preset *preset)
{
    static char summaries[MAX_PRESETS][sizeof((struct cpu *)0)->summary];
    size_t i = (size_t)(preset - cpu_presets);
    char err[256];
    int code;
    if (i >= MAX_PRESETS || summaries[i][0])
        return i < MAX_PRESETS ? summaries[i] : "";
    const struct cpu *c = cpu_load(preset->name, err, sizeof err, &code);
    snprintf(summaries[i], sizeof summaries[i], "%s", c ? c->summary : "(broken preset)");
    cpu_free(c);
    return summaries[i];
}
