/* attention.cu - k_attention: FlashAttention-2 (Dao 2023) on the tensor cores of compute capability 8.0 and later.
 *
 * A block of four warps has 64 or 128 queries of one head. Keys and values come tile by tile into shared memory, the next tile while one is
 * worked on. A warp has its 16 or 32 queries' scores, sums and results in registers, in the layout of mma's fragments: there the scores
 * of a tile turn into the left side of the product with its values without any exchange. A query meets the keys in the same order and the same
 * steps whatever block it falls into. */
#include "backends/cuda/views.h"

enum { WARPS = 4, BLOCK = WARPS * 32, ENOUGH = 264 /* blocks: two for each multiprocessor of an H200 */ };

/* Sizes by head dimension, all in numbers. Rows of shared memory are an odd multiple of 16 bytes: the eight rows of a matrix that is loaded lie
 * in different banks. `tall` matrices of 16 queries a warp: each fragment of keys and values that is loaded serves as many. */
template <int D, int TALL> struct tiles {
    static constexpr int depth = (D + 15) / 16 * 16; /* of the product of queries and keys, with zeros */
    static constexpr int pitch = depth + 8;
    static constexpr int queries = WARPS * 16 * TALL;
    static constexpr int keys = D > 128 ? 32 : 64; /* more would pass the 99 KiB of shared memory of 8.6 and 8.9 */
    /* Blocks on a multiprocessor, as its registers allow: softmax and products overlap across them. Queries stay in registers where these suffice. */
    static constexpr int blocks = D <= 40 ? 5 - TALL : 4 - TALL;
    static constexpr bool held = D <= 64 && !(D <= 40 && TALL == 2);
    static constexpr size_t bytes = sizeof(uint16_t) * pitch * (queries + 2 * 2 * keys);
};

/* ROWS rows of WIDTH numbers to shared memory, of which `rows` and d are there; zeros for the others, which are neither NaN nor read. */
template <int ROWS, int WIDTH, int PITCH>
static __device__ __forceinline__ void load_tile(uint16_t *to, const uint16_t *from, int stride, int rows, int d)
{
    constexpr int across = WIDTH / EIGHT;
#pragma unroll
    for (int i = threadIdx.x; i < ROWS * across; i += BLOCK) {
        const int row = i / across, c = i % across * EIGHT;
        const bool there = row < rows && c < d;
        copy_async(to + row * PITCH + c, from + (there ? row * stride + c : 0), there ? 16 : 0);
    }
}

static __device__ __forceinline__ const uint16_t *head_of(const k_view &x, int64_t row, int head, int d)
{
    return (const uint16_t *)x.data + row * x.stride + (int64_t)head * d;
}

template <bool BF16> static __device__ __forceinline__ uint32_t pair(float lo, float hi) { return BF16 ? bf16_pair(lo, hi) : f16_pair(lo, hi); }

/* What a warp knows of its queries. Of each 16 a thread has rows lane / 4 and that + 8, of each eight columns 2 (lane % 4) and the next: number i
 * of a fragment is in row i / 2, column i % 2 of these. */
template <int D, int TALL> struct state {
    float y[TALL][D / 8][4];
    float most[TALL][2], sum[TALL][2]; /* the largest score, over the row; the sum of powers, over this thread's columns */
};

/* s = q k' of the tile's keys, not yet scaled */
template <int D, int TALL, bool BF16, class Q>
static __device__ __forceinline__ void scores(float s[TALL][tiles<D, TALL>::keys / 8][4], const uint16_t *k, const Q &query, int lane)
{
    typedef tiles<D, TALL> size;
#pragma unroll
    for (int t = 0; t < TALL; t++)
#pragma unroll
        for (int j = 0; j < size::keys / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) s[t][j][i] = 0;
    const uint16_t *at = k + (lane / 16 * 8 + lane % 8) * size::pitch + lane / 8 % 2 * 8;
#pragma unroll
    for (int c = 0; c < size::depth / 16; c++) {
        uint32_t q[TALL][4];
        query(q, c);
#pragma unroll
        for (int j = 0; j < size::keys / 16; j++) {
            uint32_t b[4];
            load_matrices(b, at + j * 16 * size::pitch + c * 16);
#pragma unroll
            for (int t = 0; t < TALL; t++) {
                multiply<BF16>(s[t][2 * j], q[t], b[0], b[1]);
                multiply<BF16>(s[t][2 * j + 1], q[t], b[2], b[3]);
            }
        }
    }
}

/* Scores of keys that do not count become -inf. row, key: the first ones of the warp and the tile. */
template <int TALL, int KEYS>
static __device__ __forceinline__ void mask(float s[TALL][KEYS / 8][4], int row, int key, const k_attention_args &a, int lane)
{
#pragma unroll
    for (int t = 0; t < TALL; t++)
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int at = key + j * 8 + lane % 4 * 2 + i % 2, query = row + t * 16 + lane / 4 + i / 2 * 8;
                if (at >= a.keys || (a.causal && at > query)) s[t][j][i] = -INFINITY;
            }
}

/* Scores to powers of 2 below the largest so far; what was summed before is scaled to it. Every row has seen a key in the first tile. */
template <int D, int TALL> static __device__ __forceinline__ void soften(state<D, TALL> &w, float s[TALL][tiles<D, TALL>::keys / 8][4], float scale)
{
    constexpr int groups = tiles<D, TALL>::keys / 8;
#pragma unroll
    for (int t = 0; t < TALL; t++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float most = w.most[t][r];
#pragma unroll
            for (int j = 0; j < groups; j++) most = fmaxf(most, fmaxf(s[t][j][2 * r], s[t][j][2 * r + 1]));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
            const float top = most * scale, before = exp2_fast(w.most[t][r] * scale - top);
            w.most[t][r] = most;
            float sum = 0;
#pragma unroll
            for (int j = 0; j < groups; j++)
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; i++) {
                    s[t][j][i] = exp2_fast(fmaf(s[t][j][i], scale, -top));
                    sum += s[t][j][i];
                }
            w.sum[t][r] = w.sum[t][r] * before + sum;
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                w.y[t][j][2 * r] *= before;
                w.y[t][j][2 * r + 1] *= before;
            }
        }
}

/* y += powers * v */
template <int D, int TALL, bool BF16>
static __device__ __forceinline__ void add_values(state<D, TALL> &w, const float s[TALL][tiles<D, TALL>::keys / 8][4], const uint16_t *v, int lane)
{
    typedef tiles<D, TALL> size;
    const uint16_t *at = v + (lane / 8 % 2 * 8 + lane % 8) * size::pitch + lane / 16 * 8;
#pragma unroll
    for (int c = 0; c < size::keys / 16; c++) {
        uint32_t p[TALL][4];
#pragma unroll
        for (int t = 0; t < TALL; t++)
#pragma unroll
            for (int i = 0; i < 4; i++) p[t][i] = pair<BF16>(s[t][2 * c + i / 2][i % 2 * 2], s[t][2 * c + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int j = 0; j < D / 8; j += 2) {
            uint32_t b[4];
            load_matrices_transposed(b, at + c * 16 * size::pitch + j * 8); /* of the last odd eight, a second one that is not used */
#pragma unroll
            for (int t = 0; t < TALL; t++) {
                multiply<BF16>(w.y[t][j], p[t], b[0], b[1]);
                if (j + 1 < D / 8) multiply<BF16>(w.y[t][j + 1], p[t], b[2], b[3]);
            }
        }
    }
}

/* y / sum to global memory, by way of the shared memory of the warp's own queries (`rows`): whole 16 bytes a thread there. */
template <int D, int TALL, bool BF16>
static __device__ __forceinline__ void write(state<D, TALL> &w, uint16_t *rows, const k_attention_args &a, int64_t image, int row, int head, int lane)
{
    constexpr int pitch = tiles<D, TALL>::pitch, across = D / EIGHT;
    __syncwarp();
#pragma unroll
    for (int t = 0; t < TALL; t++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float sum = w.sum[t][r];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            const float factor = 1 / sum;
            uint32_t *to = (uint32_t *)(rows + (t * 16 + r * 8 + lane / 4) * pitch) + lane % 4;
#pragma unroll
            for (int j = 0; j < D / 8; j++) to[j * 4] = pair<BF16>(w.y[t][j][2 * r] * factor, w.y[t][j][2 * r + 1] * factor);
        }
    __syncwarp();
    uint16_t *y = (uint16_t *)a.y.data + (image * a.tq + row) * a.y.stride + (int64_t)head * a.d;
    for (int i = lane; i < 16 * TALL * across; i += 32) {
        const int r = i / across, c = i % across * EIGHT;
        if (row + r < a.tq && c < a.d) *(uint4 *)(y + r * a.y.stride + c) = *(const uint4 *)(rows + r * pitch + c);
    }
}

template <int D, int TALL, bool BF16>
static __global__ void __launch_bounds__(BLOCK, tiles<D, TALL>::blocks) attention(const __grid_constant__ k_attention_args a)
{
    typedef tiles<D, TALL> size;
    const int first = (int)blockIdx.x * size::queries, head = (int)blockIdx.y, lane = threadIdx.x % 32, mine = threadIdx.x / 32 * 16 * TALL;
    const int64_t image = blockIdx.z, from = a.kn == 1 ? 0 : image * a.tk;
    const uint16_t *k = head_of(a.k, from, head, a.d), *v = head_of(a.v, from, head, a.d);
    uint16_t *q_tile = (uint16_t *)shared_bytes(), *k_tile = q_tile + size::queries * size::pitch, *v_tile = k_tile + 2 * size::keys * size::pitch;
    const auto fetch = [&](int tile) {
        const int key = tile * size::keys, which = tile % 2 * size::keys * size::pitch;
        load_tile<size::keys, size::depth, size::pitch>(k_tile + which, k + key * a.k.stride, (int)a.k.stride, a.keys - key, a.d);
        load_tile<size::keys, D, size::pitch>(v_tile + which, v + key * a.v.stride, (int)a.v.stride, a.keys - key, a.d);
        copy_commit();
    };
    load_tile<size::queries, size::depth, size::pitch>(q_tile, head_of(a.q, image * a.tq + first, head, a.d), (int)a.q.stride, a.tq - first, a.d);
    fetch(0);
    copy_wait<0>();
    __syncthreads();

    uint32_t q_held[size::held ? size::depth / 16 : 1][TALL][4];
    const auto load_query = [&](uint32_t q[TALL][4], int c) {
#pragma unroll
        for (int t = 0; t < TALL; t++) load_matrices(q[t], q_tile + (mine + t * 16 + lane % 16) * size::pitch + c * 16 + lane / 16 * 8);
    };
    const auto query = [&](uint32_t q[TALL][4], int c) {
        if constexpr (size::held) memcpy(q, q_held[c], sizeof q_held[c]);
        else load_query(q, c);
    };
    if constexpr (size::held)
#pragma unroll
        for (int c = 0; c < size::depth / 16; c++) load_query(q_held[c], c);

    state<D, TALL> w;
#pragma unroll
    for (int t = 0; t < TALL; t++) {
        w.most[t][0] = w.most[t][1] = -INFINITY;
        w.sum[t][0] = w.sum[t][1] = 0;
#pragma unroll
        for (int j = 0; j < D / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) w.y[t][j][i] = 0;
    }
    const float scale = a.scale * 1.44269504f; /* powers of 2 */
    const int end = a.causal ? least(a.keys, first + size::queries) : a.keys, count = (end + size::keys - 1) / size::keys;
    for (int tile = 0; tile < count; tile++) {
        const int key = tile * size::keys, which = tile % 2 * size::keys * size::pitch;
        float s[TALL][size::keys / 8][4];
        copy_wait<0>();
        __syncthreads(); /* the tile is there, and nobody reads the one before it any more */
        if (tile + 1 < count) fetch(tile + 1);
        scores<D, TALL, BF16>(s, k_tile + which, query, lane);
        if (key + size::keys > a.keys || (a.causal && key + size::keys > first + mine + 1)) mask<TALL, size::keys>(s, first + mine, key, a, lane);
        soften<D, TALL>(w, s, scale);
        add_values<D, TALL, BF16>(w, s, v_tile + which, lane);
    }
    write<D, TALL, BF16>(w, q_tile + mine * size::pitch, a, image, first + mine, head, lane);
}

template <int D, int TALL> static dc_status start(gpu *g, const k_attention_args &a)
{
    typedef tiles<D, TALL> size;
    const dim3 grid((unsigned)pieces(a.tq, size::queries), (unsigned)a.heads, (unsigned)a.n);
    return launch(g, a.q.type == DC_BF16 ? attention<D, TALL, true> : attention<D, TALL, false>, grid, BLOCK, size::bytes, a);
}

/* Twice as many queries a block where that leaves enough blocks. */
template <int D> static dc_status start_either(gpu *g, const k_attention_args &a)
{
    const int64_t blocks = pieces(a.tq, tiles<D, 2>::queries) * a.heads * a.n;
    return blocks >= ENOUGH ? start<D, 2>(g, a) : start<D, 1>(g, a);
}

/* While planning there are no addresses yet. */
static bool takes(const k_view &v, int type) { return v.type == type && v.stride % EIGHT == 0 && v.stride < 1 << 24 && aligned(v.data); }

/* scale > 0: the largest score is then the largest power. */
bool k_attention_takes(const k_attention_args *a)
{
    const int type = a->q.type;
    if (type != DC_F16 && type != DC_BF16) return false;
    if (a->d <= 0 || a->d > 160 || a->d % EIGHT || a->keys < 1 || !(a->scale > 0)) return false;
    return takes(a->q, type) && takes(a->k, type) && takes(a->v, type) && takes(a->y, type);
}

dc_status k_attention(gpu *g, const void *args)
{
    const k_attention_args a = *(const k_attention_args *)args;
    if (!k_attention_takes(&a)) return DC_INTERNAL;
    if (a.d <= 40) return start_either<40>(g, a);
    if (a.d <= 64) return start_either<64>(g, a);
    if (a.d <= 80) return start_either<80>(g, a);
    if (a.d <= 96) return start<96, 1>(g, a);
    if (a.d <= 128) return start<128, 1>(g, a);
    return start<160, 1>(g, a);
}
