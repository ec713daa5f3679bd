/* attention_kernel.h - one query tile of streaming attention, as a template: attention_LEVEL.c defines
 *
 *     ATTN_LANES   floats in a vector          ATTN_ROWS   rows of a register block
 *     ATTN_NAME    the function's name         ATTN_PAIRS  (may be left out) the products multiply pairs of bf16
 *
 * and includes this file, compiled with the level's flags.
 *
 * All is computed transposed: queries lie along the lanes, S' = K Q' and O' = V' P'. So the running maximum and sum
 * of the softmax are lane-wise (no horizontal sums), K and V are read as scalars that are broadcast, and neither the
 * head dimension nor the number of keys is ever padded; only the last few queries are.
 * A register block is ROWS scalars x 3 vectors of queries. A score or an output is one chain of multiply-adds in the
 * order of channels or keys, whatever block it falls in: bytes do not depend on tile sizes or threads.
 *
 * With pairs, two neighbouring channels (of Q and K) or keys (of P and V), rounded to bf16, stand in the place of a float in the operands
 * of both products, and a multiply-add is the sum of two; scores, maximum, sum and output stay float. The sum adds what P was rounded to.
 * Ref: Milakov & Gimelshein 2018 (online softmax, arXiv:1805.02867); Dao 2023, FlashAttention-2 (arXiv:2307.08691). */
#include "backends/cpu/attention.h"
#include <stddef.h>
#include <string.h>
#if ATTN_LANES > 4
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

#ifdef ATTN_PAIRS
enum { UNIT = 2 }; /* channels or keys in the place of a float */
#else
enum { UNIT = 1 };
#endif
enum { LANES = ATTN_LANES, ROWS = ATTN_ROWS, VECS = 3, GROUP = VECS * LANES };
_Static_assert(CPU_ATTN_QUERIES % GROUP == 0, "query tiles are made of groups");

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));
typedef float vec4 __attribute__((vector_size(16)));

/* ---- vectors --------------------------------------------------------------------------------------- */

INLINE vec load(const float *p) { return *(const vec *)__builtin_assume_aligned(p, LANES * 4); }
INLINE void store(float *p, vec v) { *(vec *)__builtin_assume_aligned(p, LANES * 4) = v; }

INLINE vec splat(float x)
{
#if ATTN_LANES == 16
    return (vec)_mm512_set1_ps(x);
#elif ATTN_LANES == 8
    return (vec)_mm256_set1_ps(x);
#else
    return (vec){x, x, x, x};
#endif
}

/* a * b + c */
INLINE vec fma_vec(vec a, vec b, vec c)
{
#if ATTN_LANES == 16
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif ATTN_LANES == 8
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* The larger one; b where either is NaN (a NaN score shows again in exp2, so it is not lost). */
INLINE vec max_vec(vec a, vec b)
{
#if ATTN_LANES == 16
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif ATTN_LANES == 8
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
    const ivec greater = a > b;
    return (vec)((greater & (ivec)a) | (~greater & (ivec)b));
#endif
}

/* Places that n channels or keys take. */
INLINE int64_t units(int64_t n) { return (n + UNIT - 1) / UNIT; }

/* a * b + c, of floats or of pairs */
INLINE vec multiply_add(vec a, vec b, vec c)
{
#ifdef ATTN_PAIRS
    return (vec)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
#else
    return fma_vec(a, b, c);
#endif
}

#ifdef ATTN_PAIRS
/* One pair a lane: `first` in the low half, rounded to nearest even. */
INLINE vec pair_vec(vec first, vec second)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (vec)_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
}
#endif

/* 2^x for x <= 0, relative error 1.5e-7; 0 below 2^-126, NaN for NaN. */
INLINE vec exp2_vec(vec x)
{
#if ATTN_LANES == 16
    const vec r = (vec)_mm512_reduce_ps((__m512)x, 0x09); /* x - floor(x); scalef takes floor(x) itself */
    vec p = splat(0.001877576612f);
    p = fma_vec(p, r, splat(0.008989340301f));
    p = fma_vec(p, r, splat(0.05582631782f));
    p = fma_vec(p, r, splat(0.2401536171f));
    p = fma_vec(p, r, splat(0.6931530732f));
    p = fma_vec(p, r, splat(0.9999999251f));
    return (vec)_mm512_scalef_ps((__m512)p, (__m512)x);
#else
    const vec round = splat(12582912.0f); /* 1.5 * 2^23: the sum's low bits are the rounded integer */
    const ivec tiny = x < splat(-126.0f);
    x = (vec)((tiny & (ivec)splat(-126.0f)) | (~tiny & (ivec)x));
    const vec shifted = x + round, r = x - (shifted - round);
    vec p = splat(0.001327647154f);
    p = fma_vec(p, r, splat(0.009675541371f));
    p = fma_vec(p, r, splat(0.05550713276f));
    p = fma_vec(p, r, splat(0.2402211972f));
    p = fma_vec(p, r, splat(0.6931469671f));
    p = fma_vec(p, r, splat(1.000000072f));
    return (vec)(((ivec)p + ((ivec)shifted << 23)) & ~tiny);
#endif
}

#ifdef ATTN_PAIRS
/* The same, relative error 7.5e-5: a bf16 is rounded by up to 2e-3. */
INLINE vec exp2_short_vec(vec x)
{
    const vec r = (vec)_mm512_reduce_ps((__m512)x, 0x09);
    vec p = splat(0.07802451f);
    p = fma_vec(p, r, splat(0.22606717f));
    p = fma_vec(p, r, splat(0.69583356f));
    p = fma_vec(p, r, splat(0.9999252f));
    return (vec)_mm512_scalef_ps((__m512)p, (__m512)x);
}
#endif

/* ---- moving rows ----------------------------------------------------------------------------------- */

INLINE vec4 load4(const float *p)
{
    vec4 v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store4(float *p, vec4 v) { memcpy(p, &v, sizeof v); }

INLINE void transpose4(vec4 r[4])
{
    const vec4 a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    const vec4 c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

/* n <= GROUP queries of d channels -> to[d][GROUP]; the other lanes become 0. Four rows at a time: many rows a
 * power of two apart would push each other out of the cache. */
static void transpose_queries(float *to, const float *q, int64_t stride, int64_t n, int d)
{
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        int c = 0;
        for (; c + 4 <= d; c += 4) {
            vec4 r[4];
            UNROLL for (int j = 0; j < 4; j++) r[j] = load4(q + (i + j) * stride + c);
            transpose4(r);
            UNROLL for (int j = 0; j < 4; j++) store4(to + (c + j) * GROUP + i, r[j]);
        }
        for (; c < d; c++)
            for (int j = 0; j < 4; j++) to[c * GROUP + i + j] = q[(i + j) * stride + c];
    }
    for (; i < n; i++)
        for (int c = 0; c < d; c++) to[c * GROUP + i] = q[i * stride + c];
    if (n < GROUP)
        for (int c = 0; c < d; c++) memset(to + c * GROUP + n, 0, sizeof *to * (size_t)(GROUP - n));
}

/* from[d][GROUP] times inverse[GROUP] -> n rows of d channels. */
static void unpack_output(float *y, int64_t stride, int64_t n, int d, const float *from, const float *inverse)
{
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const vec4 k = load4(inverse + i);
        int c = 0;
        for (; c + 4 <= d; c += 4) {
            vec4 r[4];
            UNROLL for (int j = 0; j < 4; j++) r[j] = load4(from + (c + j) * GROUP + i) * k;
            transpose4(r);
            UNROLL for (int j = 0; j < 4; j++) store4(y + (i + j) * stride + c, r[j]);
        }
        for (; c < d; c++)
            for (int j = 0; j < 4; j++) y[(i + j) * stride + c] = from[c * GROUP + i + j] * inverse[i + j];
    }
    for (; i < n; i++)
        for (int c = 0; c < d; c++) y[i * stride + c] = from[c * GROUP + i] * inverse[i];
}

#ifdef ATTN_PAIRS

/* n <= GROUP queries of d channels -> to[units(d)][GROUP]; to has room for [d][GROUP]. */
static void pack_queries(float *to, const float *q, int64_t stride, int64_t n, int d)
{
    transpose_queries(to, q, stride, n, d);
    for (int c = 0; c < d; c += 2)
        for (int i = 0; i < GROUP; i += LANES) {
            const float *from = to + c * GROUP + i;
            store(to + c / 2 * GROUP + i, pair_vec(load(from), c + 1 < d ? load(from + GROUP) : splat(0)));
        }
}

/* n keys of d channels -> to[n][ld], pairs of channels. */
static void pack_keys(float *to, int64_t ld, const float *from, int64_t stride, int64_t n, int d)
{
    for (int64_t j = 0; j < n; j++, to += ld, from += stride)
        for (int c = 0; c < d; c += 16) {
            const __mmask16 here = (__mmask16)(d - c < 16 ? (1 << (d - c)) - 1 : -1);
            const __mmask16 there = (__mmask16)(d - c < 16 ? (1 << ((d - c + 1) / 2 * 2)) - 1 : -1);
            _mm256_mask_storeu_epi16((uint16_t *)(to + c / 2), there, (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(here, from + c)));
        }
}

/* Values of n keys -> to[units(n)][ld], pairs of keys; after an odd number 0. */
static void pack_values(float *to, int64_t ld, const float *from, int64_t stride, int64_t n, int d)
{
    for (int64_t j = 0; j < n; j += 2, to += ld, from += 2 * stride)
        for (int c = 0; c < d; c += 16) {
            const __mmask16 here = (__mmask16)(d - c < 16 ? (1 << (d - c)) - 1 : -1), there = j + 1 < n ? here : 0;
            const vec pair = pair_vec((vec)_mm512_maskz_loadu_ps(here, from + c), (vec)_mm512_maskz_loadu_ps(there, from + stride + c));
            _mm512_mask_storeu_ps(to + c, here, (__m512)pair);
        }
}

#else

/* n rows of d floats, brought together: `ld` apart instead of `stride`. */
static void copy_rows(float *restrict to, int64_t ld, const float *restrict from, int64_t stride, int64_t n, int d)
{
    for (int64_t j = 0; j < n; j++, to += ld, from += stride) {
        int c = 0;
        for (; c + LANES <= d; c += LANES) {
            vec v;
            memcpy(&v, from + c, sizeof v);
            memcpy(to + c, &v, sizeof v);
        }
        for (; c + 4 <= d; c += 4) store4(to + c, load4(from + c));
        for (; c < d; c++) to[c] = from[c];
    }
}

static void pack_queries(float *to, const float *q, int64_t stride, int64_t n, int d) { transpose_queries(to, q, stride, n, d); }
static void pack_keys(float *to, int64_t ld, const float *from, int64_t stride, int64_t n, int d) { copy_rows(to, ld, from, stride, n, d); }
static void pack_values(float *to, int64_t ld, const float *from, int64_t stride, int64_t n, int d) { copy_rows(to, ld, from, stride, n, d); }

#endif

/* ---- the two products ------------------------------------------------------------------------------ */

/* s[r][queries] = sum over c of k[r][c] * q[c][queries], for d places, `rows` keys and v vectors of queries */
INLINE void scores_block(float *s, const float *k, int64_t ld, const float *q, int d, const int rows, const int v)
{
    vec acc[ROWS][VECS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int i = 0; i < v; i++) acc[r][i] = (vec){0};
    for (int c = 0; c < d; c++) {
        vec x[VECS];
        UNROLL for (int i = 0; i < v; i++) x[i] = load(q + (int64_t)c * GROUP + i * LANES);
        UNROLL for (int r = 0; r < rows; r++)
        {
            const vec b = splat(k[r * ld + c]);
            UNROLL for (int i = 0; i < v; i++) acc[r][i] = multiply_add(b, x[i], acc[r][i]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int i = 0; i < v; i++) store(s + r * GROUP + i * LANES, acc[r][i]);
}

/* o[r][queries] = alpha * o[r][queries] + sum over j of v[j][r] * p[j][queries], for n places, `rows` channels */
INLINE void output_block(float *o, const float *alpha, const float *v, int64_t ld, const float *p, int64_t n, const int rows, const int nv)
{
    vec acc[ROWS][VECS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int i = 0; i < nv; i++) acc[r][i] = load(o + r * GROUP + i * LANES) * load(alpha + i * LANES);
    for (int64_t j = 0; j < n; j++) {
        vec x[VECS];
        UNROLL for (int i = 0; i < nv; i++) x[i] = load(p + j * GROUP + i * LANES);
        UNROLL for (int r = 0; r < rows; r++)
        {
            const vec b = splat(v[j * ld + r]);
            UNROLL for (int i = 0; i < nv; i++) acc[r][i] = multiply_add(b, x[i], acc[r][i]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int i = 0; i < nv; i++) store(o + r * GROUP + i * LANES, acc[r][i]);
}

INLINE void scores_of(float *s, const float *k, int64_t ld, const float *q, int64_t n, int d, const int v)
{
    int64_t j = 0;
    for (; j + ROWS <= n; j += ROWS) scores_block(s + j * GROUP, k + j * ld, ld, q, d, ROWS, v);
    if (ROWS > 4 && j + 4 <= n) {
        scores_block(s + j * GROUP, k + j * ld, ld, q, d, 4, v);
        j += 4;
    }
    if (j + 2 <= n) {
        scores_block(s + j * GROUP, k + j * ld, ld, q, d, 2, v);
        j += 2;
    }
    if (j < n) scores_block(s + j * GROUP, k + j * ld, ld, q, d, 1, v);
}

INLINE void output_of(float *o, const float *alpha, const float *v, int64_t ld, const float *p, int64_t n, int d, const int nv)
{
    int c = 0;
    for (; c + ROWS <= d; c += ROWS) output_block(o + c * GROUP, alpha, v + c, ld, p, n, ROWS, nv);
    if (ROWS > 4 && c + 4 <= d) {
        output_block(o + c * GROUP, alpha, v + c, ld, p, n, 4, nv);
        c += 4;
    }
    if (c + 2 <= d) {
        output_block(o + c * GROUP, alpha, v + c, ld, p, n, 2, nv);
        c += 2;
    }
    if (c < d) output_block(o + c * GROUP, alpha, v + c, ld, p, n, 1, nv);
}

/* ---- softmax --------------------------------------------------------------------------------------- */

/* Scores of keys later than their query become -inf. first: the query of lane 0 minus the key of row 0. */
static void mask_later_keys(float *s, int64_t n, int64_t first)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < GROUP; i++)
            if (j > i + first) s[j * GROUP + i] = -__builtin_inff();
}

/* s[n][queries] becomes 2^(scale (s - m)), in pairs s[units(n)][queries], with the maximum m so far; sum and m are carried on,
 * alpha = 2^(scale (old m - m)). */
INLINE void softmax_of(float *s, int64_t n, float scale, float *m, float *sum, float *alpha, const int v)
{
    const vec k = splat(scale);
    vec top[VECS], total[VECS], less[VECS];
    UNROLL for (int i = 0; i < v; i++) top[i] = load(m + i * LANES);
    for (int64_t j = 0; j < n; j++) UNROLL for (int i = 0; i < v; i++) top[i] = max_vec(load(s + j * GROUP + i * LANES), top[i]);
    UNROLL for (int i = 0; i < v; i++)
    {
        const vec a = exp2_vec((load(m + i * LANES) - top[i]) * k);
        store(m + i * LANES, top[i]);
        store(alpha + i * LANES, a);
        total[i] = load(sum + i * LANES) * a;
        less[i] = -top[i] * k;
    }
#ifdef ATTN_PAIRS
    const vec ones = (vec)_mm512_set1_epi32(0x3f803f80);
    for (int64_t j = 0; j < n; j += 2) UNROLL for (int i = 0; i < v; i++)
        {
            const float *from = s + j * GROUP + i * LANES;
            const vec first = exp2_short_vec(fma_vec(load(from), k, less[i]));
            const vec pair = pair_vec(first, j + 1 < n ? exp2_short_vec(fma_vec(load(from + GROUP), k, less[i])) : splat(0));
            store(s + j / 2 * GROUP + i * LANES, pair);
            total[i] = multiply_add(pair, ones, total[i]);
        }
#else
    for (int64_t j = 0; j < n; j++) UNROLL for (int i = 0; i < v; i++)
        {
            const vec p = exp2_vec(fma_vec(load(s + j * GROUP + i * LANES), k, less[i]));
            store(s + j * GROUP + i * LANES, p);
            total[i] += p;
        }
#endif
    UNROLL for (int i = 0; i < v; i++) store(sum + i * LANES, total[i]);
}

/* ---- a tile ---------------------------------------------------------------------------------------- */

/* One group of queries (state: maximum, sum, alpha; q and o: [d][GROUP]) meets n keys; v vectors of it are used. */
INLINE void group_step(const cpu_attn_tile *t, float *state, const float *q, float *o, int64_t n, int64_t lag, const int v)
{
    scores_of(t->s_tile, t->k_tile, t->k_ld, q, n, (int)units(t->d), v);
    if (t->causal && n - 1 > lag) mask_later_keys(t->s_tile, n, lag);
    softmax_of(t->s_tile, n, t->scale, state, state + GROUP, state + 2 * GROUP, v);
    output_of(o, state + 2 * GROUP, t->v_tile, t->v_ld, t->s_tile, units(n), t->d, v);
}
#define STEP(name, v)                                                                                                                                \
    static __attribute__((noinline)) void name(const cpu_attn_tile *t, float *state, const float *q, float *o, int64_t n, int64_t lag)               \
    {                                                                                                                                                \
        group_step(t, state, q, o, n, lag, v);                                                                                                       \
    }
STEP(group_step1, 1)
STEP(group_step2, 2)
STEP(group_step3, 3)

void ATTN_NAME(const cpu_attn_tile *t)
{
    const int d = t->d;
    const int64_t groups = (t->queries + GROUP - 1) / GROUP, last = t->first + t->queries - 1;
    const int64_t keys = t->causal && last + 1 < t->keys ? last + 1 : t->keys;
    for (int64_t g = 0; g < groups; g++) {
        const int64_t n = t->queries - g * GROUP < GROUP ? t->queries - g * GROUP : GROUP;
        pack_queries(t->q_tile + g * GROUP * d, t->q + g * GROUP * t->q_stride, t->q_stride, n, d);
        memset(t->o_tile + g * GROUP * d, 0, sizeof(float) * (size_t)(GROUP * d));
        for (int i = 0; i < GROUP; i++) {
            t->state[g * 3 * GROUP + i] = -__builtin_inff();
            t->state[g * 3 * GROUP + GROUP + i] = 0.0f;
        }
    }
    for (int64_t j = 0; j < keys; j += t->step) {
        const int64_t n = keys - j < t->step ? keys - j : t->step;
        if (t->cancel && atomic_load_explicit(t->cancel, memory_order_relaxed)) return;
        pack_keys(t->k_tile, t->k_ld, t->k + j * t->k_stride, t->k_stride, n, d);
        pack_values(t->v_tile, t->v_ld, t->v + j * t->v_stride, t->v_stride, n, d);
        for (int64_t g = 0; g < groups; g++) {
            const int64_t lag = t->first + g * GROUP - j, left = t->queries - g * GROUP;
            float *state = t->state + g * 3 * GROUP, *q = t->q_tile + g * GROUP * d, *o = t->o_tile + g * GROUP * d;
            if (t->causal && lag + GROUP <= 0) continue; /* all keys come after all queries */
            if (left > 2 * LANES) group_step3(t, state, q, o, n, lag);
            else if (left > LANES) group_step2(t, state, q, o, n, lag);
            else group_step1(t, state, q, o, n, lag);
        }
    }
    for (int64_t g = 0; g < groups; g++) {
        const int64_t n = t->queries - g * GROUP < GROUP ? t->queries - g * GROUP : GROUP;
        float *inverse = t->state + g * 3 * GROUP + GROUP;
        for (int i = 0; i < GROUP; i++) inverse[i] = 1.0f / inverse[i];
        unpack_output(t->y + g * GROUP * t->y_stride, t->y_stride, n, d, t->o_tile + g * GROUP * d, inverse);
    }
}
