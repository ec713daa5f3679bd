/* norms.c - group norms in three steps (sums, factors, and the gather or the pass that applies them), layer norms. */
#include "backends/cuda/cuda.h"

static int32_t blocks_of(dc_tensor x)
{
    const int rows = dc_norm_rows(x.dim[1]);
    return (int32_t)((x.dim[1] + rows - 1) / rows);
}

static uint64_t scale_bytes(dc_tensor x, int64_t C) { return cuda_up((uint64_t)(2 * x.dim[0] * C) * sizeof(float)); }

uint64_t cuda_group_bytes(dc_tensor x, dc_tensor x2)
{
    const int64_t C = dc_channels(x) + dc_channels(x2);
    return scale_bytes(x, C) + cuda_up((uint64_t)(2 * x.dim[0] * blocks_of(x) * C) * sizeof(double));
}

static void sums(dc_device *d, dc_tensor x, double *y, int rows, int32_t total, int32_t from)
{
    k_sums_args a = {.x = cuda_view(x), .y = y, .n = (int32_t)x.dim[0], .h = cuda_height(x), .w = cuda_width(x), .c = (int32_t)dc_channels(x)};
    a.rows = rows;
    a.blocks = (a.h + rows - 1) / rows;
    a.total = total;
    a.from = from;
    QUEUE(cuda_queue(d), k_sums, a);
}

const float *cuda_group(dc_device *d, dc_tensor x, dc_tensor x2, const dc_param *norm, int groups, float eps, void *scratch)
{
    const int32_t C = (int32_t)(dc_channels(x) + dc_channels(x2));
    const cuda_form f = cuda_form_of(d, norm);
    double *y = (double *)(void *)((char *)scratch + scale_bytes(x, C));
    sums(d, x, y, dc_norm_rows(x.dim[1]), C, 0);
    if (!dc_is_none(x2)) sums(d, x2, y, dc_norm_rows(x.dim[1]), C, (int32_t)dc_channels(x));
    k_scale_args a = {
        .sums = {y}, .blocks = {blocks_of(x)}, .weight = f.weight, .bias = f.bias, .y = scratch, .eps = eps, .parts = 1, .groups = groups};
    a.n = (int32_t)x.dim[0];
    a.c = C;
    a.count = (double)cuda_pixels(x) * (C / groups);
    QUEUE(cuda_queue(d), k_scale, a);
    return scratch;
}

uint64_t cuda_norm_scratch(dc_device *d, const dc_norm_args *a) { return (void)d, a->groups ? cuda_group_bytes(a->x, DC_NONE) : 0; }

dc_status cuda_norm(dc_device *d, const dc_norm_args *a, void *scratch)
{
    const int32_t C = (int32_t)dc_channels(a->x);
    if (!a->groups) {
        const cuda_form f = cuda_form_of(d, a->norm);
        k_layer_norm_args l = {
            .x = cuda_view(a->x), .y = cuda_view(a->y), .weight = f.weight, .bias = f.bias, .rows = dc_rows(a->x), .c = C, .eps = a->eps};
        QUEUE(cuda_queue(d), k_layer_norm, l);
        return DC_OK;
    }
    k_gather_args g = {.x = cuda_view(a->x), .y = cuda_view(a->y), .n = (int32_t)a->x.dim[0], .c = C, .act = a->act};
    g.scale = cuda_group(d, a->x, DC_NONE, a->norm, a->groups, a->eps, scratch);
    g.h = g.in_h = g.out_h = a->x.rank == 4 ? cuda_height(a->x) : 1;
    g.w = g.in_w = g.out_w = (int32_t)cuda_pixels(a->x) / g.h;
    g.channels = C;
    QUEUE(cuda_queue(d), k_gather, g);
    return DC_OK;
}

dc_status cuda_group_sums(dc_device *d, const dc_group_sums_args *a)
{
    sums(d, a->x, a->y.data, a->rows, (int32_t)dc_channels(a->x), 0);
    return DC_OK;
}

dc_status cuda_group_scale(dc_device *d, const dc_group_scale_args *a)
{
    const cuda_form f = cuda_form_of(d, a->norm);
    k_scale_args s = {
        .weight = f.weight, .bias = f.bias, .y = a->y.data, .eps = a->eps, .parts = a->n, .n = (int32_t)a->y.dim[0], .groups = a->groups};
    if (a->n > K_PARTS) return DC_INTERNAL; /* dc_norm_rows makes 64 blocks at most of a picture, and a strip has one at least */
    for (int i = 0; i < a->n; i++) {
        s.sums[i] = a->sums[i].data;
        s.blocks[i] = (int32_t)a->sums[i].dim[1];
    }
    s.c = a->norm->desc.out;
    s.count = (double)a->pixels * (s.c / a->groups);
    QUEUE(cuda_queue(d), k_scale, s);
    return DC_OK;
}
