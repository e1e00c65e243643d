/* registry.h: plug-ins register themselves.
 *
 * A strategy, workload, engine or trace format is one file that ends in
 *
 *     REGISTER(paging, ept, .summary = "...", .walk = walk, ...);
 *
 * which defines `const struct paging ept` named "ept" and puts its address in the linker section
 * reg_paging. Whoever needs the list says REGISTRY(paging) once at file scope and then
 *
 *     FOR_EACH(paging, p) printf("%s  %s\n", p->name, p->summary);
 *
 * The order of a section is link order; print lists through reg_sorted() so that output never
 * depends on it. Every registered struct has `const char *name, *summary` as its first members.
 * A name that is no C identifier (shadow-kvm) is given with REGISTER_AS(kind, ident, "name", ...).
 */
#ifndef NB_BASE_REGISTRY_H
#define NB_BASE_REGISTRY_H

#include <stddef.h>

/* Clang's AddressSanitizer would put padding between entries; gcc's leaves named sections alone. */
#ifdef __clang__
#define REG_ENTRY(kind) section("reg_" #kind), used, no_sanitize("address")
#else
#define REG_ENTRY(kind) section("reg_" #kind), used
#endif

#define REGISTER_AS(kind, ident, str, ...)                                                      \
    static const struct kind reg_##kind##_##ident = {.name = str, __VA_ARGS__};                 \
    static const struct kind *const reg_##kind##_##ident##_p __attribute__((REG_ENTRY(kind))) = \
        &reg_##kind##_##ident
#define REGISTER(kind, ident, ...) REGISTER_AS(kind, ident, #ident, __VA_ARGS__)

#define REGISTRY(kind)                                                          \
    extern const struct kind *const __start_reg_##kind[] __attribute__((weak)); \
    extern const struct kind *const __stop_reg_##kind[] __attribute__((weak))

#define FOR_EACH(kind, var)                                                   \
    for (const struct kind *const *var##_p = __start_reg_##kind, *var = NULL; \
         var##_p < __stop_reg_##kind && (var = *var##_p, 1); var##_p++)

#define REG_COUNT(kind) ((size_t)(__stop_reg_##kind - __start_reg_##kind))

/* What every registered struct begins with. */
struct reg_head {
    const char *name, *summary;
};

/* Entry called `name`, or NULL. `start`, `stop`: the section bounds. */
const void *reg_find(const void *start, const void *stop, const char *name);
#define REG_FIND(kind, str) \
    ((const struct kind *)reg_find(__start_reg_##kind, __stop_reg_##kind, (str)))

/* Entries sorted by name into out[n], n = number of entries; out must have room for max. */
size_t reg_sorted(const void *start, const void *stop, const struct reg_head **out, size_t max);
#define REG_SORTED(kind, out, max) reg_sorted(__start_reg_##kind, __stop_reg_##kind, (out), (max))

/* A name that two entries share, or NULL. */
const char *reg_duplicate(const void *start, const void *stop);
#define REG_DUPLICATE(kind) reg_duplicate(__start_reg_##kind, __stop_reg_##kind)

/* The name nearest to `wrong` by edit distance, or NULL when none is near enough to suggest. */
const char *reg_nearest(const void *start, const void *stop, const char *wrong);
#define REG_NEAREST(kind, str) reg_nearest(__start_reg_##kind, __stop_reg_##kind, (str))

/* Edit distance (Levenshtein) of two short strings; for "did you mean" elsewhere. */
unsigned edit_distance(const char *a, const char *b);

#endif
