/* dots_avx512.c - inner products of rows with queries for this instruction set (flags: levels.cmake). */
#if defined __x86_64__
#define DOTS_NAME cpu_dots_avx512
#define DOTS_TILE 8
#include "backends/cpu/dots_kernel.h"
#else
typedef int cpu_dots_avx512_unused; /* an empty file is not C */
#endif
