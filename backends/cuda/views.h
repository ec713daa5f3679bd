/* views.h - what the kernels have in common: rows of numbers of any type eight at a time, and the activations.
 *
 * A kernel is a template on WIDE: whether every row begins at an address of 16 bytes and counts of channels are multiples of 8, so that 8
 * numbers are one or two accesses; else they are up to 8 accesses of their own. Which it is, is decided at the launch. Types are told apart
 * when it runs: the branch is the same for all threads. */
#ifndef DC_BACKENDS_CUDA_VIEWS_H
#define DC_BACKENDS_CUDA_VIEWS_H
#include "backends/cuda/launch.h"

enum { EIGHT = 8, THREADS = 256 };

typedef struct f8 {
    float v[EIGHT];
} f8;

/* ---- at the launch -------------------------------------------------------------------------------------------------------- */

static inline int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }
static inline bool aligned(const void *p) { return (uintptr_t)p % 16 == 0; }
static inline bool is_wide(k_view v) { return !v.data || (aligned(v.data) && v.stride % (v.type == DC_F32 ? 4 : EIGHT) == 0); }
static inline dim3 grid_of(int64_t items) { return dim3((unsigned)pieces(items, THREADS)); }

/* ---- numbers ---------------------------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ float load1(const void *x, int type, int64_t at)
{
    assume_global(x);
    if (type == DC_F32) return ((const float *)x)[at];
    const uint16_t h = ((const uint16_t *)x)[at];
    return type == DC_F16 ? f16_float(h) : __int_as_float((int32_t)((uint32_t)h << 16));
}
static __device__ __forceinline__ void store1(void *y, int type, int64_t at, float v)
{
    if (type == DC_F32) ((float *)y)[at] = v;
    else ((uint16_t *)y)[at] = (uint16_t)(type == DC_F16 ? f16_pair(v, 0) : bf16_pair(v, 0));
}

/* The type is asked for once for all eight: a branch, not a choice between two results each time. */
template <bool F16> static __device__ __forceinline__ f8 unpack(const uint4 &w)
{
    const uint32_t pairs[4] = {w.x, w.y, w.z, w.w};
    f8 r;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        r.v[2 * i] = F16 ? f16_float((uint16_t)pairs[i]) : __int_as_float((int32_t)(pairs[i] << 16));
        r.v[2 * i + 1] = F16 ? f16_float((uint16_t)(pairs[i] >> 16)) : __int_as_float((int32_t)(pairs[i] & 0xffff0000u));
    }
    return r;
}
template <bool F16> static __device__ __forceinline__ uint4 pack(const f8 &x)
{
    uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++) pairs[i] = F16 ? f16_pair(x.v[2 * i], x.v[2 * i + 1]) : bf16_pair(x.v[2 * i], x.v[2 * i + 1]);
    return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

/* Eight numbers as they were read. To have several reads under way, a kernel fetches them all before it asks for the first one's numbers: the
 * type is then no branch between them. */
template <bool WIDE> struct eight {
    uint4 a, b; /* b: F32 only */
};
template <> struct eight<false> {
    f8 x;
};

/* n numbers (8 where WIDE) from place `at` on, 0 behind them. */
template <bool WIDE> static __device__ __forceinline__ eight<WIDE> fetch8(const void *x, int type, int64_t at, int n)
{
    eight<WIDE> r;
    if constexpr (WIDE) {
        const bool f32 = type == DC_F32;
        const uint4 *p = (const uint4 *)((const char *)x + (f32 ? at * 4 : at * 2));
        assume_global(p);
        r.a = p[0];
        r.b = f32 ? p[1] : make_uint4(0, 0, 0, 0);
    } else {
        for (int i = 0; i < EIGHT; i++) r.x.v[i] = i < n ? load1(x, type, at + i) : 0;
    }
    return r;
}
template <bool WIDE> static __device__ __forceinline__ eight<WIDE> no_eight()
{
    eight<WIDE> r;
    memset(&r, 0, sizeof r);
    return r;
}
template <bool WIDE> static __device__ __forceinline__ f8 numbers(const eight<WIDE> &e, int type)
{
    if constexpr (WIDE) {
        if (type == DC_F16) return unpack<true>(e.a);
        if (type == DC_BF16) return unpack<false>(e.a);
        f8 r;
        memcpy(&r, &e, sizeof r);
        return r;
    } else {
        return e.x;
    }
}
template <bool WIDE> static __device__ __forceinline__ f8 load8(const void *x, int type, int64_t at, int n)
{
    return numbers<WIDE>(fetch8<WIDE>(x, type, at, n), type);
}
template <bool WIDE> static __device__ __forceinline__ void store8(void *y, int type, int64_t at, int n, const f8 &x)
{
    if (!WIDE) {
        for (int i = 0; i < EIGHT; i++)
            if (i < n) store1(y, type, at + i, x.v[i]);
    } else if (type == DC_F32) {
        float4 *p = (float4 *)((float *)y + at);
        p[0] = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
        p[1] = make_float4(x.v[4], x.v[5], x.v[6], x.v[7]);
    } else {
        uint4 *p = (uint4 *)((uint16_t *)y + at);
        if (type == DC_F16) *p = pack<true>(x);
        else *p = pack<false>(x);
    }
}
template <bool WIDE> static __device__ __forceinline__ eight<WIDE> fetch_row8(const k_view &x, int64_t row, int c, int n)
{
    return fetch8<WIDE>(x.data, x.type, row * x.stride + c, n);
}
template <bool WIDE> static __device__ __forceinline__ f8 load_row8(const k_view &x, int64_t row, int c, int n)
{
    return load8<WIDE>(x.data, x.type, row * x.stride + c, n);
}
template <bool WIDE> static __device__ __forceinline__ void store_row8(const k_view &y, int64_t row, int c, int n, const f8 &v)
{
    store8<WIDE>(y.data, y.type, row * y.stride + c, n, v);
}

/* ---- places ------------------------------------------------------------------------------------------------------------------- */

/* Item i of rows that have `per_row` items: a division of 32 bits takes a quarter of the time of one of 64. */
typedef struct place {
    int64_t row;
    int item;
} place;
static __device__ __forceinline__ place place_of(int64_t i, int per_row)
{
    place p;
    p.row = i >> 31 ? i / per_row : (int64_t)((uint32_t)i / (uint32_t)per_row);
    p.item = (int)(i - p.row * per_row);
    return p;
}
static __device__ __forceinline__ int64_t remainder_of(int64_t i, int64_t n)
{
    if (i < n) return i;
    return (i | n) >> 31 ? i % n : (int64_t)((uint32_t)i % (uint32_t)n);
}
static __device__ __forceinline__ int64_t thread_of_grid() { return (int64_t)blockIdx.x * THREADS + threadIdx.x; }
static __device__ __forceinline__ int least(int a, int b) { return a < b ? a : b; }
static __device__ __forceinline__ int64_t least64(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- activations ---------------------------------------------------------------------------------------------------------------- */

/* x / (1 + e^-kx) with the machine's own exponential: its relative error, 2^-22 plus that of the rounded argument, reaches 1e-6 only where
 * the result is nearly 0. NaN stays NaN, -inf becomes NaN: a non-finite value is not to be hidden. */
static __device__ __forceinline__ float sigmoid_linear(float x, float k) { return __fdividef(x, 1.0f + __expf(-k * x)); }
static __device__ __forceinline__ float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }

template <class F> static __device__ __forceinline__ void each8(f8 &x, const F &f)
{
#pragma unroll
    for (int i = 0; i < EIGHT; i++) x.v[i] = f(x.v[i]);
}
static __device__ __forceinline__ void activate8(f8 &x, int act)
{
    switch (act) {
    case DC_ACT_SILU: each8(x, [](float v) { return sigmoid_linear(v, 1.0f); }); break;
    case DC_ACT_GELU: each8(x, [](float v) { return gelu(v); }); break;
    case DC_ACT_QUICK_GELU: each8(x, [](float v) { return sigmoid_linear(v, 1.702f); }); break;
    case DC_ACT_RELU: each8(x, [](float v) { return v > 0 || v != v ? v : 0.0f; }); break;
    case DC_ACT_TANH3: each8(x, [](float v) { return 3.0f * tanhf(v / 3.0f); }); break;
    default: break;
    }
}

/* ---- sums of a block ------------------------------------------------------------------------------------------------------------ */

/* The sum of v over the block's threads (a multiple of 32), in a fixed order, to all of them. `shared`: a number a warp. */
template <class T> static __device__ __forceinline__ T warp_sum(T v)
{
#pragma unroll
    for (int lanes = 16; lanes; lanes /= 2) v += __shfl_xor_sync(0xffffffffu, v, lanes);
    return v;
}
template <class T> static __device__ __forceinline__ T block_sum(T v, T *shared)
{
    v = warp_sum(v);
    __syncthreads(); /* the last call's numbers have been read */
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
    for (unsigned i = 0; i < blockDim.x / 32; i++) v += shared[i];
    return v;
}

#endif
