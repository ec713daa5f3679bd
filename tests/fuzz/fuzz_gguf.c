/* The GGUF reader on any bytes: it refuses with a message, or every tensor lies inside the file and can be read as floats. With FUZZ_COUNT in
 * the environment it tells at its end how many inputs passed the first checks (magic, version, counts), and how many were read. */
#include "backends/backend.h"
#include "weights/reader.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n, size_t max) __attribute__((weak)); /* not there when a corpus is replayed */

static unsigned long inputs, begun, accepted;

static void need(bool x)
{
    if (!x) abort();
}

static void tell(void)
{
    if (getenv("FUZZ_COUNT")) fprintf(stderr, "%lu inputs, %lu passed the first checks, %lu were read\n", inputs, begun, accepted);
}

static void check(const dc_container *k)
{
    for (int i = 0; i < k->n_tensors; i++) {
        const dc_stored *t = &k->tensor[i];
        const uint8_t *at = t->data;
        int64_t numbers = 1, some;
        float v[300];
        need(at >= k->map.data + 24 && at <= k->map.data + k->map.size && t->bytes <= (uint64_t)(k->map.data + k->map.size - at));
        need(t->rank >= 0 && t->rank <= DC_MAX_RANK && strlen(t->name) <= DC_MAX_NAME);
        need(i == 0 || strcmp(t[-1].name, t->name) < 0);
        for (int d = 0; d < t->rank; d++) need(t->dim[d] >= 0 && !__builtin_mul_overflow(numbers, t->dim[d], &numbers));
        need((uint64_t)(numbers / dc_dtype_block(t->dtype)) * dc_dtype_size(t->dtype) == t->bytes);
        some = numbers < 300 ? numbers : 300;
        const dc_source s = {at, t->dtype, 1, 0};
        dc_source_floats(&s, 0, some, v);
        dc_source_floats(&s, numbers - some, some, v);
    }
    for (int i = 0; i < k->n_metadata; i++) {
        need(*k->metadata[i].key && k->metadata[i].value && strlen(k->metadata[i].value) < k->map.size + 32);
        need(i == 0 || strcmp(k->metadata[i - 1].key, k->metadata[i].key) < 0);
    }
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
        atexit(tell);
    }
    need(ftruncate(file, 0) == 0 && pwrite(file, bytes, n, 0) == (ssize_t)n);
    dc_status s = dc_gguf_open(&k, path, &e);
    need(s == e.code && (s == DC_OK || (s == DC_DATA && strstr(e.text, "found") && !strchr(e.text, '\n'))));
    inputs++;
    begun += s == DC_OK || !(strstr(e.text, ": beginning:") || strstr(e.text, ": version:") || strstr(e.text, ": number of "));
    accepted += s == DC_OK;
    if (!s) check(&k);
    dc_container_close(&k);
    return 0;
}

/* ---- mutants that are still files ------------------------------------------------------------------------------------- */

enum { FIELDS = 512 };

/* Where the numbers of a header are, found by walking through it as far as it makes sense. */
typedef struct walk {
    uint8_t *bytes;
    size_t n, at;
    struct {
        size_t at, size;
    } field[FIELDS];
    int fields;
    bool lost;
} walk;

static uint64_t number(walk *w, size_t size)
{
    uint64_t v = 0;
    if (w->lost || size > w->n - w->at) return w->lost = true, 0;
    memcpy(&v, w->bytes + w->at, size);
    if (w->fields < FIELDS) w->field[w->fields].at = w->at, w->field[w->fields++].size = size;
    w->at += size;
    return v;
}

static void bytes(walk *w, uint64_t n)
{
    if (w->lost || n > w->n - w->at) w->lost = true;
    else w->at += n;
}

static void value(walk *w, uint64_t type)
{
    static const uint8_t size[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    uint64_t one = type == 9 ? number(w, 4) : type, n = type == 9 ? number(w, 8) : 1;
    for (uint64_t i = 0; !w->lost && i < n; i++) {
        if (one == 8) bytes(w, number(w, 8));
        else if (one > 12 || one == 9) w->lost = true;
        else number(w, size[one]);
    }
}

/* With `repair` tensors get the offsets that they should have. */
static void go(walk *w, bool repair)
{
    static const struct {
        uint64_t type, block, size;
    } kinds[] = {{0, 1, 4}, {1, 1, 2}, {2, 32, 18}, {8, 32, 34}, {12, 256, 144}, {24, 1, 1}, {30, 1, 2}};
    uint64_t offset = 0;
    w->at = 8;
    const uint64_t tensors = number(w, 8), pairs = number(w, 8);
    for (uint64_t i = 0; !w->lost && i < pairs; i++) {
        bytes(w, number(w, 8));
        value(w, number(w, 4));
    }
    for (uint64_t i = 0; !w->lost && i < tensors; i++) {
        bytes(w, number(w, 8));
        uint64_t count = 1, rank = number(w, 4), type, k = 0;
        for (uint64_t d = 0; !w->lost && d < rank; d++) count *= number(w, 8);
        type = number(w, 4);
        number(w, 8);
        if (w->lost || !repair) continue;
        memcpy(w->bytes + w->at - 8, &offset, 8);
        while (k + 1 < sizeof kinds / sizeof *kinds && kinds[k].type != type) k++;
        offset = (offset + count / kinds[k].block * kinds[k].size + 31) / 32 * 32;
    }
}

static void replace_field(walk *w, unsigned *seed)
{
    static const uint64_t values[] = {0,
                                      1,
                                      2,
                                      3,
                                      8,
                                      9,
                                      31,
                                      32,
                                      33,
                                      64,
                                      256,
                                      1025,
                                      65535,
                                      65536,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      0x100000000,
                                      1ull << 40,
                                      1ull << 61,
                                      1ull << 62,
                                      INT64_MAX,
                                      1ull << 63,
                                      UINT64_MAX - 31,
                                      UINT64_MAX - 7,
                                      UINT64_MAX - 1,
                                      UINT64_MAX};
    if (!w->fields) return;
    const int f = (int)((*seed = *seed * 1103515245u + 12345u) >> 8) % w->fields;
    uint64_t v = 0;
    *seed = *seed * 1103515245u + 12345u;
    memcpy(&v, w->bytes + w->field[f].at, w->field[f].size);
    switch (*seed >> 8 & 3) {
    case 0: v += 1; break;
    case 1: v -= 1; break;
    case 2: v = (*seed >> 16) % 43; break; /* ggml's types, and small sizes */
    default: v = values[(*seed >> 16) % (sizeof values / sizeof *values)];
    }
    memcpy(w->bytes + w->field[f].at, &v, w->field[f].size);
}

/* Three of four get other numbers in their header, half of those the offsets that go with them; the others any other bytes. One of eight may
 * lose its magic, its version or its counts: the others should come further than the first checks. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed)
{
    uint8_t head[24];
    const unsigned how = seed % 16;
    const bool kept = how != 0 && how != 4 && n >= sizeof head;
    if (kept) memcpy(head, data, sizeof head);
    if (how < 4 || n < 32) n = LLVMFuzzerMutate(data, n, max);
    if (n < sizeof head) return n;
    walk w = {.bytes = data, .n = n};
    go(&w, false);
    for (unsigned k = 0; how >= 4 && k <= seed / 16 % 3; k++) replace_field(&w, &seed);
    if (kept) memcpy(data, head, sizeof head);
    if (how >= 10) {
        w = (walk){.bytes = data, .n = n};
        go(&w, true);
    }
    return n;
}
