/* linear.c - linear layers: tiles of tokens against panels of the weight. */
#include "backends/cpu/pre.h"
#include <string.h>

/* Rows of a tile: as many as a tile takes, but copied rows of a wide input stay within CPU_TILE_BYTES; all tiles about alike. Tiles do not cross
 * images when the prologue differs from image to image. */
static int tile_rows(const dc_linear_args *a, bool copied, bool narrow)
{
    int64_t most = CPU_TILE_ROWS, each = (narrow ? 2 : 4) * (int64_t)a->k->desc.in,
            rows = copied && a->x.rank > 2 ? dc_rows(a->x) / a->x.dim[0] : dc_rows(a->x);
    if ((copied || narrow) && most * each > CPU_TILE_BYTES) most = CPU_TILE_BYTES / each / 24 * 24;
    if (most < 24) most = 24;
    int64_t tiles = (rows + most - 1) / most;
    return (int)((rows + tiles - 1) / tiles);
}

typedef struct linear_job {
    cpu_product product;
    cpu_pre pre;
    bool copied; /* the prologue applied */
    int pairs;   /* of a row rounded to bf16, or 0 */
    int tile, parts;
    int64_t per_image, tiles_per_image; /* rows and tiles of an image (of everything when rows are not copied) */
    char *scratch;                      /* of thread 0 */
    uint64_t product_bytes, thread_bytes;
} linear_job;

/* A layer whose weights are pairs of bf16 is multiplied by the kernels of those. */
static const cpu_gemm *narrow_of(dc_device *d, const dc_linear_args *a) { return a->k->desc.kh * a->k->desc.kw == 1 ? cpu_of(d)->narrow : NULL; }

static uint64_t product_scratch(dc_device *d, const dc_linear_args *a, bool copied)
{
    return cpu_round64(cpu_product_scratch(cpu_of(d)->gemm, &a->k->desc, tile_rows(a, copied, narrow_of(d, a))));
}

enum { NARROW_ROWS = 8 }; /* rows that the prologue is applied to at once before they are rounded */

static uint64_t thread_scratch(dc_device *d, const dc_linear_args *a, bool copied)
{
    const bool narrow = narrow_of(d, a);
    const uint64_t in = (uint64_t)a->k->desc.in, rows = (uint64_t)tile_rows(a, copied, narrow);
    const uint64_t floats = copied ? in * (narrow ? NARROW_ROWS : rows) : 0, pairs = narrow ? (in + 1) / 2 * rows : 0;
    return product_scratch(d, a, copied) + cpu_round64(sizeof(float) * floats) + cpu_round64(sizeof(float) * pairs);
}

uint64_t cpu_linear_scratch(dc_device *d, const dc_linear_args *a)
{
    return cpu_round64(cpu_pre_scratch(d, a->x, &a->o.pre)) + thread_scratch(d, a, cpu_pre_needed(&a->o.pre)) * (uint64_t)cpu_of(d)->threads;
}

/* Rows of a tile as pairs of bf16, to `pairs` [n][j->pairs]; staged: NARROW_ROWS rows of floats. */
static void narrow_rows(const linear_job *j, int64_t image, int64_t from, int n, float *staged, float *pairs)
{
    const float *x = (const float *)j->pre.x.data + from * j->pre.x.stride;
    for (int r = 0; r < n; r++) {
        const float *row = j->copied ? staged + (int64_t)(r % NARROW_ROWS) * j->pre.channels : x + r * j->pre.x.stride;
        if (j->copied && r % NARROW_ROWS == 0) cpu_pre_rows(&j->pre, image, from + r, n - r < NARROW_ROWS ? n - r : NARROW_ROWS, staged);
        j->product.g->narrow(row, j->pre.channels, pairs + (int64_t)r * j->pairs);
    }
}

static void run_tile(void *ctx, int64_t i, int thread)
{
    const linear_job *j = ctx;
    char *scratch = j->scratch + (uint64_t)thread * j->thread_bytes;
    float *rows = (float *)(scratch + j->product_bytes);
    int64_t tile = i / j->parts, image = tile / j->tiles_per_image, first = tile % j->tiles_per_image * j->tile;
    int part = (int)(i % j->parts), panels = j->product.w->count;
    cpu_tile t;
    int64_t left = j->per_image - first, from = image * j->per_image + first;
    t.rows = (int)(left < j->tile ? left : j->tile);
    t.add = NULL;
    float *pairs = rows + (j->copied ? cpu_round64(sizeof(float) * NARROW_ROWS * (uint64_t)j->pre.channels) / sizeof(float) : 0);
    if (j->pairs) narrow_rows(j, image, from, t.rows, rows, pairs);
    else if (j->copied) cpu_pre_rows(&j->pre, image, from, t.rows, rows);
    for (int r = 0; r < t.rows; r++) {
        if (j->pairs) t.row[r] = pairs + (int64_t)r * j->pairs;
        else t.row[r] = j->copied ? rows + (int64_t)r * j->pre.channels : (const float *)j->pre.x.data + (from + r) * j->pre.x.stride;
        t.to[r] = from + r;
    }
    cpu_product_tile(&j->product, &t, part * panels / j->parts, (part + 1) * panels / j->parts, scratch);
}

void cpu_linear_choice(dc_device *d, const dc_linear_args *a, dc_choice *out)
{
    const bool narrow = narrow_of(d, a), copied = cpu_pre_needed(&a->o.pre);
    dc_choose(out, narrow ? "gemm bf16" : "gemm f32", "%d rows a tile%s", tile_rows(a, copied, narrow), copied ? ", prologue on a copy" : "");
}

dc_status cpu_linear(dc_device *d, const dc_linear_args *a, void *scratch)
{
    const cpu_panels *w = a->k->form;
    linear_job j = {.copied = cpu_pre_needed(&a->o.pre)};
    dc_status s = cpu_pre_begin(&j.pre, d, a->x, &a->o.pre, scratch);
    if (s) return s;
    const cpu_gemm *narrow = narrow_of(d, a);
    j.pairs = narrow ? w->k : 0;
    j.product = (cpu_product){.g = narrow ? narrow : cpu_of(d)->gemm,
                              .w = w,
                              .taps = 1,
                              .taps_across = 1,
                              .per_tap = w->k,
                              .y = a->y,
                              .residual = a->o.residual,
                              .act = a->o.act};
    j.tile = tile_rows(a, j.copied, narrow);
    j.per_image = j.copied && a->x.rank > 2 ? dc_rows(a->x) / a->x.dim[0] : dc_rows(a->x);
    j.tiles_per_image = (j.per_image + j.tile - 1) / j.tile;
    int64_t tiles = j.tiles_per_image * (dc_rows(a->x) / j.per_image);
    j.parts = cpu_panel_parts(tiles, w->count, cpu_of(d)->threads, j.copied || narrow);
    j.scratch = (char *)scratch + cpu_round64(cpu_pre_scratch(d, a->x, &a->o.pre));
    j.product_bytes = product_scratch(d, a, j.copied);
    j.thread_bytes = thread_scratch(d, a, j.copied);
    return cpu_for(d, tiles * j.parts, run_tile, &j);
}
