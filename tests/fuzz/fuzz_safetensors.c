/* The safetensors reader on any bytes: it refuses with a message, or every tensor lies inside the file. */
#include "weights/reader.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n, size_t max) __attribute__((weak)); /* not there when a corpus is replayed */

static void need(bool x)
{
    if (!x) abort();
}

static void check(const dc_container *k)
{
    volatile uint8_t last = 0;
    for (int i = 0; i < k->n_tensors; i++) {
        const dc_stored *t = &k->tensor[i];
        const uint8_t *at = t->data;
        uint64_t bytes = dc_dtype_size(t->dtype);
        need(at >= k->map.data + 8 && at <= k->map.data + k->map.size && t->bytes <= (uint64_t)(k->map.data + k->map.size - at));
        need(t->rank >= 0 && t->rank <= DC_MAX_RANK && strlen(t->name) <= DC_MAX_NAME);
        need(i == 0 || strcmp(t[-1].name, t->name) < 0);
        for (int d = 0; d < t->rank; d++) need(t->dim[d] >= 0), bytes *= (uint64_t)t->dim[d];
        need(bytes == t->bytes);
        if (bytes) last = at[bytes - 1];
    }
    for (int i = 0; i < k->n_metadata; i++) need(strlen(k->metadata[i].key) + strlen(k->metadata[i].value) < k->header_bytes);
    (void)last;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static int file = -1;
    static char path[64];
    dc_container k;
    dc_error e = {0};
    if (file < 0) {
        file = memfd_create("input", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    need(ftruncate(file, 0) == 0 && pwrite(file, bytes, n, 0) == (ssize_t)n);
    dc_status s = dc_safetensors_open(&k, path, &e);
    need(s == e.code && (s == DC_OK || (s == DC_DATA && strstr(e.text, "found") && !strchr(e.text, '\n'))));
    if (!s) check(&k);
    dc_container_close(&k);
    return 0;
}

/* Most mutants should pass the first check: three of four get a header length that ends at a closing brace. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t max, unsigned seed)
{
    n = LLVMFuzzerMutate(bytes, n, max);
    if (n < 10 || seed % 4 == 0) return n;
    uint64_t head = n - 8;
    for (size_t at = n, skip = seed / 4 % 3; at > 8; at--) /* the last brace, or one before it */
        if (bytes[at - 1] == '}' && !skip--) {
            head = at - 8;
            break;
        }
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(head >> 8 * i);
    return n;
}
