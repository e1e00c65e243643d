/* version.h: what `nestbed --version` and every record say. */
#ifndef NB_BENCH_VERSION_H
#define NB_BENCH_VERSION_H

extern const char nb_version[]; /* "0.1.0" */
extern const char
    nb_git[]; /* abbreviated commit, "-dirty" when the tree had changes, or "unknown" */
extern const char nb_diff[];     /* hash of those changes, or "" */
extern const char nb_compiler[]; /* "gcc 12.2.0 -O2 ..." */

#endif
