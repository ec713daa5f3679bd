/* linear.c - linear layers: tiles of tokens against panels of the weight. */
#include "backends/cpu/pre.h"
#include <string.h>

/* Rows of a tile: as many as a tile takes, but copied rows of a wide input stay within CPU_TILE_BYTES; all tiles about alike. Tiles do not cross
 * images when the prologue differs from image to image. */
static int tile_rows(const dc_linear_args *a, bool copied)
{
    int64_t most = CPU_TILE_ROWS, each = 4 * (int64_t)a->k->desc.in, rows = copied && a->x.rank > 2 ? dc_rows(a->x) / a->x.dim[0] : dc_rows(a->x);
    if (copied && most * each > CPU_TILE_BYTES) most = CPU_TILE_BYTES / each / 24 * 24;
    if (most < 24) most = 24;
    int64_t tiles = (rows + most - 1) / most;
    return (int)((rows + tiles - 1) / tiles);
}

typedef struct linear_job {
    cpu_product product;
    cpu_pre pre;
    bool copied;
    int tile, parts;
    int64_t per_image, tiles_per_image; /* rows and tiles of an image (of everything when rows are not copied) */
    char *scratch;                      /* of thread 0 */
    uint64_t product_bytes, thread_bytes;
} linear_job;

static uint64_t product_scratch(dc_device *d, const dc_linear_args *a, bool copied)
{
    return cpu_round64(cpu_product_scratch(cpu_of(d)->gemm, &a->k->desc, tile_rows(a, copied)));
}

static uint64_t thread_scratch(dc_device *d, const dc_linear_args *a, bool copied)
{
    uint64_t rows = copied ? cpu_round64(sizeof(float) * (uint64_t)tile_rows(a, true) * (uint64_t)a->k->desc.in) : 0;
    return product_scratch(d, a, copied) + rows;
}

uint64_t cpu_linear_scratch(dc_device *d, const dc_linear_args *a)
{
    return cpu_round64(cpu_pre_scratch(d, a->x, &a->o.pre)) + thread_scratch(d, a, cpu_pre_needed(&a->o.pre)) * (uint64_t)cpu_of(d)->threads;
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
    if (j->copied) cpu_pre_rows(&j->pre, image, from, t.rows, rows);
    for (int r = 0; r < t.rows; r++) {
        t.row[r] = j->copied ? rows + (int64_t)r * j->pre.channels : (const float *)j->pre.x.data + (from + r) * j->pre.x.stride;
        t.to[r] = from + r;
    }
    cpu_product_tile(&j->product, &t, part * panels / j->parts, (part + 1) * panels / j->parts, scratch);
}

dc_status cpu_linear(dc_device *d, const dc_linear_args *a, void *scratch)
{
    const cpu_panels *w = a->k->form;
    linear_job j = {.copied = cpu_pre_needed(&a->o.pre)};
    dc_status s = cpu_pre_begin(&j.pre, d, a->x, &a->o.pre, scratch);
    if (s) return s;
    j.product = (cpu_product){
        .g = cpu_of(d)->gemm, .w = w, .taps = 1, .taps_across = 1, .per_tap = w->k, .y = a->y, .residual = a->o.residual, .act = a->o.act};
    j.tile = tile_rows(a, j.copied);
    j.per_image = j.copied && a->x.rank > 2 ? dc_rows(a->x) / a->x.dim[0] : dc_rows(a->x);
    j.tiles_per_image = (j.per_image + j.tile - 1) / j.tile;
    int64_t tiles = j.tiles_per_image * (dc_rows(a->x) / j.per_image);
    j.parts = cpu_panel_parts(tiles, w->count, cpu_of(d)->threads, j.copied);
    j.scratch = (char *)scratch + cpu_round64(cpu_pre_scratch(d, a->x, &a->o.pre));
    j.product_bytes = product_scratch(d, a, j.copied);
    j.thread_bytes = thread_scratch(d, a, j.copied);
    return cpu_for(d, tiles * j.parts, run_tile, &j);
}
