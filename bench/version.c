/* version.c: the only object that knows the commit, so that a commit recompiles one file. */
#include "bench/version.h"

#ifndef NB_VERSION
#define NB_VERSION "0"
#endif
#ifndef NB_GIT
#define NB_GIT "unknown"
#endif
#ifndef NB_DIFF
#define NB_DIFF ""
#endif
#ifndef NB_OPT
#define NB_OPT ""
#endif
#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

const char nb_version[] = NB_VERSION;
const char nb_git[] = NB_GIT;
const char nb_diff[] = NB_DIFF;
const char nb_compiler[] = COMPILER " " NB_OPT;
