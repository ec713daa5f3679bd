/* norm.c - group norm and layer norm on the CPU. The statistics of a group are sums in double over fixed blocks of
 * rows, added up in the order of the blocks: the split depends on the shape alone, never on the threads.
 * Ref: Wu & He 2018 (arXiv:1803.08494); Ba et al. 2016 (arXiv:1607.06450); torch GroupNorm, LayerNorm (biased variance). */
#include "backends/cpu/cpu.h"
#include <math.h>

/* ---- statistics of groups ------------------------------------------------------------------------------------------ */

enum { LEAST_ROWS = 16, MOST_BLOCKS = 64, TASK_FLOATS = 16384 };

typedef struct group_job {
    dc_device *d;
    dc_tensor x, x2;
    int64_t rows, channels, own; /* of one image; channels of x and x2 together; of x alone */
    int64_t block, blocks;       /* rows of a block, blocks of an image */
    double *partial;             /* [image][block][2][channel]: sums of x and of x^2 */
} group_job;

/* Blocks of an image are whole lines of it, so that strips can have the same ones. */
static group_job group_job_of(dc_device *d, dc_tensor x, dc_tensor x2, void *scratch)
{
    group_job j = {.d = d, .x = x, .x2 = x2, .own = dc_channels(x), .rows = dc_rows(x) / x.dim[0], .partial = scratch};
    j.channels = j.own + (dc_is_none(x2) ? 0 : dc_channels(x2));
    j.block = x.rank == 4 ? dc_norm_rows(x.dim[1]) * x.dim[2] : (j.rows + MOST_BLOCKS - 1) / MOST_BLOCKS;
    if (x.rank != 4 && j.block < LEAST_ROWS) j.block = LEAST_ROWS;
    j.blocks = (j.rows + j.block - 1) / j.block;
    return j;
}

uint64_t cpu_group_scratch(dc_device *d, dc_tensor x, dc_tensor x2)
{
    const group_job j = group_job_of(d, x, x2, NULL);
    return sizeof(double) * (uint64_t)(x.dim[0] * j.blocks * 2 * j.channels);
}

static const float *row_of(dc_tensor t, int64_t row) { return (const float *)t.data + row * t.stride; }

static void group_sums_task(void *ctx, int64_t i, int thread)
{
    (void)thread;
    const group_job *j = ctx;
    const cpu_rows *kernels = cpu_of(j->d)->rows;
    const int64_t first = i % j->blocks * j->block, rows = j->rows - first < j->block ? j->rows - first : j->block;
    const int64_t row = i / j->blocks * j->rows + first;
    double *sum = j->partial + i * 2 * j->channels, *square = sum + j->channels;
    kernels->channel_sums(row_of(j->x, row), j->x.stride, rows, j->own, sum, square);
    if (j->channels == j->own) return;
    kernels->channel_sums(row_of(j->x2, row), j->x2.stride, rows, j->channels - j->own, sum + j->own, square + j->own);
}

dc_status cpu_group_sums(dc_device *d, const dc_group_sums_args *a)
{
    group_job j = group_job_of(d, a->x, DC_NONE, a->y.data);
    j.block = a->rows * a->x.dim[2];
    j.blocks = a->y.dim[1];
    return cpu_for(d, a->x.dim[0] * j.blocks, group_sums_task, &j);
}

/* The sums of a channel (of its squares: c counts on) of image n over all blocks, in their order. */
static double over_blocks(const dc_group_scale_args *a, int64_t n, int64_t c)
{
    double all = 0;
    for (int k = 0; k < a->n; k++) {
        const int64_t blocks = a->sums[k].dim[1], width = 2 * a->sums[k].dim[3];
        const double *part = (const double *)a->sums[k].data + n * blocks * width + c;
        for (int64_t i = 0; i < blocks; i++) all += part[i * width];
    }
    return all;
}

/* Each group's mean and deviation as scale and shift of its channels. */
static void finish_group(const dc_group_scale_args *a, int64_t n, int64_t g)
{
    const int64_t C = a->norm->desc.out, size = C / a->groups;
    const double count = (double)(a->pixels * size);
    const float *w = cpu_norm_scale(a->norm), *b = cpu_norm_shift(a->norm);
    float *scale = (float *)a->y.data + n * 2 * C, *shift = scale + C;
    double sum = 0, square = 0;
    for (int64_t c = g * size; c < (g + 1) * size; c++) {
        sum += over_blocks(a, n, c);
        square += over_blocks(a, n, C + c);
    }
    const double mean = sum / count, variance = square / count - mean * mean;
    const double deviation = sqrt((variance < 0 ? 0 : variance) + a->eps);
    for (int64_t c = g * size; c < (g + 1) * size; c++) {
        scale[c] = (float)(w[c] / deviation);
        shift[c] = (float)(b[c] - mean * w[c] / deviation);
    }
}

dc_status cpu_group_scale(dc_device *d, const dc_group_scale_args *a)
{
    (void)d;
    for (int64_t n = 0; n < a->y.dim[0]; n++)
        for (int64_t g = 0; g < a->groups; g++) finish_group(a, n, g);
    return DC_OK;
}

dc_status cpu_group_scale_shift(dc_device *d, dc_tensor x, dc_tensor x2, const dc_param *norm, int groups, float eps, float *out, void *scratch)
{
    group_job j = group_job_of(d, x, x2, scratch);
    const dc_tensor sums = {.data = scratch, .dim = {x.dim[0], j.blocks, 2, j.channels}, .rank = 4, .dtype = DC_F64};
    const dc_tensor y = {.data = out, .dim = {x.dim[0], 2, j.channels}, .rank = 3, .dtype = DC_F32};
    const dc_status s = cpu_for(d, x.dim[0] * j.blocks, group_sums_task, &j);
    return s ? s
             : cpu_group_scale(d,
                               &(dc_group_scale_args){.y = y, .sums = &sums, .n = 1, .norm = norm, .groups = groups, .eps = eps, .pixels = j.rows});
}

/* ---- the ops ----------------------------------------------------------------------------------------------------------- */

typedef struct norm_job {
    dc_device *d;
    const dc_norm_args *a;
    const float *scale_shift; /* [image][2][channel], of a group norm */
    int64_t rows, tasks;      /* rows of a task, tasks of an image */
} norm_job;

static void group_apply_task(void *ctx, int64_t i, int thread)
{
    (void)thread;
    const norm_job *j = ctx;
    const dc_tensor x = j->a->x, y = j->a->y;
    const int64_t all = dc_rows(x) / x.dim[0], C = dc_channels(x), n = i / j->tasks, first = i % j->tasks * j->rows;
    const int64_t rows = all - first < j->rows ? all - first : j->rows, row = n * all + first;
    const float *scale = j->scale_shift + n * 2 * C;
    float *to = (float *)y.data + row * y.stride;
    cpu_of(j->d)->rows->scale_shift(to, y.stride, row_of(x, row), x.stride, rows, C, scale, scale + C, j->a->act);
}

static void layer_norm_task(void *ctx, int64_t i, int thread)
{
    (void)thread;
    const norm_job *j = ctx;
    const dc_tensor x = j->a->x, y = j->a->y;
    const int64_t all = dc_rows(x), end = (i + 1) * j->rows < all ? (i + 1) * j->rows : all;
    const float *w = cpu_norm_scale(j->a->norm), *b = cpu_norm_shift(j->a->norm);
    for (int64_t r = i * j->rows; r < end; r++)
        cpu_of(j->d)->rows->layer_norm((float *)y.data + r * y.stride, row_of(x, r), dc_channels(x), w, b, j->a->eps, j->a->act);
}

/* Scratch of a group norm: scale and shift, whole cache lines, then what the statistics need. */
static uint64_t scale_shift_floats(const dc_norm_args *a) { return ((uint64_t)(2 * a->x.dim[0] * dc_channels(a->x)) + 15) / 16 * 16; }

uint64_t cpu_norm_scratch(dc_device *d, const dc_norm_args *a)
{
    return a->groups ? sizeof(float) * scale_shift_floats(a) + cpu_group_scratch(d, a->x, DC_NONE) : 0;
}

dc_status cpu_norm(dc_device *d, const dc_norm_args *a, void *scratch)
{
    const int64_t C = dc_channels(a->x), rows = dc_rows(a->x), images = a->x.dim[0];
    norm_job j = {.d = d, .a = a, .scale_shift = scratch, .rows = (TASK_FLOATS + C - 1) / C};
    if (!a->groups) return cpu_for(d, (rows + j.rows - 1) / j.rows, layer_norm_task, &j);
    dc_status s = cpu_group_scale_shift(d, a->x, DC_NONE, a->norm, a->groups, a->eps, scratch, (float *)scratch + scale_shift_floats(a));
    j.tasks = (rows / images + j.rows - 1) / j.rows;
    return s ? s : cpu_for(d, images * j.tasks, group_apply_task, &j);
}
