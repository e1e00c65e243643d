/* fuzz_balloon.c: libFuzzer's way into the balloon's device (balloon_machine.h). */
#include "tests/fuzz/balloon_machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    machine_run(data, size);
    return 0;
}
