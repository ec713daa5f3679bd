#include "base/checked.h"
#include <stdlib.h>

void *dc_calloc(size_t n, size_t size)
{
    uint64_t bytes;
    if (!dc_mul_u64(n, size, &bytes) || bytes > SIZE_MAX / 2) return NULL;
    return calloc(bytes ? n : 1, bytes ? size : 1);
}

bool dc_grow(void **at, int *room, int n, size_t size)
{
    if (n < *room) return true;
    int more = *room ? *room + *room / 2 : 64;
    void *next = realloc(*at, (size_t)more * size);
    if (!next) return false;
    *at = next;
    *room = more;
    return true;
}
