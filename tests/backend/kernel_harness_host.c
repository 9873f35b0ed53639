/* Reads kernel calls from standard input and writes the output memory of each, until the end.
 * Every blob is an allocation of its own, so that the sanitizer sees each byte past its end. */
#include <stdio.h>
#include <stdlib.h>

#include "kernel_harness_calls.h"

static int take(void *data, size_t bytes)
{
    return fread(data, 1, bytes, stdin) == bytes;
}

int main(void)
{
    harness_call call;
    while (take(&call, sizeof call)) {
        int32_t sizes[BLOBS];
        void *blob[BLOBS];
        if (!take(sizes, sizeof sizes)) {
            return 2;
        }
        for (int i = 0; i < BLOBS; i++) {
            blob[i] = sizes[i] > 0 ? malloc((size_t)sizes[i]) : NULL;
            if (sizes[i] > 0 && (blob[i] == NULL || !take(blob[i], (size_t)sizes[i]))) {
                return 3;
            }
        }
        harness_run(call, blob);
        fwrite(blob[OUT], 1, (size_t)sizes[OUT], stdout);
        fflush(stdout);
        for (int i = 0; i < BLOBS; i++) {
            free(blob[i]);
        }
    }
    return 0;
}
