/* preprocess.c - resized, cropped, normalised. */
#include "clip/preprocess.h"
#include "base/checked.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST = 16384 }; /* a side of what is resized to */

/* ---- configurations ----------------------------------------------------------------------------------------------------- */

static const double clip_mean[3] = {0.48145466, 0.4578275, 0.40821073}, clip_std[3] = {0.26862954, 0.26130258, 0.27577711};

/* Three numbers, or one for all; `absent` where the key is. */
static void take_three(const dc_config *c, const char *key, const double absent[3], double out[3])
{
    const json_t *v = json_object_get(c->root, key);
    bool list = json_is_array(v) && json_array_size(v) == 3;
    memcpy(out, absent, 3 * sizeof *out);
    for (size_t i = 0; i < 3 && v && !json_is_null(v); i++) {
        const json_t *x = list ? json_array_get(v, i) : v;
        if (json_is_number(x)) out[i] = json_number_value(x);
        else if (!c->e->code) dc_fail(c->e, DC_DATA, "%s: %s: found something else, expected three numbers", c->path, key);
    }
}

/* As both libraries compute it: the rescaled value is rounded to float, then (x - mean) / std is, step by step. */
static void fill_values(dc_clip_preprocess *p, bool rescale, double factor, bool normalise, const double mean[3], const double std[3])
{
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) {
            float x = !rescale ? (float)v : p->openclip ? (float)v / 255.0f : (float)(v * factor);
            p->value[c][v] = normalise ? (x - (float)mean[c]) / (float)std[c] : x;
        }
}

static void check_std(const dc_config *c, const char *key, const double std[3])
{
    for (int i = 0; i < 3 && !c->e->code; i++)
        if (!(std[i] > 1e-6 && std[i] < 1e6)) dc_fail(c->e, DC_DATA, "%s: %s: found %g, expected numbers above 0", c->path, key, std[i]);
}

/* A size of transformers: a number, {"shortest_edge"}, or {"height", "width"}. square: a number means both sides. */
static void take_size(const dc_config *c, const char *key, int absent, bool square, int *shortest, int *width, int *height)
{
    const json_t *v = json_object_get(c->root, key);
    *shortest = square ? 0 : absent, *width = *height = square ? absent : 0;
    if (!v || json_is_null(v)) return;
    if (!json_is_object(v)) {
        *(square ? width : shortest) = (int)dc_config_int(c, key, absent, 1, LARGEST);
        *height = *width;
        return;
    }
    dc_config in = {v, c->path, c->e};
    *shortest = (int)dc_config_int(&in, "shortest_edge", 0, 1, LARGEST);
    *width = (int)dc_config_int(&in, "width", 0, 1, LARGEST), *height = (int)dc_config_int(&in, "height", 0, 1, LARGEST);
    bool told = square ? !*shortest && *width && *height : (*shortest != 0) != (*width && *height);
    if (!c->e->code && (!told || dc_config_has(&in, "longest_edge") || dc_config_has(&in, "max_height") || dc_config_has(&in, "max_width")))
        dc_fail(c->e, DC_DATA, "%s: %s: found another kind of size, expected %s", c->path, key,
                square ? "height and width" : "shortest_edge, or height and width");
}

/* Pillow's numbers of its filters. */
static dc_filter filter_of(const dc_config *c)
{
    static const dc_filter filters[] = {DC_FILTER_NEAREST, DC_FILTER_LANCZOS, DC_FILTER_BILINEAR, DC_FILTER_BICUBIC, DC_FILTER_BOX};
    return filters[dc_config_int(c, "resample", 3, 0, 4)];
}

/* What comes out must be what the tower sees. */
static void check_side(const dc_config *c, const char *key, int width, int height, int side)
{
    if (!c->e->code && (width != side || height != side))
        dc_fail(c->e, DC_DATA, "%s: %s: found %dx%d, expected the model's image_size of %d", c->path, key, width, height, side);
}

dc_status dc_clip_preprocess_read(dc_clip_preprocess *p, const json_t *root, int side, const char *path, dc_error *e)
{
    dc_config c = {root, path, e};
    int shortest, width, height, ignored, crop_width, crop_height;
    double mean[3], std[3];
    if (root && !json_is_object(root)) return dc_fail(e, DC_DATA, "%s: found no JSON object, expected how pictures are prepared", path);
    take_size(&c, "size", side, false, &shortest, &width, &height);
    take_size(&c, "crop_size", side, true, &ignored, &crop_width, &crop_height);
    take_three(&c, "image_mean", clip_mean, mean);
    take_three(&c, "image_std", clip_std, std);
    *p = (dc_clip_preprocess){.side = side, .size = shortest, .width = width, .height = height, .filter = filter_of(&c)};
    p->crop = dc_config_bool(&c, "do_center_crop", true);
    if (dc_config_bool(&c, "do_resize", true)) p->fit = shortest ? DC_CLIP_FIT_SHORTEST : DC_CLIP_FIT_EXACT;
    bool rescale = dc_config_bool(&c, "do_rescale", true), normalise = dc_config_bool(&c, "do_normalize", true);
    double factor = dc_config_real(&c, "rescale_factor", 1.0 / 255, -1e6, 1e6);
    if (normalise) check_std(&c, "image_std", std);
    if (p->crop) check_side(&c, "crop_size", crop_width, crop_height, side);
    else if (p->fit == DC_CLIP_FIT_EXACT) check_side(&c, "size", width, height, side);
    else if (!e->code)
        dc_fail(e, DC_DATA, "%s: do_center_crop: found pictures that keep their proportions, expected all to become %dx%d", path, side, side);
    fill_values(p, rescale, factor, normalise, mean, std);
    return e->code;
}

/* fill_color: one number, or one a channel. */
static void take_fill(dc_clip_preprocess *p, const dc_config *c)
{
    int v[3] = {0};
    if (dc_config_ints(c, "fill_color", v, 3, 0, 255) <= 1) v[1] = v[2] = v[0];
    for (int i = 0; i < 3; i++) p->fill[i] = (uint8_t)v[i];
}

dc_status dc_clip_preprocess_read_openclip(dc_clip_preprocess *p, const json_t *root, int side, const char *path, dc_error *e)
{
    dc_config c = {json_object_get(root, "preprocess_cfg"), path, e};
    double mean[3], std[3];
    const char *mode = dc_config_string(&c, "resize_mode", "shortest"), *filter = dc_config_string(&c, "interpolation", "bicubic");
    take_three(&c, "mean", clip_mean, mean);
    take_three(&c, "std", clip_std, std);
    check_std(&c, "std", std);
    *p = (dc_clip_preprocess){.openclip = true, .side = side, .size = side, .width = side, .height = side};
    p->filter = strcmp(filter, "bilinear") ? DC_FILTER_BICUBIC : DC_FILTER_BILINEAR; /* "random" is bicubic outside of training */
    p->fit = !strcmp(mode, "squash") ? DC_CLIP_FIT_EXACT : !strcmp(mode, "longest") ? DC_CLIP_FIT_LONGEST : DC_CLIP_FIT_SHORTEST;
    p->crop = p->fit != DC_CLIP_FIT_EXACT;
    take_fill(p, &c);
    if (!e->code && p->fit == DC_CLIP_FIT_SHORTEST && strcmp(mode, "shortest"))
        dc_fail(e, DC_DATA, "%s: preprocess_cfg.resize_mode: found %s, expected shortest, longest or squash", path, mode);
    if (!e->code && strcmp(filter, "bicubic") && strcmp(filter, "bilinear") && strcmp(filter, "random"))
        dc_fail(e, DC_DATA, "%s: preprocess_cfg.interpolation: found %s, expected bicubic or bilinear", path, filter);
    fill_values(p, true, 1.0 / 255, true, mean, std);
    return e->code;
}

/* ---- a picture -------------------------------------------------------------------------------------------------------------- */

static int within(double v) { return v < 1 ? 1 : v > LARGEST ? LARGEST : (int)v; }

/* The size that `in` is resized to. Ref: torchvision _compute_resized_output_size, open_clip ResizeKeepRatio. */
static void fitted(const dc_clip_preprocess *p, const dc_image *in, int *width, int *height)
{
    const bool tall = in->width <= in->height;
    const int small = tall ? in->width : in->height, large = tall ? in->height : in->width;
    double ratio = (double)large / p->side;
    *width = in->width, *height = in->height;
    switch (p->fit) {
    case DC_CLIP_FIT_NONE: break;
    case DC_CLIP_FIT_EXACT: *width = p->width, *height = p->height; break;
    case DC_CLIP_FIT_LONGEST: *width = within(rint(in->width / ratio)), *height = within(rint(in->height / ratio)); break;
    case DC_CLIP_FIT_SHORTEST: *(tall ? width : height) = p->size; *(tall ? height : width) = within((double)((int64_t)p->size * large) / small);
    }
}

/* Where the crop begins in a side of n pixels; < 0: so many are missing before it. Ref: torchvision center_crop (and pad),
 * open_clip center_crop_or_pad, transformers center_crop. */
static int crop_from(const dc_clip_preprocess *p, int n)
{
    const int left = n - p->side;
    if (left < 0) return p->openclip ? -(-left / 2) : -((1 - left) / 2);
    return p->openclip ? (int)rint(left / 2.0) : left / 2;
}

/* What is seen of a picture of that size, and where in the square it comes to lie. */
static dc_image_part seen(const dc_clip_preprocess *p, int width, int height, int *x, int *y)
{
    const int left = p->crop ? crop_from(p, width) : 0, top = p->crop ? crop_from(p, height) : 0;
    *x = left < 0 ? -left : 0, *y = top < 0 ? -top : 0;
    return (dc_image_part){left < 0 ? 0 : left, top < 0 ? 0 : top, width < p->side ? width : p->side, height < p->side ? height : p->side};
}

/* m at (x, y) of the square. */
static void normalise(const dc_clip_preprocess *p, const dc_image *m, int x, int y, float *out)
{
    const int S = p->side, C = m->channels, right = S - x - m->width;
    for (int c = 0; c < 3; c++) {
        const float *value = p->value[c], fill = value[p->fill[c]];
        for (int v = 0; v < S; v++) {
            const bool inside = v >= y && v < y + m->height;
            const uint8_t *from = m->pixels + (inside ? (size_t)(v - y) * (size_t)m->width * (size_t)C : 0) + (C > 1 ? c : 0);
            for (int u = 0; u < (inside ? x : S); u++) *out++ = fill;
            for (int u = 0; inside && u < m->width; u++, from += C) *out++ = value[*from];
            for (int u = 0; inside && u < right; u++) *out++ = fill;
        }
    }
}

int dc_clip_preprocess_least(const dc_clip_preprocess *p)
{
    const int largest = p->width > p->height ? p->width : p->height;
    return p->fit == DC_CLIP_FIT_NONE ? 0 : 2 * (p->fit == DC_CLIP_FIT_SHORTEST ? p->size : p->fit == DC_CLIP_FIT_EXACT ? largest : p->side);
}

/* Laid on white, in Pillow's whole numbers. Ref: Pillow src/libImaging/AlphaComposite.c, of which this is the case of an opaque ground. */
static dc_status on_white(dc_image *out, const dc_image *in, dc_error *e)
{
    const size_t n = (size_t)in->width * (size_t)in->height;
    *out = (dc_image){in->width, in->height, 3, dc_calloc(n, 3)};
    if (!out->pixels) return dc_fail_memory(e, "a picture", n * 3);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = in->pixels + 4 * i;
        for (int c = 0; c < 3; c++) {
            const uint32_t v = ((uint32_t)p[c] * p[3] + 255u * (255u - p[3]) + 0x80) << 7;
            out->pixels[3 * i + (size_t)c] = (uint8_t)((((v >> 8) + v) >> 8) >> 7);
        }
    }
    return DC_OK;
}

dc_status dc_clip_preprocess_run(const dc_clip_preprocess *p, const dc_image *in, float *out, dc_error *e)
{
    dc_image plain = {0}, sized = {0};
    int width, height, x, y;
    dc_status s = in->channels == 4 && !p->openclip ? on_white(&plain, in, e) : DC_OK;
    fitted(p, in, &width, &height);
    const dc_image_part part = seen(p, width, height, &x, &y);
    if (!s) s = dc_image_resize_part(&sized, plain.pixels ? &plain : in, width, height, &part, p->filter, e);
    if (!s) normalise(p, &sized, x, y, out);
    dc_image_free(&plain);
    dc_image_free(&sized);
    return s;
}
