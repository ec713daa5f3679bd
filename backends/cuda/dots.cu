/* dots.cu - k_dots: rows of an index beside queries. */
#include "backends/cuda/views.h"

/* A warp has ROWS rows and QUERIES queries: a row is read from far away, the queries come from the caches, and each serves the others'
 * products. Lane l sums eights l, l + 32, ... of a row, then the lanes' sums are added pair by pair: the same order for every pair. */
enum { ROWS = 4, QUERIES = 4, WARPS = THREADS / 32 };

template <bool WIDE> static __global__ void __launch_bounds__(THREADS) dots(const __grid_constant__ k_dots_args a)
{
    const int64_t row = ((int64_t)blockIdx.x * WARPS + threadIdx.x / 32) * ROWS;
    const int query = (int)blockIdx.y * QUERIES, lane = threadIdx.x % 32;
    if (row >= a.n) return; /* the whole warp */
    float sum[ROWS][QUERIES] = {{0}};
    for (int c = lane * EIGHT; c < a.width; c += 32 * EIGHT) {
        f8 x[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) x[r] = load8<WIDE>(a.rows, DC_F16, least64(row + r, a.n - 1) * a.width + c, EIGHT);
#pragma unroll
        for (int q = 0; q < QUERIES; q++) {
            if (query + q >= a.queries) break;
            const f8 y = load8<WIDE>(a.query, DC_F32, (int64_t)(query + q) * a.width + c, EIGHT);
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int i = 0; i < EIGHT; i++) sum[r][q] = fmaf(x[r].v[i], y.v[i], sum[r][q]);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int q = 0; q < QUERIES; q++) {
            const float all = warp_sum(sum[r][q]);
            if (lane == 0 && row + r < a.n && query + q < a.queries) a.y[(query + q) * a.step + row + r] = all;
        }
}

dc_status k_dots(gpu *g, const void *args)
{
    const k_dots_args a = *(const k_dots_args *)args;
    const dim3 grid((unsigned)pieces(a.n, WARPS * ROWS), (unsigned)pieces(a.queries, QUERIES));
    return launch(g, aligned(a.rows) && aligned(a.query) ? dots<true> : dots<false>, grid, THREADS, 0, a);
}
