/* dots_kernel.h - cpu_dots_fn as a template: dots_LEVEL.c defines DOTS_NAME, and DOTS_TILE rows that have a sum in registers for each of three
 * queries, taken from where they were widened. One query alone reads the rows where they lie, one after the other: as fast as memory. */
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

/* nr dense rows against nq queries. */
INLINE void tile(const float *rows, const float *query, int width, float *y, int64_t stride, const int nr, const int nq)
{
    vec sum[TILE][QUERIES];
    UNROLL for (int r = 0; r < nr; r++) UNROLL for (int q = 0; q < nq; q++) sum[r][q] = vec_splat(0);
    for (int k = 0; k < width; k += LANES) {
        vec x[QUERIES];
        UNROLL for (int q = 0; q < nq; q++) x[q] = vec_load(query + (int64_t)q * width + k);
        UNROLL for (int r = 0; r < nr; r++)
        {
            const vec v = vec_load(rows + (int64_t)r * width + k);
            UNROLL for (int q = 0; q < nq; q++) sum[r][q] = vec_fma(v, x[q], sum[r][q]);
        }
    }
    UNROLL for (int q = 0; q < nq; q++) UNROLL for (int r = 0; r < nr; r++) y[q * stride + r] = lanes_sum(sum[r][q]);
}

/* One query: rows are read from end to end, as a stream, and summed in the order of a tile. The next row is fetched meanwhile. */
INLINE float one(const uint16_t *row, const float *query, int width)
{
    vec sum = vec_splat(0);
    for (int k = 0; k < width; k += 32) {
        __builtin_prefetch(row + width + k);
        UNROLL for (int j = 0; j < 32; j += LANES) sum = vec_fma(vec_from_f16(row + k + j), vec_load(query + k + j), sum);
    }
    return lanes_sum(sum);
}

INLINE void several(const uint16_t *rows, const float *query, int queries, int width, float *y, int64_t stride, float *room, const int nr)
{
    int q = 0;
    for (int64_t i = 0; i < (int64_t)nr * width; i += LANES) vec_store(room + i, vec_from_f16(rows + i));
    for (; q + QUERIES <= queries; q += QUERIES) tile(room, query + (int64_t)q * width, width, y + q * stride, stride, nr, QUERIES);
    for (; q < queries; q++) tile(room, query + (int64_t)q * width, width, y + q * stride, stride, nr, 1);
}

void DOTS_NAME(const uint16_t *rows, int64_t n, const float *query, int queries, int width, float *y, int64_t stride, float *room)
{
    int64_t r = 0;
    for (; queries == 1 && r < n; r++) y[r] = one(rows + r * width, query, width);
    for (; r + TILE <= n; r += TILE) several(rows + r * width, query, queries, width, y + r, stride, room, TILE);
    for (; r < n; r++) several(rows + r * width, query, queries, width, y + r, stride, room, 1);
}
