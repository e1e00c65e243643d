/* temp.h: a folder of its own for a test, under $TMPDIR. */
#ifndef NB_TESTS_TEMP_H
#define NB_TESTS_TEMP_H

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static char temp_dir[PATH_MAX]; /* empty until temp_make() */

/* Make the folder; 0, or -1 with errno set. The test removes it. */
static inline int temp_make(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(temp_dir, sizeof temp_dir, "%s/nestbed-test-XXXXXX", tmp && *tmp ? tmp : P_tmpdir);
    return mkdtemp(temp_dir) ? 0 : -1;
}

#endif
