/* exp.h - e^x in float32, written so that compilers turn loops over it into vector code at every instruction set.
 *
 * Branch-free, no tables, no libm; static inline on purpose: each kernel file, compiled with its own -m flags,
 * gets its own copy. NaN stays NaN, +-inf and denormal results come out right. Error below 1.5 ulp.
 * The polynomials here and in act.h are minimax fits of relative error (Remez exchange in 40 digits). */
#ifndef DC_BACKENDS_CPU_EXP_H
#define DC_BACKENDS_CPU_EXP_H
#include <stdint.h>
#include <string.h>

/* Before a loop whose iterations are independent, as the compiler cannot see when an output may be its input. */
#if defined __clang__
#pragma clang diagnostic ignored "-Wpass-failed" /* it says so when a sanitizer keeps a loop from becoming vector code */
#define CPU_VECTOR_LOOP _Pragma("clang loop vectorize(assume_safety)")
#elif defined __GNUC__
#define CPU_VECTOR_LOOP _Pragma("GCC ivdep")
#else
#define CPU_VECTOR_LOOP
#endif

/* a * b + c, fused where the instruction set has it (with a library call it would be slow). */
static inline float cpu_fma(float a, float b, float c)
{
#if defined __FMA__ || defined __ARM_FEATURE_FMA
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

static inline float cpu_float_of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t cpu_bits_of_float(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* e^(hi + lo) for a small |lo| (< 0.2): what a caller knows of its argument beyond float precision.
 * e^x = 2^n e^r with n = round(x / ln 2); 2^n is multiplied in two halves, so that results may be denormal or
 * overflow to infinity without a special case. */
static inline float cpu_exp_ext(float hi, float lo)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves the integer part in the low mantissa bits */
    hi = hi > 89.0f ? 89.0f : hi;    /* in this order NaN passes through */
    hi = hi < -104.0f ? -104.0f : hi;
    const float shifted = cpu_fma(hi, 1.44269504f, round);
    const float n = shifted - round;
    const uint32_t k = cpu_bits_of_float(shifted) - 0x4b400000u; /* n as a two's complement integer */
    float r = cpu_fma(n, -0.693359375f, hi);                     /* ln 2 in two parts; this product is exact */
    r = cpu_fma(n, 2.12194440e-4f, r) + lo;
    float p = 1.381436933e-3f;
    p = cpu_fma(p, r, 8.368712388e-3f);
    p = cpu_fma(p, r, 4.16683907e-2f);
    p = cpu_fma(p, r, 0.1666652067f);
    p = cpu_fma(p, r, 0.4999999344f);
    p = cpu_fma(p * r, r, r) + 1.0f;
    const uint32_t half = (uint32_t)((int32_t)k >> 1);
    return p * cpu_float_of_bits((half + 127u) << 23) * cpu_float_of_bits((k - half + 127u) << 23);
}

static inline float cpu_exp(float x) { return cpu_exp_ext(x, 0.0f); }

#endif
