/* program.c: programs as text and as bytes. */
#include "fuzz/program.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *args;
    enum program_kind kind;
} ops[OP_COUNT] = {
#define OP(n, k, a, help) [OP_##k##_##n] = {#n, a, PROGRAM_##k},
#include "fuzz/ops.def"
#undef OP
};

static const char *const kinds[] = {"raw", "kernel"};
static const char *const whos[WHO_COUNT] = {"user", "kernel", "kernel-ac"};
static const char *const controls[] = {"wp", "smep", "smap", "pge", "nxe"};

void program_add(struct fuzz_prog *p, struct op op)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 64;
        p->op = meta_realloc(META_TRACE, p->op, p->cap * sizeof *p->op);
    }
    p->op[p->n++] = op;
}

void program_free(struct fuzz_prog *p)
{
    if (p->op)
        meta_free(META_TRACE, p->op);
    *p = (struct fuzz_prog){.n = 0};
}

/* ---- text ---- */

static size_t print_control(uint64_t set, char *buf, size_t n)
{
    size_t k = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(controls); i++)
        if (set >> i & 1)
            k += (size_t)snprintf(buf + k, n - k, "%s%s", k ? "," : "", controls[i]);
    return k ? k : (size_t)snprintf(buf, n, "none");
}

char *op_print(const struct op *op, char *buf, size_t n)
{
    const char *args = ops[op->kind].args;
    size_t k = (size_t)snprintf(buf, n, "%s", ops[op->kind].name);
    for (unsigned i = 0; args[i]; i++) {
        uint64_t v = op->arg[i];
        buf[k++] = ' ';
        if (args[i] == 'w')
            k += (size_t)snprintf(buf + k, n - k, "%s", whos[v]);
        else if (args[i] == 'c')
            k += print_control(v, buf + k, n - k);
        else
            k += (size_t)snprintf(buf + k, n - k, args[i] == 'n' ? "%" PRIu64 : "0x%" PRIx64, v);
    }
    return buf;
}

void program_print(FILE *f, const struct fuzz_prog *p)
{
    char line[160];
    fprintf(f, "%s %u\n", kinds[p->kind], p->levels);
    for (unsigned i = 0; i < p->n; i++)
        fprintf(f, "%s\n", op_print(&p->op[i], line, sizeof line));
}

static bool word_index(const char *w, const char *const *list, unsigned n, uint64_t *out)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(w, list[i]) == 0) {
            *out = i;
            return true;
        }
    return false;
}

static bool parse_control(char *w, uint64_t *out)
{
    uint64_t bit;
    *out = 0;
    if (strcmp(w, "none") == 0)
        return true;
    for (char *save, *t = strtok_r(w, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
        if (!word_index(t, controls, ARRAY_SIZE(controls), &bit))
            return false;
        *out |= 1ull << bit;
    }
    return true;
}

static bool parse_arg(char kind, char *w, uint64_t *out)
{
    if (kind == 'w')
        return word_index(w, whos, WHO_COUNT, out);
    return kind == 'c' ? parse_control(w, out) : parse_u64(w, out);
}

static const char *wrong_argument(char kind, const char *word)
{
    static char text[120];
    snprintf(text, sizeof text, "a wrong argument '%.40s': expected %s", word,
             kind == 'w'   ? "user, kernel or kernel-ac"
             : kind == 'c' ? "none, or some of wp,smep,smap,pge,nxe"
                           : "a number, decimal or 0x hex");
    return text;
}

/* Words of a line into an operation; NULL, or what is wrong. */
static const char *parse_op(enum program_kind kind, char *line, struct op *op)
{
    char *save, *w = strtok_r(line, " \t", &save);
    unsigned k = 0, i = 0;
    while (k < OP_COUNT && (ops[k].kind != kind || strcmp(ops[k].name, w)))
        k++;
    if (k == OP_COUNT)
        return kind == PROGRAM_RAW ? "no such operation of a raw program"
                                   : "no such operation of a kernel program";
    *op = (struct op){.kind = (enum op_kind)k};
    for (; (w = strtok_r(NULL, " \t", &save)); i++)
        if (!ops[k].args[i] || !parse_arg(ops[k].args[i], w, &op->arg[i]))
            return ops[k].args[i] ? wrong_argument(ops[k].args[i], w)
                                  : "too many arguments (fuzz/ops.def lists them)";
    return ops[k].args[i] ? "too few arguments (fuzz/ops.def lists them)" : NULL;
}

static const char *parse_head(char *line, struct fuzz_prog *p)
{
    uint64_t kind, levels;
    char *save, *w = strtok_r(line, " \t", &save), *l = strtok_r(NULL, " \t", &save);
    if (!word_index(w, kinds, 2, &kind) || !l || !parse_u64(l, &levels) || levels < 4 || levels > 5)
        return "a program begins with 'raw 4', 'raw 5', 'kernel 4' or 'kernel 5'";
    p->kind = (enum program_kind)kind;
    p->levels = (unsigned)levels;
    return NULL;
}

bool program_read(FILE *f, const char *name, struct fuzz_prog *p, char *err, size_t errlen)
{
    char line[256];
    *p = (struct fuzz_prog){.n = 0};
    for (unsigned number = 1; fgets(line, sizeof line, f); number++) {
        struct op op;
        line[strcspn(line, "#\r\n")] = 0;
        if (!line[strspn(line, " \t")])
            continue;
        bool head = !p->levels;
        const char *why = head ? parse_head(line, p) : parse_op(p->kind, line, &op);
        if (why) {
            snprintf(err, errlen, "%s:%u: %s", name, number, why);
            return false;
        }
        if (!head)
            program_add(p, op);
    }
    if (!p->levels)
        snprintf(err, errlen, "%s: no program in it", name);
    return p->levels;
}
