/* tile.c - tiles: cutting, running, blending. */
#include "vae/tile.h"
#include "base/checked.h"
#include <stdlib.h>
#include <string.h>

enum { PARTS = 2 }; /* a tile gives a picture, or mean and logvar */

typedef struct tiling {
    const dc_vae *vae;
    dc_run *r;
    bool encode;
    int h, w, tile, step;    /* latents */
    int in_scale, out_scale; /* pixels per latent on either side, or 1 */
    int in_channels, out_channels, parts;
    const float *in;
    float *cut; /* one tile of the input */
    float *out[PARTS];
    int planned_h, planned_w;
} tiling;

typedef struct tile {
    int h, w; /* latents */
    float *part[PARTS];
} tile;

static int smaller(int a, int b) { return a < b ? a : b; }

/* A multiple of four latents, so that a quarter of it is whole. */
static int tile_size(const dc_vae_config *c)
{
    int size = c->sample_size / c->factor / 4 * 4;
    return size > 4 ? size : 4;
}

bool dc_vae_is_tiled(const dc_vae_config *c, int h, int w) { return h > tile_size(c) || w > tile_size(c); }

static tiling make_tiling(const dc_vae *m, dc_run *r, bool encode, int h, int w)
{
    const dc_vae_config *c = dc_vae_configuration(m);
    tiling t = {.vae = m, .r = r, .encode = encode, .h = h, .w = w, .tile = tile_size(c)};
    t.step = t.tile / 4 * 3;
    t.in_scale = encode ? c->factor : 1;
    t.out_scale = encode ? 1 : c->factor;
    t.in_channels = encode ? c->image_channels : c->latent_channels;
    t.out_channels = encode ? c->latent_channels : c->image_channels;
    t.parts = encode && !c->tiny ? 2 : 1;
    return t;
}

/* ---- one tile ------------------------------------------------------------------------------------------------------- */

typedef struct tile_pass {
    const tiling *t;
    const tile *out;
} tile_pass;

static void run_tile(void *ctx, dc_run *r)
{
    const tile_pass *p = ctx;
    const tiling *t = p->t;
    dc_tensor x = dc_upload(r, DC_F32, 4, (int64_t[4]){1, p->out->h * t->in_scale, p->out->w * t->in_scale, t->in_channels}, t->cut);
    if (t->encode) {
        dc_vae_moments m = dc_vae_encode(t->vae, r, x);
        dc_download(r, m.mean, p->out->part[0]);
        dc_download(r, m.logvar, p->out->part[1]);
    } else {
        dc_download(r, dc_vae_decode(t->vae, r, x), p->out->part[0]);
    }
}

dc_status dc_vae_tiled_plan(const dc_vae *m, dc_run *r, bool encode, int h, int w, dc_error *e)
{
    tiling t = make_tiling(m, r, encode, h, w);
    tile first = {.h = smaller(h, t.tile), .w = smaller(w, t.tile)};
    tile_pass p = {&t, &first};
    return dc_run_plan(r, run_tile, &p, e);
}

static void cut(const tiling *t, int y, int x, const tile *size)
{
    size_t row = (size_t)size->w * (size_t)t->in_scale * (size_t)t->in_channels, stride = (size_t)t->w * (size_t)t->in_scale * (size_t)t->in_channels;
    const float *from = t->in + (size_t)y * (size_t)t->in_scale * stride + (size_t)x * (size_t)t->in_scale * (size_t)t->in_channels;
    for (int i = 0; i < size->h * t->in_scale; i++) memcpy(t->cut + (size_t)i * row, from + (size_t)i * stride, row * sizeof *t->cut);
}

static dc_status compute(tiling *t, int y, int x, tile *out, dc_error *e)
{
    out->h = smaller(t->tile, t->h - y);
    out->w = smaller(t->tile, t->w - x);
    tile_pass p = {t, out};
    dc_status s = DC_OK;
    cut(t, y, x, out);
    if (out->h != t->planned_h || out->w != t->planned_w) {
        s = dc_run_plan(t->r, run_tile, &p, e);
        if (!s) s = dc_run_reserve(t->r, e);
        t->planned_h = s ? 0 : out->h;
        t->planned_w = s ? 0 : out->w;
    }
    return s ? s : dc_run_pass(t->r, run_tile, &p, e);
}

/* ---- blending ------------------------------------------------------------------------------------------------------------ */

/* The first `extent` rows of b go from a's last rows to b's own. Rows are `row` numbers wide. */
static void blend_rows(const float *a, int a_rows, float *b, int b_rows, int extent, size_t row)
{
    extent = smaller(extent, smaller(a_rows, b_rows));
    for (int y = 0; y < extent; y++) {
        const float k = (float)y / (float)extent;
        const float *from = a + (size_t)(a_rows - extent + y) * row;
        float *to = b + (size_t)y * row;
        for (size_t i = 0; i < row; i++) to[i] = from[i] * (1 - k) + to[i] * k;
    }
}

/* The same with columns: as rows of one pixel, a line at a time. */
static void blend_columns(const float *a, int a_columns, float *b, int b_columns, int lines, int extent, int channels)
{
    for (int y = 0; y < lines; y++)
        blend_rows(a + (size_t)y * (size_t)a_columns * (size_t)channels, a_columns, b + (size_t)y * (size_t)b_columns * (size_t)channels, b_columns,
                   extent, (size_t)channels);
}

static void blend(const tiling *t, tile *b, const tile *above, const tile *left)
{
    int s = t->out_scale, extent = (t->tile - t->step) * s;
    for (int k = 0; k < t->parts; k++) {
        if (above) blend_rows(above->part[k], above->h * s, b->part[k], b->h * s, extent, (size_t)b->w * (size_t)s * (size_t)t->out_channels);
        if (left) blend_columns(left->part[k], left->w * s, b->part[k], b->w * s, b->h * s, extent, t->out_channels);
    }
}

/* What no later tile blends over goes out. */
static void paste(const tiling *t, const tile *from, int y, int x)
{
    size_t s = (size_t)t->out_scale, C = (size_t)t->out_channels;
    size_t rows = (size_t)smaller(from->h, t->step) * s, columns = (size_t)smaller(from->w, t->step) * s;
    for (int k = 0; k < t->parts; k++)
        for (size_t i = 0; i < rows; i++)
            memcpy(t->out[k] + (((size_t)y * s + i) * (size_t)t->w + (size_t)x) * s * C, from->part[k] + i * (size_t)from->w * s * C,
                   columns * C * sizeof(float));
}

/* ---- the whole --------------------------------------------------------------------------------------------------------------- */

/* Row by row; a tile is blended with the one above and the one to the left, which are blended already. */
static dc_status run_rows(tiling *t, tile *rows[2], dc_error *e)
{
    dc_status s = DC_OK;
    for (int y = 0; !s && y < t->h; y += t->step) {
        tile *swap = rows[0];
        rows[0] = rows[1], rows[1] = swap;
        for (int x = 0, j = 0; !s && x < t->w; x += t->step, j++) {
            tile *b = &rows[1][j];
            s = compute(t, y, x, b, e);
            if (s) break;
            blend(t, b, y ? &rows[0][j] : NULL, j ? b - 1 : NULL);
            paste(t, b, y, x);
        }
    }
    return s;
}

static bool make_row(const tiling *t, tile *row, int columns)
{
    size_t side = (size_t)t->tile * (size_t)t->out_scale;
    for (int j = 0; j < columns; j++)
        for (int k = 0; k < t->parts; k++)
            if (!(row[j].part[k] = dc_calloc(side * side * (size_t)t->out_channels, sizeof(float)))) return false;
    return true;
}

static void free_row(tile *row, int columns)
{
    for (int j = 0; row && j < columns; j++)
        for (int k = 0; k < PARTS; k++) free(row[j].part[k]);
    free(row);
}

static dc_status run_tiles(tiling *t, dc_error *e)
{
    int columns = (t->w + t->step - 1) / t->step;
    size_t side = (size_t)t->tile * (size_t)t->in_scale;
    tile *rows[2] = {dc_calloc((size_t)columns, sizeof(tile)), dc_calloc((size_t)columns, sizeof(tile))};
    t->cut = dc_calloc(side * side * (size_t)t->in_channels, sizeof *t->cut);
    bool fine = rows[0] && rows[1] && t->cut && make_row(t, rows[0], columns) && make_row(t, rows[1], columns);

    dc_status s = fine ? run_rows(t, rows, e) : dc_fail_memory(e, "tiles", 0);
    dc_run_release(t->r);
    free_row(rows[0], columns);
    free_row(rows[1], columns);
    free(t->cut);
    return s;
}

dc_status dc_vae_tiled_decode(const dc_vae *m, dc_run *r, const float *latent, int h, int w, float *picture, dc_error *e)
{
    tiling t = make_tiling(m, r, false, h, w);
    t.in = latent;
    t.out[0] = picture;
    return run_tiles(&t, e);
}

dc_status dc_vae_tiled_encode(const dc_vae *m, dc_run *r, const float *picture, int h, int w, float *mean, float *logvar, dc_error *e)
{
    tiling t = make_tiling(m, r, true, h, w);
    t.in = picture;
    t.out[0] = mean;
    t.out[1] = logvar;
    return run_tiles(&t, e);
}
