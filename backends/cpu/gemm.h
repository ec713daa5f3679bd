/* gemm.h - the matrix kernels of one instruction set, and the driver that convolutions and linear layers share.
 *
 * y[row][o] = epilogue(sum over k of A[row][k] W[o][k]). Rows of A are given by pointers, so that tokens and the pixels of a padded
 * patch are the same thing; a convolution's taps are offsets to all of them. Weights lie in panels [K][width] of neighbouring outputs,
 * in their storage type; a block of a panel is widened to float once, beside the block before it, and used for all rows of a tile. */
#ifndef DC_BACKENDS_CPU_GEMM_H
#define DC_BACKENDS_CPU_GEMM_H
#include "backends/backend.h"

enum {
    CPU_TILE_ROWS = 256,      /* most rows of a tile */
    CPU_TILE_BYTES = 4 << 20, /* most bytes of a tile's copied input: a panel reads it in stretches of CPU_BLOCK_K channels */
    CPU_PANEL = 64,           /* widest panel of any level */
    CPU_BLOCK_K = 128         /* rows of a panel widened at once: 32 KB of floats */
};

/* One step: acc [rows][width] (+)= A[rows][k] B[k][width]. A's row r begins at row[r] + offset; add: acc has earlier sums; width <= panel,
 * a multiple of lanes. next: what the step after this one will read; meanwhile its bytes are fetched, or, of a narrow type, its numbers
 * widened to `widened`: between the multiplications that costs nothing. */
typedef struct cpu_block {
    const float *const *row;
    int64_t offset;
    int rows, k, width;
    const float *b;
    float *acc;
    bool add;
    const char *next;
    size_t next_bytes;  /* widened: a multiple of 2 * lanes */
    dc_dtype next_type; /* F16 or BF16, with */
    float *widened;     /* or NULL */
} cpu_block;

/* What becomes of the sums of one panel: y[i] = act(sum[i] + bias[i] + add[i] + residual[i]) for all rows, with gates
 * act((sum[i] + bias[i]) * gelu(gate[i] + gate bias[i]) + residual[i]). Whole sums are (sum[i] - offset[i]) * factor * scale[i] first. */
typedef struct cpu_outputs {
    const float *acc; /* [rows][width]; the gates are the second half of a row */
    int rows, width, outs;
    dc_act act;
    bool geglu;
    const float *bias[2]; /* [outs] or NULL; of values and of gates */
    const float *scale[2];
    const int32_t *offset[2];
    const float *factor; /* [rows] */
    const float *add;    /* for the first add_rows rows, add_stride floats on for as many next ones; or NULL */
    int add_rows;
    int64_t add_stride;
    const int64_t *to; /* row r of acc is row to[r] of y and of the residual */
    float *y;
    const float *residual; /* or NULL */
    int64_t y_stride, residual_stride;
} cpu_outputs;

typedef struct cpu_gemm {
    int lanes, panel; /* floats in a vector, in a full panel (a multiple) */
    void (*block)(const cpu_block *s);
    /* n numbers of a storage type (F32, F16, BF16) to float. */
    void (*widen)(const void *from, dc_dtype t, int64_t n, float *to);
    void (*finish)(const cpu_outputs *o);
    /* The following are NULL for floats. What 1 shall stand for, so that n numbers fit: NaN when one of them is not finite; in bf16 always 1. */
    float (*factor)(const float *from, int64_t n);
    /* n floats, of a row of A or of the weight, divided by the factor, to (n + per - 1) / per places; the last one is filled up with zero. */
    void (*narrow)(const float *from, int64_t n, float factor, float *to);
    void (*narrow_weights)(const float *from, int64_t n, float factor, float *to);
    bool whole;  /* sums are whole numbers, for scales and offsets to settle */
    int per;     /* neighbouring channels in the place of a float, in A and in panels: 1, 2 in bf16, 4 in int8 */
    bool placed; /* a row's sums may differ in their last bits with its place in the block: no block may be cut by the number of threads */
} cpu_gemm;
extern const cpu_gemm cpu_gemm_portable, cpu_gemm_avx2, cpu_gemm_avx512, cpu_gemm_bf16_avx512, cpu_gemm_int8_avx512;
void cpu_gemm_portable_begin(void); /* before the portable one is used: one BLAS thread, for the whole process */

/* A layer's weights in panels. */
typedef struct cpu_panels {
    dc_dtype type; /* F32, F16 or BF16 */
    int k;         /* places of a column, ordered (ky, kx, channel); type F32 stands for all that narrow kernels have in one */
    int outs;      /* of y: half of the weight's rows with geglu */
    int full;      /* outputs in a full panel */
    int count;
    bool geglu;            /* a panel holds the values of its outputs, then their gates */
    const float *bias;     /* [all rows of the weight] or NULL */
    const float *scale;    /* int8, the same: what 1 stands for in this row */
    const int32_t *offset; /* and the sum that a row of zeros gives: they are stored as 128 */
    const void *data;      /* panel p begins at element p * k * panel width */
} cpu_panels;
/* Places of a row of A or of the weight of `in` channels. */
static inline int cpu_places(const cpu_gemm *g, int in) { return (in + g->per - 1) / g->per; }
/* Columns of panel p, and how many outputs they are. */
int cpu_panel_width(const cpu_panels *w, const cpu_gemm *g, int p);
int cpu_panel_outs(const cpu_panels *w, int p);

/* One tile: rows of A and where they go. */
typedef struct cpu_tile {
    const float *row[CPU_TILE_ROWS]; /* A */
    int64_t to[CPU_TILE_ROWS];       /* row of y and of the residual */
    float factor[CPU_TILE_ROWS];     /* of a narrow row */
    int rows;
    const float *add; /* [O] for the first add_rows rows, add_stride floats on for as many next ones; or NULL */
    int add_rows;
    int64_t add_stride;
} cpu_tile;

/* What is common to the tiles of an op. */
typedef struct cpu_product {
    const cpu_gemm *g;
    const cpu_panels *w;
    int taps, per_tap; /* k = taps * per_tap */
    int taps_across;   /* tap t adds t / taps_across * down + t % taps_across * across to every row pointer */
    int64_t down, across;
    dc_tensor y, residual;
    dc_act act;
} cpu_product;
/* Panels from .. to of the product for one tile. scratch: cpu_product_scratch() bytes of this thread's own. */
uint64_t cpu_product_scratch(const cpu_gemm *g, const dc_param_desc *k, int most_rows);
void cpu_product_tile(const cpu_product *p, const cpu_tile *t, int from, int to, void *scratch);
/* In how many parts the panels of each of `tiles` tiles are best cut, so that all threads have work. copied: each part copies the tile's input. */
int cpu_panel_parts(int64_t tiles, int panels, int threads, bool copied);

#endif
