/* attention_portable.c - the attention kernel for this instruction set (flags: levels.cmake). */
#define ATTN_LANES 4
#define ATTN_ROWS  4
#define ATTN_NAME  cpu_attn_portable
#include "backends/cpu/attention_kernel.h"
