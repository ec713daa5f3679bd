/* norm.cu - group norms in two parts (k_sums, k_scale), layer norm, and the softmax of rows of scores that are there as a whole. */
#include "backends/cuda/views.h"

/* ---- k_sums ----------------------------------------------------------------------------------------------------------------- */

/* A block of threads has CHANNELS channels of one block of rows: four threads side by side, PIXELS of them below each other. Each takes every
 * PIXELS-th pixel, AT_ONCE together: these are summed in float32 (squares of 16-bit numbers are exact there, and 8 roundings stay below
 * 5e-7), the sums in double, whose arithmetic many devices have little of. The order depends on the block's own pixels alone. */
enum { ACROSS = 4, CHANNELS = ACROSS * EIGHT, PIXELS = THREADS / ACROSS, AT_ONCE = 8, WARPS = THREADS / 32 };

/* Of two lanes that lie `LANES` apart, the first keeps the first half of its LANES numbers, the other the second, to which it adds what the other
 * gives it: a third of the exchanges that all of both would take. */
template <int LANES> static __device__ __forceinline__ void exchange(double v[LANES])
{
    const bool upper = threadIdx.x & LANES;
#pragma unroll
    for (int i = 0; i < LANES / 2; i++) {
        const double give = upper ? v[i] : v[i + LANES / 2], keep = upper ? v[i + LANES / 2] : v[i];
        v[i] = keep + __shfl_xor_sync(0xffffffffu, give, LANES);
    }
}

template <bool WIDE> static __global__ void __launch_bounds__(THREADS) sums(const __grid_constant__ k_sums_args a)
{
    const int first = (int)blockIdx.x * CHANNELS, across = threadIdx.x % ACROSS, c = first + across * EIGHT, block = (int)blockIdx.y,
              n = (int)blockIdx.z;
    const int64_t begin = least64((int64_t)block * a.rows, a.h), end = least64(begin + a.rows, a.h);
    const int64_t pixels = c < a.c ? (end - begin) * a.w : 0, from = ((int64_t)n * a.h + begin) * a.w;
    double all[2 * EIGHT] = {0}; /* sums, squares */
    for (int64_t p = threadIdx.x / ACROSS; p < pixels; p += PIXELS * AT_ONCE) {
        eight<WIDE> read[AT_ONCE];
        f8 s = {{0}}, q = {{0}};
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++)
            read[u] = p + u * PIXELS < pixels ? fetch_row8<WIDE>(a.x, from + p + u * PIXELS, c, a.c - c) : no_eight<WIDE>();
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const f8 x = numbers<WIDE>(read[u], a.x.type);
#pragma unroll
            for (int i = 0; i < EIGHT; i++) {
                s.v[i] += x.v[i];
                q.v[i] += x.v[i] * x.v[i];
            }
        }
#pragma unroll
        for (int i = 0; i < EIGHT; i++) {
            all[i] += s.v[i];
            all[EIGHT + i] += q.v[i];
        }
    }
    exchange<16>(all), exchange<8>(all), exchange<4>(all);
    double *shared = (double *)shared_bytes();      /* [WARPS][2][CHANNELS] */
    const int mine = threadIdx.x % 32 / ACROSS * 2; /* of 2 EIGHT */
    for (int i = 0; i < 2; i++) shared[(threadIdx.x / 32 * 2 + mine / EIGHT) * CHANNELS + across * EIGHT + mine % EIGHT + i] = all[i];
    __syncthreads();
    const int which = threadIdx.x / CHANNELS, channel = threadIdx.x % CHANNELS;
    if (which >= 2 || first + channel >= a.c) return;
    double sum = 0;
    for (int i = 0; i < WARPS; i++) sum += shared[(i * 2 + which) * CHANNELS + channel];
    a.y[(((int64_t)n * a.blocks + block) * 2 + which) * a.total + a.from + first + channel] = sum;
}

dc_status k_sums(gpu *g, const void *args)
{
    const k_sums_args a = *(const k_sums_args *)args;
    const bool wide = a.c % EIGHT == 0 && is_wide(a.x);
    const dim3 grid((unsigned)pieces(a.c, CHANNELS), (unsigned)a.blocks, (unsigned)a.n);
    return launch(g, wide ? sums<true> : sums<false>, grid, THREADS, sizeof(double) * WARPS * 2 * CHANNELS, a);
}

/* ---- k_scale ------------------------------------------------------------------------------------------------------------------ */

/* A block has a group of an image. Its threads take the sums in turn, counted over all parts: in how many parts they lie changes nothing. */
static __global__ void __launch_bounds__(THREADS) scale_of_norm(const __grid_constant__ k_scale_args a)
{
    const int size = a.c / a.groups, first = (int)blockIdx.x * size, n = (int)blockIdx.y;
    double *shared = (double *)shared_bytes(); /* a number a warp */
    double sum = 0, square = 0;
    int part = 0, before = 0; /* blocks of the parts before this one */
    for (int i = threadIdx.x;; i += THREADS) {
        const int block = i / size, c = i % size;
        while (part < a.parts && block >= before + a.blocks[part]) before += a.blocks[part++];
        if (part == a.parts) break;
        const double *at = a.sums[part] + ((int64_t)n * a.blocks[part] + block - before) * 2 * a.c + first + c;
        sum += at[0];
        square += at[a.c];
    }
    sum = block_sum(sum, shared);
    square = block_sum(square, shared);
    const double mean = sum / a.count, variance = square / a.count - mean * mean;
    const double factor = 1 / sqrt((variance < 0 ? 0 : variance) + a.eps); /* NaN stays NaN */
    float *y = a.y + (int64_t)n * 2 * a.c + first;
    for (int c = threadIdx.x; c < size; c += THREADS) {
        const double k = a.weight[first + c] * factor;
        y[c] = (float)k;
        y[a.c + c] = (float)(a.bias[first + c] - mean * k);
    }
}

dc_status k_scale(gpu *g, const void *args)
{
    const k_scale_args a = *(const k_scale_args *)args;
    return launch(g, scale_of_norm, dim3((unsigned)a.groups, (unsigned)a.n), THREADS, sizeof(double) * WARPS, a);
}

/* ---- k_layer_norm --------------------------------------------------------------------------------------------------------------- */

/* A warp has a row. HELD eights a lane stay in registers between the passes; 0: longer rows are read again, from the first-level cache. */
template <bool WIDE, int HELD> static __global__ void __launch_bounds__(THREADS) layer_norm(const __grid_constant__ k_layer_norm_args a)
{
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    const int lane = threadIdx.x % 32, times = HELD ? HELD : (a.c + 32 * EIGHT - 1) / (32 * EIGHT);
    if (row >= a.rows) return; /* the whole warp */
    f8 held[HELD ? HELD : 1] = {};
    const auto channel = [&](int i) { return (i * 32 + lane) * EIGHT; };
    const auto get = [&](int i) {
        if constexpr (HELD > 0) return held[i];
        else return load_row8<WIDE>(a.x, row, channel(i), a.c - channel(i));
    };
    float sum = 0, square = 0;
    if constexpr (HELD > 0) {
        eight<WIDE> read[HELD];
#pragma unroll
        for (int i = 0; i < HELD; i++) read[i] = channel(i) < a.c ? fetch_row8<WIDE>(a.x, row, channel(i), a.c - channel(i)) : no_eight<WIDE>();
#pragma unroll
        for (int i = 0; i < HELD; i++) held[i] = numbers<WIDE>(read[i], a.x.type);
    }
#pragma unroll(HELD ? HELD : 1)
    for (int i = 0; i < times; i++) {
        if (channel(i) >= a.c) continue;
        const f8 x = get(i);
#pragma unroll
        for (int k = 0; k < EIGHT; k++) sum += x.v[k];
    }
    const float mean = warp_sum(sum) / (float)a.c;
#pragma unroll(HELD ? HELD : 1)
    for (int i = 0; i < times; i++) {
        if (channel(i) >= a.c) continue;
        const f8 x = get(i);
#pragma unroll
        for (int k = 0; k < EIGHT; k++)
            if (WIDE || channel(i) + k < a.c) square += (x.v[k] - mean) * (x.v[k] - mean);
    }
    const float factor = 1 / sqrtf(warp_sum(square) / (float)a.c + a.eps);
#pragma unroll(HELD ? HELD : 1)
    for (int i = 0; i < times; i++) {
        const int c = channel(i), n = a.c - c;
        if (n <= 0) continue;
        f8 x = get(i);
        const f8 weight = load8<WIDE>(a.weight, DC_F32, c, n), bias = load8<WIDE>(a.bias, DC_F32, c, n);
#pragma unroll
        for (int k = 0; k < EIGHT; k++) x.v[k] = (x.v[k] - mean) * factor * weight.v[k] + bias.v[k];
        store_row8<WIDE>(a.y, row, c, n, x);
    }
}

dc_status k_layer_norm(gpu *g, const void *args)
{
    const k_layer_norm_args a = *(const k_layer_norm_args *)args;
    const bool wide = a.c % EIGHT == 0 && is_wide(a.x) && is_wide(a.y) && aligned(a.weight) && aligned(a.bias);
    const dim3 grid((unsigned)pieces(a.rows, WARPS));
    const int64_t held = pieces(a.c, 32 * EIGHT);
    if (!wide) return launch(g, layer_norm<false, 0>, grid, THREADS, 0, a);
    return launch(g, held <= 2 ? layer_norm<true, 2> : held <= 5 ? layer_norm<true, 5> : layer_norm<true, 0>, grid, THREADS, 0, a);
}

/* ---- k_softmax ------------------------------------------------------------------------------------------------------------------ */

/* `LANES` threads have a row: a warp a short one, a block a long one. The first pass keeps the largest score so far and the sum of powers
 * below it (Milakov & Gimelshein 2018), the second writes. */
typedef struct powers {
    float most, sum;
} powers;
static __device__ __forceinline__ powers join(powers a, powers b)
{
    powers r;
    r.most = fmaxf(a.most, b.most);
    const float from = r.most == -INFINITY ? 0 : r.most; /* nothing seen yet: all powers are 0 */
    r.sum = a.sum * __expf(a.most - from) + b.sum * __expf(b.most - from);
    return r;
}

template <bool WIDE, int LANES> static __global__ void __launch_bounds__(THREADS) softmax(const __grid_constant__ k_softmax_args a)
{
    const int64_t row = (int64_t)blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
    const int lane = threadIdx.x % LANES;
    if (row >= a.rows) return; /* the whole warp, or block */
    const int keys = a.causal ? least(a.keys, a.first + (int)remainder_of(row, a.queries) + 1) : a.keys;
    const float *s = a.s + row * a.ld;
    powers all = {-INFINITY, 0};
    for (int c = lane * EIGHT; c < keys; c += LANES * EIGHT) {
        const f8 x = load8<WIDE>(s, DC_F32, c, a.ld - c);
        const int n = keys - c;
        powers here = {x.v[0], 0};
#pragma unroll
        for (int i = 1; i < EIGHT; i++)
            if (i < n) here.most = fmaxf(here.most, x.v[i]);
#pragma unroll
        for (int i = 0; i < EIGHT; i++)
            if (i < n) here.sum += __expf(x.v[i] - here.most);
        all = join(all, here);
    }
#pragma unroll
    for (int lanes = 16; lanes; lanes /= 2) {
        const powers other = {__shfl_xor_sync(0xffffffffu, all.most, lanes), __shfl_xor_sync(0xffffffffu, all.sum, lanes)};
        all = lane & lanes ? join(other, all) : join(all, other); /* the same bytes in both lanes */
    }
    if (LANES > 32) {
        powers *shared = (powers *)shared_bytes();
        if (lane % 32 == 0) shared[lane / 32] = all;
        __syncthreads();
        all = shared[0];
        for (int i = 1; i < LANES / 32; i++) all = join(all, shared[i]);
    }
    const float factor = 1 / all.sum;
    for (int c = lane * EIGHT; c < a.ld; c += LANES * EIGHT) {
        f8 x;
        if (c < keys) x = load8<WIDE>(s, DC_F32, c, a.ld - c);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) x.v[i] = c + i < keys ? __expf(x.v[i] - all.most) * factor : 0;
        store8<WIDE>(a.p.data, a.p.type, row * a.ld + c, a.ld - c, x);
    }
}

dc_status k_softmax(gpu *g, const void *args)
{
    const k_softmax_args a = *(const k_softmax_args *)args;
    const bool wide = a.ld % EIGHT == 0 && aligned(a.s) && aligned(a.p.data);
    if (a.ld <= 1024) return launch(g, wide ? softmax<true, 32> : softmax<false, 32>, dim3((unsigned)pieces(a.rows, THREADS / 32)), THREADS, 0, a);
    return launch(g, wide ? softmax<true, THREADS> : softmax<false, THREADS>, dim3((unsigned)a.rows), THREADS, sizeof(powers) * WARPS, a);
}
