#include "base/checked.h"
#include <stdlib.h>

void *dc_calloc(size_t n, size_t size)
{
    uint64_t bytes;
    if (!dc_mul_u64(n, size, &bytes) || bytes > SIZE_MAX / 2) return NULL;
    return calloc(bytes ? n : 1, bytes ? size : 1);
}
