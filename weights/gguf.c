/* gguf.c - the GGUF container, versions 2 and 3, little-endian: "GGUF", version u32, counts of tensors and of pairs u64; pairs: key, type
 * u32, value; tensors: name, dimensions u32, sizes u64 each (the fastest first), type u32, offset u64; padding; data. Strings have their
 * length before them, u64. Ref: gguf.cpp of ggml and its checks; docs/gguf.md. Data begins at a multiple of general.alignment, so does each
 * tensor, without any other hole. Besides ggml's checks, refused: NUL and what is not UTF-8 in names, keys and values; more than DC_MAX_NAME
 * bytes of name (ggml's 63 are too few for whole models), 262,144 tensors, 65,536 pairs, 65,535 bytes of key, 64 MiB of string, an alignment
 * of more than 64 KiB, 100,000,000 bytes before the data; types that dc_dtype has not.
 *
 * Pairs with a string or a number become metadata; of lists only comfy.gguf.orig_shape.NAME is kept, the shape that tensor NAME had before it
 * was flattened for its blocks (ComfyUI-GGUF): as many numbers, but rows that may end within a block.
 *
 * The header is read through a small window: what is skipped costs no memory. */
#include "base/checked.h"
#include "base/text.h"
#include "weights/reader.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_KEY       65535u
#define MAX_STRING    (64u << 20)
#define MAX_ALIGNMENT (64u << 10)
#define SHAPE_OF      "comfy.gguf.orig_shape."

enum {
    WINDOW = 16384,
    MAX_DIMS = 4,
    LEAST_PAIR = 8 + 1 + 4 + 1,      /* bytes that one takes at least */
    LEAST_TENSOR = 8 + 4 + 0 + 4 + 8 /* likewise */
};

/* The shape a tensor had. */
typedef struct original {
    const char *name;
    int pair, rank; /* number of its pair, in the order of the file */
    const int64_t *dim;
} original;

/* A file being read. Strings go to `text` and numbers of shapes to k->dims in the order of the file, where they may still move; pointers to
 * them are set by `settle`. */
typedef struct reading {
    dc_container *k;
    const char *path;
    dc_error *e;
    uint64_t at; /* byte of the file that comes next */
    uint64_t begin, held;
    uint8_t window[WINDOW]; /* the `held` bytes from `begin` on */
    dc_text text;
    int dims_room, n_dims;
    original *original;
    int original_room, n_originals;
    uint64_t alignment;
    uint64_t next, end; /* where the next tensor must begin, and the last one ends, from the beginning of the data */
} reading;

/* ---- bytes ----------------------------------------------------------------------------------------------------- */

/* "FILE: header, byte N: WHAT: found X, expected Y" */
#define bad(r, byte, what, format, ...)                                                                                                              \
    dc_fail((r)->e, DC_DATA, "%s: header, byte %llu: %s: " format, (r)->path, (unsigned long long)(byte), what, __VA_ARGS__)

static dc_status cut_short(dc_error *e, dc_status s)
{
    dc_hint(e, "The file is cut short, as after an unfinished download, or damaged.");
    return s;
}

/* The next n bytes belong to the header. */
static dc_status check_room(reading *r, uint64_t n, const char *what)
{
    const uint64_t size = r->k->map.size;
    if (!dc_in_range(r->at, n, size))
        return cut_short(r->e, bad(r, r->at, what, "found %llu bytes up to the end of the file, expected %llu", (unsigned long long)(size - r->at),
                                   (unsigned long long)n));
    if (!dc_in_range(r->at, n, DC_MAX_HEADER)) return bad(r, r->at, what, "found a header of more than %u bytes, expected fewer", DC_MAX_HEADER);
    return DC_OK;
}

static dc_status skip(reading *r, uint64_t n, const char *what)
{
    dc_status s = check_room(r, n, what);
    if (!s) r->at += n;
    return s;
}

static dc_status take(reading *r, void *to, uint64_t n, const char *what)
{
    dc_status s = check_room(r, n, what);
    for (char *out = to; !s && n;) {
        if (!dc_in_range(r->at - r->begin, 1, r->held)) { /* nothing lies before `begin`: `at` only grows */
            uint64_t left = r->k->map.size - r->at;
            r->begin = r->at;
            r->held = left < WINDOW ? left : WINDOW;
            s = dc_map_read(&r->k->map, r->begin, r->window, r->held, "header", r->e);
            if (s) return s;
        }
        const uint64_t from = r->at - r->begin, some = r->held - from < n ? r->held - from : n;
        memcpy(out, r->window + from, some);
        out += some;
        r->at += some;
        n -= some;
    }
    return s;
}

/* A string to r->text; *at is where it begins there. */
static dc_status take_string(reading *r, uint64_t most, size_t *at, const char *what)
{
    const uint64_t byte = r->at;
    uint64_t n;
    dc_status s = take(r, &n, sizeof n, what);
    if (s) return s;
    if (n > most) return bad(r, byte, what, "found %llu bytes, expected at most %llu", (unsigned long long)n, (unsigned long long)most);
    s = check_room(r, n, what);
    *at = r->text.length;
    for (uint64_t left = n; !s && left;) {
        char some[4096];
        const uint64_t m = left < sizeof some ? left : sizeof some;
        s = take(r, some, m, what);
        if (!s) dc_text_append(&r->text, some, m);
        left -= m;
    }
    if (s) return s;
    dc_text_append(&r->text, "", 1);
    if (r->text.failed) return dc_fail_memory(r->e, r->path, r->text.length + n + 1);
    if (strlen(r->text.at + *at) != n) return bad(r, byte, what, "found %s, expected text without it", "a NUL");
    if (!dc_utf8_valid(r->text.at + *at, n)) return bad(r, byte, what, "found \"%.60s\", expected UTF-8", r->text.at + *at);
    return DC_OK;
}

static dc_status keep_dim(reading *r, int64_t n)
{
    dc_container *k = r->k;
    if (!dc_grow((void **)&k->dims, &r->dims_room, r->n_dims, sizeof *k->dims)) return dc_fail_memory(r->e, r->path, (uint64_t)r->dims_room * 12);
    k->dims[r->n_dims++] = n;
    return DC_OK;
}

/* ---- pairs ---------------------------------------------------------------------------------------------------------- */

typedef enum value_type { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, VALUE_TYPES } value_type;
static const uint8_t value_bytes[VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

/* A number or truth value as text, and as a whole number from 0 to 2^63-1, or -1. */
typedef struct scalar {
    char text[32];
    int64_t whole;
} scalar;

static dc_status take_scalar(reading *r, value_type t, scalar *v, const char *what)
{
    union {
        uint8_t raw[8];
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        float f32;
        uint64_t u64;
        int64_t i64;
        double f64;
    } n = {{0}};
    dc_status s = take(r, n.raw, value_bytes[t], what);
    int64_t whole = t == U8 ? n.u8 : t == I8 ? n.i8 : t == U16 ? n.u16 : t == I16 ? n.i16 : t == U32 ? n.u32 : t == I32 ? n.i32 : n.i64;
    const bool real = t == F32 || t == F64 || t == BOOL;
    v->whole = real || whole < 0 ? -1 : whole; /* a u64 from 2^63 on: -1 as well */
    if (t == F32) snprintf(v->text, sizeof v->text, "%.9g", (double)n.f32);
    else if (t == F64) snprintf(v->text, sizeof v->text, "%.17g", n.f64);
    else if (t == BOOL) snprintf(v->text, sizeof v->text, "%s", n.u8 ? "true" : "false");
    else if (t == U64) snprintf(v->text, sizeof v->text, "%llu", (unsigned long long)n.u64);
    else snprintf(v->text, sizeof v->text, "%lld", (long long)whole);
    return s;
}

/* comfy.gguf.orig_shape.NAME, `count` numbers of type t. */
static dc_status take_shape(reading *r, value_type t, uint64_t count, uint64_t byte, const char *key)
{
    if (t == F32 || t == F64 || t == BOOL || t == STRING) return bad(r, byte, key, "found values of type %d, expected whole numbers", (int)t);
    if (count > DC_MAX_RANK) return bad(r, byte, key, "found %llu dimensions, expected at most %d", (unsigned long long)count, DC_MAX_RANK);
    if (!dc_grow((void **)&r->original, &r->original_room, r->n_originals, sizeof *r->original))
        return dc_fail_memory(r->e, r->path, (uint64_t)r->original_room * sizeof *r->original);
    r->original[r->n_originals++] = (original){.pair = r->k->n_metadata, .rank = (int)count};
    dc_status s = DC_OK;
    for (uint64_t i = 0; !s && i < count; i++) {
        scalar v;
        s = take_scalar(r, t, &v, key);
        if (!s && v.whole < 0) s = bad(r, byte, key, "found %s, expected sizes from 0 on", v.text);
        if (!s) s = keep_dim(r, v.whole);
    }
    return s;
}

/* The lists that are kept, and the others skipped within the file's bounds. */
static dc_status take_array(reading *r, uint64_t byte, const char *key)
{
    uint32_t t;
    uint64_t n, bytes;
    dc_status s = take(r, &t, sizeof t, "type of a list");
    if (!s) s = take(r, &n, sizeof n, "length of a list");
    if (s) return s;
    if (t >= VALUE_TYPES || t == ARRAY)
        return bad(r, byte, key, "found a list of values of type %u, expected 0 to 12 and no list of lists", (unsigned)t);
    const uint64_t left = r->k->map.size - r->at, each = t == STRING ? 8 : value_bytes[t];
    if (!dc_mul_u64(n, each, &bytes) || bytes > left)
        return cut_short(r->e, bad(r, byte, key, "found a list of %llu values, expected at most the %llu that fit into the rest of the file",
                                   (unsigned long long)n, (unsigned long long)(left / each)));
    if (!strncmp(key, SHAPE_OF, strlen(SHAPE_OF))) return take_shape(r, (value_type)t, n, byte, key);
    if (t != STRING) return skip(r, bytes, "list");
    for (uint64_t i = 0; !s && i < n; i++) {
        s = take(r, &bytes, sizeof bytes, "string in a list");
        if (!s) s = skip(r, bytes, "string in a list");
    }
    return s;
}

static dc_status check_alignment(reading *r, value_type t, const scalar *v, uint64_t byte)
{
    if (t != U32) return bad(r, byte, "general.alignment", "found a value of type %d, expected a whole number of 32 bits", (int)t);
    if (v->whole < 1 || v->whole > MAX_ALIGNMENT || (v->whole & (v->whole - 1)))
        return bad(r, byte, "general.alignment", "found %s, expected a power of two up to %u", v->text, MAX_ALIGNMENT);
    r->alignment = (uint64_t)v->whole;
    return DC_OK;
}

/* The value of a pair; *kept: as text behind the key. */
static dc_status take_value(reading *r, uint32_t t, uint64_t byte, const char *key, bool *kept)
{
    size_t at;
    scalar v = {.whole = -1};
    const bool aligns = !strcmp(key, "general.alignment");
    *kept = t != ARRAY;
    if (t == ARRAY && !aligns) return take_array(r, byte, key);
    if (t != ARRAY && !strncmp(key, SHAPE_OF, strlen(SHAPE_OF))) return bad(r, byte, key, "found a value of type %u, expected a list", (unsigned)t);
    if (t == STRING && !aligns) return take_string(r, MAX_STRING, &at, "string");
    dc_status s = t == STRING || t == ARRAY ? DC_OK : take_scalar(r, (value_type)t, &v, "value");
    if (!s && aligns) s = check_alignment(r, (value_type)t, &v, byte);
    if (!s) dc_text_append(&r->text, v.text, strlen(v.text) + 1);
    return s ? s : r->text.failed ? dc_fail_memory(r->e, r->path, r->text.length) : DC_OK;
}

static dc_status take_pair(reading *r)
{
    dc_container *k = r->k;
    const uint64_t byte = r->at;
    size_t at;
    uint32_t t;
    bool kept = false;
    dc_status s = take_string(r, MAX_KEY, &at, "key");
    if (!s && !r->text.at[at]) s = bad(r, byte, "key", "found %s, expected a name", "an empty one");
    if (!s) s = take(r, &t, sizeof t, "type of a value");
    if (s) return s;
    char key[240]; /* as far as messages show it; longer ones are none that mean something here */
    snprintf(key, sizeof key, "%s", r->text.at + at);
    if (t >= VALUE_TYPES) return bad(r, byte, key, "found a value of type %u, expected 0 to 12", (unsigned)t);
    s = take_value(r, t, byte, key, &kept);
    k->metadata[k->n_metadata++].value = kept ? "" : NULL;
    return s;
}

/* ---- tensors ------------------------------------------------------------------------------------------------------------ */

/* ggml's types by number; DC_DTYPES: not read. "": a number that is none. */
static const struct {
    const char *name;
    dc_dtype dtype;
} types[] = {{"F32", DC_F32},       {"F16", DC_F16},           {"Q4_0", DC_Q4_0},         {"Q4_1", DC_Q4_1},         {"Q4_2", DC_DTYPES},
             {"Q4_3", DC_DTYPES},   {"Q5_0", DC_Q5_0},         {"Q5_1", DC_Q5_1},         {"Q8_0", DC_Q8_0},         {"Q8_1", DC_DTYPES},
             {"Q2_K", DC_Q2_K},     {"Q3_K", DC_Q3_K},         {"Q4_K", DC_Q4_K},         {"Q5_K", DC_Q5_K},         {"Q6_K", DC_Q6_K},
             {"Q8_K", DC_DTYPES},   {"IQ2_XXS", DC_DTYPES},    {"IQ2_XS", DC_DTYPES},     {"IQ3_XXS", DC_DTYPES},    {"IQ1_S", DC_DTYPES},
             {"IQ4_NL", DC_DTYPES}, {"IQ3_S", DC_DTYPES},      {"IQ2_S", DC_DTYPES},      {"IQ4_XS", DC_DTYPES},     {"I8", DC_I8},
             {"I16", DC_I16},       {"I32", DC_I32},           {"I64", DC_I64},           {"F64", DC_F64},           {"IQ1_M", DC_DTYPES},
             {"BF16", DC_BF16},     {"Q4_0_4_4", DC_DTYPES},   {"Q4_0_4_8", DC_DTYPES},   {"Q4_0_8_8", DC_DTYPES},   {"TQ1_0", DC_DTYPES},
             {"TQ2_0", DC_DTYPES},  {"IQ4_NL_4_4", DC_DTYPES}, {"IQ4_NL_4_8", DC_DTYPES}, {"IQ4_NL_8_8", DC_DTYPES}, {"MXFP4", DC_DTYPES},
             {"NVFP4", DC_DTYPES},  {"Q1_0", DC_DTYPES}};

typedef struct entry {
    char name[DC_MAX_NAME + 1];
    uint64_t byte, dim[MAX_DIMS], offset;
    uint32_t rank, type;
} entry;

#define bad_entry(r, t, format, ...)                                                                                                                 \
    dc_bad_tensor((r)->e, (r)->path, (t)->name, format " (header, byte %llu)", __VA_ARGS__, (unsigned long long)(t)->byte)

static dc_status take_entry(reading *r, entry *t)
{
    size_t at;
    dc_status s = take_string(r, DC_MAX_NAME, &at, "tensor name");
    if (!s) strcpy(t->name, r->text.at + at);
    if (!s) s = take(r, &t->rank, sizeof t->rank, "dimensions");
    if (!s && t->rank > MAX_DIMS) s = bad_entry(r, t, "shape: found %u dimensions, expected at most %d", (unsigned)t->rank, MAX_DIMS);
    if (!s) s = take(r, t->dim, t->rank * sizeof *t->dim, "shape");
    if (!s) s = take(r, &t->type, sizeof t->type, "type of a tensor");
    if (!s) s = take(r, &t->offset, sizeof t->offset, "offset of a tensor");
    return s;
}

static dc_status check_type(reading *r, const entry *t)
{
    static const char expected[] = "F32, F16, BF16, F64, I8, I16, I32, I64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K";
    const bool known = t->type < sizeof types / sizeof *types;
    if (!known) return bad_entry(r, t, "type: found number %u, expected %s", (unsigned)t->type, expected);
    if (types[t->type].dtype != DC_DTYPES) return DC_OK;
    dc_status s = bad_entry(r, t, "type: found %s, expected %s", types[t->type].name, expected);
    dc_hint(r->e, "This way of quantising is not read: get the model as Q8_0 or Q4_K, or as safetensors.");
    return s;
}

/* Product of sizes from 0 on; false when it is more than 2^63-1 without those that are 0, so that it wraps in no order. */
static bool count_numbers(const int64_t *dim, int rank, uint64_t *n)
{
    bool empty = false;
    *n = 1;
    for (int i = 0; i < rank; i++) {
        empty |= !dim[i];
        if (dim[i] && (!dc_mul_u64(*n, (uint64_t)dim[i], n) || *n > INT64_MAX)) return false;
    }
    if (empty) *n = 0;
    return true;
}

/* Its bytes, and that it lies where the one before ends. */
static dc_status check_entry(reading *r, const entry *t, dc_dtype type, uint64_t *bytes)
{
    const uint64_t block = (uint64_t)dc_dtype_block(type), row = t->rank ? t->dim[0] : 1;
    uint64_t n;
    for (uint32_t i = 0; i < t->rank; i++)
        if (t->dim[i] > INT64_MAX) return bad_entry(r, t, "shape: found a size of %llu, expected at most 2^63-1", (unsigned long long)t->dim[i]);
    if (!count_numbers((const int64_t *)t->dim, (int)t->rank, &n))
        return bad_entry(r, t, "shape: found more than %s numbers, expected fewer", "2^63-1");
    if (row % block)
        return bad_entry(r, t, "shape: found rows of %llu numbers, expected whole blocks of %d (%s)", (unsigned long long)row, (int)block,
                         dc_dtype_name(type));
    if (!dc_mul_u64(n / block, dc_dtype_size(type), bytes)) return bad_entry(r, t, "shape: found more than %s bytes, expected fewer", "2^64");
    if (t->offset != r->next)
        return bad_entry(r, t, "offset: found %llu, expected %llu, where the one before ends", (unsigned long long)t->offset,
                         (unsigned long long)r->next);
    if (!dc_add_u64(t->offset, *bytes, &r->end) || !dc_align_u64(r->end, r->alignment, &r->next))
        return bad_entry(r, t, "offset: found an end behind byte %s, expected fewer", "2^64");
    return DC_OK;
}

static dc_status take_tensor(reading *r)
{
    dc_container *k = r->k;
    entry t = {.byte = r->at};
    uint64_t bytes = 0;
    dc_status s = take_entry(r, &t);
    if (!s) s = check_type(r, &t);
    if (!s) s = check_entry(r, &t, types[t.type].dtype, &bytes);
    for (uint32_t i = t.rank; !s && i-- > 0;) s = keep_dim(r, (int64_t)t.dim[i]);
    if (s) return s;
    k->tensor[k->n_tensors++] = (dc_stored){.file = k->map.path, .dtype = types[t.type].dtype, .rank = (int)t.rank, .bytes = bytes};
    return DC_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------- */

/* There are no more than the limit, and than can be in the rest of the file. */
static dc_status check_count(reading *r, uint64_t byte, const char *what, uint64_t n, uint64_t limit, uint64_t least)
{
    const uint64_t fit = (r->k->map.size - r->at) / least;
    if (n > limit) return bad(r, byte, what, "found %llu, expected at most %llu", (unsigned long long)n, (unsigned long long)limit);
    if (n <= fit) return DC_OK;
    return cut_short(r->e, bad(r, byte, what, "found %llu, expected at most the %llu that fit into the rest of the file", (unsigned long long)n,
                               (unsigned long long)fit));
}

/* Version and counts. */
static dc_status take_counts(reading *r, uint64_t *tensors, uint64_t *pairs)
{
    char magic[4];
    uint32_t version;
    dc_status s = take(r, magic, sizeof magic, "beginning");
    if (!s && memcmp(magic, "GGUF", 4)) return bad(r, 0, "beginning", "found another kind of file, expected %s", "GGUF");
    if (!s) s = take(r, &version, sizeof version, "version");
    if (s) return s;
    if (version && !(version & 0xffff)) {
        s = bad(r, 4, "version", "found %u in big-endian order, expected 2 or 3 in little-endian", (unsigned)(version >> 24));
        dc_hint(r->e, "The file was made for big-endian machines: get the usual version of it.");
        return s;
    }
    if (version < 2 || version > 3) {
        s = bad(r, 4, "version", "found %u, expected 2 or 3", (unsigned)version);
        dc_hint(r->e, version < 2 ? "The file is of the first months of the format: convert the model anew." : "A newer diffc may read it.");
        return s;
    }
    s = take(r, tensors, sizeof *tensors, "number of tensors");
    if (!s) s = take(r, pairs, sizeof *pairs, "number of pairs");
    if (!s) s = check_count(r, 8, "number of tensors", *tensors, DC_MAX_TENSORS, LEAST_TENSOR);
    if (!s) s = check_count(r, 16, "number of pairs", *pairs, DC_MAX_METADATA, LEAST_PAIR);
    return s;
}

/* The strings and shapes have stopped moving: they follow each other in the order in which they were read. */
static void settle(reading *r)
{
    dc_container *k = r->k;
    const char *at = k->header = r->text.at;
    const int64_t *dim = k->dims;
    r->text = (dc_text){0};
    for (int i = 0, n = 0; i < k->n_metadata; i++) {
        dc_pair *p = &k->metadata[i];
        p->key = at;
        at += strlen(at) + 1;
        if (p->value) p->value = at, at += strlen(at) + 1;
        if (n == r->n_originals || r->original[n].pair != i) continue;
        r->original[n].name = p->key + strlen(SHAPE_OF);
        r->original[n].dim = dim;
        if (dim) dim += r->original[n].rank;
        n++;
    }
    for (int i = 0; i < k->n_tensors; i++) {
        k->tensor[i].name = at;
        k->tensor[i].dim = dim;
        at += strlen(at) + 1;
        if (dim) dim += k->tensor[i].rank;
    }
}

/* All data is there. Padding behind the last tensor may be missing. */
static dc_status place_data(reading *r)
{
    dc_container *k = r->k;
    const uint64_t size = k->map.size;
    uint64_t at, needed;
    if (!k->n_tensors) return DC_OK;
    if (!dc_align_u64(r->at, r->alignment, &at) || !dc_add_u64(at, r->end, &needed)) at = needed = UINT64_MAX;
    for (int i = 0; i < k->n_tensors; i++) {
        dc_stored *t = &k->tensor[i];
        if (!dc_in_range(at, t->bytes, size))
            return cut_short(r->e, dc_bad_tensor(r->e, r->path, t->name, "data: found a file of %llu bytes, expected %llu", (unsigned long long)size,
                                                 (unsigned long long)needed));
        t->data = k->map.data + at;
        if (!dc_align_u64(at + t->bytes, r->alignment, &at)) at = UINT64_MAX;
    }
    return DC_OK;
}

static int by_name(const void *a, const void *b) { return strcmp(((const original *)a)->name, ((const original *)b)->name); }

/* Tensors get the shapes that they had. */
static dc_status restore_shapes(reading *r)
{
    dc_container *k = r->k;
    if (r->n_originals > 1) qsort(r->original, (size_t)r->n_originals, sizeof *r->original, by_name);
    for (int i = 0; r->n_originals && i < k->n_tensors; i++) {
        dc_stored *t = &k->tensor[i];
        const original key = {.name = t->name}, *o = bsearch(&key, r->original, (size_t)r->n_originals, sizeof key, by_name);
        uint64_t n, was;
        if (!o) continue;
        count_numbers(t->dim, t->rank, &n); /* checked when it was read */
        if (!count_numbers(o->dim, o->rank, &was)) return dc_bad_tensor(r->e, r->path, t->name, "orig_shape: found more than %s numbers", "2^63-1");
        if (was != n)
            return dc_bad_tensor(r->e, r->path, t->name, "orig_shape: found %llu numbers, expected the tensor's %llu", (unsigned long long)was,
                                 (unsigned long long)n);
        t->rank = o->rank;
        t->dim = o->dim;
    }
    return DC_OK;
}

/* Pairs without text were only kept to find keys that are there twice. */
static void drop_lists(dc_container *k)
{
    int n = 0;
    for (int i = 0; i < k->n_metadata; i++)
        if (k->metadata[i].value) k->metadata[n++] = k->metadata[i];
    k->n_metadata = n;
}

static dc_status read_container(reading *r)
{
    dc_container *k = r->k;
    uint64_t tensors = 0, pairs = 0;
    dc_status s = take_counts(r, &tensors, &pairs);
    if (s) return s;
    k->tensor = dc_calloc(tensors, sizeof *k->tensor);
    k->metadata = dc_calloc(pairs, sizeof *k->metadata);
    if (!k->tensor || !k->metadata) return dc_fail_memory(r->e, r->path, tensors * sizeof *k->tensor + pairs * sizeof *k->metadata);
    for (uint64_t i = 0; !s && i < pairs; i++) s = take_pair(r);
    for (uint64_t i = 0; !s && i < tensors; i++) s = take_tensor(r);
    if (s) return s;
    k->header_bytes = r->at;
    settle(r);
    s = place_data(r);
    if (!s) s = dc_container_sort(k, "pairs", r->e);
    if (!s) s = restore_shapes(r);
    drop_lists(k);
    return s;
}

dc_status dc_gguf_open(dc_container *k, const char *path, dc_error *e)
{
    *k = (dc_container){.map.fd = -1, .format = "gguf"};
    reading *r = dc_calloc(1, sizeof *r);
    if (!r) return dc_fail_memory(e, path, sizeof *r);
    *r = (reading){.k = k, .path = path, .e = e, .alignment = 32};
    dc_status s = dc_map_open(&k->map, path, e);
    if (!s) s = read_container(r);
    dc_text_free(&r->text);
    free(r->original);
    free(r);
    if (s) dc_container_close(k);
    return s;
}
