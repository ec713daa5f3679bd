/* cases.c - drawing cases, and judging what came of them. */
#include "backends/cases.h"
#include "base/checked.h"
#include "base/half.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[DC_CASE_KINDS] = {"conv2d", "strips",   "linear",  "geglu",    "attention",   "group_norm", "layer_norm", "embed",
                                                 "gather", "timestep", "lincomb", "activate", "rescale_std", "stats",      "to_rgb8"};
const char *dc_case_name(dc_case_kind kind) { return names[kind]; }

static bool is_conv(const dc_case *c) { return c->kind == DC_CASE_CONV || c->kind == DC_CASE_STRIPS; }
static bool is_linear(const dc_case *c) { return c->kind == DC_CASE_LINEAR || c->kind == DC_CASE_GEGLU; }

/* ---- shapes ---------------------------------------------------------------------------------------------------------- */

static uint32_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*state >> 32);
}

static int pick(uint64_t *rng, int n) { return (int)((uint64_t)next(rng) * (uint64_t)n >> 32); }
#define PICK(rng, ...) ((const int[]){__VA_ARGS__}[pick(rng, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)))])
#define CHANNELS       1, 2, 3, 4, 5, 7, 8, 12, 16, 20, 24, 31, 32, 33, 48, 64, 77, 96, 100, 128, 160, 255, 320, 640, 1280

static int64_t joined(const dc_case *c) { return c->c + c->c2; }
static int64_t rows_of(const dc_case *c) { return c->n * c->h * c->w; }

/* A number of groups for c channels. Groups of a few numbers are left out: where all are equal, the deviation is that of eps, and a
 * device's x * scale + shift (as torch's) loses digits that the reference device keeps. */
static int divisor(uint64_t *rng, int64_t c, int64_t pixels)
{
    int g = PICK(rng, 1, 2, 3, 4, 5, 8, 16, 32, 1000000);
    if (g > c) g = (int)c;
    while (c % g || (g > 1 && c / g * pixels < 8)) g--;
    return g;
}

static int64_t products(const dc_case *c)
{
    if (is_conv(c)) return c->n * (c->up_h ? c->up_h : c->h) * (c->up_w ? c->up_w : c->w) * joined(c) * c->o * c->kh * c->kw;
    if (is_linear(c)) return rows_of(c) * joined(c) * c->o;
    if (c->kind == DC_CASE_ATTENTION) return 2 * c->n * c->h * c->w * c->heads * c->head;
    return rows_of(c) * c->c * 8;
}

static void draw_matrix_op(dc_case *c, uint64_t *rng)
{
    c->c = PICK(rng, CHANNELS);
    c->o = PICK(rng, CHANNELS);
    if (!pick(rng, 3)) c->c2 = PICK(rng, CHANNELS);
    c->norm = !pick(rng, 3) && joined(c) * c->h * c->w >= 8;
    c->groups = divisor(rng, joined(c), c->h * c->w);
    c->residual = pick(rng, 2);
    c->bias = pick(rng, 4);
    c->type = (dc_dtype)PICK(rng, DC_F32, DC_F32, DC_F16, DC_BF16);
    c->int8 = pick(rng, 2);
    if (!pick(rng, 3)) c->act = (dc_act)pick(rng, DC_ACTS);
    if (!pick(rng, 2)) c->pre_act = (dc_act)pick(rng, DC_ACTS);
    c->kh = c->kw = 1;
}

static void draw_linear(dc_case *c, uint64_t *rng)
{
    draw_matrix_op(c, rng);
    c->tokens = pick(rng, 2);
    c->transposed = !pick(rng, 4);
    if (!c->transposed && !pick(rng, 3)) c->parts = 2 + pick(rng, DC_MAX_PARTS - 1);
    if (c->kind == DC_CASE_GEGLU) c->o = (c->o + 1) / 2 * 2, c->transposed = false;
    if (c->parts > c->o) c->parts = 1;
}

static void draw_conv(dc_case *c, uint64_t *rng)
{
    draw_matrix_op(c, rng);
    c->kh = PICK(rng, 1, 3, 3, 3, 2, 5);
    c->kw = pick(rng, 4) ? c->kh : PICK(rng, 1, 3, 4);
    c->stride = PICK(rng, 1, 1, 1, 2, 3);
    c->add = pick(rng, 2);
    c->shared = c->add && !pick(rng, 3); /* one addend for all images */
    if (!pick(rng, 3)) c->up_h = (int)c->h * 2 - pick(rng, 2);
    if (!pick(rng, 3)) c->up_w = (int)c->w * 2 - pick(rng, 2);
    for (int i = 0; i < 4; i++) c->pad[i] = pick(rng, (i % 2 ? c->kw : c->kh) + 1);
    while ((c->up_h ? c->up_h : c->h) + c->pad[0] + c->pad[2] < c->kh) c->pad[0]++;
    while ((c->up_w ? c->up_w : c->w) + c->pad[1] + c->pad[3] < c->kw) c->pad[1]++;
}

/* As the VAE has them: 3x3, also to twice or half the size. */
static void draw_strips(dc_case *c, uint64_t *rng)
{
    draw_matrix_op(c, rng);
    c->n = 1, c->c2 = 0, c->slice = 0;
    c->h = PICK(rng, 12, 16, 24, 36, 48, 68);
    c->strip = PICK(rng, 4, 8, 16);
    c->groups = divisor(rng, c->c, c->h * c->w);
    c->kh = c->kw = 3;
    c->norm = pick(rng, 4);
    memcpy(c->pad, (int[4]){1, 1, 1, 1}, sizeof c->pad);
    if (!pick(rng, 4)) c->up_h = (int)c->h * 2, c->up_w = (int)c->w * 2;
    else if (!pick(rng, 4) && c->w > 1) c->stride = 2, c->pad[0] = c->pad[1] = 0;
}

/* Attention: h queries, w keys of n images. */
static void draw_attention(dc_case *c, uint64_t *rng)
{
    c->heads = PICK(rng, 1, 1, 2, 3, 5, 8);
    c->head = PICK(rng, 1, 4, 8, 13, 16, 40, 64, 80, 96, 128, 160, 512);
    c->c = c->heads * c->head;
    c->h = PICK(rng, 1, 2, 7, 24, 48, 49, 77, 130, 256);
    c->w = PICK(rng, 1, 3, 8, 31, 64, 77, 100, 257, 600);
    c->causal = !pick(rng, 3);
    c->keys = pick(rng, 2) ? 0 : 1 + pick(rng, (int)c->w);
    c->shared = !pick(rng, 3);
}

static void draw_lincomb(dc_case *c, uint64_t *rng)
{
    c->c = PICK(rng, CHANNELS);
    c->terms = 1 + pick(rng, 8);
    c->into = pick(rng, 2);
    c->shared = c->n > 1 && pick(rng, 2);  /* a term of one image for all */
    c->bad = c->terms > 1 && pick(rng, 2); /* a term of factor 0 */
}

static void draw_rest(dc_case *c, uint64_t *rng)
{
    c->c = PICK(rng, CHANNELS);
    switch (c->kind) {
    case DC_CASE_GROUP_NORM: c->act = (dc_act)pick(rng, DC_ACTS); break;
    case DC_CASE_ACTIVATE: c->act = (dc_act)(1 + pick(rng, DC_ACTS - 1)); break;
    case DC_CASE_EMBED:
        c->w = 1, c->h = PICK(rng, 1, 5, 31, 77), c->o = PICK(rng, 1, 7, 100, 1000);
        c->bias = pick(rng, 3); /* positions */
        c->type = (dc_dtype)PICK(rng, DC_F32, DC_F16, DC_BF16);
        break;
    case DC_CASE_GATHER: c->w = 1; break;
    case DC_CASE_TIMESTEP:
        c->h = c->w = 1, c->n = PICK(rng, 1, 2, 6, 12), c->c = PICK(rng, 4, 5, 32, 256, 320);
        c->flip = pick(rng, 2), c->into = pick(rng, 2);
        break;
    case DC_CASE_STATS: c->bad = !pick(rng, 3); break;
    case DC_CASE_RGB8: c->c = 3, c->slice = 0, c->bad = !pick(rng, 3); break;
    default: break;
    }
    c->groups = divisor(rng, c->c, c->h * c->w);
    if (c->kind == DC_CASE_RESCALE || c->kind == DC_CASE_STATS) c->slice = 0;
}

void dc_case_draw(dc_case *out, dc_case_kind kind, uint64_t *rng, int64_t most_products)
{
    dc_case c;
    do {
        c = (dc_case){.kind = kind, .stride = 1, .parts = 1};
        c.n = PICK(rng, 1, 1, 2, 3);
        c.h = PICK(rng, 1, 2, 3, 5, 7, 8, 9, 16, 33);
        c.w = PICK(rng, 1, 2, 4, 5, 7, 8, 15, 16, 30);
        c.slice = pick(rng, 2) * PICK(rng, 1, 5, 16);
        c.seed = *rng;
        switch (kind) {
        case DC_CASE_CONV: draw_conv(&c, rng); break;
        case DC_CASE_STRIPS: draw_strips(&c, rng); break;
        case DC_CASE_LINEAR:
        case DC_CASE_GEGLU: draw_linear(&c, rng); break;
        case DC_CASE_ATTENTION: draw_attention(&c, rng); break;
        case DC_CASE_LINCOMB: draw_lincomb(&c, rng); break;
        default: draw_rest(&c, rng);
        }
        c.wide = !pick(rng, 6);
        c.made = pick(rng, 2) ? 0 : (kind == DC_CASE_CONV || kind == DC_CASE_LINEAR) && pick(rng, 2) ? pick(rng, 16) : 15;
        if (c.bad || kind == DC_CASE_TIMESTEP || kind == DC_CASE_EMBED) c.made = 0;
    } while (products(&c) > most_products ||
             ((kind == DC_CASE_GROUP_NORM || kind == DC_CASE_RESCALE || (kind == DC_CASE_STRIPS && c.norm)) && c.c * c.h * c.w < 8));
    *out = c;
}

bool dc_case_known(dc_case *c, dc_case_kind kind, int i)
{
    static const dc_case known[] = {
        {.kind = DC_CASE_CONV, .n = 1, .h = 8, .w = 8, .c = 320, .o = 320, .kh = 3, .kw = 3, .groups = 32, .norm = true, .add = true},
        {.kind = DC_CASE_CONV, .n = 1, .h = 4, .w = 4, .c = 640, .c2 = 320, .o = 640, .kh = 3, .kw = 3, .groups = 32, .norm = true, .residual = true},
        {.kind = DC_CASE_CONV, .n = 1, .h = 2, .w = 2, .c = 1280, .o = 1280, .kh = 3, .kw = 3, .groups = 32, .norm = true, .residual = true},
        {.kind = DC_CASE_CONV, .n = 1, .h = 5, .w = 4, .c = 320, .o = 320, .kh = 3, .kw = 3, .up_h = 9, .up_w = 7},
        {.kind = DC_CASE_CONV, .n = 1, .h = 16, .w = 16, .c = 320, .o = 320, .kh = 3, .kw = 3, .stride = 2},
        {.kind = DC_CASE_CONV, .n = 2, .h = 32, .w = 32, .c = 4, .o = 320, .kh = 3, .kw = 3},
        {.kind = DC_CASE_CONV, .n = 2, .h = 32, .w = 32, .c = 320, .o = 4, .kh = 3, .kw = 3, .groups = 32, .norm = true},
        {.kind = DC_CASE_CONV, .n = 1, .h = 32, .w = 32, .c = 128, .o = 3, .kh = 3, .kw = 3, .groups = 32, .norm = true},
        {.kind = DC_CASE_CONV, .n = 2, .h = 8, .w = 8, .c = 640, .c2 = 320, .o = 320, .kh = 1, .kw = 1},
        {.kind = DC_CASE_CONV, .n = 1, .h = 24, .w = 40, .c = 64, .o = 64, .kh = 3, .kw = 3, .act = DC_ACT_RELU},
        {.kind = DC_CASE_LINEAR, .n = 2, .h = 8, .w = 8, .c = 320, .o = 960, .parts = 3},
        {.kind = DC_CASE_LINEAR, .n = 2, .h = 77, .w = 1, .c = 768, .o = 640, .parts = 2},
        {.kind = DC_CASE_LINEAR, .n = 2, .h = 8, .w = 8, .c = 1280, .o = 320, .bias = true, .residual = true},
        {.kind = DC_CASE_LINEAR, .n = 2, .h = 1, .w = 1, .c = 1280, .o = 1280, .bias = true, .pre_act = DC_ACT_SILU},
        {.kind = DC_CASE_LINEAR, .n = 1, .h = 16, .w = 16, .c = 320, .o = 320, .bias = true, .norm = true, .groups = 32},
        {.kind = DC_CASE_GEGLU, .n = 1, .h = 8, .w = 8, .c = 320, .o = 2560, .bias = true},
        {.kind = DC_CASE_ATTENTION, .n = 2, .h = 256, .w = 256, .c = 320, .heads = 8, .head = 40},
        {.kind = DC_CASE_ATTENTION, .n = 2, .h = 64, .w = 77, .c = 640, .heads = 8, .head = 80},
        {.kind = DC_CASE_ATTENTION, .n = 2, .h = 64, .w = 64, .c = 1280, .heads = 8, .head = 160},
        {.kind = DC_CASE_ATTENTION, .n = 2, .h = 130, .w = 257, .c = 640, .heads = 10, .head = 64, .keys = 231, .shared = true},
        {.kind = DC_CASE_ATTENTION, .n = 2, .h = 77, .w = 77, .c = 768, .heads = 12, .head = 64, .causal = true},
        {.kind = DC_CASE_ATTENTION, .n = 1, .h = 144, .w = 144, .c = 512, .heads = 1, .head = 512},
        {.kind = DC_CASE_GROUP_NORM, .n = 2, .h = 64, .w = 64, .c = 320, .groups = 32, .act = DC_ACT_SILU},
        {.kind = DC_CASE_GROUP_NORM, .n = 1, .h = 128, .w = 128, .c = 128, .groups = 32, .act = DC_ACT_SILU},
        {.kind = DC_CASE_LAYER_NORM, .n = 2, .h = 64, .w = 16, .c = 1280},
        {.kind = DC_CASE_EMBED, .n = 2, .h = 77, .w = 1, .c = 768, .o = 5000, .bias = true, .type = DC_F16},
    };
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        if (known[k].kind != kind || i-- > 0) continue;
        *c = known[k];
        c->seed = k + 1;
        if (!c->stride) c->stride = 1;
        if (!c->parts) c->parts = 1;
        if (is_conv(c) && c->kh == 3)
            for (int p = 0; p < 4; p++) c->pad[p] = 1;
        if (is_conv(c)) c->bias = true, c->pre_act = c->norm ? DC_ACT_SILU : DC_ACT_NONE;
        if (is_conv(c) || is_linear(c)) c->type = DC_F16, c->int8 = true;
        if (kind != DC_CASE_EMBED) c->made = 15;
        return true;
    }
    return false;
}

void dc_case_describe(const dc_case *c, char *out, size_t size)
{
    snprintf(out, size,
             "%s %dx%dx%dx%d+%d->%d k%dx%d/%d pad %d,%d,%d,%d up %dx%d strip %d groups %d%s act %d/%d%s%s%s%s%s %s in %d heads %dx%d keys %d%s%s "
             "terms %d%s slice %d%s made %d%s",
             names[c->kind], (int)c->n, (int)c->h, (int)c->w, (int)c->c, (int)c->c2, (int)c->o, c->kh, c->kw, c->stride, c->pad[0], c->pad[1],
             c->pad[2], c->pad[3], c->up_h, c->up_w, c->strip, c->groups, c->norm ? " normed" : "", c->pre_act, c->act,
             c->residual ? " residual" : "", c->add ? " add" : "", c->bias ? " bias" : "", c->transposed ? " transposed" : "", c->int8 ? " int8" : "",
             dc_dtype_name(c->type), c->parts, c->heads, c->head, c->keys, c->causal ? " causal" : "", c->shared ? " shared" : "", c->terms,
             c->into ? " into" : "", c->slice, c->bad ? " not finite" : "", c->made, c->wide ? " wide" : "");
}

/* Output size of a convolution. */
static int64_t out_size(int64_t in, int up, int before, int after, int k, int stride) { return ((up ? up : in) + before + after - k) / stride + 1; }

/* What comes out of an op: [n, h, w, channels]. */
static void out_shape(const dc_case *c, int64_t dim[4])
{
    dim[0] = c->n, dim[1] = c->h, dim[2] = c->w, dim[3] = c->o ? c->o : c->c;
    if (is_conv(c)) {
        dim[1] = out_size(c->h, c->up_h, c->pad[0], c->pad[2], c->kh, c->stride);
        dim[2] = out_size(c->w, c->up_w, c->pad[1], c->pad[3], c->kw, c->stride);
    }
    if (c->kind == DC_CASE_GEGLU) dim[3] = c->o / 2;
    if (c->kind == DC_CASE_ATTENTION) dim[2] = 1;
    if (c->kind == DC_CASE_EMBED) dim[3] = c->c;
    if (c->kind == DC_CASE_GATHER) dim[1] = 1;
    if (c->kind == DC_CASE_STATS) dim[0] = dim[1] = dim[2] = 1, dim[3] = 4;
}

int64_t dc_case_count(const dc_case *c)
{
    int64_t dim[4];
    out_shape(c, dim);
    return dim[0] * dim[1] * dim[2] * dim[3];
}

/* ---- data ------------------------------------------------------------------------------------------------------------ */

/* n numbers, uniform in [shift - scale, shift + scale), the same everywhere. */
static float *draw_floats(int64_t n, float scale, float shift, uint64_t seed)
{
    float *p = dc_calloc((size_t)(n > 0 ? n : 1), sizeof *p);
    for (int64_t i = 0; p && i < n; i++) p[i] = (float)(int32_t)next(&seed) * 0x1p-31f * scale + shift;
    return p;
}

static uint8_t *draw_source(int64_t n, dc_dtype type, float scale, float shift, uint64_t seed)
{
    float *v = draw_floats(n, scale, shift, seed);
    uint16_t *narrow = (uint16_t *)v;
    for (int64_t i = 0; v && type != DC_F32 && i < n; i++)
        narrow[i] = type == DC_F16 ? dc_f32_to_f16(v[i]) : dc_f32_to_bf16(v[i]); /* never ahead of the reading */
    return (uint8_t *)v;
}

static void make_matrix_op(dc_case *c)
{
    int64_t dim[4];
    out_shape(c, dim);
    const int64_t I = joined(c), k = I * c->kh * c->kw;
    const float size = (c->norm ? 2 : 4) / sqrtf((float)(c->kh ? k : I)); /* so that the sums are about 1 */
    c->in[0] = draw_floats(rows_of(c) * (c->c + c->slice), c->norm ? 2 : size, c->norm ? 0.5f : 0, c->seed);
    c->in[1] = draw_floats(rows_of(c) * c->c2, c->norm ? 1 : size, 0, c->seed + 1);
    c->in[2] = draw_floats(c->n * dim[3], 1, 0, c->seed + 2);
    c->in[3] = draw_floats(dim[0] * dim[1] * dim[2] * (dim[3] + c->slice), 1, 0, c->seed + 3);
    c->source[0] = draw_source(c->o * (c->kh ? k : I), c->type, c->norm ? size : 1, 0, c->seed + 4);
    c->source[1] = draw_source(c->o, c->type, 1, 0, c->seed + 5);
    c->source[2] = draw_source(I, DC_F32, 0.5f, 1, c->seed + 6);
    c->source[3] = draw_source(I, DC_F32, 0.5f, 0, c->seed + 7);
}

static void make_other(dc_case *c)
{
    static const float sizes[DC_CASE_KINDS] = {[DC_CASE_ACTIVATE] = 8, [DC_CASE_TIMESTEP] = 500, [DC_CASE_RGB8] = 1.3f};
    const float size = sizes[c->kind] > 0 ? sizes[c->kind] : 2;
    const int64_t all = rows_of(c) * (c->c + c->slice);
    c->in[0] = draw_floats(all * (c->terms ? c->terms : 1), size, c->kind == DC_CASE_TIMESTEP ? size : c->kind == DC_CASE_STATS ? 0.7f : 0, c->seed);
    c->in[1] = draw_floats(all, size, 0.1f, c->seed + 1);
    c->source[0] = draw_source(c->o * c->c, c->type, 1, 0, c->seed + 4);
    c->source[1] = draw_source(c->h * c->c, c->type, 1, 0, c->seed + 5);
    c->source[2] = draw_source(c->c, DC_F32, 0.5f, 1, c->seed + 6);
    c->source[3] = draw_source(c->c, DC_F32, 0.5f, 0, c->seed + 7);
    if ((c->ids = dc_calloc((size_t)(c->n * c->h), sizeof *c->ids))) {
        uint64_t rng = c->seed + 8;
        for (int64_t i = 0; i < c->n * c->h; i++) c->ids[i] = pick(&rng, (int)(c->kind == DC_CASE_EMBED ? c->o : c->h));
    }
    for (int64_t i = 0; c->in[0] && c->bad && c->kind != DC_CASE_LINCOMB && i < all; i += 7) c->in[0][i] = i % 2 ? NAN : -INFINITY;
    for (int64_t i = 0; c->in[0] && c->bad && c->kind == DC_CASE_LINCOMB && i < all; i++) c->in[0][all + i] = NAN;
}

dc_status dc_case_make(dc_case *c, dc_error *e)
{
    int wanted = 4;
    bool whole = true;
    if (c->made) whole = (c->maker = draw_floats(4 * dc_case_widest(c) * DC_CASE_MADE_OF, 0.87f, 0, c->seed + 9)) != NULL; /* keeps the variance */
    if (is_conv(c) || is_linear(c)) {
        make_matrix_op(c);
    } else if (c->kind == DC_CASE_ATTENTION) {
        wanted = 3;
        for (int i = 0; i < 3; i++) c->in[i] = draw_floats(c->n * (i ? c->w : c->h) * (c->c + c->slice), 1.5f, 0, c->seed + (uint64_t)i);
    } else {
        make_other(c);
        wanted = 2, whole = whole && c->ids;
    }
    for (int i = 0; i < wanted; i++) whole = whole && c->in[i];
    for (int i = 0; i < 4 && c->kind != DC_CASE_ATTENTION; i++) whole = whole && c->source[i];
    return whole ? DC_OK : dc_fail_memory(e, "a case of the self-test", (unsigned long long)rows_of(c) * 4);
}

void dc_case_free(dc_case *c)
{
    for (int i = 0; i < 4; i++) {
        free(c->in[i]);
        free(c->source[i]);
    }
    free(c->ids);
    free(c->maker);
}

/* ---- the judgement --------------------------------------------------------------------------------------------------- */

double dc_relative_error(const float *found, const float *expected, int64_t n, double size)
{
    double square = 0, error = 0, most = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(expected[i])) square += (double)expected[i] * expected[i];
    const double mean = fmax(n > 0 ? sqrt(square / (double)n) : 0, size);
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs((double)found[i] - expected[i]);
        if (isnan(found[i]) && isnan(expected[i])) continue;
        if (found[i] == expected[i]) continue;
        if (!isfinite(d)) return INFINITY;
        error += d * d;
        most = fmax(most, d / fmax(mean, fabs((double)expected[i])));
    }
    return error == 0 ? 0 : fmax(sqrt(error / (double)n) / mean, most / 16);
}

/* What comes out is about 1 by the way its inputs are drawn: where it is less, it is what is left of numbers that cancel each other, and
 * their roundings do not. */
double dc_case_error(const dc_case *c, const float *found, const float *expected)
{
    const double keys = c->keys ? c->keys : (double)c->w;
    return dc_relative_error(found, expected, dc_case_count(c), c->kind == DC_CASE_ATTENTION ? 0.5 / sqrt(keys) : 0.5);
}

double dc_error_bound(const dc_device *d, double k, bool winograd)
{
    const char *precision = dc_device_precision(d);
    if (!strcmp(precision, "bf16") || !strcmp(precision, "int8")) return 4 * 0x1p-8;
    if (!strcmp(precision, "f16")) return 4 * 0x1p-11;
    return (winograd ? 5 : 1) * (6e-7 + 0x1p-23 * sqrt(k / 6));
}

double dc_case_bound(const dc_case *c, const dc_device *d)
{
    const char *precision = dc_device_precision(d);
    const bool f32 = !strcmp(precision, "f32");
    if (c->kind == DC_CASE_RGB8) return f32 ? 1e-3 : 1.0 / 128; /* a level of 255 here and there; everywhere */
    if (c->wide && !strcmp(precision, "f16")) return 4 * 0x1p-8;
    switch (c->kind) {
    case DC_CASE_CONV:
    case DC_CASE_STRIPS:
    case DC_CASE_LINEAR:
    case DC_CASE_GEGLU:
        if (c->int8 && !strcmp(precision, "int8")) return 4 * 0x1p-7;
        return dc_error_bound(d, (double)joined(c) * (is_conv(c) ? c->kh * c->kw : 1), is_conv(c) && c->kh == 3 && c->kw == 3 && c->stride == 1);
    case DC_CASE_ATTENTION: return dc_error_bound(d, c->head + (double)c->w, false);
    case DC_CASE_TIMESTEP: return f32 ? 1e-4 : dc_error_bound(d, 1, false); /* the angle, up to 1000, is a float32 */
    default: return dc_error_bound(d, 1, false);
    }
}
