/* safetensors.c - the safetensors container: 8 bytes N, N bytes of JSON, data. Ref: safetensors README "Format" and the
 * order of checks in its tensor.rs. The header is read by a small pull reader made for its fixed shape, so that memory stays
 * in proportion to the file whatever the header holds. */
#include "base/checked.h"
#include "base/text.h"
#include "weights/reader.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_HEADER 100000000u

/* ---- reading JSON of a known shape ----------------------------------------------------------------------------- */

typedef struct cursor {
    const char *path, *begin, *at, *end; /* header text; messages count bytes from the file's beginning: + 8 */
    char       *strings;                 /* decoded strings are put here one after the other; never longer than the text */
    dc_error   *e;
} cursor;

static dc_status bad(cursor *c, const char *what, const char *expected)
{
    char found[40] = "the end of the header";
    if (c->at < c->end) snprintf(found, sizeof found, "'%.*s'", (int)(c->end - c->at < 12 ? c->end - c->at : 12), c->at);
    return dc_fail(c->e, DC_DATA, "%s: header, byte %lld: %s: found %s, expected %s", c->path, (long long)(c->at - c->begin + 8), what, found, expected);
}

static void skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r')) c->at++;
}

static bool take(cursor *c, char what)
{
    skip_space(c);
    if (c->at >= c->end || *c->at != what) return false;
    c->at++;
    return true;
}

static int hex4(const cursor *c, const char *at)
{
    int v = 0;
    if (c->end - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char d = at[i];
        int  n = d >= '0' && d <= '9' ? d - '0' : d >= 'a' && d <= 'f' ? d - 'a' + 10 : d >= 'A' && d <= 'F' ? d - 'A' + 10 : -1;
        if (n < 0) return -1;
        v = 16 * v + n;
    }
    return v;
}

static char *put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) *to++ = (char)c;
    else if (c < 0x800) *to++ = (char)(0xc0 | c >> 6), *to++ = (char)(0x80 | (c & 63));
    else if (c < 0x10000) *to++ = (char)(0xe0 | c >> 12), *to++ = (char)(0x80 | (c >> 6 & 63)), *to++ = (char)(0x80 | (c & 63));
    else *to++ = (char)(0xf0 | c >> 18), *to++ = (char)(0x80 | (c >> 12 & 63)), *to++ = (char)(0x80 | (c >> 6 & 63)), *to++ = (char)(0x80 | (c & 63));
    return to;
}

/* \uXXXX at c->at (behind the u), surrogate pairs joined; UINT32_MAX when malformed, a lone surrogate or NUL. */
static uint32_t take_escape(cursor *c)
{
    int v = hex4(c, c->at);
    if (v <= 0) return UINT32_MAX;
    c->at += 4;
    if (v >= 0xdc00 && v <= 0xdfff) return UINT32_MAX;
    if (v < 0xd800 || v > 0xdbff) return (uint32_t)v;
    if (c->end - c->at < 6 || c->at[0] != '\\' || c->at[1] != 'u') return UINT32_MAX;
    int low = hex4(c, c->at + 2);
    if (low < 0xdc00 || low > 0xdfff) return UINT32_MAX;
    c->at += 6;
    return 0x10000u + ((uint32_t)(v - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
}

/* A string, decoded into c->strings; *out points there. */
static dc_status take_string(cursor *c, const char **out, const char *what)
{
    static const char plain[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (!take(c, '"')) return bad(c, what, "a string");
    char *to = c->strings;
    *out     = to;
    while (c->at < c->end && *c->at != '"') {
        unsigned char ch = (unsigned char)*c->at;
        if (ch < 0x20) return bad(c, what, "no control characters");
        if (ch != '\\') {
            *to++ = *c->at++;
            continue;
        }
        if (++c->at >= c->end) return bad(c, what, "an escape");
        const char *known = memchr(plain, *c->at, sizeof plain - 1);
        if (known) {
            *to++ = meant[known - plain];
            c->at++;
        } else if (*c->at == 'u') {
            c->at++;
            uint32_t v = take_escape(c);
            if (v == UINT32_MAX) return bad(c, what, "\\u and four hex digits of a character");
            to = put_utf8(to, v);
        } else {
            return bad(c, what, "an escape of JSON");
        }
    }
    if (c->at >= c->end) return bad(c, what, "a closing quote");
    c->at++;
    *to++      = 0;
    c->strings = to;
    return DC_OK;
}

/* A whole number 0 .. 2^63-1, without sign, fraction or exponent. */
static dc_status take_number(cursor *c, uint64_t *out, const char *what)
{
    skip_space(c);
    const char *from = c->at;
    uint64_t    v    = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (!dc_mul_u64(v, 10, &v) || !dc_add_u64(v, (uint64_t)(*c->at - '0'), &v) || v > INT64_MAX) return bad(c, what, "a number below 2^63");
    if (c->at == from || (*from == '0' && c->at - from > 1) || (c->at < c->end && strchr(".eE+-", *c->at))) {
        c->at = from;
        return bad(c, what, "a whole number");
    }
    *out = v;
    return DC_OK;
}

/* Skips one value of any kind (of unknown keys): nesting is counted, not recursed into. */
static dc_status skip_value(cursor *c)
{
    int depth = 0;
    do {
        skip_space(c);
        if (c->at >= c->end) return bad(c, "value", "one");
        if (*c->at == '"') {
            const char *ignored;
            char       *strings = c->strings;
            dc_status   s       = take_string(c, &ignored, "string");
            c->strings          = strings;
            if (s) return s;
        } else if (*c->at == '{' || *c->at == '[') {
            if (++depth > 64) return bad(c, "nesting", "at most 64 levels");
            c->at++;
        } else if (*c->at == '}' || *c->at == ']') {
            if (--depth < 0) return bad(c, "value", "one");
            c->at++;
        } else {
            const char *from = c->at;
            while (c->at < c->end && !memchr(" \t\r\n{}[]\"", *c->at, 8) && (depth || *c->at != ',')) c->at++;
            if (c->at == from) return bad(c, "value", "one");
        }
    } while (depth > 0);
    return DC_OK;
}

/* ---- the header's parts -------------------------------------------------------------------------------------------- */

static bool find_dtype(const char *name, dc_dtype *out)
{
    for (int t = 0; t < DC_DTYPES; t++)
        if (!strcmp(name, dc_dtype_name((dc_dtype)t))) {
            *out = (dc_dtype)t;
            return true;
        }
    return false;
}

static dc_status take_shape(cursor *c, dc_stored *t)
{
    uint64_t v;
    if (!take(c, '[')) return bad(c, "shape", "an array");
    t->rank = 0;
    if (take(c, ']')) return DC_OK;
    do {
        dc_status s = take_number(c, &v, "shape");
        if (s) return s;
        if (t->rank >= DC_MAX_RANK) return dc_fail(c->e, DC_DATA, "%s: tensor %s: rank: found more than %d dimensions, expected at most %d", c->path, t->name, DC_MAX_RANK, DC_MAX_RANK);
        t->dim[t->rank++] = (int64_t)v;
    } while (take(c, ','));
    return take(c, ']') ? DC_OK : bad(c, "shape", "',' or ']'");
}

static dc_status take_offsets(cursor *c, uint64_t *begin, uint64_t *end)
{
    if (!take(c, '[')) return bad(c, "data_offsets", "two numbers");
    dc_status s = take_number(c, begin, "data_offsets");
    if (!s && !take(c, ',')) s = bad(c, "data_offsets", "two numbers");
    if (!s) s = take_number(c, end, "data_offsets");
    if (!s && !take(c, ']')) s = bad(c, "data_offsets", "two numbers");
    return s;
}

/* {"dtype":..,"shape":..,"data_offsets":..}; other keys are ignored, as the reference does. */
static dc_status take_entry(cursor *c, dc_stored *t, uint64_t *begin, uint64_t *end)
{
    int seen = 0;
    if (!take(c, '{')) return bad(c, "entry of a tensor", "an object");
    if (take(c, '}')) return dc_fail(c->e, DC_DATA, "%s: tensor %s: found an empty entry, expected dtype, shape and data_offsets", c->path, t->name);
    do {
        const char *key, *dtype;
        char       *strings = c->strings;
        dc_status   s       = take_string(c, &key, "key");
        if (!s && !take(c, ':')) s = bad(c, "entry", "':'");
        if (s) return s;
        int bit = !strcmp(key, "dtype") ? 1 : !strcmp(key, "shape") ? 2 : !strcmp(key, "data_offsets") ? 4 : 0;
        if (seen & bit) return dc_fail(c->e, DC_DATA, "%s: tensor %s: found the key %s twice", c->path, t->name, key);
        seen |= bit;
        if (bit == 1) {
            s = take_string(c, &dtype, "dtype");
            if (!s && !find_dtype(dtype, &t->dtype)) {
                s = dc_fail(c->e, DC_DATA, "%s: tensor %s: dtype: found %s, expected F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U8 or BOOL", c->path, t->name, dtype);
            }
        } else if (bit == 2) {
            s = take_shape(c, t);
        } else if (bit == 4) {
            s = take_offsets(c, begin, end);
        } else {
            s = skip_value(c);
        }
        c->strings = strings; /* key and dtype are not kept */
        if (s) return s;
    } while (take(c, ','));
    if (!take(c, '}')) return bad(c, "entry of a tensor", "',' or '}'");
    if (seen != 7) return dc_fail(c->e, DC_DATA, "%s: tensor %s: found no %s, expected dtype, shape and data_offsets", c->path, t->name, seen & 1 ? seen & 2 ? "data_offsets" : "shape" : "dtype");
    return DC_OK;
}

static bool grow(void **at, int *room, int n, size_t size)
{
    if (n < *room) return true;
    int   more = *room ? 2 * *room : 32;
    void *next = realloc(*at, (size_t)more * size);
    if (!next) return false;
    *at   = next;
    *room = more;
    return true;
}

static dc_status take_metadata(cursor *c, dc_container *k, int *room)
{
    if (!take(c, '{')) return bad(c, "__metadata__", "an object");
    if (take(c, '}')) return DC_OK;
    do {
        if (!grow((void **)&k->metadata, room, k->n_metadata, sizeof *k->metadata)) return dc_fail_memory(c->e, c->path, (unsigned long long)*room * sizeof *k->metadata);
        dc_pair  *p = &k->metadata[k->n_metadata];
        dc_status s = take_string(c, &p->key, "__metadata__");
        if (!s && !take(c, ':')) s = bad(c, "__metadata__", "':'");
        if (!s) s = take_string(c, &p->value, "__metadata__ (values are strings)");
        if (s) return s;
        k->n_metadata++;
    } while (take(c, ','));
    return take(c, '}') ? DC_OK : bad(c, "__metadata__", "',' or '}'");
}

/* While the header is read, a tensor's data offsets are kept beside it. */
typedef struct span { uint64_t begin, end; } span;

static dc_status take_header(cursor *c, dc_container *k, span **spans)
{
    int room = 0, span_room = 0, metadata_room = 0;
    bool seen_metadata = false;
    if (!take(c, '{')) return bad(c, "beginning", "'{'");
    if (!take(c, '}')) {
        do {
            const char *name;
            dc_status   s = take_string(c, &name, "tensor name");
            if (!s && !take(c, ':')) s = bad(c, "header", "':'");
            if (s) return s;
            if (!strcmp(name, "__metadata__")) {
                if (seen_metadata) return dc_fail(c->e, DC_DATA, "%s: header: found __metadata__ twice", c->path);
                seen_metadata = true;
                if ((s = take_metadata(c, k, &metadata_room)) != DC_OK) return s;
                continue;
            }
            if (strlen(name) > DC_MAX_NAME) return dc_fail(c->e, DC_DATA, "%s: tensor name: found %zu bytes, expected at most %d", c->path, strlen(name), DC_MAX_NAME);
            if (k->n_tensors >= DC_MAX_TENSORS) return dc_fail(c->e, DC_DATA, "%s: tensors: found more than %d, expected fewer", c->path, DC_MAX_TENSORS);
            if (!grow((void **)&k->tensor, &room, k->n_tensors, sizeof *k->tensor) || !grow((void **)spans, &span_room, k->n_tensors, sizeof **spans))
                return dc_fail_memory(c->e, c->path, (unsigned long long)room * sizeof *k->tensor);
            dc_stored *t = &k->tensor[k->n_tensors];
            *t           = (dc_stored){.name = name, .file = k->map.path};
            s            = take_entry(c, t, &(*spans)[k->n_tensors].begin, &(*spans)[k->n_tensors].end);
            if (s) return s;
            k->n_tensors++;
        } while (take(c, ','));
        if (!take(c, '}')) return bad(c, "header", "',' or '}'");
    }
    skip_space(c);
    while (c->at < c->end && !*c->at) c->at++; /* some writers pad with NUL */
    return c->at == c->end ? DC_OK : bad(c, "behind the header's object", "spaces");
}

/* ---- checks over all tensors ------------------------------------------------------------------------------------------ */

static dc_status expected_bytes(const dc_stored *t, uint64_t *bytes, dc_error *e)
{
    *bytes = dc_dtype_size(t->dtype);
    for (int i = 0; i < t->rank; i++)
        if (!dc_mul_u64(*bytes, (uint64_t)t->dim[i], bytes)) return dc_fail(e, DC_DATA, "%s: tensor %s: shape: found a product beyond 64 bits", t->file, t->name);
    return DC_OK;
}

typedef struct placed { span at; int tensor; } placed;

static int by_place(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    if (x->at.begin != y->at.begin) return x->at.begin < y->at.begin ? -1 : 1;
    if (x->at.end != y->at.end) return x->at.end < y->at.end ? -1 : 1;
    return x->tensor - y->tensor;
}

/* Tensors must follow each other without hole or overlap and fill the data exactly; each must have the bytes its shape says. */
static dc_status place_data(dc_container *k, const span *spans, const uint8_t *data, uint64_t size, dc_error *e)
{
    placed *order = dc_calloc((size_t)k->n_tensors, sizeof *order);
    if (!order) return dc_fail_memory(e, k->map.path, (unsigned long long)k->n_tensors * sizeof *order);
    for (int i = 0; i < k->n_tensors; i++) order[i] = (placed){spans[i], i};
    qsort(order, (size_t)k->n_tensors, sizeof *order, by_place);
    uint64_t  at = 0;
    dc_status s  = DC_OK;
    for (int i = 0; !s && i < k->n_tensors; i++) {
        dc_stored *t = &k->tensor[order[i].tensor];
        span       p = order[i].at;
        uint64_t   bytes;
        if (p.end < p.begin || p.begin != at) {
            s = dc_fail(e, DC_DATA, "%s: tensor %s: data_offsets: found [%llu, %llu], expected a beginning at %llu (%s)", t->file, t->name, (unsigned long long)p.begin,
                        (unsigned long long)p.end, (unsigned long long)at, p.end < p.begin ? "end before beginning" : p.begin < at ? "overlap" : "hole");
        } else if ((s = expected_bytes(t, &bytes, e)) == DC_OK && p.end - p.begin != bytes) {
            s = dc_fail(e, DC_DATA, "%s: tensor %s: data_offsets: found %llu bytes, expected %llu", t->file, t->name, (unsigned long long)(p.end - p.begin), (unsigned long long)bytes);
        } else if (!s && p.end > size) {
            s = dc_fail(e, DC_DATA, "%s: tensor %s: data: found a file of %llu data bytes, expected at least %llu", t->file, t->name, (unsigned long long)size, (unsigned long long)p.end);
            dc_hint(e, "The file is cut short, as after an unfinished download.");
        } else if (!s) {
            t->data  = data + p.begin;
            t->bytes = bytes;
            at       = p.end;
        }
    }
    if (!s && at != size)
        s = dc_fail(e, DC_DATA, "%s: data: found %llu bytes, expected %llu", k->map.path, (unsigned long long)size, (unsigned long long)at);
    free(order);
    return s;
}

static int by_name(const void *a, const void *b) { return strcmp(((const dc_stored *)a)->name, ((const dc_stored *)b)->name); }

static dc_status check_names(dc_container *k, dc_error *e)
{
    qsort(k->tensor, (size_t)k->n_tensors, sizeof *k->tensor, by_name);
    for (int i = 1; i < k->n_tensors; i++)
        if (!strcmp(k->tensor[i - 1].name, k->tensor[i].name)) return dc_fail(e, DC_DATA, "%s: tensor %s: found twice, expected once", k->map.path, k->tensor[i].name);
    return DC_OK;
}

static dc_status read_container(dc_container *k, dc_error *e)
{
    const dc_map *m = &k->map;
    uint64_t      n = 0;
    if (m->size < 8) return dc_fail(e, DC_DATA, "%s: size: found %llu bytes, expected a safetensors file of at least 8", m->path, (unsigned long long)m->size);
    for (int i = 7; i >= 0; i--) n = n << 8 | m->data[i];
    if (n > MAX_HEADER) {
        dc_status s = dc_fail(e, DC_DATA, "%s: header length: found %llu bytes, expected at most %u", m->path, (unsigned long long)n, MAX_HEADER);
        dc_hint(e, "This does not look like a safetensors file.");
        return s;
    }
    if (!dc_in_range(8, n, m->size)) {
        dc_status s = dc_fail(e, DC_DATA, "%s: header length: found %llu bytes, expected at most the %llu that follow", m->path, (unsigned long long)n, (unsigned long long)(m->size - 8));
        dc_hint(e, "The file is cut short, or not a safetensors file.");
        return s;
    }
    const char *text = (const char *)m->data + 8;
    if (!dc_utf8_valid(text, n)) return dc_fail(e, DC_DATA, "%s: header: found bytes that are not UTF-8, expected JSON", m->path);
    k->strings  = malloc(n + 1);
    span *spans = NULL;
    if (!k->strings) return dc_fail_memory(e, m->path, n);
    cursor    c = {m->path, text, text, text + n, k->strings, e};
    dc_status s = take_header(&c, k, &spans);
    if (!s) s = place_data(k, spans, m->data + 8 + n, m->size - 8 - n, e);
    free(spans);
    if (!s) s = check_names(k, e);
    return s;
}

dc_status dc_safetensors_open(dc_container *k, const char *path, dc_error *e)
{
    *k          = (dc_container){.map.fd = -1};
    dc_status s = dc_map_open(&k->map, path, e);
    if (!s) s = read_container(k, e);
    if (s) dc_container_close(k);
    return s;
}

void dc_container_close(dc_container *k)
{
    dc_map_close(&k->map);
    free(k->tensor);
    free(k->metadata);
    free(k->strings);
    *k = (dc_container){.map.fd = -1};
}
