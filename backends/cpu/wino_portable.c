/* wino_portable.c - Winograd's transforms for any machine. */
#define WINO_NAME  cpu_wino_portable
#define WINO_WIDTH 32
#include "backends/cpu/wino_kernel.h"
