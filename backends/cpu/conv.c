/* conv.c - convolution as implicit matrix product. A task takes a tile of output pixels, copies the input they see into a zero-padded
 * patch (with the prologue applied on the way) and multiplies: the rows of A are the pixels' places in the patch, a tap is an offset to
 * all of them. No image is ever unfolded as a whole. */
#include "backends/cpu/pre.h"
#include <string.h>

typedef struct conv_job {
    const dc_conv_args *a;
    cpu_product product;
    cpu_pre pre;
    int th, tw;       /* output pixels of a tile */
    int ph, pw;       /* patch */
    int down, across; /* tiles of an image */
    int parts;
    char *scratch;
    uint64_t thread_bytes;
} conv_job;

/* Tiles of up to 192 pixels, wide rather than high (rows of a patch are contiguous), whose patch stays within about 1 MB. Depends on the
 * shape of one image only. */
static void choose_tile(conv_job *j)
{
    const dc_conv_args *a = j->a;
    int H = (int)a->y.dim[1], W = (int)a->y.dim[2];
    j->tw = W < 24 ? W : 24;
    j->th = CPU_TILE_ROWS / j->tw;
    for (;; j->th = (j->th + 1) / 2) {
        if (j->th > H) j->th = H;
        j->ph = (j->th - 1) * a->o.stride + a->k->desc.kh;
        j->pw = (j->tw - 1) * a->o.stride + a->k->desc.kw;
        if (j->th <= 2 || 4ll * j->ph * j->pw * a->k->desc.in <= (1 << 20)) break;
    }
    j->down = (H + j->th - 1) / j->th;
    j->across = (W + j->tw - 1) / j->tw;
}

static uint64_t thread_scratch(dc_device *d, const conv_job *j)
{
    return cpu_round64(cpu_product_scratch(cpu_of(d)->gemm)) +
           cpu_round64(sizeof(float) * (uint64_t)j->ph * (uint64_t)j->pw * (uint64_t)j->a->k->desc.in);
}

/* A 1x1 convolution without resize, stride and per-channel addend is a linear layer over the pixels. */
static bool is_linear(const dc_conv_args *a)
{
    const dc_conv_opt *o = &a->o;
    return a->k->desc.kh == 1 && a->k->desc.kw == 1 && o->stride == 1 && !o->pad[0] && !o->pad[1] && !o->pad[2] && !o->pad[3] && !o->pre.h &&
           !o->pre.w && dc_is_none(o->add);
}

static dc_linear_args as_linear(const dc_conv_args *a)
{
    dc_linear_args l = {.y = dc_view_tokens(a->y),
                        .x = dc_view_tokens(a->x),
                        .k = a->k,
                        .o = {.pre = a->o.pre, .residual = dc_view_tokens(a->o.residual), .act = a->o.act}};
    l.o.pre.x2 = dc_view_tokens(a->o.pre.x2);
    return l;
}

uint64_t cpu_conv2d_scratch(dc_device *d, const dc_conv_args *a)
{
    if (is_linear(a)) {
        dc_linear_args l = as_linear(a);
        return cpu_linear_scratch(d, &l);
    }
    conv_job j = {.a = a};
    choose_tile(&j);
    return cpu_round64(cpu_pre_scratch(d, a->x, &a->o.pre)) + thread_scratch(d, &j) * (uint64_t)cpu_of(d)->threads;
}

/* Columns [x0, x0 + pw) of input row y of image n into one patch row; what lies outside is zero. */
static void fill_row(const conv_job *j, int64_t n, int y, int x0, float *to)
{
    const dc_conv_args *a = j->a;
    int I = a->k->desc.in, H = (int)a->x.dim[1], W = (int)a->x.dim[2];
    if (y < 0 || y >= a->in_h) {
        memset(to, 0, sizeof(float) * (size_t)j->pw * (size_t)I);
        return;
    }
    int left = x0 < 0 ? -x0 : 0, right = x0 + j->pw > a->in_w ? a->in_w - x0 : j->pw;
    int64_t row = (n * H + (int64_t)y * H / a->in_h) * W; /* nearest, as torch */
    if (left > j->pw) left = j->pw;
    if (right < left) right = left;
    memset(to, 0, sizeof(float) * (size_t)left * (size_t)I);
    memset(to + (size_t)right * (size_t)I, 0, sizeof(float) * (size_t)(j->pw - right) * (size_t)I);
    if (a->in_w == W) {
        if (right > left) cpu_pre_rows(&j->pre, n, row + x0 + left, right - left, to + (size_t)left * (size_t)I);
        return;
    }
    for (int x = left, source = -1; x < right; x++) {
        int now = (int)((int64_t)(x0 + x) * W / a->in_w);
        float *at = to + (size_t)x * (size_t)I;
        if (now == source) memcpy(at, at - I, sizeof(float) * (size_t)I); /* the neighbour is the same pixel */
        else cpu_pre_rows(&j->pre, n, row + now, 1, at);
        source = now;
    }
}

static void run_tile(void *ctx, int64_t i, int thread)
{
    const conv_job *j = ctx;
    const dc_conv_args *a = j->a;
    int I = a->k->desc.in, H = (int)a->y.dim[1], W = (int)a->y.dim[2], S = a->o.stride;
    char *scratch = j->scratch + (uint64_t)thread * j->thread_bytes;
    float *patch = (float *)(scratch + cpu_round64(cpu_product_scratch(j->product.g)));
    int part = (int)(i % j->parts), panels = j->product.w->count;
    int64_t tile = i / j->parts, n = tile / (j->down * j->across);
    int y0 = (int)(tile / j->across % j->down) * j->th, x0 = (int)(tile % j->across) * j->tw;
    int h = H - y0 < j->th ? H - y0 : j->th, w = W - x0 < j->tw ? W - x0 : j->tw;

    for (int y = 0; y < (h - 1) * S + a->k->desc.kh; y++)
        fill_row(j, n, y0 * S - a->o.pad[0] + y, x0 * S - a->o.pad[1], patch + (size_t)y * (size_t)j->pw * (size_t)I);
    cpu_tile t = {.rows = h * w};
    if (!dc_is_none(a->o.add)) t.add = (const float *)a->o.add.data + (a->o.add.dim[0] == 1 ? 0 : n) * a->o.add.stride;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            t.row[y * w + x] = patch + ((size_t)(y * S) * (size_t)j->pw + (size_t)(x * S)) * (size_t)I;
            t.to[y * w + x] = (n * H + y0 + y) * W + x0 + x;
        }
    cpu_product_tile(&j->product, &t, part * panels / j->parts, (part + 1) * panels / j->parts, scratch);
}

dc_status cpu_conv2d(dc_device *d, const dc_conv_args *a, void *scratch)
{
    if (is_linear(a)) {
        dc_linear_args l = as_linear(a);
        return cpu_linear(d, &l, scratch);
    }
    const dc_param_desc *k = &a->k->desc;
    const cpu_panels *w = a->k->form;
    conv_job j = {.a = a};
    dc_status s = cpu_pre_begin(&j.pre, d, a->x, &a->o.pre, scratch);
    if (s) return s;
    choose_tile(&j);
    j.product =
        (cpu_product){.g = cpu_of(d)->gemm, .w = w, .taps = k->kh * k->kw, .per_tap = k->in, .y = a->y, .residual = a->o.residual, .act = a->o.act};
    for (int tap = 0; tap < j.product.taps; tap++) j.product.tap_offset[tap] = ((int64_t)(tap / k->kw) * j.pw + tap % k->kw) * k->in;
    int64_t tiles = a->y.dim[0] * j.down * j.across;
    j.parts = cpu_panel_parts(tiles, w->count, cpu_of(d)->threads);
    j.scratch = (char *)scratch + cpu_round64(cpu_pre_scratch(d, a->x, &a->o.pre));
    j.thread_bytes = thread_scratch(d, &j);
    return cpu_for(d, tiles * j.parts, run_tile, &j);
}
