/* dots_kernel.h - cpu_dots_fn as a template: dots_LEVEL.c defines DOTS_NAME, and DOTS_TILE rows that have a sum in registers for each of three
 * queries. One query alone reads the rows where they lie, once: it is as fast as memory. Several take them from where they were widened. */
#include "backends/cpu/dots.h"
#include "backends/cpu/vec.h"

enum { TILE = DOTS_TILE, QUERIES = 3 };

INLINE float lanes_sum(vec v)
{
    float s[LANES];
    vec_store(s, v);
    UNROLL for (int half = LANES / 2; half; half /= 2) UNROLL for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

/* nr rows of type t, dense, against nq queries. */
INLINE void tile(const void *rows, const dc_dtype t, const float *query, int width, float *y, int64_t stride, const int nr, const int nq)
{
    vec sum[TILE][QUERIES];
    UNROLL for (int r = 0; r < nr; r++) UNROLL for (int q = 0; q < nq; q++) sum[r][q] = vec_splat(0);
    for (int k = 0; k < width; k += LANES) {
        vec x[QUERIES];
        UNROLL for (int q = 0; q < nq; q++) x[q] = vec_load(query + (int64_t)q * width + k);
        UNROLL for (int r = 0; r < nr; r++)
        {
            const vec v = vec_widen(rows, t, (size_t)r * (size_t)width + (size_t)k);
            UNROLL for (int q = 0; q < nq; q++) sum[r][q] = vec_fma(v, x[q], sum[r][q]);
        }
    }
    UNROLL for (int q = 0; q < nq; q++) UNROLL for (int r = 0; r < nr; r++) y[q * stride + r] = lanes_sum(sum[r][q]);
}

INLINE void several(const uint16_t *rows, const float *query, int queries, int width, float *y, int64_t stride, float *room, const int nr)
{
    int q = 0;
    for (int64_t i = 0; i < (int64_t)nr * width; i += LANES) vec_store(room + i, vec_from_f16(rows + i));
    for (; q + QUERIES <= queries; q += QUERIES) tile(room, DC_F32, query + (int64_t)q * width, width, y + q * stride, stride, nr, QUERIES);
    for (; q < queries; q++) tile(room, DC_F32, query + (int64_t)q * width, width, y + q * stride, stride, nr, 1);
}

void DOTS_NAME(const uint16_t *rows, int64_t n, const float *query, int queries, int width, float *y, int64_t stride, float *room)
{
    int64_t r = 0;
    for (; r + TILE <= n; r += TILE)
        if (queries == 1) tile(rows + r * width, DC_F16, query, width, y + r, stride, TILE, 1);
        else several(rows + r * width, query, queries, width, y + r, stride, room, TILE);
    for (; r < n; r++)
        if (queries == 1) tile(rows + r * width, DC_F16, query, width, y + r, stride, 1, 1);
        else several(rows + r * width, query, queries, width, y + r, stride, room, 1);
}
