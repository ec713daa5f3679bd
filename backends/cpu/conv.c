/* conv.c - convolution as implicit matrix product. A task takes a tile of output pixels, copies the input they see into a zero-padded
 * patch (with the prologue applied on the way) and multiplies: the rows of A are the pixels' places in the patch, a tap is an offset to
 * all of them. No image is ever unfolded as a whole. */
#include "backends/cpu/conv.h"
#include <string.h>

typedef struct conv_job {
    const dc_conv_args *a;
    cpu_product product;
    cpu_pre pre;
    int th, tw;       /* output pixels of a tile in one image */
    int ph, pw;       /* what of the input they see */
    int images;       /* in a tile: several when they are small, so that each weight is widened once for all of them */
    int down, across; /* tiles of an image */
    int64_t tiles;
    int parts;     /* of a tile's panels, a task each */
    float *shared; /* the patches of all tiles, when there are few tiles and their parts share them; else each thread has one */
    char *scratch; /* of thread 0 */
    int pixel;     /* floats of a pixel in a patch: its channels, or its places when the kernel is narrow; one factor for an image's part then */
    uint64_t patch_bytes, product_bytes, thread_bytes; /* of a thread: product, then an image's part of a narrow patch as floats */
} conv_job;

/* Of all images' parts; their factors come after them. */
static uint64_t patch_floats(const conv_job *j) { return (uint64_t)j->images * (uint64_t)j->ph * (uint64_t)j->pw * (uint64_t)j->pixel; }

/* Tiles of equal size, wide rather than high (rows of a patch are contiguous). The size depends on the shape of one image only. */
static void choose_tile(conv_job *j)
{
    const dc_conv_args *a = j->a;
    int64_t N = a->y.dim[0], H = a->y.dim[1], W = a->y.dim[2], most;
    j->across = cpu_pieces(W, 32);
    j->tw = cpu_pieces(W, j->across);
    j->pw = (j->tw - 1) * a->o.stride + a->k->desc.kw;
    for (most = CPU_TILE_ROWS / j->tw;; most /= 2) {
        j->down = cpu_pieces(H, most);
        j->th = cpu_pieces(H, j->down);
        j->ph = (j->th - 1) * a->o.stride + a->k->desc.kh;
        j->patch_bytes = sizeof(float) * (uint64_t)j->ph * (uint64_t)j->pw * (uint64_t)a->k->desc.in;
        if (most == 1 || j->patch_bytes <= CPU_TILE_BYTES) break;
    }
    j->images = 1;
    if (j->down == 1 && j->across == 1) {
        int64_t fit = CPU_TILE_ROWS / (H * W), fit_bytes = (int64_t)(CPU_TILE_BYTES / j->patch_bytes);
        if (fit > fit_bytes) fit = fit_bytes;
        if (fit > N) fit = N;
        if (fit > 1) j->images = (int)fit;
    }
    j->patch_bytes = cpu_round64(sizeof(float) * (patch_floats(j) + (uint64_t)j->images));
    j->tiles = (int64_t)cpu_pieces(N, j->images) * j->down * j->across;
}

static conv_job conv_job_of(dc_device *d, const dc_conv_args *a)
{
    conv_job j = {.a = a};
    const cpu_gemm *g = cpu_gemm_of(cpu_of(d), &a->k->desc);
    j.pixel = cpu_places(g, a->k->desc.in);
    choose_tile(&j);
    const int threads = cpu_of(d)->threads;
    j.parts = cpu_panel_parts(j.tiles, cpu_pieces(a->k->desc.out, g->panel), threads, j.tiles > threads);
    j.product.g = g;
    j.product_bytes = cpu_round64(cpu_product_scratch(g, &a->k->desc, j.th * j.tw * j.images));
    const uint64_t floats = (uint64_t)j.ph * (uint64_t)j.pw * (uint64_t)a->k->desc.in;
    j.thread_bytes = j.product_bytes + (g->per > 1 ? cpu_round64(sizeof(float) * floats) : 0);
    return j;
}

static bool is_shared(dc_device *d, const conv_job *j) { return j->parts > 1 && j->tiles <= cpu_of(d)->threads; }

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

void cpu_conv2d_choice(dc_device *d, const dc_conv_args *a, dc_choice *out)
{
    const double cost = cpu_wino_cost(d, a);
    const int per = cpu_gemm_of(cpu_of(d), &a->k->desc)->per;
    if (is_linear(a)) {
        dc_linear_args l = as_linear(a);
        cpu_linear_choice(d, &l, out);
    } else if (cpu_wino_suits(d, a)) {
        dc_choose(out, "winograd f4x4 f32", "%.2f of the plain multiply-adds", cost);
    } else if (cost > 0) {
        dc_choose(out, "direct f32", "winograd takes %.2f times as many", cost);
    } else if (per > 1) {
        dc_choose(out, per == 4 ? "direct int8" : "direct bf16", "the precision asked for");
    } else {
        dc_choose(out, "direct f32", "%s", d->exact ? "exact" : a->o.stride > 1 ? "winograd takes no stride" : "winograd takes 3x3 only");
    }
}

uint64_t cpu_conv2d_scratch(dc_device *d, const dc_conv_args *a)
{
    if (is_linear(a)) {
        dc_linear_args l = as_linear(a);
        return cpu_linear_scratch(d, &l);
    }
    if (cpu_wino_suits(d, a)) return cpu_wino_scratch(d, a);
    conv_job j = conv_job_of(d, a);
    uint64_t threads = (uint64_t)cpu_of(d)->threads;
    return cpu_round64(cpu_pre_scratch(d, a->x, &a->o.pre)) + j.thread_bytes * threads +
           j.patch_bytes * (is_shared(d, &j) ? (uint64_t)j.tiles : threads);
}

void cpu_conv_fill_row(const dc_conv_args *a, const cpu_pre *pre, int64_t image, int y, int x, int n, float *to)
{
    const int W = (int)a->x.dim[2];
    const size_t I = (size_t)a->k->desc.in, pixel = sizeof(float) * I;
    int64_t line = 0;
    cpu_pre source = *pre;
    source.x = dc_conv_source(a, y, &line);
    if (dc_is_none(source.x)) {
        memset(to, 0, pixel * (size_t)n);
        return;
    }
    int left = x < 0 ? -x : 0, right = x + n > a->in_w ? a->in_w - x : n;
    const int64_t row = (image * source.x.dim[1] + line) * W;
    if (left > n) left = n;
    if (right < left) right = left;
    memset(to, 0, pixel * (size_t)left);
    memset(to + (size_t)right * I, 0, pixel * (size_t)(n - right));
    if (a->in_w == W) {
        if (right > left) cpu_pre_rows(&source, image, row + x + left, right - left, to + (size_t)left * I);
        return;
    }
    for (int i = left, before = -1; i < right; i++) {
        const int now = (int)((int64_t)(x + i) * W / a->in_w);
        float *at = to + (size_t)i * I;
        if (now == before) memcpy(at, at - I, pixel); /* the neighbour is the same pixel */
        else cpu_pre_rows(&source, image, row + now, 1, at);
        before = now;
    }
}

/* Where a tile lies. */
typedef struct place {
    int64_t image;
    int images, y0, x0, h, w;
} place;

static place place_of(const conv_job *j, int64_t tile)
{
    int64_t N = j->a->y.dim[0], H = j->a->y.dim[1], W = j->a->y.dim[2];
    place p = {.image = tile / (j->down * j->across) * j->images, .images = j->images};
    p.y0 = (int)(tile / j->across % j->down) * j->th;
    p.x0 = (int)(tile % j->across) * j->tw;
    p.h = H - p.y0 < j->th ? (int)H - p.y0 : j->th;
    p.w = W - p.x0 < j->tw ? (int)W - p.x0 : j->tw;
    if (N - p.image < p.images) p.images = (int)(N - p.image);
    return p;
}

/* Row y of image n's part of the tile's patch. */
static void fill_row(const conv_job *j, const place *p, int n, int y, float *to)
{
    const int S = j->a->o.stride;
    cpu_conv_fill_row(j->a, &j->pre, p->image + n, p->y0 * S - j->a->o.pad[0] + y, p->x0 * S - j->a->o.pad[1], j->pw, to);
}

/* The tile's patch [images][ph][pw][pixel] is filled row by row (of all images), or, when it is narrow, image by image. */
static int fills_of(const conv_job *j) { return j->product.g->per > 1 ? j->images : j->ph; }

/* staged: an image's part as floats, for narrow patches. */
static void fill_part(const conv_job *j, const place *p, int part, float *staged, float *patch)
{
    const cpu_gemm *g = j->product.g;
    const int64_t I = j->a->k->desc.in, pixels = (int64_t)j->ph * j->pw;
    const int rows = (p->h - 1) * j->a->o.stride + j->a->k->desc.kh; /* fewer than ph in a tile at the lower edge */
    if (g->per == 1) {
        for (int n = 0; n < p->images && part < rows; n++) fill_row(j, p, n, part, patch + (n * j->ph + part) * j->pw * I);
        return;
    }
    if (part >= p->images) return;
    for (int y = 0; y < rows; y++) fill_row(j, p, part, y, staged + y * j->pw * I);
    const float factor = patch[patch_floats(j) + (uint64_t)part] = g->factor(staged, rows * j->pw * I);
    for (int64_t i = 0; i < (int64_t)rows * j->pw; i++) g->narrow(staged + i * I, I, factor, patch + (part * pixels + i) * j->pixel);
}

static float *shared_patch(const conv_job *j, int64_t tile) { return j->shared + (uint64_t)tile * (j->patch_bytes / sizeof(float)); }

static void fill_shared(void *ctx, int64_t i, int thread)
{
    const conv_job *j = ctx;
    const int64_t tile = i / fills_of(j);
    place p = place_of(j, tile);
    fill_part(j, &p, (int)(i % fills_of(j)), (float *)(j->scratch + (uint64_t)thread * j->thread_bytes + j->product_bytes), shared_patch(j, tile));
}

static void run_tile(void *ctx, int64_t i, int thread)
{
    const conv_job *j = ctx;
    const dc_conv_args *a = j->a;
    const int64_t I = j->pixel, H = a->y.dim[1], W = a->y.dim[2], S = a->o.stride;
    char *scratch = j->scratch + (uint64_t)thread * (j->thread_bytes + (j->shared ? 0 : j->patch_bytes));
    float *patch = j->shared ? shared_patch(j, i / j->parts) : (float *)(scratch + j->thread_bytes);
    const place p = place_of(j, i / j->parts);
    if (!j->shared)
        for (int k = 0; k < fills_of(j); k++) fill_part(j, &p, k, (float *)(scratch + j->product_bytes), patch);

    const float *factor = patch + patch_floats(j);
    cpu_tile t = {.rows = 0, .add_rows = p.h * p.w, .add_stride = a->o.add.dim[0] == 1 ? 0 : a->o.add.stride};
    if (!dc_is_none(a->o.add)) t.add = (const float *)a->o.add.data + p.image * t.add_stride;
    for (int n = 0; n < p.images; n++)
        for (int y = 0; y < p.h; y++)
            for (int x = 0; x < p.w; x++, t.rows++) {
                t.factor[t.rows] = j->product.g->per > 1 ? factor[n] : 1;
                t.row[t.rows] = patch + ((n * j->ph + y * S) * j->pw + x * S) * I;
                t.to[t.rows] = ((p.image + n) * H + p.y0 + y) * W + p.x0 + x;
            }
    int part = (int)(i % j->parts), panels = j->product.w->count;
    cpu_product_tile(&j->product, &t, part * panels / j->parts, (part + 1) * panels / j->parts, scratch);
}

/* The sums over the kernel. A row of the kernel over few channels is one stretch of a patch. */
static cpu_product product_of(const conv_job *j, const cpu_gemm *g)
{
    const dc_conv_args *a = j->a;
    const dc_param_desc *k = &a->k->desc;
    cpu_product p = {.g = g, .w = a->k->form, .y = a->y, .residual = a->o.residual, .act = a->o.act};
    p.taps_across = k->in < CPU_BLOCK_K / 2 ? 1 : k->kw;
    p.taps = k->kh * p.taps_across;
    p.per_tap = p.w->k / p.taps;
    p.down = (int64_t)j->pw * j->pixel;
    p.across = j->pixel;
    return p;
}

dc_status cpu_conv2d(dc_device *d, const dc_conv_args *a, void *scratch)
{
    if (is_linear(a)) {
        dc_linear_args l = as_linear(a);
        return cpu_linear(d, &l, scratch);
    }
    if (cpu_wino_suits(d, a)) return cpu_wino_conv2d(d, a, scratch);
    conv_job j = conv_job_of(d, a);
    dc_status s = cpu_pre_begin(&j.pre, d, a->x, &a->o.pre, scratch);
    j.product = product_of(&j, j.product.g);
    j.scratch = (char *)scratch + cpu_round64(cpu_pre_scratch(d, a->x, &a->o.pre));
    if (!s && is_shared(d, &j)) {
        j.shared = (float *)(j.scratch + j.thread_bytes * (uint64_t)cpu_of(d)->threads);
        s = cpu_for(d, j.tiles * fills_of(&j), fill_shared, &j);
    }
    return s ? s : cpu_for(d, j.tiles * j.parts, run_tile, &j);
}
