/* tensor.c - element types, views, and numbers as files store them. */
#include "backends/backend.h"
#include "base/half.h"
#include <assert.h>
#include <string.h>

static const struct {
    const char *name;
    uint8_t size; /* of a block */
    int16_t block;
} types[DC_DTYPES] = {
    [DC_F32] = {"F32", 4, 1},       [DC_F16] = {"F16", 2, 1},       [DC_BF16] = {"BF16", 2, 1},       [DC_F64] = {"F64", 8, 1},
    [DC_I64] = {"I64", 8, 1},       [DC_I32] = {"I32", 4, 1},       [DC_I16] = {"I16", 2, 1},         [DC_I8] = {"I8", 1, 1},
    [DC_U8] = {"U8", 1, 1},         [DC_BOOL] = {"BOOL", 1, 1},     [DC_F8_E4M3] = {"F8_E4M3", 1, 1}, [DC_F8_E5M2] = {"F8_E5M2", 1, 1},
    [DC_Q4_0] = {"Q4_0", 18, 32},   [DC_Q4_1] = {"Q4_1", 20, 32},   [DC_Q5_0] = {"Q5_0", 22, 32},     [DC_Q5_1] = {"Q5_1", 24, 32},
    [DC_Q8_0] = {"Q8_0", 34, 32},   [DC_Q2_K] = {"Q2_K", 84, 256},  [DC_Q3_K] = {"Q3_K", 110, 256},   [DC_Q4_K] = {"Q4_K", 144, 256},
    [DC_Q5_K] = {"Q5_K", 176, 256}, [DC_Q6_K] = {"Q6_K", 210, 256},
};
size_t dc_dtype_size(dc_dtype t) { return types[t].size; }
int dc_dtype_block(dc_dtype t) { return types[t].block; }
const char *dc_dtype_name(dc_dtype t) { return types[t].name; }

int64_t dc_numel(dc_tensor t)
{
    int64_t n = t.rank > 0;
    for (int i = 0; i < t.rank; i++) n *= t.dim[i];
    return n;
}

int64_t dc_rows(dc_tensor t) { return t.rank ? dc_numel(t) / (dc_channels(t) ? dc_channels(t) : 1) : 0; }

static void *advance(dc_tensor t, int64_t elements) { return t.data ? (char *)t.data + (size_t)elements * dc_dtype_size((dc_dtype)t.dtype) : NULL; }

dc_tensor dc_view_tokens(dc_tensor t)
{
    if (t.rank != 4) return t;
    t.dim[1] *= t.dim[2];
    t.dim[2] = t.dim[3];
    t.rank = 3;
    return t;
}

dc_tensor dc_view_image(dc_tensor t, int64_t h, int64_t w)
{
    if (t.rank != 3) return t;
    assert(t.dim[1] == h * w);
    t.dim[3] = t.dim[2];
    t.dim[1] = h;
    t.dim[2] = w;
    t.rank = 4;
    return t;
}

dc_tensor dc_view_channels(dc_tensor t, int64_t from, int64_t count)
{
    if (dc_is_none(t)) return t;
    assert(from >= 0 && from + count <= dc_channels(t));
    t.data = advance(t, from);
    t.dim[t.rank - 1] = count;
    return t;
}

dc_tensor dc_view_batch(dc_tensor t, int64_t from, int64_t count)
{
    if (dc_is_none(t)) return t;
    assert(from >= 0 && from + count <= t.dim[0]);
    int64_t each = t.rank == 1 ? 1 : dc_rows(t) / (t.dim[0] ? t.dim[0] : 1) * t.stride;
    t.data = advance(t, from * each);
    t.dim[0] = count;
    if (t.rank == 1) t.stride = count;
    return t;
}

dc_tensor dc_view_rows(dc_tensor t, int64_t from, int64_t count)
{
    if (dc_is_none(t)) return t;
    assert(t.rank == 4 && t.dim[0] == 1 && from >= 0 && from + count <= t.dim[1]);
    t.data = advance(t, from * t.dim[2] * t.stride);
    t.dim[1] = count;
    return t;
}

dc_tensor dc_view_flat(dc_tensor t)
{
    if (dc_is_none(t)) return t;
    assert(t.stride == dc_channels(t));
    int64_t rest = dc_numel(t) / (t.dim[0] ? t.dim[0] : 1);
    t.dim[1] = rest;
    t.rank = 2;
    t.stride = rest;
    return t;
}

dc_tensor dc_view_as(dc_tensor t, int rank, const int64_t *dim)
{
    if (dc_is_none(t)) return t;
    const int64_t n = dc_numel(t);
    assert(t.stride == dc_channels(t) && rank >= 1 && rank <= 4);
    memset(t.dim, 0, sizeof t.dim);
    memcpy(t.dim, dim, (size_t)rank * sizeof *dim);
    t.rank = (uint8_t)rank;
    t.stride = dc_channels(t);
    assert(dc_numel(t) == n);
    (void)n;
    return t;
}

int dc_norm_rows(int64_t height)
{
    int rows = 1;
    while ((height + rows - 1) / rows > 64) rows *= 2;
    return rows;
}

dc_tensor dc_conv_source(const dc_conv_args *a, int64_t y, int64_t *row)
{
    const int64_t H = a->x.dim[1], times = a->in_h / H; /* with neighbours it is a whole number */
    dc_tensor t = a->x;
    *row = y * H / a->in_h; /* nearest, as torch */
    if (y >= 0 && y < a->in_h) return t;
    t = y < 0 ? a->o.strip.above : a->o.strip.below;
    y += y < 0 ? t.dim[1] * times : -a->in_h;
    if (dc_is_none(t) || y < 0 || y >= t.dim[1] * times) return DC_NONE;
    *row = y / times;
    return t;
}

dc_tensor dc_borrow(dc_tensor t)
{
    t.id = -1;
    return t;
}

/* ---- storage types to float ---------------------------------------------------------------------------------- */

#define CONVERT(type, expression)                                                                                                                    \
    for (int64_t i = 0; i < n; i++) {                                                                                                                \
        type v;                                                                                                                                      \
        memcpy(&v, at + (size_t)i * sizeof v, sizeof v);                                                                                             \
        out[i] = (float)(expression);                                                                                                                \
    }                                                                                                                                                \
    break

void dc_source_floats(const dc_source *s, int64_t from, int64_t n, float *out)
{
    if (dc_dtype_block(s->dtype) > 1) {
        dc_block_floats(s->dtype, s->data, from, n, out);
        return;
    }
    const uint8_t *at = (const uint8_t *)s->data + (size_t)from * dc_dtype_size(s->dtype);
    switch (s->dtype) {
    case DC_F32: memcpy(out, at, (size_t)n * 4); break;
    case DC_F16: CONVERT(uint16_t, dc_f16_to_f32(v));
    case DC_BF16: CONVERT(uint16_t, dc_bf16_to_f32(v));
    case DC_F64: CONVERT(double, v);
    case DC_F8_E4M3: CONVERT(uint8_t, dc_f8_e4m3_to_f32(v));
    case DC_F8_E5M2: CONVERT(uint8_t, dc_f8_e5m2_to_f32(v));
    case DC_I64: CONVERT(int64_t, v);
    case DC_I32: CONVERT(int32_t, v);
    case DC_I16: CONVERT(int16_t, v);
    case DC_I8: CONVERT(int8_t, v);
    case DC_U8: CONVERT(uint8_t, v);
    case DC_BOOL: CONVERT(uint8_t, v != 0);
    default: break;
    }
    for (int64_t i = 0; s->scale != 0 && i < n; i++) out[i] *= s->scale;
}

float dc_source_value(const dc_source *s, int64_t i)
{
    float v = 0;
    dc_source_floats(s, i, 1, &v);
    return v;
}
