/* wino.c - 3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3) (wino.h): a chunk of tiles at a time is copied with its prologue into a
 * padded patch, transformed, multiplied point by point and transformed back. Kernels are transformed from their packed form as they are
 * used, for up to CPU_WINO_TILES tiles: some per cent of the multiplications, and no memory for the four times larger form. */
#include "backends/cpu/conv.h"
#include <string.h>

enum {
    CHUNK_BYTES = 8 << 20, /* transformed inputs of a chunk that all threads share: they stay in the last-level cache */
    LEAST_CHUNK = 48,
    ALONE_BYTES = 768 << 10, /* of a chunk that is one thread's: in its second-level cache */
    LEAST_ALONE = 20,        /* tiles, so that transforming the kernels for them does not weigh more than what that saves */
    TASK_TILES = 4
};

typedef struct wino_job {
    const dc_conv_args *a;
    const cpu_device *c;
    cpu_pre pre;
    int down, across;               /* tiles of an image */
    int rows, cols, images;         /* of a chunk: of tiles, and how many images (1 unless they are whole) */
    int chunks_down, chunks_across; /* chunks of an image, or of `images` whole images */
    bool alone;                     /* a chunk is one thread's, else all work at one after the other */
    int block, blocks;              /* channels transformed at once, a multiple of 16 but for the reading of the last; how often */
    size_t plane;                   /* floats of one point of one stretch of channels of all tiles of a chunk */
    int columns;                    /* pieces of `width` outputs */
    float *patch, *v, *own;         /* of thread 0 what each has */
    size_t own_floats;
} wino_job;

/* ---- sizes ------------------------------------------------------------------------------------------------------ */

static int smaller(int a, int b) { return a < b ? a : b; }
static int patch_width(const wino_job *j) { return j->cols * CPU_WINO_TILE + 2; }
static int patch_height(const wino_job *j) { return j->rows * CPU_WINO_TILE + 2; }
static int chunk_tiles(const wino_job *j) { return j->images * j->rows * j->cols; }

/* What one thread holds: transformed kernels of a stretch of channels, and the sums of a group of tiles. */
static size_t kernel_plane(const wino_job *j) { return (size_t)j->block * (size_t)j->c->wino->width + CPU_WINO_PAD; }
static size_t sum_plane(const wino_job *j) { return (size_t)smaller(CPU_WINO_TILES, chunk_tiles(j)) * (size_t)j->c->wino->width + CPU_WINO_PAD; }

static int columns_of(const cpu_gemm *g, const dc_param_desc *k, int width)
{
    const int full = k->out / g->panel, rest = cpu_pieces(k->out % g->panel, g->lanes) * g->lanes;
    return full * (g->panel / width) + cpu_pieces(rest, width);
}

/* Chunks of equal size: whole rows of tiles and images when all share them, parts of rows when they are one thread's. */
static void cut(wino_job *j, int most)
{
    const int all = j->down * j->across;
    j->chunks_across = j->alone ? cpu_pieces(j->across, most) : 1;
    j->cols = cpu_pieces(j->across, j->chunks_across);
    j->images = all <= most ? smaller(most / all, (int)j->a->y.dim[0]) : 1;
    j->rows = all <= most ? j->down : most / j->cols;
    if (j->rows < 1) j->rows = 1;
    j->chunks_down = cpu_pieces(j->down, j->rows);
    j->rows = cpu_pieces(j->down, j->chunks_down);
}

static int64_t chunks_of(const wino_job *j) { return (int64_t)cpu_pieces(j->a->y.dim[0], j->images) * j->chunks_down * j->chunks_across; }

static wino_job job_of(dc_device *d, const dc_conv_args *a)
{
    wino_job j = {.a = a, .c = cpu_of(d), .down = cpu_pieces(a->y.dim[1], CPU_WINO_TILE), .across = cpu_pieces(a->y.dim[2], CPU_WINO_TILE)};
    const int I = a->k->desc.in, tile = (int)sizeof(float) * CPU_WINO_POINTS * I;
    j.alone = !j.c->gemm->placed && ALONE_BYTES / tile >= LEAST_ALONE;
    cut(&j, ALONE_BYTES / tile);
    if (!j.alone || chunks_of(&j) < 4 * j.c->threads) {
        j.alone = false;
        cut(&j, CHUNK_BYTES / tile < LEAST_CHUNK ? LEAST_CHUNK : CHUNK_BYTES / tile);
    }
    j.blocks = cpu_pieces(I, CPU_WINO_CHANNELS);
    j.block = cpu_pieces(cpu_pieces(I, j.blocks), 16) * 16;
    j.blocks = cpu_pieces(I, j.block);
    j.plane = (size_t)chunk_tiles(&j) * (size_t)j.block + CPU_WINO_PAD;
    j.columns = columns_of(j.c->gemm, &a->k->desc, j.c->wino->width);
    j.own_floats = CPU_WINO_POINTS * (kernel_plane(&j) + sum_plane(&j));
    return j;
}

/* Bytes of the chunk's patch; the last vector of a row may be read to its end. */
static uint64_t patch_bytes(const wino_job *j)
{
    const uint64_t pixels = (uint64_t)j->images * (uint64_t)patch_height(j) * (uint64_t)patch_width(j);
    return cpu_round64(sizeof(float) * (pixels * (uint64_t)j->a->k->desc.in + CPU_WINO_PAD));
}
static uint64_t v_bytes(const wino_job *j) { return cpu_round64(sizeof(float) * (uint64_t)j->blocks * CPU_WINO_POINTS * (uint64_t)j->plane); }

uint64_t cpu_wino_scratch(dc_device *d, const dc_conv_args *a)
{
    const wino_job j = job_of(d, a);
    const uint64_t threads = (uint64_t)j.c->threads;
    return cpu_round64(cpu_pre_scratch(d, a->x, &a->o.pre)) + (patch_bytes(&j) + v_bytes(&j)) * (j.alone ? threads : 1) +
           cpu_round64(sizeof(float) * j.own_floats) * threads;
}

/* Multiply-adds of vectors: of the transforms (counted from wino_kernel.h: 100 a tile and vector of channels in, 90 out, 50 a vector of
 * kernels) and of the products, beside those of the plain sums. */
double cpu_wino_cost(dc_device *d, const dc_conv_args *a)
{
    const dc_param_desc *k = &a->k->desc;
    if (d->exact || cpu_gemm_of(cpu_of(d), k)->per > 1 || k->kh != 3 || k->kw != 3 || a->o.stride != 1) return 0;
    const double lanes = cpu_of(d)->gemm->lanes, I = k->in, in = cpu_pieces(k->in, (int64_t)lanes), out = cpu_pieces(k->out, (int64_t)lanes);
    const int64_t H = a->o.strip.height ? a->o.strip.height : a->y.dim[1], W = a->y.dim[2]; /* a strip takes the way of its picture */
    const double tiles = (double)cpu_pieces(H, CPU_WINO_TILE) * cpu_pieces(W, CPU_WINO_TILE);
    const double winograd = tiles * (36 * I * out + 2 * (100 * in + 90 * out)) + 2 * 50 * I * out;
    return winograd / (9 * (double)(H * W) * I * out);
}

bool cpu_wino_suits(dc_device *d, const dc_conv_args *a)
{
    const double cost = cpu_wino_cost(d, a);
    return cost > 0 && cost < 1;
}

/* ---- a chunk ---------------------------------------------------------------------------------------------------- */

/* Where the chunk under way lies. */
typedef struct wino_chunk {
    const wino_job *j;
    int64_t image;
    int images, y0, x0, rows, cols; /* of tiles */
    int tiles, groups, group;       /* groups of up to `group` tiles share transformed kernels */
    float *patch, *v;
} wino_chunk;

/* thread: whose chunk it is; 0 when it is everyone's. */
static wino_chunk chunk_of(const wino_job *j, int64_t i, int thread)
{
    const int64_t down = i / j->chunks_across;
    wino_chunk c = {.j = j, .image = down / j->chunks_down * j->images};
    c.y0 = (int)(down % j->chunks_down) * j->rows;
    c.x0 = (int)(i % j->chunks_across) * j->cols;
    c.images = smaller(j->images, (int)(j->a->y.dim[0] - c.image));
    c.rows = smaller(j->rows, j->down - c.y0);
    c.cols = smaller(j->cols, j->across - c.x0);
    c.patch = j->patch + (size_t)thread * (patch_bytes(j) / sizeof(float));
    c.v = j->v + (size_t)thread * (v_bytes(j) / sizeof(float));
    c.tiles = c.images * c.rows * c.cols;
    c.groups = cpu_pieces(c.tiles, CPU_WINO_TILES);
    c.group = cpu_pieces(c.tiles, c.groups);
    return c;
}

static void fill_task(void *ctx, int64_t i, int thread)
{
    (void)thread;
    const wino_chunk *c = ctx;
    const wino_job *j = c->j;
    const dc_conv_args *a = j->a;
    const int height = c->rows * CPU_WINO_TILE + 2, n = (int)(i / height), y = (int)(i % height);
    cpu_conv_fill_row(a, &j->pre, c->image + n, c->y0 * CPU_WINO_TILE - a->o.pad[0] + y, c->x0 * CPU_WINO_TILE - a->o.pad[1],
                      c->cols * CPU_WINO_TILE + 2, c->patch + i * patch_width(j) * a->k->desc.in);
}

/* Some tiles of a row of tiles. */
static void input_task(void *ctx, int64_t i, int thread)
{
    (void)thread;
    const wino_chunk *c = ctx;
    const wino_job *j = c->j;
    const int I = j->a->k->desc.in, pieces = cpu_pieces(c->cols, TASK_TILES), n = (int)(i / pieces / c->rows), row = (int)(i / pieces % c->rows);
    const int from = (int)(i % pieces) * TASK_TILES, to = smaller(from + TASK_TILES, c->cols);
    const int64_t pixel = I, line = pixel * patch_width(j);
    for (int x = from; x < to; x++) {
        const float *at = c->patch + ((int64_t)n * (c->rows * CPU_WINO_TILE + 2) + row * CPU_WINO_TILE) * line + x * CPU_WINO_TILE * pixel;
        const size_t tile = (size_t)(n * c->rows + row) * (size_t)c->cols + (size_t)x;
        for (int b = 0; b < j->blocks; b++)
            j->c->wino->input(at + b * j->block, pixel, line, smaller(j->block, I - b * j->block),
                              c->v + (size_t)b * CPU_WINO_POINTS * j->plane + tile * (size_t)j->block, j->plane);
    }
}

/* A piece of the outputs: where its columns lie in the packed weight. */
typedef struct column {
    const char *from;       /* its first column of the panel's first row */
    int line;               /* columns of the panel */
    int width, outs, first; /* padded; real ones; number of the first output */
} column;

static column column_of(const wino_job *j, int i)
{
    const cpu_panels *w = j->a->k->form;
    const int each = j->c->gemm->panel / j->c->wino->width, panel = i / each, at = i % each * j->c->wino->width;
    column c = {.line = cpu_panel_width(w, j->c->gemm, panel), .first = panel * w->full + at};
    c.width = smaller(j->c->wino->width, c.line - at);
    c.outs = smaller(c.width, w->outs - c.first);
    c.from = (const char *)w->data + ((size_t)panel * (size_t)w->k * (size_t)j->c->gemm->panel + (size_t)at) * dc_dtype_size(w->type);
    return c;
}

/* m, 36 planes [tiles][width] = V times the kernels of a column, for tiles [first, first + count). */
static void multiply(const wino_chunk *chunk, const column *c, int first, int count, float *u, float *m)
{
    const wino_job *j = chunk->j;
    const cpu_panels *w = j->a->k->form;
    const int I = j->a->k->desc.in;
    const float *row[CPU_WINO_TILES];
    for (int t = 0; t < count; t++) row[t] = chunk->v + (size_t)(first + t) * (size_t)j->block;
    for (int b = 0; b < j->blocks; b++) {
        const int k = smaller(j->block, I - b * j->block);
        cpu_wino_weights t = {.type = w->type, .tap = (size_t)I * (size_t)c->line, .line = (size_t)c->line, .k = k, .width = c->width, .u = u};
        t.from = c->from + (size_t)b * (size_t)j->block * (size_t)c->line * dc_dtype_size(w->type);
        t.plane = kernel_plane(j);
        j->c->wino->weights(&t);
        for (int p = 0; p < CPU_WINO_POINTS; p++) {
            const cpu_block s = {.row = row,
                                 .offset = (int64_t)((size_t)(b * CPU_WINO_POINTS + p) * j->plane),
                                 .rows = count,
                                 .k = k,
                                 .width = c->width,
                                 .b = u + (size_t)p * t.plane,
                                 .acc = m + (size_t)p * sum_plane(j),
                                 .add = b > 0,
                                 .next = (const char *)(row[0] + (size_t)(b * CPU_WINO_POINTS + p + 1) * j->plane),
                                 .next_bytes = sizeof(float) * (size_t)count * (size_t)j->block};
            j->c->gemm->block(&s);
        }
    }
}

static void finish(const wino_chunk *k, const column *c, int first, int count, const float *m)
{
    const wino_job *j = k->j;
    const dc_conv_args *a = j->a;
    const cpu_panels *w = a->k->form;
    const int H = (int)a->y.dim[1], W = (int)a->y.dim[2];
    const dc_tensor add = a->o.add, residual = a->o.residual;
    for (int t = 0; t < count; t++) {
        const int tile = first + t, x = (k->x0 + tile % k->cols) * CPU_WINO_TILE, y = (k->y0 + tile / k->cols % k->rows) * CPU_WINO_TILE;
        const int64_t image = k->image + tile / k->cols / k->rows, pixel = (image * H + y) * W + x;
        cpu_wino_output o = {.m = m + (size_t)t * (size_t)c->width, .plane = sum_plane(j), .outs = c->outs, .act = a->o.act};
        o.stream = dc_numel(a->y) > (8 << 20) && a->y.stride % 16 == 0;
        o.h = smaller(CPU_WINO_TILE, H - y);
        o.w = smaller(CPU_WINO_TILE, W - x);
        if (w->bias) o.bias = w->bias + c->first;
        if (!dc_is_none(add)) o.add = (const float *)add.data + (add.dim[0] == 1 ? 0 : image) * add.stride + c->first;
        o.y = (float *)a->y.data + pixel * a->y.stride + c->first;
        o.y_pixel = a->y.stride;
        o.y_row = W * a->y.stride;
        if (!dc_is_none(residual)) o.residual = (const float *)residual.data + pixel * residual.stride + c->first;
        o.r_pixel = residual.stride;
        o.r_row = W * residual.stride;
        j->c->wino->output(&o);
    }
}

static void product_task(void *ctx, int64_t i, int thread)
{
    const wino_chunk *k = ctx;
    const wino_job *j = k->j;
    const column c = column_of(j, (int)(i % j->columns));
    const int first = (int)(i / j->columns) * k->group, count = smaller(k->group, k->tiles - first);
    float *u = j->own + (size_t)thread * (cpu_round64(sizeof(float) * j->own_floats) / sizeof(float)), *m = u + CPU_WINO_POINTS * kernel_plane(j);
    multiply(k, &c, first, count, u, m);
    finish(k, &c, first, count, m);
}

/* What the three steps of a chunk are cut into. */
static int64_t fills(const wino_chunk *c) { return (int64_t)c->images * (c->rows * CPU_WINO_TILE + 2); }
static int64_t inputs(const wino_chunk *c) { return (int64_t)c->images * c->rows * cpu_pieces(c->cols, TASK_TILES); }
static int64_t products(const wino_chunk *c) { return (int64_t)c->groups * c->j->columns; }

static void chunk_task(void *ctx, int64_t i, int thread)
{
    wino_chunk c = chunk_of(ctx, i, thread);
    for (int64_t k = 0; k < fills(&c); k++) fill_task(&c, k, thread);
    for (int64_t k = 0; k < inputs(&c); k++) input_task(&c, k, thread);
    for (int64_t k = 0; k < products(&c); k++) product_task(&c, k, thread);
}

dc_status cpu_wino_conv2d(dc_device *d, const dc_conv_args *a, void *scratch)
{
    wino_job j = job_of(d, a);
    char *at = scratch;
    dc_status s = cpu_pre_begin(&j.pre, d, a->x, &a->o.pre, at);
    const uint64_t each = j.alone ? (uint64_t)j.c->threads : 1;
    at += cpu_round64(cpu_pre_scratch(d, a->x, &a->o.pre));
    j.patch = (float *)at;
    j.v = (float *)(at + patch_bytes(&j) * each);
    j.own = (float *)(at + (patch_bytes(&j) + v_bytes(&j)) * each);
    if (j.alone) return s ? s : cpu_for(d, chunks_of(&j), chunk_task, &j);
    for (int64_t i = 0; !s && i < chunks_of(&j); i++) {
        wino_chunk c = chunk_of(&j, i, 0);
        s = cpu_for(d, fills(&c), fill_task, &c);
        if (!s) s = cpu_for(d, inputs(&c), input_task, &c);
        if (!s) s = cpu_for(d, products(&c), product_task, &c);
    }
    return s;
}
