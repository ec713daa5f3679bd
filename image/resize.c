/* resize.c - Pillow's Image.resize for 8-bit pictures, to the byte. Ref: Pillow src/libImaging/Resample.c: weights in double, rounded to
 * 22-bit fixed point, two passes with 8-bit results between; alpha is premultiplied around them. */
#include "base/checked.h"
#include "image/codec.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* Weights of one axis: output i takes `count[i]` inputs from `from[i]` on, weights at k + i * size. */
typedef struct axis {
    int size, *from, *count;
    int32_t *k;
} axis;

static void axis_free(axis *x)
{
    free(x->from);
    free(x->count);
    free(x->k);
}

static dc_status axis_make(axis *x, int in, int out, dc_filter filter, dc_error *e)
{
    double scale = (double)in / out, spread = scale < 1 ? 1 : scale, support = filters[filter].support * spread;
    x->size = (int)ceil(support) * 2 + 1;
    x->from = dc_calloc((size_t)out, sizeof(int));
    x->count = dc_calloc((size_t)out, sizeof(int));
    x->k = dc_calloc((size_t)out * (size_t)x->size, sizeof(int32_t));
    double *w = dc_calloc((size_t)x->size, sizeof *w);
    if (!x->from || !x->count || !x->k || !w) {
        free(w);
        return dc_fail_memory(e, "resizing", (unsigned long long)out * (unsigned)x->size * 4);
    }
    for (int i = 0; i < out; i++) {
        double center = (i + 0.5) * scale, sum = 0;
        int low = (int)(center - support + 0.5), high = (int)(center + support + 0.5);
        low = low < 0 ? 0 : low;
        high = high > in ? in : high;
        for (int j = low; j < high; j++) sum += w[j - low] = filters[filter].f((j - center + 0.5) * (1 / spread));
        for (int j = 0; j < high - low; j++) {
            double v = sum != 0 ? w[j] / sum : w[j];
            x->k[(size_t)i * (size_t)x->size + (size_t)j] = (int32_t)(v * (1 << BITS) + (v < 0 ? -0.5 : 0.5));
        }
        x->from[i] = low;
        x->count[i] = high - low;
    }
    free(w);
    return DC_OK;
}

static uint8_t clip8(int32_t v)
{
    v >>= BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* One output pixel: `count` inputs that lie `step` bytes apart. */
static void weigh(uint8_t *to, const uint8_t *from, size_t step, int count, const int32_t *k, int channels)
{
    for (int c = 0; c < channels; c++) {
        int32_t sum = 1 << (BITS - 1);
        for (int j = 0; j < count; j++) sum += from[(size_t)j * step + (size_t)c] * k[j];
        to[c] = clip8(sum);
    }
}

static dc_status pass(dc_image *out, const dc_image *in, int width, int height, dc_filter filter, dc_error *e)
{
    bool across = width != in->width;
    axis x = {0};
    dc_status s = axis_make(&x, across ? in->width : in->height, across ? width : height, filter, e);
    if (!s) s = dc_image_make(out, "resizing", (uint64_t)width, (uint64_t)height, in->channels, e);
    size_t C = (size_t)in->channels, row = (size_t)in->width * C;
    for (int v = 0; !s && v < height; v++)
        for (int u = 0; u < width; u++) {
            int i = across ? u : v;
            const uint8_t *from =
                across ? in->pixels + (size_t)v * row + (size_t)x.from[i] * C : in->pixels + (size_t)x.from[i] * row + (size_t)u * C;
            weigh(out->pixels + ((size_t)v * (size_t)width + (size_t)u) * C, from, across ? C : row, x.count[i], x.k + (size_t)i * (size_t)x.size,
                  in->channels);
        }
    axis_free(&x);
    return s;
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

static dc_status copy(dc_image *out, const dc_image *in, dc_error *e)
{
    dc_status s = dc_image_make(out, "resizing", (uint64_t)in->width, (uint64_t)in->height, in->channels, e);
    if (!s) memcpy(out->pixels, in->pixels, (size_t)in->width * (size_t)in->height * (size_t)in->channels);
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

static dc_status nearest(dc_image *out, const dc_image *in, int width, int height, dc_error *e)
{
    dc_status s = dc_image_make(out, "resizing", (uint64_t)width, (uint64_t)height, in->channels, e);
    int *xs = nearest_inputs(in->width, width), *ys = nearest_inputs(in->height, height);
    size_t C = (size_t)in->channels;
    if (!s && (!xs || !ys)) s = dc_fail_memory(e, "resizing", (unsigned long long)(width + height) * sizeof(int));
    for (int y = 0; !s && y < height; y++)
        for (int x = 0; x < width; x++)
            memcpy(out->pixels + ((size_t)y * (size_t)width + (size_t)x) * C, in->pixels + ((size_t)ys[y] * (size_t)in->width + (size_t)xs[x]) * C,
                   C);
    free(xs);
    free(ys);
    if (s) dc_image_free(out);
    return s;
}

dc_status dc_image_resize(dc_image *out, const dc_image *in, int width, int height, dc_filter filter, dc_error *e)
{
    *out = (dc_image){0};
    if (width == in->width && height == in->height) return copy(out, in, e);
    if (filter == DC_FILTER_NEAREST) return nearest(out, in, width, height, e);
    dc_image work = {0}, middle = {0};
    dc_status s = copy(&work, in, e);
    if (!s && in->channels == 4) premultiply(&work);
    /* Pillow 13 begins with the height when that shrinks by more than twice what the width loses; else with the width. */
    bool down_first = height < in->height && in->height - height > 2 * (in->width - width);
    for (int k = 0; !s && k < 2; k++) {
        bool across = (k == 0) != down_first;
        int w = across ? width : work.width, h = across ? work.height : height;
        if (w == work.width && h == work.height) continue;
        middle = (dc_image){0}; /* what a failed pass leaves as it is */
        s = pass(&middle, &work, w, h, filter, e);
        dc_image_free(&work);
        work = middle;
    }
    if (!s) {
        *out = work;
        work = (dc_image){0};
    }
    if (!s && in->channels == 4) divide(out);
    dc_image_free(&work);
    if (s) dc_image_free(out);
    return s;
}
