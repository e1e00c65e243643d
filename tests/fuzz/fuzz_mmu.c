/* fuzz_mmu.c: libFuzzer's way in: bytes are choices of the program maker (fuzz/generate.c), and the program
 * runs under every strategy. A failure prints the program, for `nestbed fuzz --replay`, and aborts.
 */
#include <stdlib.h>

#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz_config c;
    struct fuzz_totals t = {0};
    struct fuzz_failure f;
    struct fuzz_prog p;
    if (!c.nonly)
        c.nonly = fuzz_strategies(c.only, ARRAY_SIZE(c.only));
    uint64_t number = fuzz_of_bytes(data, size, &p);
    if (fuzz_one(&c, number, &p, &t, &f)) {
        fuzz_shrink(&f);
        printf("# %s: %s\n", f.machine, f.verdict.text);
        program_print(stdout, &f.program);
        fflush(stdout);
        abort();
    }
    program_free(&p);
    return 0;
}
