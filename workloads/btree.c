/* btree.c: lookups and inserts in a B+tree.
 *
 * Stresses short dependent chains whose upper part is hot: the root's levels stay in TLB and
 * caches, the leaves do not. The index of a database.
 *
 * A node is 256 bytes, 32 words: word 0 = keys in it | level << 32 (0 = leaf); words 1-15 = keys;
 * words 16-31 = children (one more than keys), or in a leaf values, and in word 31 the next leaf.
 * Child i holds keys below key i; what equals a key is to its right.
 *
 * Set-up builds the tree bottom-up, nodes two thirds full, from the even keys 2, 4 .. 2 * keys;
 * inserts put odd ones between them. Exact: L0 = keys / 10 leaves, then L(i+1) = L(i) / 11 nodes a
 * level until one is left (all rounded up): set-up: stores = 2 * keys + 2 * L0 + 2 * (L0 + L1 + ..
 * without the root), no loads. Work: `ops` operations; loads follow the binary searches, 5 or 6 a
 * node (its header, 3 or 4 keys, a child). Every lookup finds its key, or the program gives up.
 */
#include "workloads/common.h"

enum {
    KEYS = 15,   /* room in a node */
    FILL = 10,   /* keys of a node after set-up */
    KEY = 1,     /* word of the first key */
    PTR = 16,    /* word of the first child or value */
    NEXT = 31,   /* word of a leaf's successor */
    NODE = 256,  /* bytes */
    LEVELS = 32, /* more than any tree that fits */
};

static const struct param params[] = {
    {"keys", 2000000, 1, 1ull << 32, "keys", "keys built in set-up (2000000 take 54 MiB)"},
    {"ops", 100000, 0, 1ull << 32, "operations", "lookups and inserts"},
    {"inserts", 10, 0, 100, "percent", "share of operations that insert"},
    {0},
};

struct tree {
    struct user *u;
    gva_t arena, root;
    uint64_t used, room; /* nodes */
};

static uint64_t value_of(uint64_t key) { return key ^ 0x5bd1e995ull << 32; }
static uint64_t div_up(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

static gva_t new_node(struct tree *t)
{
    if (t->used == t->room)
        u_abort(t->u, "btree: the arena is too small");
    return t->arena + NODE * t->used++;
}

/* How many of the node's n keys are <= key. */
static unsigned upper_bound(struct user *u, gva_t node, unsigned n, uint64_t key)
{
    unsigned lo = 0, hi = n;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (get(u, node, KEY + mid) <= key)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The leaf for `key`; path[0 .. *depth) gets the nodes above it when path is not NULL. */
static gva_t descend(struct tree *t, uint64_t key, gva_t *path, unsigned *depth)
{
    gva_t node = t->root;
    for (unsigned d = 0;; d++) {
        uint64_t head = get(t->u, node, 0);
        if (head >> 32 == 0) {
            *depth = d;
            return node;
        }
        if (path)
            path[d] = node;
        node = get(t->u, node, PTR + upper_bound(t->u, node, (uint32_t)head, key));
    }
}

/* Position of `key` in a leaf, or KEYS when it is not there. */
static unsigned find(struct user *u, gva_t leaf, uint64_t key)
{
    unsigned i = upper_bound(u, leaf, (uint32_t)get(u, leaf, 0), key);
    return i && get(u, leaf, KEY + i - 1) == key ? i - 1 : KEYS;
}

static void lookup(struct tree *t, uint64_t key)
{
    unsigned depth;
    gva_t leaf = descend(t, key, NULL, &depth);
    unsigned i = find(t->u, leaf, key);
    if (i == KEYS || get(t->u, leaf, PTR + i) != value_of(key))
        u_abort(t->u, "btree: a key is lost");
}

/* ---- inserting ---- */

/* Put key and ptr into a node that has room. */
static void insert_at(struct user *u, gva_t node, uint64_t key, uint64_t ptr)
{
    uint64_t head = get(u, node, 0);
    unsigned n = (uint32_t)head, right = head >> 32 != 0; /* a child goes right of its key */
    unsigned at = upper_bound(u, node, n, key);
    for (unsigned i = n; i > at; i--) {
        put(u, node, KEY + i, get(u, node, KEY + i - 1));
        put(u, node, PTR + right + i, get(u, node, PTR + right + i - 1));
    }
    put(u, node, KEY + at, key);
    put(u, node, PTR + right + at, ptr);
    put(u, node, 0, head + 1);
}

/* Move the upper half of a full node into a new one, which is returned; *sep divides them. A leaf
 * keeps 8 keys and gives 7, the first of which divides; an inner node keeps 7, gives 7, and the
 * one between them moves up. */
static gva_t split(struct tree *t, gva_t node, uint64_t *sep)
{
    struct user *u = t->u;
    gva_t right = new_node(t);
    uint64_t level = get(u, node, 0) >> 32;
    unsigned kept = level ? 7 : 8, from = 8, given = KEYS - from;
    *sep = get(u, node, KEY + kept);
    for (unsigned i = 0; i < given; i++)
        put(u, right, KEY + i, get(u, node, KEY + from + i));
    for (unsigned i = 0; i < given + (level != 0); i++)
        put(u, right, PTR + i, get(u, node, PTR + from + i));
    if (level == 0) {
        put(u, right, NEXT, get(u, node, NEXT));
        put(u, node, NEXT, right);
    }
    put(u, node, 0, kept | level << 32);
    put(u, right, 0, given | level << 32);
    return right;
}

static void grow(struct tree *t, uint64_t level, uint64_t sep, gva_t right)
{
    gva_t root = new_node(t);
    put(t->u, root, 0, 1 | level << 32);
    put(t->u, root, KEY, sep);
    put(t->u, root, PTR, t->root);
    put(t->u, root, PTR + 1, right);
    t->root = root;
}

static void insert(struct tree *t, uint64_t key)
{
    gva_t path[LEVELS];
    unsigned depth;
    gva_t node = descend(t, key, path, &depth);
    unsigned i = find(t->u, node, key);
    if (i != KEYS) {
        put(t->u, node, PTR + i, value_of(key));
        return;
    }
    uint64_t ptr = value_of(key), sep;
    for (uint64_t level = 0;; level++) {
        if ((uint32_t)get(t->u, node, 0) < KEYS) {
            insert_at(t->u, node, key, ptr);
            return;
        }
        gva_t right = split(t, node, &sep);
        insert_at(t->u, key < sep ? node : right, key, ptr);
        key = sep;
        ptr = right;
        if (depth == 0) {
            grow(t, level + 1, sep, right);
            return;
        }
        node = path[--depth];
    }
}

/* ---- building ---- */

static void build_leaves(struct tree *t, uint64_t keys)
{
    for (uint64_t k = 0; k < keys; k += FILL) {
        uint64_t n = keys - k < FILL ? keys - k : FILL;
        gva_t leaf = new_node(t);
        put(t->u, leaf, 0, n);
        for (uint64_t i = 0; i < n; i++) {
            put(t->u, leaf, KEY + i, 2 * (k + i + 1));
            put(t->u, leaf, PTR + i, value_of(2 * (k + i + 1)));
        }
        put(t->u, leaf, NEXT, k + n < keys ? leaf + NODE : 0);
    }
}

/* One level over `count` nodes that begin at `below`, each holding `span` keys of set-up. */
static void build_level(struct tree *t, uint64_t level, gva_t below, uint64_t count, uint64_t span)
{
    for (uint64_t c = 0; c < count; c += FILL + 1) {
        uint64_t n = count - c < FILL + 1 ? count - c : FILL + 1;
        gva_t node = new_node(t);
        put(t->u, node, 0, (n - 1) | level << 32);
        for (uint64_t i = 0; i < n; i++) {
            if (i)
                put(t->u, node, KEY + i - 1, 2 * ((c + i) * span + 1));
            put(t->u, node, PTR + i, below + NODE * (c + i));
        }
    }
}

static void build(struct tree *t, uint64_t keys)
{
    uint64_t count = div_up(keys, FILL), span = FILL;
    gva_t below = t->arena;
    build_leaves(t, keys);
    for (uint64_t level = 1; count > 1; level++) {
        gva_t first = t->arena + NODE * t->used;
        build_level(t, level, below, count, span);
        below = first;
        span *= FILL + 1;
        count = div_up(count, FILL + 1);
    }
    t->root = below;
}

/* Nodes of set-up, and those that inserts can add: a leaf takes 6 inserts to overflow, an inner
 * node 6 splits below it, so fewer than inserts / 5 and one a level. */
static uint64_t arena_nodes(uint64_t keys, uint64_t inserts)
{
    uint64_t n = div_up(keys, FILL), sum = n;
    for (; n > 1; sum += n)
        n = div_up(n, FILL + 1);
    return sum + inserts / 5 + LEVELS;
}

static void run(struct user *u, const uint64_t *p)
{
    uint64_t keys = p[0], ops = p[1], inserts = p[2];
    struct tree t = {.u = u, .room = arena_nodes(keys, inserts ? ops : 0)};
    u_phase(u, "setup");
    t.arena = u_alloc(u, NODE * t.room);
    build(&t, keys);
    u_phase(u, "work");
    for (uint64_t i = 0; i < ops; i++) {
        if (rng_below(&u->rng, 100) < inserts)
            insert(&t, 2 * rng_below(&u->rng, keys + 1) + 1);
        else
            lookup(&t, 2 * (rng_below(&u->rng, keys) + 1));
    }
}

REGISTER(workload, btree, .summary = "B+tree lookups and inserts: hot upper levels, cold leaves",
         .params = params, .run = run);
