/* gather.cu - inputs and weights as the matrix products want them: k_gather, k_pack, and the rows of k_embed and k_pick. */
#include "backends/cuda/views.h"

/* ---- k_gather --------------------------------------------------------------------------------------------------------------- */

/* Where row y of the picture lies: row `row` of `from` (rows of all images), or nowhere. The same for all threads of a block. */
typedef struct source {
    k_view from;
    int64_t row;
    bool there;
} source;

static __device__ __forceinline__ source source_of(const k_gather_args &a, int n, int y)
{
    source s;
    s.from = a.x;
    s.there = true;
    if (y >= 0 && y < a.in_h) {
        s.row = (int64_t)n * a.h + (int64_t)y * a.h / a.in_h;
        return s;
    }
    const int times = a.in_h / a.h; /* with neighbours it is a whole number */
    const int rows = y < 0 ? a.above_h : a.below_h, at = y < 0 ? y + rows * times : y - a.in_h;
    s.from = y < 0 ? a.above : a.below;
    s.there = s.from.data && at >= 0 && at < rows * times;
    s.row = s.there ? (int64_t)n * rows + at / times : 0;
    return s;
}

/* Channels c.. of x|x2, 0 behind them. x2 goes with x, not with its neighbours. *type: that of what was read. */
template <bool WIDE>
static __device__ __forceinline__ eight<WIDE> fetch_joined(const k_gather_args &a, const k_view &x, int64_t pixel, int c, int *type)
{
    if constexpr (WIDE) {
        const bool first = c < a.c;
        *type = first ? x.type : a.x2.type;
        return fetch8<true>(first ? x.data : a.x2.data, *type, first ? pixel * x.stride + c : pixel * a.x2.stride + c - a.c, EIGHT);
    } else {
        eight<false> r;
        for (int i = 0; i < EIGHT; i++) {
            const int at = c + i;
            if (at < a.c) r.x.v[i] = load1(x.data, x.type, pixel * x.stride + at);
            else r.x.v[i] = at < a.c + a.c2 ? load1(a.x2.data, a.x2.type, pixel * a.x2.stride + at - a.c) : 0;
        }
        *type = DC_F32;
        return r;
    }
}

/* A block has a piece of a row of y: TWICE times as many eights as threads, all read before the first is written, to have more under way. */
enum { TWICE = 2 };

template <bool WIDE> static __global__ void __launch_bounds__(THREADS) gather(const __grid_constant__ k_gather_args a)
{
    const int groups = (a.channels + EIGHT - 1) / EIGHT, total = a.c + a.c2, n = (int)blockIdx.z, oy = (int)blockIdx.y;
    const source s = source_of(a, n, oy - a.top);
    const float *scale = a.scale ? a.scale + (int64_t)n * 2 * total : NULL;
    eight<WIDE> read[TWICE];
    int ox[TWICE], c[TWICE], type[TWICE];
    bool there[TWICE];
#pragma unroll
    for (int u = 0; u < TWICE; u++) {
        const uint32_t i = (blockIdx.x * TWICE + u) * THREADS + threadIdx.x;
        ox[u] = (int)(i / (uint32_t)groups);
        c[u] = (int)(i % (uint32_t)groups) * EIGHT;
        const int px = ox[u] - a.left;
        there[u] = s.there && ox[u] < a.out_w && px >= 0 && px < a.in_w && c[u] < total;
        type[u] = DC_F32;
        read[u] = no_eight<WIDE>();
        if (!there[u]) continue;
        const int64_t ix = a.in_w == a.w ? px : (int64_t)px * a.w / a.in_w;
        read[u] = fetch_joined<WIDE>(a, s.from, s.row * a.w + ix, c[u], &type[u]);
    }
#pragma unroll
    for (int u = 0; u < TWICE; u++) {
        if (ox[u] >= a.out_w) continue;
        f8 x = numbers<WIDE>(read[u], type[u]);
        if (there[u]) {
            const int some = least(EIGHT, total - c[u]);
            if (scale) {
                const f8 k = load8<WIDE>(scale, DC_F32, c[u], some), add = load8<WIDE>(scale, DC_F32, total + c[u], some);
#pragma unroll
                for (int i = 0; i < EIGHT; i++) x.v[i] = x.v[i] * k.v[i] + add.v[i];
            }
            activate8(x, a.act); /* which makes 0 of 0 */
        }
        const int64_t pixel = ((int64_t)n * a.out_h + oy) * a.out_w + ox[u];
        store8<WIDE>(a.y.data, a.y.type, pixel * a.channels + c[u], a.channels - c[u], x);
    }
}

dc_status k_gather(gpu *g, const void *args)
{
    const k_gather_args a = *(const k_gather_args *)args;
    const int64_t items = (int64_t)a.out_w * pieces(a.channels, EIGHT);
    const bool wide = a.c % EIGHT == 0 && a.c2 % EIGHT == 0 && a.channels % EIGHT == 0 && is_wide(a.x) && is_wide(a.x2) && is_wide(a.above) &&
                      is_wide(a.below) && aligned(a.y.data) && aligned(a.scale);
    const dim3 grid((unsigned)pieces(items, TWICE * THREADS), (unsigned)a.out_h, (unsigned)a.n);
    return launch(g, wide ? gather<true> : gather<false>, grid, THREADS, 0, a);
}

/* ---- k_pack ------------------------------------------------------------------------------------------------------------------- */

/* A thread writes eight channels. Neighbours in a warp read neighbours: places of a window, then channels. */
template <bool WIDE> static __global__ void __launch_bounds__(THREADS) pack_weight(const __grid_constant__ k_pack_args a)
{
    const int groups = (a.channels + EIGHT - 1) / EIGHT;
    const int64_t i = thread_of_grid();
    if (i >= a.rows * a.area * groups) return;
    const place p = place_of(i, a.area * groups);
    const int spot = p.item % a.area, c = p.item / a.area * EIGHT;
    const int64_t row = p.row, from = (row * a.c + c) * a.area + spot;
    f8 x;
#pragma unroll
    for (int k = 0; k < EIGHT; k++) {
        x.v[k] = c + k < a.c ? load1(a.from, a.from_type, from + (int64_t)k * a.area) : 0;
        if (a.scale != 0) x.v[k] *= a.scale;
    }
    store8<WIDE>(a.y.data, a.y.type, (row * a.area + spot) * a.channels + c, a.channels - c, x);
}

dc_status k_pack(gpu *g, const void *args)
{
    const k_pack_args a = *(const k_pack_args *)args;
    const bool wide = a.channels % EIGHT == 0 && aligned(a.y.data);
    return launch(g, wide ? pack_weight<true> : pack_weight<false>, grid_of(a.rows * a.area * pieces(a.channels, EIGHT)), THREADS, 0, a);
}

/* ---- k_embed, k_pick ------------------------------------------------------------------------------------------------------------ */

template <bool WIDE> static __global__ void __launch_bounds__(THREADS) embed(const __grid_constant__ k_embed_args a)
{
    const place p = place_of(thread_of_grid(), (a.c + EIGHT - 1) / EIGHT);
    if (p.row >= a.rows) return;
    const int c = p.item * EIGHT, n = a.c - c;
    f8 x = load_row8<WIDE>(a.table, a.ids[p.row], c, n);
    if (a.positions.data) {
        const f8 add = load_row8<WIDE>(a.positions, remainder_of(p.row, a.t), c, n);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) x.v[i] += add.v[i];
    }
    store_row8<WIDE>(a.y, p.row, c, n, x);
}

dc_status k_embed(gpu *g, const void *args)
{
    const k_embed_args a = *(const k_embed_args *)args;
    const bool wide = a.c % EIGHT == 0 && is_wide(a.y) && is_wide(a.table) && is_wide(a.positions);
    return launch(g, wide ? embed<true> : embed<false>, grid_of(a.rows * pieces(a.c, EIGHT)), THREADS, 0, a);
}

template <bool WIDE> static __global__ void __launch_bounds__(THREADS) pick(const __grid_constant__ k_pick_args a)
{
    const place p = place_of(thread_of_grid(), (a.c + EIGHT - 1) / EIGHT);
    if (p.row >= a.rows) return;
    const int c = p.item * EIGHT, n = a.c - c;
    store_row8<WIDE>(a.y, p.row, c, n, load_row8<WIDE>(a.x, p.row * a.t + a.index[p.row], c, n));
}

dc_status k_pick(gpu *g, const void *args)
{
    const k_pick_args a = *(const k_pick_args *)args;
    const bool wide = a.c % EIGHT == 0 && is_wide(a.y) && is_wide(a.x);
    return launch(g, wide ? pick<true> : pick<false>, grid_of(a.rows * pieces(a.c, EIGHT)), THREADS, 0, a);
}
