/* gemm_avx512vnni.c - matrix kernels for AVX512-VNNI. What the driver and the kernel take for a float, in A and in B, is four neighbouring
 * channels in 8 bits; a multiply-add adds four products to a 32-bit integer, exactly. Weights are signed, one factor a row (output); rows of A
 * are unsigned, one factor a row, with 128 for zero: what that adds to a sum is known from the weights and taken off in the end. */
#if defined(__AVX512VNNI__)
#include <immintrin.h>
#define VEC_FMA(a, b, c) _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(c), _mm512_castps_si512(a), _mm512_castps_si512(b)))
#define GEMM_NAME        cpu_gemm_int8_avx512
#define GEMM_NARROW      factor_of, narrow_row, narrow_weights, true, 4
#define GEMM_WHOLE
#include "backends/cpu/gemm_avx512.h"
#include <stdint.h>
#include <string.h>

static inline __mmask16 first_lanes(int64_t n) { return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffffu); }

/* The largest becomes 127. */
static float factor_of(const float *from, int64_t n)
{
    __m512i most = _mm512_setzero_si512(); /* by the bits: NaN is above infinity, that above all others */
    for (int64_t i = 0; i < n; i += 16)
        most = _mm512_max_epi32(
            most, _mm512_and_si512(_mm512_castps_si512(_mm512_maskz_loadu_ps(first_lanes(n - i), from + i)), _mm512_set1_epi32(0x7fffffff)));
    const int32_t bits = _mm512_reduce_max_epi32(most);
    float size;
    memcpy(&size, &bits, sizeof size);
    return size <= 3e38f ? size / 127.0f : __builtin_nanf("");
}

/* 1 / factor; 0 for one so small that this would overflow, or that is no number. */
static inline __m512 inverse_of(float factor) { return _mm512_set1_ps(factor > 1e-32f ? 1 / factor : 0); }

/* Rounded to nearest even. */
static void narrow_row(const float *from, int64_t n, float factor, float *to)
{
    char *at = (char *)to;
    const __m512 inverse = inverse_of(factor);
    for (int64_t i = 0; i < n; i += 16) {
        const __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(first_lanes(n - i), from + i), inverse));
        _mm_mask_storeu_epi8(at + i, first_lanes((n - i + 3) / 4 * 4), _mm512_cvtepi32_epi8(_mm512_add_epi32(v, _mm512_set1_epi32(128))));
    }
}

static void narrow_weights(const float *from, int64_t n, float factor, float *to)
{
    char *at = (char *)to;
    const __m512 inverse = inverse_of(factor), most = _mm512_set1_ps(127);
    for (int64_t i = 0; i < n; i += 16) {
        const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(first_lanes(n - i), from + i), inverse);
        const __m512i q = _mm512_cvtps_epi32(_mm512_max_ps(_mm512_min_ps(v, most), _mm512_sub_ps(_mm512_setzero_ps(), most)));
        _mm_mask_storeu_epi8(at + i, first_lanes((n - i + 3) / 4 * 4), _mm512_cvtepi32_epi8(q));
    }
}

#include "backends/cpu/gemm_kernel.h"
#else
typedef int cpu_gemm_avx512vnni_unused; /* an empty file is not C */
#endif
