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

/* ROWS rows x VECS vectors. Rows that are not there repeat the last one and are not stored. */
INLINE void micro(const float *const *row, int rows, int64_t offset, const float *b, int k, float *acc, bool add, const int ROWS, const int VECS)
{
    VEC c[GEMM_MOST_ROWS][GEMM_MOST_VECS];
    const float *a[GEMM_MOST_ROWS];
    const int width = VECS * LANES;
    UNROLL for (int i = 0; i < ROWS; i++)
    {
        a[i] = row[i < rows ? i : rows - 1] + offset;
        UNROLL for (int v = 0; v < VECS; v++) c[i][v] = add && i < rows ? VEC_LOAD(acc + i * width + v * LANES) : VEC_ZERO();
    }
    for (int q = 0; q < k; q++, b += width) {
        VEC w[GEMM_MOST_VECS];
        UNROLL for (int v = 0; v < VECS; v++) w[v] = VEC_LOAD(b + v * LANES);
        UNROLL for (int i = 0; i < ROWS; i++)
        {
            const VEC x = VEC_SET(a[i][q]);
            UNROLL for (int v = 0; v < VECS; v++) c[i][v] = VEC_FMA(x, w[v], c[i][v]);
        }
    }
    UNROLL for (int i = 0; i < ROWS; i++)
    {
        if (i >= rows) break;
        UNROLL for (int v = 0; v < VECS; v++) VEC_STORE(acc + i * width + v * LANES, c[i][v]);
    }
}

/* Called between register blocks: a share of the bytes that the next step needs, into the second-level cache. */
INLINE void fetch_ahead(const cpu_block *s, int r, const int ROWS)
{
    const size_t calls = (size_t)((s->rows + ROWS - 1) / ROWS), share = (s->next_bytes / calls + 64) / 64 * 64, from = (size_t)(r / ROWS) * share;
    for (size_t i = from; i < from + share && i < s->next_bytes; i += 64) _mm_prefetch(s->next + i, _MM_HINT_T1);
}

#define ALL_ROWS(ROWS, VECS)                                                                                                                         \
    for (int r = 0; r < s->rows; r += ROWS) {                                                                                                        \
        fetch_ahead(s, r, ROWS);                                                                                                                     \
        micro(s->row + r, s->rows - r < ROWS ? s->rows - r : ROWS, s->offset, s->b, s->k, s->acc + (size_t)r * (VECS) * LANES, s->add, ROWS, VECS);  \
    }                                                                                                                                                \
    break

static void gemm_block(const cpu_block *s)
{
    switch (s->width / LANES) {
    case 1: ALL_ROWS(GEMM_ROWS_1, 1);
    case 2: ALL_ROWS(GEMM_ROWS_2, 2);
#if GEMM_MOST_VECS > 2
    case 3: ALL_ROWS(GEMM_ROWS_3, 3);
    case 4: ALL_ROWS(GEMM_ROWS_4, 4);
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
    dc_source rest = {at + i, t, n - i};
    if (i < n) dc_source_floats(&rest, 0, n - i, to + i);
}

#include "backends/cpu/gemm_finish.h"

const cpu_gemm GEMM_NAME = {LANES, GEMM_MOST_VECS *LANES, gemm_block, gemm_widen, gemm_finish, gemm_finish_geglu};
