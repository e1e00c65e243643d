/* ecpt_table.c: elastic cuckoo hashing. The design and the invariants are in ecpt_table.h. */
#include "shadow_vs_ept/ecpt_table.h"

#include <string.h>

#include "base/base.h"

enum { FIRST_SLOTS = PAGE_SIZE / 64, KICKS = 32, STUCK = 512 };
#define TAG_MASK (0x7full << 52)

/* ---- lines ---- */

static uint64_t *line_at(const struct ect *t, hpa_t a) { return mmu_ptr(t->vm, a); }

static bool in_use(const uint64_t *line)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < ECT_LINE; i++)
        any |= line[i];
    return any & PTE_P;
}

static uint64_t line_tag(const uint64_t *line)
{
    uint64_t tag = 0;
    for (unsigned i = 0; i < ECT_LINE; i++)
        tag |= (line[i] >> 52 & 0x7f) << 7 * i;
    return tag;
}

static uint64_t with_tag(uint64_t e, uint64_t tag, unsigned i)
{
    return (e & ~TAG_MASK) | (tag >> 7 * i & 0x7f) << 52;
}

/* The first seven bits tell most lines apart. */
static bool is_line(const uint64_t *line, uint64_t tag)
{
    return ((line[0] >> 52 ^ tag) & 0x7f) == 0 && in_use(line) && line_tag(line) == tag;
}

/* A finaliser in the manner of Murmur3's, over a tag made different for each way. */
static uint64_t hash(uint64_t tag, unsigned way)
{
    uint64_t h = (tag + 1) * 0x9e3779b97f4a7c15ull + (way + 1) * 0xd6e8feb86659fd93ull;
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdull;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53ull;
    return h ^ h >> 33;
}

struct ect_region ect_probe(const struct ect *t, uint64_t tag, unsigned way)
{
    uint64_t h = hash(tag, way), i = h & (t->slots - 1);
    const struct ect_region *r = &t->cur[way];
    if (t->resizing && i < t->moved[way]) {
        r = &t->next[way];
        i = h & (2 * t->slots - 1);
    }
    return (struct ect_region){r->hpa + 64 * i, r->gpa + 64 * i};
}

static uint64_t *find_line(const struct ect *t, uint64_t tag)
{
    for (unsigned w = 0; w < t->ways; w++) {
        uint64_t *line = line_at(t, ect_probe(t, tag, w).hpa);
        if (is_line(line, tag))
            return line;
    }
    return NULL;
}

/* ---- arrays ---- */

static struct ect_region array_new(struct ect *t, uint64_t slots)
{
    uint64_t frames = slots / FIRST_SLOTS;
    hfn_t h;
    if (!host_alloc(t->vm->host, (unsigned)__builtin_ctzll(frames), FRAME_TABLE, &h))
        t->vm->ops->no_frames(t->vm->ctx);
    t->frames += frames;
    t->vm->table_frames += frames;
    struct ect_region r = {.hpa = hfn_hpa(h)};
    if (t->appear)
        r.gpa = t->appear(t->vm, r.hpa, frames);
    return r;
}

static void array_free(struct ect *t, struct ect_region *r, uint64_t slots)
{
    uint64_t frames = slots / FIRST_SLOTS;
    if (!r->hpa)
        return;
    if (t->vanish)
        t->vanish(t->vm, r->gpa, frames);
    host_release(t->vm->host, hpa_hfn(r->hpa), (unsigned)__builtin_ctzll(frames));
    t->frames -= frames;
    t->vm->table_frames -= frames;
    *r = (struct ect_region){0};
}

void ect_init(struct ect *t, struct mmu_vm *vm, unsigned ways)
{
    t->vm = vm;
    t->ways = ways;
    t->slots = FIRST_SLOTS;
    for (unsigned w = 0; w < ways; w++)
        t->cur[w] = array_new(t, t->slots);
}

void ect_fini(struct ect *t)
{
    for (unsigned w = 0; w < t->ways; w++) {
        array_free(t, &t->cur[w], t->slots);
        array_free(t, &t->next[w], 2 * t->slots);
    }
}

/* ---- moving lines ---- */

static bool place(struct ect *t, uint64_t *line, unsigned way, unsigned kicks);

static void start(struct ect *t)
{
    for (unsigned w = 0; w < t->ways; w++) {
        t->next[w] = array_new(t, 2 * t->slots);
        t->moved[w] = 0;
    }
    t->resizing = true;
}

static void finish(struct ect *t)
{
    for (unsigned w = 0; w < t->ways; w++) {
        array_free(t, &t->cur[w], t->slots);
        t->cur[w] = t->next[w];
        t->next[w] = (struct ect_region){0};
    }
    t->slots *= 2;
    t->resizing = false;
}

/* All lines, and this one, into arrays twice as long as the longest there are. */
static void rebuild(struct ect *t, const uint64_t *line)
{
    uint64_t slots = t->resizing ? 4 * t->slots : 2 * t->slots, n = 0;
    uint64_t(*all)[ECT_LINE] = meta_calloc(META_PAGING, t->lines + 1, sizeof *all);
    memcpy(all[n++], line, sizeof *all);
    for (unsigned w = 0; w < t->ways; w++)
        for (unsigned next = 0; next < 2; next++) {
            const struct ect_region *r = next ? &t->next[w] : &t->cur[w];
            for (uint64_t i = 0; r->hpa && i < t->slots << next; i++)
                if (in_use(line_at(t, r->hpa + 64 * i)))
                    memcpy(all[n++], line_at(t, r->hpa + 64 * i), sizeof *all);
        }
    ect_fini(t);
    t->resizing = false;
    for (bool fits = false; !fits; slots *= 2) {
        t->slots = slots;
        for (unsigned w = 0; w < t->ways; w++) {
            array_free(t, &t->cur[w], slots / 2);
            t->cur[w] = array_new(t, slots);
        }
        fits = true;
        for (uint64_t i = 0; i < n && fits; i++) {
            uint64_t copy[ECT_LINE];
            memcpy(copy, all[i], sizeof copy);
            fits = place(t, copy, (unsigned)(i % t->ways), STUCK);
        }
    }
    meta_free(META_PAGING, all);
}

/* Put a line where `way` has its place; what was there goes to the next way, and so on. False after so
 * many evictions: *line is the line that has no place. */
static bool place(struct ect *t, uint64_t *line, unsigned way, unsigned kicks)
{
    uint64_t out[ECT_LINE];
    for (unsigned k = 0; k <= kicks; k++, way = (way + 1) % t->ways) {
        uint64_t *at = line_at(t, ect_probe(t, line_tag(line), way).hpa);
        memcpy(out, at, sizeof out);
        memcpy(at, line, sizeof out);
        if (!in_use(out))
            return true;
        memcpy(line, out, sizeof out);
    }
    return false;
}

static void insert(struct ect *t, uint64_t *line, unsigned way)
{
    if (place(t, line, way, KICKS))
        return;
    if (!t->resizing)
        start(t);
    if (!place(t, line, way, STUCK))
        rebuild(t, line);
}

/* One line position of each way goes over to the new arrays. */
static void move_some(struct ect *t)
{
    bool done = true;
    for (unsigned w = 0; w < t->ways && t->resizing; w++) {
        uint64_t line[ECT_LINE], i = t->moved[w];
        if (i == t->slots)
            continue;
        uint64_t *at = line_at(t, t->cur[w].hpa + 64 * i);
        memcpy(line, at, sizeof line);
        memset(at, 0, sizeof line);
        t->moved[w]++;
        done &= t->moved[w] == t->slots;
        if (in_use(line))
            insert(t, line, w);
    }
    if (done && t->resizing)
        finish(t);
}

/* ---- entries ---- */

uint64_t *ect_find(const struct ect *t, uint64_t space, uint64_t n)
{
    uint64_t *line = find_line(t, ect_tag(space, n));
    return line && (line[n % ECT_LINE] & PTE_P) ? &line[n % ECT_LINE] : NULL;
}

void ect_set(struct ect *t, uint64_t space, uint64_t n, uint64_t entry)
{
    uint64_t tag = ect_tag(space, n), line[ECT_LINE], *there = find_line(t, tag);
    if (there) {
        there[n % ECT_LINE] = with_tag(entry, tag, n % ECT_LINE);
        return;
    }
    if (t->resizing)
        move_some(t);
    else if (10 * (t->lines + 1) > 6 * t->slots * t->ways)
        start(t);
    for (unsigned i = 0; i < ECT_LINE; i++)
        line[i] = with_tag(i == n % ECT_LINE ? entry : 0, tag, i);
    insert(t, line, t->turn++ % t->ways);
    t->lines++;
}

void ect_clear(struct ect *t, uint64_t space, uint64_t n)
{
    uint64_t tag = ect_tag(space, n), *line = find_line(t, tag);
    if (!line)
        return;
    line[n % ECT_LINE] = with_tag(0, tag, n % ECT_LINE);
    if (in_use(line))
        return;
    memset(line, 0, 64);
    t->lines--;
}

void ect_reset(struct ect *t)
{
    ect_fini(t);
    t->resizing = false;
    t->lines = 0;
    ect_init(t, t->vm, t->ways);
}

/* ---- all of it ---- */

struct visitor {
    const char *(*line)(const struct ect *, const uint64_t *line, void *ctx);
    void *ctx;
};

static const char *each_line(const struct ect *t, const struct visitor *v)
{
    for (unsigned w = 0; w < t->ways; w++)
        for (unsigned next = 0; next < 2; next++) {
            const struct ect_region *r = next ? &t->next[w] : &t->cur[w];
            for (uint64_t i = 0; r->hpa && i < t->slots << next; i++) {
                const char *why = v->line(t, line_at(t, r->hpa + 64 * i), v->ctx);
                if (why)
                    return why;
            }
        }
    return NULL;
}

struct entries {
    const char *(*fn)(void *, uint64_t, uint64_t, uint64_t);
    void *ctx;
};

static const char *line_entries(const struct ect *t, const uint64_t *line, void *ctx)
{
    const struct entries *e = ctx;
    uint64_t tag = line_tag(line), first = (tag & ((1ull << ECT_SPACE_SHIFT) - 1)) * ECT_LINE;
    const char *why = NULL;
    (void)t;
    for (unsigned i = 0; i < ECT_LINE && !why; i++)
        if (line[i] & PTE_P)
            why = e->fn(e->ctx, tag >> ECT_SPACE_SHIFT, first + i, line[i] & ~TAG_MASK);
    return why;
}

const char *ect_each(const struct ect *t, const char *(*fn)(void *, uint64_t, uint64_t, uint64_t),
                     void *ctx)
{
    struct entries e = {fn, ctx};
    return each_line(t, &(struct visitor){line_entries, &e});
}

static const char *check_line(const struct ect *t, const uint64_t *line, void *ctx)
{
    uint64_t *count = ctx;
    if (!in_use(line)) {
        for (unsigned i = 0; i < ECT_LINE; i++)
            if (line[i])
                return "ecpt table (2) a line without an entry is not zero";
        return NULL;
    }
    ++*count;
    unsigned found = 0;
    for (unsigned w = 0; w < t->ways; w++)
        found += is_line(line_at(t, ect_probe(t, line_tag(line), w).hpa), line_tag(line));
    return found == 1 ? NULL : "ecpt table (1) a line is not where its tag says, or there twice";
}

const char *ect_check(const struct ect *t)
{
    uint64_t count = 0;
    const char *why = each_line(t, &(struct visitor){check_line, &count});
    return why ? why : count == t->lines ? NULL : "ecpt table (2) the count of lines is wrong";
}
