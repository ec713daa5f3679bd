/* gemm_avx2.c - matrix kernels for AVX2, FMA and F16C. */
#if defined(__AVX2__)
#include <immintrin.h>
#define LANES            8
#define VEC              __m256
#define VEC_ZERO()       _mm256_setzero_ps()
#define VEC_SET(x)       _mm256_set1_ps(x)
#define VEC_LOAD(p)      _mm256_loadu_ps(p)
#define VEC_STORE(p, v)  _mm256_storeu_ps(p, v)
#define VEC_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define VEC_FROM_F16(p)  _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define VEC_FROM_BF16(p) _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p))), 16))
#define GEMM_MOST_VECS   2
#define GEMM_MOST_ROWS   6
#define GEMM_ROWS_1      6
#define GEMM_ROWS_2      6
#define GEMM_NAME        cpu_gemm_avx2
#include "backends/cpu/gemm_kernel.h"
#endif
