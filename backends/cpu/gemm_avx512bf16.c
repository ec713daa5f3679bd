/* gemm_avx512bf16.c - matrix kernels for AVX512-BF16. What the driver and the kernel take for a float, in A and in B, is a pair of
 * neighbouring channels in bf16, and a multiply-add is the sum of two products, so that everything else is as for floats. */
#if defined(__AVX512BF16__)
#include <immintrin.h>
#define VEC_FMA(a, b, c) _mm512_dpbf16_ps(c, (__m512bh)(a), (__m512bh)(b))
#define GEMM_NAME        cpu_gemm_bf16_avx512
#define GEMM_NARROW      one, narrow_row, narrow_row, false, 2
#include "backends/cpu/gemm_avx512.h"

static float one(const float *from, int64_t n) { return (void)from, (void)n, 1; }

/* n floats to (n + 1) / 2 pairs, rounded to nearest even; the last one is filled up with zero. */
static void narrow_row(const float *from, int64_t n, float factor, float *to)
{
    (void)factor;
    char *at = (char *)to;
    for (int64_t i = 0; i < n; i += 16) {
        const int left = n - i < 16 ? (int)(n - i) : 16;
        const __mmask16 here = (__mmask16)((1u << left) - 1), there = (__mmask16)((1u << (left + 1) / 2 * 2) - 1);
        const __m256i v = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(here, from + i));
        _mm256_mask_storeu_epi16(at + i * 2, there, v);
    }
}

#include "backends/cpu/gemm_kernel.h"
#endif
