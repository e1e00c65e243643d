/* bfs.c: breadth-first search of a random power-law graph (the kernel of Graph500).
 *
 * Stresses irregular reading with some locality: neighbour lists are read in order, the vertices
 * they name lie anywhere.
 *
 * The graph is R-MAT (Chakrabarti, Zhan, Faloutsos, SDM 2004) with Graph500's probabilities 57, 19,
 * 19 and 5 %, vertices scattered, each edge in both directions, loops and doubles kept. It is held
 * in compressed sparse rows: adj[start[v] .. start[v + 1]) are the neighbours of v. Edges are drawn
 * twice from the same random state instead of being stored.
 *
 * Exact, V = 2^scale, E = V * degree: set-up: loads = 4E + V, stores = 6E + V. Work, for each root
 * that reaches n vertices with m list entries: stores = V + 2n, loads = 3n + 2m + 2 * (vertices
 * tried until one has neighbours).
 */
#include "workloads/common.h"

static const struct param params[] = {
    {"scale", 16, 1, 28, "log2", "vertices = 2^scale"},
    {"degree", 8, 1, 1024, "edges", "edges per vertex, each in two lists"},
    {"roots", 1, 1, 1u << 20, "searches", "searches, each from a random vertex with neighbours"},
    {0},
};

#define NOBODY (~0ull)

struct graph {
    struct user *u;
    unsigned scale;
    uint64_t vertices, edges;
    gva_t start, adj;    /* the graph; see make_rows() for start[] while it is built */
    gva_t parent, queue; /* of a search */
};

/* Draw one edge: at each level one quadrant of the matrix, by 16 random bits. */
static void draw(struct rng *r, unsigned scale, uint64_t *from, uint64_t *to)
{
    enum { A = 37355, AB = 49807, ABC = 62259 }; /* 0.57, 0.76, 0.95 of 65536 */
    uint64_t x = 0, y = 0, bits = 0;
    for (unsigned i = 0; i < scale; i++, bits >>= 16) {
        if (i % 4 == 0)
            bits = rng_next(r);
        uint64_t q = bits & 0xffff;
        x = x << 1 | (q >= AB);
        y = y << 1 | ((q >= A && q < AB) || q >= ABC);
    }
    *from = scatter(x, scale);
    *to = scatter(y, scale);
}

static void count(struct graph *g, uint64_t v)
{
    put(g->u, g->start, v + 2, get(g->u, g->start, v + 2) + 1);
}

static void append(struct graph *g, uint64_t v, uint64_t neighbour)
{
    uint64_t at = get(g->u, g->start, v + 1);
    put(g->u, g->adj, at, neighbour);
    put(g->u, g->start, v + 1, at + 1);
}

/* Fill start[] and adj[]. Degrees are counted two places up, in start[v + 2]; once they are summed,
 * start[v + 1] is where v's list begins; appending moves it to the list's end, which is where the
 * next one begins. */
static void make_rows(struct graph *g)
{
    struct rng r = g->u->rng;
    uint64_t from, to, sum = 0;
    for (uint64_t e = 0; e < g->edges; e++) {
        draw(&r, g->scale, &from, &to);
        count(g, from);
        count(g, to);
    }
    for (uint64_t v = 2; v < g->vertices + 2; v++) {
        sum += get(g->u, g->start, v);
        put(g->u, g->start, v, sum);
    }
    r = g->u->rng;
    for (uint64_t e = 0; e < g->edges; e++) {
        draw(&r, g->scale, &from, &to);
        append(g, from, to);
        append(g, to, from);
    }
    g->u->rng = r;
}

/* A random vertex, or the next one after it that has neighbours. */
static uint64_t pick_root(struct graph *g)
{
    uint64_t v = rng_below(&g->u->rng, g->vertices);
    while (get(g->u, g->start, v) == get(g->u, g->start, v + 1))
        v = (v + 1) & (g->vertices - 1);
    return v;
}

static void visit(struct graph *g, uint64_t v, uint64_t by, uint64_t *tail)
{
    put(g->u, g->parent, v, by);
    put(g->u, g->queue, (*tail)++, v);
}

static void search(struct graph *g, uint64_t root)
{
    struct user *u = g->u;
    uint64_t head = 0, tail = 0;
    for (uint64_t v = 0; v < g->vertices; v++)
        put(u, g->parent, v, NOBODY);
    visit(g, root, root, &tail);
    while (head < tail) {
        uint64_t v = get(u, g->queue, head++);
        uint64_t i = get(u, g->start, v), end = get(u, g->start, v + 1);
        for (; i < end; i++) {
            uint64_t w = get(u, g->adj, i);
            if (get(u, g->parent, w) == NOBODY)
                visit(g, w, v, &tail);
        }
    }
}

static void run(struct user *u, const uint64_t *p)
{
    struct graph g = {.u = u, .scale = (unsigned)p[0], .vertices = 1ull << p[0]};
    g.edges = g.vertices * p[1];
    u_phase(u, "setup");
    g.start = u_alloc(u, 8 * (g.vertices + 2));
    g.adj = u_alloc(u, 16 * g.edges);
    g.parent = u_alloc(u, 8 * g.vertices);
    g.queue = u_alloc(u, 8 * g.vertices);
    make_rows(&g);
    u_phase(u, "work");
    for (uint64_t i = 0; i < p[2]; i++)
        search(&g, pick_root(&g));
}

REGISTER(workload, bfs, .summary = "breadth-first search of an R-MAT graph: irregular reads",
         .params = params, .run = run);
