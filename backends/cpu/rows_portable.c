/* rows_portable.c - loops over rows for this instruction set (flags: levels.cmake). */
#define ROWS_LANES 2
#define ROWS_NAME  cpu_rows_portable
#include "backends/cpu/rows_kernel.h"
