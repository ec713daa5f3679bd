/* The torch reader on any bytes: it refuses with a message, or every tensor can be read. Most mutants are of the pickle, inside an archive
 * whose headers and CRC are right, or of the archive's numbers; few are of the bytes as they come. */
#include "tests/weights/archive.h"
#include "weights/reader.h"
#include "weights/zip.h"
#include <stdio.h>
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

/* The bytes as a file: its path, valid until the next. */
static const char *hold(const uint8_t *bytes, size_t n)
{
    static int file = -1;
    static char path[64];
    if (file < 0) {
        file = memfd_create("input", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    need(ftruncate(file, 0) == 0 && pwrite(file, bytes, n, 0) == (ssize_t)n);
    return path;
}

static void check(const dc_container *k)
{
    volatile uint8_t last = 0;
    uint64_t copied = 0;
    for (int i = 0; i < k->n_tensors; i++) {
        const dc_stored *t = &k->tensor[i];
        const uint8_t *at = t->data;
        uint64_t bytes = dc_dtype_size(t->dtype);
        bool inside = at >= k->map.data && at <= k->map.data + k->map.size;
        need(!inside || t->bytes <= (uint64_t)(k->map.data + k->map.size - at));
        copied += inside ? 0 : t->bytes;
        need(t->rank >= 0 && t->rank <= DC_MAX_RANK && strlen(t->name) <= DC_MAX_NAME && dc_utf8_valid(t->name, strlen(t->name)));
        need(i == 0 || strcmp(t[-1].name, t->name) < 0);
        for (int d = 0; d < t->rank; d++) need(t->dim[d] >= 0), bytes *= (uint64_t)t->dim[d];
        need(bytes == t->bytes);
        for (uint64_t j = 0; j < bytes; j += 64) last = at[j]; /* copies are the heap's: a sanitizer knows their ends */
        if (bytes) last = at[bytes - 1];
    }
    need(copied <= k->map.size && k->n_metadata == 0);
    (void)last;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    dc_container k;
    dc_error e = {0};
    dc_status s = dc_torch_open(&k, hold(bytes, n), &e);
    need(s == e.code && (s == DC_OK || (s == DC_DATA && strstr(e.text, "found") && !strchr(e.text, '\n'))));
    if (!s) check(&k);
    dc_container_close(&k);
    return 0;
}

/* ---- the mutator ----------------------------------------------------------------------------------------------------- */

/* The pickle of an archive; NULL when there is none. The caller frees. */
static char *pickle_of(const uint8_t *bytes, size_t n, size_t *size)
{
    dc_map m;
    dc_zip z = {0};
    char *text = NULL;
    if (dc_map_open(&m, hold(bytes, n), NULL) == DC_OK && dc_zip_open(&z, &m, NULL) == DC_OK)
        for (int i = 0; i < z.n && !text; i++)
            if (strstr(z.entry[i].name, "data.pkl") && dc_zip_read(&z, &z.entry[i], &text, NULL) == DC_OK) *size = z.entry[i].bytes;
    dc_zip_close(&z);
    dc_map_close(&m);
    return text;
}

#define VIEW TENSOR(STORAGE("Short", "0", "\30"), INT("\1"), "(K\2K\3t", "(K\1K\2t")
#define PIECE(text)                                                                                                                                  \
    {                                                                                                                                                \
        text, sizeof text - 1                                                                                                                        \
    }

/* What pickles are made of. */
static const struct {
    const char *text;
    size_t n;
} piece[] = {
    PIECE(A BYTES "s"),
    PIECE(B FLOATS "s"),
    PIECE(BYTES),
    PIECE(FLOATS),
    PIECE(HOOKS),
    PIECE(REBUILD),
    PIECE("ctorch\nHalfStorage\n"),
    PIECE("ctorch._utils\n_rebuild_parameter\n"),
    PIECE("ctorch._tensor\n_rebuild_from_type_v2\n"),
    PIECE("ctorch\nSize\n"),
    PIECE("ctorch._utils\n_rebuild_tensor_v3\n"),
    PIECE("ctorch\nfloat8_e5m2\n"),
    PIECE("cposix\nsystem\n"),
    PIECE("\x8c\1a\x8c\1b\x93"),
    PIECE(TEXT("\12", "state_dict")),
    PIECE(TEXT("\7", "module.")),
    PIECE("(" A "\x94"),
    PIECE("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
    PIECE("\x8a\x08\0\0\0\0\0\0\0\x40"),
    PIECE("J\xff\xff\xff\xff"),
    PIECE("J\0\0\0\x40"),
    PIECE("K\3"),
    PIECE("\x85"),
    PIECE("\x86"),
    PIECE("\x87"),
    PIECE("("),
    PIECE("t"),
    PIECE("u"),
    PIECE("e"),
    PIECE("s"),
    PIECE("}"),
    PIECE("]"),
    PIECE(")"),
    PIECE("R"),
    PIECE("Q"),
    PIECE("b"),
    PIECE("\x81"),
    PIECE("\x93"),
    PIECE("q\1"),
    PIECE("h\1"),
    PIECE("\x94"),
    PIECE("0"),
    PIECE("1"),
    PIECE("2"),
    PIECE("N"),
    PIECE("I1\n"),
    PIECE("L12L\n"),
    PIECE("S'a'\n"),
    PIECE("Va\n"),
    PIECE("p1\n"),
    PIECE("g1\n"),
    PIECE("r\1\0\0\0"),
    PIECE("j\1\0\0\0"),
    PIECE("."),
};
#define PIECES (sizeof piece / sizeof *piece)

static unsigned next(unsigned *seed) { return (*seed = *seed * 1103515245u + 12345u) >> 12; }

/* Puts piece i in at byte `to`, over `over` bytes that were there. */
static size_t put_piece(char *at, size_t n, size_t room, size_t i, size_t to, size_t over)
{
    if (over > n - to) over = n - to;
    if (piece[i].n > room - (n - over)) return n;
    memmove(at + to + piece[i].n, at + to + over, n - to - over);
    memcpy(at + to, piece[i].text, piece[i].n);
    return n - over + piece[i].n;
}

/* One change of a pickle: a piece put in behind another one, or in its place, or anywhere; a number changed; any bytes changed. */
static size_t change(char *at, size_t n, size_t room, unsigned *seed)
{
    unsigned how = next(seed) % 8;
    size_t i = next(seed) % PIECES, k = next(seed) % PIECES, from = next(seed) % (n + 1);
    const char *there = memmem(at + from, n - from, piece[k].text, piece[k].n);
    if (how < 3 && there) return put_piece(at, n, room, i, (size_t)(there - at) + piece[k].n, 0);
    if (how < 4 && there) return put_piece(at, n, room, i, (size_t)(there - at), piece[k].n);
    if (how < 5) return put_piece(at, n, room, i, from, next(seed) % 4);
    char *number = memchr(at + from, how < 7 ? 'K' : 'J', n - from);
    if (how < 8 && number && number + 1 < at + n) number[1 + (how == 7 && number + 4 < at + n) * (next(seed) % 4)] ^= (char)(1 << next(seed) % 8);
    return how < 7 ? n : LLVMFuzzerMutate((uint8_t *)at, n, room);
}

/* A new one: a dictionary, its rows mostly whole. */
static size_t invent(char *at, size_t room, unsigned *seed)
{
    size_t n = 3;
    memcpy(at, "\x80\2}", 3);
    for (unsigned rows = next(seed), k = 0; k < 4; k++) /* the first four pieces are rows of names of their own */
        if (rows >> k & 1) n = put_piece(at, n, room, k, n, 0);
    if (next(seed) % 4 == 0) n = put_piece(at, n, room, next(seed) % PIECES, n, 0);
    at[n] = '.';
    return n + 1;
}

static size_t take(archive *a, uint8_t *bytes, size_t n, size_t max)
{
    bool fits = a->file.length <= max;
    if (fits) memcpy(bytes, a->file.at, a->file.length), n = a->file.length;
    archive_free(a);
    return fits ? n : 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t max, unsigned seed)
{
    char pickle[4096];
    size_t size = 0;
    if (next(&seed) % 8 == 0) return LLVMFuzzerMutate(bytes, n, max);
    char *old = pickle_of(bytes, n, &size);
    if (old && size < sizeof pickle && next(&seed) % 16) memcpy(pickle, old, size);
    else size = invent(pickle, sizeof pickle - 1, &seed);
    free(old);
    for (unsigned k = next(&seed) % 3; k; k--) size = change(pickle, size, sizeof pickle, &seed);
    archive a = {.described = next(&seed) & 1, .wide = next(&seed) & 1};
    archive_torch(&a, pickle, size);
    unsigned spoil = next(&seed) % 8, entry = next(&seed) % 5, byte = next(&seed), bit = next(&seed) % 8;
    if (spoil == 0) a.file.at[a.central[entry] + byte % 46] ^= (char)(1 << bit);
    if (spoil == 1) a.file.at[a.local[entry] + byte % 30] ^= (char)(1 << bit);
    size_t made = take(&a, bytes, n, max);
    return made ? made : LLVMFuzzerMutate(bytes, n, max);
}
