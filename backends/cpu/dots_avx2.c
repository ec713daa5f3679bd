/* dots_avx2.c - inner products of rows with queries for this instruction set (flags: levels.cmake). */
#if defined __x86_64__
#define DOTS_NAME cpu_dots_avx2
#define DOTS_TILE 4
#include "backends/cpu/dots_kernel.h"
#else
typedef int cpu_dots_avx2_unused; /* an empty file is not C */
#endif
