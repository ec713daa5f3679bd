/* gemm_avx512.h - vectors and register blocks of AVX-512 for gemm_kernel.h; a file may bring a VEC_FMA of its own. */
#include <immintrin.h>
#define LANES           16
#define VEC             __m512
#define VEC_ZERO()      _mm512_setzero_ps()
#define VEC_SET(x)      _mm512_set1_ps(x)
#define VEC_LOAD(p)     _mm512_loadu_ps(p)
#define VEC_STORE(p, v) _mm512_storeu_ps(p, v)
#ifndef VEC_FMA
#define VEC_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#endif
#define VEC_FROM_F16(p)  _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define VEC_FROM_BF16(p) _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p))), 16))
#define GEMM_MOST_VECS   4
#define GEMM_MOST_ROWS   12
#define GEMM_ROWS_1      12
#define GEMM_ROWS_2      12
#define GEMM_ROWS_3      8
#define GEMM_ROWS_4      6
