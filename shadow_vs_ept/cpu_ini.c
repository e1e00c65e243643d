/* cpu_ini.c: CPU presets, step 1: lines, sections, keys, and each value by itself.
 *
 * The grammar is three tables: cpu_ini_sections[] names each section, the part of struct cpu it fills and
 * its keys; a key names the function that parses its value. inih does not hand out line numbers, so
 * the lines are fed to it by next_line(), which counts them, and which also refuses what inih would
 * silently cut or join: long lines, control characters, indented continuation lines.
 */
#include "shadow_vs_ept/cpu_ini.h"

#include <ctype.h>
#include <ini.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/registry.h"

#define MAX_COST 1e12

enum { LINE_BYTES = 64 }; /* a cache line */

bool cpu_ini_fail(struct parser *p, int line, const char *fmt, ...)
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
        return cpu_ini_fail(p, p->line, "a text of 1 to %d characters is expected", ROOM - 1);
    memcpy(field, value, strlen(value) + 1);
    return true;
}

static bool set_bool(struct parser *p, void *field, const char *value)
{
    if (strcmp(value, "yes") && strcmp(value, "no"))
        return cpu_ini_fail(p, p->line, "'%s' is neither yes nor no", value);
    *(bool *)field = *value == 'y';
    return true;
}

static bool set_count(struct parser *p, void *field, const char *value)
{
    uint64_t v;
    if (!parse_u64(value, &v) || v > UINT32_MAX)
        return cpu_ini_fail(p, p->line, "'%s' is not a number from 0 to %u", value, UINT32_MAX);
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
        return cpu_ini_fail(p, p->line, "'%s' is not a size in whole %d-byte lines, such as 32K",
                            value, LINE_BYTES);
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
    cpu_ini_fail(p, p->line, "unknown value '%s'; expected one of %s", value, list);
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
            return cpu_ini_fail(p, p->line, "page size %s is listed twice", names[i]);
        *mask |= 1u << i;
        s += n;
        s += strspn(s, " ,\t");
    }
    return *mask ? true
                 : cpu_ini_fail(p, p->line, "no page size given; expected some of 4k, 2m, 1g");
}

static bool set_cost(struct parser *p, void *field, const char *value)
{
    char *end = NULL;
    bool plain = isdigit((unsigned char)*value) && !strpbrk(value, "xX");
    double v = plain ? strtod(value, &end) : 0;
    if (!plain || *end || !isfinite(v) || v > MAX_COST)
        return cpu_ini_fail(p, p->line, "'%s' is not a number of cycles from 0 to %g", value,
                            MAX_COST);
    *(double *)field = v;
    return true;
}

/* ---- the grammar ---- */

#define AT(member) offsetof(struct cpu, member)
#define GEO(member) offsetof(struct geometry, member)

static const struct key cpu_keys[] = {
    {"summary", NULL, set_text, AT(summary)},
    {"pcid", NULL, set_bool, AT(pcid)},
    {"vpid", NULL, set_bool, AT(vpid)},
    {"apic", NULL, set_apic, AT(apic)},
    {0},
};

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

const struct section cpu_ini_sections[SEC_COUNT] = {
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

void cpu_ini_choose(struct choices *c, const char *wrong, const void *base, size_t n, size_t size)
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
    cpu_ini_choose(&c, wrong, base, n, size);
    return cpu_ini_fail(p, p->line, "unknown %s; %s%s%sexpected one of %s", where,
                        c.nearest ? "did you mean '" : "", c.nearest ? c.nearest : "",
                        c.nearest ? "'? " : "", c.list);
}

/* ---- step 1: lines and keys ---- */

static bool find_section(struct parser *p, const char *name)
{
    for (int i = 0; i < SEC_COUNT; i++)
        if (strcmp(cpu_ini_sections[i].name, name) == 0) {
            p->section = (enum section_id)i;
            if (!p->header[i])
                p->header[i] = p->line;
            return true;
        }
    char where[80];
    snprintf(where, sizeof where, "section [%.64s]", name);
    return unknown(p, name, where, cpu_ini_sections, SEC_COUNT, sizeof cpu_ini_sections[0]);
}

/* Check a line that begins with '[': inih would not report an empty or oddly ended section. */
static bool check_header(struct parser *p, const char *line, size_t len)
{
    char name[80];
    const char *end = memchr(line, ']', len);
    size_t n = end ? (size_t)(end - line) - 1 : 0;
    if (!end || n >= sizeof name)
        return cpu_ini_fail(p, p->line, "a section header is written [name]");
    const char *rest = end + 1;
    rest += strspn(rest, " \t");
    if (rest < line + len && *rest != ';' && *rest != '#')
        return cpu_ini_fail(p, p->line, "unexpected text after a section header");
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
            cpu_ini_fail(p, p->line, "byte 0x%02x is not text", (unsigned char)s[i]);
            return NULL;
        }
    if (len + 3 > (size_t)room) {
        cpu_ini_fail(p, p->line, "line of %zu characters; at most %d are allowed", len, room - 3);
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
    const struct section *s = &cpu_ini_sections[p->section];
    unsigned n = 0;
    for (; s->keys[n].name; n++) {
        if (strcmp(s->keys[n].name, name))
            continue;
        if (p->keys[p->section] & 1u << n)
            return cpu_ini_fail(p, p->line, "key '%s' is given twice in [%s]", name, s->name);
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
        return cpu_ini_fail(p, p->line, "key '%.64s' stands before the first [section]", name);
    return find_section(p, section) && set_key(p, name, value);
}

bool cpu_ini_read(struct parser *p)
{
    if (strncmp(p->text, "\xef\xbb\xbf", 3) == 0) /* byte-order mark */
        p->text += 3;
    int bad = ini_parse_stream(next_line, p, on_key, p);
    if (bad)
        cpu_ini_fail(p, bad, "expected [section] or key = value");
    return !p->failed;
}
