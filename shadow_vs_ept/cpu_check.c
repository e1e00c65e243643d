/* cpu_check.c: CPU presets, step 2: what only the whole file can show: geometry, keys that are missing,
 * sections that exclude each other.
 */
#include "base/base.h"
#include "shadow_vs_ept/cpu_ini.h"

enum {
    MAX_SETS = 1 << 20,
    MAX_WAYS = 4096,
    MAX_ENTRIES = 1 << 24, /* of one array: 256 MiB of ours */
    MIN_CACHE_SETS = 64, /* so that the tag of any line of a 16 TiB host fits 32 bits (dcache.h) */
};

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
        return cpu_ini_fail(p, line, "[%s] %u entries; expected at most %d", name, g->entries,
                            MAX_ENTRIES);
    if (g->ways == 0 || g->ways > MAX_WAYS)
        return cpu_ini_fail(p, line, "[%s] %u ways; expected 1 to %d", name, g->ways, MAX_WAYS);
    if (g->ways > g->entries)
        return cpu_ini_fail(p, line, "[%s] %u ways are more than its %u entries", name, g->ways,
                            g->entries);
    if (g->entries % g->ways)
        return cpu_ini_fail(p, line, "[%s] %u entries are no multiple of %u ways", name, g->entries,
                            g->ways);
    uint32_t sets = g->entries / g->ways;
    if (!pow2(sets) || sets > MAX_SETS)
        return cpu_ini_fail(
            p, line, "[%s] %u entries / %u ways = %u sets; expected a power of two, at most %d",
            name, g->entries, g->ways, sets, MAX_SETS);
    if (g->policy == POLICY_PLRU && !plru_ways(g->ways))
        return cpu_ini_fail(p, line,
                            "[%s] plru with %u ways; it needs 2^k up to 32, or 3 * 2^k up to 48",
                            name, g->ways);
    return true;
}

static bool check_array(struct parser *p, enum section_id id)
{
    const struct section *s = &cpu_ini_sections[id];
    int line = p->header[id];
    if (!line || s->offset == 0)
        return true;
    struct geometry *g = (void *)((char *)p->cpu + s->offset);
    if (!(p->keys[id] & 1u << KEY_ENTRIES))
        return cpu_ini_fail(p, line, "missing key '%s' in [%s]", s->keys[KEY_ENTRIES].name,
                            s->name);
    if (g->entries == 0) {
        *g = (struct geometry){0};
        return true;
    }
    if (!(p->keys[id] & 1u << KEY_WAYS))
        return cpu_ini_fail(p, line, "missing key 'ways' in [%s]", s->name);
    if ((id == SEC_L2 || id == SEC_L2B) && !(p->keys[id] & 1u << KEY_SIZES))
        return cpu_ini_fail(p, line, "missing key 'sizes' in [%s]", s->name);
    if (p->full_ways[id])
        g->ways = g->entries;
    return check_shape(p, line, s->name, g);
}

static bool check_tlbs(struct parser *p)
{
    struct cpu *c = p->cpu;
    for (int i = 0; i < 3; i++)
        if (c->l1_any.entries && c->l1[i].entries)
            return cpu_ini_fail(
                p, p->header[SEC_L1_4K + i],
                "[%s] and [l1-any] exclude each other: l1-any serves every page size",
                cpu_ini_sections[SEC_L1_4K + i].name);
    if (c->l2[1].entries && !c->l2[0].entries)
        return cpu_ini_fail(p, p->header[SEC_L2B], "[l2-b] without [l2]");
    for (int i = 0; i < 2; i++)
        if (!c->l2[i].entries)
            c->l2_sizes[i] = 0;
    if (c->l2_sizes[0] & c->l2_sizes[1])
        return cpu_ini_fail(p, p->header[SEC_L2B],
                            "[l2-b] serves a page size that [l2] serves already");
    return true;
}

static bool check_walk_caches(struct parser *p)
{
    for (int id = SEC_PSC; id <= SEC_NTLB; id++) {
        const struct geometry *g =
            (const void *)((const char *)p->cpu + cpu_ini_sections[id].offset);
        enum pwc_kind kind = p->cpu->pwc_kind;
        if (!g->entries || (id == SEC_NTLB && kind != PWC_NONE))
            continue;
        if (kind != (id < SEC_PWC ? PWC_INTEL : PWC_AMD) || id == SEC_NTLB)
            return cpu_ini_fail(p, p->header[id], "[%s] needs [walk-caches] kind = %s",
                                cpu_ini_sections[id].name,
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
        const char *name = cpu_ini_sections[SEC_CACHE + i].name;
        int line = p->header[SEC_CACHE + i];
        if (i && g->entries && !g[-1].entries)
            return cpu_ini_fail(p, line, "[%s] without [%s]", name,
                                cpu_ini_sections[SEC_CACHE + i - 1].name);
        if (g->entries && g->entries / g->ways < MIN_CACHE_SETS)
            return cpu_ini_fail(p, line, "[%s] %u sets; expected at least %d", name,
                                g->entries / g->ways, MIN_CACHE_SETS);
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
        const struct section *s = &cpu_ini_sections[whole[i]];
        for (unsigned k = 0; s->keys[k].name; k++)
            if (!(p->keys[whole[i]] & 1u << k) && (whole[i] != SEC_COST || cost_used(p->cpu, k)))
                return cpu_ini_fail(p, p->header[whole[i]], "missing key '%s' in [%s]",
                                    s->keys[k].name, s->name);
    }
    return true;
}

bool cpu_ini_check(struct parser *p)
{
    for (int id = 0; id < SEC_COUNT; id++)
        if (!check_array(p, (enum section_id)id))
            return false;
    return check_tlbs(p) && check_walk_caches(p) && check_caches(p) && check_missing(p);
}
