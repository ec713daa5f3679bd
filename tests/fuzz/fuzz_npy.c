/* The .npy reader on any bytes: refused with a message, or an array of just the bytes that its shape says. */
#include "base/npy.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void need(bool x)
{
    if (!x) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static int file = -1;
    static char path[64];
    dc_npy a;
    dc_error e = {0};
    if (file < 0) {
        file = memfd_create("input", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    need(ftruncate(file, 0) == 0 && pwrite(file, bytes, n, 0) == (ssize_t)n);
    dc_status s = dc_npy_read(&a, path, &e);
    need(s == e.code && (s == DC_OK ? a.data != NULL : !a.data && s == DC_DATA && strstr(e.text, path)));
    if (s) return 0;
    uint64_t size = (uint64_t)(a.kind[1] - '0'); /* "f4" */
    need(a.rank >= 0 && a.rank <= DC_NPY_MAX_RANK && a.bytes <= n);
    for (int i = 0; i < a.rank; i++) need(a.dim[i] >= 0), size *= (uint64_t)a.dim[i];
    need(size == a.bytes && (!size || !memcmp((const char *)a.data + size - 1, bytes + n - 1, 1)));
    free(a.data);
    return 0;
}
