/* elementwise.cu - what touches each number once: k_finish, k_lincomb, k_rescale, k_stats, k_rgb8, k_timestep. */
#include "backends/cuda/views.h"

/* ---- k_finish ------------------------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ void add8(f8 &x, const f8 &y)
{
#pragma unroll
    for (int i = 0; i < EIGHT; i++) x.v[i] += y.v[i];
}

template <bool WIDE> static __global__ void __launch_bounds__(THREADS) finish(const __grid_constant__ k_finish_args a)
{
    const place p = place_of(thread_of_grid(), (a.c + EIGHT - 1) / EIGHT);
    if (p.row >= a.rows) return;
    const int c = p.item * EIGHT, n = a.c - c;
    const eight<WIDE> read = fetch_row8<WIDE>(a.x, p.row, c, n);
    const eight<WIDE> read_gate = a.geglu ? fetch_row8<WIDE>(a.x, p.row, a.c + c, n) : no_eight<WIDE>();
    const eight<WIDE> residual = a.residual.data ? fetch_row8<WIDE>(a.residual, p.row, c, n) : no_eight<WIDE>();
    f8 x = numbers<WIDE>(read, a.x.type);
    if (a.bias) add8(x, load8<WIDE>(a.bias, DC_F32, c, n));
    if (a.geglu) {
        f8 gate = numbers<WIDE>(read_gate, a.x.type);
        if (a.bias) add8(gate, load8<WIDE>(a.bias, DC_F32, a.c + c, n));
#pragma unroll
        for (int i = 0; i < EIGHT; i++) x.v[i] *= gelu(gate.v[i]);
    }
    if (a.add.data) add8(x, load_row8<WIDE>(a.add, a.add_images == 1 ? 0 : place_of(p.row, (int)a.rows_of_image).row, c, n));
    if (a.residual.data) add8(x, numbers<WIDE>(residual, a.residual.type));
    activate8(x, a.act);
    store_row8<WIDE>(a.y, p.row, c, n, x);
}

dc_status k_finish(gpu *g, const void *args)
{
    const k_finish_args a = *(const k_finish_args *)args;
    const bool wide = a.c % EIGHT == 0 && is_wide(a.x) && is_wide(a.y) && is_wide(a.add) && is_wide(a.residual) && aligned(a.bias);
    return launch(g, wide ? finish<true> : finish<false>, grid_of(a.rows * pieces(a.c, EIGHT)), THREADS, 0, a);
}

/* ---- k_lincomb -------------------------------------------------------------------------------------------------------------- */

template <bool WIDE> static __global__ void __launch_bounds__(THREADS) lincomb(const __grid_constant__ k_lincomb_args a)
{
    const place p = place_of(thread_of_grid(), (a.c + EIGHT - 1) / EIGHT);
    if (p.row >= a.rows) return;
    const int c = p.item * EIGHT, n = a.c - c;
    f8 sum = {{0, 0, 0, 0, 0, 0, 0, 0}};
    for (int t = 0; t < a.n; t++) {
        const float k = a.k[t];
        if (k == 0) continue; /* a term that does not count may hold NaN */
        const f8 x = load_row8<WIDE>(a.x[t], remainder_of(p.row, a.repeat[t]), c, n);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) sum.v[i] += k * x.v[i];
    }
    store_row8<WIDE>(a.y, p.row, c, n, sum);
}

dc_status k_lincomb(gpu *g, const void *args)
{
    const k_lincomb_args a = *(const k_lincomb_args *)args;
    bool wide = a.c % EIGHT == 0 && is_wide(a.y);
    for (int t = 0; t < a.n; t++) wide = wide && is_wide(a.x[t]);
    return launch(g, wide ? lincomb<true> : lincomb<false>, grid_of(a.rows * pieces(a.c, EIGHT)), THREADS, 0, a);
}

/* ---- k_rescale -------------------------------------------------------------------------------------------------------------- */

enum { MANY = 1024 }; /* threads that have an image: latents are small */

/* As torch.std: unbiased, the squares those of x - mean. */
static __device__ __forceinline__ double deviation(const k_view &x, int64_t from, int64_t n, double *shared)
{
    double sum = 0, square = 0;
    for (int64_t i = threadIdx.x; i < n; i += MANY) sum += load1(x.data, x.type, from + i);
    const double mean = block_sum(sum, shared) / (double)n;
    for (int64_t i = threadIdx.x; i < n; i += MANY) {
        const double v = load1(x.data, x.type, from + i) - mean;
        square += v * v;
    }
    square = block_sum(square, shared);
    return n > 1 ? sqrt(square / (double)(n - 1)) : 0;
}

static __global__ void __launch_bounds__(MANY) rescale(const __grid_constant__ k_rescale_args a)
{
    double *shared = (double *)shared_bytes(); /* a number a warp */
    const int64_t from = (int64_t)blockIdx.x * a.size;
    const double wanted = deviation(a.cond, from, a.size, shared), found = deviation(a.guided, from, a.size, shared);
    const float k = (float)(a.phi * (wanted / found) + (1 - (double)a.phi));
    for (int64_t i = threadIdx.x; i < a.size; i += MANY) store1(a.y.data, a.y.type, from + i, k * load1(a.guided.data, a.guided.type, from + i));
}

dc_status k_rescale(gpu *g, const void *args)
{
    const k_rescale_args a = *(const k_rescale_args *)args;
    return launch(g, rescale, dim3((unsigned)a.images), MANY, sizeof(double) * MANY / 32, a);
}

/* ---- k_stats ------------------------------------------------------------------------------------------------------------------ */

template <bool WIDE> static __global__ void __launch_bounds__(THREADS) stats(const __grid_constant__ k_stats_args a)
{
    const int64_t size =
        ((a.n + K_STATS - 1) / K_STATS + EIGHT - 1) / EIGHT * EIGHT; /* whole eights, so that pieces begin at addresses of 16 bytes */
    const int64_t begin = least64(blockIdx.x * size, a.n), end = least64(begin + size, a.n);
    double sum = 0, square = 0;
    float most = 0;
    int bad = 0;
    for (int64_t at = begin + threadIdx.x * EIGHT; at < end; at += THREADS * EIGHT) {
        const int n = (int)least64(EIGHT, end - at);
        const f8 x = WIDE && n == EIGHT ? load8<WIDE>(a.x.data, a.x.type, at, EIGHT) : load8<false>(a.x.data, a.x.type, at, n);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) {
            const float v = x.v[i], size_of = fabsf(v);
            if (size_of <= 3.40282347e38f) {
                sum += v;
                square += (double)v * v;
                most = fmaxf(most, size_of);
            } else {
                bad++;
            }
        }
    }
    double *shared = (double *)shared_bytes(); /* a number a warp */
    sum = block_sum(sum, shared);
    square = block_sum(square, shared);
    const double others = block_sum((double)bad, shared);
#pragma unroll
    for (int lanes = 16; lanes; lanes /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, lanes));
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = most;
    __syncthreads();
    if (threadIdx.x) return;
    double largest = 0;
    for (int i = 0; i < THREADS / 32; i++) largest = fmax(largest, shared[i]);
    double *y = a.y + blockIdx.x * 4;
    y[0] = sum, y[1] = square, y[2] = largest, y[3] = others;
}

dc_status k_stats(gpu *g, const void *args)
{
    const k_stats_args a = *(const k_stats_args *)args;
    return launch(g, aligned(a.x.data) ? stats<true> : stats<false>, K_STATS, THREADS, sizeof(double) * THREADS / 32, a);
}

/* ---- k_rgb8 ------------------------------------------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(THREADS) rgb8(const __grid_constant__ k_rgb8_args a)
{
    const int64_t i = thread_of_grid();
    if (i >= a.n) return;
    float v = load1(a.x.data, a.x.type, i) / 2 + 0.5f;
    v = fabsf(v) <= 3.40282347e38f ? fmaxf(0, fminf(v, 1)) : 0;
    a.y[i] = (uint8_t)rintf(v * 255.0f);
}

dc_status k_rgb8(gpu *g, const void *args)
{
    const k_rgb8_args a = *(const k_rgb8_args *)args;
    return launch(g, rgb8, grid_of(a.n), THREADS, 0, a);
}

/* ---- k_timestep ----------------------------------------------------------------------------------------------------------------- */

/* Frequencies and phases are rounded to float where diffusers rounds them: phases are large, their rounding shows. */
static __global__ void __launch_bounds__(THREADS) timestep(const __grid_constant__ k_timestep_args a)
{
    const place p = place_of(thread_of_grid(), a.dim);
    if (p.row >= a.n) return;
    const int half = a.dim / 2, i = p.item % (half ? half : 1);
    const float exponent = -9.21034049987793f * (float)i / ((float)half - a.shift); /* of 10000, as a float */
    const float phase = a.t[p.row] * (float)exp((double)exponent);
    const bool sine = (p.item < half) != a.flip;
    a.y[p.row * a.dim + p.item] = p.item >= 2 * half ? 0 : (float)(sine ? sin((double)phase) : cos((double)phase));
}

dc_status k_timestep(gpu *g, const void *args)
{
    const k_timestep_args a = *(const k_timestep_args *)args;
    return launch(g, timestep, grid_of((int64_t)a.n * a.dim), THREADS, 0, a);
}
