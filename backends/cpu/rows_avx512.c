/* rows_avx512.c - loops over rows for this instruction set (flags: levels.cmake). */
#if defined __x86_64__
#define ROWS_LANES 8
#define ROWS_NAME  cpu_rows_avx512
#include "backends/cpu/rows_kernel.h"
#else
typedef int cpu_rows_avx512_unused; /* an empty file is not C */
#endif
