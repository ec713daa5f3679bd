/* resize.c - Pillow's Image.resize for 8-bit pictures, to the byte. Ref: Pillow src/libImaging/Resample.c: weights in double, rounded to
 * 22-bit fixed point, two passes with 8-bit results between; alpha is premultiplied around them. Both passes sum up 16 bytes at a time. */
#include "base/checked.h"
#include "image/codec.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BITS 22

static double box(double x) { return x > -0.5 && x <= 0.5 ? 1 : 0; }
static double bilinear(double x) { return fabs(x) < 1 ? 1 - fabs(x) : 0; }
static double bicubic(double x) /* Keys, a = -1/2 */
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}
static double sinc(double x) { return x == 0 ? 1 : sin(x * M_PI) / (x * M_PI); }
static double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

static const struct {
    double (*f)(double);
    double support;
} filters[] = {
    [DC_FILTER_BOX] = {box, 0.5}, [DC_FILTER_BILINEAR] = {bilinear, 1}, [DC_FILTER_BICUBIC] = {bicubic, 2}, [DC_FILTER_LANCZOS] = {lanczos, 3}};

/* ---- weights --------------------------------------------------------------------------------------------------------- */

/* Of one axis n outputs, from a first one on: the i-th takes `count[i]` inputs from `from[i]` on, weights at k + i * size. */
typedef struct axis {
    int n, size, *from, *count;
    int32_t *k;
} axis;

static void axis_free(axis *x)
{
    free(x->from);
    free(x->count);
    free(x->k);
}

#ifdef __SSE2__
/* Two inputs at a time, by products of 16 bits: a weight is 2^15 times its upper half and its lower one, and of each half two weights lie in one
 * number. */
static void put_weight(int32_t *k, int j, int32_t v)
{
    int32_t *pair = k + j / 2 * 2;
    const int shift = j % 2 * 16;
    pair[0] |= (int32_t)((uint32_t)(v & 0x7fff) << shift);
    pair[1] |= (int32_t)((uint32_t)((v >> 15) & 0xffff) << shift);
}
#else
static void put_weight(int32_t *k, int j, int32_t v) { k[j] = v; }
#endif

static dc_status axis_make(axis *x, int in, int out, int first, int n, dc_filter filter, dc_error *e)
{
    double scale = (double)in / out, spread = scale < 1 ? 1 : scale, support = filters[filter].support * spread;
    *x = (axis){.n = n, .size = (int)ceil(support) * 2 + 2}; /* even */
    x->from = dc_calloc((size_t)n, sizeof(int));
    x->count = dc_calloc((size_t)n, sizeof(int));
    x->k = dc_calloc((size_t)n * (size_t)x->size, sizeof(int32_t));
    double *w = dc_calloc((size_t)x->size, sizeof *w);
    if (!x->from || !x->count || !x->k || !w) {
        free(w);
        return dc_fail_memory(e, "resizing", (unsigned long long)n * (unsigned)x->size * 4);
    }
    for (int i = 0; i < n; i++) {
        double center = (first + i + 0.5) * scale, sum = 0;
        int low = (int)(center - support + 0.5), high = (int)(center + support + 0.5);
        low = low < 0 ? 0 : low;
        high = high > in ? in : high;
        for (int j = low; j < high; j++) sum += w[j - low] = filters[filter].f((j - center + 0.5) * (1 / spread));
        for (int j = 0; j < high - low; j++) {
            double v = sum != 0 ? w[j] / sum : w[j];
            put_weight(x->k + (size_t)i * (size_t)x->size, j, (int32_t)(v * (1 << BITS) + (v < 0 ? -0.5 : 0.5)));
        }
        x->from[i] = low;
        x->count[i] = high - low;
    }
    free(w);
    return DC_OK;
}

/* ---- sums: whole numbers, so that their order does not matter ------------------------------------------------------------- */

enum { LANES = 16 };
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#ifdef __SSE2__
/* LANES bytes that each are the sum of `count` inputs, `step` bytes apart. */
static void weigh(uint8_t *to, const uint8_t *from, size_t step, int count, const int32_t *k)
{
    const __m128i none = _mm_setzero_si128();
    __m128i low[4], high[4];
    UNROLL for (int i = 0; i < 4; i++) low[i] = _mm_set1_epi32(1 << (BITS - 1)), high[i] = none;
    for (int j = 0; j < count; j += 2, k += 2, from += 2 * step) {
        const __m128i a = _mm_loadu_si128((const __m128i *)from), b = j + 1 < count ? _mm_loadu_si128((const __m128i *)(from + step)) : none;
        const __m128i l = _mm_set1_epi32(k[0]), h = _mm_set1_epi32(k[1]), first = _mm_unpacklo_epi8(a, b), last = _mm_unpackhi_epi8(a, b);
        const __m128i pair[4] = {_mm_unpacklo_epi8(first, none), _mm_unpackhi_epi8(first, none), _mm_unpacklo_epi8(last, none),
                                 _mm_unpackhi_epi8(last, none)};
        UNROLL for (int i = 0; i < 4; i++)
        {
            low[i] = _mm_add_epi32(low[i], _mm_madd_epi16(pair[i], l));
            high[i] = _mm_add_epi32(high[i], _mm_madd_epi16(pair[i], h));
        }
    }
    UNROLL for (int i = 0; i < 4; i++) low[i] = _mm_srai_epi32(_mm_add_epi32(low[i], _mm_slli_epi32(high[i], 15)), BITS);
    _mm_storeu_si128((__m128i *)to, _mm_packus_epi16(_mm_packs_epi32(low[0], low[1]), _mm_packs_epi32(low[2], low[3])));
}
#else
static void weigh(uint8_t *to, const uint8_t *from, size_t step, int count, const int32_t *k)
{
    int32_t sum[LANES];
    for (int i = 0; i < LANES; i++) sum[i] = 1 << (BITS - 1);
    for (int j = 0; j < count; j++, from += step)
        for (int i = 0; i < LANES; i++) sum[i] += from[i] * k[j];
    for (int i = 0; i < LANES; i++) {
        const int32_t v = sum[i] >> BITS;
        to[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}
#endif

/* ---- passes ------------------------------------------------------------------------------------------------------------- */

/* n bytes of one output row from rows `step` bytes apart: in whole lanes, the last ones over again; a row too short for that by way of `room`
 * (LANES * (count + 1) bytes). */
static void row_down(uint8_t *to, const uint8_t *from, size_t step, size_t n, int count, const int32_t *k, uint8_t *room)
{
    for (size_t at = 0; n >= LANES && at < n; at += LANES) {
        const size_t i = at + LANES <= n ? at : n - LANES;
        weigh(to + i, from + i, step, count, k);
    }
    if (n >= LANES) return;
    for (int j = 0; j < count; j++) memcpy(room + LANES * (size_t)(j + 1), from + (size_t)j * step, n);
    weigh(room, room + LANES, LANES, count, k);
    memcpy(to, room, n);
}

/* out: the rows of x, of what `in` becomes when its height is resized, and of its columns those from `left` on. */
static dc_status down(dc_image *out, const dc_image *in, const axis *x, int left, dc_error *e)
{
    const size_t C = (size_t)in->channels, step = (size_t)in->width * C, row = (size_t)out->width * C;
    uint8_t *room = dc_calloc((size_t)x->size + 1, LANES);
    if (!room) return dc_fail_memory(e, "resizing", LANES * ((size_t)x->size + 1));
    for (int i = 0; i < x->n; i++)
        row_down(out->pixels + (size_t)i * row, in->pixels + (size_t)x->from[i] * step + (size_t)left * C, step, row, x->count[i],
                 x->k + (size_t)i * (size_t)x->size, room);
    free(room);
    return DC_OK;
}

typedef uint8_t bytes __attribute__((vector_size(LANES)));

/* The other way round: byte i of 16 rows, each n bytes long, becomes the i-th 16 bytes. */
static void turn(uint8_t *to, const uint8_t *const from[LANES], size_t n)
{
    size_t at = 0;
    for (; at + LANES <= n; at += LANES) {
        bytes a[LANES], b[LANES];
        UNROLL for (int i = 0; i < LANES; i++) memcpy(&a[i], from[i] + at, LANES);
        UNROLL for (int k = 0; k < 4; k++)
        { /* row i beside row i + 8, four times */
            UNROLL for (int i = 0; i < LANES / 2; i++)
            {
                b[2 * i] = __builtin_shufflevector(a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            }
            UNROLL for (int i = 0; i < LANES; i++) a[i] = b[i];
        }
        memcpy(to + at * LANES, a, sizeof a);
    }
    for (; at < n; at++)
        for (int i = 0; i < LANES; i++) to[at * LANES + (size_t)i] = from[i][at];
}

/* out: the same for its width, and of its rows those from `top` on. Sixteen rows are turned, so that a column of them is a vector, and back. */
static dc_status across(dc_image *out, const dc_image *in, const axis *x, int top, dc_error *e)
{
    const size_t C = (size_t)in->channels, step = (size_t)in->width * C, row = (size_t)out->width * C, most = (row + LANES - 1) / LANES * LANES;
    const size_t first = (size_t)x->from[0], n = (size_t)(x->from[x->n - 1] + x->count[x->n - 1]) - first;
    uint8_t *turned = dc_calloc(n * C + 2 * most, LANES), *made = turned ? turned + n * C * LANES : NULL, *back = made ? made + most * LANES : NULL;
    if (!turned) return dc_fail_memory(e, "resizing", (n * C + 2 * most) * LANES);
    for (int y = 0; y < out->height; y += LANES) {
        const uint8_t *line[LANES];
        for (int i = 0; i < LANES; i++) {
            const int at = y + i < out->height ? y + i : out->height - 1;
            line[i] = in->pixels + (size_t)(top + at) * step + first * C;
        }
        turn(turned, line, n * C);
        for (size_t i = 0; i < (size_t)x->n; i++)
            for (size_t c = 0; c < C; c++)
                weigh(made + (i * C + c) * LANES, turned + (((size_t)x->from[i] - first) * C + c) * LANES, C * LANES, x->count[i],
                      x->k + i * (size_t)x->size);
        for (size_t at = 0; at < row; at += LANES) {
            const uint8_t *column[LANES];
            for (size_t i = 0; i < LANES; i++) column[i] = made + (at + i) * LANES;
            turn(back + at * LANES, column, LANES);
        }
        for (size_t i = 0; i < LANES && y + (int)i < out->height; i++)
            for (size_t at = 0; at < row; at += LANES)
                memcpy(out->pixels + ((size_t)y + i) * row + at, back + (at + i) * LANES, row - at < LANES ? row - at : LANES);
    }
    free(turned);
    return DC_OK;
}

static uint8_t times(unsigned a, unsigned b) /* a b / 255, rounded as Pillow's MULDIV255 */
{
    unsigned v = a * b + 128;
    return (uint8_t)(((v >> 8) + v) >> 8);
}

static void premultiply(dc_image *m)
{
    for (size_t i = 0; i < (size_t)m->width * (size_t)m->height; i++)
        for (int c = 0; c < 3; c++) m->pixels[4 * i + (size_t)c] = times(m->pixels[4 * i + (size_t)c], m->pixels[4 * i + 3]);
}

static void divide(dc_image *m)
{
    for (size_t i = 0; i < (size_t)m->width * (size_t)m->height; i++) {
        uint8_t *p = m->pixels + 4 * i, a = p[3];
        for (int c = 0; c < 3 && a != 0 && a != 255; c++) {
            int v = 255 * p[c] / a;
            p[c] = (uint8_t)(v > 255 ? 255 : v);
        }
    }
}

/* The part of a picture that is not resized. */
static dc_status cut(dc_image *out, const dc_image *in, const dc_image_part *p, dc_error *e)
{
    const size_t C = (size_t)in->channels, row = (size_t)p->width * C;
    dc_status s = dc_image_make(out, "resizing", (uint64_t)p->width, (uint64_t)p->height, in->channels, e);
    for (size_t y = 0; !s && y < (size_t)p->height; y++)
        memcpy(out->pixels + y * row, in->pixels + (((size_t)p->top + y) * (size_t)in->width + (size_t)p->left) * C, row);
    return s;
}

/* For each of n outputs the input that its middle falls on. Pillow adds up the steps, so that the rounding errors add up too. Ref: Pillow
 * src/libImaging/Geometry.c, ImagingScaleAffine. */
static int *nearest_inputs(int in, int n)
{
    int *at = dc_calloc((size_t)n, sizeof *at);
    double step = (double)in / n, middle = step * 0.5;
    for (int i = 0; at && i < n; i++, middle += step) at[i] = middle < in ? (int)middle : in - 1;
    return at;
}

static dc_status nearest(dc_image *out, const dc_image *in, int width, int height, const dc_image_part *p, dc_error *e)
{
    dc_status s = dc_image_make(out, "resizing", (uint64_t)p->width, (uint64_t)p->height, in->channels, e);
    int *xs = nearest_inputs(in->width, width), *ys = nearest_inputs(in->height, height);
    size_t C = (size_t)in->channels;
    if (!s && (!xs || !ys)) s = dc_fail_memory(e, "resizing", (unsigned long long)(width + height) * sizeof(int));
    for (int y = 0; !s && y < p->height; y++)
        for (int x = 0; x < p->width; x++)
            memcpy(out->pixels + ((size_t)y * (size_t)p->width + (size_t)x) * C,
                   in->pixels + ((size_t)ys[p->top + y] * (size_t)in->width + (size_t)xs[p->left + x]) * C, C);
    free(xs);
    free(ys);
    return s;
}

/* By the axes that change; of what the first pass makes, the second needs some rows or columns only. */
static dc_status two_passes(dc_image *out, const dc_image *in, axis *x, axis *y, const dc_image_part *p, bool down_first, dc_error *e)
{
    dc_image middle = {0};
    axis *second = down_first ? x : y;
    const bool both = x->n && y->n;
    const int from = both ? second->from[0] : down_first ? p->left : p->top, last = second->n - 1;
    const int n = both ? second->from[last] + second->count[last] - from : 0;
    dc_status s = dc_image_make(out, "resizing", (uint64_t)p->width, (uint64_t)p->height, in->channels, e);
    if (!both) return s ? s : x->n ? across(out, in, x, p->top, e) : down(out, in, y, p->left, e);
    if (!s) s = dc_image_make(&middle, "resizing", (uint64_t)(down_first ? n : p->width), (uint64_t)(down_first ? p->height : n), in->channels, e);
    if (!s) s = down_first ? down(&middle, in, y, from, e) : across(&middle, in, x, from, e);
    for (int i = 0; i < second->n; i++) second->from[i] -= from;
    if (!s) s = down_first ? across(out, &middle, x, 0, e) : down(out, &middle, y, 0, e);
    dc_image_free(&middle);
    return s;
}

static dc_status by_filter(dc_image *out, const dc_image *in, int width, int height, const dc_image_part *p, dc_filter filter, dc_error *e)
{
    /* Pillow 13 begins with the height when that shrinks by more than twice what the width loses; else with the width. */
    const bool down_first = height < in->height && in->height - height > 2 * (in->width - width);
    dc_image faded = {0};
    axis x = {0}, y = {0};
    dc_status s = DC_OK;
    if (in->channels == 4) {
        s = cut(&faded, in, &(dc_image_part){0, 0, in->width, in->height}, e);
        if (!s) premultiply(&faded);
    }
    if (!s && width != in->width) s = axis_make(&x, in->width, width, p->left, p->width, filter, e);
    if (!s && height != in->height) s = axis_make(&y, in->height, height, p->top, p->height, filter, e);
    if (!s) s = two_passes(out, in->channels == 4 ? &faded : in, &x, &y, p, down_first, e);
    if (!s && in->channels == 4) divide(out);
    axis_free(&x);
    axis_free(&y);
    dc_image_free(&faded);
    return s;
}

dc_status dc_image_resize_part(dc_image *out, const dc_image *in, int width, int height, const dc_image_part *part, dc_filter filter, dc_error *e)
{
    dc_status s;
    *out = (dc_image){0};
    if (width == in->width && height == in->height) s = cut(out, in, part, e);
    else if (filter == DC_FILTER_NEAREST) s = nearest(out, in, width, height, part, e);
    else s = by_filter(out, in, width, height, part, filter, e);
    if (s) dc_image_free(out);
    return s;
}

dc_status dc_image_resize(dc_image *out, const dc_image *in, int width, int height, dc_filter filter, dc_error *e)
{
    return dc_image_resize_part(out, in, width, height, &(dc_image_part){0, 0, width, height}, filter, e);
}
