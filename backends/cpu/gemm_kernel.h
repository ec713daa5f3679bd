/* gemm_kernel.h - the functions of gemm.h for one x86-64 instruction set: gemm_LEVEL.c defines the vector type and GEMM_NAME.
 * Register block: 24 accumulators, 6 rows x 4 vectors where registers allow (AVX-512), 6 x 2 on AVX2. */
#include "backends/cpu/act.h"
#include "backends/cpu/gemm.h"
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* A vector of narrow numbers to float. */
INLINE void widen_one(const char *from, dc_dtype t, float *to) { VEC_STORE(to, t == DC_F16 ? VEC_FROM_F16(from) : VEC_FROM_BF16(from)); }

/* A share of what the next step reads: `count` cache lines to fetch, or vectors of numbers to widen. */
typedef struct ahead {
    const char *from;
    float *to; /* or NULL: fetch */
    dc_dtype type;
    int count;
} ahead;

/* The block's sums. */
typedef struct registers {
    VEC c[GEMM_MOST_ROWS][GEMM_MOST_VECS];
} registers;

/* c += A's column q times the row of B at b. */
INLINE void one_k(registers *s, const float *const *a, ptrdiff_t q, const float *b, const int ROWS, const int VECS)
{
    VEC w[GEMM_MOST_VECS];
    UNROLL for (int v = 0; v < VECS; v++) w[v] = VEC_LOAD(b + v * LANES);
    UNROLL for (int i = 0; i < ROWS; i++)
    {
        const VEC x = VEC_SET(a[i][q]);
        UNROLL for (int v = 0; v < VECS; v++) s->c[i][v] = VEC_FMA(x, w[v], s->c[i][v]);
    }
}

enum { TOGETHER = 2 }; /* k in a turn of the loop: a neighbour on the same core leaves few instructions beside the multiplications */

/* Rows r .. r + rows of the step, ROWS x VECS accumulators. Rows that are not there repeat the last one and are not stored. Of `next` one is done
 * with each row of B: in a burst they would hold up the loads. */
INLINE void micro(const cpu_block *s, int r, int rows, const ahead *next, const int ROWS, const int VECS)
{
    registers sum;
    const float *a[GEMM_MOST_ROWS], *b = s->b;
    const ahead n = *next;
    const int width = VECS * LANES, k = s->k, beside = n.count < k ? n.count : k;
    float *acc = s->acc + (size_t)r * (size_t)width;
    UNROLL for (int i = 0; i < ROWS; i++)
    {
        a[i] = s->row[r + (i < rows ? i : rows - 1)] + s->offset;
        UNROLL for (int v = 0; v < VECS; v++) sum.c[i][v] = s->add && i < rows ? VEC_LOAD(acc + i * width + v * LANES) : VEC_ZERO();
    }
    ptrdiff_t q = 0;
    for (; q < beside; q++, b += width) {
        if (n.to) widen_one(n.from + (size_t)q * 2 * LANES, n.type, n.to + (size_t)q * LANES);
        else _mm_prefetch(n.from + (size_t)q * 64, _MM_HINT_T1);
        one_k(&sum, a, q, b, ROWS, VECS);
    }
    for (; q + TOGETHER <= k; q += TOGETHER, b += TOGETHER * width)
        UNROLL for (int j = 0; j < TOGETHER; j++) one_k(&sum, a, q + j, b + j * width, ROWS, VECS);
    for (; q < k; q++, b += width) one_k(&sum, a, q, b, ROWS, VECS);
    UNROLL for (int i = 0; i < ROWS; i++)
    {
        if (i >= rows) break;
        UNROLL for (int v = 0; v < VECS; v++) VEC_STORE(acc + i * width + v * LANES, sum.c[i][v]);
    }
    for (q = k; n.to && q < n.count; q++) widen_one(n.from + (size_t)q * 2 * LANES, n.type, n.to + (size_t)q * LANES);
}

/* All rows, ROWS at a time; the last ones with as few accumulators as they need. Each call takes its share of what comes next. */
INLINE void all_rows(const cpu_block *s, const int ROWS, const int VECS)
{
    const int each = s->widened ? 2 * LANES : 64, all = (int)(s->next_bytes / (size_t)each), calls = (s->rows + ROWS - 1) / ROWS;
    const int share = (all + calls - 1) / calls;
    ahead next = {s->next, s->widened, s->next_type, share};
    for (int r = 0, done = 0; r < s->rows; r += ROWS, done += share) {
        const int left = s->rows - r;
        if (next.count > all - done) next.count = all > done ? all - done : 0;
        if (left >= ROWS) micro(s, r, ROWS, &next, ROWS, VECS);
        else if (left <= ROWS / 3) micro(s, r, left, &next, ROWS / 3, VECS);
        else if (left <= ROWS / 3 * 2) micro(s, r, left, &next, ROWS / 3 * 2, VECS);
        else micro(s, r, left, &next, ROWS, VECS);
        if (share) next.from += (size_t)share * (size_t)each; /* NULL stays as it is */
        if (next.to) next.to += (size_t)share * LANES;
    }
}

static void gemm_block(const cpu_block *s)
{
    switch (s->width / LANES) {
    case 1: all_rows(s, GEMM_ROWS_1, 1); break;
    case 2: all_rows(s, GEMM_ROWS_2, 2); break;
#if GEMM_MOST_VECS > 2
    case 3: all_rows(s, GEMM_ROWS_3, 3); break;
    case 4: all_rows(s, GEMM_ROWS_4, 4); break;
#endif
    default: break;
    }
}

static void gemm_widen(const void *from, dc_dtype t, int64_t n, float *to)
{
    int64_t i = 0;
    const uint16_t *at = from;
    if (t == DC_F32) {
        memcpy(to, from, (size_t)n * sizeof(float));
        return;
    }
    for (; i + LANES <= n; i += LANES) VEC_STORE(to + i, t == DC_F16 ? VEC_FROM_F16(at + i) : VEC_FROM_BF16(at + i));
    dc_source rest = {at + i, t, n - i, 0};
    if (i < n) dc_source_floats(&rest, 0, n - i, to + i);
}

enum { PANEL = GEMM_MOST_VECS * LANES };
#include "backends/cpu/gemm_finish.h"

#ifndef GEMM_NARROW
#define GEMM_NARROW NULL, NULL, NULL, false, 1
#endif
const cpu_gemm GEMM_NAME = {LANES, PANEL, gemm_block, gemm_widen, gemm_finish, GEMM_NARROW, false};
