/* wino_avx512.c - Winograd's transforms for AVX-512 (F, BW, DQ, VL). */
#if defined(__AVX512F__)
#define WINO_NAME  cpu_wino_avx512
#define WINO_WIDTH 32
#include "backends/cpu/wino_kernel.h"
#endif
