/* matrix.c - convolutions and linear layers: what comes before the product is one gather (joining, norm, activation, resize, strips, padding,
 * types), what comes behind it part of the product or one pass over its result.
 *
 * Each op lays down its steps twice, from the same arguments: while planning, to know the scratch, and when it runs. */
#include "backends/cuda/cuda.h"
#include <string.h>

/* What lies in an op's scratch memory: sizes while planning, addresses when it runs. */
typedef struct areas {
    char *base;
    uint64_t bytes;
} areas;

static void *area(areas *a, uint64_t bytes)
{
    void *at = a->base ? a->base + a->bytes : NULL;
    a->bytes += cuda_up(bytes);
    return at;
}

static uint64_t bytes_of(dc_dtype type, int64_t n) { return dc_dtype_size(type) * (uint64_t)n; }

/* May a product read x's rows as they are? */
static bool is_ready(dc_tensor x, dc_dtype type) { return x.dtype == type && dc_channels(x) % CUDA_CHANNELS == 0 && x.stride % CUDA_CHANNELS == 0; }

static bool is_plain(const dc_pre *pre) { return !pre->norm && dc_is_none(pre->scale) && pre->act == DC_ACT_NONE; }

/* ---- before -------------------------------------------------------------------------------------------------------------------- */

/* The gather that makes a product's input of x: at its own size, without a resize or padding. */
static k_gather_args gather_of(dc_device *d, dc_tensor x, const dc_pre *pre, const dc_param *k, areas *s, bool run)
{
    k_gather_args g = {.x = cuda_view(x), .x2 = cuda_view(pre->x2), .n = (int32_t)x.dim[0], .h = cuda_height(x), .w = cuda_width(x), .act = pre->act};
    if (x.rank == 2) g.n = 1;
    if (x.rank < 4) g.w = (int32_t)(dc_rows(x) / g.n), g.h = 1; /* tokens: one row of a picture */
    g.c = (int32_t)dc_channels(x);
    g.c2 = (int32_t)dc_channels(pre->x2);
    g.in_h = g.out_h = g.h;
    g.in_w = g.out_w = g.w;
    g.channels = cuda_channels_of(k);
    if (!dc_is_none(pre->scale)) g.scale = pre->scale.data;
    if (pre->norm) {
        void *at = area(s, cuda_group_bytes(x, pre->x2));
        if (run) g.scale = cuda_group(d, x, pre->x2, pre->norm, pre->groups, pre->eps, at);
    }
    return g;
}

static void finish_gather(dc_device *d, k_gather_args *g, dc_dtype type, areas *s, bool run)
{
    const int64_t pixels = (int64_t)g->n * g->out_h * g->out_w;
    g->y = (k_view){.data = area(s, bytes_of(type, pixels * g->channels)), .stride = g->channels, .type = type};
    if (run) QUEUE(cuda_queue(d), k_gather, *g);
}

/* ---- behind ----------------------------------------------------------------------------------------------------------------------- */

/* y = act(x + bias + add + residual), x the bare product with rows of `width` numbers. */
static void finish(dc_device *d, dc_tensor y, const void *x, int64_t width, const cuda_form *bias, dc_tensor add, dc_tensor residual, dc_act act,
                   bool geglu)
{
    k_finish_args f = {.x = {.data = (void *)(uintptr_t)x, .stride = width, .type = y.dtype}, .y = cuda_view(y), .add = cuda_view(add)};
    f.residual = cuda_view(residual);
    f.bias = bias ? bias->bias32 : NULL;
    f.rows = dc_rows(y);
    f.rows_of_image = y.rank == 4 ? cuda_pixels(y) : 1;
    f.c = (int32_t)dc_channels(y);
    f.add_images = dc_is_none(add) ? 0 : (int32_t)add.dim[0];
    f.act = act;
    f.geglu = geglu;
    QUEUE(cuda_queue(d), k_finish, f);
}

/* ---- products: linear layers and convolutions of 1x1 --------------------------------------------------------------------------------- */

typedef struct product {
    dc_tensor y, x;
    const dc_param *k;
    const dc_pre *pre;
    dc_tensor add, residual;
    dc_act act;
} product;

/* y's rows += x's by the weight's columns from `from` on. c: what is added, or NULL. */
static void multiply(dc_device *d, const product *p, const cuda_form *f, k_view x, int64_t channels, int64_t from, k_view y, const void *c,
                     int64_t ldc, const void *bias)
{
    gpu_product_args a = {.y = y.data, .a = x.data, .c = c, .bias = bias, .ldc = ldc, .lda = x.stride, .ldb = f->channels, .ldy = y.stride};
    a.b = (const char *)f->weight + bytes_of(p->k->type, from);
    a.m = dc_rows(p->y);
    a.n = p->k->desc.out;
    a.k = channels;
    a.scale = 1;
    a.batch = 1;
    a.in = (uint8_t)p->k->type;
    a.out = (uint8_t)y.type;
    QUEUE(cuda_queue(d), gpu_product, a);
}

static void lay_product(dc_device *d, const product *p, areas *s, bool run)
{
    const bool geglu = p->k->desc.geglu,
               direct = is_plain(p->pre) && is_ready(p->x, p->k->type) && (dc_is_none(p->pre->x2) || is_ready(p->pre->x2, p->k->type));
    const int64_t out = p->k->desc.out;
    k_view x = cuda_view(p->x), y = cuda_view(p->y);
    k_gather_args g = {0};
    if (!direct) {
        g = gather_of(d, p->x, p->pre, p->k, s, run);
        finish_gather(d, &g, p->k->type, s, run);
        x = g.y;
    }
    if (geglu) y = (k_view){.data = area(s, bytes_of(p->k->type, dc_rows(p->y) * out)), .stride = out, .type = p->k->type};
    if (!run) return;
    const cuda_form f = cuda_form_of(d, p->k);
    /* The product itself adds what has its type; an activation comes behind everything that is added. */
    const bool adds = !geglu && p->residual.dtype == p->k->type && !dc_is_none(p->residual), whole = !geglu && (dc_is_none(p->residual) || adds);
    multiply(d, p, &f, x, direct ? dc_channels(p->x) : g.channels, 0, y, adds ? p->residual.data : NULL, adds ? p->residual.stride : 0,
             whole ? f.bias : NULL);
    if (direct && !dc_is_none(p->pre->x2))
        multiply(d, p, &f, cuda_view(p->pre->x2), dc_channels(p->pre->x2), dc_channels(p->x), y, y.data, y.stride, NULL);
    if (whole && p->act == DC_ACT_NONE && dc_is_none(p->add)) return;
    finish(d, p->y, y.data, y.stride, whole ? NULL : &f, p->add, adds ? DC_NONE : p->residual, p->act, geglu);
}

static product linear_product(const dc_linear_args *a)
{
    return (product){.y = a->y, .x = a->x, .k = a->k, .pre = &a->o.pre, .residual = a->o.residual, .act = a->o.act};
}

uint64_t cuda_linear_scratch(dc_device *d, const dc_linear_args *a)
{
    const product p = linear_product(a);
    areas s = {0};
    lay_product(d, &p, &s, false);
    return s.bytes;
}

dc_status cuda_linear(dc_device *d, const dc_linear_args *a, void *scratch)
{
    const product p = linear_product(a);
    areas s = {.base = scratch};
    lay_product(d, &p, &s, true);
    return DC_OK;
}

/* ---- convolutions -------------------------------------------------------------------------------------------------------------------- */

static bool is_product(const dc_conv_args *a)
{
    const dc_conv_opt *o = &a->o;
    return a->k->desc.kh == 1 && a->k->desc.kw == 1 && o->stride == 1 && !o->pad[0] && !o->pad[1] && !o->pad[2] && !o->pad[3] &&
           a->in_h == a->x.dim[1] && a->in_w == a->x.dim[2];
}

static product conv_product(const dc_conv_args *a)
{
    return (product){.y = a->y, .x = a->x, .k = a->k, .pre = &a->o.pre, .add = a->o.add, .residual = a->o.residual, .act = a->o.act};
}

/* A convolution's steps but the last. */
typedef struct conv {
    k_gather_args gather;
    gpu_conv_shape shape;
    const gpu_conv_plan *plan;
    bool gathers, whole, narrow; /* narrow: y has fewer channels than the plan's result */
    uint64_t workspace;
} conv;

static bool fits(dc_tensor t, dc_dtype type) { return dc_is_none(t) || (t.dtype == type && t.stride == dc_channels(t)); }

static dc_status lay_conv(dc_device *d, const dc_conv_args *a, conv *c, areas *s, bool run, dc_error *e)
{
    const dc_conv_opt *o = &a->o;
    const dc_param_desc *k = &a->k->desc;
    const bool even = o->pad[0] == o->pad[2] && o->pad[1] == o->pad[3], strips = !dc_is_none(o->strip.above) || !dc_is_none(o->strip.below);
    const bool same = a->in_h == a->x.dim[1] && a->in_w == a->x.dim[2];
    *c = (conv){.narrow = cuda_rows_of(a->k) != k->out};
    c->gathers =
        !is_plain(&o->pre) || !dc_is_none(o->pre.x2) || !even || strips || !same || !is_ready(a->x, a->k->type) || a->x.stride != dc_channels(a->x);
    c->gather = gather_of(d, a->x, &o->pre, a->k, s, run);
    k_gather_args *g = &c->gather;
    g->in_h = g->out_h = a->in_h;
    g->in_w = g->out_w = a->in_w;
    if (!even || strips) { /* padding becomes part of the picture */
        g->top = o->pad[0];
        g->left = o->pad[1];
        g->out_h += o->pad[0] + o->pad[2];
        g->out_w += o->pad[1] + o->pad[3];
        g->above = cuda_view(o->strip.above);
        g->below = cuda_view(o->strip.below);
        g->above_h = (int32_t)o->strip.above.dim[1];
        g->below_h = (int32_t)o->strip.below.dim[1];
    }
    if (c->gathers) finish_gather(d, g, a->k->type, s, run);
    gpu_conv_shape *p = &c->shape;
    *p = (gpu_conv_shape){
        .n = g->n, .h = g->out_h, .w = g->out_w, .c = g->channels, .k = cuda_rows_of(a->k), .r = k->kh, .s = k->kw, .stride = o->stride};
    p->pad_h = even && !strips ? o->pad[0] : 0;
    p->pad_w = even && !strips ? o->pad[1] : 0;
    p->type = (uint8_t)a->k->type;
    if (!c->narrow && fits(o->residual, a->k->type) && fits(o->add, a->k->type)) {
        p->bias = true;
        p->add = dc_is_none(o->add) ? 0 : (int32_t)o->add.dim[0];
        p->residual = !dc_is_none(o->residual);
        p->act = (uint8_t)o->act;
    }
    return gpu_conv_find(cuda_of(d)->g, p, &c->plan, &c->whole, &c->workspace, e);
}

/* The input with nothing before it may be gathered for its type alone; the plan's result goes to y, unless it is wider. */
uint64_t cuda_conv2d_scratch(dc_device *d, const dc_conv_args *a)
{
    areas s = {0};
    if (is_product(a)) {
        const product p = conv_product(a);
        lay_product(d, &p, &s, false);
        return s.bytes;
    }
    conv c;
    dc_error e = {0};
    if (cuda_wait(d) || lay_conv(d, a, &c, &s, false, &e)) { /* cuda_conv2d meets it again, and fails */
        dc_log_write(d->log, DC_LOG_WARNING, "%s: %s", a->k->desc.name, e.text);
        return s.bytes;
    }
    if (c.narrow) area(&s, bytes_of(a->k->type, dc_rows(a->y) * c.shape.k));
    area(&s, c.workspace);
    return s.bytes;
}

dc_status cuda_conv2d(dc_device *d, const dc_conv_args *a, void *scratch)
{
    areas s = {.base = scratch};
    if (is_product(a)) {
        const product p = conv_product(a);
        lay_product(d, &p, &s, true);
        return DC_OK;
    }
    conv c;
    dc_status status = lay_conv(d, a, &c, &s, true, NULL);
    if (status) return status;
    const dc_conv_opt *o = &a->o;
    const cuda_form f = cuda_form_of(d, a->k);
    gpu_conv_args v = {.plan = c.plan, .y = a->y.data, .x = c.gathers ? c.gather.y.data : a->x.data, .weight = f.weight};
    if (c.narrow) v.y = area(&s, bytes_of(a->k->type, dc_rows(a->y) * c.shape.k));
    v.workspace = area(&s, c.workspace);
    const bool all = c.whole && c.shape.bias; /* the plan does everything that was asked for */
    if (all) {
        v.bias = f.bias;
        v.add = o->add.data;
        v.residual = o->residual.data;
    }
    QUEUE(cuda_queue(d), gpu_conv, v);
    if (!all) finish(d, a->y, v.y, c.shape.k, &f, o->add, o->residual, o->act, false);
    return DC_OK;
}

void cuda_conv2d_choice(dc_device *d, const dc_conv_args *a, dc_choice *out)
{
    areas s = {0};
    conv c;
    if (is_product(a)) dc_choose(out, "cublaslt", "1x1: a matrix product");
    else if (!lay_conv(d, a, &c, &s, false, NULL)) dc_choose(out, gpu_conv_name(c.plan), "%s", c.gathers ? "its input is gathered" : "");
}
