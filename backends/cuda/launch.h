/* launch.h - what the kernels are written in: CUDA C++ and a few instructions of the machine, or (with DC_EMULATE) what runs them on the CPU
 * for tests (tests/cuda/emulate.h). Shared memory is always the dynamic kind, asked for at the launch. */
#ifndef DC_BACKENDS_CUDA_LAUNCH_H
#define DC_BACKENDS_CUDA_LAUNCH_H
#include "backends/cuda/kernels.h"
#ifdef DC_EMULATE
#include "tests/cuda/emulate.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

#ifdef DC_EMULATE

static inline void *shared_bytes() { return emulate_shared(); }
static inline void assume_global(const void *) {}

template <class A> struct emulated_launch {
    void (*kernel)(A);
    dim3 grid, block;
    size_t shared;
    A args;
    static void thread(void *ctx) { ((emulated_launch *)ctx)->kernel(((emulated_launch *)ctx)->args); }
    static dc_status run(const void *self)
    {
        emulated_launch l = *(const emulated_launch *)self;
        emulate(l.grid, l.block, l.shared, thread, &l);
        return DC_OK;
    }
};

/* kernel(args) on every thread of the grid; an empty grid is fine. */
template <class A> static dc_status launch(gpu *g, void (*kernel)(A), dim3 grid, dim3 block, size_t shared, const A &args)
{
    const emulated_launch<A> l = {kernel, grid, block, shared, args};
    if (!grid.x || !grid.y || !grid.z) return DC_OK;
    if (grid.y > 65535 || grid.z > 65535) return DC_IO; /* as CUDA does */
    return gpu_do(g, l.run, &l, sizeof l);
}

#else

static __device__ __forceinline__ void *shared_bytes()
{
    extern __shared__ __align__(16) unsigned char bytes[];
    return bytes;
}

/* kernel(args) on every thread of the grid; an empty grid is fine. IO: it cannot be started. */
template <class A> static dc_status launch(gpu *g, void (*kernel)(A), dim3 grid, dim3 block, size_t shared, const A &args)
{
    if (!grid.x || !grid.y || !grid.z) return DC_OK;
    if (shared > 48 << 10 && cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared) != cudaSuccess) return DC_IO;
    kernel<<<grid, block, shared, (cudaStream_t)gpu_stream(g)>>>(args);
    return cudaGetLastError() == cudaSuccess ? DC_OK : DC_IO;
}

/* Told where it cannot see it: which of two pointers was chosen depends on data. */
static __device__ __forceinline__ void assume_global(const void *p) { __builtin_assume(__isGlobal(p)); }

/* ---- instructions (PTX ISA), each with its twin in tests/cuda/emulate.h ------------------------------------------------------ */

static __device__ __forceinline__ float f16_float(uint16_t h) { return __half2float(__ushort_as_half(h)); }

/* Rounded to nearest even, lo in the lower half. */
static __device__ __forceinline__ uint32_t f16_pair(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
static __device__ __forceinline__ uint32_t bf16_pair(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

static __device__ __forceinline__ float exp2_fast(float x)
{
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

/* 16 bytes to shared memory, of which there are `bytes` (0 or 16), the others 0; done when the group is waited for. */
static __device__ __forceinline__ void copy_async(void *shared, const void *global, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(bytes)
                 : "memory");
}
static __device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> static __device__ __forceinline__ void copy_wait() /* all but the newest LEFT groups */
{
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

/* Four 8x8 matrices of 16-bit numbers; lane i gives the address of row i % 8 of matrix i / 8. */
static __device__ __forceinline__ void load_matrices(uint32_t r[4], const void *shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(shared))
                 : "memory");
}
static __device__ __forceinline__ void load_matrices_transposed(uint32_t r[4], const void *shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(shared))
                 : "memory");
}

/* d [16,8] += a [16,16] b [16,8], in fragments as the PTX ISA lays them out for mma.m16n8k16. */
template <bool BF16> static __device__ __forceinline__ void multiply(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    if (BF16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif
#endif
