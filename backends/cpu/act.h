/* act.h - the activation functions in float32, for the kernel files of every instruction set.
 *
 * Each is branch-free, so that a plain loop over it becomes vector code. Relative error against float64: SiLU 2.4e-7,
 * GELU 4.5e-7, quick GELU 2.3e-7, tanh 1.7e-7 (absolute where results are nearly denormal). NaN stays NaN and -inf
 * becomes NaN where torch's formula gives 0 * inf: a non-finite value must never be hidden, it is how a failed forward
 * pass is noticed. */
#ifndef DC_BACKENDS_CPU_ACT_H
#define DC_BACKENDS_CPU_ACT_H
#include "backends/cpu/exp.h"
#include "backends/ops.h"

static inline float cpu_abs(float x) { return cpu_float_of_bits(cpu_bits_of_float(x) & 0x7fffffffu); }

/* The first 12 significant bits of x: products of two such numbers are exact. */
static inline float cpu_top_bits(float x) { return cpu_float_of_bits(cpu_bits_of_float(x) & 0xfffff000u); }

/* x / (1 + e^-x), with the exponential of -|x| so that nothing overflows on the way. */
static inline float cpu_silu(float x)
{
    const float e = cpu_exp(-cpu_abs(x));
    return (x >= 0.0f ? x : x * e) / (1.0f + e);
}

/* x / (1 + e^(-1.702 x)); the product is carried in two floats, or its rounding would show in the result. */
static inline float cpu_quick_gelu(float x)
{
    const float k = 1.702f, kh = cpu_top_bits(k), kl = (float)(1.702 - 1.70166015625); /* kh == 1.70166015625 */
    float a = cpu_abs(x);
    a = a > 64.0f ? 64.0f : a;
    const float ah = cpu_top_bits(a);
    const float e = cpu_exp_ext(-(kh * ah), -(kh * (a - ah) + kl * a));
    return (x >= 0.0f ? x : x * e) / (1.0f + e);
}

/* x Phi(x). Phi(-|x|) = e^(-x^2/2) t P(t) with t = 1 / (1 + 0.3 |x|), the form of Abramowitz & Stegun 26.2.17 with a
 * longer polynomial; x^2 is carried in two floats. */
static inline float cpu_gelu(float x)
{
    float a = cpu_abs(x);
    a = a > 20.0f ? 20.0f : a;
    const float ah = cpu_top_bits(a);
    const float e = cpu_exp_ext(-0.5f * (ah * ah), -0.5f * ((a - ah) * (a + ah)));
    const float t = 1.0f / cpu_fma(0.3f, a, 1.0f), u = t - 0.75f;
    float p = -0.02062345643f;
    p = cpu_fma(p, u, -0.02677278611f);
    p = cpu_fma(p, u, 0.02877483597f);
    p = cpu_fma(p, u, 0.03367985645f);
    p = cpu_fma(p, u, -0.07807458154f);
    p = cpu_fma(p, u, -0.07959231396f);
    p = cpu_fma(p, u, 0.1968366939f);
    p = cpu_fma(p, u, 0.5102287069f);
    p = cpu_fma(p, u, 0.5440547454f);
    p = cpu_fma(p, u, 0.3293991049f);
    const float tail = e * (p * t);
    return x * (x > 0.0f ? 1.0f - tail : tail);
}

static inline float cpu_relu(float x) { return x < 0.0f ? 0.0f : x; }

/* 3 tanh(x / 3): an odd polynomial near zero, 1 - 2 / (e^2y + 1) elsewhere. */
static inline float cpu_tanh3(float x)
{
    const float y = x / 3.0f, a = cpu_abs(y), z = a * a;
    float p = -0.005704987158f;
    p = cpu_fma(p, z, 0.02063908746f);
    p = cpu_fma(p, z, -0.05373971518f);
    p = cpu_fma(p, z, 0.133314422f);
    p = cpu_fma(p, z, -0.3333328194f);
    const float near = cpu_fma(p * z, y, y);
    const float far = 1.0f - 2.0f / (cpu_exp(2.0f * a) + 1.0f);
    return 3.0f * (a < 0.625f ? near : (y < 0.0f ? -far : far));
}

/* y[i] = act(x[i]); y may be x. */
#define CPU_ACT_ROW(name, f)                                                                                                                         \
    static inline void name(float *y, const float *x, int64_t n) { CPU_VECTOR_LOOP for (int64_t i = 0; i < n; i++) y[i] = f(x[i]); }
CPU_ACT_ROW(cpu_silu_row, cpu_silu)
CPU_ACT_ROW(cpu_gelu_row, cpu_gelu)
CPU_ACT_ROW(cpu_quick_gelu_row, cpu_quick_gelu)
CPU_ACT_ROW(cpu_relu_row, cpu_relu)
CPU_ACT_ROW(cpu_tanh3_row, cpu_tanh3)
#undef CPU_ACT_ROW

static inline void cpu_act_row(float *y, const float *x, int64_t n, dc_act act)
{
    switch (act) {
    case DC_ACT_SILU: cpu_silu_row(y, x, n); break;
    case DC_ACT_GELU: cpu_gelu_row(y, x, n); break;
    case DC_ACT_QUICK_GELU: cpu_quick_gelu_row(y, x, n); break;
    case DC_ACT_RELU: cpu_relu_row(y, x, n); break;
    case DC_ACT_TANH3: cpu_tanh3_row(y, x, n); break;
    default:
        if (y != x) memmove(y, x, (size_t)n * sizeof *y);
    }
}

#endif
