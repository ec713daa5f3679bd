/* gpu_emulated.h - how the emulated kernels are queued as the rest of the emulated GPU's work is. */
#ifndef TEST_CUDA_GPU_EMULATED_H
#define TEST_CUDA_GPU_EMULATED_H
#include "backends/cuda/gpu.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef dc_status gpu_step(const void *args);
/* Runs it now, or keeps it (args by value) when a graph is recorded. g NULL: now. */
dc_status gpu_do(gpu *g, gpu_step *run, const void *args, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
