/* rows_kernel.h - the functions of rows.h as a template: rows_LEVEL.c defines ROWS_NAME (the table) and ROWS_LANES
 * (doubles in a vector). Sums are in double: squares of floats are exact there, so that the variance may be taken as
 * E[x^2] - E[x]^2: mean / deviation of 1e4 costs 1e-8 of it. */
#include "backends/cpu/act.h"
#include "backends/cpu/rows.h"
#include <math.h>

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

enum { LANES = ROWS_LANES, VECS = 4, BLOCK = 512 };
typedef double vec __attribute__((vector_size(LANES * 8)));
typedef float half_vec __attribute__((vector_size(LANES * 4)));

INLINE vec widen(const float *p)
{
    half_vec v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, vec);
}

static void rows_act(float *y, const float *x, int64_t n, dc_act act) { cpu_act_row(y, x, n, act); }

/* `vecs` vectors of channels over all rows. */
INLINE void sums_of(const float *x, int64_t stride, int64_t rows, double *sum, double *square, const int vecs)
{
    vec s[VECS], q[VECS];
    UNROLL for (int i = 0; i < vecs; i++) s[i] = q[i] = (vec){0};
    for (int64_t r = 0; r < rows; r++, x += stride) UNROLL for (int i = 0; i < vecs; i++)
        {
            const vec v = widen(x + i * LANES);
            s[i] += v;
            q[i] += v * v;
        }
    UNROLL for (int i = 0; i < vecs; i++)
    {
        memcpy(sum + i * LANES, &s[i], sizeof s[i]);
        memcpy(square + i * LANES, &q[i], sizeof q[i]);
    }
}

static void rows_channel_sums(const float *x, int64_t stride, int64_t rows, int64_t channels, double *sum, double *square)
{
    int64_t c = 0;
    for (; c + VECS * LANES <= channels; c += VECS * LANES) sums_of(x + c, stride, rows, sum + c, square + c, VECS);
    for (; c + LANES <= channels; c += LANES) sums_of(x + c, stride, rows, sum + c, square + c, 1);
    for (; c < channels; c++) {
        sum[c] = square[c] = 0;
        for (int64_t r = 0; r < rows; r++) {
            const double v = x[r * stride + c];
            sum[c] += v;
            square[c] += v * v;
        }
    }
}

static void rows_scale_shift(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t rows, int64_t channels, const float *scale,
                             const float *shift, dc_act act)
{
    for (int64_t r = 0; r < rows; r++, x += x_stride, y += y_stride) {
        CPU_VECTOR_LOOP for (int64_t c = 0; c < channels; c++) y[c] = cpu_fma(x[c], scale[c], shift[c]);
        if (act) cpu_act_row(y, y, channels, act);
    }
}

static void rows_layer_norm(float *y, const float *x, int64_t channels, const float *w, const float *b, float eps, dc_act act)
{
    vec s[VECS] = {{0}}, q[VECS] = {{0}};
    double sum = 0, square = 0;
    int64_t c = 0;
    for (; c + VECS * LANES <= channels; c += VECS * LANES) UNROLL for (int i = 0; i < VECS; i++)
        {
            const vec v = widen(x + c + i * LANES);
            s[i] += v;
            q[i] += v * v;
        }
    for (; c < channels; c++) {
        sum += x[c];
        square += (double)x[c] * x[c];
    }
    for (int i = 0; i < VECS; i++)
        for (int j = 0; j < LANES; j++) {
            sum += s[i][j];
            square += q[i][j];
        }
    const double mean = sum / (double)channels, variance = square / (double)channels - mean * mean;
    const float scale = (float)(1 / sqrt((variance < 0 ? 0 : variance) + eps));
    const float high = (float)mean, low = (float)(high - mean) * scale; /* the mean in two floats */
    CPU_VECTOR_LOOP for (c = 0; c < channels; c++) y[c] = cpu_fma(cpu_fma(x[c] - high, scale, low), w[c], b[c]);
    if (act) cpu_act_row(y, y, channels, act);
}

static void rows_lincomb(float *y, const float *const *x, const float *k, int terms, int64_t n)
{
    double sum[BLOCK];
    for (int64_t from = 0; from < n; from += BLOCK) {
        const int64_t count = n - from < BLOCK ? n - from : BLOCK;
        for (int64_t i = 0; i < count; i++) sum[i] = 0;
        for (int t = 0; t < terms; t++) {
            const float *from_x = x[t] + from;
            const double factor = k[t];
            for (int64_t i = 0; i < count; i++) sum[i] += factor * from_x[i];
        }
        for (int64_t i = 0; i < count; i++) y[from + i] = (float)sum[i];
    }
}

const cpu_rows ROWS_NAME = {
    .act = rows_act,
    .channel_sums = rows_channel_sums,
    .scale_shift = rows_scale_shift,
    .layer_norm = rows_layer_norm,
    .lincomb = rows_lincomb,
};
