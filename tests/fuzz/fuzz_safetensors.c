/* The safetensors reader on any bytes: it refuses with a message, or every tensor lies inside the file. The mutator edits the header as text
 * and writes its length anew, so that most inputs come past the first checks; how many is printed at the end. */
#include "mutate.h"
#include "weights/reader.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n, size_t max) __attribute__((weak)); /* not there when a corpus is replayed */

static void need(bool x)
{
    if (!x) abort();
}

static unsigned long inputs, framed, parsed, accepted;

static void tell(void)
{
    if (inputs)
        fprintf(stderr, "safetensors: %lu inputs, %.1f %% with a header that is there, %.1f %% in its form, %.1f %% accepted\n", inputs,
                100.0 * (double)framed / (double)inputs, 100.0 * (double)parsed / (double)inputs, 100.0 * (double)accepted / (double)inputs);
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
        atexit(tell);
        file = memfd_create("input", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    need(ftruncate(file, 0) == 0 && pwrite(file, bytes, n, 0) == (ssize_t)n);
    dc_status s = dc_safetensors_open(&k, path, &e);
    need(s == e.code && (s == DC_OK || (s == DC_DATA && strstr(e.text, "found") && !strchr(e.text, '\n'))));
    inputs++;
    framed += n >= 8 && !strstr(e.text, ": size:") && !strstr(e.text, ": header length:");
    parsed += !s || !strstr(e.text, ": header, byte");
    accepted += !s;
    if (!s) check(&k);
    dc_container_close(&k);
    return 0;
}

/* ---- the mutator ---------------------------------------------------------------------------------------------- */

/* A quoted string of bytes[from, n), its quotes included: where it begins, and *length; n when there is none. */
static size_t find_string(const uint8_t *bytes, size_t from, size_t n, size_t *length, uint64_t *state)
{
    size_t starts[64], k = 0;
    for (size_t i = from; i < n && k < 64; i++)
        if (bytes[i] == '"') {
            starts[k++] = i;
            for (i++; i < n && bytes[i] != '"'; i++) i += bytes[i] == '\\';
        }
    if (!k) return n;
    size_t at = starts[below(state, k)], end = at + 1;
    while (end < n && bytes[end] != '"') end += 1 + (bytes[end] == '\\');
    if (end >= n) return n;
    *length = end + 1 - at;
    return at;
}

/* One string takes the place of another, or becomes a word of the format. */
static size_t change_string(uint8_t *bytes, size_t n, size_t max, uint64_t *state)
{
    static const char *const words[] = {"\"F32\"",          "\"F16\"",          "\"U8\"", "\"F64\"",     "\"F4\"",      "\"dtype\"",   "\"shape\"",
                                        "\"data_offsets\"", "\"__metadata__\"", "\"\"",   "\"\\u0000\"", "\"\\ud800\"", "\"a\\u00e9\""};
    size_t to_length = 0, from_length = 0, to = find_string(bytes, 0, n, &to_length, state), from = find_string(bytes, 0, n, &from_length, state);
    uint8_t copy[256];
    if (to == n || from == n || from_length > sizeof copy) return n;
    const char *word = words[below(state, sizeof words / sizeof *words)];
    if (next_random(state) & 1) return replace(bytes, n, max, to, to_length, word, strlen(word));
    memcpy(copy, bytes + from, from_length);
    return replace(bytes, n, max, to, to_length, copy, from_length);
}

/* One more entry at the beginning, or a piece "...}" twice or away. */
static size_t change_entries(uint8_t *bytes, size_t n, size_t max, uint64_t *state)
{
    char entry[128];
    size_t begin = 0, end;
    while (begin < n && bytes[begin] != '{') begin++;
    if (begin == n) return n;
    if (below(state, 3)) {
        int length = snprintf(entry, sizeof entry, "\"t%zu\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,0]},", below(state, 100),
                              below(state, 2) ? 0 : 1);
        return replace(bytes, n, max, begin + 1, 0, entry, (size_t)length);
    }
    for (end = begin + 1 + below(state, n - begin); end < n && bytes[end] != '}';) end++;
    for (begin = end; begin > 0 && bytes[begin] != '{';) begin--;
    uint8_t copy[512];
    if (end >= n || end - begin >= sizeof copy) return n;
    memcpy(copy, bytes + begin, end + 1 - begin);
    return below(state, 2) ? replace(bytes, n, max, begin, end + 1 - begin, NULL, 0) : replace(bytes, n, max, begin, 0, copy, end + 1 - begin);
}

/* Data is cut or added, so that offsets which were changed may fit again. */
static size_t change_data(uint8_t *bytes, size_t head, size_t n, size_t max, uint64_t *state)
{
    static const uint8_t zeros[64];
    if (below(state, 2)) return replace(bytes, n, max, n, 0, zeros, 1 + below(state, sizeof zeros));
    return n > head ? head + below(state, n - head) : n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t max, unsigned seed)
{
    uint64_t state = seed, head = 0;
    for (int i = 7; i >= 0 && n >= 8; i--) head = head << 8 | bytes[i];
    if (n < 10 || max < n + 64 || head > n - 8 || head < 2 || below(&state, 16) == 0) return LLVMFuzzerMutate(bytes, n, max);
    uint8_t *text = bytes + 8;
    size_t rest = n - 8, room = max - 8, h = (size_t)head;
    for (size_t times = 1 + below(&state, 3); times; times--) {
        size_t before = rest, way = below(&state, 16);
        if (way == 0) {
            rest = change_data(text, h, rest, room, &state);
            continue;
        }
        size_t data = rest - h; /* behind the header: moved with its end */
        uint8_t header[8192];
        if (h > sizeof header / 2) break;
        memcpy(header, text, h);
        size_t to = way < 8    ? change_decimal(header, 0, h, sizeof header, &state)
                    : way < 11 ? change_string(header, h, sizeof header, &state)
                    : way < 14 ? change_entries(header, h, sizeof header, &state)
                               : change_bytes(header, h, sizeof header, &state);
        if (!to || to + data > room) break;
        rest = replace(text, before, room, 0, h, header, to);
        h = to;
    }
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)h >> 8 * i);
    return 8 + rest;
}
