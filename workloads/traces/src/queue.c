/* queue.c: a binary heap; input of the compiler trace, no headers needed. */
struct item { unsigned long key; int value; };
struct heap { struct item *slot[1024]; int n; };

static void swap(struct item **a, struct item **b)
{
    struct item *t = *a;
    *a = *b;
    *b = t;
}

int push(struct heap *h, struct item *x)
{
    int i = h->n;
    if (i == 1024)
        return -1;
    h->slot[h->n++] = x;
    while (i > 0 && h->slot[(i - 1) / 2]->key > h->slot[i]->key) {
        swap(&h->slot[(i - 1) / 2], &h->slot[i]);
        i = (i - 1) / 2;
    }
    return 0;
}

struct item *pop(struct heap *h)
{
    struct item *top = h->n ? h->slot[0] : 0;
    int i = 0;
    if (!top)
        return 0;
    h->slot[0] = h->slot[--h->n];
    for (;;) {
        int child = 2 * i + 1;
        if (child >= h->n)
            return top;
        if (child + 1 < h->n && h->slot[child + 1]->key < h->slot[child]->key)
            child++;
        if (h->slot[i]->key <= h->slot[child]->key)
            return top;
        swap(&h->slot[i], &h->slot[child]);
        i = child;
    }
}
