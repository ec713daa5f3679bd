/* linear.c - linear layers: tiles of tokens against panels of the weight. */
#include "backends/cpu/pre.h"

enum { STRETCH = 8 }; /* rows prepared at once */

typedef struct linear_job {
    cpu_product product;
    cpu_pre pre;
    bool copied; /* the prologue applied */
    int places;  /* of a prepared row (copied; or rounded for narrow products, and its factor); 0: rows are read where they are */
    int tile, parts;
    int64_t rows, per_image, tiles_per_image, tiles; /* rows in all, rows and tiles of an image (of everything when no prologue differs) */
    float *shared;                                   /* all prepared rows, when there are few tiles and their parts share them; else NULL */
    char *scratch;                                   /* of thread 0 */
    uint64_t shared_bytes, product_bytes, staged_bytes, thread_bytes;
} linear_job;

/* Rows of a tile: as many as a tile takes, but prepared rows of a wide input stay within CPU_TILE_BYTES; all tiles about alike. Tiles do not
 * cross images when the prologue differs from image to image. */
static int tile_rows(const linear_job *j)
{
    int64_t most = CPU_TILE_ROWS, each = (int64_t)sizeof(float) * j->places;
    if (most * each > CPU_TILE_BYTES) most = CPU_TILE_BYTES / each / 24 * 24;
    if (most < 24) most = 24;
    return cpu_pieces(j->per_image, cpu_pieces(j->per_image, most));
}

/* How the work is cut, and what scratch it takes. Rows are prepared once for all, by all threads, when there are so few tiles that each is cut
 * into parts; else by the thread that takes their tile. */
static linear_job linear_job_of(dc_device *d, const dc_linear_args *a)
{
    const cpu_device *c = cpu_of(d);
    const dc_param_desc *k = &a->k->desc;
    linear_job j = {.copied = cpu_pre_needed(&a->o.pre), .rows = dc_rows(a->x)};
    j.product.g = cpu_gemm_of(c, k);
    const bool narrow = j.product.g->per > 1;
    j.places = narrow ? cpu_places(j.product.g, k->in) + 1 : j.copied ? k->in : 0;
    j.per_image = j.copied && a->x.rank > 2 ? j.rows / a->x.dim[0] : j.rows;
    j.tile = tile_rows(&j);
    j.tiles_per_image = cpu_pieces(j.per_image, j.tile);
    j.tiles = j.tiles_per_image * (j.rows / j.per_image);
    const bool few = j.tiles <= c->threads;
    const int outs = k->geglu ? k->out / 2 : k->out, full = k->geglu ? j.product.g->panel / 2 : j.product.g->panel;
    j.parts = cpu_panel_parts(j.tiles, cpu_pieces(outs, full), c->threads, j.places && !few);
    const uint64_t row = sizeof(float) * (uint64_t)j.places;
    j.shared_bytes = few && j.parts > 1 ? cpu_round64(row * (uint64_t)j.rows) : 0;
    j.product_bytes = cpu_round64(cpu_product_scratch(j.product.g, k, j.tile));
    j.staged_bytes = narrow && j.copied ? cpu_round64(sizeof(float) * STRETCH * (uint64_t)k->in) : 0;
    j.thread_bytes = j.product_bytes + j.staged_bytes + (j.shared_bytes ? 0 : cpu_round64(row * (uint64_t)j.tile));
    return j;
}

uint64_t cpu_linear_scratch(dc_device *d, const dc_linear_args *a)
{
    const linear_job j = linear_job_of(d, a);
    return cpu_round64(cpu_pre_scratch(d, a->x, &a->o.pre)) + j.shared_bytes + j.thread_bytes * (uint64_t)cpu_of(d)->threads;
}

/* Rows [from, from + n) of all, of one image: the prologue applied and rounded, to `to` [n][places]. staged: STRETCH rows of floats. */
static void prepare_rows(const linear_job *j, int64_t image, int64_t from, int n, float *staged, float *to)
{
    const cpu_gemm *g = j->product.g;
    if (g->per == 1) {
        cpu_pre_rows(&j->pre, image, from, n, to);
        return;
    }
    const float *x = (const float *)j->pre.x.data + from * j->pre.x.stride;
    for (int r = 0; r < n; r++, to += j->places) {
        const float *row = j->copied ? staged + (int64_t)(r % STRETCH) * j->pre.channels : x + r * j->pre.x.stride;
        if (j->copied && r % STRETCH == 0) cpu_pre_rows(&j->pre, image, from + r, n - r < STRETCH ? n - r : STRETCH, staged);
        const float factor = to[j->places - 1] = g->factor(row, j->pre.channels);
        g->narrow(row, j->pre.channels, factor, to);
    }
}

static char *scratch_of(const linear_job *j, int thread) { return j->scratch + (uint64_t)thread * j->thread_bytes; }

/* A stretch of rows of one image. */
static void share_rows(void *ctx, int64_t i, int thread)
{
    const linear_job *j = ctx;
    const int64_t stretches = cpu_pieces(j->per_image, STRETCH), image = i / stretches, first = i % stretches * STRETCH;
    const int64_t left = j->per_image - first, from = image * j->per_image + first;
    prepare_rows(j, image, from, (int)(left < STRETCH ? left : STRETCH), (float *)(scratch_of(j, thread) + j->product_bytes),
                 j->shared + from * j->places);
}

static void run_tile(void *ctx, int64_t i, int thread)
{
    const linear_job *j = ctx;
    char *scratch = scratch_of(j, thread);
    const int64_t tile = i / j->parts, image = tile / j->tiles_per_image, first = tile % j->tiles_per_image * j->tile;
    const int64_t left = j->per_image - first, from = image * j->per_image + first;
    const int part = (int)(i % j->parts), panels = j->product.w->count;
    cpu_tile t;
    t.rows = (int)(left < j->tile ? left : j->tile);
    t.add = NULL;
    float *own = (float *)(scratch + j->product_bytes + j->staged_bytes);
    const float *row = j->shared ? j->shared + from * j->places : j->places ? own : (const float *)j->pre.x.data + from * j->pre.x.stride;
    if (j->places && !j->shared) prepare_rows(j, image, from, t.rows, (float *)(scratch + j->product_bytes), own);
    for (int r = 0; r < t.rows; r++, row += j->places ? j->places : j->pre.x.stride) {
        t.row[r] = row;
        t.to[r] = from + r;
        if (j->product.g->per > 1) t.factor[r] = row[j->places - 1];
    }
    cpu_product_tile(&j->product, &t, part * panels / j->parts, (part + 1) * panels / j->parts, scratch);
}

void cpu_linear_choice(dc_device *d, const dc_linear_args *a, dc_choice *out)
{
    const linear_job j = linear_job_of(d, a);
    static const char *const names[] = {[1] = "gemm f32", [2] = "gemm bf16", [4] = "gemm int8"};
    dc_choose(out, names[j.product.g->per], "%d rows a tile%s", j.tile, j.copied ? ", prologue on a copy" : "");
}

dc_status cpu_linear(dc_device *d, const dc_linear_args *a, void *scratch)
{
    const cpu_panels *w = a->k->form;
    linear_job j = linear_job_of(d, a);
    dc_status s = cpu_pre_begin(&j.pre, d, a->x, &a->o.pre, scratch);
    j.product =
        (cpu_product){.g = j.product.g, .w = w, .taps = 1, .taps_across = 1, .per_tap = w->k, .y = a->y, .residual = a->o.residual, .act = a->o.act};
    char *rest = (char *)scratch + cpu_round64(cpu_pre_scratch(d, a->x, &a->o.pre));
    j.scratch = rest + j.shared_bytes;
    if (!s && j.shared_bytes) {
        j.shared = (float *)rest;
        s = cpu_for(d, cpu_pieces(j.per_image, STRETCH) * (j.rows / j.per_image), share_rows, &j);
    }
    return s ? s : cpu_for(d, j.tiles * j.parts, run_tile, &j);
}
