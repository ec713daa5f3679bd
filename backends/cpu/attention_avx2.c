/* attention_avx2.c - the attention kernel for this instruction set (flags: levels.cmake). */
#if defined __x86_64__
#define ATTN_LANES 8
#define ATTN_ROWS  4
#define ATTN_NAME  cpu_attn_avx2
#include "backends/cpu/attention_kernel.h"
#else
typedef int cpu_attn_avx2_unused; /* an empty file is not C */
#endif
