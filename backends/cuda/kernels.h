/* kernels.h - this device's own kernels: what goes between the matrix products. One struct of plain values and one launch function each
 * (gpu_work: it queues, and never waits). All sums are in a fixed order: the same bytes each time.
 *
 * Pointers are to device memory. A view is rows of channels: `stride` numbers from row to row, F32, F16 or BF16 as `type` (dc_dtype) says;
 * every view of a call may have another type. Arithmetic is float32. data NULL: there is none. Any alignment that its numbers have by
 * themselves is allowed, any count of channels; common ones (multiples of 8 numbers, addresses of 16 bytes) are fast. */
#ifndef DC_BACKENDS_CUDA_KERNELS_H
#define DC_BACKENDS_CUDA_KERNELS_H
#include "backends/cuda/gpu.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct k_view {
    void *data;
    int64_t stride;
    int32_t type, pad; /* pad: 0, so that the bytes of a struct say all about it */
} k_view;

/* What comes before a matrix product: y[n,oy,ox,:] = act((x|x2)[n,iy,ix,:] * scale + shift), dense, `channels` wide (zeros behind c + c2).
 * (oy,ox) is place (oy - top, ox - left) of the picture [in_h,in_w], to which x [n,h,w] is resized: iy = floor(y * h / in_h). Outside of it:
 * rows of the neighbouring strips above and below (like x; they end, or begin, at its edge, and are resized alike), where there are any;
 * else 0, also behind the activation. */
typedef struct k_gather_args {
    k_view x, x2, above, below, y;
    const float *scale; /* [n,2,c+c2]: factors, then addends; NULL: none */
    int32_t n, h, w, c, c2, in_h, in_w, top, left, out_h, out_w, channels;
    int32_t above_h, below_h; /* rows of the neighbours, before the resize */
    int32_t act;
} k_gather_args;
gpu_work k_gather;

/* Sums and sums of squares by block of `rows` rows: x [n,h,w,c] -> y F64 [n,blocks,2,total], of which it writes c channels from `from` on. */
typedef struct k_sums_args {
    k_view x;
    double *y;
    int32_t n, h, w, c, rows, blocks, total, from;
} k_sums_args;
gpu_work k_sums;

/* The group norm of `parts` such sums [n,blocks[i],2,c], as factors and addends y [n,2,c]: double arithmetic, blocks in their order. */
#define K_PARTS 64
typedef struct k_scale_args {
    const double *sums[K_PARTS];
    int32_t blocks[K_PARTS];
    const float *weight, *bias;
    float *y;
    double count; /* numbers of a group: pixels * channels of it */
    float eps;
    int32_t parts, n, c, groups;
} k_scale_args;
gpu_work k_scale;

/* y = (x - mean) / sqrt(variance + eps) * weight + bias of each row of c. Two passes: the variance is that of x - mean. y may be x. */
typedef struct k_layer_norm_args {
    k_view x, y;
    const float *weight, *bias;
    int64_t rows;
    int32_t c;
    float eps;
} k_layer_norm_args;
gpu_work k_layer_norm;

/* What comes behind a matrix product: y = act(x + bias + add + residual), row by row. add [images,c]: of row i that of image
 * i / rows_of_image, or the only one (add_images 1). geglu: x is [rows,2c], y = (x[:c] + bias[:c]) * gelu(x[c:] + bias[c:]) + residual.
 * y may be x (not with geglu) or residual. */
typedef struct k_finish_args {
    k_view x, y, add, residual;
    const float *bias; /* [c], [2c] with geglu; NULL: none */
    int64_t rows, rows_of_image;
    int32_t c, add_images, act;
    bool geglu;
} k_finish_args;
gpu_work k_finish;

/* y = sum k[i] * x[i] of `rows` rows of c; term i has its first repeat[i] rows again and again (rows: all of its own). k is read on the
 * device when it runs. y may be a term. n 0: zeros. */
typedef struct k_lincomb_args {
    k_view y, x[8];
    int64_t repeat[8], rows;
    const float *k;
    int32_t n, c;
} k_lincomb_args;
gpu_work k_lincomb;

/* guided, cond: F32, F16 or BF16, dense, `images` of `size` numbers; y = phi * guided * std(cond) / std(guided) + (1 - phi) * guided, with
 * unbiased deviations of each image, by double sums. */
typedef struct k_rescale_args {
    k_view y, guided, cond;
    int64_t size;
    int32_t images;
    float phi;
} k_rescale_args;
gpu_work k_rescale;

/* x of n numbers, dense, in K_STATS pieces of equal length (the last ones shorter or empty): of each sum, sum of squares, largest absolute
 * value of the finite ones, and the number of the others (which count in nothing else). y: K_STATS x 4. */
#define K_STATS 256
typedef struct k_stats_args {
    k_view x;
    double *y;
    int64_t n;
} k_stats_args;
gpu_work k_stats;

/* n numbers, dense: round(255 * clamp(x/2 + 1/2)), half to even as numpy's; non-finite -> 0. */
typedef struct k_rgb8_args {
    k_view x;
    uint8_t *y;
    int64_t n;
} k_rgb8_args;
gpu_work k_rgb8;

/* y[i] = table[ids[i]] + positions[i % t], rows of c; ids are known to be in range. */
typedef struct k_embed_args {
    k_view y, table, positions; /* positions.data NULL: none */
    const int32_t *ids;
    int64_t rows;
    int32_t t, c;
} k_embed_args;
gpu_work k_embed;

/* y[i] = x[i * t + index[i]], rows of c; in range. */
typedef struct k_pick_args {
    k_view y, x;
    const int32_t *index;
    int64_t rows;
    int32_t t, c;
} k_pick_args;
gpu_work k_pick;

/* y [n,dim] dense F32: sinusoids of t as dc_timestep_embedding has them. */
typedef struct k_timestep_args {
    float *y;
    const float *t;
    int32_t n, dim;
    float shift;
    bool flip;
} k_timestep_args;
gpu_work k_timestep;

/* p[i] = softmax(s[i]) of the first `keys` of a row of ld numbers, for rows of scores that are already scaled; what is behind them up to ld
 * becomes 0. causal: row i (i % queries of the whole, plus first) sees keys up to itself. s F32, p of the type of the view, both ld wide. */
typedef struct k_softmax_args {
    k_view p;
    const float *s;
    int64_t rows;
    int32_t ld, keys, queries, first;
    bool causal;
} k_softmax_args;
gpu_work k_softmax;

/* Flash attention (Dao 2023) on mma.m16n8k16: y = softmax(scale q k' + mask) v a head, F16 or BF16 (all four views the same), head
 * dimension d a multiple of 8 up to 160. q, y: [n,tq,heads*d]; k, v: [kn,tk,heads*d], kn n or 1; keys <= tk count. causal: key j <= query i. */
typedef struct k_attention_args {
    k_view q, k, v, y;
    int32_t n, kn, tq, tk, keys, heads, d;
    float scale;
    bool causal;
} k_attention_args;
gpu_work k_attention;
bool k_attention_takes(const k_attention_args *a); /* type, head dimension, and alignment: strides of 8 numbers, addresses of 16 bytes */

/* A stored weight as the products want it: from [rows,c,area] (area = r*s), F32, F16 or BF16, `scale` times each (0: as they are), to
 * y: [rows,area,channels], zeros behind c. y.stride is ignored: it is dense. */
typedef struct k_pack_args {
    k_view y;
    const void *from;
    int64_t rows;
    float scale;
    int32_t from_type, c, area, channels;
} k_pack_args;
gpu_work k_pack;

#ifdef __cplusplus
}
#endif
#endif
