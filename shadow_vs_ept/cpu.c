/* cpu.c: CPU presets: an INI file, or one that is built in, becomes a struct cpu; whatever is not
 * understood is refused.
 *
 * A file is read in two steps: cpu_ini.c checks every value by itself, cpu_check.c the whole. Only the
 * first error is kept.
 */
#include "shadow_vs_ept/cpu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "shadow_vs_ept/cpu_ini.h"

enum { MAX_FILE = 1 << 20 }; /* bytes; a preset is a few thousand */

/* Fill *cpu from text; false with a message in err. */
static bool parse(struct cpu *cpu, const char *file, const char *text, char *err, size_t errlen)
{
    struct parser p = {.file = file, .text = text, .cpu = cpu, .err = err, .errlen = errlen};
    return cpu_ini_read(&p) && cpu_ini_check(&p);
}

/* Whole file as a string, or NULL with err and *code. */
static char *read_file(const char *path, char *err, size_t errlen, int *code)
{
    FILE *f = fopen(path, "rb");
    char *text = f ? meta_calloc(META_MMU, 1, MAX_FILE + 1) : NULL;
    size_t n = f ? fread(text, 1, MAX_FILE + 1, f) : 0;
    *code = NB_NOINPUT;
    if (!f || ferror(f)) {
        snprintf(err, errlen, "%s: cannot read it: %s", path, strerror(errno));
    } else if (n > MAX_FILE || memchr(text, 0, n)) {
        *code = NB_DATAERR;
        snprintf(err, errlen, "%s: not a CPU preset: %s", path,
                 n > MAX_FILE ? "larger than 1 MiB" : "it is a binary file");
    } else {
        text[n] = 0;
        *code = NB_OK;
    }
    if (f)
        fclose(f);
    if (*code != NB_OK && text) {
        meta_free(META_MMU, text);
        text = NULL;
    }
    return text;
}

static const struct cpu_preset *find_preset(const char *name)
{
    for (size_t i = 0; i < cpu_preset_count; i++)
        if (strcmp(cpu_presets[i].name, name) == 0)
            return &cpu_presets[i];
    return NULL;
}

static void unknown_preset(const char *name, char *err, size_t errlen)
{
    struct choices c;
    cpu_ini_choose(&c, name, cpu_presets, cpu_preset_count, sizeof cpu_presets[0]);
    snprintf(err, errlen,
             "unknown CPU preset '%s'; %s%s%spresets are %s; a file is a name with '/' or "
             "ending in .ini",
             name, c.nearest ? "did you mean '" : "", c.nearest ? c.nearest : "",
             c.nearest ? "'? " : "", c.list);
}

static bool is_path(const char *name)
{
    size_t n = strlen(name);
    return strchr(name, '/') || (n >= 4 && strcmp(name + n - 4, ".ini") == 0);
}

/* "dir/skx.ini" -> "skx" */
static void base_name(char *out, size_t room, const char *path)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, room, "%s", slash ? slash + 1 : path);
    size_t n = strlen(out);
    if (n > 4 && strcmp(out + n - 4, ".ini") == 0)
        out[n - 4] = 0;
}

static struct cpu *from_text(const char *name, const char *source, const char *text, char *err,
                             size_t errlen)
{
    struct cpu *c = meta_calloc(META_MMU, 1, sizeof *c);
    base_name(c->name, sizeof c->name, name);
    snprintf(c->source, sizeof c->source, "%s", source);
    if (parse(c, name, text, err, errlen))
        return c;
    meta_free(META_MMU, c);
    return NULL;
}

const struct cpu *cpu_load(const char *name, char *err, size_t errlen, int *code)
{
    struct cpu *c = NULL;
    *code = NB_OK;
    if (is_path(name)) {
        char *text = read_file(name, err, errlen, code);
        if (!text)
            return NULL;
        c = from_text(name, name, text, err, errlen);
        meta_free(META_MMU, text);
    } else {
        const struct cpu_preset *p = find_preset(name);
        if (!p) {
            unknown_preset(name, err, errlen);
            *code = NB_USAGE;
            return NULL;
        }
        c = from_text(name, "built in", p->text, err, errlen);
    }
    if (!c)
        *code = NB_DATAERR;
    return c;
}

void cpu_free(const struct cpu *c)
{
    union {
        const struct cpu *in;
        void *out;
    } u = {c};
    if (c)
        meta_free(META_MMU, u.out);
}

const char *cpu_preset_summary(const struct cpu_preset *preset)
{
    static char summaries[MAX_PRESETS][sizeof((struct cpu *)0)->summary];
    size_t i = (size_t)(preset - cpu_presets);
    char err[256];
    int code;
    if (i >= MAX_PRESETS || summaries[i][0])
        return i < MAX_PRESETS ? summaries[i] : "";
    const struct cpu *c = cpu_load(preset->name, err, sizeof err, &code);
    snprintf(summaries[i], sizeof summaries[i], "%s", c ? c->summary : "(broken preset)");
    cpu_free(c);
    return summaries[i];
}
