/* wino.h - the transforms of Winograd's convolution F(4x4, 3x3), one table an instruction set.
 *
 * A tile of 4x4 outputs sees 6x6 inputs d. With the kernel g of one pair of channels it is A' [(G g G') * (B' d B)] A: 36 products where
 * the plain sums take 144, so a convolution becomes 36 matrix products of [tiles][channels] with [channels][outputs] (gemm.h's blocks).
 * Points 0, 1, -1, 2, -2 and infinity. The rows of G are taken without their fractions (1/4, 1/6, 1/24), so that kernels stored as half
 * floats are transformed exactly; A carries them instead.
 * Ref: Lavin & Gray 2016 (arXiv:1509.09308), sec. 4.2; error bounds: Barabasz et al. 2020 (arXiv:1803.10986). */
#ifndef DC_BACKENDS_CPU_WINO_H
#define DC_BACKENDS_CPU_WINO_H
#include "backends/backend.h"

enum {
    CPU_WINO_POINTS = 36,   /* products of a tile */
    CPU_WINO_TILE = 4,      /* outputs of a tile, down and across */
    CPU_WINO_TILES = 128,   /* most tiles that a transformed kernel is used for */
    CPU_WINO_CHANNELS = 64, /* most channels transformed at once */
    CPU_WINO_PAD = 16       /* floats between planes, so that those of one place do not share a cache set */
};

/* Kernels of k channels of a panel to u, 36 planes [k][width]. Tap t (ky * 3 + kx) of channel c begins at element t * tap + c * line. */
typedef struct cpu_wino_weights {
    const void *from;
    dc_dtype type; /* F32, F16 or BF16 */
    size_t tap, line;
    int k, width; /* width: a multiple of lanes */
    float *u;
    size_t plane;
} cpu_wino_weights;

/* One tile of up to `outs` <= width outputs: y[r][c] = act(sums + bias + add + residual) for r < h, c < w. */
typedef struct cpu_wino_output {
    const float *m; /* 36 planes [width] */
    size_t plane;
    int outs, h, w;
    bool stream;
    const float *bias, *add; /* [outs] or NULL */
    float *y;
    const float *residual;                  /* or NULL */
    int64_t y_pixel, y_row, r_pixel, r_row; /* floats between pixels and rows */
    dc_act act;
} cpu_wino_output;

typedef struct cpu_wino {
    int width; /* outputs that are multiplied at once */
    void (*weights)(const cpu_wino_weights *w);
    /* 6x6 pixels at x to v, 36 planes [channels]; reads and writes whole vectors. */
    void (*input)(const float *x, int64_t pixel, int64_t row, int channels, float *v, size_t plane);
    void (*output)(const cpu_wino_output *o);
} cpu_wino;

extern const cpu_wino cpu_wino_portable, cpu_wino_avx2, cpu_wino_avx512;

#endif
