/* gpu_private.h - what runtime.c, product.c and the files of convolutions share of a gpu. Nobody else includes it. */
#ifndef DC_BACKENDS_CUDA_GPU_PRIVATE_H
#define DC_BACKENDS_CUDA_GPU_PRIVATE_H
#include "backends/cuda/gpu.h"
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#define GPU_PRODUCT_WORKSPACE (32u << 20) /* what cuBLAS asks for on Hopper */

struct gpu_products;   /* product.c: shapes of products, and how each is done */
struct gpu_conv_found; /* convolve.c: plans found so far */

struct gpu {
    bool deterministic, recording;
    bool quiet;  /* failures are expected, and not told */
    char *plans; /* folder; NULL: none */
    dc_log log;
    gpu_info info;
    int cudnn; /* its version: 92801 */
    cudaStream_t stream;
    cudaEvent_t mark[2];
    cublasLtHandle_t lt;
    void *workspace; /* of products: one is enough, since they run one behind the other */
    cudnnHandle_t dnn;
    struct gpu_products *products;
    struct gpu_conv_found *found;
    char told[64]; /* the last failure that the log was told: those that follow from it are not */
};

/* The result of a call, as a status: OK, NO_MEMORY, IO; a failure is told in the log by `name`. GPU_CUDA(g, cudaFree, p). */
dc_status gpu_cuda(gpu *g, const char *name, cudaError_t result);
dc_status gpu_blas(gpu *g, const char *name, cublasStatus_t result);
dc_status gpu_dnn(gpu *g, const char *name, cudnnStatus_t result);
#define GPU_CUDA(g, call, ...) gpu_cuda(g, #call, call(__VA_ARGS__))
#define GPU_BLAS(g, call, ...) gpu_blas(g, #call, call(__VA_ARGS__))
#define GPU_DNN(g, call, ...)  gpu_dnn(g, #call, call(__VA_ARGS__))

void gpu_products_free(gpu *g);
void gpu_conv_found_free(gpu *g);

#endif
