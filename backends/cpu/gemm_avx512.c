/* gemm_avx512.c - matrix kernels for AVX-512 (F, BW, DQ, VL). */
#if defined(__AVX512F__)
#define GEMM_NAME cpu_gemm_avx512
#include "backends/cpu/gemm_avx512.h"
#include "backends/cpu/gemm_kernel.h"
#endif
