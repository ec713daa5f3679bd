/* attention_avx512.c - the attention kernel for this instruction set (flags: levels.cmake). */
#if defined __x86_64__
#define ATTN_LANES 16
#define ATTN_ROWS  8
#define ATTN_NAME  cpu_attn_avx512
#include "backends/cpu/attention_kernel.h"
#else
typedef int cpu_attn_avx512_unused; /* an empty file is not C */
#endif
