/* write.c - safetensors as its reference implementation writes it (serialize in tensor.rs): the same tensors give the same bytes. */
#include "weights/write.h"
#include "base/checked.h"
#include "base/half.h"
#include "base/text.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 16 }; /* numbers converted at a time */

/* ---- the list ----------------------------------------------------------------------------------------------------------- */

dc_write_item *dc_write_add(dc_write_list *l, const char *name, const dc_stored *const *from, int n_from, dc_error *e)
{
    if (!dc_grow((void **)&l->item, &l->room, l->n, sizeof *l->item)) {
        dc_fail_memory(e, name, (unsigned long long)l->room * sizeof *l->item);
        return NULL;
    }
    dc_write_item *x = &l->item[l->n];
    *x = (dc_write_item){.name = dc_strdup(name), .n_from = n_from, .rank = n_from ? from[0]->rank : 1};
    if (!x->name) {
        dc_fail_memory(e, name, strlen(name));
        return NULL;
    }
    l->n++;
    for (int i = 0; i < n_from; i++) x->from[i] = from[i];
    for (int i = 0; n_from && i < x->rank; i++) x->dim[i] = from[0]->dim[i] * (i ? 1 : n_from);
    return x;
}

void dc_write_list_free(dc_write_list *l)
{
    for (int i = 0; i < l->n; i++) free(l->item[i].name);
    free(l->item);
    *l = (dc_write_list){0};
}

static bool is_whole(dc_dtype t) { return t == DC_I64 || t == DC_I32 || t == DC_I16 || t == DC_I8 || t == DC_U8 || t == DC_BOOL; }

static dc_dtype written_type(const dc_write_item *x, dc_write_type type)
{
    static const dc_dtype wanted[] = {[DC_WRITE_F32] = DC_F32, [DC_WRITE_F16] = DC_F16, [DC_WRITE_BF16] = DC_BF16};
    dc_dtype t = x->n_from ? x->from[0]->dtype : DC_F32;
    if (is_whole(t) || !x->n_from) return t;
    if (type != DC_WRITE_AUTO) return wanted[type];
    return t == DC_F32 || t == DC_F16 || t == DC_BF16 ? t : t == DC_F64 ? DC_F32 : DC_F16;
}

/* Numbers in a tensor: the reader has seen that they fit in memory. */
static uint64_t count(int rank, const int64_t *dim)
{
    uint64_t n = 1;
    for (int i = 0; i < rank; i++) n *= (uint64_t)dim[i];
    return n;
}

static uint64_t item_bytes(const dc_write_item *x, dc_write_type type) { return count(x->rank, x->dim) * dc_dtype_size(written_type(x, type)); }

uint64_t dc_write_bytes(const dc_write_list *l, int at, dc_write_type type)
{
    uint64_t sum = 0;
    for (int i = at; i < l->n; i++) sum += item_bytes(&l->item[i], type);
    return sum;
}

/* ---- the header --------------------------------------------------------------------------------------------------------------- */

/* The reference orders dtypes by alignment; of those that it and we know, the highest first. */
static int place_of(dc_dtype t)
{
    static const dc_dtype order[] = {DC_I64, DC_F64, DC_F32, DC_I32, DC_BF16, DC_F16, DC_I16, DC_F8_E4M3, DC_F8_E5M2, DC_I8, DC_U8, DC_BOOL};
    int i = 0;
    while (i < (int)(sizeof order / sizeof *order) && order[i] != t) i++;
    return i;
}

typedef struct sorted {
    const dc_write_item *x;
    dc_dtype dtype;
} sorted;

static int in_file_order(const void *a, const void *b)
{
    const sorted *x = a, *y = b;
    int d = place_of(x->dtype) - place_of(y->dtype);
    return d ? d : strcmp(x->x->name, y->x->name);
}

static int by_name(const void *a, const void *b) { return strcmp(((const dc_write_item *)a)->name, ((const dc_write_item *)b)->name); }

/* As serde_json writes a string. */
static void put_string(dc_text *t, const char *s)
{
    static const char letters[] = "btnvfr"; /* of 8 to 13; \v has none in JSON */
    dc_text_append(t, "\"", 1);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') dc_text_printf(t, "\\%c", c);
        else if (c >= 8 && c <= 13 && c != 11) dc_text_printf(t, "\\%c", letters[c - 8]);
        else if (c < 0x20) dc_text_printf(t, "\\u%04x", c);
        else dc_text_append(t, s, 1);
    }
    dc_text_append(t, "\"", 1);
}

static int by_key(const void *a, const void *b) { return strcmp(((const dc_pair *)a)->key, ((const dc_pair *)b)->key); }

/* In the order of keys, "format" among them. (The reference's order is that of its hash table, another each time.) */
static dc_status put_metadata(dc_text *t, const dc_write_options *o, dc_error *e)
{
    dc_pair *pair = dc_calloc((size_t)o->n_metadata + 1, sizeof *pair);
    if (!pair) return dc_fail_memory(e, "metadata", (unsigned long long)o->n_metadata * sizeof *pair);
    int n = 0;
    pair[n++] = (dc_pair){"format", "pt"};
    for (int i = 0; i < o->n_metadata; i++) {
        bool format = !strcmp(o->metadata[i].key, "format");
        pair[format ? 0 : n++] = o->metadata[i];
    }
    qsort(pair, (size_t)n, sizeof *pair, by_key);
    dc_text_printf(t, "{\"__metadata__\":{");
    for (int i = 0; i < n; i++) {
        put_string(t, pair[i].key);
        dc_text_printf(t, ":");
        put_string(t, pair[i].value);
        dc_text_printf(t, "%s", i + 1 < n ? "," : "}");
    }
    free(pair);
    return DC_OK;
}

static void put_entry(dc_text *t, const sorted *s, uint64_t *at)
{
    uint64_t end = *at + count(s->x->rank, s->x->dim) * dc_dtype_size(s->dtype);
    dc_text_printf(t, ",");
    put_string(t, s->x->name);
    dc_text_printf(t, ":{\"dtype\":\"%s\",\"shape\":[", dc_dtype_name(s->dtype));
    for (int i = 0; i < s->x->rank; i++) dc_text_printf(t, "%s%lld", i ? "," : "", (long long)s->x->dim[i]);
    dc_text_printf(t, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*at, (unsigned long long)end);
    *at = end;
}

typedef struct writing {
    dc_out *out;
    const dc_write_options *o;
    float *number;    /* BLOCK of them */
    uint8_t *rounded; /* the same in the file's type */
    dc_error *e;
} writing;

static dc_status tick(const writing *w, uint64_t bytes) { return w->o->tick ? w->o->tick(w->o->ctx, bytes, w->e) : DC_OK; }

/* Its length, then the header, padded with spaces so that data begin at a multiple of 8. */
static dc_status put_header(const writing *w, const char *path, const sorted *s, int n)
{
    dc_text t = {0};
    uint64_t at = 0;
    uint8_t length[8];
    dc_status r = put_metadata(&t, w->o, w->e);
    for (int i = 0; i < n; i++) put_entry(&t, &s[i], &at);
    dc_text_printf(&t, "}");
    dc_text_append(&t, "       ", (8 - t.length % 8) % 8);
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)t.length >> 8 * i);
    if (!r && t.failed) r = dc_fail_memory(w->e, path, t.length);
    if (!r && t.length > DC_MAX_HEADER)
        r = dc_fail(w->e, DC_DATA, "%s: header: found %zu bytes, expected at most %u (long names)", path, t.length, DC_MAX_HEADER);
    if (!r) r = dc_out_write(w->out, length, 8, w->e);
    if (!r) r = dc_out_write(w->out, t.at, t.length, w->e);
    if (!r) r = tick(w, 8 + t.length);
    dc_text_free(&t);
    return r;
}

/* ---- data -------------------------------------------------------------------------------------------------------------------------- */

static dc_status bad_value(const writing *w, const dc_stored *t, uint64_t at, float v, dc_dtype type)
{
    if (!isfinite(v))
        return dc_fail(w->e, DC_DATA, "%s: tensor %s: found %s at %llu, expected finite numbers", t->file, t->name,
                       isnan(v) ? "NaN"
                       : v < 0  ? "-infinity"
                                : "infinity",
                       (unsigned long long)at);
    dc_status s = dc_fail(w->e, DC_DATA, "%s: tensor %s: found %.9g at %llu, expected at most %s in %s", t->file, t->name, (double)v,
                          (unsigned long long)at, type == DC_F16 ? "65504" : "3.39e38", dc_dtype_name(type));
    dc_hint(w->e, "--precision %s can hold it.", type == DC_F16 ? "bf16" : "f32");
    return s;
}

/* n numbers of w->number, of tensor t from its number `at` on, into the file; as_stored: the bytes that they are in t, or NULL. */
static dc_status put_numbers(writing *w, const dc_stored *t, uint64_t at, int n, dc_dtype type, const void *as_stored)
{
    const float *v = w->number;
    uint16_t half;
    size_t size = dc_dtype_size(type);
    for (int i = 0; i < n; i++)
        if ((dc_f32_bits(v[i]) & 0x7f800000u) == 0x7f800000u) return bad_value(w, t, at + (uint64_t)i, v[i], type);
    if (!as_stored && type == DC_F32) {
        as_stored = v;
    } else if (!as_stored) {
        uint16_t infinite = type == DC_F16 ? 0x7c00 : 0x7f80;
        for (int i = 0; i < n; i++) {
            half = type == DC_F16 ? dc_f32_to_f16(v[i]) : dc_f32_to_bf16(v[i]);
            if ((half & 0x7fff) == infinite) return bad_value(w, t, at + (uint64_t)i, v[i], type);
            memcpy(w->rounded + 2 * (size_t)i, &half, 2);
        }
        as_stored = w->rounded;
    }
    dc_status s = dc_out_write(w->out, as_stored, (size_t)n * size, w->e);
    return s ? s : tick(w, (uint64_t)n * size);
}

/* In the order in which they lie. */
static dc_status put_straight(writing *w, const dc_stored *t, dc_dtype type)
{
    dc_source s = {t->data, t->dtype, t->rank ? t->dim[0] : 1, t->scale};
    uint64_t n = count(t->rank, t->dim);
    dc_status r = DC_OK;
    for (uint64_t at = 0; !r && at < n; at += BLOCK) {
        int k = n - at < BLOCK ? (int)(n - at) : BLOCK;
        dc_source_floats(&s, (int64_t)at, k, w->number);
        r = put_numbers(w, t, at, k, type, t->dtype == type ? (const char *)t->data + at * dc_dtype_size(type) : NULL);
    }
    return r;
}

/* A matrix [rows, columns] that lies as [columns, rows]: some rows at a time, or part of a long one. */
static dc_status put_turned(writing *w, const dc_stored *t, dc_dtype type, int64_t rows, int64_t columns)
{
    if (!t->bytes) return DC_OK;
    dc_source s = {t->data, t->dtype, columns, t->scale};
    int64_t high = columns < BLOCK ? BLOCK / columns : 1, wide = columns < BLOCK ? columns : BLOCK;
    float *line = malloc((size_t)high * sizeof *line);
    dc_status r = line ? DC_OK : dc_fail_memory(w->e, t->name, (unsigned long long)high * sizeof *line);
    for (int64_t y = 0; !r && y < rows; y += high)
        for (int64_t x = 0; !r && x < columns; x += wide) {
            int64_t h = rows - y < high ? rows - y : high, k = columns - x < wide ? columns - x : wide;
            for (int64_t c = 0; c < k; c++) {
                dc_source_floats(&s, (x + c) * rows + y, h, line);
                for (int64_t i = 0; i < h; i++) w->number[i * k + c] = line[i];
            }
            r = put_numbers(w, t, (uint64_t)(y * columns + x), (int)(h * k), type, NULL);
        }
    free(line);
    return r;
}

static dc_status put_item(writing *w, const sorted *s)
{
    dc_status r = DC_OK;
    for (int i = 0; !r && i < s->x->n_from; i++) {
        const dc_stored *t = s->x->from[i];
        bool turned = t->rank == 2 && t->transposed != s->x->turned;
        if (is_whole(t->dtype) && turned) {
            r = dc_fail(w->e, DC_DATA, "%s: tensor %s: found %s values, expected real numbers", t->file, t->name, dc_dtype_name(t->dtype));
        } else if (is_whole(t->dtype)) {
            r = dc_out_write(w->out, t->data, t->bytes, w->e);
            if (!r) r = tick(w, t->bytes);
        } else if (turned) {
            r = put_turned(w, t, s->dtype, s->x->dim[0], s->x->dim[1]);
        } else {
            r = put_straight(w, t, s->dtype);
        }
    }
    return r;
}

static dc_status put_all(writing *w, const char *path, const sorted *s, int n)
{
    w->number = malloc(BLOCK * sizeof *w->number);
    w->rounded = malloc(BLOCK * sizeof(uint16_t));
    dc_status r = w->number && w->rounded ? put_header(w, path, s, n) : dc_fail_memory(w->e, path, BLOCK * sizeof(float));
    for (int i = 0; !r && i < n; i++) r = put_item(w, &s[i]);
    if (!r && w->o->check) r = w->o->check(w->o->ctx, w->e);
    free(w->number);
    free(w->rounded);
    return r;
}

dc_status dc_safetensors_write(const char *path, dc_write_list *l, const dc_write_options *o, dc_error *e)
{
    if (l->n > 1) qsort(l->item, (size_t)l->n, sizeof *l->item, by_name);
    for (int i = 1; i < l->n; i++)
        if (!by_name(&l->item[i - 1], &l->item[i]))
            return dc_fail(e, DC_DATA, "%s: tensor %s: found two of that name, expected one", path, l->item[i].name);
    sorted *s = dc_calloc((size_t)l->n, sizeof *s);
    if (!s) return dc_fail_memory(e, path, (unsigned long long)l->n * sizeof *s);
    for (int i = 0; i < l->n; i++) s[i] = (sorted){&l->item[i], written_type(&l->item[i], o->type)};
    if (l->n > 1) qsort(s, (size_t)l->n, sizeof *s, in_file_order);
    writing w = {.o = o, .e = e};
    dc_status r = dc_out_open(&w.out, path, false, NULL, e);
    if (!r && !(r = put_all(&w, path, s, l->n))) {
        r = dc_out_commit(w.out, e);
        w.out = NULL;
    }
    dc_out_abandon(w.out);
    free(s);
    return r;
}
