/* dots_portable.c - inner products of rows with queries, for any machine. */
#define DOTS_NAME cpu_dots_portable
#define DOTS_TILE 4
#include "backends/cpu/dots_kernel.h"
