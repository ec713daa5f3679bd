/* wino_avx2.c - Winograd's transforms for AVX2, FMA and F16C. */
#if defined(__AVX2__)
#define WINO_NAME  cpu_wino_avx2
#define WINO_WIDTH 16
#include "backends/cpu/wino_kernel.h"
#endif
