/* kernels_data.h - random views for tests of kernels, and how their results are judged. */
#ifndef DC_TESTS_CUDA_KERNELS_DATA_H
#define DC_TESTS_CUDA_KERNELS_DATA_H
#include "backends/cuda/kernels.h"
#include "base/half.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static uint64_t data_seed = 88172645463325252ull; /* Marsaglia's xorshift */
static inline uint32_t data_random(void)
{
    data_seed ^= data_seed << 13;
    data_seed ^= data_seed >> 7;
    data_seed ^= data_seed << 17;
    return (uint32_t)(data_seed >> 32);
}
static inline int below(int n) { return (int)(data_random() % (uint32_t)n); }
static inline int one_of(int n, const int *from) { return from[below(n)]; }
#define ONE_OF(...) one_of((int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), (int[]){__VA_ARGS__})
static inline double uniform(double from, double to) { return from + (to - from) * data_random() / 4294967296.0; }
static inline int any_type(void) { return ONE_OF(DC_F32, DC_F16, DC_BF16); }

/* Rows of c numbers, in memory of exactly their size: sanitizers see the first byte behind it. */
typedef struct matrix {
    k_view v;
    int64_t rows;
    int c;
    void *memory;
} matrix;

static inline size_t bytes_of(int type) { return type == DC_F32 ? 4 : 2; }
static inline double get(const matrix *m, int64_t row, int c)
{
    const int64_t i = row * m->v.stride + c;
    if (m->v.type == DC_F32) return ((float *)m->v.data)[i];
    const uint16_t h = ((uint16_t *)m->v.data)[i];
    return m->v.type == DC_F16 ? dc_f16_to_f32(h) : dc_bf16_to_f32(h);
}
static inline void set(const matrix *m, int64_t row, int c, double v)
{
    const int64_t i = row * m->v.stride + c;
    if (m->v.type == DC_F32) ((float *)m->v.data)[i] = (float)v;
    else ((uint16_t *)m->v.data)[i] = m->v.type == DC_F16 ? dc_f32_to_f16((float)v) : dc_f32_to_bf16((float)v);
}

/* Uniform numbers of [-2,2]; what lies between the rows is NaN, and stays so. `shift` numbers away from an aligned address. */
static inline matrix make(int type, int64_t rows, int c, int gap, int shift)
{
    matrix m = {.v = {.stride = c + gap, .type = type}, .rows = rows, .c = c};
    const size_t size = bytes_of(type), count = rows ? (size_t)((rows - 1) * (c + gap) + c + shift) : 1;
    assert_int_equal(posix_memalign(&m.memory, 256, count * size), 0);
    memset(m.memory, 0xff, count * size);
    m.v.data = (char *)m.memory + (size_t)shift * size;
    for (int64_t r = 0; r < rows; r++)
        for (int i = 0; i < c; i++) set(&m, r, i, uniform(-2, 2));
    return m;
}
/* Half of all are as fast ones are, half as they come. */
static inline matrix make_any(int type, int64_t rows, int c)
{
    return below(2) ? make(type, rows, c, 8 * below(3), 8 * below(2)) : make(type, rows, c, below(5), below(3));
}
static inline matrix make_dense(int type, int64_t rows, int c) { return make(type, rows, c, 0, below(2) ? 0 : below(4)); }
/* A copy of what m holds, dense, for references where y is written over an input. */
static inline double *copy_of(const matrix *m)
{
    double *all = malloc(sizeof *all * (size_t)(m->rows * m->c + 1));
    for (int64_t i = 0; i < m->rows * m->c; i++) all[i] = get(m, i / m->c, (int)(i % m->c));
    return all;
}
static inline void drop(matrix m) { free(m.memory); }

/* Half a unit of the type's last place, as a part of the number. */
static inline double rounding(int type) { return type == DC_F32 ? 0x1p-24 : type == DC_F16 ? 0x1p-11 : 0x1p-8; }

/* The result is rounded once to its type (2^-25 absolutely among F16's subnormals); before that float32 arithmetic rounds a few times, at
 * numbers as large as `size`: 16 units of 2^-24 cover sums of some terms and the approximate exponential. */
static inline void check(const char *what, double found, int type, double expected, double size)
{
    const double tolerance = 1.01 * rounding(type) * fabs(expected) + (type == DC_F16 ? 0x1p-25 : 1e-37) + 16 * 0x1p-24 * (fabs(expected) + size);
    if (fabs(found - expected) <= tolerance || (isnan(found) && isnan(expected))) return;
    fail_msg("%s: %.9g, expected %.9g within %.3g", what, found, expected, tolerance);
}
/* Nothing was written between the rows of m. */
static inline void check_gaps(const matrix *m)
{
    matrix gap = *m;
    for (int64_t r = 0; r + 1 < m->rows; r++)
        for (int c = m->c; c < m->v.stride; c++)
            if (!isnan(get(&gap, r, c))) fail_msg("row %lld: number %d behind %d channels was written", (long long)r, c, m->c);
}

static inline double activated(double x, int act)
{
    switch (act) {
    case DC_ACT_SILU: return x / (1 + exp(-x));
    case DC_ACT_GELU: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case DC_ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    case DC_ACT_RELU: return x > 0 ? x : 0;
    case DC_ACT_TANH3: return 3 * tanh(x / 3);
    default: return x;
    }
}
#endif
