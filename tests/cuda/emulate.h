/* emulate.h - CUDA C++ as far as the kernels of backends/cuda use it, for an ordinary compiler (C++17): they run on the CPU, to be tested where
 * there is no GPU. What is emulated is what the language promises, with the worst that it allows: a block's threads are fibers that run one after
 * the other until they wait for each other; shared memory begins as NaN; what cp.async copies is NaN until the group it belongs to is waited
 * for. A barrier that not all threads of a block reach, or an operation of a warp that not all its lanes reach, ends the program. */
#ifndef DC_TESTS_CUDA_EMULATE_H
#define DC_TESTS_CUDA_EMULATE_H
#include "tests/cuda/gpu_emulated.h"
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __grid_constant__
#define __launch_bounds__(...)

/* ---- threads ------------------------------------------------------------------------------------------------------------ */

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

/* Runs body(ctx) once a thread, block by block, with `shared` bytes of shared memory. One grid at a time, whoever asks. */
void emulate(dim3 grid, dim3 block, size_t shared, void (*body)(void *ctx), void *ctx);
void *emulate_shared(void);

void __syncthreads(void);
/* What the lanes of a warp do together: op gets what each of the 32 lanes gave. `what`: its name, for messages. */
typedef void emulate_op(void **lane);
void emulate_warp(emulate_op *op, void *mine, const char *what);
void __syncwarp(void);

template <class T> struct emulate_exchange {
    T value, result;
    int from;
};
template <class T> static void emulate_exchange_op(void **lane)
{
    for (int i = 0; i < 32; i++) {
        emulate_exchange<T> *mine = (emulate_exchange<T> *)lane[i];
        mine->result = ((emulate_exchange<T> *)lane[mine->from & 31])->value;
    }
}
int emulate_lane(void);
template <class T> static inline T __shfl_sync(unsigned, T value, int from)
{
    emulate_exchange<T> x = {value, value, from};
    emulate_warp(emulate_exchange_op<T>, &x, "shuffle");
    return x.result;
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int lanes) { return __shfl_sync(mask, value, emulate_lane() ^ lanes); }

/* ---- numbers -------------------------------------------------------------------------------------------------------------- */

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }

#define __expf expf /* the C library has a hidden one of that name */
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __int_as_float(int32_t i)
{
    float f;
    memcpy(&f, &i, sizeof f);
    return f;
}

/* ---- the twins of launch.h's pieces of PTX ---------------------------------------------------------------------------------- */

float f16_float(uint16_t h);
uint32_t f16_pair(float lo, float hi); /* rounded to nearest even, lo in the lower half */
uint32_t bf16_pair(float lo, float hi);
static inline float exp2_fast(float x) { return exp2f(x); }

/* 16 bytes to shared memory, of which there are `bytes` (0 or 16), the others 0; done when the group is waited for. */
void copy_async(void *shared, const void *global, int bytes);
void copy_commit(void);
void emulate_copy_wait(int left);
template <int LEFT> static inline void copy_wait(void) { emulate_copy_wait(LEFT); } /* all but the newest LEFT groups */

/* Four 8x8 matrices of 16-bit numbers; lane i gives the address of row i % 8 of matrix i / 8. */
void load_matrices(uint32_t r[4], const void *shared);
void load_matrices_transposed(uint32_t r[4], const void *shared);
/* d [16,8] += a [16,16] b [16,8], in fragments as the PTX ISA lays them out for mma.m16n8k16. */
template <bool BF16> void multiply(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1);

#endif
