/* vec.h - the widest float vector of the instruction set that a kernel file is compiled for (levels.cmake), under one set of names. */
#ifndef DC_BACKENDS_CPU_VEC_H
#define DC_BACKENDS_CPU_VEC_H
#include "backends/backend.h"
#include "base/half.h"
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
typedef __m512 vec;
INLINE vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void vec_store(float *p, vec v) { _mm512_storeu_ps(p, v); }
INLINE void vec_stream(float *p, vec v) { _mm512_stream_ps(p, v); }
INLINE vec vec_splat(float x) { return _mm512_set1_ps(x); }
INLINE vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec vec_from_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INLINE vec vec_from_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
typedef __m256 vec;
INLINE vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void vec_store(float *p, vec v) { _mm256_storeu_ps(p, v); }
INLINE void vec_stream(float *p, vec v) { _mm256_stream_ps(p, v); }
INLINE vec vec_splat(float x) { return _mm256_set1_ps(x); }
INLINE vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec vec_from_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
INLINE vec vec_from_bf16(const uint16_t *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
#else
#define LANES 4
typedef float vec __attribute__((vector_size(16)));
INLINE vec vec_load(const float *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void vec_store(float *p, vec v) { memcpy(p, &v, sizeof v); }
INLINE void vec_stream(float *p, vec v) { vec_store(p, v); }
INLINE vec vec_splat(float x) { return (vec){x, x, x, x}; }
INLINE vec vec_fma(vec a, vec b, vec c) { return a * b + c; }
INLINE vec vec_from_f16(const uint16_t *p) { return (vec){dc_f16_to_f32(p[0]), dc_f16_to_f32(p[1]), dc_f16_to_f32(p[2]), dc_f16_to_f32(p[3])}; }
INLINE vec vec_from_bf16(const uint16_t *p) { return (vec){dc_bf16_to_f32(p[0]), dc_bf16_to_f32(p[1]), dc_bf16_to_f32(p[2]), dc_bf16_to_f32(p[3])}; }
#endif

/* LANES numbers of a storage type (F32, F16, BF16) from element i on. */
INLINE vec vec_widen(const void *p, const dc_dtype t, size_t i)
{
    if (t == DC_F32) return vec_load((const float *)p + i);
    return t == DC_F16 ? vec_from_f16((const uint16_t *)p + i) : vec_from_bf16((const uint16_t *)p + i);
}

#endif
