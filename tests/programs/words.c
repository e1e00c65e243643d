/* words.c: a small real program for tests of traces: counts words of a made-up text in a chained hash
 * table, then sorts the entries and prints a checksum. No input, no clock, no address is printed:
 * the same accesses on every run, two million or so over 15 MiB. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUCKETS = 1 << 14, WORDS = 10000, NAME = 2000 };

struct word {
    struct word *next;
    uint64_t key, count;
    char name[NAME]; /* room, as real entries have */
};

static struct word *bucket[BUCKETS];

static uint64_t next(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

static struct word *find(uint64_t key)
{
    struct word **b = &bucket[key * 0x9e3779b97f4a7c15ull >> 50], *w;
    for (w = *b; w; w = w->next)
        if (w->key == key)
            return w;
    w = malloc(sizeof *w);
    if (!w)
        exit(1);
    w->key = key;
    w->count = 0;
    w->next = *b;
    return *b = w;
}

static int by_count(const void *a, const void *b)
{
    const struct word *x = *(struct word *const *)a, *y = *(struct word *const *)b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1)
                                : (x->key > y->key) - (x->key < y->key);
}

int main(void)
{
    uint64_t x = 42, sum = 0;
    size_t n = 0;
    for (unsigned i = 0; i < WORDS; i++) {
        uint64_t r = next(&x), s = next(&x);
        find((r >> 20) % ((s & 0xffff) + 1))->count++; /* small keys come more often */
    }
    struct word **all = calloc(WORDS, sizeof *all);
    if (!all)
        return 1;
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct word *w = bucket[i]; w; w = w->next)
            all[n++] = w;
    qsort(all, n, sizeof *all, by_count);
    for (size_t i = 0; i < n; i++)
        sum = sum * 31 + all[i]->key + all[i]->count;
    printf("%zu words, %016llx\n", n, (unsigned long long)sum);
    return 0;
}
