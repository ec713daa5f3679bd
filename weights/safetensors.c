/* safetensors.c - the safetensors container: 8 bytes N (little-endian), N bytes of JSON, data. Ref: safetensors README "Format" and the
 * checks in its tensor.rs. Besides those, refused: a name or metadata key that is there twice, more than 8 dimensions, 262,144 tensors,
 * 65,536 metadata entries or 1,024 bytes of name, dtypes that dc_dtype does not have.
 *
 * The header is read with pread into memory, not through the mapping: a file cut short meanwhile is an error then, not a SIGBUS. */
#include "base/checked.h"
#include "weights/pull.h"
#include "weights/reader.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file being read. Of a tensor, `data` and `bytes` are set as soon as its entry has been read. */
typedef struct reading {
    dc_container *k;
    dc_pull p;
    const uint8_t *data; /* the data part of the file */
    uint64_t data_bytes;
    int tensor_room, metadata_room, dims_room, n_dims;
    uint64_t end; /* the farthest that any tensor reaches, and that tensor's name */
    const char *end_name;
    bool metadata_seen;
} reading;

static dc_status no_memory(reading *r, int n, size_t size) { return dc_fail_memory(r->p.e, r->p.path, (unsigned long long)n * size); }

/* ---- one tensor's entry ---------------------------------------------------------------------------------------- */

typedef struct entry {
    const char *name;
    uint64_t byte; /* of the file, where the entry begins */
    unsigned seen;
    dc_dtype dtype;
    int rank;
    uint64_t dim[DC_MAX_RANK], begin, end;
} entry;

enum { SEEN_DTYPE = 1, SEEN_SHAPE = 2, SEEN_OFFSETS = 4, SEEN_ALL = 7 };

static dc_status take_dtype(reading *r, entry *t)
{
    const char *name;
    dc_status s = dc_pull_string(&r->p, &name, "dtype");
    if (s) return s;
    for (int k = 0; k < DC_DTYPES; k++)
        if (!strcmp(name, dc_dtype_name((dc_dtype)k)) && dc_dtype_block((dc_dtype)k) == 1) {
            t->dtype = (dc_dtype)k;
            return DC_OK;
        }
    return dc_bad_tensor(r->p.e, r->p.path, t->name,
                         "dtype (header, byte %llu): found %.40s, expected F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U8 or BOOL",
                         (unsigned long long)t->byte, name);
}

static dc_status take_shape(reading *r, entry *t)
{
    dc_pull *p = &r->p;
    if (!dc_pull_take(p, '[')) return dc_pull_bad(p, "shape", "an array");
    if (dc_pull_take(p, ']')) return DC_OK;
    do {
        uint64_t v;
        dc_status s = dc_pull_number(p, &v, "shape");
        if (s) return s;
        if (t->rank == DC_MAX_RANK)
            return dc_bad_tensor(r->p.e, r->p.path, t->name, "shape (header, byte %llu): found more than %d dimensions, expected at most %d",
                                 (unsigned long long)t->byte, DC_MAX_RANK, DC_MAX_RANK);
        t->dim[t->rank++] = v;
    } while (dc_pull_take(p, ','));
    return dc_pull_take(p, ']') ? DC_OK : dc_pull_bad(p, "shape", "',' or ']'");
}

static dc_status take_offsets(reading *r, entry *t)
{
    dc_pull *p = &r->p;
    dc_status s = dc_pull_take(p, '[') ? dc_pull_number(p, &t->begin, "data_offsets") : dc_pull_bad(p, "data_offsets", "an array");
    if (!s && !dc_pull_take(p, ',')) s = dc_pull_bad(p, "data_offsets", "',' and the end");
    if (!s) s = dc_pull_number(p, &t->end, "data_offsets");
    if (!s && !dc_pull_take(p, ']')) s = dc_pull_bad(p, "data_offsets", "']' behind two numbers");
    return s;
}

/* {"dtype":..,"shape":..,"data_offsets":..} in any order; other keys are ignored, as the reference does. */
static dc_status take_entry(reading *r, entry *t)
{
    dc_pull *p = &r->p;
    if (!dc_pull_take(p, '{')) return dc_pull_bad(p, "entry of a tensor", "an object");
    if (!dc_pull_take(p, '}')) {
        do {
            const char *key;
            dc_status s = dc_pull_key(p, &key, "key of a tensor");
            if (s) return s;
            unsigned is = !strcmp(key, "dtype") ? SEEN_DTYPE : !strcmp(key, "shape") ? SEEN_SHAPE : !strcmp(key, "data_offsets") ? SEEN_OFFSETS : 0;
            if (t->seen & is)
                return dc_bad_tensor(r->p.e, r->p.path, t->name, "entry (header, byte %llu): found %s twice, expected once",
                                     (unsigned long long)t->byte, key);
            t->seen |= is;
            s = is == SEEN_DTYPE ? take_dtype(r, t) : is == SEEN_SHAPE ? take_shape(r, t) : is == SEEN_OFFSETS ? take_offsets(r, t) : dc_pull_skip(p);
            if (s) return s;
        } while (dc_pull_take(p, ','));
        if (!dc_pull_take(p, '}')) return dc_pull_bad(p, "entry of a tensor", "',' or '}'");
    }
    if (t->seen == SEEN_ALL) return DC_OK;
    const char *lacks = !(t->seen & SEEN_DTYPE) ? "dtype" : !(t->seen & SEEN_SHAPE) ? "shape" : "data_offsets";
    return dc_bad_tensor(r->p.e, r->p.path, t->name, "entry (header, byte %llu): found no %s, expected dtype, shape and data_offsets",
                         (unsigned long long)t->byte, lacks);
}

/* The bytes between the offsets are those of the shape, in 64 bits and without wrapping. Tensors that reach beyond the end of the file are
 * told later, all together, when it is known how long the file should be. */
static dc_status check_entry(reading *r, const entry *t)
{
    uint64_t n = 1, bytes = 0;
    bool fits = true;
    for (int i = 0; i < t->rank; i++) fits = fits && dc_mul_u64(n, t->dim[i], &n);
    if (!fits || !dc_mul_u64(n, dc_dtype_size(t->dtype), &bytes))
        return dc_bad_tensor(r->p.e, r->p.path, t->name, "shape (header, byte %llu): found more than 2^64 bytes, expected fewer",
                             (unsigned long long)t->byte);
    if (t->end < t->begin)
        return dc_bad_tensor(r->p.e, r->p.path, t->name, "data_offsets (header, byte %llu): found [%llu, %llu], expected an end behind the beginning",
                             (unsigned long long)t->byte, (unsigned long long)t->begin, (unsigned long long)t->end);
    if (t->end - t->begin != bytes)
        return dc_bad_tensor(r->p.e, r->p.path, t->name, "data_offsets (header, byte %llu): found %llu bytes, expected %llu (%s and the shape)",
                             (unsigned long long)t->byte, (unsigned long long)(t->end - t->begin), (unsigned long long)bytes,
                             dc_dtype_name(t->dtype));
    if (t->end > r->end || !r->end_name) {
        r->end = t->end;
        r->end_name = t->name;
    }
    return DC_OK;
}

static dc_status keep_entry(reading *r, const entry *t)
{
    dc_container *k = r->k;
    bool inside = t->end <= r->data_bytes;
    if (!dc_grow((void **)&k->tensor, &r->tensor_room, k->n_tensors, sizeof *k->tensor)) return no_memory(r, r->tensor_room, sizeof *k->tensor);
    if (t->rank && !dc_grow((void **)&k->dims, &r->dims_room, r->n_dims + DC_MAX_RANK, sizeof *k->dims))
        return no_memory(r, r->dims_room, sizeof *k->dims);
    for (int i = 0; i < t->rank; i++) k->dims[r->n_dims++] = (int64_t)t->dim[i];
    k->tensor[k->n_tensors++] = (dc_stored){.name = t->name,
                                            .file = k->map.path,
                                            .dtype = t->dtype,
                                            .rank = t->rank,
                                            .data = inside ? r->data + t->begin : NULL,
                                            .bytes = t->end - t->begin};
    return DC_OK;
}

/* ---- the header ------------------------------------------------------------------------------------------------- */

static dc_status take_metadata(reading *r)
{
    dc_container *k = r->k;
    dc_pull *p = &r->p;
    if (r->metadata_seen) return dc_pull_bad(p, "__metadata__", "it once");
    r->metadata_seen = true;
    if (dc_pull_take_null(p)) return DC_OK;
    if (!dc_pull_take(p, '{')) return dc_pull_bad(p, "__metadata__", "an object");
    if (dc_pull_take(p, '}')) return DC_OK;
    do {
        dc_pair pair;
        dc_status s = dc_pull_key(p, &pair.key, "key of __metadata__");
        if (!s) s = dc_pull_string(p, &pair.value, "value in __metadata__");
        if (s) return s;
        if (k->n_metadata == DC_MAX_METADATA) return dc_pull_bad(p, "__metadata__: more than 65536 entries", "fewer");
        if (!dc_grow((void **)&k->metadata, &r->metadata_room, k->n_metadata, sizeof pair)) return no_memory(r, r->metadata_room, sizeof pair);
        k->metadata[k->n_metadata++] = pair;
    } while (dc_pull_take(p, ','));
    return dc_pull_take(p, '}') ? DC_OK : dc_pull_bad(p, "__metadata__", "',' or '}'");
}

static dc_status take_tensor(reading *r)
{
    entry t = {.byte = dc_pull_byte(&r->p)};
    dc_status s = dc_pull_key(&r->p, &t.name, "tensor name");
    if (s) return s;
    if (!strcmp(t.name, "__metadata__")) return take_metadata(r);
    if (strlen(t.name) > DC_MAX_NAME)
        return dc_bad_tensor(r->p.e, r->p.path, t.name, "name (header, byte %llu): found %zu bytes, expected at most %d", (unsigned long long)t.byte,
                             strlen(t.name), DC_MAX_NAME);
    if (r->k->n_tensors == DC_MAX_TENSORS)
        return dc_bad_tensor(r->p.e, r->p.path, t.name, "header, byte %llu: found more than %d tensors, expected at most that",
                             (unsigned long long)t.byte, DC_MAX_TENSORS);
    s = take_entry(r, &t);
    if (!s) s = check_entry(r, &t);
    if (!s) s = keep_entry(r, &t);
    return s;
}

static dc_status take_header(reading *r)
{
    dc_pull *p = &r->p;
    if (!dc_pull_take(p, '{')) return dc_pull_bad(p, "beginning", "'{'");
    if (!dc_pull_take(p, '}')) {
        do {
            dc_status s = take_tensor(r);
            if (s) return s;
        } while (dc_pull_take(p, ','));
        if (!dc_pull_take(p, '}')) return dc_pull_bad(p, "list of tensors", "',' or '}'");
    }
    dc_status s = dc_pull_end(p);
    int64_t *at = r->k->dims; /* the array has stopped moving */
    for (int i = 0; i < r->k->n_tensors; i++) {
        r->k->tensor[i].dim = at;
        if (at) at += r->k->tensor[i].rank;
    }
    return s;
}

/* ---- checks over all tensors ------------------------------------------------------------------------------------------ */

static int by_place(const void *a, const void *b)
{
    const dc_stored *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return 0;
}

/* The file has the length that its tensors need. */
static dc_status check_length(reading *r)
{
    uint64_t size = r->k->map.size, head = size - r->data_bytes;
    if (r->end == r->data_bytes) return DC_OK;
    if (r->end < r->data_bytes)
        return dc_fail(r->p.e, DC_DATA, "%s: data: found %llu bytes behind the last tensor, expected the file to end at byte %llu", r->p.path,
                       (unsigned long long)(r->data_bytes - r->end), (unsigned long long)(head + r->end));
    dc_status s = dc_bad_tensor(r->p.e, r->p.path, r->end_name, "data: found a file of %llu bytes, expected %llu and %llu", (unsigned long long)size,
                                (unsigned long long)head, (unsigned long long)r->end);
    dc_hint(r->p.e, "The file is cut short, as after an unfinished download, or damaged.");
    return s;
}

/* Tensors follow each other without hole or overlap. */
static dc_status check_places(reading *r)
{
    dc_container *k = r->k;
    uint64_t at = 0;
    if (k->n_tensors > 1) qsort(k->tensor, (size_t)k->n_tensors, sizeof *k->tensor, by_place);
    for (int i = 0; i < k->n_tensors; i++) {
        const dc_stored *t = &k->tensor[i];
        uint64_t begin = (uint64_t)((const uint8_t *)t->data - r->data);
        if (begin != at)
            return dc_bad_tensor(r->p.e, r->p.path, t->name, "data_offsets: found a beginning at %llu, expected %llu (%s behind %.200s)",
                                 (unsigned long long)begin, (unsigned long long)at, begin < at ? "an overlap" : "a hole",
                                 i ? k->tensor[i - 1].name : "the header");
        at += t->bytes;
    }
    return DC_OK;
}

/* ---- the file --------------------------------------------------------------------------------------------------------- */

/* What a file that is none of ours looks like from its first bytes, and what to do. */
static void hint_by_magic(const dc_map *m, dc_error *e)
{
    static const struct {
        const char *begins, *hint;
    } known[] = {
        {"version https://git-lfs", "It is a Git LFS pointer, not the file itself: fetch it with git lfs pull."},
        {"<", "It looks like a web page: the download went wrong."},
        {"{", "It looks like JSON: an index of shards must be named *.json."},
    };
    char at[32];
    ssize_t got = pread(m->fd, at, sizeof at, 0);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = strlen(known[i].begins);
        if (got >= (ssize_t)n && !memcmp(at, known[i].begins, n)) dc_hint(e, "%s", known[i].hint);
    }
}

/* N, the header's length. */
static dc_status read_length(const dc_map *m, uint64_t *n, dc_error *e)
{
    uint8_t at[8] = {0};
    dc_status s = DC_OK;
    *n = 0;
    if (m->size < 8)
        s = dc_fail(e, DC_DATA, "%s: size: found %llu bytes, expected a safetensors file of at least 8", m->path, (unsigned long long)m->size);
    else if (pread(m->fd, at, 8, 0) != 8) s = dc_fail(e, DC_IO, "%s: reading the first 8 bytes failed", m->path);
    for (int i = 7; !s && i >= 0; i--) *n = *n << 8 | at[i];
    if (!s && *n > DC_MAX_HEADER)
        s = dc_fail(e, DC_DATA, "%s: header length: found %llu bytes, expected at most %u", m->path, (unsigned long long)*n, DC_MAX_HEADER);
    else if (!s && !dc_in_range(8, *n, m->size))
        s = dc_fail(e, DC_DATA, "%s: header length: found %llu bytes, expected at most the %llu that follow", m->path, (unsigned long long)*n,
                    (unsigned long long)(m->size - 8));
    if (s == DC_DATA && m->size) hint_by_magic(m, e);
    if (s == DC_DATA) dc_hint(e, "The file is cut short, or it is not a safetensors file.");
    return s;
}

static dc_status read_container(dc_container *k, dc_error *e)
{
    uint64_t n;
    dc_status s = read_length(&k->map, &n, e);
    if (s) return s;
    if (!(k->header = malloc(n + 1))) return dc_fail_memory(e, k->map.path, n + 1);
    k->header_bytes = n;
    reading r = {.k = k, .data = k->map.data + 8 + n, .data_bytes = k->map.size - 8 - n};
    k->header[n] = 0;
    s = dc_map_read(&k->map, 8, k->header, n, "header", e);
    if (!s) s = dc_pull_begin(&r.p, k->map.path, "header", 8, k->header, n, e);
    if (!s) s = take_header(&r);
    if (!s) s = check_length(&r);
    if (!s) s = check_places(&r);
    if (!s) s = dc_container_sort(k, "__metadata__", e);
    return s;
}

dc_status dc_safetensors_open(dc_container *k, const char *path, dc_error *e)
{
    *k = (dc_container){.map.fd = -1, .format = "safetensors"};
    dc_status s = dc_map_open(&k->map, path, e);
    if (!s) s = read_container(k, e);
    if (s) dc_container_close(k);
    return s;
}
