/* rows.h - the loops over rows that norms and element-wise ops are made of, one table an instruction set.
 * rows_LEVEL.c includes rows_kernel.h with the level's flags; all of them are plain arithmetic on dense rows. */
#ifndef DC_BACKENDS_CPU_ROWS_H
#define DC_BACKENDS_CPU_ROWS_H
#include "backends/ops.h"

typedef struct cpu_rows {
    /* y[i] = act(x[i]); y may be x */
    void (*act)(float *y, const float *x, int64_t n, dc_act act);
    /* Adds up every channel over `rows` rows: sum[c] = x, square[c] = x^2. The same bytes at every level. */
    void (*channel_sums)(const float *x, int64_t stride, int64_t rows, int64_t channels, double *sum, double *square);
    /* y[r][c] = act(x[r][c] * scale[c] + shift[c]); y may be x */
    void (*scale_shift)(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t rows, int64_t channels, const float *scale,
                        const float *shift, dc_act act);
    /* One row normalised: y = act((x - mean) / sqrt(variance + eps) * w + b); y may be x */
    void (*layer_norm)(float *y, const float *x, int64_t channels, const float *w, const float *b, float eps, dc_act act);
    /* y[i] = sum of k[t] * x[t][i], rounded once; y may be one of the x */
    void (*lincomb)(float *y, const float *const *x, const float *k, int terms, int64_t n);
} cpu_rows;

extern const cpu_rows cpu_rows_portable, cpu_rows_avx2, cpu_rows_avx512;

#endif
