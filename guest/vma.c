/* vma.c: the address ranges of a process.
 *
 * An AVL tree (Adelson-Velsky and Landis, 1962) ordered by address, threaded by a list. Its height
 * is at most 1.44 log2 of the nodes whatever addresses a program asks for, and so is the depth of
 * the recursions here: they must fit a kernel's stack. Each node also knows the widest gap before
 * any node of its subtree, so first fit is a descent, exact and independent of history: no cursor
 * that could change what is chosen.
 *
 * Neighbours that differ in nothing are one VMA: mmap in small steps makes one node, not thousands.
 *
 * Invariants (gk_check):
 *   V1  start < end <= top, 4 KiB aligned; the list is sorted and disjoint
 *   V2  tree order equals list order, heights of siblings differ by at most 1, max_gap is right
 *   V3  nvmas, first and last are right; `hot` is NULL or a member
 *   V4  a VMA with a shm lies inside it; shm->refs = number of VMAs that point to it
 */
#include "guest/internal.h"

static uint64_t gap_before(const struct vma *v) { return v->start - (v->prev ? v->prev->end : 0); }

static int height(const struct vma *v) { return v ? v->height : 0; }
static int lean(const struct vma *v) { return height(v->left) - height(v->right); }

static void update(struct vma *v)
{
    v->height = (lean(v) > 0 ? height(v->left) : height(v->right)) + 1;
    uint64_t m = gap_before(v);
    if (v->left && v->left->max_gap > m)
        m = v->left->max_gap;
    if (v->right && v->right->max_gap > m)
        m = v->right->max_gap;
    v->max_gap = m;
}

/* Recompute the path to `key`, whose gap changed. */
static void refresh(struct vma *v, const struct vma *key)
{
    if (v != key)
        refresh(key->start < v->start ? v->left : v->right, key);
    update(v);
}

static struct vma *rotate_right(struct vma *v)
{
    struct vma *l = v->left;
    v->left = l->right;
    l->right = v;
    update(v);
    update(l);
    return l;
}

static struct vma *rotate_left(struct vma *v)
{
    struct vma *r = v->right;
    v->right = r->left;
    r->left = v;
    update(v);
    update(r);
    return r;
}

/* The root of this subtree, one of whose sides may be too high by one. */
static struct vma *balance(struct vma *v)
{
    update(v);
    if (lean(v) > 1) {
        if (lean(v->left) < 0)
            v->left = rotate_left(v->left);
        return rotate_right(v);
    }
    if (lean(v) < -1) {
        if (lean(v->right) > 0)
            v->right = rotate_right(v->right);
        return rotate_left(v);
    }
    return v;
}

static struct vma *tree_insert(struct vma *v, struct vma *new)
{
    if (!v) {
        update(new);
        return new;
    }
    if (new->start < v->start)
        v->left = tree_insert(v->left, new);
    else
        v->right = tree_insert(v->right, new);
    return balance(v);
}

/* Take the lowest node out. */
static struct vma *take_first(struct vma *v, struct vma **first)
{
    if (!v->left) {
        *first = v;
        return v->right;
    }
    v->left = take_first(v->left, first);
    return balance(v);
}

static struct vma *tree_remove(struct vma *v, const struct vma *dead)
{
    struct vma *first;
    if (v == dead) {
        if (!v->left || !v->right)
            return v->left ? v->left : v->right;
        struct vma *right = take_first(v->right, &first);
        first->left = v->left;
        first->right = right;
        return balance(first);
    }
    if (dead->start < v->start)
        v->left = tree_remove(v->left, dead);
    else
        v->right = tree_remove(v->right, dead);
    return balance(v);
}

struct vma *vma_find(struct proc *p, gva_t va)
{
    struct vma *best = NULL;
    for (struct vma *v = p->root; v;) {
        if (v->end > va) {
            best = v;
            if (v->start <= va)
                break;
            v = v->left;
        } else {
            v = v->right;
        }
    }
    return best;
}

struct vma *vma_at(struct proc *p, gva_t va)
{
    struct vma *v = p->hot;
    if (v && v->start <= va && va < v->end)
        return v;
    v = vma_find(p, va);
    if (!v || v->start > va)
        return NULL;
    return p->hot = v;
}

static gva_t align_up(gva_t a, uint64_t align) { return (a + align - 1) & ~(align - 1); }

static gva_t fit(const struct vma *v, gva_t lo, uint64_t len, uint64_t align)
{
    if (!v || v->max_gap < len)
        return 0;
    if (v->start > lo) {
        gva_t a = fit(v->left, lo, len, align);
        if (a)
            return a;
        a = v->prev && v->prev->end > lo ? v->prev->end : lo;
        a = align_up(a, align);
        if (a < v->start && v->start - a >= len)
            return a;
    }
    return fit(v->right, lo, len, align);
}

gva_t vma_gap(const struct proc *p, gva_t lo, uint64_t len, uint64_t align, gva_t top)
{
    gva_t a = fit(p->root, lo, len, align);
    if (a)
        return a;
    a = align_up(p->last && p->last->end > lo ? p->last->end : lo, align);
    return a < top && top - a >= len ? a : 0;
}

static void list_insert(struct proc *p, struct vma *v, struct vma *next)
{
    v->next = next;
    v->prev = next ? next->prev : p->last;
    *(v->prev ? &v->prev->next : &p->first) = v;
    *(next ? &next->prev : &p->last) = v;
}

static void list_remove(struct proc *p, struct vma *v)
{
    *(v->prev ? &v->prev->next : &p->first) = v->next;
    *(v->next ? &v->next->prev : &p->last) = v->prev;
}

static void set_end(struct proc *p, struct vma *v, gva_t end)
{
    v->end = end;
    if (v->next)
        refresh(p->root, v->next);
}

struct vma *vma_add(struct gk *g, struct proc *p, const struct vma *like)
{
    struct vma *v = slab_get(g, &g->vmas);
    if (!v)
        return NULL;
    *v = *like;
    v->left = v->right = NULL;
    if (v->shm)
        v->shm->refs++;
    list_insert(p, v, vma_find(p, v->start));
    p->root = tree_insert(p->root, v);
    if (v->next)
        refresh(p->root, v->next);
    p->nvmas++;
    return v;
}

void vma_drop(struct gk *g, struct proc *p, struct vma *v)
{
    struct vma *next = v->next;
    list_remove(p, v);
    p->root = tree_remove(p->root, v);
    if (next)
        refresh(p->root, next);
    if (p->hot == v)
        p->hot = NULL;
    p->nvmas--;
    if (v->shm)
        shm_put(g, v->shm);
    slab_put(&g->vmas, v);
}

void vma_drop_all(struct gk *g, struct proc *p)
{
    for (struct vma *v = p->first, *next; v; v = next) {
        next = v->next;
        if (v->shm)
            shm_put(g, v->shm);
        slab_put(&g->vmas, v);
    }
    p->root = p->first = p->last = p->hot = NULL;
    p->nvmas = 0;
}

static bool alike(const struct vma *a, const struct vma *b)
{
    return a->prot == b->prot && a->flags == b->flags && a->mode == b->mode && a->shm == b->shm;
}

/* Make v and its right neighbour one. */
static void swallow_next(struct gk *g, struct proc *p, struct vma *v)
{
    gva_t end = v->next->end;
    vma_drop(g, p, v->next);
    set_end(p, v, end);
}

void vma_join(struct gk *g, struct proc *p, gva_t at)
{
    struct vma *v = vma_find(p, at);
    if (v && v->prev && v->start == at && v->prev->end == at && alike(v->prev, v))
        swallow_next(g, p, v->prev);
}

bool vma_add_or_grow(struct gk *g, struct proc *p, const struct vma *like)
{
    struct vma *next = vma_find(p, like->start), *prev = next ? next->prev : p->last;
    bool joins_next = next && next->start == like->end && alike(next, like);
    if (prev && prev->end == like->start && alike(prev, like)) {
        set_end(p, prev, like->end);
        if (joins_next)
            swallow_next(g, p, prev);
        return true;
    }
    if (joins_next) {
        next->start = like->start;
        refresh(p->root, next);
        return true;
    }
    return vma_add(g, p, like);
}

bool vma_cut(struct gk *g, struct proc *p, gva_t at)
{
    struct vma *v = vma_at(p, at);
    if (!v || v->start == at)
        return true;
    gva_t end = v->end;
    struct vma upper = *v;
    upper.start = at;
    set_end(p, v, at);
    if (vma_add(g, p, &upper))
        return true;
    set_end(p, v, end);
    return false;
}

static struct vma *clone(struct gk *g, struct proc *p, const struct vma *v, bool *ok)
{
    if (!v || !*ok)
        return NULL;
    struct vma *left = clone(g, p, v->left, ok);
    struct vma *new = *ok ? slab_get(g, &g->vmas) : NULL;
    if (!new) {
        *ok = false;
        return NULL;
    }
    *new = *v;
    new->left = left;
    list_insert(p, new, NULL);
    if (new->shm)
        new->shm->refs++;
    p->nvmas++;
    new->right = clone(g, p, v->right, ok);
    return new;
}

bool vma_clone(struct gk *g, struct proc *to, const struct proc *from)
{
    bool ok = true;
    to->root = clone(g, to, from->root, &ok);
    return ok;
}

static const char *check_tree(const struct vma *v, const struct vma **at)
{
    if (!v)
        return NULL;
    const char *bad = check_tree(v->left, at);
    if (bad)
        return bad;
    if (*at != v)
        return "V2: tree and list differ in order";
    *at = v->next;
    struct vma copy = *v;
    update(&copy);
    if (copy.max_gap != v->max_gap)
        return "V2: a widest gap is wrong";
    if (copy.height != v->height || lean(v) < -1 || lean(v) > 1)
        return "V2: the tree is out of balance";
    return check_tree(v->right, at);
}

const char *vma_check(struct gk *g, struct proc *p)
{
    uint64_t n = 0, hot = !p->hot;
    const struct vma *prev = NULL;
    for (const struct vma *v = p->first; v; prev = v, v = v->next, n++) {
        if (v->start >= v->end || v->end > g->top || ((v->start | v->end) & PAGE_MASK))
            return "V1: a range is empty, unaligned or outside user space";
        if (v->prev != prev || (prev && prev->end > v->start))
            return "V1: ranges overlap or are out of order";
        if (v->shm && v->start < v->shm->base)
            return "V4: a shared range lies outside its pages";
        hot |= v == p->hot;
    }
    if (n != p->nvmas || p->last != prev || !hot)
        return "V3: a list end, a count or the cached range is wrong";
    const struct vma *at = p->first;
    const char *bad = check_tree(p->root, &at);
    return bad ? bad : at ? "V2: the tree lacks a range" : NULL;
}
