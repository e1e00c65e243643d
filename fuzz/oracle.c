/* oracle.c: translation as the manual has it, without caches and with what may be cached. */
#include "fuzz/oracle.h"

#include <stdio.h>
#include <string.h>

/* ---- 4.6.1: access rights ---- */

static bool may_read(const struct oracle_regs *r, bool user_address, const struct oracle_access *a)
{
    if (!a->supervisor)
        return user_address;
    /* Explicit supervisor-mode data accesses of user-mode addresses: SMAP, unless EFLAGS.AC. */
    return !user_address || !r->smap || a->ac;
}

static bool may_write(const struct oracle_regs *r, bool user_address, bool writable,
                      const struct oracle_access *a)
{
    if (!a->supervisor)
        return user_address && writable;
    if (!user_address)
        return r->wp ? writable : true;
    if (r->wp)
        return writable && (!r->smap || a->ac);
    return !r->smap || a->ac;
}

static bool may_fetch(const struct oracle_regs *r, bool user_address, bool executable,
                      const struct oracle_access *a)
{
    bool no_xd = !r->nxe || executable;
    if (!a->supervisor)
        return user_address && no_xd;
    if (user_address && r->smep)
        return false;
    return no_xd;
}

static bool allowed(const struct oracle_regs *r, struct oracle_rights x,
                    const struct oracle_access *a)
{
    if (a->speculative)
        return true;
    if (a->fetch)
        return may_fetch(r, x.u, x.x, a);
    return a->store ? may_write(r, x.u, x.w, a) : may_read(r, x.u, a);
}

/* ---- 4.7: the error code ---- */

static struct oracle_answer page_fault(const struct oracle_regs *r, const struct oracle_access *a,
                                       bool protection, bool reserved)
{
    unsigned code = 0;
    if (protection)
        code += 1; /* P: not caused by a non-present page */
    if (a->store)
        code += 2; /* W/R */
    if (!a->supervisor)
        code += 4; /* U/S */
    if (reserved)
        code += 8; /* RSVD */
    if (a->fetch && (r->smep || r->nxe))
        code += 16; /* I/D: "fetch" is only told when SMEP or NXE is on */
    return (struct oracle_answer){.kind = ORACLE_PF, .error = code};
}

/* ---- 4.5: entries, tables 4-14 to 4-20 ---- */

enum { MAXPHYADDR = 48 }; /* as CPUID would tell the guest (4.1.4) */

/* What an entry at `level` translates: 4 KiB, 2 MiB, 1 GiB, or the range of a table below it. */
static unsigned shift_of(unsigned level)
{
    static const unsigned shift[] = {0, 12, 21, 30, 39, 48};
    return shift[level];
}

static bool maps_page(uint64_t entry, unsigned level)
{
    return level == 1 || ((level == 2 || level == 3) && (entry & PTE_PS));
}

static bool reserved_set(const struct oracle_regs *r, uint64_t entry, unsigned level)
{
    if ((entry & PTE_NX) && !r->nxe) /* bit 63 is reserved unless EFER.NXE */
        return true;
    if (entry & 0x000fffffffffffffull >> MAXPHYADDR << MAXPHYADDR) /* bits 51:MAXPHYADDR */
        return true;
    if (level >= 4)
        return entry & PTE_PS; /* "must be 0" */
    if (level == 3 && (entry & PTE_PS))
        return entry & 0x3fffe000ull; /* bits 29:13 */
    if (level == 2 && (entry & PTE_PS))
        return entry & 0x1fe000ull; /* bits 20:13 */
    return false;
}

static uint64_t page_base(uint64_t entry, unsigned level)
{
    static const uint64_t mask[] = {0, 0x000ffffffffff000ull, 0x000fffffffe00000ull,
                                    0x000fffffc0000000ull};
    return entry & mask[level];
}

/* Vol. 1, 3.3.7.1: bits 63 to 47 (or 56) are alike. */
static bool is_canonical(uint64_t va, unsigned levels)
{
    uint64_t high = va >> (levels == 5 ? 56 : 47);
    return high == 0 || high == (levels == 5 ? 0xffull : 0x1ffffull);
}

/* ---- a walk ---- */

static void add_way(struct oracle *o, const struct oracle_way *w)
{
    if (o->nways == ORACLE_WAYS)
        o->full = true;
    else
        o->way[o->nways++] = *w;
}

static void fault_way(struct oracle *o, const struct oracle_access *a, struct oracle_way *w,
                      bool protection, bool reserved)
{
    w->answer = page_fault(&o->regs, a, protection, reserved);
    w->walked = false;
    add_way(o, w);
}

/* The walk has its leaf at w->low. 4.8: flags are set in the entries it used. */
static void finish_walk(struct oracle *o, const struct oracle_access *a, struct oracle_way *w,
                        struct oracle_rights rights)
{
    uint64_t leaf = w->value[w->low], size = 1ull << shift_of(w->low),
             gpa = page_base(leaf, w->low) + (a->va & (size - 1));
    if (!allowed(&o->regs, rights, a)) {
        fault_way(o, a, w, true, false);
        return;
    }
    if (gpa >= o->mem.bytes) {
        fault_way(o, a, w, true, true);
        return;
    }
    w->walked = true;
    w->answer = (struct oracle_answer){.kind = ORACLE_ADDRESS, .gpa = gpa};
    for (unsigned l = w->top; l >= w->low; l--) {
        uint64_t clear = ~w->value[l] & (l == w->low && a->store ? PTE_A | PTE_D : PTE_A);
        if (clear) {
            w->answer.set[w->answer.nset].gpa = w->at[l];
            w->answer.set[w->answer.nset++].bits = clear;
        }
        w->on_table |= gpa >> 12 == w->table[l] >> 12;
    }
    w->page = (struct oracle_page){.va = a->va & ~(size - 1),
                                   .gpa = gpa & ~(size - 1),
                                   .hole = ~0ull,
                                   .shift = shift_of(w->low),
                                   .pcid = o->regs.pcid,
                                   .global = o->regs.pge && (leaf & PTE_G),
                                   .dirty = (leaf & PTE_D) || a->store,
                                   .rights = rights};
    add_way(o, w);
}

static void read_entry(struct oracle *o, const struct oracle_access *a, struct oracle_way w,
                       unsigned level, uint64_t table, struct oracle_rights rights);

/* The entry at `level` is `entry`. A cached one is accessed already. */
static void use_entry(struct oracle *o, const struct oracle_access *a, struct oracle_way w,
                      unsigned level, uint64_t entry, struct oracle_rights rights)
{
    w.value[level] = entry;
    if (!(entry & PTE_P)) {
        fault_way(o, a, &w, false, false);
        return;
    }
    if (reserved_set(&o->regs, entry, level)) {
        fault_way(o, a, &w, true, true);
        return;
    }
    w.above[level] = rights;
    rights.w = rights.w && (entry & PTE_W);
    rights.u = rights.u && (entry & PTE_U);
    rights.x = rights.x && !(entry & PTE_NX);
    if (maps_page(entry, level))
        finish_walk(o, a, &w, rights);
    else
        read_entry(o, a, w, level - 1, page_base(entry, 1), rights);
}

static void read_entry(struct oracle *o, const struct oracle_access *a, struct oracle_way w,
                       unsigned level, uint64_t table, struct oracle_rights rights)
{
    uint64_t at = table + 8 * (a->va >> shift_of(level) & 0x1ff);
    if (table >= o->mem.bytes) {
        fault_way(o, a, &w, true, true);
        return;
    }
    w.low = level;
    w.at[level] = at;
    w.table[level] = table;
    use_entry(o, a, w, level, o->mem.read(o->mem.ctx, at), rights);
    for (unsigned i = 0; i < o->nvalues && level > 1; i++)
        if (o->value[i].at == at && o->value[i].pcid == o->regs.pcid &&
            o->value[i].hole != a->va >> 12)
            use_entry(o, a, w, level, o->value[i].value, rights);
}

/* ---- what may be cached ---- */

static bool page_covers(const struct oracle_page *p, uint64_t va)
{
    return p->va >> p->shift == va >> p->shift && p->hole != va >> 12;
}

static bool prefix_covers(const struct oracle_prefix *p, uint64_t va)
{
    return p->prefix == va >> shift_of(p->level + 1);
}

/* A cached translation decides by itself (4.10.2.2), if it need not set the dirty flag. Denied, the
 * processor may fault or walk first (4.10.4.3: a "spurious" fault). */
static void ask_page(struct oracle *o, const struct oracle_access *a, const struct oracle_page *p)
{
    struct oracle_way w = {.low = 1};
    if (!allowed(&o->regs, p->rights, a)) {
        fault_way(o, a, &w, true, false);
        return;
    }
    if (a->store && !p->dirty)
        return;
    uint64_t gpa = p->gpa + (a->va & ((1ull << p->shift) - 1));
    if (gpa >= o->mem.bytes)
        return; /* that part was never used */
    w.answer = (struct oracle_answer){.kind = ORACLE_ADDRESS, .gpa = gpa};
    add_way(o, &w);
}

void oracle_ask(struct oracle *o, const struct oracle_access *a)
{
    const struct oracle_rights all = {true, true, true};
    o->nways = 0;
    if (!is_canonical(a->va, o->regs.levels)) {
        struct oracle_way w = {.low = 1, .answer = {.kind = ORACLE_GP}};
        add_way(o, &w);
        return;
    }
    struct oracle_way start = {.top = o->regs.levels};
    read_entry(o, a, start, o->regs.levels, o->regs.root, all);
    for (unsigned i = 0; i < o->nprefixes; i++) {
        const struct oracle_prefix *p = &o->prefix[i];
        if (p->pcid != o->regs.pcid || !prefix_covers(p, a->va))
            continue;
        struct oracle_way w = {.top = p->level};
        read_entry(o, a, w, p->level, p->table, p->rights);
    }
    for (unsigned i = 0; i < o->npages; i++)
        if ((o->page[i].global || o->page[i].pcid == o->regs.pcid) &&
            page_covers(&o->page[i], a->va))
            ask_page(o, a, &o->page[i]);
}

bool oracle_same(const struct oracle_answer *a, const struct oracle_answer *b)
{
    if (a->kind != b->kind || a->nset != b->nset)
        return false;
    for (unsigned i = 0; i < a->nset; i++) {
        bool found = false;
        for (unsigned k = 0; k < b->nset; k++)
            found |= a->set[i].gpa == b->set[k].gpa && a->set[i].bits == b->set[k].bits;
        if (!found)
            return false;
    }
    return a->kind == ORACLE_ADDRESS ? a->gpa == b->gpa
                                     : a->kind == ORACLE_GP || a->error == b->error;
}

/* Append *item unless it is there: false when there is no room. */
static bool keep(void *array, unsigned *n, const void *item, unsigned long size)
{
    for (unsigned i = 0; i < *n; i++)
        if (memcmp((char *)array + i * size, item, size) == 0)
            return true;
    if (*n == ORACLE_MAX)
        return false;
    memcpy((char *)array + (*n)++ * size, item, size);
    return true;
}

/* The processor may keep the page, and each table on the way to it. */
static void keep_way(struct oracle *o, const struct oracle_access *a, const struct oracle_way *w)
{
    bool room = keep(o->page, &o->npages, &w->page, sizeof w->page);
    for (unsigned l = w->low + 1; l <= w->top; l++) {
        struct oracle_prefix p;
        struct oracle_value v;
        memset(&p, 0, sizeof p); /* padding too: compared as bytes */
        memset(&v, 0, sizeof v);
        p.prefix = a->va >> shift_of(l);
        p.table = w->table[l - 1];
        p.level = l - 1;
        p.pcid = v.pcid = o->regs.pcid;
        p.rights = w->above[l - 1];
        v.at = w->at[l];
        v.value = w->value[l] | PTE_A;
        v.hole = ~0ull;
        room &= o->by_place ? keep(o->value, &o->nvalues, &v, sizeof v)
                            : keep(o->prefix, &o->nprefixes, &p, sizeof p);
    }
    o->full |= !room;
}

void oracle_speculate(struct oracle *o, uint64_t va)
{
    const struct oracle_access a = {.va = va, .speculative = true};
    oracle_ask(o, &a);
    for (unsigned i = 0; i < o->nways; i++)
        if (o->way[i].walked && !o->way[i].answer.nset)
            keep_way(o, &a, &o->way[i]);
}

/* ---- 4.10.4.1: what invalidates ---- */

/* Which cached things go. */
struct victims {
    bool all_pcids, globals, one_address;
    bool prefixes_of_address; /* of the paging-structure caches, only what serves the address */
    const struct oracle_answer *faulting; /* the #PF; NULL: no fault */
    unsigned pcid;
    uint64_t va;
};

static bool pcid_hit(const struct victims *v, unsigned pcid)
{
    return v->all_pcids || pcid == v->pcid;
}

/* Was the entry at this place read on every way to that answer? */
static bool on_way(const struct oracle *o, const struct oracle_answer *x, uint64_t at)
{
    for (unsigned i = 0; i < o->nways; i++) {
        bool found = !oracle_same(&o->way[i].answer, x);
        for (unsigned l = o->way[i].low; l <= o->way[i].top; l++)
            found |= o->way[i].at[l] == at;
        if (!found)
            return false;
    }
    return true;
}

static void drop(struct oracle *o, const struct victims *v)
{
    unsigned n = 0;
    for (unsigned i = 0; i < o->npages; i++) {
        struct oracle_page *p = &o->page[i];
        bool hit = (p->global ? v->globals : pcid_hit(v, p->pcid)) &&
                   (!v->one_address || page_covers(p, v->va));
        if (hit && v->faulting && p->shift > 12)
            p->hole = v->va >> 12;
        else if (hit)
            continue;
        o->page[n++] = *p;
    }
    o->npages = n;
    n = 0;
    for (unsigned i = 0; i < o->nprefixes; i++) {
        const struct oracle_prefix *p = &o->prefix[i];
        if (!pcid_hit(v, p->pcid) || (v->prefixes_of_address && !prefix_covers(p, v->va)))
            o->prefix[n++] = *p;
    }
    o->nprefixes = n;
    n = 0;
    for (unsigned i = 0; i < o->nvalues; i++) {
        struct oracle_value *x = &o->value[i];
        bool hit = pcid_hit(v, x->pcid);
        if (hit && v->faulting && on_way(o, v->faulting, x->at))
            x->hole = v->va >> 12;
        if (!hit || v->prefixes_of_address)
            o->value[n++] = *x;
    }
    o->nvalues = n;
}

/* #PF: the address' translations, and what would be used for it of the paging-structure caches, so
 * that the fault does not recur unless the tables in memory are its cause. */
static void forget_faulting(struct oracle *o, const struct oracle_access *a,
                            const struct oracle_answer *x)
{
    drop(o, &(struct victims){.globals = true,
                              .one_address = true,
                              .prefixes_of_address = true,
                              .faulting = x,
                              .pcid = o->regs.pcid,
                              .va = a->va});
}

void oracle_observe(struct oracle *o, const struct oracle_access *a, const struct oracle_answer *x)
{
    if (x->kind == ORACLE_PF)
        forget_faulting(o, a, x);
    if (x->kind != ORACLE_ADDRESS)
        return;
    for (unsigned i = 0; i < o->nways; i++)
        if (o->way[i].walked && oracle_same(&o->way[i].answer, x))
            keep_way(o, a, &o->way[i]);
}

/* MOV to CR3: not globals; with PCIDs only the new one's, and nothing when bit 63 is set. */
void oracle_cr3(struct oracle *o, uint64_t root, unsigned pcid, bool keep_all)
{
    o->regs.root = root;
    o->regs.pcid = o->regs.pcide ? pcid : 0;
    if (!o->regs.pcide || !keep_all)
        drop(o, &(struct victims){.all_pcids = !o->regs.pcide, .pcid = o->regs.pcid});
}

/* INVLPG: the address' translations in this PCID and its global ones; all paging-structure caches of
 * this PCID. */
void oracle_invlpg(struct oracle *o, uint64_t va)
{
    drop(o,
         &(struct victims){.globals = true, .one_address = true, .pcid = o->regs.pcid, .va = va});
}

/* INVPCID types 0 to 3: an address in a PCID; a PCID; all with globals; all without. */
void oracle_invpcid(struct oracle *o, unsigned type, unsigned pcid, uint64_t va)
{
    switch (type) {
    case 0:
        drop(o, &(struct victims){
                    .one_address = true, .prefixes_of_address = true, .pcid = pcid, .va = va});
        break;
    case 1:
        drop(o, &(struct victims){.pcid = pcid});
        break;
    default:
        drop(o, &(struct victims){.all_pcids = true, .globals = type == 2});
    }
}

/* MOV to CR0, CR4, WRMSR of EFER. CR4.PGE changed: everything; SMEP set: this PCID's. */
void oracle_control(struct oracle *o, const struct oracle_regs *r)
{
    struct oracle_regs old = o->regs;
    o->regs.wp = r->wp;
    o->regs.smep = r->smep;
    o->regs.smap = r->smap;
    o->regs.pge = r->pge;
    o->regs.nxe = r->nxe;
    if (old.pge != r->pge)
        drop(o, &(struct victims){.all_pcids = true, .globals = true});
    else if (!old.smep && r->smep)
        drop(o, &(struct victims){.globals = true, .pcid = o->regs.pcid});
}

/* ---- without caches ---- */

void oracle_translate(const struct oracle_regs *r, const struct oracle_memory *m,
                      const struct oracle_access *a, struct oracle_answer *out)
{
    struct oracle o;
    oracle_init(&o, r, m, false);
    oracle_ask(&o, a);
    *out = o.way[0].answer;
}

void oracle_init(struct oracle *o, const struct oracle_regs *r, const struct oracle_memory *m,
                 bool by_place)
{
    o->regs = *r;
    o->mem = *m;
    o->by_place = by_place;
    o->full = false;
    o->npages = o->nprefixes = o->nvalues = o->nways = 0;
}

char *oracle_describe(const struct oracle_answer *a, char *buf, unsigned long n)
{
    int k = a->kind == ORACLE_GP   ? snprintf(buf, n, "#GP")
            : a->kind == ORACLE_PF ? snprintf(buf, n, "#PF error 0x%x", a->error)
                                   : snprintf(buf, n, "gpa 0x%llx", (unsigned long long)a->gpa);
    for (unsigned i = 0; i < a->nset && k > 0 && (unsigned long)k < n; i++)
        k += snprintf(buf + k, n - (unsigned long)k, ", sets 0x%llx at 0x%llx",
                      (unsigned long long)a->set[i].bits, (unsigned long long)a->set[i].gpa);
    return buf;
}
